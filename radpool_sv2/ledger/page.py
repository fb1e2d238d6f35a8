"""Lays an epoch open: who worked in it, and what the block that pays it gave to whom.

Works and values are written as text: they exceed what readers of JSON take for a number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from radpool_sv2.store import SettlementRow, Store, WeightRow

__all__ = ["MODE_NAMES", "epoch_page"]

MODE_NAMES = ("work", "value", "difficulty", "slice")
"""What shares of an epoch are weighed by, by the number in its batches."""


def epoch_page(store: Store, number: int) -> Mapping[str, Any] | None:
    """Returns an epoch, JSON-ready; None when there is no such epoch.

    `payment` is the payment that counts, or None. It may pay several epochs together, and its
    `accounts` have the work of all of them.
    """
    if not 1 <= number <= store.current_epoch().number:
        return None
    _, accounts = store.accounts(0, -1)
    names = {account.id: account.name for account in accounts}
    payments = {row.id: row for row in store.settlements_of_epoch(number) if row.reverses is None}
    for row in store.settlements_of_epoch(number):
        if row.reverses is not None:
            payments.pop(row.reverses, None)
    # A block that came back pays its own epoch once more; the newest payment is the one to show.
    payment = payments[max(payments)] if payments else None
    return {
        "epoch": number,
        "accounts": [
            {
                "account": names[row.account],
                "rail": row.rail,
                "shares": row.count,
                "work": str(row.work),
                "value": str(row.value),
            }
            for row in store.sums([number])
        ],
        "weights": [_rule(rule) for _, rule in store.weights_of_epochs([number])],
        "voids": [
            {
                "template": void.digest.hex(),
                "reason": void.reason,
                "account": names[row.account],
                "shares": row.count,
                "value": str(row.value),
            }
            for void in store.voids()
            for row in void.sums
            if row.epoch == number
        ],
        "payment": None if payment is None else _payment(store, payment, names),
    }


def _payment(store: Store, payment: SettlementRow, names: Mapping[int, str]) -> dict[str, Any]:
    earned = store.earned_in_epochs(payment.epochs)
    paid = {
        (entry.account, entry.rail): entry.sats
        for entry in payment.entries
        if entry.book == "miner"
    }
    return {
        "block": payment.block[::-1].hex(),
        "epochs": list(payment.epochs),
        "value_sats": payment.value_sats,
        "carry_in_sats": payment.carry_in,
        "carry_out_sats": payment.carry_out,
        "accounts": [
            {
                "account": names[account],
                "rail": rail,
                "work": str(work),
                "value": str(value),
                "sats": paid.get((account, rail), 0),
            }
            for (account, rail), (work, value) in sorted(earned.items())
        ],
    }


def _rule(rule: WeightRow) -> dict[str, Any]:
    return {"mode": MODE_NAMES[rule.mode], "scale": rule.scale, "base": rule.base}
