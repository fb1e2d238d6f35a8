"""A public log that is written bit by bit out of a member's store."""

import pytest
from test_federation_books import Mining, steady

from radpool_sv2.errors import ConfigError, LocalProtocolError, RadpoolError
from radpool_sv2.federation.state.log import publish
from radpool_sv2.federation.state.publication import Publication
from radpool_sv2.testing.simulator import World
from radpool_sv2.verify.federation import verify_federation


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """A world, the log of which was written at once from states that were kept."""
    plan = steady(11)
    plan.byzantine, plan.is_bip340 = {}, True
    plan.calm_ms = 5_000
    plan.blocks_ms = (1_000, 2_000, 3_000, 4_000, 6_500)
    office = Mining()
    world = World(plan, office=office)
    world.run()
    node = world.nodes[0]
    states = [node.states[epoch] for epoch in sorted(node.states)]
    directory = tmp_path_factory.mktemp("log")
    publish(directory, world.committee, office.function.rules, node.store, states)
    return world.committee, office.function, node.store, files(directory)


def files(directory):
    found = sorted(each for each in directory.rglob("*") if each.is_file())
    return {str(each.relative_to(directory)): each.read_bytes() for each in found}


@pytest.mark.parametrize("step", [1, 2, 100])
def test_bit_by_bit_is_the_same_as_at_once(lived, tmp_path, step):
    """spec: CS-19, CS-20"""
    committee, function, store, expected = lived
    epochs = sum(name.startswith("books") for name in expected)
    told = []
    for end in range(step, epochs + step, step):
        publication = Publication(tmp_path / "log", committee, function.rules)
        before = publication.epochs
        added = publication.go_on(store, function, min(end, epochs), told.append)
        assert publication.epochs == before + added == min(end, epochs)
    assert told == list(range(1, epochs + 1))
    assert files(tmp_path / "log") == expected
    assert verify_federation(tmp_path / "log").epochs == epochs
    again = Publication(tmp_path / "log", committee, function.rules)
    assert again.go_on(store, function) == 0


class Behind:
    """Is a store that keeps epochs from one on."""

    def __init__(self, store, first):
        self.store = store
        self.first = first

    def epoch(self, epoch):
        return None if epoch < self.first else self.store.epoch(epoch)

    def entry(self, sender, seq):
        return self.store.entry(sender, seq) if seq else None

    def first_epoch(self):
        return self.first


def test_a_log_that_cannot_go_on_is_told(lived, tmp_path):
    committee, function, store, expected = lived
    publication = Publication(tmp_path / "log", committee, function.rules)
    with pytest.raises(LocalProtocolError, match="keeps epochs from 2 on"):
        publication.go_on(Behind(store, 2), function)
    with pytest.raises(LocalProtocolError, match="not kept any more"):
        publication.go_on(Behind(store, 0), function)
    assert publication.go_on(store, function, 2) == 2

    # What an interrupted program left is taken away; what it had not finished is written again.
    (tmp_path / "log" / "books" / "0000000002.bin.draft").write_bytes(b"half")
    (tmp_path / "log" / "epochs" / "0000000002.bin").write_bytes(expected["epochs/0000000002.bin"])
    publication = Publication(tmp_path / "log", committee, function.rules)
    assert publication.epochs == 2
    publication.go_on(store, function)
    assert files(tmp_path / "log") == expected

    (tmp_path / "log" / "rules.bin").write_bytes(b"others")
    with pytest.raises(ConfigError, match="another federation's log"):
        Publication(tmp_path / "log", committee, function.rules)
    (tmp_path / "log" / "rules.bin").write_bytes(expected["rules.bin"])
    (tmp_path / "log" / "epochs" / "0000000001.bin").write_bytes(b"torn")
    with pytest.raises(ConfigError, match="damaged"):
        Publication(tmp_path / "log", committee, function.rules)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="cannot be used"):
        Publication(tmp_path / "file", committee, function.rules)


def test_books_that_nobody_signed_are_not_published(lived, tmp_path):
    """spec: CS-20"""
    committee, function, store, _ = lived
    log = tmp_path / "log"
    Publication(log, committee, function.rules).go_on(store, function, 2)
    books = log / "books" / "0000000001.bin"
    good = books.read_bytes()
    said = set()
    for at in range(8, len(good), len(good) // 20):
        books.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(RadpoolError) as error:
            Publication(log, committee, function.rules).go_on(store, function)
        said.add(str(error.value).partition(":")[0])
        assert not (log / "books" / "0000000002.bin").exists()
    assert "the books behind epoch 1 are not those that a quorum has signed" in said
