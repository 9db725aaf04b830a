"""A registry over HTTP: whom it registers, whom it refuses and why, what it tells."""

import asyncio
import contextlib
import json
import random
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from dhtmeta.config import RegistrySettings, Settings
from dhtmeta.const import CENSUS_AT_ONCE, MAX_SIGNED_FILE_BYTES, NONCE_LIFETIME
from dhtmeta.daemon import registry_server
from dhtmeta.daemon.registry_entries import Entries
from dhtmeta.daemon.registry_server import Registry
from dhtmeta.discovery.topic import topic_hash
from dhtmeta.errors import CallerError, PortError
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity
from dhtmeta.values.record import NetworkInfo, NodeRecord
from dhtmeta.values.registration import Registration, to_json
from tests.conftest import Clock
from tests.daemon.http_server import JSON, hung_up

TOPIC = topic_hash("a topic")


@dataclass
class Reply:
    """What came back."""

    status: int
    headers: Any
    json: Any


@dataclass
class Running:
    """A registry that answers, and the clock that it goes by."""

    registry: Registry
    clock: Clock

    @property
    def name(self) -> str:
        """Its host:port, as a registration names it."""
        return self.registry.url.partition("//")[2]

    async def ask(self, method: str, path: str, source: str = "127.0.0.1", **options: Any) -> Reply:
        """Send a request from an address of this machine; a refusal must be a problem+json."""
        connector = aiohttp.TCPConnector(local_addr=(source, 0))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, self.registry.url + path, **options) as answer,
        ):
            shown = await answer.json(content_type=None)
            if answer.status >= 400:
                assert answer.content_type == "application/problem+json"
                assert shown["status"] == answer.status
            return Reply(answer.status, answer.headers, shown)

    async def get(self, path: str, source: str = "127.0.0.1") -> Any:
        """Send a GET that succeeds, and return its JSON."""
        reply = await self.ask("GET", path, source)
        assert reply.status == 200, reply.json
        return reply.json

    async def post(self, body: str, source: str = "127.0.0.1", **headers: str) -> Reply:
        """Send a registration, whatever it is."""
        return await self.ask("POST", "/register", source, data=body, headers=JSON | headers)

    async def signed(self, identity: Identity, source: str = "127.0.0.1", **said: Any) -> str:
        """Return a registration with a fresh nonce; `said` is what it says besides."""
        nonce = bytes.fromhex((await self.get("/nonce", source))["nonce"])
        given: dict[str, Any] = {"registry": self.name, "nonce": nonce, "lifetime": 600} | said
        return to_json(Registration(public_key=identity.public_key, **given), identity)

    async def register(self, identity: Identity, source: str = "127.0.0.1", **said: Any) -> Reply:
        """Register from an address of this machine."""
        return await self.post(await self.signed(identity, source, **said), source)


@contextlib.asynccontextmanager
async def running(entries: Entries | None = None, **settings: Any) -> AsyncIterator[Running]:
    """Run a registry on any free port of 127.0.0.1; `settings` are those of [registry]."""
    clock = Clock()
    registry = Registry(
        Settings(registry=RegistrySettings(**{"listen": "127.0.0.1:0"} | settings)),
        entries=entries,
        now=clock,
        clock=clock,
        randomness=random.Random(1),
    )
    await registry.start()
    try:
        yield Running(registry, clock)
    finally:
        await registry.close()


def record_of(identity: Identity, seq: int = 1, **info: Any) -> SignedItem:
    """Sign a NodeRecord that is fresh for a Clock that has not moved."""
    record = NodeRecord(topic="a topic", network_info=NetworkInfo(**info))
    value = record.completed(identity.public_key, int(Clock().now)).to_value()
    return SignedItem.sign(identity, encode_value(value), seq)


async def test_who_registers_is_told_to_others_with_his_address_and_record() -> None:
    alice = Identity.generate()
    item = record_of(alice, node_type="public", public_ip="127.0.0.5", public_port=9)
    async with running() as here:
        reply = await here.register(alice, "127.0.0.5", port=30906, topic=TOPIC, item=item)
        peers = (await here.get("/peers"))["peers"]
    assert reply.status == 201
    assert peers == [
        {
            "public_key": alice.public_key.hex(),
            "peer_id": alice.peer_id.hex(),
            "endpoint": "127.0.0.5:30906",
            "topic": TOPIC.hex(),
            "is_relay": False,
            "expires_in": 600.0,
            "item": {
                "public_key": alice.public_key.hex(),
                "salt": "",
                "seq": 1,
                "v": item.v.hex(),
                "sig": item.sig.hex(),
                "target": item.target.hex(),
            },
        }
    ]
    assert reply.json == peers[0]


