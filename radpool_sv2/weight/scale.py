"""Says what a price stands for, and in which unit each network counts.

A price is in parts of `2^bits` of a satoshi for each hash that a block takes on average, so that
the floor of the one division that a template needs loses next to nothing: on the main network a
price has some 62 bits. A share of exponent `z` is worth `price * 2^(z - base)`. Where blocks cost
work, `2^base` hashes are the least that a share proves, and the unit of values is 2^-80 of a
satoshi; regtest has blocks of two hashes and takes a coarser unit, so that sums fit 128 bits.

Source: `spec/09-template-value.md`, "Scales".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from radpool_sv2 import network

__all__ = [
    "REAL",
    "REGTEST",
    "SIGNET",
    "Scale",
    "WeightMode",
    "halving_blocks_of",
    "scale_of",
]


class WeightMode(IntEnum):
    """Says what the price of a template is made of; the numbers stand in batches.

    `VALUE` is what its block pays the pool, `DIFFICULTY` is the same for all templates, `SLICE` is
    the fees that its block pays the pool.
    """

    VALUE = 1
    DIFFICULTY = 2
    SLICE = 3


@dataclass(frozen=True, slots=True)
class Scale:
    """Is a network's unit of value.

    Attributes:
        bits: The k of `spec/09`: prices are in parts of 2^k.
        base: The exponent of which a share is worth the price.
        halving_blocks: After how many blocks the network's subsidy halves.
    """

    bits: int
    base: int
    halving_blocks: int


REAL: Final = Scale(112, 32, network.MAIN.halving_blocks)
SIGNET: Final = Scale(80, 0, network.SIGNET.halving_blocks)
REGTEST: Final = Scale(32, 0, network.REGTEST.halving_blocks)

_OF_NETWORK: Final = {"main": REAL, "testnet4": REAL, "signet": SIGNET, "regtest": REGTEST}


def scale_of(name: str) -> Scale:
    """Returns the scale of a network, by the name that nodes and configurations give it."""
    return _OF_NETWORK[name]


def halving_blocks_of(bits: int) -> int:
    """Returns after how many blocks the subsidy halves on the networks that have a scale."""
    return REGTEST.halving_blocks if bits == REGTEST.bits else REAL.halving_blocks
