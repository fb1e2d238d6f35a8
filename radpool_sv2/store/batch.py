"""Reads the table of templates at the head of a stored batch, without the rest of it.

Source: `spec/03-share-batch.md`, "Batch".
"""

from __future__ import annotations

from radpool_sv2.units import HASH_LEN

__all__ = ["template_entries"]

VERSION_AT = 4
VERSION_WORK = 1
TABLE_AT = 4 + 1 + 32 + 8 + 32 + 8 + 4
"""Where the table begins in a batch of version 1, its length first."""

RULE_LEN = 3
"""Later versions name the rule of weight in front of the table."""

PRICE_LEN = 16


def template_entries(blob: bytes) -> list[tuple[bytes, int | None]]:
    """Returns digest and price of each template that a batch names; None in version 1."""
    is_priced = blob[VERSION_AT] != VERSION_WORK
    at = TABLE_AT + (RULE_LEN if is_priced else 0)
    count, at = int.from_bytes(blob[at : at + 2], "little"), at + 2
    entry_len = HASH_LEN + (PRICE_LEN if is_priced else 0)
    starts = range(at, at + count * entry_len, entry_len)
    entries = [blob[start : start + entry_len] for start in starts]
    return [
        (entry[:HASH_LEN], int.from_bytes(entry[HASH_LEN:], "little") if is_priced else None)
        for entry in entries
    ]
