"""Declarers that lie, on a real bitcoind: they earn nothing, are told why, and honest ones get all.

What a liar is told is what its own bitcoind says of the same block.
"""

import time
from collections import Counter

import pytest
import trio
from peer import work
from peer.message import Message
from peer.template import is_challenged
from rig import audit
from rig.book import Book
from rig.lying import LIES, OTHERS_SCRIPT, Coins, NodeMiner
from rig.node import UNLIMITED, Node
from rig.wait import until

pytestmark = pytest.mark.slow

ZEROS = 18
LIMIT = 2 ** (256 - ZEROS) - 1
MATURITY = 3
LIARS_AT_ONCE = 32
PAGE = 100
AHEAD_S = 60
SETTINGS = UNLIMITED | {
    "mining.exponent_min": 8,
    "mining.exponent_max": 8,
    "templates.source": "bitcoind",
    "templates.network": "regtest",
    "templates.block_zeros": ZEROS,
    "templates.interval_s": 1,
    "ledger.maturity_blocks": MATURITY,
    "ledger.new_accounts_per_minute_max": 6_000,
    "declarator.connections_per_address_max": 1_000,
    "declarator.tokens_per_minute_max": 6_000,
    "declarator.reveal_deadline_ms": 15_000,
}


class Miner(NodeMiner):
    """Is one whose jobs begin a little from now.

    The pool's work begins when it has heard of the tip, which may be later than the miner's does.
    """

    async def template(self, outputs, **changes):
        template = await super().template(outputs, **changes)
        template.min_ntime = max(template.min_ntime, int(time.time())) + AHEAD_S
        return template


@pytest.fixture
def running(bitcoind, tmp_path):
    settings = {
        "templates.rpc_urls": [bitcoind.url],
        "templates.rpc_cookie_files": [str(bitcoind.cookie_file)],
        "templates.zmq_urls": [bitcoind.zmq_url],
    }
    with Node(tmp_path / "msp", SETTINGS | settings).running() as running:
        yield running


async def eventually(look, what):
    return await trio.to_thread.run_sync(lambda: until(look, what, 60))


def rows(running, page):
    """Returns all that a page lists, which gives a hundred rows at a time."""
    found, items = [], [{}] * PAGE
    while len(items) == PAGE:
        items = running.get(f"/api/v1/{page}?limit={PAGE}&offset={len(found)}").json()["items"]
        found += items
    return found


def template_height(running):
    return running.get("/api/v1/status").json()["template"]["height"]


def balances(running):
    return {row["account"]: row["balance_sats"] for row in rows(running, "accounts")}


async def offer_payments(bitcoind, count):
    """Puts payments into the mempool and waits until templates have them."""
    for n in range(count):
        bitcoind.spend(fee_sats=20_000 + n)

    def offered():
        template = bitcoind.rpc("getblocktemplate", {"rules": ["segwit"]})
        return len(template["transactions"]) >= count

    await eventually(offered, lambda: "payments in a template")


async def find_block(miner):
    """Mines a block on the miner's job."""
    template = await miner.declare_and_set()
    for _ in range(3):
        await miner.session.accepted(miner.session.mine(miner.channel, above=LIMIT))
    await miner.session.accepted(miner.session.mine(miner.channel, block_target=LIMIT))
    return template


async def settle(running, bitcoind):
    """Buries the blocks and waits until they are paid; returns them.

    A hider's share may happen to be a block, which nobody but the hider could send.
    """

    def found():
        # The books have a block before the node has it, and another one could overtake it there.
        return any(each["confirmations"] for each in rows(running, "blocks"))

    await eventually(found, lambda: f"a block on the chain; {rows(running, 'blocks')}")
    await trio.to_thread.run_sync(bitcoind.mine, MATURITY)

    def paid():
        blocks = [each for each in rows(running, "blocks") if each["state"] != "orphaned"]
        return blocks if blocks and all(each["state"] == "paid" for each in blocks) else None

    return await eventually(paid, lambda: f"payment; {rows(running, 'blocks')}")


async def mine_without_a_job(miner):
    """Sends shares on jobs that the liar would have had; each is refused."""
    for job in range(3):
        share = Message(
            "SubmitSharesExtended",
            channel_id=miner.channel.id,
            sequence_number=job,
            job_id=job,
            nonce=7,
            ntime=0,
            version=0x20000000,
            extranonce=bytes(miner.channel.rollable),
        )
        await miner.session.client.send(share)
        answer = await miner.session.client.expect("SubmitSharesError")
        assert answer.error_code == "invalid-job-id"


