"""Reads and writes the kinds of fields that the messages of Stratum V2 are made of.

A row of fields is a frozen dataclass whose annotations name its fields' kinds; reading is strict:
what is cut off, too long or of a wrong length is refused. A record is such a row with nothing
behind it, so that whatever can be read is written again as the same bytes. All numbers are
little-endian.

Source: SV2, section 3.1, "Data Types Mapping".
"""

import math
import operator
import struct
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, Protocol, Self, TypeVar, get_type_hints

from radpool_sv2.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "B0_32",
    "B0_64K",
    "B0_255",
    "BOOL",
    "F32",
    "LONG_COUNT",
    "SHORT_COUNT",
    "SIGNATURE",
    "STR0_255",
    "U8",
    "U16",
    "U32",
    "U64",
    "U256",
    "Bytes",
    "Fields",
    "Fixed",
    "Hashes",
    "Items",
    "Nested",
    "Octets",
    "Optional",
    "Reader",
    "Record",
    "Text",
    "Unsigned",
]

T = TypeVar("T")
R = TypeVar("R", bound="Record")

SHORT_COUNT = 1
"""Bytes of the count before a SEQ0_255, a B0_255 and a STR0_255."""

LONG_COUNT = 2
"""Bytes of the count before a SEQ0_64K and a B0_64K."""

HASH_LEN = 32


class Reader:
    """Takes bytes from the front of a payload."""

    __slots__ = ("_at", "_payload")

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    def take(self, count: int) -> bytes:
        """Returns the next bytes.

        Raises:
            RemoteProtocolError: There are fewer.
        """
        taken = self._payload[self._at : self._at + count]
        if len(taken) != count:
            raise RemoteProtocolError(
                f"the message ends after {len(self._payload)} bytes, inside a field that begins at"
                f" byte {self._at}"
            )
        self._at += count
        return taken

    def rest(self) -> bytes:
        """Takes all that is left."""
        left = self._payload[self._at :]
        self._at = len(self._payload)
        return left

    def finish(self) -> None:
        """Makes sure that nothing is left.

        Raises:
            RemoteProtocolError: Something is.
        """
        left = len(self._payload) - self._at
        if left:
            raise RemoteProtocolError(f"{left} bytes follow the last field: send none")


class Kind(Protocol[T]):
    """Is how a value stands on the wire."""

    def write(self, value: T) -> bytes:
        """Returns the bytes of a value.

        Raises:
            LocalProtocolError: It does not fit.
        """

    def read(self, reader: Reader) -> T:
        """Takes a value from the front.

        Raises:
            RemoteProtocolError: What stands there is none.
        """


@dataclass(frozen=True)
class Unsigned:
    """Is an integer of some bytes, perhaps with a lower maximum than they allow."""

    size: int
    maximum: int

    def write(self, value: int) -> bytes:
        """Writes it; a bool is no integer here."""
        try:
            number = operator.index(value)
        except TypeError:
            number = -1
        if isinstance(value, bool) or not 0 <= number <= self.maximum:
            raise LocalProtocolError(f"{value!r} is no integer of 0 to {self.maximum}")
        return number.to_bytes(self.size, "little")

    def read(self, reader: Reader) -> int:
        """Reads it."""
        value = int.from_bytes(reader.take(self.size), "little")
        if value > self.maximum:
            raise RemoteProtocolError(f"{value} where at most {self.maximum} has a meaning")
        return value


@dataclass(frozen=True)
class Float32:
    """Is a finite number that is not negative: a hash rate, which nothing paid depends on."""

    code: str

    def write(self, value: float) -> bytes:
        """Writes it."""
        try:
            written = struct.pack("<f", value)
        except (struct.error, OverflowError) as error:
            raise LocalProtocolError(f"{value!r} is no 32-bit float") from error
        if not math.isfinite(value) or value < 0:
            raise LocalProtocolError(f"{value!r} is no hash rate")
        return written

    def read(self, reader: Reader) -> float:
        """Reads it."""
        (value,) = struct.unpack("<f", reader.take(4))
        if not math.isfinite(value) or value < 0:
            raise RemoteProtocolError(f"{value!r} is no hash rate", self.code)
        return float(value)


@dataclass(frozen=True)
class Fixed:
    """Is a number of bytes without a count."""

    length: int

    def write(self, value: bytes) -> bytes:
        """Writes them."""
        if len(value) != self.length:
            raise LocalProtocolError(f"{len(value)} bytes where {self.length} belong")
        return bytes(value)

    def read(self, reader: Reader) -> bytes:
        """Reads them."""
        return reader.take(self.length)


