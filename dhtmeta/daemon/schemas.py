"""The shape of every JSON body that HTTP takes or gives, for the OpenAPI document."""

import dataclasses
from typing import Any

from dhtmeta.const import (
    CARRIERS,
    EXCHANGE_LINKS,
    MAX_PEERS_PAGE,
    MAX_SALT_BYTES,
    MAX_SEQ,
    MAX_VALUE_BYTES,
)
from dhtmeta.daemon.census import UNKNOWN
from dhtmeta.daemon.status import State
from dhtmeta.discovery.dialler import DialCounts
from dhtmeta.discovery.gossip import GossipCounts
from dhtmeta.discovery.ladder import SourceCounts
from dhtmeta.engine.connectability import Verdict
from dhtmeta.engine.resolve import Source

Schema = dict[str, Any]


def hexadecimal(fewest: int, most: int) -> Schema:
    """Return the schema of so many bytes in hex."""
    return {
        "type": "string",
        "pattern": f"^([0-9a-fA-F]{{2}}){{{fewest},{most}}}$",
        "minLength": 2 * fewest,
        "maxLength": 2 * most,
    }


def integer(least: int = 0, most: int | None = None) -> Schema:
    """Return the schema of an int of `least` … `most`."""
    return {"type": "integer", "minimum": least} | ({} if most is None else {"maximum": most})


def _object(optional: Schema | None = None, **required: Schema) -> Schema:
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        "additionalProperties": False,
    }


def _words(*words: str) -> Schema:
    return {"type": "string", "enum": list(words)}


def _or_null(schema: Schema) -> Schema:
    return {"oneOf": [schema, {"type": "null"}]}


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _map(of: Schema) -> Schema:
    """Return the schema of an object with any names."""
    return {"type": "object", "additionalProperties": of}


def _counts(of: type) -> Schema:
    """Return the schema of a dataclass whose fields are all counts."""
    return _object(**{field.name: integer() for field in dataclasses.fields(of)})


_FLAG: Schema = {"type": "boolean"}
_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number", "minimum": 0}
_ID = hexadecimal(20, 20)
KEY = hexadecimal(32, 32)
SALT = hexadecimal(0, MAX_SALT_BYTES)
SEQ = integer(0, MAX_SEQ)
_VERDICT = _words(*map(str, Verdict))
_PLACE = {
    "carrier": {"oneOf": [_words(*CARRIERS), {"type": "null"}]},
    "endpoint": _or_null(_TEXT),
}
_ITEM = {
    "public_key": KEY,
    "salt": SALT,
    "seq": SEQ,
    "v": hexadecimal(1, MAX_VALUE_BYTES),
    "sig": hexadecimal(64, 64),
}

SCHEMAS: dict[str, Schema] = {
    "Problem": _object(
        type=_TEXT,
        title=_TEXT,
        status=integer(400, 599),
        detail=_TEXT,
        optional={"ledger_seq": _or_null(SEQ), "network_seq": _or_null(SEQ)},
    ),
    "Health": _object(
        state=_words(*map(str, State)),
        problems=_list(_TEXT),
        started_at=_NUMBER,
        uptime=_NUMBER,
        version=_TEXT,
        kept=integer(),
        due=integer(),
        late=integer(),
        damaged=integer(),
        unfinished=integer(),
    ),
    "SignedFile": _object(**_ITEM, optional={"target": _ID}),
    "Connectability": _object(verdict=_VERDICT, reason=_TEXT, address=_or_null(_TEXT)),
    "Record": _object(
        **_ITEM,
        target=_ID,
        source=_words(*map(str, Source)),
        age=_NUMBER,
        connectability=_or_null(_ref("Connectability")),
        optional={
            "record": {"type": "object"},
            "value": {},
            "invalid_record": _TEXT,
            "followed": KEY,
            "successor": KEY,
        },
    ),
    "Stored": _object(
        public_key=KEY,
        salt=SALT,
        seq=SEQ,
        target=_ID,
        accepted=integer(),
        rejected=_list(_object(code={"type": "integer"}, seq=_or_null({"type": "integer"}))),
        silent=integer(),
        copies=_or_null(integer()),
        kept={"type": "boolean"},
        not_kept_because=_or_null(_TEXT),
    ),
    "Peers": _object(
        peers=_list(
            _object(
                peer_id=_ID,
                public_key=KEY,
                topic=_TEXT,
                source=_TEXT,
                first_seen=_NUMBER,
                last_seen=_NUMBER,
                seq=_or_null(SEQ),
                age=_or_null(_NUMBER),
                verdict=_or_null(_VERDICT),
                reason=_or_null(_TEXT),
                address=_or_null(_TEXT),
            ),
            maxItems=MAX_PEERS_PAGE,
        ),
        next=_or_null(_ID),
    ),
    "Connections": _object(
        connections=_list(
            _object(
                peer_id=_ID,
                public_key=KEY,
                address=_TEXT,
                outbound=_FLAG,
                since=_NUMBER,
                round_trip=_or_null(_NUMBER),
                relay=_FLAG,
                attached=_FLAG,
            ),
            maxItems=EXCHANGE_LINKS,
        ),
        dht_nodes=integer(),
    ),
    "Discovery": _object(
        sources=_map(_counts(SourceCounts)),
        problems=_map(_TEXT),
        registry_requests=integer(),
        dials=_counts(DialCounts),
        gossip=_counts(GossipCounts),
        forgotten=integer(),
    ),
    "Stats": _object(
        counters=_map(integer()),
        counts={"type": "object"},
        discovery=_or_null(_ref("Discovery")),
        **_PLACE,
    ),
    "Topology": _object(
        node=_object(
            peer_id=_or_null(_ID),
            public_key=_or_null(KEY),
            **_PLACE,
            topic=_or_null(_TEXT),
            exchange=_or_null(_TEXT),
            node_type=_or_null(_words("public", "private")),
            public_address=_or_null(_TEXT),
            relay=_or_null(_object(peer_id=_ID, address=_TEXT)),
            is_relay=_FLAG,
            sessions=integer(),
            capacity=integer(),
        ),
        known=integer(),
        peers=_object(**{name: integer() for name in (*map(str, Verdict), UNKNOWN)}),
        relays=_list(_object(peer_id=_ID, peers=integer(1))),
    ),
}
