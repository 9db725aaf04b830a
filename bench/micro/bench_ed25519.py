"""How close verify is to libsodium called from C, and what a second thread brings verify_many.

A round of the first group is 100 verifications for every library, so that the C loop of
sodium_loop.pyx and the loops in Python are counted in the same unit; a loop in Python costs its
library 0.03 us a verification. Beside the rows, extra_info["ratio"] is the median ratio to the peer
over rounds taken turn by turn: on a machine that others use too, it is steadier than two rows
measured one after the other.
"""

import functools
import importlib
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import pytest
from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from pytest_benchmark.fixture import BenchmarkFixture

from dhtmeta._fast import ed25519

TIMES = 100
BATCH = 2_000
MESSAGE = bytes(i % 251 for i in range(700))
PUBLIC_KEY, SECRET_KEY = crypto_sign_seed_keypair(b"s" * 32)
SIGNED = crypto_sign(MESSAGE, SECRET_KEY)
FORGED = SIGNED[:-1] + b"!"

# Verify the same signature || message so many times; say how many were good.
Verified = Callable[[bytes, int], int]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ratio(work: Callable[[], object], peer: Callable[[], object], rounds: int) -> float:
    """Take turns, peer first and last in a round, so that a drift of the clock cancels."""
    ratios = []
    for _ in range(rounds):
        before, ours, after = seconds(peer), seconds(work), seconds(peer)
        ratios.append(2 * ours / (before + after))
    return round(statistics.median(ratios), 4)


def by_dhtmeta() -> Verified:
    def verified(signed: bytes, times: int) -> int:
        signature, message, found = signed[:64], signed[64:], 0
        for _ in range(times):
            found += ed25519.verify(PUBLIC_KEY, signature, message)
        return found

    return verified


@functools.cache
def by_libsodium() -> Verified:
    """Compile the C loop beside this file and hand it the function that PyNaCl carries."""
    pyximport: Any = importlib.import_module("pyximport")
    sodium: Any = importlib.import_module("nacl._sodium")
    function = sodium.ffi.addressof(sodium.lib, "crypto_sign_open")
    address = int(sodium.ffi.cast("uintptr_t", function))
    with tempfile.TemporaryDirectory() as build:
        hooks = pyximport.install(build_dir=build, language_level=3)
        try:
            loop: Any = importlib.import_module("sodium_loop")
        finally:
            pyximport.uninstall(*hooks)
    return lambda signed, times: int(loop.verified(address, signed, PUBLIC_KEY, times))


def by_pynacl_bindings() -> Verified:
    def verified(signed: bytes, times: int) -> int:
        try:
            for _ in range(times):
                crypto_sign_open(signed, PUBLIC_KEY)
        except BadSignatureError:
            return 0
        return times

    return verified


def by_pynacl_verify_key() -> Verified:
    key = VerifyKey(PUBLIC_KEY)

    def verified(signed: bytes, times: int) -> int:
        signature, message = signed[:64], signed[64:]
        try:
            for _ in range(times):
                key.verify(message, signature)
        except BadSignatureError:
            return 0
        return times

    return verified


def by_cryptography() -> Verified:
    keys: Any = importlib.import_module("cryptography.hazmat.primitives.asymmetric.ed25519")
    invalid: Any = importlib.import_module("cryptography.exceptions").InvalidSignature
    key = keys.Ed25519PublicKey.from_public_bytes(PUBLIC_KEY)

    def verified(signed: bytes, times: int) -> int:
        signature, message = signed[:64], signed[64:]
        try:
            for _ in range(times):
                key.verify(signature, message)
        except invalid:
            return 0
        return times

    return verified


VERIFIERS: dict[str, Callable[[], Verified]] = {
    "dhtmeta": by_dhtmeta,
    "libsodium from C": by_libsodium,
    "PyNaCl bindings": by_pynacl_bindings,
    "PyNaCl VerifyKey": by_pynacl_verify_key,
    "cryptography": by_cryptography,
}
THREADS = {"dhtmeta": 2, "dhtmeta, one thread": 1}


@pytest.mark.parametrize("library", VERIFIERS)
def bench_verify(benchmark: BenchmarkFixture, library: str) -> None:
    try:
        verified = VERIFIERS[library]()
    except ModuleNotFoundError:
        pytest.skip(f"{library} is not installed: not measured")
    assert verified(SIGNED, 3) == 3
    assert verified(FORGED, 3) == 0
    peer = by_libsodium()
    benchmark.group = "verify, 700 bytes"
    benchmark.extra_info = {
        "library": library,
        "peer": "libsodium from C",
        "bar": 1.03,
        "ratio": ratio(lambda: verified(SIGNED, TIMES), lambda: peer(SIGNED, TIMES), 100),
        "verifications": TIMES,
    }
    assert benchmark(verified, SIGNED, TIMES) == TIMES


@pytest.mark.parametrize("library", THREADS)
def bench_verify_many(benchmark: BenchmarkFixture, library: str) -> None:
    good = (PUBLIC_KEY, SIGNED[:64], MESSAGE)
    forged = (PUBLIC_KEY, FORGED[:64], FORGED[64:])
    threads, batch = THREADS[library], [good] * BATCH
    assert ed25519.verify_many([good, forged, good], threads=threads) == [True, False, True]
    benchmark.group = "verify_many, 2,000 of 700 bytes"
    benchmark.extra_info = {
        "library": library,
        "peer": "dhtmeta, one thread",
        "bar": round(1 / 1.85, 3),
        "ratio": ratio(
            lambda: ed25519.verify_many(batch, threads=threads),
            lambda: ed25519.verify_many(batch),
            7,
        ),
        "verifications": BATCH,
    }
    assert all(benchmark(ed25519.verify_many, batch, threads=threads))


def half_of_the_work(pipe: Connection) -> None:
    """Verify half a batch for each word that comes, in a process of its own."""
    half = [(PUBLIC_KEY, SIGNED[:64], MESSAGE)] * (BATCH // 2)
    while pipe.recv():
        pipe.send(all(ed25519.verify_many(half)))


def bench_two_processes(benchmark: BenchmarkFixture) -> None:
    """Measure the control: what the second core brings to processes that share nothing."""
    batch = [(PUBLIC_KEY, SIGNED[:64], MESSAGE)] * BATCH
    ours, theirs = multiprocessing.Pipe()
    other = multiprocessing.get_context("fork").Process(target=half_of_the_work, args=(theirs,))
    other.start()

    def both() -> bool:
        ours.send(True)
        return all(ed25519.verify_many(batch[: BATCH // 2])) and bool(ours.recv())

    assert both()
    benchmark.group = "control: two processes, each half of 2,000"
    benchmark.extra_info = {
        "library": "dhtmeta",
        "peer": "dhtmeta",
        "ratio": ratio(both, lambda: ed25519.verify_many(batch), 7),
        "verifications": BATCH,
    }
    assert benchmark(both)
    ours.send(False)
    other.join()
