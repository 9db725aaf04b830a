"""What HOST:PORT means, and which networks are local: the only place that resolves names."""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence

from dhtmeta.errors import CallerError
from dhtmeta.krpc.compact import Endpoint

_ADDRESS = re.compile(r"(\[(?P<ipv6>[^]]+)]|(?P<host>[^][:/\s\0]+)):0*(?P<port>[0-9]+)")


def parse_address(text: str, *, any_port: bool = False) -> Endpoint:
    """Split "HOST:PORT" or "[IPv6]:PORT"; CallerError says what is wrong.

    Port 0, "any free one", is allowed only with `any_port`.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or (match["ipv6"] and not _is_ipv6(match["ipv6"])):
        raise CallerError(f"{text!r} is not HOST:PORT or [IPv6]:PORT")
    port = int(match["port"][:6])  # of a longer one these are too many already
    if not (0 if any_port else 1) <= port <= 65535:
        raise CallerError(f"{text!r}: a port is {0 if any_port else 1} … 65535")
    return match["ipv6"] or match["host"], port


def parse_listen(text: str) -> Endpoint:
    """Split "IP:PORT" or "[IPv6]:PORT", port 0 being any free one; "localhost" is 127.0.0.1.

    CallerError for anything else: another name could stand for a machine that is not this one.
    """
    host, port = parse_address(text, any_port=True)
    if _is_localhost(host):
        return "127.0.0.1", port
    try:
        ipaddress.ip_address(host)
    except ValueError as error:
        raise CallerError(f"{text!r}: an address to listen on is IP:PORT, not a name") from error
    return host, port


def format_address(endpoint: Endpoint) -> str:
    """Write an endpoint the way `parse_address` reads it."""
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def _is_localhost(host: str) -> bool:
    return host.lower().removesuffix(".") == "localhost"


def is_local(host: str) -> bool:
    """Whether `host` is this machine by name or a loopback address."""
    if _is_localhost(host):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def any_local(endpoints: Sequence[Endpoint]) -> bool:
    """Whether a bootstrap node is on this machine: then it is a swarm, never mainline."""
    return any(is_local(host) for host, _ in endpoints)


def any_address(local: bool, port: int = 0) -> str:
    """Return where to listen if nobody said: loopback for a swarm, else every interface."""
    return f"127.0.0.1:{port}" if local else f"0.0.0.0:{port}"


def unmapped(host: str) -> str:
    """Return the IPv4 address that an IPv4-mapped one stands for; any other text as it is.

    A socket of both families shows who comes over IPv4 as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2).
    """
    return host[7:] if host.lower().startswith("::ffff:") and "." in host else host


async def resolve(
    endpoints: Iterable[Endpoint], family: int = socket.AF_UNSPEC
) -> dict[Endpoint, Endpoint]:
    """Return endpoint -> (ip, port) for those that can be resolved; the others are left out.

    Of a name's addresses the first of `family` is taken, that of the socket which will send there;
    where it has none, the first of all.
    """
    loop = asyncio.get_running_loop()
    wanted = list(endpoints)
    found = await asyncio.gather(
        *(loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM) for host, port in wanted),
        return_exceptions=True,
    )
    return {
        endpoint: (str(min(answer, key=lambda one: one[0] != family)[4][0]), endpoint[1])
        for endpoint, answer in zip(wanted, found, strict=True)
        if not isinstance(answer, BaseException) and answer
    }
