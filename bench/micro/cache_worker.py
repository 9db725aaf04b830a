"""One cache in a process of its own, which does what is asked of it while another one waits."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

from bench.micro.caches import KINDS, Library, check, filled, fresh, new_keys

CHECKED = 2_000  # entries with which a library is tried first
VALUE = b"value"
READY, DONE = "ready", "done"
GO = "go"


class Worker:
    """Prepares what is asked for, then does it when told to go."""

    def __init__(self, name: str, entries: int, calls: int, seed: int) -> None:
        filled(name, new_keys(Random(seed), CHECKED))
        self.source = Random(seed)
        self.keys = new_keys(self.source, entries)
        self.name, self.calls = name, calls
        self.library: Library | None = None
        self.checked = False  # that the library holds all keys
        self.go: Callable[[], None] = lambda: None
        self.prepare: dict[str, Callable[[], Callable[[], None]]] = {
            "put": self.put,
            "hit": self.hit,
            "miss": self.miss,
            "evict": self.evict,
        }

    def answer(self, word: str) -> str:
        if word == GO:
            self.go()
            return DONE
        self.go = self.prepare[word]()
        return READY

    def put(self) -> Callable[[], None]:
        """Fill an empty one."""
        self.library = None  # two would be in each other's way
        self.library = library = KINDS[self.name](self.name, len(self.keys))
        self.checked = False
        keys = fresh(self.keys)
        return lambda: library.puts(keys, VALUE)

    def full(self) -> Library:
        if self.library is None:
            self.put()()
        assert self.library is not None
        return self.library

    def hit(self) -> Callable[[], None]:
        library = self.full()
        if not self.checked:
            check(library, self.keys, lambda number: VALUE)
            self.checked = True
        keys = fresh(self.source.choices(self.keys, k=self.calls))  # what was checked has hashes
        return lambda: library.gets(keys)

    def miss(self) -> Callable[[], None]:
        library, keys = self.full(), new_keys(self.source, self.calls)
        return lambda: library.gets(keys)

    def evict(self) -> Callable[[], None]:
        """Put new ones into the full one: it holds others after that."""
        library, keys = self.full(), new_keys(self.source, self.calls)
        self.checked = False
        return lambda: library.puts(keys, VALUE)


class Apart:
    """A worker in another process, as this one talks to it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def hear(self, word: str) -> None:
        assert self.process.stdout is not None
        said = self.process.stdout.readline().strip()
        if said != word:
            raise RuntimeError(f"{self.process.args!r} said {said!r} instead of {word!r}")

    def go(self) -> None:
        self.tell(GO)
        self.hear(DONE)


@contextmanager
def apart(name: str, entries: int, calls: int, seed: int) -> Iterator[Apart]:
    """Start a worker; end it."""
    words = [sys.executable, "-m", "bench.micro.cache_worker", name]
    numbers = map(str, (entries, calls, seed))
    pipe = subprocess.PIPE
    with subprocess.Popen([*words, *numbers], stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Apart(process)
        finally:
            process.kill()


def main(name: str, *numbers: str) -> None:
    worker = Worker(name, *map(int, numbers))
    for line in sys.stdin:
        print(worker.answer(line.strip()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
