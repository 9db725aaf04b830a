"""What HOST:PORT means, and which networks are local: the only place that resolves names."""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Sequence

from dhtmeta.errors import CallerError

Endpoint = tuple[str, int]


def parse_address(text: str, *, any_port: bool = False) -> Endpoint:
    """Split "HOST:PORT" or "[IPv6]:PORT"; CallerError says what is wrong.

    Port 0, "any free one", is allowed only with `any_port`.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit():
        raise CallerError(f"{text!r} is not HOST:PORT")
    if not (0 if any_port else 1) <= int(port) <= 65535:
        raise CallerError(f"{text!r}: a port is {0 if any_port else 1} … 65535")
    return host.removeprefix("[").removesuffix("]"), int(port)


def format_address(endpoint: Endpoint) -> str:
    """Write an endpoint the way `parse_address` reads it."""
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_local(host: str) -> bool:
    """Whether `host` is this machine by name or a loopback address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def all_local(endpoints: Sequence[Endpoint]) -> bool:
    """Whether there are bootstrap nodes and all are on this machine: a swarm, not mainline."""
    return bool(endpoints) and all(is_local(host) for host, _ in endpoints)


async def resolve(endpoints: Iterable[Endpoint]) -> dict[Endpoint, Endpoint]:
    """Return endpoint -> (ip, port) for those that can be resolved; the others are left out."""
    loop = asyncio.get_running_loop()
    wanted = list(endpoints)
    found = await asyncio.gather(
        *(loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM) for host, port in wanted),
        return_exceptions=True,
    )
    return {
        endpoint: (str(answer[0][4][0]), endpoint[1])
        for endpoint, answer in zip(wanted, found, strict=True)
        if not isinstance(answer, BaseException) and answer
    }
