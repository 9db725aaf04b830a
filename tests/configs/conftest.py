"""What a real daemon's HTTP server exports on a real swarm, for the files that count on it."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from dhtmeta.config import Http
from dhtmeta.daemon.http import start_http
from dhtmeta.daemon.status import State, Status
from dhtmeta.node import Node
from dhtmeta.testing.swarm import Swarm
from tests.configs.promql import grouped_by, selectors
from tests.conftest import resident_node

CONFIGS = Path(__file__).parents[2] / "configs"
FROM_PROMETHEUS = {"up"}  # what it adds by itself
BY_PROMETHEUS = {"job", "instance"}  # labels that it adds to every metric
CLOSED = {
    "state",
    "result",
    "direction",
    "source",
    "type",
}  # labels of which every value is always exported


@dataclass
class Exported:
    """Metric -> label -> values, as /metrics gives them."""

    metrics: dict[str, dict[str, set[str]]] = field(default_factory=dict)

    def check(self, expression: str) -> None:
        """AssertionError if the expression reads what is not there."""
        known: set[str] = set(BY_PROMETHEUS)
        for metric, labels in selectors(expression):
            assert metric in self.metrics or metric in FROM_PROMETHEUS, metric
            there = self.metrics.get(metric, {})
            known |= there.keys()
            for name, operator, value in labels:
                assert name in there.keys() | BY_PROMETHEUS, f"{metric} has no label {name}"
                if name in CLOSED and operator == "=":
                    assert value in there[name], f"{metric} has no {name}={value}"
        assert grouped_by(expression) <= known, expression


@pytest_asyncio.fixture(scope="session")
async def exported(
    swarm: Swarm, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Exported]:
    """Return what a daemon exports that has answered a request."""
    async with resident_node(swarm, tmp_path_factory.mktemp("exported")) as node:
        yield _read(await _exported_by(node))


def _read(text: str) -> Exported:
    found = Exported()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.metrics.setdefault(sample.name, {})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
    return found


async def _exported_by(node: Node) -> str:
    status = Status(State.READY, (), time.time())
    finder = await node.open_discovery("exported", listen="127.0.0.1:0")
    http = Http(listen="127.0.0.1:0")
    server = await start_http(node, http, lambda: status, node.counts, time.time, finder=finder)
    here = "http://{}:{}".format(*server.endpoint)
    try:
        async with aiohttp.ClientSession() as client:
            assert (await client.get(f"{here}/health")).status == 200
            return await (await client.get(f"{here}/metrics")).text()
    finally:
        await server.close()
