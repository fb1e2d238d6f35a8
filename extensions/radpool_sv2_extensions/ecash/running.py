"""Follows a channel's running receipt: in lazy mode it is all that a miner has before redemption.

The mint signs a hash over all claims that it has accepted on the channel, in order. Whoever keeps
the claims, the last root and its signature can prove that a share was accepted and its token then
refused. So each step is checked, and kept beside the wallet.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import trio
from coincurve import PublicKeyXOnly

from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2_extensions.ecash.message import receipt_root

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from radpool_sv2_extensions.ecash.claims import Claim
    from radpool_sv2_extensions.ecash.message import Receipt, SubmitSharesEcashExtendedSuccess

__all__ = ["FILE", "RunningReceipt"]

FILE: Final = "receipts.jsonl"


class RunningReceipt:
    """Is the running receipt of one channel.

    Args:
        mint: The mint's key, 33 bytes.
        channel: The channel.
        directory: Where the receipts are kept.
    """

    def __init__(self, mint: bytes, channel: int, directory: Path) -> None:
        self._key = PublicKeyXOnly(mint[1:])
        self._mint = mint
        self._channel = channel
        self._path = directory / FILE
        self._root = bytes(32)

    async def take(
        self,
        message: SubmitSharesEcashExtendedSuccess,
        answered: Sequence[tuple[Receipt, Claim]],
    ) -> None:
        """Checks what the mint says next, and keeps it.

        Raises:
            RemoteProtocolError: The root is not that of the claims, or not signed by the mint.
        """
        if len(answered) != len(message.receipts):
            raise RemoteProtocolError("the pool's running receipt has shares that were not sent")
        root = self._root
        for receipt, claim in answered:
            root = receipt_root(root, claim.output.blinded, receipt.z, claim.share_hash)
        if message.receipt_root != root:
            raise RemoteProtocolError(
                f"the pool's running receipt of channel {self._channel} is not that of the shares "
                "that were sent: a token could be denied later"
            )
        try:
            good = self._key.verify(message.receipt_sig, message.receipts_hash())
        except ValueError:
            good = False
        if not good:
            raise RemoteProtocolError(
                f"the running receipt of channel {self._channel} is not signed by the mint "
                f"{self._mint.hex()}"
            )
        line = {
            "mint": self._mint.hex(),
            "channel": self._channel,
            "last_sequence_number": message.last_sequence_number,
            "claims": [
                [claim.keyset.hex(), claim.output.blinded.hex(), receipt.z, claim.share_hash.hex()]
                for receipt, claim in answered
            ],
            "before": self._root.hex(),
            "root": root.hex(),
            "signature": message.receipt_sig.hex(),
        }
        self._root = root
        await trio.to_thread.run_sync(self._append, json.dumps(line) + "\n")

    def _append(self, line: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line)
