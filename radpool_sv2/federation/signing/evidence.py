"""Defines signed shares, and evidence of one that does not hold.

A share is signed with its member's identity key; it names its session, and so all that the session
consists of. Whoever has it and the session can show everybody that it does not hold. An honest
member's share holds in the one session that it names, so nobody can show that of it.

Source: `spec/16-threshold-keys.md`, "Signed shares".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from radpool_sv2._native.threshold import COMMITMENT_LEN, SHARE_LEN, Commitment, Session
from radpool_sv2.errors import FaultyMSPError, LocalProtocolError, RemoteProtocolError
from radpool_sv2.federation.codec import (
    HASH_LEN,
    SIGNATURE_LEN,
    CodecError,
    Reader,
    Tag,
    u8,
    u16,
    u64,
)
from radpool_sv2.federation.committee import MEMBERS_MAX

if TYPE_CHECKING:
    from radpool_sv2._native.threshold import PublicKey
    from radpool_sv2.federation.identity import Signer, Verifier

__all__ = ["ShareEvidence", "SignedShare", "Signers", "encode_signers", "read_signers"]

SHARE_TAG: Final = Tag("radpool/signing-share")

Signers = tuple[tuple[int, Commitment], ...]
"""Places in a key and commitments, ascending."""


def encode_signers(signers: Signers) -> bytes:
    """Writes who signs by which commitment."""
    return u16(len(signers)) + b"".join(
        u16(place) + commitment.encode() for place, commitment in signers
    )


def read_signers(reader: Reader) -> Signers:
    """Takes signers off a reader.

    Raises:
        CodecError: The bytes are none.
    """
    count = reader.below(2, MEMBERS_MAX + 1, "the number of signers")
    signers = []
    for _ in range(count):
        place = reader.below(2, MEMBERS_MAX, "the signer")
        signers.append((place, read_commitment(reader)))
    return tuple(signers)


def read_commitment(reader: Reader) -> Commitment:
    """Takes a commitment off a reader.

    Raises:
        CodecError: The bytes are none.
    """
    data = reader.take(COMMITMENT_LEN)
    try:
        return Commitment.decode(data)
    except RemoteProtocolError as error:
        raise CodecError(f"a commitment cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class SignedShare:
    """Is a signature share that its member stands for.

    Attributes:
        share: The session's id, and the share.
        signature: The identity key's.
    """

    share: bytes
    signature: bytes

    @classmethod
    def sign(cls, signer: Signer, share: bytes) -> SignedShare:
        """Signs a share."""
        return cls(share, signer.sign(SHARE_TAG.hash(share)))

    @property
    def session(self) -> bytes:
        """The id of its session."""
        return self.share[:HASH_LEN]

    def is_of(self, key: bytes, verifier: Verifier) -> bool:
        """Says whether a member's identity key has signed it."""
        return verifier.is_signed(key, SHARE_TAG.hash(self.share), self.signature)

    def encode(self) -> bytes:
        """Writes both."""
        return self.share + self.signature

    @classmethod
    def read(cls, reader: Reader) -> SignedShare:
        """Takes both off a reader."""
        return cls(reader.take(SHARE_LEN), reader.take(SIGNATURE_LEN))


@dataclass(frozen=True, slots=True)
class ShareEvidence:
    """Is a payload of kind SIGNING_EVIDENCE: a session, and a signed share that does not hold.

    Attributes:
        transcript: The key's name.
        offender: Place in the key of whose share it is.
        message: What the session signs.
        merkle_root: The tweak, if there is one.
        number: The session's number.
        signers: Who signs in it.
        signed: The share.
    """

    transcript: bytes
    offender: int
    message: bytes
    merkle_root: bytes | None
    number: int
    signers: Signers
    signed: SignedShare

    def verify(self, key: PublicKey, verifier: Verifier) -> None:
        """Checks that the offender is guilty.

        Raises:
            RemoteProtocolError: It is not proven: whoever showed the evidence is at fault.
        """
        if self.transcript != key.transcript or self.offender not in dict(self.signers):
            raise RemoteProtocolError("the evidence is of another key or session", "evidence")
        try:
            session = Session(key, self.message, self.signers, self.number, self.merkle_root)
        except LocalProtocolError as error:
            raise RemoteProtocolError(f"the evidence has no session: {error}", "evidence") from None
        identity = key.run.members[self.offender]
        if self.signed.session != session.id or not self.signed.is_of(identity, verifier):
            raise RemoteProtocolError("the offender has not signed such a share", "evidence")
        try:
            session.verify_share(self.offender, self.signed.share)
        except FaultyMSPError:
            return
        raise RemoteProtocolError("the share holds", "evidence")

    def encode(self) -> bytes:
        """Writes the payload."""
        root = b"" if self.merkle_root is None else self.merkle_root
        return b"".join(
            (
                self.transcript,
                u16(self.offender),
                self.message,
                u8(self.merkle_root is not None) + root,
                u64(self.number),
                encode_signers(self.signers),
                self.signed.encode(),
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> ShareEvidence:
        """Reads a payload; nothing is checked.

        Raises:
            CodecError: The bytes are none.
        """
        with Reader(data) as reader:
            return cls(
                reader.take(HASH_LEN),
                reader.below(2, MEMBERS_MAX, "the offender"),
                reader.take(HASH_LEN),
                reader.take(HASH_LEN) if reader.flag("whether there is a tweak") else None,
                reader.u64(),
                read_signers(reader),
                SignedShare.read(reader),
            )
