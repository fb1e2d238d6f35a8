"""Lays out the messages of the ownership extension: what follows the fields of the core's.

Reading checks form; whether a key is one and a signature true is for who uses the message.

Source: `spec/11-owner-registration.md`.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from radpool_sv2.wire.encoding import SIGNATURE, U32, U64, U256, Octets, Record, Unsigned

__all__ = [
    "EXTENSION_TYPE",
    "INVALID_SIGNATURE",
    "OPEN",
    "OPEN_ERROR",
    "OPEN_SUCCESS",
    "SHARE",
    "SHARE_ERROR",
    "SHARE_SUCCESS",
    "OwnedShare",
    "OwnerAsked",
    "OwnerGranted",
    "ShareReceipt",
    "SubmitSharesOwnedSuccess",
]

EXTENSION_TYPE = 0x4E46
"""Within the experimental range of SV2, beside the ecash extension's."""

OPEN = 0x00
OPEN_SUCCESS = 0x01
OPEN_ERROR = 0x02
SHARE = 0x03
SHARE_SUCCESS = 0x04
SHARE_ERROR = 0x05

INVALID_SIGNATURE = "invalid-registration-signature"
"""Says that a share came without the miner's consent to its registration."""

SALT_LEN = 16

U128 = Annotated[int, Unsigned(16, (1 << 128) - 1)]


@dataclass(frozen=True, slots=True)
class OwnerAsked(Record):
    """Is what follows the core fields when a channel is asked for.

    Attributes:
        miner_key: The x-only key that is to own the channel's shares.
    """

    malformed: ClassVar[str] = "invalid-miner-key"

    miner_key: U256


@dataclass(frozen=True, slots=True)
class OwnerGranted(Record):
    """Is what follows the core fields when a channel is granted.

    Attributes:
        msp_key: The MSP's x-only key.
        salt: The salt of the owner commitment.
        epoch: The epoch that was open when the key was registered.
        number: The registration's number.
        msp_signature: The MSP's signature of the registration.
    """

    msp_key: U256
    salt: Annotated[bytes, Octets(SALT_LEN)]
    epoch: U32
    number: U64
    msp_signature: SIGNATURE


@dataclass(frozen=True, slots=True)
class OwnedShare(Record):
    """Is what follows the core fields of a share.

    Attributes:
        miner_signature: The miner's signature of the registration.
    """

    malformed: ClassVar[str] = INVALID_SIGNATURE

    miner_signature: SIGNATURE


@dataclass(frozen=True, slots=True)
class ShareReceipt(Record):
    """Is the running receipt of a channel.

    Attributes:
        count: Its shares.
        work: The sum of their work, hashes.
        root: What commits to each of them and their order.
        signature: The MSP's signature.
    """

    count: U64
    work: U128
    root: U256
    signature: SIGNATURE


@dataclass(frozen=True, slots=True)
class SubmitSharesOwnedSuccess(Record):
    """Accepts shares: the fields of the core's message, and the receipt."""

    channel_id: U32
    last_sequence_number: U32
    new_submits_accepted_count: U32
    new_shares_sum: U64
    count: U64
    work: U128
    root: U256
    signature: SIGNATURE
