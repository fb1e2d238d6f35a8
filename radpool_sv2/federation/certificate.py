"""Defines certificates: one statement with the signatures of a quorum, which anyone can check.

Source: `spec/13-broadcast.md`, "Certificates".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.federation.codec import SIGNATURE_LEN, CodecError, Reader, u8, u16
from radpool_sv2.federation.committee import MEMBERS_MAX
from radpool_sv2.federation.statement import Statement, decode_statement, encode_statement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from radpool_sv2.federation.committee import Committee
    from radpool_sv2.federation.identity import Verifier

__all__ = ["Certificate"]


@dataclass(frozen=True, slots=True)
class Certificate:
    """Is a statement that a quorum of members has signed.

    Attributes:
        statement: What they signed.
        signatures: Member and signature, in ascending order of members; exactly a quorum.
    """

    statement: Statement
    signatures: tuple[tuple[int, bytes], ...]

    @classmethod
    def of(
        cls, statement: Statement, signatures: Mapping[int, bytes], committee: Committee
    ) -> Certificate:
        """Makes a certificate of the first of checked signatures, which are at least a quorum."""
        chosen = sorted(signatures)[: committee.quorum]
        return cls(statement, tuple((member, signatures[member]) for member in chosen))

    def verify(self, committee: Committee, verifier: Verifier) -> None:
        """Checks that a quorum of the committee signed the statement.

        Raises:
            RemoteProtocolError: It did not: whoever showed the certificate is at fault.
        """
        statement = self.statement
        if statement.committee != committee.id:
            raise RemoteProtocolError("the certificate is of another committee", "committee")
        if len(self.signatures) != committee.quorum:
            raise RemoteProtocolError(
                f"a certificate has {committee.quorum} signatures, this one {len(self.signatures)}",
                "certificate",
            )
        digest, before = statement.digest, -1
        for member, signature in self.signatures:
            if not before < member < committee.n:
                raise RemoteProtocolError(
                    "the signers of a certificate are members in ascending order", "certificate"
                )
            before = member
            if not verifier.is_signed(committee.members[member], digest, signature):
                raise RemoteProtocolError(
                    f"the certificate's signature of member {member} is none", "signature"
                )

    def encode(self) -> bytes:
        """Writes the certificate without its committee."""
        parts = [encode_statement(self.statement), u8(len(self.signatures))]
        for member, signature in self.signatures:
            parts += [u16(member), signature]
        return b"".join(parts)

    @classmethod
    def read(cls, reader: Reader) -> Certificate:
        """Takes a certificate off a reader; its signatures are not checked.

        Raises:
            CodecError: The bytes are none.
        """
        statement = decode_statement(reader)
        count = reader.below(1, MEMBERS_MAX + 1, "the number of signatures")
        signatures = tuple(
            (reader.below(2, MEMBERS_MAX, "the signer"), reader.take(SIGNATURE_LEN))
            for _ in range(count)
        )
        if not signatures:
            raise CodecError("a certificate without signatures")
        return cls(statement, signatures)
