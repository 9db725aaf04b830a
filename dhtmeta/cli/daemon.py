"""`dhtmeta daemon`: a node that keeps records alive for months."""

from pathlib import Path

import click

from dhtmeta.cli.options import run


@click.command(epilog="Example: dhtmeta daemon --config configs/testnet.toml")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file; DHTMETA_SECTION__KEY in the environment overrides it. Read again at SIGHUP.",
)
def daemon(config: Path | None) -> None:
    """Keep our own record and all others of the store alive, and answer over HTTP.

    Runs until SIGTERM or Ctrl-C. All its settings are in the file: configs/daemon.toml has every
    one with its default, docs/operations.md says how to run it for months.
    """
    run(_daemon(config))


async def _daemon(path: Path | None) -> None:
    from dhtmeta.daemon.app import Daemon, load_from

    await Daemon(load_from(path)).run()
