"""How an HTTP server starts and stops: its address, its limits, and TLS if it speaks that."""

import asyncio
import logging
import os
import ssl

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from dhtmeta.const import HTTP_CLOSE, HTTP_HEADER_BYTES, HTTP_HEADERS, SLOW_CLIENT, SLOW_CLIENT_LOOK
from dhtmeta.daemon.limits import Door
from dhtmeta.daemon.tls import TlsServer
from dhtmeta.dht.address import parse_listen
from dhtmeta.errors import PortError
from dhtmeta.krpc.compact import Endpoint


class Listener:
    """What answers on one address; `endpoint` is where: (ip, TCP port)."""

    def __init__(
        self, listening: asyncio.Server | TlsServer, runner: web.AppRunner, door: Door
    ) -> None:
        self.endpoint: Endpoint = listening.sockets[0].getsockname()[:2]
        self.door = door
        self._listening, self._runner = listening, runner
        self._looks = asyncio.create_task(self._drop_slow())

    async def _drop_slow(self) -> None:
        while True:
            await asyncio.sleep(SLOW_CLIENT_LOOK)
            self.door.drop_slow(self.door.now())

    def replace_certificate(self, tls: ssl.SSLContext) -> None:
        """Speak TLS with another certificate from now on; nothing changes for plain HTTP."""
        if isinstance(self._listening, TlsServer):
            self._listening.context = tls

    async def close(self) -> None:
        """Stop within 0.3 s: what is under way has HTTP_CLOSE seconds, then it is cut off."""
        self._looks.cancel()
        self._listening.close()
        await self._runner.cleanup()
        self.door.close()
        await asyncio.sleep(0)  # for what was cut off to be seen as such


async def start_listener(
    application: web.Application,
    listen: str,
    *,
    section: str,
    slow: float = SLOW_CLIENT,
    tls: ssl.SSLContext | None = None,
) -> Listener:
    """Let `application` answer on `listen` (IP:PORT), with TLS if there is a context for it.

    `section` is where its settings are, `slow` the seconds a client has for its headers.
    Raises PortError if the address cannot be had, CallerError if it is none.
    """
    host, port = parse_listen(listen)
    runner = _runner(application, slow)
    await runner.setup()
    assert runner.server is not None
    loop = asyncio.get_running_loop()
    door = Door(runner.server, loop.time)
    listening: asyncio.Server | TlsServer
    try:
        if tls is None:
            listening = await loop.create_server(door, host, port)
        else:
            listening = TlsServer(door, host, port, tls)
    except OSError as error:
        await runner.cleanup()
        raise _port_error(listen, section, error) from error
    return Listener(listening, runner, door)


def _port_error(listen: str, section: str, error: OSError) -> PortError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return PortError(
        f"cannot answer HTTP on {listen}: {reason}; stop what uses it, or choose another address "
        f"with [{section}] listen"
    )


def _runner(application: web.Application, slow: float) -> web.AppRunner:
    return web.AppRunner(
        application,
        access_log=None,
        logger=_logger(),
        keepalive_timeout=slow,  # ends whoever does not finish the headers, too
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
