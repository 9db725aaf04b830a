"""The daemon as a process on a real swarm: how it starts, ends, and what each thing wrong does."""

import asyncio
import contextlib
import json
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from dhtmeta.dht.session import Session
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.item import SignedItem
from dhtmeta.values.keys import Identity
from tests.cli.test_cli import dhtmeta
from tests.daemon.http_server import path_of, signed
from tests.daemon.process import COMMAND, PATIENCE, Sections, Supervised, supervised, write_settings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "daemon.toml"


@pytest.fixture
def settings(path: Path, own_swarm: Swarm) -> Path:
    return write_settings(path, own_swarm.addresses[:2])


@pytest_asyncio.fixture
async def daemon(settings: Path) -> AsyncIterator[Supervised]:
    async with supervised(settings) as running:
        await running.is_in("ready")
        yield running


# start and end


async def test_it_starts_is_ready_and_ends_when_told(daemon: Supervised) -> None:
    status, shown = await daemon.get("/ready")
    assert (status, shown["state"], shown["problems"]) == (200, "ready", [])
    assert await daemon.ended() == 0
    said = [line["event"] for line in daemon.logged]
    assert any(line.startswith("listening on 127.") for line in said)
    assert said[-1] == "stopping"
    assert {line["level"] for line in daemon.logged} == {"info"}


@contextlib.asynccontextmanager
async def swarm_process() -> AsyncIterator[tuple[asyncio.subprocess.Process, list[str]]]:
    """Run a swarm that can be stopped and continued."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "swarm", "--nodes", "8", "--json", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            yield process, json.loads(await process.stdout.readline())["bootstrap"]
    finally:
        process.kill()
        await process.communicate()


async def test_it_ends_with_lookups_in_flight(path: Path) -> None:
    async with swarm_process() as (swarm, bootstrap):
        write_settings(path, bootstrap[:2])
        async with supervised(path) as daemon:
            await daemon.is_in("ready")
            swarm.send_signal(signal.SIGSTOP)  # from now on nobody answers
            asking = [asyncio.create_task(daemon.get(path_of(signed()))) for _ in range(20)]
            while (await daemon.get("/stats"))[1]["counters"]["running"] < len(asking):
                await asyncio.sleep(0.01)
            assert await daemon.ended() == 0
            answers = await asyncio.gather(*asking, return_exceptions=True)
            assert all(isinstance(one, aiohttp.ClientError) for one in answers)
            assert {line["level"] for line in daemon.logged} <= {"info", "warning"}


@pytest.mark.parametrize("which", ["udp", "http"])
async def test_a_port_in_use_is_named_with_the_setting_to_change(
    which: str, path: Path, own_swarm: Swarm
) -> None:
    kind = socket.SOCK_DGRAM if which == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        section = {"dht": {"port": port}, "http": {"listen": f"127.0.0.1:{port}"}}
        name = "dht" if which == "udp" else "http"
        if which == "http":
            taken.listen()
        write_settings(path, own_swarm.addresses[:1], {name: section[name]})
        ran = await dhtmeta("daemon", "--config", path)
    (line,) = [one for one in ran.err.splitlines() if one.startswith("dhtmeta: ")]
    assert (ran.code, ran.out) == (1, "")
    assert f":{port}: Address already in use" in line
    assert line.endswith("with [dht] port" if which == "udp" else "with [http] listen")
    assert "--listen" not in line


async def test_an_address_in_use_is_named_with_its_own_setting(
    path: Path, own_swarm: Swarm
) -> None:
    write_settings(path, own_swarm.addresses[:1], {"dht": {"listen": own_swarm.addresses[0]}})
    ran = await dhtmeta("daemon", "--config", path)
    assert ran.code == 1
    assert f"cannot listen on {own_swarm.addresses[0]}" in ran.err
    assert ran.err.rstrip().endswith("with [dht] listen")


async def test_an_unknown_key_is_wrong_use_and_the_nearest_is_named(path: Path) -> None:
    write_settings(path, [], {"dht": {"prot": 1}})
    ran = await dhtmeta("daemon", "--config", path)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "dhtmeta: [dht] prot is not a setting; did you mean 'port'?\n"


BROKEN = """
from dhtmeta.daemon.app import Daemon

async def broken(self):
    seed = "".join(reversed("terces"))
    raise ZeroDivisionError("a bug")

Daemon._watch_ledger = broken
from dhtmeta.cli.main import main
main()
"""


@pytest.mark.parametrize("form", ["text", "json"])
async def test_a_bug_of_ours_ends_it_with_1_and_no_variable_is_shown(
    form: str, path: Path, own_swarm: Swarm
) -> None:
    write_settings(path, own_swarm.addresses[:1], {"log": {"format": form}})
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", BROKEN, "daemon", "--config", str(path)),
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE):
        _, err = await process.communicate()
    assert process.returncode == 1
    assert b"ZeroDivisionError" in err
    assert b"<string>" in err  # where it was
    assert b"a bug of ours, sorry" in err
    assert b"secret" not in err


# offline


def free_address() -> str:
    """Return an address of loopback where nobody is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.77.1", 0))
        return "{}:{}".format(*one.getsockname())


