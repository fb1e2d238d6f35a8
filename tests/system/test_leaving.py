"""SIGTERM and Ctrl-C: the node leaves in order and in time; nothing is lost or left behind."""

import signal

import pytest
from rig.book import Book
from rig.load import Load
from rig.node import EASY_SHARES, NO_BLOCKS, UNLIMITED, Node
from rig.wait import until

pytestmark = pytest.mark.slow


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda each: each.name)
def test_leaves_within_five_seconds_under_load_with_nothing_lost(tmp_path, number):
    node = Node(tmp_path / "msp", UNLIMITED | EASY_SHARES | NO_BLOCKS)
    acknowledged = tmp_path / "acknowledged"
    with node.running() as running:
        load = Load(
            running, "load", "shares", connections=8, shares=10**9, rate=4_000,
            acknowledged=acknowledged,
        )  # fmt: skip
        with load:
            until(lambda: load.count() > 2_000, lambda: f"shares; {load.process.tail()}")
            assert running.leave(number) == 0, running.process.tail()
            until(lambda: not running.left_behind(), lambda: f"orphans: {running.left_behind()}")
            # Its connections were closed, not forgotten.
            assert load.process.wait() == 1
        said = load.process.message("shares")
    assert said["mismatches"] == 0
    assert said["rejected"] == {}
    stored = Book(node.database)
    assert stored.missing(load.hashes()) == []
    # Whatever was stored was also acknowledged, because those who leave in order answer first.
    assert stored.check() == load.count() == said["accepted"]
    # The node has its own clock for the five seconds, and tells of whoever overstays them.
    assert "role did not leave in time" not in node.stderr()


@pytest.mark.timeout(300)
def test_a_second_node_on_the_same_directory_is_refused_and_the_first_goes_on(tmp_path):
    node = Node(tmp_path / "msp", UNLIMITED | EASY_SHARES | NO_BLOCKS)
    with node.running() as running:
        second = node.launch()
        with second.process:
            assert second.process.wait() == 1
            assert "another radpool runs on this directory" in second.process.stderr.read_text()
        assert running.problems() == []
        assert running.leave(signal.SIGTERM) == 0


@pytest.mark.timeout(300)
def test_a_signal_during_the_start_is_obeyed(tmp_path):
    node = Node(tmp_path / "msp", UNLIMITED | EASY_SHARES | NO_BLOCKS)
    starting = node.launch()
    with starting.process:
        # The chain is started first; nothing serves yet.
        until(starting.chain_pid, "the chain's process")
        status = starting.leave(signal.SIGTERM)
        assert status in (0, -signal.SIGTERM), starting.process.tail()
        until(lambda: not starting.left_behind(), "nobody is left behind")
    with node.running() as running:
        assert running.problems() == []


@pytest.mark.timeout(300)
def test_a_full_disk_under_the_log_does_not_stop_the_node(tmp_path):
    """Log lines go where the shares go: when that is full, the node must not die of saying so."""
    node = Node(tmp_path / "msp", UNLIMITED | EASY_SHARES | NO_BLOCKS)
    with node.running(stderr="/dev/full") as running:
        acknowledged = tmp_path / "acknowledged"
        with Load(running, "load", "shares", shares=500, acknowledged=acknowledged) as load:
            assert load.process.wait() == 0, load.process.tail()
        running.chain("mine", 1)
        assert running.problems() == []
        assert running.leave(signal.SIGTERM) == 0
    assert Book(node.database).check() == 500
