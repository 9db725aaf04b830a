"""What the daemon shows of itself and of whom it knows: the paths that only read."""

import dataclasses
from collections.abc import Callable
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from dhtmeta.const import TOPOLOGY_RELAYS
from dhtmeta.daemon import finding, openapi, parameters, responses
from dhtmeta.daemon.census import UNKNOWN, Census
from dhtmeta.daemon.metrics import Metrics, dht_nodes
from dhtmeta.daemon.status import State, Status
from dhtmeta.dht.address import format_address
from dhtmeta.discovery.finder import Finder
from dhtmeta.discovery.peer import Peer
from dhtmeta.engine.connectability import Verdict
from dhtmeta.engine.counts import Counts
from dhtmeta.errors import NetworkUnreachable
from dhtmeta.node import Node
from dhtmeta.values.node_id import peer_id

_PAGE = ("limit", "after", "topic")


class Views:
    """The handlers of all paths but /v1. `clock` gives Unix seconds.

    `finder` is None where we take no part in the exchange.
    """

    def __init__(
        self,
        node: Node,
        status: Callable[[], Status],
        counts: Counts,
        clock: Callable[[], float],
        census: Census,
        metrics: Metrics,
        finder: Finder | None = None,
    ) -> None:
        self._finder = finder
        self._node, self._status, self._counts = node, status, counts
        self._clock, self._census, self._metrics = clock, census, metrics

    async def health(self, request: web.Request) -> web.Response:
        """Answer 200, or 503 where something needs a person."""
        return self._health(request, responses.is_healthy(self._status()))

    async def ready(self, request: web.Request) -> web.Response:
        """Answer 200 where all works, else 503."""
        return self._health(request, self._status().state is State.READY)

    def _health(self, request: web.Request, well: bool) -> web.Response:
        parameters.refuse_unknown(request, ())
        body = responses.health(self._status(), self._clock())
        return web.json_response(body, status=200 if well else 503)

    async def metrics(self, request: web.Request) -> web.Response:
        """Answer with the text for Prometheus; whatever parameters it adds are its own affair."""
        body = await self._metrics.scrape()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def peers(self, request: web.Request) -> web.Response:
        """List known peers by peer id, a page at a time."""
        return _page(*await self._peers(request))

    async def connectable(self, request: web.Request) -> web.Response:
        """List those of a page that can be reached: fewer than ?limit=, or none, and yet more."""
        peers, after = await self._peers(request)
        return _page([one for one in peers if one.connectable], after)

    async def _peers(self, request: web.Request) -> tuple[list[Peer], str | None]:
        parameters.refuse_unknown(request, _PAGE)
        topic = parameters.topic(request)
        return await self._census.page(*parameters.page(request), topic)

    async def connections(self, request: web.Request) -> web.Response:
        """List open connections with peers, and count the DHT nodes that answered lately."""
        parameters.refuse_unknown(request, ())
        nodes = await dht_nodes(self._node)
        open_ = finding.connections(self._finder, self._clock())
        return web.json_response({"connections": open_, "dht_nodes": nodes})

    async def stats(self, request: web.Request) -> web.Response:
        """Answer with all counters."""
        parameters.refuse_unknown(request, ())
        counts = dataclasses.asdict(self._counts)
        counts["copies"] = {str(found): n for found, n in sorted(self._counts.copies.items())}
        discovery = finding.counts(self._finder)
        told = {"counters": self._node.counters, "counts": counts, "discovery": discovery}
        return web.json_response(told | self._place())

    async def topology(self, request: web.Request) -> web.Response:
        """Answer with what is known of the network: us, peers by verdict, and relays."""
        parameters.refuse_unknown(request, ())
        count, known = await self._census.count(), self._node.known_peers
        names = [*map(str, Verdict), UNKNOWN]
        relays = count.relays.most_common(TOPOLOGY_RELAYS)
        return web.json_response(
            {
                "node": self._identity() | self._place() | finding.ourselves(self._finder),
                "known": len(known) - (self._node.own_id in known),
                "peers": {name: count.verdicts[name] for name in names},
                "relays": [{"peer_id": peer, "peers": n} for peer, n in relays],
            }
        )

    async def openapi(self, request: web.Request) -> web.Response:
        """Answer with the description of all this."""
        parameters.refuse_unknown(request, ())
        return web.json_response(openapi.document())

    def _place(self) -> dict[str, Any]:
        """Return which carrier we use and where we listen (UDP); null while offline."""
        try:
            carrier = self._node.carrier
        except NetworkUnreachable:
            return {"carrier": None, "endpoint": None}
        name = "libtorrent" if carrier.signs_itself else "direct"
        return {"carrier": name, "endpoint": format_address(self._node.endpoint)}

    def _identity(self) -> dict[str, Any]:
        """Return our peer id and public key; null where there are no keys, or broken ones."""
        key = self._node.public_key
        return {"peer_id": key and peer_id(key).hex(), "public_key": key and key.hex()}


def _page(peers: list[Peer], after: str | None) -> web.Response:
    """Return a page of a list; `next` is what ?after= has to be for the following one."""
    return web.json_response({"peers": [responses.peer(one) for one in peers], "next": after})
