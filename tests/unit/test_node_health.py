"""What keeps a node from being mined on, in plain words."""

import pytest
from rig.fake_node import FakeNode, block_template, chain

from radpool_sv2.errors import NodeError
from radpool_sv2.network import MAIN, REGTEST, SIGNET
from radpool_sv2.node.health import (
    clock_problem,
    examine_node,
    signet_problem,
    small_block_problem,
)
from radpool_sv2.node.rpc import NodeRpc
from radpool_sv2.node.template import CoinbaseRoom, RawTemplate, RawTransaction, read_template


@pytest.fixture
def fake():
    with FakeNode() as node:
        yield node


@pytest.fixture
async def rpc(fake):
    made = NodeRpc(fake.settings())
    yield made
    await made.aclose()


async def test_a_healthy_node_has_nothing_to_complain_of(rpc):
    health = await examine_node(rpc, MAIN)
    assert health.is_usable
    assert health.problems == ()
    assert (health.version, health.height, health.chain_work) == ("Satoshi:30.0.0", 900_000, 255)


@pytest.mark.parametrize(
    ("name", "says"),
    [("blake2b", "proof of work by another hash"), ("reduced_data", "less data")],
)
async def test_a_node_that_has_left_bitcoins_chain_is_refused(fake, rpc, name, says):
    fake.answers["getdeploymentinfo"] = {"deployments": {"taproot": {}, name: {"active": False}}}
    health = await examine_node(rpc, MAIN)
    assert not health.is_usable
    assert "follows another chain than Bitcoin" in health.refusal
    assert says in health.refusal
    assert "Install Bitcoin Core" in health.refusal


async def test_a_node_of_another_network_is_refused(rpc):
    assert (
        "is on main, but templates.network is signet" in (await examine_node(rpc, SIGNET)).refusal
    )


@pytest.mark.parametrize(
    ("told", "links", "says"),
    [
        (
            {"initialblockdownload": True, "blocks": 1_000, "verificationprogress": 0.1234},
            {"connections": 8},
            "still downloads the chain: 1,000 of 900,000 blocks, 12.3 %",
        ),
        ({}, {"connections": 0}, "has no peers"),
        ({}, {"connections": 0, "networkactive": False}, "network switched off"),
    ],
)
async def test_a_node_that_gives_no_templates_yet_is_told_why(fake, rpc, told, links, says):
    fake.answers["getblockchaininfo"] = chain(**told)
    fake.answers["getnetworkinfo"] = links
    health = await examine_node(rpc, MAIN)
    assert not health.is_usable
    assert not health.refusal
    assert says in health.absence
    # On regtest a node is alone, and its chain is old.
    fake.answers["getblockchaininfo"] = chain(**told, chain="regtest")
    assert (await examine_node(rpc, REGTEST)).is_usable


async def test_what_costs_something_is_a_problem(fake, rpc):
    fake.answers["getblockchaininfo"] = chain(
        pruned=True, prune_target_size=550 << 20, headers=900_004
    )
    health = await examine_node(rpc, MAIN)
    assert health.is_usable
    assert [each.partition(rpc.name)[2] for each in health.problems] == [
        " is pruned to 550 MiB: that is enough to mine, but not to look at older blocks",
        " is 4 blocks behind what its peers tell",
    ]


async def test_older_nodes_and_other_programs_may_lack_methods(fake, rpc):
    del fake.answers["getdeploymentinfo"], fake.answers["getnetworkinfo"]
    assert (await examine_node(rpc, MAIN)).is_usable


async def test_progress_beyond_all_bounds_is_still_told(fake, rpc):
    fake.answers["getblockchaininfo"] = chain(initialblockdownload=True, verificationprogress=1e308)
    assert "100.0 %" in (await examine_node(rpc, MAIN)).absence


async def test_nonsense_is_a_fault_of_the_node(fake, rpc):
    fake.answers["getblockchaininfo"] = chain(chainwork="hello")
    with pytest.raises(NodeError, match="tells no tip"):
        await examine_node(rpc, MAIN)
    fake.answers["getblockchaininfo"] = {"chain": "main"}
    with pytest.raises(NodeError, match="what no node does"):
        await examine_node(rpc, MAIN)


