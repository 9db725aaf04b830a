"""The libtorrent carrier: gets and puts of mutable items, peers, and one future for each.

libtorrent chooses the seq of a put (found + 1) and its alerts carry no request id, so there is
one lookup and one writer at a time for each (public key, salt). Everything that comes back is
verified again, over a canonical encoding of what the binding hands over: what does not encode
to the bytes that were signed is refused.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

import libtorrent as lt

from dhtmeta._fast import ed25519
from dhtmeta.const import (
    JOIN_WITHIN,
    LOOKUP_LOST,
    LOOKUP_WINDOW,
    MAX_LOOKUPS,
    MAX_PEERS,
    NODE_ID_BYTES,
    PUBLIC_KEY_BYTES,
    READY_DEADLINE,
)
from dhtmeta.dht.carrier import Choose, GetOutcome, KeepOutcome, PutOutcome, TopUp
from dhtmeta.dht.mapping import Outside
from dhtmeta.dht.session import Session
from dhtmeta.errors import (
    CallerError,
    DeadlineExceeded,
    InvalidItem,
    InvalidKey,
    InvalidValue,
    NetworkUnreachable,
    NotStored,
)
from dhtmeta.krpc.compact import Contact, Endpoint
from dhtmeta.values.item import (
    SignedItem,
    better,
    check_salt,
    check_size,
    decode_value,
    encode_value,
)
from dhtmeta.values.keys import Identity

Key = tuple[bytes, bytes]  # (public key, salt)


class _Lookup:
    """The lookup of one key, shared by all who ask; it lasts as long as libtorrent's own."""

    __slots__ = (
        *(
            "asked",
            "best",
            "conflicts",
            "done",
            "key",
            "listeners",
            "lost",
            "pending",
            "refused",
            "target",
        ),
    )

    def __init__(self, key: Key, loop: asyncio.AbstractEventLoop) -> None:
        self.key = key
        self.target = ed25519.target(*key)
        self.listeners: list[Callable[[SignedItem], None]] = []
        self.best: SignedItem | None = None
        self.refused = 0
        self.conflicts = 0
        self.asked = 0.0  # loop time of the newest get
        self.pending = 0  # gets that libtorrent has not ended yet
        self.lost: asyncio.TimerHandle | None = None
        self.done: asyncio.Future[None] = loop.create_future()

    def offer(self, seq: int, value: Any, sig: bytes) -> None:
        """Verify what an alert handed over, and pass it on if it is better than what was held."""
        try:
            v = encode_value(value)
            if (held := self.best) and (held.sig, held.seq, held.v) == (sig, seq, v):
                return  # the same signed bytes are not verified twice
            item = SignedItem.verified(self.target, *self.key, seq, v, sig)
        except (InvalidItem, InvalidValue):
            # "not found" is an empty string with seq 0 and any signature: so can a real item be
            self.refused += (seq, value) != (0, b"")
            return
        if self.best is not None and item.seq == self.best.seq and item.v != self.best.v:
            self.conflicts += 1
        if better(self.best, item):
            self.best = item
            for listener in self.listeners:
                listener(item)

    def outcome(self) -> GetOutcome:
        return GetOutcome(self.best, self.done.done(), self.refused, self.conflicts)


class _Put:
    """One put of the raw value `v` under (public key, salt)."""

    __slots__ = ("done", "key", "started", "v")

    def __init__(self, key: Key, v: bytes, loop: asyncio.AbstractEventLoop) -> None:
        self.key = key
        self.v = v
        self.started = False  # once libtorrent has it, nobody can call it back
        self.done: asyncio.Future[PutOutcome] = loop.create_future()

    def offer(self, accepted: int, seq: int, sig: bytes) -> None:
        """Take the outcome that an alert brings, if its signature is of our value."""
        try:
            item = SignedItem.verified(ed25519.target(*self.key), *self.key, seq, self.v, sig)
        except InvalidItem:
            return
        if not self.done.done():
            self.done.set_result(PutOutcome(item, accepted))


