"""The vectors of page 09, which Rust reads too."""

from types import SimpleNamespace

import pytest
from shares import Template
from vector_file import cases

from radpool_sv2.consensus import subsidy_sats
from radpool_sv2.errors import ConfigError, LocalProtocolError
from radpool_sv2.ledger import Claim, split_reward
from radpool_sv2.ledger.division import divide_fees
from radpool_sv2.pool.setting import weighing_of
from radpool_sv2.verify.value import fee_weights, target_of_nbits
from radpool_sv2.weight import (
    REAL,
    REGTEST,
    SIGNET,
    OwnReference,
    Scale,
    Weighing,
    WeightMode,
    cap_sats,
    hashes_of_target,
    price_of,
    quality_q32,
    scale_of,
)
from radpool_sv2.weight.body import body_paid_sats, body_prev_hash

FILE = "09-template-value.json"
SCRIPT = b"\x00\x14" + b"\x33" * 20


@cases(FILE, "prices")
def test_price(case):
    """spec: TV-2, TV-3, TV-4, TV-5, TV-6, TV-7"""
    inputs, expected = case["inputs"], case["expected"]
    target = int(inputs["target"], 16)
    assert target <= target_of_nbits(inputs["nbits"])
    subsidy = subsidy_sats(inputs["height"], inputs["halving_blocks"])
    cap = cap_sats(subsidy, inputs["reference_sats"], upside=inputs["upside"])
    assert str(hashes_of_target(target)) == expected["hashes"]
    assert (subsidy, cap) == (expected["subsidy_sats"], expected["cap_sats"])
    price = price_of(
        WeightMode[inputs["mode"].upper()],
        Scale(inputs["scale"], 0, inputs["halving_blocks"]),
        target=target,
        subsidy=subsidy,
        paid_sats=inputs["paid_sats"],
        cap=cap,
    )
    assert str(price) == expected["price"]


