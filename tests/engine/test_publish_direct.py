"""Publishing through the direct carrier on a real swarm: reserved first, finished after a crash."""

import asyncio
import contextlib
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dhtmeta._fast import bencode
from dhtmeta._fast.bencode import Value
from dhtmeta.const import MAX_SEQ
from dhtmeta.dht.address import format_address
from dhtmeta.dht.carrier import PutOutcome
from dhtmeta.dht.direct.carrier import DirectCarrier
from dhtmeta.errors import (
    CallerError,
    Conflict,
    DeadlineExceeded,
    InvalidSalt,
    InvalidValue,
    NetworkUnreachable,
    NotStored,
)
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.node import Node
from dhtmeta.store.ledger import Ledger, LedgerEntry
from dhtmeta.store.store import Store
from dhtmeta.store.tables import State
from dhtmeta.testing.liar import Liar
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity
from dhtmeta.values.record import NodeRecord
from tests.conftest import Clock, make_node
from tests.interop.plain_udp import PlainClient, endpoint_of

NOW = 1_800_000_000.0


def direct(swarm: Swarm, directory: Path, **options: Any) -> Node:
    """Make a node that puts through the direct carrier."""
    return make_node(swarm, directory, **{"carrier": "direct"} | options)


def libtorrent(swarm: Swarm, directory: Path) -> Node:
    """Make a node that looks up and puts through libtorrent, and shares no lookup with `direct`."""
    return make_node(swarm, directory, carrier="libtorrent")


def signed(identity: Identity, value: Value, seq: int) -> SignedItem:
    return SignedItem.sign(identity, encode_value(value), seq)


async def ledger(directory: Path, target: bytes) -> LedgerEntry | None:
    """Read the ledger of a node that keeps everything in `directory`."""
    store = await Store.open(str(directory / "store.db"), lambda: NOW)
    try:
        return await Ledger(store).newest(target)
    finally:
        await store.close()


async def reserved(directory: Path, item: SignedItem) -> None:
    """Leave what a process leaves that ended between its reservation and its put."""
    store = await Store.open(str(directory / "store.db"), lambda: NOW)
    await Ledger(store).reserve(item)
    await store.close()


async def in_state(directory: Path, item: SignedItem, state: State) -> LedgerEntry:
    """Wait until the ledger says so of this very item."""
    async with asyncio.timeout(20):
        while True:
            entry = await ledger(directory, item.target)
            assert entry is not None
            assert entry.item == item
            if entry.state is state:
                return entry
            await asyncio.sleep(0.02)


async def told_of(node: Node, liar: Liar) -> None:
    """Have `node` know the liar as one that answers."""
    async with asyncio.timeout(10):
        await node.carrier.ready()
        while liar.endpoint not in {one.endpoint for one in await node.carrier.live_nodes()}:
            node.carrier.add_nodes([liar.endpoint])
            await asyncio.sleep(0.01)


def fields(item: SignedItem) -> dict[bytes, bytes]:
    """Return what a node says that holds `item`."""
    plain: dict[bytes, Value] = {b"k": item.public_key, b"sig": item.sig, b"seq": item.seq}
    return {name: bencode.encode(value) for name, value in plain.items()} | {b"v": item.v}


