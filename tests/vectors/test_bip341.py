"""Published outputs with script trees, and the signature hash of a key path spend.

Of the spends only those that sign by the default hash are computed: nothing here signs by another.
"""

import json
from pathlib import Path

import pytest

from radpool_sv2.chain.taproot import TapLeaf, Taproot, signature_hash
from radpool_sv2.chain.transaction import Transaction, TxOutput
from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.network import MAIN, address_from_script

PUBLISHED = json.loads(
    (Path(__file__).parent / "treasury" / "bip341-wallet.json").read_text(encoding="utf-8")
)


def tree_of(data):
    if isinstance(data, dict):
        return TapLeaf(bytes.fromhex(data["script"]), data["leafVersion"])
    left, right = data
    return tree_of(left), tree_of(right)


def leaves_of(data):
    if isinstance(data, dict):
        return {data["id"]: tree_of(data)}
    return leaves_of(data[0]) | leaves_of(data[1])


@pytest.mark.parametrize("case", PUBLISHED["scriptPubKey"])
def test_output(case):
    given, between, expected = case["given"], case["intermediary"], case["expected"]
    tree = given["scriptTree"] and tree_of(given["scriptTree"])
    output = Taproot.of(bytes.fromhex(given["internalPubkey"]), tree)
    assert output.merkle_root.hex() == (between["merkleRoot"] or "")
    assert output.output_key.hex() == between["tweakedPubkey"]
    assert output.script.hex() == expected["scriptPubKey"]
    assert address_from_script(output.script, MAIN) == expected["bip350Address"]
    if tree:
        leaves = leaves_of(given["scriptTree"])
        order = [leaves[number] for number in sorted(leaves)]
        assert [leaf.hash.hex() for leaf in order] == between["leafHashes"]
        blocks = [output.control_block(leaf).hex() for leaf in order]
        assert blocks == expected["scriptPathControlBlocks"]


@pytest.mark.parametrize("case", PUBLISHED["keyPathSpending"])
def test_key_path_spend_by_the_default_hash(case):
    given = case["given"]
    transaction = Transaction.from_bytes(bytes.fromhex(given["rawUnsignedTx"]))
    spent = [
        TxOutput(each["amountSats"], bytes.fromhex(each["scriptPubKey"]))
        for each in given["utxosSpent"]
    ]
    hashes = {
        each["given"]["txinIndex"]: each["intermediary"]["sigHash"]
        for each in case["inputSpending"]
        if each["given"]["hashType"] == 0
    }
    assert hashes
    for index, expected in hashes.items():
        assert signature_hash(transaction, spent, index).hex() == expected


def test_what_is_no_key_has_no_output():
    with pytest.raises(LocalProtocolError, match="no internal key"):
        Taproot.of(b"\xff" * 32)


def test_a_script_that_is_not_in_the_tree_is_proven_by_nothing():
    key = bytes.fromhex(PUBLISHED["scriptPubKey"][0]["given"]["internalPubkey"])
    output = Taproot.of(key, TapLeaf(b"\x51"))
    with pytest.raises(LocalProtocolError, match="no such script"):
        output.control_block(TapLeaf(b"\x52"))
