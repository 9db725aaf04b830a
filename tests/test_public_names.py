"""`import dhtmeta` offers the public names, each when it is first used and none before."""

import ast
import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

import dhtmeta
from dhtmeta import errors

SOURCE = Path(dhtmeta.__file__).read_text(encoding="utf-8")


def pickled(error: errors.DhtmetaError, protocol: int) -> errors.DhtmetaError:
    """Pickle an error and read it back."""
    other: errors.DhtmetaError = pickle.loads(pickle.dumps(error, protocol))
    return other


def named_for_type_checkers() -> dict[str, str]:
    """Return name -> module of what is imported under TYPE_CHECKING."""
    (block,) = [node for node in ast.parse(SOURCE).body if isinstance(node, ast.If)]
    return {
        alias.name: str(node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_all_is_sorted_and_has_nothing_twice() -> None:
    assert dhtmeta.__all__ == sorted(set(dhtmeta.__all__))


def test_all_is_what_can_be_imported_and_what_type_checkers_see() -> None:
    assert set(dhtmeta.__all__) == set(dhtmeta._HOMES) == set(named_for_type_checkers())
    assert named_for_type_checkers() == dhtmeta._HOMES


@pytest.mark.parametrize("name", dhtmeta.__all__)
def test_every_name_is_imported_from_its_home(name: str) -> None:
    home = import_module(dhtmeta._HOMES[name])
    assert getattr(dhtmeta, name) is getattr(home, name)
    assert getattr(dhtmeta, name).__module__ == home.__name__


def test_every_error_is_public() -> None:
    tree = {
        name
        for name, one in vars(errors).items()
        if isinstance(one, type) and issubclass(one, errors.DhtmetaError)
    }
    assert tree <= set(dhtmeta.__all__)


EACH_ERROR = [
    errors.ValueTooLarge(1_234, 1_000, [("topic", 900)]),
    errors.InvalidRecord("network_info.public_ip", "'x' is not an IP address"),
    errors.NetworkUnreachable("nobody answered", ("127.0.0.1:1",)),
    errors.Conflict("they disagree", 5, None),
    errors.Conflict("most took it", 5, 6, ("what", "they", "said")),
    errors.NotFound("no node holds it"),
    errors.CallerError(),
]


@pytest.mark.parametrize("error", EACH_ERROR, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, *(partial(pickled, protocol=number) for number in range(6))],
)
def test_an_error_can_be_copied_and_pickled(
    error: errors.DhtmetaError, copied: Callable[[errors.DhtmetaError], errors.DhtmetaError]
) -> None:
    error.add_note("while storing it")
    other = copied(error)
    assert type(other) is type(error)
    assert (str(other), other.args, vars(other)) == (str(error), error.args, vars(error))


def test_a_star_import_brings_exactly_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from dhtmeta import *", names)
    assert set(names) - {"__builtins__"} == set(dhtmeta.__all__)


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="dhtmeta has no 'Nod'"):
        _ = dhtmeta.Nod
    assert not hasattr(dhtmeta, "nothing")
    with pytest.raises(ImportError):
        exec("from dhtmeta import Nod")


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True
    ).stdout


def test_importing_dhtmeta_imports_nothing_heavy() -> None:
    loaded = run("import sys, dhtmeta; print(*sys.modules)").split()
    heavy = "libtorrent sqlalchemy aiosqlite uvloop asyncio msgspec nacl click rich"
    assert not set(heavy.split()) & set(loaded)
    assert [name for name in loaded if name.startswith("dhtmeta")] == ["dhtmeta"]


def test_a_record_is_made_without_libtorrent_or_a_store() -> None:
    code = "import sys, dhtmeta; dhtmeta.NodeRecord(); print(*sys.modules)"
    loaded = run(code).split()
    assert "dhtmeta.values.record" in loaded
    assert not {"libtorrent", "sqlalchemy", "uvloop", "asyncio"} & set(loaded)


def test_dir_shows_every_public_name() -> None:
    assert set(run("import dhtmeta; print(*dir(dhtmeta))").split()) >= set(dhtmeta.__all__)
