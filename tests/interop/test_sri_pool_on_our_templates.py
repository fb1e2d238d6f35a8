"""SRI's pool, as published, takes its templates from our provider and mines blocks with them."""

import signal

import pytest
from rig import sri
from rig.offering import ProviderNode
from rig.wait import until

BLOCKS = 5
PATIENCE_S = 120


def accepted(provider):
    return provider.said("a block was accepted")


def mine(provider, directory, count=BLOCKS):
    """Lets SRI's pool and a miner of theirs find blocks; returns what the pool has printed."""
    with sri.pool(directory, sri.provider(provider.address, provider.authority_key)) as pool:
        until(
            lambda: sri.listens(pool.address),
            lambda: f"SRI's pool; {pool.process.tail()}",
            PATIENCE_S,
        )
        with sri.mining_device(directory, pool.address, sri.AUTHORITY_KEY) as device:
            goal = len(accepted(provider)) + count
            until(
                lambda: len(accepted(provider)) >= goal or not pool.process.is_alive,
                lambda: f"{goal} blocks; {pool.process.tail()}\n{device.tail()}",
                PATIENCE_S,
            )
            assert pool.process.is_alive, pool.process.tail()
        return pool.said()


@pytest.mark.pair("template provider on the embedded chain", "pool_sv2, mining_device")
@pytest.mark.timeout(400)
def test_sri_pool_mines_blocks_on_the_embedded_chain(tmp_path, record_property):
    settings = {"templates.block_zeros": 20, "templates.payments_per_minute": 60}
    provider = ProviderNode(tmp_path / "tp", settings)
    with provider.running() as process:
        said = mine(provider, tmp_path / "sri")
        # It met templates of both kinds: with a tip, and between tips as fees grew.
        assert "future_template: true" in said
        assert "future_template: false" in said
        # The provider outlives its client, and serves the next one.
        mine(provider, tmp_path / "again", 1)
        process.signal(signal.SIGTERM)
        assert process.wait(10) == 0, process.tail()
    assert all(each["on_active_chain"] for each in accepted(provider))
    record_property("mined", f"{len(accepted(provider))} blocks")
    assert not [line for line in provider.log() if line["level"] == "error"]


@pytest.mark.pair(
    "template provider with source `bitcoind`", "pool_sv2, mining_device, Bitcoin Knots"
)
@pytest.mark.timeout(400)
def test_sri_pool_mines_blocks_on_a_real_node(bitcoind, tmp_path, record_property):
    """Plain regtest: SRI's pool takes nearly every share for a block, and the node does too."""
    sent = [bitcoind.spend(fee_sats=3_000 + n, outputs=2) for n in range(4)]
    settings = {
        "templates.source": "bitcoind",
        "templates.rpc_urls": [bitcoind.url],
        "templates.rpc_cookie_files": [str(bitcoind.cookie_file)],
        "templates.zmq_urls": [bitcoind.zmq_url],
        "templates.block_zeros": 0,
        "templates.interval_s": 1,
    }
    provider = ProviderNode(tmp_path / "tp", settings)
    before = bitcoind.rpc("getblockcount")
    with provider.running():
        mine(provider, tmp_path / "sri")
    blocks = [bitcoind.rpc("getblock", each["hash"], 2) for each in accepted(provider)]
    active = [block for block in blocks if block["confirmations"] > 0]
    assert len(active) >= BLOCKS
    record_property("mined", f"{len(active)} blocks")
    assert bitcoind.rpc("getblockcount") == before + len(active)
    paid = {tx["txid"] for block in active for tx in block["tx"][1:]}
    assert set(sent) <= paid
    # SRI's pool pays itself first and all of it, fees included.
    for block in active:
        first = block["tx"][0]["vout"][0]
        assert first["scriptPubKey"]["hex"] == sri.SOLO_SCRIPT
    total = sum(round(block["tx"][0]["vout"][0]["value"] * 10**8) for block in active)
    assert total == len(active) * 50 * 10**8 + sum(3_000 + n for n in range(4))


@pytest.mark.pair("template provider on the embedded chain", "pool_sv2, mining_device")
@pytest.mark.timeout(400)
def test_sri_pool_with_another_key_is_not_served(tmp_path):
    provider = ProviderNode(tmp_path / "tp", {})
    stranger = ProviderNode(tmp_path / "stranger", {})
    with stranger.running(), provider.running():
        with sri.pool(
            tmp_path / "sri", sri.provider(provider.address, stranger.authority_key)
        ) as pool:
            until(
                lambda: not pool.process.is_alive,
                lambda: f"it gives up; {pool.process.tail()}",
                PATIENCE_S,
            )
