"""The node that other tests stand on: what the fixture promises is so."""

import pytest
from rig.bitcoind import RpcFailure


def test_coins_can_be_spent_and_mined(bitcoind):
    assert bitcoind.rpc("getblockcount") == 110
    txid = bitcoind.spend(fee_sats=2_000, outputs=3)
    heavy = bitcoind.spend(fee_sats=90_000, padding=80_000)
    assert set(bitcoind.rpc("getrawmempool")) == {txid, heavy}
    (block,) = bitcoind.mine()
    assert set(bitcoind.rpc("getblock", block)["tx"]) > {txid, heavy}
    with pytest.raises(RpcFailure, match="not found"):
        bitcoind.rpc("getblock", "00" * 32)


def test_the_chain_outlives_a_restart_and_the_ports_stay(bitcoind):
    tip, url = bitcoind.mine()[0], bitcoind.url
    bitcoind.restart()
    assert (bitcoind.tip, bitcoind.url) == (tip, url)
    bitcoind.hang()
    bitcoind.resume()
    assert bitcoind.rpc("getblockcount") == 111
    bitcoind.kill()
    bitcoind.start()
    assert bitcoind.rpc("getblockcount") <= 111
