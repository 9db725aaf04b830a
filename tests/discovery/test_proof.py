"""Who does not hold a key cannot pass for who does: relayed, replayed, reflected, made up."""

import asyncio
import secrets
from collections.abc import Callable

import pytest

from dhtmeta._fast import ed25519
from dhtmeta.discovery import proof
from dhtmeta.discovery.exchange import _configurations
from dhtmeta.discovery.proof import CLIENT, SERVER, Meeting, probe_bytes
from dhtmeta.errors import NetworkUnreachable, NotProven
from dhtmeta.krpc import exchange as wire
from dhtmeta.values.keys import Identity
from tests.discovery.ends import Raw, end, met, only, raw, raw_server, until

OURS, THEIRS, LIAR = (Identity.generate() for _ in range(3))
MEETING = Meeting(bytes(32), b"c" * 32, b"s" * 32, OURS.public_key, THEIRS.public_key)


def test_a_proof_holds_for_its_meeting_and_role() -> None:
    MEETING.check(CLIENT, MEETING.prove(OURS, CLIENT))
    MEETING.check(SERVER, MEETING.prove(THEIRS, SERVER))


@pytest.mark.parametrize(
    "field", ["certificate", "client_nonce", "server_nonce", "client_key", "server_key"]
)
def test_a_proof_of_another_meeting_does_not_hold(field: str) -> None:
    fields = {name: getattr(MEETING, name) for name in Meeting.__slots__}
    other = Meeting(**fields | {field: LIAR.public_key})
    for role, identity in ((CLIENT, OURS), (SERVER, THEIRS)):
        with pytest.raises(NotProven):
            MEETING.check(role, other.prove(identity, role))


def test_a_proof_in_one_role_is_none_in_the_other() -> None:
    ourselves = Meeting(bytes(32), bytes(32), bytes(32), OURS.public_key, OURS.public_key)
    with pytest.raises(NotProven):
        ourselves.check(CLIENT, ourselves.prove(OURS, SERVER))
    with pytest.raises(NotProven):
        ourselves.check(SERVER, ourselves.prove(OURS, CLIENT))


def test_no_proof_can_pass_for_anything_else_that_is_signed() -> None:
    signed = [MEETING.signed_by(CLIENT), probe_bytes(bytes(32), OURS.public_key, b"x")]
    begins = [b"3:seq", b"4:salt"]  # BEP 44
    assert not any(one.startswith(begin) for one in signed for begin in begins)
    assert signed[0].startswith(b"dhtmeta exchange v1\0client\0")
    assert signed[1].startswith(b"dhtmeta probe v1\0")
    assert not signed[0].startswith(proof._PROBE)
    assert not signed[1].startswith(proof._PROOF)


async def test_both_sides_prove_who_they_are() -> None:
    async with end(OURS) as ours, end(THEIRS) as theirs:
        link = await ours.dial(theirs.endpoint)
        await until(lambda: theirs.links)
        assert (link.public_key, link.peer_id) == (THEIRS.public_key, THEIRS.peer_id)
        assert (only(theirs).public_key, only(theirs).remote) == (OURS.public_key, ours.endpoint)
        assert link.seen_as == ours.endpoint


class Middle:
    """A man in the middle: takes a connection in, dials on, and passes all bytes both ways."""

    def __init__(self) -> None:
        self.clients: list[Raw] = []
        self.tasks: list[asyncio.Task[None]] = []

    def serve(self, server: tuple[str, int]) -> Callable[[Raw], None]:
        """Return what passes on to `server` whoever comes."""

        def take(client: Raw) -> None:
            self.clients.append(client)
            self.tasks.append(asyncio.create_task(self.pass_on(client, server)))

        return take

    async def pass_on(self, client: Raw, server: tuple[str, int]) -> None:
        waiting: asyncio.Queue[bytes] = asyncio.Queue()
        client.on_bytes = waiting.put_nowait
        async with raw(server) as onward:
            onward.on_bytes = client.send_bytes
            while True:
                onward.send_bytes(await waiting.get())

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_a_relayed_proof_fails() -> None:
    """All bytes are true, and it still is another connection than the one they were signed for."""
    own_certificate, _ = _configurations()
    middle = Middle()
    async with end(OURS) as ours, end(THEIRS) as theirs:
        async with raw_server(own_certificate, middle.serve(theirs.endpoint)) as endpoint:
            with pytest.raises(NotProven, match="server does not prove"):
                await ours.dial(endpoint)
            (client,) = middle.clients
            await until(lambda: client.cut_off)
        assert not ours.links
        assert not theirs.links
        await middle.end()


async def test_a_middle_that_has_the_certificate_of_the_server_does_get_through() -> None:
    """The middle of the test above passes everything on: nothing but the certificate stops it."""
    middle = Middle()
    async with end(OURS) as ours, end(THEIRS) as theirs:
        async with raw_server(theirs._server, middle.serve(theirs.endpoint)) as endpoint:
            link = await ours.dial(endpoint)
            assert link.public_key == THEIRS.public_key
            await until(lambda: theirs.links)
        await middle.end()


