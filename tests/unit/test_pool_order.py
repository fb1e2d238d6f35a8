"""What a new tip makes the pool do, and in which order: miners get their jobs first."""

from types import SimpleNamespace

import trio
import trio.testing
from declarator_rig.part import tip

from radpool_sv2.pool.role import Pool
from radpool_sv2.pool.work import Payee
from radpool_sv2.templates.board import TipBoard


def update(number, height):
    return SimpleNamespace(
        template=SimpleNamespace(id=number, height=height, fees_sats=0), tip=tip(height)
    )


async def test_jobs_of_a_new_tip_go_out_before_anything_is_let_go():
    """To let go of a crowd's templates takes time, in which every miner would wait."""
    done = []
    pool = object.__new__(Pool)
    pool.work, pool.board, pool._first_work = None, TipBoard(), trio.Event()
    pool._reference = SimpleNamespace(offered=lambda *_: done.append("reference"))
    pool._engine, pool._payee_next, pool.offered = SimpleNamespace(), None, set()
    pool._publish = lambda _, *, activate: done.append(("published", pool.board.now.height))
    pool.custom = SimpleNamespace(tip_changed=lambda: done.append("let go"))
    send, receive = trio.open_memory_channel(4)
    async with send:
        for each in (update(1, 100), update(2, 100), update(3, 101)):
            await send.send(each)
    await pool.follow_work(receive)
    assert done == [
        "reference", ("published", 100), "let go",
        "reference", ("published", 100),
        "reference", ("published", 101), "let go",
    ]  # fmt: skip


async def test_blocks_are_shared_from_the_next_tip_on():
    """So no batch has shares on templates for the pool alone beside those for others."""
    alone, shared = Payee.one(b"\x51"), Payee.one(b"\x52", is_shared=True)
    done = []
    pool = object.__new__(Pool)
    pool.work, pool.board, pool._first_work = None, TipBoard(), trio.Event()
    pool._reference = SimpleNamespace(offered=lambda *_: None)
    pool._engine, pool._payee_next, pool.offered = SimpleNamespace(), None, set()
    pool.payee, pool.custom, pool.sharing, pool._work_epoch = alone, None, trio.Event(), 7
    pool.weighing = SimpleNamespace(script=alone.script, pay=lambda script: done.append(script))
    pool._publish = lambda _, *, activate: done.append((pool.payee, activate, pool._work_epoch))
    send, receive = trio.open_memory_channel(4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.follow_work, receive)
        await send.send(update(1, 100))
        await trio.testing.wait_all_tasks_blocked()
        pool.pay(shared)
        await send.send(update(2, 100))
        await send.send(update(3, 101))
        await trio.testing.wait_all_tasks_blocked()
        assert done == [
            (alone, False, 7), (alone, False, 7), shared.script, (shared, False, -1),
        ]  # fmt: skip
        assert pool.sharing.is_set()
        # One shared payee follows another at once.
        other = Payee.one(b"\x53", is_shared=True)
        pool.pay(other)
        assert done[-2:] == [other.script, (other, False, -1)]
        await send.aclose()
