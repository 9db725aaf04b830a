"""Ours, a plain dict and caches that expire, behind the same few verbs."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from importlib import import_module
from random import Random, SystemRandom
from time import sleep
from typing import Any

from bench.micro.beside import OURS
from bench.micro.peers import MODULES

OUR_MODULE = "dhtmeta._fast.ttl_cache"
LONG = 3600.0  # seconds: nothing expires while look-ups and puts are timed
NOW = 1000.0  # the time at which entries of ours are put
ADMITTED = 0.95  # moka-py and theine decide for themselves what they let in

Keys = Sequence[bytes]


def new_keys(source: Random, count: int) -> list[bytes]:
    return [source.randbytes(20) for _ in range(count)]


def fresh(keys: Keys) -> list[bytes]:
    """Return equal keys in new objects without a cached hash, as they come off the wire."""
    return [bytes(bytearray(key)) for key in keys]


class Library:
    """A cache of so many entries; each loop is the library's own shortest way."""

    def __init__(self, name: str, entries: int, lifetime: float = LONG) -> None:
        self.name, self.entries, self.lifetime = name, entries, lifetime
        self.cache = self.make(import_module(MODULES.get(name, OUR_MODULE)))

    def make(self, module: Any) -> Any:
        raise NotImplementedError

    def gets(self, keys: Keys) -> None:
        get = self.cache.get
        for key in keys:
            get(key)

    def puts(self, keys: Keys, value: bytes) -> None:
        cache = self.cache
        for key in keys:
            cache[key] = value

    def value(self, key: bytes) -> Any:
        return self.cache.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self.puts((key,), value)

    def let_all_expire(self) -> None:
        """Return when every entry is past its lifetime."""
        sleep(self.lifetime)

    def sweep(self) -> None:
        """Do what the library leaves to its user while nobody waits."""


class Dhtmeta(Library):
    """Ours: time is passed in."""

    now = NOW

    def make(self, module: Any) -> Any:
        return module.TtlCache(self.entries, seed=SystemRandom().getrandbits(128))

    def gets(self, keys: Keys) -> None:
        get, now = self.cache.get, self.now
        for key in keys:
            get(key, now)

    def puts(self, keys: Keys, value: bytes) -> None:
        put, now, lifetime = self.cache.put, self.now, self.lifetime
        for key in keys:
            put(key, value, now, lifetime)

    def value(self, key: bytes) -> Any:
        return self.cache.get(key, self.now)

    def put(self, key: bytes, value: bytes) -> None:
        self.cache.put(key, value, self.now, self.lifetime)

    def let_all_expire(self) -> None:
        assert len(self.cache) == self.entries
        self.now += self.lifetime

    def sweep(self) -> None:
        self.cache.sweep(self.now, 100)


class Dict(Library):
    """What a look-up is compared with; nothing in it expires."""

    def make(self, module: Any) -> Any:
        return {}


class Cachetools(Library):
    """Pure Python."""

    def make(self, module: Any) -> Any:
        return module.TTLCache(self.entries, self.lifetime)


class Cachebox(Cachetools):
    """Rust, with the same words."""


class Moka(Library):
    """Rust, TinyLFU."""

    def make(self, module: Any) -> Any:
        return module.Moka(self.entries, ttl=self.lifetime)

    def puts(self, keys: Keys, value: bytes) -> None:
        put = self.cache.set
        for key in keys:
            put(key, value)


class Theine(Library):
    """Rust and Python, W-TinyLFU; a lifetime for each entry, a thread that removes them."""

    def make(self, module: Any) -> Any:
        return module.Cache(self.entries)

    def puts(self, keys: Keys, value: bytes) -> None:
        put, lifetime = self.cache.set, timedelta(seconds=self.lifetime)
        for key in keys:
            put(key, value, lifetime)

    def value(self, key: bytes) -> Any:
        return self.cache.get(key)[0]


KINDS: dict[str, type[Library]] = {
    OURS: Dhtmeta,
    "dict": Dict,
    "cachetools": Cachetools,
    "cachebox": Cachebox,
    "moka-py": Moka,
    "theine": Theine,
}


def filled(name: str, keys: Keys, lifetime: float = LONG) -> Library:
    """Return a full cache that holds `keys`, each with a value of its own, checked."""
    library = KINDS[name](name, len(keys), lifetime)
    for number, key in enumerate(fresh(keys)):
        library.put(key, b"%d" % number)
    check(library, keys, lambda number: b"%d" % number)
    return library


def check(library: Library, keys: Keys, value: Callable[[int], bytes]) -> None:
    """Make sure that a cache has these keys, the n-th with value(n), and no other."""
    held = sum(library.value(key) == value(number) for number, key in enumerate(keys))
    assert held >= (1 if library.name in (OURS, "dict") else ADMITTED) * len(keys)
    assert library.value(bytes(20)) is None
