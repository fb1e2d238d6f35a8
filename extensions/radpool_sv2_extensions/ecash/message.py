"""Lays out the twelve messages of the ecash extension.

A message keeps its name of Stratum V2; the fields of an `Open...` and of a `Submit...` begin with
those of the core message of that kind, so that whoever knows the core message can read as far as it
goes. Payloads are at most 64 KiB. Points are 33 bytes, compressed; scalars are 32 bytes, most
significant first; block hashes stand in internal order.

Reading checks form: lengths, counts, ranges, nothing behind the end. Whether a point is on the
curve, a signature true or a keyset known is for who uses the message.

Source: `spec/05-ecash-messages.md`.
"""

import struct
from dataclasses import dataclass
from typing import Annotated, ClassVar

from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.units import tagged_hash
from radpool_sv2.wire.encoding import (
    F32,
    LONG_COUNT,
    SHORT_COUNT,
    SIGNATURE,
    U8,
    U16,
    U32,
    U64,
    U256,
    Items,
    Nested,
    Octets,
    Record,
    Text,
    Unsigned,
)

__all__ = [
    "CLAIMS_MAX",
    "EXTENSION_TYPE",
    "INPUTS_MAX",
    "NO_TOKEN",
    "OUTPUTS_MAX",
    "PAYLOAD_LEN_MAX",
    "RECEIPTS_MAX",
    "Claim",
    "EcashEpochUpdate",
    "EcashKeysetAnnounce",
    "EcashKeysetRequest",
    "KeyEntry",
    "Message",
    "OpenExtendedEcashMiningChannel",
    "OpenExtendedEcashMiningChannelError",
    "OpenExtendedEcashMiningChannelSuccess",
    "Receipt",
    "RedeemInput",
    "RedeemOutput",
    "RedeemSharesEcash",
    "RedeemSharesEcashError",
    "RedeemSharesEcashSuccess",
    "RedeemSignature",
    "SubmitSharesEcashExtended",
    "SubmitSharesEcashExtendedError",
    "SubmitSharesEcashExtendedSuccess",
    "TermsAsked",
    "TermsGranted",
    "claim_tlv",
    "decode",
    "receipt_root",
]

EXTENSION_TYPE = 0x4E45
"""Within the experimental range of SV2. Source: sv2-spec, 09 "Extensions"."""

CLAIM_FIELD = 0x01
"""The field of the TLV that carries a claim behind the core's SubmitSharesExtended."""

PAYLOAD_LEN_MAX = 65_536
CLAIMS_MAX = 500
INPUTS_MAX = 250
OUTPUTS_MAX = 250
RECEIPTS_MAX = 600
"""Most items, so that a message stays below 64 KiB (inputs: with secrets of 64 characters) and so
does its answer."""

PROTOCOL_VERSION = 1

POLICY_MAX = 3
STATE_MAX = 5
SIGN_MODE_MAX = 2

MODE_FETCH = 0
MODE_SPEND = 1

AMOUNTS = 64
"""A keyset has a key for each power of two that 64 bits hold."""

NO_TOKEN = 255
"""The exponent in a receipt of a share that brought no token: its value went to the residue."""

SHORT_LEN = 8
KEYSET_LEN = 33
POINT_LEN = 33
SCALAR_LEN = 32
SIGNATURE_LEN = 64

_TLV = struct.Struct("<HBH")

Policy = Annotated[int, Unsigned(1, POLICY_MAX)]
KeysetId = Annotated[bytes, Octets(KEYSET_LEN)]
Point = Annotated[bytes, Octets(POINT_LEN)]
Scalar = Annotated[bytes, Octets(SCALAR_LEN)]
Name = Annotated[str, Text()]


class Message(Record):
    """Is a message of the extension."""

    __slots__ = ()

    msg_type: ClassVar[int]
    channel_msg: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """What Stratum V2 calls it, without the dot."""
        return type(self).__name__


class SignedMessage(Message):
    """Is a message whose last field is the mint's BIP340 signature over all fields before."""

    __slots__ = ()

    tag: ClassVar[str]

    def signed_hash(self) -> bytes:
        """Returns the 32 bytes that the signature signs."""
        return tagged_hash(self.tag, self.encode()[:-SIGNATURE_LEN])


@dataclass(frozen=True, slots=True)
class TermsAsked(Record):
    """Is what follows the core fields when a channel is asked for.

    Attributes:
        policies_accepted: Bit i stands for epoch policy i.
        sign_modes_accepted: Bit 0 eager, bit 1 lazy.
        min_protocol: The oldest version of the extension that will do.
        claim_pubkey: A key that may claim what is left behind, or nothing.
    """

    malformed: ClassVar[str] = "malformed-terms"

    policies_accepted: U32
    sign_modes_accepted: U8
    min_protocol: U8
    claim_pubkey: Annotated[bytes, Octets(0, POINT_LEN, code="invalid-claim-pubkey")]


