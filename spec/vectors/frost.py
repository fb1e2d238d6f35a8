"""Generates threshold keys and signs with them as page 16 has it, for the vectors' generators.

Nothing here takes constant time, and whoever runs it holds every member's secrets at once.

Source: RFC 9591; RFC 9380, "hash_to_field"; BIP340; BIP341.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from struct import pack

import sealing
import secp256k1
from secp256k1 import ORDER, add, tagged_hash

multiply = cache(secp256k1.multiply)
seal = cache(sealing.seal)
x25519 = cache(sealing.x25519)

CONTEXT = b"FROST-secp256k1-SHA256-TR-v1"


def scalar_of(domain: bytes, message: bytes) -> int:
    """Hashes to a scalar: RFC 9380's hash_to_field with expand_message_xmd."""
    domain = CONTEXT + domain
    suffix = domain + bytes([len(domain)])
    first = sha256(bytes(64) + message + pack(">H", 48) + b"\0" + suffix).digest()
    block, blocks = sha256(first + b"\1" + suffix).digest(), b""
    for number in (2, 3):
        blocks += block
        mixed = bytes(left ^ right for left, right in zip(first, block, strict=True))
        block = sha256(mixed + bytes([number]) + suffix).digest()
    return int.from_bytes(blocks[:48], "big") % ORDER


def be(number: int) -> bytes:
    """Writes a scalar."""
    return number.to_bytes(32, "big")


def compress(point: tuple[int, int]) -> bytes:
    """Writes a point."""
    return bytes([2 + point[1] % 2]) + be(point[0])


def point(secret: int) -> bytes:
    """Writes the point of a scalar."""
    return compress(multiply(secret % ORDER))


def evaluate(coefficients: list[int], at: int) -> int:
    """Computes a polynomial's value."""
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * at + coefficient) % ORDER
    return value


@dataclass
class Run:
    """Is one attempt to generate one key; members are their identity keys."""

    committee: bytes
    purpose: int
    attempt: int
    threshold: int
    members: list[bytes]

    def encode(self) -> bytes:
        """Writes the run."""
        head = pack("<BIHH", self.purpose, self.attempt, self.threshold, len(self.members))
        return self.committee + head + b"".join(self.members)

    @property
    def id(self) -> bytes:
        """The run's name."""
        return tagged_hash("radpool/dkg-run", self.encode())

    @property
    def identifiers(self) -> list[int]:
        """Where each member's share is on the polynomials."""
        names = (
            tagged_hash("radpool/dkg-identifier", self.id, pack("<H", index))
            for index in range(len(self.members))
        )
        return [scalar_of(b"id", name) for name in names]


@dataclass
class Generation:
    """Generates a key with everybody's secrets given.

    Attributes:
        run: The run.
        polynomials: Each member's coefficients.
        sealing_secrets: Each member's X25519 secret for this run.
        proof_nonces: Each member's nonce for its proof of possession.
        wrong: Shares that are dealt otherwise than they should be, by dealer and recipient.
    """

    run: Run
    polynomials: list[list[int]]
    sealing_secrets: list[bytes]
    proof_nonces: list[int]
    wrong: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def first(self, index: int) -> bytes:
        """Writes a member's first message."""
        coefficients, nonce = self.polynomials[index], self.proof_nonces[index]
        if multiply(nonce)[1] % 2:
            nonce = ORDER - nonce
        points = [point(coefficient) for coefficient in coefficients]
        identifier = be(self.run.identifiers[index])
        challenge = scalar_of(b"dkg", identifier + points[0] + point(nonce))
        proof = point(nonce)[1:] + be((nonce + coefficients[0] * challenge) % ORDER)
        return self.run.id + x25519(self.sealing_secrets[index]) + b"".join(points) + proof

    def firsts_digest(self) -> bytes:
        """Hashes everybody's first messages."""
        digests = [
            tagged_hash("radpool/dkg-deal", pack("<H", index), self.first(index))
            for index in range(len(self.run.members))
        ]
        return tagged_hash("radpool/dkg-deals", self.run.id, *digests)

    def second(self, dealer: int) -> bytes:
        """Writes a member's second message."""
        digest, boxes = self.firsts_digest(), []
        for recipient, identifier in enumerate(self.run.identifiers):
            if recipient == dealer:
                continue
            share = be(evaluate(self.polynomials[dealer], identifier))
            names = pack("<HH", dealer, recipient)
            info = b"radpool-sv2/dkg-share/1" + self.run.id + digest + names
            ephemeral = sha256(b"ephemeral" + info).digest()
            public = x25519(self.sealing_secrets[recipient])
            boxes.append(seal(public, ephemeral, info, self.wrong.get((dealer, recipient), share)))
        return self.run.id + digest + b"".join(boxes)

    def key(self) -> Key:
        """Sums everything up and hides no script in it."""
        secret = sum(polynomial[0] for polynomial in self.polynomials) % ORDER
        shares = [
            sum(evaluate(polynomial, at) for polynomial in self.polynomials) % ORDER
            for at in self.run.identifiers
        ]
        return Key(self.run.identifiers, secret, shares).tweaked(b"")

    def transcript(self) -> bytes:
        """Hashes all that was broadcast and what came of it."""
        seconds = [
            tagged_hash("radpool/dkg-shares", pack("<H", index), self.second(index))
            for index in range(len(self.run.members))
        ]
        parts = [self.run.id, self.firsts_digest(), *seconds, *self.key().points()]
        return tagged_hash("radpool/dkg-transcript", *parts)

    def encode_key(self) -> bytes:
        """Writes the public key."""
        return self.run.encode() + self.transcript() + b"".join(self.key().points())


