"""A NAT that gateway protocols can open: a real miniupnpd on a LAN in network namespaces."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from dhtmeta.testing.netns import Lan
from tests.conftest import missing

WITHIN = 20.0  # s: far above what it takes

CHAINS = """
table inet miniupnpd {
    chain allowed {
    }
    chain mapped {
    }
    chain sent {
    }
    chain in {
        type nat hook prerouting priority dstnat
        jump mapped
    }
}
"""

CONFIGURATION = """
ext_ifname=eth0
ext_ip={address}
listening_ip=lan
enable_natpmp={natpmp}
enable_upnp={upnp}
uuid=00000000-0000-0000-0000-000000000001
upnp_table_name=miniupnpd
upnp_nat_table_name=miniupnpd
upnp_forward_chain=allowed
upnp_nat_chain=mapped
upnp_nat_postrouting_chain=sent
{rules}
"""

ALLOWED = "allow 1024-65535 10.0.0.0/8 1024-65535"


class Gateway:
    """The NAT of a LAN with a miniupnpd on it, which can be started anew with other rules."""

    def __init__(self, lan: Lan, directory: Path) -> None:
        if shutil.which("miniupnpd") is None:
            missing("miniupnpd is missing (Debian: miniupnpd-nftables)")
        self._lan = lan
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None
        lan.gateway.run(["nft", "-f", "-"], CHAINS)

    async def start(self, *rules: str, upnp: str = "yes", natpmp: str = "yes") -> None:
        """Run it, and return once it listens."""
        configuration = self._directory / "miniupnpd.conf"
        address = self._lan.address
        configuration.write_text(
            CONFIGURATION.format(address=address, rules="\n".join(rules), upnp=upnp, natpmp=natpmp),
            encoding="ascii",
        )
        argv = ["miniupnpd", "-d", "-f", str(configuration), "-P", str(self._directory / "pid")]
        log = self._directory / "log"
        with log.open("wb") as stderr:
            self._process = await self._lan.gateway.spawn(argv, stderr=stderr)
        last = "Listening for NAT-PMP" if natpmp == "yes" else "HTTP listening"
        await until(lambda: last in log.read_text(encoding="utf-8"))

    async def stop(self) -> None:
        """Kill it: told to end, it may take minutes."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.wait()

    def rules(self) -> str:
        """Return which ports it maps where."""
        return self._lan.gateway.run(["nft", "list", "chain", "inet", "miniupnpd", "mapped"])


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN):
        while not holds():
            await asyncio.sleep(0.01)
