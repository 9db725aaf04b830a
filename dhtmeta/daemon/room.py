"""How many records are kept alive for others, though the ledger is counted only now and then."""

import contextlib
from collections.abc import Callable, Iterator

from dhtmeta.const import ENROLMENT_COUNTED


class Room:
    """What `counted` says, and what was enrolled since; `now` gives monotonic seconds.

    While records are enrolled we count them ourselves, on top of what the ledger had before. Its
    own count is believed again once it surely has the last of them.
    """

    def __init__(self, counted: Callable[[], int], now: Callable[[], float]) -> None:
        self._counted, self._now = counted, now
        self._under_way = 0
        self._ours = 0
        self._believed_until = float("-inf")

    @property
    def taken(self) -> int:
        """How many are kept, or will be as soon as they are stored."""
        return self._kept() + self._under_way

    @contextlib.contextmanager
    def enrolling(self) -> Iterator[None]:
        """Count one more: for good, unless it fails."""
        self._under_way += 1
        try:
            yield
            self._ours = self._kept() + 1
            self._believed_until = self._now() + ENROLMENT_COUNTED
        finally:
            self._under_way -= 1

    def _kept(self) -> int:
        ours = self._ours if self._now() < self._believed_until else 0
        return max(ours, self._counted())
