"""Lays out the coinbase of a declared job, and the block that a solution makes of it.

    version | (00 01) | one input: the null outpoint, the script, its sequence | outputs |
    (the witness) | locktime

What stands in brackets is BIP141's: a declaration and a block have it, a job for miners has not.
The script is the template's beginning, the push of the whole extranonce, and the extranonce: what
the pool gave to the channel, bytes of the channel's own that nobody needs, and what the engine
fills. The outputs are those of the token, the first of which gets the block's value, and those of
the template.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from radpool_sv2.chain.block import WITNESS_RESERVED
from radpool_sv2.chain.script import sigop_cost
from radpool_sv2.chain.transaction import (
    WITNESS_SCALE_FACTOR,
    Reader,
    Transaction,
    TxOutput,
    compact_size,
)
from radpool_sv2.errors import LocalProtocolError, RemoteProtocolError
from radpool_sv2.units import EXPONENT_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from radpool_sv2.templates.source import Template

__all__ = ["Coinbase", "JobOutputs", "block_bytes"]

OUTPUTS_MAX: Final = 64
OUTPUTS_BYTES_MAX: Final = 4_096
"""A pool's output and its tag have 92 bytes; what a pool may ask for takes room from fees."""

OUTPUTS_SIGOPS_MAX: Final = 400
"""What Bitcoin Core keeps free for a coinbase; more would push transactions out of templates."""

EXTRANONCE_MAX: Final = 32
"""The longest extranonce that a share and a block can be submitted with (a B0_32 on the wire)."""

SCRIPT_MAX: Final = 100
"""The longest script that consensus allows in a coinbase."""

_TAG_SCRIPT_LEN: Final = 40
_TAG_HEAD: Final = bytes.fromhex("6a2652414450")
_TAG_VERSION: Final = 1
"""An owner tag. Source: `spec/02-owner-tag.md`."""

_NULL_OUTPOINT: Final = bytes(32) + b"\xff\xff\xff\xff"


@dataclass(frozen=True, slots=True)
class JobOutputs:
    """Is what a pool asks of a coinbase's outputs; the first gets the block's value.

    Attributes:
        outputs: All of them, in order, without values.
    """

    outputs: tuple[TxOutput, ...]

    @classmethod
    def read(cls, data: bytes) -> JobOutputs:
        """Reads the outputs of a token: serialised, behind a CompactSize count.

        Raises:
            RemoteProtocolError: They are none, too many, malformed, or already have a value.
        """
        if len(data) > OUTPUTS_BYTES_MAX:
            raise RemoteProtocolError(f"a token asks for {len(data)} bytes of outputs")
        reader = Reader(data)
        try:
            count = reader.take_compact_size()
            if not 1 <= count <= OUTPUTS_MAX:
                raise RemoteProtocolError(f"a token asks for {count} outputs")
            outputs = tuple(_take_output(reader) for _ in range(count))
            reader.finish()
        except LocalProtocolError as error:
            raise RemoteProtocolError(f"the outputs of a token cannot be read: {error}") from error
        if any(output.value_sats for output in outputs):
            raise RemoteProtocolError(
                "an output of a token has a value already: the block's value is for the miner to "
                "put on the first one, and the others are worth nothing"
            )
        asked = cls(outputs)
        if asked.sigops > OUTPUTS_SIGOPS_MAX:
            raise RemoteProtocolError(
                f"the outputs of a token have {asked.sigops} signature operations: "
                f"{OUTPUTS_SIGOPS_MAX} is the most"
            )
        return asked

    @classmethod
    def paying(cls, script: bytes) -> JobOutputs:
        """Makes those of a block that is mined for one's own: everything to one script."""
        return cls((TxOutput(0, script),))

    @property
    def exponent(self) -> int | None:
        """The exponent of the owner tag among them; None when there is none that can be read."""
        tags = [each.script for each in self.outputs if each.script.startswith(_TAG_HEAD)]
        if len(tags) != 1 or len(tags[0]) != _TAG_SCRIPT_LEN or tags[0][6] >> 4 != _TAG_VERSION:
            return None
        return tags[0][7] if tags[0][7] <= EXPONENT_MAX else None

    @property
    def size(self) -> int:
        """How many bytes they take in a coinbase."""
        return sum(len(each.to_bytes()) for each in self.outputs)

    @property
    def sigops(self) -> int:
        """How many legacy signature operations they have."""
        holder = Transaction(2, (), self.outputs, 0)
        return sigop_cost(holder, ()) // WITNESS_SCALE_FACTOR

    def paid(self, value_sats: int) -> bytes:
        """Returns the first, serialised with the block's value."""
        return TxOutput(value_sats, self.outputs[0].script).to_bytes()

    def others(self) -> bytes:
        """Returns all behind the first, serialised."""
        return b"".join(each.to_bytes() for each in self.outputs[1:])


@dataclass(frozen=True, slots=True)
class Coinbase:
    """Is the coinbase of one job.

    Attributes:
        template: The template that it belongs to.
        asked: The outputs that a pool asked for.
        head: The part of the extranonce that is the same for all miners.
        extranonce_len: The length of the whole extranonce, `head` included.
    """

    template: Template
    asked: JobOutputs
    head: bytes
    extranonce_len: int

    def __post_init__(self) -> None:
        """Checks that a block may have it.

        Raises:
            LocalProtocolError: The extranonce or the input's script would be too long.
        """
        length = len(self.script_prefix) + self.extranonce_len
        if self.extranonce_len > EXTRANONCE_MAX or length > SCRIPT_MAX:
            raise LocalProtocolError(
                f"an extranonce of {self.extranonce_len} bytes makes a coinbase script of {length}:"
                f" {EXTRANONCE_MAX} and {SCRIPT_MAX} are the most"
            )

    @property
    def script_prefix(self) -> bytes:
        """What stands in the input's script before the extranonce."""
        return self.template.coinbase_prefix + bytes([self.extranonce_len])

    @property
    def outputs(self) -> bytes:
        """All outputs, serialised, behind their CompactSize count."""
        template = self.template
        count = len(self.asked.outputs) + template.template_output_count
        paid = self.asked.paid(template.value_sats)
        return compact_size(count) + paid + self.asked.others() + template.template_outputs

    def prefix(self) -> bytes:
        """Returns what stands before the extranonce, with BIP141's bytes."""
        script = self.script_prefix
        return (
            struct.pack("<I", self.template.coinbase_tx_version)
            + b"\x00\x01\x01"
            + _NULL_OUTPOINT
            + bytes([len(script) + self.extranonce_len])
            + script
        )

    def suffix(self) -> bytes:
        """Returns what stands behind the extranonce, with the witness."""
        return (
            struct.pack("<I", self.template.coinbase_sequence)
            + self.outputs
            + b"\x01\x20"
            + WITNESS_RESERVED
            + struct.pack("<I", self.template.coinbase_locktime)
        )

    def whole(self, extranonce: bytes) -> bytes:
        """Returns the transaction with its witness; `extranonce` is what follows the head."""
        whole = self.head + extranonce
        assert len(whole) == self.extranonce_len, "the engine fills what the head leaves"
        return self.prefix() + whole + self.suffix()


def block_bytes(header: bytes, coinbase: bytes, transactions: Sequence[bytes]) -> bytes:
    """Returns a block: header, count, the coinbase with its witness, the transactions."""
    parts: Iterable[bytes] = (header, compact_size(len(transactions) + 1), coinbase, *transactions)
    return b"".join(parts)


def _take_output(reader: Reader) -> TxOutput:
    value = int.from_bytes(reader.take(8), "little", signed=True)
    return TxOutput(value, reader.take_bytes())
