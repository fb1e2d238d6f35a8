"""Lays out the messages between who makes templates and who mines on them.

Source: sv2-spec, section 7.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from radpool_sv2.wire.encoding import (
    B0_64K,
    B0_255,
    BOOL,
    LONG_COUNT,
    SHORT_COUNT,
    STR0_255,
    U16,
    U32,
    U64,
    U256,
    Bytes,
    Hashes,
    Items,
)
from radpool_sv2.wire.message.base import Message, messages
from radpool_sv2.wire.message.job_declaration import TRANSACTION_LEN_MAX, TRANSACTIONS_MAX

__all__ = [
    "STALE_TEMPLATE_ID",
    "TEMPLATE_DISTRIBUTION",
    "TEMPLATE_ID_NOT_FOUND",
    "CoinbaseOutputConstraints",
    "NewTemplate",
    "RequestTransactionData",
    "RequestTransactionDataError",
    "RequestTransactionDataSuccess",
    "SetNewPrevHash",
    "SubmitSolution",
]

STALE_TEMPLATE_ID: Final = "stale-template-id"
TEMPLATE_ID_NOT_FOUND: Final = "template-id-not-found"


@dataclass(frozen=True, slots=True)
class CoinbaseOutputConstraints(Message):
    """Says how much room the client's outputs need in the coinbase of further templates.

    Attributes:
        coinbase_output_max_additional_size: Serialised bytes of all outputs that it adds.
        coinbase_output_max_additional_sigops: Signature operations in their scripts.
    """

    msg_type: ClassVar[int] = 0x70

    coinbase_output_max_additional_size: U32
    coinbase_output_max_additional_sigops: U16


@dataclass(frozen=True, slots=True)
class NewTemplate(Message):
    """Offers a template.

    Attributes:
        template_id: The server's number of it.
        future_template: Whether it is for a tip that a later SetNewPrevHash names.
        version: The header's version, before rolling.
        coinbase_tx_version: The coinbase transaction's version.
        coinbase_prefix: How the coinbase's script begins, at most 8 bytes.
        coinbase_tx_input_sequence: The sequence of the coinbase's input.
        coinbase_tx_value_remaining: Sats that the client's outputs may pay.
        coinbase_tx_outputs_count: How many outputs stand in the next field.
        coinbase_tx_outputs: Serialised outputs that come last, without a count in front.
        coinbase_tx_locktime: The coinbase transaction's locktime.
        merkle_path: The siblings of the coinbase, from the leaves up.
    """

    msg_type: ClassVar[int] = 0x71

    template_id: U64
    future_template: BOOL
    version: U32
    coinbase_tx_version: U32
    coinbase_prefix: B0_255
    coinbase_tx_input_sequence: U32
    coinbase_tx_value_remaining: U64
    coinbase_tx_outputs_count: U32
    coinbase_tx_outputs: B0_64K
    coinbase_tx_locktime: U32
    merkle_path: Annotated[tuple[bytes, ...], Hashes(SHORT_COUNT, 0xFF)]


@dataclass(frozen=True, slots=True)
class SetNewPrevHash(Message):
    """Names the block that an offered future template builds on.

    Attributes:
        template_id: The template.
        prev_hash: The block, in internal byte order.
        header_timestamp: The earliest time of the header, s.
        nbits: The header's compact target.
        target: What a solution's hash must not exceed, as a little-endian number.
    """

    msg_type: ClassVar[int] = 0x72

    template_id: U64
    prev_hash: U256
    header_timestamp: U32
    nbits: U32
    target: U256


@dataclass(frozen=True, slots=True)
class RequestTransactionData(Message):
    """Asks for a template's transactions."""

    msg_type: ClassVar[int] = 0x73

    template_id: U64


@dataclass(frozen=True, slots=True)
class RequestTransactionDataSuccess(Message):
    """Sends a template's transactions, without the coinbase, with their witnesses."""

    msg_type: ClassVar[int] = 0x74

    template_id: U64
    excess_data: B0_64K
    transaction_list: Annotated[
        tuple[bytes, ...], Items(Bytes(3, TRANSACTION_LEN_MAX), LONG_COUNT, TRANSACTIONS_MAX)
    ]


@dataclass(frozen=True, slots=True)
class RequestTransactionDataError(Message):
    """Says why a template's transactions cannot be had."""

    msg_type: ClassVar[int] = 0x75

    template_id: U64
    error_code: STR0_255


@dataclass(frozen=True, slots=True)
class SubmitSolution(Message):
    """Hands over a block; `coinbase_tx` has its witness."""

    msg_type: ClassVar[int] = 0x76

    template_id: U64
    version: U32
    header_timestamp: U32
    header_nonce: U32
    coinbase_tx: B0_64K


TEMPLATE_DISTRIBUTION: Final = messages(
    CoinbaseOutputConstraints,
    NewTemplate,
    SetNewPrevHash,
    RequestTransactionData,
    RequestTransactionDataSuccess,
    RequestTransactionDataError,
    SubmitSolution,
)
