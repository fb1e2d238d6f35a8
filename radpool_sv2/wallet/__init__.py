"""Keeps a miner's money: work tokens that shares earned, and the sats that they become.

`Wallet` is the whole of it. Below it, from the bottom: `seed`, `token`, `announcement` and `price`
are formats and formulas; `file`, `schema` and `store` are the disk; `purse` is the machine that
reserves, verifies and keeps; `mint` speaks with a mint over HTTP; `exchange`, `redemption`,
`payment` and `recovery` are what both do together; `view` is what people are shown.

Source: `spec/06-work-tokens.md`, `spec/08-wallet-recovery.md`.
"""

from radpool_sv2.wallet.purse import Output, Receipt, Received, Trusted
from radpool_sv2.wallet.store import Keyset
from radpool_sv2.wallet.wallet import Wallet

__all__ = ["Keyset", "Output", "Receipt", "Received", "Trusted", "Wallet"]
