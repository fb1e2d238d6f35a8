"""What a member's watch asks its node for, and what it sees of a chain that changes."""

from collections import Counter

import pytest
import trio
from state_rig import SCRIPT, TREASURY_KEY, rules_of

from radpool_sv2._native.threshold import TREASURY
from radpool_sv2.chain.transaction import Transaction, TxInput, TxOutput
from radpool_sv2.errors import LocalProtocolError, NodeError, StoreError
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.signing.purpose import Task
from radpool_sv2.federation.state.accounting import Accounting
from radpool_sv2.federation.state.ledger import KnownKey
from radpool_sv2.federation.state.payload import Found
from radpool_sv2.federation.watch import AGAIN_EPOCHS, BATCH, ChainWatch
from radpool_sv2.units import sha256d

RULES = rules_of(lateness=100)
FOREIGN = b"\x00\x14" + bytes(20)


class FakeNode:
    """Is a node with a chain that a test writes, which counts what it is asked.

    Attributes:
        chain: The active chain: names of blocks by height; each pays the script that it names.
        asked: How often which method was asked, a batch as once.
        lost: Blocks that it does not show.
        after: Is called behind each request.
        answers: What it says to a method instead of the truth.
    """

    name = "http://fake"

    def __init__(self, height):
        self.chain = [b"block %d" % each for each in range(height + 1)]
        self.asked = Counter()
        self.lost = set()
        self.after = lambda method: None
        self.answers = {}
        self.is_down = False

    def pay(self, height, script, salt=b""):
        """Has a block in the place of another one, and others on top of it."""
        rest = len(self.chain) - height - 1
        self.chain[height:] = [b"pays" + salt + script]
        self.extend(rest, salt)

    def extend(self, count, salt=b""):
        self.chain += [b"%s block %d" % (salt, len(self.chain) + each) for each in range(count)]

    @staticmethod
    def hash_of(block):
        return sha256d(block)[::-1].hex()

    @staticmethod
    def coinbase_of(block):
        script = block[block.index(b"\x51\x20") :] if b"\x51\x20" in block else FOREIGN
        into = TxInput((bytes(32), 0xFFFFFFFF), block[:50], 0xFFFFFFFF)
        return Transaction(2, (into,), (TxOutput(5_000_000_000, script),), 0)

    async def batch(self, method, params):
        if not params:
            return []
        return await self.ask(method, [self.answer(method, *each) for each in params])

    async def call(self, method, *params):
        return await self.ask(method, self.answer(method, *params))

    async def call_for(self, kind, method, *params):
        return await self.call(method, *params)

    async def ask(self, method, answer):
        self.asked[method] += 1
        if self.is_down:
            raise NodeError("away", self.name)
        self.after(method)
        return self.answers.get(method, answer)

    def answer(self, method, *params):
        by_hash = {self.hash_of(each): each for each in self.chain if each not in self.lost}
        match method, params:
            case "getbestblockhash", ():
                return self.hash_of(self.chain[-1])
            case "getblockcount", ():
                return len(self.chain) - 1
            case "getblockhash", (height,):
                return self.hash_of(self.chain[height]) if height < len(self.chain) else None
            case "getblock", (shown, 1):
                found = by_hash.get(shown)
                return found and {"tx": [self.coinbase_of(found).txid[::-1].hex()]}
            case "getrawtransaction", (_, 0, shown):
                found = by_hash.get(shown)
                return found and self.coinbase_of(found).to_bytes().hex()
        raise AssertionError(f"{method} is not asked for")

    def take(self):
        asked, self.asked = self.asked, Counter()
        return asked


class Said(list):
    """Is a stream that may be full."""

    is_full = False

    def append(self, kind, payload):
        if self.is_full:
            raise LocalProtocolError("too much waits")
        super().append((kind, payload))

    def take(self):
        found = [Found.decode(payload) for kind, payload in self if kind == Kind.BLOCK_FOUND]
        self.clear()
        return [(each.height, each.block_hash) for each in found]


class Rig:
    """Is a watch between a node, books and a stream."""

    def __init__(self, height=250):
        self.node, self.said = FakeNode(height), Said()
        self.ledger = Accounting(RULES).start()
        self.ledger.epochs = 300
        self.ledger.keys[TREASURY] = KnownKey(TREASURY_KEY, bytes(32), 0)
        self.error = None
        self.watch = ChainWatch(self.node, RULES, 0, self.said, self.books, tips=False)

    async def books(self):
        if self.error is not None:
            raise self.error
        return self.ledger

    async def look(self):
        """Looks once; returns what was asked and which blocks were told."""
        await self.watch.look()
        return self.node.take(), self.said.take()

    def place(self, height):
        return height, sha256d(self.node.chain[height])


STILL = Counter(getbestblockhash=1)


