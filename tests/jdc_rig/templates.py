"""Own templates to declare, with transactions that parse."""

import struct

from radpool_sv2.chain.block import witness_commitment
from radpool_sv2.chain.transaction import OutPoint, Transaction, TxInput, TxOutput
from radpool_sv2.consensus import merkle_path, push_height
from radpool_sv2.jdc.work import OwnTemplate
from radpool_sv2.templates.source import Template, Tip

SUBSIDY = 50 * 100_000_000
RESERVED = 8_000
EASY = b"\xff" * 31 + b"\x7f"


def transaction(seed, *, spends=(), outputs=1, witness=False):
    """Makes a transaction that differs by its seed; `spends` are outpoints."""
    outpoints: list[OutPoint] = list(spends) or [(struct.pack("<Q", seed) * 4, 0)]
    inputs = tuple(TxInput(each, b"", 0xFFFFFFFD, (b"w",) if witness else ()) for each in outpoints)
    paid = tuple(TxOutput(1_000 + seed, b"\x51" + bytes([1, at % 256])) for at in range(outputs))
    return Transaction(2, inputs, paid, 0)


def template(number=1, *, height=100, transactions=(), fees=0):
    commitment = witness_commitment([each.wtxid for each in transactions]).to_bytes()
    return Template(
        id=number,
        height=height,
        version=0x20000000,
        coinbase_tx_version=2,
        coinbase_prefix=push_height(height),
        coinbase_sequence=0xFFFFFFFE,
        template_outputs=commitment,
        template_output_count=1,
        coinbase_locktime=0,
        merkle_path=merkle_path([each.txid for each in transactions]),
        value_sats=SUBSIDY + fees,
        fees_sats=fees,
        tx_count=len(transactions),
        weight=RESERVED + sum(each.weight for each in transactions),
    )


def tip(number=1, *, on=1, target=EASY):
    return Tip(
        template_id=number,
        prev_hash=bytes([on % 256]) * 32,
        min_ntime=1_700_000_000,
        nbits=0x207FFFFF,
        target=target,
    )


def own(number=1, *, on=1, height=None, transactions=()):
    """Makes an own template; `on` is the tip that it builds on."""
    made = template(
        number, height=100 + on if height is None else height, transactions=transactions
    )
    raws = tuple(each.to_bytes() for each in transactions)
    return OwnTemplate(template=made, tip=tip(number, on=on), transactions=raws)
