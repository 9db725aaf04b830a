"""`dhtmeta keygen`."""

from pathlib import Path

import click

from dhtmeta.cli.options import json_option, keys_option, load_settings, print_json


@click.command(epilog="Example: dhtmeta keygen --keys ./alice")
@keys_option
@json_option
def keygen(keys: Path | None, as_json: bool) -> None:
    """Make an Ed25519 key pair. Files that are there already are never overwritten."""
    from dhtmeta.values.keys import create_identity

    directory = keys or load_settings().keys
    identity = create_identity(directory)
    if as_json:
        result = {"public_key": identity.public_key.hex(), "peer_id": identity.peer_id.hex()}
        print_json(result | {"keys": str(directory)})
    else:
        click.echo(f"public key  {identity.public_key.hex()}")
        click.echo(f"peer id     {identity.peer_id.hex()}")
        click.echo(f"kept in     {directory}")
