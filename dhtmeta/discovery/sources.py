"""The sources that need nobody else: the settings, the store, and what connected peers tell."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from socket import AF_UNSPEC

from dhtmeta.const import MET_FROM_STORE
from dhtmeta.dht.address import parse_address, resolve
from dhtmeta.discovery.candidate import Candidate
from dhtmeta.discovery.gossip import Gossip
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.store.store import KnownPeer
from dhtmeta.values.record import split_endpoint


class StoreSource:
    """Known peers of our topic, and relays, seen last first; `is_held` says who is current."""

    name = "store"

    def __init__(
        self,
        peers: Mapping[bytes, KnownPeer],
        concerns: Callable[[KnownPeer], bool],
        is_held: Callable[[bytes], bool],
    ) -> None:
        self._peers, self._concerns, self._is_held = peers, concerns, is_held

    async def candidates(self) -> AsyncIterator[Candidate]:
        """Yield some of those whose record is not held."""
        left = MET_FROM_STORE
        for peer_id in reversed(list(self._peers)):
            known = self._peers.get(peer_id)
            if known is None or not self._concerns(known) or self._is_held(peer_id):
                continue
            yield Candidate(self.name, known.public_key, _endpoint(known))
            left -= 1
            if not left:
                return


def _endpoint(known: KnownPeer) -> Endpoint | None:
    """Return where its exchange was; a row may be damaged."""
    try:
        return split_endpoint(known.exchange)
    except ValueError:
        return None


class ContactSource:
    """Peers known by hand: where their exchange is, "HOST:PORT"; names are resolved each time.

    `family` is that of the socket which dials them.
    """

    name = "contact"

    def __init__(self, contacts: Sequence[str], family: int = AF_UNSPEC) -> None:
        """CallerError for what is no HOST:PORT."""
        self._family = family
        self._contacts = [parse_address(one) for one in contacts]

    async def candidates(self) -> AsyncIterator[Candidate]:
        """Yield those whose name can be resolved."""
        for endpoint in (await resolve(self._contacts, self._family)).values():
            yield Candidate(self.name, endpoint=endpoint)


class ExchangeSource:
    """Asks connected peers whom else they know, and names known ones to connect to."""

    name = "exchange"

    def __init__(
        self,
        gossip: Gossip,
        dialable: Callable[[], list[Candidate]],
    ) -> None:
        self._gossip, self._dialable = gossip, dialable

    async def candidates(self) -> AsyncIterator[Candidate]:
        """Yield known peers that we are to be connected with; what is told comes by itself."""
        self._gossip.ask()
        for candidate in self._dialable():
            yield candidate
