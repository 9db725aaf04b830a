"""Whom mDNS names on our LAN: how we are written there, which answers count, and for how long.

Anybody on a LAN may answer anything. So an answer is only a candidate, its name has to be the peer
id of the key in it, and its address has to be on one of our own links: nobody is sent elsewhere.
IPv4 only: the addresses of IPv6 that work on any LAN need a zone, which an endpoint does not have.
"""

import asyncio
import ipaddress
import logging
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dhtmeta.const import LAN_ADDRESSES, LAN_CANDIDATES, LAN_LOOKS, LAN_TTL, LOWEST_PORT
from dhtmeta.dht.address import is_local
from dhtmeta.discovery.candidate import Candidate
from dhtmeta.discovery.topic import topic_hash
from dhtmeta.errors import LocalError, PortError
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.values.node_id import peer_id

if TYPE_CHECKING:  # it takes 40 ms to import: see `start`
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

log = logging.getLogger(__name__)

SERVICE: Final = "_dhtmeta._udp.local."
VERSION: Final = b"1"
_NAME = re.compile(r"([0-9a-f]{40})\." + re.escape(SERVICE))
_KEY = re.compile(rb"[0-9a-f]{64}")
_SRV, _TXT, _PTR, _IN = 33, 16, 12, 1  # types and class of DNS records
_ANY_HOST = ("0.0.0.0", "::", "")  # noqa: S104 - what an exchange on all addresses listens on


@dataclass(slots=True)
class _Named:
    """A name on the LAN: whom it stands for (None while records are missing), whether asked."""

    candidate: Candidate | None = None
    asked: bool = False


