"""The units: what systemd itself says of them, and whether they say the same as the program."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dhtmeta.cli.main import WRONG_USE
from dhtmeta.config import data_home
from dhtmeta.const import HTTP_CONNECTIONS, STOP_DEADLINE
from tests.configs.conftest import CONFIGS

UNIT = CONFIGS / "systemd" / "dhtmeta.service"
REGISTRY = CONFIGS / "systemd" / "dhtmeta-registry.service"
EXPOSURE = 1.4  # of 10, where less is better; systemd 252 says 1.1

with_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="no systemd-analyze here: nobody has checked the unit",
)


@pytest.fixture(params=[UNIT, REGISTRY], ids=lambda path: str(path.stem))
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a unit as it would be where its programs are installed."""
    program = tmp_path / "program"
    program.touch(0o755)
    shipped: Path = request.param
    copy = tmp_path / shipped.name
    text = shipped.read_text(encoding="utf-8")
    copy.write_text(re.sub(r"^(Exec\w+)=\S+", rf"\1={program}", text, flags=re.MULTILINE))
    return copy


def analyzed(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", "--no-pager", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def setting(name: str, unit: Path = UNIT) -> str:
    """Return what a unit says of a setting that it has once."""
    (value,) = re.findall(rf"^{name}=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
    return str(value)


@with_systemd
def test_systemd_finds_nothing_wrong(unit: Path) -> None:
    verified = analyzed("verify", "--recursive-errors=yes", unit)
    assert (verified.returncode, verified.stderr) == (0, "")
    unit.write_text(unit.read_text() + "\n[Service]\nProtectHom=yes\n")
    assert "ProtectHom" in analyzed("verify", "--recursive-errors=yes", unit).stderr


@with_systemd
def test_the_exposure_is_low(unit: Path) -> None:
    limit = f"--threshold={EXPOSURE * 10:.0f}"
    secured = analyzed("security", "--offline=true", limit, unit)
    assert secured.returncode == 0, secured.stdout
    unit.write_text(unit.read_text().replace("ProtectSystem=strict", "CapabilityBoundingSet=~"))
    assert analyzed("security", "--offline=true", limit, unit).returncode != 0


def test_the_data_is_where_the_program_keeps_it_by_default() -> None:
    assert setting("Environment") == "XDG_DATA_HOME=%S"
    assert setting("StateDirectory") == data_home({"XDG_DATA_HOME": "/var/lib"}).name


def test_its_figures_fit_those_of_the_program() -> None:
    assert setting("Type") == "notify"
    assert int(setting("RestartPreventExitStatus")) == WRONG_USE
    assert int(setting("LimitNOFILE")) >= 2 * HTTP_CONNECTIONS
    assert int(setting("TimeoutStopSec").removesuffix("s")) >= 5 * STOP_DEADLINE
    start, reload = setting("ExecStart").split(), setting("ExecReload")
    assert start[1:] == ["daemon", "--config", "/etc/dhtmeta/daemon.toml"]
    assert reload == "/bin/kill -HUP $MAINPID"


def test_what_weighs_little_in_that_figure_is_there_all_the_same() -> None:
    assert setting("User") == "dhtmeta"
    assert setting("ProtectSystem") == "strict"
    for name in ("NoNewPrivileges", "MemoryDenyWriteExecute", "PrivateUsers", "ProtectHome"):
        assert setting(name) == "yes"
    assert (setting("StateDirectoryMode"), setting("UMask")) == ("0700", "0077")


def test_libtorrent_may_ask_for_the_interfaces() -> None:
    families = setting("RestrictAddressFamilies").split()
    assert families == ["AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"]


def test_the_registrys_figures_fit_those_of_the_program() -> None:
    assert setting("Type", REGISTRY) == "notify"
    assert int(setting("RestartPreventExitStatus", REGISTRY)) == WRONG_USE
    assert int(setting("LimitNOFILE", REGISTRY)) >= 2 * HTTP_CONNECTIONS
    assert setting("ExecReload", REGISTRY) == "/bin/kill -HUP $MAINPID"
    words = setting("ExecStart", REGISTRY).split()
    assert words[1:] == ["registry", "--config", "/etc/dhtmeta/registry.toml"]


def test_the_registry_is_hardened_as_the_daemon_is_and_writes_nothing() -> None:
    daemon, registry = hardening(UNIT), hardening(REGISTRY)
    changed = {"ProcSubset": "pid", "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX"}
    assert registry == daemon | changed
    assert setting("User", REGISTRY) != setting("User")
    assert "StateDirectory" not in REGISTRY.read_text(encoding="utf-8")


def hardening(unit: Path) -> dict[str, str]:
    """Return the last settings of a service: what it cannot do."""
    text = unit.read_text(encoding="utf-8").partition("# What it cannot do")[2]
    lines = re.findall(r"^(\w+)=(.*)$", text.partition("[Install]")[0], re.MULTILINE)
    return {
        f"{name} {value}" if name == "SystemCallFilter" else name: value for name, value in lines
    }
