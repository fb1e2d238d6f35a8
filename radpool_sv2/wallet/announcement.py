"""Reads what a mint announces and signs: a keyset, and how the keyset's epoch fares.

Nothing in here is believed because a connection delivered it. A keyset's id is computed again from
its keys, so that a mint cannot show one id and different keys to different miners; everything else
stands under the mint's signature.

Source: `spec/05-ecash-messages.md`, EcashKeysetAnnounce and EcashEpochUpdate; NUT-02.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final

from radpool_sv2._native.ecash import check_points, keyset_id
from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.units import EXPONENT_MAX, HASH_LEN
from radpool_sv2.wallet.reader import POINT_LEN, SIGNATURE_LEN, Reader, check_signature

__all__ = [
    "EXPONENTS",
    "KEYSET_ID_LEN",
    "SAT_POLICY",
    "SAT_UNIT",
    "SHORT_ID_LEN",
    "WORK_UNIT",
    "Announcement",
    "EpochState",
    "EpochUpdate",
    "Policy",
    "check_keyset_version",
]

ANNOUNCE_TAG: Final = "radpool/keyset"
UPDATE_TAG: Final = "radpool/epoch-update"
WORK_UNIT: Final = "work"
SAT_UNIT: Final = "sat"
SAT_POLICY: Final = 255
"""What stands in the place of the policy in the announcement of a sat keyset."""

KEYSET_ID_LEN: Final = 33
KEYSET_VERSION: Final = 1
SHORT_ID_LEN: Final = 8
EXPONENTS: Final = 64
"""How many amounts there can be: 2^0 to 2^63."""


class Policy(IntEnum):
    """Is how a keyset's epoch is paid."""

    NETWORK = 0
    POOL = 1
    WINDOW = 2
    FIXED = 3

    @property
    def word(self) -> str:
        """Is the name, as people write it."""
        return self.name.lower()


