"""Keeps the transactions that wait for a block, each proven to be spendable in the next one.

Rules: every input exists (on the chain or in here), is spent once, is mature and unlocked; amounts
and fee are right; signatures are verified by the consensus engine. Policy is small: a least fee
rate, no replacement, and limits on size, ancestors and descendants.

A reorg is handled whole: everything that left the chain and everything that waited is offered
again, parents first, and what the new chain does not allow falls out.

Bounds: `COUNT_MAX` transactions of `WEIGHT_MAX` in all; a full pool gives up its cheapest
transactions that nobody spends, or refuses the newcomer when that is the cheapest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pbk

from radpool_sv2.chain.coin import COINBASE_MATURITY, Coin
from radpool_sv2.chain.script import sigop_cost
from radpool_sv2.errors import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from radpool_sv2.chain.block import Block
    from radpool_sv2.chain.coin import CoinMap
    from radpool_sv2.chain.transaction import OutPoint, Transaction, TxInput

__all__ = ["Entry", "Mempool", "RefusedError"]

COUNT_MAX: Final = 5_000
WEIGHT_MAX: Final = 40_000_000
# The limits that bitcoin nodes share.
TX_WEIGHT_MAX: Final = 400_000
TX_SIGOP_COST_MAX: Final = 16_000
PACKAGE_MAX: Final = 25
# 1 sat per virtual byte, said in weight units: fee * 4 >= weight.
FEE_RATE_MIN_SATS_PER_KWU: Final = 250
MONEY_MAX_SATS: Final = 21_000_000 * 100_000_000
_LOCKTIME_IS_TIME: Final = 500_000_000
_SEQUENCE_FINAL: Final = 0xFFFFFFFF
# BIP 68: bit 31 switches it off, bit 22 counts in steps of 512 s instead of blocks.
_SEQUENCE_OFF: Final = 1 << 31
_SEQUENCE_IS_TIME: Final = 1 << 22
_SEQUENCE_MASK: Final = 0xFFFF


class RefusedError(LocalProtocolError):
    """Says that a transaction is not taken; whoever made it is at fault.

    Args:
        reason: Core's word for it, such as `bad-txns-inputs-missingorspent`.
        detail: What exactly, in words.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass
class Entry:
    """Is one waiting transaction; parents and children are those in the pool, by txid."""

    transaction: Transaction
    fee_sats: int
    weight: int
    sigop_cost: int
    parents: set[bytes] = field(default_factory=set)
    children: set[bytes] = field(default_factory=set)


