"""The gateway for those who cannot speak UDP: `/v1/records/{public key}`, read and put.

A put takes what is signed already, and nothing is kept alive for others unless the settings say so.
"""

from collections.abc import Callable

from aiohttp import web

from dhtmeta.config import Http
from dhtmeta.daemon import parameters, responses
from dhtmeta.daemon.responses import Refused
from dhtmeta.engine.resolve import Answer, Policy
from dhtmeta.errors import Conflict, InvalidValue
from dhtmeta.node import Node
from dhtmeta.store.tables import Origin
from dhtmeta.values.item import SignedItem


class Records:
    """GET and PUT of one record. `kept_for_others` says how many are kept alive for others."""

    def __init__(self, node: Node, settings: Http, kept_for_others: Callable[[], int]) -> None:
        self._node = node
        self.settings = settings
        self._kept_for_others = kept_for_others
        self._ttl = node.settings.metadata_cache.ttl_seconds

    async def get(self, request: web.Request) -> web.Response:
        """Answer with a verified record, or 304 where the client has it."""
        parameters.refuse_unknown(request, ("salt", "policy"))
        key, salt = parameters.public_key(request), parameters.salt(request)
        policy = request.query.get("policy", Policy.CACHE_FIRST)
        answer = await self._node.query(key, salt=salt, policy=policy)
        headers = self._headers(answer)
        if _has(request, answer.item):
            return web.Response(status=304, headers=headers)
        return web.json_response(responses.found(answer), headers=headers)

    def _headers(self, answer: Answer) -> dict[str, str]:
        left = int(max(0.0, self._ttl - answer.age))
        return {
            "ETag": f'"{responses.etag(answer.item)}"',
            "Cache-Control": f"public, max-age={left}",
        }

    async def put(self, request: web.Request) -> web.Response:
        """Store a signed item on the DHT."""
        parameters.refuse_unknown(request, ("salt", "cas"))
        key, salt = parameters.public_key(request), parameters.salt(request)
        cas = parameters.cas(request)
        item = await parameters.signed_item(request)
        _refuse_another(item, key, salt)
        if self._node.carrier.signs_itself:
            raise Refused(
                501, "the libtorrent carrier cannot put what is signed: [dht] carrier = direct can"
            )
        not_kept = self._not_kept()
        try:
            keep = not_kept is None
            published = await self._node.put(item, cas=cas, keep=keep, origin=Origin.HTTP)
        except Conflict as error:
            return as_problem(responses.problem(error, cas))
        headers = {"ETag": f'"{responses.etag(item)}"', "Location": str(request.rel_url.path_qs)}
        return web.json_response(responses.stored(published, not_kept), status=201, headers=headers)

    def _not_kept(self) -> str | None:
        """Say why a record that is put now will not be kept alive; None if it will be."""
        if not self.settings.keep:
            return "this daemon keeps nothing for others: [http] keep is false"
        if self._kept_for_others() >= self.settings.max_kept:
            return "this daemon keeps as many records for others as it may: [http] max_kept"
        return None


def as_problem(problem: responses.Problem) -> web.Response:
    """Return an error as application/problem+json."""
    return web.json_response(
        problem.json,
        status=problem.status,
        headers=problem.headers,
        content_type="application/problem+json",
    )


def _has(request: web.Request, item: SignedItem) -> bool:
    """Whether If-None-Match names the item: the client has it (RFC 9110, weak comparison)."""
    tags = request.if_none_match or ()
    return any(tag.value in ("*", responses.etag(item)) for tag in tags)


def _refuse_another(item: SignedItem, key: bytes, salt: bytes) -> None:
    """Raise InvalidValue unless the item is the one that the path speaks of."""
    if item.public_key != key:
        raise InvalidValue(f"public_key: it is {item.public_key.hex()}, the path says {key.hex()}")
    if item.salt != salt:
        raise InvalidValue(
            f"salt: it is {item.salt.hex() or 'none'}, ?salt= says {salt.hex() or 'none'}"
        )
