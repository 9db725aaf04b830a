"""What an identity is and how its key files are kept: the only place that sees a private key.

Files (DESIGN, "Keys"): `ed25519_private.key`, the 32-byte seed, mode 0600, never overwritten;
`ed25519_public.key`, 32 bytes. A seed that others could read is refused. Each file appears whole
or not at all, the private one first; a process killed on the way leaves at most a `.….new`.

A rotation goes by steps, each on disk before the next: the new seed is in `ed25519_next.key`; the
old pair is in `old-<peer id>/`, too; the public file is the new one; the new seed is renamed to
`ed25519_private.key`. That rename is when the keys change hands: until then the old pair is in
force, and whoever begins again goes on with the same new seed; afterwards nothing is left to do.
"""

import hashlib
import os
import secrets
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from dhtmeta.const import PUBLIC_KEY_BYTES, SEED_BYTES, SIGNATURE_BYTES
from dhtmeta.errors import InvalidKey, KeyFileError
from dhtmeta.values.node_id import peer_id

PRIVATE_FILE = "ed25519_private.key"
PUBLIC_FILE = "ed25519_public.key"
NEXT_FILE = "ed25519_next.key"


class Identity:
    """An Ed25519 key pair (RFC 8032); `repr` shows the peer id and never the seed.

    It does not change, and it is not pickled or copied: the seed stays where it is.
    """

    __slots__ = ("_public_key", "_secret")

    def __init__(self, seed: bytes) -> None:
        try:
            self._public_key, self._secret = crypto_sign_seed_keypair(seed)
        except (TypeError, ValueError) as error:
            raise InvalidKey(f"a seed is {SEED_BYTES} bytes, this is none") from error

    @classmethod
    def generate(cls) -> "Identity":
        """Make a new identity from the operating system's randomness."""
        return cls(secrets.token_bytes(SEED_BYTES))

    @property
    def public_key(self) -> bytes:
        """The public key, 32 bytes."""
        return self._public_key

    @property
    def peer_id(self) -> bytes:
        """SHA1(public key), 20 bytes."""
        return peer_id(self.public_key)

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of `message`."""
        return crypto_sign(message, self._secret)[:SIGNATURE_BYTES]

    def expanded(self) -> bytes:
        """Return clamp(SHA512(seed)), 64 bytes: the form in which libtorrent takes a private key.

        For `dht.libtorrent` alone, whose binding signs by itself.
        """
        digest = bytearray(hashlib.sha512(self._secret[:SEED_BYTES]).digest())
        digest[0] &= 248
        digest[31] = digest[31] & 63 | 64
        return bytes(digest)

    def __repr__(self) -> str:
        return f"Identity({self.peer_id.hex()})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Identity is not pickled or copied: it holds a private key")


def open_identity(directory: Path) -> Identity:
    """Read the identity kept in `directory`, or make one there on first use.

    Of first starts at the same time one makes it and all get it. Raises KeyFileError where the
    private file is missing beside a public one, or a file is damaged or open to others.
    """
    had_public = _exists(directory / PUBLIC_FILE)  # asked first, since it is written last
    if _exists(directory / PRIVATE_FILE):
        return read_identity(directory)
    if had_public:
        raise KeyFileError(
            f"{directory} holds {PUBLIC_FILE} but no {PRIVATE_FILE}: put the private key back, "
            f"or use another --keys directory"
        )
    try:
        return create_identity(directory)
    except KeyFileError:
        if not _exists(directory / PRIVATE_FILE):
            raise
        return read_identity(directory)  # another start was faster


def create_identity(directory: Path, identity: Identity | None = None) -> Identity:
    """Write a new identity to `directory`; KeyFileError if one is already there."""
    identity = identity or Identity.generate()
    private, public = directory / PRIVATE_FILE, directory / PUBLIC_FILE
    if _exists(directory) and not directory.is_dir():
        raise KeyFileError(f"cannot keep keys in {directory}: it is not a directory")
    if _exists(public):  # looked at first: a new private key beside it would not be its own
        raise KeyFileError(f"{public} is already there; it is never overwritten")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _create(private, identity._secret[:SEED_BYTES], 0o600)
    except FileExistsError as error:
        there = error.filename2 or error.filename
        raise KeyFileError(f"{there} is already there; it is never overwritten") from error
    except (OSError, ValueError) as error:
        raise KeyFileError(f"cannot keep keys in {str(directory)!r}: {_reason(error)}") from error
    return read_identity(directory)


def read_identity(directory: Path) -> Identity:
    """Read the identity kept in `directory`; KeyFileError where anything is wrong with it.

    A public file that is missing is written. One of the next identity is what a rotation on its
    way leaves.
    """
    private, public = directory / PRIVATE_FILE, directory / PUBLIC_FILE
    identity = _read_seed(private)
    if not _exists(public):
        _write_public(public, identity.public_key)
    named = _read(public, PUBLIC_KEY_BYTES)
    if named not in (identity.public_key, _next_key(directory)):
        identity = _read_seed(private)  # a rotation may have ended since it was read
    if named not in (identity.public_key, _next_key(directory)):
        raise KeyFileError(f"{public} is not the public key of {private}: one of them was replaced")
    return identity


def next_identity(directory: Path) -> Identity:
    """Return who is to follow the identity kept in `directory`: made once, then read again.

    Raises KeyFileError where that file cannot be written, is damaged or open to others.
    """
    path = directory / NEXT_FILE
    try:
        if not _exists(path):
            _create(path, Identity.generate()._secret[:SEED_BYTES], 0o600)
    except OSError as error:
        raise KeyFileError(f"cannot keep a new key at {path}: {error.strerror}") from error
    return _read_seed(path)


def take_over(directory: Path) -> Identity:
    """Let the next identity take the place of the one in `directory`, kept in `old_directory`.

    Raises KeyFileError where a step fails: the old one is in force then, and this can be called
    again.
    """
    old, new = read_identity(directory), _read_seed(directory / NEXT_FILE)
    try:
        _keep(old_directory(directory, old.public_key), old)
        _create(directory / PUBLIC_FILE, new.public_key, 0o644, os.replace)
        (directory / NEXT_FILE).replace(directory / PRIVATE_FILE)
        _sync(directory)
    except OSError as error:
        raise KeyFileError(
            f"cannot put the new keys in place in {directory} ({error.strerror}): mend that, and "
            f"run `dhtmeta keygen --rotate` again, which goes on with the same ones"
        ) from error
    return new


def old_directory(directory: Path, public_key: bytes) -> Path:
    """Return where the key pair of `public_key` is kept after it was rotated in `directory`."""
    return directory / f"old-{peer_id(public_key).hex()}"


def _keep(directory: Path, identity: Identity) -> None:
    """Have `identity` in `directory`, where an earlier try may have put some of it."""
    if not _exists(directory / PRIVATE_FILE):
        create_identity(directory, identity)
    elif read_identity(directory).public_key != identity.public_key:
        raise KeyFileError(f"{directory} holds other keys than its name says: move it elsewhere")


def _next_key(directory: Path) -> bytes | None:
    """Return the next identity's public key; None if there is none that could be read."""
    try:
        return _read_seed(directory / NEXT_FILE).public_key
    except KeyFileError:
        return None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # a name too long, a directory closed to us
        raise KeyFileError(f"cannot look for {path}: {error.strerror}") from error


