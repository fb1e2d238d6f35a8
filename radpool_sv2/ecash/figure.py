"""Counts what the mint owes, has issued and carries, for status pages and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from radpool_sv2.ecash.policy import SAT, KeysetState, Policy
from radpool_sv2.ecash.price import MSAT_PER_SAT
from radpool_sv2.store import ecash as table

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from radpool_sv2.config.ecash import EcashSection

__all__ = ["figures_of"]


def figures_of(connection: sqlite3.Connection, settings: EcashSection) -> Mapping[str, Any]:
    """Returns the mint's figures.

    Args:
        connection: A connection.
        settings: The section `ecash`.

    Returns:
        `claims`: shares that were claimed. `keysets` and `tokens`: by state, how many keysets, and
        the units of their claims. `theta_msat`: what standing settlements gave unexpired keysets.
        `issued_msat`: sats issued, in all. `liabilities_sats`: sat tokens in circulation.
        `carry_msat`, `fee_msat`, `operator_msat`: balances of these books. `advance_used_msat` and
        `advance_cap_msat`: what was issued ahead of maturity, and may be.
    """
    books = {
        book: sum(table.balance(connection, policy, book) for policy in Policy)
        for book in ("carry", "fee", "operator")
    }
    issued = sum(table.paid_by(connection, policy) for policy in Policy)
    [(claims,)] = connection.execute("SELECT COALESCE(SUM(count), 0) FROM keyset_sum")
    counted = {
        KeysetState(state).word: (count, work, theta)
        for state, count, work, theta in connection.execute(
            "SELECT state, COUNT(*), SUM(work), SUM(theta_msat) FROM keyset "
            "WHERE policy <> ? GROUP BY state",
            (SAT,),
        )
    }
    used = table.immature_advance(connection, settings.coinbase_maturity)
    return {
        "claims": claims,
        "keysets": {word: count for word, (count, _, _) in counted.items()},
        "tokens": {word: work for word, (_, work, _) in counted.items()},
        "theta_msat": sum(
            theta for word, (_, _, theta) in counted.items() if word != KeysetState.EXPIRED.word
        ),
        "issued_msat": issued,
        "liabilities_sats": issued // MSAT_PER_SAT,
        "carry_msat": books["carry"],
        "fee_msat": books["fee"],
        "operator_msat": books["operator"],
        "advance_used_msat": used,
        "advance_cap_msat": settings.advance_cap_sats * MSAT_PER_SAT,
    }
