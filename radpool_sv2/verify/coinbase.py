"""Takes a share's coinbase apart: height, owner output, what it pays.

Source: `spec/02-owner-tag.md`, "Opening".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from radpool_sv2.units import tagged_hash
from radpool_sv2.verify.reader import Reader, TruncatedError

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = [
    "CoinbaseFault",
    "check_coinbase",
    "coinbase_largest_output",
    "coinbase_paid_sats",
    "coinbase_value_sats",
    "outputs_around",
    "owner_script",
]

SCRIPT_SIG_MIN = 2
SCRIPT_SIG_MAX = 100
SCRIPT_SIG_AT = 4 + 1 + 36 + 1
NULL_OUTPOINT = bytes(32) + b"\xff" * 4
OWNER_SCRIPT_START = b"\x6a\x26RADP"
TAG_VERSION = 1

SMALL_NUMBER_MAX = 16
"""Heights up to 16 are pushed by an opcode of their own."""


class CoinbaseFault(Exception):  # noqa: N818 - a verdict, not an error of this program
    """Says what is wrong with a coinbase; `code` is the word of the test vectors."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def owner_script(msp_key: bytes, commitment: bytes, epoch: int, rail: int, exponent: int) -> bytes:
    """Writes the script that the owner output of a job must have."""
    binding = tagged_hash(
        "radpool/owner", msp_key, commitment, epoch.to_bytes(4, "little"), bytes([rail, exponent])
    )
    return OWNER_SCRIPT_START + bytes([TAG_VERSION << 4 | rail, exponent]) + binding


def check_coinbase(
    coinbase: bytes, extranonce_at: int, extranonce_len: int, height: int, script: bytes
) -> None:
    """Checks a coinbase without witness that should carry the given height and owner output.

    Raises:
        CoinbaseFault: It is not as it should be.
    """
    try:
        script_sig, outputs = _parse(coinbase)
    except TruncatedError:
        raise CoinbaseFault("coinbase") from None
    end = SCRIPT_SIG_AT + len(script_sig)
    # Only so does what `outputs_around` is given begin behind the script.
    if extranonce_at < SCRIPT_SIG_AT or extranonce_at + extranonce_len != end:
        raise CoinbaseFault("coinbase")
    if not script_sig.startswith(_height_push(height)):
        raise CoinbaseFault("height")
    owners = [output for output in outputs if output[1].startswith(OWNER_SCRIPT_START)]
    if owners != [(0, script)]:
        raise CoinbaseFault("owner-tag")


def coinbase_value_sats(coinbase: bytes) -> int:
    """Sums what the outputs of a checked coinbase pay."""
    return sum(value for value, _ in _parse(coinbase)[1])


def coinbase_paid_sats(coinbase: bytes, scripts: Collection[bytes]) -> int:
    """Sums what the outputs of a checked coinbase pay to some scripts."""
    return sum(value for value, script in _parse(coinbase)[1] if script in scripts)


def outputs_around(before_tag: bytes, after_tag: bytes) -> list[tuple[int, bytes]]:
    """Lists the outputs around the owner output of a template body: amount and script each.

    Raises:
        TruncatedError: The parts are not those of a coinbase.
    """
    before, after = Reader(before_tag), Reader(after_tag[:-4])
    before.take(4)
    before.compact_size()
    outputs = []
    for reader in (before, after):
        while reader.left:
            value = reader.number(8)
            outputs.append((value, reader.take(reader.compact_size())))
    return outputs


def coinbase_largest_output(coinbase: bytes) -> int:
    """Returns the index of the output of a checked coinbase that pays most, the first of equals."""
    values = [value for value, _ in _parse(coinbase)[1]]
    return values.index(max(values))


def _parse(coinbase: bytes) -> tuple[bytes, list[tuple[int, bytes]]]:
    reader = Reader(coinbase)
    reader.take(4)
    inputs, outpoint, script_len = reader.number(1), reader.take(36), reader.number(1)
    if inputs != 1 or outpoint != NULL_OUTPOINT:
        raise TruncatedError
    if not SCRIPT_SIG_MIN <= script_len <= SCRIPT_SIG_MAX:
        raise TruncatedError
    script_sig = reader.take(script_len)
    reader.take(4)
    outputs = []
    for _ in range(reader.compact_size()):
        value = reader.number(8)
        outputs.append((value, reader.take(reader.compact_size())))
    reader.take(4)
    if reader.left:
        raise TruncatedError
    return script_sig, outputs


def _height_push(height: int) -> bytes:
    """Writes the push of a height that BIP34 asks for, as Bitcoin Core does."""
    if height == 0:
        return b"\x00"
    if height <= SMALL_NUMBER_MAX:
        return bytes([0x50 + height])
    # A script number needs a spare bit for its sign.
    length = height.bit_length() // 8 + 1
    return bytes([length]) + height.to_bytes(length, "little")
