"""The daemon: in which order its rooms start and stop, what signals do, in which state it is.

A store that fails, a network that is gone, a file that is broken: each is told of in the state,
and none of them ends the daemon. It ends at SIGTERM, within a second, or by a bug of ours.
"""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path

from dhtmeta import config
from dhtmeta.config import Settings
from dhtmeta.const import (
    LAST_LOOK,
    MAX_TEXT_BYTES,
    ONLINE_DEADLINE,
    ONLINE_POLL,
    RECORD_POLL,
    STOP_DEADLINE,
    STORE_RETRY,
    SWEEP,
    TOTALS_POLL,
    TOTALS_SHARE,
)
from dhtmeta.daemon.clock_watch import ClockWatch
from dhtmeta.daemon.http import Server, start_http
from dhtmeta.daemon.logs import configure_logs
from dhtmeta.daemon.notify import Systemd
from dhtmeta.daemon.own_record import OwnRecord
from dhtmeta.daemon.status import State, Status
from dhtmeta.dht.address import any_address, any_local, format_address, parse_address
from dhtmeta.discovery.finder import Finder
from dhtmeta.errors import ConfigError, DhtmetaError, KeyFileError, NetworkUnreachable, PortError
from dhtmeta.node import Node
from dhtmeta.store.due import Totals
from dhtmeta.values.keys import PRIVATE_FILE
from dhtmeta.values.plain import from_json
from dhtmeta.values.record import NodeRecord

log = logging.getLogger(__name__)

FIXED = (
    *("dht", "identity", "store", "metadata_cache", "peer_discovery"),
    *("exchange", "relay", "registry"),
)  # read at start only
NOTHING = Totals(kept=0, due=0, late=0, damaged=0, unfinished=0, for_http=0)


