"""Tells what a certified state wants signed: the payout of each block that is mature.

Source: `spec/15-checkpoint-state.md`, "Blocks"; `spec/17-federation-coinbase.md`, "Payout".
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from radpool_sv2._native.threshold import TREASURY
from radpool_sv2.federation.signing.purpose import Spend
from radpool_sv2.federation.state.accounting import Accounting
from radpool_sv2.federation.state.ledger import output_of_key
from radpool_sv2.federation.state.payout import parts_of
from radpool_sv2.federation.state.rules import PayoutMode
from radpool_sv2.federation.treasury.payout import payout_transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from radpool_sv2.federation.signing.purpose import Spends
    from radpool_sv2.federation.state.ledger import Block, Ledger
    from radpool_sv2.federation.state.rules import Rules
    from radpool_sv2.federation.treasury.payout import Payout

__all__ = ["payout_of", "payouts_of", "spends"]


def payout_of(rules: Rules, block_hash: bytes, block: Block) -> Payout | None:
    """Builds the payout of a block; `None` where members are paid themselves, or nobody can be.

    Args:
        rules: Of the federation.
        block_hash: The block, internal byte order.
        block: What the books have of it; its payout does not depend on when it is mature.
    """
    # What the books have of a block when it is mature never changes: it is built once.
    return _payout(rules, block_hash, block)


@lru_cache(maxsize=2_048)
def _payout(rules: Rules, block_hash: bytes, block: Block) -> Payout | None:
    parts = parts_of(rules, block_hash, block)
    if rules.payout is PayoutMode.DIRECT or not parts:
        return None
    return payout_transaction(
        block.txid,
        block.vout,
        block.value,
        output_of_key(rules, block.key),
        [(part.script, part.sats) for part in parts],
    )


def payouts_of(rules: Rules, ledger: Ledger, key: bytes | None = None) -> dict[bytes, Payout]:
    """Lists the payouts that a state wants signed, by block, in ascending order of hashes.

    Args:
        rules: Of the federation.
        ledger: The state.
        key: The treasury key that signs, without a tweak; `None` for the current one.
    """
    if TREASURY not in ledger.keys:
        return {}
    key = ledger.keys[TREASURY].key if key is None else key
    payouts = {}
    for block_hash, block in sorted(ledger.blocks.items()):
        if block.matured_epoch >= 0 and block.key == key:
            payout = payout_of(rules, block_hash, block)
            if payout is not None:
                payouts[block_hash] = payout
    return payouts


def spends(
    rules: Rules, key: bytes | None = None, read: Callable[[bytes], Ledger] | None = None
) -> Spends:
    """Returns what tells the inputs that a state wants spent.

    Args:
        rules: Of the federation.
        key: The treasury key that signs, without a tweak; `None` for the current one.
        read: Reads a state; one that has just counted it, if there is one, has it at hand.
    """
    ledger_of = Accounting(rules).ledger if read is None else read

    def wanted(epoch: int, state: bytes) -> Iterable[Spend]:  # noqa: ARG001 - the state says it all
        payouts = payouts_of(rules, ledger_of(state), key)
        return [Spend(payout.sighash, payout.merkle_root) for payout in payouts.values()]

    return wanted
