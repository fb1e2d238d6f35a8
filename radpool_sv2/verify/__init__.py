"""Recomputes an exported epoch in pure Python, sharing no code with what made it."""

from radpool_sv2.verify.batch import Batch, BatchFault, decode_batch, verify_batch
from radpool_sv2.verify.epoch import EpochReport, verify_export

__all__ = [
    "Batch",
    "BatchFault",
    "EpochReport",
    "decode_batch",
    "verify_batch",
    "verify_export",
]
