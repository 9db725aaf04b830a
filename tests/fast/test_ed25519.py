"""The compiled module and its plain twin agree, with each other and with published vectors."""

import hashlib
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from dhtmeta._fast import ed25519 as compiled
from tests.reference import ed25519 as twin

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"
BEP44 = json.loads((VECTORS / "bep44.json").read_text())
ED25519 = json.loads((VECTORS / "ed25519.json").read_text())
L = 2**252 + 27742317777372353535851937790883648493  # the order of the group, RFC 8032, 5.1
SEQ_MAX = 2**63 - 1

Vector = dict[str, Any]
Check = tuple[bytes, bytes, bytes]


class Ed25519(Protocol):
    """What both modules offer."""

    signable: Callable[..., bytes]
    target: Callable[..., bytes]
    verify: Callable[..., bool]
    verify_many: Callable[..., list[bool]]


@pytest.fixture(params=[compiled, twin], ids=["compiled", "twin"])
def ed25519(request: pytest.FixtureRequest) -> Ed25519:
    return cast("Ed25519", request.param)


def signed(message: bytes, seed: bytes = b"s" * 32) -> Check:
    public_key, secret_key = crypto_sign_seed_keypair(seed)
    return public_key, crypto_sign(message, secret_key)[:64], message


def check_of(vector: Vector) -> Check:
    return (
        bytes.fromhex(vector["public_key"]),
        bytes.fromhex(vector["signature"]),
        bytes.fromhex(vector["message"]),
    )


def name_of(vector: Vector) -> str:
    return str(vector["name"])


def flipped(value: bytes, bit: int) -> bytes:
    return (int.from_bytes(value, "little") ^ 1 << bit).to_bytes(len(value), "little")


GOOD = signed(compiled.signable(7, b"5:hello", b"salt"))
BAD: Check = (GOOD[0], GOOD[1], GOOD[2] + b"!")
MALFORMED: list[Check] = [
    (GOOD[0][:31], GOOD[1], b""),
    (GOOD[0] + b"\0", GOOD[1], b""),
    (b"", GOOD[1], b""),
    (GOOD[0], GOOD[1][:63], b""),
    (GOOD[0], GOOD[1] + b"\0", b""),
    (GOOD[0], b"", b""),
]


# Published vectors


@pytest.mark.parametrize("vector", BEP44["mutable"], ids=name_of)
def test_bep44_vector_is_built_located_and_verified(ed25519: Ed25519, vector: Vector) -> None:
    public_key, salt = bytes.fromhex(vector["public_key"]), vector["salt"].encode()
    message = ed25519.signable(vector["seq"], vector["value"].encode(), salt)
    assert message == vector["signed"].encode()
    assert ed25519.target(public_key, salt).hex() == vector["target"]
    assert ed25519.verify(public_key, bytes.fromhex(vector["signature"]), message)


def test_bep44_signature_holds_for_its_own_salt_only(ed25519: Ed25519) -> None:
    plain, salted = BEP44["mutable"]
    public_key = bytes.fromhex(plain["public_key"])
    assert not ed25519.verify(
        public_key, bytes.fromhex(plain["signature"]), salted["signed"].encode()
    )
    assert not ed25519.verify(
        public_key, bytes.fromhex(salted["signature"]), plain["signed"].encode()
    )


@pytest.mark.parametrize("vector", ED25519["rfc8032"]["vectors"], ids=name_of)
def test_rfc8032_vector_is_accepted(ed25519: Ed25519, vector: Vector) -> None:
    public_key, signature, message = check_of(vector)
    assert ed25519.verify(public_key, signature, message)
    assert not ed25519.verify(public_key, signature, message + b"\0")


@pytest.mark.parametrize("vector", ED25519["edges"]["vectors"], ids=name_of)
def test_edge_is_decided_as_libsodium_decides_it(ed25519: Ed25519, vector: Vector) -> None:
    assert ed25519.verify(*check_of(vector)) is vector["libsodium"]
    assert ed25519.verify_many([check_of(vector)]) == [vector["libsodium"]]


