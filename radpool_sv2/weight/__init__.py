"""Weighs templates: what a share is worth on each, in integers.

Source: `spec/09-template-value.md`.
"""

from radpool_sv2.weight.price import QUALITY_ONE, cap_sats, hashes_of_target, price_of, quality_q32
from radpool_sv2.weight.reference import OwnReference, ReferenceFees
from radpool_sv2.weight.scale import REAL, REGTEST, SIGNET, Scale, WeightMode, scale_of
from radpool_sv2.weight.weighing import PricedTip, Weighing

__all__ = [
    "QUALITY_ONE",
    "REAL",
    "REGTEST",
    "SIGNET",
    "OwnReference",
    "PricedTip",
    "ReferenceFees",
    "Scale",
    "Weighing",
    "WeightMode",
    "cap_sats",
    "hashes_of_target",
    "price_of",
    "quality_q32",
    "scale_of",
]
