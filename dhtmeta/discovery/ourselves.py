"""What we say of ourselves: the record that goes out, and where else we let ourselves be found.

The operator's word stands above what was found out. While we are private nothing goes out before a
relay holds us, unless there is none for RELAY_PATIENCE seconds; what others cannot dial is not
announced.
"""

import asyncio
import logging

from msgspec.structs import replace

from dhtmeta.const import RELAY_PATIENCE, RELAY_POLL
from dhtmeta.discovery.around import Around
from dhtmeta.discovery.attachment import Attachment
from dhtmeta.discovery.exchange import Exchange
from dhtmeta.discovery.reachability import Reachability, described
from dhtmeta.discovery.registry import Presence
from dhtmeta.discovery.topic import RELAY_TOPIC, TopicSource, topic_hash
from dhtmeta.discovery.turn import TurnWatch
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.values.item import SignedItem
from dhtmeta.values.record import (
    TURN_PROTOCOL,
    NetworkInfo,
    NodeRecord,
    Protocol,
    format_endpoint,
    split_endpoint,
)

log = logging.getLogger(__name__)


class Ourselves:
    """Who we are to others. `topic` is the one that we are of, "" for none.

    `own` is our record as it is published, None before. `stated_relays` are those that the
    operator names.
    """

    def __init__(self, around: Around, exchange: Exchange, topic: str) -> None:
        self.topic = self._opened_topic = topic
        self.own: SignedItem | None = None
        self.stated_relays: list[Endpoint] = []
        self._stated_type = ""
        self._is_described = False  # whether the operator's word is known
        self._around, self._exchange = around, exchange
        self.reachability = Reachability(
            exchange, around.outside, allow_non_global=around.allow_non_global
        )
        self.attachment: Attachment | None = None  # set by whoever finds relays
        self.turn = TurnWatch(around.settings.relay.turn_port, self._public_host)

    @property
    def endpoints(self) -> set[Endpoint]:
        """Where others may see us."""
        reach = self.reachability.reach
        return {one for one in (self._exchange.endpoint, reach.public, reach.own) if one}

    @property
    def node_type(self) -> str:
        """What we are, "public" or "private"; "" while that is not known."""
        return self._stated_type or self.reachability.reach.node_type

    @property
    def is_private(self) -> bool:
        """Whether others cannot dial us."""
        return self.node_type == "private"

    def relay_address(self) -> str | None:
        """Return where others reach us as a relay, None where we are none."""
        public = self.reachability.reach.public
        serves = self._around.settings.relay.serve and not self._around.visiting
        if public is None or not serves or self.is_private or not self._is_described:
            return None
        return format_endpoint(public)

    # the record

    def described(self, record: NodeRecord) -> NodeRecord | None:
        """Return our record with what was found out about how we are reached.

        None while that is not known yet, or while we are private and may still find a relay.
        """
        self._note_stated(record)
        serves = self.relay_address() is not None
        capacity = self._around.settings.relay.max_sessions if serves else 0
        session = self.attachment.session if self.attachment is not None else None
        info = described(record.network_info, self.reachability.reach, session, capacity)
        info = self._with_turn(info)
        if not info.node_type or self._waits_for_relay(info):
            return None
        return replace(record, network_info=info, topic=self.topic)

    def _with_turn(self, info: NetworkInfo) -> NetworkInfo:
        """Add our TURN server while it answers, unless the operator names one."""
        names_one = any(one.name == TURN_PROTOCOL for one in info.protocols)
        if info.node_type != "public" or not self.turn.answers or names_one:
            return info
        ours = Protocol(name=TURN_PROTOCOL, port=self.turn.port)
        return replace(info, protocols=[*info.protocols, ours])

    def _public_host(self) -> str | None:
        own = self.reachability.reach.own
        return None if own is None or self.reachability.reach.public is None else own[0]

    def _note_stated(self, record: NodeRecord) -> None:
        base = record.network_info
        self._stated_type, self._is_described = base.node_type, True
        self.stated_relays = [split_endpoint(one) for one in base.relay_endpoints]
        self.topic = record.topic or self._opened_topic

    def _waits_for_relay(self, info: NetworkInfo) -> bool:
        if info.node_type != "private" or info.using_relay or self.attachment is None:
            return False
        waited = asyncio.get_running_loop().time() - self.attachment.without_since
        return waited < RELAY_PATIENCE

    # being found

    def topic_source(self, topic: str) -> TopicSource:
        """Return the DHT's source for a topic's text."""
        return TopicSource(
            self._around.carrier,
            topic_hash(topic),
            lambda: self.endpoints,
            allow_non_global=self._around.allow_non_global,
        )

    async def announce(self) -> None:
        """Announce us on our topic while others can dial us, and as a relay while we are one."""
        announcing: dict[tuple[str, int], asyncio.Task[None]] = {}
        try:
            while True:
                wanted = self._to_announce()
                for key in [one for one in announcing if one not in wanted]:
                    announcing.pop(key).cancel()
                for key in [one for one, task in announcing.items() if task.done()]:
                    (why,) = await asyncio.gather(announcing.pop(key), return_exceptions=True)
                    log.error("announcing %s ended: %r; it begins anew", key, why)
                for topic, port in wanted - announcing.keys():
                    work = self.topic_source(topic).announce(port)
                    announcing[topic, port] = asyncio.create_task(work)
                await asyncio.sleep(RELAY_POLL)
        finally:
            for task in announcing.values():
                task.cancel()

    def _to_announce(self) -> set[tuple[str, int]]:
        public = self.reachability.reach.public
        if public is None or self.is_private or self.own is None or self._around.visiting:
            return set()
        topics = {self.topic} if self.topic else set()
        if self.relay_address() is not None or self.turn.answers:
            topics.add(RELAY_TOPIC)
        return {(topic, public[1]) for topic in topics}

    def presence(self) -> Presence | None:
        """Return what a registry is told of us: nothing before others can reach us.

        Our record may still be missing: with a dead DHT it goes out once a peer is met.
        """
        public = self.reachability.reach.public
        dialable = public is not None and not self.is_private
        if self._around.visiting or (self.own is None and not dialable):
            return None
        return Presence(
            identity=self._around.identity(),
            port=public[1] if public is not None and dialable else None,
            ip=public[0] if public is not None and dialable else "",
            is_relay=self.relay_address() is not None,
            item=self.own,
        )
