"""The desk that moves the mint: when it does, whom it tells, what it survives."""

from dataclasses import dataclass, field

import pytest
import trio

from radpool_sv2.ecash.desk import MintDesk
from radpool_sv2.ecash.keyset import ChainTip
from radpool_sv2.errors import StoreError

TIP = ChainTip(100, bytes(32))


@dataclass
class Chain:
    tip: ChainTip | None = TIP
    block_target: bytes | None = b"\xff" * 32


@dataclass
class Mint:
    answers: list = field(default_factory=list)
    calls: list = field(default_factory=list)
    started: bool = False

    async def start(self):
        self.started = True

    async def advance(self):
        assert self.started
        self.calls.append(trio.current_time())
        answer = self.answers.pop(0) if self.answers else []
        if isinstance(answer, Exception):
            raise answer
        return answer


async def begin(nursery, mint, chain=None):
    desk = MintDesk(mint, chain or Chain())
    stop = trio.Event()
    await nursery.start(desk.run, stop)
    return desk, stop


async def test_it_moves_each_second(nursery, autojump_clock):
    mint = Mint()
    await begin(nursery, mint)
    await trio.sleep(3.5)
    assert [at - mint.calls[0] for at in mint.calls] == pytest.approx([0, 1, 2, 3])


async def test_it_moves_at_once_when_woken_and_once_for_many(nursery, autojump_clock):
    mint = Mint()
    desk, _stop = await begin(nursery, mint)
    await trio.sleep(0.2)
    for _ in range(5):
        desk.wake()
    await trio.sleep(0.1)
    assert len(mint.calls) == 2
    await trio.sleep(1)
    assert len(mint.calls) == 3


async def test_what_happens_while_it_moves_makes_one_more_move(nursery, autojump_clock):
    mint = Mint([["change"]])
    desk = MintDesk(mint, Chain())
    seen = []

    async def listener(changes):
        seen.append(changes)
        desk.wake()
        await trio.sleep(0.1)

    desk.follow(listener)
    await nursery.start(desk.run, trio.Event())
    await trio.sleep(0.5)
    assert len(mint.calls) == 2
    assert seen == [["change"]]


async def test_it_waits_for_the_chain(nursery, autojump_clock):
    mint, chain = Mint(), Chain(tip=None)
    desk = MintDesk(mint, chain)
    with trio.move_on_after(5):
        await nursery.start(desk.run, trio.Event())
    assert not mint.started


async def test_it_begins_when_the_chain_is_known(nursery, autojump_clock):
    mint, chain = Mint(), Chain(tip=None)
    desk = MintDesk(mint, chain)

    async def tell():
        await trio.sleep(0.3)
        chain.tip = ChainTip(1, bytes(32))
        desk.wake()

    nursery.start_soon(tell)
    start = trio.current_time()
    await nursery.start(desk.run, trio.Event())
    assert trio.current_time() - start < 1
    assert mint.started


async def test_a_store_that_cannot_write_is_a_problem_until_it_can(nursery, autojump_clock):
    mint = Mint([[], StoreError("the disk is full"), ["change"]])
    desk = MintDesk(mint, Chain())
    seen = []

    async def listener(changes):
        seen.append(changes)

    desk.follow(listener)
    await nursery.start(desk.run, trio.Event())
    await trio.sleep(1.5)
    assert desk.problem == "the mint cannot move on: the disk is full"
    assert seen == []
    await trio.sleep(1)
    assert desk.problem == ""
    assert seen == [["change"]]


async def test_who_has_left_is_not_told(nursery, autojump_clock):
    mint = Mint([["first"], ["second"]])
    desk = MintDesk(mint, Chain())
    seen = []

    async def listener(changes):
        seen.append(changes)

    desk.follow(listener)
    await nursery.start(desk.run, trio.Event())
    await trio.sleep(0.5)
    desk.leave(listener)
    await trio.sleep(2)
    assert seen == [["first"]]


async def test_it_leaves_when_told(autojump_clock):
    mint = Mint()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            _desk, stop = await begin(nursery, mint)
            stop.set()