async def test_a_still_chain_costs_one_question_a_look():
    rig = Rig()
    batches = -(-RULES.lateness // BATCH)
    asked, _ = await rig.look()
    assert asked["getblockhash"] == asked["getblock"] == batches
    for _ in range(5):
        assert await rig.look() == (STILL, [])
    # One more block: heights are compared, and one block is read.
    rig.node.extend(1)
    asked, _ = await rig.look()
    assert asked == STILL + Counter(
        getblockcount=1, getblockhash=batches, getblock=1, getrawtransaction=1
    )
    # Other books are compared with what is known of the chain.
    rig.ledger.epochs += 1
    assert await rig.look() == (STILL, [])
    rig.watch.signed(Task(bytes(32), 0, bytes(32), b""), bytes(64))
    assert await rig.look() == (STILL, [])


@pytest.mark.parametrize("depth", [1, 5, 40])
@pytest.mark.parametrize("longer", [-3, 0, 1])
async def test_a_reorganisation_is_seen_wherever_it_ends(depth, longer):
    rig = Rig()
    assert (await rig.look())[1] == []
    top = len(rig.node.chain) - 1
    del rig.node.chain[top + 1 - depth :]
    rig.node.extend(max(depth + longer, 1), b"other")
    first = top + 1 - depth
    rig.node.pay(first, SCRIPT, b"other")
    assert (await rig.look())[1] == [rig.place(first)]
    assert await rig.look() == (STILL, [])
    # And back again: the blocks of the branch are of no more account.
    rig.node.chain = [b"block %d" % each for each in range(top + 1)]
    rig.node.pay(top - 1, SCRIPT)
    assert (await rig.look())[1] == [rig.place(top - 1)]
    heights = range(top + 1 - RULES.lateness, top + 1)
    known = {height: each.block_hash for height, each in rig.watch._coinbases.items()}
    assert known == dict(rig.place(height) for height in heights)


async def test_a_chain_that_moves_while_it_is_asked_is_followed_again():
    rig = Rig()

    def move(method):
        if method == "getblockcount":
            # A block has come since the best one was asked for, and goes again.
            rig.node.chain[-2:] = [b"other 1", b"other 2"]

    await rig.look()
    rig.node.extend(1)
    true = list(rig.node.chain)
    rig.node.after = move
    await rig.look()
    rig.node.after, rig.node.chain = lambda method: None, true
    rig.node.pay(len(true) - 2, SCRIPT)
    rig.node.chain[-1] = true[-1]
    # Its best block is the one that was seen: what lies below is looked at all the same.
    assert (await rig.look())[1] == [rig.place(len(true) - 2)]


async def test_what_the_node_has_not_yet_is_asked_for_again():
    rig = Rig()
    rig.node.pay(249, SCRIPT)
    rig.node.lost.add(rig.node.chain[249])
    for _ in range(2):
        asked, told = await rig.look()
        assert told == []
        assert asked["getblock"] > 0
    rig.node.lost.clear()
    assert (await rig.look())[1] == [rig.place(249)]
    assert await rig.look() == (STILL, [])


async def test_what_the_stream_does_not_take_is_said_once_it_does():
    rig = Rig()
    await rig.look()
    rig.node.pay(249, SCRIPT)
    rig.said.is_full = True
    await rig.look()
    assert await rig.look() == (STILL, [])
    rig.said.is_full = False
    assert await rig.look() == (STILL, [rig.place(249)])
    # It does not come to stand in the books.
    rig.ledger.epochs += AGAIN_EPOCHS - 1
    assert await rig.look() == (STILL, [])
    rig.ledger.epochs += 1
    assert await rig.look() == (STILL, [rig.place(249)])


async def test_behind_an_error_everything_is_looked_at_again():
    rig = Rig()
    first, _ = await rig.look()
    rig.node.is_down = True
    with pytest.raises(NodeError):
        await rig.look()
    rig.node.is_down = False
    rig.node.take()
    again, _ = await rig.look()
    assert again["getblockhash"] == first["getblockhash"]
    assert again["getblock"] == 0
    assert await rig.look() == (STILL, [])


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("getbestblockhash", "a word"),
        ("getbestblockhash", None),
        ("getblockhash", ["00" * 31] * BATCH),
        ("getblockhash", [7] * BATCH),
        ("getblock", [{"tx": []}] * BATCH),
        ("getblock", [{"tx": ["zz"]}] * BATCH),
        ("getrawtransaction", ["abc"] * BATCH),
        ("getrawtransaction", ["ff" * 60] * BATCH),
    ],
)
async def test_a_node_that_says_what_none_does_is_told_from_a_defect(method, answer):
    rig = Rig()
    rig.node.answers[method] = answer
    with pytest.raises(NodeError, match="http://fake"):
        await rig.look()


async def test_books_that_cannot_be_read_end_nothing(autojump_clock):
    rig = Rig()
    rig.error = StoreError("the disk is away")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.watch.run, 1.0)
        await trio.sleep(3.5)
        assert rig.watch.status()["failure"] == "the disk is away"
        rig.error = None
        await trio.sleep(1.0)
        assert rig.watch.status()["failure"] == ""
        nursery.cancel_scope.cancel()
