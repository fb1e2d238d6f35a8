"""Writes and reads tokens as people hand them on: `cashuB…`, and the older `cashuA…`.

A token comes from a stranger, so everything in it is checked before it is used: sizes, types, and
that nothing is in it twice. What it is worth only its mint can say.

Source: NUT-00, "Serialization of tokens".
"""

from __future__ import annotations

import binascii
from base64 import b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Final

import msgspec

from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.wallet.announcement import KEYSET_ID_LEN, SHORT_ID_LEN
from radpool_sv2.wallet.cbor import Value, decode, encode
from radpool_sv2.wallet.reader import POINT_LEN

__all__ = ["Dleq", "Handed", "HandedToken", "decode_token", "encode_token"]

PREFIX: Final = "cashu"
URI: Final = "cashu:"
TEXT_MAX: Final = 1 << 20
PROOFS_MAX: Final = 5_000
SECRET_MAX: Final = 1_024
MEMO_MAX: Final = 1_000
URL_MAX: Final = 1_000
SCALAR_LEN: Final = 32
OLD_ID_LEN: Final = 8

Dleq = tuple[bytes, bytes, bytes]
"""Challenge e, response s and blinding factor r: proves to a receiver that the mint signed."""


@dataclass(frozen=True, slots=True)
class Handed:
    """Is one proof of a token.

    Attributes:
        keyset: The keyset's id, or its first 8 bytes.
        amount: What it claims to be worth.
        secret: What the mint wants to see.
        signature: C, 33 bytes.
        dleq: The proof that the mint signed it, if the sender gave one.
    """

    keyset: bytes
    amount: int
    secret: str = field(repr=False)
    signature: bytes = field(repr=False)
    dleq: Dleq | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class HandedToken:
    """Is a token.

    Attributes:
        mint: The mint's address, without slashes at its end.
        unit: What the amounts count, such as `sat`.
        memo: What the sender says; empty if nothing.
        proofs: What it consists of.
    """

    mint: str
    unit: str
    memo: str
    proofs: tuple[Handed, ...]

    @property
    def amount(self) -> int:
        """Is what it claims to be worth."""
        return sum(proof.amount for proof in self.proofs)


def encode_token(token: HandedToken) -> str:
    """Writes a token as `cashuB…`, with short ids and without proofs of the signatures."""
    groups: dict[bytes, list[dict[str, object]]] = {}
    for proof in token.proofs:
        groups.setdefault(proof.keyset[:SHORT_ID_LEN], []).append(
            {"a": proof.amount, "s": proof.secret, "c": proof.signature}
        )
    body: dict[str, object] = {"t": [{"i": key, "p": proofs} for key, proofs in groups.items()]}
    if token.memo:
        body["d"] = token.memo
    body |= {"m": token.mint, "u": token.unit}
    return f"{PREFIX}B{urlsafe_b64encode(encode(body)).decode().rstrip('=')}"


def decode_token(text: str) -> HandedToken:
    """Reads a token of either version.

    Raises:
        RemoteProtocolError: It is none, is damaged, or is of more than one mint.
    """
    text = "".join(text.split()).removeprefix(URI)
    if len(text) > TEXT_MAX:
        raise RemoteProtocolError(f"the token has {len(text)} characters: {TEXT_MAX} is the most")
    version = text[len(PREFIX) : len(PREFIX) + 1]
    if not text.startswith(PREFIX) or version not in {"A", "B"}:
        raise RemoteProtocolError("this is no token: one begins with cashuB or cashuA")
    raw = _unbase64(text[len(PREFIX) + 1 :])
    token = _read_v4(raw) if version == "B" else _read_v3(raw)
    if not 0 < len(token.proofs) <= PROOFS_MAX:
        raise RemoteProtocolError(
            f"the token consists of {len(token.proofs)} parts: 1 to {PROOFS_MAX} are read"
        )
    if len({proof.secret for proof in token.proofs}) != len(token.proofs):
        raise RemoteProtocolError("the token has a part twice")
    return token


def _unbase64(text: str) -> bytes:
    text = text.rstrip("=")
    damaged = "the token is damaged: a character is missing or wrong"
    if not text.isascii() or {"+", "/"} & set(text):
        raise RemoteProtocolError(damaged)
    try:
        return b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise RemoteProtocolError(damaged) from error


