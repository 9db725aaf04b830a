"""A registry that speaks TLS: with a certificate made here, to clients that trust it or do not."""

import asyncio
import contextlib
import datetime
import ipaddress
import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dhtmeta.config import RegistrySettings, Settings
from dhtmeta.const import HTTP_CONNECTIONS_EACH
from dhtmeta.daemon import tls
from dhtmeta.daemon.registry_server import Registry
from dhtmeta.daemon.tls import tls_context
from dhtmeta.discovery.registry import Presence, RegistrySource
from dhtmeta.errors import ConfigError, RemoteError
from dhtmeta.values.keys import Identity
from tests.daemon.http_server import hung_up
from tests.daemon.test_registry_server import Running, running

HERE = ipaddress.ip_address("127.0.0.1")


@dataclass
class Certified:
    """A certificate for 127.0.0.1 with its key, in files, and who trusts it."""

    certificate: Path
    private_key: Path
    serial: int

    @property
    def settings(self) -> dict[str, Any]:
        """Those of [registry] that name them."""
        return {"certificate": str(self.certificate), "private_key": str(self.private_key)}

    @property
    def trust(self) -> ssl.SSLContext:
        """What a client has that trusts it."""
        return ssl.create_default_context(cafile=str(self.certificate))


def certify(directory: Path, password: bytes = b"") -> Certified:
    """Make a key and a certificate that it signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(HERE)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    how = serialization.BestAvailableEncryption(password) if password else None
    files = Certified(directory / "cert.pem", directory / "key.pem", certificate.serial_number)
    files.certificate.write_bytes(certificate.public_bytes(pem))
    files.private_key.write_bytes(
        key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, how or serialization.NoEncryption()
        )
    )
    return files


@pytest.fixture
def files(tmp_path: Path) -> Certified:
    return certify(tmp_path)


async def asked(
    here: Running, files: Certified, identity: Identity | None = None
) -> RegistrySource:
    """Register and ask; returns who asked."""
    presence = Presence(identity=identity or Identity.generate(), port=1)
    source = RegistrySource([here.registry.url], "t", lambda: presence, tls=files.trust)
    async for _ in source.candidates():
        pass
    return source


async def test_who_trusts_its_certificate_registers(files: Certified) -> None:
    async with running(**files.settings) as here:
        assert here.registry.url.startswith("https://127.0.0.1:")
        source = await asked(here, files)
        presence = Presence(identity=Identity.generate())
        again = RegistrySource([here.registry.url], "t", lambda: presence, tls=files.trust)
        assert len([one async for one in again.candidates()]) == 1
    assert source.problems == {}


async def test_who_does_not_trust_it_says_nothing_to_it(
    files: Certified, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(**files.settings) as here:
        source = RegistrySource([here.registry.url], "t")
        with pytest.raises(RemoteError, match="certificate"):
            _ = [one async for one in source.candidates()]
        await asked(here, files)
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


async def test_a_certificate_of_another_name_is_not_believed(files: Certified) -> None:
    async with running(**files.settings, listen="127.0.0.2:0") as here:
        with pytest.raises(RemoteError, match="certificate"):
            await asked(here, files)


async def test_plain_http_is_not_answered_where_tls_is_spoken(
    files: Certified, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(**files.settings) as here:
        reader, out = await asyncio.open_connection(*here.registry.endpoint)
        out.write(f"GET /health HTTP/1.1\r\nHost: {here.name}\r\n\r\n".encode())
        assert b"ready" not in await read_all(reader)
        await hung_up(out)
        await asked(here, files)
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """Read to the end, which may be abrupt."""
    with contextlib.suppress(ConnectionError):
        return await reader.read()
    return b""


async def test_a_request_that_comes_with_the_handshake_is_answered(files: Certified) -> None:
    """The client's last bytes of the handshake and its request arrive at once."""
    async with running(**files.settings) as here:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = files.trust.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        reader, out = await asyncio.open_connection(*here.registry.endpoint)
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                out.write(outgoing.read())
                incoming.write(await reader.read(65536))
        client.write(f"GET /health HTTP/1.1\r\nHost: {here.name}\r\n\r\n".encode())
        out.write(outgoing.read())
        answer = b""
        async with asyncio.timeout(10):
            while b"ready" not in answer:
                incoming.write(await reader.read(65536))
                with contextlib.suppress(ssl.SSLWantReadError):
                    answer += client.read(65536)
        await hung_up(out)


