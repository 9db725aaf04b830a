"""`dhtmeta swarm`: a local DHT to play with."""

import click

from dhtmeta.cli.options import json_option, print_json, run, say, waiting


@click.command(epilog="Example: dhtmeta swarm --nodes 20 --json > swarm.json &")
@click.option("--nodes", type=click.IntRange(2, 1000), default=20, show_default=True)
@json_option
def swarm(nodes: int, as_json: bool) -> None:
    """Run real DHT nodes on loopback until Ctrl-C or SIGTERM, and say where they are."""
    run(_swarm(nodes, as_json))


async def _swarm(nodes: int, as_json: bool) -> None:
    import asyncio
    import contextlib
    import signal

    from dhtmeta.testing.swarm import Swarm

    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with contextlib.AsyncExitStack() as until_stopped:
        with waiting(f"starting {nodes} nodes …"):
            running = await until_stopped.enter_async_context(Swarm(nodes))
        if as_json:
            print_json({"bootstrap": running.addresses})
        else:
            say(f"{nodes} nodes know each other; use any of them as --bootstrap. Ctrl-C ends it.")
            for address in running.addresses:
                click.echo(address)
        await stopped.wait()
