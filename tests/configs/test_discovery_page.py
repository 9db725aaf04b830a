"""docs/discovery.md names what is there: messages, settings, files, sources."""

import re
from pathlib import Path

import msgspec

from dhtmeta.config import Settings
from dhtmeta.krpc.exchange import _KINDS
from tests.configs.conftest import CONFIGS, Exported

ROOT = CONFIGS.parent
TEXT = (ROOT / "docs" / "discovery.md").read_text(encoding="utf-8")


def table(heading: str) -> list[str]:
    """Return the first cell of each row of the first table below a heading."""
    below = re.split(rf"^#+ {heading}$", TEXT, flags=re.MULTILINE)[1]
    rows: list[str] = []
    for line in below.splitlines():
        if line.startswith("|"):
            rows.append(line.split("|")[1])
        elif rows:
            break
    return rows[2:]


def in_ticks(cells: list[str]) -> set[str]:
    return {name for cell in cells for name in re.findall("`([^`]+)`", cell)}


def test_every_message_is_named_and_no_other() -> None:
    assert in_ticks(table("Messages")) == {name.decode() for name in _KINDS}


def test_every_setting_that_is_named_exists() -> None:
    settings = msgspec.to_builtins(Settings())
    named = [re.fullmatch(r"\[(\w+)\] (\w+)", one) for one in in_ticks(table("Settings"))]
    assert len(named) > 10
    for match in named:
        assert match is not None
        assert match[2] in settings[match[1]], match[0]
    for section in ("peer_discovery", "relay"):
        assert {f"[{section}] {key}" for key in settings[section]} <= in_ticks(table("Settings"))


async def test_every_source_is_named(exported: Exported) -> None:
    asked = exported.metrics["dhtmeta_discovery_asked_total"]["source"]
    assert in_ticks(table("The ladder")) == asked | {"registry"}  # none is named here


def test_every_file_is_named_and_no_other() -> None:
    files = {path.name for path in (ROOT / "dhtmeta" / "discovery").glob("[!_]*.py")}
    assert in_ticks(table("Files")) == files


def test_links_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    there = {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        path, _, anchor = target.partition("#")
        assert not anchor or anchor in there, target
        assert not path or Path(ROOT / "docs" / path).exists(), target
