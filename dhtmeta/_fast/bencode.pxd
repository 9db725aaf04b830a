# C layout only.
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t


cdef enum:
    MAX_DEPTH = 256  # containers in each other: each costs a C frame, threads may have 512 KiB
    KEY_SLOTS = 1024  # key objects kept; at most 1024 * (33 + 32) bytes
    KEY_BYTES = 32  # longer keys are not kept
    NAME_SLOTS = 64  # a power of two in which no two names of a datagram meet
    ROOM_BYTES = 2048  # output that needs no malloc: an item has 1,000 bytes, a datagram 1,500
    ROOM_ENTRIES = 64  # open dict entries that need no malloc
    FEW_ENTRIES = 32  # up to here an insertion sort beats qsort
    LENGTH_DIGITS = 18  # of a string length: 10**18 - 1 fits in 64 bits
    INT_DIGITS = 19  # of an int: 10**19 - 1 fits in 64 bits unsigned


cdef enum field_t:
    F_T, F_Y, F_Q, F_E
    F_ID, F_TOKEN, F_NODES, F_NODES6, F_VALUES, F_TARGET, F_INFO_HASH
    F_K, F_SALT, F_SIG, F_V
    SPANS  # the fields above have a span, those below do not
    F_SEQ
    F_CAS
    F_BODY


cdef enum kind_t:
    STRING
    LIST
    INT
    ANY
    BODY


cdef struct span_t:
    const uint8_t *at
    const uint8_t *end


cdef struct reader_t:
    span_t rest
    const uint8_t *start
    const char *wrong  # what failed first, NULL while nothing has
    const uint8_t *wrong_at
    int depth  # how many more containers may be opened
    bint canonical


cdef struct entry_t:
    span_t key
    PyObject *value  # borrowed from the dict


cdef struct writer_t:
    uint8_t *start
    uint8_t *at
    uint8_t *end
    entry_t *entries  # of the dicts being written, the innermost last
    Py_ssize_t entries_used
    Py_ssize_t entries_size
    int depth
    uint8_t *room
    entry_t *entry_room


cdef struct name_t:
    const char *text
    Py_ssize_t size
    field_t field
    kind_t kind
    bint inside  # of the a or r dict


cdef struct extent_t:
    Py_ssize_t start
    Py_ssize_t end  # 0: absent


cdef struct found_t:
    extent_t at[SPANS]
    int64_t seq
    int64_t cas
    uint32_t seen  # one bit per field


cdef class Spans:
    cdef found_t found
