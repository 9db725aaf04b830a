"""How both sides of a connection prove their identity key (DESIGN, "Discovery ladder").

Each signs a fixed prefix, its role, SHA-256 of the server's certificate, both nonces and both
keys. The certificate binds the proof to this very connection, so that nobody in the middle can
pass it on; the nonces to this moment, so that it cannot be replayed; the role and the keys to who
says it to whom, so that it cannot be sent back.
"""

from dataclasses import dataclass
from typing import Final

from dhtmeta._fast import ed25519
from dhtmeta.errors import NotProven
from dhtmeta.values.keys import Identity

# What else is signed begins with "3:seq" or "4:salt" (BEP 44), and no proof may pass for that.
_PROOF: Final = b"dhtmeta exchange v1\0"
_PROBE: Final = b"dhtmeta probe v1\0"
CLIENT: Final = b"client"
SERVER: Final = b"server"


@dataclass(frozen=True, slots=True)
class Meeting:
    """Who meets whom: SHA-256 of the server's certificate, nonces, public keys; 32 bytes each."""

    certificate: bytes
    client_nonce: bytes
    server_nonce: bytes
    client_key: bytes
    server_key: bytes

    def signed_by(self, role: bytes) -> bytes:
        """Return what the one in that role signs."""
        nonces, keys = self.client_nonce + self.server_nonce, self.client_key + self.server_key
        return _PROOF + role + b"\0" + self.certificate + nonces + keys

    def prove(self, identity: Identity, role: bytes) -> bytes:
        """Return our signature in that role."""
        return identity.sign(self.signed_by(role))

    def check(self, role: bytes, sig: bytes) -> None:
        """Raise NotProven unless who has that role signed this."""
        key = self.client_key if role == CLIENT else self.server_key
        if not ed25519.verify(key, sig, self.signed_by(role)):
            raise NotProven(f"the {role.decode()} does not prove to hold {key.hex()}")


def probe_bytes(nonce: bytes, relay_key: bytes, session: bytes) -> bytes:
    """Return what an attached peer signs when it is probed through that relay and session."""
    return _PROBE + nonce + relay_key + session
