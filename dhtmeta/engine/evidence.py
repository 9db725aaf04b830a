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
        self._caught: LRUCache[bytes, bool] = LRUCache(SILENT_PEERS)

    def reached(self, peer_id: bytes) -> None:
        """Note that a peer answered."""
        self._failed.pop(peer_id, None)

    def missed(self, peer_id: bytes, seq: int) -> None:
        """Note that a peer did not answer where its record of that seq says."""
        times, since = self._failed.get(peer_id, (0, seq))
        self._failed[peer_id] = (times + 1 if since == seq else 1, seq)

    def forgive(self) -> None:
        """Forget who did not answer: it was our own network."""
        self._failed.clear()

    def attached(self, relay_id: bytes, asked: set[bytes], there: set[bytes], now: float) -> None:
        """Note which of the peers that a relay was asked about are attached to it."""
        watched = self.watch(relay_id)
        if watched is not None:
            watched.attached, watched.answered_at = there, now
        for peer_id in asked - there:
            self._caught[peer_id] = True
        for peer_id in there:
            self._caught.pop(peer_id, None)

    def is_caught(self, peer_id: bytes) -> bool:
        """Whether a peer named a relay that had no session for it: only relays are believed now."""
        return peer_id in self._caught

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
        peer_id, answered_at = bytes.fromhex(record.peer_id), relay.answered_at
        is_current = answered_at is not None and now - answered_at <= SESSION_LIFETIME
        if is_current and peer_id in relay.attached:
            return ""
        if abs(now - record.timestamp) < SESSION_LIFETIME and peer_id not in self._caught:
            return ""  # its owner held the session when this was signed
        if answered_at is None:
            return f"relay {relay_id.hex()} has not answered yet"
        if not is_current:
            return f"relay {relay_id.hex()} has not answered for {now - answered_at:,.0f} s"
        return f"relay {relay_id.hex()} has no session for it"
