"""Which addresses are dialled, and when again: on virtual time, with peers that answer or not."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, cast

from dhtmeta.const import DIAL_RETRY, DIAL_RETRY_LAST, DIALS_A_ROUND, DIALS_AT_ONCE, NEIGHBOURS
from dhtmeta.discovery.dialler import Dialler
from dhtmeta.discovery.exchange import Exchange
from dhtmeta.errors import DhtmetaError, NetworkUnreachable
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.testing.sim_loop import sim_run

HERE: Endpoint = ("81.1.0.1", 30906)


class Peer:
    """The connection with a peer, as far as a dialler looks at it."""

    def __init__(self, remote: Endpoint) -> None:
        self.remote = remote


class Wire:
    """Connects with the addresses in `there` after a second; nobody is at all others."""

    def __init__(self, *there: Endpoint) -> None:
        self.there, self.links = set(there), set[Peer]()
        self.dialled: list[Endpoint] = []
        self.at_once = self.most_at_once = 0
        self.shunned: set[Endpoint] = set()

    def can_dial(self, endpoint: Endpoint) -> bool:
        return ":" not in endpoint[0]

    def shuns(self, who: Endpoint) -> bool:
        return who in self.shunned

    async def dial(self, endpoint: Endpoint) -> Peer:
        self.dialled.append(endpoint)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(1)
        self.at_once -= 1
        if endpoint not in self.there:
            raise NetworkUnreachable("nobody answers")
        self.links.add(link := Peer(endpoint))
        return link


def run(
    script: Callable[[Wire, Dialler], Coroutine[Any, Any, None]],
    *there: Endpoint,
    known: tuple[Endpoint, ...] = (),
) -> None:
    async def main() -> None:
        wire = Wire(*there)
        await script(wire, Dialler(cast("Exchange", wire), known.__contains__))

    sim_run(main())


def at(number: int) -> Endpoint:
    return f"81.{number}.0.1", 30906


async def tried(dialler: Dialler, endpoint: Endpoint = HERE) -> bool:
    """Dial if that may be; says whether it might."""
    may = dialler.may(endpoint, by_name=False)
    if may:
        with contextlib.suppress(DhtmetaError):
            await dialler.dial(endpoint)
    return may


def test_a_round_has_eight_attempts_whoever_names_how_many() -> None:
    async def script(wire: Wire, dialler: Dialler) -> None:
        for _ in range(2):
            dialler.begin_round()
            wire.dialled.clear()
            for i in range(100):
                await tried(dialler, at(i))
            assert len(wire.dialled) == DIALS_A_ROUND == 8

    run(script)


def test_who_has_enough_connections_finds_out_about_one_a_round() -> None:
    async def script(wire: Wire, dialler: Dialler) -> None:
        wire.links |= {Peer(at(200 + i)) for i in range(NEIGHBOURS)}
        dialler.begin_round()
        assert [await tried(dialler, at(i)) for i in range(3)] == [True, False, False]

    run(script)


def test_an_address_that_does_not_answer_waits_longer_each_time() -> None:
    async def script(wire: Wire, dialler: Dialler) -> None:
        loop, waits = asyncio.get_running_loop(), list[float]()
        for _ in range(12):
            dialler.begin_round()
            assert await tried(dialler)
            failed = loop.time()
            while not dialler.may(HERE, by_name=False):
                await asyncio.sleep(1)
            waits.append(loop.time() - failed)
        assert waits[:3] == [DIAL_RETRY, 2 * DIAL_RETRY, 4 * DIAL_RETRY]
        assert waits[-1] == DIAL_RETRY_LAST
        assert (dialler.counts.ok, dialler.counts.failed) == (0, 12)

    run(script)


def test_one_address_that_waits_keeps_no_other_one_waiting() -> None:
    async def script(wire: Wire, dialler: Dialler) -> None:
        assert await tried(dialler, at(1))
        assert not await tried(dialler, at(1))
        assert await tried(dialler, at(2))

    run(script)


def test_an_address_that_answers_again_begins_anew() -> None:
    async def script(wire: Wire, dialler: Dialler) -> None:
        for wait in (DIAL_RETRY, 2 * DIAL_RETRY):
            assert await tried(dialler)
            await asyncio.sleep(wait)
        wire.there.add(HERE)
        assert await tried(dialler)
        wire.links.clear()
        wire.there.clear()
        assert await tried(dialler)
        await asyncio.sleep(DIAL_RETRY)
        assert await tried(dialler)

    run(script)


def test_who_is_connected_or_being_dialled_is_not_dialled_again() -> None:
    async def script(wire: Wire, dialler: Dialler) -> None:
        first, second = await asyncio.gather(tried(dialler), tried(dialler))
        assert (first, second) == (True, False)
        assert not await tried(dialler)
        assert wire.dialled == [HERE]

    run(script, HERE)


def test_who_is_known_is_dialled_only_by_name() -> None:
    async def script(wire: Wire, dialler: Dialler) -> None:
        assert not dialler.may(HERE, by_name=False)
        assert dialler.may(HERE, by_name=True)

    run(script, known=(HERE,))


def test_only_so_many_are_dialled_at_once() -> None:
    async def script(wire: Wire, dialler: Dialler) -> None:
        dials = [dialler.dial(at(i)) for i in range(3 * DIALS_AT_ONCE)]
        await asyncio.gather(*dials, return_exceptions=True)
        assert wire.most_at_once == DIALS_AT_ONCE

    run(script)


def test_what_our_socket_cannot_dial_and_who_is_shunned_cost_no_attempt() -> None:
    async def script(wire: Wire, dialler: Dialler) -> None:
        wire.shunned.add(at(1))
        assert [await tried(dialler, one) for one in (at(1), ("2001:db8::1", 9), at(2))] == [
            False,
            False,
            True,
        ]

    run(script)
