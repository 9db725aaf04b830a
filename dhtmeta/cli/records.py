"""`dhtmeta query` and `watch`: what comes back from the DHT."""

import json
from typing import TYPE_CHECKING, Any

import click

from dhtmeta.cli.options import (
    Seconds,
    json_option,
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
from dhtmeta.const import LOOKUP_DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from dhtmeta.dht.carrier import GetOutcome
    from dhtmeta.engine.resolve import Answer
    from dhtmeta.errors import DhtmetaError


@click.command(epilog="Example: dhtmeta query 82f1…a4 --policy freshest --json")
@click.argument("public_keys", metavar="PUBLIC_KEY...", nargs=-1, required=True)
@click.option(
    "--policy",
    type=click.Choice(["cache-only", "cache-first", "freshest"]),
    default="cache-first",
    show_default=True,
    help="Never ask the network, only if needed, or always and of every node.",
)
@salt_option
@network_options
@timeout_option(LOOKUP_DEADLINE)
@json_option
def query(
    public_keys: tuple[str, ...],
    policy: str,
    salt: bytes,
    timeout: float,
    as_json: bool,
    **network: Any,
) -> int:
    """Look up what a peer published, verify it, and say how it can be reached.

    A key that was rotated is followed to its successor, by one step.

    Of several keys, each that failed is named on stderr. The exit code is 0 if none did, what
    all that failed have in common (3 not found, 5 no network), and 1 if they failed differently.
    """
    return int(run(_query(public_keys, policy, salt, timeout, as_json, network)))


async def _query(
    texts: tuple[str, ...], policy: str, salt: bytes, deadline: float, as_json: bool, network: Any
) -> int:
    import asyncio

    from dhtmeta.values.node_id import parse_public_key

    keys = [parse_public_key(text) for text in texts]
    async with make_node(**network, offline=policy == "cache-only") as node:
        queries = (node.query(key, salt=salt, policy=policy, deadline=deadline) for key in keys)
        with waiting("looking it up …"):
            answers = await asyncio.gather(*queries, return_exceptions=True)
        return _show_all(dict(zip(keys, answers, strict=True)), as_json)


def _show_all(answers: "dict[bytes, Answer | BaseException]", as_json: bool) -> int:
    """Show each answer, name each key that failed, and return the exit code for all of them."""
    from dhtmeta.cli.main import shared_exit_code
    from dhtmeta.errors import DhtmetaError

    failures = []
    for key, answer in answers.items():
        if not isinstance(answer, BaseException):
            _show(answer, as_json)
        elif len(answers) == 1 or not isinstance(answer, DhtmetaError):
            raise answer
        else:
            say(f"dhtmeta: {key.hex()}: {answer}")
            failures.append(answer)
    return shared_exit_code(failures)


@click.command(epilog="Example: dhtmeta watch 82f1…a4 --interval 60 --json")
@click.argument("public_key", metavar="PUBLIC_KEY")
@click.option(
    "--interval",
    type=Seconds(min=1),
    default=30.0,
    show_default=True,
    help="Seconds between looks.",
)
@click.option("--count", type=click.IntRange(min=1), help="End after so many changes.")
@salt_option
@network_options
@json_option
def watch(
    public_key: str, interval: float, count: int | None, salt: bytes, as_json: bool, **network: Any
) -> None:
    """Print a peer's record now, and again whenever it publishes a newer one. Ctrl-C ends it."""
    run(_watch(public_key, interval, count, salt, as_json, network))


async def _watch(
    text: str, interval: float, count: int | None, salt: bytes, as_json: bool, network: Any
) -> None:
    from dhtmeta.values.node_id import parse_public_key

    key = parse_public_key(text)
    async with make_node(**network) as node:
        await node.carrier.ready()
        looks = node.watch(key, salt=salt, interval=interval, on_miss=_say_once())
        async for answer in looks:
            _show(answer, as_json)
            if count is not None and (count := count - 1) == 0:
                return


def _say_once() -> "Callable[[DhtmetaError], None]":
    """Return what tells people of a look that failed, but not the same thing over and over."""
    said = ""

    def on_miss(error: "DhtmetaError") -> None:
        nonlocal said
        if str(error) != said:
            said = str(error)
            say(f"dhtmeta: {said}; looking again")

    return on_miss


def _show(answer: "Answer", as_json: bool) -> None:
    shown = answer_json(answer)
    if as_json:
        print_json(shown)
        return
    verdict = shown["connectability"]
    click.echo(f"public key  {shown['public_key']}")
    click.echo(
        f"seq         {shown['seq']}  (from {shown['source']}, fetched {shown['age_s']:.0f} s ago)"
    )
    if followed := shown.get("followed"):
        click.echo(f"follows     {followed}, which was rotated to this key")
    if successor := shown.get("successor"):
        click.echo(f"rotated to  {successor}, which was not followed or holds nothing")
    if verdict:
        click.echo(f"reachable   {verdict['verdict']}: {verdict['reason']}")
    if broken := shown.get("invalid_record"):
        click.echo(f"no record   {visible(broken)}")
    said = shown.get("record", shown.get("value"))
    click.echo(visible(json.dumps(said, indent=2, ensure_ascii=False)))


def answer_json(answer: "Answer") -> dict[str, Any]:
    """Return what `query --json` prints for an answer."""
    from dhtmeta.errors import InvalidRecord
    from dhtmeta.values.node_id import peer_id
    from dhtmeta.values.plain import to_builtins

    item = answer.item
    shown: dict[str, Any] = {
        "public_key": item.public_key.hex(),
        "peer_id": peer_id(item.public_key).hex(),
        "salt": to_builtins(item.salt),
        "seq": item.seq,
    }
    rotation = {"followed": answer.followed, "successor": answer.successor}
    shown |= {name: key.hex() for name, key in rotation.items() if key is not None}
    try:
        record, verdict = answer.record, answer.connectability
    except InvalidRecord as error:
        record, verdict = None, None
        shown["invalid_record"] = str(error)
    if record is None:
        shown["value"] = to_builtins(answer.value)
    else:
        shown["record"] = record_json(record.to_plain())
    shown |= {"source": str(answer.source), "age_s": round(answer.age, 3)}
    shown["lookup"] = answer.lookup and lookup_json(answer.lookup)
    return shown | {"connectability": verdict and connectability_json(verdict)}


def lookup_json(lookup: "GetOutcome") -> dict[str, int]:
    """Return how many nodes a lookup queried, and what of; 0 where the carrier cannot tell."""
    names = ("queried", "answered", "holding", "refused")
    return {name: getattr(lookup, name) for name in names}


def record_json(plain: Any) -> Any:
    """Return a record's plain form with bytes that are no text as {"hex": "…"}."""
    if isinstance(plain, bytes):
        return {"hex": plain.hex()}
    if isinstance(plain, list):
        return [record_json(one) for one in plain]
    if isinstance(plain, dict):
        if set(plain) == {"hex"} and isinstance(plain["hex"], str):
            return {"hex": {"hex": plain["hex"].encode().hex()}}  # as to_builtins has it
        return {key: record_json(one) for key, one in plain.items()}
    return plain


def connectability_json(verdict: Any) -> dict[str, Any]:
    """Return verdict, reason and address as JSON shows them."""
    return {
        "verdict": str(verdict.verdict),
        "reason": verdict.reason,
        "address": verdict.address or None,
    }