def _read_v4(raw: bytes) -> HandedToken:
    body = _map(decode(raw))
    proofs = [
        _proof_v4(_octets(group, "i", KEYSET_ID_LEN, SHORT_ID_LEN), _map(proof))
        for group in map(_map, _list(body, "t"))
        for proof in _list(group, "p")
    ]
    memo = body.get("d", "")
    return _token(_text(body, "m"), _text(body, "u"), memo, proofs)


def _proof_v4(keyset: bytes, proof: dict[str, Value]) -> Handed:
    amount, dleq = proof.get("a"), None
    if proof.get("d") is not None:
        parts = _map(proof["d"])
        e, s, r = (_octets(parts, name, SCALAR_LEN) for name in "esr")
        dleq = e, s, r
    return _proof(keyset, amount, _text(proof, "s"), _octets(proof, "c", POINT_LEN), dleq)


class _DleqV3(msgspec.Struct):
    e: str
    s: str
    r: str


class _ProofV3(msgspec.Struct):
    amount: int
    id: str
    secret: str
    C: str
    dleq: _DleqV3 | None = None


class _EntryV3(msgspec.Struct):
    mint: str
    proofs: list[_ProofV3]


class _TokenV3(msgspec.Struct):
    token: list[_EntryV3]
    unit: str = "sat"
    memo: str = ""


def _read_v3(raw: bytes) -> HandedToken:
    try:
        body = msgspec.json.decode(raw, type=_TokenV3)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"the token is damaged: {error}") from error
    if len({_strip(entry.mint) for entry in body.token}) != 1:
        raise RemoteProtocolError("the token is of several mints, or of none: ask for one of each")
    proofs = [
        _proof(
            _unhex(proof.id, KEYSET_ID_LEN, OLD_ID_LEN),
            proof.amount,
            proof.secret,
            _unhex(proof.C, POINT_LEN),
            None
            if proof.dleq is None
            else (
                _unhex(proof.dleq.e, SCALAR_LEN),
                _unhex(proof.dleq.s, SCALAR_LEN),
                _unhex(proof.dleq.r, SCALAR_LEN),
            ),
        )
        for entry in body.token
        for proof in entry.proofs
    ]
    return _token(body.token[0].mint, body.unit, body.memo, proofs)


def _token(mint: str, unit: str, memo: object, proofs: list[Handed]) -> HandedToken:
    if memo is None:
        memo = ""
    if not isinstance(memo, str) or len(memo) > MEMO_MAX or len(mint) > URL_MAX:
        raise RemoteProtocolError("the token has a memo or an address that is far too long")
    return HandedToken(_strip(mint), unit, memo, tuple(proofs))


def _proof(
    keyset: bytes, amount: object, secret: str, signature: bytes, dleq: Dleq | None
) -> Handed:
    if type(amount) is not int or not 0 < amount < 1 << 64 or amount & (amount - 1):
        raise RemoteProtocolError(f"the token has a part of {amount!r}: only powers of two exist")
    if not 0 < len(secret) <= SECRET_MAX:
        raise RemoteProtocolError(f"the token has a secret of {len(secret)} characters")
    return Handed(keyset, amount, secret, signature, dleq)


def _strip(url: str) -> str:
    return url.rstrip("/")


def _map(value: Value) -> dict[str, Value]:
    if not isinstance(value, dict):
        raise RemoteProtocolError("the token is damaged: a map is missing")
    return value


def _list(body: dict[str, Value], name: str) -> list[Value]:
    value = body.get(name)
    if not isinstance(value, list):
        raise RemoteProtocolError(f"the token is damaged: the list {name!r} is missing")
    return value


def _text(body: dict[str, Value], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise RemoteProtocolError(f"the token is damaged: the text {name!r} is missing")
    return value


def _octets(body: dict[str, Value], name: str, *lengths: int) -> bytes:
    value = body.get(name)
    if not isinstance(value, bytes) or len(value) not in lengths:
        raise RemoteProtocolError(f"the token is damaged: {name!r} is missing or of a wrong length")
    return value


def _unhex(text: str, *lengths: int) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) not in lengths:
        raise RemoteProtocolError("the token is damaged: hexadecimal digits are missing or wrong")
    return raw
