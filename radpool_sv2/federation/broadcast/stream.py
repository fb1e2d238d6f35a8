"""Follows one member's stream at one receiver.

Theory of operation. An entry walks one way:

    offered by its sender -> echoed -> certified -> delivered

It is echoed when it is the first that its sender offered with this number, is on top of what is
known of the stream, is inside window and budget, and is admitted. The echo is written down with the
whole entry before it leaves, and no other entry of that number is ever echoed. A quorum of echoes
is a certificate: it delivers the entry and all before it, for any two quorums have an honest member
in common, and an honest member echoes an entry only on top of the one that it stands for. Entries
can also be certified elsewhere and come in an answer.

An entry that was echoed can turn out to be on a branch that lost: the sender signed two. Then what
is certified counts, and the member stays silent about the numbers that it has used up.

Bounds: entries of `window` numbers, echoes of two windows, the last 64 headers delivered. What one
certificate covers fits one answer, so that whoever has it can hand it on.

Source: `spec/13-broadcast.md`, "Echoes" and "Certificates".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, Protocol

from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.federation.broadcast.entry import START, Entry, Position
from radpool_sv2.federation.broadcast.payload import ENTRY_OVERHEAD, Kind
from radpool_sv2.federation.certificate import Certificate
from radpool_sv2.federation.effect import Close, Deliver, Persist
from radpool_sv2.federation.evidence import Evidence
from radpool_sv2.federation.messages import ENTRIES_BYTES_MAX, Said, entries_bytes
from radpool_sv2.federation.record import Echoed, Grown
from radpool_sv2.federation.statement import Echo

if TYPE_CHECKING:
    from collections.abc import Callable

    from radpool_sv2.federation.broadcast.entry import SignedHeader
    from radpool_sv2.federation.committee import Committee
    from radpool_sv2.federation.effect import Limits
    from radpool_sv2.federation.identity import Signer, Verifier
    from radpool_sv2.federation.outlet import Outlet
    from radpool_sv2.federation.statement import Statement

__all__ = ["Admission", "Seat", "Stream", "Verdict"]

RECENT_MAX: Final = 64
"""Delivered headers that a second one of the same number is compared with."""


class Verdict(Enum):
    """Says what is to happen with an entry that is next in its stream."""

    ADMIT = auto()
    HOLD = auto()
    """It may become good: it is looked at again when the own chain grows."""
    REFUSE = auto()
    """It never will be: the stream ends here for this member, unless a quorum certifies it."""


class Admission(Protocol):
    """Judges entries by more than the stream itself."""

    def admit(self, entry: Entry, position: Position) -> Verdict:
        """Judges an entry on top of a place."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Is a member's place in its committee: what all its machines need."""

    committee: Committee
    me: int
    signer: Signer
    verifier: Verifier
    limits: Limits
    outlet: Outlet

    def check(self, member: int, digest: bytes, signature: bytes, what: str) -> None:
        """Checks a member's signature.

        Raises:
            RemoteProtocolError: It is none.
        """
        if not self.verifier.is_signed(self.committee.members[member], digest, signature):
            raise RemoteProtocolError(
                f"{what} is not signed by member {member}, whose it should be", "signature"
            )

    def is_first(
        self,
        member: int,
        known: tuple[Statement, bytes] | None,
        statement: Statement,
        signature: bytes,
        what: str,
    ) -> bool:
        """Says whether a statement is the first that a member has made of a slot.

        Another one of the same slot is evidence against it.

        Args:
            member: Whose it should be.
            known: What is known of the slot, with its signature.
            statement: What has come.
            signature: Its signature.
            what: What it is called in an error.

        Raises:
            RemoteProtocolError: It is not signed by that member.
        """
        if known is not None and known[0] == statement:
            return False
        self.check(member, statement.digest, signature, what)
        if known is not None:
            self.outlet.blame(Evidence(member, *known, statement, signature))
        return known is None


@dataclass(slots=True)
class _Slot:
    """Is what is known about one number above the certified ones."""

    entry: Entry | None = None
    echoed: bool = False
    refused: bool = False
    echoes: dict[int, tuple[Echo, bytes]] = field(default_factory=dict)
    tallies: dict[tuple[bytes, bytes], int] = field(default_factory=dict)
    certificate: Certificate | None = None


