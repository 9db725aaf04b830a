"""How long a daemon needs to be ready, from exec on, and to stop with lookups in flight."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import IO

from bench.direct.swarms import swarm_process
from bench.report import Bar, Part, Row
from bench.scenario import Options

RUNS = 9
ASKED = 50  # lookups in flight when it is told to stop
SETTINGS = """
[dht]
port = {port}
bootstrap_nodes = {bootstrap}
[exchange]
port = 0
[peer_discovery]
lan = false
[http]
listen = "127.0.0.1:0"
[log]
level = "info"
format = "json"
"""


def lifecycle(options: Options) -> Part:
    """Start and stop a daemon again and again on one store; the first start has no saved state."""
    ready, stopped = [], []
    with swarm_process(20) as bootstrap, tempfile.TemporaryDirectory() as directory:
        for _ in range((2 if options.quick else RUNS) + 1):
            took = _life(Path(directory), bootstrap)
            ready.append(took[0])
            stopped.append(took[1])
    what = "daemon: from exec to ready, with saved state"
    return Part(
        [
            Row(what, median(ready[1:]), " s", min(ready[1:]), max(ready[1:]), Bar("<=", 2)),
            Row("daemon: the first start, without", ready[0], " s"),
            Row(
                f"daemon: from SIGTERM to the end, {ASKED} lookups in flight",
                median(stopped),
                " s",
                min(stopped),
                max(stopped),
                Bar("<=", 1),
            ),
        ]
    )


def _life(home: Path, bootstrap: list[str]) -> tuple[float, float]:
    """Return how many seconds the start took, and the end."""
    config = home / "daemon.toml"
    config.write_text(SETTINGS.format(port=0, bootstrap=json.dumps(bootstrap[:3])))
    words = [sys.executable, "-m", "dhtmeta", "daemon", "--config", str(config)]
    environment = os.environ | {"XDG_DATA_HOME": str(home)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a daemon is not compiled at each start
    begin = time.monotonic()
    with (
        subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment) as daemon,
        contextlib.ExitStack() as broken_off,
    ):
        broken_off.callback(daemon.kill)  # which does nothing where it has ended
        assert daemon.stderr is not None
        url = _logged(daemon.stderr, "HTTP on ").partition("HTTP on ")[2]
        _logged(daemon.stderr, "online")
        ready = time.monotonic() - begin
        with ThreadPoolExecutor(ASKED) as asking:
            for _ in range(ASKED):
                asking.submit(_ask, f"{url}/v1/records/{os.urandom(32).hex()}?policy=freshest")
            time.sleep(0.01)  # so that they are under way, not so that they are done
            end = time.monotonic()
            daemon.send_signal(signal.SIGTERM)
            code = daemon.wait()
            stopped = time.monotonic() - end
    assert code == 0, code
    return ready, stopped


def _logged(stderr: IO[str], words: str) -> str:
    """Read until a line says this, and return what it says."""
    for line in stderr:
        said: str = json.loads(line)["event"]
        if words in said:
            return said
    raise RuntimeError(f"the daemon ended before it said {words!r}")


def _ask(url: str) -> None:
    with contextlib.suppress(OSError):  # not found, or cut off: both are what is wanted
        urllib.request.urlopen(url, timeout=10).close()
