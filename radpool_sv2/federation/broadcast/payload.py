"""Defines what streams are made of: kinds of payloads, their bounds, and places in a stream.

Source: `spec/13-broadcast.md`, "Entries".
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from radpool_sv2.federation.codec import Tag

__all__ = ["ENTRY_OVERHEAD", "PAYLOAD_BYTES_MAX", "PAYLOAD_TAG", "Kind", "payload_digest"]

PAYLOAD_TAG: Final = Tag("radpool/federation-payload")

PAYLOAD_BYTES_MAX: Final = 1 << 20
"""A batch of 1,000 shares with its templates has some 40 kB; one of 65,535 shares 2 MB is split."""

ENTRY_OVERHEAD: Final = 256
"""What an entry counts in a budget beside its payload: header, signature and bookkeeping."""


class Kind(IntEnum):
    """Says what a payload is; numbers that are not listed are carried and mean nothing."""

    SHARE_BATCH = 1
    """A signed batch of shares (page 03)."""
    REGISTRATION = 2
    """Registrations of owners that both sides have signed (page 11)."""
    COMMITMENTS = 3
    """Commitments to signing nonces."""
    KEY_GENERATION = 4
    """A round of a distributed key generation."""
    EPOCH_MARK = 5
    """The end of an epoch in the stream."""
    EVIDENCE = 6
    """Two statements of one slot."""
    NONCE_RESET = 7
    """Commitments of earlier starts are void."""
    JOIN = 8
    LEAVE = 9
    TEMPLATE = 10
    """Bodies of templates that batches refer to."""
    TIP = 11
    """What the sender's node says of the block that is to be found next."""
    PAYOUT_SCRIPT = 12
    """Where the sender is paid."""
    SIGNING_EVIDENCE = 13
    """A signature share that its member signed, and that does not hold."""
    KEY_SAID = 14
    """A key of the federation that the sender has a part of."""
    BLOCK_FOUND = 15
    """A block that the sender's node has in its chain, and that pays the federation."""
    BLOCK_MATURE = 16
    """Such a block is deep enough in the chain of the sender's node to be spent from."""


def payload_digest(payload: bytes) -> bytes:
    """Computes the digest that a header has of its payload."""
    return PAYLOAD_TAG.hash(payload)
