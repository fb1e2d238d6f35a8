"""Devices that speak Stratum V1 at a pool's own port: what it takes, and what is told where."""

from __future__ import annotations

import importlib.metadata

import pytest
import trio
from radpool_sv2_translator.inside import Inside, inside_config

from radpool_sv2.config import Endpoint, MspConfig, loads
from radpool_sv2.doctor import Verdict, _sv1
from radpool_sv2.errors import ConfigError
from radpool_sv2.sv1 import GROUP, Sv1Pool, is_installed, open_sv1
from radpool_sv2.wallet import Wallet

NEEDED = """
[keys]
authority_public_key = "9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72"
[templates]
payout_address = "bcrt1q"
"""


@pytest.fixture
def read(tmp_path):
    def read(more: str = "") -> MspConfig:
        return loads(MspConfig, f"{NEEDED}[sv1]\n{more}", tmp_path / "msp.toml")

    return read


def pool(config, led=None):
    led = [] if led is None else led
    # Nobody listens on the lowest port.
    return Sv1Pool(config, lambda: Endpoint("127.0.0.1", 1), led.append)


def test_nobody_is_served_by_default(read):
    assert not read().sv1.on_same_port
    assert list(_sv1(read())) == []


def test_the_pool_is_called_on_this_machine_with_its_key(read):
    config = read("on_same_port = true\nexponent_min = 3\nnominal_hash_rate_mh = 7\n")
    for listens, called in (
        ("0.0.0.0", "127.0.0.1"),
        ("::", "::1"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
    ):
        inside = inside_config(config, Endpoint(listens, 34_333))
        [only] = inside.pools
        assert only.address == Endpoint(called, 34_333)
        assert only.authority_public_key == config.keys.authority_public_key
        assert not only.ecash
    assert inside.devices.shares_per_minute == config.mining.shares_per_minute
    assert (inside.devices.exponent_min, inside.devices.nominal_hash_rate_mh) == (3, 7)
    # Each device mines for whom it names.
    assert (inside.devices.user, inside.devices.aggregated) == ("", False)
    assert inside.limits.connections_max == config.limits.connections_max


def test_ecash_goes_to_the_wallet_that_is_named(read, tmp_path):
    config = read('ecash = true\nwallet_dir = "purse"\nwallet_policy = "pool"\n')
    inside = inside_config(config, Endpoint("127.0.0.1", 1))
    assert inside.pools[0].ecash
    assert (inside.wallet.dir, inside.wallet.policy) == (tmp_path / "purse", "pool")


def test_ecash_takes_a_mint(read):
    with pytest.raises(ConfigError, match=r"sv1\.ecash.*mint"):
        read("on_same_port = true\necash = true\n")


def test_ecash_takes_a_wallet(read, tmp_path):
    more = "on_same_port = true\necash = true\n[ecash]\nenabled = true\n"
    config = read(more)
    with pytest.raises(ConfigError, match=r"radpool wallet create --dir .*sv1-wallet") as raised:
        Inside(pool(config))
    assert raised.value.key == "sv1.wallet_dir"
    [found] = _sv1(config)
    assert found.verdict is Verdict.BAD
    assert "sv1-wallet" in found.text

    async def create():
        wallet = await Wallet.create(tmp_path / "sv1-wallet")
        await wallet.close()

    trio.run(create)
    Inside(pool(config))
    [found] = _sv1(config)
    assert found.verdict is Verdict.GOOD


def test_a_missing_package_is_named(read, monkeypatch):
    config = read("on_same_port = true\n")
    assert is_installed()
    monkeypatch.setattr(
        "radpool_sv2.sv1.entry_points", lambda group: importlib.metadata.EntryPoints()
    )
    assert not is_installed()
    with pytest.raises(ConfigError, match="install it") as raised:
        open_sv1(pool(config))
    assert raised.value.key == "sv1.on_same_port"
    assert "radpool-sv2-translator" in str(raised.value)
    [found] = _sv1(config)
    assert found.verdict is Verdict.BAD
    assert "radpool-sv2-translator" in found.text


def test_the_entry_point_is_the_translators():
    [entry] = importlib.metadata.entry_points(group=GROUP)
    assert entry.load() is Inside


def test_how_many_devices_fit_is_told(read):
    more = "on_same_port = true\n[limits]\n"
    [found] = _sv1(read(more + "connections_per_address_max = 77\n"))
    assert found.verdict is Verdict.GOOD
    assert "0.0.0.0:3333" in found.text
    assert "77 of an address" in found.text


async def test_devices_are_led_in_and_away_again(read):
    led = []
    inside = Inside(pool(read("on_same_port = true\n"), led))
    assert (inside.problem, inside.page(0, 10), inside.metrics()) == ("", (0, []), {})
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(inside.run, stop)
        [translator] = led
        assert translator is not None
        with trio.fail_after(60):
            while not (inside.problem and inside.metrics()):
                await trio.sleep(0.01)
        assert "SV1 devices have no work" in inside.problem
        assert inside.metrics()["devices"] == 0
        stop.set()
    assert led[0] is translator
    assert set(led[1:]) == {None}
    assert inside.hash_rate() == 0