class _PeerAsker:
    """One who asks for the peers of an infohash, and what was found for it."""

    def __init__(self, on_peer: Callable[[Endpoint], None] | None) -> None:
        self.found: set[Endpoint] = set()
        self._on_peer = on_peer

    def offer(self, peers: Sequence[Endpoint]) -> None:
        """Take what one node answered, MAX_PEERS of all of it at most."""
        for peer in peers:
            if len(self.found) >= MAX_PEERS:
                return
            if peer not in self.found:
                self.found.add(peer)
                if self._on_peer is not None:
                    self._on_peer(peer)


class LibtorrentCarrier:
    """A libtorrent DHT node that gets, and puts what it signs itself. Start it before use."""

    signs_itself = True

    def __init__(
        self,
        bootstrap: Sequence[str] = (),
        listen: str | None = None,
        *,
        serve: bool = True,
        saved_state: bytes = b"",
        window: int = LOOKUP_WINDOW,
    ) -> None:
        """Take the arguments of `Session`, and how many lookups may be in flight at once."""
        self.session = Session(bootstrap, listen, serve=serve, saved_state=saved_state)
        self._window = window
        self._lookups: dict[Key, _Lookup] = {}
        self._waiting: deque[_Lookup] = deque()
        self._running = 0
        self._puts: dict[Key, _Put] = {}
        self._writers: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()
        self._put_slots = asyncio.Semaphore(window)
        self._peers: dict[bytes, list[_PeerAsker]] = {}
        self._joining: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[PutOutcome]] = set()
        self._closed = False
        self.session.on(lt.dht_mutable_item_alert, self._on_item)
        self.session.on(lt.dht_put_alert, self._on_put)
        self.session.on(lt.dht_get_peers_reply_alert, self._on_peers)

    async def start(self) -> None:
        """Bind the port; PortError if it is taken."""
        await self.session.start()

    async def ready(self, deadline: float = READY_DEADLINE) -> None:
        """Return once a node answered; NetworkUnreachable names those that did not.

        One joining goes on for all who wait, and beyond their deadlines: an offline start heals.
        """
        self._refuse_closed()
        joining = self._joining
        if joining is None:
            joining = self._joining = asyncio.create_task(self.session.join())
        if not joining.done():
            await asyncio.wait([joining], timeout=deadline)
            self._refuse_closed()
        if not joining.done():
            raise self.session.unreachable(deadline)
        joining.result()

    def unreachable(self, deadline: float) -> NetworkUnreachable:
        """See `Carrier.unreachable`."""
        return self.session.unreachable(deadline)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise NetworkUnreachable("this node is closed")

    async def _refuse_empty_table(self) -> None:
        """Raise NetworkUnreachable if no node is left: libtorrent says "not found" then, too."""
        self._refuse_closed()
        if not await self.session.live_nodes():
            if self._joining is not None and self._joining.done():
                self._joining = None
            raise NetworkUnreachable("no DHT node answers any more")

    # gets

    async def get(
        self,
        public_key: bytes,
        salt: bytes,
        on_item: Callable[[SignedItem], None],
        deadline: float,
        *,
        enough: int | None = None,
    ) -> GetOutcome:
        """See `Carrier.get`. Who asks for a running key joins its lookup, with its own deadline.

        The lookup itself goes on after `enough`: libtorrent does not let one be called back.
        """
        _check_key(public_key)
        check_salt(salt)
        end = asyncio.get_running_loop().time() + deadline
        await self.ready(min(deadline, READY_DEADLINE))
        lookup = self._lookups.get((public_key, salt)) or self._enqueue((public_key, salt))
        if lookup.pending and asyncio.get_running_loop().time() > lookup.asked + JOIN_WITHIN:
            self._ask(lookup)  # what was put meanwhile may be where it has already passed
        await self._listen(lookup, on_item, end, enough)
        if lookup.best is None and lookup.done.done():
            await self._refuse_empty_table()
        return lookup.outcome()

    async def _listen(
        self,
        lookup: _Lookup,
        on_item: Callable[[SignedItem], None],
        end: float,
        enough: int | None,
    ) -> None:
        """Pass on what is found until it is enough, the lookup ends, or loop time `end` comes."""
        found: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def listener(item: SignedItem) -> None:
            on_item(item)
            if enough is not None and item.seq >= enough and not found.done():
                found.set_result(None)

        lookup.listeners.append(listener)
        try:
            if lookup.best is not None:
                listener(lookup.best)
            left = max(0.0, end - asyncio.get_running_loop().time())
            ends: list[asyncio.Future[None]] = [lookup.done, found]
            await asyncio.wait(ends, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            lookup.listeners.remove(listener)

    def _enqueue(self, key: Key) -> _Lookup:
        if len(self._lookups) >= MAX_LOOKUPS:
            raise DeadlineExceeded(f"{MAX_LOOKUPS} lookups are waiting already; ask again later")
        lookup = self._lookups[key] = _Lookup(key, asyncio.get_running_loop())
        self._waiting.append(lookup)
        asyncio.get_running_loop().call_soon(self._fill_window)
        return lookup

    def _fill_window(self) -> None:
        while self._waiting and self._running < self._window and not self._closed:
            lookup = self._waiting.popleft()
            if lookup.listeners:
                self._running += 1
                self._ask(lookup)
            else:
                self._end(lookup)  # whoever asked has given up before its turn came

    def _ask(self, lookup: _Lookup) -> None:
        lookup.pending += 1
        lookup.asked = asyncio.get_running_loop().time()
        self.session.handle.dht_get_mutable_item(*lookup.key)
        if lookup.lost is None:
            loop = asyncio.get_running_loop()
            lookup.lost = loop.call_later(LOOKUP_LOST, self._free_slot, lookup)

    def _free_slot(self, lookup: _Lookup) -> None:
        """End a lookup that libtorrent ended, or whose alert must have been lost."""
        self._running -= 1
        self._end(lookup)
        self._fill_window()

    def _end(self, lookup: _Lookup) -> None:
        self._lookups.pop(lookup.key, None)
        if lookup.lost is not None:
            lookup.lost.cancel()
        if not lookup.done.done():
            lookup.done.set_result(None)

    def _on_item(self, alert: Any) -> None:
        lookup = self._lookups.get((alert.key, alert.salt))
        if lookup is None:
            return
        lookup.offer(alert.seq, alert.item, alert.signature)
        if alert.authoritative:
            lookup.pending -= 1
            if lookup.pending == 0:
                self._free_slot(lookup)

    # puts

    async def put(self, identity: Identity, v: bytes, salt: bytes, deadline: float) -> PutOutcome:
        """See `Carrier.put`. Input is checked first: to libtorrent all bad input looks alike.

        What libtorrent has begun goes on after the deadline; the next put of that key waits.
        """
        check_salt(salt)
        check_size(v)
        value = decode_value(v)
        if not isinstance(value, bytes):
            raise InvalidValue("the libtorrent carrier can only put byte strings")
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline
        await self.ready(min(deadline, READY_DEADLINE))
        put = _Put((identity.public_key, salt), v, loop)
        task = loop.create_task(self._put(identity, value, put))
        self._tasks.add(task)
        task.add_done_callback(self._forget_task)
        return await self._settled(task, put, end, deadline)

    async def put_item(
        self,
        public_key: bytes,
        salt: bytes,
        choose: Choose,
        deadline: float,
        *,
        cas: int | None = None,
    ) -> PutOutcome:
        """See `Carrier.put_item`: libtorrent's binding has no way to do it."""
        raise CallerError(
            "libtorrent signs what it puts and chooses the seq: signed items, --seq and --cas "
            "need --carrier direct"
        )

    async def keep(self, item: SignedItem, top_up: TopUp, deadline: float) -> KeepOutcome:
        """See `Carrier.keep`: libtorrent's binding has no way to do it."""
        raise CallerError("libtorrent signs what it puts: keep-alive needs --carrier direct")

    async def _settled(
        self, task: "asyncio.Task[PutOutcome]", put: _Put, end: float, deadline: float
    ) -> PutOutcome:
        try:
            left = max(0.0, end - asyncio.get_running_loop().time())
            await asyncio.wait([task], timeout=left)
        finally:
            if not put.started:
                task.cancel()
        self._refuse_closed()
        if not task.done():
            raise DeadlineExceeded(
                f"the put did not finish within {deadline:g} s; it may have reached some nodes"
                if put.started
                else f"other puts took all of {deadline:g} s; nothing was sent"
            )
        return task.result()

    def _forget_task(self, task: "asyncio.Task[PutOutcome]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked may have gone

    async def _put(self, identity: Identity, value: bytes, put: _Put) -> PutOutcome:
        async with self._writers.setdefault(put.key, asyncio.Lock()), self._put_slots:
            put.started = True
            self._puts[put.key] = put
            try:
                public_key, salt = put.key
                secret = identity.expanded()
                self.session.handle.dht_put_mutable_item(secret, public_key, value, salt)
                async with asyncio.timeout(LOOKUP_LOST):
                    outcome = await put.done
            except TimeoutError as error:
                raise DeadlineExceeded("libtorrent never said how the put ended") from error
            finally:
                del self._puts[put.key]
        if outcome.accepted == 0:
            await self._refuse_empty_table()
            raise NotStored("no node accepted the item")
        return outcome

    def _on_put(self, alert: Any) -> None:
        key = (alert.public_key, alert.salt)
        put, lookup = self._puts.get(key), self._lookups.get(key)
        if put is not None:
            put.offer(alert.num_success, alert.seq, alert.signature)
        if lookup is not None and lookup.pending:
            self._ask(lookup)  # it may have passed the nodes before the put reached them

    # peers

    async def announce(self, info_hash: bytes, port: int) -> None:
        """See `Carrier.announce`."""
        _check_info_hash(info_hash)
        if not 1 <= port <= 65535:
            raise CallerError(f"a port is 1 … 65535, got {port}")
        await self.ready()
        self.session.handle.dht_announce(lt.sha1_hash(info_hash), port, 0)

    async def get_peers(
        self,
        info_hash: bytes,
        wait: float,
        on_peer: Callable[[Endpoint], None] | None = None,
    ) -> list[Endpoint]:
        """See `Carrier.get_peers`: one alert a node, and none that says it ended."""
        _check_info_hash(info_hash)
        await self.ready()
        asker = _PeerAsker(on_peer)
        askers = self._peers.setdefault(info_hash, [])
        askers.append(asker)
        self.session.handle.dht_get_peers(lt.sha1_hash(info_hash))
        try:
            await asyncio.sleep(wait)
        finally:
            askers.remove(asker)
            if not askers:
                self._peers.pop(info_hash, None)
        return sorted(asker.found)

    def _on_peers(self, alert: Any) -> None:
        peers = list(alert.peers())
        for asker in self._peers.get(alert.info_hash.to_bytes(), ()):
            asker.offer(peers)

    # the node

    @property
    def outside(self) -> Outside:
        """Which ports gateways map to ours, and under which address we are seen."""
        return self.session.outside

    async def live_nodes(self) -> list[Contact]:
        """See `Carrier.live_nodes`."""
        return await self.session.live_nodes()

    def add_nodes(self, endpoints: Sequence[Endpoint]) -> None:
        """See `Carrier.add_nodes`."""
        self.session.add_nodes(endpoints)

    async def silent_contacts(self, grace: float) -> list[str]:
        """See `Carrier.silent_contacts`."""
        return await self.session.silent_contacts(grace)

    def saved_state(self) -> bytes:
        """See `Carrier.saved_state`."""
        return self.session.saved_state()

    async def close(self) -> None:
        """See `Carrier.close`."""
        self._closed = True
        self._waiting.clear()
        for lookup in list(self._lookups.values()):
            self._end(lookup)
        tasks: list[asyncio.Task[Any]] = [*self._tasks]
        tasks += [self._joining] if self._joining else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.session.close()


def _check_info_hash(info_hash: bytes) -> None:
    if len(info_hash) != NODE_ID_BYTES:
        raise InvalidKey(f"an infohash is {NODE_ID_BYTES} bytes, got {len(info_hash)}")


def _check_key(public_key: bytes) -> None:
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise InvalidKey(f"a public key is {PUBLIC_KEY_BYTES} bytes, got {len(public_key)}")
