"""The direct carrier: the core on a socket and a loop, with libtorrent as the node beside it.

libtorrent joins, keeps the routing table, announces and serves; here items are looked up and
stored, with deadlines, futures and a limit on how many at once.
"""

import asyncio
import contextlib
import ipaddress
import logging
import random
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any
from weakref import WeakValueDictionary

from cachetools import LRUCache

from dhtmeta.const import (
    CLOSEST,
    CONTACT_INTERVAL,
    DIRECT_COPIES,
    DIRECT_SEND_RATE,
    GREETED,
    HEARD_LATELY,
    LIVE_NODES_INTERVAL,
    LOCAL_ROUND_TRIP,
    MAX_MET,
    MAX_OPERATIONS,
    MAX_PER_HOST,
    OPERATIONS_AT_ONCE,
    PUBLIC_KEY_BYTES,
    READY_DEADLINE,
)
from dhtmeta.dht.carrier import (
    Carrier,
    Choose,
    GetOutcome,
    KeepOutcome,
    PutOutcome,
    Standing,
    TopUp,
)
from dhtmeta.dht.direct.core import Core, Ended, Found, Operation
from dhtmeta.dht.direct.put import SEQ_REFUSED, Put
from dhtmeta.dht.direct.search import Search
from dhtmeta.dht.direct.udp import Datagrams, Socket
from dhtmeta.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidKey,
    NetworkUnreachable,
    NotStored,
)
from dhtmeta.krpc.compact import Contact, Endpoint
from dhtmeta.values.item import SignedItem, check_salt, check_size, decode_value
from dhtmeta.values.keys import Identity

log = logging.getLogger(__name__)

_LOCAL: dict[str, Any] = {
    "round_trip": (LOCAL_ROUND_TRIP, LOCAL_ROUND_TRIP / 2),
    "limit_answers": False,
}
_MAINLINE: dict[str, Any] = {"sends_per_second": DIRECT_SEND_RATE, "per_host": MAX_PER_HOST}


