"""How a query is answered: three policies, one lookup per key whoever asks, never back in seq."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from dhtmeta._fast import ed25519
from dhtmeta._fast.bencode import Value
from dhtmeta.const import LOOKUP_DEADLINE, LOOKUP_GRACE, PUBLIC_KEY_BYTES
from dhtmeta.dht.carrier import Carrier, GetOutcome
from dhtmeta.engine.cache import Cached, RecordCache
from dhtmeta.engine.connectability import Connectability, Judge
from dhtmeta.errors import DeadlineExceeded, DhtmetaError, InvalidKey, InvalidRecord, NotFound
from dhtmeta.values.item import SignedItem, check_salt
from dhtmeta.values.record import NodeRecord
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
    """A verified item, where it came from, and how old our copy is (s, since it was fetched)."""

    _cached: Cached
    _resolver: "Resolver"
    source: Source
    age: float

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
        self.lookups = 0  # started since the start, for whoever measures
        self._carrier = carrier
        self._judge = judge
        self._clock = clock
        self._flights: dict[bytes, _Flight] = {}

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
                return self._from_cache(cached, now)
            stale = self._stale(target, public_key, salt, policy, now)
            if stale is not None:
                return stale
        return await self._look_up(target, public_key, salt, policy, deadline)

    def _from_cache(self, cached: Cached, now: float) -> Answer:
        source = Source.STORE if cached.from_store else Source.MEMORY
        return Answer(cached, self, source, now - cached.fetched_at)

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
            self._flight(target, public_key, salt, LOOKUP_DEADLINE)
        return self._from_cache(stale, now)

    async def _look_up(
        self, target: bytes, public_key: bytes, salt: bytes, policy: Policy, deadline: float
    ) -> Answer:
        check_salt(salt)
        flight = self._flight(target, public_key, salt, deadline)
        wanted = flight.done if policy is Policy.FRESHEST else flight.first
        await asyncio.wait([wanted], timeout=deadline + LOOKUP_GRACE)
        if not wanted.done():
            raise DeadlineExceeded(f"no answer within {deadline:g} s; the lookup goes on")
        cached = wanted.result()
        return Answer(cached, self, flight.source, max(0.0, self._clock() - cached.fetched_at))

    def _flight(self, target: bytes, public_key: bytes, salt: bytes, deadline: float) -> "_Flight":
        """Return the running lookup of `target`, or start it."""
        flight = self._flights.get(target)
        if flight is None:
            self.lookups += 1
            flight = self._flights[target] = _Flight(self, target, public_key, salt, deadline)
        return flight

    def judge(self, cached: Cached) -> Connectability | None:
        """Judge what is cached, with the relay's record if that is cached, too."""
        record = cached.record()
        return (
            None
            if record is None
            else self._judge.judge(record, self.relay_of(record), self._clock())
        )

    def relay_of(self, record: NodeRecord) -> NodeRecord | None:
        """Return the cached record of the relay that `record` names.

        A peer id is SHA1(public key), so it is the target of that peer's unsalted item, too.
        """
        relay = record.network_info.connected_relay
        cached = self.cache.usable(bytes.fromhex(relay), self._clock()) if relay else None
        try:
            return cached.record() if cached else None
        except InvalidRecord:
            return None

    async def close(self) -> None:
        """Give up what is in flight."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Flight:
    """One lookup: `first` is done with the first believable item, `done` when it converged."""

    def __init__(
        self, resolver: Resolver, target: bytes, public_key: bytes, salt: bytes, deadline: float
    ) -> None:
        loop = asyncio.get_running_loop()
        self.first: asyncio.Future[Cached] = loop.create_future()
        self.done: asyncio.Future[Cached] = loop.create_future()
        self.source = Source.DHT
        self._resolver = resolver
        self._target = target
        self._best: Cached | None = None
        self.task = loop.create_task(self._run(public_key, salt, deadline))

    async def _run(self, public_key: bytes, salt: bytes, deadline: float) -> None:
        try:
            carrier = self._resolver._carrier()
            outcome = await carrier.get(public_key, salt, self._on_item, deadline)
            best = self._best or self._nothing(outcome, deadline)
        except DhtmetaError as error:
            self._fail(error)
        except asyncio.CancelledError:
            self._fail(NotFound("the lookup was given up: this node was closed"))
        else:
            for future in (self.first, self.done):
                if not future.done():
                    future.set_result(best)
        finally:
            del self._resolver._flights[self._target]

    def _on_item(self, item: SignedItem) -> None:
        cached = self._resolver.cache.learn(self._target, item, self._resolver._clock())
        if cached is None:
            return
        self._best = cached
        if not self.first.done():
            self.first.set_result(cached)

    def _nothing(self, outcome: GetOutcome, deadline: float) -> Cached:
        """Decide what a lookup that brought nothing believable means."""
        cache, now = self._resolver.cache, self._resolver._clock()
        held = cache.usable(self._target, now)
        if outcome.item is not None and held is not None:
            self.source = Source.STORE if held.from_store else Source.MEMORY
            return held  # the network only has older ones
        if not outcome.converged:
            raise DeadlineExceeded(f"no verified answer within {deadline:g} s")
        if outcome.item is not None:
            raise NotFound(
                f"only seq {outcome.item.seq} is on the DHT, older than seq "
                f"{cache.floor(self._target)}, which was seen before"
            )
        cache.note_missing(self._target, now)
        refused = f" ({outcome.refused} answers did not verify)" if outcome.refused else ""
        raise NotFound(f"no node holds it{refused}")

    def _fail(self, error: DhtmetaError) -> None:
        for future in (self.first, self.done):
            if not future.done():
                future.set_exception(error)
                future.exception()  # nobody has to be waiting
