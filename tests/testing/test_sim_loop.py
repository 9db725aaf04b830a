"""Virtual time, and the simulated socket on it."""

import asyncio
import threading
from pathlib import Path

import aiosqlite
import pytest

from dhtmeta.krpc.codec import decode, encode
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.krpc.messages import Ping, Response
from dhtmeta.testing.sim_loop import NothingLeft, SimLoop, in_real_time, sim_run
from dhtmeta.testing.sim_socket import SimSocket
from dhtmeta.testing.simnet import SimNet, constant_round_trip

US = ("198.51.100.7", 4000)
PING = encode(Ping(t=b"tran", node_id=bytes(20)))
WEEK = 7 * 86_400.0  # s


def now() -> float:
    return asyncio.get_running_loop().time()


def test_time_jumps_from_timer_to_timer() -> None:
    async def main() -> list[float]:
        async def after(delay: float) -> float:
            await asyncio.sleep(delay)
            return now()

        assert now() == 0.0
        return await asyncio.gather(*map(after, (WEEK, 0.5, 10 * WEEK, 0.0)))

    assert sim_run(main()) == [WEEK, 0.5, 10 * WEEK, 0.0]


def test_deadlines_are_virtual() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(WEEK):
                await asyncio.Event().wait()
        return now()

    assert sim_run(main()) == WEEK


def test_waiting_for_nothing_is_an_error() -> None:
    async def main() -> None:
        await asyncio.sleep(1.0)
        await asyncio.Event().wait()

    with pytest.raises(NothingLeft, match="virtual time"):
        sim_run(main())


def test_time_stands_still_while_a_thread_works() -> None:
    gate = threading.Event()

    async def main() -> tuple[str, float]:
        loop = asyncio.get_running_loop()
        timer = loop.create_task(asyncio.sleep(1.0))
        worker = loop.run_in_executor(None, gate.wait)
        threading.Thread(target=gate.set).start()
        await worker
        before = now()
        await timer
        return ("worker first" if before == 0.0 else "timer first"), now()

    assert sim_run(main()) == ("worker first", 1.0)


def test_real_work_waits_for_a_thread_of_ones_own() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        done = asyncio.Event()
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(done.set,))
        with loop.real_work():
            thread.start()
            await done.wait()
        thread.join()
        return now()

    assert sim_run(main()) == 0.0


def test_sqlite_works_in_no_time(tmp_path: Path) -> None:
    async def main() -> tuple[object, float]:
        timer = asyncio.create_task(asyncio.sleep(5.0))
        async with aiosqlite.connect(tmp_path / "store.db") as database:
            await database.execute("create table t (x)")
            await database.execute("insert into t values (7)")
            rows = await database.execute_fetchall("select x from t")
        at = now()
        await timer
        return [tuple(row) for row in rows], at

    with in_real_time(aiosqlite.Connection, "_connect", "_execute", "close"):
        assert sim_run(main()) == ([(7,)], 0.0)


def test_in_real_time_changes_nothing_elsewhere(tmp_path: Path) -> None:
    async def main() -> None:
        async with aiosqlite.connect(tmp_path / "store.db") as database:
            await database.execute("create table t (x)")

    with in_real_time(aiosqlite.Connection, "_connect", "_execute", "close"):
        asyncio.run(main())


def test_datagrams_come_back_when_they_arrive() -> None:
    net = SimNet(100, seed=1, dead=0.5, round_trip=constant_round_trip(0.25))
    came: list[tuple[float, bytes, Endpoint]] = []

    def take(datagrams: list[tuple[bytes, Endpoint]]) -> None:
        came.extend((now(), data, source) for data, source in datagrams)

    async def main() -> None:
        socket = SimSocket(net, US)
        assert socket.endpoint == US
        socket.open(take)
        await asyncio.sleep(1.0)
        socket.send([(PING, net.contact(i).endpoint) for i in range(100)])
        await asyncio.sleep(10.0)
        socket.close()

    sim_run(main())
    live = [i for i in range(100) if net.live(i)]
    assert {at for at, _, _ in came} == {1.25}
    assert sorted(source for _, _, source in came) == sorted(net.contact(i).endpoint for i in live)
    said = decode(came[0][1])
    assert isinstance(said, Response)
    assert net.contact(net.index(said.node_id)) == (said.node_id, came[0][2])


def test_a_closed_socket_takes_and_sends_nothing() -> None:
    net = SimNet(100, seed=1)
    came: list[object] = []

    async def main() -> None:
        socket = SimSocket(net, US)
        socket.open(came.append)
        socket.send([(PING, net.contact(0).endpoint)])
        socket.close()
        socket.send([(PING, net.contact(0).endpoint)])
        await asyncio.sleep(10.0)

    sim_run(main())
    assert came == []
    assert net.traffic.sent == 1