async def test_each_publish_raises_the_seq_and_says_what_the_nodes_said(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    identity = Identity.generate()
    async with (
        direct(own_swarm, tmp_path / "w") as node,
        libtorrent(own_swarm, tmp_path / "r") as reader,
    ):
        published = [await node.publish([b"n", i], identity=identity) for i in range(3)]
        answer = await reader.query(identity.public_key, policy="freshest")
    assert [one.item.seq for one in published] == [1, 2, 3]
    for one in published:
        assert one.accepted >= 8
        assert (one.rejected, one.silent, one.copies) == ((), 0, one.accepted)
    assert (answer.seq, answer.value) == (3, [b"n", 2])
    entry = await ledger(tmp_path / "w", identity.peer_id)
    assert entry is not None
    assert (entry.item, entry.state, entry.copies) == (
        published[-1].item,
        State.STORED,
        published[-1].copies,
    )


async def test_every_kind_of_value_comes_back_as_it_was(own_swarm: Swarm, tmp_path: Path) -> None:
    values: list[Value] = [b"", b"text", b"le", b"i5e", b"3:abc", 5, -1, [], {}, [1, b"two"]]
    values += [{b"a": {b"b": [3]}}]
    identity = Identity.generate()
    async with (
        direct(own_swarm, tmp_path / "w") as node,
        libtorrent(own_swarm, tmp_path / "r") as reader,
    ):
        for i, value in enumerate(values):
            salt = b"%d" % i
            await node.publish(value, identity=identity, salt=salt)
            for one in (node, reader):
                assert (await one.query(identity.public_key, salt=salt)).value == value


async def test_it_comes_back_under_the_id_and_port_that_others_know(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    seen = []
    for value in (b"one", b"two"):
        async with direct(own_swarm, tmp_path) as node:
            await node.publish(value)
            assert isinstance(node.carrier, DirectCarrier)
            seen.append((node.carrier.core.node_id, node.carrier.endpoint, node.endpoint))
    assert seen[0] == seen[1]
    (node_id, (host, port), (node_host, node_port)) = seen[0]
    assert (host, port) == (node_host, node_port + 1)
    assert len(node_id) == 20


async def test_a_port_that_is_taken_costs_only_that_port(own_swarm: Swarm, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        _, port = taken.getsockname()
        async with direct(own_swarm, tmp_path, listen=f"127.0.0.1:{port - 1}") as node:
            assert (await node.publish(b"x")).item.seq == 1
            assert isinstance(node.carrier, DirectCarrier)
            assert node.carrier.endpoint[1] != port


async def test_a_record_goes_out_as_the_dict_that_other_networks_read(
    own_swarm: Swarm, tmp_path: Path, clock: Clock
) -> None:
    async with direct(own_swarm, tmp_path, clock=clock) as node, PlainClient() as client:
        published = await node.publish(NodeRecord(topic="t"))
        target = published.item.target
        held = await client.holders(map(endpoint_of, own_swarm.addresses), target)
    own = node.identity.peer_id.hex().encode()
    record = {b"peer_id": own, b"timestamp": int(clock.now), b"topic": b"t"}
    assert len(held) == published.copies
    assert {one.v for one in held} == {bencode.encode(record)}


async def test_who_names_no_carrier_has_this_one_and_libtorrent_reads_its_records(
    own_swarm: Swarm, tmp_path: Path, clock: Clock
) -> None:
    async with (
        make_node(own_swarm, tmp_path / "w", clock=clock) as node,
        libtorrent(own_swarm, tmp_path / "r") as reader,
    ):
        assert isinstance(node.carrier, DirectCarrier)
        await node.publish(NodeRecord(topic="t"))
        answer = await reader.query(node.identity.public_key, policy="freshest")
    assert isinstance(answer.value, dict)
    assert answer.record is not None
    assert (answer.record.topic, answer.record.timestamp) == ("t", int(clock.now))


class Witness(Liar):
    """The node closest to a target, which looks into the publisher's ledger when it is asked."""

    def __init__(self, target: bytes, path: Path) -> None:
        super().__init__(target, {})
        self.target = target
        self.path = path
        self.saw: list[list[tuple[int, str]]] = []

    def datagram_received(self, data: bytes, addr: Endpoint) -> None:
        if self.target in data and b"3:get" in data:
            with contextlib.closing(sqlite3.connect(self.path)) as store:
                self.saw.append(store.execute("select seq, state from ledger").fetchall())
        super().datagram_received(data, addr)


async def test_the_seq_is_on_disk_before_anything_is_sent(own_swarm: Swarm, tmp_path: Path) -> None:
    identity = Identity.generate()
    async with (
        direct(own_swarm, tmp_path) as node,
        Witness(identity.peer_id, tmp_path / "store.db") as witness,
    ):
        await told_of(node, witness)
        await node.publish(b"x", identity=identity)
    assert witness.saw
    assert witness.saw[0] == [(1, "reserved")]


async def test_every_copy_expired_and_the_seq_goes_on_from_the_ledger(tmp_path: Path) -> None:
    async with Swarm(8) as first, direct(first, tmp_path) as node:
        await node.publish(b"one")
        await node.publish(b"two")
    async with Swarm(8) as second, direct(second, tmp_path) as node:  # nobody holds anything
        published = await node.publish(b"three")
        answer = await node.query(node.identity.public_key, policy="freshest")
    assert (published.item.seq, answer.seq, answer.value) == (3, 3, b"three")


async def test_a_network_above_the_ledger_is_overtaken_and_said(
    own_swarm: Swarm, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        direct(own_swarm, tmp_path, state=tmp_path / "1") as node,
        direct(own_swarm, tmp_path, state=tmp_path / "2", store=str(tmp_path / "2.db")) as twin,
    ):
        await node.publish(b"one")
        await twin.publish(b"two", seq=7)
        published = await node.publish(b"three")
        answer = await twin.query(node.identity.public_key, policy="freshest")
    assert (published.item.seq, answer.value) == (8, b"three")
    assert "seq 7 on the network is above the ledger's 1" in caplog.text
    entry = await ledger(tmp_path, published.item.target)
    assert entry is not None
    assert entry.item == published.item


async def test_a_seq_that_was_only_seen_is_not_taken_again(tmp_path: Path) -> None:
    async with Swarm(8) as first, direct(first, tmp_path) as node:
        async with direct(first, tmp_path, store=str(tmp_path / "2.db"), state=tmp_path) as twin:
            await twin.publish(b"elsewhere", seq=4)
        assert (await node.query(node.identity.public_key)).seq == 4
    async with Swarm(8) as second, direct(second, tmp_path) as node:
        assert (await node.publish(b"here")).item.seq == 5


async def test_publishes_at_once_get_different_seqs(own_swarm: Swarm, tmp_path: Path) -> None:
    identity = Identity.generate()
    async with direct(own_swarm, tmp_path) as node:
        many = await asyncio.gather(*(node.publish(i, identity=identity) for i in range(5)))
        answer = await node.query(identity.public_key, policy="freshest")
    assert [one.item.seq for one in many] == [1, 2, 3, 4, 5]
    assert answer.item == many[-1].item


async def test_two_nodes_on_one_store_never_put_two_values_under_one_seq(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    identity = Identity.generate()
    async with (
        direct(own_swarm, tmp_path, state=tmp_path / "1") as one,
        direct(own_swarm, tmp_path, state=tmp_path / "2") as other,
    ):
        nodes = [one, other] * 3
        many = await asyncio.gather(
            *(node.publish(i, identity=identity) for i, node in enumerate(nodes)),
            return_exceptions=True,
        )
        answer = await one.query(identity.public_key, policy="freshest")
    stored = [put.item for put in many if not isinstance(put, BaseException)]
    assert {type(put) for put in many if isinstance(put, BaseException)} <= {Conflict}
    assert len({item.seq for item in stored}) == len(stored) >= 3
    assert answer.seq >= max(item.seq for item in stored)


async def test_an_explicit_seq_is_used_as_it_is(own_swarm: Swarm, tmp_path: Path) -> None:
    async with direct(own_swarm, tmp_path) as node:
        first = await node.publish(b"x", seq=41)
        again = await node.publish(b"x", seq=41)  # the very same bytes: a re-put
        assert first.item == again.item
        with pytest.raises(Conflict, match="another value under seq 41") as no:
            await node.publish(b"y", seq=41)
        assert (no.value.ledger_seq, no.value.outcome) == (41, None)
        with pytest.raises(Conflict, match=r"seq 41 of target .* above 40"):
            await node.publish(b"y", seq=40)
        assert (await node.publish(b"y")).item.seq == 42
        assert (await node.publish(b"z", seq=0, salt=b"other")).item.seq == 0


async def test_an_explicit_seq_at_or_below_the_networks_leaves_the_ledger_as_it_was(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    identity = Identity.generate()
    async with (
        direct(own_swarm, tmp_path / "1") as node,
        direct(own_swarm, tmp_path / "2") as twin,
    ):
        await twin.publish(b"x", identity=identity, seq=5)
        with pytest.raises(Conflict, match=r"newer seq 5; nothing was sent") as no:
            await node.publish(b"y", identity=identity, seq=4)
        assert (no.value.ledger_seq, no.value.network_seq) == (None, 5)
        with pytest.raises(Conflict, match="another value under seq 5; nothing was sent"):
            await node.publish(b"y", identity=identity, seq=5)
        held = await twin.query(identity.public_key, policy="freshest")
        assert (held.seq, held.value) == (5, b"x")
    assert await ledger(tmp_path / "1", identity.peer_id) is None


async def test_a_seq_below_one_that_was_seen_before_is_refused_unasked(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    identity = Identity.generate()
    async with (
        direct(own_swarm, tmp_path / "1") as node,
        direct(own_swarm, tmp_path / "2") as twin,
    ):
        await twin.publish(b"x", identity=identity, seq=5)
        await node.query(identity.public_key)
    async with direct(own_swarm, tmp_path / "1", offline=True) as node:
        with pytest.raises(NetworkUnreachable, match="offline"):
            await node.publish(b"y", identity=identity, seq=4)
    async with Swarm(8) as other, direct(other, tmp_path / "1") as node:
        with pytest.raises(Conflict, match="seq 5 was seen on the network before, above 4"):
            await node.publish(b"y", identity=identity, seq=4)


async def test_cas_compares_with_what_the_network_holds(own_swarm: Swarm, tmp_path: Path) -> None:
    async with direct(own_swarm, tmp_path) as node:
        first = await node.publish(b"one", cas=9)  # nothing is there: any cas is right (BEP 44)
        second = await node.publish(b"two", cas=1)
        with pytest.raises(Conflict, match=r"holds seq 2, not 1 .cas.; nothing was sent") as no:
            await node.publish(b"three", cas=1)
        assert no.value.network_seq == 2
        with pytest.raises(Conflict, match="holds seq 2, not 3"):
            await node.publish(b"three", seq=9, cas=3)
        entry = await ledger(tmp_path, second.item.target)
        assert entry is not None
        assert (entry.item, entry.state) == (second.item, State.STORED)
        third = await node.publish(b"three", seq=9, cas=2)
    assert [one.item.seq for one in (first, second, third)] == [1, 2, 9]


async def test_the_last_seq_there_is_cannot_be_overtaken(own_swarm: Swarm, tmp_path: Path) -> None:
    async with direct(own_swarm, tmp_path) as node:
        await node.publish(b"last", seq=MAX_SEQ)
        with pytest.raises(Conflict, match=r"2\^63-1 is taken.*another salt"):
            await node.publish(b"beyond")


async def test_bad_input_is_refused_before_anything_is_sent_or_written(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    async with direct(own_swarm, tmp_path) as node:
        for seq in (-1, MAX_SEQ + 1):
            with pytest.raises(InvalidValue, match=r"0 … 2\^63-1"):
                await node.publish(b"x", seq=seq)
            with pytest.raises(InvalidValue, match=r"0 … 2\^63-1"):
                await node.publish(b"x", cas=seq)
        with pytest.raises(InvalidSalt):
            await node.publish(b"x", salt=b"s" * 65)
        assert (await node.publish(b"fine")).item.seq == 1


async def test_libtorrent_takes_no_seq_no_cas_and_no_signed_item(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    identity = Identity.generate()
    async with libtorrent(own_swarm, tmp_path) as node:
        with pytest.raises(CallerError, match="--carrier direct"):
            await node.publish(b"x", identity=identity, seq=1)
        with pytest.raises(CallerError, match="--carrier direct"):
            await node.publish(b"x", identity=identity, cas=1)
        with pytest.raises(CallerError, match="--carrier direct"):
            await node.put(signed(identity, b"x", 1))
    assert await ledger(tmp_path, identity.peer_id) is None


async def test_an_unknown_carrier_is_named(own_swarm: Swarm, tmp_path: Path) -> None:
    with pytest.raises(CallerError, match="'pigeon' is no carrier; known: libtorrent, direct"):
        make_node(own_swarm, tmp_path, carrier="pigeon")


# signed items


async def test_a_signed_item_is_put_without_its_key(own_swarm: Swarm, tmp_path: Path) -> None:
    item = signed(Identity.generate(), {b"a": [1]}, 7)
    async with direct(own_swarm, tmp_path / "w") as node:
        published = await node.put(item)
        again = await node.put(item)
    assert published.item == again.item == item
    assert published.accepted >= 8
    async with libtorrent(own_swarm, tmp_path / "r") as reader:
        assert (await reader.query(item.public_key)).item == item
    entry = await ledger(tmp_path / "w", item.target)
    assert entry is not None
    assert (entry.item, entry.state, entry.copies) == (item, State.STORED, again.copies)


async def test_a_signed_item_below_or_beside_another_is_a_conflict(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    identity = Identity.generate()
    newest = signed(identity, b"newest", 7)
    older, other = signed(identity, b"older", 6), signed(identity, b"other", 7)
    async with (
        direct(own_swarm, tmp_path / "1") as node,
        direct(own_swarm, tmp_path / "2") as twin,
    ):
        await twin.put(newest)
        for stale, message in ((older, "newer seq 7"), (other, "another value under seq 7")):
            with pytest.raises(Conflict, match=f"holds (the )?{message}; nothing was sent"):
                await node.put(stale)
            with pytest.raises(Conflict, match=r"ledger (says seq 7|holds another value)"):
                await twin.put(stale)
        assert await ledger(tmp_path / "1", identity.peer_id) is None
        with pytest.raises(Conflict, match="holds seq 7, not 3"):
            await node.put(signed(identity, b"next", 8), cas=3)
        assert (await node.put(signed(identity, b"next", 8), cas=7)).item.seq == 8


class Turncoat(Liar):
    """Holds nothing when asked, refuses what is put, and then holds something newer."""

    def __init__(self, item: SignedItem) -> None:
        super().__init__(item.target, {})
        self.item = item

    def datagram_received(self, data: bytes, addr: Endpoint) -> None:
        if b"1:q3:put" in data:
            self.fields = fields(self.item)
        super().datagram_received(data, addr)


async def test_a_newer_seq_that_comes_up_while_we_put_is_a_conflict_that_counts(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    identity = Identity.generate()
    async with (
        direct(own_swarm, tmp_path) as node,
        Turncoat(signed(identity, b"newer", 9)) as turncoat,
    ):
        await told_of(node, turncoat)
        with pytest.raises(Conflict, match=r"newer item .seq 9.") as no:
            await node.publish(b"x", identity=identity)
        outcome = no.value.outcome
        assert isinstance(outcome, PutOutcome)
        assert outcome.accepted >= 8
        entry = await ledger(tmp_path, identity.peer_id)
        assert entry is not None
        assert (entry.item.seq, entry.state) == (1, State.SUPERSEDED)
        assert "newer item" in str(entry.last_error)
        turncoat.silent = True
        assert (await node.publish(b"x", identity=identity)).item.seq == 2


# unfinished publishes


async def test_what_was_reserved_is_finished_after_a_restart_with_the_same_bytes(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    items = [signed(Identity.generate(), {b"i": i}, i) for i in (1, 5)]
    for item in items:
        await reserved(tmp_path, item)
    async with direct(own_swarm, tmp_path):
        for item in items:
            entry = await in_state(tmp_path, item, State.STORED)
            assert entry.copies >= 8
    async with libtorrent(own_swarm, tmp_path / "r") as reader:
        for item in items:
            assert (await reader.query(item.public_key)).item == item


async def test_what_the_network_overtook_meanwhile_is_not_put_again(
    own_swarm: Swarm, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    identity = Identity.generate()
    item, newer = signed(identity, b"old", 3), signed(identity, b"new", 4)
    await reserved(tmp_path, item)
    async with direct(own_swarm, tmp_path / "other") as other:
        await other.put(newer)
        async with direct(own_swarm, tmp_path):
            entry = await in_state(tmp_path, item, State.SUPERSEDED)
        assert (await other.query(identity.public_key, policy="freshest")).item == newer
    assert "newer seq 4" in str(entry.last_error)
    assert f"unfinished publish of target {item.target.hex()}" in caplog.text


async def test_a_visit_finishes_nothing(own_swarm: Swarm, tmp_path: Path) -> None:
    item = signed(Identity.generate(), b"x", 1)
    await reserved(tmp_path, item)
    async with direct(own_swarm, tmp_path, serve=False) as node:
        await node.publish(b"else")
    async with libtorrent(own_swarm, tmp_path) as node:  # which cannot put these bytes
        await node.query(node.identity.public_key)
    entry = await ledger(tmp_path, item.target)
    assert entry is not None
    assert entry.state is State.RESERVED


async def test_a_new_publish_and_the_unfinished_one_go_one_after_the_other(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    identity = Identity.generate()
    await reserved(tmp_path, signed(identity, b"unfinished", 1))
    async with direct(own_swarm, tmp_path) as node:
        published = await node.publish(b"next", identity=identity)
        await in_state(tmp_path, published.item, State.STORED)
        assert (await node.query(identity.public_key, policy="freshest")).value == b"next"
    assert published.item.seq == 2


async def test_a_dead_network_writes_nothing_and_holds_up_no_shutdown(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    item = signed(Identity.generate(), b"x", 1)
    await reserved(tmp_path, item)
    async with asyncio.timeout(5):
        async with direct(own_swarm, tmp_path, bootstrap=["127.0.0.1:9"]) as node:
            with pytest.raises(NetworkUnreachable):
                await node.publish(b"y", deadline=0.3)
    entry = await ledger(tmp_path, item.target)
    assert entry is not None
    assert entry.state is State.RESERVED
    assert await ledger(tmp_path, node.identity.peer_id) is None


class DeafToPuts(Liar):
    """Answers everything but puts; `put` is set when one came."""

    def __init__(self) -> None:
        super().__init__(b"d" * 20, {})
        self.put = asyncio.Event()

    def datagram_received(self, data: bytes, addr: Endpoint) -> None:
        if b"1:q3:put" in data:
            self.put.set()
        else:
            super().datagram_received(data, addr)


@contextlib.asynccontextmanager
async def deaf_network(swarm: Swarm, directory: Path) -> AsyncIterator[Node]:
    """Open a node whose only other node takes no puts."""
    async with DeafToPuts() as deaf:
        where = [format_address(deaf.endpoint)]
        async with direct(swarm, directory, bootstrap=where) as node:
            await told_of(node, deaf)
            yield node


async def test_what_nobody_accepted_is_noted_and_finished_later(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    identity = Identity.generate()
    async with deaf_network(own_swarm, tmp_path) as node:
        with pytest.raises((NotStored, DeadlineExceeded), match="no node accepted"):
            await node.publish(b"x", identity=identity, deadline=10)
    entry = await ledger(tmp_path, identity.peer_id)
    assert entry is not None
    assert entry.state is State.RESERVED
    assert "no node accepted" in str(entry.last_error)
    async with direct(own_swarm, tmp_path):
        finished = await in_state(tmp_path, entry.item, State.STORED)
    assert (finished.item.seq, finished.last_error) == (1, None)


async def test_waiting_for_an_earlier_put_ends_at_the_deadline(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    identity = Identity.generate()
    async with deaf_network(own_swarm, tmp_path) as node:
        slow = asyncio.create_task(node.publish(b"x", identity=identity))
        await asyncio.sleep(0)
        with pytest.raises(DeadlineExceeded, match=r"earlier puts .* nothing was sent"):
            await node.publish(b"y", identity=identity, deadline=0.0)
        with pytest.raises(NotStored):
            await slow


async def test_a_publish_that_was_killed_on_the_way_is_finished_with_the_same_bytes(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"keys": tmp_path / "keys", "store": tmp_path / "store.db"}
    async with DeafToPuts() as deaf:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dhtmeta", "publish", "--value", "-", "--carrier", "direct"),
            *(word for name, value in options.items() for word in (f"--{name}", str(value))),
            *("--bootstrap", format_address(deaf.endpoint)),
            stdin=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        process.stdin.write(b'["killed"]')
        process.stdin.close()
        async with asyncio.timeout(20):
            await deaf.put.wait()
        process.kill()
        await process.wait()
    async with direct(own_swarm, tmp_path) as node:
        entry = await ledger(tmp_path, node.identity.peer_id)
        assert entry is not None
        finished = await in_state(tmp_path, entry.item, State.STORED)
        answer = await node.query(node.identity.public_key)
        assert (await node.publish(b"next")).item.seq == 2
    assert (answer.item, answer.seq, answer.value) == (finished.item, 1, [b"killed"])
