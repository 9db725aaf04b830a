# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Which bytes are bencode, what they stand for and where they stand is decided here (BEP 3).

Reading is strict, since BEP 44 signs the bytes and not their meaning: one value has one form.
Every byte that came from elsewhere is read by `take`. Nothing here can be nested deeper than
MAX_DEPTH, and the first thing found wrong ends the reading with its offset.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_FULL_RO,
    PyBUF_SIMPLE,
    PyBuffer_Release,
    PyBuffer_ToContiguous,
    PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport qsort
from libc.string cimport memcmp, memcpy, memmove

cdef extern from "Python.h":
    # Declared on PyObject* where Cython's own declarations would count references for us.
    void Py_INCREF(PyObject *)
    void Py_DECREF(PyObject *)
    void Py_XDECREF(PyObject *)
    void *PyMem_Malloc(size_t)
    void PyMem_Free(void *)
    PyObject *PyBytes_FromStringAndSize(const char *, Py_ssize_t)
    PyObject *PyLong_FromLongLong(long long)
    PyObject *PyList_New(Py_ssize_t)
    int PyList_Append(PyObject *, PyObject *)
    PyObject *PyDict_New()
    int PyDict_SetItem(PyObject *, PyObject *, PyObject *)
    int PyDict_Contains(PyObject *, PyObject *)

    bint is_bytes "PyBytes_Check"(PyObject *)
    bint is_bytearray "PyByteArray_Check"(PyObject *)
    bint is_memoryview "PyMemoryView_Check"(PyObject *)
    bint is_str "PyUnicode_Check"(PyObject *)
    bint is_int "PyLong_Check"(PyObject *)
    bint is_list "PyList_Check"(PyObject *)
    bint is_tuple "PyTuple_Check"(PyObject *)
    bint is_dict "PyDict_Check"(PyObject *)

    char *bytes_at "PyBytes_AS_STRING"(PyObject *)
    Py_ssize_t bytes_size "PyBytes_GET_SIZE"(PyObject *)
    char *bytearray_at "PyByteArray_AS_STRING"(PyObject *)
    Py_ssize_t bytearray_size "PyByteArray_GET_SIZE"(PyObject *)
    const char *str_utf8 "PyUnicode_AsUTF8AndSize"(PyObject *, Py_ssize_t *) except NULL
    long long int_value "PyLong_AsLongLongAndOverflow"(PyObject *, int *) except? -1
    Py_ssize_t list_size "PyList_GET_SIZE"(PyObject *)
    PyObject *list_item "PyList_GET_ITEM"(PyObject *, Py_ssize_t)
    Py_ssize_t tuple_size "PyTuple_GET_SIZE"(PyObject *)
    PyObject *tuple_item "PyTuple_GET_ITEM"(PyObject *, Py_ssize_t)
    Py_ssize_t dict_size "PyDict_Size"(PyObject *)
    bint dict_next "PyDict_Next"(PyObject *, Py_ssize_t *, PyObject **, PyObject **)

# What annotations import at run time; bencode.pyi has the exact types.
Value = int | bytes | list | dict
Encodable = int | bytes | bytearray | memoryview | str | list | tuple | dict
Span = tuple


# Reading: tokens. Each returns -1 or NULL once something is wrong, and `fail` has noted what.

cdef inline const uint8_t *take(span_t *span, uint64_t size) noexcept nogil:
    """The next `size` bytes, or NULL where fewer are left: the only way to hostile bytes."""
    cdef const uint8_t *at = span.at
    if size > <uint64_t>(span.end - at):
        return NULL
    span.at = at + size
    return at


cdef int fail(reader_t *reader, const char *wrong, const uint8_t *where) noexcept nogil:
    reader.wrong = wrong
    reader.wrong_at = where
    return -1


cdef inline const uint8_t *take_byte(reader_t *reader) noexcept nogil:
    cdef const uint8_t *at = take(&reader.rest, 1)
    if at is NULL:
        fail(reader, "truncated", reader.rest.end)
    return at


