"""The vectors of page 16, which Rust reads too, and published signatures."""

import json
from pathlib import Path

import pytest
from coincurve import PublicKey as Point
from vector_file import cases

from radpool_sv2._native.threshold import (
    Commitment,
    IdentityKey,
    KeyShare,
    PublicKey,
    Round1,
    Round1Set,
    Round2,
    Run,
    Session,
    invalid_signatures,
    judge,
)
from radpool_sv2.errors import FaultyMSPError

FILE = "16-threshold-keys.json"
PUBLISHED = Path(__file__).parent / "threshold"
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def many(values):
    return [bytes.fromhex(value) for value in values]


def run_of(inputs):
    members = many(inputs["members"])
    numbers = inputs["purpose"], inputs["attempt"], inputs["threshold"]
    return Run(bytes.fromhex(inputs["committee"]), *numbers, members)


def broadcast(inputs):
    run = run_of(inputs["run"])
    first = [
        Round1.decode(run, author, data)
        for author, data in enumerate(many(inputs["first_messages"]))
    ]
    round1 = Round1Set(run, first)
    second = enumerate(many(inputs["second_messages"]))
    return round1, [Round2.decode(round1, author, data) for author, data in second]


@cases(FILE, "runs")
def test_run(case):
    """spec: TK-1, TK-2"""
    assert run_of(case["inputs"]).id.hex() == case["expected"]["id"]


@cases(FILE, "generations")
def test_generation(case):
    """spec: TK-5, TK-7, TK-8, TK-12, TK-13, TK-14, TK-18"""
    expected = case["expected"]
    round1, round2 = broadcast(case["inputs"])
    key = PublicKey.from_broadcast(round1, round2)
    assert round1.digest.hex() == expected["digest"]
    assert key.transcript.hex() == expected["transcript"]
    assert key.certificate_hash.hex() == expected["certificate_hash"]
    assert key.encode().hex() == expected["key"]
    assert key.internal_key.hex() == expected["internal_key"]
    if "merkle_root" in expected:
        output_key = key.output_key(bytes.fromhex(expected["merkle_root"]))
        assert output_key.hex() == expected["output_key"]


@cases(FILE, "refused_first_messages")
def test_first_messages_are_refused(case):
    """spec: TK-6"""
    inputs = case["inputs"]
    words = {
        "length": "bytes",
        "run": "another run",
        "sealing-key": "low order",
        "commitment": "commitment 0",
        "proof": "proof of possession",
    }
    with pytest.raises(FaultyMSPError, match=words[case["expected_error"]]):
        Round1.decode(run_of(inputs["run"]), inputs["author"], bytes.fromhex(inputs["message"]))


@cases(FILE, "complaints")
def test_complaint(case):
    """spec: TK-15, TK-16"""
    inputs, expected = case["inputs"], case["expected"]
    round1, round2 = broadcast(inputs)
    verdict = judge(round1, round2, inputs["accuser"], bytes.fromhex(inputs["complaint"]))
    assert verdict == (expected["culprit"], expected["fault"])


@cases(FILE, "stored")
def test_stored(case):
    """spec: TK-19"""
    inputs, expected = case["inputs"], case["expected"]
    owner = IdentityKey.from_secret(bytes.fromhex(inputs["owner_secret"]))
    share = KeyShare.open(owner, bytes.fromhex(inputs["data"]))
    assert share.index == expected["index"]
    assert share.public.encode().hex() == expected["key"]


@cases(FILE, "sessions")
def test_session(case):
    """spec: TK-20, TK-21, TK-22, TK-23"""
    inputs, expected = case["inputs"], case["expected"]
    key = PublicKey.decode(bytes.fromhex(inputs["key"]))
    commitments = [Commitment.decode(data) for data in many(inputs["commitments"])]
    assert [each.encode().hex() for each in commitments] == inputs["commitments"]
    signers = list(zip(inputs["signers"], commitments, strict=True))
    message = bytes.fromhex(inputs["message"])
    root = inputs["merkle_root"] and bytes.fromhex(inputs["merkle_root"])
    session = Session(key, message, signers, inputs["number"], root)
    assert session.signing_id.hex() == expected["signing_id"]
    assert session.id.hex() == expected["session"]
    shares = list(zip(inputs["signers"], many(expected["shares"]), strict=True))
    for author, share in shares:
        session.verify_share(author, share)
    signature, cheaters = session.aggregate(shares)
    assert signature.hex() == expected["signature"]
    assert cheaters == []
    assert key.output_key(root).hex() == expected["output_key"]
    key.verify(message, signature, root)


def test_published_signatures():
    found = json.loads((PUBLISHED / "bip340.json").read_text(encoding="ascii"))["signatures"]
    hashes = [case for case in found if len(case["inputs"]["message"]) == 64]
    names = "public_key", "message", "signature"
    items = [tuple(bytes.fromhex(case["inputs"][name]) for name in names) for case in hashes]
    wrong = [at for at, case in enumerate(hashes) if not case["expected"]["valid"]]
    assert len(items) == 15
    assert invalid_signatures(items) == wrong


def tweaked(key, tweaks):
    """Adds tweaks to a key one after the other, as BIP-445 has it; returns it x-only."""
    point = Point(bytes.fromhex(key))
    for each in tweaks:
        if each["is_xonly"] and point.format()[0] == 3:
            point = point.multiply((ORDER - 1).to_bytes(32, "big"))
        point = point.add(bytes.fromhex(each["tweak"]))
    return point.format()[1:]


def test_published_threshold_signatures():
    """Those of BIP-445 are made by other messages than ours, and verify as any."""
    found = json.loads((PUBLISHED / "bip445.json").read_text(encoding="ascii"))["signatures"]
    assert any(case["inputs"]["tweaks"] for case in found)
    items = [
        (
            tweaked(case["inputs"]["threshold_key"], case["inputs"]["tweaks"]),
            bytes.fromhex(case["inputs"]["message"]),
            bytes.fromhex(case["expected"]["signature"]),
        )
        for case in found
    ]
    assert invalid_signatures(items) == []
    others = [
        (key, message, signature[:-1] + bytes([signature[-1] ^ 1]))
        for key, message, signature in items
    ]
    assert invalid_signatures(others) == list(range(len(items)))
