"""Whole blocks of miners' templates: on disk before anything else, out once, recorded once."""

import errno
import os
from types import SimpleNamespace

import pytest
import trio
import trio.testing
from declarator_rig.part import named, owner, parts, tip

from radpool_sv2 import durable
from radpool_sv2.errors import LocalProtocolError, NodeError, StoreError
from radpool_sv2.pool import declared_block
from radpool_sv2.pool.declared_block import DeclaredBlocks
from radpool_sv2.pool.outlet import BlockOutlet
from radpool_sv2.templates.declared import DECLARED_ID_MIN, HiddenJob
from radpool_sv2.templates.source import SubmitResult, SubmitStatus
from radpool_sv2.units import sha256d

COINBASE = parts().transaction(bytes(12), witness=True)


def header(nonce=0):
    numbers = (1_700_000_000, 0x207FFFFF, nonce)
    return (
        (0x20000000).to_bytes(4, "little")
        + tip().prev_hash
        + named("root")
        + b"".join(each.to_bytes(4, "little") for each in numbers)
    )


def block(nonce=0, padding=0):
    return header(nonce) + b"\x01" + COINBASE + bytes(padding)


@pytest.fixture
def blocks(tmp_path):
    return DeclaredBlocks(tmp_path / "declared-blocks")


async def test_block_is_saved_and_found_again(blocks, tmp_path):
    """spec: JD-31"""
    found = await blocks.save(block(), 7)
    assert found == sha256d(header())
    fresh = DeclaredBlocks(tmp_path / "declared-blocks")
    assert await fresh.load(found) == block()
    [(solution, account)] = fresh.solutions()
    assert account == 7
    assert (solution.hash, solution.coinbase_tx) == (found, COINBASE)
    assert solution.template_id >= DECLARED_ID_MIN
    assert await fresh.load(named("another")) is None


async def test_block_saved_again_changes_nothing(blocks):
    for _ in range(3):
        await blocks.save(block(), 7)
    assert len(list(blocks.solutions())) == 1


async def test_block_that_comes_twice_at_once_is_whole(blocks, monkeypatch):
    """A share and a push of the same block; the second must not write into the file of the first.

    spec: JD-31
    """
    whole, sync = [], durable.os.fsync

    def look(descriptor):
        sync(descriptor)
        whole.extend(file.read_bytes() for file in blocks._directory.glob("*.block"))

    monkeypatch.setattr(durable.os, "fsync", look)
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(blocks.save, block(padding=1 << 20), 7)
    assert set(whole) == {b"7\n" + block(padding=1 << 20)}
    assert list(blocks._directory.glob("*.draft")) == []
    assert len(list(blocks.solutions())) == 1


async def test_block_that_the_disk_refuses_is_there_while_the_process_lives(blocks, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable.os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        await blocks.save(block(), 7)
    assert await blocks.load(sha256d(header())) == block()
    assert list(blocks.solutions()) == []


async def test_blocks_that_the_disk_refuses_are_bounded(blocks, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable.os, "fsync", full)
    for nonce in range(declared_block.BLOCKS_UNSAVED_MAX + 3):
        with pytest.raises(StoreError):
            await blocks.save(block(nonce), 7)
    assert await blocks.load(sha256d(header(0))) is None
    assert await blocks.load(sha256d(header(5))) == block(5)


async def test_old_blocks_make_room(blocks, monkeypatch):
    monkeypatch.setattr(declared_block, "BLOCKS_KEPT_MAX", 3)
    for nonce in range(5):
        found = await blocks.save(block(nonce), nonce)
        # The file system's clock may not tell files apart that are written at once.
        os.utime(blocks._path(found), ns=(nonce, nonce))
    assert [account for _, account in blocks.solutions()] == [2, 3, 4]


async def test_file_that_was_cut_off_is_passed_over(blocks, tmp_path):
    await blocks.save(block(1), 1)
    (tmp_path / "declared-blocks" / "broken.block").write_bytes(b"1\n" + block(2)[:90])
    (tmp_path / "declared-blocks" / "empty.block").write_bytes(b"")
    (tmp_path / "declared-blocks" / "rest.draft").write_bytes(b"1\n" + block(3))
    assert [account for _, account in blocks.solutions()] == [1]


# --- the way out


class Ledger:
    def __init__(self):
        self.known, self.voided, self.failures = set(), [], 0

    async def has_block(self, block_hash):
        return block_hash in self.known

    async def void(self, digest, reason):
        if self.failures:
            self.failures -= 1
            raise StoreError("no space left")
        if not self.known:
            raise LocalProtocolError("no share on it")
        self.voided.append((digest, reason))


class Source:
    def __init__(self):
        self.submitted = []
        self.result = SubmitResult(SubmitStatus.ACCEPTED, active=True)

    async def submit_block(self, raw):
        self.submitted.append(raw)
        return self.result


@pytest.fixture
def scene(blocks):
    recorded = []
    ledger, source = Ledger(), Source()
    outlet = BlockOutlet(source, ledger, blocks, lambda *given: recorded.append(given))
    return SimpleNamespace(
        outlet=outlet, ledger=ledger, source=source, recorded=recorded, blocks=blocks
    )


async def test_pushed_block_without_a_share_is_recorded_after_a_while(scene, autojump_clock):
    """spec: JD-31"""
    # The clock of the test would leap while the disk is written to, if anybody slept already.
    await scene.outlet.pushed(owner("alice"), header(), COINBASE, block())
    assert scene.source.submitted == [block()]
    assert await scene.blocks.load(sha256d(header())) == block()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.outlet.run)
        await trio.sleep(4.9)
        assert scene.recorded == []
        await trio.sleep(0.2)
        [(solution, account)] = scene.recorded
        assert (solution.hash, account) == (sha256d(header()), owner("alice").account)
        nursery.cancel_scope.cancel()