@cases(FILE, "prices")
def test_weighing(case):
    """The pool's own way to the same price, from the tip on.

    spec: TV-4, TV-5, TV-7, TV-9, TV-11
    """
    inputs, expected = case["inputs"], case["expected"]
    scale = {112: REAL, 80: SIGNET, 32: REGTEST}[inputs["scale"]]
    assert scale.halving_blocks == inputs["halving_blocks"]
    reference = OwnReference()
    tip = SimpleNamespace(
        prev_hash=b"\x01" * 32, target=int(inputs["target"], 16).to_bytes(32, "little")
    )
    for fees in (inputs["reference_sats"] // 2, inputs["reference_sats"], 0):
        reference.offered(tip.prev_hash, fees)
    mode = WeightMode[inputs["mode"].upper()]
    weighing = Weighing(mode, scale, script=b"\x51", reference=reference)
    price = weighing.price(tip, inputs["height"], inputs["paid_sats"], upside=inputs["upside"])
    assert str(price) == expected["price"]
    assert weighing.rule == (mode, scale.bits, scale.base)


@cases(FILE, "values")
def test_value(case):
    """spec: TV-10"""
    inputs = case["inputs"]
    doublings = inputs["exponent"] - inputs["base"]
    value = int(inputs["price"]) << doublings if doublings >= 0 else None
    if "expected_error" in case:
        assert value is None or value >= 2**128
    else:
        assert str(value) == case["expected"]["value"]
        assert value < 2**128


@cases(FILE, "qualities")
def test_quality(case):
    """spec: TV-12"""
    inputs = case["inputs"]
    subsidy = subsidy_sats(inputs["height"], REAL.halving_blocks)
    quality = quality_q32(
        inputs["paid_sats"], subsidy=subsidy, reference_sats=inputs["reference_sats"]
    )
    assert quality == case["expected"]["quality_q32"]


@cases(FILE, "slices")
def test_slices(case):
    """spec: TV-13, EA-29"""
    inputs, expected = case["inputs"], case["expected"]
    slices = {
        (place, b""): {row["owner"]: (int(row["work"]), int(row["value"])) for row in rows}
        for place, rows in enumerate(inputs["slices"])
    }
    for found in (divide_fees(slices, inputs["base"]), fee_weights(slices, inputs["base"])):
        assert [str(found.get(owner, 0)) for owner in range(3)] == expected["weights"]
    claims = [
        Claim(bytes.fromhex(owner["commitment"]), owner["rail"], int(weight))
        for owner, weight in zip(inputs["owners"], expected["weights"], strict=True)
    ]
    block = bytes.fromhex(inputs["block"])[::-1]
    assert split_reward(inputs["fees_sats"], claims, block) == expected["parts"]


@cases(FILE, "payments")
def test_payment(case):
    """spec: TV-7, TV-10, EA-10"""
    inputs, expected = case["inputs"], case["expected"]
    target = target_of_nbits(inputs["nbits"])
    subsidy = subsidy_sats(inputs["height"], REAL.halving_blocks)
    claims = []
    for miner, value in zip(inputs["miners"], expected["values"], strict=True):
        price = price_of(
            WeightMode.VALUE,
            REAL,
            target=target,
            subsidy=subsidy,
            paid_sats=miner["paid_sats"],
            cap=cap_sats(subsidy, miner["reference_sats"]),
        )
        weight = price * int(miner["shares_of_base"])
        assert str(weight) == value
        claims.append(Claim(bytes.fromhex(miner["commitment"]), miner["rail"], weight))
    parts = split_reward(inputs["sats"], claims, bytes.fromhex(inputs["block"])[::-1])
    assert parts == expected["parts"]
    assert sum(parts) == inputs["sats"]


def test_what_a_body_pays():
    """spec: TV-1"""
    body = Template(value_sats=5_000_000_123, prev_hash=b"\x07" * 32).encode()
    assert body_paid_sats(body, SCRIPT) == 5_000_000_123
    assert body_paid_sats(body, SCRIPT[:-1] + b"\x34") == 0
    # The witness commitment is an output too; it pays nothing to whoever owns its script.
    assert body_prev_hash(body) == b"\x07" * 32


@pytest.mark.parametrize("length", [0, 44, 60, 130, 180])
def test_a_body_that_ends_early_pays_nobody(length):
    """spec: TV-1"""
    body = Template().encode()
    with pytest.raises(LocalProtocolError, match="end inside a field"):
        body_paid_sats(body[:length], SCRIPT)


def test_quotes_explain_what_was_priced_and_nothing_else():
    """spec: TV-8"""
    reference = OwnReference()
    weighing = Weighing(WeightMode.VALUE, REGTEST, script=SCRIPT, reference=reference)
    template = Template(value_sats=5_000_300_000, prev_hash=b"\x09" * 32)
    tip = SimpleNamespace(prev_hash=template.prev_hash, target=b"\xff" * 31 + b"\x7f")
    reference.offered(tip.prev_hash, 400_000)
    price = weighing.price(tip, template.height, template.value_sats)
    reference.offered(tip.prev_hash, 100)
    assert weighing.price(tip, template.height, template.value_sats) == price
    quote = weighing.quote_of(template.encode(), price)
    assert (quote.price, quote.paid_sats, quote.reference_sats) == (price, 5_000_300_000, 400_000)
    assert quote.cap_sats == 5_000_000_000 + 500_000
    assert weighing.quote_of(template.encode(), price + 1) is None
    assert weighing.quote_of(Template().encode(), price) is None
    hidden = weighing.price(tip, template.height, 5_000_450_000, upside=False)
    assert hidden == weighing.price(tip, template.height, 5_000_400_000, upside=False) > price


def test_prices_of_before_are_explained_when_templates_pay_another_script():
    """spec: TV-8"""
    weighing = Weighing(WeightMode.VALUE, REGTEST, script=SCRIPT, reference=OwnReference())
    other = b"\x51\x20" + bytes(32)
    former = Template(value_sats=5_000_000_000, prev_hash=b"\x09" * 32)
    tip = SimpleNamespace(prev_hash=former.prev_hash, target=b"\xff" * 31 + b"\x7f")
    price = weighing.price(tip, former.height, former.value_sats)
    weighing.pay(other)
    later = Template(value_sats=5_000_000_000, prev_hash=b"\x09" * 32, script=other)
    assert weighing.quote_of(later.encode(), price) is None
    assert weighing.price(tip, later.height, later.value_sats) == price
    assert weighing.quote_of(later.encode(), price).script == other
    assert weighing.quote_of(former.encode(), price).script == SCRIPT
    weighing.pay(SCRIPT)
    assert weighing.quote_of(later.encode(), price).script == other


def test_scales_belong_to_networks_and_bound_the_ladder():
    """spec: TV-9"""
    assert [scale_of(name) for name in ("main", "testnet4", "signet", "regtest")] == [
        REAL,
        REAL,
        SIGNET,
        REGTEST,
    ]
    found = {(scale.bits, scale.base, scale.halving_blocks) for scale in (REAL, SIGNET, REGTEST)}
    assert found == {(112, 32, 210_000), (80, 0, 210_000), (32, 0, 150)}


def test_shares_below_the_base_are_a_mistake_in_the_configuration():
    """spec: TV-10"""

    def config(network, exponent_min, mode="value"):
        return SimpleNamespace(
            templates=SimpleNamespace(network=network),
            mining=SimpleNamespace(exponent_min=exponent_min),
            weight=SimpleNamespace(mode=mode),
        )

    weighing, _ = weighing_of(config("main", 32, "slice"), SCRIPT)
    assert weighing.rule == (3, 112, 32)
    assert weighing_of(config("regtest", 0), SCRIPT)[0].rule == (1, 32, 0)
    with pytest.raises(ConfigError, match="exponent_min"):
        weighing_of(config("main", 31), SCRIPT)


def test_a_reference_follows_the_tips():
    """spec: TV-11"""
    reference = OwnReference()
    for number in range(6):
        reference.offered(bytes([number]) * 32, 1_000 + number)
    reference.offered(b"\x05" * 32, 7)
    assert reference.fees_sats(b"\x05" * 32) == 1_005
    assert reference.fees_sats(b"\x02" * 32) == 1_002
    assert reference.fees_sats(b"\x01" * 32) == 0