def test_edges_include_every_pair_of_equation_and_decision() -> None:
    found = {(edge["equation"], edge["libsodium"]) for edge in ED25519["edges"]["vectors"]}
    assert found == {("exact", True), ("exact", False), ("times 8", False), ("none", False)}


# verify


def test_every_flipped_bit_is_refused(ed25519: Ed25519) -> None:
    assert ed25519.verify(*GOOD)
    for part in range(3):
        for bit in range(8 * len(GOOD[part])):
            check = [*GOOD]
            check[part] = flipped(GOOD[part], bit)
            assert ed25519.verify(*check) is False, (part, bit)


@pytest.mark.parametrize("times", range(1, 16))
def test_s_plus_multiples_of_l_is_refused(ed25519: Ed25519, times: int) -> None:
    public_key, signature, message = GOOD
    s = int.from_bytes(signature[32:], "little") + times * L
    if s < 2**256:
        assert not ed25519.verify(public_key, signature[:32] + s.to_bytes(32, "little"), message)


@pytest.mark.parametrize("size", [0, 1, 1102, 1199, 1200, 1201, 1264, 1265, 100_000])
def test_messages_of_any_size_are_read_to_their_ends(ed25519: Ed25519, size: int) -> None:
    public_key, signature, message = signed(b"m" * size)
    assert ed25519.verify(public_key, signature, message) is True
    assert ed25519.verify(public_key, signature, message + b"m") is False
    if size:
        assert ed25519.verify(public_key, signature, message[:-1]) is False
        assert ed25519.verify(public_key, signature, message[:-1] + b"n") is False
        assert ed25519.verify(public_key, signature, b"n" + message[1:]) is False


@pytest.mark.parametrize("check", MALFORMED)
def test_wrong_sizes_are_errors_not_false(ed25519: Ed25519, check: Check) -> None:
    with pytest.raises(ValueError, match=r"(public_key must be 32|signature must be 64) bytes"):
        ed25519.verify(*check)


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("kind", [bytearray, memoryview, bytes.hex, lambda _: None])
def test_only_bytes_are_verified(
    ed25519: Ed25519, part: int, kind: Callable[[bytes], object]
) -> None:
    check: list[object] = [*GOOD]
    check[part] = kind(GOOD[part])
    with pytest.raises(TypeError):
        ed25519.verify(*check)
    with pytest.raises(TypeError):
        ed25519.verify_many([tuple(check)])


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=1300), st.integers(min_value=0))
def test_both_verify_alike(seed: bytes, message: bytes, bit: int) -> None:
    public_key, signature, _ = signed(message, seed)
    broken = flipped(signature, bit % 512)
    assert compiled.verify(public_key, signature, message)
    assert twin.verify(public_key, signature, message)
    assert compiled.verify(public_key, broken, message) is False
    assert twin.verify(public_key, broken, message) is False


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64), st.binary())
def test_both_judge_noise_alike(public_key: bytes, signature: bytes, message: bytes) -> None:
    assert compiled.verify(public_key, signature, message) is twin.verify(
        public_key, signature, message
    )


# verify_many


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_batch_answers_in_order(ed25519: Ed25519, count: int, threads: int) -> None:
    checks = [signed(b"%d" % i) if i % 3 else BAD for i in range(count)]
    expected = [bool(i % 3) for i in range(count)]
    assert ed25519.verify_many(checks, threads=threads) == expected
    assert ed25519.verify_many(tuple(checks), threads=threads) == expected


@given(st.lists(st.sampled_from([GOOD, BAD, signed(b"m" * 2000)]), max_size=12), st.integers(1, 4))
def test_batches_of_both_are_alike(checks: list[Check], threads: int) -> None:
    assert compiled.verify_many(checks, threads=threads) == twin.verify_many(checks)