def template(**more):
    raw = {**block_template(), **more}
    transactions = [RawTransaction(**each) for each in raw.pop("transactions")]
    known = {key: raw[key] for key in raw if key in RawTemplate.__struct_fields__}
    return read_template(RawTemplate(transactions=transactions, **known), CoinbaseRoom(), "n")


def transactions(count, **more):
    return [
        {"data": f"{n:08x}", "txid": f"{n:064x}", "hash": f"{n:064x}", "fee": 10, **more}
        for n in range(1, count + 1)
    ]


def test_clocks_are_compared():
    assert clock_problem("n", template(curtime=1_000_060, mintime=0), 1_000_000) == ""
    ahead = clock_problem("n", template(curtime=1_000_061, mintime=0), 1_000_000)
    assert "61 s ahead of ours" in ahead
    assert "1,000 s behind ours" in clock_problem("n", template(mintime=0, curtime=0), 1_000)
    # The tip before may lie in the future, and then the template's time says nothing.
    assert clock_problem("n", template(curtime=1_000, mintime=9_000), 1_000) == ""


async def test_small_blocks_are_told_when_fees_are_left_behind(fake, rpc):
    small = template(transactions=transactions(3, weight=390_000, sigops=4))
    fake.answers["getmempoolinfo"] = {"bytes": 50_000_000}
    told = await small_block_problem(rpc, small, "Satoshi:29.4.3/Knots:20260508")
    assert "of 4,000,000 weight units while 200,000,000 wait" in told
    assert "Knots fills 1,200,000 by default" in told
    assert "Knots" not in await small_block_problem(rpc, small, "Satoshi:30.0.0")
    # Nothing is left behind, or the block is full.
    fake.answers["getmempoolinfo"] = {"bytes": 300_000}
    assert await small_block_problem(rpc, small, "") == ""
    full = template(transactions=transactions(10, weight=390_000, sigops=4))
    fake.answers["getmempoolinfo"] = {"bytes": 50_000_000}
    assert await small_block_problem(rpc, full, "") == ""


def test_a_signet_of_others_takes_no_blocks():
    assert signet_problem("n", template(signet_challenge="51")) == ""
    assert signet_problem("n", template()) == ""
    assert "takes none of yours" in signet_problem("n", template(signet_challenge="5121ab"))


def test_templates_by_unknown_rules_are_refused():
    with pytest.raises(NodeError, match=r"not Bitcoin's, or newer.*: !blake2b\. It is not used"):
        template(rules=["csv", "!segwit", "!blake2b"])
    assert template(rules=["csv", "!segwit", "taproot", "future"]).height == 900_001


@pytest.mark.parametrize(
    "wrong",
    [
        {"bits": "00000000"},
        {"bits": "17820000"},
        {"bits": "ff020000"},
        {"bits": "zz"},
        {"previousblockhash": "11"},
        {"height": 0},
        {"height": 1 << 31},
        {"bits": "f" * 4_000},
        {"bits": "-1020000"},
        {"coinbasevalue": -1},
        {"coinbasevalue": 1 << 80},
        {"curtime": 1 << 32},
        {"mintime": -1},
        {"transactions": transactions(1, fee=-1)},
        {"transactions": transactions(1, sigops=-1)},
        {"transactions": transactions(1, weight=-1)},
        {"transactions": transactions(1, fee=400_000_000), "weightlimit": 0},
        {"transactions": transactions(1, data="xyz")},
        {"transactions": transactions(1, txid="00")},
    ],
)
def test_what_is_no_template_is_a_fault_of_the_node(wrong):
    with pytest.raises(NodeError):
        template(**wrong)


def test_transactions_make_room_from_the_last_one_on():
    ten = transactions(10, weight=399_000, sigops=8_000)
    told = template(transactions=ten)
    assert (len(told.transactions), told.left_out) == (9, 1)
    assert told.value_sats == 312_500_000 - 10
    assert told.fees_sats == 90
    assert told.weight <= 4_000_000
    costly = template(transactions=transactions(3, weight=1_000, sigops=30_000))
    assert len(costly.transactions) == 2
