"""Which requests are answered: those for a name of ours, not those from other sites' pages.

The first stops pages whose own name was made to lead here (DNS rebinding). The second goes by what
browsers add to requests (Origin, Sec-Fetch-Site) and pages cannot take away. They add the latter
for loopback and https only: over plain http from another machine a page can send a GET, not read
the answer, and not PUT.
"""

import re
from collections.abc import Collection

from aiohttp import web

from dhtmeta.daemon.responses import Refused

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+]|[^][:/@\s]+)(:(?P<port>[0-9]{1,5}))?")
_ORIGIN = re.compile(rf"(?P<scheme>https?)://{_HOST.pattern}")
_PORTS = {"http": "80", "https": "443"}  # what an Origin leaves out
_OURS = {"localhost", "127.0.0.1", "[::1]"}
_OWN_SITE = {"same-origin", "none"}  # none: a person typed the address


class Hosts:
    """The address that the client connected to, this machine's own names, and those in `named`.

    `section` is where the settings have them.
    """

    def __init__(self, named: Collection[str], section: str) -> None:
        self._named = {name.lower() for name in named}
        self._section = section

    def refuse_others(self, request: web.Request) -> None:
        """Raise Refused: 421 for a Host that is not ours, 400 if it is none, 403 for a page."""
        self._refuse_other_names(request)
        self._refuse_other_pages(request)

    def _refuse_other_names(self, request: web.Request) -> None:
        given = _values(request, "Host")
        match = _HOST.fullmatch(given[0]) if len(given) == 1 else None
        if match is None:
            raise Refused(400, "Host: expected the one name that the request is for")
        if not self._is_ours(request, match["name"], match["port"]):
            raise Refused(
                421,
                f"Host: {given[0][:80]!r} is no name of this server; "
                f"[{self._section}] hosts adds some",
            )

    def _refuse_other_pages(self, request: web.Request) -> None:
        sites, origins = _values(request, "Sec-Fetch-Site"), _values(request, "Origin")
        if not _OWN_SITE.issuperset(sites):
            raise Refused(403, "Sec-Fetch-Site: pages of other sites are not answered")
        for origin in origins:
            match = _ORIGIN.fullmatch(origin)
            port = match and (match["port"] or _PORTS[match["scheme"]])
            if match is None or not self._is_ours(request, match["name"], port):
                raise Refused(
                    403, f"Origin: {origin[:80]!r} is another site, whose pages are not answered"
                )

    def _is_ours(self, request: web.Request, name: str, port: str | None) -> bool:
        """Whether we have that name, at that port where one is said."""
        if not self._named.isdisjoint((name, name.removesuffix("."), f"{name}:{port}")):
            return True
        address, own_port = _connected_to(request)
        return name.removesuffix(".") in _OURS | {address} and port in (None, own_port)


def _values(request: web.Request, header: str) -> list[str]:
    return [value.lower() for value in request.headers.getall(header, [])]


def _connected_to(request: web.Request) -> tuple[str, str]:
    """Return our end of the connection as a Host header would write it; ("", "") if it is gone."""
    sockname = request.get_extra_info("sockname")
    if sockname is None:
        return "", ""
    host, port = sockname[:2]
    return f"[{host}]" if ":" in host else host, str(port)
