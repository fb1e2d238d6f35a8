"""A member's store on a disk."""

import sqlite3
from dataclasses import replace

import pytest
from federation_rig import Rig

from radpool_sv2.errors import StoreError
from radpool_sv2.federation.broadcast.sync import answer, answer_epochs
from radpool_sv2.federation.record import Echoed, Started
from radpool_sv2.federation.store import FederationStore
from radpool_sv2.testing import simulator
from radpool_sv2.testing.plan import Plan
from radpool_sv2.testing.simulator import World
from radpool_sv2.testing.store import Store


def store_of(file, rig):
    return FederationStore(file, rig.committee, rig.signers[rig.me].public)


def commit(store):
    writes = store.take()
    store.commit(writes)
    store.done(writes)


@pytest.fixture(scope="module")
def lived():
    """The records of a member of a world, and the store that they came from."""
    world = World(replace(Plan.draw(6, 4, ()), crashes=()))
    written = []

    class Remembering(Store):
        def write(self, record):
            if self is world.nodes[0].store:
                written.append(record)
            super().write(record)

        def condense(self, _start):
            pass

    for node in world.nodes:
        node.store = Remembering(world.committee)
    world.run()
    member = world.nodes[0]
    assert any(record.NUMBER == 7 for record in written)
    return world, member, written


def filled(file, lived, step=50):
    world, _, written = lived
    store = FederationStore(file, world.committee, world.signers[0].public)
    for start in range(0, len(written), step):
        for record in written[start : start + step]:
            store.write(record)
        commit(store)
    return store


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_what_was_written_is_read_back_in_order(tmp_path, lived, step):
    """One transaction holds as many records as have come up."""
    world, member, written = lived
    written = written if step > 1 else written[:300]
    filled(tmp_path / "store", (world, member, written), step).close()
    store = FederationStore(tmp_path / "store", world.committee, world.signers[0].public)
    assert list(store.records()) == written
    assert store.durable == store.written == len(written)
    store.close()


def test_answers_are_those_of_the_records(tmp_path, lived):
    member = lived[1]
    store = filled(tmp_path / "store", lived)
    for sender in range(4):
        end = store.end(sender)
        assert end > 3
        assert member.store.entry(sender, end) is None
        for first in range(0, end + 1, 3):
            assert answer(store, sender, first) == answer(member.store, sender, first)
    for epoch in range(member.machine.epochs.decided + 1):
        assert answer_epochs(store, epoch) == answer_epochs(member.store, epoch)
    store.close()


def test_a_start_lets_go_of_records_and_of_nothing_that_peers_ask_for(tmp_path, lived):
    world, member, _ = lived
    store = filled(tmp_path / "store", lived)
    start = member.machine.start()
    assert start is not None
    for epoch in range(start.decided):
        store.keep_state(epoch, b"%d" % epoch)
    commit(store)
    before = [answer(store, sender, 0) for sender in range(4)]
    store.condense(start)
    commit(store)
    store.close()
    store = FederationStore(tmp_path / "store", world.committee, world.signers[0].public)
    member.store.condense = Store.condense.__get__(member.store)
    expected = Store(world.committee)
    for record in lived[2]:
        expected.write(record)
    expected.sync(expected.written)
    expected.condense(start)
    assert list(store.records()) == list(expected.records())
    assert isinstance(next(iter(store.records())), Started)
    assert [answer(store, sender, 0) for sender in range(4)] == before
    assert store.state(start.decided - 1) == b"%d" % (start.decided - 1)
    assert store.state(start.decided - 2) is None
    store.close()


def test_what_was_not_committed_is_not_there(tmp_path):
    rig = Rig()
    store = store_of(tmp_path / "store", rig)
    store.write(Echoed(rig.entry(1)))
    commit(store)
    store.write(Echoed(rig.entry(2)))
    assert (store.durable, store.written) == (1, 2)
    store.close()
    store = store_of(tmp_path / "store", rig)
    assert list(store.records()) == [Echoed(rig.entry(1))]
    assert (store.durable, store.written) == (1, 1)
    store.close()


def test_a_commit_that_failed_and_is_durable_is_not_repeated(tmp_path):
    rig = Rig()
    store = store_of(tmp_path / "store", rig)
    store.write(Echoed(rig.entry(1)))
    writes = store.take()
    store.commit(writes)
    # It was told to have failed: so it is tried again, with what has come up meanwhile.
    store.write(Echoed(rig.entry(2)))
    commit(store)
    assert list(store.records()) == [Echoed(rig.entry(1)), Echoed(rig.entry(2))]
    store.close()


