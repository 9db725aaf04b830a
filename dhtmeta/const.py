"""Every cap and default of dhtmeta, each with its unit and its reason or source."""

from typing import Final

# BEP 44, "storing mutable items"
MAX_VALUE_BYTES: Final = 1000  # bytes of v as encoded; nodes answer 205 to more
MAX_SALT_BYTES: Final = 64  # bytes; nodes answer 207 to more
MAX_SEQ: Final = 2**63 - 1  # seq is a signed 64-bit integer that may not be negative
PUBLIC_KEY_BYTES: Final = 32  # Ed25519, RFC 8032
SEED_BYTES: Final = 32  # Ed25519, RFC 8032: what is kept in ed25519_private.key
SIGNATURE_BYTES: Final = 64  # Ed25519, RFC 8032
NODE_ID_BYTES: Final = 20  # SHA1; BEP 5 node ids, targets and peer ids share the space

# bencode
MAX_VALUE_DEPTH: Final = 32  # levels inside v; a record of ours needs 5, libtorrent stops at 100
MAX_TEXT_BYTES: Final = 256 * 1024  # a JSON file for one value of 1,000 bytes; stops /dev/zero

# KRPC
MAX_DATAGRAM_BYTES: Final = 4096  # the largest that is read; an item with nodes takes 1,500
MAX_KRPC_DEPTH: Final = 36  # levels in a datagram: MAX_VALUE_DEPTH inside a and v
MAX_TRANSACTION_BYTES: Final = 32  # of another's t, which we echo; ours are 4, libtorrent's 2
MAX_TOKEN_BYTES: Final = 256  # of another's token, which we echo; libtorrent's are 4, others' 20
MAX_CONTACTS: Final = 32  # nodes read of one response: 8 is the rule, 20 is seen

# record (DESIGN: NodeRecord), mirrored by networks that already publish such records
REPUBLISH_INTERVAL: Final = 3600.0  # s; nodes of such networks republish hourly
STALE_AFTER_INTERVALS: Final = 3  # republish intervals; two may be missed before we give up
MAX_AHEAD: Final = 300.0  # s a timestamp may lie in our future: clocks are rarely worse
MAX_REPUTATION: Final = 10_000  # reputation_score, per ten thousand

# cache and query
CACHE_TTL: Final = 300.0  # s a fetched record counts as fresh: the networks' own 5 minutes
CACHE_STALE_FOR: Final = 300.0  # s more in which it is served while a lookup renews it
NEGATIVE_TTL: Final = 10.0  # s "not found" is believed, so a missing key costs 1 lookup per 10 s
CACHE_ENTRIES: Final = 100_000  # records in memory, about 1 KB each: 100 MB when full
NEGATIVE_ENTRIES: Final = 10_000  # missing keys remembered
SEQ_FLOORS: Final = 100_000  # highest seqs remembered; one costs about 100 B
SEQ_FLOOR_KEPT: Final = 30 * 86_400.0  # s a floor outlives its item: longer than any copy (FACTS)
SEQ_FLOOR_REFRESH: Final = 86_400.0  # s after which a floor seen again is written again
MAX_LOOKUPS: Final = 10_000  # lookups wanted at once before a query is refused: bounds memory

# carriers
LOOKUP_DEADLINE: Final = 40.0  # s; libtorrent needs 15 s per layer of dead nodes, rarely two
JOIN_WITHIN: Final = 1.0  # s for which a running lookup is as good as a new one to `freshest`
RELAY_WAIT: Final = 1.0  # s an answer waits at most for the record of the relay it names
PUT_DEADLINE: Final = 60.0  # s; a put looks up first, then stores
LOOKUP_LOST: Final = 90.0  # s after which libtorrent's alert must have been lost: 6 layers of 15 s
LOOKUP_WINDOW: Final = 64  # lookups in flight; past about 100 libtorrent loses packets (FACTS)
READY_DEADLINE: Final = 10.0  # s until the first node answered; a dead network is named by then
CONTACT_INTERVAL: Final = 1.0  # s between pings to bootstrap nodes that have not answered
RESOLVE_AFTER: Final = 3.0  # s until names of routers are tried as plain nodes, too
RESOLVE_DEADLINE: Final = 5.0  # s a name may take to resolve
POLL_INTERVAL: Final = 0.01  # s between looks at the routing table while joining
LISTEN_DEADLINE: Final = 2.0  # s the operating system may take to bind a port
COPIES: Final = 8  # nodes libtorrent stores on: k of BEP 5
SOCKET_BUFFER_BYTES: Final = 4 * 2**20  # the kernel's default loses packets at 64 lookups (FACTS)
MAX_PEERS: Final = 2000  # peers kept of one get_peers answer: a liar may send any number
DAEMON_PORT: Final = 30609  # UDP, DHT; what networks of this kind already use
MAINLINE_ROUTERS: Final = (  # long-running public bootstrap nodes of mainline
    "router.bittorrent.com:6881",
    "dht.transmissionbt.com:6881",
    "dht.libtorrent.org:25401",
    "router.utorrent.com:6881",
)

# store
CLEANUP_INTERVAL: Final = 60.0  # s between deletions of what expired: the networks' own figure
KNOWN_PEERS: Final = 100_000  # public keys we know, about 200 B each; those seen last stay
WRITE_BEHIND_INTERVAL: Final = 1.0  # s between batches; what a crash may cost is only cache
WRITE_BEHIND_ROWS: Final = 1000  # rows a batch: 55,000 rows/s at this size (FACTS)
WRITE_BEHIND_PENDING: Final = 100_000  # rows waiting while the disk fails; the oldest go first
STORE_CLOSE_DEADLINE: Final = 0.5  # s a batch under way may still take when the store is closed
BUSY_TIMEOUT: Final = 5.0  # s another process may hold the SQLite write lock
WRITE_BEHIND_BUSY: Final = 0.2  # s the same for cache rows: two tries fit STORE_CLOSE_DEADLINE

# swarm
SWARM_CONTACTS: Final = 40  # nodes each node is told of: fills its table within 2 s (FACTS)
SWARM_READY_DEADLINE: Final = 30.0  # s
MAX_SWARM_NODES: Final = 1000  # 1 MiB and one thread each (FACTS)
