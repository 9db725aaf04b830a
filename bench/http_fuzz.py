"""Sends the daemon what schemathesis makes of its own OpenAPI document, and counts the answers.

    python -m bench.http_fuzz [REQUESTS]

Half of them fit the document and half do not; of the puts that fit, half carry a
real signature, and of the gets that fit, half ask for what those put.
Every answer is checked against the document. Prints how many requests gave which status, and exits
with 1 if any gave a 5xx or an answer that the document does not describe.
"""

import asyncio
import json
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import schemathesis
import uvloop
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from dhtmeta.config import Http, Settings
from dhtmeta.daemon.http import start_http
from dhtmeta.daemon.status import State, Status
from dhtmeta.engine.counts import Counts
from dhtmeta.node import Node
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity
from dhtmeta.values.signed_file import to_signed_file

REQUESTS, NODES = 10_000, 12
OFTEN = {"GET /v1/records/{public_key}": 37, "PUT /v1/records/{public_key}": 37}  # of 100
ONLY_ONE = 1  # of 100, for a path that takes no parameters: every request to it is the same
UNLIMITED = Http(listen="127.0.0.1:0", gets_per_minute=10_000_000, puts_per_minute=1_000_000)
OWNERS = [Identity(bytes([i]) * 32) for i in range(8)]  # few, so that they meet their own records


@dataclass
class Found:
    """Answers by operation and status, and what was wrong with any."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def sent(self) -> int:
        return self.statuses.total()

    @property
    def server_errors(self) -> int:
        return sum(n for (_, status), n in self.statuses.items() if status >= 500)


@st.composite
def signed_files(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """Draw a signed file, which may be damaged in one place, and its salt."""
    salt = draw(st.sampled_from([b"", b"", b"salt"]))
    value = draw(st.sampled_from([b"one", b"two", {b"a": [1, b"\xff"]}]))
    seq = draw(st.integers(0, 30))
    item = SignedItem.sign(draw(st.sampled_from(OWNERS)), encode_value(value), seq, salt)
    fields = json.loads(to_signed_file(item))
    damaged = draw(st.sampled_from(["", "", "", "seq", "v", "sig", "salt", "target"]))
    if damaged:
        fields[damaged] = seq + 1 if damaged == "seq" else "00" + fields[damaged][2:]
    return fields, salt


def fuzz(base: str, count: int, first_seed: int = 0) -> Found:
    """Send about `count` requests to the server at `base`, and return what came back."""
    schema = schemathesis.openapi.from_url(f"{base}/openapi.json")
    found = Found()
    with requests.Session() as session:
        operations: list[Any] = [one.ok() for one in schema.get_all_operations()]  # type: ignore[union-attr]
        for operation in sorted(operations, key=lambda one: not one.label.startswith("PUT")):
            has_parameters = len(list(operation.iter_parameters())) > 0
            share = OFTEN.get(operation.label, 10) if has_parameters else ONLY_ONE
            modes = list(GenerationMode) if has_parameters else [GenerationMode.POSITIVE]
            for mode in modes:
                wanted = max(1, count * share // 100 // len(modes))
                _fuzz_one(operation, mode, wanted, session, found, first_seed)
    return found


def _fuzz_one(
    operation: Any,
    mode: GenerationMode,
    wanted: int,
    session: requests.Session,
    found: Found,
    number: int,
) -> None:
    """Send `wanted` requests to one operation; hypothesis says itself when it has no more."""
    files: st.SearchStrategy[Any] = st.none()
    if operation.label in OFTEN and mode is GenerationMode.POSITIVE:
        files = st.one_of(st.none(), signed_files())
    end = found.sent + wanted
    while found.sent < end:
        number += 1

        @seed(number)
        @hypothesis_settings(
            max_examples=end - found.sent,
            phases=[Phase.generate],
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode), file=files)
        def send(case: Any, file: Any) -> None:
            if file is not None:
                _carry(case, *file)
            response = case.call(session=session)
            found.statuses[operation.label, response.status_code] += 1
            _check(case, response, found)

        send()


def _carry(case: Any, fields: dict[str, Any], salt: bytes) -> None:
    """Make a case one that puts this file where it belongs, or asks for it there."""
    case.path_parameters["public_key"] = fields["public_key"]
    case.query = {"salt": salt.hex()} if salt else {}
    if case.method == "PUT":
        case.headers.pop("If-Match", None)
        case.body = fields


def _check(case: Any, response: Any, found: Found) -> None:
    """Note an answer that the document does not describe.

    What fits the document may still be refused: who can sign is not said in a schema. And a Host
    that was made up is refused with 421, a status that schemathesis does not take for a refusal.
    """
    excluded = [positive_data_acceptance]
    if response.status_code == 421:
        excluded.append(negative_data_rejection)
    try:
        case.validate_response(response, excluded_checks=excluded)
    except (Failure, FailureGroup) as failure:
        found.wrong.append(f"{case.operation.label} {response.status_code}: {failure}")


async def serve(count: int) -> Found:
    """Serve a node of a local swarm, and have it fuzzed from a thread."""
    with tempfile.TemporaryDirectory() as directory:
        async with (
            Swarm(NODES) as swarm,
            Node(
                bootstrap=swarm.addresses[:2],
                keys=Path(directory) / "keys",
                store=str(Path(directory) / "store.db"),
                state=Path(directory) / "dht",
                settings=Settings(),
            ) as node,
        ):
            status = Status(State.READY, (), node.clock())
            server = await start_http(node, UNLIMITED, lambda: status, Counts(), node.clock)
            try:
                host, port = server.endpoint
                return await asyncio.to_thread(fuzz, f"http://{host}:{port}", count)
            finally:
                await server.close()


def main() -> int:
    """Run it, and print the table."""
    found = uvloop.run(serve(int(sys.argv[1]) if len(sys.argv) > 1 else REQUESTS))
    for (label, status), count in sorted(found.statuses.items()):
        print(f"{count:>6}  {status}  {label}")
    print(f"{found.sent:,} requests, {found.server_errors} 5xx, {len(found.wrong)} not described")
    for said in found.wrong[:5]:
        print(said, file=sys.stderr)
    return int(bool(found.server_errors or found.wrong))


if __name__ == "__main__":
    sys.exit(main())
