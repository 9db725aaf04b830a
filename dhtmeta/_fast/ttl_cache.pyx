# cython: language_level=3, boundscheck=False, wraparound=False
"""Whatever decides how long a cached value lives, and which one makes room for another, is here.

Four arrays, allocated zeroed when the cache is made. The system gives their pages out when they
are first written, so that a large cache costs nothing until it is filled; and since nothing ever
grows there is no rehash and no pause.

- `entries`: slot -> key, value, the end of its freshness and its place in the heap.
- `cells`: an open-addressed index; a cell is 32 bits of the key's hash and slot + 1, or 0. The home
  of a cell follows from its hash bits, so that probing and deleting read no other key's entry.
- `heap`: every entry as (deadline, slot), the earliest first.
- `used`: a byte per slot, set when its value is handed out: the second chance of CLOCK.

Values are owned references in C memory, so the type's hooks for the cyclic garbage collector are
extended at the end of this file. Dropping a value can run any code, also code that calls this
cache. So a value is first detached, which leaves the cache whole, and then released; nothing read
from the cache before a release is used after it.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from libc.math cimport isfinite
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memcpy, memset

from types import GenericAlias

cdef extern from "Python.h":
    ctypedef int (*visitproc)(PyObject *, void *) noexcept
    ctypedef int (*traverseproc)(PyObject *, visitproc, void *) noexcept
    ctypedef int (*inquiry)(PyObject *) noexcept
    ctypedef struct PyTypeObject:
        traverseproc tp_traverse
        inquiry tp_clear
    bint PyObject_IS_GC(PyObject *)

cdef enum:
    KEY_SIZE = 20            # bytes, a SHA-1
    ARITY = 4                # children of a heap node: 4 of 16 bytes each are one cache line
    EXPIRE_PER_PUT = 2       # expired entries a put removes: more than it adds, and soon done
    NO_SLOT = 0xFFFFFFFFU

cdef object CAPACITY_MAX = 2**31 - 2  # 1.5 cells an entry are counted in 32 bits
cdef double LIFETIME_MAX = 3.2e9      # seconds, 100 years: what is longer is a mistake


cdef inline int read_key(bytes key, Key *words) except -1:
    if PyBytes_GET_SIZE(key) != KEY_SIZE:
        raise ValueError(f"a key has {KEY_SIZE} bytes, not {len(key)}")
    memcpy(words, PyBytes_AS_STRING(key), KEY_SIZE)
    return 0


cdef inline int check_times(double now, double fresh_for, double stale_for) except -1:
    if not isfinite(now):
        raise ValueError("now must be finite")
    if not 0.0 < fresh_for <= LIFETIME_MAX:
        raise ValueError(f"fresh_for must be above 0 and at most {LIFETIME_MAX:.0f} s")
    if not 0.0 <= stale_for <= LIFETIME_MAX:
        raise ValueError(f"stale_for must be 0 to {LIFETIME_MAX:.0f} s")
    return 0


cdef inline uint64_t rotated(uint64_t word, int bits) noexcept:
    return (word << bits) | (word >> (64 - bits))


cdef inline void sip_round(uint64_t *v) noexcept:
    v[0] += v[1]
    v[2] += v[3]
    v[1] = rotated(v[1], 13) ^ v[0]
    v[3] = rotated(v[3], 16) ^ v[2]
    v[0] = rotated(v[0], 32) + v[3]
    v[2] += v[1]
    v[3] = rotated(v[3], 21) ^ v[0]
    v[1] = rotated(v[1], 17) ^ v[2]
    v[2] = rotated(v[2], 32)


cdef inline void sip_block(uint64_t *v, uint64_t block) noexcept:
    v[3] ^= block
    sip_round(v)
    v[0] ^= block


cdef inline bint is_earlier(Due one, Due other) noexcept:
    if one.deadline != other.deadline:
        return one.deadline < other.deadline
    return one.slot < other.slot


@cython.final
cdef class TtlCache:
    """A bounded map from 20-byte keys to values that go stale and expire; see ttl_cache.pyi."""

    __class_getitem__ = classmethod(GenericAlias)

    def __cinit__(self, capacity, *, seed):
        if not isinstance(capacity, int) or not isinstance(seed, int):
            raise TypeError("capacity and seed must be int")
        if not 1 <= capacity <= CAPACITY_MAX:
            raise ValueError(f"capacity must be 1 to {CAPACITY_MAX}")
        if not 0 <= seed < 2**128:
            raise ValueError("seed must be 0 to 2**128 - 1")
        self.capacity = capacity
        self.cell_count = self.capacity + self.capacity // 2 + 1
        self.seed_low = seed & 0xFFFFFFFFFFFFFFFF
        self.seed_high = seed >> 64
        self.free_slot = NO_SLOT
        self.entries = <Entry *>calloc(self.capacity, sizeof(Entry))
        self.cells = <uint64_t *>calloc(self.cell_count, sizeof(uint64_t))
        self.heap = <Due *>calloc(self.capacity, sizeof(Due))
        self.used = <uint8_t *>calloc(self.capacity, 1)
        if not self.entries or not self.cells or not self.heap or not self.used:
            raise MemoryError

    def __dealloc__(self):
        self.release_all()
        free(self.entries)
        free(self.cells)
        free(self.heap)
        free(self.used)

    def __len__(self):
        return self.count

    def get(self, bytes key not None, double now):
        cdef Key words
        read_key(key, &words)
        cdef uint32_t slot = self.slot_of(&words, self.hash_of(&words))
        if slot != NO_SLOT and now < self.entries[slot].fresh_until:
            self.hits += 1
            self.used[slot] = 1
            return <object>self.entries[slot].value
        if slot != NO_SLOT and now < self.deadline(slot):
            self.stale += 1
        else:
            self.misses += 1
        return None

    def get_stale(self, bytes key not None, double now):
        cdef Key words
        read_key(key, &words)
        cdef uint32_t slot = self.slot_of(&words, self.hash_of(&words))
        if slot == NO_SLOT or not now < self.deadline(slot):
            return None
        self.used[slot] = 1
        return <object>self.entries[slot].value

    def put(self, bytes key not None, value, double now, double fresh_for, double stale_for=0.0):
        cdef Key words
        cdef PyObject *dropped = NULL
        read_key(key, &words)
        check_times(now, fresh_for, stale_for)
        if value is None:
            raise ValueError("value must not be None, which means absent")
        self.expire(now, EXPIRE_PER_PUT)
        cdef uint64_t key_bits = self.hash_of(&words)
        cdef uint32_t slot = self.slot_of(&words, key_bits)
        if slot != NO_SLOT:
            dropped = self.entries[slot].value
            self.remove_due(self.entries[slot].place)
            self.used[slot] = 1
        else:
            if self.count == self.capacity:
                dropped = self.detach(self.turn_hand())
                self.evicted += 1
            slot = self.take_slot()
            self.link(&words, key_bits, slot)
        self.hold(slot, value, now + fresh_for, stale_for)
        Py_XDECREF(dropped)

    def pop(self, bytes key not None):
        cdef Key words
        read_key(key, &words)
        cdef uint32_t slot = self.slot_of(&words, self.hash_of(&words))
        if slot == NO_SLOT:
            return None
        value = <object>self.entries[slot].value
        Py_XDECREF(self.detach(slot))
        return value

    def clear(self):
        self.release_all()

    def items(self, double now):
        cdef list found = []
        cdef uint32_t slot = 0
        while slot < self.slots_begun:  # a new tuple can start the collector: read all afresh
            if self.entries[slot].value and now < self.deadline(slot):
                key = PyBytes_FromStringAndSize(<char *>&self.entries[slot], KEY_SIZE)
                found.append((key, <object>self.entries[slot].value))
            slot += 1
        return found

    def sweep(self, double now, Py_ssize_t limit):
        if limit < 0:
            raise ValueError("limit must not be negative")
        return self.expire(now, limit)

    # The index.

    cdef inline uint64_t hash_of(self, Key *key) noexcept:
        """SipHash-1-3, in the upper 32 bits: nobody without the seed can aim at a cell."""
        cdef uint64_t[4] v
        v[0] = self.seed_low ^ 0x736F6D6570736575ULL
        v[1] = self.seed_high ^ 0x646F72616E646F6DULL
        v[2] = self.seed_low ^ 0x6C7967656E657261ULL
        v[3] = self.seed_high ^ 0x7465646279746573ULL
        sip_block(v, key.a)
        sip_block(v, key.b)
        sip_block(v, (<uint64_t>KEY_SIZE << 56) | key.c)
        v[2] ^= 0xFF
        sip_round(v)
        sip_round(v)
        sip_round(v)
        return (v[0] ^ v[1] ^ v[2] ^ v[3]) & 0xFFFFFFFF00000000ULL

    cdef inline uint32_t home_of(self, uint64_t cell) noexcept:
        return <uint32_t>(((cell >> 32) * self.cell_count) >> 32)

    cdef inline uint32_t after(self, uint32_t index) noexcept:
        return index + 1 if index + 1 < self.cell_count else 0

    cdef inline uint32_t distance(self, uint32_t start, uint32_t end) noexcept:
        return end - start if end >= start else end + self.cell_count - start

    cdef inline uint32_t slot_of(self, Key *key, uint64_t key_bits) noexcept:
        cdef uint32_t index = self.home_of(key_bits)
        cdef uint64_t cell = self.cells[index]
        cdef Entry *entry
        while cell:
            if ((cell ^ key_bits) >> 32) == 0:
                entry = &self.entries[<uint32_t>cell - 1]
                if entry.a == key.a and entry.b == key.b and entry.c == key.c:
                    return <uint32_t>cell - 1
            index = self.after(index)
            cell = self.cells[index]
        return NO_SLOT

    cdef inline void link(self, Key *key, uint64_t key_bits, uint32_t slot) noexcept:
        cdef uint32_t index = self.home_of(key_bits)
        cdef Entry *entry = &self.entries[slot]
        while self.cells[index]:
            index = self.after(index)
        self.cells[index] = key_bits | (slot + 1)
        entry.a, entry.b, entry.c = key.a, key.b, key.c

    cdef void unlink(self, uint32_t slot) noexcept:
        """Empty the slot's cell, then move back each later one whose home lies before the hole."""
        cdef uint32_t hole = self.home_of(self.hash_of(<Key *>&self.entries[slot]))
        while <uint32_t>self.cells[hole] != slot + 1:
            hole = self.after(hole)
        cdef uint32_t index = self.after(hole)
        while self.cells[index]:
            if self.distance(self.home_of(self.cells[index]), index) >= self.distance(hole, index):
                self.cells[hole] = self.cells[index]
                hole = index
            index = self.after(index)
        self.cells[hole] = 0

    # The heap.

    cdef inline double deadline(self, uint32_t slot) noexcept:
        return self.heap[self.entries[slot].place].deadline

    cdef inline void set_due(self, uint32_t place, Due due) noexcept:
        self.heap[place] = due
        self.entries[due.slot].place = place

    cdef void sift_up(self, uint32_t place, Due due) noexcept:
        cdef uint32_t parent
        while place > 0:
            parent = (place - 1) // ARITY
            if not is_earlier(due, self.heap[parent]):
                break
            self.set_due(place, self.heap[parent])
            place = parent
        self.set_due(place, due)

    cdef void sift_down(self, uint32_t place, Due due) noexcept:
        cdef uint64_t child = <uint64_t>place * ARITY + 1
        cdef uint64_t end, earliest
        while child < self.count:
            end = min(child + ARITY, <uint64_t>self.count)
            earliest = child
            while child + 1 < end:
                child += 1
                if is_earlier(self.heap[child], self.heap[earliest]):
                    earliest = child
            if not is_earlier(self.heap[earliest], due):
                break
            self.set_due(place, self.heap[earliest])
            place = <uint32_t>earliest
            child = earliest * ARITY + 1
        self.set_due(place, due)

    cdef inline void add_due(self, Due due) noexcept:
        self.count += 1
        self.sift_up(self.count - 1, due)

    cdef void remove_due(self, uint32_t place) noexcept:
        self.count -= 1
        if place == self.count:
            return
        cdef Due last = self.heap[self.count]
        if is_earlier(last, self.heap[place]):
            self.sift_up(place, last)
        else:
            self.sift_down(place, last)

    # The life of an entry.

    cdef inline uint32_t take_slot(self) noexcept:
        cdef uint32_t slot = self.free_slot
        if slot == NO_SLOT:
            slot = self.slots_begun
            self.slots_begun += 1
        else:
            self.free_slot = self.entries[slot].place
        self.used[slot] = 0
        return slot

    cdef inline void hold(
        self, uint32_t slot, object value, double fresh_until, double stale_for
    ) noexcept:
        cdef Due due
        due.deadline = fresh_until + stale_for
        due.slot = slot
        Py_INCREF(value)
        self.entries[slot].value = <PyObject *>value
        self.entries[slot].fresh_until = fresh_until
        self.holds_containers = self.holds_containers or PyObject_IS_GC(<PyObject *>value)
        self.add_due(due)

    cdef PyObject *detach(self, uint32_t slot) noexcept:
        """Take the entry out; the caller owns the value, and releases it when all else is done."""
        cdef Entry *entry = &self.entries[slot]
        cdef PyObject *value = entry.value
        self.unlink(slot)
        self.remove_due(entry.place)
        entry.value = NULL
        entry.place = self.free_slot
        self.free_slot = slot
        return value

    cdef inline uint32_t turn_hand(self) noexcept:
        """CLOCK: the next slot of a full cache not used since the hand last passed it.

        The worst turn, when all were used, reads and clears a byte an entry: 0.05 ms a million.
        """
        cdef uint8_t *start = self.used + self.hand
        cdef uint8_t *unused = <uint8_t *>memchr(start, 0, self.capacity - self.hand)
        if not unused:
            memset(start, 0, self.capacity - self.hand)
            start = self.used
            unused = <uint8_t *>memchr(start, 0, self.capacity)  # at the latest, what was cleared
        memset(start, 0, unused - start)
        cdef uint32_t slot = <uint32_t>(unused - self.used)
        self.hand = slot + 1 if slot + 1 < self.capacity else 0
        return slot

    cdef inline Py_ssize_t expire(self, double now, Py_ssize_t limit) noexcept:
        cdef Py_ssize_t removed = 0
        while removed < limit and self.count and self.heap[0].deadline <= now:
            self.expired += 1
            removed += 1
            Py_XDECREF(self.detach(self.heap[0].slot))
        return removed

    cdef void release_all(self) noexcept:
        """Release what is held now; what a released value puts meanwhile may stay.

        Taken from the heap's end, where nothing needs sifting.
        """
        cdef uint32_t left = self.count
        while left and self.count:
            left -= 1
            Py_XDECREF(self.detach(self.heap[self.count - 1].slot))
        if self.count == 0:  # as new, so that what is evicted next does not depend on the past
            self.slots_begun = 0
            self.free_slot = NO_SLOT
            self.hand = 0
            self.holds_containers = False


# The cyclic garbage collector. `gc_anchor` is always None: a cdef class with an object member is
# one that takes part, and its generated hooks are called before ours. A cache that never held a
# container need not be walked, which spares each full collection a look at every value.

cdef PyTypeObject *cache_type = <PyTypeObject *>TtlCache
cdef traverseproc generated_traverse = cache_type.tp_traverse
cdef inquiry generated_clear = cache_type.tp_clear


cdef int traverse(PyObject *cache, visitproc visit, void *arg) noexcept:
    cdef int answer = generated_traverse(cache, visit, arg)
    if answer or not (<TtlCache>cache).holds_containers:
        return answer
    cdef uint32_t slot
    for slot in range((<TtlCache>cache).slots_begun):
        if (<TtlCache>cache).entries[slot].value:
            answer = visit((<TtlCache>cache).entries[slot].value, arg)
            if answer:
                return answer
    return 0


cdef int clear(PyObject *cache) noexcept:
    (<TtlCache>cache).release_all()
    return generated_clear(cache)


cache_type.tp_traverse = traverse
cache_type.tp_clear = clear