@pytest.mark.parametrize("check", MALFORMED)
def test_one_wrong_size_fails_the_batch(ed25519: Ed25519, check: Check) -> None:
    with pytest.raises(ValueError, match="bytes, not"):
        ed25519.verify_many([GOOD, check], threads=2)


@pytest.mark.parametrize("check", [GOOD[:2], (*GOOD, b"")])
def test_a_check_is_three_things(ed25519: Ed25519, check: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match="unpack"):
        ed25519.verify_many([check])


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_start_at_one(ed25519: Ed25519, threads: int) -> None:
    with pytest.raises(ValueError, match="threads must be at least 1"):
        ed25519.verify_many([GOOD], threads=threads)


@pytest.fixture
def started() -> Iterator[set[threading.Thread]]:
    """Collect the threads that are started while the test runs."""
    seen: set[threading.Thread] = set()

    def note(_frame: FrameType, _event: str, _arg: object) -> None:
        seen.add(threading.current_thread())

    before = threading.gettrace()
    threading.settrace(note)
    yield seen
    threading.settrace(cast("Any", before))


@pytest.mark.parametrize(
    ("count", "threads", "helpers"), [(9, 1, 0), (9, 2, 1), (9, 4, 3), (2, 8, 1), (1, 8, 0)]
)
def test_threads_are_as_many_as_asked_and_end(
    started: set[threading.Thread], count: int, threads: int, helpers: int
) -> None:
    assert compiled.verify_many([GOOD] * count, threads=threads) == [True] * count
    assert len(started) == helpers
    assert not any(thread.is_alive() for thread in started)


def test_no_thread_starts_where_an_input_is_wrong(started: set[threading.Thread]) -> None:
    with pytest.raises(ValueError, match="signature must be 64 bytes"):
        compiled.verify_many([GOOD, MALFORMED[3], GOOD], threads=2)
    assert not started


@pytest.fixture
def ticks() -> Iterator[list[int]]:
    """Count in another thread that nothing forces ahead: it moves when the GIL is let go."""
    count, stop, interval = [0], threading.Event(), sys.getswitchinterval()

    def tick() -> None:
        while not stop.is_set():
            count[0] += 1
            time.sleep(0)

    sys.setswitchinterval(1000)
    ticker = threading.Thread(target=tick)
    ticker.start()
    yield count
    stop.set()
    ticker.join()
    sys.setswitchinterval(interval)


LONG = signed(b"m" * 1_000_000)


@pytest.mark.parametrize(
    "work",
    [
        lambda ed25519: ed25519.verify(*LONG),
        lambda ed25519: ed25519.verify_many([GOOD] * 100),
    ],
    ids=["verify", "verify_many"],
)
def test_another_thread_runs_meanwhile(
    ed25519: Ed25519, ticks: list[int], work: Callable[[Ed25519], object]
) -> None:
    before = ticks[0]
    for _ in range(300):
        work(ed25519)
        if ticks[0] > before:
            return
    pytest.fail("the GIL was never released")


# signable and target


SEQS = st.integers(0, SEQ_MAX) | st.sampled_from([0, 1, 10, SEQ_MAX])
PIECES = [b"4:salt", b"3:seq", b"i1e", b"1:v", b"1:", b"6:", b"foobar", b"12:Hello World!", b"\0"]
CONFUSING = st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join) | st.binary()
SALTS = CONFUSING.map(lambda salt: salt[:64])


def parsed(message: bytes) -> tuple[int, bytes, bytes]:
    """Read a signable message back, which shows that only one (seq, v, salt) makes it."""
    salt = b""
    if head := re.match(rb"4:salt(\d+):", message):
        end = head.end() + int(head[1])
        salt, message = message[head.end() : end], message[end:]
        assert salt
    body = re.fullmatch(rb"3:seqi(0|[1-9]\d*)e1:v(.*)", message, re.DOTALL)
    assert body
    return int(body[1]), body[2], salt


