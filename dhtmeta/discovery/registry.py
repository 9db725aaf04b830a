"""How bootstrap registries are asked, all at once: what we tell them, and what we believe.

Whatever they answer is hostile: so many bytes and entries and no more, no redirects, each field
checked, and what is wrong is left out. An address that they name is a hint, as anybody's.
"""

import asyncio
import ipaddress
import json
import logging
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from socket import AddressFamily
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec import Meta

from dhtmeta.const import (
    MAX_LIFETIME,
    MAX_NONCE_BYTES,
    MAX_REGISTRIES,
    MAX_REGISTRY_ANSWER,
    MAX_REGISTRY_NAME,
    MAX_REGISTRY_PAGE,
    MAX_REGISTRY_REASON,
    REGISTRY_TIMEOUT,
)
from dhtmeta.discovery.candidate import Candidate
from dhtmeta.discovery.topic import topic_hash
from dhtmeta.errors import CallerError, ConfigError, RemoteError
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.values.item import SignedItem
from dhtmeta.values.keys import Identity
from dhtmeta.values.node_id import parse_public_key
from dhtmeta.values.plain import parse_json
from dhtmeta.values.record import split_endpoint
from dhtmeta.values.registration import Registration, to_json
from dhtmeta.values.signed_file import from_signed_file

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

log = logging.getLogger(__name__)

