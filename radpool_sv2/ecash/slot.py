"""Knows which keysets claims may name, and whose shares each of them takes.

Source: `spec/06-work-tokens.md`, "Claims".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from radpool_sv2._native.ecash import ClaimSlot
from radpool_sv2.ecash import refusal
from radpool_sv2.ecash.policy import KeysetState, Policy
from radpool_sv2.ecash.refusal import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from radpool_sv2.store.ecash import KeysetRow

__all__ = ["SLOTS_MAX", "Rack", "Slot", "parse_claim"]

CLAIM_FIELD: Final = 0x01
SHORT_LEN: Final = 8
POINT_LEN: Final = 33

SLOTS_MAX: Final = 256
"""How many of the newest keysets are told apart from ones that nobody knows."""

FOREVER_MS: Final = 1 << 62

_TLV: Final = struct.Struct("<HBH")


@dataclass(frozen=True, slots=True)
class Slot:
    """Is a keyset that claims may name.

    Attributes:
        number: The mint's number of it.
        short: The first 8 bytes of its id.
        account: The ledger's account of its policy.
        epoch: Its epoch.
        height: Its height under the policy `network`, which decides there; else None.
        z0: The exponent of one unit.
        open: Whether it is open.
        grace_until_ms: Until when a closed one takes claims of its own epoch; -1 when it does not.
        unit_value: What a unit costs of what shares are worth; 0 where shares count their work.
    """

    number: int
    short: bytes
    account: int
    epoch: int
    height: int | None
    z0: int
    open: bool
    grace_until_ms: int
    unit_value: int = 0

    def state(self, now_ms: int) -> str:
        """Returns what the native `ClaimSlot` calls its state."""
        if self.open:
            return "open"
        return "closed" if now_ms <= self.grace_until_ms else "stale"

    def takes(self, epoch: int, height: int, now_ms: int) -> bool:
        """Says whether it takes the claim of a share of an epoch and a height."""
        own, shares = (self.epoch, epoch) if self.height is None else (self.height, height)
        state = self.state(now_ms)
        return (state == "open" and own >= shares) or (state == "closed" and own == shares)


class Rack:
    """Holds the slots of the newest keysets.

    Attributes:
        slots: The slots, the newest first; replaced whole, so that any thread may look.
    """

    def __init__(self, accounts: Mapping[Policy, int], grace_ms: int) -> None:
        """Takes what stays the same.

        Args:
            accounts: The ledger's account of each policy.
            grace_ms: How long a closed keyset takes claims of its own epoch.
        """
        self._accounts = accounts
        self._grace_ms = grace_ms
        self.slots: tuple[Slot, ...] = ()
        self._native: tuple[tuple[Slot, ...], int, Sequence[ClaimSlot]] = ((), -1, ())

    def fill(self, rows: Iterable[KeysetRow]) -> None:
        """Learns which keysets there are, the newest first."""
        slots = tuple(self._slot(row) for row in islice(rows, SLOTS_MAX))
        if slots != self.slots:
            self.slots = slots

    def _slot(self, row: KeysetRow) -> Slot:
        policy = Policy(row.policy)
        grace_until_ms = -1
        if row.closed_ms is not None and not row.frozen:
            grace_until_ms = row.closed_ms + self._grace_ms
        return Slot(
            number=row.number,
            short=row.id[:SHORT_LEN],
            account=self._accounts[policy],
            epoch=row.epoch,
            height=row.height if policy is Policy.NETWORK else None,
            z0=row.z0,
            open=row.state == KeysetState.OPEN and not row.frozen,
            grace_until_ms=grace_until_ms,
            unit_value=row.unit_value,
        )

    def native(self, slots: tuple[Slot, ...], now_ms: int) -> Sequence[ClaimSlot]:
        """Returns slots as native code takes them; made anew only when one has changed."""
        made_of, until_ms, native = self._native
        if made_of is slots and now_ms <= until_ms:
            return native
        native = [
            ClaimSlot(
                slot.short,
                slot.number,
                slot.account,
                slot.epoch,
                slot.height,
                slot.z0,
                slot.state(now_ms),
                slot.unit_value,
            )
            for slot in slots
        ]
        ends = [slot.grace_until_ms for slot in slots if slot.grace_until_ms >= now_ms]
        self._native = slots, min(ends, default=FOREVER_MS), native
        return native

    def admit(
        self, short: bytes, *, account: int, epoch: int, height: int, now_ms: int
    ) -> Slot | RefusedError:
        """Returns the slot that a share's claim names, or why it is not taken.

        Args:
            short: The first 8 bytes of a keyset's id.
            account: The share's account.
            epoch: The epoch of its tag.
            height: The height of its block.
            now_ms: Milliseconds since 1970.
        """
        for slot in self.slots:
            if slot.short == short and slot.account == account:
                if slot.takes(epoch, height, now_ms):
                    return slot
                return RefusedError(
                    "the keyset takes no claims of this share's epoch any more",
                    refusal.STALE_KEYSET,
                )
        return RefusedError("there is no such keyset", refusal.UNKNOWN_KEYSET)


def parse_claim(data: bytes, *, tlvs: bool) -> tuple[bytes, bytes]:
    """Reads what a share carries: the keyset's first 8 bytes, and the blinded message.

    Args:
        data: What came with the share.
        tlvs: Whether these are TLVs behind the core message; else they follow it in the
            extension's own.

    Raises:
        RefusedError: It is malformed.
    """
    if tlvs:
        if len(data) == _TLV.size + SHORT_LEN + POINT_LEN:
            _, field, length = _TLV.unpack_from(data)
            value = data[_TLV.size :]
            if (field, length) == (CLAIM_FIELD, len(value)):
                return value[:SHORT_LEN], value[SHORT_LEN:]
    elif (
        len(data) == 2 + SHORT_LEN + POINT_LEN
        and data[0] == SHORT_LEN
        and data[1 + SHORT_LEN] == POINT_LEN
    ):
        return data[1 : 1 + SHORT_LEN], data[2 + SHORT_LEN :]
    raise RefusedError("the claim is malformed", refusal.INVALID_BLINDED_MESSAGE)
