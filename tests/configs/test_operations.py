"""docs/operations.md is followed literally, and what it names is there."""

import asyncio
import os
import re
import shutil
import signal
import socket
import sys
from pathlib import Path

import click
import msgspec
import pytest

from dhtmeta.cli.main import cli
from dhtmeta.config import Settings
from dhtmeta.store.tables import DAMAGED
from tests.configs.conftest import CONFIGS, Exported

ROOT = CONFIGS.parent
TEXT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w[\w ]*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
HERE = "\n".join(block for kind, block in BLOCKS if kind == "sh")  # what works without root
SHELL = [block for kind, block in BLOCKS if kind.startswith("sh")]
PORT = "30680"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here: nobody followed the page")
@pytest.mark.timeout(300)
async def test_the_page_can_be_followed_from_beginning_to_end(tmp_path: Path) -> None:
    port = str(free_port())
    script = f"set -eu -o pipefail\n{HERE.replace(PORT, port)}\nstop\nkill $SWARM\nwait $SWARM\n"
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DHTMETA_DHT__PORT": "0",  # not the daemon's: somebody may have it
        "DHTMETA_HTTP__LISTEN": f"127.0.0.1:{port}",
        "DHTMETA_EXCHANGE__PORT": "0",
        "DHTMETA_PEER_DISCOVERY__LAN": "false",
    }
    log = tmp_path / "log"
    with log.open("wb") as output:
        shell = await asyncio.create_subprocess_exec(
            *("bash", "-c", script),
            cwd=tmp_path,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(240):
                code = await shell.wait()
        finally:
            _end_all(shell.pid)
    said = log.read_text()
    daemon = tmp_path / "daemon.log"
    assert code == 0, said + (daemon.read_text() if daemon.exists() else "")
    assert "Traceback" not in said + daemon.read_text()
    assert '"state": "ready"' in said
    assert "quick_check" not in said
    assert "\nok\n" in said  # of the backup


def _end_all(session: int) -> None:
    """End what a shell that failed left behind: it has a process group of its own."""
    try:
        os.killpg(session, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.mark.parametrize("block", SHELL, ids=lambda block: str(block)[:30])
async def test_a_block_is_shell_and_its_commands_are_there(block: str) -> None:
    shell = await asyncio.create_subprocess_exec("bash", "-n", "-c", block)
    assert await shell.wait() == 0
    for words in re.findall(r"^\s*(?:until )?dhtmeta ([a-z].*)$", block, re.MULTILINE):
        name, *rest = words.split()
        command = cli.commands[name]
        options = {word for word in rest if word.startswith("--")}
        known = {one for p in command.params for one in (*p.opts, *p.secondary_opts)}
        assert options <= known, words


def test_commands_in_the_text_are_there() -> None:
    for words in re.findall(r"`dhtmeta ([^`]*)`", TEXT):
        name, *rest = words.split()
        assert isinstance(cli.commands.get(name), click.Command), name
        known = {one for param in cli.commands[name].params for one in param.opts}
        assert {word for word in rest if word.startswith("--")} <= known, words


def test_what_marks_a_damaged_row_is_what_the_page_says() -> None:
    assert f"like \\'{DAMAGED}%\\'" in TEXT


def test_links_lead_somewhere() -> None:
    there = anchors(TEXT)
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        path, _, anchor = target.partition("#")
        assert not anchor or anchor in there, target
        assert not path or (ROOT / "docs" / path).exists(), target


def test_settings_that_are_named_exist() -> None:
    sections = msgspec.to_builtins(Settings())
    named = re.findall(r"`\[(\w+)\](?: (\w+))?", TEXT)
    assert len(named) > 15
    for section, key in named:
        assert section in sections, section
        assert not key or key in sections[section], f"[{section}] {key}"


async def test_metrics_that_are_named_exist(exported: Exported) -> None:
    named = set(re.findall(r"`((?:dhtmeta|process)_\w+)`", TEXT))
    assert len(named) > 3
    assert named <= exported.metrics.keys()