@dataclass(frozen=True, slots=True)
class OpenExtendedEcashMiningChannel(Message):
    """Asks for an extended channel whose shares earn ecash."""

    msg_type: ClassVar[int] = 0x00

    request_id: U32
    user_identity: Name
    nominal_hash_rate: F32
    max_target: U256
    min_extranonce_size: U16
    terms: Annotated[TermsAsked, Nested(TermsAsked)]


@dataclass(frozen=True, slots=True)
class TermsGranted(Record):
    """Is what follows the core fields when a channel is granted.

    Attributes:
        policy: The epoch policy.
        sign_mode: 1 eager, 2 lazy.
        z0: The exponent of the token of 1 unit.
        z_step: The channel's exponents are multiples of this.
        keyset_id: The keyset that shares are signed by at first.
        mint_pubkey: The mint's identity.
        mint_url: Where its HTTP interface is; empty when it does not say.
        max_batch: Most receipts in one message.
    """

    policy: Policy
    sign_mode: Annotated[int, Unsigned(1, SIGN_MODE_MAX)]
    z0: U8
    z_step: U8
    keyset_id: KeysetId
    mint_pubkey: Point
    mint_url: Name
    max_batch: U16


@dataclass(frozen=True, slots=True)
class OpenExtendedEcashMiningChannelSuccess(Message):
    """Grants a channel; the keyset that it names was announced right before."""

    msg_type: ClassVar[int] = 0x01

    request_id: U32
    channel_id: U32
    target: U256
    extranonce_size: U16
    extranonce_prefix: Annotated[bytes, Octets(*range(33))]
    group_channel_id: U32
    terms: Annotated[TermsGranted, Nested(TermsGranted)]


@dataclass(frozen=True, slots=True)
class OpenExtendedEcashMiningChannelError(Message):
    """Refuses a channel."""

    msg_type: ClassVar[int] = 0x02

    request_id: U32
    error_code: Name


@dataclass(frozen=True, slots=True)
class Claim(Record):
    """Is what a share carries: the first 8 bytes of the keyset's id, and the blinded message."""

    malformed: ClassVar[str] = "invalid-blinded-message"

    keyset_short: Annotated[bytes, Octets(SHORT_LEN)]
    blinded: Annotated[bytes, Octets(POINT_LEN)]


@dataclass(frozen=True, slots=True)
class SubmitSharesEcashExtended(Message):
    """Submits a share with its claim."""

    msg_type: ClassVar[int] = 0x03
    channel_msg: ClassVar[bool] = True

    channel_id: U32
    sequence_number: U32
    job_id: U32
    nonce: U32
    ntime: U32
    version: U32
    extranonce: Annotated[bytes, Octets(*range(33))]
    claim: Annotated[Claim, Nested(Claim)]


@dataclass(frozen=True, slots=True)
class Receipt(Record):
    """Is the answer to one share.

    Attributes:
        sequence_number: The share's.
        z: The exponent of its token, or `NO_TOKEN`.
        signature: The blind signature C_; empty in lazy mode and without a token.
        e: The DLEQ proof's challenge; empty with the signature.
        s: The DLEQ proof's response; empty with the signature.
    """

    sequence_number: U32
    z: U8
    signature: Annotated[bytes, Octets(0, POINT_LEN)]
    e: Annotated[bytes, Octets(0, SCALAR_LEN)]
    s: Annotated[bytes, Octets(0, SCALAR_LEN)]

    def check(self) -> None:
        """Makes sure that a signature comes with its proof."""
        if not bool(self.signature) == bool(self.e) == bool(self.s):
            raise RemoteProtocolError("a receipt has a signature without proof, or the reverse")
        if self.z == NO_TOKEN and self.signature:
            raise RemoteProtocolError("a receipt signs a token and says that there is none")


