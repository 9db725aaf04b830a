"""Registries as a node asks them: real ones, broken ones, and ones that lie."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from dhtmeta.const import MAX_REGISTRIES, MAX_REGISTRY_ANSWER, MAX_REGISTRY_PAGE
from dhtmeta.daemon.registry_entries import Entries
from dhtmeta.discovery import registry
from dhtmeta.discovery.candidate import Candidate, Source
from dhtmeta.discovery.registry import Presence, RegistrySource, parse_registry_url
from dhtmeta.discovery.topic import topic_hash
from dhtmeta.errors import CallerError, ConfigError, RemoteError
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity
from dhtmeta.values.signed_file import to_signed_file
from tests.conftest import Clock
from tests.daemon.test_registry_server import record_of, running

ALICE, BOB, CAROL = (Identity(bytes(31) + bytes([i])) for i in range(3))
NOWHERE = "http://127.0.0.1:1"  # nothing answers there


async def found(source: Source) -> list[Candidate]:
    return [one async for one in source.candidates()]


def presence(identity: Identity, **said: Any) -> Callable[[], Presence]:
    said = {"port": 30906, **said}
    one = Presence(identity=identity, **said)
    return lambda: one


# real registries


async def test_nodes_that_know_nobody_find_each_other() -> None:
    heard: list[SignedItem] = []
    item = record_of(ALICE, seq=7)
    async with running() as here:
        urls = [here.registry.url]
        alice = RegistrySource(urls, "t", presence(ALICE, item=item), local_ip="127.0.0.5")
        assert await found(alice) == []
        bob = RegistrySource(urls, "t", presence(BOB, port=None), heard=heard.append)
        assert await found(bob) == [
            Candidate("registry", ALICE.public_key, ("127.0.0.5", 30906), seq=7)
        ]
        assert await found(alice) == [Candidate("registry", BOB.public_key, None)]
    assert heard == [item]
    assert (alice.skipped, alice.problems, bob.problems) == (0, {}, {})


async def test_only_peers_of_the_topic_are_found_or_only_relays() -> None:
    async with running() as here:
        urls = [here.registry.url]
        await found(RegistrySource(urls, "t", presence(ALICE)))
        await found(RegistrySource(urls, "u", presence(BOB, is_relay=True)))
        keys = []
        for topic, relays in (("t", False), ("u", False), ("", False), ("", True), ("t", True)):
            source = RegistrySource(urls, topic, relays=relays)
            keys.append({one.public_key for one in await found(source)})
    alice, bob = ALICE.public_key, BOB.public_key
    assert keys == [{alice}, {bob}, {alice, bob}, {bob}, set()]


async def test_who_has_nothing_to_say_only_asks() -> None:
    async with running() as here:
        source = RegistrySource([here.registry.url])
        assert await found(source) == []
        assert (await here.get("/stats"))["entries"] == 0
    assert source.requests == 1


async def test_a_registration_is_renewed_at_half_its_lifetime_or_when_it_changed() -> None:
    clock, said = Clock(), [Presence(identity=ALICE, lifetime=600)]
    async with running() as here:
        source = RegistrySource([here.registry.url], "t", lambda: said[0], clock=clock)
        asked = []
        for seconds, now in ((0, said[0]), (299, said[0]), (2, said[0])):
            clock.now += seconds
            said[0] = now
            await found(source)
            asked.append(source.requests)
        said[0] = Presence(identity=ALICE, lifetime=600, port=4)
        await found(source)
        stats = await here.get("/stats")
    assert [*asked, source.requests] == [3, 4, 7, 10]  # nonce, register, peers; or peers alone
    assert (stats["registered"], stats["renewed"], stats["with_endpoint"]) == (1, 2, 1)


async def test_a_new_topic_is_registered_at_once_and_asked_for() -> None:
    async with running() as here:
        urls = [here.registry.url]
        await found(RegistrySource(urls, "u", presence(BOB)))
        alice = RegistrySource(urls, "t", presence(ALICE))
        assert await found(alice) == []
        alice.retopic("u")
        assert [one.public_key for one in await found(alice)] == [BOB.public_key]
        topics = {one["topic"] for one in (await here.get("/peers"))["peers"]}
    assert topics == {topic_hash("u").hex()}


async def test_a_registry_that_is_full_tells_of_others_all_the_same() -> None:
    async with running(Entries(most=1)) as here:
        await found(RegistrySource([here.registry.url], "t", presence(ALICE)))
        source = RegistrySource([here.registry.url], "t", presence(BOB))
        assert [one.public_key for one in await found(source)] == [ALICE.public_key]
    assert source.problems == {here.registry.url: "status 503: this registry is full; try another"}


async def test_an_address_that_is_not_ours_is_not_registered() -> None:
    async with running() as here:
        source = RegistrySource([here.registry.url], "t", presence(ALICE, ip="192.0.2.1"))
        assert await found(source) == []
        assert (await here.get("/stats"))["entries"] == 0
    assert "comes from 127.0.0.1" in source.problems[here.registry.url]


@pytest.mark.parametrize(
    ("listen", "ip"), [("127.0.0.1:0", "2001:db8::1"), ("[::1]:0", "127.0.0.1")]
)
async def test_who_is_seen_in_one_family_registers_over_that_one_and_asks_over_any(
    listen: str, ip: str
) -> None:
    async with running(listen=listen) as here:
        await found(RegistrySource([here.registry.url], "t", presence(ALICE, port=None)))
        source = RegistrySource([here.registry.url], "t", presence(BOB, ip=ip))
        assert [one.public_key for one in await found(source)] == [ALICE.public_key]
        assert source.problems == {here.registry.url: "its address is of another family than ours"}


async def test_several_registries_are_asked_and_a_broken_one_stops_none() -> None:
    async with running() as one, running() as other:
        await found(RegistrySource([one.registry.url], "t", presence(ALICE)))
        await found(RegistrySource([other.registry.url], "t", presence(BOB)))
        urls = [NOWHERE, one.registry.url, f"{other.registry.url}/", one.registry.url]
        source = RegistrySource(urls, "t", presence(CAROL))
        keys = sorted(candidate.public_key or b"" for candidate in await found(source))
        entries = [(await here.get("/stats"))["entries"] for here in (one, other)]
    assert keys == sorted([ALICE.public_key, BOB.public_key])
    assert entries == [2, 2]
    assert list(source.problems) == [NOWHERE]


async def test_if_none_answers_each_is_named_with_the_reason() -> None:
    source = RegistrySource([NOWHERE, "http://127.0.0.1:2/path"], "t", presence(ALICE))
    with pytest.raises(RemoteError, match="no registry could be asked: ") as refused:
        await found(source)
    assert f"{NOWHERE}: Cannot connect" in str(refused.value)
    assert "http://127.0.0.1:2/path: Cannot connect" in str(refused.value)


async def test_without_registries_nothing_is_asked() -> None:
    source = RegistrySource([], "t", presence(ALICE))
    assert await found(source) == []
    assert source.requests == 0


async def test_who_has_seen_enough_leaves_nothing_behind() -> None:
    async with running() as here, lying({}) as liar:
        await found(RegistrySource([here.registry.url], "t", presence(ALICE)))
        source = RegistrySource([here.registry.url, f"{liar}/never"], "t")
        asked = source.candidates()
        assert (await anext(asked)).public_key == ALICE.public_key
        before = asyncio.all_tasks()
        async with asyncio.timeout(5):  # who never answers has 10 s
            await asked.aclose()  # type: ignore[attr-defined]
        assert len(asyncio.all_tasks()) < len(before)


# registries that lie


@contextlib.asynccontextmanager
async def lying(answer: Any, **more: Any) -> AsyncIterator[str]:
    """Run a registry that answers every GET with this, and anybody who asks /never not at all."""
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    given = {"body": body, "content_type": "application/json", **more}

    async def answered(request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/never"):
            await asyncio.Event().wait()
        return web.Response(**given)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answered)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def peer(identity: Identity = ALICE, **more: Any) -> dict[str, Any]:
    return {
        "public_key": identity.public_key.hex(),
        "endpoint": "192.0.2.1:5",
        "topic": topic_hash("t").hex(),
        "is_relay": True,
        **more,
    }


def file_of(item: SignedItem, **more: Any) -> dict[str, Any]:
    return {**json.loads(to_signed_file(item)), **more}


BAD: tuple[Any, ...] = (
    None,
    5,
    "x",
    [],
    {},
    peer(public_key="ab" * 31),
    peer(public_key="zz" * 32),
    peer(public_key=None),
    peer(public_key=["ab" * 32]),
    peer(endpoint=""),
    peer(endpoint="192.0.2.1"),
    peer(endpoint="192.0.2.1:0"),
    peer(endpoint="192.0.2.1:65536"),
    peer(endpoint="192.0.2.1:" + "9" * 40),
    peer(endpoint="192.0.2.1:" + "9" * 5000),
    peer(endpoint="example.org:5"),
    peer(endpoint="0.0.0.0:5"),
    peer(endpoint="224.0.0.1:5"),
    peer(endpoint="255.255.255.255:5"),
    peer(endpoint="[::]:5"),
    peer(endpoint="[ff02::1]:5"),
    peer(endpoint="[::ffff:192.0.2.1]:5"),
    peer(endpoint="[fe80::1%eth0]:5"),
    peer(endpoint=["192.0.2.1", 5]),
    peer(topic=None),
    peer(topic=topic_hash("u").hex()),
    peer(is_relay=False),
    peer(is_relay="true"),
    peer(item=[]),
    peer(item={}),
    peer(item=file_of(record_of(BOB))),
    peer(item=file_of(record_of(ALICE), seq=2)),
    peer(item=file_of(SignedItem.sign(ALICE, encode_value(1), 1, b"salt"))),
)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: repr(bad)[-60:])
async def test_an_entry_that_is_wrong_is_left_out_and_counted(bad: Any) -> None:
    heard: list[SignedItem] = []
    async with lying({"peers": [peer(BOB), bad, peer(CAROL)]}) as url:
        source = RegistrySource([url], "t", relays=True, heard=heard.append)
        keys = [one.public_key for one in await found(source)]
    assert keys == [BOB.public_key, CAROL.public_key]
    assert (source.skipped, heard) == (1, [])


async def test_an_entry_without_anything_but_a_key_is_one() -> None:
    key = ALICE.public_key
    async with lying({"peers": [{"public_key": key.hex(), "new": 1}], "new": 1}) as url:
        assert await found(RegistrySource([url])) == [Candidate("registry", key)]


async def test_we_are_no_candidate_of_ours() -> None:
    async with lying({"peers": [peer(ALICE), peer(BOB)], "nonce": "00"}) as url:
        source = RegistrySource([url], "t", presence(ALICE))
        assert [one.public_key for one in await found(source)] == [BOB.public_key]


async def test_of_ten_thousand_entries_as_many_are_read_as_are_in_a_page() -> None:
    entries = [{"public_key": f"{i:064x}"} for i in range(10_000)]
    async with lying({"peers": entries}) as url:
        source = RegistrySource([url])
        assert len(await found(source)) == MAX_REGISTRY_PAGE
    assert source.skipped == 10_000 - MAX_REGISTRY_PAGE


NESTED = "[" * 50_000 + "]" * 50_000


@pytest.mark.parametrize(
    ("answer", "more", "said"),
    [
        (b"", {}, "not JSON"),
        (b"\xff", {}, "codec can't decode"),
        ([], {}, "no object"),
        ({}, {}, "no list of peers"),
        ({"peers": {}}, {}, "no list of peers"),
        (NESTED.encode(), {}, "not JSON"),
        (b'{"peers": ' + b"9" * 5000 + b"}", {}, "digits"),
        (b" " * (MAX_REGISTRY_ANSWER + 1), {}, "more than 1,048,576 bytes"),
        (b"x" * (MAX_REGISTRY_ANSWER + 1), {"status": 500}, "more than 1,048,576 bytes"),
        ({"peers": []}, {"headers": {"Content-Encoding": "gzip"}}, "compresses"),
        ({"peers": []}, {"status": 302, "headers": {"Location": "/x"}}, "leads elsewhere"),
        ({"peers": []}, {"status": 307, "headers": {"Location": "http://x"}}, "leads elsewhere"),
        (b"oops", {"status": 404}, "status 404: Not Found"),
        ({"detail": "a\x1b[31m\u202e\nb" + "x" * 9999}, {"status": 403}, "403: a?[31m??bxx"),
        ({"detail": {"a": 1}}, {"status": 403}, "403: {'a': 1}"),
        ([1], {"status": 403}, "403: Forbidden"),
    ],
    ids=lambda one: repr(one)[:40],
)
async def test_an_answer_that_is_none_is_named(answer: Any, more: Any, said: str) -> None:
    async with lying(answer, **more) as url:
        source = RegistrySource([url])
        with pytest.raises(RemoteError) as refused:
            await found(source)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 300
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("nonce", [None, 5, "", "x", "abc", "AB", "ab" * 65, ["ab"], "ab\n"])
async def test_a_nonce_that_is_none_is_not_signed(nonce: Any) -> None:
    async with lying({"peers": [peer()], "nonce": nonce}) as url:
        source = RegistrySource([url], "t", presence(BOB))
        assert len(await found(source)) == 1
    assert source.problems == {url: "it gave no nonce"}
    assert source.requests == 2


async def test_what_another_registry_got_signed_is_of_no_use_here() -> None:
    """A registry hands on the nonce of another, and what is signed with it: to no avail."""
    async with running() as here:
        nonce = (await here.get("/nonce"))["nonce"]
        kept: list[str] = []

        async def answered(request: web.Request) -> web.Response:
            if request.method == "POST":
                kept.append(await request.text())
            return web.json_response({"peers": [], "nonce": nonce})

        application = web.Application()
        application.router.add_route("*", "/{path:.*}", answered)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            evil = "http://{}:{}".format(*runner.addresses[0][:2])
            await found(RegistrySource([evil], "t", presence(ALICE)))
        finally:
            await runner.cleanup()
        (body,) = kept
        for headers in ({}, {"Host": evil.partition("//")[2]}):
            assert (await here.post(body, **headers)).status in (403, 421)
        assert (await here.get("/stats"))["entries"] == 0


async def test_who_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "REGISTRY_TIMEOUT", 0.05)
    async with lying({}) as url:
        async with asyncio.timeout(5):  # REGISTRY_TIMEOUT is 10 s
            with pytest.raises(RemoteError, match="no answer within"):
                await found(RegistrySource([f"{url}/never"]))


async def test_who_speaks_no_http_is_named() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"SSH-2.0-x\x1b[31m\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(RemoteError) as refused:
            await found(RegistrySource([url]))
    assert url in str(refused.value)
    assert str(refused.value).isprintable()


# URLs


@pytest.mark.parametrize(
    ("url", "base", "name"),
    [
        ("http://a", "http://a", "a"),
        ("HTTP://A.Example:80/", "http://a.example:80", "a.example"),
        ("https://a.example:443/Path/", "https://a.example:443/Path", "a.example"),
        ("https://a.example:80", "https://a.example:80", "a.example:80"),
        ("http://127.0.0.1:30681", "http://127.0.0.1:30681", "127.0.0.1:30681"),
        ("http://[2001:DB8::1]:5", "http://[2001:db8::1]:5", "[2001:db8::1]:5"),
    ],
)
def test_a_url_has_a_base_and_a_name(url: str, base: str, name: str) -> None:
    parsed = parse_registry_url(url)
    assert (parsed.base, parsed.name) == (base, name)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "ASCII"),
        ("a.example", "has to begin with http"),
        ("a.example:30681", "has to begin with http"),
        ("ftp://a", "has to begin with http"),
        ("file:///etc/passwd", "has to begin with http"),
        ("http://", "its host"),
        ("http://:5", "its host"),
        ("http:///x", "its host"),
        ("http://a b", "ASCII"),
        ("http://ä.example", "xn--"),
        ("http://a\n", "ASCII"),
        ("http://a\\b", "ASCII"),
        ("http://[::1", "no URL of a registry"),
        ("http://[a]", "no URL of a registry"),
        ("http://[127.0.0.1]", "no URL of a registry"),
        ("http://a:0", "a port is 1"),
        ("http://a:65536", "a port is 1"),
        ("http://a:999999", "its host"),
        ("http://a:x", "its host"),
        ("http://a..b", "its host"),
        ("http://a?x=1", "without ? and #"),
        ("http://a/?", "without ? and #"),
        ("http://a/#x", "without ? and #"),
        ("http://" + "a" * 300, "its host"),
    ],
)
def test_a_url_that_is_none_is_named(url: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        RegistrySource(["http://a", url])
    assert said in str(refused.value)
    assert f"[registry] urls: {url[:200]!r}" in str(refused.value)


def test_a_password_in_a_url_is_refused_and_not_shown() -> None:
    for url in ("http://user:secret@a", "https://secret@a/b", "http://x:secret@a:5"):
        with pytest.raises(CallerError, match="needs no user or password") as refused:
            RegistrySource([url])
        assert "secret" not in str(refused.value)
        assert "@a" in str(refused.value)


def test_too_many_registries_are_too_many() -> None:
    urls = [f"http://a{i}" for i in range(MAX_REGISTRIES + 1)]
    RegistrySource(urls[:-1])
    with pytest.raises(ConfigError, match="17 are too many, 16 at most"):
        RegistrySource(urls)
