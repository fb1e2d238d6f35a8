"""Blocks on templates that miners made: declared, mined, on the chain, and paid as their coinbase
says."""

import pytest
import trio
from rig import audit
from rig.declaring import DeclaringMiner
from rig.node import UNLIMITED, Node
from rig.paid import settled
from rig.wait import until

pytestmark = pytest.mark.slow

ZEROS = 14
MATURITY = 2
SETTINGS = UNLIMITED | {
    "mining.exponent_min": 8,
    "mining.exponent_max": 8,
    "templates.block_zeros": ZEROS,
    "templates.payments_per_minute": 300,
    "ledger.maturity_blocks": MATURITY,
}
SUBSIDY = 50 * 10**8


@pytest.fixture
def running(tmp_path):
    node = Node(tmp_path / "msp", SETTINGS)
    with node.running() as running:
        yield running


def rows(running, page):
    return running.get(f"/api/v1/{page}?limit=100").json()["items"]


async def block_of(running, count=1):
    """Waits for so many blocks and returns them, the newest first."""

    def found():
        blocks = rows(running, "blocks")
        return blocks if len(blocks) >= count else None

    return await trio.to_thread.run_sync(lambda: until(found, lambda: "a block", 60))


async def mature(running):
    """Buries all blocks and waits until they are paid."""
    await trio.to_thread.run_sync(running.chain, "mine", MATURITY + 1)

    def paid():
        return settled(rows(running, "blocks"))

    return await trio.to_thread.run_sync(lambda: until(paid, lambda: "payment", 60))


async def test_declared_template_becomes_a_paid_block(running, tmp_path):
    """spec: JD-16, JD-19, JD-20, JD-22, JD-23, JD-31"""
    async with DeclaringMiner.at(running) as miner:
        # The chain's wallets have to pay each other first.
        await miner.view.until(lambda update: update.template.tx_count >= 3)
        template = await miner.declare_and_set(drop=1)
        assert len(template.transactions) >= 2
        for _ in range(5):
            await miner.session.accepted(miner.share())
        share = miner.session.mine(miner.channel, block_target=miner.block_limit())
        await miner.session.accepted(share)
        [block] = await block_of(running)
        assert block["hash"] == share.hash[::-1].hex()
        assert block["value_sats"] == template.value
        assert block["finder"] == "alice"
        await miner.view.until(lambda update: update.tip.prev_hash == share.hash)
    saved = list((running.node.data / "declared-blocks").glob("*.block"))
    assert [file.stem for file in saved] == [share.hash[::-1].hex()]
    [block] = await mature(running)
    [alice] = [row for row in rows(running, "accounts") if row["account"] == "alice"]
    assert alice["balance_sats"] == template.value, "one owner has the whole block"
    audit.check_batches(running.node)
    audit.check_blocks(running.node)
    assert audit.verify(audit.export(running.node, block["epoch"], tmp_path / "export"))


async def test_pushed_block_is_submitted_and_recorded(running):
    """Only PushSolution tells of the block; the share never comes.

    spec: JD-30, JD-31
    """
    async with DeclaringMiner.at(running) as miner:
        template = await miner.declare_and_set()
        await miner.session.accepted(miner.share())
        extranonce = miner.channel.prefix + bytes(miner.channel.rollable)
        solution = template.solve(extranonce, miner.block_limit())
        for _ in range(3):
            await miner.declarer.client.send(solution)
        await miner.view.until(lambda update: update.tip.prev_hash != template.prev_hash)
        [block] = await block_of(running)
        assert block["value_sats"] == template.value
        assert block["finder"] == "alice"


async def test_token_of_another_owner_is_no_job(running):
    """spec: JD-6, JD-20"""
    async with DeclaringMiner.at(running, "alice", mining_user="mallory") as miner:
        token, outputs = await miner.declarer.token("alice")
        template = await miner.template(outputs)
        new, code, detail = await miner.declarer.declare(template, token)
        assert new, (code, detail)
        assert await miner.set_job(template, new) == "invalid-mining-job-token"


async def test_declared_token_is_used_once(running):
    """spec: JD-6, JD-7"""
    async with DeclaringMiner.at(running) as miner:
        token, outputs = await miner.declarer.token("alice")
        template = await miner.template(outputs)
        assert await miner.set_job(template, token) == "job-not-yet-validated"
        new, code, detail = await miner.declarer.declare(template, token)
        assert new, (code, detail)
        assert await miner.set_job(template, new) == ""
        assert await miner.set_job(template, new) == "invalid-mining-job-token"


async def test_lies_are_told_by_name(running):
    """A declarer that claims more than the fees, spends what is spent, or takes the pool's part.

    spec: JD-11, JD-17
    """
    async with DeclaringMiner.at(running) as miner:
        await miner.view.until(lambda update: update.template.tx_count >= 2)

        async def refused(**changes):
            token, outputs = await miner.declarer.token("alice")
            template = await miner.template(outputs, **changes)
            new, code, detail = await miner.declarer.declare(template, token)
            assert new is None
            return code, detail.partition(":")[0]

        assert await refused(value=SUBSIDY + 10**8) == ("invalid-job", "bad-cb-amount")
        assert await refused(value=0) == (
            "invalid-coinbase-tx",
            "nothing is paid to the script of the token's first output",
        )
        declarers = running.get("/api/v1/declarers").json()["items"]
        [alice] = [row for row in declarers if row["account"] == "alice"]
        assert alice["refused"]["bad-cb-amount"] == 1


async def test_hidden_job_earns_like_any_other(running):
    """spec: JD-7, JD-24, JD-25"""
    async with DeclaringMiner.at(running, whole=False) as miner:
        token, outputs = await miner.declarer.token("alice")
        template = await miner.template(outputs)
        assert await miner.set_job(template, token) == ""
        for _ in range(5):
            await miner.session.accepted(miner.share())
        assert await miner.set_job(template, token) == "invalid-mining-job-token"
        token, _ = await miner.declarer.token("alice")
        unmarked = await miner.template(outputs[:2])
        assert await miner.set_job(unmarked, token) == "invalid-coinbase-tx-outputs"
