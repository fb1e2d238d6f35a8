"""Takes the coinbase of a miner's own template apart, and puts it together.

A declaration cuts the coinbase transaction, with its witness, around the extranonce; a custom job
names its fields. Both become `CoinbaseParts`, so that one can be held against the other.

Source: `spec/10-job-declaration.md`, "The coinbase".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from radpool_sv2.consensus import MONEY_SATS_MAX
from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.units import HASH_LEN, sha256d
from radpool_sv2.wire.encoding import Reader

__all__ = [
    "INVALID_COINBASE",
    "INVALID_OUTPUTS",
    "CoinbaseOutput",
    "CoinbaseParts",
    "height_push",
    "paid_sats",
    "read_outputs",
    "root_of",
]

INVALID_COINBASE: Final = "invalid-coinbase-tx"
INVALID_OUTPUTS: Final = "invalid-coinbase-tx-outputs"

SCRIPT_LEN_MIN: Final = 2
SCRIPT_LEN_MAX: Final = 100
"""Consensus leaves the coinbase's script 2 to 100 bytes."""

EXTRANONCE_LEN_MAX: Final = 32
"""A B0_32 holds the whole extranonce."""

_NULL_OUTPOINT: Final = bytes(32) + b"\xff" * 4
_WITNESS_MARK: Final = b"\x00\x01"
_WITNESS_HEAD: Final = b"\x01\x20"
"""One item of 32 bytes: the witness reserved value of BIP 141."""

_OP_1: Final = 0x51
_SMALL_NUMBER_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class CoinbaseOutput:
    """Is one output of a coinbase."""

    value_sats: int
    script: bytes

    def to_bytes(self) -> bytes:
        """Writes it as it stands in a transaction."""
        return self.value_sats.to_bytes(8, "little") + _sized(len(self.script)) + self.script


@dataclass(frozen=True, kw_only=True, slots=True)
class CoinbaseParts:
    """Is a coinbase transaction but for the bytes of its extranonce.

    Args:
        tx_version: The transaction's version.
        script_prefix: The input's script up to the extranonce, which ends the script.
        extranonce_len: How long the extranonce is, prefix and rolled bytes together.
        sequence: The input's sequence.
        outputs: All outputs in order.
        locktime: The transaction's lock time.
        reserved: The witness reserved value (BIP 141), 32 bytes; None without a witness.
    """

    tx_version: int
    script_prefix: bytes
    extranonce_len: int
    sequence: int
    outputs: tuple[CoinbaseOutput, ...]
    locktime: int
    reserved: bytes | None

    @classmethod
    def declared(cls, prefix: bytes, suffix: bytes) -> CoinbaseParts:
        """Reads the two halves of a declaration.

        Raises:
            RemoteProtocolError: They are no coinbase with its extranonce at the end of the script;
                the error code is `invalid-coinbase-tx`.
        """
        try:
            return cls._read(Reader(prefix), prefix, Reader(suffix))
        except RemoteProtocolError as error:
            message = f"the declared coinbase cannot be read: {error}"
            raise RemoteProtocolError(message, INVALID_COINBASE) from error

    @classmethod
    def _read(cls, head: Reader, prefix: bytes, tail: Reader) -> CoinbaseParts:
        version = _number(head, 4)
        witness = prefix[4:6] == _WITNESS_MARK
        if witness:
            head.take(2)
        if _number(head, 1) != 1 or head.take(36) != _NULL_OUTPOINT:
            raise RemoteProtocolError("it does not spend the null outpoint, and that alone")
        script_len = _number(head, 1)
        if not SCRIPT_LEN_MIN <= script_len <= SCRIPT_LEN_MAX:
            raise RemoteProtocolError(f"a script of {script_len} bytes, where 2 to 100 are allowed")
        script_prefix = head.rest()
        extranonce_len = script_len - len(script_prefix)
        if not 0 <= extranonce_len <= EXTRANONCE_LEN_MAX:
            raise RemoteProtocolError(f"an extranonce of {extranonce_len} bytes, not 0 to 32")
        sequence = _number(tail, 4)
        outputs = _take_outputs(tail, _compact_size(tail))
        reserved = None
        if witness:
            if tail.take(2) != _WITNESS_HEAD:
                raise RemoteProtocolError("its witness is not one item of 32 bytes")
            reserved = tail.take(HASH_LEN)
        locktime = _number(tail, 4)
        tail.finish()
        return cls(
            tx_version=version,
            script_prefix=script_prefix,
            extranonce_len=extranonce_len,
            sequence=sequence,
            outputs=outputs,
            locktime=locktime,
            reserved=reserved,
        )

    @property
    def written_outputs(self) -> bytes:
        """The outputs as they stand in the transaction, without their count."""
        return b"".join(each.to_bytes() for each in self.outputs)

    def transaction(self, extranonce: bytes, *, witness: bool) -> bytes:
        """Writes the whole transaction.

        Args:
            extranonce: `extranonce_len` bytes.
            witness: Whether with BIP 141's fields, where it has them.

        Raises:
            RemoteProtocolError: The extranonce has another length.
        """
        if len(extranonce) != self.extranonce_len:
            raise RemoteProtocolError(
                f"an extranonce of {len(extranonce)} bytes where the template has"
                f" {self.extranonce_len}"
            )
        marked = witness and self.reserved is not None
        script = self.script_prefix + extranonce
        return b"".join(
            (
                self.tx_version.to_bytes(4, "little"),
                _WITNESS_MARK if marked else b"",
                b"\x01" + _NULL_OUTPOINT + bytes([len(script)]) + script,
                self.sequence.to_bytes(4, "little"),
                _sized(len(self.outputs)) + self.written_outputs,
                _WITNESS_HEAD + (self.reserved or b"") if marked else b"",
                self.locktime.to_bytes(4, "little"),
            )
        )


