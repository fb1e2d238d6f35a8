"""The syndicate's output and its payout, without a chain."""

from dataclasses import replace
from hashlib import sha256

import pytest
from coincurve import PrivateKey, PublicKeyXOnly

from radpool_sv2.chain.taproot import signature_hash
from radpool_sv2.chain.transaction import Transaction, TxOutput
from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.federation.treasury.output import RecoveryLeaf, RecoverySet, SyndicateOutput
from radpool_sv2.federation.treasury.payout import fee_of, payout_transaction

BLOCKS = (1_008, 4_320)
SECRETS = [PrivateKey(sha256(b"treasury %d" % number).digest()) for number in range(140)]
KEYS = [PublicKeyXOnly.from_secret(secret.secret).format() for secret in SECRETS]
INTERNAL = KEYS[-1]
PARTS = [(b"\x51\x20" + KEYS[0], 600), (b"\x00\x14" + bytes(20), 400)]


def output(n=4, faulty_max=1, recovery=None):
    return SyndicateOutput.of(INTERNAL, KEYS[:n], faulty_max, BLOCKS, recovery)


def test_there_is_one_script_and_honest_members_are_needed_for_it():
    made = output()
    [leaf] = made.leaves
    assert (leaf.blocks, leaf.threshold, leaf.keys) == (1_008, 2, tuple(KEYS[:4]))
    assert made.merkle_root == leaf.leaf.hash
    assert made.script == b"\x51\x20" + made.output_key


def test_script_byte_by_byte():
    script = output().leaves[0].leaf.script
    assert script[:34] == b"\x20" + KEYS[0] + b"\xac"
    assert script[34:68] == b"\x20" + KEYS[1] + b"\xba"
    assert script[4 * 34 :] == bytes.fromhex("529d02f003b2")


@pytest.mark.parametrize(
    ("blocks", "pushed"),
    [
        (1, "51"),
        (16, "60"),
        (17, "0111"),
        (127, "017f"),
        (128, "028000"),
        (255, "02ff00"),
        (256, "020001"),
        (32_767, "02ff7f"),
        (32_768, "03008000"),
        (65_535, "03ffff00"),
    ],
)
def test_numbers_are_pushed_in_the_shortest_way(blocks, pushed):
    script = RecoveryLeaf(blocks, 1, (KEYS[0],)).leaf.script
    assert script[34:].hex() == f"519d{pushed}b2"


def test_a_recovery_set_has_its_own_script():
    made = output(recovery=RecoverySet(2, tuple(KEYS[10:13])))
    members, others = made.leaves
    assert (others.blocks, others.threshold, others.keys) == (4_320, 2, tuple(KEYS[10:13]))
    assert made.script != output().script
    blocks = [made.taproot.control_block(each.leaf) for each in (members, others)]
    assert blocks[0][33:] == others.leaf.hash
    assert blocks[1][33:] == members.leaf.hash


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"recovery_blocks": (0, 1)}, "1 to 65535 blocks"),
        ({"recovery_blocks": (5, 5)}, "waits for longer"),
        ({"faulty_max": 4}, "5 of 4 keys"),
        ({"members": []}, "2 of 0 keys"),
        ({"members": KEYS[:129]}, "of 129 keys"),
        ({"members": [b"\xff" * 32, KEYS[0]]}, "is no key"),
        ({"members": [KEYS[0][1:], KEYS[0]]}, "is no key"),
        ({"key": b"\xff" * 32}, "no internal key"),
        ({"key": INTERNAL[1:]}, "no internal key"),
        ({"recovery": RecoverySet(0, (KEYS[0],))}, "0 of 1 keys"),
        ({"recovery": RecoverySet(3, (KEYS[0],))}, "3 of 1 keys"),
        ({"recovery": RecoverySet(1, ()), "recovery_blocks": (1, 65_535)}, "1 of 0 keys"),
        (
            {"recovery": RecoverySet(1, (KEYS[0],)), "recovery_blocks": (1, 65_536)},
            "1 to 65535 blocks",
        ),
    ],
)
def test_what_is_no_output(change, words):
    given = {"key": INTERNAL, "members": KEYS[:4], "faulty_max": 1, "recovery_blocks": BLOCKS}
    with pytest.raises(LocalProtocolError, match=words):
        SyndicateOutput.of(**given | change)


