"""Checks the form of requests that spend tokens, and tells one from another.

Source: `spec/05-ecash-messages.md`, `spec/07-ecash-epochs.md`, "Price and redemption".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from radpool_sv2._native.ecash import check_points
from radpool_sv2.ecash import refusal
from radpool_sv2.ecash.price import WORK_MAX
from radpool_sv2.ecash.refusal import RefusedError
from radpool_sv2.units import tagged_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radpool_sv2.ecash.token import Output, Proof

__all__ = [
    "CLAIMS_MAX",
    "INPUTS_MAX",
    "OUTPUTS_MAX",
    "Request",
    "check_form",
    "check_outputs",
    "hash_of",
]

INPUTS_MAX: Final = 250
OUTPUTS_MAX: Final = 250
CLAIMS_MAX: Final = 500
SECRET_BYTES_MAX: Final = 1_024
POINT_LEN: Final = 33
SHORT_LEN: Final = 8
AMOUNT_MAX: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class Request:
    """Is a request whose form and tokens have been checked.

    Attributes:
        hash: What tells it from all others, 32 bytes.
        keyset: The number of the keyset whose tokens are spent.
        signer: The number of the keyset that signs the outputs.
        inputs: The tokens.
        ys: The point of each token's secret, by which it is known once it is spent.
        outputs: The blinded messages.
    """

    hash: bytes
    keyset: int
    signer: int
    inputs: tuple[Proof, ...]
    ys: tuple[bytes, ...]
    outputs: tuple[Output, ...]

    @property
    def amount(self) -> int:
        """What is spent: units or sats."""
        return sum(proof.amount for proof in self.inputs)

    @property
    def wanted(self) -> int:
        """What is asked for: units or sats."""
        return sum(output.amount for output in self.outputs)


def check_form(inputs: Sequence[Proof], outputs: Sequence[Output]) -> None:
    """Checks numbers, amounts and lengths.

    Raises:
        RefusedError: Something is malformed, or too much.
    """
    for what, count, most in (
        ("tokens", len(inputs), INPUTS_MAX),
        ("outputs", len(outputs), OUTPUTS_MAX),
    ):
        if count > most:
            raise RefusedError(f"{count} {what}: {most} is the most", refusal.TOO_MANY_ITEMS)
        if count == 0:
            raise RefusedError(f"there are no {what}", refusal.AMOUNT_MISMATCH)
    for proof in inputs:
        _check_amount(proof.amount)
        if len(proof.signature) != POINT_LEN or not _is_secret(proof.secret):
            raise RefusedError("a token is malformed", refusal.INVALID_PROOF)
    for output in outputs:
        _check_amount(output.amount)
    if sum(proof.amount for proof in inputs) > WORK_MAX:
        raise RefusedError("no keyset has signed that much", refusal.AMOUNT_MISMATCH)


def _is_secret(secret: str) -> bool:
    try:
        return 0 < len(secret.encode()) <= SECRET_BYTES_MAX
    except UnicodeEncodeError:
        return False


def _check_amount(amount: int) -> None:
    # Booleans are integers to Python, and are none in a request.
    if isinstance(amount, bool) or not isinstance(amount, int):
        raise RefusedError("an amount is no integer", refusal.AMOUNT_MISMATCH)
    if not 0 < amount <= AMOUNT_MAX or amount & (amount - 1):
        raise RefusedError(
            f"{amount} is no amount: give a power of two up to 2^63", refusal.AMOUNT_MISMATCH
        )


def check_outputs(outputs: Sequence[Output], signer: bytes) -> None:
    """Checks that outputs are for a keyset, and that each is a point and none stands there twice.

    Raises:
        RefusedError: One is not.
    """
    for output in outputs:
        if output.keyset not in {signer, signer[:SHORT_LEN]}:
            raise RefusedError(
                "an output names another keyset than the one that signs", refusal.UNKNOWN_EPOCH
            )
    messages = [output.blinded for output in outputs]
    if not all(check_points(messages)):
        raise RefusedError(
            "a blinded message is no compressed point", refusal.INVALID_BLINDED_MESSAGE
        )
    if len(set(messages)) < len(messages):
        raise RefusedError(
            "a blinded message is in the request twice", refusal.BLINDED_MESSAGE_REUSED
        )


def hash_of(
    keyset_id: bytes, inputs: Sequence[Proof], outputs: Sequence[Output], *, into_sats: bool
) -> bytes:
    """Hashes a request; every field has a length, so that no two requests are one string."""
    parts = [keyset_id, struct.pack("<BHH", into_sats, len(inputs), len(outputs))]
    for proof in inputs:
        secret = proof.secret.encode()
        parts += [struct.pack("<QH", proof.amount, len(secret)), secret, proof.signature]
    for output in outputs:
        parts += [struct.pack("<QH", output.amount, len(output.blinded)), output.blinded]
    return tagged_hash("radpool/redemption", *parts)
