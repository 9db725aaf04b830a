"""How a query is answered: three policies, one lookup per key whoever asks, never back in seq.

A lookup for those who ask `cache-first` ends with the first item that is not below any seq seen;
`freshest` never joins such a one. What renews a stale record behind an answer, or ahead of the next
query, converges: it would else find what is held already, and nobody waits for it.

A rotated key is followed to its successor by one step, never more, and never back to itself.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from dhtmeta._fast import ed25519
from dhtmeta._fast.bencode import Value
from dhtmeta.const import (
    JOIN_WITHIN,
    LOOKUP_DEADLINE,
    PUBLIC_KEY_BYTES,
    READY_DEADLINE,
    RENEW_AHEAD,
    RENEWALS_AHEAD,
)
from dhtmeta.dht.carrier import Carrier, GetOutcome
from dhtmeta.engine.cache import Cached, RecordCache
from dhtmeta.engine.connectability import Connectability, Judge, unreachable
from dhtmeta.engine.evidence import Evidence
from dhtmeta.errors import (
    DeadlineExceeded,
    InvalidKey,
    InvalidRecord,
    NetworkUnreachable,
    NotFound,
)
from dhtmeta.values.item import SignedItem, check_salt
from dhtmeta.values.record import NodeRecord
from dhtmeta.values.successor import successor_of
from dhtmeta.values.wrapping import unwrap


class Policy(StrEnum):
    """What a query promises.

    `cache-only` never touches the network. `cache-first` gives a fresh cached record, a stale
    one while it is renewed, else the first verified answer not older than any seq seen.
    `freshest` waits for the lookup to converge and gives the highest verified seq.
    """

    CACHE_ONLY = "cache-only"
    CACHE_FIRST = "cache-first"
    FRESHEST = "freshest"


class Source(StrEnum):
    """Where an answer came from: this process, an earlier one on this machine, or the network."""

    MEMORY = "memory"
    STORE = "store"
    DHT = "dht"


@dataclass(frozen=True, slots=True)
class Answer:
    """A verified item, where it came from, and how old our copy is (s, since it was fetched).

    `lookup` counts the nodes queried, answered, holding and refused; None where the answer came
    from the cache, or before the lookup ended. `followed` is the public key (32 bytes) that was
    asked for, where that was rotated: all else is about its successor then.
    """

    _cached: Cached
    _resolver: "Resolver"
    source: Source
    age: float
    lookup: GetOutcome | None = None
    followed: bytes | None = None

    @property
    def fresh_for(self) -> float:
        """How many seconds more it counts as fresh here; 0 where it does not."""
        return max(0.0, self._cached.fresh_until - self._cached.fetched_at - self.age)

    @property
    def item(self) -> SignedItem:
        """The item itself."""
        return self._cached.item

    @property
    def seq(self) -> int:
        """The item's seq."""
        return self._cached.item.seq

    @property
    def record(self) -> NodeRecord | None:
        """The NodeRecord, None for a plain value; InvalidRecord if it names itself one wrongly."""
        return self._cached.record()

    @property
    def value(self) -> Value:
        """What v says, whether it travelled wrapped in a byte string or not."""
        return unwrap(self._cached.item.value)

    @property
    def successor(self) -> bytes | None:
        """The public key (32 bytes) that the item's key was rotated to; None where it was not.

        An answer has it where that key holds nothing, or would be the second step.
        """
        try:
            plain = self._cached.record() is None  # decoded once: most answers end here
        except InvalidRecord:
            return None
        return successor_of(self._cached.item) if plain else None

    def missing_relay(self) -> bytes | None:
        """Return the peer id of the relay that the record names, if its record is not held."""
        try:
            record = self._cached.record()
        except InvalidRecord:
            return None
        if record is None or not record.network_info.connected_relay:
            return None
        known = self._resolver.relay_of(record)
        return None if known else bytes.fromhex(record.network_info.connected_relay)

    @property
    def connectability(self) -> Connectability | None:
        """How to connect to the peer, judged now; None for a plain value."""
        return self._resolver.judge(self._cached)