_PORTS: Final = {"http": 80, "https": 443}  # which the name of a registry leaves out
_NAME = re.compile(r"(?P<host>[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+])(:(?P<port>[0-9]{1,5}))?")
_NONCE = re.compile(rf"([0-9a-f]{{2}}){{1,{MAX_NONCE_BYTES}}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """What we register: who we are, and the UDP port of our exchange if others can reach that.

    `ip` is where we believe to be seen, "" where we do not know; `lifetime` in s.
    """

    identity: Identity
    port: int | None = None
    ip: str = ""
    is_relay: bool = False
    item: SignedItem | None = None
    lifetime: int = MAX_LIFETIME


@dataclass(frozen=True, slots=True)
class RegistryUrl:
    """Where a registry is: `base` (scheme, host, path) and `name`, its host[:port]."""

    base: str
    name: str


class RegistrySource:
    """Whoever registered with one of `urls` under a topic's text ("": under any).

    `presence` says what to register before asking, None for nothing. With `relays` only relays are
    asked for. `heard` is told of each verified item that came along. `local_ip` is the address we
    ask from, and so the one that is registered. `tls` is for certificates that this machine does
    not trust by itself. `clock` gives monotonic seconds.

    `requests` counts HTTP requests, `skipped` entries that were wrong; `problems` is URL -> why it
    could not be asked, or did not register us, the last time.
    """

    name = "registry"

    def __init__(
        self,
        urls: Sequence[str],
        topic: str = "",
        presence: Callable[[], Presence | None] = lambda: None,
        *,
        relays: bool = False,
        heard: Callable[[SignedItem], object] | None = None,
        local_ip: str = "",
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raise ConfigError for a URL that is none, and for too many of them."""
        if len(urls) > MAX_REGISTRIES:
            raise ConfigError(
                f"[registry] urls: {len(urls)} are too many, {MAX_REGISTRIES} at most"
            )
        self._urls = list(dict.fromkeys(parse_registry_url(one) for one in urls))
        self._topic = topic_hash(topic) if topic else b""
        self._presence, self._heard, self._relays = presence, heard, relays
        self._local_ip, self._tls, self._clock = local_ip, tls, clock
        # what was said to each, and until when that will do
        self._registered: dict[RegistryUrl, tuple[Presence, float]] = {}
        self.requests = 0
        self.skipped = 0
        self.problems: dict[str, str] = {}

    def retopic(self, topic: str) -> None:
        """Ask for, and register under, another topic ("": any) from now on."""
        self._topic = topic_hash(topic) if topic else b""
        self._registered.clear()

    async def candidates(self) -> AsyncIterator[Candidate]:
        """Yield who is registered, of each registry as soon as it answers.

        Raises RemoteError that names each registry and why, if none of them could be asked.
        """
        self.problems.clear()
        presence, failed = self._presence(), 0
        seen = "" if presence is None else presence.ip
        async with self._session() as session, self._session(seen) as telling:
            asking = [
                asyncio.create_task(self._ask(session, telling, one, presence))
                for one in self._urls
            ]
            try:
                for answer in asyncio.as_completed(asking):
                    found = await answer
                    failed += found is None
                    for candidate in found or ():
                        yield candidate
            finally:
                for task in asking:
                    task.cancel()
                await asyncio.gather(*asking, return_exceptions=True)
        if asking and failed == len(asking):
            why = "; ".join(f"{url}: {reason}" for url, reason in self.problems.items())
            raise RemoteError(f"no registry could be asked: {why}")

    def _session(self, seen: str = "") -> "ClientSession":
        """Return what asks; with `seen` only over the family of that address of ours."""
        import aiohttp

        family = AddressFamily.AF_UNSPEC
        if ip := self._local_ip or seen:
            family = AddressFamily.AF_INET6 if ":" in ip else AddressFamily.AF_INET
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                family=family,
                local_addr=(self._local_ip, 0) if self._local_ip else None,
                ssl=True if self._tls is None else self._tls,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "dhtmeta", "Accept-Encoding": "identity"},
            auto_decompress=False,  # no answer may grow here
        )

    async def _ask(
        self,
        session: "ClientSession",
        telling: "ClientSession",
        url: RegistryUrl,
        presence: Presence | None,
    ) -> list[Candidate] | None:
        """Register with one and return who else is there; None where it could not be asked."""
        try:
            if presence is not None:
                await self._renew(telling, url, presence)
        except (RemoteError, CallerError) as error:  # it may be full, and know others all the same
            log.info("%s did not register us: %s", url.base, error)
            self.problems[url.base] = str(error)
        try:
            asked = {"topic": self._topic.hex(), "relay": "true" if self._relays else ""}
            query = urlencode({name: one for name, one in asked.items() if one})
            said = await self._request(session, url, "GET", f"/peers?{query}")
            return self._believed(said, presence)
        except (RemoteError, CallerError) as error:
            self.problems[url.base] = str(error)
            return None

    # what we tell

    async def _renew(self, session: "ClientSession", url: RegistryUrl, presence: Presence) -> None:
        """Register unless that was done, and is good for a while."""
        before, until = self._registered.get(url, (None, 0.0))
        if before == presence and self._clock() < until:
            return
        said = await self._request(session, url, "GET", "/nonce")
        nonce = said.get("nonce")
        if not isinstance(nonce, str) or not _NONCE.fullmatch(nonce):
            raise RemoteError("it gave no nonce")
        registration = Registration(
            public_key=presence.identity.public_key,
            registry=url.name,
            nonce=bytes.fromhex(nonce),
            lifetime=presence.lifetime,
            topic=self._topic,
            ip=presence.ip,
            port=presence.port,
            is_relay=presence.is_relay,
            item=presence.item,
        )
        body = to_json(registration, presence.identity)
        await self._request(session, url, "POST", "/register", body)
        self._registered[url] = presence, self._clock() + presence.lifetime / 2

    async def _request(
        self, session: "ClientSession", url: RegistryUrl, method: str, path: str, body: str = ""
    ) -> dict[str, Any]:
        """Return the JSON object that a registry answers with, or raise RemoteError."""
        from aiohttp import ClientError

        self.requests += 1
        headers = {"Host": url.name} | ({"Content-Type": "application/json"} if body else {})
        try:
            async with (
                asyncio.timeout(REGISTRY_TIMEOUT),
                session.request(
                    method,
                    url.base + path,
                    data=body or None,
                    headers=headers,
                    allow_redirects=False,
                ) as answer,
            ):
                return await _object(answer)
        except TimeoutError as error:
            raise RemoteError(f"no answer within {REGISTRY_TIMEOUT:g} s") from error
        except AssertionError as error:  # aiohttp's
            raise RemoteError("its address is of another family than ours") from error
        except (ClientError, OSError, ValueError) as error:
            raise RemoteError(_shown(f"{error}" or type(error).__name__)) from error

    # what we believe

    def _believed(self, said: dict[str, Any], presence: Presence | None) -> list[Candidate]:
        peers = said.get("peers")
        if not isinstance(peers, list):
            raise RemoteError("it gave no list of peers")
        own = None if presence is None else presence.identity.public_key
        found: list[Candidate] = []
        for peer in peers[:MAX_REGISTRY_PAGE]:
            try:
                candidate, item = self._read(msgspec.convert(peer, _Peer))
            except (ValueError, RecursionError):  # CallerError and msgspec's are ValueErrors
                self.skipped += 1
                continue
            if candidate.public_key == own:
                continue
            if item is not None and self._heard is not None:
                self._heard(item)
            found.append(candidate)
        self.skipped += max(0, len(peers) - MAX_REGISTRY_PAGE)
        return found

    def _read(self, peer: "_Peer") -> tuple[Candidate, SignedItem | None]:
        """Return who an entry is, and its item; ValueError if anything about it is wrong."""
        public_key = parse_public_key(peer.public_key)
        if self._topic and peer.topic != self._topic.hex():
            raise ValueError("another topic than was asked for")
        if self._relays and not peer.is_relay:
            raise ValueError("no relay")
        endpoint = None if peer.endpoint is None else _endpoint(peer.endpoint)
        item = None if peer.item is None else from_signed_file(json.dumps(peer.item))
        if item is not None and (item.public_key != public_key or item.salt):
            raise ValueError("another's item")
        seq = None if item is None else item.seq
        return Candidate(self.name, public_key, endpoint, seq), item


