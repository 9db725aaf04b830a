"""An identity signs, hides its seed, and is kept in files that nobody else can read."""

import copy
import hashlib
import json
import os
import pickle
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from nacl.bindings import crypto_sign_open

from dhtmeta.errors import InvalidKey, KeyFileError
from dhtmeta.values.keys import (
    PRIVATE_FILE,
    PUBLIC_FILE,
    Identity,
    create_identity,
    open_identity,
    read_identity,
)

BEP44 = json.loads((Path(__file__).parents[1] / "vectors" / "bep44.json").read_text())
SEED = bytes(range(32))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_the_same_seed_is_the_same_identity() -> None:
    one, other = Identity(SEED), Identity(SEED)
    assert one.public_key == other.public_key
    assert len(one.public_key) == 32
    assert one.peer_id == hashlib.sha1(one.public_key).digest()
    assert one.public_key != Identity(bytes(32)).public_key


def test_a_signature_is_64_bytes_and_verifies_with_libsodium() -> None:
    identity = Identity(SEED)
    signature = identity.sign(b"message")
    assert len(signature) == 64
    assert crypto_sign_open(signature + b"message", identity.public_key) == b"message"


def test_generated_identities_differ() -> None:
    assert Identity.generate().public_key != Identity.generate().public_key


def test_the_expanded_key_is_that_of_rfc_8032() -> None:
    """RFC 8032, section 5.1.5: SHA-512 of the seed with five bits cleared and one set."""
    scalar = Identity(SEED).expanded()
    digest = hashlib.sha512(SEED).digest()
    assert len(scalar) == 64
    assert scalar[0] & 7 == 0
    assert scalar[31] & 0b1100_0000 == 0b0100_0000
    assert scalar[1:31] + scalar[32:] == digest[1:31] + digest[32:]
    assert scalar[0] | 7 == digest[0] | 7
    assert scalar[31] & 63 == digest[31] & 63


@pytest.mark.parametrize("vector", BEP44["mutable"], ids=lambda vector: str(vector["name"]))
def test_the_expanded_keys_of_bep_44_are_clamped_like_ours(vector: dict[str, str]) -> None:
    scalar = bytes.fromhex(vector["private_key"])
    assert len(scalar) == len(Identity(SEED).expanded())
    assert (scalar[0] & 7, scalar[31] & 0b1100_0000) == (0, 0b0100_0000)


@pytest.mark.parametrize(
    "seed", [b"", bytes(31), bytes(33), bytes(64), "s" * 32, None, 32], ids=lambda seed: repr(seed)
)
def test_what_is_no_seed_is_refused(seed: Any) -> None:
    with pytest.raises(InvalidKey, match="32 bytes"):
        Identity(seed)


def test_nothing_that_is_shown_or_written_holds_the_seed() -> None:
    identity = Identity(SEED)
    shown = [repr(identity), str(identity), f"{identity}", repr([identity]), repr({1: identity})]
    for text in shown:
        assert identity.peer_id.hex() in text
        assert SEED.hex() not in text
        assert repr(SEED)[2:-1] not in text
    with pytest.raises(TypeError):
        vars(identity)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_identity_is_never_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="private key"):
        pickle.dumps(Identity(SEED), protocol)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_an_identity_is_not_copied(duplicate: Any) -> None:
    with pytest.raises(TypeError, match="private key"):
        duplicate(Identity(SEED))


def test_the_public_key_of_an_identity_does_not_change() -> None:
    identity: Any = Identity(SEED)
    with pytest.raises(AttributeError):
        identity.public_key = bytes(32)
    with pytest.raises(AttributeError):
        identity.name = "alice"
    assert identity.public_key == Identity(SEED).public_key


