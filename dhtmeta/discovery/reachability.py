"""What we are to others: public or private, at which address, and whether we can be a relay.

Our own address, what gateways map (libtorrent's UPnP and NAT-PMP), and how peers see us are claims.
A claim holds where a peer that dialled it back, from a port that we never sent to, found us there;
it falls where two could not. One peer's word takes no proof away, unless there is no other
peer. Until somebody can be asked, an address that others could have is believed. An operator's word
in the record stands above all of this.
"""

import asyncio
import contextlib
import ipaddress
import socket
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from msgspec.structs import replace

from dhtmeta.const import (
    DIAL_BACK_EACH,
    DIAL_BACK_INTERVAL,
    DIAL_BACKS_AT_ONCE,
    DIAL_BACKS_FAILED,
    DIAL_DEADLINE,
    PROOF_DELAY,
    REACH_PATIENCE,
    REACH_POLL,
    SEEN_BY,
)
from dhtmeta.dht.mapping import Outside
from dhtmeta.discovery.attachment import Session
from dhtmeta.discovery.exchange import Exchange
from dhtmeta.discovery.link import Link
from dhtmeta.engine.connectability import is_global
from dhtmeta.errors import DhtmetaError
from dhtmeta.krpc import exchange as wire
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.values.record import EXCHANGE_PROTOCOL, NetworkInfo, Protocol, format_endpoint


@dataclass(frozen=True, slots=True)
class Reach:
    """What we are: "public" at `public`, or "private"; "" while that is not known.

    `own` is our address on the network we are in, `nat_type` "symmetric", "cone" or "".
    """

    node_type: str = ""
    public: Endpoint | None = None
    own: Endpoint | None = None
    supports_upnp: bool = False
    nat_type: str = ""
    proven: bool = False  # somebody dialled us there


