"""Defines what a store takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AccountRow",
    "BatchRow",
    "BlockRow",
    "EntryRow",
    "EpochRow",
    "QuoteRow",
    "SettlementRow",
    "SumRow",
    "VoidRow",
    "WeightRow",
]


@dataclass(frozen=True, slots=True)
class AccountRow:
    """Is whom the ledger owes sats.

    Attributes:
        id: The ledger's number of it.
        name: What miners give when they open a channel.
        salt: 16 secret bytes that keep the commitment from being guessed.
        commitment: The owner commitment of its tags, 32 bytes.
    """

    id: int
    name: str
    salt: bytes
    commitment: bytes


@dataclass(frozen=True, slots=True)
class SumRow:
    """Is what an account has earned in an epoch, or in a batch's part of one.

    Attributes:
        account: The account's number.
        epoch: The epoch that the work counts in.
        rail: How the owner is paid.
        count: Shares.
        work: Expected hashes, up to 2^128 - 1.
        value: What they are worth, in the unit of the epoch's weight, up to 2^128 - 1.
    """

    account: int
    epoch: int
    rail: int
    count: int
    work: int
    value: int


class WeightRow(NamedTuple):
    """Is the rule that shares are weighed by.

    Attributes:
        mode: 0 by work alone, 1 value, 2 difficulty, 3 slice.
        scale: Prices are in parts of 2^scale of a satoshi for each hash that a block takes.
        base: The exponent of which a share is worth the price.
    """

    mode: int
    scale: int
    base: int


@dataclass(frozen=True, kw_only=True, slots=True)
class QuoteRow:
    """Is how the price of a template came about.

    Attributes:
        price: The price.
        paid_sats: What the template's coinbase pays to the pool's script.
        cap_sats: What counts of it at most.
        reference_sats: The fees that honest nodes offered then.
        target: What a block's hash must not exceed, 32 bytes little-endian.
        script: The pool's script.
    """

    price: int
    paid_sats: int
    cap_sats: int
    reference_sats: int
    target: bytes
    script: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class VoidRow:
    """Says that the shares on a template earn nothing.

    Attributes:
        digest: The template body's digest.
        settlement: The last settlement before; payments behind it do not count these shares.
        epoch_min: The lowest epoch that was not settled then; shares of earlier ones stay paid.
        reason: Why, in words.
        time_ms: Since when, milliseconds since 1970.
        sums: What the shares had earned by then, by account, epoch and rail.
    """

    digest: bytes
    settlement: int
    epoch_min: int
    reason: str
    time_ms: int
    sums: Sequence[SumRow]


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchRow:
    """Is a sealed batch with everything that becomes durable with it.

    Attributes:
        sequence: Its number in the chain, from 0.
        hash: Its hash, 32 bytes.
        time_ms: When it was sealed, milliseconds since 1970.
        epoch_min: The lowest epoch that was not settled then.
        count: Its shares.
        blob: The batch as exported.
        header_hashes: The header hashes of its shares, 32 bytes each.
        share_keys: What no two shares have in common, 20 bytes each: see the table `share`.
        weight: The rule that its shares are weighed by.
        bodies: The template bodies that it names: `(digest, body, height, price)`.
        quotes: How those prices came about: `(digest, quote)`.
        sums: What it adds to each account.
        voided: What of that was earned on templates that were voided: `(digest, sum)`.
    """

    sequence: int
    hash: bytes
    time_ms: int
    epoch_min: int
    count: int
    blob: bytes
    header_hashes: bytes
    share_keys: bytes
    weight: WeightRow
    bodies: Sequence[tuple[bytes, bytes, int, int]]
    quotes: Sequence[tuple[bytes, QuoteRow]]
    sums: Sequence[SumRow]
    voided: Sequence[tuple[bytes, SumRow]] = ()


@dataclass(frozen=True, slots=True)
class EpochRow:
    """Is an accounting period.

    Attributes:
        number: Its number, from 1.
        opened_sequence: The first batch that may hold its shares.
        opened_ms: When it was opened, milliseconds since 1970.
        closed_ms: When a block closed it; None while it is open.
        frozen_sequence: The last batch that may hold its shares; None until it is first settled.
    """

    number: int
    opened_sequence: int
    opened_ms: int
    closed_ms: int | None
    frozen_sequence: int | None


@dataclass(frozen=True, slots=True)
class BlockRow:
    """Is a block that the pool found.

    Attributes:
        hash: Its hash, internal byte order.
        height: Its height.
        epoch: The epoch that it closed.
        value_sats: What its coinbase pays.
        finder: The account whose share it is.
        found_ms: When it was recorded, milliseconds since 1970.
        confirmations: Blocks of the active chain from it to the tip, itself included, as last seen;
            None when it is not on the active chain.
        settlement: The settlement that pays it out and is not reversed; None when there is none.
    """

    hash: bytes
    height: int
    epoch: int
    value_sats: int
    finder: int
    found_ms: int
    confirmations: int | None
    settlement: int | None


@dataclass(frozen=True, slots=True)
class EntryRow:
    """Is one side of a posting; the sides of a settlement sum to zero.

    Attributes:
        book: `reward` (what blocks bring, negative), `miner` (what is owed), `carry` (not yet owed
            to anybody).
        account: The account's number; 0 for the books that have none.
        rail: How the owner is paid; 0 for the books that have none.
        sats: The amount, signed.
    """

    book: str
    account: int
    rail: int
    sats: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SettlementRow:
    """Is a payment of epochs by a block, or the reversal of one.

    Attributes:
        id: Its number, in order of time; 0 before it is stored.
        block: The block's hash.
        reverses: The payment that this reverses; None for a payment.
        sequence: The last batch that was durable then; -1 before the first.
        time_ms: Milliseconds since 1970.
        value_sats: What the block brings: negative in a reversal.
        carry_in: The carry before, sats; negative when a reversed block had been carried and paid.
        carry_out: The carry after, sats.
        epochs: The epochs that it pays, ascending.
        entries: What it posts.
    """

    id: int
    block: bytes
    reverses: int | None
    sequence: int
    time_ms: int
    value_sats: int
    carry_in: int
    carry_out: int
    epochs: tuple[int, ...]
    entries: tuple[EntryRow, ...]
