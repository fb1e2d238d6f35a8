"""Computes what every block is made of: merkle roots, compact targets, subsidies, coinbase heights.

Hashes are in internal byte order, amounts in satoshi.

Source: bitcoin, `ComputeMerkleRoot`, `arith_uint256::SetCompact`, `GetBlockSubsidy`; BIP 34.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from radpool_sv2.units import HASH_LEN, sha256d

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "HALVING_BLOCKS",
    "MONEY_SATS_MAX",
    "merkle_path",
    "merkle_root",
    "push_height",
    "root_from_path",
    "subsidy_sats",
    "target_of_nbits",
]

MONEY_SATS_MAX: Final = 21_000_000 * 100_000_000

HALVING_BLOCKS: Final = 210_000
"""The subsidy halves after so many blocks on all networks but regtest."""

_SUBSIDY_FIRST_SATS: Final = 50 * 100_000_000
# Bitcoin Core shifts by no more than 63 bits.
_HALVINGS_MAX: Final = 64


def _next_level(level: Sequence[bytes]) -> list[bytes]:
    """Returns the hashes of neighbouring pairs; a last one without neighbour is its own."""
    pairs = list(level) + ([level[-1]] if len(level) % 2 else [])
    return [sha256d(pairs[at] + pairs[at + 1]) for at in range(0, len(pairs), 2)]


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Returns the merkle root over transaction ids, of which there is one at least."""
    level = list(leaves)
    while len(level) > 1:
        level = _next_level(level)
    return level[0]


def merkle_path(leaves: Sequence[bytes]) -> tuple[bytes, ...]:
    """Returns the siblings of a first leaf, which is not given, from the leaves up.

    Args:
        leaves: The ids of all transactions but the coinbase, in block order.
    """
    path: list[bytes] = []
    # The first place is kept by any hash: no sibling of the leftmost depends on it.
    level = [bytes(HASH_LEN), *leaves]
    while len(level) > 1:
        path.append(level[1])
        level = _next_level(level)
    return tuple(path)


def root_from_path(leaf: bytes, path: Sequence[bytes]) -> bytes:
    """Returns the merkle root above a first leaf, such as a coinbase's id, and its siblings."""
    for sibling in path:
        leaf = sha256d(leaf + sibling)
    return leaf


def push_height(height: int) -> bytes:
    """Returns the push of a height that a coinbase's script begins with (BIP 34)."""
    if 1 <= height <= 16:
        return bytes([0x50 + height])
    # One bit more than the number needs: the highest bit of script numbers is the sign.
    number = height.to_bytes((height.bit_length() + 8) // 8, "little")
    return bytes([len(number)]) + number


def target_of_nbits(nbits: int) -> int:
    """Returns the target that a header's compact form stands for.

    Raises:
        ValueError: It stands for none that a block can have.
    """
    size, mantissa = nbits >> 24, nbits & 0x7F_FFFF
    target = mantissa << 8 * (size - 3) if size > 3 else mantissa >> 8 * (3 - size)
    if nbits & 0x80_0000 or not 0 < target < 1 << 256:
        raise ValueError(f"nBits {nbits:#010x} stands for no target")
    return target


def subsidy_sats(height: int, halving_blocks: int = HALVING_BLOCKS) -> int:
    """Returns what a block at a height may create."""
    halvings = height // halving_blocks
    return _SUBSIDY_FIRST_SATS >> halvings if halvings < _HALVINGS_MAX else 0
