"""Knows whose residue the shares of a channel join: the claim key that its client has given.

A channel whose client gave none has a name of its own. What it has left over when it ends is
nobody's.

Source: `spec/06-work-tokens.md`, "What a share earns".
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from radpool_sv2._native.ecash import Claimants as NativeClaimants

__all__ = ["Claimants"]

ENDED_MAX: Final = 65_536
"""How many ended channels are remembered: their last shares may still be on their way."""


class Claimants:
    """Remembers claim keys by connection and channel; any thread may ask.

    Attributes:
        native: The keys of all channels that have one, as native code looks them up.
    """

    def __init__(self) -> None:
        self.native = NativeClaimants()
        self._lock = threading.Lock()
        self._ended: OrderedDict[tuple[int, int], None] = OrderedDict()
        self._gone: list[bytes] | None = None

    def of(self, connection: int, channel: int) -> bytes:
        """Returns whose residue the shares of a channel join."""
        return self.native.of(connection, channel)

    def open(self, connection: int, channel: int, key: bytes) -> None:
        """Learns of a channel and its claim key; empty when it has none."""
        with self._lock:
            self._ended.pop((connection, channel), None)
            if key:
                self.native.put(connection, channel, key)
            else:
                self.native.forget(connection, channel)

    def close(self, connection: int, channel: int) -> None:
        """Learns that a channel has ended; shares that it left may still come to be stored."""
        name = self.native.of(connection, channel)
        with self._lock:
            if name[0] == 0:
                if self._gone is not None:
                    self._gone.append(name)
                return
            self._ended[connection, channel] = None
            while len(self._ended) > ENDED_MAX:
                self.native.forget(*self._ended.popitem(last=False)[0])

    def close_all(self) -> None:
        """Learns that no channel there was is left: connections are counted from 0 again."""
        with self._lock:
            self.native.clear()
            self._ended.clear()
            self._gone = None

    def take_gone(self) -> list[bytes] | None:
        """Returns the names of channels without key that ended since; None for all there were."""
        with self._lock:
            gone, self._gone = self._gone, []
        return gone

    def give_back(self, gone: list[bytes] | None) -> None:
        """Takes back what `take_gone` gave: it could not be stored."""
        with self._lock:
            self._gone = None if gone is None or self._gone is None else gone + self._gone
