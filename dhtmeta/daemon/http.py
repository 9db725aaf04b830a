"""The daemon's HTTP server: its paths, who is answered at all, how it starts and how it stops.

Every request goes the same way: who sent it is checked, its quota taken, it is answered within a
deadline, and counted; whatever goes wrong on the way becomes problem+json.
"""

import asyncio
import logging
import os
from collections.abc import Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from dhtmeta.config import Http
from dhtmeta.const import (
    HTTP_CLOSE,
    HTTP_HEADER_BYTES,
    HTTP_HEADERS,
    MAX_SIGNED_FILE_BYTES,
    REQUEST_DEADLINE,
    SLOW_CLIENT,
    SLOW_CLIENT_LOOK,
)
from dhtmeta.daemon import parameters
from dhtmeta.daemon.census import Census
from dhtmeta.daemon.hosts import Hosts
from dhtmeta.daemon.limits import Door
from dhtmeta.daemon.metrics import Metrics
from dhtmeta.daemon.quotas import AddressQuota
from dhtmeta.daemon.records import Records, as_problem
from dhtmeta.daemon.responses import Refused, problem
from dhtmeta.daemon.status import Status
from dhtmeta.daemon.views import Views
from dhtmeta.dht.address import parse_listen
from dhtmeta.engine.counts import Counts
from dhtmeta.errors import DeadlineExceeded, DhtmetaError, PortError
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.node import Node

log = logging.getLogger(__name__)

WATCHED = {"/health", "/ready", "/metrics", "/openapi.json"}  # with a quota of their own


class Server:
    """A server that answers; `endpoint` is where: (ip, TCP port)."""

    def __init__(
        self,
        listening: asyncio.Server,
        runner: web.AppRunner,
        door: Door,
        records: Records,
        way: "_Way",
        census: Census,
    ) -> None:
        self.endpoint: Endpoint = listening.sockets[0].getsockname()[:2]
        self._listening, self._runner, self._door = listening, runner, door
        self._records, self._way, self._census = records, way, census
        self._looks = asyncio.create_task(self._drop_slow())

    def apply(self, settings: Http) -> None:
        """Go by these settings from now on; a change of `listen` needs a new server."""
        self._records.apply(settings)
        self._way.apply(settings)

    async def _drop_slow(self) -> None:
        while True:
            await asyncio.sleep(SLOW_CLIENT_LOOK)
            self._door.drop_slow(self._door.now())

    async def close(self) -> None:
        """Stop within 0.3 s: what is under way has HTTP_CLOSE seconds, then it is cut off."""
        self._looks.cancel()
        await self._census.close()
        self._listening.close()
        await self._runner.cleanup()
        self._door.close()
        await asyncio.sleep(0)  # for what was cut off to be seen as such


async def start_http(
    node: Node,
    settings: Http,
    status: Callable[[], Status],
    counts: Counts,
    clock: Callable[[], float],
    kept_for_others: Callable[[], int] = lambda: 0,
) -> Server:
    """Answer HTTP on `settings.listen`; `clock` gives Unix seconds.

    `kept_for_others` says how many records are kept alive that came by PUT.
    Raises PortError if the address cannot be had, CallerError if it is none.
    """
    host, port = parse_listen(settings.listen)
    census = Census(node)
    metrics = Metrics(node, counts, status, census)
    views = Views(node, status, counts, clock, census, metrics)
    records, way = Records(node, settings, kept_for_others), _Way(settings, metrics)
    runner = _runner(_application(views, records, way))
    await runner.setup()
    assert runner.server is not None
    loop = asyncio.get_running_loop()
    door = Door(runner.server, loop.time)
    try:
        listening = await loop.create_server(door, host, port)
    except OSError as error:
        await runner.cleanup()
        raise _port_error(settings.listen, error) from error
    return Server(listening, runner, door, records, way, census)


def _port_error(listen: str, error: OSError) -> PortError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return PortError(
        f"cannot answer HTTP on {listen}: {reason}; stop what uses it, or choose another address "
        f"with [http] listen"
    )