@pytest.mark.parametrize(
    "field", ["certificate", "client_nonce", "server_nonce", "client_key", "server_key"]
)
async def test_a_client_who_signed_for_another_meeting_is_not_met(field: str) -> None:
    """As a client does whom a liar has made believe in another server, moment or certificate."""
    async with end(THEIRS) as theirs, raw(theirs.endpoint) as client:
        meeting = await client.greet(OURS)
        fields = {name: getattr(meeting, name) for name in Meeting.__slots__}
        other = Meeting(**fields | {field: LIAR.public_key})
        client.send(wire.Proof(sig=other.prove(OURS, CLIENT)))
        await client.until_cut_off()
        assert not theirs.links


async def test_a_replayed_proof_of_a_client_fails() -> None:
    nonce = secrets.token_bytes(32)
    async with end(THEIRS) as theirs:
        async with raw(theirs.endpoint) as client:
            meeting = await client.greet(OURS, nonce)
            said = wire.Proof(sig=meeting.prove(OURS, CLIENT))
            client.send(said)
            await until(lambda: theirs.links)
        await until(lambda: not theirs.links)
        async with raw(theirs.endpoint) as liar:
            await liar.greet(OURS, nonce)
            liar.send(said)
            await liar.until_cut_off()
            assert not theirs.links


async def test_a_replayed_proof_of_a_server_fails() -> None:
    """Even where the liar has the server's certificate with its key."""
    async with end(OURS) as ours, end(THEIRS) as theirs:
        async with raw(theirs.endpoint) as client:
            await client.greet(OURS)
            recorded = bytes(client.raw_heard)

        def replay(liar: Raw) -> None:
            liar.on_bytes = lambda data: liar.send_bytes(recorded)

        async with raw_server(theirs._server, replay) as endpoint:
            with pytest.raises(NotProven, match="server does not prove"):
                await ours.dial(endpoint)


async def test_what_a_server_signed_is_no_proof_of_a_client() -> None:
    async with end(THEIRS) as theirs, raw(theirs.endpoint) as liar:
        liar.send(wire.Hello(k=OURS.public_key, n=bytes(32)))
        welcome = await liar.hear(wire.Welcome)
        liar.send(wire.Proof(sig=welcome.sig))
        await liar.until_cut_off()
        assert not theirs.links


async def test_nobody_is_met_who_says_to_be_us() -> None:
    """Else what we signed as a server could be shown to us as a client's key is ours, too."""
    async with end(THEIRS) as theirs, raw(theirs.endpoint) as liar:
        liar.send(wire.Hello(k=THEIRS.public_key, n=bytes(32)))
        await liar.until_cut_off()
        assert not theirs.links
        assert liar.heard.empty()


async def test_dialling_ourselves_is_refused() -> None:
    async with end(OURS) as ours:
        with pytest.raises((NotProven, NetworkUnreachable)):  # whichever side sees it first
            await ours.dial(ours.endpoint)
        assert not ours.links


async def test_a_client_with_a_foreign_key_is_not_met() -> None:
    async with end(THEIRS) as theirs, raw(theirs.endpoint) as liar:
        meeting = await liar.greet(OURS)
        liar.send(wire.Proof(sig=meeting.prove(LIAR, CLIENT)))
        await liar.until_cut_off()
        assert not theirs.links


async def test_a_server_with_a_foreign_key_is_not_met() -> None:
    configuration, _ = _configurations()
    certificate = bytes(32)

    def pretend(liar: Raw) -> None:
        def answer(data: bytes) -> None:
            hello = wire.decode(data[4:])
            assert isinstance(hello, wire.Hello)
            meeting = Meeting(certificate, hello.n, bytes(32), hello.k, THEIRS.public_key)
            sig = meeting.prove(LIAR, SERVER)
            you = b"\x7f\0\0\1\0\1"
            liar.send(wire.Welcome(k=THEIRS.public_key, n=bytes(32), sig=sig, you=you))

        liar.on_bytes = answer

    async with end(OURS) as ours, raw_server(configuration, pretend) as endpoint:
        with pytest.raises(NotProven, match="server does not prove"):
            await ours.dial(endpoint)


async def test_a_signature_is_looked_at_once_for_each_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """A liar costs one verification: the connection is over after it."""
    checked: list[bytes] = []
    verify = ed25519.verify

    def counted(key: bytes, sig: bytes, message: bytes) -> bool:
        checked.append(key)
        return verify(key, sig, message)

    async with end(THEIRS) as theirs, raw(theirs.endpoint) as liar:
        meeting = await liar.greet(OURS)
        monkeypatch.setattr(ed25519, "verify", counted)
        wrong = wire.Proof(sig=meeting.prove(LIAR, CLIENT))
        liar.send(*[wrong] * 20)
        await liar.until_cut_off()
        assert checked == [OURS.public_key]


async def test_an_honest_client_of_these_tests_is_met() -> None:
    async with end(THEIRS) as theirs, met(theirs.endpoint, OURS):
        await until(lambda: theirs.links)
        assert only(theirs).public_key == OURS.public_key
