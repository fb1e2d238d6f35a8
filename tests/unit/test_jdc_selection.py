"""Own templates of a node's: what policies may do, and what they cannot break."""

import threading
from dataclasses import replace

import pytest
from jdc_rig.source import ScriptedSource
from jdc_rig.templates import own, transaction

from radpool_sv2.chain.block import Block
from radpool_sv2.consensus import merkle_root
from radpool_sv2.errors import NodeError
from radpool_sv2.jdc.policy import Wishes
from radpool_sv2.jdc.selection import Selection
from radpool_sv2.templates.source import BlockVerdict

SCRIPT = b"\x51"
A, B, NEW = transaction(1, witness=True), transaction(2), transaction(3)
OWN = own(1, transactions=(A, B))


class Wishing:
    """Is a policy that wants what the test says."""

    def __init__(self, wishes):
        self.wanted = wishes
        self.offers = []

    def wishes(self, offer):
        self.offers.append(offer)
        if isinstance(self.wanted, Exception):
            raise self.wanted
        return self.wanted


def selection(source, *policies, deadline_s=60.0):
    return Selection(source, policies, weight_max=4_000_000, deadline_s=deadline_s, script=SCRIPT)


async def test_without_policies_a_template_is_taken_as_it_is():
    source = ScriptedSource(fees=False)
    made = await selection(source).prepare(source.update(OWN))
    assert (made.template, made.tip) == (OWN.template, OWN.tip)
    assert made.transactions == OWN.transactions
    assert made.wtxids == (A.wtxid, B.wtxid)
    assert not source.checked


async def test_template_for_a_later_tip_or_forgotten_is_passed_over():
    source = ScriptedSource()
    update = source.update(OWN)
    chosen = selection(source)
    assert await chosen.prepare(replace(update, tip=None)) is None
    source.templates.clear()
    assert await chosen.prepare(update) is None


async def test_node_that_does_not_answer_is_told():
    source = ScriptedSource()
    source.error = NodeError("gone")
    with pytest.raises(NodeError):
        await selection(source).prepare(source.update(OWN))


async def test_policy_sees_transactions_and_leaves_some_out():
    source = ScriptedSource()
    policy = Wishing(Wishes(exclude=frozenset([A.txid])))
    made = await selection(source, policy).prepare(source.update(OWN))
    assert made.transactions == (B.to_bytes(),)
    [offer] = policy.offers
    assert [each.txid for each in offer.transactions] == [A.txid, B.txid]
    assert [each.fee_sats for each in offer.transactions] == [1_000, 1_000]
    assert (offer.height, offer.prev_hash) == (OWN.template.height, OWN.tip.prev_hash)
    assert not source.checked, "what is left out makes no block invalid"


async def test_included_makes_a_block_that_the_node_judges_first():
    source = ScriptedSource()
    policy = Wishing(Wishes(include=(NEW.to_bytes(),)))
    made = await selection(source, policy).prepare(source.update(OWN))
    assert made.transactions[-1] == NEW.to_bytes()
    [raw] = source.checked
    block = Block.from_bytes(raw)
    assert [each.txid for each in block.transactions[1:]] == [A.txid, B.txid, NEW.txid]
    assert block.header.merkle_root == merkle_root([each.txid for each in block.transactions])
    assert block.header.previous == OWN.tip.prev_hash
    assert block.transactions[0].outputs[0].script == SCRIPT


async def test_looked_up_is_included_when_the_node_has_it():
    source = ScriptedSource()
    source.known[NEW.wtxid] = NEW.to_bytes()
    policy = Wishing(Wishes(lookup=frozenset([NEW.wtxid, A.wtxid, b"\x01" * 32])))
    made = await selection(source, policy).prepare(source.update(OWN))
    assert made.transactions[-1] == NEW.to_bytes()
    assert source.looked_up == [sorted([NEW.wtxid, b"\x01" * 32])]


@pytest.mark.parametrize(
    ("verdict", "word"),
    [
        (BlockVerdict(valid=False, reason="bad-txns-inputs-missingorspent"), "missingorspent"),
        (NodeError("away"), "could not be judged"),
    ],
)
async def test_invalid_or_unjudged_inclusion_leaves_the_template_as_it_is(verdict, word):
    source = ScriptedSource()
    source.verdict = verdict
    chosen = selection(source, Wishing(Wishes(include=(NEW.to_bytes(),))))
    made = await chosen.prepare(source.update(OWN))
    assert made.transactions == OWN.transactions
    assert word in chosen.problem
    source.verdict = BlockVerdict(valid=True)
    assert len((await chosen.prepare(source.update(OWN))).transactions) == 3
    assert chosen.problem == ""


async def test_policy_that_fails_has_no_say():
    source = ScriptedSource()
    chosen = selection(source, Wishing(ZeroDivisionError("oops")))
    made = await chosen.prepare(source.update(OWN))
    assert made.transactions == OWN.transactions
    assert chosen.problem == "a template policy failed: ZeroDivisionError: oops"


async def test_policy_that_takes_too_long_has_no_say():
    source = ScriptedSource()
    release = threading.Event()

    class Slow:
        def wishes(self, offer):
            release.wait(60)
            return Wishes(exclude=frozenset([A.txid]))

    chosen = selection(source, Slow(), deadline_s=0.05)
    try:
        made = await chosen.prepare(source.update(OWN))
        assert made.transactions == OWN.transactions
        assert "took too long" in chosen.problem
        # The late one still holds the one thread; the next template does not wait for it either.
        made = await chosen.prepare(source.update(OWN))
        assert made.transactions == OWN.transactions
    finally:
        release.set()


async def test_source_that_tells_no_fees_knows_no_rules():
    source = ScriptedSource(fees=False)
    chosen = selection(source, Wishing(Wishes(exclude=frozenset([A.txid]))))
    made = await chosen.prepare(source.update(OWN))
    assert made.transactions == OWN.transactions
    assert "does not tell the fee" in chosen.problem
