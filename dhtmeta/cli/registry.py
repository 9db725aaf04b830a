"""`dhtmeta registry`: a server that new nodes ask where nobody else knows anybody."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dhtmeta.cli.options import run

if TYPE_CHECKING:
    from dhtmeta.config import Settings


@click.command(epilog="Example: dhtmeta registry --config configs/registry.toml")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file; DHTMETA_SECTION__KEY in the environment overrides it. Read again at SIGHUP.",
)
@click.option("--listen", metavar="IP:PORT", help="Where to answer, instead of [registry] listen.")
def registry(config: Path | None, listen: str | None) -> None:
    """Tell new nodes whom they can ask: a bootstrap registry over HTTP.

    Runs until SIGTERM or Ctrl-C and keeps nothing on disk. Its settings are in [registry];
    docs/registry.md says what it answers and how to run one.
    """
    run(_registry(_settings_from(config, listen)))


def _settings_from(path: Path | None, listen: str | None) -> "Callable[[], Settings]":
    """Return how to read the settings, now and again; --listen is above them."""

    def load() -> "Settings":
        from dhtmeta import config

        settings = config.load(path)
        settings.registry.listen = listen or settings.registry.listen
        return settings

    return load


async def _registry(load: "Callable[[], Settings]") -> None:
    from dhtmeta.daemon.registry_server import run_registry

    await run_registry(load)
