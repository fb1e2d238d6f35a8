"""A member's watch on a real node: blocks that pay the federation, tips, and its payouts."""

from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256

import pytest
import trio
from coincurve import PrivateKey

from radpool_sv2._native.threshold import TREASURY
from radpool_sv2.chain.block import Block as RawBlock
from radpool_sv2.chain.transaction import TxOutput
from radpool_sv2.errors import LocalProtocolError, NodeError
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.signing.purpose import Task
from radpool_sv2.federation.state.accounting import Accounting
from radpool_sv2.federation.state.ledger import Block, KnownKey, Stake, syndicate_script
from radpool_sv2.federation.state.payload import NO_OUTPUT, Found, Tip
from radpool_sv2.federation.state.rules import PayoutMode, Rules
from radpool_sv2.federation.state.spends import payout_of
from radpool_sv2.federation.watch import ChainWatch
from radpool_sv2.node.rpc import NodeRpc, NodeSettings
from radpool_sv2.units import sha256d, tagged_hash

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
TREASURY_SECRET = PrivateKey(sha256(b"treasury").digest())
KEY = TREASURY_SECRET.public_key.format()[1:]
MEMBERS = tuple(
    PrivateKey(sha256(b"member %d" % each).digest()).public_key.format()[1:] for each in range(4)
)
RULES = Rules(msp_keys=MEMBERS, faulty_max=1, height_first=0, lateness=120)
SCRIPTS = [b"\x51\x20" + key for key in MEMBERS]


class Federation:
    """The books that a member's watch reads, and what it says."""

    def __init__(self, rules=RULES):
        self.rules = rules
        self.ledger = Accounting(rules).start()
        self.said = []
        self.is_full = False

    def append(self, kind, payload):
        if self.is_full:
            raise LocalProtocolError("too much waits")
        self.said.append((kind, payload))

    def take(self):
        said, self.said = self.said, []
        return said

    async def books(self):
        return self.ledger

    def know_key(self):
        self.ledger.keys[TREASURY] = KnownKey(KEY, bytes(32), 0)

    def know(self, found, matured_epoch=-1):
        stakes = tuple(Stake(each, each + 1, SCRIPTS[each]) for each in range(4))
        self.ledger.blocks[found.block_hash] = Block(
            found.height,
            found.txid,
            found.vout,
            found.value,
            KEY,
            0,
            stakes,
            matured_epoch,
        )
        return self.ledger.blocks[found.block_hash]


@asynccontextmanager
async def watch_of(node, federation, *, tips=False):
    settings = NodeSettings(url=node.url, deadline_s=60, cookie_file=node.cookie_file)
    rpc = NodeRpc(settings)
    try:
        yield ChainWatch(rpc, federation.rules, 2, federation, federation.books, tips=tips)
    finally:
        await rpc.aclose()


def pay(node, script, count=1):
    return node.rpc("generatetodescriptor", count, f"raw({script.hex()})")


def coinbase_of(node, shown):
    return RawBlock.from_bytes(bytes.fromhex(node.rpc("getblock", shown, 0))).transactions[0]


def signature_of(payout):
    """What the members would sign together: here one secret does."""
    number = TREASURY_SECRET.to_int()
    if TREASURY_SECRET.public_key.format()[0] == 3:
        number = ORDER - number
    tweak = int.from_bytes(tagged_hash("TapTweak", KEY, payout.merkle_root), "big")
    key = PrivateKey.from_int((number + tweak) % ORDER)
    return key.sign_schnorr(payout.sighash)


async def test_blocks_that_pay_the_federation_are_told_once(bitcoinds):
    """spec: SO-5, SO-6"""
    node, federation = bitcoinds(blocks=3), Federation()
    federation.ledger.epochs = 200
    async with watch_of(node, federation) as watch:
        # Before there is a key there is nothing to look for.
        await watch.look()
        federation.know_key()
        script = syndicate_script(RULES, federation.ledger)
        [shown] = pay(node, script)
        node.mine()
        federation.is_full = True
        await watch.look()
        assert federation.take() == []
        federation.is_full = False
        await watch.look()
        [(kind, payload)] = federation.take()
        coinbase, found = coinbase_of(node, shown), Found.decode(payload)
        assert kind == Kind.BLOCK_FOUND
        assert (found.block_hash, found.height) == (bytes.fromhex(shown)[::-1], 4)
        assert (found.txid, found.vout) == (coinbase.txid, 0)
        assert (found.value, found.paid) == (coinbase.outputs[0].value_sats, script[2:])
        await watch.look()
        assert federation.take() == []
        # What does not come to stand in the books is said again, after a while.
        federation.ledger.epochs += 8
        await watch.look()
        assert federation.take() == [(kind, payload)]
        federation.know(found)

        node.mine(97)
        await watch.look()
        assert federation.take() == []
        # A block that has left the chain is not mature, whatever the height.
        node.rpc("invalidateblock", shown)
        node.mine(100)
        await watch.look()
        assert federation.take() == []
        node.rpc("reconsiderblock", shown)
        node.rpc("invalidateblock", node.rpc("getblockhash", 4))
        assert node.rpc("getblockcount") == 102
        await watch.look()
        assert federation.take() == []
        node.mine()
        await watch.look()
        assert federation.take() == [(Kind.BLOCK_MATURE, found.block_hash)]
        await watch.look()
        assert federation.take() == []
    # Who starts anew finds in the books that this was said.
    federation.ledger.members[2].mature.add(found.block_hash)
    async with watch_of(node, federation) as watch:
        await watch.look()
        assert federation.take() == []


