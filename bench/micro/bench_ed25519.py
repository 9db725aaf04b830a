"""How close verify is to libsodium called from C, and what a second thread brings verify_many."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from itertools import repeat
from multiprocessing.connection import Connection
from typing import Any

import pytest
from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from bench.micro.beside import OURS
from bench.micro.peers import VERIFIERS, installed
from bench.micro.turns import Claim, Turn, turn_about, turn_of
from bench.report import Bar
from bench.scenario import Options
from dhtmeta._fast import ed25519

BATCH = 1_000
MESSAGE = bytes(i % 251 for i in range(700))
PUBLIC_KEY, SECRET_KEY = crypto_sign_seed_keypair(b"s" * 32)
SIGNED = crypto_sign(MESSAGE, SECRET_KEY)
FORGED = SIGNED[:-1] + b"!"
GOOD = (PUBLIC_KEY, SIGNED[:64], MESSAGE)
CHECKS = [GOOD] * BATCH

FLOOR, VERIFY_BAR = "libsodium from C", Bar("<=", 1.03)
MANY_BAR = Bar(">=", 1.85)
MANY_SIZE = f"{BATCH:,} of 700 bytes"
MANY_MARGIN = 0.5  # a second thread brings what the machine leaves of the second core

# Verify the same signature || message so many times; say how many were good.
Verified = Callable[[bytes, int], int]


def by_dhtmeta(signed: bytes, times: int) -> int:
    signature, message = signed[:64], signed[64:]
    return sum(ed25519.verify(PUBLIC_KEY, signature, message) for _ in repeat(None, times))


def by_libsodium(signed: bytes, times: int) -> int:
    verified: Callable[[bytes, bytes, int], int] = import_module("bench.micro.sodium").verified
    return verified(signed, PUBLIC_KEY, times)


def by_pynacl_bindings(signed: bytes, times: int) -> int:
    try:
        for _ in repeat(None, times):
            crypto_sign_open(signed, PUBLIC_KEY)
    except BadSignatureError:
        return 0
    return times


def by_pynacl_verify_key(signed: bytes, times: int) -> int:
    key, signature, message = VerifyKey(PUBLIC_KEY), signed[:64], signed[64:]
    try:
        for _ in repeat(None, times):
            key.verify(message, signature)
    except BadSignatureError:
        return 0
    return times


def by_cryptography(signed: bytes, times: int) -> int:
    keys = import_module("cryptography.hazmat.primitives.asymmetric.ed25519")
    invalid = import_module("cryptography.exceptions").InvalidSignature
    key = keys.Ed25519PublicKey.from_public_bytes(PUBLIC_KEY)
    signature, message = signed[:64], signed[64:]
    try:
        for _ in repeat(None, times):
            key.verify(signature, message)
    except invalid:
        return 0
    return times


BY: dict[str, Verified] = {
    OURS: by_dhtmeta,
    "libsodium from C": by_libsodium,
    "PyNaCl bindings": by_pynacl_bindings,
    "PyNaCl VerifyKey": by_pynacl_verify_key,
    "cryptography": by_cryptography,
}


@pytest.mark.parametrize("peer", installed(VERIFIERS))
def bench_verify(benchmark: Any, options: Options, peer: str) -> None:
    for verified in (BY[OURS], BY[peer]):
        assert (verified(SIGNED, 3), verified(FORGED, 3)) == (3, 0)
    claim = Claim("verify, 700 bytes", peer, VERIFY_BAR if peer == FLOOR else None)
    turns = turn_of(partial(BY[OURS], SIGNED)), turn_of(partial(BY[peer], SIGNED))
    turn_about(benchmark, claim, *turns, 200 if options.quick else 1000)


def two_threads() -> Turn:
    forged = (PUBLIC_KEY, FORGED[:64], FORGED[64:])
    assert ed25519.verify_many([GOOD, forged, GOOD], threads=2) == [True, False, True]
    return Turn(partial(ed25519.verify_many, CHECKS, threads=2), BATCH)


def rounds(options: Options) -> int:
    return 5 if options.quick else 15


def bench_verify_many(benchmark: Any, options: Options) -> None:
    claim = Claim("verify_many, two threads", "one thread", MANY_BAR, MANY_MARGIN, MANY_SIZE)
    one_thread = Turn(partial(ed25519.verify_many, CHECKS), BATCH)
    turn_about(benchmark, claim, two_threads(), one_thread, rounds(options))


@pytest.mark.parametrize("peer", installed(VERIFIERS))
def bench_verify_many_beside(benchmark: Any, options: Options, peer: str) -> None:
    """Give the peer two threads as well."""
    claim = Claim(
        "verify_many, two threads", f"{peer}, two threads", margin=MANY_MARGIN, size=MANY_SIZE
    )
    with ThreadPoolExecutor(2) as pool:

        def both() -> None:
            assert list(pool.map(partial(BY[peer], SIGNED), [BATCH // 2] * 2)) == [BATCH // 2] * 2

        turn_about(benchmark, claim, two_threads(), Turn(both, BATCH), rounds(options))


def half_of_the_work(pipe: Connection) -> None:
    """Verify half a batch for each word that comes, in a process of its own."""
    while pipe.recv():
        pipe.send(all(ed25519.verify_many(CHECKS[: BATCH // 2])))


@contextmanager
def other_process() -> Iterator[Connection]:
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    process = context.Process(target=half_of_the_work, args=(theirs,))
    process.start()
    yield ours
    ours.send(False)
    process.join()


def bench_verify_many_beside_processes(benchmark: Any, options: Options) -> None:
    """Measure the control: what the second core brings to two that share nothing."""
    claim = Claim("verify_many, two threads", "two processes", margin=MANY_MARGIN, size=MANY_SIZE)
    with other_process() as other:

        def both() -> None:
            other.send(True)
            assert all(ed25519.verify_many(CHECKS[: BATCH // 2]))
            assert other.recv()

        turn_about(benchmark, claim, two_threads(), Turn(both, BATCH), rounds(options))
