"""Tells a pool's federation whose the owner commitments of its shares are.

Theory of operation. Registrations that both sides have signed are told in the order in which they
became so, each once. How far that has come is kept in the ledger beside them, but only once entries
are certified, which no crash takes away; what came behind that is read off the own stream at the
next start. So nothing is left out, and nothing is told twice.

A federation's books do without registrations. They wait for the shares, and take no more than a
part of what the pool may append between two marks.

Source: `spec/11-owner-registration.md`, "In a federation".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import structlog
import trio

from radpool_sv2.federation.broadcast.payload import ENTRY_OVERHEAD, Kind
from radpool_sv2.federation.codec import CodecError
from radpool_sv2.federation.state.registration import (
    REGISTRATION_BYTES,
    REGISTRATIONS_MAX,
    SignedRegistration,
    decode_registrations,
    encode_registrations,
)
from radpool_sv2.store import registration as table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from radpool_sv2.ledger import Ledger
    from radpool_sv2.pool.feed import OwnStream
    from radpool_sv2.store.registration import RegistrationRow

__all__ = ["REGISTRATIONS_PART", "OwnerBook", "Telling", "ToldRegister"]

log = structlog.get_logger(__name__)

REGISTRATIONS_PART: Final = 8
"""Registrations take an eighth of the budget at most: shares are what members are paid for."""

PAYLOAD_LEAST: Final = ENTRY_OVERHEAD + 2 + REGISTRATION_BYTES
"""What one registration uses by itself; less than that would never be told."""

ENTRIES_UNSETTLED_MAX: Final = 1_024
"""How many entries are looked at again at a start, or a few more; each is a read of the store."""


class OwnerBook(Protocol):
    """Is the register of owners, as `ToldRegister`."""

    async def told(self) -> tuple[int, int] | None:
        """Returns the last place that is surely told, and before which entry; None at first."""

    async def tell(self, place: int, entries: int) -> None:
        """Keeps that for the next start."""

    async def place_of(self, registration: SignedRegistration) -> int | None:
        """Returns the place of a registration, from 1; None when the register has another."""

    async def confirmed(self, place: int, limit: int) -> Sequence[SignedRegistration]:
        """Returns the registrations behind a place, in the order in which both had signed."""


class ToldRegister:
    """Is a pool's register as one federation is told of it; an `OwnerBook`.

    Args:
        ledger: In whose file it is.
        msp_key: The pool's key, 32 bytes.
        committee: Id of the federation's committee, 32 bytes.
    """

    def __init__(self, ledger: Ledger, msp_key: bytes, committee: bytes) -> None:
        self._ledger = ledger
        self._msp_key = msp_key
        self._committee = committee

    async def told(self) -> tuple[int, int] | None:
        """Returns how far the federation has been told.

        Raises:
            StoreError: It cannot be read.
        """

        def read() -> tuple[int, int] | None:
            with self._ledger.store.look() as connection:
                return table.told_registrations(connection, self._committee)

        return await trio.to_thread.run_sync(read)

    async def tell(self, place: int, entries: int) -> None:
        """Keeps how far the federation has been told.

        Raises:
            StoreError: It is not durable.
        """

        def store() -> None:
            with self._ledger.store.change() as connection:
                table.tell_registrations(connection, self._committee, place, entries)

        await trio.to_thread.run_sync(store)

    async def place_of(self, registration: SignedRegistration) -> int | None:
        """Returns the place of a registration.

        Raises:
            StoreError: It cannot be read.
        """

        def read() -> int | None:
            with self._ledger.store.look() as connection:
                place = table.place_of_registration(connection, registration.number)
                if place is None:
                    return None
                [row] = table.registrations_behind(connection, place - 1, 1)
            return place if self._signed(row).statement() == registration.statement() else None

        return await trio.to_thread.run_sync(read)

    async def confirmed(self, place: int, limit: int) -> Sequence[SignedRegistration]:
        """Returns registrations behind a place.

        Raises:
            StoreError: They cannot be read.
        """

        def read() -> list[SignedRegistration]:
            with self._ledger.store.look() as connection:
                rows = table.registrations_behind(connection, place, limit)
            return [self._signed(row) for row in rows]

        return await trio.to_thread.run_sync(read)

    def _signed(self, row: RegistrationRow) -> SignedRegistration:
        return SignedRegistration(
            msp_key=self._msp_key,
            miner_key=row.miner_key,
            commitment=row.commitment,
            epoch=row.epoch,
            number=row.number,
            msp_signature=row.msp_signature,
            miner_signature=row.miner_signature,
        )


class Telling:
    """Tells one run of a member.

    Args:
        stream: The own stream.
        book: The register.

    Attributes:
        place: The place of the last registration that is told, or waits for its turn in the stream.
        problem: What keeps it from working, in plain words; empty when nothing does.
    """

    def __init__(self, stream: OwnStream, book: OwnerBook) -> None:
        self.place = 0
        self.problem = ""
        self._stream = stream
        self._book = book
        self._settled = 0, 0
        self._settling: tuple[int, int] | None = None
        self._segment = 0, 0

    async def find_place(self) -> None:
        """Finds the last registration in the own stream.

        Raises:
            StoreError: The stream or the register cannot be read.
        """
        stream, told = self._stream, await self._book.told()
        if told is None:
            # Kept before anything is told: so whoever finds nothing kept has told nothing.
            told = 0, stream.certified
            await self._book.tell(*told)
        self._settled, self.place = told, told[0]
        for seq in range(told[1], stream.tip.count):
            entry = await stream.entry(seq)
            if entry is None or entry.header.kind != Kind.REGISTRATION:
                continue
            try:
                last = decode_registrations(entry.payload)[-1]
            except CodecError:
                continue
            place = await self._book.place_of(last)
            if place is None:
                self.problem = (
                    f"the federation has been told of registration {last.number}, which the ledger "
                    "does not have: it is older than the member's store. No owners are told of"
                )
                log.error("the register is not the one that was told", number=last.number)
                return
            self.place = max(self.place, place)

    async def pass_on(
        self, append: Callable[[Kind, bytes], bool], budget: int, free: Callable[[], int]
    ) -> bool:
        """Appends registrations as far as there is room for them.

        Args:
            append: Appends a payload; says whether there was room in the queue.
            budget: What the pool may append between two marks.
            free: Says how much of it is left.

        Returns:
            Whether nothing more can be said before a registration or a mark comes.

        Raises:
            StoreError: The register cannot be read.
        """
        if self.problem:
            return True
        await self._settle()
        part = max(budget // REGISTRATIONS_PART, PAYLOAD_LEAST)
        while found := await self._book.confirmed(self.place, REGISTRATIONS_MAX):
            marks, used = self._segment
            if marks != self._stream.tip.marks:
                marks, used = self._stream.tip.marks, 0
            room = min(part - used, free()) - ENTRY_OVERHEAD - 2
            fitting = found[: max(room // REGISTRATION_BYTES, 0)]
            if not fitting:
                return True
            payload = encode_registrations(fitting)
            if not append(Kind.REGISTRATION, payload):
                return False
            self._segment = marks, used + len(payload) + ENTRY_OVERHEAD
            self.place += len(fitting)
        return True

    async def _settle(self) -> None:
        """Keeps how far the stream has been told, as far as no crash can take it back."""
        stream, (place, entries) = self._stream, self._settled
        if self._settling is None:
            if self.place == place:
                if stream.certified < entries + ENTRIES_UNSETTLED_MAX:
                    return
                self._settling = place, stream.certified
            elif stream.waiting == 0:
                # All that has been appended is in the stream now, certified or not.
                self._settling = self.place, stream.tip.count
        if self._settling is not None and self._settling[1] <= stream.certified:
            await self._book.tell(*self._settling)
            self._settled, self._settling = self._settling, None
