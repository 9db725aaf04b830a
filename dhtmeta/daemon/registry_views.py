"""What a registry is asked: its paths, and what it says of those who registered."""

import asyncio
import ipaddress
import random
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from aiohttp import web

from dhtmeta.const import (
    CENSUS_AT_ONCE,
    CENSUS_SLICE,
    MAX_REGISTRY_PAGE,
    NONCE_LIFETIME,
    REGISTRY_CENSUS,
    REGISTRY_PAGE,
    REGISTRY_TOPICS,
    TOPOLOGY_RELAYS,
)
from dhtmeta.daemon import parameters, responses
from dhtmeta.daemon.registry_entries import Entries, Entry
from dhtmeta.daemon.registry_nonces import Nonces
from dhtmeta.daemon.responses import Refused
from dhtmeta.dht.address import format_address
from dhtmeta.engine.connectability import Judge, Verdict
from dhtmeta.values.node_id import parse_id, peer_id
from dhtmeta.values.record import NodeRecord
from dhtmeta.values.registration import Registration, from_json

UNKNOWN = "unknown"  # the verdict on whoever sent no record
_PROXIED = ("Forwarded", "X-Forwarded-For", "Via")


class RegistryViews:
    """The handlers of all paths. `now` gives monotonic seconds, `clock` Unix seconds."""

    def __init__(
        self,
        entries: Entries,
        nonces: Nonces,
        judge: Judge,
        *,
        now: Callable[[], float],
        clock: Callable[[], float],
        randomness: random.Random,
    ) -> None:
        self._entries, self._nonces, self._judge = entries, nonces, judge
        self._now, self._clock, self._randomness = now, clock, randomness
        self._started = now()
        self._answers: Counter[str] = Counter()
        self._topology: dict[str, Any] = {}
        self._counted = float("-inf")

    def count(self, method: str, route: str, status: int) -> None:
        """Count an answer for /stats."""
        self._answers[f"{method} {route} {status}" if route != UNKNOWN else f"{status}"] += 1

    async def nonce(self, request: web.Request) -> web.Response:
        """Answer with a nonce for a registration from the address that asks."""
        parameters.refuse_unknown(request, ())
        nonce = self._nonces.make(_sender(request), self._now())
        return web.json_response({"nonce": nonce.hex(), "good_for": NONCE_LIFETIME})

    async def register(self, request: web.Request) -> web.Response:
        """Take a registration: 201 for a new one, 200 for one that is renewed."""
        parameters.refuse_unknown(request, ())
        said = from_json(await parameters.json_text(request))
        sender, now = _sender(request), self._now()
        _refuse_another(said, request, sender)
        made_at = self._nonces.made_at(said.nonce, sender, now)
        renewed = self._entries.renewed
        entry = self._entries.register(said, sender, made_at, now)
        status = 201 if self._entries.renewed == renewed else 200
        return web.json_response(_shown(entry, now), status=status)

    async def peers(self, request: web.Request) -> web.Response:
        """List some of those who registered, drawn at random, with their records."""
        parameters.refuse_unknown(request, ("topic", "relay", "limit"))
        topic, relay = _topic(request), _relay(request)
        limit = parameters.integer(request, "limit", 1, MAX_REGISTRY_PAGE) or REGISTRY_PAGE
        now = self._now()

        def wanted(one: Entry) -> bool:
            return topic in (None, one.topic) and relay in (None, one.is_relay)

        found = self._entries.sample(wanted, limit, now, self._randomness)
        return web.json_response({"peers": [_shown(one, now) for one in found]})

    async def stats(self, request: web.Request) -> web.Response:
        """Answer with all counters."""
        parameters.refuse_unknown(request, ())
        live = list(self._entries.live(self._now()))
        return web.json_response(
            {
                "entries": len(live),
                "with_endpoint": sum(one.endpoint is not None for one in live),
                "with_record": sum(one.record is not None for one in live),
                "relays": sum(one.is_relay for one in live),
                "registered": self._entries.registered,
                "renewed": self._entries.renewed,
                "expired": self._entries.expired,
                "refused": dict(self._entries.refused),
                "answers": dict(self._answers),
            }
        )

    async def topology(self, request: web.Request) -> web.Response:
        """Answer with what is known of the network: peers by verdict, relays, topics."""
        parameters.refuse_unknown(request, ())
        now = self._now()
        live = list(self._entries.live(now))
        if len(live) <= CENSUS_AT_ONCE or now - self._counted >= REGISTRY_CENSUS:
            self._counted = now  # those who ask meanwhile get the last count
            self._topology = await self._count(live)
        return web.json_response(self._topology)

    async def _count(self, live: list[Entry]) -> dict[str, Any]:
        relays = {peer_id(one.public_key).hex(): one.record for one in live}
        verdicts: Counter[str] = Counter()
        used: Counter[str] = Counter()
        for i, one in enumerate(live):
            verdicts[self._verdict(one, relays)] += 1
            if one.record is not None and one.record.network_info.connected_relay:
                used[one.record.network_info.connected_relay] += 1
            if i % CENSUS_SLICE == CENSUS_SLICE - 1:
                await asyncio.sleep(0)
        topics = Counter(one.topic.hex() for one in live if one.topic)
        return {
            "known": len(live),
            "peers": {name: verdicts[name] for name in [*map(str, Verdict), UNKNOWN]},
            "relays": [
                {"peer_id": peer, "peers": n} for peer, n in used.most_common(TOPOLOGY_RELAYS)
            ],
            "topics": [
                {"topic": topic, "peers": n} for topic, n in topics.most_common(REGISTRY_TOPICS)
            ],
        }

    def _verdict(self, entry: Entry, relays: dict[str, NodeRecord | None]) -> str:
        if entry.record is None:
            return UNKNOWN
        relay = relays.get(entry.record.network_info.connected_relay)
        return str(self._judge.judge(entry.record, relay, self._clock()).verdict)

    async def health(self, request: web.Request) -> web.Response:
        """Answer 200: a registry that can answer can do all it has to."""
        parameters.refuse_unknown(request, ())
        now = self._now()
        return web.json_response(
            {
                "state": "ready",
                "full": self._entries.is_full(now),
                "uptime": round(now - self._started, 3),
                "version": responses.VERSION,
            }
        )


