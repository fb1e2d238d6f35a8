"""The vectors of page 07, which Rust reads too."""

import json
from types import SimpleNamespace

import pytest
from mint_rig import Rig
from vector_file import cases

from radpool_sv2._native.ledger import MspKey
from radpool_sv2.config.ecash import EcashSection
from radpool_sv2.ecash import redemption
from radpool_sv2.ecash.policy import KeysetState, Policy
from radpool_sv2.ecash.price import divide, value_of, value_of_each
from radpool_sv2.ecash.redemption import Teller
from radpool_sv2.ecash.refusal import RefusedError
from radpool_sv2.ecash.statement import (
    CashOutRow,
    ClaimRow,
    ClaimTree,
    cash_out_leaves,
    cash_out_record,
    claim_leaves,
    claim_record,
)
from radpool_sv2.ecash.window import Slice, window_of
from radpool_sv2.errors import FaultyMSPError
from radpool_sv2.units import tagged_hash
from radpool_sv2.verify.statement import claim_leaf, path_root, read_statement, root

FILE = "07-ecash-epochs.json"
TERMS = ("work", "unit_value", "fee_ppm", "fee_fixed_msat")
"""What the division of a settlement has to know of a keyset."""

SEEN = {"event", "books", "keysets"}
"""What is told of an event beside what it takes."""


@cases(FILE, "allocations")
def test_allocation(case):
    """spec: ES-4, ES-6, ES-7"""
    inputs, expected = case["inputs"], case["expected"]
    rows = [row for row in inputs["keysets"] if row["number"] in expected["paid"]]
    rows = sorted((row for row in rows if int(row["work"])), key=lambda row: row["number"])
    keysets = [
        SimpleNamespace(**{name: int(row[name]) for name in TERMS}, number=row["number"])
        for row in rows
    ]
    theta, carry = inputs["theta_sats"] * 1000, inputs["carry_msat"]
    found = divide(theta, carry, keysets)
    assert (found.fee_msat, found.carry_msat) == (expected["fee_msat"], expected["carry_msat"])
    numbers = [each.number for each in keysets] if found.parts else []
    assert expected["allocations"] == [
        {"number": number, "msat": msat} for number, msat in zip(numbers, found.parts, strict=True)
    ]
    assert found.fee_msat + sum(found.parts) + found.carry_msat == theta + carry


@cases(FILE, "prices")
def test_price(case):
    """spec: ES-11

    attack: A14
    """
    inputs, expected = case["inputs"], case["expected"]
    msat = value_of(inputs["theta_msat"], int(inputs["work"]), int(inputs["units"]))
    assert (msat, msat // 1000, msat % 1000) == (
        expected["msat"],
        expected["sats"],
        expected["rest_msat"],
    )


@cases(FILE, "share_prices")
def test_prices_of_the_draft(case):
    """The draft's table, beside one floor per redemption: spec: ES-11"""
    inputs, expected = case["inputs"], case["expected"]
    theta, work = inputs["theta_msat"], int(expected["work"])
    rewards, batches = {}, {}
    for miner in inputs["miners"]:
        units = 1 << (miner["z"] - inputs["z0"])
        rewards[miner["name"]] = value_of_each(theta, work, [units] * miner["shares"])
        batches[miner["name"]] = value_of(theta, work, units * miner["shares"])
    assert rewards == {row["name"]: row["msat"] for row in expected["rewards_msat"]}
    assert batches == {row["name"]: row["msat"] for row in expected["batch_msat"]}
    for row in expected["prices_msat"]:
        assert value_of_each(theta, work, [1 << (row["z"] - inputs["z0"])]) == row["msat"]
    assert sum(rewards.values()) + expected["carry_msat"] == theta


@cases(FILE, "trees")
def test_tree_of_claims(case):
    """spec: ES-21, ES-22"""
    inputs, expected = case["inputs"], case["expected"]
    rows = [
        ClaimRow(row["sequence"], row["place"], row["z"], bytes.fromhex(row["B_"]))
        for row in inputs["claims"]
    ]
    assert b"".join(map(claim_record, rows)).hex() == expected["records"]
    given = [CashOutRow(row["z"], bytes.fromhex(row["B_"])) for row in inputs["cash_outs"]]
    assert b"".join(map(cash_out_record, given)).hex() == expected["cash_out_records"]
    hashes = {
        (row["sequence"], row["place"]): bytes.fromhex(row["share_hash"])
        for row in inputs["claims"]
    }
    archive = SimpleNamespace(share_hash=lambda sequence, place: hashes[sequence, place])
    leaves = [
        *claim_leaves(inputs["z0"], rows, archive),
        *cash_out_leaves(inputs["z0"], given),
    ]
    tree = ClaimTree(leaves)
    assert tree.root == (bytes.fromhex(expected["root"]), int(expected["work"]))
    nodes = [claim_leaf(leaf.share_hash, leaf.blinded, leaf.units) for leaf in leaves]
    assert [node[0].hex() for node in nodes] == expected["leaves"]
    assert root(nodes) == tree.root
    for index, path in enumerate(expected["paths"]):
        due = tuple((bytes.fromhex(node["hash"]), int(node["units"])) for node in path)
        assert tree.path(index) == due
        assert path_root(nodes[index], index, len(nodes), due) == tree.root


