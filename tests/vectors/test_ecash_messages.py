"""The vectors of page 05, which Rust reads too."""

import struct
from dataclasses import fields, is_dataclass

import pytest
from radpool_sv2_extensions.ecash import message as wire
from vector_file import cases

from radpool_sv2._native.ecash import check_points, keyset_id
from radpool_sv2._native.ledger import MspKey
from radpool_sv2.ecash.cash_out import cash_out_hash
from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.units import tagged_hash
from radpool_sv2.verify.bip340 import is_signed_by

FILE = "05-ecash-messages.json"


@cases(FILE, "cash_outs")
def test_cash_out(case):
    """spec: EW-35"""
    inputs = case["inputs"]
    claim_key, keyset = (bytes.fromhex(inputs[name]) for name in ("claim_key", "keyset_id"))
    outputs = [(int(row["amount"]), bytes.fromhex(row["B_"])) for row in inputs["outputs"]]
    hashed = cash_out_hash(claim_key, keyset, outputs)
    good = is_signed_by(claim_key[1:], hashed, bytes.fromhex(inputs["signature"]))
    assert good == ("expected" in case)
    if good:
        assert hashed.hex() == case["expected"]["hash"]


def kind_of(name):
    return getattr(wire, name.replace(".", ""))


def name_of(record, field):
    """Returns what the specification calls a field."""
    if field != "signature":
        return {"blinded": "B_", "key": "A"}.get(field, field)
    if isinstance(record, wire.RedeemInput):
        return "C"
    return "sig" if hasattr(record, "signed_hash") else "C_"


def plain(value, name=""):
    """Writes a message's fields as the vectors have them."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if name == "nominal_hash_rate":
        return struct.pack("<f", value).hex()
    if not is_dataclass(value):
        return value
    found = {}
    for field in fields(value):
        inner = plain(getattr(value, field.name), field.name)
        nested = field.name in {"terms", "claim"}
        found.update(inner if nested else {name_of(value, field.name): inner})
    return found


@cases(FILE, "messages")
def test_message(case):
    """spec: EW-2, EW-3, EW-5, EW-14, EW-15, EW-16, EW-25"""
    expected, inputs = case["expected"], case["inputs"]
    assert expected["extension_type"] == wire.EXTENSION_TYPE
    payload = bytes.fromhex(expected["payload"])
    read = wire.decode(expected["msg_type"], payload, channel_msg=expected["channel_msg"])
    assert type(read) is kind_of(inputs["message"])
    assert plain(read) == inputs["fields"]
    assert read.encode() == payload
    with pytest.raises(RemoteProtocolError):
        wire.decode(expected["msg_type"], payload, channel_msg=not expected["channel_msg"])


@cases(FILE, "malformed")
def test_malformed_message(case):
    """spec: EW-4, EW-33"""
    with pytest.raises(RemoteProtocolError):
        kind_of(case["inputs"]["message"]).decode(bytes.fromhex(case["inputs"]["payload"]))


@cases(FILE, "claims")
def test_claim(case):
    """spec: EW-9, EW-13, WT-1

    attack: A4
    """
    tail = bytes.fromhex(case["inputs"]["tail"])
    if "expected" in case:
        claim = wire.Claim.decode(tail)
        assert claim.keyset_short.hex() == case["expected"]["keyset_short"]
        assert claim.blinded.hex() == case["expected"]["B_"]
        assert wire.claim_tlv(claim.keyset_short, claim.blinded).hex() == case["inputs"]["tlv"]
        assert check_points([claim.blinded]) == [True]
        return
    try:
        claim = wire.Claim.decode(tail)
    except RemoteProtocolError:
        return
    assert check_points([claim.blinded]) == [False]


@cases(FILE, "receipts")
def test_receipts(case):
    """spec: EW-18"""
    inputs, expected = case["inputs"], case["expected"]
    root, roots = bytes(32), []
    for row in inputs["claims"]:
        blinded, share_hash = bytes.fromhex(row["B_"]), bytes.fromhex(row["share_hash"])
        root = wire.receipt_root(root, blinded, row["z"], share_hash)
        roots.append(root.hex())
    assert roots == expected["roots"]
    key = MspKey.from_secret(bytes.fromhex(inputs["msp_secret"]))
    assert key.public.hex() == expected["msp_key"]
    success = wire.SubmitSharesEcashExtendedSuccess(
        channel_id=inputs["channel_id"],
        last_sequence_number=inputs["last_sequence_number"],
        new_submits_accepted_count=0,
        new_shares_sum=0,
        receipts=(),
        receipt_root=root,
        receipt_sig=bytes.fromhex(expected["receipt_sig"]),
    )
    assert success.receipts_hash().hex() == expected["digest"]
    assert is_signed_by(key.public, success.receipts_hash(), success.receipt_sig)


@cases(FILE, "signatures")
def test_announcement_or_update(case):
    """spec: EW-26, EW-30"""
    kind, inputs = kind_of(case["inputs"]["message"]), case["inputs"]
    read = kind.decode(bytes.fromhex(inputs["payload"]))
    digest = read.signed_hash()
    assert digest == tagged_hash(kind.tag, bytes.fromhex(inputs["payload"])[:-64])
    signed = is_signed_by(bytes.fromhex(inputs["msp_key"]), digest, read.signature)
    named = True
    if kind is wire.EcashKeysetAnnounce:
        keys = [(1 << (entry.z - read.z0), entry.key) for entry in read.keys]
        computed = keyset_id(keys, read.unit, read.input_fee_ppk, read.final_expiry or None)
        named = computed == read.keyset_id
    assert (signed and named) == ("expected" in case)
    if "expected_error" in case:
        assert (signed, named) == (case["expected_error"] != "signature", signed is False)
    else:
        assert digest.hex() == case["expected"]["digest"]
