"""Where results are kept and what is said of a run: versions, machine, seed, and the figures."""

import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import fields
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.report import Part, Row, rounded
from bench.scenario import Options, Results
from dhtmeta.errors import CallerError

RESULTS = Path(__file__).parent / "results"
QUICK = RESULTS / "quick"  # what `bench check` compares with
ABOUT = {"when", "machine", "versions", "seed", "quick", "parameters", "took_s"}
RUN = ABOUT | {one.name for one in fields(Part)}
ROW = {one.name for one in fields(Row)} - {"told"} | {"holds"}  # told came later
PACKAGES = (
    *("dhtmeta", "libtorrent", "pynacl", "msgspec", "uvloop", "cachetools", "aioquic"),
    *("bencode2", "cachebox"),
)


def path_of(name: str, directory: Path = RESULTS) -> Path:
    """Return where the results of a bench are kept."""
    return directory / f"{name}.json"


def read(path: Path) -> Results:
    """Return the parts that a file of results has; CallerError where it is none."""
    try:
        parts = json.loads(path.read_text(encoding="utf-8"))["parts"]
        whole = all(_is_run(one) for one in parts.values())
    except OSError as error:
        raise CallerError(f"cannot read results from {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CallerError(f"{path} holds no results of `dhtmeta bench`") from error
    if not whole:
        raise CallerError(f"{path} holds no results of `dhtmeta bench`: fields are missing")
    return dict(parts)


def _is_run(said: dict[str, Any]) -> bool:
    """Whether it has what every run and all of its rows have."""
    dicts = all(isinstance(said[name], dict) for name in ("machine", "versions", "series"))
    return said.keys() >= RUN and dicts and all(_is_row(row) for row in said["rows"])


def _is_row(row: dict[str, Any]) -> bool:
    numbers = (row["figure"], row["low"], row["high"])
    return row.keys() >= ROW and all(isinstance(one, int | float | None) for one in numbers)


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
    parts = dict(kept(name, directory))
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
    git = ["git", "-C", str(RESULTS.parent), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=False)
    except OSError:
        return found
    return found | {"commit": done.stdout.strip() or "unknown"}
