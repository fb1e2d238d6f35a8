"""Reads what a template body says: its height, and what its coinbase pays.

Source: `spec/03-share-batch.md`, "Template body"; `spec/09-template-value.md`, "Terms".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from radpool_sv2.errors import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["body_height", "body_nbits", "body_outputs", "body_paid_sats", "body_prev_hash"]

PREV_HASH_AT = 4
NBITS_AT = 4 + 32
HEIGHT_AT = 4 + 32 + 4
PREFIX_AT = 4 + 32 + 4 + 4
SEQUENCE_LEN = 4
LOCKTIME_LEN = 4
SIZES = {0xFD: 2, 0xFE: 4, 0xFF: 8}


def body_prev_hash(body: bytes) -> bytes:
    """Returns the block that an encoded template body builds on, internal byte order."""
    return body[PREV_HASH_AT : PREV_HASH_AT + 32]


def body_nbits(body: bytes) -> int:
    """Returns the compact target of the block that an encoded template body would become."""
    return int.from_bytes(body[NBITS_AT : NBITS_AT + 4], "little")


def body_height(body: bytes) -> int:
    """Returns the height of the block that an encoded template body would become."""
    return int.from_bytes(body[HEIGHT_AT : HEIGHT_AT + 4], "little")


def body_outputs(body: bytes) -> list[tuple[int, bytes]]:
    """Lists the outputs around the owner output: amount in satoshi and script each.

    Raises:
        LocalProtocolError: The bytes are no template body.
    """
    try:
        _, at = _part(body, PREFIX_AT)
        before, at = _part(body, at)
        after, _ = _part(body, at)
        _, outputs_at = _compact_size(before, SEQUENCE_LEN)
        return [*_outputs(before[outputs_at:]), *_outputs(after[:-LOCKTIME_LEN])]
    except IndexError:
        raise LocalProtocolError("the bytes end inside a field: no template body") from None


def body_paid_sats(body: bytes, script: bytes) -> int:
    """Sums what the outputs around the owner output pay to a script.

    Raises:
        LocalProtocolError: The bytes are no template body.
    """
    return sum(sats for sats, each in body_outputs(body) if each == script)


def _part(body: bytes, at: int) -> tuple[bytes, int]:
    end = at + 2 + int.from_bytes(body[at : at + 2], "little")
    if end > len(body):
        raise IndexError
    return body[at + 2 : end], end


def _compact_size(data: bytes, at: int) -> tuple[int, int]:
    width = SIZES.get(data[at], 0)
    if not width:
        return data[at], at + 1
    return int.from_bytes(data[at + 1 : at + 1 + width], "little"), at + 1 + width


def _outputs(outputs: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(outputs):
        length, script_at = _compact_size(outputs, at + 8)
        if script_at + length > len(outputs):
            raise IndexError
        sats = int.from_bytes(outputs[at : at + 8], "little")
        yield sats, outputs[script_at : script_at + length]
        at = script_at + length