class LanSource:
    """The peers of our topic on the LAN, and our own entry there. Start it before use.

    `endpoint` is where our exchange listens; on all addresses stands for those of `interfaces`
    (IPv4 addresses of ours), which are all but loopback where nothing is said, and loopback alone
    where the exchange listens there. `heard` is set whenever somebody new is there, for the
    ladder to clear. Who was not heard of for `ttl` seconds is not there any more.
    """

    name = "lan"

    def __init__(
        self,
        public_key: bytes,
        topic: str,
        endpoint: Endpoint,
        *,
        interfaces: Sequence[str] | None = None,
        ttl: int = LAN_TTL,
        tells: bool = True,
    ) -> None:
        """Take who we are; with `tells` False we only listen."""
        self.heard = asyncio.Event()
        self._public_key = public_key
        self._topic = topic
        self._endpoint = endpoint
        if interfaces is None and is_local(endpoint[0]):
            interfaces = ["127.0.0.1"]
        self._interfaces = interfaces
        self._ttl = ttl
        self._tells = tells
        self._links: list[ipaddress.IPv4Interface] = []
        self._named: dict[str, _Named] = {}
        self._mdns: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._told: AsyncServiceInfo | None = None
        self._tasks: set[asyncio.Future[Any]] = set()

    async def start(self) -> None:
        """Listen, and say that we are there; a LocalError says why there is no mDNS here."""
        from zeroconf import Error
        from zeroconf.asyncio import AsyncServiceBrowser

        try:
            mdns = await self._open()
            await self._tell()
        except LocalError:
            await self.close()
            raise
        except (OSError, Error) as error:
            await self.close()
            reason = str(error) or type(error).__name__
            raise PortError(f"no peers on the LAN: mDNS (UDP port 5353): {reason}") from error
        self._browser = AsyncServiceBrowser(mdns.zeroconf, SERVICE, handlers=[self._on_change])
        self._background(asyncio.ensure_future(self._look_again()))

    async def _open(self) -> "AsyncZeroconf":
        from zeroconf.asyncio import AsyncZeroconf

        self._links = _links(self._interfaces)
        mdns = self._mdns = AsyncZeroconf([str(link.ip) for link in self._links])
        await mdns.zeroconf.async_wait_for_start()
        if not mdns.zeroconf.engine.senders:
            raise PortError("no peers on the LAN: no network interface takes part in multicast")
        return mdns

    async def close(self) -> None:
        """Say goodbye, within 0.3 s; closing twice is fine."""
        mdns, self._mdns = self._mdns, None
        for task in self._tasks:
            task.cancel()
        self._named.clear()
        if self._browser is not None:
            await self._browser.async_cancel()
            self._browser = None
        if mdns is not None:
            await mdns.async_close()

    async def update(
        self,
        *,
        public_key: bytes | None = None,
        topic: str | None = None,
        endpoint: Endpoint | None = None,
    ) -> None:
        """Tell the LAN what changed, and look whom it names with these eyes."""
        self._public_key = public_key or self._public_key
        self._topic = self._topic if topic is None else topic
        self._endpoint = endpoint or self._endpoint
        if self._mdns is None:
            return
        await self._tell()
        self._named.clear()
        for record in self._mdns.zeroconf.cache.get_all_by_details(SERVICE, _PTR, _IN):
            self._look(getattr(record, "alias", ""))

    async def candidates(self) -> AsyncIterator[Candidate]:
        """Yield those of our topic who are there now."""
        for name, named in list(self._named.items()):
            if named.candidate is not None and self._age(name) <= self._ttl:
                yield named.candidate

    # what we say

    async def _tell(self) -> None:
        """Write our entry in place of what we told before, if anything.

        The name is the hash of our key, so nobody else can have it: there is nothing to probe
        for, and who claims it first cannot silence us.
        """
        assert self._mdns is not None
        if not self._tells:
            return
        before, info = self._told, self._entry()
        if before is not None and before.name == info.name:
            self._background(await self._mdns.async_update_service(info))
        else:
            if before is not None:
                self._background(await self._mdns.async_unregister_service(before))
            registering = self._mdns.async_register_service(info, cooperating_responders=True)
            self._background(await registering)
        self._told = info

    def _entry(self) -> "AsyncServiceInfo":
        from zeroconf.asyncio import AsyncServiceInfo

        host, port = self._endpoint
        every = [str(link.ip) for link in self._links[:LAN_ADDRESSES]]
        fields = {
            b"v": VERSION,
            b"k": self._public_key.hex().encode(),
            b"t": topic_hash(self._topic).hex().encode(),
        }
        name = f"{peer_id(self._public_key).hex()}.{SERVICE}"
        return AsyncServiceInfo(
            SERVICE,
            name,
            port,
            properties=fields,
            server=name,
            host_ttl=self._ttl,
            parsed_addresses=every if host in _ANY_HOST else [host],
        )

    def _background(self, task: Any) -> None:
        """Let a task run to its end, or to ours."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # what others say

    def _on_change(self, *, name: str, state_change: Any, **_: Any) -> None:
        from zeroconf import ServiceStateChange

        if state_change is ServiceStateChange.Removed:
            self._named.pop(name.lower(), None)
        elif self._mdns is not None:
            self._look(name)

    def _look(self, name: str) -> None:
        """Take in what is known of a name; what its records do not say yet is asked for later."""
        from zeroconf.asyncio import AsyncServiceInfo

        assert self._mdns is not None
        name = name.lower()
        match = _NAME.fullmatch(name)
        if match is None or match[1] == peer_id(self._public_key).hex():
            return
        info = AsyncServiceInfo(SERVICE, name)
        complete = info.load_from_cache(self._mdns.zeroconf)
        candidate = self._candidate(match[1], info) if complete else None
        if complete and candidate is None:
            self._named.pop(name, None)
        else:
            self._remember(name, candidate)

    def _remember(self, name: str, candidate: Candidate | None) -> None:
        """Keep a name, where there is room; those who are gone make some."""
        named = self._named.get(name)
        if named is None:
            if len(self._named) >= LAN_CANDIDATES and not self._drop_silent():
                return
            named = self._named[name] = _Named()
        if candidate is not None and candidate != named.candidate:
            named.candidate = candidate
            self.heard.set()

    def _drop_silent(self) -> bool:
        for name in self._named:
            if self._age(name) > self._ttl:
                del self._named[name]
                return True
        return False

    def _candidate(self, instance: str, info: "AsyncServiceInfo") -> Candidate | None:
        """Return whom an entry stands for; None if that is no peer of our topic on our links."""
        fields = info.properties
        topic, key = fields.get(b"t"), fields.get(b"k")
        if fields.get(b"v") != VERSION or topic != topic_hash(self._topic).hex().encode():
            return None
        if key is None or not _KEY.fullmatch(key):
            return None
        public_key = bytes.fromhex(key.decode())
        addresses = info.parsed_addresses()  # in any order, so of too many none can be told apart
        host = self._nearest(addresses) if len(addresses) <= LAN_ADDRESSES else None
        if peer_id(public_key).hex() != instance or host is None:
            return None
        if info.port is None or info.port < LOWEST_PORT:
            return None
        return Candidate(self.name, public_key, (host, info.port))

    def _nearest(self, addresses: Iterable[str]) -> str | None:
        """Return the first address on one of our links; those that are ours come last.

        Bridges of containers have the same address everywhere: there, ours is not theirs.
        """
        parsed = [ipaddress.ip_address(text) for text in addresses]
        near = [one for one in parsed if any(_is_host_on(link, one) for link in self._links)]
        ours = {link.ip for link in self._links}
        return next((str(one) for one in sorted(near, key=ours.__contains__)), None)

    # who is still there

    def _age(self, name: str) -> float:
        """Return the seconds since a name was heard; infinite where nothing is known any more."""
        from zeroconf import current_time_millis

        if self._mdns is None:
            return float("inf")
        record = self._mdns.zeroconf.cache.get_by_details(name, _SRV, _IN)
        return float("inf") if record is None else (current_time_millis() - record.created) / 1000

    async def _look_again(self) -> None:
        """Ask for those who have been silent, and see whether our addresses are still the same."""
        while True:
            await asyncio.sleep(self._ttl / LAN_LOOKS)
            self._ask_silent()
            await self._follow_links()

    def _ask_silent(self) -> None:
        """Ask, in one question, for all silent names; forget those of whom nothing is known.

        A name stays while zeroconf holds its record: until then its return would not be told.
        """
        silent = []
        for name, named in list(self._named.items()):
            age = self._age(name)
            if age == float("inf") and named.asked:
                del self._named[name]
            elif age > self._ttl / 2:
                silent.append(name)
            named.asked = age > self._ttl / 2
        if silent:
            self._ask(silent)

    def _ask(self, names: Iterable[str]) -> None:
        from zeroconf._dns import DNSQuestion
        from zeroconf._protocol.outgoing import DNSOutgoing

        assert self._mdns is not None
        out = DNSOutgoing(0)
        for name in names:
            out.add_question(DNSQuestion(name, _SRV, _IN))
            out.add_question(DNSQuestion(name, _TXT, _IN))
        self._mdns.zeroconf.async_send(out)

    async def _follow_links(self) -> None:
        """Go on with the addresses that this machine has now."""
        try:
            links = _links(self._interfaces)
            if self._mdns is not None and links != self._links:
                self._links = links
                await self._mdns.async_update_interfaces([str(link.ip) for link in links])
                await self.update()
        except (LocalError, OSError) as error:  # cut off for a while
            log.debug("the LAN is away: %s", error)


def _links(interfaces: Sequence[str] | None) -> list[ipaddress.IPv4Interface]:
    """Return our IPv4 addresses with their networks: those given, else all but loopback."""
    import ifaddr  # zeroconf's own, and as late

    found = sorted(
        ipaddress.IPv4Interface(f"{one.ip}/{one.network_prefix}")
        for adapter in ifaddr.get_adapters()
        for one in adapter.ips
        if one.is_IPv4
    )
    if interfaces is None:
        links = [link for link in found if not link.is_loopback]
    else:
        links = [link for link in found if str(link.ip) in interfaces]
    if not links:
        which = "an IPv4 address" if interfaces is None else " or ".join(interfaces)
        raise LocalError(f"no peers on the LAN: no network interface has {which}")
    return links


def _is_host_on(
    link: ipaddress.IPv4Interface, address: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> bool:
    network = link.network
    edges = (network.network_address, network.broadcast_address)
    return address in network and (address not in edges or network.prefixlen >= 31)
