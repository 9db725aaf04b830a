"""A key directory changes hands at one rename: whoever is killed before or after loses no key."""

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dhtmeta.errors import KeyFileError
from dhtmeta.values.keys import (
    NEXT_FILE,
    PRIVATE_FILE,
    PUBLIC_FILE,
    Identity,
    create_identity,
    next_identity,
    old_directory,
    open_identity,
    read_identity,
    take_over,
)

SEED = bytes(range(32))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Return a directory with a key pair of a seed we know."""
    create_identity(tmp_path / "keys", Identity(SEED))
    return tmp_path / "keys"


def kept(keys: Path) -> Path:
    return old_directory(keys, Identity(SEED).public_key)


def test_the_next_identity_is_the_same_until_it_takes_over(keys: Path) -> None:
    first = next_identity(keys)
    assert next_identity(keys).public_key == first.public_key != Identity(SEED).public_key
    assert mode(keys / NEXT_FILE) == 0o600
    assert take_over(keys).public_key == first.public_key
    assert next_identity(keys).public_key != first.public_key


def test_the_new_pair_is_in_place_and_the_old_one_kept(keys: Path) -> None:
    new = next_identity(keys)
    take_over(keys)
    assert read_identity(keys).public_key == new.public_key
    assert read_identity(kept(keys)).public_key == Identity(SEED).public_key
    assert (keys / PUBLIC_FILE).read_bytes() == new.public_key
    assert names(keys) == {PRIVATE_FILE, PUBLIC_FILE, kept(keys).name}
    assert names(kept(keys)) == {PRIVATE_FILE, PUBLIC_FILE}
    assert mode(keys / PRIVATE_FILE) == mode(kept(keys) / PRIVATE_FILE) == 0o600
    assert mode(kept(keys)) == 0o700


def test_keys_are_rotated_again_and_again_and_all_are_kept(keys: Path) -> None:
    pairs = [read_identity(keys)]
    for _ in range(3):
        next_identity(keys)
        pairs.append(take_over(keys))
    for pair in pairs[:-1]:
        assert read_identity(old_directory(keys, pair.public_key)).public_key == pair.public_key
    assert read_identity(keys).public_key == pairs[-1].public_key


KILLED_BEFORE_A_STEP = """
import os, pathlib, signal, sys
from dhtmeta.values.keys import next_identity, take_over
directory, left = pathlib.Path(sys.argv[1]), int(sys.argv[2])

def step(event, args):
    global left
    if event in ("os.mkdir", "os.link", "os.rename", "os.remove") or (
        event == "open" and args[2] & os.O_CREAT
    ):
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

sys.addaudithook(step)
next_identity(directory)
take_over(directory)
"""


def killed_before(step: int, keys: Path) -> bool:
    """Rotate in a process that is killed before this step; False if it has fewer."""
    words = [sys.executable, "-c", KILLED_BEFORE_A_STEP, str(keys), str(step)]
    code = subprocess.run(words).returncode
    assert code in (0, -signal.SIGKILL)
    return code != 0


def test_a_rotation_that_is_killed_at_any_step_is_finished_with_the_same_key(
    tmp_path: Path,
) -> None:
    step = 0
    while killed_before(step, fresh(tmp_path / str(step))):
        keys = tmp_path / str(step)
        assert read_identity(keys).public_key == Identity(SEED).public_key
        new = next_identity(keys)
        assert killed_before(step % 3, keys)  # the next try, too
        assert take_over(keys).public_key == new.public_key
        assert read_identity(keys).public_key == new.public_key
        assert read_identity(kept(keys)).public_key == Identity(SEED).public_key
        left = names(keys) - {PRIVATE_FILE, PUBLIC_FILE, kept(keys).name}
        assert all(name.endswith(".new") for name in left)
        step += 1
    assert step > 10


def fresh(keys: Path) -> Path:
    create_identity(keys, Identity(SEED))
    return keys


def test_the_public_file_of_the_next_identity_is_no_damage(keys: Path) -> None:
    new = next_identity(keys)
    (keys / PUBLIC_FILE).write_bytes(new.public_key)
    assert open_identity(keys).public_key == Identity(SEED).public_key
    (keys / PUBLIC_FILE).write_bytes(Identity(bytes(32)).public_key)
    with pytest.raises(KeyFileError, match="is not the public key of"):
        open_identity(keys)


def test_a_rotation_that_ends_while_the_keys_are_read_gives_the_new_ones(keys: Path) -> None:
    """The reader has the old seed when it waits for the public file, here a pipe."""
    new = Identity(bytes(32))
    (keys / PUBLIC_FILE).unlink()
    os.mkfifo(keys / PUBLIC_FILE)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(read_identity(keys).public_key))
    reader.start()
    with (keys / PUBLIC_FILE).open("wb") as public:
        create_identity(keys / "new", new)
        (keys / "new" / PRIVATE_FILE).replace(keys / PRIVATE_FILE)
        public.write(new.public_key)
    reader.join()
    assert found == [new.public_key]


def test_nothing_takes_over_that_was_not_made_before(keys: Path) -> None:
    with pytest.raises(KeyFileError, match=NEXT_FILE):
        take_over(keys)
    assert names(keys) == {PRIVATE_FILE, PUBLIC_FILE}


def test_a_next_key_that_is_damaged_or_open_to_others_is_refused(keys: Path) -> None:
    next_identity(keys)
    (keys / NEXT_FILE).chmod(0o640)
    for call in (next_identity, take_over):
        with pytest.raises(KeyFileError, match=f"chmod 600 .*{NEXT_FILE}"):
            call(keys)
    (keys / NEXT_FILE).write_bytes(b"short")
    (keys / NEXT_FILE).chmod(0o600)
    for call in (next_identity, take_over):
        with pytest.raises(KeyFileError, match=f"{NEXT_FILE} is damaged"):
            call(keys)
    assert read_identity(keys).public_key == Identity(SEED).public_key


def test_a_directory_that_holds_other_old_keys_is_left_alone(keys: Path) -> None:
    other = create_identity(kept(keys))
    new = next_identity(keys)
    with pytest.raises(KeyFileError, match="other keys than its name says"):
        take_over(keys)
    assert read_identity(kept(keys)).public_key == other.public_key
    assert read_identity(keys).public_key == Identity(SEED).public_key
    assert next_identity(keys).public_key == new.public_key


def test_what_is_in_the_way_of_a_step_is_named_and_the_old_keys_stay(keys: Path) -> None:
    (keys / NEXT_FILE).symlink_to(keys / "nowhere" / "at all")
    with pytest.raises(KeyFileError, match=f"cannot keep a new key at .*{NEXT_FILE}: File exists"):
        next_identity(keys)
    (keys / NEXT_FILE).unlink()
    next_identity(keys)
    (keys / PUBLIC_FILE).unlink()
    (keys / PUBLIC_FILE).mkdir()
    with pytest.raises(KeyFileError, match="Is a directory"):
        take_over(keys)
    (keys / PUBLIC_FILE).rmdir()
    assert read_identity(keys).public_key == Identity(SEED).public_key