async def test_an_offline_start_is_alive_and_heals_when_the_network_comes(
    path: Path, tmp_path: Path
) -> None:
    record = tmp_path / "record.json"
    record.write_text('{"topic": "later"}')
    address = free_address()
    write_settings(path, [address], {"identity": {"record": str(record)}})
    async with supervised(path) as daemon:
        await daemon.said("our record is not published yet")
        shown = await daemon.is_in("offline")
        assert (await daemon.get("/health"))[0] == 200
        assert (await daemon.get("/ready"))[0] == 503
        assert shown["problems"] == []
        swarm = Swarm(8)
        swarm.sessions[0] = Session(listen=address)
        async with swarm:
            await daemon.is_in("ready")
            assert (await daemon.get("/ready"))[0] == 200
            await daemon.said(f"our record of {record} is published")
            assert await daemon.ended() == 0


# settings read again


async def test_sighup_reads_the_settings_again_and_a_broken_file_changes_nothing(
    daemon: Supervised, path: Path, own_swarm: Swarm
) -> None:
    bootstrap = own_swarm.addresses[:2]
    assert [await daemon.put(signed()) for _ in range(2)] == [201, 201]
    write_settings(path, bootstrap, {"http": {"puts_per_minute": 1}})
    daemon.process.send_signal(signal.SIGHUP)
    await daemon.said("the settings were read again")
    assert [await daemon.put(signed()) for _ in range(2)] == [201, 429]
    path.write_text("[http\n")
    daemon.process.send_signal(signal.SIGHUP)
    shown = await daemon.degraded("the settings were not read again:")
    assert f"{path} is not TOML" in shown["problems"][0]
    assert shown["state"] == "degraded"
    assert (await daemon.get("/health"))[0] == (await daemon.get("/ready"))[0] == 503
    assert await daemon.put(signed()) == 429  # as it was
    write_settings(path, bootstrap)
    daemon.process.send_signal(signal.SIGHUP)
    await daemon.is_in("ready")
    assert await daemon.put(signed()) == 201
    assert await daemon.ended() == 0


async def test_what_needs_a_restart_is_said_each_time_and_the_log_level_is_not(
    daemon: Supervised, path: Path, own_swarm: Swarm
) -> None:
    sections: Sections = {
        "dht": {"port": 4},
        "http": {"listen": "127.0.0.1:1"},
        "log": {"level": "warning"},
    }
    write_settings(path, own_swarm.addresses[:2], sections)
    for times in (1, 2):
        daemon.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(PATIENCE):
            while len(warnings(daemon)) < times:
                await asyncio.sleep(0.01)
    assert warnings(daemon) == ["what changed in [dht], [http] listen needs a restart"] * 2
    assert "the settings were read again" not in [line["event"] for line in daemon.logged]
    write_settings(path, own_swarm.addresses[:2])
    daemon.process.send_signal(signal.SIGHUP)
    await daemon.said("the settings were read again")
    assert len(warnings(daemon)) == 2


def warnings(daemon: Supervised) -> list[str]:
    return [line["event"] for line in daemon.logged if line["level"] == "warning"]


# systemd


class Supervisor:
    """The socket that systemd would listen on."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address[0] == "@" else address)
        self._socket.setblocking(False)

    async def hears(self, assignment: str, times: int = 1) -> None:
        """Wait until it was told that so often."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            while self._heard.count(assignment) < times:
                self._heard += (await loop.sock_recv(self._socket, 4096)).decode().split("\n")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["file", "abstract"])
def supervisor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Supervisor]:
    address = str(tmp_path / "notify") if request.param == "file" else f"@{tmp_path}"
    with contextlib.closing(Supervisor(address)) as listening:
        yield listening


async def test_systemd_is_told(settings: Path, supervisor: Supervisor) -> None:
    told = {"NOTIFY_SOCKET": supervisor.address, "WATCHDOG_USEC": "200000"}
    async with supervised(settings, environment=told) as daemon:
        await supervisor.hears("READY=1")
        await supervisor.hears("STATUS=ready")
        await supervisor.hears("WATCHDOG=1", times=3)
        daemon.process.send_signal(signal.SIGHUP)
        await supervisor.hears("RELOADING=1")
        await supervisor.hears("READY=1", times=2)
        assert await daemon.ended() == 0
        await supervisor.hears("STOPPING=1")


# the store


