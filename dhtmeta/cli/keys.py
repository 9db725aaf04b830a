"""`dhtmeta keygen`: a first key pair, or one that follows it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dhtmeta.cli.options import (
    json_option,
    keys_option,
    load_settings,
    make_node,
    network_options,
    print_json,
    run,
    say,
    timeout_option,
    waiting,
)
from dhtmeta.cli.publish import published_json
from dhtmeta.const import COPIES, PUT_DEADLINE

if TYPE_CHECKING:
    from dhtmeta.engine.publish import Published
    from dhtmeta.values.keys import Identity


@click.command(epilog="Example: dhtmeta keygen --keys ./alice")
@click.option(
    "--rotate", is_flag=True, help="Make the successor of the key pair there, and publish that."
)
@keys_option
@network_options
@timeout_option(PUT_DEADLINE)
@json_option
def keygen(rotate: bool, keys: Path | None, timeout: float, as_json: bool, **network: Any) -> None:
    """Make an Ed25519 key pair. Files that are there already are never overwritten.

    With --rotate a new pair takes the place of the old one, once a record that names it is stored
    under the old key, signed by both. Readers who ask for the old key are led to the new one.
    The old pair is kept in old-<peer id>. If anything goes wrong on the way, run it again.
    Only --rotate uses the network.
    """
    directory = keys or load_settings(network["config"]).keys
    if rotate:
        identity, published = run(_rotate(network | {"keys": directory}, timeout))
        _show_rotated(identity, published, directory, as_json)
    else:
        _refuse_network(network)
        _make(directory, as_json)


def _refuse_network(network: dict[str, Any]) -> None:
    given = [f"--{name}" for name, value in network.items() if value and name != "config"]
    if given:
        raise click.UsageError(f"{', '.join(given)}: only --rotate uses the network")


def _make(directory: Path, as_json: bool) -> None:
    from dhtmeta.values.keys import create_identity

    identity = create_identity(directory)
    if as_json:
        print_json(_keys_json(identity, directory))
    else:
        _show_keys(identity, directory)


async def _rotate(network: dict[str, Any], deadline: float) -> "tuple[Identity, Published]":
    async with make_node(**network, serve=True) as node:
        with waiting("storing the name of the new key under the old one …"):
            published = await node.rotate(deadline=deadline)
        return node.identity, published


def _show_rotated(
    identity: "Identity", published: "Published", directory: Path, as_json: bool
) -> None:
    """Print the new pair, what became of the old one, and what is still to be done."""
    from dhtmeta.values.keys import old_directory

    old = published.item.public_key
    kept = old_directory(directory, old)
    if as_json:
        rotated = {"rotated_from": old.hex(), "old_keys": str(kept)}
        put = {"published": published_json(published)}
        print_json(_keys_json(identity, directory) | rotated | put)
    else:
        _show_keys(identity, directory)
        click.echo(f"follows     {old.hex()}, kept in {kept}")
    if published.accepted < COPIES // 2:
        say(f"dhtmeta: only {published.accepted} nodes know of it: republish it from this store")
    say("Now publish a record with the new key; a daemon on these keys has to be started again.")


def _keys_json(identity: "Identity", directory: Path) -> dict[str, Any]:
    pair = {"public_key": identity.public_key.hex(), "peer_id": identity.peer_id.hex()}
    return pair | {"keys": str(directory)}


def _show_keys(identity: "Identity", directory: Path) -> None:
    click.echo(f"public key  {identity.public_key.hex()}")
    click.echo(f"peer id     {identity.peer_id.hex()}")
    click.echo(f"kept in     {directory}")
