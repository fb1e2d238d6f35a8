"""Does the handshake Noise_NX_Secp256k1+EllSwift_ChaChaPoly_SHA256 and the sealed frames of SV2.

Source: sv2-spec, section 4 ("Protocol Security"); the Noise Protocol Framework, sections 5 and 7;
BIP324 for the key exchange; RFC 8439 for the cipher.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from . import curve

PROTOCOL = b"Noise_NX_Secp256k1+EllSwift_ChaChaPoly_SHA256"
ACT_1_LEN = 64
ACT_2_LEN = 234
TAG_LEN = 16
HEADER_LEN = 6
# A Noise message has at most 65535 bytes, tag included.
CHUNK_LEN = 65535 - TAG_LEN
CLOCK_TOLERANCE_S = 10


class NoiseError(Exception):
    """Says that what the other side sent does not decrypt or does not prove who it is."""


class Cipher:
    """Seals or opens one direction; the nonce counts up by itself."""

    def __init__(self, key: bytes) -> None:
        self.aead = ChaCha20Poly1305(key)
        self.counter = 0

    def _nonce(self) -> bytes:
        nonce = bytes(4) + struct.pack("<Q", self.counter)
        self.counter += 1
        return nonce

    def seal(self, plain: bytes, associated: bytes = b"") -> bytes:
        return self.aead.encrypt(self._nonce(), plain, associated)

    def open(self, sealed: bytes, associated: bytes = b"") -> bytes:
        try:
            return self.aead.decrypt(self._nonce(), sealed, associated)
        except InvalidTag as error:
            raise NoiseError("a sealed message does not open") from error

    def seal_frame(self, frame: bytes) -> bytes:
        """Seals header and payload; the payload in chunks of at most 65519 bytes."""
        sealed = self.seal(frame[:HEADER_LEN])
        for start in range(HEADER_LEN, len(frame), CHUNK_LEN):
            sealed += self.seal(frame[start : start + CHUNK_LEN])
        return sealed


def sealed_len(plain: int) -> int:
    """Returns how many bytes a payload of so many takes on the wire."""
    return plain + TAG_LEN * -(-plain // CHUNK_LEN)


class Transcript:
    """Is the symmetric state of the Noise framework."""

    def __init__(self) -> None:
        self.chaining = hashlib.sha256(PROTOCOL).digest()
        self.hash = hashlib.sha256(self.chaining).digest()
        self.cipher: Cipher | None = None

    def mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.sha256(self.hash + data).digest()

    def expand(self, material: bytes) -> tuple[bytes, bytes]:
        extracted = hmac.digest(self.chaining, material, "sha256")
        first = hmac.digest(extracted, b"\x01", "sha256")
        return first, hmac.digest(extracted, first + b"\x02", "sha256")

    def mix_key(self, material: bytes) -> None:
        self.chaining, key = self.expand(material)
        self.cipher = Cipher(key)

    def encrypt(self, plain: bytes) -> bytes:
        sealed = plain if self.cipher is None else self.cipher.seal(plain, self.hash)
        self.mix_hash(sealed)
        return sealed

    def decrypt(self, sealed: bytes) -> bytes:
        plain = sealed if self.cipher is None else self.cipher.open(sealed, self.hash)
        self.mix_hash(sealed)
        return plain

    def split(self) -> tuple[Cipher, Cipher]:
        """Returns the ciphers from initiator to responder and back."""
        first, second = self.expand(b"")
        return Cipher(first), Cipher(second)


@dataclass(frozen=True)
class Certificate:
    """Is an authority's word that a static key is the server's, for a time."""

    version: int
    valid_from: int
    not_valid_after: int
    signature: bytes

    @classmethod
    def from_bytes(cls, raw: bytes) -> Certificate:
        return cls(*struct.unpack("<HII", raw[:10]), raw[10:74])

    def to_bytes(self) -> bytes:
        return self.body() + self.signature

    def body(self) -> bytes:
        return struct.pack("<HII", self.version, self.valid_from, self.not_valid_after)

    def digest(self, static_x: bytes) -> bytes:
        return hashlib.sha256(self.body() + static_x).digest()

    @classmethod
    def sign(
        cls, authority_secret: bytes, static_x: bytes, valid_from: int, not_valid_after: int
    ) -> Certificate:
        unsigned = cls(0, valid_from, not_valid_after, bytes(64))
        signature = curve.sign(authority_secret, unsigned.digest(static_x), bytes(32))
        return cls(0, valid_from, not_valid_after, signature)

    def check(self, authority: bytes, static_x: bytes, unix_s: int) -> None:
        """Raises unless the authority vouches for this key at this time."""
        if self.version != 0:
            raise NoiseError(f"certificate of version {self.version}")
        if not (
            self.valid_from - CLOCK_TOLERANCE_S
            <= unix_s
            <= self.not_valid_after + CLOCK_TOLERANCE_S
        ):
            raise NoiseError("the certificate is not valid at this time")
        if not curve.verify(authority, self.digest(static_x), self.signature):
            raise NoiseError("the certificate is not signed by the authority")


class Initiator:
    """Is the client's side: act 1 out, act 2 in."""

    def __init__(self, ephemeral: curve.EllSwiftKey) -> None:
        self.ephemeral = ephemeral
        self.certificate: Certificate | None = None
        self.server_x = b""

    def act_1(self) -> bytes:
        return self.ephemeral.encoded

    def finish(
        self,
        act_2: bytes,
        authority: bytes | None,
        unix_s: int,
        *,
        trusted: set[bytes] | None = None,
    ) -> tuple[Cipher, Cipher]:
        """Returns the ciphers to send and to receive with.

        Args:
            act_2: 234 bytes.
            authority: The key that must have signed the certificate; None checks nothing.
            unix_s: The time to judge the certificate at.
            trusted: Certificates that were found good before; a storm of clients checks once.
        """
        assert len(act_2) == ACT_2_LEN
        mine, state = self.ephemeral, Transcript()
        state.mix_hash(mine.encoded)
        state.mix_hash(b"")
        theirs = act_2[:64]
        state.mix_hash(theirs)
        state.mix_key(curve.shared_secret(mine.secret, theirs, mine.encoded, theirs))
        static = state.decrypt(act_2[64:144])
        state.mix_key(curve.shared_secret(mine.secret, static, mine.encoded, static))
        raw = state.decrypt(act_2[144:])
        self.certificate = Certificate.from_bytes(raw)
        self.server_x = curve.decode(static).to_bytes(32, "big")
        proof = raw + self.server_x
        if authority is not None and (trusted is None or proof not in trusted):
            self.certificate.check(authority, self.server_x, unix_s)
            if trusted is not None:
                trusted.add(proof)
        return state.split()


def respond(
    act_1: bytes, static: curve.EllSwiftKey, certificate: Certificate, ephemeral: curve.EllSwiftKey
) -> tuple[bytes, Cipher, Cipher]:
    """Is the server's side: returns act 2 and the ciphers to receive and to send with."""
    assert len(act_1) == ACT_1_LEN
    state = Transcript()
    state.mix_hash(act_1)
    state.mix_hash(b"")
    state.mix_hash(ephemeral.encoded)
    state.mix_key(curve.shared_secret(ephemeral.secret, act_1, act_1, ephemeral.encoded))
    sealed_static = state.encrypt(static.encoded)
    state.mix_key(curve.shared_secret(static.secret, act_1, act_1, static.encoded))
    sealed_certificate = state.encrypt(certificate.to_bytes())
    receive, send = state.split()
    return ephemeral.encoded + sealed_static + sealed_certificate, receive, send
