"""What a node reads most: the reply to a get that found a record, and the record in it."""

from dhtmeta._fast import bencode

# A peer behind a relay, with one service of its own: 601 bytes.
NODE_RECORD = bencode.encode(
    {
        "apps_count": 2,
        "capabilities": ["chat", "files"],
        "files_count": 128,
        "network_info": {
            "connected_relay": "8f1d0c5be2a94763b15d7e09c4f2a6385d70e1bb",
            "nat_type": "port_restricted",
            "node_type": "private",
            "private_ip": "192.168.1.23",
            "private_port": 30906,
            "protocols": [{"name": "files", "port": 30907}],
            "public_ip": "203.0.113.57",
            "public_port": 41822,
            "relay_address": "198.51.100.7:30906",
            "relay_session_id": "5b0e6f3c9a",
            "reputation_score": 8120,
            "using_relay": True,
        },
        "node_id": "3b7c1e90ad24f8561fe2d0b9a7c6435812fe90cd",
        "peer_id": "c0ffee17d2a94763b15d7e09c4f2a6385d70e1bb",
        "timestamp": 1795000000,
        "topic": "remotenet0",
        "version": 1,
    }
)

# What a node that holds a record answers to a get: 1,020 bytes.
KRPC_REPLY = bencode.encode(
    {
        "ip": bytes(range(6)),
        "r": {
            "id": bytes(range(20)),
            "k": bytes(range(32, 64)),
            "nodes": bytes(range(208)),
            "seq": 41,
            "sig": bytes(range(64, 128)),
            "token": b"tokntokn",
            "v": bencode.decode(NODE_RECORD),
        },
        "t": b"\x01\x02\x03\x04",
        "y": "r",
    }
)

SAMPLES = {"KRPC reply": KRPC_REPLY, "NodeRecord": NODE_RECORD}
