"""The way of each request to its handler and back, whatever the server.

Who sent it is checked, its quota taken, it is answered within a deadline, and counted; whatever
goes wrong on the way becomes problem+json.
"""

import asyncio
import logging
from collections.abc import Callable, Collection

from aiohttp import web
from aiohttp.typedefs import Handler

from dhtmeta.const import MAX_SIGNED_FILE_BYTES
from dhtmeta.daemon import parameters
from dhtmeta.daemon.hosts import Hosts
from dhtmeta.daemon.quotas import AddressQuota
from dhtmeta.daemon.responses import Problem, Refused, problem
from dhtmeta.errors import DeadlineExceeded, DhtmetaError

log = logging.getLogger(__name__)


class Way:
    """The way of all requests to one server.

    `section` is where its settings are, `quota` says which one a request takes, `count` is told of
    each answer (method, route, status), and `deadline` (s) is for a request in all.
    """

    def __init__(
        self,
        hosts: Collection[str],
        *,
        section: str,
        quota: Callable[[web.Request], AddressQuota],
        count: Callable[[str, str, int], None],
        deadline: float,
    ) -> None:
        self._section, self._quota, self._count = section, quota, count
        self._deadline = deadline
        self.apply(hosts)

    def apply(self, hosts: Collection[str]) -> None:
        """Answer for these Host names, too, from now on."""
        self._hosts = Hosts(hosts, self._section)

    def application(self) -> web.Application:
        """Return an application without paths, all of whose requests go this way."""

        @web.middleware
        async def on_its_way(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._go(request, handler)

        return web.Application(client_max_size=MAX_SIGNED_FILE_BYTES, middlewares=[on_its_way])

    async def _go(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await self._answer(request, handler)
        response.headers["Server"] = "dhtmeta"
        response.headers["X-Content-Type-Options"] = "nosniff"
        self._count(request.method, route(request), response.status)
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._hosts.refuse_others(request)
            now = asyncio.get_running_loop().time()
            self._quota(request).take(request.remote or "", now)
            async with asyncio.timeout(self._deadline):
                return await handler(request)
        except web.HTTPException as error:
            return as_problem(problem(_refused(error, request)))
        except TimeoutError:
            late = DeadlineExceeded(f"no answer within {self._deadline:g} s")
            return as_problem(problem(late))
        except DhtmetaError as error:
            return as_problem(problem(error))
        except ConnectionError:
            raise  # the client went away; there is nobody to answer
        except Exception as error:
            log.exception("unexpected, at %s %s", request.method, route(request))
            return as_problem(problem(error))


def as_problem(problem: Problem) -> web.Response:
    """Return an error as application/problem+json."""
    return web.json_response(
        problem.json,
        status=problem.status,
        headers=problem.headers,
        content_type="application/problem+json",
    )


def route(request: web.Request) -> str:
    """Return the template of the path, "unknown" for a path that there is none for."""
    resource = request.match_info.route.resource
    return "unknown" if resource is None else resource.canonical


async def on_expect(request: web.Request) -> None:
    """Ask for the body that a client holds back, unless it is too large anyway."""
    wanted = request.headers.get("Expect", "").lower() == "100-continue"
    if wanted and (request.content_length or 0) <= MAX_SIGNED_FILE_BYTES:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # of the answer itself nothing is sent yet


def _refused(error: web.HTTPException, request: web.Request) -> Refused:
    """Return what aiohttp refuses by itself in our words."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        headers = {"Allow": allowed}
        return Refused(
            405, f"{request.method} is not for this path; it has {allowed}", headers=headers
        )
    if isinstance(error, web.HTTPNotFound):
        paths = ", ".join(one.canonical for one in request.app.router.resources())
        return Refused(404, f"there is no such path; there are {paths}")
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return parameters.too_large()
    return Refused(error.status, error.reason)
