"""The daemon over HTTP: what it says of itself, and whom it answers, however odd they are."""

import asyncio
import logging
import socket
from pathlib import Path
from typing import Any

import pytest

from dhtmeta.config import Http, Settings
from dhtmeta.daemon import finding, http, parameters
from dhtmeta.daemon.http import start_http
from dhtmeta.daemon.status import State, Status
from dhtmeta.engine.counts import Counts
from dhtmeta.errors import CallerError, PortError
from dhtmeta.node import Node
from dhtmeta.values.keys import Identity
from dhtmeta.values.record import NetworkInfo, NodeRecord
from tests.daemon.http_server import JSON, STARTED, hung_up, path_of, serving, signed

KEY = "ab" * 32
PATHS = (
    "/health",
    "/ready",
    "/metrics",
    "/peers",
    "/peers/connectable",
    "/connections",
    "/stats",
    "/topology",
    "/openapi.json",
)


async def test_health_says_what_the_status_says(writer: Node) -> None:
    async with serving(writer) as served:
        served.status = Status(
            State.READY, ("a disk",), STARTED, kept=4, due=3, late=2, damaged=1, unfinished=6
        )
        reply = await served.get("/health")
    assert reply.status == 200
    assert reply.json == {
        "state": "ready",
        "problems": ["a disk"],
        "started_at": STARTED,
        "uptime": 5.0,
        "version": "0.1.0",
        "kept": 4,
        "due": 3,
        "late": 2,
        "damaged": 1,
        "unfinished": 6,
    }


@pytest.mark.parametrize(
    ("state", "health", "ready"),
    [
        (State.STARTING, 200, 503),
        (State.READY, 200, 200),
        (State.OFFLINE, 200, 503),
        (State.DEGRADED, 503, 503),
        (State.STOPPING, 503, 503),
    ],
)
async def test_a_state_has_its_statuses(
    writer: Node, state: State, health: int, ready: int
) -> None:
    async with serving(writer) as served:
        served.status = Status(state, (), STARTED)
        replies = [await served.get("/health"), await served.get("/ready")]
    assert [reply.status for reply in replies] == [health, ready]
    assert {reply.json["state"] for reply in replies} == {state}


async def test_what_the_node_knows_is_shown(writer: Node) -> None:
    own = NodeRecord(
        network_info=NetworkInfo(node_type="public", public_ip="127.0.0.1", public_port=4)
    )
    async with serving(writer) as served:
        other = Identity.generate()
        for identity in (writer.identity, other):
            await writer.publish(own, identity=identity)
            await writer.query(identity.public_key)
        stats = (await served.get("/stats")).json
        topology = (await served.get("/topology")).json
        connections = (await served.get("/connections")).json
    assert stats["carrier"] == "direct"
    assert stats["endpoint"] == f"127.0.0.1:{writer.endpoint[1]}"
    assert stats["counters"] == writer.counters
    assert topology["node"]["public_key"] == writer.identity.public_key.hex()
    assert topology["peers"]["direct"] >= 1
    assert topology["node"]["exchange"] is None  # nobody opened it
    assert connections["connections"] == []
    assert connections["dht_nodes"] >= 1


async def test_an_offline_node_is_shown_and_says_that_it_is(tmp_path: Path) -> None:
    options: Any = {"store": str(tmp_path / "s.db"), "keys": tmp_path, "settings": Settings()}
    async with Node(offline=True, **options) as node, serving(node) as served:
        for path in PATHS:
            assert (await served.get(path)).status == 200, path
        looked_up = await served.get(f"/v1/records/{KEY}")
        put = await served.put(signed())
        assert (await served.get("/stats")).json["endpoint"] is None
    assert looked_up.status == put.status == 503
    assert int(looked_up.headers["Retry-After"]) > 0
    assert "offline" in looked_up.json["detail"]


@pytest.mark.parametrize("path", ["/nope", "/v1/records", "/v1/records/", "/peers/", "//health"])
async def test_an_unknown_path_is_a_404(writer: Node, path: str) -> None:
    async with serving(writer) as served:
        reply = await served.get(path)
    assert reply.status == 404
    assert reply.json["title"] == "Not Found"