def test_a_full_disk_loses_nothing_that_waits(tmp_path):
    rig = Rig()
    store = store_of(tmp_path / "store", rig)
    connection = store._connections[0]
    [(pages,)] = connection.execute("PRAGMA page_count")
    connection.execute(f"PRAGMA max_page_count = {pages}")
    entries = rig.entries(1, 60, payload=bytes(1_000))
    for entry in entries:
        store.write(Echoed(entry))
    with pytest.raises(StoreError):
        commit(store)
    assert store.durable == 0
    commit(store)
    assert list(store.records()) == [Echoed(entry) for entry in entries]
    store.close()


def test_a_store_is_of_one_member_of_one_committee(tmp_path):
    rig = Rig()
    store_of(tmp_path / "store", rig).close()
    with pytest.raises(StoreError, match="another committee or member"):
        FederationStore(tmp_path / "store", rig.committee, rig.signers[1].public)
    with pytest.raises(StoreError, match="another committee or member"):
        store_of(tmp_path / "store", Rig(n=5))
    with sqlite3.connect(tmp_path / "other") as connection:
        connection.execute("CREATE TABLE a (b)")
    connection.close()
    with pytest.raises(StoreError, match="another program"):
        store_of(tmp_path / "other", rig)
    with sqlite3.connect(tmp_path / "store") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="another version"):
        store_of(tmp_path / "store", rig)


def test_damage_is_told(tmp_path):
    rig = Rig()
    store = store_of(tmp_path / "store", rig)
    store.write(Echoed(rig.entry(1)))
    commit(store)
    store.close()
    with sqlite3.connect(tmp_path / "store") as connection:
        connection.execute("DELETE FROM held")
    connection.close()
    store = store_of(tmp_path / "store", rig)
    with pytest.raises(StoreError, match="damaged"):
        list(store.records())
    store.close()


class OnDisk:
    """The simulator's disk, with the real store below it: a crash opens the file again."""

    directory = None
    count = 0

    def __init__(self, committee):
        type(self).count += 1
        self._file = self.directory / f"{self.count}"
        self._open = lambda: FederationStore(self._file, committee, bytes(32))
        self._store = self._open()

    def __getattr__(self, name):
        return getattr(self._store, name)

    def sync(self, count):
        writes = [each for each in self._store.take() if each[0] <= count]
        if writes:
            self._store.commit(writes)
            self._store.done(writes)

    def crash(self, kept):
        self.sync(self._store.durable + kept)
        self._store.close()
        self._store = self._open()

    def condense(self, start):
        self._store.condense(start)
        self.sync(self._store.written)


def test_a_world_with_crashes_lives_on_real_disks(tmp_path, monkeypatch):
    plan = replace(Plan.draw(3, 4, ()), blocks_ms=Plan.draw(3, 4, ()).blocks_ms[:4])
    OnDisk.directory, OnDisk.count = tmp_path, 0
    monkeypatch.setattr(simulator, "Store", OnDisk)
    world = World(plan)
    world.run()
    for node in world.nodes:
        assert node.machine.checkpoints.certified >= 1
        node.store.close()


def test_a_damaged_file_is_found_before_it_is_used(tmp_path, lived, monkeypatch):
    file = tmp_path / "store"
    store = filled(file, lived)
    store.check()
    store.close()
    data = bytearray(file.read_bytes())
    # Behind the first pages, which say what tables there are.
    for page in range(12, len(data) // 8_192):
        data[page * 8_192 : page * 8_192 + 64] = b"\xff" * 64
    file.write_bytes(data)
    world = lived[0]
    store = FederationStore(file, world.committee, world.signers[0].public)
    with pytest.raises(StoreError, match="damaged"):
        store.check()
    monkeypatch.setattr("radpool_sv2.federation.store.CHECK_BYTES_MAX", len(data) - 1)
    store.check()
    store.close()


def test_a_reader_writes_nothing_and_needs_a_store_of_its_committee(tmp_path, lived):
    file = tmp_path / "store"
    world = lived[0]
    with pytest.raises(StoreError, match="never run"):
        FederationStore(file, world.committee, None)
    assert not file.exists()
    writer = filled(file, lived)
    reader = FederationStore(file, world.committee, None)
    assert list(reader.records()) == lived[2]
    reader.write(lived[2][0])
    with pytest.raises(StoreError, match="may not be written"):
        reader.commit(reader.take())
    reader.close()
    writer.close()
    with pytest.raises(StoreError, match="another committee"):
        FederationStore(file, Rig(n=7).committee, None)
