"""What attempts to reach peers have shown, beside what their records say of them.

A record that was just signed shows that its owner is attached: a session lasts SESSION_LIFETIME
seconds. So does a relay's answer: then its sessions are over, unless it has answered again. A peer
who could not be reached twice is not offered until it was, or says something new. Peers and relays
that nobody has tried are judged by their records alone.
"""

from dataclasses import dataclass, field

from cachetools import LRUCache

from dhtmeta.const import RELAYS_WATCHED, SESSION_LIFETIME, SILENT_AFTER, SILENT_PEERS
from dhtmeta.values.record import NodeRecord


@dataclass(slots=True)
class WatchedRelay:
    """A relay that is asked: when it last answered (Unix s), and who is attached to it (ids)."""

    answered_at: float | None = None
    attached: set[bytes] = field(default_factory=set)


class Evidence:
    """Remembers what was tried. `now` is in Unix seconds; ids are 20 bytes."""

    def __init__(self) -> None:
        self.relays: dict[bytes, WatchedRelay] = {}
        self._failed: LRUCache[bytes, tuple[int, int]] = LRUCache(SILENT_PEERS)  # times, seq

    def reached(self, peer_id: bytes) -> None:
        """Note that a peer answered."""
        self._failed.pop(peer_id, None)

    def missed(self, peer_id: bytes, seq: int) -> None:
        """Note that a peer did not answer where its record of that seq says."""
        times, since = self._failed.get(peer_id, (0, seq))
        self._failed[peer_id] = (times + 1 if since == seq else 1, seq)

    def watch(self, relay_id: bytes) -> WatchedRelay | None:
        """Have a relay count as asked from now on; None where too many are.

        One that never answered makes room: records can name any number of relays there are not.
        """
        if relay_id not in self.relays and len(self.relays) >= RELAYS_WATCHED:
            silent = [one for one, watched in self.relays.items() if watched.answered_at is None]
            if not silent:
                return None
            del self.relays[silent[0]]
        return self.relays.setdefault(relay_id, WatchedRelay())

    def objection(self, record: NodeRecord, seq: int, now: float) -> str:
        """Say why a peer whose record looks well cannot be reached; "" where nothing speaks for it.

        `record` is a valid one, `seq` that of its item.
        """
        times, since = self._failed.get(bytes.fromhex(record.peer_id), (0, seq))
        if times >= SILENT_AFTER and since == seq:
            return f"nobody answered there, {times} times"
        if record.network_info.node_type != "private":
            return ""
        return self._against_relay(record, now)

    def _against_relay(self, record: NodeRecord, now: float) -> str:
        relay_id = bytes.fromhex(record.network_info.connected_relay)
        relay = self.relays.get(relay_id)
        if relay is None:
            full = len(self.relays) >= RELAYS_WATCHED
            return f"relay {relay_id.hex()} is one more than can be asked" if full else ""
        if relay.answered_at is None:
            return f"relay {relay_id.hex()} has not answered yet"
        if now - relay.answered_at > SESSION_LIFETIME:
            return f"relay {relay_id.hex()} has not answered for {now - relay.answered_at:,.0f} s"
        if bytes.fromhex(record.peer_id) not in relay.attached:
            return f"relay {relay_id.hex()} has no session for it"
        return ""