class Boolean:
    """Is a BOOL: seven padding bits, which mean nothing, above the one that counts."""

    def write(self, value: bool) -> bytes:  # noqa: FBT001 - the value is the argument
        """Writes it."""
        if not isinstance(value, bool):
            raise LocalProtocolError(f"{value!r} is neither True nor False")
        return bytes([value])

    def read(self, reader: Reader) -> bool:
        """Reads it."""
        return bool(reader.take(1)[0] & 1)


@dataclass(frozen=True)
class Bytes:
    """Is a B0_255, B0_64K or B0_16M, by the bytes of its count, perhaps with a limit of its own."""

    count_size: int
    limit: int

    def write(self, value: bytes) -> bytes:
        """Writes the count and the bytes."""
        if len(value) > self.limit:
            raise LocalProtocolError(f"{len(value)} bytes: {self.limit} is the most")
        return len(value).to_bytes(self.count_size, "little") + value

    def read(self, reader: Reader) -> bytes:
        """Reads them; a count beyond the limit costs nothing."""
        count = int.from_bytes(reader.take(self.count_size), "little")
        if count > self.limit:
            raise RemoteProtocolError(f"{count} bytes: {self.limit} is the most")
        return reader.take(count)


@dataclass(frozen=True)
class Hashes:
    """Is a SEQ0_255 or SEQ0_64K of U256: thousands of them are read at once."""

    count_size: int
    limit: int

    def write(self, value: tuple[bytes, ...]) -> bytes:
        """Writes the count and the hashes."""
        if len(value) > self.limit:
            raise LocalProtocolError(f"{len(value)} hashes: {self.limit} is the most")
        if any(len(each) != HASH_LEN for each in value):
            raise LocalProtocolError(f"a hash has {HASH_LEN} bytes, and one here has not")
        return len(value).to_bytes(self.count_size, "little") + b"".join(value)

    def read(self, reader: Reader) -> tuple[bytes, ...]:
        """Reads them."""
        count = int.from_bytes(reader.take(self.count_size), "little")
        if count > self.limit:
            raise RemoteProtocolError(f"{count} hashes: {self.limit} is the most")
        taken = reader.take(count * HASH_LEN)
        return tuple(taken[at : at + HASH_LEN] for at in range(0, len(taken), HASH_LEN))


class Optional(Generic[T]):
    """Is an OPTION: a count of 0 or 1, and the item."""

    def __init__(self, item: Kind[T]) -> None:
        self._item = item

    def write(self, value: T | None) -> bytes:
        """Writes the count and the item, if there is one."""
        return b"\x00" if value is None else b"\x01" + self._item.write(value)

    def read(self, reader: Reader) -> T | None:
        """Reads it."""
        count = reader.take(1)[0]
        if count > 1:
            raise RemoteProtocolError(f"{count} items where at most one belongs")
        return self._item.read(reader) if count else None


class Octets:
    """Is a B0_255 of which only some lengths have a meaning; `code` is how a wrong one is told."""

    def __init__(self, *lengths: int, code: str = "") -> None:
        self._lengths = lengths
        self._code = code

    def write(self, value: bytes) -> bytes:
        """Writes the count and the bytes."""
        if len(value) not in self._lengths:
            raise LocalProtocolError(f"{len(value)} bytes where {self._allowed()} belong")
        return bytes([len(value)]) + value

    def read(self, reader: Reader) -> bytes:
        """Reads them."""
        value = reader.take(reader.take(SHORT_COUNT)[0])
        if len(value) not in self._lengths:
            raise RemoteProtocolError(
                f"{len(value)} bytes where {self._allowed()} belong", self._code
            )
        return value

    def _allowed(self) -> str:
        return " or ".join(map(str, self._lengths))


class Text:
    """Is a STR0_255; `code` is how one is told that is no UTF-8."""

    def __init__(self, *, code: str = "") -> None:
        self._code = code

    def write(self, value: str) -> bytes:
        """Writes the count and the text."""
        try:
            raw = value.encode()
        except UnicodeEncodeError as error:
            raise LocalProtocolError("the text has lone surrogates") from error
        if len(raw) > 0xFF:
            raise LocalProtocolError(f"a text of {len(raw)} bytes: 255 is the most")
        return bytes([len(raw)]) + raw

    def read(self, reader: Reader) -> str:
        """Reads it."""
        raw = reader.take(reader.take(SHORT_COUNT)[0])
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise RemoteProtocolError("a text that is no UTF-8", self._code) from error