@cases(FILE, "statements")
def test_statement(case):
    """spec: ES-20, ES-23"""
    if "expected_error" in case:
        document = case["inputs"]["document"].encode()
        with pytest.raises(FaultyMSPError):
            read_statement(document, bytes.fromhex(case["inputs"]["msp_key"]), "a statement")
        return
    key = MspKey.from_secret(bytes.fromhex(case["inputs"]["msp_secret"]))
    document = case["expected"]["document"]
    read = read_statement(document.encode(), key.public, "a statement")
    fields = case["inputs"]["statement"]
    assert json.loads(document)["statement"] == fields
    assert (read.keyset.hex(), read.theta_msat, read.work) == (
        fields["keyset"],
        fields["theta_msat"],
        fields["work"],
    )
    assert {str(z): count for z, count in read.tokens.items()} == fields["tokens"]
    assert str(read.unit_value) == fields.get("unit_value", "0")
    assert str(read.residue_out) == fields.get("residue_out", "0")
    assert {str(z): count for z, count in read.cash_outs.items()} == fields.get("cash_outs", {})
    for row, told in zip(read.settlements, fields["settlements"], strict=True):
        assert str(row.work) == str(told.get("weights", told.get("work")))
        assert row.by_value == (told.get("by") == "value")
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    digest = tagged_hash("radpool/statement", canonical)
    assert digest.hex() == case["expected"]["statement_hash"]
    with pytest.raises(FaultyMSPError):
        read_statement(document.encode(), bytes(32), "a statement")


@cases(FILE, "network_works")
def test_work_of_a_block(case):
    """spec: ES-5"""
    target = int(case["inputs"]["target"], 16)
    assert 2**256 // (target + 1) == int(case["expected"]["work"])


@cases(FILE, "windows")
def test_window(case):
    """spec: ES-5"""
    inputs = case["inputs"]
    slices = [
        Slice(row["number"], row["epoch"], int(row["work"]) << inputs["z0"], KeysetState.CLOSED)
        for row in reversed(inputs["keysets"])
    ]
    span = inputs["window_difficulties"] * int(inputs["network_work"])
    assert sorted(window_of(slices, inputs["epoch"], span)) == case["expected"]["numbers"]


@cases(FILE, "gates")
def test_gate(case, monkeypatch):
    """spec: ES-13

    attack: A12, A20
    """
    inputs = case["inputs"]
    confirmations = min(inputs["tip_height"] - height + 1 for height in inputs["heights"])
    table = redemption.table
    monkeypatch.setattr(table, "least_confirmations", lambda *_: confirmations)
    monkeypatch.setattr(table, "immature_advance", lambda *_: inputs["advanced_msat"])
    settings = EcashSection(
        coinbase_maturity=inputs["coinbase_maturity"],
        advance_cap_sats=inputs["advance_cap_msat"] // 1000,
    )
    teller = Teller(None, None, settings, 0)
    row = SimpleNamespace(number=1)
    if "expected_error" in case:
        with pytest.raises(RefusedError) as caught:
            teller._check_mature(None, row, inputs["asked_msat"])
        assert caught.value.error_code == case["expected_error"]
    else:
        teller._check_mature(None, row, inputs["asked_msat"])


class Telling:
    """Lives a story on a real mint over a real ledger."""

    def __init__(self, directory, settings):
        rest = {name: value for name, value in settings.items() if name != "confirmations"}
        self.rig = Rig(
            directory,
            confirmations=settings["confirmations"],
            policies=("pool",),
            expiry_days=1,
            **rest,
        )
        self.blocks = {}
        self.tokens = {}

    def mine(self, exponents):
        held = self.rig.mine(Policy.POOL, *exponents)
        self.tokens.setdefault(self.rig.books.current_epoch, []).extend(held)

    def block(self, name, value_sats):
        self.blocks[name] = self.rig.block(value_sats)

    def grow(self, blocks):
        self.rig.grow(blocks)

    def orphan(self, name):
        self.rig.orphan(self.blocks[name])

    def revive(self, name):
        self.rig.revive(self.blocks[name])

    def redeem(self, epoch, tokens, sats=None, error=None):
        held = [self.tokens[epoch][place] for place in tokens]
        if error is None:
            assert sum(token.amount for token in self.rig.redeem(held, sats)) == sats
            return
        with pytest.raises(RefusedError) as caught:
            # Without a price there is nothing to ask for but something.
            has_price = self.rig.view(held[0].keyset).price_den
            self.rig.redeem(held, self.rig.worth(held) or 1 if has_price else 1)
        assert caught.value.error_code == error

    def expire(self):
        self.rig.wait(86_400)

    def keysets(self):
        return [
            {
                "epoch": row.epoch,
                "state": KeysetState(row.state).word,
                "work": str(row.work),
                "theta_msat": row.theta_msat,
                "paid_msat": row.paid_msat,
            }
            for row in self.rig.rows(Policy.POOL)
            if row.work
        ]


@cases(FILE, "stories")
def test_story(case, tmp_path):
    """spec: ES-8, ES-9, ES-10, ES-12, ES-15, ES-16, ES-17, ES-18, ES-19

    attack: A12, A20, A24
    """
    teller = Telling(tmp_path, case["inputs"])
    for number, event in enumerate(case["expected"]["events"]):
        fields = {name: value for name, value in event.items() if name not in SEEN}
        getattr(teller, event["event"])(**fields)
        books = teller.rig.books_of(Policy.POOL)
        assert {book: msat for book, msat in books.items() if msat} == event["books"], number
        assert sum(books.values()) == 0
        assert teller.keysets() == event["keysets"], number
    teller.rig.store.close()
