"""Keeps an append-only file of checksummed records that survives a crash at any byte.

Layout, all integers little-endian:

    file    = "RADPLOG1" | record*
    record  = header | payload
    header  = "RREC" | kind u8 | length u32 | crc32 of the payload u32 | crc32 of these 13 bytes u32

A record counts once `append` has returned: the file is then on the disk. What a crash leaves behind
is at most one half-written record at the end. `open` cuts it off, keeping the bytes beside the file
for whoever wants to look. A damaged record with an intact one behind it cannot come from a crash:
that is a broken disk or a foreign hand, and `open` refuses instead of throwing away what follows.
The header has a checksum of its own so that a half-written record is known by its length and what
its payload happens to contain is never taken for a record.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

from radpool_sv2.durable import sync_directory
from radpool_sv2.errors import LocalProtocolError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["FILE_MAGIC", "HEADER_LEN", "PAYLOAD_LEN_MAX", "Record", "RecordLog"]

FILE_MAGIC = b"RADPLOG1"
RECORD_MAGIC = b"RREC"
_HEAD = struct.Struct("<4sBII")
_CHECKSUM = struct.Struct("<I")
HEADER_LEN = _HEAD.size + _CHECKSUM.size
# A block weighs at most 4,000,000 and so has at most as many bytes; the rest is room to spare.
PAYLOAD_LEN_MAX = 8_000_000


class Record(NamedTuple):
    """Is one record: its kind, which the owner of the file defines, and its bytes."""

    kind: int
    payload: bytes


class RecordLog:
    """Appends records to one file that this process alone writes.

    Use `RecordLog.open`, which reads what is there and mends the end.
    """

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self.path = path
        self.size = size
        self._descriptor = descriptor
        self._failed = False

    @classmethod
    def open(cls, path: Path, *, refuse_damage: bool = True) -> tuple[RecordLog, list[Record]]:
        """Opens the file, creating it when it is missing, and returns its intact records.

        Args:
            path: The file; its directory exists.
            refuse_damage: False cuts at the first damage, whatever follows. It is for logs that
                are written without waiting for the disk, whose tail a power cut may mangle.

        Raises:
            StoreError: The disk refuses, or the file is damaged in a way no crash can cause.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            data = _read_all(descriptor)
            records, intact = _parse(path, data, refuse_damage=refuse_damage)
            if intact < len(data):
                _keep_cut_bytes(path, data[intact:])
                os.ftruncate(descriptor, intact)
            if intact == 0:
                _write_all(descriptor, FILE_MAGIC, 0)
                intact = len(FILE_MAGIC)
            os.fsync(descriptor)
            sync_directory(path.parent)
        except OSError as error:
            os.close(descriptor)
            raise StoreError(f"{path} cannot be read or mended: {error.strerror}") from error
        except StoreError:
            os.close(descriptor)
            raise
        return cls(path, descriptor, intact), records

    def append(self, records: Iterable[Record], *, durable: bool = True) -> None:
        """Appends records in one write; with `durable` they are on the disk when it returns.

        Args:
            records: What to append, in order.
            durable: False leaves the bytes to the kernel: they survive the death of this process,
                not that of the machine.

        Raises:
            StoreError: The disk refused. The file is no longer used by this object: what reached
                the disk is unknown until it is opened again.
        """
        data = b"".join(_encode(record) for record in records)
        if self._failed:
            raise StoreError(f"{self.path} refused a write before and must be opened again")
        try:
            _write_all(self._descriptor, data, self.size)
            if durable:
                os.fdatasync(self._descriptor)
        except OSError as error:
            self._failed = True
            raise StoreError(f"{self.path} cannot be written: {error.strerror}") from error
        self.size += len(data)

    def rewrite(self, records: Iterable[Record]) -> None:
        """Replaces the whole content by `records`, atomically and durably.

        Raises:
            StoreError: The disk refused; the old content stands.
        """
        fresh = self.path.with_name(self.path.name + ".new")
        data = FILE_MAGIC + b"".join(_encode(record) for record in records)
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            descriptor = os.open(fresh, flags, 0o600)
            try:
                _write_all(descriptor, data, 0)
                os.fsync(descriptor)
                fresh.replace(self.path)
                sync_directory(self.path.parent)
            except OSError:
                os.close(descriptor)
                raise
        except OSError as error:
            raise StoreError(f"{self.path} cannot be rewritten: {error.strerror}") from error
        os.close(self._descriptor)
        self._descriptor, self.size, self._failed = descriptor, len(data), False

    def close(self) -> None:
        """Closes the file; nothing is pending, because `append` leaves nothing pending."""
        os.close(self._descriptor)
        self._failed = True


