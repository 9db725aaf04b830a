"""The C loop of sodium_loop.pyx, compiled when first imported, over the libsodium of PyNaCl."""

import importlib
from pathlib import Path
from typing import Any

BUILD = Path(__file__).parents[2] / "build" / "pyximport"


def _compiled() -> Any:
    pyximport: Any = importlib.import_module("pyximport")
    hooks = pyximport.install(build_dir=str(BUILD), language_level=3)
    try:
        return importlib.import_module("bench.micro.sodium_loop")
    except ImportError as error:
        raise ImportError("sodium_loop.pyx cannot be compiled") from error
    finally:
        pyximport.uninstall(*hooks)


def _address() -> int:
    """Return where libsodium's crypto_sign_open is: PyNaCl's wheel hides the symbol."""
    sodium: Any = importlib.import_module("nacl._sodium")
    function = sodium.ffi.addressof(sodium.lib, "crypto_sign_open")
    return int(sodium.ffi.cast("uintptr_t", function))


_LOOP = _compiled()
_SIGN_OPEN = _address()


def verified(signed: bytes, public_key: bytes, times: int) -> int:
    """Return how many of `times` verifications of signature || message succeed, without the GIL."""
    return int(_LOOP.verified(_SIGN_OPEN, signed, public_key, times))
