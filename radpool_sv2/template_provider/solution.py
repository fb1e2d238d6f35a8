"""Checks a client's solution before a node is troubled with it.

Source: sv2-spec, section 7.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from radpool_sv2.chain.block import Block, Header
from radpool_sv2.chain.transaction import Transaction
from radpool_sv2.consensus import root_from_path, target_of_nbits
from radpool_sv2.errors import LocalProtocolError, RemoteProtocolError
from radpool_sv2.templates.source import Solution

if TYPE_CHECKING:
    from radpool_sv2.template_provider.offer import Offer
    from radpool_sv2.wire.message.template_distribution import SubmitSolution

__all__ = ["empty_block", "is_block", "solution_of"]


def solution_of(message: SubmitSolution, offer: Offer) -> Solution:
    """Makes a source's solution of a client's one.

    Raises:
        RemoteProtocolError: It is no coinbase, or the hash is above the header's own target.
    """
    coinbase = _coinbase(message.coinbase_tx)
    block_hash = _header(message, offer, coinbase).hash
    if int.from_bytes(block_hash, "little") > target_of_nbits(offer.tip.nbits):
        raise RemoteProtocolError(
            f"a solution of template {message.template_id} whose hash {block_hash[::-1].hex()} is"
            " above the target"
        )
    return Solution(
        template_id=offer.template.id,
        version=message.version,
        ntime=message.header_timestamp,
        nonce=message.header_nonce,
        coinbase_tx=message.coinbase_tx,
        hash=block_hash,
    )


def is_block(solution: Solution, offer: Offer) -> bool:
    """Says whether the source's chain takes a solution's hash.

    It may ask for more than the header says, as the embedded chain does; clients that look at the
    header alone, SRI's pool among them, send what is none, and are not at fault.
    """
    target = int.from_bytes(offer.tip.target, "little")
    return int.from_bytes(solution.hash, "little") <= target


def empty_block(message: SubmitSolution, offer: Offer) -> bytes:
    """Builds the block of a solution whose template has no transactions.

    Raises:
        RemoteProtocolError: It is no coinbase.
    """
    coinbase = _coinbase(message.coinbase_tx)
    return Block(_header(message, offer, coinbase), (coinbase,)).to_bytes()


def _coinbase(raw: bytes) -> Transaction:
    try:
        coinbase = Transaction.from_bytes(raw)
    except LocalProtocolError as error:
        raise RemoteProtocolError(
            f"a solution whose coinbase is no transaction: {error}"
        ) from error
    if not coinbase.is_coinbase:
        raise RemoteProtocolError("a solution whose coinbase spends something")
    return coinbase


def _header(message: SubmitSolution, offer: Offer, coinbase: Transaction) -> Header:
    root = root_from_path(coinbase.txid, offer.template.merkle_path)
    return Header(
        message.version,
        offer.tip.prev_hash,
        root,
        message.header_timestamp,
        offer.tip.nbits,
        message.header_nonce,
    )