class _Peer(msgspec.Struct):
    """An entry of /peers, as far as we read it."""

    public_key: str
    endpoint: Annotated[str, Meta(max_length=64)] | None = None
    topic: str | None = None
    is_relay: bool = False
    item: dict[str, Any] | None = None


def _endpoint(text: str) -> Endpoint:
    """Return an address that one host can have; ValueError for any other."""
    host, port = split_endpoint(text)
    address = ipaddress.ip_address(host)
    mapped = getattr(address, "ipv4_mapped", None) is not None
    if mapped or address.is_unspecified or address.is_multicast or address.is_reserved:
        raise ValueError("no address of a host")
    return host, port


async def _object(answer: "ClientResponse") -> dict[str, Any]:
    """Read one answer to its end, or as far as it may be long; RemoteError if it is a refusal."""
    if 300 <= answer.status < 400:
        raise RemoteError(f"it leads elsewhere (status {answer.status}): give the URL it leads to")
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise RemoteError("it compresses what it was asked to send as it is")
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > MAX_REGISTRY_ANSWER:
            raise RemoteError(f"it answers with more than {MAX_REGISTRY_ANSWER:,} bytes")
    said = parse_json(body.decode()) if answer.status < 300 or b"{" in body[:1] else {}
    if not isinstance(said, dict):
        raise RemoteError("it answers with JSON that is no object")
    if answer.status >= 300:
        raise RemoteError(_shown(f"status {answer.status}: {said.get('detail', answer.reason)}"))
    return said


def _shown(text: str) -> str:
    """Return what a registry may have written so that it can only be read."""
    plain = "".join(c if c.isprintable() else "?" for c in text[: MAX_REGISTRY_REASON + 1])
    return plain if len(plain) <= MAX_REGISTRY_REASON else f"{plain[:MAX_REGISTRY_REASON]}…"


# its URL


def parse_registry_url(url: str) -> RegistryUrl:
    """Read http(s)://host[:port][/path]; ConfigError that names the URL and what is wrong."""
    if not re.fullmatch(r"[!-~]+", url) or "\\" in url:
        raise _wrong(url, "it may have ASCII without spaces only; write a name as xn--…")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise _wrong(url, str(error)) from error
    if parts.scheme not in _PORTS:
        raise _wrong(url, "it has to begin with http:// or https://")
    if "@" in parts.netloc:
        raise _wrong(url, "a registry needs no user or password: leave out what stands before @")
    if "?" in url or "#" in url:
        raise _wrong(url, "it has to end with its host or path, without ? and #")
    host = parts.netloc.lower()
    path = parts.path.rstrip("/")
    return RegistryUrl(f"{parts.scheme}://{host}{path}", _name(url, parts.scheme, host))


def _name(url: str, scheme: str, netloc: str) -> str:
    match = _NAME.fullmatch(netloc)
    if match is None or len(netloc) > MAX_REGISTRY_NAME or not _is_host(match["host"]):
        raise _wrong(url, "its host is not a name or an IP address, with a port or without")
    port = _PORTS[scheme] if match["port"] is None else int(match["port"])
    if not 1 <= port <= 65535:
        raise _wrong(url, "a port is 1 … 65535")
    return match["host"] if port == _PORTS[scheme] else f"{match['host']}:{port}"


def _is_host(host: str) -> bool:
    if not host.startswith("["):
        return True
    try:
        return ipaddress.ip_address(host[1:-1]).version == 6
    except ValueError:
        return False


def _wrong(url: str, reason: str) -> ConfigError:
    shown = re.sub(r"//[^/]*@", "//…@", url)  # what stands there may be a password
    return ConfigError(f"[registry] urls: {shown[:200]!r} is no URL of a registry: {reason}")
