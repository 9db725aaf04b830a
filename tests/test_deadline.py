"""A test that waits for ever fails by its name, and where it waits is shown."""

import subprocess
import sys
from pathlib import Path

ENDLESS = """
import asyncio

async def test_endless():
    await asyncio.get_running_loop().create_future()
"""


def test_a_test_that_never_ends_is_told_with_where_it_waits(tmp_path: Path) -> None:
    endless = tmp_path / "test_endless.py"
    endless.write_text(ENDLESS)
    options = ["-c", "pyproject.toml", "-p", "tests.deadline", "-o", "timeout=1"]
    command = [sys.executable, "-m", "pytest", *options, str(endless)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 1
    assert "test_endless did not end within 1 s" in ended.stderr
    assert "await asyncio.get_running_loop().create_future()" in ended.stderr
