"""Decides what a confirmed block pays, and how an orphaned one is undone.

Theory of operation. A block closes the epoch in which it is found. Once confirmed, it pays all
closed epochs up to its own that no other block pays: its own, and those whose block was orphaned.
What it brings and what is carried is split over who worked in these epochs. If nobody did, all of
it is carried to the next settlement.

When the block is orphaned after all, a settlement with the opposite entries is posted. Its epochs
are unpaid then, so the next block pays them too; and should the orphan return to the active chain,
it pays again whatever of them is still unpaid. A block that returns when all its epochs have been
paid by others pays its own epoch once more: its reward is real, and belongs to whoever worked.

Entries of a settlement sum to zero: what the reward loses, miners and the carry gain.

Source: `spec/04-epoch-accounting.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from radpool_sv2.store import BlockRow, EntryRow, SettlementRow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["pay", "reverse"]

CARRY = "carry"
MINER = "miner"
REWARD = "reward"


def pay(  # noqa: PLR0913 - each is a separate input of the formula
    block: BlockRow,
    *,
    epochs: Sequence[int],
    divide: Callable[[int, BlockRow], Mapping[tuple[int, int], int] | None],
    carry: int,
    sequence: int,
    time_ms: int,
) -> SettlementRow:
    """Makes the settlement of a confirmed block.

    Args:
        block: The block.
        epochs: The unpaid epochs up to the block's own; its own alone when there are none.
        divide: Splits an amount above 0 by account and rail; None when there is nobody.
        carry: What is carried, sats; negative if more was paid than blocks have brought.
        sequence: The last durable batch, whose shares are the last that count in these epochs.
        time_ms: Milliseconds since 1970.
    """
    amount = block.value_sats + carry
    parts = divide(amount, block) if amount > 0 else None
    carry_out = amount if parts is None else 0
    entries = [
        EntryRow(REWARD, 0, 0, -block.value_sats),
        EntryRow(CARRY, 0, 0, carry_out - carry),
        *(
            EntryRow(MINER, account, rail, sats)
            for (account, rail), sats in sorted((parts or {}).items())
            if sats
        ),
    ]
    assert sum(entry.sats for entry in entries) == 0, "a settlement must create and lose nothing"
    return SettlementRow(
        id=0,
        block=block.hash,
        reverses=None,
        sequence=sequence,
        time_ms=time_ms,
        value_sats=block.value_sats,
        carry_in=carry,
        carry_out=carry_out,
        epochs=tuple(epochs),
        entries=tuple(entries),
    )


def reverse(payment: SettlementRow, *, carry: int, sequence: int, time_ms: int) -> SettlementRow:
    """Makes the settlement that undoes a payment whose block left the active chain.

    Args:
        payment: The payment.
        carry: What is carried, sats.
        sequence: The last durable batch.
        time_ms: Milliseconds since 1970.
    """
    entries = tuple(
        EntryRow(entry.book, entry.account, entry.rail, -entry.sats) for entry in payment.entries
    )
    return SettlementRow(
        id=0,
        block=payment.block,
        reverses=payment.id,
        sequence=sequence,
        time_ms=time_ms,
        value_sats=-payment.value_sats,
        carry_in=carry,
        carry_out=carry + payment.carry_in - payment.carry_out,
        epochs=payment.epochs,
        entries=entries,
    )
