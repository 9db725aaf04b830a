"""An internet of network namespaces: who is public, who sits behind which NAT, what is removed.

The internet is one router, so that it forwards no multicast; nothing is routed out of the machine.
Names carry the process that made them: what a killed one left is removed by whoever comes next.
"""

import asyncio
import contextlib
import ctypes
import functools
import os
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dhtmeta.errors import CallerError, LocalError

_NAMESPACES = Path("/run/netns")
_NAME = re.compile(r"dhtmeta-(?P<pid>[0-9]+)-[0-9a-f]{6}-[a-z0-9]+")
_CLONE_NEWNET = 0x40000000  # setns(2)
_ROUTER = "169.254.0.1"  # the internet, as seen by each host that is attached to it
_HOSTS_PER_OCTET = 250
_LAN_HOSTS = 253  # of a /24 without its gateway

# New connections from outside are dropped on the NAT itself, too: one that it remembers would
# take the port that a host inside is about to get.
_NAT = """
table ip nat {{
    chain out {{
        type nat hook postrouting priority srcnat
        oifname "eth0" masquerade {how}
    }}
    chain to_itself {{
        type filter hook input priority filter
        iifname "eth0" ct state new drop
    }}
    chain to_the_lan {{
        type filter hook forward priority filter
        iifname "eth0" ct state new ct status & dnat == 0 drop
    }}
}}
"""

_LOSS = """
table ip loss {{}}
delete table ip loss
table ip loss {{
    chain heard {{
        type filter hook input priority raw
        iifname != "lo" {which} drop
    }}
}}
"""


