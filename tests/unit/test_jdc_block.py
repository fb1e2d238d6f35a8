"""Blocks of own templates: on disk before anything else, to the node until it has an opinion."""

import threading

import pytest
import trio
from jdc_rig.source import ScriptedSource

from radpool_sv2 import durable
from radpool_sv2.errors import LocalProtocolError, NodeError
from radpool_sv2.jdc.block import KEPT_MAX, BlockDesk
from radpool_sv2.pool.block import shown
from radpool_sv2.templates.source import Solution, SubmitResult, SubmitStatus

HASH = bytes(range(32))


@pytest.fixture
def source():
    return ScriptedSource()


async def settle(condition):
    with trio.fail_after(60):
        while not condition():
            await trio.sleep(0.01)


def files(directory, which):
    return sorted(each.stem for each in (directory / which).glob("*.block"))


async def run(desk, nursery):
    await nursery.start(desk.run)


async def test_block_goes_to_disk_and_to_the_node(source, tmp_path, nursery):
    notes = []
    desk = BlockDesk(source, tmp_path, notes.append)
    await run(desk, nursery)
    desk.found(HASH, b"block")
    await settle(lambda: files(tmp_path, "submitted") == [shown(HASH)])
    assert source.blocks == [b"block"]
    assert (desk.found_count, desk.accepted_count) == (1, 1)
    assert "is on the node's chain" in notes[0]
    assert (tmp_path / "submitted" / f"{shown(HASH)}.block").read_bytes() == b"block"


async def test_block_waits_for_a_node_that_is_away(source, tmp_path, nursery):
    source.submit_errors = [NodeError("away")]
    desk = BlockDesk(source, tmp_path, lambda _: None)
    await run(desk, nursery)
    desk.found(HASH, b"block")
    await settle(lambda: files(tmp_path, "found") == [shown(HASH)])
    await settle(lambda: source.blocks == [b"block"])


async def test_block_of_an_earlier_run_goes_to_the_node_again(source, tmp_path, nursery):
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "ab.block").write_bytes(b"old")
    await run(BlockDesk(source, tmp_path, lambda _: None), nursery)
    await settle(lambda: files(tmp_path, "submitted") == ["ab"])
    assert source.blocks == [b"old"]


async def test_rejected_block_is_told_and_put_away(source, tmp_path, nursery):
    source.result = SubmitResult(SubmitStatus.REJECTED, "bad-cb-amount")
    notes = []
    desk = BlockDesk(source, tmp_path, notes.append)
    await run(desk, nursery)
    desk.found(HASH, b"block")
    await settle(lambda: files(tmp_path, "submitted"))
    assert "rejected block" in notes[0] and "bad-cb-amount" in notes[0]
    assert desk.accepted_count == 0


async def test_node_that_cannot_take_it_is_told(source, tmp_path, nursery):
    source.submit_errors = [LocalProtocolError("no block")]
    notes = []
    desk = BlockDesk(source, tmp_path, notes.append)
    await run(desk, nursery)
    desk.found(HASH, b"block")
    await settle(lambda: notes)
    assert "was not taken: no block" in notes[0]


async def test_full_disk_keeps_no_block_from_the_node(source, tmp_path, nursery):
    desk = BlockDesk(source, tmp_path, lambda _: None)
    await run(desk, nursery)
    (tmp_path / "found").rmdir()
    desk.found(HASH, b"block")
    await settle(lambda: source.blocks == [b"block"])


async def test_disk_that_hangs_keeps_no_block_from_the_node(source, tmp_path, nursery, monkeypatch):
    answers = threading.Event()
    monkeypatch.setattr(durable.os, "fsync", lambda _: answers.wait())
    desk = BlockDesk(source, tmp_path, lambda _: None)
    await run(desk, nursery)
    desk.found(HASH, b"block")
    try:
        await settle(lambda: source.blocks == [b"block"])
    finally:
        answers.set()


async def test_block_that_cannot_be_put_away_ends_nothing(source, tmp_path, nursery):
    desk = BlockDesk(source, tmp_path, lambda _: None)
    await run(desk, nursery)
    (tmp_path / "submitted").rmdir()
    (tmp_path / "submitted").write_bytes(b"in the way")
    desk.found(HASH, b"block")
    await settle(lambda: source.blocks == [b"block"])
    desk.found(b"\x01" * 32, b"another")
    await settle(lambda: source.blocks == [b"block", b"another"])


async def test_the_last_few_are_kept(source, tmp_path, nursery):
    desk = BlockDesk(source, tmp_path, lambda _: None)
    await run(desk, nursery)
    for number in range(KEPT_MAX + 3):
        desk.found(bytes([number]) * 32, b"block")
        await settle(lambda: len(source.blocks) > number)  # noqa: B023 - awaited here
    # The last one is put away a moment before the oldest goes.
    await settle(
        lambda: not files(tmp_path, "found") and len(files(tmp_path, "submitted")) <= KEPT_MAX
    )


SOLUTION = Solution(template_id=7, version=1, ntime=2, nonce=3, coinbase_tx=b"coinbase", hash=HASH)


async def test_provider_that_takes_no_blocks_gets_the_solution(source, tmp_path, nursery):
    source.submit_errors = [NodeError("a template provider alone")]
    desk = BlockDesk(source, tmp_path, lambda _: None)
    await run(desk, nursery)
    desk.found(HASH, b"block", SOLUTION)
    await settle(lambda: files(tmp_path, "submitted"))
    assert source.solutions == [SOLUTION]
    assert not source.blocks and not list((tmp_path / "found").iterdir())


async def test_solution_outlives_a_restart(source, tmp_path, nursery):
    source.submit_errors = [NodeError("away")] * 2
    source.forgets = True
    first = BlockDesk(source, tmp_path, lambda _: None)
    async with trio.open_nursery() as running:
        await running.start(first.run)
        first.found(HASH, b"block", SOLUTION)
        await settle(lambda: files(tmp_path, "found"))
        running.cancel_scope.cancel()
    source.forgets = False
    source.submit_errors = [NodeError("a template provider alone")]
    await run(BlockDesk(source, tmp_path, lambda _: None), nursery)
    await settle(lambda: source.solutions == [SOLUTION])


async def test_spoilt_solution_costs_only_the_second_way(source, tmp_path, nursery):
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "ab.block").write_bytes(b"old")
    (tmp_path / "found" / "ab.json").write_bytes(b"{}")
    await run(BlockDesk(source, tmp_path, lambda _: None), nursery)
    await settle(lambda: source.blocks == [b"old"])
