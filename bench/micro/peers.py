"""Which libraries stand beside ours, where they are imported from, and why one is not measured."""

from collections.abc import Sequence
from importlib import import_module

CODECS = (
    *("bencode2", "bencode-rs", "fastbencode", "libtorrent", "bencoder.pyx", "bencode.py"),
    "msgspec msgpack",  # for scale: another format
)
VERIFIERS = ("libsodium from C", "PyNaCl bindings", "PyNaCl VerifyKey", "cryptography")
CACHES = ("dict", "cachetools", "cachebox", "moka-py", "theine")

MODULES = {
    "bencode2": "bencode2",
    "bencode-rs": "bencode_rs",
    "fastbencode": "fastbencode",
    "libtorrent": "libtorrent",
    "bencoder.pyx": "bencoder",
    "bencode.py": "bencodepy",
    "msgspec msgpack": "msgspec.msgpack",
    "libsodium from C": "bench.micro.sodium",
    "PyNaCl bindings": "nacl.bindings",
    "PyNaCl VerifyKey": "nacl.signing",
    "cryptography": "cryptography.hazmat.primitives.asymmetric.ed25519",
    "dict": "builtins",
    "cachetools": "cachetools",
    "cachebox": "cachebox",
    "moka-py": "moka_py",
    "theine": "theine",
}


def lacking(peer: str) -> str | None:
    """Return why a peer cannot be measured here, or None."""
    try:
        import_module(MODULES[peer])
    except ModuleNotFoundError:
        return "not installed"
    except ImportError as error:
        first, *_ = f"does not import: {error}".splitlines()
        return first
    return None


def installed(peers: Sequence[str]) -> list[str]:
    """Return those that can be measured."""
    return [peer for peer in peers if lacking(peer) is None]


def missing(peers: Sequence[str]) -> list[str]:
    """Name the others, and say why."""
    return [f"{peer}: {why}" for peer in peers if (why := lacking(peer))]
