"""File descriptors run out: nobody who is there suffers, and whoever waits is served later."""

import resource
import signal
from pathlib import Path

import pytest
from rig.book import Book
from rig.load import Load
from rig.node import EASY_SHARES, NO_BLOCKS, UNLIMITED, Node
from rig.wait import until

pytestmark = pytest.mark.slow

CROWD = 200
ROOM = 40


@pytest.mark.timeout(400)
def test_node_without_free_descriptors_goes_on_and_recovers(tmp_path):
    node = Node(tmp_path / "msp", UNLIMITED | EASY_SHARES | NO_BLOCKS)
    acknowledged = tmp_path / "acknowledged"
    with node.running() as running:
        pid = running.process.pid
        with Load(
            running, "load", "shares", connections=4, shares=10**9, rate=500,
            acknowledged=acknowledged,
        ) as load:  # fmt: skip
            until(lambda: load.count() > 200, lambda: load.process.tail())
            soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            limit = descriptors(pid) + ROOM
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
            with Load(running, "crowd", "storm", connections=CROWD) as crowd:
                until(lambda: descriptors(pid) >= limit - 1, lambda: f"{descriptors(pid)} open")
                # Those who were there mine on, and their shares become durable.
                seen = load.count()
                until(lambda: load.count() > seen + 1_000, "shares while no descriptor is free")
                assert crowd.process.is_alive, crowd.process.tail()
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
                assert crowd.process.wait(120) == 0, crowd.process.tail()
            assert crowd.process.message("storm")["failed"] == 0
            assert running.problems() == []
            assert running.leave(signal.SIGTERM) == 0
            load.process.wait()
    assert Book(node.database).missing(load.hashes()) == []
    assert "a role failed" not in node.stderr()
    assert "Traceback" not in node.stderr()


def descriptors(pid):
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
