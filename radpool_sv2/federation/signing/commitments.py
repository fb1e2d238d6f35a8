"""Keeps the nonce commitments that members have published, the same book at every member.

Theory of operation. Each member keeps a window of commitments open in its stream. The book reads
them from decided epochs, so it is the same everywhere, and gives each task one commitment of each
of its first signers: nobody has to ask who signs by which nonce. What is given is gone, whether it
is used or not. A commitment of an earlier start of its member is void, since the nonce is gone.

Bounds: `WINDOW_MAX` open commitments of each member; of each segment the last `COUNTED_MAX`
payloads.

Source: `spec/16-threshold-keys.md`, "Published commitments".
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from radpool_sv2._native.threshold import COMMITMENT_LEN, Commitment
from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.codec import (
    HASH_LEN,
    U64_MAX,
    CodecError,
    Reader,
    Tag,
    u8,
    u16,
    u64,
)
from radpool_sv2.federation.signing.evidence import ShareEvidence, read_commitment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radpool_sv2._native.threshold import PublicKey
    from radpool_sv2.federation.broadcast.entry import Entry
    from radpool_sv2.federation.identity import Verifier

__all__ = [
    "COUNTED_KINDS",
    "COUNTED_MAX",
    "WINDOW_MAX",
    "Book",
    "Published",
    "encode_reset",
    "in_order",
]

WINDOW_MAX: Final = 64
"""Signatures that can begin before the next epoch brings more; a payload of 5.3 kB."""

COUNTED_KINDS: Final = (Kind.COMMITMENTS, Kind.NONCE_RESET, Kind.SIGNING_EVIDENCE)
"""Payloads that the book takes anything from."""

COUNTED_MAX: Final = 64
"""So many payloads of these kinds count in a segment. An honest member has two for each start, one
for each epoch and one for each offender; they take longer to check than to send."""

ORDER_TAG: Final = Tag("radpool/signing-order")


def in_order(signing_id: bytes, role: bytes, count: int) -> list[int]:
    """Returns the places of a key's members in the order that a task has for a role."""
    return sorted(range(count), key=lambda place: ORDER_TAG.hash(signing_id, role, u16(place)))


@dataclass(frozen=True, slots=True)
class Published:
    """Is a payload of kind COMMITMENTS.

    Attributes:
        transcript: The key's name.
        commitments: Of one boot, in ascending order of slots.
    """

    transcript: bytes
    commitments: tuple[Commitment, ...]

    def encode(self) -> bytes:
        """Writes the payload."""
        encoded = [each.encode() for each in self.commitments]
        return self.transcript + u8(len(encoded)) + b"".join(encoded)

    @classmethod
    def decode(cls, data: bytes) -> Published:
        """Reads a payload.

        Raises:
            CodecError: The bytes are none.
        """
        with Reader(data) as reader:
            transcript = reader.take(HASH_LEN)
            count = reader.below(1, WINDOW_MAX + 1, "the number of commitments")
            encoded = [reader.take(COMMITMENT_LEN) for _ in range(count)]
        try:
            commitments = tuple(Commitment.decode(each) for each in encoded)
        except RemoteProtocolError as error:
            raise CodecError(f"a commitment cannot be read: {error}") from error
        if not commitments:
            raise CodecError("a payload without commitments")
        before = (-1, -1)
        for each in commitments:
            if each.slot <= before[1] or before[0] not in (-1, each.boot):
                raise CodecError("commitments are of one boot, in ascending order of slots")
            if each.slot == U64_MAX:
                raise CodecError("there is no slot behind this one: no pool comes so far")
            before = each.boot, each.slot
        return cls(transcript, commitments)


def encode_reset(transcript: bytes, boot: int) -> bytes:
    """Writes a payload of kind NONCE_RESET: commitments of earlier boots are void."""
    return transcript + u64(boot)


