"""The OpenAPI document that is served: every path, parameter and status, with what each means."""

from functools import cache
from typing import Any

from dhtmeta.const import (
    MAX_PEERS_PAGE,
    MAX_SEQ,
    MAX_SIGNED_FILE_BYTES,
    MAX_TOPIC_BYTES,
    PEERS_PAGE,
)
from dhtmeta.daemon.responses import VERSION
from dhtmeta.daemon.schemas import KEY, SALT, SCHEMAS, Schema, hexadecimal, integer
from dhtmeta.engine.resolve import Policy

_PROBLEMS = {
    400: "The request is wrong; the detail says what about it.",
    403: "The page of another site asks, by what the browser says.",
    404: "Nobody holds the record.",
    408: "The body took too long.",
    409: "The network or our ledger holds a newer seq, or another value under this one.",
    412: "The network does not hold the seq that If-Match or ?cas= says.",
    413: f"The body has more than {MAX_SIGNED_FILE_BYTES:,} bytes.",
    415: "The body is not application/json, or it is compressed.",
    421: "The Host header is no name of this server.",
    422: "The body is no signed file, or does not verify; the detail names the field.",
    429: "This address, or all together, have asked as much as they may.",
    500: "A mistake in dhtmeta, which its log tells of.",
    501: "The carrier in use cannot put what is signed already.",
    502: "No node accepted the item.",
    503: "No DHT node answers, or our disk does not.",
    504: "It took longer than it may.",
}
_ALWAYS = (400, 403, 421, 429, 500, 503, 504)
_RETRIED = (429, 503)  # these may have Retry-After
_RETRY_AFTER: Schema = {"description": "Seconds to wait.", "schema": integer(1)}
_ETAG: Schema = {"description": "Of the seq and its signature.", "schema": {"type": "string"}}


@cache
def document() -> dict[str, Any]:
    """Return the document, OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dhtmeta",
            "version": VERSION,
            "description": "Signed metadata on the BitTorrent mainline DHT (BEP 44).",
        },
        "servers": [{"url": "/"}],
        "paths": {**_daemon(), **_peers(), "/v1/records/{public_key}": _records()},
        "components": {"schemas": SCHEMAS},
    }


def _daemon() -> dict[str, Any]:
    health = _json("Health", "What the daemon can do now.")
    return {
        "/health": _get("Whether the daemon needs a person: 503 if so", {200: health, 503: health}),
        "/ready": _get("Whether all works: 503 if not", {200: health, 503: health}),
        "/metrics": _get("Metrics for Prometheus", {200: _content("text/plain", {}, "Metrics.")}),
        "/connections": _get("Open connections with peers", {200: _json("Connections", "They.")}),
        "/stats": _get("All counters since the start", {200: _json("Stats", "The counters.")}),
        "/topology": _get("Us, peers by verdict, relays", {200: _json("Topology", "A summary.")}),
        "/openapi.json": _get(
            "This document", {200: _content("application/json", {"type": "object"}, "It.")}
        ),
    }


def _peers() -> dict[str, Any]:
    page = _json("Peers", "A page; `next` is ?after= of the following one, null on the last.")
    some = _json("Peers", "Those of a page that can be reached; go on while `next` is not null.")
    topic = {"type": "string", "minLength": 1, "maxLength": MAX_TOPIC_BYTES}
    parameters = [
        _query("limit", integer(1, MAX_PEERS_PAGE) | {"default": PEERS_PAGE}, "Peers looked at."),
        _query("after", hexadecimal(20, 20), "The peer id that the page begins after."),
        _query("topic", topic, "Only peers of that topic."),
    ]
    return {
        "/peers": _get("Known peers, by peer id", {200: page}, parameters),
        "/peers/connectable": _get("Those that can be reached", {200: some}, parameters),
    }


def _records() -> dict[str, Any]:
    key = _parameter("public_key", "path", KEY, "32 bytes in hex.") | {"required": True}
    salt = _query("salt", SALT, "The item's salt in hex, if it has one.")
    return {"parameters": [key, salt], "get": _get_record(), "put": _put_record()}


def _get_record() -> dict[str, Any]:
    headers = {"ETag": _ETAG, "Cache-Control": {"schema": {"type": "string"}}}
    policy = {"type": "string", "enum": [*map(str, Policy)], "default": str(Policy.CACHE_FIRST)}
    return {
        "summary": "Look a record up, verify it, judge it",
        "operationId": "get_record",
        "parameters": [
            _query("policy", policy, "How much of the network is asked."),
            _parameter("If-None-Match", "header", {"type": "string"}, "An ETag you have."),
        ],
        "responses": _responses(
            {
                200: _json(
                    "Record", "The record, of `followed`'s successor where that key was rotated."
                )
                | {"headers": headers},
                304: {"description": "You have it.", "headers": headers},
            },
            404,
        ),
    }


def _put_record() -> dict[str, Any]:
    seq = integer(0, MAX_SEQ)
    tag = {"type": "string", "pattern": '^"[0-9]{1,19}-[0-9a-f]{32}"$'}
    file = {"schema": {"$ref": "#/components/schemas/SignedFile"}}
    headers = {"ETag": _ETAG, "Location": {"schema": {"type": "string"}}}
    return {
        "summary": "Store what `dhtmeta sign` made; no private key comes here",
        "operationId": "put_record",
        "parameters": [
            _query("cas", seq, "The seq that the network has to hold, if any."),
            _parameter("If-Match", "header", tag, "The same, as an ETag of GET."),
        ],
        "requestBody": {"required": True, "content": {"application/json": file}},
        "responses": _responses(
            {201: _json("Stored", "It is stored.") | {"headers": headers}},
            *(408, 409, 412, 413, 415, 422, 501, 502),
        ),
    }


def _get(
    summary: str, answers: dict[int, Schema], parameters: list[Schema] | None = None
) -> dict[str, Any]:
    get = {"summary": summary, "responses": _responses(answers)}
    return {"get": get | ({"parameters": parameters} if parameters else {})}


def _responses(answers: dict[int, Schema], *problems: int) -> dict[str, Schema]:
    """Return `answers` and the problems that there may be, these and those of every path."""
    said = {status: _problem(status) for status in (*_ALWAYS, *problems)}
    for status, answer in answers.items():
        if status in said:  # /health says 503 with a body of its own
            said[status]["content"] |= answer["content"]
        else:
            said[status] = answer
    return {str(status): said[status] for status in sorted(said)}


def _problem(status: int) -> Schema:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    headers = {"headers": {"Retry-After": _RETRY_AFTER}} if status in _RETRIED else {}
    return {"description": _PROBLEMS[status], "content": content, **headers}


def _json(schema: str, description: str) -> Schema:
    return _content("application/json", {"$ref": f"#/components/schemas/{schema}"}, description)


def _content(media: str, schema: Schema, description: str) -> Schema:
    return {"description": description, "content": {media: {"schema": schema}}}


def _query(name: str, schema: Schema, description: str) -> Schema:
    return _parameter(name, "query", schema, description)


def _parameter(name: str, where: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": where, "description": description, "schema": schema}
