"""A pool whose member cannot write: its miners are served, and the federation hears all later."""

import pytest
from rig import federated
from rig.faulty_disk import SOUND, SYNC_EIO, WRITE_ENOSPC, FaultyDisk
from rig.load import Load
from rig.node import EASY_SHARES, NO_BLOCKS
from rig.wait import until

from radpool_sv2.federation.role import FIGURES_NAME, STORE_NAME

pytestmark = pytest.mark.slow

RATE = 500
MORE = 500


@pytest.mark.parametrize(
    ("fault", "below"),
    [(WRITE_ENOSPC, ""), (SYNC_EIO, STORE_NAME)],
    ids=["no space left", "EIO from fdatasync"],
)
def test_miners_are_served_while_the_member_cannot_write(bitcoind, tmp_path, fault, below):
    [node], _ = federated.pools(
        bitcoind,
        tmp_path,
        count=1,
        rules={"exponent_floor": 4},
        settings=EASY_SHARES | NO_BLOCKS,
    )
    data = tmp_path / "member-0" / "data"
    disk = FaultyDisk(tmp_path, data / below)
    with node.running(disk.env) as running:

        def seat():
            return running.get("/api/v1/status").json()["federation"]

        def certified():
            return seat()["node"]["epochs"]["certified"]

        acknowledged = tmp_path / "acknowledged"
        bitcoind.mine()
        until(lambda: certified() == 1, lambda: running.process.tail())
        with Load(
            running, "load", "shares", shares=10**9, rate=RATE, acknowledged=acknowledged
        ) as load:
            until(lambda: load.count() > MORE, lambda: load.process.tail())
            disk.set(fault)
            bitcoind.mine(2)
            until(lambda: seat()["node"]["store_failure"], lambda: running.process.tail())
            assert any(STORE_NAME in each for each in running.problems())
            before = load.count()
            until(lambda: load.count() > before + 2 * MORE, lambda: load.process.tail(), 120)
            assert certified() == 1
            assert disk.refused > 0
            if not below:
                running.wait_for_log("the figures cannot be written")
            disk.set(SOUND)
            until(lambda: certified() == 3, lambda: running.process.tail(), 120)
            until(lambda: running.problems() == [], lambda: running.problems(), 60)
            assert load.process.is_alive, load.process.tail()
        assert "a role failed" not in node.stderr()
        assert (data / FIGURES_NAME).exists()