@dataclass(frozen=True, slots=True)
class SubmitSharesEcashExtendedSuccess(Message):
    """Accepts shares of a channel, with a receipt for each.

    Attributes:
        channel_id: The channel.
        last_sequence_number: The latest share that it speaks of.
        new_submits_accepted_count: Shares that the core's answer does not count: 0 when they came
            by the core's message.
        new_shares_sum: Their work, as in the core's answer.
        receipts: One for each share, in order.
        receipt_root: Lazy mode: the channel's running hash over all its receipts; else empty.
        receipt_sig: Lazy mode: the mint's signature over `receipts_hash`; else empty.
    """

    msg_type: ClassVar[int] = 0x04
    channel_msg: ClassVar[bool] = True

    channel_id: U32
    last_sequence_number: U32
    new_submits_accepted_count: U32
    new_shares_sum: U64
    receipts: Annotated[tuple[Receipt, ...], Items(Nested(Receipt), LONG_COUNT, RECEIPTS_MAX)]
    receipt_root: Annotated[bytes, Octets(0, SCALAR_LEN)]
    receipt_sig: Annotated[bytes, Octets(0, SIGNATURE_LEN)]

    def check(self) -> None:
        """Makes sure that it is either eager or lazy."""
        if bool(self.receipt_root) != bool(self.receipt_sig):
            raise RemoteProtocolError("receipts with a root and no signature, or the reverse")
        if self.receipt_root and any(item.signature for item in self.receipts):
            raise RemoteProtocolError("receipts that are both eager and lazy")

    def receipts_hash(self) -> bytes:
        """Returns the 32 bytes that `receipt_sig` signs."""
        head = struct.pack("<II", self.channel_id, self.last_sequence_number)
        return tagged_hash("radpool/receipts", head, self.receipt_root)


@dataclass(frozen=True, slots=True)
class SubmitSharesEcashExtendedError(Message):
    """Refuses a share, or only the claim of a share that is good: the code says which."""

    msg_type: ClassVar[int] = 0x05
    channel_msg: ClassVar[bool] = True

    channel_id: U32
    sequence_number: U32
    error_code: Name


@dataclass(frozen=True, slots=True)
class RedeemInput(Record):
    """Is a work token that is spent: exponent, secret, and the unblinded signature C."""

    z: U8
    secret: Annotated[str, Text(code="invalid-proof")]
    signature: Annotated[bytes, Octets(POINT_LEN, code="invalid-proof")]


@dataclass(frozen=True, slots=True)
class RedeemOutput(Record):
    """Is a blinded message that is to be signed: sats, or units of the work keyset."""

    amount: U64
    keyset_short: Annotated[bytes, Octets(SHORT_LEN, code="unknown-epoch")]
    blinded: Annotated[bytes, Octets(POINT_LEN, code="invalid-blinded-message")]


TOO_MANY = "too-many-items"
Blinded = Octets(POINT_LEN, code="invalid-blinded-message")


@dataclass(frozen=True, slots=True)
class RedeemSharesEcash(Message):
    """Fetches signatures (mode 0), or spends work tokens for sats or for other work tokens (1)."""

    msg_type: ClassVar[int] = 0x06

    request_id: U32
    mode: Annotated[int, Unsigned(1, MODE_SPEND)]
    keyset_id: Annotated[bytes, Octets(KEYSET_LEN, code="unknown-epoch")]
    claims: Annotated[tuple[bytes, ...], Items(Blinded, LONG_COUNT, CLAIMS_MAX, code=TOO_MANY)]
    inputs: Annotated[
        tuple[RedeemInput, ...], Items(Nested(RedeemInput), LONG_COUNT, INPUTS_MAX, code=TOO_MANY)
    ]
    outputs: Annotated[
        tuple[RedeemOutput, ...],
        Items(Nested(RedeemOutput), LONG_COUNT, OUTPUTS_MAX, code=TOO_MANY),
    ]

    def check(self) -> None:
        """Makes sure that it asks for one thing."""
        if self.claims if self.mode else self.inputs or self.outputs:
            raise RemoteProtocolError("a request that both fetches and spends", "amount-mismatch")


@dataclass(frozen=True, slots=True)
class RedeemSignature(Record):
    """Is a blind signature with its proof, for the item of the request at `index`."""

    index: U16
    amount: U64
    signature: Point
    e: Scalar
    s: Scalar


Indices = Items(Unsigned(2, 0xFFFF), LONG_COUNT, CLAIMS_MAX)


@dataclass(frozen=True, slots=True)
class RedeemSharesEcashSuccess(Message):
    """Answers a request: each of its items stands in one of the lists, once.

    Attributes:
        request_id: As asked.
        mode: As asked.
        signatures: What is signed.
        pending: Claims that are known and not signed yet.
        unknown: Claims that are not known.
        price_num: Millisats that the keyset is worth; 0 when it has no price yet.
        price_den: Units that share them.
    """

    msg_type: ClassVar[int] = 0x07

    request_id: U32
    mode: Annotated[int, Unsigned(1, MODE_SPEND)]
    signatures: Annotated[
        tuple[RedeemSignature, ...], Items(Nested(RedeemSignature), LONG_COUNT, CLAIMS_MAX)
    ]
    pending: Annotated[tuple[int, ...], Indices]
    unknown: Annotated[tuple[int, ...], Indices]
    price_num: U64
    price_den: U64


