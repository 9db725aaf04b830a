"""The gateway for those who cannot speak UDP: `/v1/records/{public key}`, read and put.

A put takes what is signed already, and nothing is kept alive for others unless the settings say so.
What has to ask the network counts for everybody together; what the cache answers does not.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from aiohttp import web

from dhtmeta._fast import ed25519
from dhtmeta.config import Http
from dhtmeta.const import GETS_IN_ALL, PUTS_IN_ALL
from dhtmeta.daemon import parameters, responses
from dhtmeta.daemon.quotas import CommonQuota
from dhtmeta.daemon.responses import Refused
from dhtmeta.daemon.room import Room
from dhtmeta.daemon.way import as_problem
from dhtmeta.engine.publish import Published
from dhtmeta.engine.resolve import Answer, Policy
from dhtmeta.errors import Conflict, InvalidValue
from dhtmeta.node import Node
from dhtmeta.store.tables import NEVER, Origin
from dhtmeta.values.item import SignedItem


class Records:
    """GET and PUT of one record. `kept_for_others` says how many are kept alive for others."""

    def __init__(self, node: Node, settings: Http, kept_for_others: Callable[[], int]) -> None:
        self._node = node
        self._now = asyncio.get_running_loop().time
        self._room = Room(kept_for_others, self._now)
        self._puts, self._gets = CommonQuota(PUTS_IN_ALL), CommonQuota(GETS_IN_ALL)
        self.apply(settings)

    def apply(self, settings: Http) -> None:
        """Go by these settings from now on; all together get no less than one address does."""
        self._settings = settings
        self._puts.apply(max(PUTS_IN_ALL, settings.puts_per_minute))
        self._gets.apply(max(GETS_IN_ALL, settings.gets_per_minute))

    async def get(self, request: web.Request) -> web.Response:
        """Answer with a verified record, or 304 where the client has it."""
        parameters.refuse_unknown(request, ("salt", "policy"))
        key, salt = parameters.public_key(request), parameters.salt(request)
        policy = parameters.policy(request)
        if self._asks_the_network(key, salt, policy):
            self._gets.take(self._now())
        elif policy is Policy.CACHE_FIRST and not self._may_renew(key, salt):
            policy = Policy.CACHE_ONLY
        answer = await self._node.query(key, salt=salt, policy=policy)
        headers = self._headers(answer)
        if _has(request, answer.item):
            return web.Response(status=304, headers=headers)
        return web.json_response(responses.found(answer), headers=headers)

    def _asks_the_network(self, key: bytes, salt: bytes, policy: Policy) -> bool:
        if policy is not Policy.CACHE_FIRST:
            return policy is Policy.FRESHEST
        cache, now = self._node._resolver.cache, self._node.clock()
        target = ed25519.target(key, salt)
        held = cache.usable(target, now)
        if held is None:
            return cache.missing_for(target, now) is None
        return now >= held.fresh_until

    def _may_renew(self, key: bytes, salt: bytes) -> bool:
        """Whether a fresh record may be renewed ahead of the next query: that is a lookup, too."""
        resolver, now, target = self._node._resolver, self._node.clock(), ed25519.target(key, salt)
        held = resolver.cache.usable(target, now)
        if held is None or not resolver.renews_ahead(held, target, now):
            return True
        try:
            self._gets.take(self._now())
        except Refused:
            return False
        return True

    def _headers(self, answer: Answer) -> dict[str, str]:
        return {
            "ETag": f'"{responses.etag(answer.item)}"',
            "Cache-Control": f"public, max-age={int(answer.fresh_for)}",
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
        self._puts.take(self._now())
        try:
            published, not_kept = await self._store(item, cas)
        except Conflict as error:
            return as_problem(responses.problem(error, cas))
        headers = {"ETag": f'"{responses.etag(item)}"', "Location": str(request.rel_url.path_qs)}
        return web.json_response(responses.stored(published, not_kept), status=201, headers=headers)

    async def _store(self, item: SignedItem, cas: int | None) -> tuple[Published, str | None]:
        """Put an item and, where that may be, have it kept alive; else the answer says why not."""
        put = partial(self._node.put, item, cas=cas, origin=Origin.HTTP)
        if await self._is_kept(item):
            return await put(keep=True), None
        not_kept = self._not_kept()
        if not_kept is not None:
            return await put(keep=False), not_kept
        with self._room.enrolling():
            return await put(keep=True), None

    async def _is_kept(self, item: SignedItem) -> bool:
        """Whether an item of this target is kept alive anyway, for whomever."""
        entry = await self._node._ledger.newest(item.target)
        return entry is not None and entry.next_due < NEVER

    def _not_kept(self) -> str | None:
        """Say why a record that is put now will not be kept alive; None if it will be."""
        if not self._settings.keep:
            return "this daemon keeps nothing for others: [http] keep is false"
        if self._room.taken >= self._settings.max_kept:
            return "this daemon keeps as many records for others as it may: [http] max_kept"
        return None


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
