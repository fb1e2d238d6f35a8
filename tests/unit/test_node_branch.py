import pytest

from radpool_sv2.errors import NodeError
from radpool_sv2.node import branch
from radpool_sv2.node.branch import active_depths, changes, hash_from_text, text_of_hash
from radpool_sv2.node.refusal import NOT_FOUND, RpcRefusedError


def block(name):
    return name.encode().ljust(32, b"\0")


class Chain:
    """A node with two branches over one root; which is active can change at a question."""

    name = "node"

    def __init__(self, trunk, *branches):
        self.below = {}
        self.height = {}
        for names in (trunk, *(trunk[:1] + each for each in branches)):
            for height, name in enumerate(names):
                self.below.setdefault(name, names[height - 1] if height else None)
                self.height[name] = height
        self.active = list(trunk)
        self.asked = 0
        self.turns = {}

    async def call(self, method, *params, deadline_s=None):
        assert method == "getblockheader"
        self.asked += 1
        self.active = self.turns.pop(self.asked, self.active)
        name = hash_from_text(params[0]).rstrip(b"\0").decode()
        if name not in self.below:
            raise RpcRefusedError("Block not found", self.name, NOT_FOUND, "Block not found")
        depth = len(self.active) - self.height[name] if name in self.active else -1
        header = {"confirmations": depth, "height": self.height[name]}
        if self.below[name] is not None:
            header["previousblockhash"] = text_of_hash(block(self.below[name]))
        return header


def blocks(names):
    return tuple(map(block, names))


async def test_blocks_on_top_are_told_upwards():
    assert await changes(Chain("abcd"), block("b"), block("d")) == (blocks("cd"), ())


async def test_nothing_has_changed_from_a_tip_to_itself():
    assert await changes(Chain("abcd"), block("d"), block("d")) == ((), ())


async def test_a_reorganisation_is_told_down_and_up():
    chain = Chain("apqr", "bc")
    assert await changes(chain, block("c"), block("r")) == (blocks("pqr"), blocks("cb"))


async def test_the_chain_may_shrink():
    chain = Chain("abcd")
    chain.active = list("ab")
    assert await changes(chain, block("d"), block("b")) == ((), blocks("dc"))


async def test_of_a_tip_that_the_node_never_had_only_the_new_one_is_told():
    assert await changes(Chain("abcd"), block("z"), block("d")) == (blocks("d"), ())


async def test_a_way_that_is_too_long_is_not_walked(monkeypatch):
    monkeypatch.setattr(branch, "WALK_MAX", 3)
    assert await changes(Chain("abcde"), block("a"), block("e")) == (blocks("e"), ())
    chain = Chain("apqrst", "bcdef")
    assert await changes(chain, block("f"), block("t")) == (blocks("t"), ())
    assert await changes(Chain("abcd"), block("a"), block("d")) == (blocks("bcd"), ())


async def test_a_chain_that_moves_meanwhile_is_looked_at_again():
    chain = Chain("abc", "pqr")
    # While the way down from c ends at once, the chain turns to the other branch.
    chain.turns = {2: list("apqr")}
    assert await changes(chain, block("c"), block("r")) == (blocks("pqr"), blocks("cb"))


async def test_a_chain_that_never_stands_still_is_given_up():
    chain = Chain("abc", "pqr")

    class Restless:
        name = "node"

        async def call(self, method, *params, deadline_s=None):
            name = hash_from_text(params[0]).rstrip(b"\0").decode()
            chain.active = list("abc" if name == "c" else "apqr")
            return await chain.call(method, *params)

    with pytest.raises(NodeError, match="every look"):
        await changes(Restless(), block("c"), block("r"))


async def test_depths_are_those_of_the_active_chain():
    chain = Chain("apqr", "bc")
    depths = await active_depths(chain, blocks("rpcz"))
    assert depths == dict(zip(blocks("rpcz"), (1, 3, None, None), strict=True))


@pytest.mark.parametrize("told", [None, {}, [], {"confirmations": "1", "height": 2}, {"height": 1}])
async def test_answers_that_are_no_header_are_nonsense(told):
    class Mad:
        name = "node"

        async def call(self, method, *params, deadline_s=None):
            return told

    with pytest.raises(NodeError, match="no header"):
        await active_depths(Mad(), [bytes(32)])


@pytest.mark.parametrize("told", [None, 5, "", "zz", "00" * 31, "00" * 33])
def test_texts_that_are_no_hash_are_nonsense(told):
    with pytest.raises(NodeError, match="a hash"):
        hash_from_text(told)


async def test_other_refusals_are_passed_on():
    class Busy:
        name = "node"

        async def call(self, method, *params, deadline_s=None):
            raise RpcRefusedError("loading", self.name, -28, "loading")

    with pytest.raises(RpcRefusedError):
        await active_depths(Busy(), [bytes(32)])
