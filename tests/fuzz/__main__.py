"""`python -m tests.fuzz TARGET SECONDS`: libFuzzer, guided by coverage, through atheris.

A finding ends the run with exit code 77 and is kept as build/fuzz/TARGET-crash-…; what reached
new code is kept beside it, and a later run goes on from there.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dhtmeta.krpc", "dhtmeta.dht.direct", "tests.reference"]):
    from tests.fuzz import datagrams, direct, frames

TARGETS = {"codec": datagrams, "core": direct, "exchange": frames}


def main(name: str, seconds: str) -> None:
    """Run one target for so many seconds; it does not return."""
    target = TARGETS[name]
    corpus = Path("build", "fuzz", name)
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.SEEDS):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={target.MAX_BYTES}",
        f"-artifact_prefix={corpus.parent}/{name}-",
        "-timeout=60",
        "-rss_limit_mb=1024",
        "-len_control=10",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
