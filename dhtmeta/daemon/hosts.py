"""Under which names this server answers, so that no web page can talk to it (DNS rebinding)."""

import re
from collections.abc import Collection

from aiohttp import web

from dhtmeta.daemon.responses import Refused

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+]|[^][:/@\s]+)(:(?P<port>[0-9]{1,5}))?")
_OURS = {"localhost", "127.0.0.1", "[::1]"}


class Hosts:
    """The address that the client connected to, this machine's own names, and those in `named`."""

    def __init__(self, named: Collection[str]) -> None:
        self._named = {name.lower() for name in named}

    def refuse_others(self, request: web.Request) -> None:
        """Raise Refused (421) unless the request's Host is one of ours; 400 if it is none."""
        given = [value.lower() for value in request.headers.getall("Host", [])]
        match = _HOST.fullmatch(given[0]) if len(given) == 1 else None
        if match is None:
            raise Refused(400, "Host: expected the one name that the request is for")
        name, port = match["name"].removesuffix("."), match["port"]
        if given[0] in self._named or name in self._named:
            return
        address, own_port = _connected_to(request)
        if name not in _OURS | {address} or port not in (None, own_port):
            raise Refused(
                421, f"Host: {given[0][:80]!r} is no name of this server; [http] hosts adds some"
            )


def _connected_to(request: web.Request) -> tuple[str, str]:
    """Return our end of the connection as a Host header would write it; ("", "") if it is gone."""
    sockname = request.get_extra_info("sockname")
    if sockname is None:
        return "", ""
    host, port = sockname[:2]
    return f"[{host}]" if ":" in host else host, str(port)
