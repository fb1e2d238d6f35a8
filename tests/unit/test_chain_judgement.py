"""Verdicts on blocks without proof of work: exact, and without a trace in the chain."""

import contextlib
import gc
import os
import select
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from chain_rig import ANYONE, open_node

from radpool_sv2.chain import judgement as judgement_module
from radpool_sv2.chain import service as service_module
from radpool_sv2.chain.block import Block, Header
from radpool_sv2.chain.kernel import Status, Verdict
from radpool_sv2.chain.node import _coinbase
from radpool_sv2.chain.service import ChainService
from radpool_sv2.consensus import merkle_root
from radpool_sv2.errors import NodeError

WAIT_SECONDS = 60


@pytest.fixture
def node(tmp_path):
    node = open_node(tmp_path)
    node.send(ANYONE, 10_000, 5)
    node.renew_template()
    yield node
    node.close()


def declared(node, *, more_sats=0, **header):
    """A block on the newest template whose hash is no proof of work."""
    template = node.template
    coinbase = _coinbase(
        template.height, ANYONE, template.value_sats + more_sats, template.commitment
    )
    block = template.block(coinbase, version=0x20000000, time=template.time, nonce=0)
    while int.from_bytes(block.header.hash, "little") <= node.target:
        block = replace(block, header=replace(block.header, nonce=block.header.nonce + 1))
    return replace(block, header=replace(block.header, **header)).to_bytes()


def verdict_on(node, raw):
    """The verdict, once the child has told it."""
    judgement = node.judge(raw)
    if isinstance(judgement, Verdict):
        return judgement
    assert select.select([judgement.fd], [], [], WAIT_SECONDS)[0]
    return judgement.end()


def test_good_block_is_valid_and_leaves_no_trace(node):
    before = (node.chain.height, node.chain.tip, dict(node.chain.coins), node.log_bytes)
    for _ in range(3):
        assert verdict_on(node, declared(node)).status is Status.ACCEPTED
    assert (node.chain.height, node.chain.tip, node.chain.coins, node.log_bytes) == before
    assert node.mine(ANYONE).active
    assert node.chain.height == before[0] + 1


def test_reason_is_the_engines(node):
    verdict = verdict_on(node, declared(node, more_sats=1))
    assert (verdict.status, verdict.reason) == (Status.REJECTED, "bad-cb-amount")
    assert "pays too much" in verdict.detail
    assert verdict_on(node, declared(node)).status is Status.ACCEPTED


def test_header_is_judged_too(node):
    assert verdict_on(node, declared(node, time=1)).reason == "time-too-old"
    assert verdict_on(node, declared(node, version=1)).reason == "bad-version(0x00000001)"
    assert verdict_on(node, declared(node, merkle_root=merkle_root([bytes(32)]))).reason == (
        "bad-txnmrklroot"
    )


def test_what_cannot_be_solved_here_is_refused_before(node):
    """A harder target would keep the child busy for years."""
    assert verdict_on(node, declared(node, nbits=0x1D00FFFF)).reason == "bad-diffbits"
    assert verdict_on(node, declared(node, previous=bytes(32))).reason == "stale-prevblk"
    assert verdict_on(node, b"short").reason == "block-decode-failed"
    assert verdict_on(node, declared(node)[:-1]).reason == "block-decode-failed"


def test_block_that_comes_meanwhile_gives_the_judgement_up(node):
    """Both would write to one place of the engine's block file: the chain's own block wins."""
    raw = declared(node)
    judgement = node.judge(raw)
    assert node.mine(ANYONE).active
    assert judgement.end() is None
    assert verdict_on(node, raw).reason == "stale-prevblk"
    assert Block.from_bytes(node.block_at(node.chain.height)).header.hash == node.chain.tip.hash


def open_descriptors():
    return {each.name for each in Path("/dev/fd").iterdir()}


def children():
    """Finds the processes that this one has begun and not waited for."""
    found = set()
    for each in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The program's name, in parentheses, may hold anything.
            if int(each.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(each.parent.name)
    return found


def test_no_child_and_no_descriptor_is_left(node):
    # What earlier tests have left may go at any moment.
    gc.collect()
    raw = declared(node)
    before, born_before = open_descriptors(), children()
    verdict_on(node, raw)
    judgement = node.judge(raw)
    assert children() - born_before
    judgement.give_up()
    judgement.give_up()
    assert judgement.end() is None
    assert open_descriptors() <= before
    assert children() <= born_before


def test_engine_that_dies_is_no_verdict(node):
    judgement = node.judge(declared(node))
    os.kill(judgement._child, signal.SIGKILL)
    select.select([judgement.fd], [], [], WAIT_SECONDS)
    with contextlib.suppress(NodeError):
        # The verdict may have been told before the signal came.
        assert judgement.end().status is Status.ACCEPTED


def test_engine_that_fails_is_no_verdict(node, monkeypatch):
    def fail(*_):
        raise RuntimeError("it has no memory")

    monkeypatch.setattr(node._kernel, "process", fail)
    judgement = node.judge(declared(node))
    assert select.select([judgement.fd], [], [], WAIT_SECONDS)[0]
    with pytest.raises(NodeError, match="came to no verdict: it has no memory"):
        judgement.end()


async def test_service_judges_one_after_the_other_and_serves_meanwhile(node):
    service = ChainService(node, payments_per_minute=0, template_interval_s=1)
    verdicts = []

    async def judge(raw):
        verdicts.append((await service.judge(raw)).reason)

    async with trio.open_nursery() as nursery:
        for more_sats in (0, 1, 0):
            nursery.start_soon(judge, declared(node, more_sats=more_sats))
    assert sorted(verdicts) == ["", "", "bad-cb-amount"]


async def test_service_judges_again_after_a_block_that_was_refused(node):
    service = ChainService(node, payments_per_minute=0, template_interval_s=1)
    raw, bad = declared(node), declared(node, more_sats=7)
    async with trio.open_nursery() as nursery:

        async def interrupt():
            await trio.lowlevel.checkpoint()
            node.submit_block(bad)

        nursery.start_soon(interrupt)
        assert (await service.judge(raw)).status is Status.ACCEPTED


async def test_verdict_that_takes_too_long_is_given_up(node, monkeypatch, autojump_clock):
    monkeypatch.setattr(judgement_module, "_judge", lambda *_: signal.pause())
    service = ChainService(node, payments_per_minute=0, template_interval_s=1)
    began, born_before = trio.current_time(), children()
    with pytest.raises(NodeError, match="no verdict within 20 s"):
        await service.judge(declared(node))
    assert trio.current_time() - began == service_module.JUDGE_SECONDS_MAX
    assert children() <= born_before


def test_bytes_behind_a_block_are_refused_and_never_logged(node):
    """The engine passes over them, and the log would then not be read again."""
    raw = declared(node)
    assert verdict_on(node, raw + b"\x00").reason == "block-decode-failed"
    answer = node.submit_block(solved(node, raw) + b"\x00")
    assert (answer.status, answer.reason) == (Status.REJECTED, "block-decode-failed")
    assert node.submit_block(solved(node, raw)).active


def solved(node, raw):
    """The block with proof of work."""
    header = Header.from_bytes(raw[:80])
    while int.from_bytes(header.hash, "little") > node.target:
        header = replace(header, nonce=header.nonce + 1)
    return header.to_bytes() + raw[80:]
