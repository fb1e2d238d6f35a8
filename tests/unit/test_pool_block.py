"""The block desk: records before it submits, replays after a crash, settles as the chain says."""

import json
from types import SimpleNamespace

import pytest
import structlog
import trio
import trio.testing

from radpool_sv2.chain.transaction import Transaction, TxInput, TxOutput
from radpool_sv2.consensus import push_height
from radpool_sv2.errors import LocalProtocolError, NodeError, StoreError
from radpool_sv2.pool import block as module
from radpool_sv2.pool.block import (
    SETTLE_SECONDS,
    SUBMITTERS,
    BlockDesk,
    coinbase_height,
    read_solutions,
    shown,
)
from radpool_sv2.pool.declared_block import DeclaredBlocks
from radpool_sv2.templates.source import SubmitResult, SubmitStatus


@pytest.fixture(autouse=True)
def said():
    with structlog.testing.capture_logs() as lines:
        yield lines


def coinbase(height=102, values=(50, 0, 0)):
    script = push_height(height) + b"\x04pool"
    outputs = tuple(TxOutput(value, b"\x51") for value in values)
    return Transaction(
        2, (TxInput((bytes(32), 0xFFFFFFFF), script, 0xFFFFFFFF, (bytes(32),)),), outputs, 0
    )


def found(number=1, account=7, transaction=None):
    return SimpleNamespace(
        template_id=3,
        version=0x20000000,
        ntime=5,
        nonce=number,
        coinbase_tx=(transaction or coinbase()).to_bytes(),
        hash=bytes([number]) * 32,
        account=account,
    )


def line(event):
    return json.dumps(
        {
            "template_id": event.template_id,
            "version": event.version,
            "ntime": event.ntime,
            "nonce": event.nonce,
            "coinbase_tx": event.coinbase_tx.hex(),
            "hash": event.hash.hex(),
            "account": event.account,
        }
    )


class Ledger:
    def __init__(self, story):
        self.story = story
        self.known = {}
        self.failures = 0
        self.reconciled = []
        self.script = b"\x51"

    async def scripts(self):
        return []

    async def has_block(self, block_hash):
        return block_hash in self.known

    async def record_block(self, *, hash, height, value_sats, finder):
        if self.failures:
            self.failures -= 1
            raise StoreError("no space left")
        self.story.append(f"recorded {hash[0]}")
        self.known[hash] = (height, value_sats, finder)

    async def unsettled_blocks(self):
        return list(self.known)

    async def reconcile(self, active):
        self.reconciled.append(dict(active))


class Source:
    def __init__(self, story):
        self.story = story
        self.result = SubmitResult(SubmitStatus.ACCEPTED, active=True)
        self.error = None
        self.depths = {}

    async def submit_solution(self, solution):
        self.story.append(f"submitted {solution.hash[0]}")
        if self.error is not None:
            raise self.error
        return self.result

    async def active_blocks(self, hashes):
        return {each: self.depths.get(each) for each in hashes}


@pytest.fixture
def desk(tmp_path):
    story = []
    told = []
    desk = BlockDesk(
        Ledger(story),
        Source(story),
        tmp_path / "blocks.jsonl",
        DeclaredBlocks(tmp_path / "declared-blocks"),
        lambda: told.append(len(story)),
    )
    return SimpleNamespace(
        desk=desk,
        told=told,
        story=story,
        ledger=desk._ledger,
        source=desk._source,
        log=desk._solution_log,
    )


async def run(desk):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.desk.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_recorded_with_height_value_and_finder_then_submitted(desk, autojump_clock):
    desk.desk.found(found())
    await run(desk)
    assert desk.story == ["recorded 1", "submitted 1"]
    # The look at the chain at the start comes before the record or behind it.
    assert desk.told in ([0, 1], [1, 1])
    assert desk.ledger.known[b"\1" * 32] == (102, 50, 7)


async def test_what_the_log_has_and_the_ledger_has_not_takes_the_same_way(desk):
    desk.ledger.known[b"\1" * 32] = ()
    desk.source.depths[b"\1" * 32] = 3
    desk.log.write_text(f"{line(found(1))}\n{line(found(2))}\n{line(found(3))[:-9]}")
    await run(desk)
    assert desk.story == ["recorded 2", "submitted 2"]


