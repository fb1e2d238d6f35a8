"""Defines how a view ends, in bytes: votes with the cut that they are for, which they name only.

Source: `spec/14-epoch-agreement.md`, "Messages".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from radpool_sv2.federation.agreement.mark import Cut
from radpool_sv2.federation.certificate import Certificate
from radpool_sv2.federation.codec import CodecError
from radpool_sv2.federation.statement import Phase, Vote

if TYPE_CHECKING:
    from typing import Self

    from radpool_sv2.federation.codec import Reader

__all__ = ["Outcome", "encode_cut", "read_cut"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Is a certificate of votes with its cut; there is none where a view was skipped."""

    certificate: Certificate
    cut: Cut | None

    def body(self) -> bytes:
        """Writes the fields."""
        return self.certificate.encode() + encode_cut(self.cut)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Takes the fields off a reader."""
        certificate = Certificate.read(reader)
        vote = certificate.statement
        if not isinstance(vote, Vote):
            raise CodecError("a view ends by a certificate of votes")
        return cls(certificate, read_cut(reader, vote))


def encode_cut(cut: Cut | None) -> bytes:
    """Writes the cut behind a vote that names one."""
    return b"" if cut is None else cut.encode()


def read_cut(reader: Reader, vote: Vote) -> Cut | None:
    """Takes the cut off a reader that a vote names, behind it."""
    return None if vote.phase is Phase.SKIP else Cut.read(reader)
