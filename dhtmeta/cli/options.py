"""The options that commands share, how a Node is made of them, and how a coroutine is run."""

import contextlib
import functools
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dhtmeta.const import CARRIERS, DEFAULT_CARRIER

if TYPE_CHECKING:
    from dhtmeta.config import CarrierName, Settings
    from dhtmeta.node import Node

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object per result on stdout."
)
keys_option = click.option(
    "--keys",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the key files.  [default: $XDG_DATA_HOME/dhtmeta/keys]",
)


class Seconds(click.FloatRange):
    """A finite number of seconds in a range."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number; "nan" and "inf" are wrong use."""
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{value} is no number of seconds.", param, ctx)
        return seconds


def timeout_option(default: float) -> Decorator:
    """Return the option that says how long a command may take, in seconds."""
    return click.option(
        "--timeout",
        type=Seconds(0, min_open=True),
        default=default,
        show_default=True,
        help="Seconds.",
    )


def _salt_bytes(_context: click.Context, _option: click.Parameter, text: str) -> bytes:
    """Return the very bytes that the shell gave us, UTF-8 or not, or raise InvalidSalt."""
    from dhtmeta.values.item import check_salt

    salt = os.fsencode(text)
    check_salt(salt)
    return salt


salt_option = click.option(
    "--salt",
    default="",
    callback=_salt_bytes,
    help="Salt, at most 64 bytes: one key, many items.",
)

_NETWORK: tuple[Decorator, ...] = (
    click.option(
        "--bootstrap",
        multiple=True,
        metavar="HOST:PORT",
        help="Whom to ask first; may be repeated.  [default: mainline's public routers]",
    ),
    click.option(
        "--listen", metavar="IP:PORT", help="UDP address to use.  [default: any free port]"
    ),
    click.option(
        "--store",
        metavar="URL",
        help="Path or URL of the store.  [default: $XDG_DATA_HOME/dhtmeta/store.db]",
    ),
    click.option(
        "--carrier",
        type=click.Choice(CARRIERS),
        help=f"What takes items to the DHT.  [default: {DEFAULT_CARRIER}]",
    ),
    click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="TOML file; DHTMETA_SECTION__KEY in the environment overrides it.",
    ),
)


def network_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which network, store and carrier to use."""
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(_NETWORK), command)


def load_settings(config: Path | None = None) -> "Settings":
    """Read the settings, and show from now on what their [log] level lets through."""
    from dhtmeta.config import load

    settings = load(config)
    logging.getLogger().setLevel(settings.log.level.upper())
    return settings


def make_node(
    *,
    bootstrap: tuple[str, ...],
    listen: str | None,
    store: str | None,
    carrier: "CarrierName | None",
    config: Path | None,
    keys: Path | None = None,
    offline: bool = False,
    serve: bool = False,
) -> "Node":
    """Make a command's Node: without `serve` it takes part read-only (BEP 43)."""
    from dhtmeta.node import Node

    settings = load_settings(config)
    return Node(
        keys=keys,
        store=store,
        bootstrap=bootstrap or None,
        listen=listen,
        carrier=carrier,
        serve=serve,
        offline=offline,
        settings=settings,
    )


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on uvloop."""
    import asyncio

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


@contextlib.contextmanager
def waiting(text: str) -> Iterator[None]:
    """Show on a terminal that something goes on; elsewhere say nothing."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield


def say(text: str) -> None:
    """Tell people something, on stderr."""
    click.echo(text, err=True)


def visible(text: str) -> str:
    """Return text of strangers so that it can only be read: no control, bidi or lone surrogates."""
    return "".join(c if c.isprintable() or c == "\n" else f"\\u{ord(c):04x}" for c in text)


def print_json(result: dict[str, Any]) -> None:
    """Print one result as one line of JSON on stdout, at once."""
    click.echo(json.dumps(result))