async def test_a_method_that_a_path_has_not_is_a_405(writer: Node) -> None:
    async with serving(writer) as served:
        posted = await served.ask("POST", "/health")
        deleted = await served.ask("DELETE", f"/v1/records/{KEY}")
        put = await served.ask("PUT", "/nope/health")
    assert [posted.status, deleted.status, put.status] == [405, 405, 404]
    assert posted.headers["Allow"] == "GET, HEAD"
    assert deleted.headers["Allow"] == "GET, HEAD, PUT"


async def test_head_says_what_get_would(writer: Node) -> None:
    async with serving(writer) as served:
        for path in PATHS:
            reply = await served.ask("HEAD", path)
            assert (reply.status, reply.body) == (200, b""), path


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=501", "limit=x", "limit=", "limit=²", "after=zz", "x=1", "limit=1&limit=1"],
)
async def test_a_wrong_parameter_is_a_400_that_names_it(writer: Node, query: str) -> None:
    async with serving(writer) as served:
        reply = await served.get(f"/peers?{query}")
    assert reply.status == 400
    assert query.partition("=")[0] in reply.json["detail"] or "an id" in reply.json["detail"]


def with_host(*hosts: str) -> bytes:
    lines = "".join(f"Host: {host}\r\n" for host in hosts)
    return f"GET /ready HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode()


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:{port}", 200),
        ("127.0.0.1", 200),
        ("localhost:{port}", 200),
        ("LOCALHOST.", 200),
        ("[::1]:{port}", 200),
        ("dht.example.org", 200),
        ("DHT.example.org:8443", 200),
        ("other.example.org:1234", 200),
        ("other.example.org", 421),
        ("evil.example:{port}", 421),
        ("127.0.0.1:1", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example:{port}", 421),
        ("10.1.2.3:{port}", 421),
        ("", 400),
        ("a b", 400),
        ("x@127.0.0.1", 400),
        ("127.0.0.1:{port}:{port}", 400),
    ],
)
async def test_only_hosts_that_are_ours_are_answered(writer: Node, host: str, status: int) -> None:
    hosts = ["dht.Example.org", "other.example.org:1234"]
    async with serving(writer, hosts=hosts) as served:
        given = host.format(port=served.server.endpoint[1])
        assert status_of(await served.raw(with_host(given))) == status


async def test_a_request_without_a_host_or_with_two_is_refused(writer: Node) -> None:
    async with serving(writer) as served:
        assert status_of(await served.raw(with_host())) == 400
        assert status_of(await served.raw(with_host("localhost", "localhost"))) == 400
        absolute = with_host("evil.example").replace(b"/ready", b"http://127.0.0.1/ready")
        assert status_of(await served.raw(absolute)) == 421


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("Sec-Fetch-Site", "same-origin", 200),
        ("Sec-Fetch-Site", "none", 200),
        ("Sec-Fetch-Site", "cross-site", 403),
        ("Sec-Fetch-Site", "same-site", 403),
        ("Sec-Fetch-Site", "none\r\nSec-Fetch-Site: cross-site", 403),
        ("Sec-Fetch-Site", "", 403),
        ("Origin", "http://127.0.0.1:{port}", 200),
        ("Origin", "http://LOCALHOST:{port}", 200),
        ("Origin", "https://[::1]:{port}", 200),
        ("Origin", "https://dht.example.org", 200),
        ("Origin", "https://other.example.org:1234", 200),
        ("Origin", "https://other.example.org", 403),
        ("Origin", "https://tls.example.org", 200),
        ("Origin", "http://tls.example.org", 403),
        ("Origin", "http://127.0.0.1", 403),
        ("Origin", "http://127.0.0.1:1", 403),
        ("Origin", "https://evil.example", 403),
        ("Origin", "https://evil.example:{port}", 403),
        ("Origin", "https://localhost.evil.example:{port}", 403),
        ("Origin", "https://evil.example@localhost:{port}", 403),
        ("Origin", "ftp://localhost:{port}", 403),
        ("Origin", "localhost:{port}", 403),
        ("Origin", "null", 403),
        ("Origin", "", 403),
        ("Origin", "http://localhost:{port}\r\nOrigin: https://evil.example", 403),
    ],
)
async def test_pages_of_other_sites_are_not_answered(
    writer: Node, name: str, value: str, status: int
) -> None:
    hosts = ["dht.example.org", "other.example.org:1234", "tls.example.org:443"]
    async with serving(writer, hosts=hosts) as served:
        header = f"localhost\r\n{name}: {value}".format(port=served.server.endpoint[1])
        answer = await served.raw(with_host(header))
    assert status_of(answer) == status
    if status == 403:
        assert b"problem+json" in answer
        assert name.encode() in answer.partition(b"\r\n\r\n")[2]


