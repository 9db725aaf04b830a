"""Where results are kept and what is said of a run: versions, machine, seed, and the figures."""

import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from bench.report import MARGIN, Cost, Part, rounded
from bench.scenario import Options, Results
from dhtmeta.errors import CallerError

RESULTS = Path(__file__).parent / "results"
QUICK = RESULTS / "quick"  # what `bench check` compares with
SOURCES = ("--", ":/", ":(top,exclude)bench/results", ":(top,exclude)*.md")
NUMBER = r"-?\d+(\.\d+)?(e[+-]?\d+)?"
PACKAGES = (
    *("dhtmeta", "libtorrent", "pynacl", "msgspec", "uvloop", "cachetools", "aioquic"),
    *("bencode2", "cachebox"),
)

KeptBar = Annotated[str, msgspec.Meta(pattern=rf"^(<=|>=|~) {NUMBER}( ± \d+%)?$")]


class KeptRow(msgspec.Struct):
    """A `Row` as it is kept; what has a default may be absent, and older results lack it."""

    what: str
    figure: float | None
    unit: str
    bar: KeptBar | None
    holds: bool | None
    better: Literal["", "lower", "higher"]
    low: float | None = None
    high: float | None = None
    note: str = ""
    margin: float = MARGIN
    told: bool = False


class KeptRun(msgspec.Struct):
    """The run of a part as it is kept: what it found, when, on what, and of which versions."""

    when: str
    seed: int
    quick: bool
    rows: list[KeptRow]
    machine: dict[str, str | int | None] = {}
    versions: dict[str, str] = {}
    parameters: dict[str, int] = {}
    took_s: float | None = None
    costs: list[Cost] = []
    series: dict[str, list[float]] = {}
    missing: list[str] = []


def path_of(name: str, directory: Path = RESULTS) -> Path:
    """Return where the results of a bench are kept."""
    return directory / f"{name}.json"


def read(path: Path) -> Results:
    """Return the parts that a file of results has; CallerError where it is none.

    What is absent has its default; what a newer checkout kept besides is left out.
    """
    runs = {part: _run(path, part, said) for part, said in _parts(path).items()}
    return {part: msgspec.to_builtins(run) for part, run in runs.items()}


def _parts(path: Path) -> Mapping[str, Any]:
    """Return what a file says of its parts, as it stands there."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CallerError(f"cannot read results from {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _no_results(path, error) from error
    if not isinstance(said, dict) or not isinstance(said.get("parts"), dict):
        raise _no_results(path, "it has no `parts`")
    return dict(said["parts"])


def _run(path: Path, part: str, said: Any) -> KeptRun:
    try:
        return msgspec.convert(said, KeptRun)
    except msgspec.ValidationError as error:
        raise _no_results(path, f"part {part}: {error}") from error


def _no_results(path: Path, why: object) -> CallerError:
    return CallerError(f"{path} holds no results of `dhtmeta bench`: {why}")


def kept(name: str, directory: Path = RESULTS) -> Results:
    """Return what was kept of a bench; nothing where it was never run."""
    path = path_of(name, directory)
    return read(path) if path.exists() else {}


def check_directory(directory: Path, names: Iterable[str]) -> None:
    """Raise CallerError where results cannot be kept in a directory, before hours are spent."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise CallerError(f"cannot keep results in {directory}: {error.strerror}") from error
    for name in names:
        kept(name, directory)


def keep(name: str, part: str, said: dict[str, Any], directory: Path = RESULTS) -> None:
    """Put the run of one part in the place of an older one."""
    path = path_of(name, directory)
    parts = dict(_parts(path)) if kept(name, directory) else {}
    parts[part] = said
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {"bench": name, "parts": dict(sorted(parts.items()))}
    half = path.with_suffix(".part")  # whoever reads, or is interrupted, never has half of it
    half.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    half.replace(path)


def run_of(part: Part, options: Options, seconds: float) -> dict[str, Any]:
    """Return one run of one part as it is kept, `seconds` being how long it took."""
    about: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "versions": _versions(),
        "seed": options.seed,
        "quick": options.quick,
        "parameters": dict(options.values),
        "took_s": rounded(seconds),
    }
    return about | part.as_json()


def _machine() -> dict[str, Any]:
    return {"python": platform.python_version(), "cores": os.cpu_count(), "cpu": _processor()}


def _processor() -> str:
    """Return what kind of processor this is, as Linux tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


@cache
def _versions() -> dict[str, str]:
    """Return the versions that a figure may hang on, and the commit it was measured at."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found | {"commit": _commit()}


def _commit() -> str:
    """Return the commit, "-dirty" behind it where more than results and pages has changed since."""
    try:
        name = _git("describe", "--always")
        changed = _git("status", "--porcelain", "--untracked-files=no", *SOURCES)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name}-dirty" if changed else name


def _git(*words: str) -> str:
    git = ["git", "-C", str(RESULTS.parent), *words]
    return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
