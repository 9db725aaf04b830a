"""`dhtmeta sign` and `put`: sign where the key is, store elsewhere, later, without the key."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dhtmeta.cli.files import json_file, output_file, read_text, write_text
from dhtmeta.cli.options import (
    json_option,
    keys_option,
    load_settings,
    make_node,
    network_options,
    print_json,
    run,
    salt_option,
    say,
    timeout_option,
    visible,
    waiting,
)
from dhtmeta.cli.publish import Seq, cas_option, given, given_options, show_published
from dhtmeta.const import LOOKUP_WINDOW, MAX_SIGNED_FILE_BYTES, PUT_DEADLINE

if TYPE_CHECKING:
    from dhtmeta.engine.publish import Published
    from dhtmeta.node import Node
    from dhtmeta.values.item import SignedItem


@click.command(
    epilog="Example: dhtmeta sign --keys ./alice --record alice.json --seq 7 --out alice.signed"
)
@given_options
@click.option(
    "--seq",
    type=Seq,
    required=True,
    help="The seq to sign it under: above the last one (`dhtmeta query` shows that).",
)
@click.option(
    "--out", type=output_file, default="-", help="Signed file to write.  [default: stdout]"
)
@salt_option
@keys_option
@json_option
def sign(
    record_file: Path | None,
    value_file: Path | None,
    seq: int,
    out: Path,
    salt: bytes,
    keys: Path | None,
    as_json: bool,
) -> None:
    """Sign a record with our key into a signed file for `dhtmeta put`. Needs no network, no store.

    So nobody here knows which seq is free: --seq has to say it, and no other value may ever be
    signed under the same one.
    """
    from dhtmeta.values.item import SignedItem
    from dhtmeta.values.keys import open_identity
    from dhtmeta.values.payload import payload
    from dhtmeta.values.signed_file import to_signed_file

    record = given(record_file, value_file)
    identity = open_identity(keys or load_settings().keys)
    v = payload(record, identity.public_key, time.time(), only_strings=False)
    item = SignedItem.sign(identity, v, seq, salt)
    write_text(out, to_signed_file(item))
    if str(out) != "-":
        _show_signed(item, out, as_json)


def _show_signed(item: "SignedItem", out: Path, as_json: bool) -> None:
    from dhtmeta.values.plain import to_builtins

    if not as_json:
        click.echo(f"seq {item.seq} of {item.public_key.hex()} is signed in {visible(str(out))}")
        return
    print_json(
        {
            "public_key": item.public_key.hex(),
            "salt": to_builtins(item.salt),
            "seq": item.seq,
            "target": item.target.hex(),
            "file": str(out),
        }
    )


@click.command(epilog="Example: dhtmeta put alice.signed --bootstrap 127.0.0.1:6881")
@click.argument("files", metavar="FILE...", nargs=-1, type=json_file)
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, allow_dash=False, path_type=Path),
    help="A directory of signed files, or a file with one a line: any number of them.",
)
@cas_option
@network_options
@timeout_option(PUT_DEADLINE)
@json_option
def put(
    files: tuple[Path, ...],
    source: Path | None,
    cas: int | None,
    timeout: float,
    as_json: bool,
    **network: Any,
) -> int:
    """Store signed files (of `dhtmeta sign`; - is stdin) on the DHT. Needs no key.

    The libtorrent carrier cannot do it. All FILEs are read and verified before anything is sent.
    Of several, each that failed is named on stderr; the exit code is what all that failed have in
    common, and 1 if they failed differently.

    With --from they are read, verified and stored as they come; what this store says is stored
    already is passed over, so what was interrupted goes on when it is run again.
    """
    if bool(files) == bool(source):
        raise click.UsageError("give signed files, or --from DIR or FILE")
    if source is not None:
        from dhtmeta.cli.bulk import put_from

        if cas is not None:
            raise click.UsageError("--cas is about one item: give one FILE")
        return put_from(source, {"deadline": timeout}, as_json, network)
    if cas is not None and len(files) > 1:
        raise click.UsageError("--cas is about one item: give one FILE")
    items = [(path, read_signed(path)) for path in files]
    return int(run(_put(items, {"cas": cas, "deadline": timeout}, as_json, network)))


def read_signed(path: Path) -> "SignedItem":
    """Read a signed file and verify it; InvalidValue names the file and what is wrong."""
    from dhtmeta.errors import CallerError, InvalidValue
    from dhtmeta.values.signed_file import from_signed_file

    text = read_text(path, MAX_SIGNED_FILE_BYTES)
    try:
        return from_signed_file(text)
    except CallerError as error:
        raise InvalidValue(f"{path}: {error}") from error


async def _put(
    items: "list[tuple[Path, SignedItem]]", put: dict[str, Any], as_json: bool, network: Any
) -> int:
    import asyncio

    window = asyncio.Semaphore(LOOKUP_WINDOW)

    async def one(node: "Node", item: "SignedItem") -> "Published":
        async with window:
            return await node.put(item, **put)

    async with make_node(**network, serve=True) as node:
        puts = (one(node, item) for _, item in items)
        with waiting("storing it on the nodes closest to the key …"):
            outcomes = await asyncio.gather(*puts, return_exceptions=True)
    return _show_all([path for path, _ in items], outcomes, as_json)


def _show_all(paths: list[Path], outcomes: "list[Published | BaseException]", as_json: bool) -> int:
    """Show what became of each file, name each that failed, and return the exit code of all."""
    from dhtmeta.cli.main import shared_exit_code
    from dhtmeta.errors import CallerError, DhtmetaError

    failures = []
    for path, outcome in zip(paths, outcomes, strict=True):
        if not isinstance(outcome, BaseException):
            show_published(outcome, as_json)
        elif len(paths) == 1 or not isinstance(outcome, DhtmetaError):
            raise outcome
        elif isinstance(outcome, CallerError):
            raise outcome  # about the carrier: the files were read before
        else:
            say(f"dhtmeta: {path}: {outcome}")
            failures.append(outcome)
    return shared_exit_code(failures)