cdef inline bint is_digit(const uint8_t *at) noexcept nogil:
    return <uint8_t>(at[0] - c"0") <= 9


cdef inline int read_string(reader_t *reader, const uint8_t *head, span_t *out) noexcept nogil:
    """The payload of the string whose first digit, already taken, is at `head`."""
    cdef uint64_t size = head[0] - c"0"
    cdef const uint8_t *at
    while True:
        at = take_byte(reader)
        if at is NULL:
            return -1
        if not is_digit(at):
            break
        if size == 0:
            return fail(reader, "leading zero", head)
        if at - head >= LENGTH_DIGITS:
            return fail(reader, "string longer than the data", head)
        size = size * 10 + (at[0] - c"0")
    if at[0] != c":":
        return fail(reader, "not a digit", at)
    out.at = take(&reader.rest, size)
    if out.at is NULL:
        return fail(reader, "string longer than the data", head)
    out.end = reader.rest.at
    return 0


cdef inline int read_int(reader_t *reader, const uint8_t *head, int64_t *out) noexcept nogil:
    """The int whose i, already taken, is at `head`."""
    cdef const uint8_t *at = take_byte(reader)
    cdef bint negative = at is not NULL and at[0] == c"-"
    cdef uint64_t size
    if negative:
        at = take_byte(reader)
    if at is NULL:
        return -1
    if not is_digit(at):
        return fail(reader, "not a digit", at)
    if negative and at[0] == c"0":
        return fail(reader, "negative zero", head)
    if read_digits(reader, head, at, &size) < 0:
        return -1
    if size > (<uint64_t>1 << 63) - (not negative):
        return fail(reader, "int outside 64 bits", head)
    out[0] = <int64_t>(0 - size if negative else size)
    return 0


cdef inline int read_digits(
    reader_t *reader, const uint8_t *head, const uint8_t *first, uint64_t *out
) noexcept nogil:
    """The digits from `first`, already taken, to the e."""
    cdef uint64_t size = first[0] - c"0"
    cdef const uint8_t *at
    while True:
        at = take_byte(reader)
        if at is NULL:
            return -1
        if not is_digit(at):
            break
        if size == 0:
            return fail(reader, "leading zero", first)
        if at - first >= INT_DIGITS:
            return fail(reader, "int outside 64 bits", head)
        size = size * 10 + (at[0] - c"0")
    out[0] = size
    return 0 if at[0] == c"e" else fail(reader, "not a digit", at)


cdef inline int compare(const span_t *left, const span_t *right) noexcept nogil:
    """Below, at or above 0, as raw bytes are ordered."""
    cdef Py_ssize_t left_size = left.end - left.at
    cdef Py_ssize_t right_size = right.end - right.at
    cdef Py_ssize_t size = min(left_size, right_size)
    cdef int order = 0
    if size:
        order = <int>left.at[0] - <int>right.at[0]  # decides nearly always
        if order == 0:
            order = memcmp(left.at, right.at, size)
    return order if order else (left_size > right_size) - (left_size < right_size)


cdef inline bint same(const span_t *left, const span_t *right) noexcept nogil:
    cdef Py_ssize_t size = left.end - left.at
    if size != right.end - right.at:
        return False
    return size == 0 or left.at[0] == right.at[0] and memcmp(left.at, right.at, size) == 0


cdef inline int check_order(
    reader_t *reader, const uint8_t *head, const span_t *last, const span_t *key
) noexcept nogil:
    cdef int order
    if not reader.canonical:
        return fail(reader, "duplicate key", head) if same(last, key) else 0
    order = compare(last, key)
    if order == 0:
        return fail(reader, "duplicate key", head)
    return fail(reader, "unsorted key", head) if order > 0 else 0


cdef inline int read_key(reader_t *reader, const uint8_t *head, span_t *key) noexcept nogil:
    """The key at `head`; `key` holds the one before it, or NULL, and then this one."""
    cdef span_t last = key[0]
    if not is_digit(head):
        return fail(reader, "key is not a string", head)
    if read_string(reader, head, key) < 0:
        return -1
    if last.at is NULL:
        return 0
    return check_order(reader, head, &last, key)


