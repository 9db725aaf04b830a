"""For how long a record is believed without another look: learnt from how often it changed.

A look costs the network some 30 datagrams; an answer that is out of date costs its reader a failed
connection. Who changes often is looked at often, who hardly ever does seldom: with a record that
changes at the rate r, and looks every T, a share of about r T / 2 of the answers is out of date for
1 / T looks a second, so at one price for all records T goes with 1 / sqrt(r) (Cho and
Garcia-Molina, "Effective page refresh policies for web crawlers", 2003).

The rate is that of changes which only a look showed: one that peers told us of by themselves was
not missed. It starts from a belief at which T is the fixed lifetime that networks of this kind use,
`ttl`, by which all times here are measured. No clock: ages and times that passed are in seconds.
"""

from math import sqrt
from typing import NamedTuple

from dhtmeta.const import (
    BELIEVED_CHANGES,
    CHANGES_AT_ONCE,
    LONGEST_LIFETIME,
    PRICE_OF_A_LOOK,
    SHORTEST_LIFETIME,
    SIGNING_COUNTS,
    WATCHED_FOR,
)


class Habit(NamedTuple):
    """How many changes looks have shown, in how many seconds of watching."""

    changes: float
    watched: float


def first_look(age: float | None, ttl: float) -> Habit:
    """Return what the first look says: not changed since it was signed, `age` seconds ago.

    None where the record does not say when that was. Whether it changed then, or was signed anew
    with the same content, cannot be seen; so it counts by half.
    """
    if age is None:
        return Habit(0.0, 0.0)
    return Habit(SIGNING_COUNTS, min(max(0.0, age), WATCHED_FOR * ttl))


def renewed(habit: Habit) -> Habit:
    """Return the habit of a record that was signed anew with the same content.

    If nothing else was seen of it, its first signing was a renewal, too, for all we know.
    """
    return habit if habit.changes > SIGNING_COUNTS else Habit(0.0, habit.watched)


def looked_again(habit: Habit, passed: float, changes: int, ttl: float) -> Habit:
    """Return the habit after so many more seconds, and changes that nobody had told of.

    What was seen longer ago than WATCHED_FOR fades away, so that habits may change.
    """
    changed = habit.changes + (changes if changes <= CHANGES_AT_ONCE else 1)
    watched = habit.watched + max(0.0, passed)
    fade = min(1.0, WATCHED_FOR * ttl / watched) if watched else 1.0
    return Habit(changed * fade, watched * fade)


def lifetime(habit: Habit, ttl: float) -> float:
    """Return for how many seconds it counts as fresh."""
    believed = BELIEVED_CHANGES * ttl / PRICE_OF_A_LOOK
    quiet = (believed + habit.watched) / (BELIEVED_CHANGES + habit.changes)  # s a change takes
    wanted = sqrt(PRICE_OF_A_LOOK * ttl * quiet)
    return min(max(wanted, SHORTEST_LIFETIME * ttl), LONGEST_LIFETIME * ttl)
