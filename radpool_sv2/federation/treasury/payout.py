"""Builds the transaction that pays out what a block has paid the syndicate.

It follows from what is given, byte by byte, so that all members sign the same. It spends one output
and is final: no second one is signed for that output. Whoever is paid can raise its fee by spending
from it.

Source: `spec/17-federation-coinbase.md`, "Payout".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from radpool_sv2.chain.taproot import signature_hash
from radpool_sv2.chain.transaction import Transaction, TxInput, TxOutput
from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.federation.codec import SIGNATURE_LEN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radpool_sv2.federation.treasury.output import SyndicateOutput

__all__ = ["Payout", "fee_of", "payout_transaction"]

VERSION: Final = 2
SEQUENCE: Final = 0xFFFFFFFF
"""Final: the locktime of 0 holds for anything, and nobody offers a replacement."""

WEIGHT_OF_VB: Final = 4


@dataclass(frozen=True)
class Payout:
    """Is a payout to be signed.

    Attributes:
        transaction: It, without its witness.
        sighash: What the treasury key signs, 32 bytes.
        merkle_root: What it is tweaked with, 32 bytes.
        txid: Its id, internal byte order; the signature does not change it.
    """

    transaction: bytes
    sighash: bytes
    merkle_root: bytes
    txid: bytes

    def signed(self, signature: bytes) -> bytes:
        """Returns the transaction as the network takes it.

        Args:
            signature: The treasury key's, verified, 64 bytes.

        Raises:
            LocalProtocolError: It has another length.
        """
        if len(signature) != SIGNATURE_LEN:
            raise LocalProtocolError(f"a signature has {SIGNATURE_LEN} bytes, not {len(signature)}")
        return _witnessed(Transaction.from_bytes(self.transaction), signature).to_bytes()


def payout_transaction(
    txid: bytes,
    vout: int,
    value: int,
    output: SyndicateOutput,
    parts: Sequence[tuple[bytes, int]],
) -> Payout:
    """Builds the payout of one output.

    Args:
        txid: The transaction with the output, internal byte order.
        vout: Its place there.
        value: What it holds, in satoshi.
        output: What it is.
        parts: Scripts and satoshis of who is paid, in order; what is left is the fee.

    Raises:
        LocalProtocolError: Nobody is paid, somebody is paid nothing, or all more than there is.
    """
    paid = sum(sats for _, sats in parts)
    if not parts or paid > value or any(sats < 1 for _, sats in parts):
        raise LocalProtocolError(
            f"{len(parts)} parts of {paid} sats in all cannot be paid from {value} sats"
        )
    transaction = _unsigned((txid, vout), parts)
    spent = TxOutput(value, output.script)
    return Payout(
        transaction.to_bytes(),
        signature_hash(transaction, [spent], 0),
        output.merkle_root,
        transaction.txid,
    )


def fee_of(scripts: Sequence[bytes], sats_per_vb: int) -> int:
    """Computes what a payout to some scripts leaves as its fee, in satoshi.

    Args:
        scripts: Of who is paid.
        sats_per_vb: The fee per virtual byte.
    """
    bare = _unsigned((bytes(32), 0), [(script, 1) for script in scripts])
    weight = _witnessed(bare, bytes(SIGNATURE_LEN)).weight
    return -(-weight // WEIGHT_OF_VB) * sats_per_vb


def _unsigned(point: tuple[bytes, int], parts: Sequence[tuple[bytes, int]]) -> Transaction:
    outputs = tuple(TxOutput(sats, script) for script, sats in parts)
    return Transaction(VERSION, (TxInput(point, b"", SEQUENCE),), outputs, 0)


def _witnessed(transaction: Transaction, signature: bytes) -> Transaction:
    [only] = transaction.inputs
    return replace(transaction, inputs=(replace(only, witness=(signature,)),))
