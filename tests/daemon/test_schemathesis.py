"""What schemathesis makes of the served document gives no 5xx, and only answers it describes."""

import asyncio
import copy
from typing import Any

import pytest

from bench.http_fuzz import UNLIMITED, Found, fuzz
from dhtmeta.config import Http
from dhtmeta.daemon import openapi
from dhtmeta.node import Node
from tests.daemon.http_server import serving

RECORD = "/v1/records/{public_key}"
MET = (("GET", 200), ("PUT", 201), ("PUT", 409), ("PUT", 422))  # what has to have been met


def unlimited() -> dict[str, Any]:
    names = Http.__struct_fields__
    return {name: getattr(UNLIMITED, name) for name in names}


@pytest.mark.timeout(300)
async def test_generated_requests_give_what_the_document_describes(writer: Node) -> None:
    found = Found()
    async with serving(writer, **unlimited()) as served:
        for first_seed in range(0, 10_000, 1000):  # what a seed stands for changes with our code
            more = await asyncio.to_thread(fuzz, served.base, 300, first_seed)
            found.statuses.update(more.statuses)
            found.wrong += more.wrong
            if all(found.statuses[f"{method} {RECORD}", status] for method, status in MET):
                break
    assert found.sent > 250
    assert found.wrong == []
    assert found.server_errors == 0
    for method, status in MET:
        assert found.statuses[f"{method} {RECORD}", status], (method, status)


async def test_an_answer_that_is_not_described_is_noticed(
    writer: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = copy.deepcopy(openapi.document()["paths"]["/peers"])
    del peers["get"]["responses"]["400"]
    document = openapi.document() | {"paths": {"/peers": peers}}
    monkeypatch.setattr(openapi, "document", lambda: document)
    async with serving(writer, **unlimited()) as served:
        found = await asyncio.to_thread(fuzz, served.base, 100)
    assert any("400" in said for said in found.wrong)
