"""Recomputes what settlements gave to keysets.

Each allocation is the keyset's part, by what its tokens cost or by their work, of what the
settlement paid to the policy; the parts of all keysets together are that amount, to the millisat.
Where an export holds all keysets of a settlement, who got the odd millisats is recomputed too;
otherwise an allocation must be within one of the exact part, and the note says so.

Source: `spec/07-ecash-epochs.md`, "Allocation".
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from radpool_sv2.errors import FaultyMSPError
from radpool_sv2.units import sha256d
from radpool_sv2.verify.coinbase import coinbase_largest_output

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from radpool_sv2.verify.batch import VerifiedShare
    from radpool_sv2.verify.claims import Claims
    from radpool_sv2.verify.statement import Allocation, Statement

__all__ = ["check_allocations", "keyset_fault"]

RAIL_ECASH = 1

WHOLE = ("network", "pool")
"""The policies of which an export holds all keysets that its settlements paid."""

Part = tuple["Statement", "Allocation"]


def keyset_fault(statement: Statement, text: str) -> FaultyMSPError:
    """Makes the error that convicts the MSP of what its statement says."""
    return FaultyMSPError(f"keyset {statement.keyset.hex()}: {text}", statement.msp_key.hex())


def check_allocations(
    statements: Sequence[Statement], claims: Claims, solved: Mapping[bytes, VerifiedShare]
) -> list[str]:
    """Checks what all statements of an export say about money.

    Args:
        statements: Those of the export, by number; their claims were checked.
        claims: What the MSP claims about the epoch; its settlements were checked.
        solved: The shares that are blocks of it, by hash.

    Returns:
        What could not be checked from this export alone, in plain words.

    Raises:
        FaultyMSPError: Something is not as claimed.
    """
    groups: dict[tuple[int, bytes], list[Part]] = defaultdict(list)
    for statement in statements:
        _check_rows(statement)
        _check_total(statement)
        for row in statement.settlements:
            _check_block(statement, row, solved)
            _check_ledger(statement, row, claims)
            groups[row.id, statement.commitment].append((statement, row))
    notes = []
    for (number, _), parts in sorted(groups.items()):
        notes += _check_division(number, parts, claims)
    return notes + _unexplained(groups, claims)


def _check_rows(statement: Statement) -> None:
    """Checks each allocation by itself: its amount, its part, or what it takes back."""
    standing: dict[int, Allocation] = {}
    last = -1
    for row in statement.settlements:
        if row.id <= last:
            raise keyset_fault(statement, f"settlement {row.id} is out of order")
        last = row.id
        if row.reverses is not None:
            payment = standing.pop(row.reverses, None)
            if payment is None or not _undoes(row, payment):
                raise keyset_fault(statement, f"settlement {row.id} does not undo a payment")
            continue
        standing[row.id] = row
        if not 0 <= row.fee_msat <= row.theta_sats * 1000:
            raise keyset_fault(statement, f"settlement {row.id} keeps more than it brings")
        if statement.policy == "pool" and not row.theta_sats:
            raise keyset_fault(statement, f"settlement {row.id} prices it and brings nothing")
        if row.weight != statement.work * (statement.unit_value if row.by_value else 1):
            raise keyset_fault(statement, f"settlement {row.id} weighs it by another number")
        if not 0 < row.weight <= row.work:
            raise keyset_fault(statement, f"settlement {row.id} divided over too little work")
        # A carry may be negative when more has been given than standing payments brought.
        least = max(row.amount_msat, 0) * row.weight // row.work
        if not least <= row.allocated_msat <= least + 1:
            raise keyset_fault(
                statement,
                f"settlement {row.id} gave it {row.allocated_msat} msat; {least} is right, or one "
                "more",
            )


def _undoes(reversal: Allocation, payment: Allocation) -> bool:
    def amounts(row: Allocation) -> tuple[int, ...]:
        return row.theta_sats, row.fee_msat, row.carry_in_msat, row.allocated_msat

    opposite = tuple(-amount for amount in amounts(payment))

    def terms(row: Allocation) -> tuple[bytes | int, ...]:
        return row.block, row.height, row.weight, row.work, row.by_value

    return amounts(reversal) == opposite and terms(reversal) == terms(payment)


def _check_total(statement: Statement) -> None:
    given = sum(row.allocated_msat for row in statement.settlements)
    if given != statement.theta_msat:
        raise keyset_fault(
            statement, f"its settlements gave it {given} msat, not {statement.theta_msat}"
        )
    if statement.state == "void" and statement.theta_msat:
        raise keyset_fault(statement, "is called void and has been paid")
    fixed = statement.policy == "fixed"
    if fixed != bool(statement.price_den) or (fixed and statement.settlements):
        raise keyset_fault(statement, "has a price that its policy does not give")
    issued, left = statement.issued_msat, statement.carry_out_msat
    if (issued is None) != (statement.state != "expired") or (issued is None) != (left is None):
        raise keyset_fault(statement, "tells what was issued at the wrong time")
    if issued is None or left is None:
        return
    earned = statement.theta_msat
    if fixed:
        earned = statement.price_num * statement.work // statement.price_den
    # What was issued before a reversal, and is not covered any more, is the operator's loss.
    has_loss = any(row.reverses is not None for row in statement.settlements)
    if issued > earned and not has_loss:
        raise keyset_fault(statement, f"issued {issued} msat and earned {earned}")
    if not fixed and issued + left != earned and not (has_loss and left == 0):
        raise keyset_fault(
            statement, f"issued {issued} msat and carries {left}, which are not {earned}"
        )


def _check_block(
    statement: Statement, row: Allocation, solved: Mapping[bytes, VerifiedShare]
) -> None:
    share = solved.get(row.block)
    if share is None:
        return
    coinbase = sha256d(share.coinbase), coinbase_largest_output(share.coinbase)
    if (row.height, row.coinbase) != (share.height, coinbase):
        raise keyset_fault(statement, f"settlement {row.id} names another coinbase or height")


def _check_ledger(statement: Statement, row: Allocation, claims: Claims) -> None:
    """Compares an allocation with the ledger's settlement, if that is in the export."""
    for settlement in claims.settlements:
        if settlement.id != row.id:
            continue
        paid = settlement.payouts.get((statement.commitment, RAIL_ECASH), 0)
        if (settlement.block, settlement.reverses) != (row.block, row.reverses):
            raise keyset_fault(statement, f"settlement {row.id} is another one in the ledger")
        if paid != row.theta_sats:
            raise keyset_fault(
                statement,
                f"settlement {row.id} pays its policy {paid} sats, not {row.theta_sats}",
            )
        return


