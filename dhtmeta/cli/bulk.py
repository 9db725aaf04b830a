"""`dhtmeta put --from` and `dhtmeta republish`: many records, with a progress bar, resumable."""

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dhtmeta.cli.options import (
    Seconds,
    json_option,
    keys_option,
    make_node,
    network_options,
    print_json,
    run,
    say,
    visible,
)
from dhtmeta.cli.publish import published_json
from dhtmeta.cli.signed_files import batches, count_items
from dhtmeta.const import DUE_PAGE, LOOKUP_WINDOW, REPUBLISH_INTERVAL

if TYPE_CHECKING:
    from dhtmeta.errors import DhtmetaError
    from dhtmeta.node import Node
    from dhtmeta.values.item import SignedItem


class Bulk:
    """What became of each item of a bulk put; `failures` are kept for the exit code.

    Without a network all others would fail, too: `offline` says so, and they wait for another run.
    """

    def __init__(
        self, node: "Node", put: dict[str, Any], as_json: bool, advance: Callable[[int], None]
    ) -> None:
        self.counts: Counter[str] = Counter(stored=0, there=0, failed=0)
        self.failures: list[DhtmetaError] = []
        self.offline: DhtmetaError | None = None
        self._node = node
        self._put = put
        self._as_json = as_json
        self._advance = advance
        self._slots = asyncio.Semaphore(LOOKUP_WINDOW)

    async def all_of(self, batch: "list[tuple[str, SignedItem | Exception]]") -> None:
        """Store all; raises NetworkUnreachable, and OSError where nobody reads what we print."""
        batch.sort(key=_target)
        try:
            async with asyncio.TaskGroup() as tasks:
                for name, item in batch:
                    tasks.create_task(self._one(name, item))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        if self.offline is not None:
            raise self.offline

    async def _one(self, name: str, item: "SignedItem | Exception") -> None:
        """Store one and tell of it; only what concerns all the others is raised."""
        from dhtmeta.errors import DhtmetaError, NetworkUnreachable

        async with self._slots:
            if self.offline is not None:
                return
            try:
                await self._store(name, item)
            except NetworkUnreachable as error:
                self.offline = error
            except DhtmetaError as error:
                self._fail(name, error)
            self._advance(1)

    async def _store(self, name: str, item: "SignedItem | Exception") -> None:
        """Store one, unless this store says that it is stored already."""
        if isinstance(item, Exception):
            raise item
        if await self._node.is_stored(item):
            self.counts["there"] += 1
            return
        published = await self._node.put(item, **self._put)
        self.counts["stored"] += 1
        if self._as_json:
            print_json(published_json(published) | {"from": name})

    def _fail(self, name: str, error: "DhtmetaError") -> None:
        self.counts["failed"] += 1
        if type(error) not in {type(one) for one in self.failures}:
            self.failures.append(error)
        say(f"dhtmeta: {visible(name)}: {error}")

    def tell(self) -> None:
        """Say what became of all so far."""
        counts = self.counts
        say(
            f"{counts['stored']:,} stored, {counts['there']:,} were stored already, "
            f"{counts['failed']:,} failed."
        )


def put_from(source: Path, put: dict[str, Any], as_json: bool, network: dict[str, Any]) -> int:
    """Put all of a directory or file; return the exit code."""
    return int(run(_put_from(source, put, as_json, network)))


async def _put_from(
    source: Path, put: dict[str, Any], as_json: bool, network: dict[str, Any]
) -> int:
    from dhtmeta.cli.main import shared_exit_code
    from dhtmeta.errors import CallerError

    async with make_node(**network, serve=True) as node:
        if node.carrier.signs_itself:
            raise CallerError("--from needs a carrier that puts signed items: --carrier direct")
        await node.carrier.ready()
        with progress("storing", count_items(source)) as advance:
            bulk = Bulk(node, put, as_json, advance)
            try:
                for batch in batches(source, DUE_PAGE):
                    await bulk.all_of(batch)
            finally:  # whoever interrupts it wants to know, too
                bulk.tell()
    return shared_exit_code(bulk.failures)


def _target(named: "tuple[str, SignedItem | Exception]") -> bytes:
    """Sort neighbours together, so that they share what a lookup learns."""
    return b"" if isinstance(named[1], Exception) else named[1].target


@click.command(epilog="Example: dhtmeta republish --all --bootstrap 127.0.0.1:6881")
@click.option(
    "--all", "everything", is_flag=True, help="All that is kept, not only what is due now."
)
@click.option(
    "--within",
    type=Seconds(0),
    default=REPUBLISH_INTERVAL,
    show_default=True,
    help="With --all: pass over what was looked at within so many seconds.",
)
@keys_option
@network_options
@json_option
def republish(
    everything: bool, within: float, as_json: bool, keys: Path | None, **network: Any
) -> int:
    """Look at the records that this store keeps alive, and put them where copies are missing.

    Our own record is signed anew if its key is here. What was interrupted goes on where it was
    when it is run again. `dhtmeta daemon` does the same for ever.
    """
    return int(run(_republish(within if everything else None, as_json, network | {"keys": keys})))


async def _republish(within: float | None, as_json: bool, network: dict[str, Any]) -> int:
    async with make_node(**network, serve=True) as node:
        if within is not None:
            await node.due_at_once(looked_before=node.clock() - within)
        due = (await node.totals()).due
        with progress("looking", due) as advance:
            working = asyncio.create_task(node.republisher.run_once())
            done = 0
            try:
                while not working.done():
                    await asyncio.wait([working], timeout=0.2)
                    advance(node.republisher.done - done)
                    done = node.republisher.done
            finally:
                working.cancel()
                await asyncio.wait([working])
            await working
        return _show(node, as_json)


def _show(node: "Node", as_json: bool) -> int:
    """Print what came of it; 1 if some have to be tried again."""
    counts = node.counts
    result = {
        "looked": counts.looks_ok,
        "published": counts.publishes_ok,
        "failed": node.republisher.done - counts.looks_ok - counts.publishes_ok,
        "topped_up": counts.topped_up,
        "lost": counts.records_lost,
        "adopted": counts.adopted,
    }
    if as_json:
        print_json(result)
    else:
        click.echo(
            f"{result['looked']:,} looked at, {result['published']:,} published anew, "
            f"{result['topped_up']:,} copies added, {result['failed']:,} failed"
        )
    return int(result["failed"] > 0)


@contextlib.contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal; elsewhere, of many, a line every ten percent."""
    if sys.stderr.isatty():
        with _bar(what, total) as advance:
            yield advance
        return
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        before, done = done, done + count
        if total and total >= DUE_PAGE and 10 * done // total > 10 * before // total:
            say(f"{what}: {done:,} of {total:,}")

    yield tell


@contextlib.contextmanager
def _bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.update(task, advance=count)