async def test_a_payout_is_published_until_it_is_in_the_chain(bitcoinds):
    """spec: SO-7, SO-11"""
    node, federation = bitcoinds(blocks=0, arguments=["-persistmempool=0"]), Federation()
    federation.know_key()
    [shown] = pay(node, syndicate_script(RULES, federation.ledger))
    coinbase = coinbase_of(node, shown)
    value = coinbase.outputs[0].value_sats
    found = Found(bytes.fromhex(shown)[::-1], 1, coinbase.txid, 0, value, bytes(32))
    payout = payout_of(RULES, found.block_hash, federation.know(found))
    task = Task(bytes(32), 5, payout.sighash, payout.merkle_root)
    txid = payout.txid[::-1].hex()
    node.mine(100)
    async with watch_of(node, federation) as watch:
        watch.signed(task, signature_of(payout))
        await watch.look()
        # It is signed, but the books do not want it out.
        assert node.rpc("getrawmempool") == []
        federation.know(found, matured_epoch=4)
        federation.ledger.epochs += 1
        await watch.look()
        assert node.rpc("getrawmempool") == [txid]
        node.restart()
        assert node.rpc("getrawmempool") == []
        node.mine()
        await watch.look()
        assert node.rpc("getrawmempool") == [txid]
        assert watch.status()["payouts_confirmed"] == 0
        [block] = node.mine()
        await watch.look()
        assert watch.status()["payouts_confirmed"] == 1
        # A reorganisation takes it out of the chain; then it is published anew.
        node.rpc("invalidateblock", block)
        node.restart()
        for _ in range(2):
            node.rpc("generateblock", f"raw({SCRIPTS[3].hex()})", [])
        await watch.look()
        assert node.rpc("getrawmempool") == [txid]
        assert watch.status()["payouts_confirmed"] == 0
        node.mine()
        await watch.look()
        assert watch.status() == {"payouts_signed": 1, "payouts_confirmed": 1, "failure": ""}


async def test_blocks_that_pay_members_themselves_are_told_with_the_books_they_follow(bitcoinds):
    """spec: SO-5"""
    node, federation = bitcoinds(blocks=2), Federation(replace(RULES, payout=PayoutMode.DIRECT))
    federation.ledger.members[1].script = SCRIPTS[1]
    [shown] = pay(node, SCRIPTS[1])
    async with watch_of(node, federation) as watch:
        await watch.look()
    [(kind, payload)] = federation.take()
    coinbase, found = coinbase_of(node, shown), Found.decode(payload)
    assert kind == Kind.BLOCK_FOUND
    assert (found.txid, found.vout) == (coinbase.txid, NO_OUTPUT)
    outputs = TxOutput(5_000_000_000, SCRIPTS[1]).to_bytes()
    assert (found.value, found.paid) == (5_000_000_000, sha256d(outputs))


async def test_tips_are_told_where_no_pool_does(bitcoinds):
    node, federation = bitcoinds(blocks=2), Federation()
    async with watch_of(node, federation, tips=True) as watch:
        await watch.look()
        await watch.look()
        first = bytes.fromhex(node.tip)[::-1]
        node.mine()
        await watch.look()
        tips = [Tip.decode(payload) for kind, payload in federation.take() if kind == Kind.TIP]
    second = bytes.fromhex(node.tip)[::-1]
    target = 0x7FFFFF << 232
    assert tips == [Tip(first, 3, 0x207FFFFF, target, 0), Tip(second, 4, 0x207FFFFF, target, 0)]


async def test_a_node_that_does_not_answer_is_watched_again(bitcoinds):
    node, federation = bitcoinds(blocks=2), Federation()
    federation.know_key()
    async with watch_of(node, federation) as watch:
        node.stop()
        with pytest.raises(NodeError):
            await watch.look()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.run, 0.05)
            with trio.fail_after(300):
                while not watch.status()["failure"]:
                    await trio.sleep(0.05)
                node.start()
                pay(node, syndicate_script(RULES, federation.ledger))
                while not federation.said:
                    await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
    assert [kind for kind, _ in federation.take()] == [Kind.BLOCK_FOUND]