async def test_who_names_no_port_is_told_of_without_an_address() -> None:
    async with running() as here:
        await here.register(Identity.generate())
        (peer,) = (await here.get("/peers"))["peers"]
    assert (peer["endpoint"], peer["item"], peer["topic"]) == (None, None, None)


async def test_a_key_renews_its_entry_from_any_address() -> None:
    alice = Identity.generate()
    async with running() as here:
        first = await here.register(alice, port=1)
        here.clock.now += 500
        second = await here.register(alice, "127.0.0.6", port=2)
        here.clock.now += 500
        (peer,) = (await here.get("/peers"))["peers"]
    assert (first.status, second.status) == (201, 200)
    assert (peer["endpoint"], peer["expires_in"]) == ("127.0.0.6:2", 100.0)


async def test_who_is_over_is_told_of_no_more() -> None:
    async with running() as here:
        await here.register(Identity.generate(), lifetime=60)
        here.clock.now += 60
        assert (await here.get("/peers"))["peers"] == []
        stats = await here.get("/stats")
    assert (stats["entries"], stats["registered"]) == (0, 1)


# who is refused


async def test_an_address_that_is_not_the_senders_is_refused() -> None:
    async with running() as here:
        reply = await here.register(Identity.generate(), port=1, ip="192.0.2.1")
        assert (reply.status, (await here.get("/stats"))["entries"]) == (403, 0)
        assert "it says 192.0.2.1, and comes from 127.0.0.1" in reply.json["detail"]
        assert (await here.register(Identity.generate(), port=1, ip="127.0.0.1")).status == 201


async def test_a_replay_is_refused_from_wherever_it_comes() -> None:
    async with running() as here:
        body = await here.signed(Identity.generate(), port=1)
        assert (await here.post(body)).status == 201
        again, elsewhere = await here.post(body), await here.post(body, "127.0.0.2")
        assert (again.status, elsewhere.status) == (409, 403)
        assert "GET /nonce" in again.json["detail"]
        assert "not made for 127.0.0.2" in elsewhere.json["detail"]
        (peer,) = (await here.get("/peers"))["peers"]
        assert peer["endpoint"] == "127.0.0.1:1"


async def test_an_old_registration_does_not_undo_a_newer_one() -> None:
    alice = Identity.generate()
    async with running() as here:
        old = await here.signed(alice, port=1)
        assert (await here.register(alice, port=2)).status == 201
        assert (await here.post(old)).status == 409
        assert (await here.get("/peers"))["peers"][0]["endpoint"] == "127.0.0.1:2"


async def test_a_nonce_that_is_too_old_is_refused() -> None:
    async with running() as here:
        body = await here.signed(Identity.generate())
        here.clock.now += NONCE_LIFETIME + 0.1
        reply = await here.post(body)
    assert reply.status == 403
    assert "good for 60 s" in reply.json["detail"]


async def test_what_was_signed_for_another_registry_is_refused() -> None:
    """A registry cannot take another's nonce, have it signed, and register its guests there."""
    async with running() as here:
        reply = await here.register(Identity.generate(), registry="evil.example")
        assert (reply.status, (await here.get("/stats"))["entries"]) == (403, 0)
        assert f"signed for evil.example, this is {here.name}" in reply.json["detail"]


async def test_what_came_by_a_proxy_registers_no_address() -> None:
    async with running() as here:
        for name in ("X-Forwarded-For", "Forwarded", "Via"):
            body = await here.signed(Identity.generate(), port=1)
            reply = await here.post(body, **{name: "1.2.3.4"})
            assert (reply.status, reply.json["detail"].partition(":")[0]) == (403, name)
        key_only = await here.signed(Identity.generate())
        assert (await here.post(key_only, Via="1.1 proxy")).status == 201


