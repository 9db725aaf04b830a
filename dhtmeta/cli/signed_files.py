"""Where many signed items come from: a directory of signed files, or one file with one a line."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dhtmeta.const import MAX_SIGNED_FILE_BYTES

if TYPE_CHECKING:
    from dhtmeta.values.item import SignedItem

Named = "tuple[str, SignedItem | Exception]"  # where it is from, and the item or what is wrong


def count_items(source: Path) -> int:
    """Return how many files or lines there are, for a progress bar."""
    if source.is_dir():
        return sum(1 for _ in _files(source))
    return sum(1 for _, line in _lines(source) if line.strip())


def signed_items(source: Path) -> "Iterator[tuple[str, SignedItem | Exception]]":
    """Yield where each is from, and the verified item or the error that says what is wrong."""
    from dhtmeta.errors import CallerError
    from dhtmeta.values.signed_file import from_signed_file

    for name, text in _texts(source):
        try:
            yield name, from_signed_file(text)
        except CallerError as error:
            yield name, error


def batches(source: Path, size: int) -> "Iterator[list[tuple[str, SignedItem | Exception]]]":
    """Yield them so many at a time: no more than that is in memory."""
    items = signed_items(source)
    while batch := list(itertools.islice(items, size)):
        yield batch


def _texts(source: Path) -> Iterator[tuple[str, str]]:
    from dhtmeta.cli.files import read_text

    if source.is_dir():
        for path in _files(source):
            yield str(path), read_text(path, MAX_SIGNED_FILE_BYTES)
    else:
        for number, line in _lines(source):
            if line.strip():
                yield f"{source}:{number}", line.decode("utf-8", "replace")


def _files(source: Path) -> Iterator[Path]:
    """Yield the files of a directory, in the order of their names; hidden ones are passed over."""
    for path in sorted(source.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            yield path


def _lines(source: Path) -> Iterator[tuple[int, bytes]]:
    """Yield numbered lines; what is longer than a signed file can be comes in pieces, as errors."""
    with click.open_file(str(source), "rb") as file:
        for number in itertools.count(1):
            line = file.readline(MAX_SIGNED_FILE_BYTES + 1)
            if not line:
                return
            yield number, line
