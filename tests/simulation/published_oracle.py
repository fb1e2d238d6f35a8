"""Models oracles of mining contracts as they have been published, and what is done to them.

Each model has the rule that matters and nothing else; keys and nonces are scalars in the open.

- `ProviderNonce`: members share a provider's key; the provider draws the nonce of each period and
  broadcasts it, and the members attest by both. Or it keeps the nonce, and nobody attests without.
- `AnnouncedFrost`: each member announces one nonce for an event, the event's nonce is the sum of
  those of some members, and no factor binds them to message and signers, as it is announced first.
- `DigitOracle`: a key of which many nonces are announced at once, one for each binary digit of an
  outcome; digits are attested as outcomes become known, each nonce once.

Source: Radpool's page on contracts; dlcspecs, "Oracle", "Numeric outcomes"; ROS: IACR eprint
2020/945, "On the (in)security of ROS", section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from coincurve import PrivateKey, PublicKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from random import Random

__all__ = [
    "ORDER",
    "AnnouncedFrost",
    "DigitOracle",
    "ProviderNonce",
    "forged",
    "key_behind",
    "lagrange",
    "point",
    "share_behind",
    "signed",
    "x_of",
]

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def be(number: int) -> bytes:
    """Writes a scalar."""
    return (number % ORDER).to_bytes(32, "big")


def point(scalar: int) -> PublicKey:
    """Multiplies the generator."""
    return PrivateKey(be(scalar)).public_key


def x_of(public: PublicKey) -> bytes:
    """Returns the first coordinate."""
    return public.format()[1:]


def _sign_of(public: PublicKey) -> int:
    """Says by what BIP340 multiplies the secret of a point: the second coordinate is to be even."""
    return -1 if public.format()[0] == 3 else 1


def challenge(nonce: bytes, key: bytes, message: bytes) -> int:
    """Computes BIP340's challenge."""
    tag = sha256(b"BIP0340/challenge").digest()
    return int.from_bytes(sha256(tag + tag + nonce + key + message).digest(), "big") % ORDER


def signed(secret: int, nonce: int, message: bytes) -> bytes:
    """Signs by a given nonce."""
    key, start = point(secret), point(nonce)
    factor = challenge(x_of(start), x_of(key), message)
    return x_of(start) + be(_sign_of(start) * nonce + factor * _sign_of(key) * secret)


def lagrange(at: int, others: Iterable[int]) -> int:
    """Returns by what a share is multiplied when shares at these places are joined."""
    weight = 1
    for other in others:
        if other != at:
            weight = weight * other * pow(other - at, -1, ORDER) % ORDER
    return weight


# The nonce of one provider.


class ProviderNonce:
    """Attests a provider's outcomes by a shared key and the provider's nonce.

    Args:
        random: What secrets are drawn of.
        is_broadcast: Whether the provider broadcasts the nonce, or its point alone.
    """

    def __init__(self, random: Random, *, is_broadcast: bool) -> None:
        # The members hold it together; who joins their parts is of no importance here.
        self._secret = random.randrange(1, ORDER)
        self._nonce = random.randrange(1, ORDER)
        self.public = x_of(point(self._secret))
        announced = be(self._nonce) if is_broadcast else x_of(point(self._nonce))
        self.published: list[bytes] = [announced]
        self._is_broadcast = is_broadcast

    def attest(self, outcome: bytes, *, has_provider: bool = True) -> bytes | None:
        """Returns what the members sign, which all can read; nothing if they lack the nonce."""
        if not has_provider and not self._is_broadcast:
            return None
        signature = signed(self._secret, self._nonce, outcome)
        self.published.append(signature)
        return signature


def key_behind(
    published: Iterable[bytes], public: bytes, message: bytes, signature: bytes
) -> int | None:
    """Looks for the nonce of a signature in all that was published, and takes the key from it."""
    for data in published:
        for at in range(len(data) - 31):
            nonce = int.from_bytes(data[at : at + 32], "big")
            if not 0 < nonce < ORDER or x_of(point(nonce)) != signature[:32]:
                continue
            nonce *= _sign_of(point(nonce))
            factor = challenge(signature[:32], public, message)
            scalar = int.from_bytes(signature[32:], "big")
            return (scalar - nonce) * pow(factor, -1, ORDER) % ORDER
    return None


# Nonces that are announced before what they sign.


