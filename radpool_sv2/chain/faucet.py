"""Pays demo money from a wallet whose key everybody knows: regtest coins are worth nothing.

The wallet is one taproot key, spent by its key path with a real BIP 340 signature over the BIP 341
message, so the engine verifies these payments like any other.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import coincurve

from radpool_sv2.chain.coin import COINBASE_MATURITY
from radpool_sv2.chain.mempool import PACKAGE_MAX, RefusedError
from radpool_sv2.chain.taproot import signature_hash
from radpool_sv2.chain.transaction import Transaction, TxInput, TxOutput
from radpool_sv2.units import tagged_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radpool_sv2.chain.coin import CoinMap
    from radpool_sv2.chain.mempool import Mempool
    from radpool_sv2.chain.transaction import OutPoint

__all__ = ["FAUCET_SECRET", "TaprootKey", "pay"]

_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
FAUCET_SECRET: Final = hashlib.sha256(b"radpool embedded chain: faucet").digest()
# Weight of a transaction without inputs and outputs, of a key-path input, of a taproot output.
_WEIGHT_BASE: Final = 42
_WEIGHT_INPUT: Final = 41 * 4 + 66
_WEIGHT_OUTPUT: Final = 43 * 4
# What is left over and smaller than this is fee: bitcoin nodes relay no smaller taproot output.
_DUST_SATS: Final = 330
# While the wallet holds few coins, change is split so that payments need not queue behind
# one another: at most 25 unconfirmed transactions may hang together.
_COINS_WANTED: Final = 40
_CHANGE_PARTS: Final = 4


class TaprootKey:
    """Is a key with the output script that commits to it and to no script tree (BIP 341, 86)."""

    def __init__(self, secret: bytes) -> None:
        key = coincurve.PrivateKey(secret)
        scalar = key.to_int()
        point = key.public_key.format()
        if point[0] == 0x03:  # BIP 340 keys stand for the point with even y
            scalar = _ORDER - scalar
        tweak = int.from_bytes(tagged_hash("TapTweak", point[1:]), "big")
        self._key = coincurve.PrivateKey.from_int((scalar + tweak) % _ORDER)
        self.script = b"\x51\x20" + self._key.public_key.format()[1:]

    def __repr__(self) -> str:
        return f"TaprootKey({self.script.hex()})"

    def sign(self, transaction: Transaction, spent: Sequence[TxOutput]) -> Transaction:
        """Returns the transaction with every input signed; all of them spend this key's outputs."""
        inputs = []
        for index, each in enumerate(transaction.inputs):
            message = signature_hash(transaction, spent, index)
            inputs.append(replace(each, witness=(self._key.sign_schnorr(message, bytes(32)),)))
        return replace(transaction, inputs=tuple(inputs))


@dataclass(frozen=True)
class _Chosen:
    """Is a choice of coins: where they are, what they are, and their sum."""

    points: list[OutPoint]
    outputs: list[TxOutput]
    sum_sats: int


def pay(
    key: TaprootKey,
    chain: CoinMap,
    mempool: Mempool,
    target: TxOutput,
    fee_rate_sats_per_vbyte: int,
) -> Transaction:
    """Returns a signed transaction that pays `target` from the key's coins.

    Raises:
        RefusedError: The key has too few coins that may be spent now.
    """
    spendable = _spendable(key, chain, mempool)
    parts = _CHANGE_PARTS if len(spendable) < _COINS_WANTED else 1
    extra = len(TxOutput(0, target.script).to_bytes()) * 4 + parts * _WEIGHT_OUTPUT
    chosen = _Chosen([], [], 0)
    for point, output in spendable:
        if not _may_have_a_child(mempool, point[0]):
            continue
        chosen.points.append(point)
        chosen.outputs.append(output)
        chosen = replace(chosen, sum_sats=chosen.sum_sats + output.value_sats)
        weight = _WEIGHT_BASE + extra + _WEIGHT_INPUT * len(chosen.points)
        fee = (weight + 3) // 4 * fee_rate_sats_per_vbyte
        if chosen.sum_sats >= target.value_sats + fee:
            return _signed(key, chosen, target, fee, parts)
    raise RefusedError(
        "insufficient-funds",
        f"{chosen.sum_sats} sats can be spent now; `radpool chain mine` makes and matures more",
    )


def _spendable(
    key: TaprootKey, chain: CoinMap, mempool: Mempool
) -> list[tuple[OutPoint, TxOutput]]:
    """Returns coins in the order to spend them: confirmed first, then large before small."""
    confirmed = [
        (point, coin.output)
        for point, coin in chain.of_script(key.script)
        if not (coin.coinbase and chain.height + 1 - coin.height < COINBASE_MATURITY)
    ]
    unconfirmed = [
        ((entry.transaction.txid, index), output)
        for entry in mempool.in_order()
        for index, output in enumerate(entry.transaction.outputs)
        if output.script == key.script
    ]
    coins: list[tuple[OutPoint, TxOutput]] = []
    for group in (confirmed, unconfirmed):
        free = [(point, output) for point, output in group if not mempool.is_spent(point)]
        coins += sorted(free, key=lambda each: -each[1].value_sats)
    return coins


def _may_have_a_child(mempool: Mempool, txid: bytes) -> bool:
    """Tells whether the mempool's limits leave room for one more transaction behind this one."""
    entry = mempool.entries.get(txid)
    if entry is None:
        return True  # confirmed
    above = {txid} | mempool.ancestors(entry)
    widest = max(len(mempool.descendants(mempool.entries[each])) for each in above)
    return max(len(above), widest + 1) < PACKAGE_MAX


def _signed(
    key: TaprootKey, chosen: _Chosen, target: TxOutput, fee: int, parts: int
) -> Transaction:
    change = chosen.sum_sats - target.value_sats - fee
    share, remainder = divmod(change, parts)
    outputs = [target]
    if share > _DUST_SATS:
        outputs += [
            TxOutput(share + (remainder if i == 0 else 0), key.script) for i in range(parts)
        ]
    elif change > _DUST_SATS:
        outputs.append(TxOutput(change, key.script))
    # A sequence below the final ones leaves the locktime in force, which is 0.
    inputs = tuple(TxInput(point, b"", 0xFFFFFFFD) for point in chosen.points)
    return key.sign(Transaction(2, inputs, tuple(outputs), 0), chosen.outputs)
