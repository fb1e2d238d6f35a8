"""Lets an extension carry the shares of an upstream channel, as the native miner does.

The side of an extension (`radpool_sv2.miner.side`) gives attachments and takes news; it does not
see who sends the shares. This is the counter between it and an upstream connection, with the same
words and bounds as the native miner's: attachments come in lots, a share waits until there is one,
and a share that was refused for its attachment alone goes out again with another one.

Everything is called on trio's thread; the descriptor wakes the side.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from radpool_sv2.wire.encoding import Reader
from radpool_sv2.wire.frame import Frame
from radpool_sv2.wire.message.mining import (
    OpenExtendedMiningChannelSuccess,
    OpenMiningChannelError,
    SubmitSharesError,
    SubmitSharesSuccess,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from radpool_sv2._native.miner import Carrier
    from radpool_sv2.jdc.job import FoundShare, Job
    from radpool_sv2.jdc.submission import Submissions
    from radpool_sv2.wire.message.base import Message

__all__ = ["Carried", "CarrierNews", "Waiting"]

ATTACHMENTS_MAX: Final = 4_096
COMMANDS_MAX: Final = 64
WAITING_MAX: Final = 256
SENT_MAX: Final = 1_024
RESENDS_MAX: Final = 7
NEWS_MAX: Final = 8_192
"""More than this is not kept for a side that does not take it: the connection is given up."""


@dataclass(slots=True)
class CarrierNews:
    """Is what has happened in one session since the last look; see `radpool_sv2._native.miner`."""

    session: int = 0
    opened: tuple[int, bytes] | None = None
    submitted: list[tuple[int, int | None, int, bytes]] = field(default_factory=list)
    refused: list[tuple[int, str, bool]] = field(default_factory=list)
    frames: list[tuple[int, bool, bytes]] = field(default_factory=list)
    withdrawn: list[int] = field(default_factory=list)
    dropped: int = 0
    ended: str | None = None

    @property
    def entries(self) -> int:
        """How much there is."""
        lists = self.submitted, self.refused, self.frames, self.withdrawn
        return sum(len(each) for each in lists)


@dataclass(slots=True)
class Waiting:
    """Is a share that waits for an attachment, and how often it went out before."""

    share: FoundShare
    job: Job
    sent: int = 0


@dataclass(slots=True)
class _UnderWay:
    lot: int
    waiting: Waiting


class Carried:
    """Is the counter of one pool; it outlives the pool's connections, as the side does.

    Attributes:
        carrier: How the extension is spoken.
        granted: What the extension said with the channel of the present session.
        on_stir: Is called when the side gave something that may now be sent.
    """

    def __init__(self, carrier: Carrier) -> None:
        self.carrier = carrier
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._news = CarrierNews()
        self._cleared = trio.Event()
        self._is_open = False
        self._lot = 0
        self._lapsed = False
        self._attachments: deque[tuple[int, bytes]] = deque()
        self._commands: deque[Frame] = deque()
        self._waiting: deque[Waiting] = deque()
        self._under_way: dict[int, _UnderWay] = {}
        self.granted = b""
        self.on_stir: Callable[[], None] | None = None

    def close(self) -> None:
        """Gives the descriptor back."""
        os.close(self._descriptor)

    # What a side asks of a miner

    def event_fd(self) -> int:
        """Returns a descriptor that is readable while there are news."""
        return self._descriptor

    def take(self) -> CarrierNews:
        """Takes the news."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._descriptor)
        news, self._news = self._news, CarrierNews(self._news.session)
        self._cleared.set()
        return news

    def give(self, session: int, lot: int, attachments: Sequence[tuple[int, bytes]]) -> bool:
        """Gives attachments for the shares of a session; False when they were not taken."""
        if not self._is_open or session != self._news.session or lot < self._lot:
            return False
        waiting = 0 if lot > self._lot else len(self._attachments)
        if (lot == self._lot and self._lapsed) or waiting + len(attachments) > ATTACHMENTS_MAX:
            return False
        if lot > self._lot:
            self._withdraw()
            self._lot, self._lapsed = lot, False
        self._attachments.extend(attachments)
        self._stir()
        return True

    def send(self, session: int, msg_type: int, *, channel_msg: bool, payload: bytes) -> bool:
        """Sends a frame of the extension; False when the session is over or too many wait."""
        if not self._is_open or session != self._news.session:
            return False
        if len(self._commands) >= COMMANDS_MAX:
            return False
        extension = self.carrier.extension_type
        self._commands.append(Frame(extension, msg_type, channel_msg, payload))
        self._stir()
        return True

    def _stir(self) -> None:
        if self.on_stir is not None:
            self.on_stir()

    # What a connection calls

    def open(self) -> None:
        """Starts a session, with nothing left of the one before."""
        self._news.session += 1
        self._is_open = True
        self._lot, self._lapsed = 0, False
        self._attachments.clear()
        self._commands.clear()
        self._under_way.clear()

    def end(self, reason: str) -> None:
        """Ends the session."""
        if not self._is_open:
            return
        self._is_open = False
        self._withdraw()
        self._commands.clear()
        self._news.dropped += len(self._waiting)
        self._waiting.clear()
        self._under_way.clear()
        self._news.ended = reason
        self._ring()

    async def wait_cleared(self) -> None:
        """Waits until the end of the last session was taken note of, so that another may begin."""
        while self._news.ended is not None:
            self._cleared = trio.Event()
            await self._cleared.wait()

    @property
    def is_overfull(self) -> bool:
        """Whether the side takes no news."""
        return self._news.entries > NEWS_MAX

    @property
    def waiting(self) -> int:
        """How many shares wait for an attachment."""
        return len(self._waiting)

    def opening(self, message: Message) -> Frame:
        """Makes of the core's request for a channel the extension's one."""
        carrier = self.carrier
        payload = message.written() + carrier.open_tail
        return Frame(carrier.extension_type, carrier.open_messages[0], False, payload)

    def hear(self, frame: Frame) -> Message | None:
        """Takes a frame of the extension in; returns what it says in the core's words, if it does.

        Raises:
            RemoteProtocolError: It is malformed.
        """
        _, opened, not_opened = self.carrier.open_messages
        _, accepted, rejected = self.carrier.share_messages
        reader = Reader(frame.payload)
        if frame.msg_type == opened:
            success = OpenExtendedMiningChannelSuccess.read(reader)
            self.granted = reader.rest()
            self._news.opened = (success.channel_id, self.granted)
            self._ring()
            return success
        if frame.msg_type == not_opened:
            return OpenMiningChannelError.read(reader)
        if frame.msg_type == rejected:
            return SubmitSharesError.read(reader)
        self._news.frames.append((frame.msg_type, frame.channel_msg, frame.payload))
        self._ring()
        return SubmitSharesSuccess.read(reader) if frame.msg_type == accepted else None

    def take_in(self, share: FoundShare, job: Job) -> None:
        """Has a share wait for an attachment; of too many the oldest is given up."""
        if len(self._waiting) == WAITING_MAX:
            # One that the pool has already is worth more than one that it has not.
            new = (at for at, each in enumerate(self._waiting) if not each.sent)
            del self._waiting[next(new, 0)]
            self._drop()
        self._waiting.append(Waiting(share, job))

    def pass_on(
        self, channel: int, submissions: Submissions, tip: bytes, now_s: float
    ) -> list[Frame]:
        """Returns what can be sent now: the side's frames, and shares that have an attachment.

        Args:
            channel: The upstream channel.
            submissions: The shares that are under way.
            tip: The block that is built on; shares on another one are given up.
            now_s: The time.
        """
        frames = list(self._commands)
        self._commands.clear()
        while self._attachments and (waiting := self._next_current(tip)) is not None:
            number, attachment = self._attachments.popleft()
            frames.append(self._submit(waiting, channel, submissions, number, attachment, now_s))
        return frames

    def _next_current(self, tip: bytes) -> Waiting | None:
        while self._waiting:
            waiting = self._waiting.popleft()
            # The pool has the other kind already and waits for nothing but its attachment.
            if waiting.sent or waiting.job.prev_hash == tip:
                return waiting
            self._drop()
        return None

    def _submit(  # noqa: PLR0913, PLR0917 - the parts of a share under way
        self,
        waiting: Waiting,
        channel: int,
        submissions: Submissions,
        number: int,
        attachment: bytes,
        now_s: float,
    ) -> Frame:
        again = waiting.sent > 0
        sequence = submissions.send(waiting.share, waiting.job, now_s, again=again)
        exponent = waiting.job.coinbase.asked.exponent
        self._news.submitted.append((sequence, exponent, number, waiting.share.hash))
        self._ring()
        waiting.sent += 1
        if len(self._under_way) == SENT_MAX:
            del self._under_way[next(iter(self._under_way))]
        self._under_way[sequence] = _UnderWay(self._lot, waiting)
        core = waiting.job.submission(channel, sequence, waiting.share)
        carrier = self.carrier
        payload = core.written() + attachment
        return Frame(carrier.extension_type, carrier.share_messages[0], True, payload)

    def refuse(self, sequence: int, code: str) -> bool:
        """Takes in a refusal; tells whether the share goes out again."""
        under_way = self._under_way.pop(sequence, None)
        lapsing = code in self.carrier.lapsing_codes
        again = False
        if under_way is not None:
            if lapsing and under_way.lot == self._lot:
                self._lapsed = True
                self._withdraw()
            stands = lapsing or code in self.carrier.renewing_codes
            waiting = under_way.waiting
            room = len(self._waiting) < WAITING_MAX
            again = stands and waiting.sent <= RESENDS_MAX and room
            if again:
                # Before the new ones: the pool keeps its share for a while only.
                self._waiting.appendleft(waiting)
        self._news.refused.append((sequence, code, again))
        self._ring()
        return again

    def _withdraw(self) -> None:
        if self._attachments:
            self._news.withdrawn.extend(number for number, _ in self._attachments)
            self._attachments.clear()
            self._ring()

    def _drop(self) -> None:
        self._news.dropped += 1
        self._ring()

    def _ring(self) -> None:
        os.eventfd_write(self._descriptor, 1)
