"""Which tables the store has and which schema version this code writes (DESIGN, "Store")."""

from typing import Final

from sqlalchemy import Column, Float, Index, Integer, LargeBinary, MetaData, String, Table

SCHEMA_VERSION: Final = 1  # raise it with every change below, and migrate in store.py

metadata = MetaData()

schema = Table("schema", metadata, Column("version", Integer, nullable=False))

known_peers = Table(
    "known_peers",
    metadata,
    Column("peer_id", String(40), primary_key=True),  # hex
    Column("public_key", LargeBinary(32), nullable=False),
    Column("topic", String, nullable=False, default=""),
    Column("dht_node_id", String(40), nullable=False, default=""),  # hex
    Column("is_relay", Integer, nullable=False, default=0),
    Column("source", String, nullable=False),  # how we heard of it: query, lan, topic …
    Column("first_seen", Float, nullable=False),  # Unix s, like every time below
    Column("last_seen", Float, nullable=False),
)

metadata_cache = Table(
    "metadata_cache",
    metadata,
    Column("target", LargeBinary(20), primary_key=True),
    Column("public_key", LargeBinary(32), nullable=False),
    Column("salt", LargeBinary(64), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("v", LargeBinary(1000), nullable=False),
    Column("sig", LargeBinary(64), nullable=False),
    Column("fetched_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Index("metadata_cache_expires", "expires_at"),
)

ledger = Table(
    "ledger",
    metadata,
    Column("target", LargeBinary(20), primary_key=True),
    Column("public_key", LargeBinary(32), nullable=False),
    Column("salt", LargeBinary(64), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("v", LargeBinary(1000), nullable=False),
    Column("sig", LargeBinary(64), nullable=False),
    Column("state", String, nullable=False),  # stored
    Column("copies", Integer, nullable=False),
    Column("next_due", Float, nullable=False),
    Column("last_ok", Float),
    Column("last_error", String),
    Index("ledger_next_due", "next_due"),
)

seq_floor = Table(
    "seq_floor",
    metadata,
    Column("target", LargeBinary(20), primary_key=True),
    Column("seq", Integer, nullable=False),
    Column("seen_at", Float, nullable=False),
    Index("seq_floor_seen", "seen_at"),
)