class Items(Generic[T]):
    """Is a SEQ0_255 or SEQ0_64K with a limit of its own; `code` is how too many are told."""

    def __init__(self, item: Kind[T], count_size: int, limit: int, *, code: str = "") -> None:
        self._item = item
        self._count_size = count_size
        self._limit = limit
        self._code = code

    def write(self, value: tuple[T, ...]) -> bytes:
        """Writes the count and the items."""
        if len(value) > self._limit:
            raise LocalProtocolError(f"{len(value)} items: {self._limit} is the most")
        count = len(value).to_bytes(self._count_size, "little")
        return count + b"".join(map(self._item.write, value))

    def read(self, reader: Reader) -> tuple[T, ...]:
        """Reads them; a count beyond the limit costs nothing."""
        count = int.from_bytes(reader.take(self._count_size), "little")
        if count > self._limit:
            raise RemoteProtocolError(f"{count} items: {self._limit} is the most", self._code)
        return tuple(self._item.read(reader) for _ in range(count))


class Nested(Generic[R]):
    """Is a record inside a message."""

    def __init__(self, record: type[R]) -> None:
        self._record = record

    def write(self, value: R) -> bytes:
        """Writes its fields."""
        return value.encode()

    def read(self, reader: Reader) -> R:
        """Reads its fields."""
        return self._record.read(reader)


class Fields:
    """Is a row of fields, each annotated with its kind, in the order of the wire.

    Attributes:
        malformed: The error code that answers what cannot be read at all, where there is one.
    """

    __slots__ = ()

    malformed: ClassVar[str] = ""

    def written(self) -> bytes:
        """Writes all fields.

        Raises:
            LocalProtocolError: A value does not fit its field.
        """
        return b"".join(kind.write(getattr(self, name)) for name, kind in layout(type(self)))

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Takes all fields from the front.

        Raises:
            RemoteProtocolError: They are malformed.
        """
        fields = cls(*(kind.read(reader) for _name, kind in layout(cls)))
        fields.check()
        return fields

    def check(self) -> None:
        """Makes sure that the fields agree with one another; most rows have nothing to check.

        Raises:
            RemoteProtocolError: They do not.
        """


class Record(Fields):
    """Is a row of fields with nothing behind it."""

    __slots__ = ()

    def encode(self) -> bytes:
        """Writes all fields.

        Raises:
            LocalProtocolError: A value does not fit its field.
        """
        return self.written()

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Reads a record that fills a payload.

        Raises:
            RemoteProtocolError: It is malformed; the error code says how to answer, where there is
                a code for it.
        """
        reader = Reader(payload)
        try:
            record = cls.read(reader)
            reader.finish()
        except RemoteProtocolError as error:
            raise RemoteProtocolError(str(error), error.error_code or cls.malformed) from error
        return record


_LAYOUTS: dict[type[Fields], tuple[tuple[str, Kind[Any]], ...]] = {}


def layout(row: type[Fields]) -> tuple[tuple[str, Kind[Any]], ...]:
    """Returns the names and kinds of a row's fields."""
    known = _LAYOUTS.get(row)
    if known is None:
        hints = get_type_hints(row, include_extras=True)
        known = tuple(
            (name, hint.__metadata__[0])
            for name, hint in hints.items()
            if hasattr(hint, "__metadata__")
        )
        _LAYOUTS[row] = known
    return known


U8 = Annotated[int, Unsigned(1, 0xFF)]
U16 = Annotated[int, Unsigned(2, 0xFFFF)]
U32 = Annotated[int, Unsigned(4, 0xFFFF_FFFF)]
U64 = Annotated[int, Unsigned(8, 0xFFFF_FFFF_FFFF_FFFF)]
F32 = Annotated[float, Float32("invalid-nominal-hashrate")]
U256 = Annotated[bytes, Fixed(32)]
SIGNATURE = Annotated[bytes, Fixed(64)]
BOOL = Annotated[bool, Boolean()]
B0_32 = Annotated[bytes, Bytes(SHORT_COUNT, 32)]
B0_255 = Annotated[bytes, Bytes(SHORT_COUNT, 0xFF)]
B0_64K = Annotated[bytes, Bytes(LONG_COUNT, 0xFFFF)]
STR0_255 = Annotated[str, Text()]
