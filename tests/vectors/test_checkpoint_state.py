"""The vectors of page 15."""

import pytest
from vector_file import cases, load

from radpool_sv2.federation.codec import CodecError, Reader
from radpool_sv2.federation.state.accounting import Accounting
from radpool_sv2.federation.state.ledger import Block, Stake
from radpool_sv2.federation.state.payload import Found, KeySaid, Tip, decode_mature
from radpool_sv2.federation.state.payout import divide, parts_of
from radpool_sv2.federation.state.rules import PayoutMode, Rules
from radpool_sv2.federation.state.tree import Row, root_of
from radpool_sv2.weight import Scale, WeightMode

FILE = "15-checkpoint-state.json"


def rules_of(shown):
    return Rules(
        msp_keys=tuple(bytes.fromhex(key) for key in shown["msp_keys"]),
        faulty_max=shown["faulty"],
        height_first=shown["height_first"],
        interval=shown["interval"],
        payout=PayoutMode(shown["payout"]),
        maturity=shown["maturity"],
        fee_sats_per_vb=shown["fee"],
        recovery_blocks=(shown["recovery_members"], shown["recovery_set"]),
        mode=WeightMode(shown["mode"]),
        scale=Scale(shown["scale"], shown["base"], shown["halving"]),
        window=shown["window"],
        grace=shown["grace"],
        lateness=shown["lateness"],
        shares_target=shown["shares_target"],
        exponent_floor=shown["exponent_floor"],
        bytes_base=shown["bytes_base"],
        bytes_shared=shown["bytes_shared"],
    )


@cases(FILE, "rules")
def test_rules(case):
    """spec: CS-1"""
    rules = rules_of(case["inputs"])
    assert rules.encode().hex() == case["expected"]["encoded"]
    assert rules.digest.hex() == case["expected"]["digest"]


@cases(FILE, "tips")
def test_tip(case):
    """spec: CS-3"""
    inputs = case["inputs"]
    if "expected_error" in case:
        with pytest.raises(CodecError) as caught:
            Tip.decode(bytes.fromhex(inputs["payload"]))
        assert caught.value.error_code == case["expected_error"]
        return
    tip = Tip(
        bytes.fromhex(inputs["prev_hash"]),
        inputs["height"],
        inputs["nbits"],
        int(inputs["target"], 16),
        inputs["fees_sats"],
    )
    assert tip.encode().hex() == case["expected"]["payload"]
    assert Tip.decode(tip.encode()) == tip


@cases(FILE, "rows")
def test_rows(case):
    """spec: CS-16"""
    rows = [
        Row(member, bytes.fromhex(commitment), rail, height, count, int(work), int(value))
        for member, commitment, rail, height, count, work, value in case["inputs"]["rows"]
    ]
    expected = case["expected"]
    assert [row.encode().hex() for row in rows] == expected["encoded"]
    assert [Row.read(Reader(row.encode())) for row in rows] == rows
    root = root_of(rows)
    assert root.hash.hex() == expected["root"]
    assert (root.work, root.value) == (int(expected["work"]), int(expected["value"]))


@cases(FILE, "books")
def test_books(case, vector_rules):
    """spec: CS-2, CS-16"""
    books = Accounting(vector_rules).start()
    assert books.encode().hex() == case["expected"]["encoded"]
    assert books.root().hex() == case["expected"]["root"]


@pytest.fixture
def vector_rules():
    return rules_of(load(FILE)["rules"][0]["inputs"])


@cases(FILE, "splits")
def test_split(case):
    """spec: CS-17"""
    inputs = case["inputs"]
    weights = {member: int(weight) for member, weight in enumerate(inputs["weights"])}
    parts = divide(inputs["sats"], weights, bytes.fromhex(inputs["lot"]))
    assert [parts.get(member, 0) for member in weights] == case["expected"]["parts"]


@cases(FILE, "said")
def test_keys_and_blocks_that_are_said(case):
    """spec: CS-3"""
    shown = dict(case["inputs"])
    decode = {14: KeySaid.decode, 15: Found.decode, 16: decode_mature}[shown.pop("kind")]
    if "expected_error" in case:
        with pytest.raises(CodecError) as caught:
            decode(bytes.fromhex(shown["payload"]))
        assert caught.value.error_code == case["expected_error"]
        return
    payload = bytes.fromhex(case["expected"]["payload"])
    said = decode(payload)
    assert said.encode() == payload
    for name, value in shown.items():
        found = getattr(said, name)
        assert (found.hex() if isinstance(found, bytes) else found) == value


@cases(FILE, "payouts")
def test_payouts(case, vector_rules):
    """spec: CS-25"""
    inputs, expected = case["inputs"], case["expected"]
    assert inputs["fee"] == vector_rules.fee_sats_per_vb
    stakes = tuple(
        Stake(member, int(weight), bytes.fromhex(script))
        for member, weight, script in inputs["stakes"]
    )
    block = Block(900_001, bytes(32), 0, inputs["value"], bytes(32), 0, stakes)
    parts = parts_of(vector_rules, bytes.fromhex(inputs["block_hash"]), block)
    assert [[part.member, part.sats] for part in parts] == expected["parts"]
    paid = sum(part.sats for part in parts)
    assert paid + expected["fee_sats"] == (inputs["value"] if parts else 0)