def test_the_first_start_makes_two_files_and_the_second_reads_them(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "keys"
    made = open_identity(directory)
    assert files(directory).keys() == {PRIVATE_FILE, PUBLIC_FILE}
    assert (directory / PUBLIC_FILE).read_bytes() == made.public_key
    assert Identity((directory / PRIVATE_FILE).read_bytes()).public_key == made.public_key
    assert open_identity(directory).public_key == made.public_key


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_owner_can_read_the_private_key(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        create_identity(tmp_path / "keys")
    finally:
        os.umask(before)
    assert mode(tmp_path / "keys") == 0o700
    assert mode(tmp_path / "keys" / PRIVATE_FILE) == 0o600
    assert mode(tmp_path / "keys" / PUBLIC_FILE) == 0o644 & ~umask


def test_an_identity_that_is_given_is_kept(tmp_path: Path) -> None:
    assert create_identity(tmp_path, Identity(SEED)).public_key == Identity(SEED).public_key
    assert (tmp_path / PRIVATE_FILE).read_bytes() == SEED


@pytest.mark.parametrize("there", [(PRIVATE_FILE,), (PUBLIC_FILE,), (PRIVATE_FILE, PUBLIC_FILE)])
def test_a_key_that_is_there_is_never_overwritten(tmp_path: Path, there: tuple[str, ...]) -> None:
    for name in there:
        (tmp_path / name).write_bytes(b"precious")
    before = files(tmp_path)
    with pytest.raises(KeyFileError, match="is already there; it is never overwritten"):
        create_identity(tmp_path)
    assert {name: raw for name, raw in files(tmp_path).items() if name in there} == before


def test_no_private_key_is_left_beside_a_foreign_public_key(tmp_path: Path) -> None:
    (tmp_path / PUBLIC_FILE).write_bytes(bytes(32))
    with pytest.raises(KeyFileError):
        create_identity(tmp_path)
    assert files(tmp_path).keys() == {PUBLIC_FILE}


def test_a_directory_that_is_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "keys").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyFileError, match="keys is already there"):
        open_identity(tmp_path / "keys")


def test_a_link_to_nowhere_is_not_written_through(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / PRIVATE_FILE).symlink_to(elsewhere)
    with pytest.raises(KeyFileError, match="never overwritten"):
        open_identity(tmp_path)
    assert not elsewhere.exists()


def started_at_once(
    start: Callable[[Path], Identity], directory: Path
) -> list[Identity | KeyFileError]:
    barrier = threading.Barrier(8)

    def outcome(_: int) -> Identity | KeyFileError:
        barrier.wait()
        try:
            return start(directory)
        except KeyFileError as error:
            return error

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(outcome, range(8)))


def test_of_starts_at_the_same_time_one_makes_the_keys(tmp_path: Path) -> None:
    ends = started_at_once(create_identity, tmp_path)
    (made,) = (end for end in ends if isinstance(end, Identity))
    assert read_identity(tmp_path).public_key == made.public_key


@pytest.mark.parametrize("attempt", range(20))
def test_of_first_starts_at_the_same_time_all_get_the_same_keys(
    tmp_path: Path, attempt: int
) -> None:
    ends = started_at_once(open_identity, tmp_path / str(attempt))
    assert [end for end in ends if isinstance(end, KeyFileError)] == []
    assert {repr(end) for end in ends} == {repr(read_identity(tmp_path / str(attempt)))}
    assert files(tmp_path / str(attempt)).keys() == {PRIVATE_FILE, PUBLIC_FILE}


KILLED_AT_THE_FIRST_BYTE = """
import pathlib, resource, signal, sys
from dhtmeta.values.keys import open_identity
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
open_identity(pathlib.Path(sys.argv[1]))
"""


def test_a_start_that_is_killed_while_it_writes_leaves_no_key_behind(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED_AT_THE_FIRST_BYTE, str(tmp_path)])
    assert killed.returncode == -signal.SIGXFSZ
    assert not files(tmp_path).keys() & {PRIVATE_FILE, PUBLIC_FILE}
    made = open_identity(tmp_path)
    assert read_identity(tmp_path).public_key == made.public_key


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666, 0o777])
def test_a_private_key_open_to_others_is_refused_with_the_chmod_that_mends_it(
    tmp_path: Path, bits: int
) -> None:
    made = create_identity(tmp_path / "my keys")
    private = tmp_path / "my keys" / PRIVATE_FILE
    private.chmod(bits)
    with pytest.raises(KeyFileError, match="can be read by others") as refused:
        open_identity(tmp_path / "my keys")
    command = str(refused.value).partition("mend it with: ")[2]
    assert os.system(command) == 0  # as it stands, spaces and all
    assert mode(private) == 0o600
    assert open_identity(tmp_path / "my keys").public_key == made.public_key


