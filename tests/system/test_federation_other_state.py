"""A member whose state is not the one that a quorum certified: what it still acts by."""

import threading
from contextlib import closing

import pytest
import trio
from federation_net import Net, wait_until

from radpool_sv2.federation.state.digest import DigestState
from radpool_sv2.federation.store import FederationStore

STRAYS_AT = 2
LAST = 3


class Strays(DigestState):
    """Counts an epoch in another way, as a damaged or an older program would."""

    def __init__(self):
        self.may_count = threading.Event()
        self.is_mended = False

    def apply(self, state, epoch, segments):
        counted = super().apply(state, epoch, segments)
        if epoch < STRAYS_AT or self.is_mended:
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

    def reader(self, me):
        """Opens a member's store beside the member."""
        return FederationStore(self.directory / f"{me}.sqlite", self.committee, None)

    def let_go(self):
        self.strays.may_count.set()
        self.late.may_count.set()


async def halt(net, nursery, first):
    """Lets the member halt that strays: before or after the others have certified the epoch."""
    await net.begin(nursery)
    last = net.nodes[LAST]
    try:
        for _ in range(STRAYS_AT):
            net.chain.tip += 1
            await net.settled(net.chain.tip)
        held, counts = (net.late, net.strays) if first == "own" else (net.strays, net.late)
        held.may_count.clear()
        counts.may_count.set()
        net.chain.tip += 1
        if first == "own":
            await wait_until(lambda: last.applied > STRAYS_AT)
        else:
            await net.settled(net.chain.tip)
        assert not last.status()["halted"]
    finally:
        net.let_go()
    await wait_until(lambda: last.status()["halted"] and last.applied > STRAYS_AT)
    await wait_until(lambda: {net.nodes[me].certified for me in range(LAST)} == {net.chain.tip})
    counted = STRAYS_AT if first == "own" else STRAYS_AT + 1
    assert last.status()["epochs"]["certified"] == counted


@pytest.mark.parametrize("first", ["own", "certified"])
async def test_a_state_that_nobody_certified_is_not_acted_by(tmp_path, first):
    async with trio.open_nursery() as nursery:
        net = StrayNet(tmp_path)
        await halt(net, nursery, first)
        await check_acted_by(net)


async def test_a_mended_program_counts_again_what_it_has_not_signed(tmp_path):
    async with trio.open_nursery() as nursery:
        net = StrayNet(tmp_path)
        await halt(net, nursery, "certified")
        await net.stop(LAST)
        net.strays.is_mended = True
        await net.start(LAST)
        await check_goes_on(net)


async def test_a_mended_program_needs_a_snapshot_behind_what_it_has_signed(tmp_path):
    async with trio.open_nursery() as nursery:
        net = StrayNet(tmp_path)
        await halt(net, nursery, "own")
        await wait_until(lambda: net.nodes[LAST].status()["waiting_records"] == 0)
        await net.stop(LAST)
        net.strays.is_mended = True
        await net.start(LAST)
        await wait_until(lambda: net.nodes[LAST].status()["halted"])
        await net.stop(LAST)
        net.chain.tip += 1
        await net.settled(net.chain.tip, range(LAST))
        with closing(net.reader(0)) as other, closing(net.store(LAST)) as own:
            await wait_until(
                lambda: (found := other.latest()) and found[0].decided == net.chain.tip
            )
            own.adopt(*other.latest())
        await net.start(LAST)
        await check_goes_on(net)


async def check_goes_on(net):
    net.chain.tip += 1
    await net.settled(net.chain.tip)
    await wait_until(lambda: {node.certified for node in net.nodes} == {net.chain.tip})
    assert len({node.root for node in net.nodes}) == 1
    assert not any(node.status()["halted"] for node in net.nodes)
    await net.end()


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
    with closing(net.reader(0)) as right, closing(net.reader(LAST)) as strayed:
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
    await net.end()
