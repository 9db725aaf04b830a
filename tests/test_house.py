"""The house rules that a tool can hold: imports go one way, and every module says what it is."""

import ast
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dhtmeta"
MODULES = sorted(PACKAGE.rglob("*.py"))
CYTHON = sorted(PACKAGE.rglob("*.pyx"))
STUBS = sorted(PACKAGE.rglob("*.pyi"))

# DESIGN, "The house": a room may import from those below it and from itself.
FLOORS = [
    {"errors", "const"},
    {"config"},
    {"_fast"},
    {"values"},
    {"krpc"},
    {"dht", "store"},
    {"engine"},
    {"discovery"},
    {"node"},
    {"daemon"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
BELOW_TESTING = {"errors", "const", "config", "_fast", "values", "krpc", "dht"}
THE_DOOR = {
    "errors",
    "const",
    "config",
    "values",
    "engine",
    "discovery",
    "node",
}  # it may show them


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """Return the room of a module of the package, "" for the door itself."""
    return [*module.split("."), ""][1]


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the package's modules that `path` imports anywhere, with the line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            # "from dhtmeta import config" names a room; "from dhtmeta.x import y" is of room x
            names = [f"{source}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name == "dhtmeta" or name.startswith("dhtmeta."):
                yield name, node.lineno


def allowed(importer: str, wanted: str) -> bool:
    """Say whether a module in room `importer` may import from room `wanted`."""
    if importer == wanted:
        return True
    if importer == "":
        return wanted in THE_DOOR
    if importer == "_fast":
        return False
    if importer == "testing":
        return wanted in BELOW_TESTING
    if wanted == "testing":
        return importer == "cli"
    if wanted not in FLOOR:  # a public name, through the door
        return FLOOR[importer] > FLOOR["node"]
    return FLOOR[wanted] < FLOOR[importer]


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_go_one_way(path: Path) -> None:
    here = room(module_name(path))
    wrong = [
        f"line {line}: {name}" for name, line in imported(path) if not allowed(here, room(name))
    ]
    assert not wrong


def test_every_room_has_its_floor() -> None:
    rooms = {room(module_name(path)) for path in MODULES} - {"", "testing"}
    assert rooms <= set(FLOOR)


@pytest.mark.parametrize(
    ("importer", "wanted", "may"),
    [
        ("cli", "node", True),
        ("node", "cli", False),
        ("engine", "dht", True),
        ("engine", "store", True),
        ("dht", "engine", False),
        ("dht", "store", False),
        ("store", "dht", False),
        ("values", "_fast", True),
        ("_fast", "values", False),
        ("_fast", "errors", False),
        ("values", "errors", True),
        ("errors", "values", False),
        ("config", "const", True),
        ("const", "config", False),
        ("cli", "testing", True),
        ("node", "testing", False),
        ("testing", "dht", True),
        ("testing", "node", False),
        ("engine", "Node", False),
        ("cli", "__version__", True),
    ],
)
def test_the_rule_is_that_of_the_design(importer: str, wanted: str, may: bool) -> None:
    assert allowed(importer, wanted) == may


def test_imports_are_seen_wherever_they_stand() -> None:
    seen = {name for path in MODULES for name, _ in imported(path)}
    assert "dhtmeta.node.Node" in seen  # inside a function of the command line
    assert "dhtmeta.config" in seen  # from dhtmeta import config
    assert "dhtmeta._fast.ed25519" in seen


@pytest.mark.parametrize("path", CYTHON, ids=lambda path: str(path.name))
def test_compiled_modules_import_only_each_other(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if words[:1] in (["import"], ["cimport"], ["from"]) and words[1].startswith("dhtmeta"):
            assert words[1].startswith("dhtmeta._fast"), line


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_begins_with_what_it_is(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert text, f"{module_name(path)} has no docstring"
    assert text.partition("\n")[0].rstrip().endswith((".", ":", "?"))


@pytest.mark.parametrize("path", CYTHON, ids=lambda path: str(path.name))
def test_a_compiled_module_begins_with_what_it_is(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    said = [line for line in lines if line and not line.startswith("#")]
    assert said[0].startswith('"""')


@pytest.mark.parametrize("path", CYTHON, ids=lambda path: str(path.name))
def test_a_compiled_module_has_its_declarations_and_types(path: Path) -> None:
    assert path.with_suffix(".pxd").exists()
    assert path.with_suffix(".pyi").exists()


def test_no_module_is_named_for_nothing() -> None:
    for path in [*MODULES, *CYTHON, *STUBS]:
        name = path.stem
        assert name not in {"utils", "util", "helpers", "common", "misc"}, path
        assert not name.endswith(("_impl", "_utils", "_helpers")), path


def test_every_constant_says_its_unit_or_reason() -> None:
    path = PACKAGE / "const.py"
    with path.open("rb") as file:
        comments = {
            token.start[0]: token.string
            for token in tokenize.tokenize(file.readline)
            if token.type == tokenize.COMMENT
        }
    constants = [
        node
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, (ast.Assign, ast.AnnAssign))
    ]
    assert len(constants) > 20
    for node in constants:
        assert isinstance(node, ast.AnnAssign), f"line {node.lineno}: not Final"
        assert ast.unparse(node.annotation) == "Final", f"line {node.lineno}: not Final"
        said = comments.get(node.lineno, "")
        assert len(said) > 2, f"{ast.unparse(node.target)} has no comment"
