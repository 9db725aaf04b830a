"""How the outside sees a session: which ports gateways map to ours, under which address.

libtorrent asks gateways by UPnP and NAT-PMP; here is decided what to ask for, and what of the
answers still holds.
"""

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import libtorrent as lt

from dhtmeta.const import GIVE_BACK_DEADLINE
from dhtmeta.errors import CallerError

_OWN_ADDRESS = re.compile(r"(?:local: |\[)([0-9a-fA-F:.]+)")  # no attribute of the alerts has it

_Key = tuple[int, str, int]  # (transport, our address, our UDP port)


class Outside:
    """What libtorrent learns of our reachability; nothing where it does not ask gateways."""

    def __init__(self) -> None:
        self._external_address: str | None = None
        self._mapped: dict[_Key, int] = {}
        self._wanted: set[int] = set()  # ports beside that of the session
        self._asked: dict[int, int] = {}  # libtorrent's number of a mapping -> port
        self._handle: Any = None
        self._asking: asyncio.Handle | None = None
        self._listeners: list[Callable[[], None]] = []
        self._by_upnp: set[tuple[str, int]] = set()  # (our address, libtorrent's number), TCP, too
        self._given_back: asyncio.Event = asyncio.Event()

    @property
    def external_address(self) -> str | None:
        """The newest address that a gateway or DHT nodes saw us under, None until one did."""
        return self._external_address

    @property
    def mappings(self) -> Mapping[int, int]:
        """Our UDP ports that a gateway maps now, each with the external port, often another one.

        One that NAT-PMP mapped stays when its gateway falls silent: libtorrent says nothing then.
        """
        return {port: external for (_, _, port), external in sorted(self._mapped.items())}

    @property
    def supports_upnp(self) -> bool:
        """Whether a gateway maps one of our ports by UPnP."""
        return any(transport == lt.portmap_transport.upnp for transport, _, _ in self._mapped)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever any of these has changed."""
        self._listeners.append(listener)

    def map_port(self, port: int) -> None:
        """Have gateways map UDP `port`, too, now and wherever we listen later.

        `mappings` says whether they did. CallerError for a port that is none.
        """
        if not 1 <= port <= 65535:
            raise CallerError(f"a port is 1 … 65535, got {port}")
        if port not in self._wanted:
            self._wanted.add(port)
            if self._handle is not None and self._asking is None:
                self._ask(port)

    def listening(self, handle: Any) -> None:
        """Take the session, once more for each address it comes to listen on.

        A new listen socket asks for the session's own port by itself, and for no other.
        """
        self._handle = handle
        if self._asking is None:  # addresses come in batches: ask once for all
            self._asking = asyncio.get_running_loop().call_soon(self._ask_again)

    def _ask_again(self) -> None:
        self._asking = None
        with self._telling():
            self._mapped = {key: port for key, port in self._mapped.items() if _is_ours(key[1])}
        self._by_upnp = {key for key in self._by_upnp if _is_ours(key[0])}
        for port in self._wanted:
            self._ask(port)

    def _ask(self, port: int) -> None:
        for number in self._handle.add_port_mapping(lt.portmap_protocol.udp, port, port):
            self._asked[number] = port

    def mapped(self, alert: Any) -> None:
        """Take a `portmap_alert`."""
        if alert.map_transport == lt.portmap_transport.upnp:
            self._by_upnp.add((_own_address(alert), alert.mapping))
        if alert.map_protocol == lt.portmap_protocol.udp:
            with self._telling():
                self._mapped[self._key(alert)] = alert.external_port

    def refused(self, alert: Any) -> None:
        """Take a `portmap_error_alert`: it was never mapped, or is no longer."""
        with self._telling():
            self._mapped.pop(self._key(alert), None)
        if alert.map_transport == lt.portmap_transport.upnp:
            self._by_upnp.discard((_own_address(alert), alert.mapping))
        if not self._by_upnp:
            self._given_back.set()

    def seen(self, alert: Any) -> None:
        """Take an `external_ip_alert`."""
        with self._telling():
            self._external_address = alert.external_address

    async def give_back(self) -> None:
        """Have UPnP gateways end their mappings; returns when they did, or 0.5 s later.

        libtorrent says of each that it ended by a `portmap_error_alert`. NAT-PMP takes a datagram.
        """
        if self._handle is None or not self._by_upnp:
            return
        self._listeners.clear()  # nobody needs to hear of what we end ourselves
        self._given_back.clear()
        self._handle.apply_settings({"enable_upnp": False})
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._given_back.wait(), GIVE_BACK_DEADLINE)

    def closed(self) -> None:
        """Forget all but what is wanted; libtorrent takes its mappings back when it ends."""
        self._handle = None
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
        self._asked.clear()
        self._mapped.clear()
        self._by_upnp.clear()
        self._external_address = None

    def _key(self, alert: Any) -> _Key:
        port = self._asked.get(alert.mapping) or self._handle.listen_port()
        return alert.map_transport, _own_address(alert), port

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        before = self.external_address, self.mappings, self.supports_upnp
        yield
        if before != (self.external_address, self.mappings, self.supports_upnp):
            for listener in self._listeners:
                listener()


def _own_address(alert: Any) -> str:
    found = _OWN_ADDRESS.search(alert.message())
    return found[1] if found else ""


def _is_ours(address: str) -> bool:
    """Whether this machine still has `address`."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