class Book:
    """Holds the open commitments of a key's members.

    Args:
        key: The key.
        members: Numbers in the committee of its members, ascending.
        verifier: Checks evidence.
    """

    def __init__(self, key: PublicKey, members: Sequence[int], verifier: Verifier) -> None:
        self._key = key
        self._verifier = verifier
        self._places = {member: place for place, member in enumerate(members)}
        self._open: list[deque[Commitment]] = [deque() for _ in members]
        self._next = [(0, 0) for _ in members]
        self.excluded: set[int] = set()

    def count(self, entries: Sequence[Entry]) -> None:
        """Takes in what a decided epoch consists of; what is none of a kind means nothing."""
        for entry in _last(entries):
            place = self._places.get(entry.header.sender)
            if place is None:
                continue
            try:
                match entry.header.kind:
                    case Kind.COMMITMENTS:
                        self._published(place, entry.payload)
                    case Kind.NONCE_RESET:
                        self._reset(place, entry.payload)
                    case Kind.SIGNING_EVIDENCE:
                        self._accused(entry.payload)
            except RemoteProtocolError:
                continue

    def assign(self, signing_id: bytes, alive: set[int]) -> tuple[tuple[int, Commitment], ...]:
        """Gives a task its first signers, each with a commitment.

        Args:
            signing_id: The task's.
            alive: Members of the committee that have a segment in the last epoch.

        Returns:
            Places and commitments, ascending; none if too few members can sign.
        """
        threshold, places = self._key.run.threshold, set(self._places.values())
        here = {place for member, place in self._places.items() if member in alive}
        able = [
            place
            for place in in_order(signing_id, b"signer", len(places))
            if place in here and self._open[place] and place not in self.excluded
        ]
        if len(able) < threshold:
            return ()
        return tuple((place, self._open[place].popleft()) for place in sorted(able[:threshold]))

    def empty(self) -> list[list[Commitment]]:
        """Begins anew, as every member does; returns the commitments that were open, in order.

        What was seen of slots and of guilt goes too: whoever has a gap does not know it, and would
        have another book for ever.
        """
        gone = [list(commitments) for commitments in self._open]
        for commitments in self._open:
            commitments.clear()
        self._next = [(0, 0) for _ in self._open]
        self.excluded = set()
        return gone

    def encode(self) -> bytes:
        """Writes what the book holds, for the own store."""
        parts = []
        for (boot, slot), commitments in zip(self._next, self._open, strict=True):
            parts += [u64(boot), u64(slot), u8(len(commitments))]
            parts += [each.encode() for each in commitments]
        parts += [u16(len(self.excluded)), *(u16(place) for place in sorted(self.excluded))]
        return b"".join(parts)

    def restore(self, reader: Reader) -> None:
        """Takes in what `encode` wrote, in the place of all that was counted before.

        Raises:
            CodecError: The bytes are no book of as many members.
        """
        for place in self._places.values():
            self._next[place] = reader.u64(), reader.u64()
            count = reader.below(1, WINDOW_MAX + 1, "the number of commitments")
            self._open[place] = deque(read_commitment(reader) for _ in range(count))
        excluded = reader.below(2, len(self._places) + 1, "the number of members that are out")
        self.excluded = {reader.u16() for _ in range(excluded)}

    def open_of(self, place: int) -> int:
        """Returns how many commitments of a member are open."""
        return len(self._open[place])

    def _published(self, place: int, payload: bytes) -> None:
        published = Published.decode(payload)
        if published.transcript != self._key.transcript:
            return
        for each in published.commitments:
            boot, slot = self._next[place]
            if each.boot > boot:
                self._void(place, each.boot)
            elif (each.boot, each.slot) < (boot, slot):
                continue
            self._next[place] = each.boot, each.slot + 1
            if len(self._open[place]) < WINDOW_MAX:
                self._open[place].append(each)

    def _reset(self, place: int, payload: bytes) -> None:
        with Reader(payload) as reader:
            transcript, boot = reader.take(HASH_LEN), reader.u64()
        if transcript == self._key.transcript and boot > self._next[place][0]:
            self._void(place, boot)

    def _void(self, place: int, boot: int) -> None:
        self._open[place].clear()
        self._next[place] = boot, 0

    def _accused(self, payload: bytes) -> None:
        evidence = ShareEvidence.decode(payload)
        if evidence.offender not in self.excluded:
            evidence.verify(self._key, self._verifier)
            self.excluded.add(evidence.offender)


def _last(entries: Sequence[Entry]) -> list[Entry]:
    """Returns those that may count: of each sender the last `COUNTED_MAX`, in order."""
    counts: Counter[int] = Counter()
    chosen = []
    for entry in reversed(entries):
        sender = entry.header.sender
        if entry.header.kind in COUNTED_KINDS and counts[sender] < COUNTED_MAX:
            counts[sender] += 1
            chosen.append(entry)
    chosen.reverse()
    return chosen
