"""Holds the secret keys of keysets, derived from the mint's seed when they are needed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from radpool_sv2._native.ecash import KeysetKeys

if TYPE_CHECKING:
    from radpool_sv2._native.ecash import MintSeed

__all__ = ["AMOUNTS", "Keyring"]

AMOUNTS: Final = 64
"""A keyset has a key for each of 2^0 to 2^63."""

KEPT_MAX: Final = 256
"""How many keysets' keys are kept; deriving those of one takes about a millisecond."""


class Keyring:
    """Gives the keys of keysets; any thread may ask."""

    def __init__(self, seed: MintSeed) -> None:
        self._seed = seed
        self._kept: OrderedDict[int, KeysetKeys] = OrderedDict()
        self._lock = threading.Lock()

    def keys(self, number: int, unit: str) -> KeysetKeys:
        """Returns the keys of a keyset.

        Args:
            number: The mint's number of it.
            unit: Its unit.
        """
        with self._lock:
            keys = self._kept.get(number)
            if keys is None:
                keys = KeysetKeys.derive(self._seed, unit, number, 0, AMOUNTS)
                self._kept[number] = keys
                if len(self._kept) > KEPT_MAX:
                    self._kept.popitem(last=False)
            else:
                self._kept.move_to_end(number)
            return keys
