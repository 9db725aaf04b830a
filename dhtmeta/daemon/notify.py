"""What systemd is told (sd_notify): one datagram each to the socket it names, or nothing at all."""

import os
import socket
from collections.abc import Mapping


class Systemd:
    """The supervisor, if there is one; `watchdog` is how often (s) it wants a sign of life."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        usec = environment.get("WATCHDOG_USEC", "")
        pid = environment.get("WATCHDOG_PID", str(os.getpid()))
        ours = usec.isdigit() and pid == str(os.getpid())
        self.watchdog = int(usec) / 1_000_000 if ours and int(usec) > 0 else None

    def tell(self, *assignments: str) -> None:
        """Send assignments such as "READY=1"; a supervisor that does not listen changes nothing."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
                to.setblocking(False)
                to.sendto("\n".join(assignments).encode(), address)
        except OSError:
            pass
