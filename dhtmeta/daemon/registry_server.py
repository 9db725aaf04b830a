"""The bootstrap registry as a process: how it starts, what signals do, how it ends.

Everything is in memory: after a restart nodes register again within their lifetime. SIGHUP reads
the settings and the certificate again; broken ones change nothing.
"""

import asyncio
import contextlib
import logging
import random
import secrets
import signal
import ssl
import time
from collections.abc import Callable

from aiohttp import web

from dhtmeta.config import RegistrySettings, Settings
from dhtmeta.const import REGISTRY_DEADLINE, REGISTRY_REQUESTS
from dhtmeta.daemon.listener import Listener, start_listener
from dhtmeta.daemon.logs import configure_logs
from dhtmeta.daemon.notify import Systemd
from dhtmeta.daemon.quotas import AddressQuota
from dhtmeta.daemon.registry_entries import Entries
from dhtmeta.daemon.registry_nonces import Nonces
from dhtmeta.daemon.registry_views import RegistryViews
from dhtmeta.daemon.tls import tls_context
from dhtmeta.daemon.way import Way, on_expect, route
from dhtmeta.dht.address import format_address, is_local, parse_listen
from dhtmeta.engine.connectability import Judge
from dhtmeta.errors import ConfigError, DhtmetaError
from dhtmeta.krpc.compact import Endpoint

log = logging.getLogger(__name__)

SECRET_BYTES = 32  # what nonces are made with, new at each start


class Registry:
    """A registry that answers from `start` to `close`; the clocks are for tests.

    `now` gives monotonic seconds, for lifetimes; `clock` Unix seconds, for verdicts on records.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        entries: Entries | None = None,
        now: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
        randomness: random.Random | None = None,
    ) -> None:
        """Check the settings; ConfigError for a certificate that cannot be used."""
        self._settings = settings
        self._tls = _tls(settings.registry)
        self.views = RegistryViews(
            Entries() if entries is None else entries,
            Nonces(secrets.token_bytes(SECRET_BYTES)),
            _judge(settings),
            now=now,
            clock=clock,
            randomness=randomness or random.SystemRandom(),
        )
        self._asked, self._watched = (AddressQuota(REGISTRY_REQUESTS) for _ in range(2))
        self._way = Way(
            settings.registry.hosts,
            section="registry",
            quota=lambda request: self._watched if route(request) == "/health" else self._asked,
            count=self.views.count,
            deadline=REGISTRY_DEADLINE,
        )
        self._listener: Listener | None = None

    @property
    def endpoint(self) -> Endpoint:
        """Where it answers: (ip, TCP port)."""
        assert self._listener is not None
        return self._listener.endpoint

    @property
    def url(self) -> str:
        """The URL of its address: what a node on this network may have in [registry] urls."""
        return f"{'http' if self._tls is None else 'https'}://{format_address(self.endpoint)}"

    async def start(self) -> None:
        """Answer; PortError if the address cannot be had, CallerError if it is none."""
        application = self._way.application()
        _add_paths(application, self.views)
        listen = self._settings.registry.listen
        self._listener = await start_listener(
            application, listen, section="registry", tls=self._tls
        )

    def apply(self, settings: Settings) -> None:
        """Go by these host names and this certificate from now on; ConfigError changes nothing."""
        tls = _tls(settings.registry)
        if (tls is None) != (self._tls is None):
            raise ConfigError("[registry] certificate: to begin or end TLS needs a restart")
        self._way.apply(settings.registry.hosts)
        if self._listener is not None and tls is not None:
            self._listener.replace_certificate(tls)

    async def close(self) -> None:
        """Stop within 0.3 s, whatever is under way."""
        if self._listener is not None:
            await self._listener.close()


async def run_registry(load: Callable[[], Settings]) -> None:
    """Run a registry until SIGTERM or SIGINT; `load` reads the settings, again at SIGHUP.

    Raises what makes a start impossible: ConfigError, CallerError, PortError.
    """
    settings = load()
    configure_logs(settings.log)
    registry, systemd, stop = Registry(settings), Systemd(), asyncio.Event()
    async with contextlib.AsyncExitStack() as opened:
        await registry.start()
        opened.push_async_callback(registry.close)
        _take_signals(opened, stop.set, lambda: _reload(registry, load, systemd))
        if systemd.watchdog is not None:
            feeding = asyncio.create_task(_feed_watchdog(systemd, systemd.watchdog))
            opened.callback(feeding.cancel)
        systemd.tell("READY=1", "STATUS=answering")
        log.info("answering on %s", registry.url)
        await stop.wait()
        log.info("stopping")
        systemd.tell("STOPPING=1")


def _tls(settings: RegistrySettings) -> ssl.SSLContext | None:
    return tls_context(settings.certificate, settings.private_key, "registry")


def _judge(settings: Settings) -> Judge:
    allowed = settings.peer_discovery.allow_non_global
    if allowed is None:  # unset: only on networks that are on this machine
        allowed = is_local(parse_listen(settings.registry.listen)[0])
    return Judge(settings.dht.metadata_republish_interval, allowed)


def _add_paths(application: web.Application, views: RegistryViews) -> None:
    for path, view in (
        ("/nonce", views.nonce),
        ("/peers", views.peers),
        ("/stats", views.stats),
        ("/topology", views.topology),
        ("/health", views.health),
    ):
        application.router.add_get(path, view)
    application.router.add_post("/register", views.register, expect_handler=on_expect)


def _take_signals(
    opened: contextlib.AsyncExitStack, stop: Callable[[], None], reload: Callable[[], None]
) -> None:
    loop = asyncio.get_running_loop()
    for number, act in (
        (signal.SIGTERM, stop),
        (signal.SIGINT, stop),
        (signal.SIGHUP, reload),
    ):
        loop.add_signal_handler(number, act)
        opened.callback(loop.remove_signal_handler, number)


def _reload(registry: Registry, load: Callable[[], Settings], systemd: Systemd) -> None:
    systemd.tell("RELOADING=1")
    try:
        settings = load()
        registry.apply(settings)
    except DhtmetaError as error:
        log.error("the settings were not read again: %s", error)
    else:
        configure_logs(settings.log)
        log.info("the settings were read again")
    systemd.tell("READY=1")


async def _feed_watchdog(systemd: Systemd, every: float) -> None:
    while True:
        systemd.tell("WATCHDOG=1")
        await asyncio.sleep(every / 2)
