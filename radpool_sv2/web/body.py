"""Reads the bodies of requests to a mint: bounded, and strictly what they should be.

JSON has `true` and `1.0`, which are no integers here; hex has capitals, which are no hex here. What
does not fit is refused before anything is computed with it.
"""

import re
from contextlib import aclosing
from typing import Annotated, TypeVar

from msgspec import DecodeError, Meta, Struct
from msgspec.json import decode
from starlette.exceptions import HTTPException
from starlette.requests import Request

from radpool_sv2.ecash.refusal import RefusedError
from radpool_sv2.ecash.token import Output, Proof

__all__ = [
    "BODY_BYTES_MAX",
    "CheckBody",
    "ClaimsBody",
    "InclusionBody",
    "OutputsBody",
    "ResidueBody",
    "SpendBody",
    "SwapBody",
    "blinded_message",
    "claim_key",
    "keyset_id",
    "outputs_of",
    "points_of",
    "proofs_of",
    "read_body",
    "signature_of",
]

BODY_BYTES_MAX = 256 * 1024
"""Room for 500 tokens with all that wallets send along."""

ITEMS_MAX = 1000
"""As many tokens as the mints of others take at once."""

CLAIMS_MAX = 500
"""As many as the wire protocol takes."""

SECRET_BYTES_MAX = 1024
AMOUNT_MAX = 1 << 63
KEYSET_DIGITS_MAX = 66
SIGNATURE_DIGITS = 128

HEX = re.compile("(?:[0-9a-f]{2})+")
POINT = re.compile("0[23][0-9a-f]{64}")

Body = TypeVar("Body")
Amount = Annotated[int, Meta(ge=0)]


class ProofBody(Struct):
    """Is a token; what wallets say besides, such as its DLEQ proof, is not looked at."""

    amount: Amount
    id: str
    secret: str
    C: str


class OutputBody(Struct):
    """Is a blinded message."""

    amount: Amount
    id: str
    B_: str


class SwapBody(Struct):
    """Is a request to turn sat tokens into others."""

    inputs: list[ProofBody]
    outputs: list[OutputBody]


class SpendBody(SwapBody):
    """Is a request to redeem or to swap the tokens of one work keyset."""

    keyset_id: str


class OutputsBody(Struct):
    """Is a request to repeat signatures."""

    outputs: list[OutputBody]


class ClaimsBody(Struct):
    """Is a request for the signatures of claims."""

    keyset_id: str
    claims: list[str]


class ResidueBody(Struct):
    """Is a question what a claim key has left over, or with outputs a request for tokens."""

    claim_key: str
    keyset_id: str = ""
    outputs: list[OutputBody] = []
    signature: str = ""


class CheckBody(Struct):
    """Is a question whether tokens are spent."""

    Ys: list[str]


class InclusionBody(Struct):
    """Is a question where a claim stands."""

    B_: str


async def read_body(request: Request, kind: type[Body]) -> Body:
    """Reads a JSON body of a kind.

    Raises:
        HTTPException: 413, it is too long.
        RefusedError: `malformed-request`.
    """
    data = bytearray()
    async with aclosing(request.stream()) as pieces:
        async for piece in pieces:
            data += piece
            if len(data) > BODY_BYTES_MAX:
                raise HTTPException(413, f"a body has at most {BODY_BYTES_MAX} bytes")
    try:
        return decode(bytes(data), type=kind)
    except (DecodeError, UnicodeDecodeError) as error:
        raise _malformed(str(error)) from error
    except RecursionError:
        raise _malformed("nested too deep") from None


def _malformed(text: str) -> RefusedError:
    return RefusedError(f"the body is not as it should be: {text}", "malformed-request")


def keyset_id(text: str) -> bytes:
    """Reads a keyset id of any version; which ones exist is for the mint to say.

    Raises:
        RefusedError: It is no lower-case hex of up to 33 bytes.
    """
    if len(text) > KEYSET_DIGITS_MAX or not HEX.fullmatch(text):
        raise _malformed(f"keyset id {text[:80]!r}: give 66 lower-case hex digits")
    return bytes.fromhex(text)