class Mempool:
    """Is the pool for one chain state, which it reads and never changes."""

    def __init__(self, chain: CoinMap) -> None:
        self.entries: dict[bytes, Entry] = {}
        self.weight = 0
        self.changes = 0
        self._chain = chain
        self._spender: dict[OutPoint, bytes] = {}
        self._by_wtxid: dict[bytes, Transaction] = {}

    def accept(self, transaction: Transaction, *, verified: bool = False) -> Entry:
        """Takes a transaction in.

        Args:
            transaction: The transaction.
            verified: True when its signatures were verified before, against the same outputs.

        Raises:
            RefusedError: It is not taken, and nothing has changed.
        """
        entry = self._judge(transaction)
        if not verified:
            self._verify_scripts(transaction, self._coins_of(transaction))
        self._make_room(entry)
        txid = transaction.txid
        self.entries[txid] = entry
        self._by_wtxid[transaction.wtxid] = transaction
        self.weight += entry.weight
        self.changes += 1
        for parent in entry.parents:
            self.entries[parent].children.add(txid)
        for each in transaction.inputs:
            self._spender[each.previous] = txid
        return entry

    def is_spent(self, point: OutPoint) -> bool:
        """Tells whether a waiting transaction spends this output."""
        return point in self._spender

    def find(self, wtxid: bytes) -> Transaction | None:
        """Returns the waiting transaction with this wtxid."""
        return self._by_wtxid.get(wtxid)

    def connect(self, block: Block) -> None:
        """Drops what a new block has confirmed and what it has made impossible."""
        for transaction in block.transactions:
            if transaction.txid in self.entries:
                self._forget(transaction.txid)
            for each in transaction.inputs:
                spender = self._spender.get(each.previous)
                if spender is not None:
                    self._drop_with_descendants(spender)

    def rebuild(self, returned: Sequence[Transaction]) -> None:
        """Offers everything again after a reorg.

        Args:
            returned: The transactions that left the chain, in the order they stood in it.
        """
        # Signatures of what waited here hold as before: a txid fixes the outputs it spends.
        waiting = [(entry.transaction, True) for entry in self.in_order()]
        self.entries.clear()
        self._spender.clear()
        self._by_wtxid.clear()
        self.weight = 0
        self.changes += 1
        for transaction, verified in [*((each, False) for each in returned), *waiting]:
            try:
                self.accept(transaction, verified=verified)
            except RefusedError:
                continue  # the new chain has it, or does not allow it

    def in_order(self) -> Iterator[Entry]:
        """Yields the entries, every parent before its children."""
        # A child is only ever accepted after its parents, and dictionaries keep that order.
        return iter(tuple(self.entries.values()))

    def ancestors(self, entry: Entry) -> set[bytes]:
        """Returns the ids of all transactions in the pool that `entry` depends on."""
        return self._reach(entry.parents, up=True)

    def descendants(self, entry: Entry) -> set[bytes]:
        """Returns the ids of all transactions in the pool that depend on `entry`."""
        return self._reach(entry.children, up=False)

    def _reach(self, start: Iterable[bytes], *, up: bool) -> set[bytes]:
        found: set[bytes] = set()
        open_ids = list(start)
        while open_ids:
            txid = open_ids.pop()
            if txid not in found:
                found.add(txid)
                entry = self.entries[txid]
                open_ids.extend(entry.parents if up else entry.children)
        return found

    def _judge(self, transaction: Transaction) -> Entry:
        """Checks everything but signatures and room."""
        self._check_form(transaction)
        if transaction.txid in self.entries:
            raise RefusedError("txn-already-in-mempool")
        for each in transaction.inputs:
            spender = self._spender.get(each.previous)
            if spender is not None:
                raise RefusedError(
                    "txn-mempool-conflict", f"{spender[::-1].hex()} spends the same output"
                )
        coins = self._coins_of(transaction)
        for each, coin in zip(transaction.inputs, coins, strict=True):
            self._check_maturity(coin)
            if transaction.version >= 2:
                self._check_sequence(each, coin)
        self._check_locktime(transaction)
        paid = sum(coin.output.value_sats for coin in coins)
        fee = paid - sum(output.value_sats for output in transaction.outputs)
        if fee < 0:
            raise RefusedError("bad-txns-in-belowout", f"outputs exceed inputs by {-fee} sats")
        if fee * 1000 < transaction.weight * FEE_RATE_MIN_SATS_PER_KWU:
            raise RefusedError(
                "min relay fee not met",
                f"{fee} sats for {transaction.weight} weight units; 1 sat per vbyte is asked",
            )
        cost = sigop_cost(transaction, [coin.output for coin in coins])
        if cost > TX_SIGOP_COST_MAX:
            raise RefusedError("bad-txns-too-many-sigops", f"cost {cost} of {TX_SIGOP_COST_MAX}")
        entry = Entry(transaction, fee, transaction.weight, cost)
        entry.parents = {
            each.previous[0] for each in transaction.inputs if each.previous[0] in self.entries
        }
        self._check_package(entry)
        return entry

    @staticmethod
    def _check_form(transaction: Transaction) -> None:
        if not transaction.outputs:
            raise RefusedError("bad-txns-vout-empty")
        if transaction.weight > TX_WEIGHT_MAX:
            raise RefusedError("tx-size", f"{transaction.weight} of {TX_WEIGHT_MAX} weight units")
        points = [each.previous for each in transaction.inputs]
        if any(point[0] == bytes(32) for point in points):
            raise RefusedError("coinbase", "only a block may hold a coinbase")
        if len(set(points)) != len(points):
            raise RefusedError("bad-txns-inputs-duplicate")
        total = 0
        for output in transaction.outputs:
            total += output.value_sats
            if not 0 <= output.value_sats <= MONEY_MAX_SATS or total > MONEY_MAX_SATS:
                raise RefusedError("bad-txns-vout-toolarge", f"{output.value_sats} sats")

    def _coins_of(self, transaction: Transaction) -> list[Coin]:
        return [self._coin(each.previous) for each in transaction.inputs]

    def _coin(self, point: OutPoint) -> Coin:
        coin = self._chain.coins.get(point)
        if coin is not None:
            return coin
        parent = self.entries.get(point[0])
        if parent is None or point[1] >= len(parent.transaction.outputs):
            raise RefusedError(
                "bad-txns-inputs-missingorspent", f"{point[0][::-1].hex()}:{point[1]}"
            )
        # An unconfirmed parent counts as if the next block held it.
        output = parent.transaction.outputs[point[1]]
        return Coin(output, self._chain.height + 1, coinbase=False)

    def _check_maturity(self, coin: Coin) -> None:
        depth = self._chain.height + 1 - coin.height
        if coin.coinbase and depth < COINBASE_MATURITY:
            raise RefusedError(
                "bad-txns-premature-spend-of-coinbase",
                f"tried to spend coinbase at depth {depth}, {COINBASE_MATURITY} is asked",
            )

    def _check_locktime(self, transaction: Transaction) -> None:
        locktime = transaction.locktime
        if all(each.sequence == _SEQUENCE_FINAL for each in transaction.inputs):
            return
        by_time = locktime >= _LOCKTIME_IS_TIME
        now = self._chain.median_time() if by_time else self._chain.height + 1
        if locktime and locktime >= now:
            raise RefusedError("non-final", f"locked until {locktime}, the chain is at {now}")

    def _check_sequence(self, each: TxInput, coin: Coin) -> None:
        if each.sequence & _SEQUENCE_OFF:
            return
        steps = each.sequence & _SEQUENCE_MASK
        if each.sequence & _SEQUENCE_IS_TIME:
            start = self._chain.median_time(min(coin.height, self._chain.height + 1) - 1)
            locked = self._chain.median_time() < start + steps * 512
        else:
            locked = self._chain.height + 1 < coin.height + steps
        if locked:
            raise RefusedError("non-BIP68-final", f"sequence {each.sequence:#x} is not met yet")

    def _check_package(self, entry: Entry) -> None:
        ancestors = self.ancestors(entry)
        if len(ancestors) + 1 > PACKAGE_MAX:
            raise RefusedError("too-long-mempool-chain", f"more than {PACKAGE_MAX} ancestors")
        for txid in ancestors:
            if len(self.descendants(self.entries[txid])) + 2 > PACKAGE_MAX:
                raise RefusedError("too-long-mempool-chain", f"more than {PACKAGE_MAX} descendants")

    @staticmethod
    def _verify_scripts(transaction: Transaction, coins: Sequence[Coin]) -> None:
        try:
            parsed = pbk.Transaction(transaction.to_bytes())
        except RuntimeError as error:
            raise RefusedError("tx-decode-failed") from error
        scripts = [pbk.ScriptPubkey(coin.output.script) for coin in coins]
        outputs = [
            pbk.TransactionOutput(script, coin.output.value_sats)
            for script, coin in zip(scripts, coins, strict=True)
        ]
        data = pbk.script.PrecomputedTransactionData(parsed, outputs)
        for index, (script, coin) in enumerate(zip(scripts, coins, strict=True)):
            flags = pbk.ScriptVerificationFlags.ALL
            if not script.verify(coin.output.value_sats, parsed, data, index, flags):
                raise RefusedError(
                    "mandatory-script-verify-flag-failed", f"input {index} is not signed rightly"
                )

    def _make_room(self, entry: Entry) -> None:
        protected = self.ancestors(entry)
        victims: list[bytes] = []
        count, weight = len(self.entries) + 1, self.weight + entry.weight
        leaves = (
            (each.fee_sats * 1_000_000 // each.weight, txid)
            for txid, each in self.entries.items()
            if not each.children and txid not in protected
        )
        if count <= COUNT_MAX and weight <= WEIGHT_MAX:
            return
        for rate, txid in sorted(leaves):
            if rate >= entry.fee_sats * 1_000_000 // entry.weight:
                break
            victims.append(txid)
            count, weight = count - 1, weight - self.entries[txid].weight
            if count <= COUNT_MAX and weight <= WEIGHT_MAX:
                for victim in victims:
                    self._forget(victim)
                return
        raise RefusedError("mempool full", "a higher fee rate would be taken")

    def _drop_with_descendants(self, txid: bytes) -> None:
        for each in (txid, *self.descendants(self.entries[txid])):
            self._forget(each)

    def _forget(self, txid: bytes) -> None:
        entry = self.entries.pop(txid)
        del self._by_wtxid[entry.transaction.wtxid]
        self.weight -= entry.weight
        self.changes += 1
        for parent in entry.parents & self.entries.keys():
            self.entries[parent].children.discard(txid)
        for child in entry.children & self.entries.keys():
            self.entries[child].parents.discard(txid)
        for each in entry.transaction.inputs:
            self._spender.pop(each.previous, None)
