"""Lays out the messages between a miner, or who gathers miners, and a pool.

Source: sv2-spec, section 5.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from radpool_sv2.wire.encoding import (
    B0_32,
    B0_64K,
    B0_255,
    BOOL,
    F32,
    LONG_COUNT,
    SHORT_COUNT,
    STR0_255,
    U16,
    U32,
    U64,
    U256,
    Hashes,
    Items,
    Optional,
    Unsigned,
)
from radpool_sv2.wire.message.base import Message, messages

__all__ = [
    "MINING",
    "REQUIRES_EXTENDED_CHANNELS",
    "REQUIRES_FIXED_VERSION",
    "REQUIRES_STANDARD_JOBS",
    "REQUIRES_VERSION_ROLLING",
    "REQUIRES_WORK_SELECTION",
    "CloseChannel",
    "NewExtendedMiningJob",
    "NewMiningJob",
    "OpenExtendedMiningChannel",
    "OpenExtendedMiningChannelSuccess",
    "OpenMiningChannelError",
    "OpenStandardMiningChannel",
    "OpenStandardMiningChannelSuccess",
    "SetCustomMiningJob",
    "SetCustomMiningJobError",
    "SetCustomMiningJobSuccess",
    "SetExtranoncePrefix",
    "SetGroupChannel",
    "SetNewPrevHash",
    "SetTarget",
    "SubmitSharesError",
    "SubmitSharesExtended",
    "SubmitSharesStandard",
    "SubmitSharesSuccess",
    "UpdateChannel",
    "UpdateChannelError",
]

REQUIRES_STANDARD_JOBS: Final = 0b001
REQUIRES_WORK_SELECTION: Final = 0b010
REQUIRES_VERSION_ROLLING: Final = 0b100
"""Flags of a client's SetupConnection."""

REQUIRES_FIXED_VERSION: Final = 0b01
REQUIRES_EXTENDED_CHANNELS: Final = 0b10
"""Flags of a server's SetupConnection.Success."""

CHANNELS_MAX: Final = 0xFFFF
"""Channels that one SetGroupChannel can name."""

MerklePath = Annotated[tuple[bytes, ...], Hashes(SHORT_COUNT, 0xFF)]


@dataclass(frozen=True, slots=True)
class OpenStandardMiningChannel(Message):
    """Asks for a channel whose miner rolls only the header."""

    msg_type: ClassVar[int] = 0x10

    request_id: U32
    user_identity: STR0_255
    nominal_hash_rate: F32
    max_target: U256


@dataclass(frozen=True, slots=True)
class OpenStandardMiningChannelSuccess(Message):
    """Opens a standard channel."""

    msg_type: ClassVar[int] = 0x11

    request_id: U32
    channel_id: U32
    target: U256
    extranonce_prefix: B0_32
    group_channel_id: U32


@dataclass(frozen=True, slots=True)
class OpenMiningChannelError(Message):
    """Refuses a channel of either kind."""

    msg_type: ClassVar[int] = 0x12

    request_id: U32
    error_code: STR0_255


@dataclass(frozen=True, slots=True)
class OpenExtendedMiningChannel(Message):
    """Asks for a channel with at least so many extranonce bytes of its own."""

    msg_type: ClassVar[int] = 0x13

    request_id: U32
    user_identity: STR0_255
    nominal_hash_rate: F32
    max_target: U256
    min_extranonce_size: U16


@dataclass(frozen=True, slots=True)
class OpenExtendedMiningChannelSuccess(Message):
    """Opens an extended channel; the prefix comes before the channel's own extranonce bytes."""

    msg_type: ClassVar[int] = 0x14

    request_id: U32
    channel_id: U32
    target: U256
    extranonce_size: U16
    extranonce_prefix: B0_32
    group_channel_id: U32


@dataclass(frozen=True, slots=True)
class NewMiningJob(Message):
    """Gives a standard channel a job; without `min_ntime` it is for a tip still to come."""

    msg_type: ClassVar[int] = 0x15
    channel_msg: ClassVar[bool] = True

    channel_id: U32
    job_id: U32
    min_ntime: Annotated[int | None, Optional(Unsigned(4, 0xFFFF_FFFF))]
    version: U32
    merkle_root: U256


@dataclass(frozen=True, slots=True)
class UpdateChannel(Message):
    """Tells another hash rate, or asks for another target."""

    msg_type: ClassVar[int] = 0x16
    channel_msg: ClassVar[bool] = True

    channel_id: U32
    nominal_hash_rate: F32
    maximum_target: U256


@dataclass(frozen=True, slots=True)
class UpdateChannelError(Message):
    """Refuses an UpdateChannel."""

    msg_type: ClassVar[int] = 0x17
    channel_msg: ClassVar[bool] = True

    channel_id: U32
    error_code: STR0_255


@dataclass(frozen=True, slots=True)
class CloseChannel(Message):
    """Ends a channel, or all channels of a group."""

    msg_type: ClassVar[int] = 0x18
    channel_msg: ClassVar[bool] = True

    channel_id: U32
    reason_code: STR0_255


@dataclass(frozen=True, slots=True)
class SetExtranoncePrefix(Message):
    """Gives a channel another prefix, for jobs that follow."""

    msg_type: ClassVar[int] = 0x19
    channel_msg: ClassVar[bool] = True

    channel_id: U32
    extranonce_prefix: B0_32


@dataclass(frozen=True, slots=True)
class SubmitSharesStandard(Message):
    """Submits a share of a standard channel."""

    msg_type: ClassVar[int] = 0x1A
    channel_msg: ClassVar[bool] = True

    channel_id: U32
    sequence_number: U32
    job_id: U32
    nonce: U32
    ntime: U32
    version: U32


