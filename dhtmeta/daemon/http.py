"""The daemon's HTTP server: which paths it has, and which quota a request takes."""

from collections.abc import Callable

from aiohttp import web

from dhtmeta.config import Http
from dhtmeta.const import REQUEST_DEADLINE, SLOW_CLIENT
from dhtmeta.daemon.census import Census
from dhtmeta.daemon.listener import Listener, start_listener
from dhtmeta.daemon.metrics import Metrics
from dhtmeta.daemon.quotas import AddressQuota
from dhtmeta.daemon.records import Records
from dhtmeta.daemon.status import Status
from dhtmeta.daemon.views import Views
from dhtmeta.daemon.way import Way, on_expect, route
from dhtmeta.discovery.finder import Finder
from dhtmeta.engine.counts import Counts
from dhtmeta.node import Node

WATCHED = {"/health", "/ready", "/metrics", "/openapi.json"}  # with a quota of their own


class Server:
    """A server that answers; `endpoint` is where: (ip, TCP port)."""

    def __init__(
        self, listener: Listener, records: Records, quotas: "_Quotas", way: Way, census: Census
    ) -> None:
        self.endpoint = listener.endpoint
        self._listener, self._records, self._census = listener, records, census
        self._quotas, self._way = quotas, way

    def apply(self, settings: Http) -> None:
        """Go by these settings from now on; a change of `listen` needs a new server."""
        self._records.apply(settings)
        self._quotas.apply(settings)
        self._way.apply(settings.hosts)

    async def close(self) -> None:
        """Stop within 0.3 s, whatever is under way."""
        await self._census.close()
        await self._listener.close()


async def start_http(
    node: Node,
    settings: Http,
    status: Callable[[], Status],
    counts: Counts,
    clock: Callable[[], float],
    kept_for_others: Callable[[], int] = lambda: 0,
    finder: Finder | None = None,
) -> Server:
    """Answer HTTP on `settings.listen`; `clock` gives Unix seconds.

    `finder` is what finds peers, None where [exchange] is off. `kept_for_others` says how many
    records are kept alive that came by PUT.
    Raises PortError if the address cannot be had, CallerError if it is none.
    """
    census = Census(node)
    metrics = Metrics(node, counts, status, census, finder)
    views = Views(node, status, counts, clock, census, metrics, finder)
    records, quotas = Records(node, settings, kept_for_others), _Quotas(settings)
    way = Way(
        settings.hosts,
        section="http",
        quota=quotas.of,
        count=metrics.count_request,
        deadline=REQUEST_DEADLINE,
    )
    application = way.application()
    _add_paths(application, views, records)
    listener = await start_listener(application, settings.listen, section="http", slow=SLOW_CLIENT)
    return Server(listener, records, quotas, way, census)


def _add_paths(application: web.Application, views: Views, records: Records) -> None:
    for path, view in (
        ("/health", views.health),
        ("/ready", views.ready),
        ("/metrics", views.metrics),
        ("/peers", views.peers),
        ("/peers/connectable", views.connectable),
        ("/connections", views.connections),
        ("/stats", views.stats),
        ("/topology", views.topology),
        ("/openapi.json", views.openapi),
        ("/v1/records/{public_key}", records.get),
    ):
        application.router.add_get(path, view)
    application.router.add_put("/v1/records/{public_key}", records.put, expect_handler=on_expect)


class _Quotas:
    """How much each address may put, get, and watch."""

    def __init__(self, settings: Http) -> None:
        self._puts = AddressQuota(settings.puts_per_minute)
        self._gets = AddressQuota(settings.gets_per_minute)
        self._watches = AddressQuota(settings.gets_per_minute)

    def apply(self, settings: Http) -> None:
        """Go by these settings from now on; what was asked before still counts."""
        self._puts.apply(settings.puts_per_minute)
        for quota in (self._gets, self._watches):
            quota.apply(settings.gets_per_minute)

    def of(self, request: web.Request) -> AddressQuota:
        """Return the quota that a request takes."""
        if request.method == "PUT":
            return self._puts
        return self._watches if route(request) in WATCHED else self._gets
