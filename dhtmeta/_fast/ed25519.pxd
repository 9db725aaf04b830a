cdef enum:
    PUBLIC_KEY_SIZE = 32
    SIGNATURE_SIZE = 64
    SALT_SIZE_MAX = 64  # BEP 44
    HEAD_SIZE_MAX = 9 + SALT_SIZE_MAX + 30  # "4:salt64:", salt, "3:seqi<19 digits>e1:v" and NUL
    STACK_MESSAGE_SIZE = 1200  # the longest that BEP 44 signs, 1,102 bytes, and some

cdef enum Verdict:
    OUT_OF_MEMORY = -1
    REFUSED = 0
    VALID = 1

# libsodium's crypto_sign_open: message, its size, signature || message, their size, public key.
ctypedef int (*SignOpen)(
    unsigned char *, unsigned long long *,
    const unsigned char *, unsigned long long, const unsigned char *,
) noexcept nogil

# One signature to verify: borrowed bytes, and what was found.
cdef struct Check:
    const unsigned char *public_key
    const unsigned char *signature
    const unsigned char *message
    size_t message_size
    Verdict verdict
