"""`dhtmeta doctor`: clock, key files, store, ports, DHT: what is wrong, and what to do about it."""

import errno
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dhtmeta.cli.options import (
    json_option,
    keys_option,
    load_settings,
    make_node,
    network_options,
    print_json,
    run,
)

if TYPE_CHECKING:
    from dhtmeta.config import Settings

EARLIEST = 1_763_000_000  # Unix s, November 2025: no clock that is right shows less
PROBE_TIMEOUT = 5.0  # s for all bootstrap nodes together; a healthy one answers within 1 s
CONTACT_GRACE = 2.0  # s that the slower ones get after the first one answered


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, whether it is well, and what was found or what to do."""

    check: str
    ok: bool
    detail: str


@click.command(epilog="Example: dhtmeta doctor --bootstrap 127.0.0.1:6881")
@keys_option
@network_options
@json_option
def doctor(as_json: bool, **options: Any) -> int:
    """Look at all that publishing, querying and finding peers need.

    Exit code 1 if anything is wrong.
    """
    findings = run(_examine(options))
    for finding in findings:
        if as_json:
            print_json(asdict(finding))
        else:
            mark = (
                click.style("ok   ", fg="green") if finding.ok else click.style("WRONG", fg="red")
            )
            click.echo(f"{mark}  {finding.check:<8} {finding.detail}")
    return int(not all(finding.ok for finding in findings))


async def _examine(options: dict[str, Any]) -> list[Finding]:
    settings = load_settings(options["config"])
    keys = options["keys"] or settings.keys
    store = options["store"] or settings.store_url
    return [
        _clock(),
        await _examined("keys", lambda: _keys(keys)),
        await _examined("store", lambda: _store(store)),
        await _examined("dht", lambda: _dht(options)),
        await _examined("exchange", lambda: _exchange(settings, options["bootstrap"])),
    ]


async def _examined(check: str, look: Callable[[], Awaitable[str]]) -> Finding:
    from dhtmeta.errors import DhtmetaError

    try:
        return Finding(check, True, await look())
    except DhtmetaError as error:
        return Finding(check, False, str(error))


def _clock() -> Finding:
    """Look at the clock: records carry Unix times, and one that is far off makes all stale."""
    now = time.time()
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < EARLIEST:
        return Finding("clock", False, f"it says {shown}, which is past; set it (NTP)")
    return Finding("clock", True, f"{shown}; readers allow it to be 300 s ahead of theirs")


async def _keys(directory: Path) -> str:
    from dhtmeta.values.keys import PRIVATE_FILE, PUBLIC_FILE, open_identity

    if _nothing_at(directory / PRIVATE_FILE) and _nothing_at(directory / PUBLIC_FILE):
        return f"none in {directory} yet; they are made on first use"
    return f"{open_identity(directory).public_key.hex()} in {directory}"


def _nothing_at(path: Path) -> bool:
    """Whether we can see that nothing is there; why we cannot is for `open_identity` to say."""
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return False


async def _store(url: str) -> str:
    from dhtmeta.store.store import Store

    store = await Store.open(url, time.time)
    try:
        await store.check()
        return f"{url}: {len(store.items)} cached records, {len(store.peers)} known peers"
    finally:
        await store.close()


async def _dht(options: dict[str, Any]) -> str:
    """Bind the port, and see which of the bootstrap nodes that are addresses answer."""
    from dhtmeta.errors import NetworkUnreachable

    chosen = options | {"store": "sqlite+aiosqlite://"}
    async with make_node(**chosen) as node:
        await node.carrier.ready(PROBE_TIMEOUT)
        where = node.endpoint
        live = await node.carrier.live_nodes()
        silent = await node.carrier.silent_contacts(CONTACT_GRACE)
    found = f"listening on {where[0]}:{where[1]} (UDP); nodes that answered so far: {len(live)}"
    if silent:
        names = ", ".join(silent)
        raise NetworkUnreachable(
            f"{found}; but not the bootstrap nodes {names}: take them out or see why", tuple(silent)
        )
    return found


async def _exchange(settings: "Settings", bootstrap: Sequence[str]) -> str:
    """See whether a daemon could have the port of the exchange, or has it already."""
    from dhtmeta.dht.address import any_address, any_local, parse_address, parse_listen
    from dhtmeta.errors import PortError

    exchange, nodes = settings.exchange, bootstrap or settings.dht.bootstrap_nodes
    if not exchange.enabled:
        return "switched off: nobody is found, and nobody finds a daemon ([exchange] enabled)"
    local = any_local([parse_address(one) for one in nodes])
    host, port = parse_listen(exchange.listen or any_address(local, exchange.port))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"UDP {port} is in use: by the daemon, if one runs here"
            reason = os.strerror(error.errno or 0)
            raise PortError(
                f"cannot listen on {host}:{port}: {reason}; see [exchange] listen and port"
            ) from error
    return f"UDP {port} is free for a daemon; let the firewall open it, both ways"
