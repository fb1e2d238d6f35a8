"""Sums what accounts have earned up a tree, each node committing to the sums below it.

Source: `spec/15-checkpoint-state.md`, "Root"; the tree has the form of `spec/03-share-batch.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.federation.codec import HASH_LEN, Reader, Tag, u8, u16, u32, u64

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["NO_NODE", "Node", "Row", "path_of", "root_of", "verify_path"]

LEAF_TAG: Final = Tag("radpool/federation-leaf")
NODE_TAG: Final = Tag("radpool/federation-node")

SUM_LEN: Final = 16


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """Is what an account has earned in an epoch, on blocks of one height.

    Attributes:
        member: Whose account it is.
        commitment: The account's owner commitment, 32 bytes.
        rail: How it is paid.
        height: Of the block that was mined for.
        count: Shares.
        work: The hashes that they take on average.
        value: What they are worth.
    """

    member: int
    commitment: bytes
    rail: int
    height: int
    count: int
    work: int
    value: int

    def encode(self) -> bytes:
        """Writes the row, 79 bytes."""
        place = u16(self.member) + self.commitment + u8(self.rail) + u32(self.height)
        return place + u64(self.count) + _sums(self.work, self.value)

    @classmethod
    def read(cls, reader: Reader) -> Row:
        """Takes a row off a reader."""
        member, commitment, rail = reader.u16(), reader.take(HASH_LEN), reader.u8()
        height, count = reader.u32(), reader.u64()
        work, value = (int.from_bytes(reader.take(SUM_LEN), "little") for _ in range(2))
        return cls(member, commitment, rail, height, count, work, value)


@dataclass(frozen=True, slots=True)
class Node:
    """Is a node of the tree: its hash, and what is below it."""

    hash: bytes
    work: int
    value: int

    def encode(self) -> bytes:
        """Writes hash and sums."""
        return self.hash + _sums(self.work, self.value)


NO_NODE: Final = Node(bytes(HASH_LEN), 0, 0)
"""Stands for the root of no rows."""


def _sums(work: int, value: int) -> bytes:
    return work.to_bytes(SUM_LEN, "little") + value.to_bytes(SUM_LEN, "little")


def _leaf(row: Row) -> Node:
    return Node(LEAF_TAG.hash(row.encode()), row.work, row.value)


def _join(left: Node, right: Node) -> Node:
    digest = NODE_TAG.hash(
        left.hash, right.hash, _sums(left.work, left.value), _sums(right.work, right.value)
    )
    return Node(digest, left.work + right.work, left.value + right.value)


def _above(nodes: Sequence[Node]) -> list[Node]:
    """Joins a level in pairs; a last one without sibling rises."""
    pairs = zip(nodes[::2], nodes[1::2], strict=False)
    return [_join(left, right) for left, right in pairs] + list(nodes[len(nodes) & ~1 :])


def root_of(rows: Sequence[Row]) -> Node:
    """Computes the root over rows."""
    nodes = [_leaf(row) for row in rows]
    while len(nodes) > 1:
        nodes = _above(nodes)
    return nodes[0] if nodes else NO_NODE


def path_of(rows: Sequence[Row], index: int) -> list[Node]:
    """Returns the siblings of a row, from the leaves up."""
    nodes, path = [_leaf(row) for row in rows], []
    while len(nodes) > 1:
        if index ^ 1 < len(nodes):
            path.append(nodes[index ^ 1])
        nodes, index = _above(nodes), index // 2
    return path


def verify_path(row: Row, index: int, count: int, path: Sequence[Node], root: Node) -> None:
    """Checks that a row is one of those below a root.

    Raises:
        RemoteProtocolError: It is not shown to be.
    """
    node, left = _leaf(row), list(path)
    if not 0 <= index < count:
        raise RemoteProtocolError(f"row {index} of {count} cannot be", "path")
    while count > 1:
        if index ^ 1 < count:
            if not left:
                raise RemoteProtocolError("the path ends below the root", "path")
            sibling = left.pop(0)
            node = _join(sibling, node) if index & 1 else _join(node, sibling)
        index, count = index // 2, (count + 1) // 2
    if left or node != root:
        raise RemoteProtocolError("the path does not lead to the root", "path")
