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
    LOOKUP_WINDOW,
    MAX_LOOKUPS,
    MAX_PEERS,
    PUBLIC_KEY_BYTES,
    READY_DEADLINE,
)
from dhtmeta.dht.address import Endpoint
from dhtmeta.dht.carrier import Contact, GetOutcome, PutOutcome
from dhtmeta.dht.session import Session
from dhtmeta.errors import (
    DeadlineExceeded,
    InvalidItem,
    InvalidKey,
    InvalidValue,
    NetworkUnreachable,
    NotStored,
)
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
    """One running or waiting get, shared by all who asked for its key."""

    __slots__ = ("best", "conflicts", "done", "key", "listeners", "refused", "target", "timer")

    def __init__(self, key: Key, loop: asyncio.AbstractEventLoop) -> None:
        self.key = key
        self.target = ed25519.target(*key)
        self.listeners: list[Callable[[SignedItem], None]] = []
        self.best: SignedItem | None = None
        self.refused = 0
        self.conflicts = 0
        self.done: asyncio.Future[bool | None] = loop.create_future()  # converged? None: closed
        self.timer: asyncio.TimerHandle | None = None

    def add(self, listener: Callable[[SignedItem], None]) -> None:
        self.listeners.append(listener)
        if self.best is not None:
            listener(self.best)

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

    def outcome(self, converged: bool) -> GetOutcome:
        return GetOutcome(self.best, converged, self.refused, self.conflicts)


class _Put:
    """One running put of the raw value `v` under (public key, salt)."""

    __slots__ = ("done", "key", "v")

    def __init__(self, key: Key, v: bytes, loop: asyncio.AbstractEventLoop) -> None:
        self.key = key
        self.v = v
        self.done: asyncio.Future[PutOutcome] = loop.create_future()

    def offer(self, accepted: int, seq: int, sig: bytes) -> None:
        """Take an alert's outcome, unless it is that of an earlier put that was given up."""
        try:
            item = SignedItem.verified(ed25519.target(*self.key), *self.key, seq, self.v, sig)
        except InvalidItem:
            return
        if not self.done.done():
            self.done.set_result(PutOutcome(item, accepted))


