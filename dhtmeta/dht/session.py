"""A libtorrent session as an asyncio object: its settings, its start and end, alerts as calls.

Whatever is decided about libtorrent itself, rather than about items, lives here. Alerts are
handed over inside one `pop_alerts`, since one read after the next pop crashes the process.
"""

import asyncio
import contextlib
import ctypes
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any

import libtorrent as lt

from dhtmeta.const import (
    CONTACT_INTERVAL,
    LISTEN_DEADLINE,
    LISTEN_TRIES,
    POLL_INTERVAL,
    RESOLVE_AFTER,
    RESOLVE_DEADLINE,
    SOCKET_BUFFER_BYTES,
)
from dhtmeta.dht.address import (
    any_address,
    any_local,
    format_address,
    is_local,
    parse_address,
    parse_listen,
    resolve,
)
from dhtmeta.dht.mapping import Outside
from dhtmeta.errors import NetworkUnreachable, PortError
from dhtmeta.krpc.compact import Contact, Endpoint

log = logging.getLogger(__name__)

Handler = Callable[[Any], None]


def settings(
    listen: Endpoint, routers: Sequence[Endpoint], *, local: bool, serve: bool
) -> dict[str, Any]:
    """Return libtorrent's settings for a DHT node that listens on `listen`.

    `local` is for swarms on loopback: many nodes on one machine, no throttles. `serve` is
    False for a read-only node (BEP 43), which others do not put in their tables.
    """
    chosen: dict[str, Any] = {
        "listen_interfaces": format_address(listen),
        "max_retry_port_bind": 0,  # a busy port is an error, not a reason to take another
        "listen_system_port_fallback": False,
        "dht_bootstrap_nodes": ",".join(format_address(one) for one in routers),
        "dht_read_only": not serve,
        "enable_lsd": False,
        "enable_upnp": serve and not local,
        "enable_natpmp": serve and not local,
        "recv_socket_buffer_size": SOCKET_BUFFER_BYTES,
        "send_socket_buffer_size": SOCKET_BUFFER_BYTES,
        "alert_queue_size": 20_000,
        "aio_threads": 0,  # no files, no hashes: one thread a session instead of three
        "hashing_threads": 0,
        "alert_mask": lt.alert.category_t.dht_notification
        | lt.alert.category_t.dht_operation_notification
        | lt.alert.category_t.error_notification
        | lt.alert.category_t.port_mapping_notification
        | lt.alert.category_t.status_notification,
    }
    return chosen | (_LOCAL_SETTINGS if local else {})


_LOCAL_SETTINGS = {  # FACTS: one machine is one address range, and nobody has to be spared
    "dht_restrict_routing_ips": False,
    "dht_restrict_search_ips": False,
    "dht_prefer_verified_node_ids": False,
    "dht_enforce_node_id": False,
    "dht_ignore_dark_internet": False,
    "dht_upload_rate_limit": 100_000_000,
    "dht_block_ratelimit": 1_000_000,
    "dht_max_dht_items": 100_000,
}


_SILENT: dict[str, Any] = {  # no socket, no traffic
    "listen_interfaces": "",
    "enable_dht": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "alert_mask": 0,
}