def _runner(application: web.Application) -> web.AppRunner:
    return web.AppRunner(
        application,
        access_log=None,
        logger=_logger(),
        keepalive_timeout=SLOW_CLIENT,  # ends whoever does not finish the headers, too
        lingering_time=1.0,  # s in which a body that nobody reads may still come
        max_line_size=HTTP_HEADER_BYTES,
        max_field_size=HTTP_HEADER_BYTES,
        max_headers=HTTP_HEADERS,
        auto_decompress=False,  # no body may grow here
        shutdown_timeout=HTTP_CLOSE,
    )


def _logger() -> logging.Logger:
    """Return aiohttp's log without what clients can fill it with: bytes that are no HTTP."""
    logger = logging.getLogger(f"{__name__}.aiohttp")
    logger.addFilter(_is_ours)
    return logger


def _is_ours(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)


def _application(views: Views, records: Records, way: "_Way") -> web.Application:
    @web.middleware
    async def on_its_way(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await way.go(request, handler)

    application = web.Application(client_max_size=MAX_SIGNED_FILE_BYTES, middlewares=[on_its_way])
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
    application.router.add_put("/v1/records/{public_key}", records.put, expect_handler=_expect)
    return application


async def _expect(request: web.Request) -> None:
    """Ask for the body that a client holds back, unless it is too large anyway."""
    wanted = request.headers.get("Expect", "").lower() == "100-continue"
    if wanted and (request.content_length or 0) <= MAX_SIGNED_FILE_BYTES:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # of the answer itself nothing is sent yet


class _Way:
    """The way of each request to its handler and back."""

    def __init__(self, settings: Http, metrics: Metrics) -> None:
        self._puts = AddressQuota(settings.puts_per_minute)
        self._gets = AddressQuota(settings.gets_per_minute)
        self._watches = AddressQuota(settings.gets_per_minute)
        self._metrics = metrics
        self.apply(settings)

    def apply(self, settings: Http) -> None:
        """Go by these settings from now on; what was asked before still counts."""
        self._hosts = Hosts(settings.hosts)
        self._puts.apply(settings.puts_per_minute)
        for quota in (self._gets, self._watches):
            quota.apply(settings.gets_per_minute)

    async def go(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await self._answer(request, handler)
        response.headers["Server"] = "dhtmeta"
        response.headers["X-Content-Type-Options"] = "nosniff"
        self._metrics.count_request(request.method, _route(request), response.status)
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._hosts.refuse_others(request)
            self._take_quota(request)
            async with asyncio.timeout(REQUEST_DEADLINE):
                return await handler(request)
        except web.HTTPException as error:
            return as_problem(problem(_refused(error, request)))
        except TimeoutError:
            late = DeadlineExceeded(f"no answer within {REQUEST_DEADLINE:g} s")
            return as_problem(problem(late))
        except DhtmetaError as error:
            return as_problem(problem(error))
        except ConnectionError:
            raise  # the client went away; there is nobody to answer
        except Exception as error:
            log.exception("unexpected, at %s %s", request.method, _route(request))
            return as_problem(problem(error))

    def _take_quota(self, request: web.Request) -> None:
        """Raise Refused (429) if this address has asked as much as it may."""
        quota = self._gets
        if request.method == "PUT":
            quota = self._puts
        elif _route(request) in WATCHED:
            quota = self._watches
        quota.take(request.remote or "", asyncio.get_running_loop().time())


def _route(request: web.Request) -> str:
    """Return the template of the path, "unknown" for a path that there is none for."""
    resource = request.match_info.route.resource
    return "unknown" if resource is None else resource.canonical


def _refused(error: web.HTTPException, request: web.Request) -> Refused:
    """Return what aiohttp refuses by itself in our words."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        headers = {"Allow": allowed}
        return Refused(
            405, f"{request.method} is not for this path; it has {allowed}", headers=headers
        )
    if isinstance(error, web.HTTPNotFound):
        return Refused(404, "there is no such path; /openapi.json names all")
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return parameters.too_large()
    return Refused(error.status, error.reason)
