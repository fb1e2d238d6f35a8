"""Defines how the mint says no: the error codes of the ecash extension."""

from __future__ import annotations

from typing import Final

from radpool_sv2.errors import RemoteProtocolError

__all__ = [
    "ALREADY_SPENT",
    "AMOUNT_MISMATCH",
    "BLINDED_MESSAGE_REUSED",
    "DUPLICATE_SHARE",
    "EPOCH_CLOSED",
    "EPOCH_OPEN",
    "EPOCH_VOID",
    "EXPIRED",
    "IMMATURE",
    "INSOLVENT",
    "INVALID_BLINDED_MESSAGE",
    "INVALID_CLAIM_PUBKEY",
    "INVALID_PROOF",
    "INVALID_SIGNATURE",
    "MINT_UNAVAILABLE",
    "NO_OPEN_EPOCH",
    "RATE_LIMITED",
    "STALE_KEYSET",
    "TOO_MANY_ITEMS",
    "UNKNOWN_EPOCH",
    "UNKNOWN_KEYSET",
    "UNSUPPORTED_POLICY",
    "UNSUPPORTED_SIGN_MODE",
    "RefusedError",
]

# A channel.
UNSUPPORTED_POLICY: Final = "unsupported-policy"
UNSUPPORTED_SIGN_MODE: Final = "unsupported-sign-mode"
NO_OPEN_EPOCH: Final = "no-open-epoch"
INSOLVENT: Final = "insolvent"

# A claim: the share itself is good.
INVALID_BLINDED_MESSAGE: Final = "invalid-blinded-message"
BLINDED_MESSAGE_REUSED: Final = "blinded-message-reused"
STALE_KEYSET: Final = "stale-keyset"
UNKNOWN_KEYSET: Final = "unknown-keyset"
EPOCH_CLOSED: Final = "epoch-closed"
MINT_UNAVAILABLE: Final = "mint-unavailable"
DUPLICATE_SHARE: Final = "duplicate-share"

# A redemption, or another request about tokens.
UNKNOWN_EPOCH: Final = "unknown-epoch"
EPOCH_VOID: Final = "epoch-void"
EPOCH_OPEN: Final = "epoch-open"
IMMATURE: Final = "immature"
EXPIRED: Final = "expired"
TOO_MANY_ITEMS: Final = "too-many-items"
ALREADY_SPENT: Final = "already-spent"
AMOUNT_MISMATCH: Final = "amount-mismatch"
RATE_LIMITED: Final = "rate-limited"
INVALID_PROOF: Final = "invalid-proof"

# A residue.
INVALID_CLAIM_PUBKEY: Final = "invalid-claim-pubkey"
INVALID_SIGNATURE: Final = "invalid-signature"


class RefusedError(RemoteProtocolError):
    """Says that the mint does not do what a client asks; the client is at fault, or early.

    Args:
        message: What is wrong with the request.
        error_code: The code of the specification.
        retry_after_s: After how many seconds asking again may help; 0 when it will not.
    """

    def __init__(self, message: str, error_code: str, *, retry_after_s: int = 0) -> None:
        super().__init__(message, error_code)
        self.retry_after_s = retry_after_s
