"""SV1 miners mine through our translator on SRI's pool, as published. `make interop` runs this."""

import pytest
from rig import sri
from rig.bitcoind import free_ports
from rig.offering import ProviderNode
from rig.sv1 import Sv1Miner
from rig.translating import Translating
from rig.wait import until

SHARES = 20
PATIENCE_S = 150


def pool(provider, directory, port):
    settings = {
        "authority_public_key": sri.AUTHORITY_KEY,
        "authority_secret_key": sri.AUTHORITY_SECRET,
        "cert_validity_sec": 3_600,
        "listen_address": f"127.0.0.1:{port}",
        "coinbase_reward_script": f"addr({sri.SOLO_ADDRESS})",
        "server_id": 1,
        "pool_signature": "foreign",
        "shares_per_minute": 120.0,
        "share_batch_size": 4,
        "supported_extensions": [],
        "required_extensions": [],
        "template_provider_type": sri.provider(provider.address, provider.authority_key),
    }
    return sri.Role("pool_sv2", directory, settings, port)


@pytest.mark.pair("`radpool translator`, template provider on the embedded chain", "pool_sv2")
@pytest.mark.timeout(400)
@pytest.mark.parametrize("aggregated", [False, True])
def test_sv1_miners_find_blocks_for_sri_s_pool(tmp_path, aggregated, record_property):
    settings = {"templates.block_zeros": 18, "templates.payments_per_minute": 60}
    provider = ProviderNode(tmp_path / "tp", settings)
    (port,) = free_ports(1)
    # Its difficulty follows what is declared: that of a test's miner.
    keys = {"devices.nominal_hash_rate_mh": 1, "devices.aggregated": aggregated}
    keys |= {"devices.shares_per_minute": 120}
    with provider.running(), pool(provider, tmp_path / "sri", port) as role:
        pools = [(role.address, sri.AUTHORITY_KEY)]
        with Translating(tmp_path / "translator", pools, keys) as translating:
            translating.mining_for(role.address)
            with Sv1Miner(translating.sv1, "a.one") as a, Sv1Miner(translating.sv1, "b.two") as b:
                until(
                    lambda: min(a.accepted, b.accepted) >= SHARES or a.lost or b.lost,
                    lambda: (
                        f"{a.accepted}, {b.accepted}, {a.refused}; {translating.process.tail()}"
                        f"{role.process.tail()}"
                    ),
                    PATIENCE_S,
                )
                until(
                    lambda: len(provider.said("a block was accepted")) >= 2 or a.lost or b.lost,
                    lambda: f"blocks; {translating.process.tail()}{role.process.tail()}",
                    PATIENCE_S,
                )
                assert (a.lost, b.lost) == ("", "")
            figures = translating.figures
            # It answers four shares at a time; behind one channel some stay with the translator.
            least = 4 if aggregated else SHARES
            assert figures["pool_accepted"] >= least, figures
            # Only tips that a share has crossed on its way.
            assert figures["pool_rejected"] <= figures["pool_accepted"] / 4
            blocks = len(provider.said("a block was accepted"))
            record_property("mined", f"{blocks} blocks")
