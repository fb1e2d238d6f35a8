"""Holds the peer and the vectors of the pages 05 to 08 against each other."""

import json
import struct
from pathlib import Path

import pytest

from peer import curve, ecash
from peer import ecash_message as wire
from peer.message import RawFrame

VECTORS = Path(__file__).parents[2] / "spec" / "vectors"


def cases(file, group):
    found = json.loads((VECTORS / file).read_text(encoding="ascii"))[group]
    return pytest.mark.parametrize("case", found, ids=lambda case: case["id"])


MESSAGES = "05-ecash-messages.json"
TOKENS = "06-work-tokens.json"
RECOVERY = "08-wallet-recovery.json"


def raw(case, *names):
    return [bytes.fromhex(case["inputs"][name]) for name in names]


def in_json(value):
    """Writes a message's fields as the vectors have them."""
    if isinstance(value, dict):
        return {
            name: struct.pack("<f", inner).hex() if isinstance(inner, float) else in_json(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [in_json(inner) for inner in value]
    return value.hex() if isinstance(value, bytes) else value


@cases(MESSAGES, "messages")
def test_message(case):
    due = case["expected"]
    payload = bytes.fromhex(due["payload"])
    sent = RawFrame(due["extension_type"], due["msg_type"], due["channel_msg"], payload)
    name, fields = wire.read(sent)
    assert name == case["inputs"]["message"]
    assert in_json(fields) == case["inputs"]["fields"]
    assert wire.write(name, **fields) == payload
    sent.channel = not sent.channel
    with pytest.raises(ValueError, match="channel bit"):
        wire.read(sent)


@cases(MESSAGES, "malformed")
def test_malformed_message(case):
    with pytest.raises(ValueError, match=r"."):
        wire.read_payload(case["inputs"]["message"], *raw(case, "payload"))


@cases(MESSAGES, "receipts")
def test_receipts(case):
    root = bytes(32)
    for row in case["inputs"]["claims"]:
        blinded, share_hash = bytes.fromhex(row["B_"]), bytes.fromhex(row["share_hash"])
        root = ecash.receipt_root(root, blinded, row["z"], share_hash)
    due = case["expected"]
    assert root.hex() == due["root"]
    inputs = case["inputs"]
    digest = ecash.receipt_digest(inputs["channel_id"], inputs["last_sequence_number"], root)
    assert digest.hex() == due["digest"]
    key, signature = bytes.fromhex(due["msp_key"]), bytes.fromhex(due["receipt_sig"])
    assert curve.verify(key, digest, signature)


@cases(MESSAGES, "signatures")
def test_announcement_or_update(case):
    name = case["inputs"]["message"]
    payload, key = raw(case, "payload", "msp_key")
    fields = wire.read_payload(name, payload)
    good = wire.is_signed(name, payload, key)
    if name == "EcashKeysetAnnounce":
        amounts = {2 ** (row["z"] - fields["z0"]): row["A"] for row in fields["keys"]}
        terms = (fields["unit"], fields["input_fee_ppk"], fields["final_expiry"])
        good = good and ecash.keyset_id(amounts, *terms) == fields["keyset_id"]
    assert good == ("expected" in case)


@cases(TOKENS, "curve_points")
def test_hash_to_curve(case):
    point = ecash.hash_to_curve(*raw(case, "message"))
    assert ecash.encode(point).hex() == case["expected"]["Y"]


@cases(TOKENS, "keysets")
def test_keyset(case):
    due = case["expected"]
    amounts = {int(row["amount"]): bytes.fromhex(row["A"]) for row in due["keys"]}
    assert ecash.keyset_id(amounts, case["inputs"]["unit"]).hex() == due["id"]
    first = ecash.encode(curve.multiply_base(int(due["first_secret"], 16)))
    assert first == amounts[1]


@cases(TOKENS, "tokens")
def test_token(case):
    inputs, due = case["inputs"], case["expected"]
    factor = int(inputs["r"], 16)
    assert ecash.blind(inputs["secret"], factor).hex() == due["B_"]
    parts = [bytes.fromhex(due[name]) for name in ("A", "B_", "C_", "e", "s")]
    assert ecash.proves(*parts)
    assert ecash.unblind(parts[2], factor, parts[0]).hex() == due["C"]


@cases(TOKENS, "proofs")
def test_proof(case):
    assert ecash.proves(*raw(case, "A", "B_", "C_", "e", "s")) == ("expected" in case)


@cases(RECOVERY, "outputs")
def test_output(case):
    inputs, due = case["inputs"], case["expected"]
    seed = ecash.Seed(bytes.fromhex(inputs["seed"]))
    output = seed.output(bytes.fromhex(inputs["keyset_id"]), int(inputs["counter"]))
    assert (output.secret, output.blinded.hex()) == (due["secret"], due["B_"])
    assert f"{output.factor:064x}" == due["r"]


@cases(RECOVERY, "claim_keys")
def test_claim_key(case):
    key = ecash.Seed(*raw(case, "seed")).claim_key(int(case["inputs"]["counter"]))
    due = case["expected"]
    assert (key.secret.hex(), key.point.hex()) == (due["secret"], due["claim_key"])


@cases(RECOVERY, "cash_outs")
def test_cash_out(case):
    inputs, due = case["inputs"], case["expected"]
    key = ecash.Seed(*raw(case, "seed")).claim_key(int(inputs["counter"]))
    keyset = bytes.fromhex(inputs["keyset_id"])
    outputs = [(int(row["amount"]), bytes.fromhex(row["B_"])) for row in inputs["outputs"]]
    assert ecash.cash_out_digest(key.point, keyset, outputs).hex() == due["digest"]
    assert (key.point.hex(), key.sign(keyset, outputs).hex()) == (
        due["claim_key"],
        due["signature"],
    )


@cases(RECOVERY, "answers")
def test_answer(case):
    paid = ecash.Paid(int(case["inputs"]["unit_value"] or 0))
    unsigned = [not paid.takes(row["work"], row["token"]) for row in case["inputs"]["shares"]]
    assert unsigned == case["expected"]["unsigned"]
