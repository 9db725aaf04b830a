"""Whether and how a peer can be reached: a pure function of its record, its relay's, and now."""

import ipaddress
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from dhtmeta.const import GLOBAL_HOSTS, MAX_AHEAD, REPUBLISH_INTERVAL, STALE_AFTER_INTERVALS
from dhtmeta.values.record import NetworkInfo, NodeRecord, format_endpoint, split_endpoint

# RFC 4291: without it multicast, site-local, mapped IPv4 and NAT64 count as global
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")


class Verdict(StrEnum):
    """What the record says about reaching its peer."""

    DIRECT = "direct"
    VIA_RELAY = "via-relay"
    UNREACHABLE = "unreachable"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Connectability:
    """A verdict with its reason, and the ip:port to connect to ("" where there is none)."""

    verdict: Verdict
    reason: str
    address: str = ""

    @property
    def connectable(self) -> bool:
        """Whether a connection attempt makes sense now."""
        return self.verdict in (Verdict.DIRECT, Verdict.VIA_RELAY)


@dataclass(frozen=True, slots=True)
class Judge:
    """The rules, with what may be set: republish interval (s), non-global addresses."""

    republish_interval: float = REPUBLISH_INTERVAL
    allow_non_global: bool = False

    def judge(self, record: NodeRecord, relay: NodeRecord | None, now: float) -> Connectability:
        """Judge `record` at `now` (Unix s); `relay` is its connected_relay's record, if known."""
        stale = self.staleness(record, now)
        if stale:
            return Connectability(Verdict.STALE, stale)
        info = record.network_info
        if info.node_type == "public":
            return self._public(info)
        if info.node_type == "private":
            return self._private(info, relay, now)
        return unreachable("no node_type")

    def staleness(self, record: NodeRecord, now: float) -> str:
        """Say why the record is stale: too old, or ahead of our clock; "" if it is fresh."""
        age = now - record.timestamp
        limit = STALE_AFTER_INTERVALS * self.republish_interval
        if record.timestamp == 0:
            return "no timestamp"
        if age > limit:
            return f"published {age:,.0f} s ago, more than {limit:,.0f} s"
        if age < -MAX_AHEAD:
            return f"timestamp {-age:,.0f} s ahead of our clock"
        return ""

    def _public(self, info: NetworkInfo) -> Connectability:
        if not info.public_ip or info.public_port is None:
            return unreachable("no public address")
        address = format_endpoint((info.public_ip, info.public_port))
        return self._at(address, Verdict.DIRECT, f"public node at {address}")

    def _private(self, info: NetworkInfo, relay: NodeRecord | None, now: float) -> Connectability:
        if not info.using_relay:
            return unreachable("no relay")
        if not (info.connected_relay and info.relay_session_id and info.relay_address):
            return unreachable("incomplete relay")
        if relay is None:
            return unreachable(f"relay {info.connected_relay} is not known")
        if stale := self.staleness(relay, now):
            return unreachable(f"relay {info.connected_relay} is stale: {stale}")
        if not relay.network_info.is_relay:
            return unreachable(f"relay {info.connected_relay} does not relay")
        where = f"relay {info.connected_relay} at {info.relay_address}"
        return self._at(info.relay_address, Verdict.VIA_RELAY, where)

    def _at(self, address: str, verdict: Verdict, reason: str) -> Connectability:
        host, _ = split_endpoint(address)
        if not self.allow_non_global and not is_global(host):
            return unreachable(f"{host} is not a global address")
        return Connectability(verdict, reason, address)


@lru_cache(GLOBAL_HOSTS)  # parsing one takes 50 us, judging all else 10
def is_global(host: str) -> bool:
    """Whether a host of the Internet can have the address; `is_global` takes multicast, too."""
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv6Address):
        return address.is_global and address in _GLOBAL_UNICAST
    return address.is_global and not address.is_multicast


def unreachable(reason: str) -> Connectability:
    """Return the verdict that a peer cannot be reached, for that reason."""
    return Connectability(Verdict.UNREACHABLE, reason)
