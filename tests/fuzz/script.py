"""Bytes read as a script: each decision takes one, and once they are used up all are 0."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Script:
    """What a fuzzer's bytes decide."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def over(self) -> bool:
        """Whether nothing is left to decide."""
        return self._at >= len(self._data)

    def byte(self) -> int:
        """Return 0 … 255."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def pick(self, choices: Sequence[T]) -> T:
        """Return one of the choices; the first where the script is over."""
        return choices[self.byte() % len(choices)]

    def some(self, choices: Sequence[T]) -> list[T]:
        """Return up to fifteen of the choices, in any order, some of them more than once."""
        return [self.pick(choices) for _ in range(self.byte() % 16)]

    def raw(self) -> bytes:
        """Return up to 255 bytes as they are."""
        size = self.byte()
        piece = self._data[self._at : self._at + size]
        self._at += len(piece)
        return piece
