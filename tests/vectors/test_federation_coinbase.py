"""The vectors of page 17, of which Rust reads the outputs too."""

import pytest
from vector_file import cases

from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.federation.treasury.output import RecoverySet, SyndicateOutput
from radpool_sv2.federation.treasury.payout import fee_of, payout_transaction

FILE = "17-federation-coinbase.json"


def many(values):
    return [bytes.fromhex(value) for value in values]


def output_of(inputs):
    recovery = inputs["recovery"]
    return SyndicateOutput.of(
        bytes.fromhex(inputs["key"]),
        many(inputs["members"]),
        inputs["faulty_max"],
        tuple(inputs["recovery_blocks"]),
        recovery and RecoverySet(recovery["threshold"], tuple(many(recovery["keys"]))),
    )


@cases(FILE, "outputs")
def test_output(case):
    """spec: SO-1, SO-2, SO-3, SO-4"""
    expected, output = case["expected"], output_of(case["inputs"])
    leaves = [each.leaf for each in output.leaves]
    assert [leaf.script.hex() for leaf in leaves] == expected["scripts"]
    assert [leaf.hash.hex() for leaf in leaves] == expected["leaves"]
    assert output.merkle_root.hex() == expected["merkle_root"]
    assert output.output_key.hex() == expected["output_key"]
    assert output.script.hex() == expected["script"]
    blocks = [output.taproot.control_block(leaf).hex() for leaf in leaves]
    assert blocks == expected["control_blocks"]


@cases(FILE, "refused_outputs")
def test_refused_output(case):
    """spec: SO-4"""
    words = {
        "blocks": "1 to 65535 blocks",
        "order": "waits for longer",
        "threshold": "needs at least one",
        "key": "key",
    }
    with pytest.raises(LocalProtocolError, match=words[case["expected_error"]]):
        output_of(case["inputs"])


@cases(FILE, "payouts")
def test_payout(case):
    """spec: SO-8, SO-9, SO-10"""
    inputs, expected = case["inputs"], case["expected"]
    parts = [(bytes.fromhex(script), sats) for script, sats in inputs["parts"]]
    assert fee_of([script for script, _ in parts], inputs["sats_per_vb"]) == expected["fee"]
    assert inputs["value"] - sum(sats for _, sats in parts) == expected["fee"]
    payout = payout_transaction(
        bytes.fromhex(inputs["txid"]),
        inputs["vout"],
        inputs["value"],
        output_of(inputs["output"]),
        parts,
    )
    assert payout.transaction.hex() == expected["transaction"]
    assert payout.txid.hex() == expected["txid"]
    assert payout.sighash.hex() == expected["sighash"]
    assert payout.merkle_root.hex() == expected["merkle_root"]
    assert payout.signed(bytes.fromhex(inputs["signature"])).hex() == expected["signed"]
