"""Holds a miner's outputs: those the native miner has as attachments, and those nobody has seen.

An output that was given and withdrawn unused is as good as new, so it goes out again with the next
share; only what was sent is used up.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from radpool_sv2_extensions.ecash.message import Claim as ClaimTail

if TYPE_CHECKING:
    from collections.abc import Iterable

    from radpool_sv2.wallet import Output

__all__ = ["Given", "Stock"]

SHORT_LEN: Final = 8


@dataclass(frozen=True, slots=True)
class Given:
    """Is an output that the native miner has, of which keyset and in which lot."""

    keyset: bytes
    output: Output
    lot: int


class Stock:
    """Is the outputs of the present keyset, and all that are given."""

    def __init__(self) -> None:
        self._keyset = b""
        self._unseen: deque[Output] = deque()
        self._given: dict[int, Given] = {}
        self._next = 0

    @property
    def given(self) -> int:
        """How many the native miner has."""
        return len(self._given)

    @property
    def keys(self) -> set[tuple[bytes, int]]:
        """Which outputs were not sent."""
        unseen = {(self._keyset, output.counter) for output in self._unseen}
        return unseen | {(given.keyset, given.output.counter) for given in self._given.values()}

    def turn_to(self, keyset: bytes) -> None:
        """Keeps outputs of this keyset only."""
        if keyset != self._keyset:
            self._keyset = keyset
            self._unseen.clear()

    def clear(self) -> None:
        """Forgets what nobody has seen."""
        self._unseen.clear()

    def draw(self, count: int) -> list[Output]:
        """Takes up to `count` outputs that nobody has seen."""
        return [self._unseen.popleft() for _ in range(min(count, len(self._unseen)))]

    def give(self, outputs: Iterable[Output], lot: int) -> list[tuple[int, bytes]]:
        """Turns outputs into attachments: a number and the bytes of the claim."""
        attachments = []
        for output in outputs:
            self._given[self._next] = Given(self._keyset, output, lot)
            tail = ClaimTail(self._keyset[:SHORT_LEN], output.blinded).encode()
            attachments.append((self._next, tail))
            self._next += 1
        return attachments

    def send(self, number: int) -> Given:
        """Takes an attachment that went out."""
        return self._given.pop(number)

    def put_back(self, numbers: Iterable[int]) -> None:
        """Takes attachments back that were not used."""
        for number in numbers:
            given = self._given.pop(number)
            if given.keyset == self._keyset:
                self._unseen.append(given.output)
