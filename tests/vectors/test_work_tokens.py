"""The vectors of page 06, which Rust reads too."""

import pytest
from vector_file import cases

from radpool_sv2._native import ecash
from radpool_sv2.ecash.slot import Slot
from radpool_sv2.errors import LocalProtocolError

FILE = "06-work-tokens.json"


def keys_of(inputs):
    count = 64 if inputs["unit"] == "sat" else min(64, 121 - inputs["z0"])
    seed = ecash.MintSeed.from_secret(bytes.fromhex(inputs["seed"]))
    return ecash.KeysetKeys.derive(seed, inputs["unit"], int(inputs["number"]), 0, count)


@cases(FILE, "keysets")
def test_keyset(case):
    """spec: WT-3, WT-4, WT-5, WT-6"""
    keys, expected = keys_of(case["inputs"]), case["expected"]
    rows = [(int(row["amount"]), bytes.fromhex(row["A"])) for row in expected["keys"]]
    assert keys.public == rows
    assert [1 << (row["z"] - case["inputs"]["z0"]) for row in expected["keys"]] == [
        amount for amount, _ in rows
    ]
    assert keys.id.hex() == expected["id"]
    assert keys.id[:8].hex() == expected["keyset_short"]
    assert case["inputs"]["seed"] not in repr(keys)


@cases(FILE, "keyset_ids")
def test_keyset_id(case):
    """spec: WT-5"""
    inputs = case["inputs"]
    rows = [(row["amount"], bytes.fromhex(row["A"])) for row in inputs["keys"]]
    terms = inputs["unit"], inputs["input_fee_ppk"], inputs["final_expiry"]
    assert ecash.keyset_id(rows[::-1], *terms).hex() == case["expected"]["id"]


def test_other_versions_of_ids_are_refused():
    """spec: WT-5

    attack: A27
    """
    seed = ecash.WalletSeed.from_seed(bytes(64))
    for other in (b"\x00" * 8, b"\x02" * 33, b"\x03" + bytes(32), b"\x01" * 32, b"\x01" * 34, b""):
        with pytest.raises(LocalProtocolError):
            seed.derive(other, 0, 1)


@cases(FILE, "denominations")
def test_denominations(case):
    """spec: WT-3"""
    z0 = case["inputs"]["z0"]
    assert ecash.denominate(0, 1 << z0, z0) == (case["expected"]["first"], 0)
    last = case["expected"]["last"]
    assert ecash.denominate(0, 1 << last, z0) == (last, 0)
    assert ecash.denominate(0, 1 << (last + 1), z0) == (last, 1 << last)


@cases(FILE, "curve_points")
def test_hash_to_curve(case):
    """spec: WT-2"""
    message = bytes.fromhex(case["inputs"]["message"])
    assert ecash.hash_to_curve([message])[0].hex() == case["expected"]["Y"]


@cases(FILE, "tokens")
def test_token(case):
    """spec: WT-7, WT-8, WT-9, WT-10

    attack: A5
    """
    keys, inputs = keys_of(case["inputs"]), case["inputs"]
    due = {name: bytes.fromhex(value) for name, value in case["expected"].items()}
    secret, factor = inputs["secret"], bytes.fromhex(inputs["r"])
    amount = 1 << (inputs["z"] - inputs["z0"])
    assert keys.ys([secret]) == [due["Y"]]
    assert ecash.blind([(secret.encode(), factor)]) == [due["B_"]]
    signed = keys.sign([(amount, due["B_"])])
    assert signed == [(due["C_"], due["e"], due["s"])]
    # No counter and no randomness: the same bytes as often as it is asked for.
    assert keys.sign([(amount, due["B_"])] * 3) == signed * 3
    proof = (due["A"], due["B_"], due["C_"], due["e"], due["s"])
    assert ecash.verify_signature_dleqs([proof]) == [True]
    assert ecash.unblind([(due["C_"], factor, due["A"])]) == [due["C"]]
    others = (amount * 2 % 2**64 or 1, secret, due["C"]), (amount, secret + "0", due["C"])
    assert keys.verify([(amount, secret, due["C"]), *others]) == [True, False, False]
    shown = (secret, due["C"], due["e"], due["s"], factor, due["A"])
    assert ecash.verify_proof_dleqs([shown]) == [True]


@cases(FILE, "proofs")
def test_dleq(case):
    """spec: WT-10"""
    fields = [bytes.fromhex(case["inputs"][name]) for name in ("A", "B_", "C_", "e", "s")]
    assert ecash.verify_signature_dleqs([tuple(fields)]) == ["expected" in case]


@cases(FILE, "carol_proofs")
def test_dleq_of_a_token(case):
    """spec: WT-10"""
    inputs = case["inputs"]
    fields = [bytes.fromhex(inputs[name]) for name in ("C", "e", "s", "r", "A")]
    assert ecash.verify_proof_dleqs([(inputs["secret"], *fields)]) == ["expected" in case]


@cases(FILE, "residues")
def test_residue(case):
    """spec: WT-12, WT-13"""
    inputs = case["inputs"]
    amounts = int(inputs["residue"]), int(inputs["value"])
    found = ecash.denominate(*amounts, inputs["z0"], int(inputs["unit_value"]))
    assert found == (case["expected"]["z"], int(case["expected"]["residue"]))


@cases(FILE, "claim_rule")
def test_claim_rule(case):
    """spec: WT-15, WT-16"""
    share, known = case["inputs"]["share"], case["inputs"]["keyset"]
    slot = Slot(
        number=known["number"],
        short=bytes(8),
        account=known["policy"],
        epoch=known["epoch"],
        height=known["height"],
        z0=32,
        open=known["state"] == "open",
        grace_until_ms=1_000 if known["state"] == "closed" else 0,
    )
    named = share["names"] == slot.number and share["policy"] == slot.account
    taken = named and slot.takes(share["epoch"], share["height"], 500)
    assert taken == ("expected" in case)
    if not taken:
        assert case["expected_error"] == ("stale-keyset" if named else "unknown-keyset")


def test_secrets_are_in_no_repr():
    """Timing is libsecp256k1's business, and wiping Rust's; what Python shows can be seen here.

    spec: WT-11
    """
    mint = ecash.MintSeed.from_secret(bytes(range(32)))
    wallet = ecash.WalletSeed.from_seed(bytes(range(64)))
    keys = ecash.KeysetKeys.derive(mint, "work", 1, 0, 4)
    outputs = wallet.derive(keys.id, 0, 2)
    shown = "".join(f"{each!r}{each!s}" for each in (mint, wallet, keys, outputs))
    secrets = [bytes(range(32)).hex(), *outputs.secrets]
    secrets += [factor.hex() for factor in wallet.expose_blinding_factors(keys.id, [0, 1])]
    assert not any(secret[:12] in shown for secret in secrets)
