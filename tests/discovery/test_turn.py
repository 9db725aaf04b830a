"""A TURN server that an operator names is told of while it answers: a real coturn, on loopback."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from dhtmeta.discovery.turn import TurnWatch, answers_binding
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.values.record import NetworkInfo, NodeRecord, Protocol
from tests.conftest import missing


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def coturn(directory: Path, port: int) -> AsyncIterator[None]:
    if shutil.which("turnserver") is None:
        missing("no turnserver on this machine (Debian: coturn)")
    options = ["--no-tls", "--no-dtls", "--no-cli", "--no-auth", "--log-file", "stdout"]
    places = ["--pidfile", str(directory / "pid"), "--userdb", str(directory / "db")]
    process = await asyncio.create_subprocess_exec(
        *("turnserver", "-n", "-L", "127.0.0.1", "-p", str(port), *options, *places),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=directory,
    )
    try:
        yield
    finally:
        process.kill()
        await process.wait()


async def comes_to_answer(endpoint: Endpoint) -> bool:
    async with asyncio.timeout(30):
        while not await answers_binding(endpoint):
            await asyncio.sleep(0.05)
    return True


async def test_a_turn_server_answers_and_a_closed_port_does_not(tmp_path: Path) -> None:
    port = free_port()
    assert not await answers_binding(("127.0.0.1", port))
    async with coturn(tmp_path, port):
        assert await comes_to_answer(("127.0.0.1", port))
    assert not await answers_binding(("127.0.0.1", port))


async def test_what_is_no_answer_to_our_question_does_not_count() -> None:
    class Parrot(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.DatagramTransport)
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Endpoint) -> None:
            self.transport.sendto(data, addr)  # a request, not a success
            self.transport.sendto(b"\x01\x01" + data[2:8] + bytes(12), addr)  # another's
            self.transport.sendto(b"\x01\x01", addr)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Parrot, local_addr=("127.0.0.1", 0))
    try:
        assert not await answers_binding(transport.get_extra_info("sockname")[:2])
    finally:
        transport.close()


async def test_a_watch_hears_when_it_begins_to_answer(tmp_path: Path) -> None:
    port = free_port()
    async with coturn(tmp_path, port):
        await comes_to_answer(("127.0.0.1", port))
        watch, changed = TurnWatch(port, lambda: "127.0.0.1"), asyncio.Event()
        watch.on_change = changed.set
        running = asyncio.create_task(watch.run())
        async with asyncio.timeout(30):
            await changed.wait()
        assert watch.answers
        running.cancel()


def test_a_public_record_says_where_its_turn_server_is() -> None:
    turn = [Protocol(name="turn", port=3478)]
    public = NetworkInfo(node_type="public", public_ip="8.8.8.8", public_port=30906, protocols=turn)
    assert NodeRecord(network_info=public).turn == ("8.8.8.8", 3478)
    assert NodeRecord(network_info=public).serves_others
    private = NetworkInfo(node_type="private", protocols=turn)
    assert NodeRecord(network_info=private).turn is None
    assert not NodeRecord(network_info=private).serves_others