def ledger(path: Path, sql: str, *values: object) -> list[Any]:
    """Ask the store beside a settings file, or change it, as another process would."""
    with contextlib.closing(sqlite3.connect(path.with_name("store.db"))) as connection:
        found = connection.execute(sql, values).fetchall()
        connection.commit()
        return found


async def test_a_damaged_row_is_told_of_and_the_others_are_kept(
    path: Path, own_swarm: Swarm
) -> None:
    write_settings(path, own_swarm.addresses[:2])
    items = [signed() for _ in range(3)]
    async with supervised(path) as daemon:
        await daemon.is_in("ready")
        assert [await daemon.put(item) for item in items] == [201] * 3
        assert await daemon.ended() == 0
    ledger(path, "UPDATE ledger SET next_due = 0.0")
    ledger(path, "UPDATE ledger SET sig = zeroblob(64) WHERE target = ?", items[1].target)
    async with supervised(path) as daemon:
        shown = await daemon.degraded("1 damaged rows of the ledger")
        assert (shown["damaged"], shown["kept"]) == (1, 2)
        said = await daemon.said(items[1].target.hex())
        assert "is damaged, so it is not kept" in said
        assert (await daemon.get("/stats"))[1]["counts"]["looks_ok"] == 2
        assert await daemon.ended() == 0
    assert ledger(path, "SELECT count() FROM ledger") == [(3,)]  # for who mends it


async def test_a_ledger_that_cannot_be_read_is_told_of_and_heals(
    daemon: Supervised, path: Path
) -> None:
    ledger(path, "ALTER TABLE ledger RENAME TO elsewhere")
    await daemon.degraded("no such table")
    ledger(path, "ALTER TABLE elsewhere RENAME TO ledger")
    await daemon.is_in("ready")
    assert await daemon.put(signed()) == 201


@contextlib.contextmanager
def no_room(daemon: Supervised, store: Path) -> Iterator[None]:
    """Let no file of the daemon grow by more than a few pages."""
    pid, kind = daemon.process.pid, resource.RLIMIT_FSIZE
    _, most = resource.prlimit(pid, kind)
    size = store.with_name("store.db-wal").stat().st_size
    resource.prlimit(pid, kind, (size + 50_000, most))
    try:
        yield
    finally:
        resource.prlimit(pid, kind, (most, most))


@contextlib.contextmanager
def read_only(daemon: Supervised, store: Path) -> Iterator[None]:
    """Have the kernel refuse every write to the store, by root and through open files too."""
    log = str(store.with_name("store.db-wal"))
    if subprocess.run(["chattr", "+i", log], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("only root may, and not on every file system")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", log], check=True)


@pytest.mark.parametrize("failing", [no_room, read_only])
async def test_a_store_that_cannot_be_written_is_told_of_loses_nothing_and_heals(
    failing: Any, daemon: Supervised, path: Path
) -> None:
    stored: list[SignedItem] = []
    with failing(daemon, path):
        async with asyncio.timeout(PATIENCE):
            while await daemon.put(item := signed()) == 201:
                stored.append(item)
        shown = await daemon.is_in("degraded")
        assert "nothing that was reported done is lost" in shown["problems"][0]
        status, said = await daemon.get(path_of(signed()))
        assert status == 404, said  # who only asks is answered
    await daemon.is_in("ready")  # though nobody writes
    again = signed()
    assert await daemon.put(again) == 201
    stored.append(again)
    assert await daemon.ended() == 0
    held = {target for (target,) in ledger(path, "SELECT target FROM ledger WHERE copies > 0")}
    assert held >= {one.target for one in stored}


# the clock

SHIFTED = """
import sys, time
from pathlib import Path
from dhtmeta.daemon.app import Daemon

offset = Path(sys.argv.pop(1))
as_it_is = Daemon.__init__
Daemon.__init__ = lambda self, load: as_it_is(
    self, load, lambda: time.time() + float(offset.read_text())
)
from dhtmeta.cli.main import main
main()
"""
DAY = 86_400


async def test_a_clock_that_jumps_back_is_told_of_and_records_are_due(
    settings: Path, tmp_path: Path
) -> None:
    offset = tmp_path / "offset"
    offset.write_text("0")
    command = (sys.executable, "-c", SHIFTED, str(offset))
    async with supervised(settings, command=command) as daemon:
        await daemon.is_in("ready")
        assert await daemon.put(signed(identity=Identity.generate())) == 201
        ((before,),) = ledger(settings, "SELECT next_due FROM ledger")
        (tmp_path / "later").write_text(str(-10 * DAY))
        (tmp_path / "later").replace(offset)
        shown = await daemon.degraded(f"the clock jumped by {-10 * DAY} s")
        assert "check the time service" in shown["problems"][0]
        async with asyncio.timeout(PATIENCE):
            while ledger(settings, "SELECT next_due FROM ledger")[0][0] > before - 5 * DAY:
                await asyncio.sleep(0.05)
        assert await daemon.ended() == 0