@dataclass(frozen=True, slots=True)
class SubmitSharesExtended(Message):
    """Submits a share of an extended channel; `extranonce` is without the prefix."""

    msg_type: ClassVar[int] = 0x1B
    channel_msg: ClassVar[bool] = True

    channel_id: U32
    sequence_number: U32
    job_id: U32
    nonce: U32
    ntime: U32
    version: U32
    extranonce: B0_32


@dataclass(frozen=True, slots=True)
class SubmitSharesSuccess(Message):
    """Accepts all shares up to one, except those that were refused one by one."""

    msg_type: ClassVar[int] = 0x1C
    channel_msg: ClassVar[bool] = True

    channel_id: U32
    last_sequence_number: U32
    new_submits_accepted_count: U32
    new_shares_sum: U64


@dataclass(frozen=True, slots=True)
class SubmitSharesError(Message):
    """Refuses a share."""

    msg_type: ClassVar[int] = 0x1D
    channel_msg: ClassVar[bool] = True

    channel_id: U32
    sequence_number: U32
    error_code: STR0_255


@dataclass(frozen=True, slots=True)
class NewExtendedMiningJob(Message):
    """Gives an extended or group channel a job; without `min_ntime` it is for a tip to come.

    The coinbase's parts are without BIP 141's bytes, so that their hash is the transaction's id.
    """

    msg_type: ClassVar[int] = 0x1F
    channel_msg: ClassVar[bool] = True

    channel_id: U32
    job_id: U32
    min_ntime: Annotated[int | None, Optional(Unsigned(4, 0xFFFF_FFFF))]
    version: U32
    version_rolling_allowed: BOOL
    merkle_path: MerklePath
    coinbase_tx_prefix: B0_64K
    coinbase_tx_suffix: B0_64K


@dataclass(frozen=True, slots=True)
class SetNewPrevHash(Message):
    """Names the block that a job given earlier builds on; all other jobs end."""

    msg_type: ClassVar[int] = 0x20
    channel_msg: ClassVar[bool] = True

    channel_id: U32
    job_id: U32
    prev_hash: U256
    min_ntime: U32
    nbits: U32


@dataclass(frozen=True, slots=True)
class SetTarget(Message):
    """Gives a channel another target, for jobs that follow and for those not begun."""

    msg_type: ClassVar[int] = 0x21
    channel_msg: ClassVar[bool] = True

    channel_id: U32
    maximum_target: U256


@dataclass(frozen=True, slots=True)
class SetCustomMiningJob(Message):
    """Offers a miner's own job.

    Attributes:
        channel_id: The extended channel that will mine it.
        request_id: The client's number, which the answer repeats.
        token: What the declarator gave for it.
        version: The header's version, before rolling.
        prev_hash: The block that it builds on.
        min_ntime: The earliest time of the header, s.
        nbits: The header's compact target.
        coinbase_tx_version: The coinbase transaction's version.
        coinbase_prefix: How the coinbase's script begins, at most 8 bytes.
        coinbase_tx_input_n_sequence: The sequence of the coinbase's input.
        coinbase_tx_outputs: All outputs, serialised, behind a CompactSize count.
        coinbase_tx_locktime: The coinbase transaction's locktime.
        merkle_path: The siblings of the coinbase, from the leaves up.
    """

    msg_type: ClassVar[int] = 0x22
    channel_msg: ClassVar[bool] = True

    channel_id: U32
    request_id: U32
    token: B0_255
    version: U32
    prev_hash: U256
    min_ntime: U32
    nbits: U32
    coinbase_tx_version: U32
    coinbase_prefix: B0_255
    coinbase_tx_input_n_sequence: U32
    coinbase_tx_outputs: B0_64K
    coinbase_tx_locktime: U32
    merkle_path: MerklePath


@dataclass(frozen=True, slots=True)
class SetCustomMiningJobSuccess(Message):
    """Accepts a miner's own job and numbers it; the pool will pay for its shares."""

    msg_type: ClassVar[int] = 0x23
    channel_msg: ClassVar[bool] = True

    channel_id: U32
    request_id: U32
    job_id: U32


@dataclass(frozen=True, slots=True)
class SetCustomMiningJobError(Message):
    """Refuses a miner's own job."""

    msg_type: ClassVar[int] = 0x24
    channel_msg: ClassVar[bool] = True

    channel_id: U32
    request_id: U32
    error_code: STR0_255


@dataclass(frozen=True, slots=True)
class SetGroupChannel(Message):
    """Puts channels into a group, to be addressed together."""

    msg_type: ClassVar[int] = 0x25

    group_channel_id: U32
    channel_ids: Annotated[
        tuple[int, ...], Items(Unsigned(4, 0xFFFF_FFFF), LONG_COUNT, CHANNELS_MAX)
    ]


MINING: Final = messages(
    OpenStandardMiningChannel,
    OpenStandardMiningChannelSuccess,
    OpenMiningChannelError,
    OpenExtendedMiningChannel,
    OpenExtendedMiningChannelSuccess,
    NewMiningJob,
    UpdateChannel,
    UpdateChannelError,
    CloseChannel,
    SetExtranoncePrefix,
    SubmitSharesStandard,
    SubmitSharesExtended,
    SubmitSharesSuccess,
    SubmitSharesError,
    NewExtendedMiningJob,
    SetNewPrevHash,
    SetTarget,
    SetCustomMiningJob,
    SetCustomMiningJobSuccess,
    SetCustomMiningJobError,
    SetGroupChannel,
)