class DirectCarrier:
    """Our own lookups and puts over `udp`, starting from the nodes that `node` knows.

    `contacts` are those that answered last time; `also_us` the ids of `node`, whose copies would
    end with us and are none. `local` is for swarms on loopback: any address
    may be asked, and nobody has to be spared. `copies` is how many nodes a put stores on.
    """

    signs_itself = False

    def __init__(
        self,
        node: Carrier,
        udp: Socket,
        *,
        contacts: Sequence[Contact] = (),
        node_id: bytes | None = None,
        also_us: Sequence[bytes] = (),
        local: bool = False,
        copies: int = DIRECT_COPIES,
        seed: int | None = None,
    ) -> None:
        """Take, for tests, a seed that makes every id repeatable. Made where a loop runs."""
        self._loop = asyncio.get_running_loop()  # to ask for it costs a system call each time
        self._now = self._loop.time
        self.node = node
        self._udp = udp
        self._saved = list(contacts)
        self._node_id = node_id
        self._also_us = also_us
        self._local = local
        self._copies = copies
        # a seed is for tests, whose ids nobody guesses
        self._random = secrets.SystemRandom() if seed is None else random.Random(seed)  # noqa: S311
        self._core: Core | None = None
        self._futures: dict[Operation, asyncio.Future[None]] = {}
        self._listeners: dict[Search, Callable[[SignedItem], None]] = {}
        self._timer: asyncio.Handle | None = None
        self._timer_due = 0.0  # uvloop's handles do not tell where it is due already
        self._turn: asyncio.Handle | None = None
        self._slots = asyncio.Semaphore(OPERATIONS_AT_ONCE)
        self._wanted = 0
        self._writers: WeakValueDictionary[tuple[bytes, bytes], asyncio.Lock] = (
            WeakValueDictionary()
        )
        self._met: LRUCache[str, bool] = LRUCache(MAX_MET)  # hosts that nodes were added of
        self._asked_node = float("-inf")
        self._joining: asyncio.Task[None] | None = None
        self._heard = asyncio.Event()

    @property
    def core(self) -> Core:
        """The core; NetworkUnreachable before the start and after the end."""
        if self._core is None:
            raise NetworkUnreachable("this node is closed")
        return self._core

    @property
    def endpoint(self) -> Endpoint:
        """Where our socket is bound."""
        return self._udp.endpoint

    async def start(self) -> None:
        """Bind the port; PortError if it cannot be had."""
        self._udp.open(self._on_datagrams)
        v6 = ":" in self._udp.endpoint[0]
        self._core = Core(
            self._random,
            node_id=self._node_id,
            also_us=self._also_us,
            may_ask=lambda endpoint: (
                _may_ask(endpoint[0], v6, self._local)
                or (endpoint[0] in self._met and _may_ask(endpoint[0], v6, local=True))
            ),
            **(_LOCAL if self._local else _MAINLINE),
        )
        for contact in self._saved:
            self._core.note_alive(contact)

    async def ready(self, deadline: float = READY_DEADLINE) -> None:
        """See `Carrier.ready`: remembered is not ready, somebody has to have answered lately.

        One joining goes on for all who wait, and beyond their deadlines: an offline start heals.
        """
        if not self._heard_lately():
            if self._joining is None or self._joining.done():
                self._joining = self._loop.create_task(self._join())
            await asyncio.wait([self._joining], timeout=deadline)
            if not self._heard_lately():
                raise self.node.unreachable(deadline)
        if self._now() >= self._asked_node + LIVE_NODES_INTERVAL:
            await self._ask_node()

    def unreachable(self, deadline: float) -> NetworkUnreachable:
        """See `Carrier.unreachable`."""
        return self.node.unreachable(deadline)

    def _heard_lately(self) -> bool:
        return self._now() < self.core.heard_at + HEARD_LATELY and len(self.core.contacts) > 0

    async def _ask_node(self) -> None:
        """Take over whom libtorrent knows."""
        self._asked_node = self._now()
        for contact in await self.node.live_nodes():
            self.core.note_alive(contact)

    async def _join(self) -> None:
        """Return once somebody answered: whom we remember, else whom libtorrent found."""
        while not self._heard_lately():
            if not len(self.core.contacts):
                with contextlib.suppress(NetworkUnreachable):
                    await self.node.ready(CONTACT_INTERVAL)
                await self._ask_node()
            self.core.greet(self.core.contacts.latest(GREETED))
            self._heard.clear()
            self._soon()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CONTACT_INTERVAL):
                    await self._heard.wait()
                continue
            await self._ask_node()

    # the loop's side of the core

    def _on_datagrams(self, datagrams: Datagrams) -> None:
        core = self._core
        if core is None:
            return
        now = self._now()
        for data, source in datagrams:
            core.receive_datagram(data, source, now)
        if core.heard_at == now:
            self._heard.set()
        self._drain()

    def _drain(self) -> None:
        """Send what is to be sent, tell what happened, and set the timer."""
        self._turn = None
        core = self._core
        if core is None:
            return
        loop = self._loop
        if datagrams := core.datagrams_to_send(loop.time()):
            self._udp.send(datagrams)
        while (event := core.next_event()) is not None:
            if isinstance(event, Found):
                self._tell(event)
            else:
                self._settle(event)
        self._set_timer(core.next_timer())

    def _tell(self, event: Found) -> None:
        listener = self._listeners.get(event.search)
        try:
            if listener is not None:
                listener(event.item)
        except Exception:  # a bug of ours in one must not stop all others
            log.exception("an item that was found could not be handed over")

    def _settle(self, event: Ended) -> None:
        future = self._futures.pop(event.operation, None)
        if future is not None and not future.done():
            future.set_result(None)

    def _set_timer(self, due: float | None) -> None:
        """Keep one timer; an earlier one than needed fires for nothing, which is cheaper."""
        if due is None or (self._timer is not None and self._timer_due <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_due = self._loop.call_at(due, self._on_timer), due

    def _on_timer(self) -> None:
        self._timer = None
        if self._core is not None:
            self._core.handle_timer(self._now())
            self._drain()

    def _soon(self) -> None:
        """Drain once for all that is begun in this turn of the loop."""
        if self._turn is None:
            self._turn = self._loop.call_soon(self._drain)

    async def _finish(self, operation: Operation, end: float) -> None:
        """Wait for the end of an operation, and cut it short at loop time `end`."""
        loop = self._loop
        future = self._futures[operation] = loop.create_future()
        self._soon()
        cut = loop.call_at(end, self._cut, operation)
        try:
            await future
        except asyncio.CancelledError:
            self._cut(operation)
            raise
        finally:
            cut.cancel()
            self._futures.pop(operation, None)
        if self._core is None:
            raise NetworkUnreachable("this node is closed")

    def _cut(self, operation: Operation) -> None:
        if self._core is not None:
            self._core.cancel(operation)
            self._soon()

    # gets and puts

    async def get(
        self,
        public_key: bytes,
        salt: bytes,
        on_item: Callable[[SignedItem], None],
        deadline: float,
        *,
        enough: int | None = None,
    ) -> GetOutcome:
        """See `Carrier.get`."""
        _check(public_key, salt)
        end = self._now() + deadline
        await self.ready(min(deadline, READY_DEADLINE))
        async with _Slot(self, end):
            search = await self._search(public_key, salt, end, on_item, enough=enough)
        return search.outcome

    async def _search(
        self,
        public_key: bytes,
        salt: bytes,
        end: float,
        on_item: Callable[[SignedItem], None],
        closest: int = CLOSEST,
        enough: int | None = None,
        known: SignedItem | None = None,
    ) -> Search:
        """Run one search to its end; NetworkUnreachable if nobody answered at all.

        Where those remembered are all gone, libtorrent's nodes are asked before that is said.
        """
        now = self._now
        for _ in range(2):
            search = self.core.look_up(
                public_key, salt, now(), closest=closest, enough=enough, known=known
            )
            self._listeners[search] = on_item
            try:
                await self._finish(search, end)
            finally:
                del self._listeners[search]
            if search.outcome.answered or self._now() >= end:
                return search
            self.core.heard_at = float("-inf")
            await self.ready(min(READY_DEADLINE, max(0.0, end - now())))
        raise self.node.unreachable(READY_DEADLINE)

    async def put(self, identity: Identity, v: bytes, salt: bytes, deadline: float) -> PutOutcome:
        """See `Carrier.put`."""
        check_salt(salt)
        check_size(v)
        decode_value(v)

        async def choose(newest: SignedItem | None) -> SignedItem:
            seq = 1 if newest is None else newest.seq + 1
            return SignedItem.sign(identity, v, seq, salt)

        return await self.put_item(identity.public_key, salt, choose, deadline)

    async def put_item(
        self,
        public_key: bytes,
        salt: bytes,
        choose: Choose,
        deadline: float,
        *,
        cas: int | None = None,
    ) -> PutOutcome:
        """See `Carrier.put_item`: one lookup of the `copies` closest, then the put to them.

        Puts of one key are made one after the other, so that each sees the one before.
        """
        _check(public_key, salt)
        end = self._now() + deadline
        await self.ready(min(deadline, READY_DEADLINE))
        writer = self._writers.setdefault((public_key, salt), asyncio.Lock())
        async with _before(writer, end), _Slot(self, end):
            search = await self._search(public_key, salt, end, _ignore, self._copies)
            if not search.converged:
                raise DeadlineExceeded(f"the look before the put took more than {deadline:g} s")
            item = await choose(search.best)
            put = self.core.store(search, item, copies=self._copies, cas=cas)
            await self._finish(put, end)
        return _judged(put, deadline)

    async def keep(self, item: SignedItem, top_up: TopUp, deadline: float) -> KeepOutcome:
        """See `Carrier.keep`: one lookup of the closest, then puts to those that lack it."""
        end = self._now() + deadline
        await self.ready(min(deadline, READY_DEADLINE))
        key, salt = item.public_key, item.salt
        writer = self._writers.setdefault((key, salt), asyncio.Lock())
        async with _before(writer, end), _Slot(self, end):
            search = await self._search(key, salt, end, _ignore, known=item)
            if not search.converged:
                raise DeadlineExceeded(f"the look did not converge within {deadline:g} s")
            standing = _standing(search, item)
            copies = 0 if standing.newer else top_up(standing)
            puts = self.core.top_up(search, item, copies)
            await self._finish(puts, end)
        return KeepOutcome(
            standing,
            tuple(one.contact.node_id for one in puts.stored),
            tuple(puts.rejected),
            puts.silent,
            search.sent + puts.sent,
        )

    # the node

    async def announce(self, info_hash: bytes, port: int) -> None:
        """See `Carrier.announce`."""
        await self.node.announce(info_hash, port)

    async def get_peers(
        self,
        info_hash: bytes,
        wait: float,
        on_peer: Callable[[Endpoint], None] | None = None,
    ) -> list[Endpoint]:
        """See `Carrier.get_peers`."""
        return await self.node.get_peers(info_hash, wait, on_peer)

    async def live_nodes(self) -> list[Contact]:
        """See `Carrier.live_nodes`."""
        return await self.node.live_nodes()

    def add_nodes(self, endpoints: Sequence[Endpoint]) -> None:
        """See `Carrier.add_nodes`: libtorrent's table hears of them, and so do we.

        They may be on our own network: whoever adds them has met them there.
        """
        self._met.update((host, True) for host, _ in endpoints)
        self.node.add_nodes(endpoints)
        self.core.greet(endpoints)
        self._soon()

    async def silent_contacts(self, grace: float) -> list[str]:
        """See `Carrier.silent_contacts`."""
        return await self.node.silent_contacts(grace)

    def saved_state(self) -> bytes:
        """See `Carrier.saved_state`."""
        return self.node.saved_state()

    def contacts(self) -> list[Contact]:
        """Return the nodes that answered, to be given to the next start."""
        return [] if self._core is None else list(self._core.contacts)

    async def close(self) -> None:
        """See `Carrier.close`."""
        self._core = None
        if self._joining is not None:
            self._joining.cancel()
        if self._timer is not None:
            self._timer.cancel()
        for future in self._futures.values():
            if not future.done():
                future.set_result(None)
        self._udp.close()
        await self.node.close()


@asynccontextmanager
async def _before(lock: asyncio.Lock, end: float) -> AsyncIterator[None]:
    """Hold a lock; DeadlineExceeded if others have it until loop time `end`."""
    try:
        async with asyncio.timeout_at(end):
            await lock.acquire()
    except TimeoutError:
        raise DeadlineExceeded("other puts took all the time; nothing was sent") from None
    try:
        yield
    finally:
        lock.release()


class _Slot:
    """One of the operations at once; the others wait their turn, to their deadline."""

    def __init__(self, carrier: DirectCarrier, end: float) -> None:
        self._carrier = carrier
        self._end = end

    async def __aenter__(self) -> None:
        carrier = self._carrier
        if carrier._wanted >= MAX_OPERATIONS:
            raise DeadlineExceeded(f"{MAX_OPERATIONS} lookups are waiting already; ask again later")
        carrier._wanted += 1
        try:
            if carrier._slots.locked():
                async with asyncio.timeout_at(self._end):
                    await carrier._slots.acquire()
            else:
                await carrier._slots.acquire()  # at once
        except TimeoutError:
            carrier._wanted -= 1
            raise DeadlineExceeded("other lookups took all the time; nothing was sent") from None
        except BaseException:
            carrier._wanted -= 1
            raise

    async def __aexit__(self, *error: object) -> None:
        self._carrier._wanted -= 1
        self._carrier._slots.release()


def _standing(search: Search, item: SignedItem) -> Standing:
    newer = search.best if search.best is not None and search.best.seq > item.seq else None
    return Standing(
        tuple(one.contact.node_id for one in search.holding(item)),
        tuple(one.contact.node_id for one in search.lacking(item)),
        newer,
        search.outcome.conflicts,
    )


def _judged(put: Put, deadline: float) -> PutOutcome:
    """Return the outcome of a put, or raise what it means."""
    outcome, other = put.outcome, put.other
    if not put.finished and other is None:
        raise DeadlineExceeded(
            f"the put was not read back within {deadline:g} s; {outcome.accepted} nodes took it"
        )
    if other is not None:
        what = "a newer item" if other.seq > put.item.seq else "another value under the same seq"
        raise Conflict(
            f"the network holds {what} (seq {other.seq}); {outcome.accepted} nodes took "
            f"seq {put.item.seq} all the same",
            put.item.seq,
            other.seq,
            outcome,
        )
    if not outcome.accepted:
        seqs = [one.seq for one in outcome.rejected if one.code in SEQ_REFUSED]
        if seqs:
            shown = max((seq for seq in seqs if seq is not None), default=None)
            raise Conflict(
                f"no node took seq {put.item.seq}: they hold another seq than was expected",
                put.item.seq,
                shown,
                outcome,
            )
        codes = ", ".join(sorted({str(one.code) for one in outcome.rejected})) or "no answer"
        raise NotStored(f"no node accepted the item ({codes})")
    if not outcome.copies:
        raise NotStored(f"{outcome.accepted} nodes said they took the item, but none shows it")
    return outcome


def _check(public_key: bytes, salt: bytes) -> None:
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise InvalidKey(f"a public key is {PUBLIC_KEY_BYTES} bytes, got {len(public_key)}")
    check_salt(salt)


def _ignore(item: SignedItem) -> None:
    """Take an item that nobody waits for."""


@lru_cache(maxsize=65_536)
def _may_ask(host: str, v6: bool, local: bool) -> bool:
    """Whether a node there may be asked: of our address family, and on mainline a global one.

    Else a liar could have us send datagrams into our own network.
    """
    if (":" in host) != v6:
        return False
    address = ipaddress.ip_address(host)
    return local or (address.is_global and not address.is_multicast)
