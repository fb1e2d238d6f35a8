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


class StrayNet(Net):
    """Has one member that strays."""

    def __init__(self, directory):
        super().__init__(directory)
        self.strays = Strays()

    def member(self, me, *arguments, **options):
        if me == LAST:
            options["function"] = self.strays
        return super().member(me, *arguments, **options)


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
            await net.settled(net.chain.tip, [LAST])
            await wait_until(
                lambda: {net.nodes[me].certified for me in range(LAST)} == {STRAYS_AT + 1}
            )
        finally:
            net.strays.may_count.set()
        await wait_until(lambda: last.status()["halted"] and last.applied > STRAYS_AT)
        assert last.certified == STRAYS_AT
        await wait_until(lambda: last.status()["waiting_records"] == 0)
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
            net.strays.may_count.set()
        for me in range(4):
            await net.stop(me)
        net.close()
