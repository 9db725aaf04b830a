"""`dhtmeta bench`: where the benches are, which belong to a checkout, not to the package."""

import importlib
import sys
from pathlib import Path

import click

from dhtmeta.errors import CallerError

CHECKOUT = Path(__file__).parents[2]


class Bench(click.Group):
    """The commands of bench/command.py; what they need is imported when one of them is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all benches, and of what is done with results."""
        return _benches().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name."""
        return _benches().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is asked for; an unknown one is told what is known."""
        return _benches().resolve_command(ctx, args)


def _benches() -> click.Group:
    """Return the commands of the checkout; CallerError where this is none."""
    if not (CHECKOUT / "bench" / "command.py").is_file():
        raise CallerError(
            "dhtmeta bench needs a checkout: clone the repository, and run `make bench` there"
        )
    if str(CHECKOUT) not in sys.path:
        sys.path.insert(0, str(CHECKOUT))
    try:
        group: click.Group = importlib.import_module("bench.command").bench
    except ModuleNotFoundError as error:
        raise CallerError(f"{error.name} is not installed: `make bench` installs it") from error
    return group


@click.command(
    cls=Bench, no_args_is_help=True, epilog="Example: dhtmeta bench hit-rate --part peers-200"
)
def bench() -> None:
    """Measure dhtmeta beside its peers, on this machine.

    Results, plots and the page with all of them are in bench/results; docs/benchmarks.md says how
    to read them. Exit code 1 of `check` and `compare`: something got worse.
    """
