"""Where a node stands in the DHT: how its carriers start and end, and what the next start finds."""

import contextlib
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from dhtmeta.config import CarrierName
from dhtmeta.const import CARRIERS
from dhtmeta.dht.address import any_address, any_local, format_address, parse_address
from dhtmeta.dht.carrier import Carrier
from dhtmeta.dht.direct.carrier import DirectCarrier
from dhtmeta.dht.direct.udp import UdpSocket
from dhtmeta.dht.libtorrent import LibtorrentCarrier
from dhtmeta.dht.mapping import Outside
from dhtmeta.dht.saved import Saved, claim, read_saved, saved_path, write_saved
from dhtmeta.errors import CallerError, PortError
from dhtmeta.krpc.compact import Contact, Endpoint

log = logging.getLogger(__name__)


class Station:
    """A libtorrent node and, where that is the carrier, our own lookups beside it.

    `known_to_others` says whether other nodes count on us: it is set from outside, too, since who
    takes a put lists its sender (FACTS). `carrier` is None until `start` and after `close`.
    """

    def __init__(
        self,
        bootstrap: Sequence[str],
        listen: str | None,
        carrier: CarrierName,
        state: Path,
        *,
        serve: bool,
    ) -> None:
        """Take bootstrap nodes ("HOST:PORT"), an address to listen on, and a directory."""
        if carrier not in CARRIERS:
            raise CallerError(f"{carrier!r} is no carrier; known: {', '.join(CARRIERS)}")
        self.is_local = any_local([parse_address(one) for one in bootstrap])
        self.carrier: Carrier | None = None
        self.known_to_others = False
        self._bootstrap, self._listen, self._name = bootstrap, listen, carrier
        self._saved_path = saved_path(state, bootstrap)
        self._serve = serve
        self._node: LibtorrentCarrier | None = None  # whatever the carrier
        self._claim: IO[bytes] | None = None

    @property
    def endpoint(self) -> Endpoint | None:
        """Where the libtorrent node listens: (ip, UDP port); None if there is none."""
        return None if self._node is None else self._node.session.endpoint

    @property
    def outside(self) -> Outside | None:
        """Which ports gateways map to ours; None if there is no node."""
        return None if self._node is None else self._node.outside

    async def start(self) -> None:
        """Start where others know us, if that is free and nobody else is us now.

        Raises PortError where the port cannot be had. Whether it raises or not: `close` it.
        """
        self._claim = claim(self._saved_path)
        saved = read_saved(self._saved_path) if self._claim else Saved()
        if self._listen is None and saved.port:
            with contextlib.suppress(PortError):
                known = any_address(self.is_local, saved.port)
                return await self._open(known, saved, serve=True)
            saved = Saved(contacts=saved.contacts)
        return await self._open(self._listen, saved, serve=self._serve)

    async def _open(self, listen: str | None, saved: Saved, *, serve: bool) -> None:
        node = LibtorrentCarrier(self._bootstrap, listen, serve=serve, saved_state=saved.state)
        await node.start()
        try:
            direct = self._name == "direct"
            self.carrier = await self._beside(node, saved.contacts) if direct else node
        except BaseException:
            await node.close()
            raise
        self._node = node
        self.known_to_others = serve

    async def _beside(self, node: LibtorrentCarrier, contacts: Sequence[Contact]) -> Carrier:
        """Start our own lookups one port above `node`, or on any free one if that is taken.

        Nodes that take a put list its sender (FACTS). libtorrent comes back under its id and port,
        and so this does, whose own follow from them.
        """
        host, port = node.session.endpoint
        ids = node.session.node_ids()

        def beside(port: int) -> DirectCarrier:
            socket = UdpSocket(format_address((host, port)))
            return DirectCarrier(
                node,
                socket,
                contacts=contacts,
                node_id=_node_id_beside(ids),
                also_us=ids,
                local=self.is_local,
            )

        carrier = beside(port + 1 if port < 65535 else 0)
        try:
            await carrier.start()
        except PortError:  # somebody has it
            carrier = beside(0)
            await carrier.start()
        return carrier

    async def close(self) -> None:
        """Leave what the next start needs, if anybody answered; then end the carriers."""
        carrier, self.carrier = self.carrier, None
        try:
            if carrier is not None and self._claim is not None and await carrier.live_nodes():
                write_saved(self._saved_path, self._left_by(carrier))
        except OSError as error:
            log.warning("the next start will be slower: %s", error)
        finally:
            if self._claim is not None:
                self._claim.close()
            if carrier is not None:
                await carrier.close()

    def _left_by(self, carrier: Carrier) -> Saved:
        port = self.endpoint[1] if self.endpoint and self.known_to_others else 0
        contacts = carrier.contacts() if isinstance(carrier, DirectCarrier) else ()
        return Saved(carrier.saved_state(), port, tuple(contacts))


def _node_id_beside(node_ids: list[bytes]) -> bytes | None:
    """Return an id that follows from libtorrent's, but is another; None if it has none."""
    if not node_ids:
        return None
    return hashlib.sha1(b"direct" + node_ids[0], usedforsecurity=False).digest()
