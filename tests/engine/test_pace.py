"""The budget of datagrams, on virtual time: kept on average, never saved up for long."""

import asyncio

import pytest

from dhtmeta.engine.pace import Pace
from dhtmeta.testing.sim_loop import sim_run

RATE = 100.0


def now() -> float:
    return asyncio.get_running_loop().time()


async def work(pace: Pace, looks: int, sent: float, takes: float = 0.0) -> list[float]:
    """Begin so many looks as soon as they may, each sending so much; return when they began."""
    began: list[float] = []

    async def look() -> None:
        await asyncio.sleep(takes)
        pace.end(sent)

    tasks = []
    for _ in range(looks):
        await pace.begin()
        began.append(now())
        tasks.append(asyncio.create_task(look()))
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    return began


@pytest.mark.parametrize("sent", [2.0, 20.0, 200.0])
@pytest.mark.parametrize("takes", [0.0, 3.0])
def test_the_budget_is_kept_on_average_whatever_a_look_takes(sent: float, takes: float) -> None:
    async def run() -> None:
        looks = 2000
        began = await work(Pace(RATE, guess=20.0), looks, sent, takes)
        rate = 1000 * sent / (began[-1] - began[-1001])  # once it has learnt what one takes
        assert rate == pytest.approx(RATE, rel=0.05)

    sim_run(run())


def test_what_one_look_takes_too_much_the_next_has_to_wait_for() -> None:
    async def run() -> None:
        pace = Pace(RATE, guess=20.0)
        await pace.begin()
        pace.end(1000.0)
        await pace.begin()
        assert now() == pytest.approx(1000 / RATE)

    sim_run(run())


def test_never_is_more_sent_within_a_minute_than_in_a_minute_and_a_moment() -> None:
    async def run() -> None:
        began = await work(Pace(RATE, guess=20.0), 3000, 20.0)
        for first, last in zip(began, began[340:], strict=False):
            assert last - first > 60  # 340 looks of 20, at 100 a second, less what is saved up

    sim_run(run())


def test_idle_time_is_saved_up_for_a_second_only() -> None:
    async def run() -> None:
        pace = Pace(RATE, guess=20.0)
        await asyncio.sleep(10_000)
        began = await work(pace, 100, 20.0)
        assert began.count(10_000) == 6  # what a second allows, and the one that is paid later
        assert began[-1] == pytest.approx(10_000 + 99 * 0.2 - 1)

    sim_run(run())


def test_those_who_wait_have_their_turn_in_the_order_in_which_they_came() -> None:
    async def run() -> None:
        pace, order = Pace(RATE, guess=20.0), list[int]()

        async def one(n: int) -> None:
            await pace.begin()
            order.append(n)

        await asyncio.gather(*map(one, range(50)))
        assert order == list(range(50))

    sim_run(run())


def test_another_rate_holds_from_then_on() -> None:
    async def run() -> None:
        pace = Pace(RATE, guess=20.0)
        await work(pace, 100, 20.0)
        pace.change(10 * RATE)
        start = now()
        began = await work(pace, 1000, 20.0)
        assert began[-1] - start == pytest.approx(19.0, abs=0.1)  # a second was saved up

    sim_run(run())
