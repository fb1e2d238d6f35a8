"""Reads and writes the bytes of the federation: fixed widths, least significant byte first.

Each structure has one encoding. A reader never trusts a length before it has compared it with its
bound, so what a peer sends costs at most what it sent.

Source: `spec/01-conventions.md`; `spec/13-broadcast.md`, "Encoding".
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final, TypeVar

from radpool_sv2.errors import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

__all__ = [
    "HASH_LEN",
    "KEY_LEN",
    "SIGNATURE_LEN",
    "U64_MAX",
    "CodecError",
    "Reader",
    "Tag",
    "read_numbered",
    "sized",
    "u8",
    "u16",
    "u32",
    "u64",
]

HASH_LEN: Final = 32
KEY_LEN: Final = 32
SIGNATURE_LEN: Final = 64
U64_MAX: Final = (1 << 64) - 1

T = TypeVar("T")


class CodecError(RemoteProtocolError):
    """Says that bytes are no encoding of what they should be: whoever sent them is at fault."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "encoding")


class Tag:
    """Is a tag of BIP340's tagged hashes, with the hash's state behind it kept.

    Args:
        name: The tag in ASCII; `spec/01-conventions.md` lists them all.
    """

    __slots__ = ("_state", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        digest = sha256(name.encode()).digest()
        self._state = sha256(digest + digest)

    def hash(self, *parts: bytes) -> bytes:
        """Computes the tagged hash of the concatenation of `parts`."""
        state = self._state.copy()
        for part in parts:
            state.update(part)
        return state.digest()


def u8(value: int) -> bytes:
    """Writes a byte."""
    return value.to_bytes(1, "little")


def u16(value: int) -> bytes:
    """Writes two bytes."""
    return value.to_bytes(2, "little")


def u32(value: int) -> bytes:
    """Writes four bytes."""
    return value.to_bytes(4, "little")


def u64(value: int) -> bytes:
    """Writes eight bytes."""
    return value.to_bytes(8, "little")


def sized(data: bytes) -> bytes:
    """Writes a length of four bytes, then the bytes."""
    return len(data).to_bytes(4, "little") + data


class Reader:
    """Takes fields off the front of bytes.

    Every method raises `CodecError` when the bytes end inside the field. `with Reader(data)` reads
    what has nothing behind it: a block that ends well ends with `finish`.

    Args:
        data: The bytes.
        committee: The committee that all statements in them are of; without it, each names its own.
    """

    __slots__ = ("_at", "_committee", "_data")

    def __init__(self, data: bytes, committee: bytes | None = None) -> None:
        self._data = data
        self._at = 0
        self._committee = committee

    def __enter__(self) -> Self:
        """Begins to read what must be there whole."""
        return self

    def __exit__(self, raised: object, *_: object) -> None:
        """Refuses bytes behind the last field, unless an error was raised before it."""
        if raised is None:
            self.finish()

    def committee_id(self) -> bytes:
        """Takes the id of a committee, unless it is known."""
        return self.take(HASH_LEN) if self._committee is None else self._committee

    def take(self, length: int) -> bytes:
        """Takes that many bytes."""
        end = self._at + length
        taken = self._data[self._at : end]
        if len(taken) != length:
            raise CodecError(
                f"the bytes end inside a field: {length} wanted, {len(taken)} left; the sender "
                "must send whole messages"
            )
        self._at = end
        return taken

    def u8(self) -> int:
        """Takes a byte as a number."""
        return self.take(1)[0]

    def u16(self) -> int:
        """Takes a number of two bytes."""
        return int.from_bytes(self.take(2), "little")

    def u32(self) -> int:
        """Takes a number of four bytes."""
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        """Takes a number of eight bytes."""
        return int.from_bytes(self.take(8), "little")

    def below(self, width: int, bound: int, what: str) -> int:
        """Takes a number that must be below a bound.

        Args:
            width: Bytes of the number.
            bound: The first number that is too large.
            what: What the number is, for the error.
        """
        value = int.from_bytes(self.take(width), "little")
        if value >= bound:
            raise CodecError(f"{what} is {value}; it must be below {bound}")
        return value

    def sized(self, length_max: int, what: str) -> bytes:
        """Takes bytes behind their length."""
        return self.take(self.below(4, length_max + 1, f"the length of {what}"))

    def flag(self, what: str) -> bool:
        """Takes a byte that is 0 or 1."""
        return bool(self.below(1, 2, what))

    def finish(self) -> None:
        """Refuses bytes behind the last field."""
        if self._at != len(self._data):
            raise CodecError(
                f"{len(self._data) - self._at} bytes follow the last field; there may be none"
            )


def read_numbered(reader: Reader, readers: Mapping[int, Callable[[Reader], T]], what: str) -> T:
    """Takes a structure off a reader, behind a byte that says of which kind it is.

    Args:
        reader: Where it stands.
        readers: What reads each kind, by its number.
        what: What has these kinds, for the error.
    """
    number = reader.u8()
    if number not in readers:
        raise CodecError(f"{number} is no kind of {what}")
    return readers[number](reader)