cdef inline int enter(reader_t *reader, const uint8_t *head) noexcept nogil:
    """Open the list or dict at `head`; whoever reads its e closes it."""
    if head[0] != c"l" and head[0] != c"d":
        return fail(reader, "not a value", head)
    if reader.depth == 0:
        return fail(reader, "nested too deep", head)
    reader.depth -= 1
    return 0


# Reading: objects. A new reference, or NULL with either `fail` or a Python error noted.

cdef PyObject *KEYS[KEY_SLOTS]


cdef inline uint32_t key_slot(const uint8_t *at, Py_ssize_t size) noexcept nogil:
    """A quick mix of the first and last eight bytes; a bad one only costs a missed object."""
    cdef uint64_t first = 0
    cdef uint64_t last = 0
    if size >= 8:
        memcpy(&first, at, 8)
        memcpy(&last, at + size - 8, 8)
    elif size >= 4:
        memcpy(&first, at, 4)
        memcpy(&last, at + size - 4, 4)
    elif size > 0:
        first = at[0] | <uint64_t>at[size >> 1] << 8
        last = at[size - 1]
    first = (first * <uint64_t>0x9E3779B97F4A7C15 ^ last) + <uint64_t>size
    return <uint32_t>(first * <uint64_t>0xD6E8FEB86659FD93 >> 54) & (KEY_SLOTS - 1)


cdef inline PyObject *key_object(const span_t *key) noexcept:
    """A bytes object for a key: the one made last time, if its slot still holds it."""
    cdef Py_ssize_t size = key.end - key.at
    cdef PyObject **slot
    cdef PyObject *name
    if size > KEY_BYTES:
        return PyBytes_FromStringAndSize(<const char *>key.at, size)
    slot = &KEYS[key_slot(key.at, size)]
    name = slot[0]
    if name is NULL or bytes_size(name) != size or memcmp(bytes_at(name), key.at, size):
        name = PyBytes_FromStringAndSize(<const char *>key.at, size)
        if name is NULL:
            return NULL
        Py_XDECREF(slot[0])
        slot[0] = name
    Py_INCREF(name)
    return name


cdef PyObject *read_value(reader_t *reader, const uint8_t *head) noexcept:
    cdef span_t text
    cdef int64_t number
    if is_digit(head):
        if read_string(reader, head, &text) < 0:
            return NULL
        return PyBytes_FromStringAndSize(<const char *>text.at, text.end - text.at)
    if head[0] == c"i":
        return NULL if read_int(reader, head, &number) < 0 else PyLong_FromLongLong(number)
    if enter(reader, head) < 0:
        return NULL
    return read_list(reader) if head[0] == c"l" else read_dict(reader)


cdef PyObject *read_list(reader_t *reader) noexcept:
    cdef PyObject *items = PyList_New(0)
    cdef const uint8_t *head
    while items is not NULL:
        head = take_byte(reader)
        if head is not NULL and head[0] == c"e":
            reader.depth += 1
            return items
        if head is NULL or read_item(reader, head, items) < 0:
            break
    Py_XDECREF(items)
    return NULL


cdef inline int read_item(reader_t *reader, const uint8_t *head, PyObject *items) noexcept:
    cdef PyObject *item = read_value(reader, head)
    if item is NULL:
        return -1
    cdef int result = PyList_Append(items, item)
    Py_DECREF(item)
    return result


cdef PyObject *read_dict(reader_t *reader) noexcept:
    cdef PyObject *items = PyDict_New()
    cdef span_t key = [NULL, NULL]
    cdef const uint8_t *head
    while items is not NULL:
        head = take_byte(reader)
        if head is not NULL and head[0] == c"e":
            reader.depth += 1
            return items
        if head is NULL or read_key(reader, head, &key) < 0:
            break
        if read_pair(reader, head, &key, items) < 0:
            break
    Py_XDECREF(items)
    return NULL


