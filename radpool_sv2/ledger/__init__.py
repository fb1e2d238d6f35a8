"""Keeps the pool's books: who has proved how much work, and what each block pays for it."""

from radpool_sv2.ledger.account import Account
from radpool_sv2.ledger.books import Reconciled
from radpool_sv2.ledger.ledger import Ledger
from radpool_sv2.ledger.payout import Claim, split_reward

__all__ = ["Account", "Claim", "Ledger", "Reconciled", "split_reward"]