async def test_a_page_of_another_site_uses_up_nothing(writer: Node) -> None:
    page = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    async with serving(writer, gets_per_minute=1, puts_per_minute=1) as served:
        lookups = writer.counters["lookups"]
        for path in ("/health", "/health", path_of(signed()), path_of(signed())):
            assert (await served.get(path, headers=page)).status == 403
        assert (await served.put(signed(), headers=JSON | page)).status == 403
        assert writer.counters["lookups"] == lookups
        assert (await served.get("/health")).status == 200
        assert (await served.get("/stats")).status == 200
        assert (await served.put(signed())).status == 201


async def test_to_look_at_the_daemon_makes_no_keys(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    options: Any = {"store": str(tmp_path / "s.db"), "keys": keys, "settings": Settings()}
    async with Node(offline=True, **options) as node, serving(node) as served:
        nobody = {"peer_id": None, "public_key": None, "carrier": None, "endpoint": None}
        shown = (await served.get("/topology")).json["node"]
        assert shown == nobody | finding.NOT_TAKING_PART
        assert not keys.exists()
        own = node.identity
        shown = (await served.get("/topology")).json["node"]
    assert (shown["peer_id"], shown["public_key"]) == (own.peer_id.hex(), own.public_key.hex())


async def test_the_address_that_was_connected_to_is_a_host_of_ours(writer: Node) -> None:
    async with serving(writer, listen="127.0.0.3:0") as served:
        assert status_of(await served.raw(with_host("127.0.0.3"))) == 200
        assert status_of(await served.raw(with_host("127.0.0.4"))) == 421


ODD = (
    b"GET /v1/records/%00 HTTP/1.1",
    b"GET /v1/records/%ff%fe HTTP/1.1",
    b"GET /v1/records/%2e%2e%2f%2e%2e HTTP/1.1",
    b"GET /v1/records/../../etc/passwd HTTP/1.1",
    b"GET /v1/records/" + b"a" * 7000 + b" HTTP/1.1",
    b"GET /v1/records/" + b"a" * 70_000 + b" HTTP/1.1",
    b"GET /v1/records/" + b"ab" * 32 + b"?salt=%00 HTTP/1.1",
    b"GET /v1/records/" + b"ab" * 32 + b"?salt=%ed%b0%80 HTTP/1.1",
    b"GET /v1/records/" + b"ab" * 32 + b"?policy=\xff HTTP/1.1",
    b"GET /peers?after=%ed%a0%80 HTTP/1.1",
    b"GET /peers?limit=99999999999999999999999999 HTTP/1.1",
    b"GET /peers?%=%&&&;;==# HTTP/1.1",
    b"GET * HTTP/1.1",
    b"GET  HTTP/1.1",
    b"GET http:// HTTP/1.1",
    b"GET http://[::1 HTTP/1.1",
    b"GET http://127.0.0.1:99999999/health HTTP/1.1",
    b"CONNECT evil.example:443 HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"G\x00T / HTTP/1.1",
    b"GET /health HTTP/9.9",
    b"GET /health\x00 HTTP/1.1",
    b"GET /health HTTP/1.1\r\nX: " + b"a" * 100_000,
    b"GET /health HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"X: y",
    b"GET /health HTTP/1.1\r\nX\x00: y",
    b'GET /health HTTP/1.1\r\nIf-None-Match: \xff"',
    b"GET /health HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade",
    b"GET /health HTTP/1.1\r\nExpect: the-unexpected",
    b"GET /health HTTP/1.1\r\nContent-Length: -1",
    b"GET /health HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
    b"PUT /v1/records/" + b"ab" * 32 + b" HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz",
    b"PUT /v1/records/" + b"ab" * 32 + b" HTTP/1.1\r\nContent-Type: \xff\xfe/;;=",
    b"PUT /v1/records/" + b"ab" * 32 + b' HTTP/1.1\r\nIf-Match: "1"',
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x00" * 5000,
)


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd[:48]))
async def test_odd_bytes_are_answered_with_a_4xx_at_most(
    writer: Node, odd: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(writer) as served:
        answer = await served.raw(odd + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert (await served.get("/health")).status == 200
    assert answer == b"" or status_of(answer) < 500
    assert b"Traceback" not in answer
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


async def test_a_bug_is_a_500_that_the_log_tells_of_and_the_client_does_not_see(
    writer: Node, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Status:
        raise ZeroDivisionError("secret")

    server = await start_http(writer, Http(listen="127.0.0.1:0"), broken, Counts(), lambda: STARTED)
    try:
        request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        reader, out = await asyncio.open_connection(*server.endpoint)
        out.write(request)
        answer = await reader.read()
        await hung_up(out)
    finally:
        await server.close()
    assert status_of(answer) == 500
    assert b"problem+json" in answer
    assert b"secret" not in answer
    assert b"Traceback" not in answer
    assert "secret" in caplog.text


async def test_an_address_that_is_taken_is_named(writer: Node) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(PortError, match=rf"{listen}: Address already in use; .*\[http] listen"):
            async with serving(writer, listen=listen):
                pass


async def test_an_address_that_is_none_is_an_error(writer: Node) -> None:
    with pytest.raises(CallerError, match="not a name"):
        async with serving(writer, listen="example.org:80"):
            pass


async def test_close_waits_for_nobody(writer: Node) -> None:
    async with serving(writer) as served:
        connections = [await served.connect() for _ in range(6)]
        request = (
            f"PUT {path_of(signed())} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
        )
        for i, (_, out) in enumerate(connections):
            out.write(request.encode()[: -2 * i or None])
        async with asyncio.timeout(8):  # SLOW_CLIENT is 10 s
            await served.server.close()
            for reader, _ in connections:
                assert await ended(reader)
        with pytest.raises(ConnectionRefusedError):
            await served.connect()
        for _, out in connections:
            await hung_up(out)


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the other side closed the connection, politely or not."""
    try:
        await reader.read()
    except ConnectionResetError:
        return True
    return reader.at_eof()


async def test_new_settings_are_taken_without_a_restart(writer: Node) -> None:
    async with serving(writer) as served:
        assert status_of(await served.raw(with_host("new.example"))) == 421
        served.server.apply(Http(hosts=["new.example"], gets_per_minute=1))
        assert status_of(await served.raw(with_host("new.example"))) == 200
        assert status_of(await served.raw(with_host("new.example"))) == 429


async def test_whoever_does_not_finish_the_headers_is_hung_up_on(
    writer: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "SLOW_CLIENT", 0.05)
    async with serving(writer) as served:
        for begun in (b"", b"GET", b"GET /health HTTP/1.1\r\nHost: local"):
            assert await served.raw(begun) == b"", begun


async def test_whoever_does_not_finish_the_body_is_told(
    writer: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parameters, "SLOW_CLIENT", 0.05)
    head = f"PUT {path_of(signed())} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{{"
    async with serving(writer) as served:
        assert status_of(await served.raw(head.encode())) == 408


async def test_what_takes_too_long_is_a_504(writer: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_DEADLINE", 0.0)
    async with serving(writer) as served:
        assert (await served.get(path_of(signed()))).status == 504
        assert (await served.get("/health")).status == 200  # which waits for nothing


async def test_slow_clients_do_not_delay_another(writer: Node) -> None:
    head = f"PUT {path_of(signed())} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{{"
    async with serving(writer) as served:
        slow = [await served.connect("127.0.0.2") for _ in range(60)]
        for i, (_, out) in enumerate(slow):
            out.write(head.encode()[: (None, -5, 10)[i % 3]])
        await asyncio.gather(*(out.drain() for _, out in slow))
        async with asyncio.timeout(5):  # each of the slow ones has 10 s
            assert (await served.get("/health")).status == 200
            assert (await served.put(signed())).status == 201
        assert not any(reader.at_eof() for reader, _ in slow)
        for _, out in slow:
            await hung_up(out)
