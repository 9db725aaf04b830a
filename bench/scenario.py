"""What a bench is: parts that are run and kept one by one, what each takes, and its picture."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import track

from bench.report import Part

T = TypeVar("T")
PROGRESS = Console(stderr=True)
SEED = 1  # of whatever is drawn, unless somebody says otherwise
MOST = 10_000  # of any parameter that has no limit of its own
SEEDED = "seed"  # what a part takes that draws by it


@dataclass(frozen=True, slots=True)
class Options:
    """How a part is to be run: `quick` does fewer of everything; a seed makes it repeat."""

    quick: bool = False
    seed: int = SEED
    values: Mapping[str, int] = field(default_factory=dict)

    def value(self, name: str, full: int, quick: int) -> int:
        """Return the parameter `name`: what was asked for, else what is usual."""
        return self.values.get(name, quick if self.quick else full)


Run = Callable[[Options], Part]
Results = Mapping[str, Mapping[str, Any]]
"""The kept JSON of a bench's parts, by their names."""


@dataclass(frozen=True, slots=True)
class Bench:
    """`parameters` maps what may be set to what it means; `draw` makes a matplotlib figure.

    `quick` names the parts that a quick run of everything has time for; `why_not` says what the
    machine lacks for it. `taken` has, by part, which parameters it takes, and SEEDED; a part that
    is not named there takes all of them. `most` is how large a parameter may be, where not MOST.
    """

    name: str
    about: str
    parts: Mapping[str, Run]
    quick: tuple[str, ...] = ()
    draw: Callable[[Results], Any] | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    why_not: Callable[[], str | None] = lambda: None
    taken: Mapping[str, Collection[str]] = field(default_factory=dict)
    most: Mapping[str, int] = field(default_factory=dict)

    def takes(self, part: str) -> Collection[str]:
        """Return the names of what may be set for a part."""
        return self.taken.get(part, (*self.parameters, SEEDED))

    def options_of(self, part: str, options: Options) -> Options:
        """Return what of the options a part takes; all else is as usual."""
        taken = self.takes(part)
        values = {name: value for name, value in options.values.items() if name in taken}
        seed = options.seed if SEEDED in taken else SEED
        return replace(options, seed=seed, values=values)


def counted(what: str, items: Iterable[T], total: int) -> Iterable[T]:
    """Show on stderr how far it is, where that is a terminal."""
    off = not PROGRESS.is_terminal
    return track(items, what, total=total, console=PROGRESS, transient=True, disable=off)
