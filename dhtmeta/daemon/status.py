"""In which state the daemon is, and how that is told from what works and what does not."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """What the daemon can do now.

    `starting`: not joined yet. `ready`: all works. `offline`: no DHT node answers; it heals by
    itself. `degraded`: something needs a person, `problems` says what. `stopping`: it ends.
    """

    STARTING = "starting"
    READY = "ready"
    OFFLINE = "offline"
    DEGRADED = "degraded"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Status:
    """The state, each problem with what to do about it, and how many records are kept.

    `started_at` in Unix s. `kept`: records kept alive; `due`: to be looked at now; `late`: due for
    longer than one republish interval; `damaged`: rows of the ledger that do not verify any more;
    `unfinished`: reserved in the ledger, and not known to be stored.
    `speed`: how fast copies die beside the survival law, as looked at lately (1: as the law says).
    """

    state: State
    problems: tuple[str, ...]
    started_at: float
    kept: int = 0
    due: int = 0
    late: int = 0
    damaged: int = 0
    unfinished: int = 0
    speed: float = 1.0
