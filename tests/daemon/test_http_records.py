"""`/v1/records/{key}` on a real swarm: what is put is read elsewhere, what is wrong is said."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from dhtmeta.config import Settings
from dhtmeta.const import ENROLMENT_COUNTED, MAX_SIGNED_FILE_BYTES
from dhtmeta.daemon.responses import Refused, problem
from dhtmeta.daemon.room import Room
from dhtmeta.dht.carrier import PutOutcome
from dhtmeta.errors import (
    CallerError,
    Conflict,
    DeadlineExceeded,
    InvalidKey,
    InvalidRecord,
    InvalidSalt,
    InvalidValue,
    NetworkUnreachable,
    NotFound,
    NotStored,
    StoreError,
    ValueTooLarge,
)
from dhtmeta.node import Node
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity
from dhtmeta.values.record import NetworkInfo, NodeRecord
from dhtmeta.values.signed_file import from_signed_file, to_signed_file
from dhtmeta.values.successor import successor_value
from tests.conftest import Clock, make_node
from tests.daemon.http_server import JSON, path_of, serving, signed

FIELDS = ("public_key", "salt", "seq", "v", "sig", "target")


async def test_what_is_put_is_read_from_another_node(writer: Node, reader: Node) -> None:
    item = signed(7, {b"hello": [1, b"\xff"]})
    async with serving(writer) as served:
        put = await served.put(item)
    assert put.status == 201
    assert put.json["seq"] == 7
    assert put.json["target"] == item.target.hex()
    assert put.json["accepted"] >= 8
    assert put.json["copies"] >= 8
    async with serving(reader) as served:
        got = await served.get(path_of(item))
    assert got.status == 200
    assert got.json["value"] == {"hello": [1, {"hex": "ff"}]}
    assert got.json["source"] == "dht"
    assert got.headers["ETag"] == put.headers["ETag"]
    again = from_signed_file(json.dumps({name: got.json[name] for name in FIELDS}))
    assert again == item


async def test_a_salted_item_has_its_own_path(writer: Node, reader: Node) -> None:
    identity = Identity.generate()
    item = SignedItem.sign(identity, encode_value(b"salted"), 1, b"\x00\xff")
    async with serving(writer) as served:
        assert (await served.put(item)).status == 422
        put = await served.put(item, "?salt=00ff")
    assert put.status == 201
    async with serving(reader) as served:
        assert (await served.get(path_of(item))).status == 404
        got = await served.get(put.headers["Location"])
    assert got.json["salt"] == "00ff"
    assert got.json["value"] == "salted"


async def test_a_record_comes_with_its_connectability(writer: Node, reader: Node) -> None:
    info = NetworkInfo(node_type="public", public_ip="127.0.0.1", public_port=4, supports_upnp=True)
    identity = Identity.generate()
    await writer.publish(NodeRecord(network_info=info), identity=identity)
    async with serving(reader) as served:
        got = await served.get(f"/v1/records/{identity.public_key.hex()}")
        peers = (await served.get("/peers?limit=500")).json["peers"]
        connectable = (await served.get("/peers/connectable?limit=500")).json["peers"]
    assert got.json["record"]["network_info"]["public_port"] == 4
    assert got.json["connectability"]["address"] == "127.0.0.1:4"
    (peer,) = [one for one in peers if one["public_key"] == identity.public_key.hex()]
    assert peer["verdict"] == "direct"
    assert identity.public_key.hex() in {one["public_key"] for one in connectable}


async def test_a_key_that_was_rotated_is_followed(writer: Node, reader: Node) -> None:
    old, new = Identity.generate(), Identity.generate()
    async with serving(writer) as served:
        await served.put(signed(1, successor_value(old.public_key, new), old))
        alone = await served.get(f"/v1/records/{old.public_key.hex()}")
        await served.put(signed(1, b"new", new))
    async with serving(reader) as served:
        got = await served.get(f"/v1/records/{old.public_key.hex()}")
    assert alone.json["successor"] == new.public_key.hex()
    assert alone.json["public_key"] == got.json["followed"] == old.public_key.hex()
    assert (got.json["public_key"], got.json["value"]) == (new.public_key.hex(), "new")


async def test_what_calls_itself_a_record_wrongly_is_given_as_a_value(writer: Node) -> None:
    item = signed(1, {b"peer_id": b"nobody"})
    async with serving(writer) as served:
        await served.put(item)
        got = await served.get(path_of(item))
        assert (await served.get("/topology")).status == 200
    assert got.json["value"] == {"peer_id": "nobody"}
    assert "peer_id" in got.json["invalid_record"]
    assert got.json["connectability"] is None


async def test_a_client_that_has_it_is_told_so(writer: Node) -> None:
    item = signed()
    async with serving(writer) as served:
        tag = (await served.put(item)).headers["ETag"]
        for condition in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            reply = await served.get(path_of(item), headers={"If-None-Match": condition})
            assert (reply.status, reply.body) == (304, b""), condition
            assert reply.headers["ETag"] == tag
        for condition in ('"other"', "junk", ""):
            reply = await served.get(path_of(item), headers={"If-None-Match": condition})
            assert reply.status == 200, condition


async def test_caches_may_keep_it_for_what_is_left_of_its_lifetime(
    own_swarm: Swarm, tmp_path: Path, clock: Clock
) -> None:
    item = signed()
    async with make_node(own_swarm, tmp_path, clock=clock) as node, serving(node) as served:
        await served.put(item)
        ages = []
        for _ in range(3):
            reply = await served.get(path_of(item))
            ages.append((reply.json["age"], reply.headers["Cache-Control"]))
            clock.now += 200
    assert ages[:2] == [(0, "public, max-age=300"), (200, "public, max-age=100")]
    assert ages[2] == (400, "public, max-age=0")


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 404),
        ("?policy=cache-only", 404),
        ("?policy=freshest", 404),
        ("?policy=no", 400),
        ("?salt=0", 400),
        ("?salt=zz", 400),
        ("?salt=" + "00" * 65, 400),
        ("?sallt=00", 400),
    ],
)
async def test_what_nobody_holds_is_a_404_and_what_is_no_question_a_400(
    writer: Node, query: str, status: int
) -> None:
    async with serving(writer) as served:
        assert (await served.get(path_of(signed(), query))).status == status


@pytest.mark.parametrize("key", ["ab", "ab" * 33, "zz" * 32, "%20" * 64, "ab" * 31 + "a%00"])
async def test_a_key_that_is_none_is_a_400(writer: Node, key: str) -> None:
    async with serving(writer) as served:
        got = await served.get(f"/v1/records/{key}")
        put = await served.ask("PUT", f"/v1/records/{key}", data=b"{}", headers=JSON)
    assert got.status == put.status == 400
    assert "a public key is 64 hex digits" in got.json["detail"]


async def test_an_older_seq_and_another_value_are_conflicts(writer: Node, reader: Node) -> None:
    identity = Identity.generate()
    async with serving(writer) as served:
        assert (await served.put(signed(5, b"five", identity))).status == 201
        assert (await served.put(signed(5, b"five", identity))).status == 201  # the same again
        older = await served.put(signed(4, b"four", identity))
        other = await served.put(signed(5, b"another", identity))
    async with serving(reader) as served:
        elsewhere = await served.put(signed(4, b"four", identity))
    assert [one.status for one in (older, other, elsewhere)] == [409] * 3
    assert older.json["ledger_seq"] == 5
    assert elsewhere.json["network_seq"] == 5


async def test_a_condition_that_fails_is_a_412(writer: Node) -> None:
    identity = Identity.generate()
    async with serving(writer) as served:
        tag = (await served.put(signed(1, b"one", identity))).headers["ETag"]
        two = await served.put(signed(2, b"two", identity), headers={**JSON, "If-Match": tag})
        late = await served.put(signed(3, b"three", identity), headers={**JSON, "If-Match": tag})
        wrong = await served.put(signed(3, b"three", identity), "?cas=1")
        right = await served.put(signed(3, b"three", identity), "?cas=2")
    assert [one.status for one in (two, late, wrong, right)] == [201, 412, 412, 201]
    assert late.json["network_seq"] == 2


@pytest.mark.parametrize("tag", ["*", '"x"', "x", '"1-ab"', 'W/"1-' + "ab" * 16 + '"', "", '"'])
async def test_a_condition_that_is_none_is_a_400(writer: Node, tag: str) -> None:
    async with serving(writer) as served:
        reply = await served.put(signed(), headers={**JSON, "If-Match": tag})
        both = f'"1-{"ab" * 16}"'
        twice = await served.put(signed(), "?cas=1", headers={**JSON, "If-Match": both})
        none = await served.put(signed(), "?cas=-1")
    assert reply.status == twice.status == none.status == 400
    assert "If-Match" in reply.json["detail"]


def broken(**fields: Any) -> bytes:
    """Return a signed file in which some fields were replaced."""
    return json.dumps(json.loads(to_signed_file(ITEM)) | fields).encode()


ITEM = signed(3)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "JSON"),
        (b"[]", "object"),
        (b"\xff", "UTF-8"),
        (b"[" * 8000, "JSON"),
        (b'{"public_key": 1, "public_key": 1}', "public_key"),
        (b'{"seq": 1e999}', "public_key"),
        (broken(seq=4), "signature"),
        (broken(seq=2**63), "seq"),
        (broken(seq=True), "seq"),
        (broken(sig="00" * 64), "signature"),
        (broken(sig="00"), "sig"),
        (broken(v=encode_value(b"other").hex()), "signature"),
        (broken(v="00" * 1001), "v"),
        (broken(v="00"), "v is not canonical"),
        (broken(salt="00"), "target"),
        (broken(target="00" * 20), "target"),
        (broken(extra=1), "extra"),
        (to_signed_file(signed()).encode(), "public_key"),
    ],
)
async def test_a_body_that_does_not_verify_is_a_422_that_names_the_field(
    writer: Node, body: bytes, named: str
) -> None:
    async with serving(writer) as served:
        reply = await served.put(ITEM, data=body)
    assert reply.status == 422
    assert named in reply.json["detail"]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large_is_a_413(writer: Node, chunked: bool) -> None:
    fits = to_signed_file(signed()).encode().ljust(MAX_SIGNED_FILE_BYTES)
    async with serving(writer) as served:
        replies = [
            await served.ask(
                "PUT", path_of(ITEM), data=_chunks(body) if chunked else body, headers=JSON
            )
            for body in (fits, fits + b" ")
        ]
    assert [reply.status for reply in replies] == [422, 413]  # the first is another's
    assert "8,192 bytes" in replies[1].json["detail"]


async def _chunks(body: bytes) -> Any:
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000]


async def test_only_json_is_taken_and_as_it_is(writer: Node) -> None:
    item = signed()
    async with serving(writer) as served:
        form = await served.put(item, headers={"Content-Type": "application/x-www-form-urlencoded"})
        zipped = await served.put(item, headers={**JSON, "Content-Encoding": "gzip"})
        unsaid = await served.put(item, headers={}, skip_auto_headers=["Content-Type"])
        charset = await served.put(
            item, headers={"Content-Type": "application/json; charset=utf-8"}
        )
    statuses = [one.status for one in (form, zipped, unsaid, charset)]
    assert statuses == [415, 415, 201, 201]


async def test_a_client_that_waits_to_be_asked_for_the_body_is_asked(writer: Node) -> None:
    item = signed()
    body = to_signed_file(item).encode()
    head = f"PUT {path_of(item)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += "Expect: 100-continue\r\n"
    async with serving(writer) as served:
        asked = await served.raw(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        refused = await served.raw(f"{head}Content-Length: 99999\r\n\r\n".encode())
    assert asked.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201")
    assert refused.startswith(b"HTTP/1.1 413")


async def test_nothing_is_kept_unless_that_is_set(writer: Node) -> None:
    before = (await writer.totals()).for_http
    async with serving(writer) as served:
        reply = await served.put(signed())
        assert (await writer.totals()).for_http == before
        assert reply.json["kept"] is False
        assert "keep is false" in reply.json["not_kept_because"]


async def test_as_many_are_kept_as_may_be(writer: Node) -> None:
    before = (await writer.totals()).for_http
    async with serving(writer, keep=True, max_kept=2) as served:
        served.kept = 1
        kept = await served.put(signed())
        served.kept = 2
        full = await served.put(signed())
    assert (kept.status, kept.json["kept"], kept.json["not_kept_because"]) == (201, True, None)
    assert (full.status, full.json["kept"]) == (201, False)
    assert (await writer.totals()).for_http == before + 1
    assert "max_kept" in full.json["not_kept_because"]


async def test_a_burst_keeps_no_more_than_may_be(writer: Node) -> None:
    before = (await writer.totals()).for_http
    identity = Identity.generate()
    async with serving(writer, keep=True, max_kept=3) as served:  # the ledger's count stays at 0
        failed = await served.put(signed(1), data=b"{}")
        puts = await asyncio.gather(*(served.put(signed()) for _ in range(2)))
        first = await served.put(signed(1, b"one", identity))
        more = await asyncio.gather(*(served.put(signed()) for _ in range(3)))
        newer = await served.put(signed(2, b"two", identity))
    assert failed.status == 422
    assert [one.json["kept"] for one in (*puts, first, *more)] == [True] * 3 + [False] * 3
    assert (newer.json["kept"], newer.json["not_kept_because"]) == (True, None)
    assert (await writer.totals()).for_http == before + 3


async def test_what_is_kept_anyway_is_said_to_be(writer: Node) -> None:
    identity = Identity.generate()
    await writer.put(signed(1, b"one", identity))
    before = await writer.totals()
    async with serving(writer) as served:
        newer = await served.put(signed(2, b"two", identity))
    assert (newer.status, newer.json["kept"]) == (201, True)
    after = await writer.totals()
    assert (after.kept, after.for_http) == (before.kept, before.for_http)


def test_enrolments_count_until_the_ledger_has_them() -> None:
    counted, now = [5], [0.0]
    room = Room(lambda: counted[0], lambda: now[0])
    with room.enrolling(), room.enrolling():
        assert room.taken == 7
    assert room.taken == 7
    with pytest.raises(NotStored), room.enrolling():
        raise NotStored("x")
    assert room.taken == 7
    counted[0] = 6  # a count that began before the second was there
    assert room.taken == 7
    counted[0] = 7  # which are not counted twice
    assert room.taken == 7
    counted[0] = 9
    assert room.taken == 9
    counted[0] = 4  # their owner took some over
    now[0] = ENROLMENT_COUNTED
    assert room.taken == 4
    with room.enrolling():
        pass
    assert room.taken == 5


async def test_the_libtorrent_carrier_says_that_it_cannot(libtorrent_writer: Node) -> None:
    async with serving(libtorrent_writer) as served:
        put = await served.put(signed())
        assert (await served.get("/stats")).json["carrier"] == "libtorrent"
        assert (await served.get("/metrics")).status == 200
    assert put.status == 501
    assert "carrier = direct" in put.json["detail"]


async def test_who_finds_no_network_is_told_when_to_come_back(tmp_path: Path) -> None:
    options: Any = {"store": str(tmp_path / "s.db"), "keys": tmp_path, "settings": Settings()}
    async with Node(offline=True, **options) as node, serving(node) as served:
        reply = await served.get(path_of(signed(), "?policy=freshest"))
        held = await served.get(path_of(signed(), "?policy=cache-only"))
    assert reply.status == 503
    assert held.status == 404


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (CallerError("x"), 400),
        (InvalidKey("x"), 400),
        (InvalidSalt("x"), 400),
        (InvalidValue("x"), 422),
        (ValueTooLarge(1001, 1000, []), 422),
        (InvalidRecord("x", "y"), 422),
        (Refused(418, "x"), 418),
        (NotFound("x"), 404),
        (NotStored("x"), 502),
        (Conflict("x", 1, 2), 409),
        (NetworkUnreachable("x"), 503),
        (StoreError("x"), 503),
        (DeadlineExceeded("x"), 504),
        (KeyError("secret"), 500),
    ],
)
def test_each_error_has_its_status(error: Exception, status: int) -> None:
    said = problem(error)
    assert said.status == said.json["status"] == status
    assert "secret" not in said.detail


@pytest.mark.parametrize(("cas", "network", "status"), [(None, 2, 409), (2, 2, 409), (1, 2, 412)])
def test_a_conflict_is_a_412_only_where_the_condition_was_wrong(
    cas: int | None, network: int, status: int
) -> None:
    outcome = PutOutcome(ITEM, 3)
    said = problem(Conflict("x", None, network, outcome), cas)
    assert said.status == status
    assert said.json["network_seq"] == network
