"""What a datagram costs in our socket: CPU of sending one and reading its answer, on loopback."""

import asyncio
import resource
import socket
import threading

import uvloop

from dhtmeta.dht.direct.udp import Datagrams, UdpSocket

SIZE = 300  # bytes, about the mean of a lookup's datagrams
AT_ONCE = 64


def cpu_per_datagram(count: int) -> float:
    """Return seconds of CPU a datagram, in or out, from `count` echoed ones."""
    return uvloop.run(_measure(count))


async def _measure(count: int) -> float:
    udp, heard, done = UdpSocket("127.0.0.1:0"), 0, asyncio.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
        echo.bind(("127.0.0.1", 0))
        peer, data = echo.getsockname(), bytes(SIZE)

        def on_datagrams(datagrams: Datagrams) -> None:
            nonlocal heard
            heard += len(datagrams)
            if heard >= count:
                done.set()
            else:
                udp.send([(data, peer)] * len(datagrams))

        udp.open(on_datagrams)
        answering = threading.Thread(target=_answer, args=(echo,), daemon=True)
        answering.start()
        before = _thread_cpu()
        udp.send([(data, peer)] * AT_ONCE)
        await done.wait()
        spent = _thread_cpu() - before
        udp.close()
        echo.sendto(b"", peer)
        await asyncio.to_thread(answering.join)
    return spent / (2 * heard)


def _answer(echo: socket.socket) -> None:
    """Send back what comes, until something empty does."""
    while True:
        data, source = echo.recvfrom(2048)
        if not data:
            return
        echo.sendto(data, source)


def _thread_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_THREAD)
    return used.ru_utime + used.ru_stime