async def test_liars_are_told_why_and_earn_nothing(running, bitcoind, tmp_path):
    """spec: JD-16, JD-17"""
    coins = Coins(bitcoind)
    await offer_payments(bitcoind, 4)
    told = {}
    async with Miner.at(running, bitcoind, "honest") as honest:
        for number, (kind, make) in enumerate(LIES.items()):
            async with Miner.at(running, bitcoind, f"liar{number}") as liar:
                token, outputs = await liar.declarer.token(liar.user)
                good = await liar.template(outputs)
                assert liar.node_says(good) == ""
                lie = await liar.template(outputs, **make(good, coins))
                theirs = liar.node_says(lie)
                assert theirs, kind
                new, code, detail = await liar.declarer.declare(lie, token)
                assert (new, code) == (None, "invalid-job"), (kind, detail)
                assert detail.partition(": ")[0] == theirs, kind
                told[f"liar{number}"] = theirs
                # Neither the spent token nor one for the next template makes it a job.
                assert await liar.set_job(good, token) == "invalid-mining-job-token"
                fresh, _ = await liar.declarer.token(liar.user)
                assert await liar.set_job(good, fresh) == "job-not-yet-validated"
                await mine_without_a_job(liar)
        template = await find_block(honest)
    [block] = await settle(running, bitcoind)
    assert block["value_sats"] == template.value
    earned = balances(running)
    assert earned["honest"] == template.value
    assert not any(sats for name, sats in earned.items() if name != "honest")
    refused = {row["account"]: row["refused"] for row in rows(running, "declarers")}
    for name, reason in told.items():
        assert refused[name] == {reason.partition(":")[0]: 1}
    assert audit.check_batches(running.node) == 4, "no share of a liar is in the ledger"
    assert audit.verify(audit.export(running.node, block["epoch"], tmp_path / "export"))


async def test_coinbases_that_take_what_is_not_theirs(running, bitcoind):
    """spec: JD-10, JD-11, JD-22, JD-24"""
    await offer_payments(bitcoind, 1)
    async with (
        Miner.at(running, bitcoind, "alice") as alice,
        Miner.at(running, bitcoind, "mallory") as mallory,
    ):
        _, hers = await alice.declarer.token("alice")

        async def refused(outputs, **changes):
            token, _ = await mallory.declarer.token("mallory")
            template = await mallory.template(outputs, **changes)
            assert mallory.node_says(template) == "", "consensus does not mind"
            return (await mallory.declarer.declare(template, token))[1]

        _, own = await mallory.declarer.token("mallory")
        everything = (await mallory.template(own)).value
        to_others = [work.Output(everything, OTHERS_SCRIPT)]
        assert await refused(hers) == "invalid-coinbase-tx", "tag of another owner"
        assert await refused(own, value=0, extra_outputs=to_others) == "invalid-coinbase-tx"
        assert await refused(own[:1]) == "invalid-coinbase-tx", "no tag"
        assert await refused([*own, hers[1]]) == "invalid-coinbase-tx", "two tags"

        # One coinbase is declared, another one is to be mined.
        for changes in (
            {"value": everything - 1_000},
            {"value": everything - 1_000, "extra_outputs": [work.Output(1_000, OTHERS_SCRIPT)]},
            {"token_outputs": [own[0], hers[1]]},
        ):
            token, outputs = await mallory.declarer.token("mallory")
            declared = await mallory.template(outputs)
            new, code, detail = await mallory.declarer.declare(declared, token)
            assert new, (code, detail)
            other = await mallory.template(**{"outputs": outputs, **changes})
            assert await mallory.set_job(other, new) == "invalid-coinbase-tx-outputs"
            assert await mallory.set_job(declared, new) == "invalid-mining-job-token"
        await mine_without_a_job(mallory)
        assert Book(running.node.database).rows("SELECT sequence FROM batch") == []