class Reachability:
    """Finds out what we are while `run` runs; `reach` is what is known, `on_change` hears of it.

    `outside` is what libtorrent learns from gateways, None where there is no DHT node.
    """

    def __init__(
        self, exchange: Exchange, outside: Callable[[], Outside | None], *, allow_non_global: bool
    ) -> None:
        self.reach = Reach()
        self.on_change: Callable[[], None] = lambda: None
        self.on_move: Callable[[], None] = lambda: None  # our own address is another one
        self._exchange, self._outside, self._allow = exchange, outside, allow_non_global
        self._loop = asyncio.get_running_loop()
        self._patient_until = self._loop.time() + REACH_PATIENCE
        self._own: Endpoint | None = None
        self._prove_from = self._loop.time() + PROOF_DELAY
        self._is_asking = False
        self._last_type = ""  # of our NAT: with fewer peers it is still the same
        self._seen: dict[bytes, Endpoint] = {}  # by peer id: how those we dialled see us
        self._proven: dict[
            Endpoint, float
        ] = {}  # loop time of the last dial back that came through
        self._failed: dict[Endpoint, set[bytes]] = {}  # who tried in vain
        self._asked: dict[tuple[Endpoint, bytes], float] = {}
        self._answered: dict[bytes, float] = {}  # whom we dialled back, loop time
        self._dialling_back: set[Link] = set()  # who asked for it
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        exchange.on(wire.Dial, self._on_dial)
        exchange.on_open.append(self._on_open)
        exchange.on_close.append(self._on_close)

    async def run(self) -> None:
        """Look again whenever something may have changed, until cancelled."""
        outside = self._outside()
        if outside is not None:
            outside.on_change(self._news.set)
            outside.map_port(self._exchange.endpoint[1])
        while True:
            self._decide()
            self._ask_back()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._news.wait()
            self._news.clear()

    def _pause(self) -> float:
        left = self._patient_until - self._loop.time()
        return left if 0 < left < REACH_POLL else REACH_POLL

    def _decide(self) -> None:
        self._follow_own()
        reach = self._now()
        if reach != self.reach:
            self.reach = reach
            self.on_change()

    def _follow_own(self) -> None:
        """Begin anew with another address of ours: what was seen and tried is of the old one."""
        own = self.own
        if own is not None and self._own is not None and own != self._own:
            for known in (self._seen, self._proven, self._failed, self._asked):
                known.clear()
            self._last_type = ""
            for link in [one for one in self._exchange.links if not one.outbound]:
                link.hang_up()  # it leads to where we are no more; those we dialled come along
            self.on_move()
        self._own = own or self._own

    # the claims

    def claims(self) -> dict[Endpoint, bool]:
        """Return where others may reach us, the likeliest first, and whether that is believed.

        What a gateway maps is, and our own address unless peers see another one: then it has to be
        proven, and is a claim only if all of the Internet can have it. While no peer sees us, we
        are where we were found last.
        """
        own, outside, seen = self.own, self._outside(), self._seen_host()
        if own is None:
            return {}
        claims: dict[Endpoint, bool] = {}
        if outside is not None and outside.external_address and own[1] in outside.mappings:
            claims[outside.external_address, outside.mappings[own[1]]] = True
        if seen in (None, own[0]):
            claims.setdefault(own, True)
            claims = dict.fromkeys(self._proven if seen is None else (), False) | claims
        else:
            if is_global(own[0]):
                claims.setdefault(own, False)
            claims.setdefault((seen, own[1]), False)
        return {one: sure for one, sure in claims.items() if self._allow or is_global(one[0])}

    @property
    def own(self) -> Endpoint | None:
        """Our address on the network we are in; None where there is none."""
        host, port = self._exchange.endpoint
        if not ipaddress.ip_address(host).is_unspecified:
            return host, port
        found = _own_address(socket.AF_INET6 if ":" in host else socket.AF_INET)
        return None if found is None else (found, port)

    def _seen_host(self) -> str | None:
        """Return the address most peers see us under."""
        hosts = Counter(host for host, _ in self._seen.values())
        return hosts.most_common(1)[0][0] if hosts else None

    def _now(self) -> Reach:
        own, outside = self.own, self._outside()
        upnp = outside is not None and outside.supports_upnp
        standing = {one: sure for one, sure in self.claims().items() if not self._fell(one)}
        proven = [one for one in standing if one in self._proven]
        believed = [one for one, sure in standing.items() if sure]
        public = next(iter(proven + believed), None)
        if public is not None:
            return Reach("public", public, own, upnp, proven=bool(proven))
        waited = self._loop.time() >= self._patient_until or self._seen
        node_type = "private" if own is not None and waited else ""
        return Reach(node_type, None, own, upnp, self._nat_type())

    def _fell(self, claim: Endpoint) -> bool:
        return len(self._failed.get(claim, ())) >= DIAL_BACKS_FAILED

    def _nat_type(self) -> str:
        ports = {port for _, port in self._seen.values()}
        if len(self._seen) >= 2:
            self._last_type = "symmetric" if len(ports) > 1 else "cone"
        return self._last_type

    # dialling back

    def _on_open(self, link: Link) -> None:
        if link.seen_as is not None and len(self._seen) < SEEN_BY:
            self._seen[link.peer_id] = link.seen_as
            self._news.set()

    def _on_close(self, link: Link) -> None:
        if not any(one.peer_id == link.peer_id for one in self._exchange.links):
            self._seen.pop(link.peer_id, None)
        self._answered.pop(link.peer_id, None)

    def _ask_back(self) -> None:
        """Have one peer try the first claim that nobody has tried lately, one at a time."""
        now = self._loop.time()
        if self._is_asking:
            return
        for claim, is_believed in self.claims().items():
            if is_believed and now < self._prove_from:
                continue
            if self._proven.get(claim, -DIAL_BACK_INTERVAL) + DIAL_BACK_INTERVAL > now:
                continue
            link = self._whom_to_ask(claim, now)
            if link is not None:
                self._background(self._ask(link, claim))
                return

    def _whom_to_ask(self, claim: Endpoint, now: float) -> Link | None:
        """Return a peer we dialled, who sees us there, and was not asked lately."""
        for link in self._exchange.links:
            lately = self._asked.get((claim, link.peer_id), -DIAL_BACK_INTERVAL)
            sees = link.seen_as is not None and link.seen_as[0] == claim[0]
            if sees and now >= lately + DIAL_BACK_INTERVAL:
                return link
        return None

    async def _ask(self, link: Link, claim: Endpoint) -> None:
        if len(self._asked) >= SEEN_BY:
            self._asked.clear()
        self._asked[claim, link.peer_id] = self._loop.time()
        self._is_asking, own = True, self._own
        try:
            said = await link.request(
                lambda r: wire.Dial(r=r, port=claim[1]), wire.Dialled, within=2 * DIAL_DEADLINE
            )
        except DhtmetaError:
            return
        finally:
            self._is_asking = False
            self._news.set()
        if own != self._own:  # it was about an address that we have no more
            return
        if said.ok:
            current = self.claims()
            still = {one: at for one, at in self._proven.items() if one in current}
            self._proven = still | {claim: self._loop.time()}
            self._failed.pop(claim, None)
        else:
            self._failed_at(claim, link)

    def _failed_at(self, claim: Endpoint, link: Link) -> None:
        """Note who could not dial us there; what was proven holds until others could not, too."""
        tried = self._failed.setdefault(claim, set())
        tried.add(link.peer_id)
        witnesses = sum(host == claim[0] for host, _ in self._seen.values())
        if len(tried) >= min(witnesses, DIAL_BACKS_FAILED):
            self._proven.pop(claim, None)
        if len(self._failed) > SEEN_BY:
            self._failed.clear()

    def _on_dial(self, link: Link, dial: wire.Dial) -> None:
        now = self._loop.time()
        if now < self._answered.get(link.peer_id, -DIAL_BACK_EACH) + DIAL_BACK_EACH:
            return link.say(wire.Refused(r=dial.r, why=b"you were dialled just now"))
        if len(self._dialling_back) >= DIAL_BACKS_AT_ONCE:
            return link.say(wire.Refused(r=dial.r, why=b"many others are being dialled"))
        self._answered[link.peer_id] = now
        self._dialling_back.add(link)
        self._background(self._dial_back(link, dial))
        return None

    def _background(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _dial_back(self, link: Link, dial: wire.Dial) -> None:
        """Dial the address that a connection came from, and nothing else, so no third party."""
        ok = False
        try:
            back = await self._exchange.dial((link.remote[0], dial.port), elsewhere=True)
            ok = back.peer_id == link.peer_id
            back.hang_up()
        except DhtmetaError:
            pass
        finally:
            self._dialling_back.discard(link)
        link.say(wire.Dialled(r=dial.r, ok=int(ok)))

    async def close(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def described(
    base: NetworkInfo, reach: Reach, session: Session | None, relay_capacity: int
) -> NetworkInfo:
    """Return `base`, which the operator wrote, with what we found out where it does not say.

    `session` is ours at a relay; `relay_capacity` is 0 where we are none ourselves.
    """
    info = _with_exchange(base if base.node_type else _as_found(base, reach), reach)
    if info.node_type == "private" and not base.using_relay and session is not None:
        info = replace(
            info,
            using_relay=True,
            connected_relay=session.link.peer_id.hex(),
            relay_session_id=session.id.decode("ascii", "replace"),
            relay_address=session.address,
        )
    if info.node_type == "public" and relay_capacity and reach.public and not base.is_relay:
        info = replace(
            info,
            is_relay=True,
            relay_endpoint=format_endpoint(reach.public),
            relay_capacity=relay_capacity,
        )
    return info


def _as_found(base: NetworkInfo, reach: Reach) -> NetworkInfo:
    info = replace(
        base,
        node_type=reach.node_type,
        nat_type=base.nat_type or reach.nat_type,
        supports_upnp=base.supports_upnp or reach.supports_upnp,
    )
    if reach.public is not None:
        host, port = reach.public
        return replace(info, public_ip=base.public_ip or host, public_port=base.public_port or port)
    if reach.own is not None and not base.private_ip:
        return replace(info, private_ip=reach.own[0], private_port=reach.own[1])
    return info


def _with_exchange(info: NetworkInfo, reach: Reach) -> NetworkInfo:
    """Name our exchange's port where the public port is another one: it is of something else."""
    at = reach.public or reach.own
    named = any(one.name == EXCHANGE_PROTOCOL for one in info.protocols)
    if info.node_type != "public" or at is None or named or info.public_port in (None, at[1]):
        return info
    ours = Protocol(name=EXCHANGE_PROTOCOL, port=at[1])
    return replace(info, protocols=[*info.protocols, ours])


def _own_address(family: socket.AddressFamily) -> str | None:
    """Return the address that we would send from; nothing is sent."""
    beyond = "2001:db8::1" if family == socket.AF_INET6 else "198.51.100.1"  # documentation's own
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((beyond, 9))
            return str(probe.getsockname()[0])
    except OSError:  # there is no network, or no descriptor left
        return None