class Daemon:
    """A node that runs until it is told to stop; `load` reads the settings, again at SIGHUP."""

    def __init__(
        self, load: Callable[[], Settings], clock: Callable[[], float] | None = None
    ) -> None:
        """Read the settings; ConfigError if that fails. `clock` gives Unix seconds, for tests."""
        self._load = load
        self.settings = self._at_start = load()
        self._systemd = Systemd()
        self._stop = asyncio.Event()
        self._online: bool | None = None  # None: not known yet
        self._totals = NOTHING
        self._config_problem: str | None = None
        self._ledger_problem: str | None = None
        self._bug: Exception | None = None  # what ended us
        self._own: OwnRecord | None = None
        self._finder: Finder | None = None
        self._no_discovery: str | None = None  # why there is none though there should be
        self._server: Server | None = None
        listen = self.settings.dht.listen or default_listen(self.settings)
        self.node = Node(settings=self.settings, listen=listen, clock=clock)
        self._started_at = self.node.clock()
        self._clock_watch = ClockWatch(self._started_at, _steady())

    async def run(self) -> None:
        """Run until SIGTERM, SIGINT or `stop`. Raises what makes a start impossible, and bugs."""
        configure_logs(self.settings.log)
        async with contextlib.AsyncExitStack() as opened:
            await self._open_node(opened)
            await self._open_discovery()
            await self._serve(opened)
            self._take_signals(opened)
            tasks = [asyncio.create_task(self._ended_only_by_us(one)) for one in self._work()]
            opened.push_async_callback(_cancelled, tasks)
            self._systemd.tell("READY=1", "STATUS=started")
            log.info("listening on %s, UDP", format_address(self.node.endpoint))
            await self._stop.wait()
            log.info("stopping")
            self._systemd.tell("STOPPING=1")
        if self._bug is not None:
            raise self._bug

    def stop(self) -> None:
        """End it; `run` returns within a second."""
        self._stop.set()

    @property
    def http_endpoint(self) -> tuple[str, int] | None:
        """Where HTTP is answered: (ip, TCP port); None where it is switched off."""
        return None if self._server is None else self._server.endpoint

    async def _open_node(self, opened: contextlib.AsyncExitStack) -> None:
        try:
            await opened.enter_async_context(self.node)
        except PortError as error:  # it names an option of the command line
            setting = "listen" if self.settings.dht.listen else "port"
            why = str(error).partition(";")[0]
            raise PortError(
                f"{why}; stop what uses it, or choose another with [dht] {setting}"
            ) from error

    async def _open_discovery(self) -> None:
        """Take part in the exchange, on the address that the DHT listens on unless said.

        Who has neither topic nor record has no peers, and needs no keys.
        """
        exchange, topic = self.settings.exchange, self._topic()
        if not exchange.enabled or not (topic or self.settings.identity.record):
            return
        try:
            _ = self.node.identity
        except KeyFileError as error:
            self._no_discovery = f"no peers are looked for: {error}; then restart"
            log.error("%s", self._no_discovery)
            return
        host, _ = self.node.endpoint
        listen = exchange.listen or format_address((host, exchange.port))
        self._finder = await self.node.open_discovery(topic, listen=listen)
        log.info("exchanging peers on %s, UDP", format_address(self._finder.exchange.endpoint))

    def _topic(self) -> str:
        """Return whose peers we are: what our record says, else the settings."""
        path = self.settings.identity.record
        if path:
            with contextlib.suppress(OSError, ValueError, DhtmetaError):
                text = Path(path).read_text("utf-8")[:MAX_TEXT_BYTES]
                said = NodeRecord.from_value(from_json(text)).topic
                return said or self.settings.peer_discovery.topic
        return self.settings.peer_discovery.topic

    async def _serve(self, opened: contextlib.AsyncExitStack) -> None:
        if not self.settings.http.listen:
            return
        node, http = self.node, self.settings.http
        self._server = await start_http(
            node,
            http,
            self.status,
            node.counts,
            node.clock,
            kept_for_others=lambda: self._totals.for_http,
            finder=self._finder,
        )
        opened.push_async_callback(self._server.close)
        log.info("answering HTTP on http://%s", format_address(self._server.endpoint))

    def _work(self) -> list[Coroutine[None, None, None]]:
        """Return all that goes on until the end."""
        work = [
            self.node.keep_alive(),
            self._watch_network(),
            self._watch_ledger(),
            self._watch_clock(),
        ]
        if self._systemd.watchdog is not None:
            work.append(self._feed_watchdog(self._systemd.watchdog))
        if self._finder is not None:
            work.append(self._finder.run())
        if self.settings.identity.record or (self._finder is not None and self._finder.topic):
            self._own = self._own_record()
            work.append(self._own.run())
        return work

    def _own_record(self) -> OwnRecord:
        path, key = self.settings.identity.record, self.settings.keys / PRIVATE_FILE
        if self._finder is None:
            return OwnRecord(Path(path), key, self.node.publish)
        own = OwnRecord(
            Path(path) if path else None, key, self.node.publish, self._finder.described
        )
        self._finder.on_change = own.wake
        return own

    async def _ended_only_by_us(self, work: Coroutine[None, None, None]) -> None:
        """Run what shall never end; if it does, the daemon does, and its supervisor starts it."""
        try:
            await work
        except Exception as error:
            log.exception("a bug of ours: the daemon stops, so that it can be started anew")
            self._bug = error
            self._stop.set()

    # signals

    def _take_signals(self, opened: contextlib.AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
            opened.callback(loop.remove_signal_handler, number)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        opened.callback(loop.remove_signal_handler, signal.SIGHUP)

    def reload(self) -> None:
        """Read the settings again; broken ones change nothing, what needs a restart is named."""
        self._systemd.tell("RELOADING=1")
        try:
            new = self._load()
        except ConfigError as error:
            self._config_problem = f"the settings were not read again: {error}"
            log.error("%s", self._config_problem)
        else:
            self._config_problem = None
            self._apply(new)
        self._systemd.tell("READY=1")

    def _apply(self, new: Settings) -> None:
        old = self._at_start
        waiting = [f"[{name}]" for name in FIXED if getattr(new, name) != getattr(old, name)]
        if new.http.listen != old.http.listen:
            waiting.append("[http] listen")
        if waiting:
            log.warning("what changed in %s needs a restart", ", ".join(waiting))
        configure_logs(new.log)
        self.node.planner.max_loss = new.republish.max_loss
        self.node.republisher.pace.change(new.republish.packets_per_second)
        if self._server is not None:
            self._server.apply(new.http)
        self.settings = new
        log.info("the settings were read again")

    # what is watched

    async def _watch_network(self) -> None:
        while True:
            try:
                await self.node.carrier.ready(ONLINE_DEADLINE)
            except NetworkUnreachable as error:
                if self._online is not False:
                    log.warning("offline: %s", error)
                self._online = False
            else:
                if not self._online:
                    log.info("online")
                self._online = True
            self._systemd.tell(f"STATUS={self.status().state}")
            await asyncio.sleep(ONLINE_POLL if self._online else 1.0)

    async def _watch_ledger(self) -> None:
        """Count what is kept, the less often the longer that takes."""
        while True:
            begun = _steady()
            try:
                self._totals = await self.node.totals()
                self._ledger_problem = None
            except DhtmetaError as error:
                self._ledger_problem = str(error)
            await asyncio.sleep(max(TOTALS_POLL, TOTALS_SHARE * (_steady() - begun)))

    async def _watch_clock(self) -> None:
        """Look at everything anew where due times are of a clock that was ahead of this one."""
        latest = self.node.clock() + 2 * LAST_LOOK
        await self._persist(lambda: self.node.due_at_once(due_after=latest))
        while True:
            await asyncio.sleep(RECORD_POLL)
            jump = self._clock_watch.look(self.node.clock(), _steady())
            if jump:
                log.error("%s", self._clock_watch.problem(_steady()))
            if abs(jump) > SWEEP:
                await self._persist(self.node.clock_was_set)

    async def _persist(self, act: Callable[[], Awaitable[object]]) -> None:
        """Try until the store takes it."""
        while True:
            try:
                await act()
            except DhtmetaError as error:
                log.warning("tried again: %s", error)
                await asyncio.sleep(STORE_RETRY)
            else:
                return

    async def _feed_watchdog(self, every: float) -> None:
        while True:
            self._systemd.tell("WATCHDOG=1")
            await asyncio.sleep(every / 2)

    # what is told

    def status(self) -> Status:
        """Return the state and what a person has to do, if anything."""
        totals, problems = self._totals, self._problems()
        return Status(
            self._state(problems),
            problems,
            self._started_at,
            kept=totals.kept,
            due=totals.due,
            late=totals.late,
            damaged=totals.damaged,
            unfinished=totals.unfinished,
            speed=self.node.planner.mortality.law().speed,
        )

    def _state(self, problems: tuple[str, ...]) -> State:
        if self._stop.is_set():
            return State.STOPPING
        if problems:
            return State.DEGRADED
        if self._online is None:
            return State.STARTING
        return State.READY if self._online else State.OFFLINE

    def _problems(self) -> tuple[str, ...]:
        damaged = self._totals.damaged
        said = (
            self.node.store_failure or self._ledger_problem,
            self._config_problem,
            self.node.key_failure,
            self._own.problem if self._own is not None else None,
            self._no_discovery,
            self._clock_watch.problem(_steady()),
            f"{damaged} damaged rows of the ledger are not kept: restore them from a backup"
            if damaged
            else None,
        )
        return tuple(one for one in said if one)


def default_listen(settings: Settings) -> str:
    """Return where the daemon listens: its port on every interface, or on loopback for a swarm."""
    local = any_local([parse_address(one) for one in settings.dht.bootstrap_nodes])
    return any_address(local, settings.dht.port)


def load_from(path: Path | None) -> Callable[[], Settings]:
    """Return how to read the settings of a file and the environment, now and again."""
    return lambda: config.load(path)


def _steady() -> float:
    """Return seconds that cannot jump and go on while the machine sleeps, where it can tell."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


async def _cancelled(tasks: "list[asyncio.Task[None]]") -> None:
    """Cancel them, and wait a while: what still hangs on the store ends with the process."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=STOP_DEADLINE)
