"""Defines where epochs end in streams, and cuts: which members' ends count in an epoch.

Source: `spec/14-epoch-agreement.md`, "Marks" and "Cuts".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

from radpool_sv2.federation.codec import HASH_LEN, CodecError, Reader, Tag, u16, u32, u64
from radpool_sv2.federation.committee import MEMBERS_MAX

__all__ = ["Cut", "Ending", "Mark"]

CUT_TAG: Final = Tag("radpool/federation-cut")


@dataclass(frozen=True, slots=True)
class Mark:
    """Is the payload that ends an epoch in a stream.

    Attributes:
        epoch: The epoch that ends.
        height: The height of the block with which it ends.
        block_hash: That block as the sender knows it, internal byte order.
    """

    epoch: int
    height: int
    block_hash: bytes

    def encode(self) -> bytes:
        """Writes the mark, 40 bytes."""
        return u32(self.epoch) + u32(self.height) + self.block_hash

    @classmethod
    def decode(cls, data: bytes) -> Mark:
        """Reads a mark.

        Raises:
            CodecError: The bytes are none.
        """
        with Reader(data) as reader:
            return cls(reader.u32(), reader.u32(), reader.take(HASH_LEN))


@dataclass(frozen=True, slots=True)
class Ending:
    """Is where an epoch ends in one stream.

    Attributes:
        member: Whose stream it is.
        seq: Number of the mark's entry.
        digest: Digest of the mark's entry.
    """

    member: int
    seq: int
    digest: bytes


@dataclass(frozen=True)
class Cut:
    """Says which members' streams count in an epoch, and how far.

    Attributes:
        epoch: The epoch.
        endings: In ascending order of members, each at most once.
    """

    epoch: int
    endings: tuple[Ending, ...]

    @cached_property
    def members(self) -> frozenset[int]:
        """Whose streams count."""
        return frozenset(ending.member for ending in self.endings)

    def digest(self, committee: bytes) -> bytes:
        """Computes what votes name."""
        return CUT_TAG.hash(committee, self.encode())

    def encode(self) -> bytes:
        """Writes the cut."""
        parts = [u32(self.epoch), u16(len(self.endings))]
        for ending in self.endings:
            parts += [u16(ending.member), u64(ending.seq), ending.digest]
        return b"".join(parts)

    @classmethod
    def read(cls, reader: Reader) -> Cut:
        """Takes a cut off a reader.

        Raises:
            CodecError: The bytes are none, or its members are not in order.
        """
        epoch = reader.u32()
        count = reader.below(2, MEMBERS_MAX + 1, "the number of endings")
        endings = tuple(
            Ending(reader.below(2, MEMBERS_MAX, "the member"), reader.u64(), reader.take(HASH_LEN))
            for _ in range(count)
        )
        for left, right in pairwise(endings):
            if left.member >= right.member:
                raise CodecError("the members of a cut do not stand in ascending order, each once")
        return cls(epoch, endings)