cdef inline int read_pair(
    reader_t *reader, const uint8_t *head, const span_t *key, PyObject *items
) noexcept:
    """Put the key at `head` and the value behind it into the dict."""
    cdef PyObject *name = key_object(key)
    cdef PyObject *value
    cdef int result = -1
    if name is NULL:
        return -1
    # Sorted keys that differ from their neighbour differ from all.
    if not reader.canonical and PyDict_Contains(items, name):
        fail(reader, "duplicate key", head)
    else:
        head = take_byte(reader)
        value = NULL if head is NULL else read_value(reader, head)
        if value is not NULL:
            result = PyDict_SetItem(items, name, value)
            Py_DECREF(value)
    Py_DECREF(name)
    return result


cdef object read_all(reader_t *reader):
    cdef const uint8_t *head = take_byte(reader)
    cdef PyObject *value = NULL if head is NULL else read_value(reader, head)
    if value is not NULL and reader.rest.at != reader.rest.end:
        fail(reader, "trailing bytes", reader.rest.at)
    if reader.wrong is not NULL:
        Py_XDECREF(value)
        raise_wrong(reader)
    if value is NULL:
        raise MemoryError
    result = <object>value
    Py_DECREF(value)
    return result


cdef int raise_wrong(const reader_t *reader) except -1:
    raise ValueError(f"{reader.wrong.decode()} at byte {reader.wrong_at - reader.start}")


cdef int check_depth(int depth) except -1:
    if 0 <= depth <= MAX_DEPTH:
        return 0
    raise ValueError(f"max_depth must be 0 to {MAX_DEPTH}, not {depth}")


cdef inline reader_t reader_of(
    const void *at, Py_ssize_t size, int depth, bint canonical
) noexcept nogil:
    cdef const uint8_t *start = <const uint8_t *>at
    return [[start, start + size], start, NULL, NULL, depth, canonical]


def decode(data, *, bint canonical=True, int max_depth=32):
    """The value that `data` is the bencoding of; see bencode.pyi."""
    cdef reader_t reader
    cdef Py_buffer view
    check_depth(max_depth)
    if PyBytes_CheckExact(data):
        reader = reader_of(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), max_depth, canonical)
        return read_all(&reader)
    get_bytes(data, &view)
    try:
        reader = reader_of(view.buf, view.len, max_depth, canonical)
        return read_all(&reader)
    finally:
        PyBuffer_Release(&view)


cdef int get_bytes(object data, Py_buffer *view) except -1:
    try:
        return PyObject_GetBuffer(data, view, PyBUF_SIMPLE)
    except BufferError as error:
        raise TypeError(f"data must be contiguous bytes: {error}") from None


# Reading: spans. A whole datagram is checked and only the places of its fields are kept.

cdef name_t NAMES[NAME_SLOTS]


cdef inline Py_ssize_t name_slot(const uint8_t *at, Py_ssize_t size) noexcept nogil:
    """No two names of fields share a last letter, a length and this slot."""
    return (at[size - 1] + size * 8) & (NAME_SLOTS - 1)


cdef int name_field(const char *text, field_t field, kind_t kind, bint inside) except -1:
    cdef name_t *name = &NAMES[name_slot(<const uint8_t *>text, len(text))]
    assert name.text is NULL, "two names of fields meet in one slot"
    name[0] = [text, len(text), field, kind, inside]
    return 0


name_field("t", F_T, STRING, False)
name_field("y", F_Y, STRING, False)
name_field("q", F_Q, STRING, False)
name_field("e", F_E, LIST, False)
name_field("a", F_BODY, BODY, False)
name_field("r", F_BODY, BODY, False)
name_field("id", F_ID, STRING, True)
name_field("token", F_TOKEN, STRING, True)
name_field("nodes", F_NODES, STRING, True)
name_field("nodes6", F_NODES6, STRING, True)
name_field("values", F_VALUES, LIST, True)
name_field("target", F_TARGET, STRING, True)
name_field("info_hash", F_INFO_HASH, STRING, True)
name_field("k", F_K, STRING, True)
name_field("salt", F_SALT, STRING, True)
name_field("sig", F_SIG, STRING, True)
name_field("v", F_V, ANY, True)
name_field("seq", F_SEQ, INT, True)
name_field("cas", F_CAS, INT, True)