class Stream:
    """Is one member's stream as this member knows it.

    Args:
        seat: Who this member is.
        sender: Whose stream it is.
        admission: Judges entries before they are echoed.
        delivered: Told of each entry in order, with the place behind it.
    """

    def __init__(
        self,
        seat: Seat,
        sender: int,
        admission: Admission,
        delivered: Callable[[Entry, Position], None],
    ) -> None:
        self.sender = sender
        self.certified: Position = START
        self._seat = seat
        self._admission = admission
        self._delivered = delivered
        self._slots: dict[int, _Slot] = {}
        self._tip: Position | None = START
        self._recent: dict[int, SignedHeader] = {}

    # What others may ask.

    def tip(self) -> Position:
        """Returns the place behind the last entry that was echoed on the certified branch."""
        if self._tip is None:
            position = self.certified
            while True:
                slot = self._slots.get(position.count)
                if slot is None or not slot.echoed or slot.entry is None:
                    break
                if slot.entry.header.previous != position.digest:
                    break
                position = position.after(slot.entry)
            self._tip = position
        return self._tip

    def latest(self) -> SignedHeader | None:
        """Returns the header with the highest number that was echoed or delivered here."""
        echoed = [seq for seq, slot in self._slots.items() if slot.echoed]
        if echoed:
            entry = self._slots[max(echoed)].entry
            return None if entry is None else entry.signed_header
        return self._recent.get(self.certified.count - 1)

    def header_at(self, seq: int) -> SignedHeader | None:
        """Returns the header that is delivered or echoed at a number, if it is still kept."""
        slot = self._slots.get(seq)
        if slot is not None and slot.echoed and slot.entry is not None:
            return slot.entry.signed_header
        return self._recent.get(seq)

    def echoed_entries(self) -> list[Entry]:
        """Returns the entries that are echoed and not certified, in order."""
        return [
            slot.entry
            for _, slot in sorted(self._slots.items())
            if slot.echoed and slot.entry is not None
        ]

    def own_echoes(self) -> list[Said]:
        """Returns the own echoes that no certificate has made superfluous, in order."""
        said = []
        for _, slot in sorted(self._slots.items()):
            own = slot.echoes.get(self._seat.me)
            if own is not None:
                said.append(Said(*own))
        return said

    # What happens to it.

    def append(self, kind: int, payload: bytes) -> Entry:
        """Adds an entry to the own stream; there must be room in window and budget."""
        seat = self._seat
        entry = Entry.sign(seat.committee, seat.me, seat.signer, self.tip(), (kind, payload))
        slot = self._slots.setdefault(entry.header.seq, _Slot())
        assert slot.entry is None, "an own entry is never replaced"
        slot.entry = entry
        self._echo(slot, entry)
        return entry

    def offer(self, entry: Entry) -> None:
        """Takes in an entry that its sender sent itself.

        Raises:
            RemoteProtocolError: It is not signed, or outside the window or the budget, or cannot be
                an entry of this stream.
        """
        header, seat = entry.header, self._seat
        if header.seq < self.certified.count:
            recent = self._recent.get(header.seq)
            if recent is not None and recent.header != header:
                self._seat.check(self.sender, header.digest, entry.signature, "an entry")
                self._blame(recent, entry.signed_header)
            return
        if header.seq >= self.certified.count + seat.limits.window:
            raise RemoteProtocolError(
                f"entry {header.seq} of member {self.sender} is {seat.limits.window} or more above "
                f"the {self.certified.count} that are certified; a sender waits until its entries "
                "are",
                "window",
            )
        slot = self._slots.setdefault(header.seq, _Slot())
        if slot.entry is not None and slot.entry.header == header:
            return
        seat.check(self.sender, header.digest, entry.signature, "an entry")
        if slot.entry is not None:
            self._blame(slot.entry.signed_header, entry.signed_header)
            return
        slot.entry = entry
        self._grow()
        self.reconsider()

    def hear(self, member: int, echo: Echo, signature: bytes) -> None:
        """Takes in an echo.

        Raises:
            RemoteProtocolError: It is not signed by that member.
        """
        count = self.certified.count
        if not count <= echo.seq < count + 2 * self._seat.limits.window:
            # What is certified needs no echo; what is far above is caught up with by pulling.
            return
        slot = self._slots.setdefault(echo.seq, _Slot())
        known = slot.echoes.get(member)
        if not self._seat.is_first(member, known, echo, signature, "an echo"):
            return
        self._count(slot, member, echo, signature)
        if slot.certificate is not None:
            self._grow()
            self.reconsider()

    def take(self, certificate: Certificate, entries: tuple[Entry, ...]) -> bool:
        """Takes in entries that another member has certified; says whether the stream has grown.

        Raises:
            RemoteProtocolError: They are not what the certificate says, or it is none.
        """
        echo, seat = certificate.statement, self._seat
        assert isinstance(echo, Echo), "the codec lets no other pass"
        known = [entry for entry in entries if entry.header.seq >= self.certified.count]
        if not known or known[0].header.seq != self.certified.count:
            return False
        previous = known[0].header.previous
        for entry in known:
            header = entry.header
            if header.sender != self.sender or header.previous != previous:
                raise RemoteProtocolError("the entries of an answer are no chain", "entries")
            previous = header.digest
        last = known[-1].header
        if (echo.sender, echo.seq, echo.previous, echo.entry) != (
            self.sender,
            last.seq,
            last.previous,
            last.digest,
        ):
            raise RemoteProtocolError(
                "the certificate of an answer is not of its last entry", "entries"
            )
        certificate.verify(seat.committee, seat.verifier)
        for entry in known:
            seat.check(self.sender, entry.header.digest, entry.signature, "an entry")
        self._advance(certificate, known)
        self._grow()
        self.reconsider()
        return True

    def reconsider(self) -> None:
        """Echoes what may be echoed now; closes the sender's link if what is next never may."""
        position, seat, size = self.certified, self._seat, 0
        for seq in range(position.count, position.count + seat.limits.window):
            slot = self._slots.get(seq)
            if slot is None or slot.entry is None or slot.refused:
                return
            entry = slot.entry
            if entry.header.previous != position.digest:
                return
            size += entries_bytes(entry)
            if not slot.echoed:
                if size > ENTRIES_BYTES_MAX:
                    # A certificate of it could cover more than an answer can carry.
                    return
                verdict = self._judge(entry, position)
                if verdict is Verdict.HOLD:
                    return
                if verdict is Verdict.REFUSE:
                    slot.refused = True
                    seat.outlet.emit(
                        Close(self.sender, f"entry {seq} is over the budget, or no entry at all")
                    )
                    return
                self._echo(slot, entry)
                if self.certified.count > position.count:
                    # A committee of one or two is a quorum at once.
                    self.reconsider()
                    return
            position = position.after(entry)

    # What a store remembers.

    def restore_start(self, position: Position) -> None:
        """Takes a record back in: the stream was certified up to here."""
        self.certified, self._tip = position, None

    def restore_echoed(self, entry: Entry) -> None:
        """Takes a record back in: the entry was echoed."""
        if entry.header.seq < self.certified.count:
            return
        slot = self._slots.setdefault(entry.header.seq, _Slot())
        slot.entry, slot.echoed = entry, True
        self._tip = None
        echo = self._echo_of(entry)
        slot.echoes.clear()
        slot.tallies.clear()
        self._count(slot, self._seat.me, echo, self._seat.signer.sign(echo.digest))
        # A committee of one certifies by its own echo; its record of that may not have been kept.
        slot.certificate = None

    def restore_grown(self, certificate: Certificate, given: tuple[Entry, ...]) -> None:
        """Takes a record back in: the stream was certified up to an entry."""
        echo = certificate.statement
        assert isinstance(echo, Echo), "the codec lets no other pass"
        entries = self._chain(echo, {entry.header.seq: entry for entry in given})
        assert entries is not None, "a store has every entry that it says is certified"
        self._move(entries)

    def restored(self) -> None:
        """Goes on after the last record."""
        for slot in self._slots.values():
            self._certify(slot)
        self._grow()

    # How.

    def _judge(self, entry: Entry, position: Position) -> Verdict:
        header, limits = entry.header, self._seat.limits
        size = position.segment_bytes + header.payload_len + ENTRY_OVERHEAD
        if header.payload_len > limits.payload_bytes_max:
            return Verdict.REFUSE
        if header.kind != Kind.EPOCH_MARK and size > limits.segment_bytes_max:
            return Verdict.REFUSE
        return self._admission.admit(entry, position)

    def _echo_of(self, entry: Entry) -> Echo:
        header = entry.header
        return Echo(header.committee, header.sender, header.seq, header.previous, header.digest)

    def _echo(self, slot: _Slot, entry: Entry) -> None:
        """Writes down that the entry is the one of its number, and says so."""
        seat = self._seat
        echo = self._echo_of(entry)
        signature = seat.signer.sign(echo.digest)
        slot.echoed = True
        self._tip = None
        seat.outlet.emit(Persist(Echoed(entry)))
        if self.sender != seat.me:
            seat.outlet.tell(Said(echo, signature))
        self._count(slot, seat.me, echo, signature)
        if slot.certificate is not None:
            self._grow()

    def _count(self, slot: _Slot, member: int, echo: Echo, signature: bytes) -> None:
        slot.echoes[member] = echo, signature
        key = echo.previous, echo.entry
        slot.tallies[key] = slot.tallies.get(key, 0) + 1
        self._certify(slot)

    def _certify(self, slot: _Slot) -> None:
        quorum = self._seat.committee.quorum
        if slot.certificate is not None:
            return
        for key, count in slot.tallies.items():
            if count < quorum:
                continue
            agreeing = {
                member: (echo, signature)
                for member, (echo, signature) in slot.echoes.items()
                if (echo.previous, echo.entry) == key
            }
            echo = next(iter(agreeing.values()))[0]
            signatures = {member: signature for member, (_, signature) in agreeing.items()}
            slot.certificate = Certificate.of(echo, signatures, self._seat.committee)

    def _grow(self) -> None:
        """Delivers whatever is certified and held."""
        held = sorted(seq for seq, slot in self._slots.items() if slot.certificate is not None)
        for seq in held:
            slot = self._slots.get(seq)
            if slot is None or slot.certificate is None:
                continue
            echo = slot.certificate.statement
            assert isinstance(echo, Echo), "only echoes are counted here"
            entries = self._chain(echo, {})
            if entries is None or sum(map(entries_bytes, entries)) > ENTRIES_BYTES_MAX:
                # Others have it in smaller parts, and it is pulled from them.
                continue
            self._advance(slot.certificate, entries)

    def _chain(self, echo: Echo, given: dict[int, Entry]) -> list[Entry] | None:
        """Finds the entries from the certified ones up to an echoed one, if all are held."""
        entries: list[Entry] = []
        wanted = echo.entry
        for seq in range(echo.seq, self.certified.count - 1, -1):
            slot = self._slots.get(seq)
            entry = given.get(seq)
            if entry is None and slot is not None:
                entry = slot.entry
            if entry is None or entry.header.digest != wanted:
                return None
            entries.append(entry)
            wanted = entry.header.previous
        entries.reverse()
        return entries

    def _advance(self, certificate: Certificate, entries: list[Entry]) -> None:
        """Delivers entries that a certificate covers, once that is written down."""
        if entries[0].header.previous != self.certified.digest:
            self._seat.outlet.halt(
                f"two branches of member {self.sender}'s stream are certified at entry "
                f"{entries[0].header.seq}: more than {self._seat.committee.faulty_max} members are "
                "faulty, or this program is"
            )
            return
        unknown = []
        for entry in entries:
            slot = self._slots.get(entry.header.seq)
            held = None if slot is None else slot.entry
            if slot is None or held is None or not slot.echoed or held.header != entry.header:
                unknown.append(entry)
            if held is not None and held.header != entry.header and self.sender != self._seat.me:
                self._blame(held.signed_header, entry.signed_header)
        if unknown and self.sender == self._seat.me:
            self._seat.outlet.halt(
                f"the members have certified entry {unknown[0].header.seq} of the own stream, "
                "which is not in the store: it was restored from an older copy, or a second "
                "node runs with this identity"
            )
            return
        self._seat.outlet.emit(Persist(Grown(certificate, tuple(unknown))))
        for entry in entries:
            self._seat.outlet.emit(Deliver(entry))
        self._move(entries)

    def _move(self, entries: list[Entry]) -> None:
        self._tip = None
        for entry in entries:
            self.certified = self.certified.after(entry)
            self._slots.pop(entry.header.seq, None)
            self._recent[entry.header.seq] = entry.signed_header
            self._recent.pop(entry.header.seq - RECENT_MAX, None)
            self._delivered(entry, self.certified)

    def _blame(self, first: SignedHeader, second: SignedHeader) -> None:
        self._seat.outlet.blame(
            Evidence(self.sender, first.header, first.signature, second.header, second.signature)
        )
