"""Addresses of all networks: BIP 173, BIP 350 and base58 vectors, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.network import (
    MAIN,
    NETWORKS,
    REGTEST,
    SIGNET,
    TESTNET4,
    address_from_script,
    script_from_address,
)


# Addresses and scripts: BIP 173, BIP 350 (test vectors, 2-clause BSD); base58 ones of BIP 16's and
# bitcoin's own well-known keys.
@pytest.mark.parametrize(
    ("address", "network", "script"),
    [
        (
            "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
            MAIN,
            "0014751e76e8199196d454941c45d1b3a323f1433bd6",
        ),
        (
            "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7",
            SIGNET,
            "00201863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262",
        ),
        (
            "bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y",
            MAIN,
            "5128751e76e8199196d454941c45d1b3a323f1433bd6751e76e8199196d454941c45d1b3a323f1433bd6",
        ),
        ("BC1SW50QGDZ25J", MAIN, "6002751e"),
        (
            "bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs",
            MAIN,
            "5210751e76e8199196d454941c45d1b3a323",
        ),
        (
            "tb1pqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesf3hn0c",
            TESTNET4,
            "5120000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433",
        ),
        (
            "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
            MAIN,
            "76a91462e907b15cbf27d5425399ebf6f0fb50ebb88f1888ac",
        ),
        (
            "3P14159f73E4gFr7JterCCQh9QjiTjiZrG",
            MAIN,
            "a914e9c3dd0c07aac76179ebc76a6c78d4d67c6c160a87",
        ),
        (
            "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn",
            TESTNET4,
            "76a914243f1394f44554f4ce3fd68649c19adc483ce92488ac",
        ),
        (
            "1111111111111111111114oLvT2",
            MAIN,
            "76a914000000000000000000000000000000000000000088ac",
        ),
    ],
)
def test_known_addresses_pay_known_scripts(address, network, script):
    assert script_from_address(address, network).hex() == script


# BIP 173 and BIP 350, "invalid": checksums, versions, lengths, padding.
@pytest.mark.parametrize(
    "address",
    [
        "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd",
        "tb1z0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqglt7rf",
        "BC1S0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ54WELL",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh",
        "bc1p38j9r5y49hruaue7wxjce0updqjuyyx0kh56v8s25huc6995vvpql3jow4",
        "BC130XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ7ZWS8R",
        "bc1pw5dgrnzv",
        "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v8n0nx0muaewav253zgeav",
        "BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P",
        "tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq47Zagq",
        "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v07qwwzcrf",
        "bc1gmk9yu",
        "11111111111111111111114oLvT2",
        "111111111111111111114oLvT2",
        "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb",
        "1A1zP1eP5QGefi2DMPTfTL5SLmv7Divf0O",
    ],
)
def test_what_is_no_address_of_any_network_is_refused(address):
    for network in NETWORKS.values():
        with pytest.raises(LocalProtocolError):
            script_from_address(address, network)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", SIGNET),
        ("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", MAIN),
        ("tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx", REGTEST),
        ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", TESTNET4),
        ("mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn", MAIN),
    ],
)
def test_another_networks_address_is_told_to_be_one(address, network):
    with pytest.raises(LocalProtocolError, match=f"another network.*{network.name}"):
        script_from_address(address, network)


@given(
    st.sampled_from(sorted(NETWORKS)),
    st.integers(0, 16),
    st.binary(min_size=20, max_size=20) | st.binary(min_size=32, max_size=32),
)
def test_a_witness_script_and_its_address_are_the_same_thing(name, version, program):
    network = NETWORKS[name]
    script = bytes([0x50 + version if version else 0, len(program)]) + program
    assert script_from_address(address_from_script(script, network), network) == script
