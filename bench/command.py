"""`dhtmeta bench`: which words it takes, and what each does with benches and results."""

import json
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import click

from bench.catalogue import BENCHES
from bench.compare import changes, show_changes, worse
from bench.page import write_page
from bench.results import QUICK, RESULTS, check_directory, path_of, read
from bench.runner import Job, draw, keep_run, run_all
from bench.scenario import MOST, SEED, SEEDED, Bench, Options
from bench.tables import ROOT, put_tables, screen, show
from dhtmeta.errors import CallerError

FRESH = ROOT / "build" / "bench"  # where quick runs are kept: not among the results
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
GOT_WORSE = 1  # the exit code
MAX_SEED = 2**32 - 1


class Words(click.Group):
    """A group that names all its commands where somebody asks for another."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command by its name."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            _unknown("bench", args[0], list(self.commands))


class Measured(click.Command):
    """A command that names all its parameters where somebody sets another."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the words apart."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            known = [name for one in self.get_params(ctx) for name in one.opts if name[:2] == "--"]
            _unknown("parameter", error.option_name, known)


def _unknown(kind: str, name: str, known: Sequence[str]) -> NoReturn:
    near = get_close_matches(name, known, 1)
    meant = f"; did you mean {near[0]}?" if near else "."
    raise click.UsageError(f"there is no {kind} {name}{meant} Known: {', '.join(known)}.")


@click.group(
    cls=Words,
    invoke_without_command=True,
    epilog="Example: dhtmeta bench hit-rate --quick",
)
@click.pass_context
def bench(context: click.Context) -> None:
    """Measure dhtmeta beside its peers, on this machine."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _run(jobs: Sequence[Job], options: Options, to: Path, *, as_json: bool) -> None:
    """Run, keep, and show each part as soon as it is there."""

    def on_run(bench: Bench, part: str, run: dict[str, Any]) -> None:
        keep_run(bench, part, run, to)  # first: whoever reads what is shown may be gone
        if as_json:
            said = json.dumps({"bench": bench.name, "part": part} | run)
            screen().out(said, highlight=False)
        else:
            show(run)

    check_directory(to, BENCHES)  # all of them: the page shows them all
    try:
        failed = run_all(jobs, options, on_run)
    finally:  # of what is kept by then
        write_page(to)
    for one in failed:
        click.echo(f"failed: {one}", err=True)
    _end(bool(failed))


def _common(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that all runs have."""
    options = (
        click.option("--quick", is_flag=True, help="Fewer of everything."),
        click.option(
            "--seed",
            type=click.IntRange(0, MAX_SEED),
            default=SEED,
            show_default=True,
            help="Of what is drawn; parts that draw nothing by it take none.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object per part."),
        click.option(
            "--to",
            type=click.Path(file_okay=False, path_type=Path),
            help="Keep results there; else they go to bench/results, or to build/bench "
            "if they are quick, or have a seed or parameters of their own.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _to(to: Path | None, options: Options) -> Path:
    """Return where runs are kept: only the usual ones are the results of this checkout."""
    usual = not options.quick and not options.values and options.seed == SEED
    return to or (RESULTS if usual else FRESH)


@bench.command("all", cls=Measured, epilog="Example: dhtmeta bench all --quick")
@_common
def every_bench(quick: bool, seed: int, as_json: bool, to: Path | None) -> None:
    """Run every bench: hours; with --quick what fits into ten minutes."""
    jobs = [(one, part) for one in BENCHES.values() for part in (one.quick if quick else one.parts)]
    options = Options(quick, seed)
    _run(jobs, options, _to(to, options), as_json=as_json)


@bench.command("list", cls=Measured, epilog="Example: dhtmeta bench list --json")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per bench.")
def list_benches(as_json: bool) -> None:
    """Say which benches there are, and their parts."""
    for one in BENCHES.values():
        said = {"bench": one.name, "about": one.about, "parts": list(one.parts)}
        if as_json:
            takes = {part: list(one.takes(part)) for part in one.parts}
            click.echo(json.dumps(said | {"parameters": dict(one.parameters), "takes": takes}))
        else:
            click.echo(f"{one.name}: {one.about}\n    parts: {', '.join(one.parts)}")


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@bench.command(
    cls=Measured, epilog="Example: dhtmeta bench compare old/micro.json bench/results/micro.json"
)
@click.argument("old", type=_FILE)
@click.argument("new", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per row.")
def compare(old: Path, new: Path, as_json: bool) -> None:
    """Say what got worse from one file of results to another."""
    found = changes(read(old), read(new))
    show_changes(found, as_json=as_json)
    _end(bool(worse(found)))


@bench.command(cls=Measured, epilog="Example: dhtmeta bench check")
@click.option("--keep", is_flag=True, help="Measure the baseline anew instead of comparing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per row.")
def check(keep: bool, as_json: bool) -> None:
    """Fail where a ratio to a peer got worse by more than its margin.

    Ratios only, of quick runs, against bench/results/quick; what fails is measured once more.
    """
    from bench.check import check as run_check  # needs the runner

    _end(run_check(QUICK, FRESH, keep=keep, as_json=as_json))


@bench.command(cls=Measured, epilog="Example: dhtmeta bench report")
def report() -> None:
    """Write the tables of README and docs, the plots and the page anew from the kept results."""
    for page in PAGES:
        put_tables(page, list(BENCHES))
    for one in BENCHES.values():
        draw(one, path_of(one.name))
    write_page(RESULTS)


def _end(failed: bool) -> None:
    if failed:
        raise click.exceptions.Exit(GOT_WORSE)


def _refuse_untaken(jobs: Sequence[Job], options: Options) -> None:
    """Raise CallerError where something is set that none of the parts takes."""
    given = [*options.values, *([SEEDED] if options.seed != SEED else [])]
    taken = {part: one.takes(part) for one, part in jobs}
    untaken = [f"--{name}" for name in given if not any(name in own for own in taken.values())]
    if untaken:
        known = (f"{part}: {_flags(own)}" for part, own in taken.items())
        which = "; ".join(known)
        raise CallerError(f"no part takes {', '.join(untaken)}. What each takes: {which}.")


def _flags(names: Iterable[str]) -> str:
    return ", ".join(f"--{name}" for name in names) or "nothing"


def _command(one: Bench) -> click.Command:
    """Return the command that runs one bench."""

    def run(
        part: tuple[str, ...], quick: bool, seed: int, as_json: bool, to: Path | None, **given: Any
    ) -> None:
        named = {name: given[name.replace("-", "_")] for name in one.parameters}
        values = {name: value for name, value in named.items() if value is not None}
        jobs = [(one, name) for name in part or one.parts]
        options = Options(quick, seed, values)
        _refuse_untaken(jobs, options)
        _run(jobs, options, _to(to, options), as_json=as_json)

    params: list[click.Parameter] = [
        click.Option(["--part"], type=click.Choice(list(one.parts)), multiple=True)
    ]
    params += [
        click.Option([f"--{name}"], type=click.IntRange(1, one.most.get(name, MOST)), help=what)
        for name, what in one.parameters.items()
    ]
    example = f"Example: dhtmeta bench {one.name} --part {next(iter(one.parts))}"
    make = click.command(one.name, cls=Measured, help=one.about, epilog=example)
    command = make(_common(run))
    command.params = params + command.params
    return command


for _one in BENCHES.values():
    bench.add_command(_command(_one))
