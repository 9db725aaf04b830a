"""`micro`: which parts there are, which files and peers belong to each, and how often they run."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec

from bench.micro import plots
from bench.micro.beside import Beside, rows_of, series_of
from bench.micro.cache_room import room
from bench.micro.files import run_file
from bench.micro.peers import CACHES, CODECS, VERIFIERS, missing
from bench.report import Part
from bench.scenario import Bench, Options, Run, counted

Found = list[Beside]


def _runs(file: str, full: int, quick: int) -> Callable[[Options], Found]:
    """Return what runs a file so many times, each in a process of its own."""

    def runs(options: Options) -> Found:
        times = quick if options.quick else full
        each = counted(file, range(times), times)
        return [one for _ in each for one in run_file(file, options)]

    return runs


def _part(peers: Sequence[str], *measures: Callable[[Options], Found]) -> Run:
    def part(options: Options) -> Part:
        found = [one for measure in measures for one in measure(options)]
        return Part(rows_of(found), series_of(found), missing=missing(peers))

    return part


def _why_not() -> str | None:
    return None if find_spec("pytest_benchmark") else "pytest-benchmark: not installed"


BENCH = Bench(
    "micro",
    "Bencode, KRPC, Ed25519 and the cache, each beside the libraries that do the same.",
    {
        "bencode": _part(CODECS, _runs("bench_bencode.py", 5, 3)),
        "krpc": _part(CODECS[:1], _runs("bench_krpc.py", 5, 3)),
        "verify": _part(VERIFIERS, _runs("bench_ed25519.py", 5, 3)),
        "cache": _part(CACHES, _runs("bench_ttl_cache.py", 3, 3), room),
    },
    ("bencode", "krpc", "verify", "cache"),
    plots.draw,
    why_not=_why_not,
    taken=dict.fromkeys(("bencode", "krpc", "verify"), ()),
)
