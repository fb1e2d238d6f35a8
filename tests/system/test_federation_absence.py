"""Members that were away for long, or never there: over the links, or from a snapshot."""

from contextlib import closing
from dataclasses import replace

import pytest
import trio
from federation_net import LIMITS, Net, is_quiet, wait_until

from radpool_sv2.errors import ConfigError, StoreError
from radpool_sv2.federation.identity import Bip340Verifier
from radpool_sv2.federation.snapshot_file import SnapshotFile, take_snapshot
from radpool_sv2.federation.state.digest import DigestState
from radpool_sv2.federation.store import FederationStore

LONG = 200
"""Epochs: more than a day of blocks."""

AWAY = 80
KEEP = 10


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """Nobody is waited for long: one of four is away most of the time."""
    limits = replace(LIMITS, grace_ms=20, view_timeout_ms=200)
    monkeypatch.setattr("federation_net.LIMITS", limits)


class Keeping(Net):
    """A net whose members keep few epochs."""

    keep_epochs = 4_032

    def store(self, me, file=None):
        file = file or self.directory / f"{me}.sqlite"
        key = self.signers[me].public
        return FederationStore(file, self.committee, key, keep_epochs=self.keep_epochs)

    def reader(self, me):
        return FederationStore(self.directory / f"{me}.sqlite", self.committee, None)


async def live(net, epochs, members):
    """Work and blocks, ten epochs at once."""
    for tip in range(net.chain.tip, net.chain.tip + epochs, 10):
        for me in members:
            await wait_until(lambda me=me: net.nodes[me].waiting < 10)
            net.work(me, 2)
        net.chain.tip = tip + 10
        await net.settled(net.chain.tip, members)


async def grow_until(net, members, holds):
    """Lets epochs pass, one by one, until something holds of what members have on their disks."""
    for _ in range(100):
        if holds():
            return
        net.chain.tip += 1
        await net.settled(net.chain.tip, members)
    raise AssertionError([net.nodes[me].status() for me in members])


def has_counted_all(net, me):
    """Says whether the last epoch, as a member's store has it, has a segment of everybody."""
    with closing(net.reader(me)) as store:
        decided = store.epoch(net.chain.tip - 1)
    return decided is not None and len(decided.cut.endings) == net.n


def has_closed(net, me, epochs):
    """Says whether a member's store can make a snapshot behind more than so many epochs."""
    with closing(net.reader(me)) as store:
        return store.latest()[0].decided > epochs


async def same_state(net, epochs):
    await net.settled(epochs)
    await wait_until(lambda: {node.applied for node in net.nodes} == {epochs})
    assert len({node.root for node in net.nodes}) == 1
    assert not any(node.status()["halted"] for node in net.nodes)


def take(net, host, file):
    store = net.reader(host)
    taken = take_snapshot(store, DigestState())
    store.close()
    taken.write(file, net.committee)
    return SnapshotFile.read(file, net.committee, Bip340Verifier(), DigestState())


def adopt(net, me, snapshot):
    store = net.store(me)
    store.adopt(snapshot.snapshot.start, snapshot.state, snapshot.snapshot.checkpoint)
    store.close()


async def test_over_a_day_is_caught_up_over_the_links(tmp_path):
    async with trio.open_nursery() as nursery:
        net = Keeping(tmp_path)
        await net.begin(nursery)
        await live(net, 10, range(4))
        await net.stop(3)
        await live(net, LONG, (0, 1, 2))
        await net.start(3)
        await same_state(net, 10 + LONG)
        net.work(3)
        await live(net, 10, range(4))
        await same_state(net, 20 + LONG)
        await net.end()


