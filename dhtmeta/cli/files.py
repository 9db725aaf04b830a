"""How a command reads and writes the small files that people name: "-" is stdin or stdout."""

from pathlib import Path

import click

from dhtmeta.const import MAX_TEXT_BYTES

json_file = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
output_file = click.Path(dir_okay=False, writable=True, allow_dash=True, path_type=Path)


def read_text(path: Path, limit: int = MAX_TEXT_BYTES) -> str:
    """Read a text file, or stdin for "-"; InvalidValue if it has more than `limit` bytes."""
    from dhtmeta.errors import InvalidValue

    try:
        with click.open_file(str(path), "rb") as file:
            raw = file.read(limit + 1)
    except OSError as error:
        raise InvalidValue(f"cannot read {path}: {error.strerror}") from error
    if len(raw) > limit:
        raise InvalidValue(f"{path} is larger than {limit:,} bytes; a value is at most 1,000")
    try:
        return str(raw, "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidValue(f"{path} is not UTF-8 text: {error}") from error


def write_text(path: Path, text: str) -> None:
    """Write one line to a file, or to stdout for "-"; LocalError if the file cannot be written."""
    from dhtmeta.errors import LocalError

    if str(path) == "-":
        click.echo(text)
        return
    try:
        path.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise LocalError(f"cannot write {path}: {error.strerror}") from error
