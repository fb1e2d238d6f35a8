"""A thousand clients joining while templates and tips arrive: all of them are served."""

import signal

import pytest
from rig.load import Load
from rig.node import EASY_SHARES, NO_BLOCKS, UNLIMITED, Node
from rig.wait import until

pytestmark = pytest.mark.slow

CLIENTS = 600
LATECOMERS = 400
TIPS = 8
# A payment a tenth of a second and a template a second: work changes while clients join.
SETTINGS = UNLIMITED | EASY_SHARES | NO_BLOCKS | {
    "templates.payments_per_minute": 600,
    "templates.interval_s": 1,
}  # fmt: skip


@pytest.mark.timeout(600)
def test_a_thousand_clients_join_while_tips_arrive(tmp_path):
    node = Node(tmp_path / "msp", SETTINGS)
    with node.running() as running:
        # Storm: everybody at once, while the first tips arrive.
        storm = Load(running, "storm", "storm", connections=CLIENTS + LATECOMERS)
        with storm:
            while storm.process.is_alive:
                running.chain("mine", 1)
            assert storm.process.wait() == 0, storm.process.tail()
        said = storm.process.message("storm")
        assert said["failed"] == 0
        assert said["served_us"]["count"] == CLIENTS + LATECOMERS

        # Each of those who stay gets each new tip, while others keep joining.
        load = Load(
            running, "fanout", "fanout", connections=CLIENTS, tips=TIPS, joiners=LATECOMERS,
            join_rate=100,
        )  # fmt: skip
        with load:
            load.process.message("ready", 120)
            for number in range(1, TIPS + 1):
                hashes = {running.chain("mine", 1).split()[-1]}
                told = until(
                    lambda number=number: load.process.messages("tip")[number - 1 :],
                    lambda number=number: f"tip {number} at all; {load.process.tail()}",
                )
                assert bytes.fromhex(told[0]["prev_hash"])[::-1].hex() in hashes
                assert told[0]["arrived_ns"]["count"] >= CLIENTS
            assert load.process.wait() == 0, load.process.tail()
        joined = load.process.message("joined")
        assert (joined["failed"], joined["join_us"]["count"]) == (0, LATECOMERS)

        # Nobody stays in the books who has left.
        until(lambda: clients(running) == 0, lambda: f"{clients(running)} clients left")
        assert running.problems() == []
        assert running.leave(signal.SIGTERM) == 0
    assert "a role failed" not in node.stderr()


def clients(running):
    return running.get("/api/v1/global").json()["sv2_clients"]["total_clients"]
