"""Keeps the unspent outputs and the headers of the active chain, fed by what the engine reports.

The engine's interface has no look-up of unspent outputs, so this map follows its connect and
disconnect events. It decides what a transaction may spend before a block is built; the engine
decides about the block itself, so a mistake here costs a refused block, never a wrong chain.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from radpool_sv2.chain.kernel import Connected
from radpool_sv2.chain.script import is_unspendable
from radpool_sv2.errors import InternalError

if TYPE_CHECKING:
    from radpool_sv2.chain.block import Block
    from radpool_sv2.chain.kernel import Disconnected
    from radpool_sv2.chain.transaction import OutPoint, TxOutput

__all__ = ["COINBASE_MATURITY", "Coin", "CoinMap", "Tip"]

COINBASE_MATURITY: Final = 100
_MEDIAN_SPAN: Final = 11


@dataclass(frozen=True)
class Coin:
    """Is an unspent output, with the height it was made at and whether a coinbase made it."""

    output: TxOutput
    height: int
    coinbase: bool


class Tip(NamedTuple):
    """Is one block of the active chain: its hash (internal byte order) and its header's time."""

    hash: bytes
    time: int


class CoinMap:
    """Is the state after the active tip."""

    def __init__(self, genesis: Tip) -> None:
        # The genesis block's output cannot be spent and is no coin.
        self.tips = [genesis]
        self.coins: dict[OutPoint, Coin] = {}
        self._by_script: dict[bytes, dict[OutPoint, None]] = {}

    @property
    def height(self) -> int:
        """The height of the tip."""
        return len(self.tips) - 1

    @property
    def tip(self) -> Tip:
        """The tip."""
        return self.tips[-1]

    def median_time(self, height: int | None = None) -> int:
        """Returns the median time of the 11 blocks up to `height`, the tip when it is None."""
        end = self.height + 1 if height is None else height + 1
        return statistics.median_high(
            tip.time for tip in self.tips[max(0, end - _MEDIAN_SPAN) : end]
        )

    def of_script(self, script: bytes) -> list[tuple[OutPoint, Coin]]:
        """Returns the coins that pay a script, oldest first."""
        return [(point, self.coins[point]) for point in self._by_script.get(script, ())]

    def apply(self, event: Connected | Disconnected, block: Block) -> None:
        """Follows one event of the engine."""
        if isinstance(event, Connected):
            self._connect(event, block)
        else:
            self._disconnect(event, block)

    def _connect(self, event: Connected, block: Block) -> None:
        if event.height != self.height + 1 or block.header.previous != self.tip.hash:
            raise InternalError(f"the engine connected height {event.height} on {self.height}")
        for transaction in block.transactions:
            if not transaction.is_coinbase:
                for each in transaction.inputs:
                    self._remove(each.previous)
            for index, output in enumerate(transaction.outputs):
                if not is_unspendable(output.script):
                    coin = Coin(output, event.height, transaction.is_coinbase)
                    self._add((transaction.txid, index), coin)
        self.tips.append(Tip(block.header.hash, block.header.time))

    def _disconnect(self, event: Disconnected, block: Block) -> None:
        if event.height != self.height or block.header.hash != self.tip.hash:
            raise InternalError(f"the engine disconnected height {event.height} of {self.height}")
        self.tips.pop()
        spent_by = ((), *event.spent)
        for transaction, spent in zip(
            reversed(block.transactions), reversed(spent_by), strict=True
        ):
            for index, output in enumerate(transaction.outputs):
                if not is_unspendable(output.script):
                    self._remove((transaction.txid, index))
            if transaction.is_coinbase:
                continue
            for each, coin in zip(transaction.inputs, spent, strict=True):
                self._add(each.previous, Coin(coin.output, coin.height, coin.coinbase))

    def _add(self, point: OutPoint, coin: Coin) -> None:
        self.coins[point] = coin
        self._by_script.setdefault(coin.output.script, {})[point] = None

    def _remove(self, point: OutPoint) -> None:
        coin = self.coins.pop(point, None)
        if coin is None:
            raise InternalError(f"the engine spent {point[0][::-1].hex()}:{point[1]}, unknown here")
        points = self._by_script[coin.output.script]
        del points[point]
        if not points:
            del self._by_script[coin.output.script]
