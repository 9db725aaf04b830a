"""The internet of namespaces: who reaches whom through which NAT, and that nothing is left."""

import contextlib
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dhtmeta.errors import CallerError, LocalError
from dhtmeta.testing.netns import Host, Internet

PORT = 4000
MDNS = "224.0.0.251"
WITHIN = 10.0  # s: far above what it takes
Bind = Callable[..., socket.socket]

KILLED = """
import os, signal
from dhtmeta.testing.netns import Internet
net = Internet()
net.__enter__()
print(net.public().name, net.lan().host().name, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def bind() -> Iterator[Bind]:
    """Bind UDP sockets on hosts, and close them when the test ends."""
    with contextlib.ExitStack() as sockets:

        def bound(host: Host, port: int = PORT, *, group: str = "") -> socket.socket:
            with host.inside():
                made = sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                made.bind(("" if group else host.address, port))
                if group:
                    member = struct.pack("4s4s", *map(socket.inet_aton, (group, host.address)))
                    made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
            made.settimeout(WITHIN)
            return made

        yield bound


def namespaces() -> set[str]:
    return {path.name for path in Path("/run/netns").glob("dhtmeta-*")}


def test_two_public_hosts_reach_each_other(internet: Internet, bind: Bind) -> None:
    one, other = internet.public(), internet.public()
    here, there = bind(one), bind(other)
    here.sendto(b"hello", (other.address, PORT))
    assert there.recvfrom(100) == (b"hello", (one.address, PORT))
    there.sendto(b"and you", (one.address, PORT))
    assert here.recvfrom(100) == (b"and you", (other.address, PORT))


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_private_host_reaches_a_public_one_and_hears_the_reply(
    internet: Internet, bind: Bind, symmetric: bool
) -> None:
    lan, public = internet.lan(symmetric=symmetric), internet.public()
    inside, outside = bind(lan.host()), bind(public)
    inside.sendto(b"hello", (public.address, PORT))
    said, seen = outside.recvfrom(100)
    assert (said, seen[0]) == (b"hello", lan.address)
    outside.sendto(b"and you", seen)
    assert inside.recvfrom(100) == (b"and you", (public.address, PORT))


def test_a_stranger_does_not_get_in(internet: Internet, bind: Bind) -> None:
    lan, friend, stranger = internet.lan(), internet.public(), internet.public()
    inside, asked, unasked = bind(lan.host()), bind(friend), bind(stranger)
    other_port = bind(friend, PORT + 1)
    inside.sendto(b"hello", (friend.address, PORT))
    _, mapping = asked.recvfrom(100)
    for sender in (unasked, other_port, asked):
        sender.sendto(b"psst", mapping)
    assert inside.recvfrom(100) == (b"psst", (friend.address, PORT))


def test_a_cone_nat_shows_one_port_even_where_a_stranger_was_early(
    internet: Internet, bind: Bind
) -> None:
    lan, publics = internet.lan(), [internet.public() for _ in range(3)]
    inside, outside = bind(lan.host()), [bind(public) for public in publics]
    for one in outside:
        one.sendto(b"psst", (lan.address, PORT))
    assert ports_seen(inside, publics, outside) == {PORT}


def test_a_symmetric_nat_shows_another_port_to_each(internet: Internet, bind: Bind) -> None:
    lan, publics = internet.lan(symmetric=True), [internet.public() for _ in range(3)]
    inside, outside = bind(lan.host()), [bind(public) for public in publics]
    assert len(ports_seen(inside, publics, outside)) > 1


def ports_seen(
    inside: socket.socket, publics: list[Host], outside: list[socket.socket]
) -> set[int]:
    for public in publics:
        inside.sendto(b"hello", (public.address, PORT))
    return {one.recvfrom(100)[1][1] for one in outside}


def test_hosts_of_one_lan_see_each_others_multicast(internet: Internet, bind: Bind) -> None:
    lan = internet.lan()
    one, other = lan.host(), lan.host()
    there = bind(other, group=MDNS)
    bind(one).sendto(b"who is here", (MDNS, PORT))
    assert there.recvfrom(100) == (b"who is here", (one.address, PORT))


def test_the_internet_forwards_no_multicast(internet: Internet, bind: Bind) -> None:
    one, other, inside = internet.public(), internet.public(), internet.lan().host()
    there = bind(other, group=MDNS)
    for host in (one, inside):
        here = bind(host)
        here.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 32)
        here.sendto(b"who is here", (MDNS, PORT))
        here.sendto(b"only you", (other.address, PORT))
        assert there.recv(100) == b"only you"


def test_a_host_loses_the_share_it_is_told_to(internet: Internet, bind: Bind) -> None:
    one, other = internet.public(), internet.public()
    here, there = bind(one), bind(other)
    other.lose(0.5)
    for _ in range(100):
        here.sendto(b"perhaps", (other.address, PORT))
    other.lose(0)
    here.sendto(b"surely", (other.address, PORT))
    arrived = list(iter(lambda: there.recv(100), b"surely"))
    assert 10 < len(arrived) < 90


def test_a_host_that_loses_all_hears_nothing(internet: Internet, bind: Bind) -> None:
    one, other = internet.public(), internet.public()
    here, there = bind(one), bind(other)
    other.lose(1)
    for _ in range(100):
        here.sendto(b"in vain", (other.address, PORT))
    other.lose(0)
    here.sendto(b"surely", (other.address, PORT))
    assert there.recv(100) == b"surely"


def test_a_share_above_all_is_refused() -> None:
    with pytest.raises(CallerError, match="0 … 1"):
        Host("none", "81.1.0.1").lose(1.5)


def test_a_thread_that_enters_a_host_is_alone_there(internet: Internet) -> None:
    host = internet.public()

    def bound_after_entering() -> str:
        host.enter()
        return bound_here()

    def bound_here() -> str:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
            made.bind((host.address, 0))
            return str(made.getsockname()[0])

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(bound_after_entering).result() == host.address
    with pytest.raises(OSError, match="assign"):
        bound_here()


async def test_what_runs_on_a_host_has_its_address(internet: Internet) -> None:
    host = internet.public()
    process = await host.spawn(["ip", "-br", "addr", "show", "eth0"], stdout=subprocess.PIPE)
    said, _ = await process.communicate()
    assert f" {host.address}/" in said.decode()
    assert f" {host.address}/" in host.run(["ip", "-br", "addr", "show", "eth0"])


def test_a_command_that_fails_says_why(internet: Internet) -> None:
    with pytest.raises(LocalError, match="nowhere"):
        internet.public().run(["ip", "link", "show", "nowhere"])


async def test_nothing_is_left_even_after_an_error(internet: Internet) -> None:
    stays = namespaces()
    with pytest.raises(ZeroDivisionError), Internet() as net:  # noqa: PT012 - what is left is asked
        host = net.lan().host()
        process = await host.spawn(["sleep", "60"])
        assert host.name in namespaces()
        raise ZeroDivisionError
    assert await process.wait() == -signal.SIGKILL
    assert not {name for name in namespaces() - stays if name.startswith(own_part(host))}


def own_part(host: Host) -> str:
    """Return what the names of one internet begin with."""
    return host.name.rpartition("-")[0]


def test_what_a_killed_process_left_goes_with_the_next_internet(internet: Internet) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED], capture_output=True, text=True, check=False
    )
    left = set(done.stdout.split())
    assert len(left) == 2, done.stderr
    with Internet():
        assert not left & namespaces()
    assert internet.public().name in namespaces()  # that of the living stays