class Host:
    """One machine of an `Internet`: a network namespace with loopback and `eth0`.

    `name` is the namespace's, `address` the IPv4 address of `eth0`.
    """

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self._spawned: list[asyncio.subprocess.Process] = []

    def __repr__(self) -> str:
        return f"Host({self.name!r}, {self.address!r})"

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` here; the process keeps the id it is started with."""
        return ["nsenter", f"--net={_NAMESPACES / self.name}", *argv]

    def run(self, argv: Sequence[str], text: str = "") -> str:
        """Run `argv` here with `text` on stdin, return its stdout; LocalError if it fails."""
        return _run(self.command(argv), text)

    async def spawn(self, argv: Sequence[str], **options: Any) -> asyncio.subprocess.Process:
        """Start `argv` here; takes the options of `asyncio.create_subprocess_exec`."""
        process = await asyncio.create_subprocess_exec(*self.command(argv), **options)
        self._spawned.append(process)  # it may be killed before it has come here
        return process

    def enter(self) -> None:
        """Move the calling thread here for good: for a process that was just forked."""
        with (_NAMESPACES / self.name).open("rb") as namespace:
            _set_namespace(namespace.fileno())

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Move the calling thread here for the block.

        Sockets opened and threads started in the block stay here afterwards.
        """
        with Path("/proc/thread-self/ns/net").open("rb") as own:
            self.enter()
            try:
                yield
            finally:
                _set_namespace(own.fileno())

    def lose(self, share: float) -> None:
        """Drop that share (0 … 1) of the packets that come in from now on."""
        if not 0 <= share <= 1:
            raise CallerError(f"a share is 0 … 1, got {share}")
        some = f"numgen random mod 1000 < {round(share * 1000)}"
        self.run(["nft", "-f", "-"], _LOSS.format(which="" if share == 1 else some))

    def _ip(self, *lines: str) -> None:
        """Run lines of `ip` here, all or an error."""
        _run(["ip", "-n", self.name, "-batch", "-"], "\n".join(lines))

    def _set(self, setting: str, value: str) -> None:
        """Set a sysctl of net/ here, if this kernel has it."""
        path = Path("/proc/sys/net", setting)
        with self.inside():
            if path.exists():
                path.write_text(value, encoding="ascii")

    def _attach(self, host: "Host", port: str) -> None:
        """Give `host` its `eth0`, whose other end is our interface `port`; both still down."""
        self._ip(f"link add {port} type veth peer name eth0 netns {host.name}")


class Lan:
    """Hosts in one private /24 behind `gateway`, whose address is what the internet sees."""

    def __init__(self, internet: "Internet", gateway: Host, net: str) -> None:
        self.gateway = gateway
        self._internet = internet
        self._net = net
        self._hosts = 0

    @property
    def address(self) -> str:
        """The outside address of the NAT."""
        return self.gateway.address

    def host(self) -> Host:
        """Add a host, which sees the other ones here (multicast, too) and the internet."""
        if self._hosts == _LAN_HOSTS:
            raise CallerError(f"a LAN has at most {_LAN_HOSTS} hosts")
        self._hosts += 1
        name = f"{self.gateway.name}h{self._hosts}"
        host = self._internet._made(name, f"{self._net}.{1 + self._hosts}")
        self.gateway._attach(host, f"h{self._hosts}")
        self.gateway._ip(f"link set h{self._hosts} master lan up")
        host._ip(
            "link set eth0 up",
            f"addr add {host.address}/24 dev eth0",
            f"route add default via {self._net}.1",
        )
        return host


class Internet:
    """`with Internet() as net:` makes namespaces as they are asked for, and removes them all.

    Processes that still run in one of them at the end are killed.
    """

    def __init__(self) -> None:
        self._prefix = f"dhtmeta-{os.getpid()}-{secrets.token_hex(3)}"
        self._hosts: list[Host] = []
        self._attached = 0
        self._lans = 0

    def __enter__(self) -> Self:
        _remove_leftovers()
        try:
            self._router = self._made(f"{self._prefix}-internet", _ROUTER)
            self._router._ip("route add blackhole default")  # who is not there does not answer
            self._router._set("ipv4/ip_forward", "1")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove everything; closing twice is fine."""
        for process in (one for host in self._hosts for one in host._spawned):
            if process.returncode is None:
                _kill(process.pid)
        _remove([host.name for host in self._hosts])
        self._hosts.clear()

    def public(self) -> Host:
        """Add a host with a global address of its own, 81.N.0.1, that everybody can reach."""
        return self._attached_host("p")

    def lan(self, *, symmetric: bool = False) -> Lan:
        """Add a LAN behind a NAT: port-restricted cone, or with another port for each destination.

        Port mappings (dnat) that something on its gateway makes let strangers in.
        """
        gateway = self._attached_host("n")
        self._lans += 1
        net = f"10.{_two_octets(self._lans)}"
        gateway._ip(
            "link add lan type bridge mcast_snooping 0",
            "link set lan up",
            f"addr add {net}.1/24 dev lan",
        )
        gateway._set("ipv4/ip_forward", "1")
        gateway.run(["nft", "-f", "-"], _NAT.format(how="random" if symmetric else ""))
        return Lan(self, gateway, net)

    def _attached_host(self, kind: str) -> Host:
        """Add a host that hangs on the router by a wire of its own."""
        self._attached += 1
        port = f"{kind}{self._attached}"
        host = self._made(f"{self._prefix}-{port}", f"81.{_two_octets(self._attached)}.1")
        self._router._attach(host, port)
        self._router._ip(
            f"link set {port} up",
            f"addr add {_ROUTER}/32 dev {port}",
            f"route add {host.address}/32 dev {port}",
        )
        host._ip(
            "link set eth0 up",
            f"addr add {host.address}/32 dev eth0",
            f"route add default via {_ROUTER} dev eth0 onlink",
        )
        return host

    def _made(self, name: str, address: str) -> Host:
        """Make a namespace with nothing but loopback."""
        host = Host(name, address)
        self._hosts.append(host)  # before it exists: half of one is removed, too
        _run(["ip", "netns", "add", name])
        host._set("ipv6/conf/default/addr_gen_mode", "1")  # no fe80:: address, and no wait for one
        host._ip("link set lo up")
        return host


@functools.cache
def why_not() -> str | None:
    """Return None where this machine can make an `Internet`, else what is in the way."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    missing = [name for name in ("ip", "nft", "nsenter") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} missing (Debian: iproute2, nftables, util-linux)"
    try:
        with Internet() as net:
            net.lan(symmetric=True).host().lose(0)
    except (LocalError, OSError) as error:
        return f"this machine refuses network namespaces: {error}"
    return None


def _two_octets(number: int) -> str:
    """Write a network's number so that neighbours differ in the first of two octets."""
    return f"{1 + (number - 1) % _HOSTS_PER_OCTET}.{(number - 1) // _HOSTS_PER_OCTET}"


def _set_namespace(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns came with Python 3.12
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise LocalError(f"cannot enter a network namespace: {os.strerror(code)}")


def _remove_leftovers() -> None:
    """Remove what processes left that are gone."""
    if not _NAMESPACES.exists():
        return
    found = [match for one in _NAMESPACES.iterdir() if (match := _NAME.fullmatch(one.name))]
    _remove([one[0] for one in found if not Path("/proc", one["pid"]).exists()])


def _remove(names: Sequence[str]) -> None:
    """Kill what still runs in these namespaces and remove them; some may be gone already."""
    there = [name for name in names if (_NAMESPACES / name).exists()]
    if not there:
        return
    _kill_inside({(_NAMESPACES / name).stat().st_ino for name in there})
    lines = "\n".join(f"netns del {name}" for name in there)
    with contextlib.suppress(LocalError):  # another run may be removing the same leftovers
        _run(["ip", "-force", "-batch", "-"], lines)


def _kill_inside(namespaces: Container[int]) -> None:
    for pid in (int(one.name) for one in Path("/proc").glob("[0-9]*")):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if Path(f"/proc/{pid}/ns/net").stat().st_ino in namespaces and pid != os.getpid():
                _kill(pid)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _run(argv: Sequence[str], text: str = "") -> str:
    done = subprocess.run(  # noqa: S603 - what a test wrote
        argv, input=text, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        raise LocalError(f"{' '.join(argv[:6])} failed: {said}")
    return done.stdout
