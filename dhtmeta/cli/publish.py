"""`dhtmeta publish`, and how a command is given what to publish and shows what became of it."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dhtmeta.cli.files import json_file, read_text
from dhtmeta.cli.options import (
    json_option,
    keys_option,
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
from dhtmeta.const import COPIES, MAX_SEQ, PUT_DEADLINE

if TYPE_CHECKING:
    from dhtmeta._fast.bencode import Value
    from dhtmeta.engine.publish import Published
    from dhtmeta.values.record import NodeRecord

Seq = click.IntRange(0, MAX_SEQ)

_GIVEN = (
    click.option(
        "--record", "record_file", type=json_file, help="A NodeRecord as JSON; - is stdin."
    ),
    click.option(
        "--value", "value_file", type=json_file, help='Any value as JSON; bytes as {"hex": "…"}.'
    ),
)
cas_option = click.option(
    "--cas",
    type=Seq,
    help="Only where the newest seq on the network is this one, or there is none.",
)


def given_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --record and --value, one of which says what to publish."""
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(_GIVEN), command)


@click.command(
    epilog="Example: dhtmeta publish --keys ./alice --record alice.json --bootstrap 127.0.0.1:6881"
)
@given_options
@click.option("--seq", type=Seq, help="Publish under this seq.  [default: the next one]")
@cas_option
@salt_option
@keys_option
@network_options
@timeout_option(PUT_DEADLINE)
@json_option
def publish(
    record_file: Path | None,
    value_file: Path | None,
    timeout: float,
    as_json: bool,
    seq: int | None,
    cas: int | None,
    salt: bytes,
    **network: Any,
) -> None:
    """Sign a record with our key and store it on the DHT nodes closest to it.

    The libtorrent carrier takes no --seq and no --cas.
    """
    record = given(record_file, value_file)
    put = {"salt": salt, "seq": seq, "cas": cas, "deadline": timeout}
    show_published(run(_publish(record, put, network)), as_json)


async def _publish(record: "NodeRecord | Value", put: dict[str, Any], network: Any) -> "Published":
    async with make_node(**network, serve=True) as node:
        _ = node.identity
        with waiting("storing it on the nodes closest to the key …"):
            return await node.publish(record, **put)


def given(record_file: Path | None, value_file: Path | None) -> "NodeRecord | Value":
    """Read what to publish; what is wrong with it is said before anything is opened."""
    from dhtmeta.errors import InvalidValue
    from dhtmeta.values.item import encode_value
    from dhtmeta.values.plain import from_json
    from dhtmeta.values.record import NodeRecord

    path = record_file or value_file
    if path is None or (record_file and value_file):
        raise click.UsageError("give one of --record FILE.json and --value FILE.json")
    text = read_text(path)
    try:
        value = from_json(text)
    except InvalidValue as error:
        raise InvalidValue(f"{path}: {error}") from error
    record = value if record_file is None else NodeRecord.from_value(value)
    _warn_of_unknown(record)
    encode_value(value)
    return record


def _warn_of_unknown(record: object) -> None:
    """Name keys that are no fields of a NodeRecord: they are published, but may be misspelt."""
    import difflib

    from dhtmeta.values.record import NodeRecord

    if not isinstance(record, NodeRecord):
        return
    for part in (record, record.network_info):
        for key in part.extra:
            nearest = difflib.get_close_matches(key, part.__struct_fields__, n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            say(f"dhtmeta: {visible(key)!r} is no field of a record, published as it is{hint}")


def show_published(published: "Published", as_json: bool) -> None:
    """Print what became of a put, and say so where few nodes took it."""
    if published.accepted < COPIES // 2:
        say(f"dhtmeta: only {published.accepted} nodes took it: publish again when more are known")
    if as_json:
        print_json(published_json(published))
        return
    item, copies = published.item, published.copies
    others = {"refused it": len(published.rejected), "never answered": published.silent}
    said = ", ".join(f"{count} {what}" for what, count in others.items() if count)
    count = published.accepted if copies is None else copies
    key = item.public_key.hex()
    click.echo(f"seq {item.seq} of {key} is on {count} nodes" + (f" ({said})" if said else ""))


def published_json(published: "Published") -> dict[str, Any]:
    """Return what `publish --json` and `put --json` print."""
    from dhtmeta.values.plain import to_builtins

    item = published.item
    return {
        "public_key": item.public_key.hex(),
        "salt": to_builtins(item.salt),
        "seq": item.seq,
        "target": item.target.hex(),
        "accepted": published.accepted,
        "rejected": [{"code": one.code, "seq": one.seq} for one in published.rejected],
        "silent": published.silent,
        "copies": published.copies,
    }
