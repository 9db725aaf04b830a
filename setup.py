"""The list of Cython extensions, nothing else: all metadata is in pyproject.toml."""

from Cython.Build import cythonize
from setuptools import Extension, setup

O3 = ["-O3"]

setup(
    ext_modules=cythonize(
        [
            Extension(f"dhtmeta._fast.{one}", [f"dhtmeta/_fast/{one}.pyx"], extra_compile_args=O3)
            for one in ("bencode", "ed25519", "ttl_cache")
        ],
        compiler_directives={"language_level": 3, "boundscheck": False, "wraparound": False},
    )
)