def _encode(record: Record) -> bytes:
    if len(record.payload) > PAYLOAD_LEN_MAX:
        raise LocalProtocolError(
            f"a record of {len(record.payload)} bytes exceeds the limit of {PAYLOAD_LEN_MAX}"
        )
    head = _HEAD.pack(RECORD_MAGIC, record.kind, len(record.payload), zlib.crc32(record.payload))
    return head + _CHECKSUM.pack(zlib.crc32(head)) + record.payload


def _header_at(data: bytes, offset: int) -> tuple[int, int, int] | None:
    """Returns kind, length and payload checksum of an intact header at `offset`, or None."""
    if offset + HEADER_LEN > len(data):
        return None
    magic, kind, length, checksum = _HEAD.unpack_from(data, offset)
    (head_checksum,) = _CHECKSUM.unpack_from(data, offset + _HEAD.size)
    if magic != RECORD_MAGIC or length > PAYLOAD_LEN_MAX:
        return None
    if zlib.crc32(data[offset : offset + _HEAD.size]) != head_checksum:
        return None
    return kind, length, checksum


def _record_at(data: bytes, offset: int) -> tuple[Record, int] | None:
    """Returns the intact record at `offset` and where it ends, or None."""
    header = _header_at(data, offset)
    if header is None:
        return None
    kind, length, checksum = header
    payload = data[offset + HEADER_LEN : offset + HEADER_LEN + length]
    if len(payload) != length or zlib.crc32(payload) != checksum:
        return None
    return Record(kind, payload), offset + HEADER_LEN + length


def _parse(path: Path, data: bytes, *, refuse_damage: bool) -> tuple[list[Record], int]:
    """Returns the records of a file's bytes and how many of the bytes are intact."""
    if not data.startswith(FILE_MAGIC):
        if FILE_MAGIC.startswith(data):  # a crash while the file was being created
            return [], 0
        raise StoreError(f"{path} is not a record log of radpool; move it away to start afresh")
    records: list[Record] = []
    offset = len(FILE_MAGIC)
    while offset < len(data):
        found = _record_at(data, offset)
        if found is None:
            if refuse_damage:
                _refuse_damage_in_the_middle(path, data, offset)
            break
        record, offset = found
        records.append(record)
    return records, offset


def _refuse_damage_in_the_middle(path: Path, data: bytes, offset: int) -> None:
    header = _header_at(data, offset)
    at = data.find(RECORD_MAGIC, offset + (1 if header is None else HEADER_LEN + header[1]))
    while at >= 0:
        if _record_at(data, at) is not None:
            raise StoreError(
                f"{path} is damaged at byte {offset}, and an intact record follows at byte {at}: "
                "no crash does that. Restore the file from a copy, or move it away to start afresh"
            )
        at = data.find(RECORD_MAGIC, at + 1)


def _read_all(descriptor: int) -> bytes:
    pieces = []
    while piece := os.read(descriptor, 1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _keep_cut_bytes(path: Path, data: bytes) -> None:
    """Writes what is cut off beside the file; one generation is kept."""
    path.with_name(path.name + ".cut").write_bytes(data)
