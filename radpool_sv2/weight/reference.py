"""Says which fees honest nodes offer on a block: what a template is compared with.

Today that is what the pool's own node offers. When several pools attest to theirs, their weighted
median takes this place behind the same protocol.
"""

from __future__ import annotations

from typing import Final, Protocol

__all__ = ["OwnReference", "ReferenceFees"]

TIPS_KEPT: Final = 4
"""Templates are priced on the tip, or on the one before while its change spreads; two more cost
nothing and outlive a short reorganisation."""


class ReferenceFees(Protocol):
    """Is where reference fees come from."""

    def fees_sats(self, prev_hash: bytes) -> int:
        """Returns the fees that honest nodes offer on a block; 0 while nobody has told."""


class OwnReference:
    """Takes the best template that the pool's own node has offered on each of the last tips.

    Fees are what a mempool could pay, so an offer that was made once counts although later ones
    are worse: a node that was restarted must not make everybody's templates look stuffed.
    """

    def __init__(self) -> None:
        self._fees: dict[bytes, int] = {}

    def offered(self, prev_hash: bytes, fees_sats: int) -> None:
        """Takes the fees of a template of the own node."""
        best = max(fees_sats, self._fees.get(prev_hash, 0))
        if prev_hash not in self._fees and len(self._fees) >= TIPS_KEPT:
            del self._fees[next(iter(self._fees))]
        self._fees[prev_hash] = best

    def fees_sats(self, prev_hash: bytes) -> int:
        """Returns the best fees offered on a block; 0 when it is not one of the last tips."""
        return self._fees.get(prev_hash, 0)