class EpochState(IntEnum):
    """Is where a keyset stands on its way from the first share to the last payment."""

    OPEN = 0
    CLOSED = 1
    PROVISIONAL = 2
    FINAL = 3
    VOID = 4
    EXPIRED = 5

    @property
    def word(self) -> str:
        """Is the name, as people write it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Announcement:
    """Is a keyset as its mint announced it.

    Attributes:
        keyset_id: 33 bytes.
        unit: `work` or `sat`.
        policy: None for a sat keyset.
        epoch: The ledger's epoch in which it opened.
        opened_height: The height of the tip then.
        opened_block: The hash of the tip then, internal byte order.
        z0: The share of exponent z0 is worth 1 unit; 0 for a sat keyset.
        keys: The public key of each amount's exponent: `keys[i]` signs 2^i units.
        fee_ppm: What the mint keeps of a payment, in millionths.
        fee_fixed_msat: What it keeps besides.
        price_num: Of the fixed policy: the msat that `price_den` units are worth; otherwise 0.
        price_den: See there.
        supersedes: The id of the keyset before it; empty if there is none.
        payload: The message itself.
    """

    keyset_id: bytes
    unit: str
    policy: Policy | None
    epoch: int
    opened_height: int
    opened_block: bytes
    z0: int
    keys: dict[int, bytes]
    fee_ppm: int
    fee_fixed_msat: int
    price_num: int
    price_den: int
    supersedes: bytes
    payload: bytes = field(repr=False)

    @classmethod
    def read(cls, payload: bytes, mint: bytes) -> Announcement:
        """Reads an announcement and checks everything in it that can be checked.

        Args:
            payload: The message.
            mint: Whose signature it must bear, 33 bytes.

        Raises:
            RemoteProtocolError: It is malformed, not signed by that mint, or its id is not the one
                of its keys.
        """
        found = cls.parse(payload)
        check_signature(mint, ANNOUNCE_TAG, payload, f"keyset {found.keyset_id.hex()}")
        found.check()
        return found

    @classmethod
    def parse(cls, payload: bytes) -> Announcement:
        """Reads an announcement that was checked before, as when it comes from the wallet's file.

        Raises:
            RemoteProtocolError: It is malformed.
        """
        reader = Reader(payload, "a keyset announcement")
        identifier = reader.octets(KEYSET_ID_LEN)
        unit = reader.text()
        policy = reader.unsigned(1)
        if policy not in ((SAT_POLICY,) if unit == SAT_UNIT else tuple(Policy)):
            raise RemoteProtocolError(f"keyset {identifier.hex()}: no policy {policy} is known")
        epoch, height, block = reader.unsigned(4), reader.unsigned(4), reader.take(HASH_LEN)
        z0 = reader.unsigned(1)
        keys: dict[int, bytes] = {}
        for _ in range(reader.unsigned(1)):
            exponent = reader.unsigned(1) - z0
            if exponent in keys or not 0 <= exponent < EXPONENTS:
                raise RemoteProtocolError(
                    f"keyset {identifier.hex()}: a key twice or for an amount outside the ladder"
                )
            keys[exponent] = reader.octets(POINT_LEN)
        fee_ppk, expiry = reader.unsigned(4), reader.unsigned(8)
        if fee_ppk or expiry:
            raise RemoteProtocolError(
                f"keyset {identifier.hex()}: takes a fee for each input, or expires by itself; "
                "neither is in this version"
            )
        found = cls(
            keyset_id=identifier,
            unit=unit,
            policy=None if policy == SAT_POLICY else Policy(policy),
            epoch=epoch,
            opened_height=height,
            opened_block=block,
            z0=z0,
            keys=keys,
            fee_ppm=reader.unsigned(4),
            fee_fixed_msat=reader.unsigned(8),
            price_num=reader.unsigned(8),
            price_den=reader.unsigned(8),
            supersedes=reader.octets(0, KEYSET_ID_LEN),
            payload=payload,
        )
        reader.take(SIGNATURE_LEN)
        reader.finish()
        return found

    def agrees_with(self, other: Announcement) -> bool:
        """Tells whether two announcements say the same; each may bear a signature of its own."""
        return replace(self, payload=b"") == replace(other, payload=b"")

    def check(self) -> None:
        """Makes sure that the keyset is one that can be used, and its id the one of its keys.

        Raises:
            RemoteProtocolError: It is not.
        """
        name = f"keyset {self.keyset_id.hex()}"
        check_keyset_version(self.keyset_id)
        if self.unit not in {WORK_UNIT, SAT_UNIT}:
            raise RemoteProtocolError(f"{name}: the unit {self.unit!r} is unknown")
        if self.z0 > EXPONENT_MAX or (self.unit == SAT_UNIT and self.z0):
            raise RemoteProtocolError(f"{name}: z0 = {self.z0} is outside the ladder")
        if not self.keys or not all(check_points(list(self.keys.values()))):
            raise RemoteProtocolError(f"{name}: has no keys, or one that is no point of the curve")
        fixed = self.policy is Policy.FIXED
        if fixed != bool(self.price_den) or (self.price_num and not fixed):
            raise RemoteProtocolError(
                f"{name}: a price is announced by the fixed policy, and only by it"
            )
        computed = keyset_id([(1 << e, key) for e, key in sorted(self.keys.items())], self.unit)
        if computed != self.keyset_id:
            raise RemoteProtocolError(f"{name}: its keys are those of {computed.hex()}")


@dataclass(frozen=True, slots=True)
class EpochUpdate:
    """Is how a keyset's epoch fares, as its mint signed it.

    Attributes:
        keyset_id: 33 bytes.
        state: Where it stands.
        block_hash: The block that pays it, internal byte order; zeros if there is none.
        height: That block's height.
        confirmations: How deep it is.
        theta_msat: What is paid to all tokens of the keyset together.
        work_total: How many units all its shares were worth; the price is theta over this.
        group: Keysets that are paid together with it.
        statement_hash: What the mint's statement of the settlement hashes to; empty before it.
        redeem_after_height: The height of the tip from which on it is paid.
        expires_at: When the mint stops paying, in seconds since 1970; 0 while that is unknown.
        payload: The message itself.
    """

    keyset_id: bytes
    state: EpochState
    block_hash: bytes
    height: int
    confirmations: int
    theta_msat: int
    work_total: int
    group: tuple[bytes, ...]
    statement_hash: bytes
    redeem_after_height: int
    expires_at: int
    payload: bytes = field(repr=False)

    @classmethod
    def read(cls, payload: bytes, mint: bytes) -> EpochUpdate:
        """Reads an update and checks the signature.

        Args:
            payload: The message.
            mint: Whose signature it must bear, 33 bytes.

        Raises:
            RemoteProtocolError: It is malformed or not signed by that mint.
        """
        found = cls.parse(payload)
        what = f"the update of keyset {found.keyset_id.hex()}"
        check_signature(mint, UPDATE_TAG, payload, what)
        return found

    @classmethod
    def parse(cls, payload: bytes) -> EpochUpdate:
        """Reads an update that was checked before, as when it comes from the wallet's file.

        Raises:
            RemoteProtocolError: It is malformed.
        """
        reader = Reader(payload, "an epoch update")
        identifier = reader.octets(KEYSET_ID_LEN)
        state = reader.unsigned(1)
        if state not in tuple(EpochState):
            raise RemoteProtocolError(f"keyset {identifier.hex()}: no state {state} is known")
        found = cls(
            keyset_id=identifier,
            state=EpochState(state),
            block_hash=reader.take(HASH_LEN),
            height=reader.unsigned(4),
            confirmations=reader.unsigned(2),
            theta_msat=reader.unsigned(8),
            work_total=reader.unsigned(8),
            group=tuple(reader.octets(KEYSET_ID_LEN) for _ in range(reader.unsigned(1))),
            statement_hash=reader.octets(0, HASH_LEN),
            redeem_after_height=reader.unsigned(4),
            expires_at=reader.unsigned(8),
            payload=payload,
        )
        reader.take(SIGNATURE_LEN)
        reader.finish()
        return found


def check_keyset_version(identifier: bytes) -> None:
    """Makes sure that a keyset's id is of the version that this wallet knows.

    Raises:
        RemoteProtocolError: It is of another one, whose tokens cannot be derived or verified here.
    """
    if len(identifier) != KEYSET_ID_LEN or identifier[0] != KEYSET_VERSION:
        raise RemoteProtocolError(
            f"keyset {identifier.hex()}: only ids of version {KEYSET_VERSION} with "
            f"{KEYSET_ID_LEN} bytes are known; a newer radpool may know it"
        )
