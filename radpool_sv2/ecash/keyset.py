"""Defines what the mint tells about a keyset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from radpool_sv2.ecash.policy import KeysetState, Policy

__all__ = ["ChainTip", "ChainView", "KeysetChange", "KeysetView", "OwnerOf"]


@dataclass(frozen=True, slots=True)
class ChainTip:
    """Is the tip of the active chain: its height, and its hash in internal byte order."""

    height: int
    hash: bytes


class ChainView(Protocol):
    """Is what the mint asks of the chain; it answers from memory."""

    @property
    def tip(self) -> ChainTip | None:
        """The tip of the active chain; None until it is known."""

    @property
    def block_target(self) -> bytes | None:
        """What a block on the tip must meet, 32 bytes, least significant first; None if unknown."""


@dataclass(frozen=True, slots=True)
class OwnerOf:
    """Is whose shares all ecash channels of a policy make: the ledger's account.

    Attributes:
        account: The ledger's number of it.
        commitment: The owner commitment of its tags, 32 bytes.
    """

    account: int
    commitment: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class KeysetView:
    """Is a keyset as everybody may know it, at one moment.

    Attributes:
        id: The keyset id of NUT-02, version 2: 33 bytes.
        number: The mint's number of it, rising with time.
        unit: `work` or `sat`.
        policy: What pays it; None for the sat keyset.
        state: Where it is on its way.
        z0: The exponent of the token of 1 unit; 0 for the sat keyset.
        epoch: The ledger's epoch in which it was opened.
        height: The height of the block that was mined when it was opened.
        opened_ms: When it was opened, milliseconds since 1970.
        theta_msat: What its tokens are worth together, by the settlements that stand.
        work: The units of all its claims.
        paid_msat: What has been issued for its tokens.
        price_num: Millisats per `price_den` units, announced (fixed) or settled; 0 when there is
            no price yet.
        price_den: See `price_num`.
        redeem_after_height: The tip at which what pays it is mature; 0 while nothing does.
        expires_at: When it stops being redeemed, seconds since 1970; 0 while that is not known.
        announcement: The payload of its EcashKeysetAnnounce.
        update: The payload of its EcashEpochUpdate as of this moment.
        unit_value: What a unit costs of what shares are worth; 0 where shares count their work.
    """

    id: bytes
    number: int
    unit: str
    policy: Policy | None
    state: KeysetState
    z0: int
    epoch: int
    height: int
    opened_ms: int
    theta_msat: int
    work: int
    paid_msat: int
    price_num: int
    price_den: int
    redeem_after_height: int
    expires_at: int
    announcement: bytes
    update: bytes
    unit_value: int = 0

    @property
    def short(self) -> bytes:
        """The first 8 bytes of the id, which claims name it by."""
        return self.id[:8]


@dataclass(frozen=True, slots=True)
class KeysetChange:
    """Is news about a keyset for all clients.

    Attributes:
        keyset: As it is now.
        announcement: The payload of EcashKeysetAnnounce when the keyset is new; else None.
        update: The payload of EcashEpochUpdate.
    """

    keyset: KeysetView
    announcement: bytes | None
    update: bytes