def _check_division(number: int, parts: Sequence[Part], claims: Claims) -> list[str]:
    """Checks one settlement over all keysets that are here."""
    statement, first = parts[0]
    facts = {
        (row.block, row.theta_sats, row.fee_msat, row.carry_in_msat, row.work, row.by_value)
        for _, row in parts
    }
    if len(facts) > 1:
        raise keyset_fault(parts[-1][0], f"settlement {number} is told differently elsewhere")
    is_here = any(settlement.id == number for settlement in claims.settlements)
    notes = []
    if not is_here:
        notes.append(
            f"settlement {number} is not part of this export: what it paid to the policy "
            f"{statement.policy}, {first.theta_sats} sats, is in that of its own epochs"
        )
    together = sum(row.weight for _, row in parts)
    if together > first.work:
        raise keyset_fault(statement, f"settlement {number} divided over too little work")
    if together == first.work:
        if not first.by_value and all(member.unit_value for member, _ in parts):
            raise keyset_fault(statement, f"settlement {number} was not divided by value")
        if first.reverses is None:
            _check_remainders(number, parts)
    elif statement.policy in WHOLE and is_here:
        # Whoever passed the export on may have left it out.
        raise FaultyMSPError(f"ecash: a keyset that settlement {number} paid is missing")
    else:
        notes.append(
            f"settlement {number} also paid keysets of policy {statement.policy} that are not in "
            "this export: which of them got its odd millisats was not recomputed"
        )
    return notes


def _check_remainders(number: int, parts: Sequence[Part]) -> None:
    """Splits the amount again: the odd millisats go to the largest remainders, then numbers."""
    amount, work = max(parts[0][1].amount_msat, 0), parts[0][1].work
    ordered = sorted(parts, key=lambda part: (-(amount * part[1].weight % work), part[0].number))
    left = amount - sum(amount * row.weight // work for _, row in parts)
    for place, (member, row) in enumerate(ordered):
        right = amount * row.weight // work + (place < left)
        if row.allocated_msat != right:
            raise keyset_fault(
                member,
                f"settlement {number} gave it {row.allocated_msat} msat; {right} is right",
            )


def _unexplained(groups: Mapping[tuple[int, bytes], object], claims: Claims) -> list[str]:
    return [
        f"settlement {settlement.id} pays {sats} sats to the ecash account {commitment.hex()}; no "
        "keyset with a final price in this export says what became of them"
        for settlement in claims.settlements
        for (commitment, rail), sats in sorted(settlement.payouts.items())
        if rail == RAIL_ECASH and (settlement.id, commitment) not in groups
    ]