async def test_tokens_of_others_replayed_and_overtaken(running, bitcoind):
    """spec: JD-4, JD-5, JD-6, JD-8, JD-19"""
    async with (
        Miner.at(running, bitcoind, "alice") as alice,
        Miner.at(running, bitcoind, "mallory") as mallory,
    ):
        token, outputs = await alice.declarer.token("alice")
        template = await alice.template(outputs)
        unknown = "invalid-mining-job-token"
        assert (await mallory.declarer.declare(template, token))[1] == unknown
        assert (await mallory.declarer.declare(template, bytes(32)))[1] == unknown
        new, code, detail = await alice.declarer.declare(template, token)
        assert new, (code, detail)
        assert (await alice.declarer.declare(template, token))[1] == unknown, "replayed"
        assert await mallory.set_job(template, new) == unknown
        assert await alice.set_job(template, new) == "", "a thief's try does not use it up"
        assert await alice.set_job(template, new) == unknown, "replayed"
        # No block: the tip is to be changed by the node alone.
        await alice.session.accepted(alice.session.mine(alice.channel, above=LIMIT))

        token, outputs = await alice.declarer.token("alice")
        old = await alice.template(outputs)
        new, code, detail = await alice.declarer.declare(old, token)
        assert new, (code, detail)
        before = template_height(running)
        await trio.to_thread.run_sync(bitcoind.mine, 1)
        await eventually(lambda: template_height(running) > before, lambda: "work on the block")
        assert await alice.set_job(old, new) == "stale-chain-tip"
        token, outputs = await alice.declarer.token("alice")
        assert (await alice.declarer.declare(old, token))[1] == "stale-chain-tip"
        assert audit.check_batches(running.node) == 1


class Hiders:
    """Are miners that mine templates unseen, each with an account of its own, on one connection."""

    def __init__(self, miner):
        self.miner = miner
        self.channels = {}
        self.number = 0

    async def mine(self, count):
        """Has so many mine a share each; returns name, token and template."""
        found = []
        miner = self.miner
        for _ in range(count):
            self.number += 1
            name = f"hider{self.number}"
            miner.channel = self.channels[name] = await miner.session.open(user=name)
            token, outputs = await miner.declarer.token(name)
            template = await miner.template(outputs)
            code = await miner.set_job(template, token)
            assert code == "", code
            await miner.session.accepted(miner.session.mine(miner.channel, above=LIMIT))
            found.append((name, token, template))
        return found


async def test_hidden_templates_that_are_not_revealed(running, bitcoind, tmp_path):
    """spec: JD-26, JD-27, JD-28"""
    await offer_payments(bitcoind, 1)
    drawn, told = {}, {}
    async with (
        Miner.at(running, bitcoind, "crowd", whole=False) as miner,
        Miner.at(running, bitcoind, "honest") as honest,
    ):
        hiders = Hiders(miner)
        while not drawn:
            hidden = await hiders.mine(LIARS_AT_ONCE)
            [following] = await trio.to_thread.run_sync(bitcoind.mine, 1)
            block = bytes.fromhex(following)[::-1]
            drawn = {
                name: (token, template)
                for name, token, template in hidden
                if is_challenged(block, token)
            }
        # The first shows another template than it has mined; the others show nothing.
        first = next(iter(drawn))
        token, template = drawn[first]
        template.value -= 1
        with trio.fail_after(60):
            while True:
                new, code, detail = await honest.declarer.declare(template, token)
                if code != "invalid-mining-job-token":
                    break
                await trio.sleep(0.05)  # the pool has not seen the block yet
        assert (new, code) == (None, "invalid-job")
        told = dict.fromkeys(drawn, "not revealed") | {first: f"not revealed: {detail}"}

        def unrevealed():
            found = {row["account"]: row["unrevealed"] for row in rows(running, "declarers")}
            return all(found.get(name) == 1 for name in drawn)

        await eventually(unrevealed, lambda: "the end of their time")
        for name in drawn:
            miner.channel = hiders.channels[name]
            token, outputs = await miner.declarer.token(name)
            again = await miner.template(outputs)
            assert await miner.set_job(again, token) == "invalid-mining-job-token"
        assert await hiders.mine(1), "others may hide as before"
        template = await find_block(honest)
    [block] = await settle(running, bitcoind)
    earned = balances(running)
    assert not any(earned.get(name) for name in drawn)
    # The last one may have been drawn by the block that was found after it.
    honest_hiders = {f"hider{n + 1}" for n in range(hiders.number - 1)} - drawn.keys()
    assert all(earned[name] > 0 for name in honest_hiders)
    assert earned["honest"] > 0
    assert sum(earned.values()) == template.value
    reasons = [reason for [reason] in Book(running.node.database).rows("SELECT reason FROM void")]
    assert Counter(told.values()) <= Counter(reasons)
    assert len(reasons) <= len(told) + 1
    summary = audit.verify(audit.export(running.node, block["epoch"], tmp_path / "export"))
    notes = str(summary)
    assert all(f"voided ({reason})" in notes for reason in told.values())
