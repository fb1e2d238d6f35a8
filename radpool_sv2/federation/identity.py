"""Defines whose word something is: identity keys, and records of how members are reached.

A member has two keys that have nothing in common: the identity key signs (BIP340), the transport
key opens links (X25519). A record binds the second to the first; the one with the highest sequence
number holds.

Source: `spec/13-broadcast.md`, "Committee".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from coincurve import PublicKeyXOnly

from radpool_sv2.errors import LocalProtocolError, RemoteProtocolError
from radpool_sv2.federation.codec import (
    KEY_LEN,
    SIGNATURE_LEN,
    CodecError,
    Reader,
    Tag,
    u8,
    u64,
)

__all__ = [
    "ADDRESSES_MAX",
    "ADDRESS_BYTES_MAX",
    "Bip340Verifier",
    "MemberRecord",
    "Signer",
    "Verifier",
]

MEMBER_TAG: Final = Tag("radpool/federation-member")

ADDRESSES_MAX: Final = 8
ADDRESS_BYTES_MAX: Final = 255
"""A version 3 onion address with its port has 68; host names have at most 253."""


class Signer(Protocol):
    """Signs 32-byte hashes with an identity key; `MspKey` is one."""

    @property
    def public(self) -> bytes:
        """The x-only key, 32 bytes."""

    def sign(self, hash: bytes, /) -> bytes:  # noqa: A002 - what is signed is a hash
        """Returns the signature, 64 bytes."""


class Verifier(Protocol):
    """Checks signatures of members."""

    def is_signed(self, key: bytes, digest: bytes, signature: bytes) -> bool:
        """Says whether a signature of a 32-byte hash is one of a key."""


class Bip340Verifier:
    """Checks BIP340 signatures; keeps the points of the keys that it was asked about.

    Args:
        keys_max: How many points it keeps; beyond it forgets all and starts again.
    """

    def __init__(self, keys_max: int = 1_024) -> None:
        self._points: dict[bytes, PublicKeyXOnly] = {}
        self._keys_max = keys_max

    def is_signed(self, key: bytes, digest: bytes, signature: bytes) -> bool:
        """Says whether a signature of a 32-byte hash is one of a key."""
        point = self._points.get(key)
        if point is None:
            try:
                point = PublicKeyXOnly(key)
            except ValueError:
                return False
            if len(self._points) >= self._keys_max:
                self._points.clear()
            self._points[key] = point
        return len(signature) == SIGNATURE_LEN and point.verify(signature, digest)


@dataclass(frozen=True)
class MemberRecord:
    """Says how a member is reached.

    Attributes:
        identity: The member's identity key, 32 bytes x-only.
        transport: Its X25519 key, 32 bytes.
        addresses: Host and port each, in the order of preference; may be none.
        sequence: Grows with each record of the member.
        signature: The identity key's, over all of the above.
    """

    identity: bytes
    transport: bytes
    addresses: tuple[str, ...]
    sequence: int
    signature: bytes

    @classmethod
    def sign(
        cls, signer: Signer, transport: bytes, addresses: tuple[str, ...], sequence: int
    ) -> MemberRecord:
        """Signs a record.

        Raises:
            LocalProtocolError: Too many addresses, one too long, or a key of the wrong length.
        """
        if len(transport) != KEY_LEN or not 0 <= sequence < 1 << 64:
            raise LocalProtocolError("a transport key has 32 bytes, a sequence number fits 8")
        if len(addresses) > ADDRESSES_MAX or any(
            not 1 <= len(each) <= ADDRESS_BYTES_MAX or not _is_printable(each) for each in addresses
        ):
            raise LocalProtocolError(
                f"a record has at most {ADDRESSES_MAX} addresses of 1 to {ADDRESS_BYTES_MAX} "
                "printable ASCII characters each"
            )
        unsigned = cls(signer.public, transport, addresses, sequence, b"")
        return cls(
            signer.public, transport, addresses, sequence, signer.sign(unsigned.signed_hash())
        )

    def signed_hash(self) -> bytes:
        """Returns what the signature covers."""
        return MEMBER_TAG.hash(self._body())

    def encode(self) -> bytes:
        """Writes the record."""
        return self._body() + self.signature

    def _body(self) -> bytes:
        parts = [self.identity, self.transport, u64(self.sequence), u8(len(self.addresses))]
        for address in self.addresses:
            parts += [u8(len(address)), address.encode("ascii")]
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> MemberRecord:
        """Reads a record; its signature is not checked.

        Raises:
            CodecError: The bytes are no record.
        """
        with Reader(data) as reader:
            identity, transport = reader.take(KEY_LEN), reader.take(KEY_LEN)
            sequence = reader.u64()
            addresses = []
            for _ in range(reader.below(1, ADDRESSES_MAX + 1, "the number of addresses")):
                text = reader.take(reader.u8()).decode("latin-1")
                if not text or not _is_printable(text):
                    raise CodecError("an address of a member is not of printable ASCII characters")
                addresses.append(text)
            signature = reader.take(SIGNATURE_LEN)
        return cls(identity, transport, tuple(addresses), sequence, signature)

    def verify(self, verifier: Verifier) -> None:
        """Checks the signature.

        Raises:
            RemoteProtocolError: It is not one of the identity key.
        """
        if not verifier.is_signed(self.identity, self.signed_hash(), self.signature):
            raise RemoteProtocolError(
                "the record is not signed by the member that it is about; ask for another",
                "signature",
                self.identity.hex(),
            )


def _is_printable(text: str) -> bool:
    return all("!" <= each <= "~" for each in text)
