"""How a UDP transport is opened, so that none is left where who opens it is cancelled meanwhile.

uvloop lets go of one that is opened and not handed over yet: it stays open until the loop ends.
"""

import asyncio
from typing import Any

Opening = asyncio.Task[tuple[asyncio.DatagramTransport, Any]]


async def open_datagrams(
    protocol: asyncio.DatagramProtocol,
    *,
    local: tuple[str, int] | None = None,
    remote: tuple[str, int] | None = None,
) -> asyncio.DatagramTransport:
    """Have `protocol` receive what comes to `local`, or from `remote`: (ip, UDP port).

    Raises OSError where the operating system has no such socket for us.
    """
    loop = asyncio.get_running_loop()
    opening: Opening = asyncio.ensure_future(
        loop.create_datagram_endpoint(lambda: protocol, local_addr=local, remote_addr=remote)
    )
    try:
        transport, _ = await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close)
        raise
    return transport


def _close(opening: Opening) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[0].close()
