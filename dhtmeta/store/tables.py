"""Which tables the store has and which schema version this code writes (DESIGN, "Store")."""

import math
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    cast,
    func,
    or_,
    text,
)

from dhtmeta.const import MAX_HOLDERS_BYTES
from dhtmeta.values.item import SignedItem

SCHEMA_VERSION: Final = 3  # raise it with every change below, and add a step to migrate.py
AT_ONCE: Final = 0.0  # Unix s, `next_due` of what is to be kept and was never confirmed
NEVER: Final = math.inf  # `next_due` of what nobody keeps alive
PEER_ID_HEX: Final = 40  # digits of a peer id, which is SHA1(public key)
DAMAGED: Final = "damaged: "  # how `last_error` of a row begins that was set aside


class State(StrEnum):
    """How far a row of the ledger has come.

    `reserved`: nodes may hold it, but it was not reported done. `stored`: it was. `superseded`:
    the network held something newer, so these bytes are not sent again.
    """

    RESERVED = "reserved"
    STORED = "stored"
    SUPERSEDED = "superseded"


class Origin(StrEnum):
    """Who asked for a row of the ledger: its owner on this machine, or a visitor over HTTP."""

    LOCAL = "local"
    HTTP = "http"


metadata = MetaData()


def _item_columns() -> list[Column[Any]]:
    """Return the columns that hold a signed item, by its target."""
    return [
        Column("target", LargeBinary(20), primary_key=True),
        Column("public_key", LargeBinary(32), nullable=False),
        Column("salt", LargeBinary(64), nullable=False),
        Column("seq", Integer, nullable=False),
        Column("v", LargeBinary(1000), nullable=False),
        Column("sig", LargeBinary(64), nullable=False),
    ]


def item_row(target: bytes, item: SignedItem) -> dict[str, Any]:
    """Return what those columns say of `item`."""
    return {
        "target": target,
        "public_key": item.public_key,
        "salt": item.salt,
        "seq": item.seq,
        "v": item.v,
        "sig": item.sig,
    }


schema = Table("schema", metadata, Column("version", Integer, nullable=False))

known_peers = Table(
    "known_peers",
    metadata,
    Column("peer_id", String(PEER_ID_HEX), primary_key=True),
    Column("public_key", LargeBinary(32), nullable=False),
    Column("topic", String, nullable=False, default=""),
    Column("dht_node_id", String(40), nullable=False, default=""),  # hex
    Column("is_relay", Integer, nullable=False, default=0),
    Column("source", String, nullable=False),  # how we heard of it: query, exchange …
    Column("first_seen", Float, nullable=False),  # Unix s, like every time below
    Column("last_seen", Float, nullable=False),
    Column("exchange", String, nullable=False, server_default=""),  # ip:port (UDP), "" for none
)

metadata_cache = Table(
    "metadata_cache",
    metadata,
    *_item_columns(),
    Column("fetched_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Index("metadata_cache_expires", "expires_at"),
)

IS_SET_ASIDE = text("substr(last_error, 1, 9) = 'damaged: '")  # as DAMAGED; an index's words
IS_FOR_HTTP = text("origin = 'http'")
IS_PASSING = text(  # a visitor's that nobody keeps, and nobody has to mend
    "origin = 'http' AND next_due = 9e999 AND ifnull(substr(last_error, 1, 9), '') <> 'damaged: '"
)

ledger = Table(
    "ledger",
    metadata,
    *_item_columns(),
    Column("state", String, nullable=False),  # a State
    Column("copies", Integer, nullable=False),
    Column("next_due", Float, nullable=False),  # or AT_ONCE, or NEVER
    Column("last_ok", Float),
    Column("last_error", String),
    Column("holders", LargeBinary(MAX_HOLDERS_BYTES)),  # who held it at the last look
    Column("origin", String, nullable=False, server_default=Origin.LOCAL),
    # Each question asked of 1,000,000 rows is answered from one of these alone, but for the items.
    Index("ledger_due", "state", "next_due", "target"),
    Index("ledger_floor", "state", "last_ok", "target", "seq"),
    Index("ledger_set_aside", "target", sqlite_where=IS_SET_ASIDE),
    Index("ledger_for_http", "state", "next_due", sqlite_where=IS_FOR_HTTP),
    Index(
        "ledger_passing",
        *("last_ok", "target", "origin", "next_due", "last_error"),
        sqlite_where=IS_PASSING,
    ),
)

seq_floor = Table(
    "seq_floor",
    metadata,
    Column("target", LargeBinary(20), primary_key=True),
    Column("seq", Integer, nullable=False),
    Column("seen_at", Float, nullable=False),
    Index("seq_floor_seen", "seen_at"),
)

_TYPES: Final = {LargeBinary: "blob", Integer: "integer", Float: "real", String: "text"}


def is_damaged(table: Table) -> ColumnElement[bool]:
    """Whether a row holds what its columns cannot, none of which takes NULL.

    SQLite takes a value of any type anywhere. A peer id is hex, too.
    """
    wrong = [func.typeof(column) != _TYPES[type(column.type)] for column in table.columns]
    if "peer_id" in table.c:
        peer_id = table.c.peer_id
        wrong.append(func.length(cast(peer_id, LargeBinary)) != PEER_ID_HEX)  # length stops at NUL
        wrong.append(peer_id.op("GLOB")("*[^0-9a-fA-F]*"))
    return or_(*wrong)
