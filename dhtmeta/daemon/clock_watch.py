"""Whether the wall clock jumped: seqs do not depend on it, but timestamps and due times do."""

from dhtmeta.const import CLOCK_JUMP, CLOCK_JUMP_TOLD


class ClockWatch:
    """Compares the wall clock (Unix s) with one that cannot jump (s)."""

    def __init__(self, wall: float, steady: float) -> None:
        self._offset = wall - steady
        self._jump = 0.0
        self._jumped_at = float("-inf")

    def look(self, wall: float, steady: float) -> float:
        """Return by how many seconds it jumped since the last look; 0 for what is no jump."""
        jump = wall - steady - self._offset
        self._offset += jump
        if abs(jump) < CLOCK_JUMP:
            return 0.0
        self._jump, self._jumped_at = jump, steady
        return jump

    def problem(self, steady: float) -> str | None:
        """Return what to tell people of the last jump, for an hour after it."""
        if steady > self._jumped_at + CLOCK_JUMP_TOLD:
            return None
        return (
            f"the clock jumped by {self._jump:+.0f} s: check the time service; records are looked "
            f"at again, and timestamps follow the clock of now"
        )
