"""What a request may ask for and how that is written: keys, salts, pages, conditions, the body."""

import asyncio
import re
from collections.abc import Collection

from aiohttp import web

from dhtmeta.const import (
    MAX_PEERS_PAGE,
    MAX_SEQ,
    MAX_SIGNED_FILE_BYTES,
    MAX_TOPIC_BYTES,
    PEERS_PAGE,
    SLOW_CLIENT,
)
from dhtmeta.daemon.responses import Refused
from dhtmeta.engine.resolve import Policy
from dhtmeta.errors import InvalidValue
from dhtmeta.values.item import SignedItem, check_salt
from dhtmeta.values.node_id import parse_id, parse_public_key
from dhtmeta.values.signed_file import from_signed_file

_ETAG = re.compile(r"([0-9]{1,19})-[0-9a-f]{32}")  # of responses.etag


def refuse_unknown(request: web.Request, known: Collection[str]) -> None:
    """Raise Refused (400) for a parameter that is none of `known`, or that is there twice."""
    for name in request.query:
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise Refused(400, f"{name[:40]!r} is no parameter of this path; {has}")
        if len(request.query.getall(name)) > 1:
            raise Refused(400, f"{name}: it is there more than once")


def public_key(request: web.Request) -> bytes:
    """Return the public key of the path, 32 bytes; InvalidKey if it is none."""
    return parse_public_key(request.match_info["public_key"])


def salt(request: web.Request) -> bytes:
    """Return ?salt= (hex), or none; Refused (400) or InvalidSalt if it is none."""
    digits = request.query.get("salt", "")
    if not re.fullmatch("([0-9a-fA-F]{2})*", digits):
        raise Refused(400, f"salt: expected hex digits, got {digits[:40]!r}")
    check_salt(given := bytes.fromhex(digits))
    return given


def policy(request: web.Request) -> Policy:
    """Return ?policy=, or what is usual; Refused (400) if it is none."""
    given = request.query.get("policy", Policy.CACHE_FIRST)
    if given not in list(Policy):
        raise Refused(400, f"policy: expected one of {', '.join(Policy)}, got {given[:40]!r}")
    return Policy(given)


def page(request: web.Request) -> tuple[bytes, int]:
    """Return ?after= (a peer id, 20 bytes; none at first) and ?limit=."""
    after = request.query.get("after")
    limit = integer(request, "limit", 1, MAX_PEERS_PAGE)
    return b"" if after is None else parse_id(after), PEERS_PAGE if limit is None else limit


def topic(request: web.Request) -> str | None:
    """Return ?topic=, None where it is not given; Refused (400) for what can be none."""
    given = request.query.get("topic")
    if given is not None and not 1 <= len(given) <= MAX_TOPIC_BYTES:
        raise Refused(400, f"topic: expected 1 … {MAX_TOPIC_BYTES} characters, got {len(given)}")
    return given


def cas(request: web.Request) -> int | None:
    """Return the seq that the network has to hold: ?cas=, or that of If-Match."""
    given = integer(request, "cas", 0, MAX_SEQ)
    tag = request.headers.get("If-Match")
    if tag is None:
        return given
    match = (
        _ETAG.fullmatch(tag.strip()[1:-1]) if tag.strip()[:1] == '"' == tag.strip()[-1:] else None
    )
    if match is None:
        raise Refused(400, "If-Match: expected one ETag, as GET of this path gives it")
    if given is not None:
        raise Refused(400, "If-Match and ?cas= say the same thing: give one of them")
    return int(match[1])


def integer(request: web.Request, name: str, least: int, most: int) -> int | None:
    """Return a parameter that is a whole number of that range, None where it is not given."""
    text = request.query.get(name)
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,19}", text) or not least <= int(text) <= most:
        raise Refused(400, f"{name}: expected {least} … {most}, got {text[:40]!r}")
    return int(text)


async def signed_item(request: web.Request) -> SignedItem:
    """Read and verify the body, a signed file.

    Raises Refused (400, 408, 413, 415), or InvalidValue that names the field that is wrong.
    """
    return from_signed_file(await json_text(request))


async def json_text(request: web.Request) -> str:
    """Read the body, which is to be JSON; Refused (400, 408, 413, 415), InvalidValue if no text."""
    if request.content_type not in ("application/json", "application/octet-stream"):
        raise Refused(415, f"send it as application/json, not as {request.content_type[:40]!r}")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refused(415, "send the body as it is, without Content-Encoding")
    body = await _body(request)
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise InvalidValue(f"the body is not UTF-8 text: {error.reason}") from error


async def _body(request: web.Request) -> bytes:
    if (request.content_length or 0) > MAX_SIGNED_FILE_BYTES:
        raise too_large()
    try:
        async with asyncio.timeout(SLOW_CLIENT):
            return await request.read()
    except TimeoutError as error:
        raise Refused(408, f"the body did not come within {SLOW_CLIENT:g} s") from error
    except web.RequestPayloadError as error:
        raise Refused(400, "the body ended early, or its chunks are none") from error


def too_large() -> Refused:
    """Return what says that a body is too large."""
    return Refused(413, f"a body has at most {MAX_SIGNED_FILE_BYTES:,} bytes")
