"""Each kind of device mines through the translator, as its firmware does, from pool to pool."""

import contextlib

import pytest
from rig.declarer import Relay
from rig.device import DEVICES, Device
from rig.node import UNLIMITED, Node
from rig.translating import Translating
from rig.wait import until

pytestmark = pytest.mark.slow

POOL = UNLIMITED | {
    "mining.exponent_min": 10,
    "mining.exponent_max": 12,
    "mining.shares_per_minute": 600,
    "templates.block_zeros": 17,
    "templates.payments_per_minute": 120,
}
# Of four shares some may be of a tip that was overtaken.
SHARES = 4
STALE = 21


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
    """Two pools, and a way to the first that can be cut."""
    directory = tmp_path_factory.mktemp("pools")
    first, second = Node(directory / "first", POOL), Node(directory / "second", POOL)
    with first.running() as one, second.running() as two, Relay(one.sv2) as way:
        yield way, one, two


def mine(device, count=SHARES):
    """Mines until so many shares were accepted."""
    accepted = 0
    while accepted < count:
        answer = device.mine()
        assert answer is True or answer[0] == STALE, answer
        accepted += answer is True


@pytest.mark.timeout(600)
@pytest.mark.parametrize("firmware", DEVICES, ids=lambda each: each["name"])
def test_device_mines_over_jobs_tips_and_a_lost_pool(pools, tmp_path, firmware):
    way, one, two = pools
    way.mend()
    addresses = [(way.address, one.authority_key), (two.sv2, two.authority_key)]
    # A device that asks for a difficulty gets none above the pool's.
    with Translating(tmp_path, addresses, {"devices.keepalive_ms": 1_000}) as translating:
        translating.mining_for(way.address)
        # It looks in and leaves, as firmware does that has lost this pool once.
        for _ in range(3):
            with Device(firmware, translating.sv1, "probe.rig") as device:
                device.greet()
        channels = translating.figures["pool_channels"]
        assert channels <= 2, "a look costs no channel"
        with Device(firmware, translating.sv1, "alice.rig") as device:
            device.greet()
            mine(device)
            until(lambda: device.listen(0.1) or device.jobs > 1, "jobs change, or come again")
            way.cut()
            translating.mining_for(two.sv2)
            mine(device)
            way.mend()
            translating.mining_for(way.address)
            mine(device)
            assert device.tips >= 3, "another pool is a clean job"


@pytest.mark.timeout(600)
def test_devices_survive_changed_difficulties_and_a_restart_of_the_pool(tmp_path):
    # Each begins with shares that are far too rare, so that its difficulty falls.
    ladder = {"mining.exponent_min": 8, "mining.exponent_max": 14}
    node = Node(tmp_path / "msp", POOL | ladder | {"mining.shares_per_minute": 6_000})
    keys = {"devices.shares_per_minute": 6_000, "devices.silence_ms": 600_000}
    with contextlib.ExitStack() as stack:
        way = stack.enter_context(Relay("127.0.0.1:1"))

        def serve():
            running = node.launch()
            stack.enter_context(running.process)
            running.serve()
            way.mend(running.sv2)
            return running

        running = serve()
        pools = [(way.address, running.authority_key)]
        translating = stack.enter_context(Translating(tmp_path / "translator", pools, keys))
        translating.mining_for(way.address)
        devices = []
        for firmware in DEVICES:
            device = Device(firmware, translating.sv1, f"{firmware['name']}.rig")
            devices.append(stack.enter_context(device))
            device.greet()
        for device in devices:
            mine(device)
            until(lambda device=device: mine(device, 1) or device.difficulties > 1, "a difficulty")
        running.process.kill()
        until(running.is_gone, "the end of the pool's children")
        translating.mining_for(None)
        tips = [device.tips for device in devices]
        serve()
        translating.mining_for(way.address)
        for device in devices:
            mine(device)
        assert all(device.tips > seen for device, seen in zip(devices, tips, strict=True))
