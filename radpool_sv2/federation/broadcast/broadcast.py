"""Broadcasts: all streams at one member, and the own one towards all others.

Theory of operation. What a member appends is written down, then sent to each peer as far as the
peer's window is open: a peer says how much of the stream it has certified, and is sent at most
`window` entries above that. So a member that is slow, or away, costs its peers nothing, and one
that sends more than it may is not listened to. There are no acknowledgements and no
retransmissions: links deliver or break, and a link that comes up again starts with how far both are
(SYNC), after which each sends again what the other may have missed: own entries and echoes that are
not certified.

READY says that a stream has grown. It needs no threshold, unlike the one of Bracha's protocol: what
it claims can be proven by a certificate, and who is behind asks for it. To the stream's sender it
opens the window; it goes there as soon as half of the window is used, and to all at intervals.

After a start nothing is appended until a quorum, this member included, has said what it knows of
the own stream: a store that was restored from an older copy must not sign a number twice.

Bounds: those of a stream for each member; `append_queue` payloads; one question per stream; one
answer under way per peer and stream.

Source: `spec/13-broadcast.md`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from radpool_sv2.errors import LocalProtocolError, RemoteProtocolError
from radpool_sv2.federation.broadcast.payload import ENTRY_OVERHEAD
from radpool_sv2.federation.broadcast.stream import Stream
from radpool_sv2.federation.broadcast.sync import Puller
from radpool_sv2.federation.effect import Serve
from radpool_sv2.federation.messages import (
    ENTRIES_BYTES_MAX,
    Entries,
    Head,
    Pull,
    SentEntry,
    entries_bytes,
)
from radpool_sv2.federation.statement import Echo

if TYPE_CHECKING:
    from collections.abc import Callable

    from radpool_sv2.federation.broadcast.entry import Entry, Position, SignedHeader
    from radpool_sv2.federation.broadcast.stream import Admission, Seat

__all__ = ["Broadcast"]


class Broadcast:
    """Is a member's part in the broadcast.

    Args:
        seat: Who this member is.
        admission: Judges entries before they are echoed.
        delivered: Told of each entry of each stream in order, with the place behind it.
    """

    def __init__(
        self, seat: Seat, admission: Admission, delivered: Callable[[Entry, Position], None]
    ) -> None:
        self._seat = seat
        self._told_delivered = delivered
        members = range(seat.committee.n)
        self.streams = [Stream(seat, sender, admission, self._delivered) for sender in members]
        self.own = self.streams[seat.me]
        self._pullers = [Puller(seat.limits) for _ in members]
        # When the first of them asks; None when it is to be looked up again.
        self._due: int | None = None
        self._queue: deque[tuple[int, bytes]] = deque()
        self._first: deque[tuple[int, bytes]] = deque()
        self._heard: set[int] = set()
        self._windows: dict[int, int] = {}
        self._sent: dict[int, int] = {}
        self._unsent: set[int] = set()
        self._said = [0 for _ in members]
        self._grown: set[int] = set()
        self._unsaid: set[int] = set()
        self._serving: set[tuple[int, int]] = set()

    # Own entries.

    def append(self, kind: int, payload: bytes, *, first: bool = False) -> None:
        """Queues a payload for the own stream.

        Args:
            kind: What it is.
            payload: Its bytes.
            first: Whether it goes before all that wait: marks do, which free the budget.

        Raises:
            LocalProtocolError: It is too long, or too many wait. The caller must hold back.
        """
        limits = self._seat.limits
        if len(payload) > limits.payload_bytes_max:
            raise LocalProtocolError(
                f"a payload of {len(payload)} bytes; {limits.payload_bytes_max} is the most: "
                "divide it"
            )
        if not 0 <= kind < 256:
            raise LocalProtocolError(f"the kind of a payload is a byte, not {kind}")
        queue = self._first if first else self._queue
        if len(queue) >= limits.append_queue:
            raise LocalProtocolError(
                f"{len(queue)} payloads wait to be appended: hold back until some are delivered"
            )
        queue.append((kind, payload))

    @property
    def waiting(self) -> int:
        """How many own payloads wait for their turn."""
        return len(self._queue) + len(self._first)

    @property
    def room_for_marks(self) -> int:
        """How many more marks may wait for their turn."""
        return self._seat.limits.append_queue - len(self._first)

    def said_by(self, member: int) -> int:
        """Returns how many entries of the own stream a member has said to have certified."""
        return self._windows.get(member, 0)

    def _fill(self) -> None:
        """Appends what waits, as far as window and budget go."""
        seat, own = self._seat, self.own
        if len(self._heard) + 1 < seat.committee.quorum:
            return
        while self._first or self._queue:
            tip = own.tip()
            if tip.count >= own.certified.count + seat.limits.window:
                return
            queue = self._first or self._queue
            kind, payload = queue[0]
            size = tip.segment_bytes + len(payload) + ENTRY_OVERHEAD
            if queue is self._queue and size > seat.limits.segment_bytes_max:
                return
            open_bytes = sum(map(entries_bytes, own.echoed_entries()))
            if open_bytes + len(payload) + ENTRY_OVERHEAD > ENTRIES_BYTES_MAX:
                return
            queue.popleft()
            own.append(kind, payload)
            self._unsent.update(self._windows)

    def _flush(self, member: int) -> None:
        """Sends a peer the own entries for which its window is open."""
        window = self._windows.get(member)
        if window is None:
            return
        seat, own = self._seat, self.own
        start = max(self._sent.get(member, 0), window, own.certified.count)
        end = min(own.tip().count, window + seat.limits.window)
        if start >= end:
            return
        echoes = {said.statement.slot: said for said in own.own_echoes()}
        for entry in own.echoed_entries():
            if start <= entry.header.seq < end:
                seat.outlet.send(member, SentEntry(entry))
                seat.outlet.send(member, echoes[entry.header.slot])
        self._sent[member] = end

    # Links.

    def linked(self, member: int) -> None:
        """Takes in that a link is open: says again what may have been lost on the one before."""
        self._sent.pop(member, None)
        self._windows.pop(member, None)
        for stream in self.streams:
            if stream is not self.own:
                for said in stream.own_echoes():
                    self._seat.outlet.send(member, said)

    def unlinked(self, member: int) -> None:
        """Takes in that a link is closed."""
        self._sent.pop(member, None)
        self._windows.pop(member, None)
        self.refused(member)

    def refused(self, member: int) -> None:
        """Takes in that a peer has nothing to answer with, until it claims again."""
        self._due = None
        for stream, puller in zip(self.streams, self._pullers, strict=True):
            puller.forget(member)
            puller.grown(stream.certified.count, self._seat.outlet.now)

    def heads(self) -> tuple[Head, ...]:
        """Returns how far each stream is that has begun."""
        return tuple(_head(stream) for stream in self.streams if stream.certified.count > 0)

    def synced(self, member: int, heads: tuple[Head, ...], latest: SignedHeader | None) -> None:
        """Takes in how far a peer is, and the last that it knows of the own stream.

        Raises:
            RemoteProtocolError: What it shows as an entry of the own stream is not signed by it.
        """
        seat, own = self._seat, self.own
        if latest is not None:
            header = latest.header
            if header.sender != seat.me:
                raise RemoteProtocolError("the entry is not one of the own stream", "sync")
            seat.check(seat.me, header.digest, latest.signature, "an entry of the own stream")
            known = own.header_at(header.seq)
            if header.seq >= own.tip().count or (known is not None and known.header != header):
                seat.outlet.halt(
                    f"member {member} has entry {header.seq} of the own stream, which is not "
                    "in the store: it was restored from an older copy, or a second node runs with "
                    "this identity"
                )
                return
        self._heard.add(member)
        self._windows[member] = 0
        self._unsent.add(member)
        self.claimed(member, heads)

    def claimed(self, member: int, heads: tuple[Head, ...]) -> None:
        """Takes in which streams a peer says have grown."""
        seat = self._seat
        self._due = None
        for head in heads:
            if head.sender >= seat.committee.n:
                raise RemoteProtocolError(f"there is no member {head.sender}", "ready")
            known = self.streams[head.sender].certified.count
            self._pullers[head.sender].claim(member, head.count, known, seat.outlet.now)
            if head.sender == seat.me and member in self._windows:
                self._windows[member] = max(self._windows[member], head.count)
                self._unsent.add(member)

    # What comes over links.

    def offered(self, member: int, entry: Entry) -> None:
        """Takes in an entry of a peer's own stream.

        Raises:
            RemoteProtocolError: The peer has no such stream, or broke its rules.
        """
        if entry.header.sender != member:
            raise RemoteProtocolError(
                f"member {member} sent an entry of member {entry.header.sender}: only its own are "
                "sent without a certificate",
                "sender",
            )
        self.streams[member].offer(entry)

    def echoed(self, member: int, echo: Echo, signature: bytes) -> None:
        """Takes in a peer's echo.

        Raises:
            RemoteProtocolError: There is no such stream, or the echo is not signed.
        """
        if echo.sender >= self._seat.committee.n:
            raise RemoteProtocolError(f"there is no member {echo.sender}", "echo")
        self.streams[echo.sender].hear(member, echo, signature)

    def pulled(self, member: int, pull: Pull) -> None:
        """Takes in a wish for entries; a second one for a stream waits for the first.

        Raises:
            RemoteProtocolError: There is no such stream.
        """
        if pull.sender >= self._seat.committee.n:
            raise RemoteProtocolError(f"there is no member {pull.sender}", "pull")
        key = member, pull.sender
        if key in self._serving or pull.first >= self.streams[pull.sender].certified.count:
            return
        self._serving.add(key)
        self._seat.outlet.emit(Serve(member, pull.sender, pull.first))

    def served(self, member: int, sender: int) -> None:
        """Takes in that an answer is done with."""
        self._serving.discard((member, sender))

    def answered(self, member: int, entries: Entries) -> None:
        """Takes in entries that a peer has certified.

        Raises:
            RemoteProtocolError: They are not what their certificate says, or it is none.
        """
        echo = entries.certificate.statement
        if not isinstance(echo, Echo) or echo.sender >= self._seat.committee.n:
            raise RemoteProtocolError("the entries are of no member", "entries")
        useful = self.streams[echo.sender].take(entries.certificate, entries.entries)
        self._due = None
        self._pullers[echo.sender].answered(member, self._seat.outlet.now, useful=useful)

    # Time.

    def next_deadline(self) -> int:
        """Returns when `handle_deadline` has something to do."""
        if self._due is None:
            self._due = min(puller.next_deadline() for puller in self._pullers)
        return self._due

    def handle_deadline(self, now: int) -> None:
        """Asks for what is missing."""
        if now < self.next_deadline():
            return
        self._due = None
        for stream, puller in zip(self.streams, self._pullers, strict=True):
            member = puller.ask(now)
            if member is not None:
                pull = Pull(stream.sender, stream.certified.count)
                self._seat.outlet.send(member, pull)

    def reconsider(self) -> None:
        """Looks again at entries that were held: the own chain has grown."""
        for stream in self.streams:
            stream.reconsider()

    def settle(self) -> tuple[Head, ...]:
        """Does what follows from an event; returns the heads that the own window's peers wait for.

        Each head is to be told to its stream's sender at once: half of its window is used.
        """
        self._fill()
        if self._unsent:
            for member in sorted(self._unsent):
                self._flush(member)
            self._unsent.clear()
        urgent = []
        if self._grown:
            self._due = None
        for sender in sorted(self._grown):
            stream = self.streams[sender]
            self._pullers[sender].grown(stream.certified.count, self._seat.outlet.now)
            half = self._seat.limits.window // 2
            if sender != self._seat.me and stream.certified.count >= self._said[sender] + half:
                self._said[sender] = stream.certified.count
                urgent.append(_head(stream))
        self._grown.clear()
        return tuple(urgent)

    def news(self) -> tuple[Head, ...]:
        """Returns the heads that have grown since the last call."""
        heads = tuple(_head(self.streams[sender]) for sender in sorted(self._unsaid))
        for head in heads:
            self._said[head.sender] = head.count
        self._unsaid.clear()
        return heads

    @property
    def has_news(self) -> bool:
        """Whether a stream has grown since `news`."""
        return bool(self._unsaid)

    def restored(self) -> None:
        """Goes on after the last record of a store."""
        for stream in self.streams:
            stream.restored()

    def _delivered(self, entry: Entry, position: Position) -> None:
        self._grown.add(entry.header.sender)
        self._unsaid.add(entry.header.sender)
        self._told_delivered(entry, position)


def _head(stream: Stream) -> Head:
    return Head(stream.sender, stream.certified.count, stream.certified.digest)