@dataclass
class Key:
    """Is a key with all its shares."""

    identifiers: list[int]
    secret: int
    shares: list[int]

    def points(self) -> list[bytes]:
        """Writes the group's key and the verifying shares."""
        return [point(self.secret), *map(point, self.shares)]

    def even(self) -> Key:
        """Takes the negative where the key's second coordinate is odd."""
        if multiply(self.secret)[1] % 2 == 0:
            return self
        return Key(self.identifiers, ORDER - self.secret, [ORDER - s for s in self.shares])

    def tweaked(self, merkle_root: bytes) -> Key:
        """Commits to a script tree as BIP341 has it."""
        even = self.even()
        internal = point(even.secret)[1:]
        tweak = int.from_bytes(tagged_hash("TapTweak", internal, merkle_root), "big") % ORDER
        shares = [(share + tweak) % ORDER for share in even.shares]
        return Key(self.identifiers, (even.secret + tweak) % ORDER, shares)

    def sign(
        self, message: bytes, nonces: dict[int, tuple[int, int]]
    ) -> tuple[dict[int, bytes], bytes]:
        """Signs with the hiding and binding nonces of some members.

        Returns:
            Each member's scalar, and the signature.
        """
        even = self.even()
        order = sorted(nonces, key=lambda index: self.identifiers[index])
        listed = b"".join(
            be(self.identifiers[index]) + b"".join(map(point, nonces[index])) for index in order
        )
        prefix = point(even.secret) + sha256(CONTEXT + b"msg" + message).digest()
        prefix += sha256(CONTEXT + b"com" + listed).digest()
        factors = {
            index: scalar_of(b"rho", prefix + be(self.identifiers[index])) for index in order
        }
        total = None
        for index, (hiding, binding) in nonces.items():
            total = add(total, multiply((hiding + binding * factors[index]) % ORDER))
        assert total is not None, "there are nonces"
        sign = -1 if total[1] % 2 else 1
        parts = be(total[0]), point(even.secret)[1:], message
        challenge = int.from_bytes(tagged_hash("BIP0340/challenge", *parts), "big") % ORDER
        scalars = {}
        for index, (hiding, binding) in nonces.items():
            weight = 1
            for other in nonces:
                if other != index:
                    at, own = self.identifiers[other], self.identifiers[index]
                    weight = weight * at * pow(at - own, -1, ORDER) % ORDER
            nonce = sign * (hiding + binding * factors[index])
            scalars[index] = (nonce + weight * even.shares[index] * challenge) % ORDER
        signature = be(total[0]) + be(sum(scalars.values()) % ORDER)
        return {index: be(scalar) for index, scalar in scalars.items()}, signature