cdef inline const name_t *find_name(const span_t *key, bint inside) noexcept nogil:
    cdef Py_ssize_t size = key.end - key.at
    cdef const name_t *name
    if size == 0:
        return NULL
    name = &NAMES[name_slot(key.at, size)]
    if name.size != size or name.inside != inside or memcmp(name.text, key.at, size):
        return NULL
    return name


cdef int skip_value(reader_t *reader, const uint8_t *head) noexcept nogil:
    cdef span_t text
    cdef int64_t number
    if head is NULL:
        return -1
    if is_digit(head):
        return read_string(reader, head, &text)
    if head[0] == c"i":
        return read_int(reader, head, &number)
    if enter(reader, head) < 0:
        return -1
    return skip_list(reader) if head[0] == c"l" else scan_dict(reader, NULL, False)


cdef int skip_list(reader_t *reader) noexcept nogil:
    cdef const uint8_t *head = take_byte(reader)
    while head is not NULL and head[0] != c"e":
        if skip_value(reader, head) < 0:
            return -1
        head = take_byte(reader)
    reader.depth += 1
    return -1 if head is NULL else 0


cdef int scan_dict(reader_t *reader, found_t *found, bint inside) noexcept nogil:
    """The rest of a dict; its fields go into `found`, where that is not NULL."""
    cdef span_t key = [NULL, NULL]
    cdef const name_t *name = NULL
    cdef const uint8_t *head = take_byte(reader)
    cdef int result
    while head is not NULL and head[0] != c"e":
        if read_key(reader, head, &key) < 0:
            return -1
        if found is not NULL:
            name = find_name(&key, inside)
        if name is NULL:
            result = skip_value(reader, take_byte(reader))
        else:
            result = scan_field(reader, head, name, found)
        if result < 0:
            return -1
        head = take_byte(reader)
    reader.depth += 1
    return -1 if head is NULL else 0


cdef int scan_field(
    reader_t *reader, const uint8_t *key, const name_t *name, found_t *found
) noexcept nogil:
    cdef const uint8_t *head
    if found.seen >> name.field & 1:
        return fail(reader, "duplicate key", key)
    found.seen |= <uint32_t>1 << name.field
    head = take_byte(reader)
    if head is NULL:
        return -1
    if name.kind == BODY:
        return scan_body(reader, head, found)
    if name.kind == INT:
        return scan_int(reader, head, &found.seq if name.field == F_SEQ else &found.cas)
    return scan_span(reader, head, name.kind, &found.at[<int>name.field])


cdef inline int scan_body(reader_t *reader, const uint8_t *head, found_t *found) noexcept nogil:
    if head[0] != c"d":
        return fail(reader, "not a dict", head)
    return -1 if enter(reader, head) < 0 else scan_dict(reader, found, True)


cdef inline int scan_int(reader_t *reader, const uint8_t *head, int64_t *out) noexcept nogil:
    if head[0] != c"i":
        return fail(reader, "not an int", head)
    return read_int(reader, head, out)


cdef inline int scan_span(
    reader_t *reader, const uint8_t *head, kind_t kind, extent_t *out
) noexcept nogil:
    cdef span_t text
    if kind == STRING:
        if not is_digit(head):
            return fail(reader, "not a string", head)
        if read_string(reader, head, &text) < 0:
            return -1
    else:
        if kind == LIST and head[0] != c"l":
            return fail(reader, "not a list", head)
        if skip_value(reader, head) < 0:
            return -1
        text.at = head
    out.start = text.at - reader.start
    out.end = reader.rest.at - reader.start
    return 0