async def test_a_forged_signature_is_refused() -> None:
    async with running() as here:
        said = json.loads(await here.signed(Identity.generate(), port=1))
        for change in (
            {"port": 2},
            {"public_key": Identity.generate().public_key.hex()},
            {"sig": "00" * 64},
        ):
            reply = await here.post(json.dumps(said | change))
            assert reply.status == 422
            assert reply.json["detail"].startswith("sig: ")
        assert (await here.get("/stats"))["entries"] == 0
        assert (await here.post(json.dumps(said))).status == 201  # which used up nothing


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("", 422, "not JSON"),
        ("[]", 422, "Expected `object`"),
        ("{}", 422, "missing required field `public_key`"),
        ('{"lifetime": 1e999}', 422, ""),
        ("{" * 8000, 422, "not JSON"),
        ('{"a": ' * 1300, 422, "not JSON"),
        ("x" * (MAX_SIGNED_FILE_BYTES + 1), 413, "at most 8,192 bytes"),
    ],
    ids=lambda one: repr(one)[:20],
)
async def test_what_is_no_registration_is_refused(body: str, status: int, said: str) -> None:
    async with running() as here:
        reply = await here.post(body)
    assert reply.status == status
    assert said in reply.json["detail"]


async def test_another_type_than_json_is_refused() -> None:
    async with running() as here:
        reply = await here.ask("POST", "/register", data={"a": "b"})
    assert reply.status == 415


async def test_when_it_is_full_it_says_when_to_come_again() -> None:
    alice, bob = Identity.generate(), Identity.generate()
    async with running(Entries(most=1)) as here:
        assert not (await here.get("/health"))["full"]
        assert (await here.register(alice)).status == 201
        assert (await here.get("/health"))["full"]
        reply = await here.register(bob)
        assert (reply.status, reply.headers["Retry-After"]) == (503, "60")
        assert (await here.register(alice)).status == 200
        here.clock.now += 600
        assert (await here.register(bob)).status == 201
        assert (await here.get("/stats"))["refused"] == {"full": 1}


async def test_a_swarm_on_this_machine_can_register_as_a_whole() -> None:
    async with running() as here:
        for i in range(1, 101):
            source = f"127.0.0.{i}"
            assert (await here.register(Identity.generate(), source, port=i)).status == 201
        assert (await here.get("/stats"))["entries"] == 100


# what it tells


async def test_peers_are_those_of_a_topic_or_relays() -> None:
    async with running() as here:
        for topic, relay in (
            (TOPIC, True),
            (TOPIC, False),
            (topic_hash("other"), True),
            (b"", True),
        ):
            await here.register(Identity.generate(), port=1, topic=topic, is_relay=relay)
        for query, found in {
            "": 4,
            f"?topic={TOPIC.hex()}": 2,
            f"?topic={TOPIC.hex()}&relay=true": 1,
            "?relay=true": 3,
            "?relay=false": 1,
            f"?topic={'00' * 20}": 0,
            "?limit=3": 3,
        }.items():
            assert len((await here.get(f"/peers{query}"))["peers"]) == found, query


@pytest.mark.parametrize(
    "query", ["topic=x", "topic=", "relay=1", "limit=0", "limit=201", "x=1", "limit=1&limit=2"]
)
async def test_a_wrong_parameter_is_a_400_that_names_it(query: str) -> None:
    async with running() as here:
        reply = await here.ask("GET", f"/peers?{query}")
    assert reply.status == 400
    assert query.partition("=")[0] in reply.json["detail"] or "an id" in reply.json["detail"]


async def test_the_topology_says_the_verdicts_on_records() -> None:
    relay, by_relay = Identity.generate(), Identity.generate()
    public = {"node_type": "public", "public_ip": "127.0.0.5", "public_port": 9}
    attached = {
        "node_type": "private",
        "using_relay": True,
        "connected_relay": relay.peer_id.hex(),
        "relay_session_id": "1",
        "relay_address": "127.0.0.5:9",
    }
    async with running() as here:
        for who, info in (
            (relay, public | {"is_relay": True}),
            (by_relay, attached),
            (Identity.generate(), {"node_type": "private"}),
            (Identity.generate(), attached | {"connected_relay": "00" * 20}),
        ):
            item = record_of(who, **info)
            await here.register(who, topic=TOPIC, item=item, lifetime=3600)
        await here.register(Identity.generate(), lifetime=3600)
        assert await here.get("/topology") == {
            "known": 5,
            "peers": {"direct": 1, "via-relay": 1, "unreachable": 2, "stale": 0, "unknown": 1},
            "relays": [
                {"peer_id": relay.peer_id.hex(), "peers": 1},
                {"peer_id": "00" * 20, "peers": 1},
            ],
            "topics": [{"topic": TOPIC.hex(), "peers": 4}],
        }