class AnnouncedFrost:
    """Attests by shares and one nonce of each member that was announced beforehand.

    Args:
        random: What secrets are drawn of.
        members: How many there are; places are 1 to that.
        threshold: How many sign.
    """

    def __init__(self, random: Random, members: int, threshold: int) -> None:
        coefficients = [random.randrange(1, ORDER) for _ in range(threshold)]
        if _sign_of(point(coefficients[0])) < 0:
            coefficients = [-each for each in coefficients]
        places = range(1, members + 1)
        self.public = x_of(point(coefficients[0]))
        self.shares = {
            place: sum(each * place**power for power, each in enumerate(coefficients)) % ORDER
            for place in places
        }
        self._nonces = {place: random.randrange(1, ORDER) for place in places}
        self.announced = {place: point(nonce) for place, nonce in self._nonces.items()}

    def nonce_of(self, signers: Sequence[int]) -> PublicKey:
        """Returns the nonce that some members have together."""
        return PublicKey.combine_keys([self.announced[place] for place in signers])

    def sign(self, place: int, signers: Sequence[int], message: bytes) -> int:
        """Returns what a member answers when it is asked to sign with these."""
        nonce = self.nonce_of(signers)
        factor = challenge(x_of(nonce), self.public, message) * lagrange(place, signers)
        return (_sign_of(nonce) * self._nonces[place] + factor * self.shares[place]) % ORDER

    def join(self, answers: dict[int, int]) -> bytes:
        """Makes a signature of the answers of all signers."""
        return x_of(self.nonce_of(list(answers))) + be(sum(answers.values()))


def share_behind(
    oracle: AnnouncedFrost, message: bytes, place: int, answers: Sequence[tuple[list[int], int]]
) -> int:
    """Takes a member's share from its answers about two lists of signers."""
    factors, scalars = [], []
    for signers, scalar in answers:
        nonce = oracle.nonce_of(signers)
        factor = challenge(x_of(nonce), oracle.public, message) * lagrange(place, signers)
        factors.append(_sign_of(nonce) * factor)
        scalars.append(_sign_of(nonce) * scalar)
    return (scalars[0] - scalars[1]) * pow(factors[0] - factors[1], -1, ORDER) % ORDER


# Many nonces at once.


@dataclass
class _Digit:
    nonce: int
    is_attested: bool = False


class DigitOracle:
    """Attests binary digits, each by a nonce of its own that was announced with all the others.

    Args:
        random: What secrets are drawn of.
        digits: How many nonces are open at a time.
    """

    def __init__(self, random: Random, digits: int) -> None:
        secret = random.randrange(1, ORDER)
        self._secret = secret * _sign_of(point(secret))
        self.public = x_of(point(self._secret))
        nonces = [random.randrange(1, ORDER) for _ in range(digits)]
        self._digits = [_Digit(nonce * _sign_of(point(nonce))) for nonce in nonces]
        self.announced = [x_of(point(digit.nonce)) for digit in self._digits]

    def message(self, digit: int, value: int) -> bytes:
        """Returns what is signed when a digit has a value."""
        return sha256(b"digit %d is %d" % (digit, value)).digest()

    def attest(self, digit: int, value: int) -> bytes:
        """Attests a digit, once."""
        chosen = self._digits[digit]
        assert not chosen.is_attested, "no nonce signs twice: the oracle keeps the rule"
        chosen.is_attested = True
        return signed(self._secret, chosen.nonce, self.message(digit, value))


def forged(oracle: DigitOracle, message: bytes) -> bytes:
    """Makes the oracle sign a message that it never sees, by choosing the outcomes of its digits.

    The nonces are joined with factors such that the challenge of the message is a sum over digits,
    of which each adds a power of two when its outcome is 1: it is written in binary.
    """
    weights, base = [], 0
    for digit, announced in enumerate(oracle.announced):
        zero, one = (
            challenge(announced, oracle.public, oracle.message(digit, value)) for value in (0, 1)
        )
        weight = pow(2, digit, ORDER) * pow(one - zero, -1, ORDER) % ORDER
        weights.append(weight)
        base += weight * zero
    terms = [
        PublicKey(b"\2" + announced).multiply(be(weight))
        for announced, weight in zip(oracle.announced, weights, strict=True)
    ]
    nonce = PublicKey.combine_keys(terms)
    sign = _sign_of(nonce)
    wanted = (sign * challenge(x_of(nonce), oracle.public, message) - base) % ORDER
    total = 0
    for digit, weight in enumerate(weights):
        attestation = oracle.attest(digit, wanted >> digit & 1)
        total += weight * int.from_bytes(attestation[32:], "big")
    return x_of(nonce) + be(sign * total)
