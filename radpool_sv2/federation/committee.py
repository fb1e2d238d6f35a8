"""Defines who decides: the members of a term, their quorum, and where epochs end.

Members are known by their number in the committee: their place in the order of their identity keys.
The committee's id covers all that two members must have in common, so that nothing signed for one
committee is worth anything in another.

Source: `spec/13-broadcast.md`, "Committee".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.federation.codec import HASH_LEN, KEY_LEN, Reader, Tag, u16, u32

__all__ = ["EPOCHS_MAX", "MEMBERS_MAX", "Committee"]

COMMITTEE_TAG: Final = Tag("radpool/federation-committee")

MEMBERS_MAX: Final = 128
"""Votes grow with the square of the members; seats are 32 to 64 in all that is planned."""

EPOCHS_MAX: Final = 1 << 32
"""Epochs are numbered in four bytes; heights are too."""


@dataclass(frozen=True)
class Committee:
    """Is a set of members with its rule of epochs.

    Attributes:
        chain: Hash of the genesis block, 32 bytes in internal byte order.
        term: Number of the committee in the chain of committees, from 0.
        members: Identity keys, 32 bytes x-only each, in ascending order, 1 to 128.
        height_first: Height at which epoch 0 ends.
        interval: Blocks between the ends of epochs, at least 1.

    Raises:
        LocalProtocolError: One of these does not hold.
    """

    chain: bytes
    term: int
    members: tuple[bytes, ...]
    height_first: int = 0
    interval: int = 1

    def __post_init__(self) -> None:
        if not 1 <= len(self.members) <= MEMBERS_MAX:
            raise LocalProtocolError(
                f"a committee has 1 to {MEMBERS_MAX} members, not {len(self.members)}"
            )
        if any(len(key) != KEY_LEN for key in self.members) or len(self.chain) != HASH_LEN:
            raise LocalProtocolError("identity keys and the genesis hash are of 32 bytes each")
        if any(left >= right for left, right in zip(self.members, self.members[1:], strict=False)):
            raise LocalProtocolError(
                "the members of a committee stand in ascending order of their keys, each once"
            )
        if not (0 <= self.term < 1 << 32 and 0 <= self.height_first < 1 << 32):
            raise LocalProtocolError("term and first height are numbers of four bytes")
        if not 1 <= self.interval < 1 << 16:
            raise LocalProtocolError("an epoch has 1 to 65535 blocks")

    @property
    def n(self) -> int:
        """How many members there are."""
        return len(self.members)

    @cached_property
    def faulty_max(self) -> int:
        """How many members may do anything at all without harm: t."""
        return (self.n - 1) // 3

    @cached_property
    def quorum(self) -> int:
        """How many members make a certificate: any two quorums have an honest one in common."""
        return (self.n + self.faulty_max) // 2 + 1

    @cached_property
    def id(self) -> bytes:
        """The tagged hash of it all, 32 bytes."""
        return COMMITTEE_TAG.hash(self.encode())

    def encode(self) -> bytes:
        """Writes the committee: what its id is the hash of."""
        numbers = u32(self.term) + u32(self.height_first) + u16(self.interval) + u16(self.n)
        return self.chain + numbers + b"".join(self.members)

    @classmethod
    def decode(cls, data: bytes) -> Committee:
        """Reads a committee.

        Raises:
            CodecError: The bytes are none.
            LocalProtocolError: It is none that could work.
        """
        with Reader(data) as reader:
            chain, term, first = reader.take(HASH_LEN), reader.u32(), reader.u32()
            interval = reader.u16()
            members = tuple(reader.take(KEY_LEN) for _ in range(reader.u16()))
        return cls(chain, term, members, first, interval)

    def number_of(self, key: bytes) -> int:
        """Finds a member's number.

        Raises:
            LocalProtocolError: The key is no member's.
        """
        try:
            return self.members.index(key)
        except ValueError:
            raise LocalProtocolError(
                f"{key.hex()} is no member of the committee {self.id.hex()[:16]}"
            ) from None

    def height_of(self, epoch: int) -> int:
        """Returns the height of the block with which an epoch ends."""
        return self.height_first + epoch * self.interval

    def epochs_ended(self, height: int) -> int:
        """Counts the epochs that have ended for a chain of some height."""
        if height < self.height_first:
            return 0
        return (height - self.height_first) // self.interval + 1
