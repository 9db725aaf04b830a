"""Where many signed items come from: a directory of signed files, or one file with one a line."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dhtmeta.const import MAX_SIGNED_FILE_BYTES

if TYPE_CHECKING:
    from dhtmeta.values.item import SignedItem


def count_items(source: Path) -> int | None:
    """Return how many files or lines there are, for a progress bar; None if that takes them."""
    if source.is_dir():
        return sum(1 for _ in _files(source))
    return sum(1 for _ in _lines(source)) if source.is_file() else None


def signed_items(source: Path) -> "Iterator[tuple[str, SignedItem | Exception]]":
    """Yield where each is from, and the verified item or the error that says what is wrong.

    Raises InvalidValue where `source` itself cannot be read.
    """
    from dhtmeta.errors import CallerError
    from dhtmeta.values.signed_file import from_signed_file

    for name, text in _texts(source):
        try:
            yield name, from_signed_file(text())
        except CallerError as error:
            yield name, error


def batches(source: Path, size: int) -> "Iterator[list[tuple[str, SignedItem | Exception]]]":
    """Yield them so many at a time: no more than that is in memory."""
    items = signed_items(source)
    while batch := list(itertools.islice(items, size)):
        yield batch


def _texts(source: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield where each is from, and how to read it, which may raise InvalidValue."""
    from dhtmeta.cli.files import read_text

    if source.is_dir():
        for path in _files(source):
            yield str(path), functools.partial(read_text, path, MAX_SIGNED_FILE_BYTES)
    else:
        for number, line in _lines(source):
            yield f"{source}:{number}", functools.partial(_decoded, line)


def _files(source: Path) -> Iterator[Path]:
    """Yield the files of a directory, in the order of their names; hidden ones are passed over."""
    with _readable(source):
        paths = sorted(source.iterdir())
    for path in paths:
        if path.is_file() and not path.name.startswith("."):
            yield path


def _lines(source: Path) -> Iterator[tuple[int, bytes]]:
    """Yield numbered lines but for empty ones; of a line that is too long only the beginning."""
    with _readable(source), source.open("rb") as file:
        for number in itertools.count(1):
            line = rest = file.readline(MAX_SIGNED_FILE_BYTES + 1)
            while rest and not rest.endswith(b"\n"):
                rest = file.readline(MAX_SIGNED_FILE_BYTES)
            if line.strip():
                yield number, line
            elif not line:
                return


def _decoded(line: bytes) -> str:
    from dhtmeta.errors import InvalidValue

    if len(line) > MAX_SIGNED_FILE_BYTES:
        raise InvalidValue(f"the line is longer than {MAX_SIGNED_FILE_BYTES:,} bytes")
    try:
        return str(line.strip(), "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidValue(f"not UTF-8 text: {error}") from error


@contextlib.contextmanager
def _readable(source: Path) -> Iterator[None]:
    from dhtmeta.errors import InvalidValue

    try:
        yield
    except OSError as error:
        raise InvalidValue(f"cannot read {source}: {error.strerror}") from error
