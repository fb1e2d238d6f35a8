"""The vectors of page 11, which Rust reads too."""

import pytest
from coincurve import PrivateKey
from radpool_sv2_extensions.share_ownership import message
from radpool_sv2_extensions.share_ownership.receipt import Receipt
from vector_file import cases

from radpool_sv2._native.ledger import MspKey
from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.federation.codec import CodecError
from radpool_sv2.federation.state.registration import (
    RegisterCheck,
    decode_registrations,
    encode_registrations,
)
from radpool_sv2.ledger.account import commitment_of
from radpool_sv2.pool.register import Registration, registration_hash
from radpool_sv2.verify.receipt import find_owner
from radpool_sv2.verify.registration import ToldOwners

FILE = "11-owner-registration.json"


@cases(FILE, "registrations")
def test_registration(case):
    """spec: OR-3, OR-5"""
    inputs = case["inputs"]
    expected = {
        name: bytes.fromhex(value) for name, value in case["expected"].items() if value is not None
    }
    msp = MspKey.from_secret(bytes.fromhex(inputs["msp_secret"]))
    miner = PrivateKey(bytes.fromhex(inputs["miner_secret"]))
    salt, numbers = bytes.fromhex(inputs["salt"]), (inputs["epoch"], inputs["number"])
    key = expected["miner_key"]
    assert msp.public == expected["msp_key"]
    assert commitment_of(key.hex(), salt) == expected["commitment"]
    signed = registration_hash(msp.public, key, expected["commitment"], *numbers)
    assert signed == expected["signed_hash"]
    assert msp.sign(signed) == expected["msp_signature"]
    assert miner.sign_schnorr(signed, bytes(32)) == expected["miner_signature"]
    registration = Registration(
        inputs["number"], 1, key, salt, expected["commitment"], inputs["epoch"], signed, b"", b""
    )
    assert registration.is_signed_by_miner(expected["miner_signature"])
    for byte in (0, 31, 32, 63):
        signature = bytearray(expected["miner_signature"])
        signature[byte] ^= 1
        assert not registration.is_signed_by_miner(bytes(signature))


@cases(FILE, "receipts")
def test_receipt(case):
    """spec: OR-8, OR-9"""
    inputs, expected = case["inputs"], case["expected"]
    receipt = Receipt()
    for share_hash, exponent in inputs["shares"]:
        receipt = receipt.extended(bytes.fromhex(share_hash), exponent)
    assert (receipt.count, str(receipt.work)) == (expected["count"], expected["work"])
    assert receipt.root.hex() == expected["root"]
    signed = receipt.signed_hash(inputs["number"])
    assert signed.hex() == expected["signed_hash"]
    key = MspKey.from_secret(bytes.fromhex(inputs["msp_secret"]))
    assert key.sign(signed).hex() == expected["signature"]


@cases(FILE, "messages")
def test_message(case):
    """spec: OR-1, OR-2"""
    kind = getattr(message, case["inputs"]["record"])
    payload = bytes.fromhex(case["inputs"]["payload"])
    if "expected_error" in case:
        with pytest.raises(RemoteProtocolError):
            kind.decode(payload)
        return
    record = kind.decode(payload)
    assert record.encode() == payload
    shown = {name: getattr(record, name) for name in case["expected"]}
    assert {
        name: value.hex() if isinstance(value, bytes) else value for name, value in shown.items()
    } == case["expected"]


@cases(FILE, "owners")
def test_owner(case):
    """spec: OR-13"""
    inputs, expected = case["inputs"], case["expected"]
    register = {
        bytes.fromhex(each["commitment"]): bytes.fromhex(each["miner_key"])
        for each in inputs["register"]
    }
    script = bytes.fromhex(inputs["script"])
    found = find_owner(bytes.fromhex(inputs["msp_key"]), script, register, inputs["epochs"])
    if expected["miner_key"] is None:
        assert found is None
    else:
        key, epoch, exponent = found
        assert (key.hex(), epoch, exponent) == tuple(
            expected[name] for name in ("miner_key", "epoch", "exponent")
        )
    assert find_owner(bytes(32), script, register, inputs["epochs"]) is None
    assert find_owner(bytes.fromhex(inputs["msp_key"]), script[:-1], register, [1]) is None


@cases(FILE, "told")
def test_what_a_stream_says_of_owners(case):
    """spec: OR-15, OR-16"""
    key = bytes.fromhex(case["inputs"]["msp_key"])
    members, outsiders = RegisterCheck(key), ToldOwners(key)
    for shown, fault in zip(case["inputs"]["payloads"], case["expected"]["faults"], strict=True):
        payload = bytes.fromhex(shown)
        assert (members.take(payload) or 0) == outsiders.take(payload) == fault
        if fault != 1:
            assert encode_registrations(decode_registrations(payload)) == payload
        else:
            with pytest.raises(CodecError):
                decode_registrations(payload)
    assert members.count == outsiders.count == case["expected"]["count"]
