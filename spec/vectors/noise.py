"""Shakes hands and seals frames as page 12 has it, for the vectors' generators.

Source: The Noise Protocol Framework, revision 34, `Noise_XK_25519_ChaChaPoly_SHA256`.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256

from sealing import chacha20_poly1305, x25519

NAME = b"Noise_XK_25519_ChaChaPoly_SHA256"
PLAIN_MAX = 65_519


def encrypt(key: bytes, number: int, plain: bytes, aad: bytes = b"") -> bytes:
    """Encrypts under a number that stands in the last eight bytes of the nonce."""
    return chacha20_poly1305(key, bytes(4) + number.to_bytes(8, "little"), plain, aad)


def frame(message: bytes) -> bytes:
    """Puts the length before a Noise message."""
    return len(message).to_bytes(4, "little") + message


def derive(chain: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """Derives two keys as Noise's HKDF does."""
    start = hmac.digest(chain, secret, sha256)
    first = hmac.digest(start, b"\1", sha256)
    return first, hmac.digest(start, first + b"\2", sha256)


@dataclass
class Sender:
    """Seals what one end sends."""

    key: bytes
    number: int = 0

    def send(self, messages: list[bytes]) -> bytes:
        """Cuts messages into frames and seals them."""
        plain = b"".join(len(each).to_bytes(4, "little") + each for each in messages)
        sealed = b""
        for start in range(0, len(plain), PLAIN_MAX):
            chunk = plain[start : start + PLAIN_MAX]
            sealed += frame(encrypt(self.key, self.number, chunk))
            self.pass_by(1)
        return sealed

    def pass_by(self, count: int) -> None:
        """Counts Noise messages, and replaces the key where it is time."""
        for _ in range(count):
            self.number += 1
            if self.number % 2**16 == 0:
                self.key = encrypt(self.key, 2**64 - 1, bytes(32))[:32]


@dataclass
class Handshake:
    """Is a whole handshake, with the secrets of both ends given."""

    committee: bytes
    dialler: bytes
    dialler_ephemeral: bytes
    dialled: bytes
    dialled_ephemeral: bytes

    def run(self) -> tuple[list[bytes], bytes, Sender, Sender]:
        """Returns the three frames, the handshake's hash, and both ends' senders."""
        first_e, second_e = x25519(self.dialler_ephemeral), x25519(self.dialled_ephemeral)
        chain = NAME
        digest = sha256(NAME + b"radpool-sv2/fed/1" + self.committee).digest()
        digest = sha256(digest + x25519(self.dialled)).digest()

        def sealed(key: bytes, number: int, plain: bytes) -> bytes:
            nonlocal digest
            ciphertext = encrypt(key, number, plain, digest)
            digest = sha256(digest + ciphertext).digest()
            return ciphertext

        digest = sha256(digest + first_e).digest()
        chain, key = derive(chain, x25519(self.dialler_ephemeral, x25519(self.dialled)))
        first = first_e + sealed(key, 0, b"")
        digest = sha256(digest + second_e).digest()
        chain, key = derive(chain, x25519(self.dialled_ephemeral, first_e))
        second = second_e + sealed(key, 0, b"")
        third = sealed(key, 1, x25519(self.dialler))
        chain, key = derive(chain, x25519(self.dialler, second_e))
        third += sealed(key, 0, b"")
        from_dialler, from_dialled = derive(chain, b"")
        frames = [frame(message) for message in (first, second, third)]
        return frames, digest, Sender(from_dialler), Sender(from_dialled)