class Session:
    """One libtorrent session: `start` and `close` bracket it, `on` adds a handler of alerts.

    `outside` tells which ports gateways map to ours, and under which address we are seen.
    """

    def __init__(
        self,
        bootstrap: Sequence[str] = (),
        listen: str | None = None,
        *,
        serve: bool = True,
        saved_state: bytes = b"",
    ) -> None:
        """Take bootstrap nodes as "HOST:PORT" and an address to listen on ("IP:0" for any port)."""
        self.bootstrap = [parse_address(one) for one in bootstrap]
        self.local = any_local(self.bootstrap) or (listen is not None and is_local(_host(listen)))
        self.listen = parse_listen(listen or any_address(self.local))
        self.outside = Outside()
        self._serve = serve
        self._saved_state = saved_state
        self._handlers: dict[type, Handler] = {}
        self._session: Any = None
        self._reading: socket.socket | None = None
        self._writing: socket.socket | None = None
        self._live: dict[bytes, asyncio.Future[list[Contact]]] = {}

    def on(self, alert: type, handler: Handler) -> None:
        """Call `handler` with every alert of that type; it copies what it needs."""
        self._handlers[alert] = handler

    @property
    def handle(self) -> Any:
        """The libtorrent session; NetworkUnreachable once closed."""
        if self._session is None:
            raise NetworkUnreachable("this node is closed")
        return self._session

    @property
    def endpoint(self) -> Endpoint:
        """Where this session listens."""
        return self.listen[0], self.handle.listen_port()

    async def start(self) -> None:
        """Bind the port and switch the DHT on; PortError if the port cannot be had.

        Of any free port, libtorrent binds TCP first and may find its UDP twin taken: then another.
        """
        for tries_left in reversed(range(1 if self.listen[1] else LISTEN_TRIES)):
            try:
                return await self._listen()
            except PortError:
                if not tries_left:
                    raise
        return None

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        listening: asyncio.Future[None] = loop.create_future()
        self.on(lt.listen_succeeded_alert, lambda alert: self._on_listening(listening, alert))
        self.on(lt.listen_failed_alert, lambda alert: _settle(listening, alert.error.message()))
        self.on(lt.dht_live_nodes_alert, self._on_live_nodes)
        self.on(lt.portmap_alert, self.outside.mapped)
        self.on(lt.portmap_error_alert, self.outside.refused)
        self.on(lt.external_ip_alert, self.outside.seen)
        try:
            self._open(loop)
            async with asyncio.timeout(LISTEN_DEADLINE):
                await listening
            self._session.apply_settings({"enable_dht": True})
        except (PortError, TimeoutError) as error:
            await self.close()
            reason = str(error) or "no answer from the operating system"
            raise PortError(
                f"cannot listen on {format_address(self.listen)}: {reason}; choose another --listen"
            ) from error
        except BaseException:  # cancelled, or out of file descriptors
            await self.close()
            raise

    def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Create the session with the DHT off, so that saved state is not lost (FACTS)."""
        routers = [] if self.local else [one for one in self.bootstrap if not _is_ip(one[0])]
        params = self._restored()
        params.settings = settings(self.listen, routers, local=self.local, serve=self._serve) | {
            "enable_dht": False
        }
        self._session = lt.session(params)
        self._reading, self._writing = socket.socketpair()
        for end in (self._reading, self._writing):
            end.setblocking(False)  # a full pipe would freeze libtorrent's network thread
        loop.add_reader(self._reading, self._on_alerts)
        self._session.set_alert_fd(self._writing.fileno())

    def _restored(self) -> Any:
        try:
            return (
                lt.read_session_params(self._saved_state)
                if self._saved_state
                else lt.session_params()
            )
        except (RuntimeError, ValueError):  # damaged: a slower start, nothing worse
            return lt.session_params()

    def _on_alerts(self) -> None:
        assert self._reading is not None
        with contextlib.suppress(BlockingIOError):
            self._reading.recv(4096)
        for alert in self._session.pop_alerts():
            handler = self._handlers.get(type(alert))
            if handler is not None:
                self._handle(handler, alert)

    def _handle(self, handler: Handler, alert: Any) -> None:
        try:
            handler(alert)
        except Exception:  # a bug of ours in one must not cost the other alerts
            log.exception("an alert could not be handled: %s", alert.what())

    def _on_listening(self, listening: "asyncio.Future[None]", alert: Any) -> None:
        if alert.socket_type != lt.socket_type_t.tcp:  # UDP is bound last, and is what is needed
            self.outside.listening(self.handle)
            _settle(listening, None)

    async def join(self) -> None:
        """Return once a node answered, however long that takes.

        Bootstrap nodes that are addresses are pinged again each second, since a datagram may be
        lost; names, which libtorrent resolves only once, join them when that did not help.
        """
        loop = asyncio.get_running_loop()
        started, next_ping = loop.time(), 0.0
        while not await self.live_nodes():
            now = loop.time()
            if now >= next_ping:
                next_ping = now + CONTACT_INTERVAL
                self.add_nodes(await self._contacts(names=now > started + RESOLVE_AFTER))
            await asyncio.sleep(POLL_INTERVAL)

    async def _contacts(self, *, names: bool) -> list[Endpoint]:
        wanted = [one for one in self.bootstrap if names or self.local or _is_ip(one[0])]
        try:
            return list((await asyncio.wait_for(resolve(wanted), RESOLVE_DEADLINE)).values())
        except TimeoutError:
            return []

    def unreachable(self, deadline: float) -> NetworkUnreachable:
        """Return the error that names the bootstrap nodes, none of which answered in time."""
        silent = tuple(format_address(one) for one in self.bootstrap)
        if not silent:
            return NetworkUnreachable(
                "no DHT node is known: give one with --bootstrap HOST:PORT", silent
            )
        return NetworkUnreachable(
            f"no DHT node answered within {deadline:g} s; asked: {', '.join(silent)}. "
            f"Check the network, the firewall (UDP) and --bootstrap",
            silent,
        )

    async def silent_contacts(self, grace: float) -> list[str]:
        """Return the bootstrap nodes given as addresses that stay silent for `grace` seconds."""
        contacts = await resolve(one for one in self.bootstrap if self.local or _is_ip(one[0]))
        self.add_nodes(list(contacts.values()))
        end = asyncio.get_running_loop().time() + grace
        while True:
            live = {one.endpoint for one in await self.live_nodes()}
            silent = [given for given, found in contacts.items() if found not in live]
            if not silent or asyncio.get_running_loop().time() >= end:
                return [format_address(one) for one in silent]
            await asyncio.sleep(POLL_INTERVAL)

    def add_nodes(self, endpoints: Sequence[Endpoint]) -> None:
        """Tell the routing table of nodes at these (ip, port); they are pinged first."""
        for endpoint in endpoints:
            self.handle.add_dht_node(endpoint)

    async def live_nodes(self) -> list[Contact]:
        """Return the nodes in the routing table that answered lately, over all our node ids."""
        answers = [self._ask_live_nodes(node_id) for node_id in self.node_ids()]
        found = await asyncio.gather(*answers)
        return list({one.endpoint: one for answer in found for one in answer}.values())

    async def _ask_live_nodes(self, node_id: bytes) -> list[Contact]:
        """Ask for one node id's table; no answer (the DHT is not up yet) is an empty one."""
        if node_id not in self._live:
            self._live[node_id] = asyncio.get_running_loop().create_future()
            self.handle.dht_live_nodes(lt.sha1_hash(node_id))
        answer = self._live[node_id]
        done, _ = await asyncio.wait([answer], timeout=CONTACT_INTERVAL)
        if not done:
            self._live.pop(node_id, None)
            return []
        return answer.result()

    def _on_live_nodes(self, alert: Any) -> None:
        answer = self._live.pop(alert.node_id.to_bytes(), None)
        if answer is not None:
            answer.set_result(
                [Contact(one["nid"].to_bytes(), one["endpoint"]) for one in alert.nodes]
            )

    def node_ids(self) -> list[bytes]:
        """Return our own 20-byte node ids, one for each address listened on."""
        state: Any = lt.bdecode(self.saved_state())
        return [raw[:20] for raw in state.get(b"dht state", {}).get(b"node-id", [])]

    def saved_state(self) -> bytes:
        """Return node ids and routing table, bencoded by libtorrent."""
        state = self.handle.session_state(lt.save_state_flags_t.save_dht_state)
        return bytes(lt.write_session_params_buf(state, lt.save_state_flags_t.save_dht_state))

    async def close(self) -> None:
        """Stop within a second; closing twice is fine."""
        for answer in self._live.values():
            answer.set_result([])
        self._live.clear()
        await self.outside.give_back()
        self.outside.closed()
        if self._reading is not None:
            asyncio.get_running_loop().remove_reader(self._reading)
        session, self._session = self._session, None
        if session is not None:
            session.pause()
            if not self.local:
                _abandon(session)
        del session  # libtorrent stops its network thread here: 2 ms with 200 lookups in flight
        for end in (self._reading, self._writing):
            if end is not None:
                end.close()
        self._reading = self._writing = None


def _abandon(session: Any) -> None:
    """Silence a session and leave it to the end of the process: one idle thread, 1 MiB.

    Its own end holds the GIL until name servers and gateways have answered: 9 s for a dead name
    server, 10 s for each mapping of a dead gateway.
    """
    session.set_alert_fd(-1)  # ours may soon be another file's number
    session.apply_settings(_SILENT)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))


def _settle(listening: "asyncio.Future[None]", failure: str | None) -> None:
    if listening.done():
        return
    if failure is None:
        listening.set_result(None)
    else:
        listening.set_exception(PortError(failure))


def _host(address: str) -> str:
    return parse_address(address, any_port=True)[0]


def _is_ip(host: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except OSError:
        return False
    return True
