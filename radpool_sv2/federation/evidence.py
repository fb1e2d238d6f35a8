"""Defines evidence: two statements of one slot, signed by one member, that are not the same.

It convinces anyone who knows the committee, and says nothing about anyone but its offender: an
honest member signs one statement per slot, and writes it down before.

Source: `spec/13-broadcast.md`, "Evidence".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.federation.codec import SIGNATURE_LEN, Reader, u16
from radpool_sv2.federation.committee import MEMBERS_MAX
from radpool_sv2.federation.statement import Statement, decode_statement, encode_statement

if TYPE_CHECKING:
    from radpool_sv2.federation.committee import Committee
    from radpool_sv2.federation.identity import Verifier

__all__ = ["Evidence"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Is what a member cannot have signed unless it is faulty.

    Attributes:
        offender: The member.
        first: A statement.
        first_signature: The offender's, on it.
        second: Another statement of the same kind and slot.
        second_signature: The offender's, on it.
    """

    offender: int
    first: Statement
    first_signature: bytes
    second: Statement
    second_signature: bytes

    def verify(self, committee: Committee, verifier: Verifier) -> None:
        """Checks that the offender is guilty.

        Raises:
            RemoteProtocolError: It is not proven: whoever showed the evidence is at fault.
        """
        first, second = self.first, self.second
        if self.offender >= committee.n:
            raise RemoteProtocolError("the offender is no member", "evidence")
        if first.committee != committee.id or second.committee != committee.id:
            raise RemoteProtocolError("the evidence is of another committee", "evidence")
        if type(first) is not type(second) or first.slot != second.slot or first == second:
            raise RemoteProtocolError(
                "the statements are not two of one slot: a member may sign both", "evidence"
            )
        key = committee.members[self.offender]
        for statement, signature in (
            (first, self.first_signature),
            (second, self.second_signature),
        ):
            if not statement.may_sign(self.offender):
                raise RemoteProtocolError("the offender has no say in the slot", "evidence")
            if not verifier.is_signed(key, statement.digest, signature):
                raise RemoteProtocolError("the offender did not sign both statements", "evidence")

    def encode(self) -> bytes:
        """Writes the evidence with its committee: it is shown to anyone."""
        return b"".join(
            (
                u16(self.offender),
                encode_statement(self.first, whole=True),
                self.first_signature,
                encode_statement(self.second, whole=True),
                self.second_signature,
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> Evidence:
        """Reads evidence; nothing is checked.

        Raises:
            CodecError: The bytes are none.
        """
        with Reader(data) as reader:
            return cls(
                reader.below(2, MEMBERS_MAX, "the offender"),
                decode_statement(reader),
                reader.take(SIGNATURE_LEN),
                decode_statement(reader),
                reader.take(SIGNATURE_LEN),
            )
