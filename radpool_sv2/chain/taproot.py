"""Commits output keys to script trees, and hashes what spends of them sign.

A spend signs by the default signature hash alone: over all inputs and outputs.

Source: BIP341, "Script validation rules", "Common signature message"; BIP342, "Common Signature
Message Extension".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final, TypeAlias

from coincurve import PublicKeyXOnly

from radpool_sv2.chain.transaction import compact_size
from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.units import tagged_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from radpool_sv2.chain.transaction import Transaction, TxOutput

__all__ = ["TAPSCRIPT", "ScriptTree", "TapLeaf", "Taproot", "signature_hash"]

KEY_LEN: Final = 32

TAPSCRIPT: Final = 0xC0
"""The version of leaves whose scripts are BIP342's."""


@dataclass(frozen=True)
class TapLeaf:
    """Is a script of a tree."""

    script: bytes
    version: int = TAPSCRIPT

    @property
    def hash(self) -> bytes:
        """Its hash, 32 bytes."""
        return tagged_hash(
            "TapLeaf", bytes([self.version]), compact_size(len(self.script)), self.script
        )


ScriptTree: TypeAlias = TapLeaf | tuple["ScriptTree", "ScriptTree"]


@dataclass(frozen=True)
class Taproot:
    """Is an output that a key can spend, and scripts can.

    Attributes:
        internal_key: What is tweaked, 32 bytes x-only.
        merkle_root: Of the script tree; empty without one.
        output_key: What stands in the output, 32 bytes x-only.
        is_odd: Whether the output key's other coordinate is odd.
        paths: Of each leaf from left to right: the hashes on its way to the root.
    """

    internal_key: bytes
    merkle_root: bytes
    output_key: bytes
    is_odd: bool
    paths: tuple[tuple[TapLeaf, tuple[bytes, ...]], ...]

    @classmethod
    def of(cls, internal_key: bytes, tree: ScriptTree | None = None) -> Taproot:
        """Commits a key to a script tree.

        Raises:
            LocalProtocolError: The key is none.
        """
        root, paths = (b"", ()) if tree is None else _branch(tree)
        if len(internal_key) != KEY_LEN:
            raise LocalProtocolError(
                f"no internal key has {len(internal_key)} bytes: it has {KEY_LEN}"
            )
        try:
            key = PublicKeyXOnly(internal_key)
            key.tweak_add(tagged_hash("TapTweak", internal_key, root))
        except ValueError as error:
            raise LocalProtocolError(
                f"{internal_key.hex()} is no internal key of an output: {error}"
            ) from error
        return cls(internal_key, root, key.format(), bool(key.parity), tuple(paths))

    @property
    def script(self) -> bytes:
        """The output script, 34 bytes."""
        return b"\x51\x20" + self.output_key

    def control_block(self, leaf: TapLeaf) -> bytes:
        """Writes what proves a leaf: the last item of a witness that spends by it.

        Raises:
            LocalProtocolError: The tree has no such leaf.
        """
        for each, path in self.paths:
            if each == leaf:
                return bytes([leaf.version | self.is_odd]) + self.internal_key + b"".join(path)
        raise LocalProtocolError("the output has no such script")


def _branch(tree: ScriptTree) -> tuple[bytes, list[tuple[TapLeaf, tuple[bytes, ...]]]]:
    if isinstance(tree, TapLeaf):
        return tree.hash, [(tree, ())]
    (left, lefts), (right, rights) = map(_branch, tree)
    paths = [(leaf, (*path, right)) for leaf, path in lefts]
    paths += [(leaf, (*path, left)) for leaf, path in rights]
    return tagged_hash("TapBranch", *sorted((left, right))), paths


def signature_hash(
    transaction: Transaction,
    spent: Sequence[TxOutput],
    index: int,
    leaf: TapLeaf | None = None,
) -> bytes:
    """Returns what an input signs, 32 bytes.

    Args:
        transaction: What spends; its witnesses do not matter.
        spent: The outputs that its inputs spend, in order.
        index: Which input signs.
        leaf: The script that it is spent by; `None` for the key path.
    """
    inputs = transaction.inputs
    extension = b"" if leaf is None else leaf.hash + b"\x00" + b"\xff" * 4
    return tagged_hash(
        "TapSighash",
        b"\x00\x00",  # the epoch, and SIGHASH_DEFAULT
        struct.pack("<II", transaction.version, transaction.locktime),
        _digest(each.previous[0] + struct.pack("<I", each.previous[1]) for each in inputs),
        _digest(struct.pack("<q", each.value_sats) for each in spent),
        _digest(compact_size(len(each.script)) + each.script for each in spent),
        _digest(struct.pack("<I", each.sequence) for each in inputs),
        _digest(each.to_bytes() for each in transaction.outputs),
        b"\x02" if extension else b"\x00",  # twice the extension flag; no annex
        struct.pack("<I", index),
        extension,
    )


def _digest(parts: Iterable[bytes]) -> bytes:
    return sha256(b"".join(parts)).digest()