async def test_what_was_recorded_and_is_not_on_the_chain_is_submitted_again(desk):
    """The node was away when it was found, and then the pool was killed."""
    for number in (1, 2, 3):
        desk.ledger.known[bytes([number]) * 32] = ()
    desk.source.depths = {b"\1" * 32: 2, b"\3" * 32: 1}
    desk.log.write_text("".join(f"{line(found(number))}\n" for number in (1, 2, 3)))
    await run(desk)
    assert desk.story == ["submitted 2"]


async def test_what_is_in_a_hurry_is_submitted_first_and_once(desk):
    desk.ledger.failures = 1
    desk.desk.hurry(found(1))
    await run(desk)
    assert desk.story == ["submitted 1"]
    desk.desk.found(found(1))
    desk.desk.found(found(2))
    await run(desk)
    # The ledger failed once and had no time to be asked again for the first.
    assert "submitted 1" not in desk.story[1:]


async def test_a_node_that_is_away_gathers_no_tasks(desk, monkeypatch, said):
    monkeypatch.setattr(module, "BLOCKS_WAITING_MAX", 3)
    waiting = []

    async def submit(solution):
        waiting.append(solution.nonce)
        await trio.sleep_forever()

    desk.source.submit_solution = submit
    again = BlockDesk(desk.ledger, desk.source, desk.log, desk.desk._declared, desk.desk._changed)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(again.run)
        for number in range(1, SUBMITTERS + 6):
            again.hurry(found(number))
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert waiting == list(range(1, SUBMITTERS + 1))
    full = [each for each in said if "too many blocks wait for the node" in each["event"]]
    assert len(full) == 2


def test_of_a_long_log_the_end_is_read(desk, monkeypatch):
    text = "".join(f"{line(found(number))}\n" for number in range(1, 9))
    desk.log.write_text(text)
    monkeypatch.setattr(module, "LOG_BYTES_MAX", len(text) // 2)
    read = [solution.nonce for solution, _ in read_solutions(desk.log)]
    assert read in ([5, 6, 7, 8], [6, 7, 8])


async def test_a_full_disk_delays_and_loses_nothing(desk, autojump_clock):
    desk.ledger.failures = 3
    desk.desk.found(found(1))
    desk.desk.found(found(2))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.desk.run)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert [each for each in desk.story if each.startswith("recorded")] == [
        "recorded 1",
        "recorded 2",
    ]


@pytest.mark.parametrize(
    "result",
    [
        SubmitResult(SubmitStatus.REJECTED, "bad-cb-amount"),
        SubmitResult(SubmitStatus.DUPLICATE, active=True),
    ],
)
async def test_whatever_the_node_says_the_desk_goes_on(desk, result):
    desk.source.result = result
    desk.desk.found(found(1))
    desk.desk.found(found(2))
    await run(desk)
    assert len(desk.story) == 4


async def test_a_template_that_the_node_forgot(desk, said):
    desk.source.error = LocalProtocolError("unknown template")
    desk.desk.found(found())
    await run(desk)
    assert any(each["event"] == "a block was refused" for each in said)


async def test_a_node_that_cannot_be_asked(desk, said):
    desk.source.error = NodeError("there is no node", "tdp")
    desk.desk.found(found())
    await run(desk)
    assert any("could not be given to a node" in each["event"] for each in said)


async def test_a_new_tip_makes_the_ledger_look(desk, autojump_clock):
    desk.ledger.known[b"\1" * 32] = ()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.desk.run)
        await trio.testing.wait_all_tasks_blocked()
        assert desk.ledger.reconciled == [{b"\1" * 32: None}]
        desk.source.depths[b"\1" * 32] = 1
        # However many tips there are, the next look is one, and not at once.
        for _ in range(3):
            desk.desk.tip_changed()
        await trio.sleep(SETTLE_SECONDS + 0.1)
        assert desk.ledger.reconciled[-1] == {b"\1" * 32: 1}
        assert len(desk.told) == 2
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("height", [1, 16, 17, 127, 128, 255, 256, 32767, 32768, 840_000])
def test_heights(height):
    assert coinbase_height(coinbase(height)) == height


def test_an_empty_log_and_none(tmp_path):
    assert list(read_solutions(tmp_path / "none")) == []
    (tmp_path / "empty").write_text("")
    assert list(read_solutions(tmp_path / "empty")) == []


def test_hashes_are_shown_as_people_write_them():
    assert shown(b"\x01" + bytes(31)) == "00" * 31 + "01"