class LibtorrentCarrier:
    """A libtorrent DHT node that gets, and puts what it signs itself. Start it before use."""

    strings_only = True

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
        self._peers: dict[bytes, set[Endpoint]] = {}
        self._joined = False
        self._joining = asyncio.Lock()
        self._closed = False
        self.session.on(lt.dht_mutable_item_alert, self._on_item)
        self.session.on(lt.dht_put_alert, self._on_put)
        self.session.on(lt.dht_get_peers_reply_alert, self._on_peers)

    async def start(self) -> None:
        """Bind the port; PortError if it is taken."""
        await self.session.start()

    async def ready(self, deadline: float = READY_DEADLINE) -> None:
        """Return once a node answered; NetworkUnreachable names those that did not."""
        if self._joined:
            return
        async with self._joining:
            if not self._joined:
                await self.session.ready(deadline)
                self._joined = True

    # gets

    async def get(
        self,
        public_key: bytes,
        salt: bytes,
        on_item: Callable[[SignedItem], None],
        deadline: float,
    ) -> GetOutcome:
        """See `Carrier.get`. Later askers for a running key join its lookup and its deadline."""
        _check_key(public_key)
        check_salt(salt)
        end = asyncio.get_running_loop().time() + deadline
        await self.ready(min(deadline, READY_DEADLINE))
        key = (public_key, salt)
        lookup = self._lookups.get(key) or self._enqueue(key, end)
        lookup.add(on_item)
        converged = await asyncio.shield(lookup.done)
        if converged is None:
            raise NetworkUnreachable("this node was closed")
        if lookup.best is None:
            await self._refuse_empty_table()
        return lookup.outcome(converged)

    async def _refuse_empty_table(self) -> None:
        """Raise NetworkUnreachable if no node is left: libtorrent says "not found" then, too."""
        if not await self.session.live_nodes():
            self._joined = False
            raise NetworkUnreachable("no DHT node answers any more")

    def _enqueue(self, key: Key, end: float) -> _Lookup:
        """Start a lookup, or have it wait for a place in the window; it ends at loop time `end`."""
        if len(self._lookups) >= MAX_LOOKUPS:
            raise DeadlineExceeded(f"{MAX_LOOKUPS} lookups are waiting already; ask again later")
        loop = asyncio.get_running_loop()
        lookup = self._lookups[key] = _Lookup(key, loop)
        lookup.timer = loop.call_at(end, self._finish, lookup, False)
        self._waiting.append(lookup)
        self._fill_window()
        return lookup

    def _fill_window(self) -> None:
        while self._waiting and self._running < self._window:
            lookup = self._waiting.popleft()
            if not lookup.done.done():
                self._running += 1
                lookup.done.add_done_callback(self._free_slot)
                self.session.handle.dht_get_mutable_item(*lookup.key)

    def _free_slot(self, _: object) -> None:
        self._running -= 1
        if not self._closed:
            self._fill_window()

    def _finish(self, lookup: _Lookup, converged: bool | None) -> None:
        if self._lookups.get(lookup.key) is lookup:
            del self._lookups[lookup.key]
        if lookup.timer is not None:
            lookup.timer.cancel()
        if not lookup.done.done():
            lookup.done.set_result(converged)

    def _on_item(self, alert: Any) -> None:
        lookup = self._lookups.get((alert.key, alert.salt))
        if lookup is None:
            return
        lookup.offer(alert.seq, alert.item, alert.signature)
        if alert.authoritative:
            self._finish(lookup, True)

    # puts

    async def put(self, identity: Identity, v: bytes, salt: bytes, deadline: float) -> PutOutcome:
        """See `Carrier.put`. Input is checked first: to libtorrent all bad input looks alike."""
        check_salt(salt)
        check_size(v)
        value = decode_value(v)
        if not isinstance(value, bytes):
            raise InvalidValue("the libtorrent carrier can only put byte strings")
        key = (identity.public_key, salt)
        writer = self._writers.setdefault(key, asyncio.Lock())
        await self.ready(min(deadline, READY_DEADLINE))
        try:
            async with asyncio.timeout(deadline), writer, self._put_slots:
                return await self._put(identity, value, key)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"the put did not finish within {deadline:g} s; it may have reached some nodes"
            ) from error

    async def _put(self, identity: Identity, value: bytes, key: Key) -> PutOutcome:
        put = self._puts[key] = _Put(key, encode_value(value), asyncio.get_running_loop())
        try:
            self.session.handle.dht_put_mutable_item(identity.expanded(), key[0], value, key[1])
            outcome = await put.done
        finally:
            del self._puts[key]
        if outcome.accepted == 0:
            await self._refuse_empty_table()
            raise NotStored("no node accepted the item")
        return outcome

    def _on_put(self, alert: Any) -> None:
        put = self._puts.get((alert.public_key, alert.salt))
        if put is not None:
            put.offer(alert.num_success, alert.seq, alert.signature)

    # peers

    async def announce(self, info_hash: bytes, port: int) -> None:
        """See `Carrier.announce`."""
        await self.ready()
        self.session.handle.dht_announce(lt.sha1_hash(info_hash), port, 0)

    async def get_peers(self, info_hash: bytes, wait: float) -> list[Endpoint]:
        """See `Carrier.get_peers`: one alert a node, and none that says it ended."""
        await self.ready()
        found = self._peers.setdefault(info_hash, set())
        self.session.handle.dht_get_peers(lt.sha1_hash(info_hash))
        try:
            await asyncio.sleep(wait)
        finally:
            self._peers.pop(info_hash, None)
        return sorted(found)

    def _on_peers(self, alert: Any) -> None:
        found = self._peers.get(alert.info_hash.to_bytes())
        if found is not None:
            found.update(list(alert.peers())[: MAX_PEERS - len(found)])

    # the node

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
            self._finish(lookup, None)
        for put in self._puts.values():
            if not put.done.done():
                put.done.set_exception(NetworkUnreachable("this node was closed"))
        await self.session.close()


def _check_key(public_key: bytes) -> None:
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise InvalidKey(f"a public key is {PUBLIC_KEY_BYTES} bytes, got {len(public_key)}")
