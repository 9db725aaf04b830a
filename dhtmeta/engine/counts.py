"""What the work of keeping records alive has come to since the start, for whoever watches it."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counts:
    """Counters that only rise; `copies` counts looks by how many of the closest held the record."""

    publishes_ok: int = 0
    publishes_failed: int = 0
    looks_ok: int = 0
    looks_failed: int = 0
    topped_up: int = 0  # nodes that a kept record was stored on, since they lacked it
    copies_lost: int = 0  # copies that were there at one look and gone at the next
    records_lost: int = 0  # looks that found no copy at all of what was stored before
    conflicts: int = 0  # looks that met another value under the same seq
    adopted: int = 0  # looks that met a newer item of its owner, which is kept from then on
    copies: Counter[int] = field(default_factory=Counter)
