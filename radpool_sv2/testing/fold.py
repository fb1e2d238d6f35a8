"""Is the least state that shows a difference: a hash of all that was counted, in order."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from radpool_sv2.federation.codec import u32, u64

if TYPE_CHECKING:
    from collections.abc import Iterable

    from radpool_sv2.federation.broadcast.entry import Entry

__all__ = ["Fold"]


class Fold:
    """Folds segments into a hash; payloads mean nothing to it."""

    def apply(self, state: bytes, epoch: int, segments: Iterable[Iterable[Entry]]) -> bytes:
        """Returns the state behind an epoch."""
        hasher = sha256(state + u32(epoch))
        for entries in segments:
            for entry in entries:
                hasher.update(entry.header.digest + u64(len(entry.payload)) + entry.payload)
        return hasher.digest()

    def root(self, state: bytes) -> bytes:
        """Returns what a checkpoint signs of a state."""
        return sha256(b"root " + state).digest()
