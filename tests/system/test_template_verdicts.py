"""Invalid templates of every kind: none is taken, and each verdict is a real bitcoind's.

spec: JD-16, JD-17.
"""

import itertools

import pytest
from rig.bitcoind import Bitcoind, RpcFailure
from rig.invalid_templates import DECODE, KINDS, SCRIPT, padded_to
from rig.template_draft import Workshop

from radpool_sv2.errors import RemoteProtocolError

BITCOINDS_WORDS = {
    "inconclusive-not-best-prevblk": "stale-prevblk",
    "-22: Block decode failed": DECODE,
}
"""What bitcoind calls otherwise: a proposal on another block is inconclusive to it, and bytes that
are no block fail the call."""

SCRIPT_BEFORE_30 = "mandatory-script-verify-flag-failed"
"""What `block-script-verify-flag-failed` was called before Core 30; the words behind it are the
same."""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    directory = tmp_path_factory.mktemp("verdicts")
    (directory / "embedded").mkdir()
    bitcoind = Bitcoind(directory / "node")
    try:
        bitcoind.start()
        shop = Workshop.open(directory / "embedded", bitcoind)
        yield shop
        shop.node.close()
    finally:
        bitcoind.close()


def bitcoind_says(shop, block):
    """The node's reason, by the name that Core gives it today."""
    try:
        reason = shop.node_reason(block)
    except RpcFailure as failure:
        reason = str(failure)
    reason = BITCOINDS_WORDS.get(reason, reason)
    return reason.replace(SCRIPT_BEFORE_30, SCRIPT)


def declaring_says(draft):
    """What a declarer is told without a look at coins: a reason, or "declaring" when it is none."""
    try:
        wrong = draft.declare().structural()
    except RemoteProtocolError:
        return "declaring"
    return None if wrong is None else wrong[0]


def same_tip(shop):
    return shop.node.chain.tip.hash[::-1].hex() == shop.bitcoind.tip


def test_good_template_is_valid_everywhere(workshop):
    good = workshop.good()
    declaration = good.declare()
    assert declaration.structural() is None
    assert declaration.proposal(good.ntime) == good.block()
    assert workshop.embedded_reason(good.block()) == ""
    assert bitcoind_says(workshop, good.block()) == ""
    assert same_tip(workshop)


def test_there_are_kinds_enough():
    assert len(KINDS) >= 80
    assert sum(each.seen == "structure" for each in KINDS.values()) >= 40
    assert sum(each.seen == "coins" for each in KINDS.values()) >= 25


@pytest.mark.parametrize("name", KINDS)
def test_invalid_template_gets_bitcoinds_verdict(workshop, name):
    kind = KINDS[name]
    draft = kind.spoil(workshop)
    block = draft.block()
    theirs = bitcoind_says(workshop, block)
    ours = workshop.embedded_reason(block)
    assert theirs == ours
    assert theirs.partition(" (")[0] == kind.reason
    if kind.seen == "structure":
        assert declaring_says(draft) == theirs
    elif kind.seen == "declaring":
        assert declaring_says(draft) == "declaring"
    elif kind.seen == "coins":
        assert declaring_says(draft) is None
    assert same_tip(workshop)


def test_heaviest_block_is_valid_everywhere(workshop):
    heaviest = padded_to(workshop, workshop.good(), 4_000_000)
    assert heaviest.declare().structural() is None
    assert workshop.embedded_reason(heaviest.block()) == ""
    assert bitcoind_says(workshop, heaviest.block()) == ""


def test_any_byte_of_the_coinbase_may_be_another(workshop):
    """What is taken with a byte changed is what bitcoind takes; most bytes decide."""
    good = workshop.good()
    refused = 0
    coinbase = good.coinbase_tx.raw
    for at in range(len(coinbase)):
        changed = coinbase[:at] + bytes([coinbase[at] ^ 0x81]) + coinbase[at + 1 :]
        block = good.block_with(changed)
        if block is None:
            refused += 1  # it is no transaction any more
            continue
        theirs = bitcoind_says(workshop, block)
        assert workshop.embedded_reason(block) == theirs, at
        refused += bool(theirs)
    assert refused > len(coinbase) // 3
    assert same_tip(workshop)


STRUCTURAL = [each for each in KINDS.values() if each.seen == "structure" and not each.is_large]


def test_of_two_faults_the_structure_tells_the_one_that_bitcoind_tells(workshop):
    """The order of the checks is Core's: all pairs of faults that go together, both ways round."""
    compared = 0
    for first, second in itertools.permutations(STRUCTURAL, 2):
        try:
            draft = second.change(workshop, first.spoil(workshop))
        except (ValueError, IndexError):
            continue  # the second spoils a part that the first has taken away
        told = declaring_says(draft)
        if told == "declaring":
            continue
        theirs = bitcoind_says(workshop, draft.block())
        if told is None:
            # The second undid the first; what it did to the fees is left.
            assert theirs in ("", "bad-cb-amount"), (first.name, second.name)
            continue
        assert told == theirs, (first.name, second.name)
        compared += 1
    assert compared > 1_000