async def test_a_topology_of_many_is_not_counted_for_everybody() -> None:
    entries = Entries()
    async with running(entries) as here:
        for i in range(CENSUS_AT_ONCE + 1):
            said = Registration(
                public_key=i.to_bytes(32, "big"), registry="r", nonce=b"n", lifetime=3600
            )
            entries.register(said, "127.0.0.1", 1, here.clock.now)
        assert (await here.get("/topology"))["known"] == CENSUS_AT_ONCE + 1
        await here.register(Identity.generate(), lifetime=3600)
        assert (await here.get("/topology"))["known"] == CENSUS_AT_ONCE + 1
        here.clock.now += 10
        assert (await here.get("/topology"))["known"] == CENSUS_AT_ONCE + 2


async def test_stats_count_what_was_answered() -> None:
    async with running() as here:
        await here.register(Identity.generate(), port=1, is_relay=True)
        await here.ask("GET", "/nope")
        stats = await here.get("/stats")
    assert stats["answers"] == {"GET /nonce 200": 1, "POST /register 201": 1, "404": 1}
    assert (stats["with_endpoint"], stats["relays"], stats["with_record"]) == (1, 1, 0)


async def test_health_says_how_long_it_runs() -> None:
    async with running() as here:
        here.clock.now += 5
        shown = await here.get("/health")
    assert shown == {"state": "ready", "full": False, "uptime": 5.0, "version": "0.1.0"}


# the door is that of the daemon


async def test_a_host_that_is_not_ours_and_a_page_of_another_site_are_refused() -> None:
    async with running(hosts=["registry.example"]) as here:
        reply = await here.ask("GET", "/peers", headers={"Host": "evil.example"})
        assert (reply.status, "[registry] hosts" in reply.json["detail"]) == (421, True)
        page = await here.ask("GET", "/peers", headers={"Sec-Fetch-Site": "cross-site"})
        assert page.status == 403
        named = await here.ask("GET", "/peers", headers={"Host": "registry.example"})
        assert named.status == 200


async def test_a_name_of_ours_is_one_to_register_with() -> None:
    async with running(hosts=["registry.example"]) as here:
        body = await here.signed(Identity.generate(), registry="registry.example")
        assert (await here.post(body)).status == 403
        assert (await here.post(body, Host="Registry.Example")).status == 201


async def test_unknown_paths_and_methods_are_named() -> None:
    async with running() as here:
        lost, wrong = await here.ask("GET", "/"), await here.ask("PUT", "/register")
    assert (lost.status, "/register" in lost.json["detail"]) == (404, True)
    assert (wrong.status, wrong.headers["Allow"]) == (405, "POST")


async def test_an_address_has_its_quota_and_its_health_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry_server, "REGISTRY_REQUESTS", 2)
    async with running() as here:
        replies = [await here.ask("GET", "/nonce") for _ in range(3)]
        assert [one.status for one in replies] == [200, 200, 429]
        assert int(replies[2].headers["Retry-After"]) > 0
        assert (await here.ask("GET", "/nonce", "127.0.0.2")).status == 200
        assert (await here.ask("GET", "/health")).status == 200


async def test_an_address_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(PortError, match=rf"{listen}: Address already in use; .*\[registry\]"):
            async with running(listen=listen):
                pass
    with pytest.raises(CallerError, match="not a name"):
        async with running(listen="example.org:80"):
            pass


async def test_it_closes_whatever_is_under_way() -> None:
    async with running() as here:
        connections = [await asyncio.open_connection(*here.registry.endpoint) for _ in range(4)]
        head = f"POST /register HTTP/1.1\r\nHost: {here.name}\r\nContent-Length: 9\r\n\r\n"
        for i, (_, out) in enumerate(connections):
            out.write(head.encode()[: -9 * i or None])
        async with asyncio.timeout(8):  # a slow client has 10 s
            await here.registry.close()
        for _, out in connections:
            await hung_up(out)