cdef int scan_all(reader_t *reader, found_t *found) noexcept nogil:
    cdef const uint8_t *head = take_byte(reader)
    if head is NULL:
        return -1
    if head[0] != c"d":
        return fail(reader, "not a dict", head)
    if enter(reader, head) < 0 or scan_dict(reader, found, False) < 0:
        return -1
    if reader.rest.at != reader.rest.end:
        return fail(reader, "trailing bytes", reader.rest.at)
    return 0


def scan(data, *, int max_depth=32):
    """Where the fields of a KRPC datagram are; see bencode.pyi."""
    cdef Spans spans = Spans.__new__(Spans)
    cdef reader_t reader
    cdef Py_buffer view
    check_depth(max_depth)
    if PyBytes_CheckExact(data):
        reader = reader_of(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), max_depth, False)
        scan_all(&reader, &spans.found)
    else:
        get_bytes(data, &view)
        reader = reader_of(view.buf, view.len, max_depth, False)
        scan_all(&reader, &spans.found)
        PyBuffer_Release(&view)
    if reader.wrong is not NULL:
        raise_wrong(&reader)
    return spans


cdef object span_of(Spans spans, field_t field):
    cdef const extent_t *at = &spans.found.at[<int>field]
    return (at.start, at.end) if at.end else None


cdef object cut_out(Spans spans, bytes data, field_t field):
    cdef const extent_t *at = &spans.found.at[<int>field]
    if not at.end:
        return None
    if at.end > PyBytes_GET_SIZE(data):
        raise ValueError("these spans are of other data")
    return PyBytes_AS_STRING(data)[at.start:at.end]


@cython.final
cdef class Spans:
    """Where the fields of one datagram are; see bencode.pyi. Only `scan` makes one."""

    def __init__(self):
        raise TypeError("only scan() makes Spans")

    def cut(self, bytes data not None):
        return (
            cut_out(self, data, F_T), cut_out(self, data, F_Y),
            cut_out(self, data, F_ID), cut_out(self, data, F_TOKEN),
            cut_out(self, data, F_NODES), cut_out(self, data, F_NODES6),
            cut_out(self, data, F_VALUES), cut_out(self, data, F_K),
            cut_out(self, data, F_SIG), cut_out(self, data, F_V),
        )

    @property
    def t(self):
        return span_of(self, F_T)

    @property
    def y(self):
        return span_of(self, F_Y)

    @property
    def q(self):
        return span_of(self, F_Q)

    @property
    def e(self):
        return span_of(self, F_E)

    @property
    def id(self):
        return span_of(self, F_ID)

    @property
    def token(self):
        return span_of(self, F_TOKEN)

    @property
    def nodes(self):
        return span_of(self, F_NODES)

    @property
    def nodes6(self):
        return span_of(self, F_NODES6)

    @property
    def values(self):
        return span_of(self, F_VALUES)

    @property
    def target(self):
        return span_of(self, F_TARGET)

    @property
    def info_hash(self):
        return span_of(self, F_INFO_HASH)

    @property
    def k(self):
        return span_of(self, F_K)

    @property
    def salt(self):
        return span_of(self, F_SALT)

    @property
    def sig(self):
        return span_of(self, F_SIG)

    @property
    def v(self):
        return span_of(self, F_V)

    @property
    def seq(self):
        return self.found.seq if self.found.seen >> F_SEQ & 1 else None

    @property
    def cas(self):
        return self.found.cas if self.found.seen >> F_CAS & 1 else None


# Writing: one growing buffer, which starts on the caller's stack. Nothing below runs Python code
# before the value is written, so borrowed references stay valid.

cdef uint8_t *grow(writer_t *writer, Py_ssize_t more) except NULL:
    cdef Py_ssize_t used = writer.at - writer.start
    cdef Py_ssize_t size = 2 * (writer.end - writer.start) + more
    cdef uint8_t *start = <uint8_t *>PyMem_Malloc(size)
    if start is NULL:
        raise MemoryError
    memcpy(start, writer.start, used)
    if writer.start != writer.room:
        PyMem_Free(writer.start)
    writer.start = start
    writer.at = start + used
    writer.end = start + size
    return writer.at


