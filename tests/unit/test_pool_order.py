"""What a new tip makes the pool do, and in which order: miners get their jobs first."""

from types import SimpleNamespace

import trio
from declarator_rig.part import tip

from radpool_sv2.pool.role import Pool
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
    pool._engine = SimpleNamespace()
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
