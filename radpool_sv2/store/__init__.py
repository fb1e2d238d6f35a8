"""Keeps what must survive a crash: share batches, accounts, blocks, settlements."""

from radpool_sv2.store.row import (
    AccountRow,
    BatchRow,
    BlockRow,
    EntryRow,
    EpochRow,
    QuoteRow,
    SettlementRow,
    SumRow,
    VoidRow,
    WeightRow,
)
from radpool_sv2.store.sqlite import SqliteStore
from radpool_sv2.store.store import Enclosure, Store

__all__ = [
    "AccountRow",
    "BatchRow",
    "BlockRow",
    "Enclosure",
    "EntryRow",
    "EpochRow",
    "QuoteRow",
    "SettlementRow",
    "SqliteStore",
    "Store",
    "SumRow",
    "VoidRow",
    "WeightRow",
]