class Resolver:
    """Answers queries from the cache and the carrier. `clock` gives Unix seconds."""

    def __init__(
        self,
        cache: RecordCache,
        carrier: Callable[[], Carrier],
        judge: Judge,
        clock: Callable[[], float],
    ) -> None:
        self.cache = cache
        self.evidence = Evidence()
        self.own: NodeRecord | None = None  # our own record, which is in no cache
        self.lookups = 0  # started since the start, for whoever measures
        self._carrier = carrier
        self._judge = judge
        self._clock = clock
        self._flights: dict[bytes, _Flight] = {}  # by target: what those who ask now may join
        self._running: set[_Flight] = set()
        self._ahead: dict[bytes, asyncio.TimerHandle] = {}  # by target: renewals that will start
        self._closed = False

    async def query(
        self,
        public_key: bytes,
        salt: bytes = b"",
        policy: Policy = Policy.CACHE_FIRST,
        deadline: float = LOOKUP_DEADLINE,
    ) -> Answer:
        """Return a verified answer under `policy`, within `deadline` seconds.

        Raises NotFound, DeadlineExceeded, NetworkUnreachable, InvalidKey, InvalidSalt.
        """
        if len(public_key) != PUBLIC_KEY_BYTES:
            raise InvalidKey(f"a public key is {PUBLIC_KEY_BYTES} bytes, got {len(public_key)}")
        target = ed25519.target(public_key, salt)
        now = self._clock()
        if policy is not Policy.FRESHEST:
            cached = self.cache.fresh(target, now)
            if cached is not None:
                if policy is Policy.CACHE_FIRST:
                    self._note_asked(cached, target, now)
                return self._from_cache(cached, now)
            stale = self._stale(target, public_key, salt, policy, now)
            if stale is not None:
                return stale
        return await self._look_up(target, public_key, salt, policy, deadline)

    def _note_asked(self, cached: Cached, target: bytes, now: float) -> None:
        """Renew it just before it is asked for again, if it would not be fresh any more then.

        Who asks at regular intervals so gets what is new, and never waits for it.
        """
        renews = self.renews_ahead(cached, target, now)
        gap, cached.asked_at = now - cached.asked_at, now
        if renews:
            wait = max(0.0, gap - RENEW_AHEAD)
            loop = asyncio.get_running_loop()
            self._ahead[target] = loop.call_later(wait, self._renew_ahead, target, cached)

    def renews_ahead(self, cached: Cached, target: bytes, now: float) -> bool:
        """Whether a query for a fresh record has it renewed, since the next would find it stale."""
        gap = now - cached.asked_at
        if now + gap < cached.fresh_until or gap > cached.fresh_until - cached.fetched_at:
            return False
        return not self._closed and target not in self._ahead and len(self._ahead) < RENEWALS_AHEAD

    def _renew_ahead(self, target: bytes, cached: Cached) -> None:
        del self._ahead[target]
        held = self.cache.usable(target, self._clock())
        if held is not None and held.fetched_at == cached.fetched_at:
            self._flight(target, held.item.public_key, held.item.salt, early=False)

    async def follow(
        self, answer: Answer, successor: bytes, policy: Policy, deadline: float
    ) -> Answer:
        """Return the answer for the successor of `answer`; `answer` itself where that has none.

        Raises what `query` does, but for NotFound.
        """
        try:
            newer = await self.query(successor, b"", policy, deadline)
        except NotFound:
            return answer
        key = answer.item.public_key
        return answer if newer.successor == key else replace(newer, followed=key)

    def _from_cache(self, cached: Cached, now: float) -> Answer:
        source = Source.STORE if cached.from_store else Source.MEMORY
        return Answer(cached, self, source, max(0.0, now - cached.fetched_at))

    def _stale(
        self, target: bytes, public_key: bytes, salt: bytes, policy: Policy, now: float
    ) -> Answer | None:
        """Serve a stale record while a lookup renews it; NotFound where that is what we know."""
        stale = self.cache.usable(target, now)
        if stale is None:
            missing_for = self.cache.missing_for(target, now)
            if missing_for is not None:
                raise NotFound(f"nobody held it {missing_for:.0f} s ago")
            if policy is Policy.CACHE_ONLY:
                raise NotFound("it is not in the cache, and the policy is cache-only")
            return None
        if policy is Policy.CACHE_FIRST:
            self._flight(target, public_key, salt, early=False)
        return self._from_cache(stale, now)

    async def _look_up(
        self, target: bytes, public_key: bytes, salt: bytes, policy: Policy, deadline: float
    ) -> Answer:
        """Start or join the lookup; each who waits for it has a deadline of his own."""
        check_salt(salt)
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline
        await self._carrier().ready(min(deadline, READY_DEADLINE))
        freshest = policy is Policy.FRESHEST
        flight = self._flight(target, public_key, salt, early=not freshest, fresh=freshest)
        if not freshest and not flight.early:
            await asyncio.wait([flight.first], timeout=end - loop.time())
            cached = flight.first.result() if flight.first.done() else None
            if cached is not None and cached.item.seq >= self.cache.floor(target):
                return self._answer(cached, flight)
        await asyncio.wait([flight.done], timeout=max(0.0, end - loop.time()))
        if not flight.done.done():
            raise DeadlineExceeded(f"no answer within {deadline:g} s; the lookup goes on")
        return self._answer(flight.done.result(), flight)

    def _answer(self, cached: Cached, flight: "_Flight") -> Answer:
        age = max(0.0, self._clock() - cached.fetched_at)
        if cached is flight.before:
            return self._from_cache(cached, self._clock())
        return Answer(cached, self, Source.DHT, age, flight.outcome)

    def _flight(
        self, target: bytes, public_key: bytes, salt: bytes, *, early: bool, fresh: bool = False
    ) -> "_Flight":
        """Return the running lookup of `target`, or start one, which may end `early` or not.

        `fresh` joins none that may end early, and no old one.
        """
        flight = self._flights.get(target)
        if flight is not None and fresh:
            old = asyncio.get_running_loop().time() > flight.started + JOIN_WITHIN
            flight = None if flight.early or old else flight
        if flight is None:
            self.lookups += 1
            flight = self._flights[target] = _Flight(self, target, public_key, salt, early=early)
        return flight

    async def renew(self, public_key: bytes, wait: float) -> None:
        """Look a key up behind what is going on, and wait `wait` seconds at most for its record.

        Nothing is done where it was missing just now.
        """
        target = ed25519.target(public_key)
        if self.cache.missing_for(target, self._clock()) is not None:
            return
        flight = self._flight(target, public_key, b"", early=True)
        await asyncio.wait([flight.first], timeout=wait)

    def judge(self, cached: Cached) -> Connectability | None:
        """Judge what is cached, with the relay's record if that is cached, and what was tried."""
        record, now = cached.record(), self._clock()
        if record is None:
            return None
        verdict = self._judge.judge(record, self.relay_of(record), now)
        against = verdict.connectable and self.evidence.objection(record, cached.item.seq, now)
        return unreachable(against) if against else verdict

    def relay_of(self, record: NodeRecord) -> NodeRecord | None:
        """Return the cached record of the relay that `record` names.

        A peer id is SHA1(public key), so it is the target of that peer's unsalted item, too.
        """
        relay = record.network_info.connected_relay
        if self.own is not None and relay == self.own.peer_id:
            return self.own
        cached = self.cache.usable(bytes.fromhex(relay), self._clock()) if relay else None
        try:
            return cached.record() if cached else None
        except InvalidRecord:
            return None

    @property
    def running(self) -> int:
        """How many lookups are under way."""
        return len(self._running)

    async def close(self) -> None:
        """Give up what is in flight."""
        self._closed = True
        for timer in self._ahead.values():
            timer.cancel()
        self._ahead.clear()
        tasks = [flight.task for flight in self._running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Flight:
    """One lookup: `first` ends with the first believable item, `done` when the lookup did.

    That is when it converged, or, if `early`, had an item not below any seq seen. `first` gives
    None, and `done` raises why, where there is nothing to give.
    """

    def __init__(
        self, resolver: Resolver, target: bytes, public_key: bytes, salt: bytes, *, early: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        self.first: asyncio.Future[Cached | None] = loop.create_future()
        self.done: asyncio.Future[Cached] = loop.create_future()
        self.started = loop.time()
        self.early = early
        self.outcome: GetOutcome | None = None
        self.before = resolver.cache.usable(target, resolver._clock())  # what was held already
        self._resolver = resolver
        self._target = target
        resolver._running.add(self)
        self.task = loop.create_task(self._run(public_key, salt))

    async def _run(self, public_key: bytes, salt: bytes) -> None:
        try:
            self.outcome = await self._get(public_key, salt)
            self.done.set_result(self._best(self.outcome))
        except asyncio.CancelledError:
            self.done.set_exception(NetworkUnreachable("this node was closed"))
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait have to hear of it
            self.done.set_exception(error)
        finally:
            self._end()

    def _end(self) -> None:
        self._resolver._running.discard(self)
        if self._resolver._flights.get(self._target) is self:
            del self._resolver._flights[self._target]
        if not self.first.done():
            self.first.set_result(None)
        if not self.done.cancelled():
            self.done.exception()  # nobody has to be waiting

    async def _get(self, public_key: bytes, salt: bytes) -> GetOutcome:
        """Look it up; once more to the end if what was enough is so no longer."""
        get = self._resolver._carrier().get
        if self.early:
            enough = self._floor()
            outcome = await get(public_key, salt, self._on_item, LOOKUP_DEADLINE, enough=enough)
            if outcome.converged or self._is_enough(outcome):
                return outcome
        return await get(public_key, salt, self._on_item, LOOKUP_DEADLINE)

    def _is_enough(self, outcome: GetOutcome) -> bool:
        """Whether an early end found something that is still not below any seq seen."""
        item = outcome.item
        return self.early and item is not None and item.seq >= self._floor()

    def _floor(self) -> int:
        return self._resolver.cache.floor(self._target)

    def _on_item(self, item: SignedItem) -> None:
        cache, now = self._resolver.cache, self._resolver._clock()
        cached = cache.learn(self._target, item, now, first=self.before is None)
        if cached is not None and not self.first.done():
            self.first.set_result(cached)

    def _best(self, outcome: GetOutcome) -> Cached:
        """Return what a lookup leaves us with, or raise what it means that this is nothing."""
        cache, now = self._resolver.cache, self._resolver._clock()
        if not outcome.converged and not self._is_enough(outcome):
            raise DeadlineExceeded(f"the lookup did not converge within {LOOKUP_DEADLINE:g} s")
        if outcome.item is None:
            cache.note_missing(self._target, now)
            refused = f" ({outcome.refused} answers did not verify)" if outcome.refused else ""
            raise NotFound(f"no node holds it{refused}")
        held = cache.learn(self._target, outcome.item, now, first=self.before is None)
        held = held or cache.usable(self._target, now)
        if held is None or held.item.seq < self._floor():
            raise NotFound(
                f"only seq {outcome.item.seq} is on the DHT, older than seq {self._floor()}, "
                f"which was seen before"
            )
        return held