cdef inline uint8_t *reserve(writer_t *writer, Py_ssize_t size) except NULL:
    """Where `size` bytes can be written; the writer's `at` is moved by whoever writes them."""
    return writer.at if size <= writer.end - writer.at else grow(writer, size)


cdef inline uint8_t *put_digits(uint8_t *at, uint64_t number) noexcept nogil:
    """Write 1 to 20 digits and return where they end."""
    cdef uint8_t digits[20]
    cdef int first = 20
    if number < 10:
        at[0] = <uint8_t>(c"0" + number)
        return at + 1
    while number:
        first -= 1
        digits[first] = <uint8_t>(c"0" + number % 10)
        number //= 10
    memcpy(at, digits + first, 20 - first)
    return at + 20 - first


cdef inline uint8_t *put_size(writer_t *writer, Py_ssize_t size) except NULL:
    """Write the length of a string and its colon; there is room for the string behind them."""
    cdef uint8_t *at = put_digits(reserve(writer, size + 21), size)
    at[0] = c":"
    return at + 1


cdef inline int put_string(writer_t *writer, const void *text, Py_ssize_t size) except -1:
    cdef uint8_t *at = put_size(writer, size)
    memcpy(at, text, size)
    writer.at = at + size
    return 0


cdef int put_view(writer_t *writer, PyObject *value) except -1:
    cdef Py_buffer view
    cdef uint8_t *at
    PyObject_GetBuffer(<object>value, &view, PyBUF_FULL_RO)
    try:
        at = put_size(writer, view.len)
        if PyBuffer_ToContiguous(at, &view, view.len, c"C") < 0:
            raise MemoryError
        writer.at = at + view.len
    finally:
        PyBuffer_Release(&view)
    return 0


cdef int put_int(writer_t *writer, PyObject *value) except -1:
    cdef int overflow = 0
    cdef int64_t number = int_value(value, &overflow)
    if overflow:
        raise ValueError("int outside 64 bits")
    cdef uint8_t *at = reserve(writer, 23)
    at[0] = c"i"
    at += 1
    if number < 0:
        at[0] = c"-"
        at += 1
    at = put_digits(at, 0 - <uint64_t>number if number < 0 else <uint64_t>number)
    at[0] = c"e"
    writer.at = at + 1
    return 0


cdef int put_value(writer_t *writer, PyObject *value) except -1:
    if is_bytes(value):
        return put_string(writer, bytes_at(value), bytes_size(value))
    if is_int(value):
        return put_int(writer, value)
    if is_dict(value) or is_list(value) or is_tuple(value):
        return put_container(writer, value)
    return put_other(writer, value)


cdef int put_other(writer_t *writer, PyObject *value) except -1:
    cdef Py_ssize_t size
    cdef const char *text
    if is_str(value):
        text = str_utf8(value, &size)
        return put_string(writer, text, size)
    if is_bytearray(value):
        return put_string(writer, bytearray_at(value), bytearray_size(value))
    if is_memoryview(value):
        return put_view(writer, value)
    raise TypeError(f"{type(<object>value).__name__} cannot be bencoded")


cdef inline int put_mark(writer_t *writer, uint8_t mark) except -1:
    reserve(writer, 1)[0] = mark
    writer.at += 1
    return 0


cdef int put_container(writer_t *writer, PyObject *value) except -1:
    if writer.depth == 0:
        raise ValueError("nested too deep")
    writer.depth -= 1
    if is_dict(value):
        put_mark(writer, c"d")
        put_dict(writer, value)
    else:
        put_mark(writer, c"l")
        put_items(writer, value)
    writer.depth += 1
    return put_mark(writer, c"e")


cdef int put_items(writer_t *writer, PyObject *items) except -1:
    cdef Py_ssize_t index
    if is_tuple(items):
        for index in range(tuple_size(items)):
            put_value(writer, tuple_item(items, index))
    else:
        for index in range(list_size(items)):
            put_value(writer, list_item(items, index))
    return 0


