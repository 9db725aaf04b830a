"""What a nonce of the registry is: when it was made, and a MAC of that and of who asked for it.

Nothing is remembered of a nonce. It is good for NONCE_LIFETIME, from one address; that no key uses
it twice the entries see to, who only take a later one than the last.
"""

import hashlib
import hmac

from dhtmeta.const import NONCE_BYTES, NONCE_LIFETIME
from dhtmeta.daemon.responses import Refused

_TIME_BYTES = 8
_MAC_BYTES = NONCE_BYTES - _TIME_BYTES


class Nonces:
    """Makes nonces and knows them again; `secret` is random. `now` is in monotonic seconds."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._last = 0

    def make(self, address: str, now: float) -> bytes:
        """Return a nonce for an IP address; no two are of the same microsecond."""
        self._last = max(self._last + 1, round(now * 1e6))
        made = self._last.to_bytes(_TIME_BYTES, "big")
        return made + self._mac(made, address)

    def made_at(self, nonce: bytes, address: str, now: float) -> int:
        """Return when a nonce was made (us, strictly rising); Refused (403) if it is not good."""
        made, mac = nonce[:_TIME_BYTES], nonce[_TIME_BYTES:]
        if not hmac.compare_digest(mac, self._mac(made, address)):
            raise Refused(403, f"nonce: it was not made for {address}; GET /nonce makes one")
        at = int.from_bytes(made, "big")
        if now - at / 1e6 > NONCE_LIFETIME:
            raise Refused(
                403, f"nonce: it was good for {NONCE_LIFETIME:g} s; GET /nonce makes a new one"
            )
        return at

    def _mac(self, made: bytes, address: str) -> bytes:
        return hmac.digest(self._secret, made + address.encode(), hashlib.sha256)[:_MAC_BYTES]
