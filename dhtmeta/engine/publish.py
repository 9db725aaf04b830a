"""How something is published: checked, reserved in the ledger, stored, and confirmed there.

One publish of a target at a time, in the order they came. What is unconditional is reserved
before anything is sent; what `seq`, `cas` or a signed item makes conditional is reserved once the
lookup has shown that it may be, before the first put, so that a Conflict leaves the ledger as it
was. A carrier that signs itself chooses the seq, and is written down afterwards (carrier_signs).
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Self
from weakref import WeakValueDictionary

from dhtmeta._fast import ed25519
from dhtmeta._fast.bencode import Value
from dhtmeta.const import FINISH_WITHIN, PUT_DEADLINE, READY_DEADLINE, RETRY_FIRST
from dhtmeta.dht.carrier import Carrier, PutOutcome, Rejection
from dhtmeta.engine.cache import RecordCache
from dhtmeta.engine.carrier_signs import put_above
from dhtmeta.engine.chosen import Above, Chosen, Exact
from dhtmeta.engine.holders import packed_anew
from dhtmeta.engine.planner import Planner
from dhtmeta.errors import CallerError, Conflict, DeadlineExceeded, DhtmetaError, StoreError
from dhtmeta.store.ledger import Ledger
from dhtmeta.store.tables import NEVER, Origin, State
from dhtmeta.values.item import SignedItem, check_salt, check_seq
from dhtmeta.values.keys import Identity
from dhtmeta.values.payload import payload
from dhtmeta.values.record import NodeRecord

log = logging.getLogger(__name__)


class After(Enum):
    """What is done about an item once it is stored (DESIGN, "Republish")."""

    RESIGN = auto()  # it is signed anew each interval
    KEEP = auto()  # its copies are looked at and topped up
    NOTHING = auto()


@dataclass(frozen=True, slots=True)
class Published:
    """The item as it is stored, and what the closest nodes said to it.

    `accepted` counts those that took it, `rejected` lists the others' KRPC code and seq, `silent`
    counts those that never answered. `copies` counts the nodes that hold it when asked
    afterwards, None where the carrier cannot ask.
    """

    item: SignedItem
    accepted: int
    rejected: tuple[Rejection, ...] = ()
    silent: int = 0
    copies: int | None = None

    @classmethod
    def told(cls, outcome: PutOutcome) -> Self:
        """Make it of what the carrier tells."""
        return cls(outcome.item, outcome.accepted, outcome.rejected, outcome.silent, outcome.copies)


class Publisher:
    """Publishes under identities whose private key we hold, and puts what others signed.

    `clock` gives Unix seconds, `planner` says when what is stored is due again.
    """

    def __init__(
        self,
        cache: RecordCache,
        ledger: Ledger,
        carrier: Callable[[], Carrier],
        clock: Callable[[], float],
        planner: Planner | None = None,
    ) -> None:
        self._cache = cache
        self._ledger = ledger
        self._carrier = carrier
        self._clock = clock
        self._planner = planner or Planner(random.SystemRandom())
        self._turns: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    async def publish(
        self,
        identity: Identity,
        record: "NodeRecord | Value",
        salt: bytes = b"",
        deadline: float = PUT_DEADLINE,
        *,
        seq: int | None = None,
        cas: int | None = None,
    ) -> Published:
        """Publish a NodeRecord (peer_id and timestamp are filled in) or any bencodable value.

        `seq` is used as it is, instead of the next one; `cas` is the seq that the network must
        hold, if it holds any. Raises ValueTooLarge, InvalidRecord, InvalidSalt, InvalidValue
        before anything is sent, CallerError for `seq` or `cas` where the carrier cannot do that;
        Conflict; NotStored, NetworkUnreachable, DeadlineExceeded.
        """
        check_salt(salt)
        end = _loop_time() + deadline
        carrier = self._carrier()
        if seq is not None or cas is not None:
            _refuse_self_signing(carrier, seq, cas)
        wrapped = carrier.signs_itself
        v = payload(record, identity.public_key, self._clock(), only_strings=wrapped)
        target = ed25519.target(identity.public_key, salt)
        anew = wrapped or isinstance(record, NodeRecord)
        after = After.RESIGN if anew else After.KEEP
        async with self._turn(target, end):
            if seq is not None:
                item = SignedItem.sign(identity, v, seq, salt)
                return await self._put_exact(item, cas, end, after)
            if wrapped:
                return await self._put_by_carrier(carrier, identity, v, salt, end)
            return await self._put_above(identity, v, salt, cas, end, after)

    async def renew(
        self,
        identity: Identity,
        record: "NodeRecord | Value",
        was: SignedItem,
        deadline: float = PUT_DEADLINE,
    ) -> Published | None:
        """Publish `record` anew in place of `was`, whose content it has.

        Does nothing and returns None where something else was published meanwhile: that is newer.
        Raises what `publish` does.
        """
        end = _loop_time() + deadline
        carrier, salt = self._carrier(), was.salt
        v = payload(record, identity.public_key, self._clock(), only_strings=carrier.signs_itself)
        async with self._turn(was.target, end):
            newest = await self._ledger.newest(was.target)
            if newest is None or newest.item != was:
                return None
            if carrier.signs_itself:
                return await self._put_by_carrier(carrier, identity, v, salt, end)
            return await self._put_above(identity, v, salt, None, end, After.RESIGN)

    async def put(
        self,
        item: SignedItem,
        deadline: float = PUT_DEADLINE,
        *,
        cas: int | None = None,
        keep: bool = True,
        origin: Origin = Origin.LOCAL,
    ) -> Published:
        """Store an item that is already signed, whoever signed it; `cas` as in `publish`.

        `keep` says whether it is kept alive from then on, `origin` for whom.

        Raises Conflict, with nothing sent, where the ledger or the network has a newer one, or
        another value under its seq; CallerError where the carrier cannot put it; else as `publish`.
        """
        end = _loop_time() + deadline
        _refuse_self_signing(self._carrier(), cas)
        after = After.KEEP if keep else After.NOTHING
        async with self._turn(item.target, end):
            return await self._put_exact(item, cas, end, after, origin)

    async def finish_unfinished(
        self, wanted: Callable[[SignedItem], bool] = lambda item: True
    ) -> int:
        """Put what was reserved and never confirmed, the same bytes; says how many.

        Of those only what is `wanted`. Waits up to a day for a network. What cannot be put is
        logged, noted in the ledger, and stays for the next time, unless the network holds
        something newer.
        """
        finished = 0
        async for targets in self._ledger.unfinished():
            await self._carrier().ready(FINISH_WITHIN)
            finished += sum(await asyncio.gather(*(self._finish(one, wanted) for one in targets)))
        return finished

    async def _finish(self, target: bytes, wanted: Callable[[SignedItem], bool]) -> bool:
        end = _loop_time() + PUT_DEADLINE
        try:
            async with self._turn(target, end):
                entry = await self._ledger.newest(target)  # a publish may have had its turn first
                if entry is None or entry.state is not State.RESERVED or not wanted(entry.item):
                    return False
                # soon due: whether it is to be signed anew shows then
                after = After.RESIGN if entry.origin is Origin.LOCAL else After.NOTHING
                await self._put_exact(entry.item, None, end, after, entry.origin)
        except DhtmetaError as error:
            log.warning("unfinished publish of target %s: %s", target.hex(), error)
            return False
        return True

    @contextlib.asynccontextmanager
    async def _turn(self, target: bytes, end: float) -> AsyncIterator[None]:
        """Wait until loop time `end` for those who publish the same target before us."""
        turn = self._turns.setdefault(target, asyncio.Lock())
        try:
            async with asyncio.timeout_at(end):
                await turn.acquire()
        except TimeoutError as error:
            raise DeadlineExceeded(
                "earlier puts under this key took all of the time; nothing was sent"
            ) from error
        try:
            yield
        finally:
            turn.release()

    async def _put_by_carrier(
        self, carrier: Carrier, identity: Identity, v: bytes, salt: bytes, end: float
    ) -> Published:
        newest = await self._ledger.newest(ed25519.target(identity.public_key, salt))
        ours = newest.item if newest else None
        outcome = await put_above(carrier, ours, identity, v, salt, end)
        await self._write_down(outcome, After.RESIGN, Origin.LOCAL)
        return Published.told(outcome)

    async def _put_above(
        self,
        identity: Identity,
        v: bytes,
        salt: bytes,
        cas: int | None,
        end: float,
        after: After,
    ) -> Published:
        """Put a value above whatever seq is known, the network's included."""
        target = ed25519.target(identity.public_key, salt)
        newest = await self._ledger.newest(target)
        ours = newest.item.seq if newest else None

        def sign(seq: int) -> SignedItem:
            return SignedItem.sign(identity, v, seq, salt)

        chosen = Above(self._ledger, sign, ours, self._cache.floor(target), cas)
        await self._carrier().ready(min(_left(end), READY_DEADLINE))  # else nothing is written
        outcome = await self._store(chosen, cas, end, identity.public_key, salt)
        await self._write_down(outcome, after, Origin.LOCAL)
        return Published.told(outcome)

    async def _put_exact(
        self,
        item: SignedItem,
        cas: int | None,
        end: float,
        after: After,
        origin: Origin = Origin.LOCAL,
    ) -> Published:
        chosen = Exact(self._ledger, item, self._cache.floor(item.target), cas, origin)
        outcome = await self._store(chosen, cas, end, item.public_key, item.salt)
        await self._write_down(outcome, after, origin)
        return Published.told(outcome)

    async def _store(
        self, chosen: Chosen, cas: int | None, end: float, public_key: bytes, salt: bytes
    ) -> PutOutcome:
        """Put what is chosen; the ledger is told what is in the way."""
        try:
            await chosen.prepare()
            put = self._carrier().put_item
            return await put(public_key, salt, chosen.choose, _left(end), cas=cas)
        except DhtmetaError as error:
            if chosen.item is not None:
                await self._note(chosen.item, error)
            raise

    async def _note(self, item: SignedItem, error: DhtmetaError) -> None:
        """Note why a reserved item was not stored; a disk that fails now changes nothing else."""
        note = self._ledger.supersede if isinstance(error, Conflict) else self._ledger.fail
        with contextlib.suppress(StoreError):
            await note(item, str(error), self._clock() + RETRY_FIRST)

    async def _write_down(self, outcome: PutOutcome, after: After, origin: Origin) -> None:
        item, now = outcome.item, self._clock()
        self._cache.forget(item.target)
        self._cache.raise_floor(item.target, item.seq, now)
        copies = outcome.accepted if outcome.copies is None else outcome.copies
        due, holders = self._due(item, copies, after, now), packed_anew(outcome.holders, now)
        try:
            await self._ledger.confirm(item, copies, due, now, holders=holders, origin=origin)
        except StoreError as error:
            raise StoreError(
                f"seq {item.seq} is on {copies} nodes, but could not be noted: {error}"
            ) from error

    def _due(self, item: SignedItem, copies: int, after: After, now: float) -> float:
        """Return when (Unix s) it is to be worked on again."""
        if after is After.NOTHING:
            return NEVER
        if after is After.RESIGN:
            return self._planner.next_publish(now)
        return self._planner.first_look(item.target, copies, now)


def _refuse_self_signing(carrier: Carrier, *seqs: int | None) -> None:
    """Raise CallerError if `carrier` cannot put a given seq, or if one of `seqs` is none."""
    if carrier.signs_itself:
        raise CallerError(
            "this carrier signs what it puts and chooses the seq: signed items, seq and cas need "
            "the direct one (--carrier direct)"
        )
    for seq in seqs:
        if seq is not None:
            check_seq(seq)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


def _left(end: float) -> float:
    return max(0.0, end - _loop_time())
