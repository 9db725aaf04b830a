# cython: language_level=3, boundscheck=False, wraparound=False
"""Which bytes an item signs, where it lives, and whether its signature counts are decided here.

libsodium's strictness decides which items are valid: verifiers disagree about S + L, small-order
keys and non-canonical points, so another backend would be another rule. Keys and signing live in
values.keys.
"""

from libc.stdint cimport uintptr_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from hashlib import sha1
from threading import Thread


cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object number, int *overflow) except? -1


cdef extern from *:
    """
    static Py_ssize_t dhtmeta_take(Py_ssize_t *next)
    {
        return __atomic_fetch_add(next, 1, __ATOMIC_RELAXED);
    }
    """
    Py_ssize_t take "dhtmeta_take"(Py_ssize_t *next) noexcept nogil


cdef SignOpen _find_sign_open() except NULL:
    """Find the C function inside PyNaCl, whose wheel hides libsodium's own symbols."""
    try:
        from nacl._sodium import ffi, lib

        function = ffi.addressof(lib, "crypto_sign_open")
        declared = (
            "int(*)(unsigned char *, unsigned long long *,"
            " unsigned char *, unsigned long long, unsigned char *)"
        )
        if ffi.typeof(function) is not ffi.typeof(declared) or lib.sodium_init() < 0:
            raise ValueError("crypto_sign_open is not what it was, or libsodium does not start")
        return <SignOpen><uintptr_t>int(ffi.cast("uintptr_t", function))
    except Exception as error:
        raise ImportError(
            "dhtmeta verifies with the libsodium inside PyNaCl and needs PyNaCl 1.6, whose"
            " nacl._sodium has crypto_sign_open: pip install 'pynacl>=1.6,<1.7'"
        ) from error


cdef SignOpen sign_open = _find_sign_open()


def signable(object seq, bytes v not None, bytes salt not None=b""):
    cdef int overflow = 0
    cdef long long number = PyLong_AsLongLongAndOverflow(seq, &overflow)  # -1 on overflow
    cdef char head[HEAD_SIZE_MAX]
    cdef int size = 0
    if number < 0:
        raise ValueError(f"seq must be 0 ... 2^63-1, not {seq}")
    if len(salt) > SALT_SIZE_MAX:
        raise ValueError(f"salt must be at most {SALT_SIZE_MAX} bytes, not {len(salt)}")
    if salt:
        size = snprintf(head, HEAD_SIZE_MAX, b"4:salt%d:", <int>len(salt))
        memcpy(head + size, <const char *>salt, len(salt))
        size += <int>len(salt)
    size += snprintf(head + size, HEAD_SIZE_MAX - size, b"3:seqi%llde1:v", number)
    return head[:size] + v


def target(bytes public_key not None, bytes salt not None=b""):
    _require_size("public_key", public_key, PUBLIC_KEY_SIZE)
    return sha1(public_key + salt, usedforsecurity=False).digest()


def verify(bytes public_key not None, bytes signature not None, bytes message not None):
    cdef Check check = _check(public_key, signature, message)
    with nogil:
        check.verdict = _verdict(&check)
    return _answer(check.verdict)


def verify_many(object checks, *, Py_ssize_t threads=1):
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    cdef _Batch batch = _Batch(checks)
    helpers = []
    try:
        for _ in range(min(threads, batch.size) - 1):
            helper = Thread(target=batch.work)
            helper.start()
            helpers.append(helper)
        batch.work()
    finally:
        for helper in helpers:
            helper.join()
    return batch.answers()


cdef class _Batch:
    """Checks that several threads work off, each taking the next one that nobody has."""

    cdef list held  # keeps alive what the checks borrow, whatever others do to their sequence
    cdef Check *checks
    cdef Py_ssize_t size
    cdef Py_ssize_t next

    def __cinit__(self, object checks):
        cdef Py_ssize_t i
        self.held = [tuple(check) for check in checks]
        self.size = len(self.held)
        self.checks = <Check *>calloc(self.size + 1, sizeof(Check))
        if self.checks == NULL:
            raise MemoryError
        for i in range(self.size):
            public_key, signature, message = self.held[i]
            self.checks[i] = _check(public_key, signature, message)

    def __dealloc__(self):
        free(self.checks)

    def work(self):
        with nogil:
            self._work()

    cdef void _work(self) noexcept nogil:
        cdef Py_ssize_t i = take(&self.next)
        while i < self.size:
            self.checks[i].verdict = _verdict(&self.checks[i])
            i = take(&self.next)

    cdef list answers(self):
        return [_answer(self.checks[i].verdict) for i in range(self.size)]


cdef Check _check(bytes public_key, bytes signature, bytes message) except *:
    """Borrow the bytes, which must outlive the check."""
    _require_size("public_key", public_key, PUBLIC_KEY_SIZE)
    _require_size("signature", signature, SIGNATURE_SIZE)
    return Check(
        public_key=public_key,
        signature=signature,
        message=message,
        message_size=len(message),
        verdict=REFUSED,
    )


cdef int _require_size(str name, bytes value, Py_ssize_t size) except -1:
    if len(value) != size:
        raise ValueError(f"{name} must be {size} bytes, not {len(value)}")
    return 0


cdef Verdict _verdict(const Check *check) noexcept nogil:
    """Lay out signature || message, on the stack where it fits, and ask libsodium."""
    cdef unsigned char stack[SIGNATURE_SIZE + STACK_MESSAGE_SIZE]
    cdef unsigned char *signed_message
    cdef Verdict verdict
    if check.message_size <= STACK_MESSAGE_SIZE:
        return _open(check, stack)
    signed_message = <unsigned char *>malloc(SIGNATURE_SIZE + check.message_size)
    if signed_message == NULL:
        return OUT_OF_MEMORY
    verdict = _open(check, signed_message)
    free(signed_message)
    return verdict


cdef Verdict _open(const Check *check, unsigned char *signed_message) noexcept nogil:
    cdef unsigned long long size = SIGNATURE_SIZE + check.message_size
    memcpy(signed_message, check.signature, SIGNATURE_SIZE)
    memcpy(signed_message + SIGNATURE_SIZE, check.message, check.message_size)
    return VALID if sign_open(NULL, NULL, signed_message, size, check.public_key) == 0 else REFUSED


cdef bint _answer(Verdict verdict) except -1:
    if verdict == OUT_OF_MEMORY:
        raise MemoryError
    return verdict == VALID
