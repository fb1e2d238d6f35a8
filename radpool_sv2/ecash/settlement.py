"""Passes on what the ledger's settlements pay: from a policy's account to its keysets.

Theory of operation. The ledger pays each policy's account as any miner's. The mint reads the
settlements one after the other. What one pays a policy, less the fee, plus what is carried, is
divided over the keysets that it is for:

    network   the keysets of the block's height; those of lower ones in its epochs become void
    pool      all keysets up to the block's epoch that have no price yet
    window    the slices before the block, back to so many difficulties of work
    fixed     none: it is the operator's

It is divided by what the tokens of each keyset cost: the units of its claims times what one of them
costs, so that a keyset that opened at another difficulty, or another subsidy, gets what its shares
were worth. Where one of the keysets counts work, all are taken by their units.

Shares of one epoch may be claimed in a keyset of the next, when two blocks follow each other at
once. Their epoch's payment may then find none of its own, and that of the next nothing to pay: a
keyset of pool waits until a settlement brings something. What is carried alone is no price for it.

A keyset that has its final price gets nothing more; what would be for it goes to the others, or to
the carry when there is none. So does everything when nobody has worked or nothing is left.

A reversal posts the opposite. If more has been issued for a keyset than its price without the
payment allows, which takes an advance or a reorg deeper than maturity, the operator's book makes up
for it at once, visibly. What the keyset has left when it expires pays that back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from radpool_sv2.ecash.policy import RAIL, KeysetState, Policy
from radpool_sv2.ecash.price import MSAT_PER_SAT, divide
from radpool_sv2.ecash.window import UNPRICED, slices_of, span_of, window_of
from radpool_sv2.store import ecash as table

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from radpool_sv2.store.ecash import KeysetRow

__all__ = ["settle"]


@dataclass(frozen=True, slots=True)
class _Payment:
    number: int
    reverses: int | None
    block: bytes
    height: int
    epoch: int
    epochs: tuple[int, ...]


def settle(  # noqa: PLR0913 - what a payment depends on
    connection: sqlite3.Connection,
    accounts: Mapping[Policy, int],
    *,
    window_difficulties: int,
    maturity: int,
    expiry_ms: int,
    now_ms: int,
) -> set[int] | None:
    """Processes all settlements of the ledger that have not been.

    Args:
        connection: A connection in a transaction.
        accounts: The ledger's account of each policy.
        window_difficulties: How many difficulties of work a block pays under the policy window.
        maturity: The confirmations from which money can be issued.
        expiry_ms: How long a final price holds, milliseconds.
        now_ms: Milliseconds since 1970.

    Returns:
        The numbers of the keysets that they changed; None when there was no settlement.
    """
    touched = None
    for number in table.settlements_after(connection):
        touched = touched or set()
        payment = _payment(connection, number)
        if payment.reverses is not None:
            touched |= _reverse(connection, payment, payment.reverses, maturity, now_ms)
            continue
        for policy, account in accounts.items():
            theta_sats = _theta(connection, number, account)
            if policy is Policy.FIXED:
                _pay_operator(connection, payment, theta_sats, now_ms)
                continue
            settled, shared = _keysets_of(connection, policy, payment, window_difficulties)
            if policy is Policy.POOL and not _prices(connection, policy, theta_sats, shared):
                settled = shared = ()
            if theta_sats or (settled and policy is not Policy.WINDOW):
                _pay(connection, policy, payment, theta_sats, settled, shared, now_ms)
            if policy is not Policy.WINDOW:
                _freeze_empty(connection, policy, payment.epochs)
                for row in settled:
                    _conclude(connection, row.number, expiry_ms, now_ms)
            for row in shared:
                _note_block(connection, row.number, maturity)
            touched.update(row.number for row in settled)
    return touched


def _payment(connection: sqlite3.Connection, number: int) -> _Payment:
    [(reverses, block, height, epoch)] = connection.execute(
        "SELECT reverses, block.hash, height, epoch FROM settlement "
        "JOIN block ON block.hash = settlement.block WHERE settlement.id = ?",
        (number,),
    )
    epochs = connection.execute(
        "SELECT epoch FROM settlement_epoch WHERE settlement = ? ORDER BY 1", (number,)
    )
    return _Payment(number, reverses, block, height, epoch, tuple(each for (each,) in epochs))


def _theta(connection: sqlite3.Connection, number: int, account: int) -> int:
    row = connection.execute(
        "SELECT sats FROM entry WHERE settlement = ? AND book = 'miner' AND account = ? "
        "AND rail = ?",
        (number, account, RAIL),
    ).fetchone()
    return 0 if row is None else int(row[0])


def _prices(
    connection: sqlite3.Connection, policy: Policy, theta_sats: int, shared: Sequence[KeysetRow]
) -> bool:
    carry = table.balance(connection, policy, "carry")
    return theta_sats > 0 and bool(divide(theta_sats * MSAT_PER_SAT, carry, shared).parts)


def _keysets_of(
    connection: sqlite3.Connection, policy: Policy, payment: _Payment, window_difficulties: int
) -> tuple[Sequence[KeysetRow], Sequence[KeysetRow]]:
    """Returns the keysets that a payment settles, and those of them that share in it."""
    if policy is Policy.WINDOW:
        span = span_of(connection, payment.block, window_difficulties)
        numbers = window_of(slices_of(connection), payment.epoch, span)
        rows = [table.keyset_at(connection, number) for number in sorted(numbers)]
        return rows, rows
    if policy is Policy.POOL:
        settled = table.keysets(
            connection,
            "policy = ? AND state IN (?, ?) AND epoch <= ? AND work > 0 ORDER BY number",
            (policy, *UNPRICED, max(payment.epoch, *payment.epochs)),
        )
        return settled, settled
    # Jobs for a height may still name the epoch before: it ends when the block is recorded.
    marks = ", ".join("?" * len(payment.epochs))
    settled = table.keysets(
        connection,
        "policy = ? AND state IN (?, ?) AND work > 0 AND (height = ? OR (height < ? AND epoch IN "
        f"({marks}))) ORDER BY number",
        (policy, *UNPRICED, payment.height, payment.height, *payment.epochs),
    )
    return settled, [row for row in settled if row.height == payment.height]


def _pay(  # noqa: PLR0913, PLR0917 - what a payment depends on
    connection: sqlite3.Connection,
    policy: Policy,
    payment: _Payment,
    theta_sats: int,
    settled: Sequence[KeysetRow],
    shared: Sequence[KeysetRow],
    now_ms: int,
) -> None:
    theta = theta_sats * MSAT_PER_SAT
    carry_in = table.balance(connection, policy, "carry")
    division = divide(theta, carry_in, shared)
    fee, carry_out = division.fee_msat, division.carry_msat
    parts = division.parts or (0,) * len(shared)
    entries = {("reward", 0): -theta, ("fee", 0): fee, ("carry", 0): carry_out - carry_in}
    given = {row.number: (row.work, part) for row, part in zip(shared, parts, strict=True)}
    for number, (_, part) in given.items():
        entries["keyset", number] = part
    table.settle_mint(
        connection,
        table.MintSettlementRow(
            settlement=payment.number,
            policy=policy,
            theta_sats=theta_sats,
            fee_msat=fee,
            carry_in_msat=carry_in,
            carry_out_msat=carry_out,
            work=sum(division.weights),
            by_value=division.by_value,
        ),
    )
    if any(entries.values()):
        table.post(connection, "payment", policy, payment.number, now_ms, entries)
    rows = [
        table.AllocationRow(payment.number, row.number, *given.get(row.number, (0, 0)))
        for row in settled
    ]
    table.add_allocations(connection, rows)
    last = table.last_sequence(connection)
    for row, allocation in zip(settled, rows, strict=True):
        table.change_keyset(
            connection,
            row.number,
            theta_msat=row.theta_msat + allocation.msat,
            frozen=1,
            last_sequence=last if row.last_sequence is None else row.last_sequence,
        )


def _freeze_empty(connection: sqlite3.Connection, policy: Policy, epochs: Sequence[int]) -> None:
    """Lets keysets of paid epochs that nobody has claimed from take no claims any more."""
    marks = ", ".join("?" * len(epochs))
    query = (
        "UPDATE keyset SET frozen = 1 WHERE policy = ? AND state IN (1, 2) AND work = 0 "  # noqa: S608
        f"AND epoch IN ({marks})"
    )
    connection.execute(query, (policy, *epochs))


def _conclude(connection: sqlite3.Connection, number: int, expiry_ms: int, now_ms: int) -> None:
    """Makes the price of a settled keyset final."""
    row = table.keyset_at(connection, number)
    if row.theta_msat > 0:
        table.change_keyset(
            connection,
            number,
            state=KeysetState.FINAL,
            final_ms=now_ms,
            expires_ms=now_ms + expiry_ms,
        )
    else:
        table.change_keyset(connection, number, state=KeysetState.VOID, final_ms=now_ms)


def _note_block(connection: sqlite3.Connection, number: int, maturity: int) -> None:
    """Notes the highest block that pays a keyset, and when its money is mature."""
    paying = table.paying_block(connection, number)
    block, height = (None, None) if paying is None else paying
    redeem_after = 0 if height is None else height + maturity - 1
    table.change_keyset(connection, number, block=block, redeem_after=redeem_after)


def _pay_operator(
    connection: sqlite3.Connection, payment: _Payment, theta_sats: int, now_ms: int
) -> None:
    """Books what a settlement pays for work that the operator buys at a fixed price."""
    if not theta_sats:
        return
    row = table.MintSettlementRow(payment.number, Policy.FIXED, theta_sats, 0, 0, 0, 0)
    table.settle_mint(connection, row)
    theta = theta_sats * MSAT_PER_SAT
    entries = {("reward", 0): -theta, ("operator", 0): theta}
    table.post(connection, "payment", Policy.FIXED, payment.number, now_ms, entries)


# Reversals.


def _reverse(
    connection: sqlite3.Connection,
    reversal: _Payment,
    reversed_: int,
    maturity: int,
    now_ms: int,
) -> set[int]:
    touched = set()
    for paid, allocations in table.allocations_of_settlement(connection, reversed_):
        policy = Policy(paid.policy)
        carry = table.balance(connection, policy, "carry")
        carry_back = paid.carry_in_msat - paid.carry_out_msat
        table.settle_mint(
            connection,
            table.MintSettlementRow(
                settlement=reversal.number,
                policy=policy,
                theta_sats=-paid.theta_sats,
                fee_msat=-paid.fee_msat,
                carry_in_msat=carry,
                carry_out_msat=carry + carry_back,
                work=paid.work,
                by_value=paid.by_value,
            ),
        )
        theta = paid.theta_sats * MSAT_PER_SAT
        entries = {("reward", 0): theta, ("fee", 0): -paid.fee_msat, ("carry", 0): carry_back}
        if policy is Policy.FIXED:
            entries["operator", 0] = -theta
        for allocation in allocations:
            entries["keyset", allocation.keyset] = -allocation.msat
        if any(entries.values()):
            table.post(connection, "reversal", policy, reversal.number, now_ms, entries)
        table.add_allocations(
            connection,
            [
                table.AllocationRow(reversal.number, each.keyset, each.work, -each.msat)
                for each in allocations
            ],
        )
        for allocation in allocations:
            _take_back(connection, allocation.keyset, allocation.msat, maturity, now_ms)
            touched.add(allocation.keyset)
    return touched


def _take_back(
    connection: sqlite3.Connection, number: int, msat: int, maturity: int, now_ms: int
) -> None:
    """Returns a keyset to the time before a payment, and makes up for what was issued of it."""
    row = table.keyset_at(connection, number)
    theta = row.theta_msat - msat
    if row.state == KeysetState.EXPIRED:
        table.change_keyset(connection, number, theta_msat=theta)
        _empty(connection, row, now_ms)
        return
    table.change_keyset(
        connection,
        number,
        theta_msat=theta,
        state=KeysetState.CLOSED,
        final_ms=None,
        expires_ms=None,
        expires_height=None,
    )
    _note_block(connection, number, maturity)
    connection.execute("DELETE FROM statement WHERE keyset = ?", (number,))
    fair = theta * row.redeemed // row.work
    made_up = -table.balance(connection, row.policy, "operator", number)
    loss = row.paid_msat - fair - made_up
    if loss > 0:
        entries = {("operator", number): -loss, ("keyset", number): loss}
        table.post(connection, "loss", row.policy, number, now_ms, entries)


def _empty(connection: sqlite3.Connection, row: KeysetRow, now_ms: int) -> None:
    """Makes up for a payment that an expired keyset has passed on before it was taken back.

    First out of the carry, as far as the keyset's rest went there, then by the operator.
    """
    missing = -table.balance(connection, row.policy, "keyset", row.number)
    if missing <= 0:
        return
    carried = table.balance(connection, row.policy, "carry", row.number)
    from_carry = min(missing, max(carried, 0))
    entries = {
        ("keyset", row.number): missing,
        ("carry", row.number): -from_carry,
        ("operator", row.number): from_carry - missing,
    }
    table.post(connection, "loss", row.policy, row.number, now_ms, entries)
