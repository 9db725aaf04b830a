"""How a file of micro benches is run: in a process of its own, whose findings come back as JSON."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from bench.micro.beside import Beside
from bench.scenario import Options

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
LAST = 3000  # characters of what a failed run said


def _without_pytest() -> dict[str, str]:
    """Return the environment without what another pytest, which may run this one, put there."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


def run_file(name: str, options: Options, *only: str) -> list[Beside]:
    """Return what one run of a file of this directory finds; `only` are words for pytest."""
    words = [f"--seed={options.seed}", *(["--quick"] if options.quick else []), *only]
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        pytest = [sys.executable, "-m", "pytest", "-q", str(HERE / name), *words]
        done = subprocess.run(
            [*pytest, "--benchmark-only", f"--benchmark-json={out.name}"],
            cwd=ROOT,
            env=_without_pytest() | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{name} failed:\n{done.stdout[-LAST:]}{done.stderr[-LAST:]}")
        said = out.read()  # nothing at all where no peer is installed
    benchmarks = json.loads(said)["benchmarks"] if said else []
    return [msgspec.convert(one["extra_info"], Beside) for one in benchmarks]