def _point(text: str, code: str, what: str) -> bytes:
    if not POINT.fullmatch(text):
        raise RefusedError(
            f"{what} {text[:80]!r} is no compressed point: give 66 lower-case hex digits that "
            "begin with 02 or 03",
            code,
        )
    return bytes.fromhex(text)


def blinded_message(text: str) -> bytes:
    """Reads a `B_`.

    Raises:
        RefusedError: `invalid-blinded-message`.
    """
    return _point(text, "invalid-blinded-message", "B_")


def claim_key(text: str) -> bytes:
    """Reads a claim key.

    Raises:
        RefusedError: `invalid-claim-pubkey`.
    """
    return _point(text, "invalid-claim-pubkey", "claim key")


def signature_of(text: str) -> bytes:
    """Reads a BIP340 signature.

    Raises:
        RefusedError: `invalid-signature`.
    """
    if len(text) != SIGNATURE_DIGITS or not HEX.fullmatch(text):
        raise RefusedError(
            f"signature {text[:140]!r}: give {SIGNATURE_DIGITS} lower-case hex digits",
            "invalid-signature",
        )
    return bytes.fromhex(text)


def points_of(texts: list[str]) -> list[bytes]:
    """Reads the `Y` of tokens.

    Raises:
        RefusedError: One is no point, or there are too many.
    """
    _count(texts, ITEMS_MAX, "Ys")
    return [_point(text, "invalid-proof", "Y") for text in texts]


def claims_of(texts: list[str]) -> list[bytes]:
    """Reads the `B_` of claims.

    Raises:
        RefusedError: One is no point, or there are too many.
    """
    _count(texts, CLAIMS_MAX, "claims")
    return [blinded_message(text) for text in texts]


def proofs_of(rows: list[ProofBody]) -> list[Proof]:
    """Reads tokens that are to be spent.

    Raises:
        RefusedError: One is not well formed, two are the same, or there are too many.
    """
    _count(rows, ITEMS_MAX, "inputs")
    proofs = []
    for row in rows:
        _check_amount(row.amount, "invalid-proof")
        try:
            length = len(row.secret.encode())
        except UnicodeEncodeError:
            raise _malformed("a secret that is no text") from None
        if not 1 <= length <= SECRET_BYTES_MAX:
            raise RefusedError(
                f"a secret of {length} bytes: give 1 to {SECRET_BYTES_MAX}", "invalid-proof"
            )
        proofs.append(Proof(row.amount, row.secret, _point(row.C, "invalid-proof", "C")))
    if len({proof.secret for proof in proofs}) < len(proofs):
        raise RefusedError("the same token twice among the inputs", "duplicate-inputs")
    return proofs


def outputs_of(rows: list[OutputBody]) -> list[Output]:
    """Reads what is to be signed.

    Raises:
        RefusedError: One is not well formed, two are the same, or there are too many.
    """
    _count(rows, ITEMS_MAX, "outputs")
    outputs = []
    for row in rows:
        _check_amount(row.amount, "amount-mismatch")
        outputs.append(Output(row.amount, keyset_id(row.id), blinded_message(row.B_)))
    if len({output.blinded for output in outputs}) < len(outputs):
        raise RefusedError("the same B_ twice among the outputs", "duplicate-outputs")
    return outputs


def restored_of(rows: list[OutputBody]) -> list[bytes]:
    """Reads what may have been signed; wallets that have lost everything know no amounts.

    Raises:
        RefusedError: One is not well formed, or there are too many.
    """
    _count(rows, ITEMS_MAX, "outputs")
    return [blinded_message(row.B_) for row in rows]


def _count(items: list[str] | list[ProofBody] | list[OutputBody], most: int, what: str) -> None:
    if not 1 <= len(items) <= most:
        raise RefusedError(
            f"{len(items)} {what} in one request: give 1 to {most}", f"too-many-{what}"
        )


def _check_amount(amount: int, code: str) -> None:
    if amount > AMOUNT_MAX or amount.bit_count() != 1:
        raise RefusedError(f"amount {amount}: no power of two from 1 to 2^63", code)