@dataclass(frozen=True, slots=True)
class RedeemSharesEcashError(Message):
    """Refuses a whole request; `retry_after_s` is 0 when asking again is of no use."""

    msg_type: ClassVar[int] = 0x08

    request_id: U32
    error_code: Name
    retry_after_s: U32


@dataclass(frozen=True, slots=True)
class KeyEntry(Record):
    """Is a key of a keyset: `z` is z0 plus the binary logarithm of the amount."""

    z: U8
    key: Point


@dataclass(frozen=True, slots=True)
class EcashKeysetAnnounce(SignedMessage):
    """Announces a keyset; who gets it computes the id again and checks the signature.

    The keyset of sats has no policy: 255 stands there.
    """

    msg_type: ClassVar[int] = 0x09
    tag: ClassVar[str] = "radpool/keyset"

    keyset_id: KeysetId
    unit: Name
    policy: U8
    epoch: U32
    opened_height: U32
    opened_block: U256
    z0: U8
    keys: Annotated[tuple[KeyEntry, ...], Items(Nested(KeyEntry), SHORT_COUNT, 255)]
    input_fee_ppk: U32
    final_expiry: U64
    fee_ppm: U32
    fee_fixed_msat: U64
    price_num: U64
    price_den: U64
    supersedes: Annotated[bytes, Octets(0, KEYSET_LEN)]
    signature: SIGNATURE


@dataclass(frozen=True, slots=True)
class EcashKeysetRequest(Message):
    """Asks for a keyset; an empty id asks for those of the connection's channels."""

    msg_type: ClassVar[int] = 0x0A

    keyset_id: Annotated[bytes, Octets(0, KEYSET_LEN, code="unknown-epoch")]


@dataclass(frozen=True, slots=True)
class EcashEpochUpdate(SignedMessage):
    """Tells the state of a keyset: 0 open, 1 closed, 2 provisional, 3 final, 4 void, 5 expired."""

    msg_type: ClassVar[int] = 0x0B
    tag: ClassVar[str] = "radpool/epoch-update"

    keyset_id: KeysetId
    state: Annotated[int, Unsigned(1, STATE_MAX)]
    block_hash: U256
    height: U32
    confirmations: U16
    theta_msat: U64
    work_total: U64
    group: Annotated[tuple[bytes, ...], Items(Octets(KEYSET_LEN), SHORT_COUNT, 255)]
    statement_hash: Annotated[bytes, Octets(0, SCALAR_LEN)]
    redeem_after_height: U32
    expires_at: U64
    signature: SIGNATURE


MESSAGES: dict[int, type[Message]] = {
    kind.msg_type: kind
    for kind in (
        OpenExtendedEcashMiningChannel,
        OpenExtendedEcashMiningChannelSuccess,
        OpenExtendedEcashMiningChannelError,
        SubmitSharesEcashExtended,
        SubmitSharesEcashExtendedSuccess,
        SubmitSharesEcashExtendedError,
        RedeemSharesEcash,
        RedeemSharesEcashSuccess,
        RedeemSharesEcashError,
        EcashKeysetAnnounce,
        EcashKeysetRequest,
        EcashEpochUpdate,
    )
}


def decode(msg_type: int, payload: bytes, *, channel_msg: bool) -> Message:
    """Reads a message.

    Raises:
        RemoteProtocolError: It is none, or malformed.
    """
    kind = MESSAGES.get(msg_type)
    if kind is None:
        raise RemoteProtocolError(f"the ecash extension has no message {msg_type:#04x}")
    if channel_msg != kind.channel_msg:
        raise RemoteProtocolError(f"{kind.__name__} with the channel bit {int(channel_msg)}")
    if len(payload) > PAYLOAD_LEN_MAX:
        raise RemoteProtocolError(f"{len(payload)} bytes: {PAYLOAD_LEN_MAX} is the most")
    return kind.decode(payload)


def claim_tlv(keyset_short: bytes, blinded: bytes) -> bytes:
    """Writes the claim that goes behind the core's SubmitSharesExtended."""
    value = keyset_short + blinded
    return _TLV.pack(EXTENSION_TYPE, CLAIM_FIELD, len(value)) + value


def receipt_root(previous: bytes, blinded: bytes, z: int, share_hash: bytes) -> bytes:
    """Computes a channel's running hash over one more receipt; it begins with 32 zero bytes."""
    return tagged_hash("radpool/receipt", previous, blinded, bytes([z]), share_hash)
