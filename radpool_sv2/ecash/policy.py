"""Names the epoch policies, the states of a keyset and the ways to sign.

Source: `spec/07-ecash-epochs.md`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = [
    "OWNER_PREFIX",
    "RAIL",
    "SAT",
    "SAT_UNIT",
    "WORK_UNIT",
    "KeysetState",
    "Policy",
    "SignMode",
]

RAIL: Final = 1
"""How owner tags name payment by ecash."""

OWNER_PREFIX: Final = "ecash."
"""The ledger's accounts of the policies begin so: no miner's account has a dot in its name."""

WORK_UNIT: Final = "work"
SAT_UNIT: Final = "sat"

SAT: Final = 255
"""Stands for the policy of the sat keyset, which has none."""


class Policy(IntEnum):
    """Is what a keyset's tokens are paid by; bit i of a client's mask stands for policy i.

    NETWORK: an epoch is the time between two blocks of the network; only the pool's own block pays.
    POOL: an epoch is the time between two blocks of the pool, each of which pays the one it ends.
    WINDOW: a block pays the last so many difficulties of work, cut in slices.
    FIXED: a price is announced in advance; the operator bears the luck.
    """

    NETWORK = 0
    POOL = 1
    WINDOW = 2
    FIXED = 3

    @property
    def word(self) -> str:
        """Its name in configuration, HTTP and statements."""
        return self.name.lower()

    @property
    def account(self) -> str:
        """The ledger's account that the settlements pay for it."""
        return OWNER_PREFIX + self.word


class KeysetState(IntEnum):
    """Is where a keyset is on its way; the numbers are those of EcashEpochUpdate.

    OPEN: takes claims. CLOSED: takes late ones for a while, waits for a block. PROVISIONAL: a block
    on the active chain would pay it and is not confirmed. FINAL: has its price. VOID: will not be
    paid. EXPIRED: is not redeemed any more.
    """

    OPEN = 0
    CLOSED = 1
    PROVISIONAL = 2
    FINAL = 3
    VOID = 4
    EXPIRED = 5

    @property
    def word(self) -> str:
        """Its name in HTTP and statements."""
        return self.name.lower()


class SignMode(IntEnum):
    """Is when a channel's claims are signed: with each receipt, or when they are asked for."""

    EAGER = 1
    LAZY = 2