def _shown(entry: Entry, now: float) -> dict[str, Any]:
    return {
        "public_key": entry.public_key.hex(),
        "peer_id": peer_id(entry.public_key).hex(),
        "endpoint": entry.endpoint and format_address(entry.endpoint),
        "topic": entry.topic.hex() or None,
        "is_relay": entry.is_relay,
        "expires_in": round(entry.expires - now, 3),
        "item": entry.item and responses.signed(entry.item),
    }


def _sender(request: web.Request) -> str:
    """Return the IP address of the other side, IPv4 in IPv6 as IPv4."""
    if request.remote is None:
        raise ConnectionResetError("it went away")
    parsed = ipaddress.ip_address(request.remote.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def _refuse_another(said: Registration, request: web.Request, sender: str) -> None:
    """Raise Refused (403) for what was signed for another registry, or is of another address."""
    if said.registry != request.host.lower():
        raise Refused(
            403, f"registry: it is signed for {said.registry}, this is {request.host[:80]}"
        )
    if said.ip and said.ip != sender:
        raise Refused(403, f"ip: it says {said.ip}, and comes from {sender}; leave it out, or bind")
    passed_by = [name for name in _PROXIED if name in request.headers]
    if passed_by and said.port is not None:
        raise Refused(
            403, f"{passed_by[0]}: it came by a proxy, whose address is not yours; ask directly"
        )


def _topic(request: web.Request) -> bytes | None:
    given = request.query.get("topic")
    return None if given is None else parse_id(given)


def _relay(request: web.Request) -> bool | None:
    given = request.query.get("relay")
    if given is None:
        return None
    if not re.fullmatch("true|false", given):
        raise Refused(400, f"relay: expected true or false, got {given[:40]!r}")
    return given == "true"