cdef int put_dict(writer_t *writer, PyObject *items) except -1:
    """Note the dict's entries behind those of the dicts around it, sort them, write them."""
    cdef Py_ssize_t first = writer.entries_used
    cdef Py_ssize_t size = dict_size(items)
    cdef Py_ssize_t index
    cdef entry_t *entry
    if size > writer.entries_size - first:
        grow_entries(writer, size)
    if not note_entries(&writer.entries[first], items):
        sort_entries(&writer.entries[first], size)
    writer.entries_used += size
    for index in range(first, first + size):
        entry = &writer.entries[index]  # writing may move the entries
        put_string(writer, entry.key.at, entry.key.end - entry.key.at)
        put_value(writer, entry.value)
    writer.entries_used = first
    return 0


cdef int grow_entries(writer_t *writer, Py_ssize_t more) except -1:
    cdef Py_ssize_t size = 2 * writer.entries_size + more
    cdef entry_t *entries = <entry_t *>PyMem_Malloc(size * sizeof(entry_t))
    if entries is NULL:
        raise MemoryError
    memcpy(entries, writer.entries, writer.entries_used * sizeof(entry_t))
    if writer.entries != writer.entry_room:
        PyMem_Free(writer.entries)
    writer.entries = entries
    writer.entries_size = size
    return 0


cdef bint note_entries(entry_t *entry, PyObject *items) except -1:
    """Note each key and value; whether the keys are in order and differ."""
    cdef bint sorted = True
    cdef bint first = True
    cdef Py_ssize_t position = 0
    cdef PyObject *key
    while dict_next(items, &position, &key, &entry.value):
        note_key(entry, key)
        if not first and sorted:
            sorted = compare(&(entry - 1).key, &entry.key) < 0
        first = False
        entry += 1
    return sorted


cdef inline int note_key(entry_t *entry, PyObject *key) except -1:
    cdef Py_ssize_t size
    if is_bytes(key):
        entry.key.at = <const uint8_t *>bytes_at(key)
        size = bytes_size(key)
    elif is_str(key):
        entry.key.at = <const uint8_t *>str_utf8(key, &size)
    else:
        raise TypeError(f"a dict key must be bytes or str, not {type(<object>key).__name__}")
    entry.key.end = entry.key.at + size
    return 0


cdef int order_of(const void *left, const void *right) noexcept nogil:
    return compare(&(<const entry_t *>left).key, &(<const entry_t *>right).key)


cdef int sort_entries(entry_t *entries, Py_ssize_t size) except -1:
    cdef Py_ssize_t index
    if size <= FEW_ENTRIES:
        for index in range(1, size):
            sink_entry(entries, index)
    else:
        qsort(entries, size, sizeof(entry_t), order_of)
    for index in range(1, size):
        if compare(&entries[index - 1].key, &entries[index].key) == 0:
            raise ValueError("the same key as str and as bytes")
    return 0


cdef inline void sink_entry(entry_t *entries, Py_ssize_t index) noexcept nogil:
    """Move the entry at `index` to its place among the sorted ones before it."""
    cdef entry_t entry = entries[index]
    cdef Py_ssize_t place = index
    while place and compare(&entries[place - 1].key, &entry.key) > 0:
        place -= 1
    memmove(&entries[place + 1], &entries[place], (index - place) * sizeof(entry_t))
    entries[place] = entry


def encode(value, *, int max_depth=32):
    """The canonical bencoding of `value`; see bencode.pyi."""
    cdef uint8_t room[ROOM_BYTES]
    cdef entry_t entry_room[ROOM_ENTRIES]
    cdef writer_t writer
    check_depth(max_depth)
    writer.start = writer.at = writer.room = room
    writer.end = room + ROOM_BYTES
    writer.entries = writer.entry_room = entry_room
    writer.entries_used = 0
    writer.entries_size = ROOM_ENTRIES
    writer.depth = max_depth
    try:
        put_value(&writer, <PyObject *>value)
        return writer.start[:writer.at - writer.start]
    finally:
        if writer.start != room:
            PyMem_Free(writer.start)
        if writer.entries != entry_room:
            PyMem_Free(writer.entries)
