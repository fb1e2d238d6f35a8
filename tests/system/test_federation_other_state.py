"""A member whose state is not the one that a quorum certified: what it still acts by."""

import threading
from contextlib import closing

import pytest
import trio
from federation_net import Net, wait_until

from radpool_sv2.federation.state.digest import DigestState

STRAYS_AT = 2
LAST = 3


class Strays(DigestState):
    """Counts an epoch in another way, as a damaged or an older program would."""

    def __init__(self):
        self.may_count = threading.Event()

    def apply(self, state, epoch, segments):
        counted = super().apply(state, epoch, segments)
        if epoch < STRAYS_AT:
            return counted
        self.may_count.wait()
        return b"another " + counted


class Late(DigestState):
    """Counts as all do, some epochs before it strays later than others."""

    def __init__(self):
        self.may_count = threading.Event()
        self.may_count.set()

    def apply(self, state, epoch, segments):
        if epoch >= STRAYS_AT - 1:
            self.may_count.wait()
        return super().apply(state, epoch, segments)


class StrayNet(Net):
    """Has one member that strays."""

    def __init__(self, directory):
        super().__init__(directory)
        self.strays, self.late = Strays(), Late()

    def member(self, me, *arguments, **options):
        options["function"] = self.strays if me == LAST else self.late
        return super().member(me, *arguments, **options)

    def let_go(self):
        self.strays.may_count.set()
        self.late.may_count.set()


@pytest.mark.parametrize("first", ["own", "certified"])
async def test_a_state_that_nobody_certified_is_not_acted_by(tmp_path, first):
    async with trio.open_nursery() as nursery:
        net = StrayNet(tmp_path)
        if first == "own":
            net.strays.may_count.set()
        await net.open(nursery)
        for me in range(4):
            await net.start(me)
        last = net.nodes[LAST]
        try:
            for _ in range(STRAYS_AT + 1):
                net.chain.tip += 1
                await net.settled(net.chain.tip, range(LAST))
            if first == "certified":
                await net.settled(STRAYS_AT + 1, [LAST])
            await wait_until(
                lambda: {net.nodes[me].certified for me in range(LAST)} == {STRAYS_AT + 1}
            )
        finally:
            net.let_go()
        await wait_until(lambda: last.status()["halted"] and last.applied > STRAYS_AT)
        counted = STRAYS_AT + 1 if first == "certified" else STRAYS_AT
        assert last.status()["epochs"]["certified"] == counted
        await check_acted_by(net)


async def test_certificates_that_come_together_after_a_start(tmp_path):
    """One is of the last state that is the same, and the next of the one that is not."""
    async with trio.open_nursery() as nursery:
        net = StrayNet(tmp_path)
        await net.open(nursery)
        net.let_go()
        for me in range(4):
            await net.start(me)
        try:
            net.chain.tip += 1
            await net.settled(STRAYS_AT - 1)
            net.late.may_count.clear()
            net.chain.tip += 2
            last = net.nodes[LAST]
            await wait_until(lambda: last.applied == STRAYS_AT + 1)
            assert last.certified == STRAYS_AT - 1
            await wait_until(lambda: last.status()["waiting_records"] == 0)
            await net.stop(LAST)
        finally:
            net.let_go()
        await net.settled(STRAYS_AT + 1, range(LAST))
        await net.start(LAST)
        await wait_until(lambda: net.nodes[LAST].status()["halted"])
        await check_acted_by(net)


async def check_acted_by(net):
    """The member that has halted acts by the last state that was the same, for ever."""
    last = net.nodes[LAST]
    await wait_until(lambda: last.status()["waiting_records"] == 0)
    assert last.certified == STRAYS_AT
    await net.stop(LAST)
    with closing(net.store(0)) as right, closing(net.store(LAST)) as strayed:
        at = STRAYS_AT - 1
        assert strayed.state(at) is not None
        assert right.state(at) in {strayed.state(at), None}
        assert right.state(STRAYS_AT) != strayed.state(STRAYS_AT)
    # It knows no more after a start.
    net.strays.may_count.clear()
    try:
        await net.start(LAST)
        assert net.nodes[LAST].certified == STRAYS_AT
    finally:
        net.let_go()
    for me in range(4):
        await net.stop(me)
    net.close()