def read_outputs(written: bytes, count: int) -> tuple[CoinbaseOutput, ...]:
    """Reads the outputs of a custom job.

    Args:
        written: Serialised outputs, without their count in front.
        count: How many these are.

    Raises:
        RemoteProtocolError: They are not so many outputs and nothing else; the error code is
            `invalid-coinbase-tx-outputs`.
    """
    reader = Reader(written)
    try:
        outputs = _take_outputs(reader, count)
        reader.finish()
    except RemoteProtocolError as error:
        message = f"the outputs cannot be read: {error}"
        raise RemoteProtocolError(message, INVALID_OUTPUTS) from error
    return outputs


def paid_sats(outputs: tuple[CoinbaseOutput, ...], script: bytes) -> int:
    """Sums what outputs pay to a script."""
    return sum(each.value_sats for each in outputs if each.script == script)


def height_push(height: int) -> bytes:
    """Writes the push of a height that a coinbase's script begins with (BIP 34)."""
    if height == 0:
        return b"\x00"
    if height <= _SMALL_NUMBER_MAX:
        return bytes([_OP_1 + height - 1])
    # A script number needs a spare bit for its sign.
    length = height.bit_length() // 8 + 1
    return bytes([length]) + height.to_bytes(length, "little")


def root_of(coinbase: bytes, path: tuple[bytes, ...]) -> bytes:
    """Computes a merkle root from a coinbase without witness and its path."""
    root = sha256d(coinbase)
    for sibling in path:
        root = sha256d(root + sibling)
    return root


def _take_outputs(reader: Reader, count: int) -> tuple[CoinbaseOutput, ...]:
    outputs = []
    total = 0
    for _ in range(count):
        value = _number(reader, 8)
        outputs.append(CoinbaseOutput(value, reader.take(_compact_size(reader))))
        total += value
        if total > MONEY_SATS_MAX:
            raise RemoteProtocolError("its outputs pay more than there is")
    return tuple(outputs)


def _number(reader: Reader, size: int) -> int:
    return int.from_bytes(reader.take(size), "little")


def _compact_size(reader: Reader) -> int:
    """Takes a CompactSize below 65,536 in its shortest form: no field here holds more bytes."""
    first = _number(reader, 1)
    if first < 0xFD:
        return first
    value = _number(reader, 2) if first == 0xFD else 0
    if value < 0xFD:
        raise RemoteProtocolError("a length is not in its shortest form, or beyond 65,535")
    return value


def _sized(number: int) -> bytes:
    return bytes([number]) if number < 0xFD else b"\xfd" + number.to_bytes(2, "little")