async def test_pushed_block_whose_share_came_is_recorded_once(scene, autojump_clock):
    """spec: JD-31"""
    await scene.outlet.pushed(owner("alice"), header(), COINBASE, block())
    scene.ledger.known.add(sha256d(header()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.outlet.run)
        await trio.sleep(5.1)
        assert scene.recorded == []
        nursery.cancel_scope.cancel()


async def test_pushed_block_that_the_node_rejects_is_not_recorded(scene, autojump_clock):
    scene.source.result = SubmitResult(SubmitStatus.REJECTED, "bad-txnmrklroot")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.outlet.run)
        await scene.outlet.pushed(owner("alice"), header(), COINBASE, block())
        await trio.sleep(10)
        assert scene.recorded == []
        nursery.cancel_scope.cancel()


async def test_pool_outlives_a_source_without_a_node(scene):
    """A template provider with no node beside it takes no whole blocks; the block stays on disk."""

    async def nobody(raw):
        raise NodeError("there is no node")

    scene.source.submit_block = nobody
    await scene.outlet.pushed(owner("alice"), header(), COINBASE, block())
    assert await scene.blocks.load(sha256d(header())) == block()
    assert scene.recorded == []


async def test_full_disk_keeps_no_block_from_the_node(scene, monkeypatch):
    """spec: JD-31"""

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable.os, "fsync", full)
    await scene.outlet.pushed(owner("alice"), header(), COINBASE, block())
    assert scene.source.submitted == [block()]


async def test_found_block_goes_out_whole(scene):
    """spec: JD-31"""
    custom = SimpleNamespace(
        block_of=lambda number, head, coinbase: block() if number == 9 else None
    )
    event = SimpleNamespace(
        template_id=9, header=header(), coinbase_tx=COINBASE, hash=sha256d(header()), account=3
    )
    await scene.outlet.found(custom, event)
    assert scene.source.submitted == [block()]
    assert [account for _, account in scene.blocks.solutions()] == [3]
    event.template_id = 10
    await scene.outlet.found(custom, event)
    assert len(scene.source.submitted) == 1, "the transactions are known to the miner alone"


def hidden():
    return HiddenJob(
        owner=owner("alice"),
        token=named("token"),
        template_id=DECLARED_ID_MIN,
        tip=tip(),
        version=4,
        coinbase=parts(),
        merkle_path=(),
    )


async def test_job_is_written_off_when_the_disk_can(scene, autojump_clock):
    """spec: JD-28"""
    scene.ledger.known.add(b"a share")
    scene.ledger.failures = 2
    await scene.outlet.void(hidden(), "not revealed")
    [(digest, reason)] = scene.ledger.voided
    assert len(digest) == 32
    assert reason == "not revealed"


async def test_job_that_nobody_mined_needs_no_writing_off(scene):
    """spec: JD-28"""
    await scene.outlet.void(hidden(), "not revealed")
    assert scene.ledger.voided == []
