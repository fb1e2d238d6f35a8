"""Verdicts by the chain's process: beside everything else it does, and whatever happens to it."""

import contextlib
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from chain_rig import solve
from rig.invalid_templates import KINDS, spare
from rig.template_draft import ANYONE, Workshop, coin_of, spend

from radpool_sv2.chain.script import push
from radpool_sv2.chain.supervisor import EmbeddedChain
from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.templates.embedded import EmbeddedSource
from radpool_sv2.templates.source import BlockVerdict, Solution

pytestmark = pytest.mark.slow

VALID = BlockVerdict(True)
DEADLINE_SECONDS = 120
SLOW_INPUTS = 2_000
INHERITED_FDS = 3


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    shop = Workshop.open(tmp_path_factory.mktemp("workshop"))
    yield shop
    shop.node.close()


@contextlib.asynccontextmanager
async def running(workshop, directory):
    """The workshop's chain in a process of its own."""
    directory.mkdir()
    blocks = workshop.node._log.path.read_bytes()
    (directory / "chain.blocks").write_bytes(blocks)
    # Only a chain that dies is replaced, not one that has to wait for a processor.
    chain = EmbeddedChain(
        directory, block_zeros=4, template_interval_s=1, ping_deadline_s=60, pause_max_s=0.1
    )
    with trio.fail_after(DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(_run, chain)
            yield chain, EmbeddedSource(chain)
            nursery.cancel_scope.cancel()


async def _run(chain, *, task_status):
    await chain.run(task_status=task_status)


def slow(shop):
    """A valid block that takes long: each of its signatures is over the whole of a large one."""
    coin = spare(shop)
    parent = spend([coin], [(10_000, b"\xac\x91")] * SLOW_INPUTS)
    key = bytes.fromhex("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
    wrong = push(bytes.fromhex("30060201010201010" + "1")) + push(key)
    coins = [coin_of(parent, index) for index in range(SLOW_INPUTS)]
    return shop.good().adding(parent, spend(coins, [(1, ANYONE)], script=wrong)).block()


def judging_children(chain):
    """The processes that judge for a chain."""
    found = []
    for task in Path(f"/proc/{chain.child_pid}/task").iterdir():
        # A thread may end while its process is looked at.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += [int(each) for each in (task / "children").read_text().split()]
    return found


async def child_of(chain):
    while True:
        if found := judging_children(chain):
            return found[0]
        await trio.sleep(0.001)


async def test_verdicts_of_the_process_are_the_engines(workshop, tmp_path):
    async with running(workshop, tmp_path / "c") as (_, source):
        assert await source.check_block(workshop.good().block()) == VALID
        for name in ("a-satoshi-too-much", "spends-what-never-was", "witness-that-is-too-heavy"):
            kind = KINDS[name]
            verdict = await source.check_block(kind.spoil(workshop).block())
            assert (verdict.valid, verdict.reason) == (False, kind.reason)
        assert (await source.check_block(b"nonsense")).reason == "block-decode-failed"
        assert await source.check_block(workshop.good().block()) == VALID


async def test_killed_chain_comes_back_with_its_verdicts(workshop, tmp_path):
    good = workshop.good().block()
    async with running(workshop, tmp_path / "c") as (chain, source):
        for _ in range(3):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_expect, source, good, VALID)
                os.kill(chain.child_pid, signal.SIGKILL)
            assert await source.check_block(good) == VALID
        assert chain.restarts == 3


async def _expect(source, block, verdict):
    assert await source.check_block(block) == verdict


async def test_block_is_taken_while_another_is_judged(workshop, tmp_path):
    """A verdict that hangs keeps nobody waiting, and a new tip makes it worthless."""
    block = slow(workshop)
    async with running(workshop, tmp_path / "c") as (chain, source):
        verdicts = []

        async def judge():
            verdicts.append(await source.check_block(block))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(judge)
            judging = await child_of(chain)
            os.kill(judging, signal.SIGSTOP)
            assert (await chain.request("status"))["height"] == workshop.node.chain.height
            assert verdicts == []
            fields = await chain.next_template()
            answer = await source.submit_solution(solution_of(fields))
            assert answer.active
        assert [each.reason for each in verdicts] == ["stale-prevblk"]
        assert judging_children(chain) == []
        assert chain.restarts == 0


async def test_slow_block_is_judged_while_templates_are_served(workshop, tmp_path):
    async with running(workshop, tmp_path / "c") as (chain, source):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect, source, slow(workshop), VALID)
            await child_of(chain)
            for _ in range(20):
                await chain.request("template")
        assert chain.restarts == 0


async def test_chain_that_dies_takes_its_judge_along(workshop, tmp_path):
    async with running(workshop, tmp_path / "c") as (chain, source):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(source.check_block, slow(workshop))
                judging = await child_of(chain)
                # It judges when it has closed what it inherited, the lock of the directory too.
                while len(list(Path(f"/proc/{judging}/fd").iterdir())) > INHERITED_FDS + 1:
                    await trio.sleep(0.001)
                os.kill(judging, signal.SIGSTOP)
                os.kill(chain.child_pid, signal.SIGKILL)
                while Path(f"/proc/{judging}").exists():
                    await trio.sleep(0.01)
                scope.cancel()


async def test_transactions_of_templates_and_of_the_mempool(workshop, tmp_path):
    payment = spend([spare(workshop)], [(spare(workshop).sats - 10_000, ANYONE)])
    async with running(workshop, tmp_path / "c") as (chain, source):
        await chain.request("submit_transaction", {"transaction": payment.raw.hex()})
        fields = await chain.next_template()
        while not fields["tx_count"]:
            fields = await chain.next_template(after=fields["id"])
        lent = await source.transactions(fields["id"])
        assert (lent.raw, lent.fees_sats) == ((payment.raw,), (10_000,))
        assert await source.known_transactions([bytes(32), payment.wtxid]) == {
            payment.wtxid: payment.raw
        }
        os.kill(chain.child_pid, signal.SIGKILL)
        assert await source.transactions(fields["id"]) == lent
        with pytest.raises(LocalProtocolError, match="template-id-not-found"):
            await source.transactions(1)


def solution_of(fields):
    params = solve(fields)
    return Solution(
        template_id=params["template_id"],
        version=params["version"],
        ntime=params["ntime"],
        nonce=params["nonce"],
        coinbase_tx=bytes.fromhex(params["coinbase_tx"]),
        hash=bytes.fromhex(params["hash"]),
    )


async def test_stale_block_is_stale(workshop, tmp_path):
    good = workshop.good()
    older = replace(good, previous=workshop.node.chain.tips[-2].hash)
    async with running(workshop, tmp_path / "c") as (_, source):
        assert (await source.check_block(older.block())).reason == "stale-prevblk"