async def test_beyond_what_is_kept_a_snapshot_is_needed_and_is_enough(tmp_path):
    """One was away, one begins anew: each is told by the others that they keep no more."""
    async with trio.open_nursery() as nursery:
        net = Keeping(tmp_path)
        net.keep_epochs = KEEP
        await net.begin(nursery)
        await live(net, 10, range(4))
        net.work(3, 2)
        await wait_until(lambda: net.nodes[3].waiting == 0)
        # What it said last is in no epoch yet, and must not be forgotten or said again.
        said = net.nodes[3].machine.broadcast.own.tip().count
        await wait_until(
            lambda: all(
                node.machine.broadcast.streams[3].certified.count == said for node in net.nodes
            )
        )
        await net.stop(3)
        await live(net, AWAY, (0, 1, 2))
        # Deleted a few at a time, behind each epoch that is closed before the next is decided.
        for me in (0, 1, 2):
            with closing(net.reader(me)) as kept:
                await grow_until(net, (0, 1, 2), lambda kept=kept: kept.first_epoch() > AWAY - KEEP)
                assert kept.first_epoch() <= net.chain.tip - KEEP
                assert kept.first(0) > 0
                assert kept.entry(0, 0) is None

        await net.start(3)
        await wait_until(lambda: set(net.nodes[3].status()["gone"]) == {"0", "1", "2"})
        assert all(first > AWAY - KEEP for first in net.nodes[3].status()["gone"].values())
        assert net.nodes[3].machine.epochs.decided == 10
        await net.stop(3)
        adopt(net, 3, take(net, 0, tmp_path / "snapshot"))
        await net.start(3)
        await same_state(net, net.chain.tip)
        await wait_until(lambda: not net.nodes[3].status()["gone"])
        assert net.nodes[3].machine.broadcast.own.tip().count >= said
        net.work(3, 3)
        await live(net, 10, range(4))
        await same_state(net, net.chain.tip)

        # A newcomer: nothing is left of its store. It has all of its stream that counts: it must
        # not have said more, so the last that it says is a mark that counts.
        await wait_until(lambda: is_quiet(net.nodes[2]))
        net.chain.tip += 1
        await net.settled(net.chain.tip)
        await grow_until(net, range(4), lambda: has_counted_all(net, 0))
        await net.stop(2)
        for file in tmp_path.glob("2.sqlite*"):
            file.unlink()
        await live(net, 10, (0, 1, 3))
        adopt(net, 2, take(net, 1, tmp_path / "another"))
        await net.start(2)
        await same_state(net, net.chain.tip)
        begun = net.chain.tip
        net.work(2, 3)
        await live(net, 10, range(4))
        await same_state(net, net.chain.tip)
        with pytest.raises(StoreError, match="already"):
            adopt(net, 2, take(net, 1, tmp_path / "third"))
        await grow_until(net, range(4), lambda: all(has_closed(net, me, begun) for me in (2, 3)))
        for me in range(4):
            await net.stop(me)
        # What was adopted is served on, and is read again after a start.
        for me in (2, 3):
            taken = take(net, me, tmp_path / "of its own")
            assert taken.snapshot.start.decided > begun
            await net.start(me)
        await net.stop(2)
        await net.stop(3)
        net.close()


async def test_a_snapshot_that_is_not_whole_or_not_signed_is_refused(tmp_path):
    """spec: FA-19, FA-20"""
    async with trio.open_nursery() as nursery:
        net = Keeping(tmp_path)
        await net.begin(nursery)
        await live(net, 10, range(4))
        await net.end()
    file = tmp_path / "snapshot"
    good = take(net, 0, file)
    whole = file.read_bytes()
    assert take(net, 0, file) == good
    other = Net(tmp_path / "other", 7).committee

    def refused(data, words, committee=net.committee):
        file.write_bytes(data)
        with pytest.raises(ConfigError, match=words):
            SnapshotFile.read(file, committee, Bip340Verifier(), DigestState())

    refused(whole, "another committee", other)
    refused(b"", "no snapshot")
    refused(bytes(100) + whole, "no snapshot")
    refused(whole[:16] + b"\2" + whole[17:], "another version")
    refused(whole[:49] + b"\xff" * 4 + whole[53:], "larger than any")
    for length in (60, 61, 100, len(whole) - 33, len(whole) - 1):
        refused(whole[:length], "no snapshot" if length < 61 else "torn")
    refused(whole + b"\0", "torn")
    for at in (70, 120, len(whole) - 40, len(whole) - 1):
        refused(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], "damaged")

    def forged(snapshot, state):
        SnapshotFile(snapshot, state).write(file, net.committee)
        return file.read_bytes()

    snapshot = good.snapshot
    start = type(snapshot.start)(snapshot.start.decided + 1, snapshot.start.endings)
    begins = type(snapshot.start)(snapshot.start.decided, snapshot.start.endings[:-1])
    kind = type(snapshot)
    for wrong, words in (
        (kind(start, snapshot.state_root, snapshot.checkpoint), "no quorum"),
        (kind(begins, snapshot.state_root, snapshot.checkpoint), "no quorum"),
        (kind(snapshot.start, bytes(32), snapshot.checkpoint), "no quorum"),
    ):
        refused(forged(wrong, good.state), words)
    refused(forged(snapshot, good.state[:-1] + b"\xff"), "not the one that a quorum has signed")
    with pytest.raises(ConfigError, match="cannot read"):
        SnapshotFile.read(tmp_path / "none", net.committee, Bip340Verifier(), DigestState())