@given(SEQS, CONFUSING, SALTS)
def test_signable_is_never_ambiguous(seq: int, v: bytes, salt: bytes) -> None:
    message = compiled.signable(seq, v, salt)
    assert message == twin.signable(seq, v, salt)
    assert parsed(message) == (seq, v, salt)


def test_empty_salt_is_no_salt(ed25519: Ed25519) -> None:
    assert ed25519.signable(3, b"i1e", b"") == ed25519.signable(3, b"i1e") == b"3:seqi3e1:vi1e"
    assert ed25519.target(GOOD[0], b"") == ed25519.target(GOOD[0])


def test_longest_head_fits(ed25519: Ed25519) -> None:
    expected = b"4:salt64:" + b"s" * 64 + b"3:seqi9223372036854775807e1:v" + b"v" * 1000
    assert ed25519.signable(SEQ_MAX, b"v" * 1000, b"s" * 64) == expected
    assert len(expected) == 1102


def test_value_is_any_bytes(ed25519: Ed25519) -> None:
    assert ed25519.signable(0, b"") == b"3:seqi0e1:v"
    assert ed25519.signable(0, b"\0e\xff" * 9999, b"\0") == (
        b"4:salt1:\0003:seqi0e1:v" + b"\0e\xff" * 9999
    )


@pytest.mark.parametrize("seq", [-1, SEQ_MAX + 1, -(2**63), -(2**63) - 1, 2**64, 2**64 + 1])
def test_seq_outside_63_bits_is_an_error(ed25519: Ed25519, seq: int) -> None:
    with pytest.raises(ValueError, match="seq must be 0"):
        ed25519.signable(seq, b"i1e")


@pytest.mark.parametrize("seq", [1.0, "1", b"1", None])
def test_seq_is_an_integer(ed25519: Ed25519, seq: object) -> None:
    with pytest.raises(TypeError):
        ed25519.signable(seq, b"i1e")


def test_salt_over_64_bytes_is_an_error(ed25519: Ed25519) -> None:
    with pytest.raises(ValueError, match="salt must be at most 64 bytes, not 65"):
        ed25519.signable(1, b"i1e", b"s" * 65)


@pytest.mark.parametrize("value", [bytearray(b"x"), "x", None])
def test_only_bytes_are_built_from(ed25519: Ed25519, value: object) -> None:
    with pytest.raises(TypeError):
        ed25519.signable(1, value)
    with pytest.raises(TypeError):
        ed25519.signable(1, b"i1e", value)
    with pytest.raises(TypeError):
        ed25519.target(GOOD[0], value)
    with pytest.raises(TypeError):
        ed25519.target(value)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=100))
def test_target_is_the_hash_of_key_and_salt(public_key: bytes, salt: bytes) -> None:
    expected = hashlib.sha1(public_key + salt).digest()
    assert compiled.target(public_key, salt) == twin.target(public_key, salt) == expected


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_target_needs_a_whole_key(ed25519: Ed25519, size: int) -> None:
    with pytest.raises(ValueError, match="public_key must be 32 bytes"):
        ed25519.target(b"k" * size)


# The way to libsodium


@pytest.mark.parametrize(
    "stand_in",
    [
        "None",
        "types.SimpleNamespace(ffi=None, lib=None)",
        "types.SimpleNamespace(ffi=real.ffi, lib=types.SimpleNamespace())",
        "types.SimpleNamespace(ffi=types.SimpleNamespace("
        "addressof=lambda lib, name: real.ffi.addressof(lib, 'sodium_init'),"
        " typeof=real.ffi.typeof, cast=real.ffi.cast), lib=real.lib)",
    ],
    ids=["absent", "no cffi module", "no crypto_sign_open", "another signature"],
)
def test_import_says_which_pynacl_is_needed(stand_in: str) -> None:
    code = (
        "import sys, types, nacl._sodium as real\n"
        f"sys.modules['nacl._sodium'] = {stand_in}\n"
        "try:\n    import dhtmeta._fast.ed25519\n"
        "except ImportError as error:\n    print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "needs PyNaCl 1.6" in run.stdout
