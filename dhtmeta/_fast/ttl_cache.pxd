# The C layout of the TTL cache; what the fields are for is told in ttl_cache.pyx.
from cpython.ref cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef struct Key:  # 20 bytes as they come, in words
    uint64_t a
    uint64_t b
    uint32_t c


cdef struct Entry:
    uint64_t a
    uint64_t b
    uint32_t c
    uint32_t place  # in the heap; of a free slot: the next free one
    double fresh_until
    PyObject *value  # NULL in a free slot


cdef struct Due:
    double deadline
    uint32_t slot


cdef class TtlCache:
    cdef Entry *entries
    cdef uint64_t *cells
    cdef Due *heap
    cdef uint8_t *used
    cdef uint64_t seed_low
    cdef uint64_t seed_high
    cdef uint32_t cell_count
    cdef uint32_t count
    cdef uint32_t slots_begun
    cdef uint32_t free_slot
    cdef uint32_t hand
    cdef bint holds_containers
    cdef object gc_anchor
    cdef readonly uint32_t capacity
    cdef readonly uint64_t hits
    cdef readonly uint64_t misses
    cdef readonly uint64_t stale
    cdef readonly uint64_t evicted
    cdef readonly uint64_t expired

    cdef uint64_t hash_of(self, Key *key) noexcept
    cdef uint32_t home_of(self, uint64_t cell) noexcept
    cdef uint32_t after(self, uint32_t index) noexcept
    cdef uint32_t distance(self, uint32_t start, uint32_t end) noexcept
    cdef uint32_t slot_of(self, Key *key, uint64_t key_bits) noexcept
    cdef void link(self, Key *key, uint64_t key_bits, uint32_t slot) noexcept
    cdef void unlink(self, uint32_t slot) noexcept

    cdef double deadline(self, uint32_t slot) noexcept
    cdef void set_due(self, uint32_t place, Due due) noexcept
    cdef void sift_up(self, uint32_t place, Due due) noexcept
    cdef void sift_down(self, uint32_t place, Due due) noexcept
    cdef void add_due(self, Due due) noexcept
    cdef void remove_due(self, uint32_t place) noexcept

    cdef uint32_t take_slot(self) noexcept
    cdef uint32_t turn_hand(self) noexcept
    cdef void hold(self, uint32_t slot, object value, double fresh_until, double stale_for) noexcept
    cdef PyObject *detach(self, uint32_t slot) noexcept
    cdef Py_ssize_t expire(self, double now, Py_ssize_t limit) noexcept
    cdef void release_all(self) noexcept
