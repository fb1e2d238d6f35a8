"""Does a wallet's side of ecash: derives, blinds, checks proofs, unblinds, names keysets.

Source: `spec/06-work-tokens.md` and `spec/08-wallet-recovery.md`, which follow NUT-00, NUT-02,
NUT-12 and NUT-13.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass

from . import curve
from .curve import ORDER, Jacobian

POINT_LEN = 33


def encode(point: Jacobian) -> bytes:
    x, y = curve.affine(point)
    return (b"\x03" if y % 2 else b"\x02") + x.to_bytes(32, "big")


def decode(raw: bytes) -> Jacobian:
    """Reads a compressed point; raises ValueError for anything else."""
    if len(raw) != POINT_LEN or raw[0] not in (2, 3):
        raise ValueError(f"{raw.hex()} is no compressed point")
    even = curve.lift_x(int.from_bytes(raw[1:], "big"))
    if even is None:
        raise ValueError(f"{raw.hex()} is not on the curve")
    return even if raw[0] == 2 else negate(even)


def negate(point: Jacobian) -> Jacobian:
    return point[0], curve.P - point[1], point[2]


def hash_to_curve(message: bytes) -> Jacobian:
    seed = hashlib.sha256(b"Secp256k1_HashToCurve_Cashu_" + message).digest()
    counter = 0
    while True:
        x = hashlib.sha256(seed + struct.pack("<I", counter)).digest()
        point = curve.lift_x(int.from_bytes(x, "big"))
        if point is not None:
            return point
        counter += 1


def blind(secret: str, factor: int) -> bytes:
    """Returns Y + rG."""
    return encode(curve.add(hash_to_curve(secret.encode()), curve.multiply_base(factor)))


def unblind(signature: bytes, factor: int, key: bytes) -> bytes:
    """Returns C_ - rA."""
    shift = curve.multiply(factor, decode(key))
    return encode(curve.add(decode(signature), negate(shift)))


def hash_points(*points: Jacobian) -> bytes:
    digits = ""
    for point in points:
        x, y = curve.affine(point)
        digits += f"04{x:064x}{y:064x}"
    return hashlib.sha256(digits.encode()).digest()


def proves(key: bytes, blinded: bytes, signature: bytes, e: bytes, s: bytes) -> bool:
    """Tells whether a proof shows that the key signed; a missing proof shows nothing."""
    if (len(e), len(s)) != (32, 32):
        return False
    challenge, response = int.from_bytes(e, "big"), int.from_bytes(s, "big")
    if not (0 < challenge < ORDER and 0 < response < ORDER):
        return False
    try:
        public, message, signed = decode(key), decode(blinded), decode(signature)
    except ValueError:
        return False
    back = ORDER - challenge
    first = curve.add(curve.multiply_base(response), curve.multiply(back, public))
    second = curve.add(curve.multiply(response, message), curve.multiply(back, signed))
    if first[2] == 0 or second[2] == 0:
        return False
    return hash_points(first, second, public, signed) == e


def keyset_id(amounts: dict[int, bytes], unit: str, fee_ppk: int = 0, expiry: int = 0) -> bytes:
    """Computes the 33 bytes that name keys and terms."""
    text = ",".join(f"{amount}:{amounts[amount].hex()}" for amount in sorted(amounts))
    text += f"|unit:{unit}"
    text += f"|input_fee_ppk:{fee_ppk}" if fee_ppk else ""
    text += f"|final_expiry:{expiry}" if expiry else ""
    return b"\x01" + hashlib.sha256(text.encode()).digest()


@dataclass(frozen=True)
class Output:
    """Is a blinded message with what opens it."""

    keyset: bytes
    counter: int
    secret: str
    factor: int
    blinded: bytes


@dataclass(frozen=True)
class Token:
    """Is an unblinded signature: exponent, keyset, secret and C."""

    keyset: bytes
    z: int
    secret: str
    signature: bytes


class Seed:
    """Is where a wallet's outputs come from."""

    def __init__(self, seed: bytes) -> None:
        self.seed = seed

    def output(self, keyset: bytes, counter: int) -> Output:
        place = b"Cashu_KDF_HMAC_SHA256" + keyset + struct.pack(">Q", counter)
        secret = hmac.new(self.seed, place + b"\x00", hashlib.sha256).hexdigest()
        digest = hmac.new(self.seed, place + b"\x01", hashlib.sha256).digest()
        factor = int.from_bytes(digest, "big") % ORDER
        return Output(keyset, counter, secret, factor, blind(secret, factor))

    def claim_key(self, counter: int) -> ClaimKey:
        """Derives a claim key; its point has an even y."""
        place = b"radpool/claim-key" + struct.pack(">Q", counter)
        digest = hmac.new(self.seed, place, hashlib.sha256).digest()
        scalar = int.from_bytes(digest, "big") % ORDER
        if encode(curve.multiply_base(scalar))[0] == 3:
            scalar = ORDER - scalar
        return ClaimKey(scalar.to_bytes(32, "big"), encode(curve.multiply_base(scalar)))


@dataclass(frozen=True)
class ClaimKey:
    """Is what the value belongs to that no token stands for."""

    secret: bytes
    point: bytes

    def sign(self, keyset: bytes, outputs: list[tuple[int, bytes]]) -> bytes:
        return curve.sign(self.secret, cash_out_digest(self.point, keyset, outputs), bytes(32))


def cash_out_digest(point: bytes, keyset: bytes, outputs: list[tuple[int, bytes]]) -> bytes:
    rows = b"".join(struct.pack("<Q", amount) + blinded for amount, blinded in outputs)
    return curve.tagged_hash("radpool/cash-out", point + keyset + rows)


@dataclass
class Paid:
    """Judges whether shares were paid, by work or by at least half of the subsidy's value."""

    unit_value: int
    work: int = 0
    tokens: int = 0

    def takes(self, work: int, token: int) -> bool:
        """Counts a share of so many units that brought a token of so many."""
        if not self.unit_value:
            return token >= work
        if 2 * (self.tokens + token + (token or 1)) <= self.work + work:
            return False
        self.work, self.tokens = self.work + work, self.tokens + token
        return True


def receipt_root(previous: bytes, blinded: bytes, z: int, share_hash: bytes) -> bytes:
    return curve.tagged_hash("radpool/receipt", previous + blinded + bytes([z]) + share_hash)


def receipt_digest(channel: int, last_sequence: int, root: bytes) -> bytes:
    return curve.tagged_hash("radpool/receipts", struct.pack("<II", channel, last_sequence) + root)


def worth_msat(price_num: int, price_den: int, units: int) -> int:
    """Returns what units are worth together; the only rounding, downwards."""
    return price_num * units // price_den