def test_a_recovery_takes_no_more_signatures_than_it_wants():
    leaf = RecoveryLeaf(1, 2, tuple(KEYS[:4]))
    signatures = {key: bytes([number]) * 64 for number, key in enumerate(KEYS[:4])}
    assert leaf.items(signatures) == (b"", b"", b"\x01" * 64, b"\x00" * 64)
    del signatures[KEYS[0]], signatures[KEYS[2]]
    assert leaf.items(signatures) == (b"\x03" * 64, b"", b"\x01" * 64, b"")
    with pytest.raises(LocalProtocolError, match="2 of the script's keys must sign, 1 have"):
        leaf.items({KEYS[1]: bytes(64), KEYS[9]: bytes(64)})
    with pytest.raises(LocalProtocolError, match="64 bytes"):
        leaf.items({KEYS[1]: bytes(64), KEYS[2]: bytes(65)})


def test_a_payout_is_what_was_given_and_follows_from_it():
    made = output()
    payout = payout_transaction(b"\x07" * 32, 3, 1_100, made, PARTS)
    assert payout == payout_transaction(b"\x07" * 32, 3, 1_100, made, PARTS)
    transaction = Transaction.from_bytes(payout.transaction)
    [spends] = transaction.inputs
    assert spends.previous == (b"\x07" * 32, 3)
    assert [(each.script, each.value_sats) for each in transaction.outputs] == PARTS
    assert payout.sighash == signature_hash(transaction, [TxOutput(1_100, made.script)], 0)
    assert payout.merkle_root == made.merkle_root


@pytest.mark.parametrize(
    "change",
    [
        {"txid": b"\x08" * 32},
        {"vout": 4},
        {"value": 1_101},
        {"output": output(7, 2)},
        {"parts": PARTS[::-1]},
    ],
)
def test_whatever_is_given_is_signed(change):
    given = {"txid": b"\x07" * 32, "vout": 3, "value": 1_100, "output": output(), "parts": PARTS}
    payout, other = payout_transaction(**given), payout_transaction(**given | change)
    assert payout.sighash != other.sighash


def test_a_signature_completes_it_and_changes_no_id():
    payout = payout_transaction(b"\x07" * 32, 3, 1_100, output(), PARTS)
    done = Transaction.from_bytes(payout.signed(b"\x05" * 64))
    assert done.inputs[0].witness == (b"\x05" * 64,)
    assert done.txid == payout.txid
    bare = replace(done, inputs=(replace(done.inputs[0], witness=()),))
    assert bare.to_bytes() == payout.transaction
    with pytest.raises(LocalProtocolError, match="64 bytes, not 65"):
        payout.signed(bytes(65))


@pytest.mark.parametrize("parts", [[], [(b"\x51", 0)], [(b"\x51", 1_101)], [(b"\x51", -1)]])
def test_what_cannot_be_paid_is_no_payout(parts):
    with pytest.raises(LocalProtocolError, match="cannot be paid"):
        payout_transaction(bytes(32), 0, 1_100, output(), parts)
    payout_transaction(bytes(32), 0, 1_100, output(), [(b"\x51", 1_100)])


@pytest.mark.parametrize("count", [1, 2, 128])
def test_the_fee_is_that_of_the_finished_transaction(count):
    scripts = [b"\x51\x20" + KEYS[number] for number in range(count)]
    parts = [(script, 1_000) for script in scripts]
    payout = payout_transaction(bytes(32), 0, 1_000_000, output(), parts)
    done = Transaction.from_bytes(payout.signed(bytes(64)))
    assert fee_of(scripts, 5) == (done.weight + 3) // 4 * 5
    assert fee_of(scripts, 0) == 0
