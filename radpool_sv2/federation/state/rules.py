"""Defines by which rules a federation counts shares: the same at every member, for good.

Source: `spec/15-checkpoint-state.md`, "Rules".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.federation.codec import KEY_LEN, CodecError, Reader, Tag, u8, u16, u32, u64
from radpool_sv2.units import EXPONENT_MAX
from radpool_sv2.weight import REAL, Scale, WeightMode

__all__ = ["PayoutMode", "Rules"]

RULES_TAG = Tag("radpool/federation-rules")


class PayoutMode(IntEnum):
    """Says whom blocks pay; the numbers stand in the rules."""

    SYNDICATE = 0
    """An output of the federation's key, which is spent to the members later."""
    DIRECT = 1
    """The members, in the coinbase."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Says how shares are counted.

    Attributes:
        msp_keys: Of each member in order: the key that its batches are signed with, 32 bytes.
        faulty_max: How many members may be faulty.
        height_first: The height at which epoch 0 ends.
        interval: Blocks between ends of epochs.
        payout: Whom blocks pay.
        maturity: Confirmations after which what a block pays to the syndicate is paid on.
        fee_sats_per_vb: What transactions that pay on offer to miners.
        recovery_blocks: After how many blocks an output of the syndicate may be spent without its
            key: first by one more than the faulty, then by the second path.
        mode: What prices stand for; not `SLICE`.
        scale: The network's unit of value.
        window: How many blocks' expected work the window of payouts has.
        grace: How many blocks a share may be behind its member's last mark.
        lateness: How many blocks a share may be behind the end of the epoch that counts it.
        shares_target: About how many shares an epoch should have.
        exponent_floor: The lowest exponent that is ever asked for.
        bytes_base: What every member may append between two marks.
        bytes_shared: What all members together may append besides, by their work.
    """

    msp_keys: tuple[bytes, ...]
    faulty_max: int
    height_first: int
    interval: int = 1
    payout: PayoutMode = PayoutMode.SYNDICATE
    maturity: int = 100
    fee_sats_per_vb: int = 20
    recovery_blocks: tuple[int, int] = (1_008, 4_320)
    mode: WeightMode = WeightMode.VALUE
    scale: Scale = REAL
    window: int = 8
    grace: int = 2
    lateness: int = 144
    shares_target: int = 1_000_000
    exponent_floor: int = REAL.base
    bytes_base: int = 1 << 22
    bytes_shared: int = 1 << 28

    def __post_init__(self) -> None:
        if self.mode is WeightMode.SLICE:
            raise LocalProtocolError("a federation weighs by value or difficulty, not by slices")
        if any(len(key) != KEY_LEN for key in self.msp_keys) or not self.msp_keys:
            raise LocalProtocolError(f"each member has a key of {KEY_LEN} bytes")
        if min(self.window, self.grace + 1, self.shares_target, self.interval) < 1:
            raise LocalProtocolError("window, target and interval are at least 1, grace 0")
        if self.exponent_floor < self.scale.base or self.lateness < self.grace:
            raise LocalProtocolError("no exponent is below the base, nor lateness below the grace")
        if not 0 < self.maturity < self.recovery_blocks[0] < self.recovery_blocks[1] < 1 << 16:
            raise LocalProtocolError(
                "an output is mature before it is recovered, the first way before the second, and "
                "that within 65535 blocks"
            )
        if self.lateness > self.recovery_blocks[0]:
            raise LocalProtocolError("what is said of a block must not come when it is let go")
        if not 0 < self.fee_sats_per_vb < 1 << 16:
            raise LocalProtocolError("the fee of payouts is 1 to 65535 sats per virtual byte")
        if self.exponent_floor > EXPONENT_MAX or self.scale.halving_blocks < 1:
            raise LocalProtocolError(
                f"exponents are at most {EXPONENT_MAX}, and subsidies halve after some blocks"
            )
        try:
            self.encode()
        except (OverflowError, ValueError) as error:
            raise LocalProtocolError(
                f"a number of the rules is negative or too large for its field: {error}"
            ) from error

    @property
    def quorum(self) -> int:
        """How many members any two quorums of which have an honest one in common."""
        return (len(self.msp_keys) + self.faulty_max) // 2 + 1

    def height_of(self, epoch: int) -> int:
        """Returns the height at which an epoch ends; epoch -1 stands for what was before."""
        return self.height_first + epoch * self.interval

    def encode(self) -> bytes:
        """Writes the rules; `digest` names them."""
        return b"".join(
            (
                u16(len(self.msp_keys)),
                *self.msp_keys,
                u16(self.faulty_max),
                u32(self.height_first),
                u16(self.interval),
                u8(self.payout),
                u16(self.maturity),
                u16(self.fee_sats_per_vb),
                u16(self.recovery_blocks[0]),
                u16(self.recovery_blocks[1]),
                bytes((self.mode, self.scale.bits, self.scale.base)),
                u32(self.scale.halving_blocks),
                u16(self.window),
                u16(self.grace),
                u32(self.lateness),
                u64(self.shares_target),
                u8(self.exponent_floor),
                u64(self.bytes_base),
                u64(self.bytes_shared),
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> Rules:
        """Reads rules.

        Raises:
            CodecError: The bytes are none.
            LocalProtocolError: Nothing can be counted by them.
        """
        with Reader(data) as reader:
            return cls(
                msp_keys=tuple(reader.take(KEY_LEN) for _ in range(reader.u16())),
                faulty_max=reader.u16(),
                height_first=reader.u32(),
                interval=reader.u16(),
                payout=PayoutMode(reader.below(1, len(PayoutMode), "whom blocks pay")),
                maturity=reader.u16(),
                fee_sats_per_vb=reader.u16(),
                recovery_blocks=(reader.u16(), reader.u16()),
                mode=_read_mode(reader),
                scale=Scale(bits=reader.u8(), base=reader.u8(), halving_blocks=reader.u32()),
                window=reader.u16(),
                grace=reader.u16(),
                lateness=reader.u32(),
                shares_target=reader.u64(),
                exponent_floor=reader.u8(),
                bytes_base=reader.u64(),
                bytes_shared=reader.u64(),
            )

    @property
    def digest(self) -> bytes:
        """What the state's root names the rules by."""
        return RULES_TAG.hash(self.encode())


def _read_mode(reader: Reader) -> WeightMode:
    number = reader.u8()
    try:
        return WeightMode(number)
    except ValueError:
        raise CodecError(f"{number} is no mode of weight") from None
