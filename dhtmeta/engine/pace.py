"""How fast the work goes: a budget of datagrams a second, kept on average over a second."""

import asyncio


class Pace:
    """Lets as many looks begin as `rate` datagrams a second allow; `guess` is what one takes."""

    def __init__(self, rate: float, guess: float) -> None:
        self.rate = rate
        self._guess = guess
        self._free_at = 0.0  # loop time from which on there is budget

    def change(self, rate: float) -> None:
        """Go at another rate from now on, whatever was spent before."""
        self.rate, self._free_at = rate, 0.0

    async def begin(self) -> None:
        """Wait for one's turn, and take what a look will probably cost."""
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now - 1.0)
        starts = self._free_at
        self._free_at += self._guess / self.rate
        if starts > now:
            await asyncio.sleep(starts - now)

    def end(self, sent: float) -> None:
        """Settle the difference to what it did cost."""
        self._free_at += (sent - self._guess) / self.rate
        self._guess += (sent - self._guess) / 64