@pytest.mark.parametrize("bits", [0o600, 0o400])
def test_a_private_key_that_only_its_owner_reads_is_taken(tmp_path: Path, bits: int) -> None:
    made = create_identity(tmp_path)
    (tmp_path / PRIVATE_FILE).chmod(bits)
    assert read_identity(tmp_path).public_key == made.public_key


@pytest.mark.parametrize("name", [PRIVATE_FILE, PUBLIC_FILE])
@pytest.mark.parametrize("size", [0, 1, 31, 33, 64, 4096])
def test_a_damaged_key_file_is_named(tmp_path: Path, name: str, size: int) -> None:
    create_identity(tmp_path)
    with (tmp_path / name).open("r+b") as file:
        file.truncate(size)
    with pytest.raises(KeyFileError, match=f"{name} is damaged: a key is exactly 32 bytes"):
        open_identity(tmp_path)


def test_a_public_key_of_another_pair_is_refused(tmp_path: Path) -> None:
    create_identity(tmp_path, Identity(SEED))
    (tmp_path / PUBLIC_FILE).write_bytes(Identity(bytes(32)).public_key)
    with pytest.raises(KeyFileError, match="is not the public key of"):
        open_identity(tmp_path)


def test_a_missing_public_key_is_written_again(tmp_path: Path) -> None:
    made = create_identity(tmp_path)
    (tmp_path / PUBLIC_FILE).unlink()
    assert open_identity(tmp_path).public_key == made.public_key
    assert (tmp_path / PUBLIC_FILE).read_bytes() == made.public_key


def test_a_missing_private_key_is_not_made_up(tmp_path: Path) -> None:
    create_identity(tmp_path)
    (tmp_path / PRIVATE_FILE).unlink()
    with pytest.raises(KeyFileError, match="put the private key back"):
        open_identity(tmp_path)
    with pytest.raises(KeyFileError, match="dhtmeta keygen"):
        read_identity(tmp_path)
    assert files(tmp_path).keys() == {PUBLIC_FILE}


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    """Return a directory in which nothing can be created; root can everywhere else."""
    directory = tmp_path / "locked"
    directory.mkdir()
    directory.chmod(0o500)
    return Path("/proc/self") if os.access(directory, os.W_OK) else directory


def test_a_directory_that_cannot_be_written_is_named(locked: Path) -> None:
    with pytest.raises(KeyFileError, match=f"cannot keep keys in '{locked}'"):
        open_identity(locked)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("file", "not a directory"),
        ("file/keys", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("nul\0", "null"),
    ],
)
@pytest.mark.parametrize("call", [open_identity, create_identity])
def test_a_path_that_cannot_hold_keys_is_a_key_file_error(
    tmp_path: Path, name: str, said: str, call: Any
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(KeyFileError, match=said):
        call(tmp_path / name)


def test_a_path_that_cannot_be_read_is_a_key_file_error(tmp_path: Path) -> None:
    for name in ("nul\0", "x" * 300, "nowhere"):
        with pytest.raises(KeyFileError):
            read_identity(tmp_path / name)
    (tmp_path / PRIVATE_FILE).mkdir(mode=0o700)
    with pytest.raises(KeyFileError, match="Is a directory"):
        read_identity(tmp_path)


def test_a_public_key_that_cannot_be_written_again_is_named(tmp_path: Path) -> None:
    create_identity(tmp_path)
    (tmp_path / PUBLIC_FILE).unlink()
    (tmp_path / PUBLIC_FILE).symlink_to(tmp_path / "nowhere" / "at all")
    with pytest.raises(KeyFileError, match=f"cannot write the missing .*{PUBLIC_FILE}"):
        open_identity(tmp_path)
