"""How many requests a minute an address gets, and all of them together.

An address counts by itself (IPv4), or with its /64 and its /48 (IPv6: one customer has the first,
and may have the second). It is that of the connection: what X-Forwarded-For says anybody can write.
"""

import ipaddress

from dhtmeta.const import QUOTA_NETWORKS, QUOTA_PER_48, QUOTA_SWEEP
from dhtmeta.daemon.responses import Refused

_MINUTE = 60.0
_EVERYBODY = "everybody"
_ROUNDING = 1e-6  # s; a wait below that is none


def networks_of(address: str) -> tuple[str, ...]:
    """Return what an IP address counts as: itself, or its /64 and /48; IPv4 in IPv6 is IPv4.

    No address ("", of a connection that is gone already) counts as itself.
    """
    if not address:
        return ("",)
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv4Address):
        return (str(parsed),)
    if parsed.ipv4_mapped is not None:
        return (str(parsed.ipv4_mapped),)
    return tuple(
        str(ipaddress.IPv6Network((int(parsed) >> 128 - bits << 128 - bits, bits)))
        for bits in (64, 48)
    )


class Quota:
    """So many requests a minute for each network; who paused may send a minute's worth at once.

    A quota that is not whole again is never forgotten: where so many are in use that there is no
    room for another, it is the other who waits. `now` is in seconds and never goes back.
    """

    def __init__(self, per_minute: int, most: int = QUOTA_NETWORKS) -> None:
        self.per_minute = per_minute
        self._most = most
        self._whole: dict[str, float] = {}  # network -> when its quota is whole again
        self._swept = float("-inf")

    def wait(self, network: str, now: float) -> float:
        """Return the seconds until it may ask once more, 0 if that is now."""
        whole = self._whole.get(network)
        if whole is None:
            return 0.0 if self._has_room(now) else QUOTA_SWEEP
        wait = max(whole, now) + _MINUTE / self.per_minute - now - _MINUTE
        return wait if wait > _ROUNDING else 0.0

    def take(self, network: str, now: float) -> None:
        """Count one request."""
        self._whole[network] = max(self._whole.get(network, now), now) + _MINUTE / self.per_minute

    def _has_room(self, now: float) -> bool:
        """Whether one more can be counted; forgets those whose quota is whole, once in a while."""
        if len(self._whole) < self._most:
            return True
        if now - self._swept < QUOTA_SWEEP:
            return False
        self._swept = now
        self._whole = {network: whole for network, whole in self._whole.items() if whole > now}
        return len(self._whole) < self._most


class AddressQuota:
    """A quota for each address, and a larger one for each /48."""

    def __init__(self, per_minute: int) -> None:
        self._quotas = Quota(per_minute), Quota(per_minute * QUOTA_PER_48)

    def apply(self, per_minute: int) -> None:
        """Go by this from now on; what was asked before still counts."""
        each, site = self._quotas
        each.per_minute, site.per_minute = per_minute, per_minute * QUOTA_PER_48

    def take(self, address: str, now: float) -> None:
        """Count one request of an IP address; Refused (429), with nothing counted, if too many."""
        counted = list(zip(self._quotas, networks_of(address), strict=False))  # IPv4 has no /48
        _refuse(max(quota.wait(network, now) for quota, network in counted))
        for quota, network in counted:
            quota.take(network, now)


class CommonQuota:
    """One quota for what the network is asked on behalf of everybody together."""

    def __init__(self, per_minute: int) -> None:
        self._quota = Quota(per_minute)

    def apply(self, per_minute: int) -> None:
        """Go by this from now on; what was asked before still counts."""
        self._quota.per_minute = per_minute

    def take(self, now: float) -> None:
        """Count one request; Refused (429) if there were too many."""
        _refuse(self._quota.wait(_EVERYBODY, now))
        self._quota.take(_EVERYBODY, now)


def _refuse(wait: float) -> None:
    if wait:
        raise Refused(429, f"too many requests; the next in {wait:.1f} s", retry_after=wait)