def _reason(error: OSError | ValueError) -> str:
    """Say what went wrong without the path; a ValueError is about a NUL in it."""
    return str(error.strerror) if isinstance(error, OSError) else str(error)


def _write_public(path: Path, content: bytes) -> None:
    try:
        _create(path, content, 0o644)
    except OSError as error:
        if not _exists(path):  # nor did another process just write it
            raise KeyFileError(f"cannot write the missing {path}: {error.strerror}") from error


def _read_seed(path: Path) -> Identity:
    _refuse_open_to_others(path)
    return Identity(_read(path, SEED_BYTES))


def _refuse_open_to_others(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise KeyFileError(f"no private key at {path}; `dhtmeta keygen` makes one") from error
    except (OSError, ValueError) as error:
        raise KeyFileError(f"cannot read {str(path)!r}: {_reason(error)}") from error
    if mode & 0o077:
        mend = f"chmod 600 {shlex.quote(str(path))}"
        raise KeyFileError(f"{path} can be read by others; mend it with: {mend}")


def _read(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(size + 1)
    except OSError as error:
        raise KeyFileError(f"cannot read {path}: {error.strerror}") from error
    if len(raw) != size:
        raise KeyFileError(f"{path} is damaged: a key is exactly {size} bytes, this is not")
    return raw


def _create(
    path: Path, content: bytes, mode: int, place: Callable[[Path, Path], None] = os.link
) -> None:
    """Let the whole file appear at once, on disk; FileExistsError if something is there.

    With `os.replace` as `place` it takes the place of what is there.
    """
    unnamed = path.with_name(f".{secrets.token_hex(8)}.new")
    handle = os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        place(unnamed, path)
    finally:
        unnamed.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
