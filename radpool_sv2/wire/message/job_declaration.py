"""Lays out the messages between a miner that makes its own templates and a pool's declarator.

Source: sv2-spec, section 6.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from radpool_sv2.wire.encoding import (
    B0_32,
    B0_64K,
    B0_255,
    LONG_COUNT,
    STR0_255,
    U32,
    U256,
    Bytes,
    Hashes,
    Items,
    Unsigned,
)
from radpool_sv2.wire.message.base import Message, messages

__all__ = [
    "DECLARE_TX_DATA",
    "JOB_DECLARATION",
    "TRANSACTIONS_MAX",
    "TRANSACTION_LEN_MAX",
    "AllocateMiningJobToken",
    "AllocateMiningJobTokenSuccess",
    "DeclareMiningJob",
    "DeclareMiningJobError",
    "DeclareMiningJobSuccess",
    "ProvideMissingTransactions",
    "ProvideMissingTransactionsSuccess",
    "PushSolution",
]

DECLARE_TX_DATA: Final = 0b1
"""Flag of SetupConnection: the client will declare whole templates."""

TRANSACTIONS_MAX: Final = 16_666
"""No block has more: 4,000,000 weight units, and no transaction weighs less than 240.

Source: a transaction of one input and one output without witness or script has 60 bytes."""

TRANSACTION_LEN_MAX: Final = 4_000_000
"""No transaction is longer: a byte weighs at least one unit, and a block at most 4,000,000."""

Positions = Annotated[tuple[int, ...], Items(Unsigned(2, 0xFFFF), LONG_COUNT, TRANSACTIONS_MAX)]
Transactions = Annotated[
    tuple[bytes, ...], Items(Bytes(3, TRANSACTION_LEN_MAX), LONG_COUNT, TRANSACTIONS_MAX)
]


@dataclass(frozen=True, slots=True)
class AllocateMiningJobToken(Message):
    """Asks for a token and for the outputs that its coinbase must have."""

    msg_type: ClassVar[int] = 0x50

    user_identifier: STR0_255
    request_id: U32


@dataclass(frozen=True, slots=True)
class AllocateMiningJobTokenSuccess(Message):
    """Gives a token.

    Attributes:
        request_id: As asked.
        mining_job_token: The token; names nothing to the client.
        coinbase_tx_outputs: Serialised outputs behind a CompactSize count: what the coinbase must
            have, the pool's first; the client puts the value on it.
    """

    msg_type: ClassVar[int] = 0x51

    request_id: U32
    mining_job_token: B0_255
    coinbase_tx_outputs: B0_64K


@dataclass(frozen=True, slots=True)
class ProvideMissingTransactions(Message):
    """Asks for transactions of a declaration by their positions in its list, from 0."""

    msg_type: ClassVar[int] = 0x55

    request_id: U32
    unknown_tx_position_list: Positions


@dataclass(frozen=True, slots=True)
class ProvideMissingTransactionsSuccess(Message):
    """Sends the transactions that were asked for, in that order."""

    msg_type: ClassVar[int] = 0x56

    request_id: U32
    transaction_list: Transactions


@dataclass(frozen=True, slots=True)
class DeclareMiningJob(Message):
    """Declares a whole template.

    Attributes:
        request_id: The client's number of it, which answers repeat.
        mining_job_token: The allocated token that it uses up.
        version: The header's version, before rolling.
        coinbase_tx_prefix: The coinbase transaction before the extranonce, with BIP 141's bytes.
        coinbase_tx_suffix: The coinbase transaction behind the extranonce, with its witness.
        wtxid_list: The block's transactions in order, without the coinbase.
        excess_data: What BIP 141 calls excess data; empty today.
    """

    msg_type: ClassVar[int] = 0x57

    request_id: U32
    mining_job_token: B0_255
    version: U32
    coinbase_tx_prefix: B0_64K
    coinbase_tx_suffix: B0_64K
    wtxid_list: Annotated[tuple[bytes, ...], Hashes(LONG_COUNT, TRANSACTIONS_MAX)]
    excess_data: B0_64K


@dataclass(frozen=True, slots=True)
class DeclareMiningJobSuccess(Message):
    """Accepts a declaration; the new token makes it a custom job."""

    msg_type: ClassVar[int] = 0x58

    request_id: U32
    new_mining_job_token: B0_255


@dataclass(frozen=True, slots=True)
class DeclareMiningJobError(Message):
    """Refuses a declaration; the details are for people."""

    msg_type: ClassVar[int] = 0x59

    request_id: U32
    error_code: STR0_255
    error_details: B0_64K


@dataclass(frozen=True, slots=True)
class PushSolution(Message):
    """Hands over a block that was found on a declared job; `extranonce` is the whole of it."""

    msg_type: ClassVar[int] = 0x60

    extranonce: B0_32
    prev_hash: U256
    nonce: U32
    ntime: U32
    nbits: U32
    version: U32


JOB_DECLARATION: Final = messages(
    AllocateMiningJobToken,
    AllocateMiningJobTokenSuccess,
    ProvideMissingTransactions,
    ProvideMissingTransactionsSuccess,
    DeclareMiningJob,
    DeclareMiningJobSuccess,
    DeclareMiningJobError,
    PushSolution,
)
