"""What peers tell each other of known peers: hints first, then the signed items that are wanted.

A hint (a key and the seq last seen) is believed by nobody: it leads to a request for the item,
whose signature says whether it is true. What is new here is told on, once on each connection, so
that a changed record goes through the network by itself; what is old, or cannot be shown, goes
nowhere. Only NodeRecords of our topics, and of relays, are taken in.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from cachetools import LRUCache

from dhtmeta._fast import ed25519
from dhtmeta.const import (
    ASK_INTERVAL,
    ASKED_AT_ONCE,
    FINGERPRINT_BYTES,
    FINGERPRINTS,
    MAX_SHARED,
    NEWS_DELAY,
    NEWS_FANOUT,
    NEWS_KEPT,
    TOLD,
    WANT_TIMEOUT,
    WANT_TRIES,
    WANTED,
    WANTED_EACH,
)
from dhtmeta.discovery.exchange import Exchange
from dhtmeta.discovery.link import Link
from dhtmeta.discovery.topic import topic_hash
from dhtmeta.engine.cache import Cached, RecordCache
from dhtmeta.errors import InvalidItem
from dhtmeta.krpc import exchange as wire
from dhtmeta.values.item import SignedItem
from dhtmeta.values.record import record_in


@dataclass(slots=True)
class GossipCounts:
    """What came of hints: told by others, asked for, records taken in, refused, and told on."""

    hints: int = 0
    wanted: int = 0
    taken: int = 0
    refused: int = 0
    told: int = 0


@dataclass(slots=True)
class _Talk:
    """What was said on one connection: hints told (key -> seq), waiting to be told, asked for."""

    told: LRUCache[bytes, int] = field(default_factory=lambda: LRUCache(TOLD))
    news: dict[bytes, int] = field(default_factory=dict)
    answer_from: float = 0.0  # loop time before which no further `Ask` is answered
    asked: int = 0  # keys asked for here and not answered


@dataclass(slots=True)
class _Want:
    """A key that is asked for: whom, until when, and who else told of it, of which seq."""

    link: Link
    until: float
    others: dict[Link, int] = field(default_factory=dict)


class Gossip:
    """Tells and hears of peers on all connections of `exchange`.

    `own` gives our own item, None before it is published; `clock` Unix seconds; `share` is how
    many known peers are told at once. `on_unshown` hears of keys that nobody could show an item
    for: whether they are looked up is its affair.
    """

    def __init__(
        self,
        exchange: Exchange,
        cache: RecordCache,
        known: Callable[[], Iterable[bytes]],
        own: Callable[[], SignedItem | None],
        clock: Callable[[], float],
        rng: random.Random,
        share: int = MAX_SHARED,
    ) -> None:
        self.counts = GossipCounts()
        self.on_unshown: Callable[[Link, bytes], None] = lambda link, key: None
        self._exchange, self._cache, self._known, self._own = exchange, cache, known, own
        self._clock, self._rng, self._share = clock, rng, share
        self._talks: dict[Link, _Talk] = {}
        self._wants: dict[bytes, _Want] = {}
        self._timer: asyncio.TimerHandle | None = None
        exchange.on_open.append(self._greet)
        exchange.on_close.append(self._forget)
        exchange.on(wire.Hints, self._on_hints)
        exchange.on(wire.Ask, self._tell_some)
        exchange.on(wire.Want, self._on_want)
        exchange.on(wire.Items, self._on_items)

    def close(self) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()

    # what we tell

    def _greet(self, link: Link) -> None:
        self._talks[link] = _Talk()
        self.show_own(link)
        link.say(self._question())

    def _forget(self, link: Link) -> None:
        self._talks.pop(link, None)
        for key in [key for key, want in self._wants.items() if want.link is link]:
            self._ask_another(key, self._wants[key])

    def show_own(self, *links: Link) -> None:
        """Send our own item on these connections, or on all."""
        item = self._own()
        if item is not None:
            for link in links or tuple(self._talks):
                if (talk := self._talks.get(link)) is not None:
                    talk.told[item.public_key] = item.seq
                link.say(wire.Items(items=[_to_wire(item)]))

    def _tell_some(self, link: Link, ask: wire.Ask) -> None:
        """Tell up to `share` known peers that were not told here yet, and that the peer lacks."""
        talk, have = self._talks.get(link, _Talk()), _fingerprints(ask.have)
        now = asyncio.get_running_loop().time()
        if now < talk.answer_from:
            return
        talk.answer_from = max(talk.answer_from, now - 2 * ASK_INTERVAL) + ASK_INTERVAL
        hints = list[wire.Hint]()
        for target in self._shuffled():
            if len(hints) >= self._share:
                break
            held = self._held(target)
            if held is None or not _concerns(link, held):
                continue
            key, seq = held.item.public_key, held.item.seq
            if key != link.public_key and talk.told.get(key, -1) < seq:
                talk.told[key] = seq
                if wire.fingerprint(key, seq, ask.salt) not in have:
                    hints.append(wire.Hint(key, seq))
        if hints:
            self.counts.told += len(hints)
            link.say(wire.Hints(peers=hints))

    def _shuffled(self) -> list[bytes]:
        known = list(self._known())
        return self._rng.sample(known, min(len(known), FINGERPRINTS))

    def _held(self, target: bytes) -> Cached | None:
        held = self._cache.usable(target, self._clock())
        return held if held is not None and held.kind is not None else None

    def tell(self, cached: Cached) -> None:
        """Tell some of those whom it concerns of a record that is new here; others ask.

        Each who hears of it does so: with 4 each, 98 of 100 have heard before anybody has to ask.
        """
        if cached.kind is None or not self._share:
            return
        item = cached.item
        talks = [talk for link, talk in self._talks.items() if self._is_new_to(link, cached)]
        for talk in self._rng.sample(talks, min(len(talks), NEWS_FANOUT)):
            if len(talk.news) < NEWS_KEPT:
                talk.news[item.public_key] = item.seq
        self._tick()

    def _is_new_to(self, link: Link, cached: Cached) -> bool:
        key, seq = cached.item.public_key, cached.item.seq
        unheard = self._talks[link].told.get(key, -1) < seq
        return unheard and key != link.public_key and _concerns(link, cached)

    def _tick(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(NEWS_DELAY, self._on_tick)

    def _on_tick(self) -> None:
        """Tell the news that has gathered, a message on each connection, and look after wants."""
        self._timer = None
        for link, talk in list(self._talks.items()):  # who takes nothing in is let go meanwhile
            if talk.news:
                self._tell_news(link, talk)
        now = asyncio.get_running_loop().time()
        for key, want in list(self._wants.items()):
            if now >= want.until and self._wants.get(key) is want:
                self._give_up(key, want)
        if self._wants or any(talk.news for talk in self._talks.values()):
            self._tick()

    def _tell_news(self, link: Link, talk: _Talk) -> None:
        keys = list(talk.news)[: self._share]
        hints = [wire.Hint(key, talk.news.pop(key)) for key in keys]
        for hint in hints:
            talk.told[hint.k] = hint.seq
        self.counts.told += len(hints)
        link.say(wire.Hints(peers=hints))

    def _on_want(self, link: Link, want: wire.Want) -> None:
        own, items, none = self._own(), [], []
        for key in want.keys:
            held = self._held(ed25519.target(key))
            if own is not None and key == own.public_key:
                items.append(_to_wire(own))
            elif held is not None:
                items.append(_to_wire(held.item))
            else:
                none.append(key)
        link.say(wire.Items(items=items, none=none))

    # what we hear

    def ask(self) -> None:
        """Ask some of those who are connected for more hints."""
        links = list(self._talks)
        for link in self._rng.sample(links, min(len(links), ASKED_AT_ONCE)):
            link.say(self._question())

    def _question(self) -> wire.Ask:
        """Return a request for hints of all but what we have."""
        salt, have = self._rng.getrandbits(32), list[bytes]()
        for target in self._shuffled():
            held = self._held(target)
            if held is not None and len(have) < FINGERPRINTS:
                have.append(wire.fingerprint(held.item.public_key, held.item.seq, salt))
        return wire.Ask(salt=salt, have=b"".join(have))

    def _on_hints(self, link: Link, hints: wire.Hints) -> None:
        own = self._exchange.identity().public_key
        self.counts.hints += len(hints.peers)
        keys = [hint.k for hint in hints.peers if hint.k != own and self._is_news(link, hint)]
        if keys:
            link.say(wire.Want(keys=keys))
            self._tick()

    def _is_news(self, link: Link, hint: wire.Hint) -> bool:
        """Whether to ask for it here and now; who else tells of it is kept in mind."""
        target = ed25519.target(hint.k)
        held = self._cache.usable(target, self._clock())
        floor = self._cache.floor(target)
        if hint.seq < floor or (held is not None and hint.seq <= held.item.seq):
            self._note_told(self._talks[link], hint)
            return False
        want = self._wants.get(hint.k)
        if want is None:
            return self._note_want(hint.k, link)
        if link is not want.link:
            self._note_other(want, link, hint.seq)
        return False

    def _note_told(self, talk: _Talk, hint: wire.Hint) -> None:
        """Note that it is known there, too; what is newer than that is still to be told."""
        talk.told[hint.k] = max(hint.seq, talk.told.get(hint.k, -1))
        if talk.news.get(hint.k, -1) <= hint.seq:
            talk.news.pop(hint.k, None)

    def _note_other(self, want: _Want, link: Link, seq: int) -> None:
        """Keep in mind who else told of a key, and of which seq, true or not.

        Of more than WANT_TRIES any may be forgotten, so that no number of liars drives out all.
        """
        if link not in want.others and len(want.others) >= WANT_TRIES:
            del want.others[self._rng.choice(list(want.others))]
        want.others[link] = seq

    def _note_want(self, key: bytes, link: Link) -> bool:
        talk = self._talks.get(link)
        if talk is None or talk.asked >= WANTED_EACH or len(self._wants) >= WANTED:
            return False
        talk.asked += 1
        self.counts.wanted += 1
        until = asyncio.get_running_loop().time() + WANT_TIMEOUT
        self._wants[key] = _Want(link, until)
        return True

    def _give_up(self, key: bytes, want: _Want) -> None:
        """Ask another than who did not answer; on that connection it is asked for less from now."""
        if (talk := self._talks.get(want.link)) is not None:
            talk.asked += 1
        self._ask_another(key, want)

    def _ask_another(self, key: bytes, want: _Want) -> None:
        """Ask the next one who told of it; if there is none, it cannot be shown."""
        self._settle(key)
        while want.others:
            link = next(iter(want.others))
            del want.others[link]
            if link.is_open and self._note_want(key, link):
                self._wants[key].others = want.others
                link.say(wire.Want(keys=[key]))
                return
        self.on_unshown(want.link, key)

    def _settle(self, key: bytes) -> None:
        want = self._wants.pop(key)
        talk = self._talks.get(want.link)
        if talk is not None:
            talk.asked -= 1

    def _on_items(self, link: Link, items: wire.Items) -> None:
        for one in items.items:
            if link.is_open:  # it is not once one was forged
                self._on_item(link, one)
        for key in items.none:
            want = self._wants.get(key)
            if want is not None and want.link is link:
                self._ask_another(key, want)

    def _on_item(self, link: Link, one: wire.Item) -> None:
        """Take in what was asked for here, or is the peer's own; who shows a forgery is shunned."""
        want = self._wants.get(one.k)
        asked = want is not None and want.link is link
        if one.k != link.public_key and not asked:
            return
        target = ed25519.target(one.k)
        held = self._cache.usable(target, self._clock())
        if held is None or held.item.sig != one.sig or held.item.v != one.v:
            try:
                item = SignedItem.verified(target, one.k, b"", one.seq, one.v, one.sig)
            except InvalidItem as error:
                self.counts.refused += 1
                self._exchange.shun(link, f"it showed a forged item: {error}")
                return
            self.take(item)
        talk = self._talks.get(link)
        if talk is not None:
            talk.told[one.k] = max(one.seq, talk.told.get(one.k, -1))
        want = self._wants.get(one.k)
        if want is not None and want.link is link:
            self._shown(one.k, want)

    def _shown(self, key: bytes, want: _Want) -> None:
        """Be content with what was shown, unless another told of something newer."""
        seen = self._cache.floor(ed25519.target(key))
        want.others = {link: seq for link, seq in want.others.items() if seq > seen}
        if want.others:
            self._ask_another(key, want)
        else:
            self._settle(key)

    def take(self, item: SignedItem, source: str = "exchange") -> None:
        """Take in a verified item, if it is a NodeRecord of our topics, or of a relay."""
        record = record_in(item)
        ours = self._exchange.topics()
        wanted = record is not None and (record.serves_others or topic_hash(record.topic) in ours)
        if wanted and self._cache.learn(item.target, item, self._clock(), source) is not None:
            self.counts.taken += 1
        else:
            self.counts.refused += 1


def _fingerprints(raw: bytes) -> set[bytes]:
    size = FINGERPRINT_BYTES
    return {raw[i : i + size] for i in range(0, len(raw), size)}


def _concerns(link: Link, cached: Cached) -> bool:
    """Whether the peer is interested: a node of a topic of theirs, or a relay."""
    kind = cached.kind
    return kind is not None and (kind.serves_others or topic_hash(kind.topic) in link.topics)


def _to_wire(item: SignedItem) -> wire.Item:
    return wire.Item(item.public_key, item.seq, item.v, item.sig)
