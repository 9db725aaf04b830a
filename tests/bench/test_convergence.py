"""Convergence: what is not there, not tried or never over is a bar that is not met."""

from typing import Any, cast

import pytest

from bench.convergence import parts
from bench.convergence.fleet import Fleet, Told
from bench.convergence.visitor import Visit
from bench.report import Bar, Row


class Stub:
    """A fleet of two that tells what it is given to tell; time passes while it is waited for."""

    def __init__(self, *answers: bool) -> None:
        self.answers = list(answers)  # whether all lists are right, look by look
        self.started = 0.0
        self.pids = {"a": 1, "b": 2}
        self.members = ["a", "b"]
        self.told = {
            "a": Told(ready=1.0, lists=[(2.0, {"b": ""})]),
            "b": Told(ready=1.5, lists=[(3.0, {})]),
        }

    def start(self) -> None:
        """Be started."""

    def wait(self, done: Any, seconds: float) -> bool:
        return bool(done())

    def ready(self) -> bool:
        return True

    def wrong(self) -> dict[str, object]:
        return {} if self.answers.pop(0) else {"b": ()}

    def connectable(self) -> set[str]:
        return {"a", "b"}

    def last_ready(self) -> float:
        return 1.5

    def last_change(self) -> float:
        return 3.0

    def cpu(self) -> float:
        return 1.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in the part, which only its sleeps move."""
    now = [100.0]

    class Time:
        monotonic = staticmethod(lambda: now[0])

        @staticmethod
        def sleep(seconds: float) -> None:
            now[0] += seconds

    monkeypatch.setattr(parts, "time", Time)
    return now


def rows_of(stub: Stub) -> list[Row]:
    return parts._converge(cast("Fleet", stub), "2 nodes", Bar("<=", 60.0))[0]


def test_lists_that_become_right_and_stay_it_have_a_figure(clock: list[float]) -> None:
    row = rows_of(Stub(True, True))[0]
    assert (row.figure, row.holds) == (1.5, True)


def test_lists_that_never_become_right_are_a_bar_that_is_not_met(clock: list[float]) -> None:
    clock[0] = 180.0
    [row] = rows_of(Stub(False))
    assert row.what == "2 nodes: all lists right, after the last was ready"
    assert (row.figure, row.unit, row.holds) == (180.0, " s or more", False)
    assert row.note == "never: by then 2 were ready and 50% of all entries there"


def test_lists_that_do_not_stay_right_are_waited_for_again(clock: list[float]) -> None:
    row = rows_of(Stub(True, False, True, True))[0]
    assert (row.figure, row.holds) == (1.5, True)
    assert clock[0] == 100.0 + 2 * parts.HOLD


def test_lists_that_go_wrong_again_and_again_are_given_up(clock: list[float]) -> None:
    [row] = rows_of(Stub(*[True, False] * 100))
    assert row.holds is False
    assert clock[0] > 100.0 + parts.PATIENCE


@pytest.mark.parametrize(
    ("visit", "missed"),
    [
        (Visit(1.0, tried=45, failed=0), 0),
        (Visit(1.0, tried=45, failed=2), 2),
        (Visit(1.0, tried=0, failed=0), 45),  # it listed nobody, so that nobody was tried
        (Visit(1.0, tried=40, failed=0), 5),
        (Visit(1.0, tried=46, failed=1), 1),  # one that should not have been listed
    ],
)
def test_who_is_not_listed_is_not_reached(visit: Visit, missed: int) -> None:
    assert parts.missed(45, visit) == missed
    assert parts.NOBODY.holds(missed) is (missed == 0)
