"""Stands in for signatures where thousands are made a second: a keyed hash, which a scheme checks.

It is as strong as the world is honest with itself: whoever has a `KeyedSigner` can sign for its key
and for no other. A member cannot tell it from BIP340, and some worlds run with BIP340 itself.
"""

from __future__ import annotations

from hashlib import blake2b, sha256

from radpool_sv2._native.ledger import MspKey
from radpool_sv2.federation.identity import Bip340Verifier, Signer, Verifier

__all__ = ["KeyedSigner", "KeyedVerifier", "bip340_signers", "keyed_signers"]


class KeyedSigner:
    """Signs by a keyed hash."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.public = sha256(b"public " + secret).digest()

    def sign(self, digest: bytes, /) -> bytes:
        """Returns 64 bytes that only the scheme's verifier can check."""
        return blake2b(digest, key=self._secret).digest()

    @property
    def secret(self) -> bytes:
        """What the scheme's verifier knows."""
        return self._secret


class KeyedVerifier:
    """Checks what `KeyedSigner`s have signed."""

    def __init__(self, signers: list[KeyedSigner]) -> None:
        self._secrets = {signer.public: signer.secret for signer in signers}

    def is_signed(self, key: bytes, digest: bytes, signature: bytes) -> bool:
        """Says whether a signature of a 32-byte hash is one of a key."""
        secret = self._secrets.get(key)
        return secret is not None and blake2b(digest, key=secret).digest() == signature


def keyed_signers(count: int, seed: int) -> tuple[list[Signer], Verifier]:
    """Makes identities in the order of a committee, and what checks them."""
    signers = [
        KeyedSigner(sha256(f"member {number} of world {seed}".encode()).digest())
        for number in range(count)
    ]
    signers.sort(key=lambda signer: signer.public)
    return list(signers), KeyedVerifier(signers)


def bip340_signers(count: int, seed: int) -> tuple[list[Signer], Verifier]:
    """Makes identities that sign by BIP340, in the order of a committee, and what checks them."""
    signers: list[Signer] = [
        MspKey.from_secret(sha256(f"key {number} of world {seed}".encode()).digest())
        for number in range(count)
    ]
    signers.sort(key=lambda signer: signer.public)
    return signers, Bip340Verifier()
