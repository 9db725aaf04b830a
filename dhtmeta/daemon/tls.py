"""How connections that speak TLS come in: counted at the door first, then shaken hands with.

asyncio's own servers shake hands before anybody hears of a connection, so that no cap would hold
for those who never finish.
"""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from pathlib import Path

from dhtmeta.const import SLOW_CLIENT, SLOW_CLIENT_LOOK
from dhtmeta.daemon.limits import Door
from dhtmeta.errors import ConfigError


class TlsServer:
    """Accepts on an IP address until it is closed; `context` may be replaced by another.

    Raises OSError if the address cannot be had.
    """

    def __init__(self, door: Door, host: str, port: int, context: ssl.SSLContext) -> None:
        self.context = context
        self._door = door
        v6 = ipaddress.ip_address(host).version == 6
        family = socket.AF_INET6 if v6 else socket.AF_INET
        self._listening = socket.create_server((host, port), family=family)
        self._listening.setblocking(False)
        self.sockets = (self._listening,)
        self._handshakes: set[asyncio.Task[None]] = set()
        self._accepting = asyncio.create_task(self._accept())

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(self._listening)
            except OSError:  # it is gone already, or no descriptor is left
                await asyncio.sleep(SLOW_CLIENT_LOOK)
                continue
            handshake = asyncio.create_task(self._receive(connection, address[0]))
            self._handshakes.add(handshake)
            handshake.add_done_callback(self._handshakes.discard)

    async def _receive(self, connection: socket.socket, address: str) -> None:
        """Let one in, if there is room, and leave it to its protocol when the handshake is done."""
        guest = self._door()
        if not guest.admit(address):
            connection.close()
            return
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: guest,
                connection,
                ssl=self.context,
                ssl_handshake_timeout=SLOW_CLIENT,
                ssl_shutdown_timeout=SLOW_CLIENT_LOOK,
            )
        except OSError:  # no TLS, too slow, or gone
            self._door.leave(guest)
        except asyncio.CancelledError:
            self._door.leave(guest)
            raise

    def close(self) -> None:
        """Accept nobody any more, and leave those who are shaking hands."""
        self._accepting.cancel()
        for handshake in self._handshakes:
            handshake.cancel()
        with contextlib.suppress(OSError):
            self._listening.close()


def tls_context(certificate: str, private_key: str, section: str) -> ssl.SSLContext | None:
    """Return what TLS is spoken with, from PEM files; None, for plain HTTP, where neither is named.

    `section` is where the settings have them. Raises ConfigError that names the file that is
    missing or cannot be used.
    """
    if not certificate and not private_key:
        return None
    for name, path in (("certificate", certificate), ("private_key", private_key)):
        _refuse_unreadable(f"[{section}] {name}", path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, private_key, password=_no_password)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        why = getattr(error, "reason", None) or str(error)
        raise ConfigError(
            f"[{section}] certificate {certificate} and private_key {private_key} cannot be used "
            f"together ({why}): they have to be PEM files, the whole chain and the key of its "
            f"first certificate, without a password"
        ) from error
    return context


def _refuse_unreadable(name: str, path: str) -> None:
    if not path:
        raise ConfigError(
            f"{name} is not set, and TLS needs certificate and private_key: give both, or neither "
            f"for plain HTTP"
        )
    try:
        Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(
            f"{name}: cannot read {path!r}: {reason}; name a PEM file that this user may read"
        ) from error


def _no_password() -> str:
    raise ValueError("the key has a password")  # without this OpenSSL asks at the terminal
