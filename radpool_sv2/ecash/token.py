"""Defines what wallets bring to the mint and what they get."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["BlindSignature", "Fetched", "Output", "Proof", "Redeemed", "Restored"]


class Proof(NamedTuple):
    """Is a token that is spent.

    Attributes:
        amount: Units of a work keyset, or sats: a power of two.
        secret: Its secret, which becomes known by spending it.
        signature: The unblinded signature C, 33 bytes.
    """

    amount: int
    secret: str
    signature: bytes


class Output(NamedTuple):
    """Is a blinded message that is to be signed.

    Attributes:
        amount: Units of a work keyset, or sats: a power of two.
        keyset: The id of the keyset that is to sign, or its first 8 bytes.
        blinded: B_, 33 bytes.
    """

    amount: int
    keyset: bytes
    blinded: bytes


class BlindSignature(NamedTuple):
    """Is a blind signature with its DLEQ proof.

    Attributes:
        index: Which item of the request it answers.
        amount: Units of a work keyset, or sats.
        signature: C_, 33 bytes.
        e: The proof's challenge, 32 bytes.
        s: The proof's response, 32 bytes.
    """

    index: int  # type: ignore[assignment]  # a tuple's method of that name is not used
    amount: int
    signature: bytes
    e: bytes
    s: bytes


class Fetched(NamedTuple):
    """Answers who asks for the signatures of claims.

    Attributes:
        signatures: Those of the claims that are known.
        pending: Indices of claims that are known and not signed yet: none, the mint signs at once.
        unknown: Indices of claims that are not known to this keyset.
        price_num: Millisats that the keyset is worth; 0 when it has no price.
        price_den: Units that share them; 0 when it has no price.
    """

    signatures: tuple[BlindSignature, ...]
    pending: tuple[int, ...]
    unknown: tuple[int, ...]
    price_num: int
    price_den: int


class Redeemed(NamedTuple):
    """Answers who spends tokens; a repeated request has the same answer.

    Attributes:
        signatures: One for each output, in order.
        price_num: Millisats that the keyset is worth; 0 when it has no price.
        price_den: Units that share them; 0 when it has no price.
    """

    signatures: tuple[BlindSignature, ...]
    price_num: int
    price_den: int


class Restored(NamedTuple):
    """Is a signature that a wallet had before, found by its blinded message.

    Attributes:
        index: Which output of the request it answers.
        amount: What was signed.
        keyset_id: The keyset, 33 bytes.
        signature: C_, 33 bytes.
        e: The proof's challenge, 32 bytes.
        s: The proof's response, 32 bytes.
    """

    index: int  # type: ignore[assignment]  # as above
    amount: int
    keyset_id: bytes
    signature: bytes
    e: bytes
    s: bytes
