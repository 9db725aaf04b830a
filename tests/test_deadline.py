"""A test that waits for ever fails by its name; what a test leaves open keeps nobody waiting."""

import subprocess
import sys
from pathlib import Path

ENDLESS = """
import asyncio

async def test_endless():
    await asyncio.get_running_loop().create_future()
"""

LEFT_OPEN = """
import asyncio

kept = []

async def test_left_open():
    loop = asyncio.get_running_loop()
    kept.append(await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0)))
"""


def run(test: str, directory: Path, seconds: int) -> subprocess.CompletedProcess[str]:
    """Run a test of these lines, which may take so long, by the options of all our tests."""
    path = directory / "test_it.py"
    path.write_text(test)
    options = ["-c", "pyproject.toml", "-p", "tests.deadline", "-o", f"timeout={seconds}"]
    command = [sys.executable, "-m", "pytest", *options, str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_a_test_that_never_ends_is_told_with_where_it_waits(tmp_path: Path) -> None:
    ended = run(ENDLESS, tmp_path, 3)
    assert ended.returncode == 1
    assert "test_endless did not end within 3 s" in ended.stderr
    assert "await asyncio.get_running_loop().create_future()" in ended.stderr


def test_what_is_left_open_is_told_and_closed(tmp_path: Path) -> None:
    ended = run(LEFT_OPEN, tmp_path, 60)
    assert ended.returncode == 0, ended.stderr
    assert "at the end of its loop: unclosed resource <UDPTransport" in ended.stderr
