"""What a bench is: a name, parts that are run and kept one by one, parameters, and its picture."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import track

from bench.report import Part

T = TypeVar("T")
PROGRESS = Console(stderr=True)
SEED = 1  # of whatever is drawn, unless somebody says otherwise


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
    machine lacks for it.
    """

    name: str
    about: str
    parts: Mapping[str, Run]
    quick: tuple[str, ...] = ()
    draw: Callable[[Results], Any] | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    why_not: Callable[[], str | None] = lambda: None


def counted(what: str, items: Iterable[T], total: int) -> Iterable[T]:
    """Show on stderr how far it is."""
    return track(items, what, total=total, console=PROGRESS, transient=True)
