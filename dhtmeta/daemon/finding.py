"""What the daemon shows of its search for peers: connections, what we are to others, counts."""

import asyncio
import dataclasses
from typing import Any

from dhtmeta.dht.address import format_address
from dhtmeta.discovery.finder import Finder
from dhtmeta.discovery.link import Link
from dhtmeta.errors import NetworkUnreachable
from dhtmeta.values.record import NetworkInfo, record_in

NOT_TAKING_PART = {  # what /topology says of us where [exchange] is off
    "topic": None,
    "exchange": None,
    "node_type": None,
    "public_address": None,
    "relay": None,
    "is_relay": False,
    "sessions": 0,
    "capacity": 0,
}


def connections(finder: Finder | None, now: float) -> list[dict[str, Any]]:
    """Return the open connections, the oldest first; `now` in Unix s."""
    if finder is None:
        return []
    began = now - asyncio.get_running_loop().time()
    links = sorted(finder.exchange.links, key=lambda link: link.opened_at)
    return [_connection(finder, link, began) for link in links]


def _connection(finder: Finder, link: Link, began: float) -> dict[str, Any]:
    """Return what /connections says of one; `began` is Unix time at loop time 0."""
    session, held = finder.attachment.session, finder.desk.held(link.peer_id)
    return {
        "peer_id": link.peer_id.hex(),
        "public_key": link.public_key.hex(),
        "address": format_address(link.remote),
        "outbound": link.outbound,
        "since": max(0.0, round(began + link.opened_at, 3)),
        "round_trip": round(link.round_trip, 6) or None,
        "relay": session is not None and session.link is link,
        "attached": held is not None and held.link is link,
    }


def ourselves(finder: Finder | None) -> dict[str, Any]:
    """Return what we are to others: where they reach us, over which relay, whom we relay."""
    if finder is None:
        return NOT_TAKING_PART
    us, session = finder.ourselves, finder.attachment.session
    is_relay = us.relay_address() is not None
    return {
        "topic": us.topic or None,
        "exchange": _listens(finder),
        "node_type": us.node_type or None,
        "public_address": _public_address(finder),
        "relay": session and {"peer_id": session.link.peer_id.hex(), "address": session.address},
        "is_relay": is_relay,
        "sessions": finder.desk.load,
        "capacity": finder.desk.capacity if is_relay else 0,
    }


def _listens(finder: Finder) -> str | None:
    try:
        return format_address(finder.exchange.endpoint)
    except NetworkUnreachable:  # closed meanwhile
        return None


def _public_address(finder: Finder) -> str | None:
    """Return where others reach us: as our record says, else as was found out."""
    us = finder.ourselves
    if us.node_type != "public":
        return None
    record = record_in(us.own) if us.own is not None else None
    info = record.network_info if record is not None else NetworkInfo()
    if info.public_ip and info.public_port is not None:
        return format_address((info.public_ip, info.public_port))
    found = us.reachability.reach.public
    return None if found is None else format_address(found)


def counts(finder: Finder | None) -> dict[str, Any] | None:
    """Return what /stats says of how peers were found; None where [exchange] is off."""
    if finder is None:
        return None
    return {
        "sources": {name: dataclasses.asdict(n) for name, n in finder.ladder.counts.items()},
        "problems": dict(finder.ladder.problems),
        "registry_requests": registry_requests(finder),
        "dials": dataclasses.asdict(finder.dialler.counts),
        "gossip": dataclasses.asdict(finder.gossip.counts),
        "forgotten": finder.upkeep.forgotten,
    }


def registry_requests(finder: Finder) -> int:
    """Return how many HTTP requests registries were sent, for peers and for relays."""
    return finder.registry.requests + finder.relay_registry.requests