async def test_who_does_not_shake_hands_counts_as_a_connection(files: Certified) -> None:
    async with running(**files.settings) as here:
        listener = here.registry._listener
        assert listener is not None
        silent = [
            await asyncio.open_connection(*here.registry.endpoint, local_addr=("127.0.0.9", 0))
            for _ in range(HTTP_CONNECTIONS_EACH + 1)
        ]
        assert await read_all(silent[-1][0]) == b""  # there is no room for that one
        assert len(listener.door.guests) == HTTP_CONNECTIONS_EACH
        await asked(here, files)  # from another address
        for _, out in silent:
            await hung_up(out)
        async with asyncio.timeout(10):
            while listener.door.guests:
                await asyncio.sleep(0.01)


async def test_who_is_slow_to_shake_hands_is_hung_up_on(
    files: Certified, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "SLOW_CLIENT", 0.05)
    async with running(**files.settings) as here:
        for begun in (b"", b"\x16\x03\x01"):
            reader, out = await asyncio.open_connection(*here.registry.endpoint)
            out.write(begun)
            async with asyncio.timeout(10):
                await read_all(reader)
            await hung_up(out)


async def test_it_closes_in_the_midst_of_handshakes(files: Certified) -> None:
    async with running(**files.settings) as here:
        silent = [await asyncio.open_connection(*here.registry.endpoint) for _ in range(4)]
        silent[0][1].write(b"\x16\x03\x01")
        async with asyncio.timeout(8):  # a slow client has 10 s
            await here.registry.close()
            for reader, out in silent:
                await read_all(reader)
                await hung_up(out)


async def test_a_new_certificate_is_taken_without_a_restart(
    files: Certified, tmp_path: Path
) -> None:
    async with running(**files.settings) as here:
        (tmp_path / "new").mkdir()
        new = certify(tmp_path / "new")
        with pytest.raises(RemoteError):
            await asked(here, new)
        here.registry.apply(Settings(registry=RegistrySettings(**new.settings)))
        await asked(here, new)
        with pytest.raises(ConfigError, match="needs a restart"):
            here.registry.apply(Settings())
        new.certificate.write_text("broken")
        with pytest.raises(ConfigError, match="cannot be used together"):
            here.registry.apply(Settings(registry=RegistrySettings(**new.settings)))
        _, out = await asyncio.open_connection(
            *here.registry.endpoint, ssl=ssl._create_unverified_context()
        )
        shown = out.get_extra_info("ssl_object").getpeercert(binary_form=True)
        assert x509.load_der_x509_certificate(shown).serial_number == new.serial
        await hung_up(out)


def test_without_files_it_is_plain_http() -> None:
    assert tls_context("", "", "registry") is None
    assert Registry(Settings())._tls is None


@pytest.mark.parametrize("left_out", ["certificate", "private_key"])
def test_one_file_without_the_other_is_named(files: Certified, left_out: str) -> None:
    with pytest.raises(ConfigError, match=rf"\[registry\] {left_out} is not set, .* give both"):
        tls_context(**files.settings | {left_out: ""}, section="registry")


@pytest.mark.parametrize("name", ["certificate", "private_key"])
def test_a_file_that_cannot_be_read_is_named(files: Certified, tmp_path: Path, name: str) -> None:
    for path, said in {
        str(tmp_path / "nowhere.pem"): "No such file",
        str(tmp_path): "Is a directory",
        "nul\0": "null byte",
    }.items():
        with pytest.raises(ConfigError) as refused:
            tls_context(**files.settings | {name: path}, section="registry")
        assert f"[registry] {name}: cannot read {path!r}: " in str(refused.value)
        assert said in str(refused.value)


def test_files_that_do_not_go_together_are_named(files: Certified, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = certify(tmp_path / "other")
    (tmp_path / "locked").mkdir()
    locked = certify(tmp_path / "locked", b"a password")
    (tmp_path / "text").write_text("hello")
    for certificate, key in (
        (files.certificate, other.private_key),
        (files.certificate, tmp_path / "text"),
        (tmp_path / "text", files.private_key),
        (files.private_key, files.private_key),
        (locked.certificate, locked.private_key),
    ):
        with pytest.raises(ConfigError) as refused:
            tls_context(str(certificate), str(key), "registry")
        assert f"certificate {certificate} and private_key {key} cannot" in str(refused.value)
        assert "PEM" in str(refused.value)
    assert "(the key has a password)" in str(refused.value)  # of the last; nobody is asked for it
