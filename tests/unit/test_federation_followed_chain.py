"""Which heights of its node's chain a member is told, whatever becomes of the chain."""

from contextlib import asynccontextmanager

import pytest
import trio

from radpool_sv2.errors import ConfigError, NodeError
from radpool_sv2.federation.chain import Following, NodeChain


class FakeChain:
    """Is a chain that a test writes: a name for each height."""

    def __init__(self, names):
        self.names = list(names)
        self.is_down = False
        self.asked = 0

    async def height(self):
        self.asked += 1
        if self.is_down:
            raise NodeError("away", "http://fake")
        return len(self.names) - 1

    async def block_hash(self, height):
        self.asked += 1
        return self.names[height]


@asynccontextmanager
async def following(chain, first):
    told = []
    follower = Following(lambda: first, lambda *each: told.append(each))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run, chain, 1.0)
        await trio.sleep(0.5)
        yield follower, told
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("first", "heights"), [(0, [0, 1, 2, 3]), (2, [2, 3]), (3, [3]), (9, [3]), (-1, [0, 1, 2, 3])]
)
async def test_it_begins_where_it_is_wanted_or_at_the_tip(autojump_clock, first, heights):
    async with following(FakeChain("abcd"), first) as (follower, told):
        assert told == [(each, "abcd"[each]) for each in heights]
        assert follower.height == 3


async def test_a_still_chain_costs_one_question(autojump_clock):
    chain = FakeChain("abcd")
    async with following(chain, 0):
        asked = chain.asked
        await trio.sleep(7)
        assert chain.asked == asked + 7


async def test_each_height_is_told_once_whatever_is_reorganised(autojump_clock):
    chain = FakeChain("abcd")
    async with following(chain, 3) as (_, told):
        for names in ("abcD", "abX", "a", "abXYZ", "abXYz", "abXYzq"):
            chain.names = list(names)
            await trio.sleep(1)
    assert told == [(3, "d"), (4, "Z"), (5, "q")]


async def test_a_node_that_is_away_is_asked_again(autojump_clock):
    chain = FakeChain("abcd")
    chain.is_down = True
    async with following(chain, 3) as (follower, told):
        assert (follower.failure, told) == ("away", [])
        chain.is_down = False
        await trio.sleep(1)
        assert (follower.failure, told) == ("", [(3, "d")])


class FakeRpc:
    name = "http://fake"

    def __init__(self, answers):
        self.answers = answers

    async def call_for(self, kind, method, *params):
        return self.answers[(method, *params)]


async def test_a_node_of_another_chain_and_a_hash_that_is_none_are_told():
    rpc = FakeRpc({("getblockhash", 0): "00" * 31 + "07", ("getblockcount",): 5})
    own = NodeChain(rpc, b"\x07" + bytes(31))
    assert await own.height() == 5
    with pytest.raises(ConfigError, match="another chain"):
        await NodeChain(rpc, bytes(32)).height()
    rpc.answers["getblockhash", 0] = "no hash"
    with pytest.raises(NodeError, match="is no hash"):
        await own.block_hash(0)
