"""Generates a key: one attempt after the other, until one is signed by all who are in it.

Theory of operation. A member goes on with what the broadcast delivers: when it has the first
messages of all it deals, when it has the second ones it finishes, has its share written down, and
signs. But how an attempt ends is read from decided epochs alone, which are the same everywhere:

    every signature counts and holds          -> certified: the key may be used
    somebody is at fault                      -> next attempt without the culprits
    `patience` epochs have gone by            -> next attempt without those who are silent again

So all members end an attempt at one epoch, in one way, whatever their clocks say; and nobody uses a
key that is given up elsewhere. At most as many as may be faulty are left out, and never so many
that fewer than four stay: where silence would do that, the silent are waited for again; where
guilt would, key generation fails, and the committee has to be changed. Who was silent once may have
crashed, and is waited for: an honest member that is left out makes signatures depend more on those
who stay.

A dealing is in memory only. Who starts again in the middle of an attempt takes no further part in
it, unless its share was written down already: then it signs.

Bounds: the messages of two attempts; `ATTEMPTS_MAX` attempts.

Source: `spec/16-threshold-keys.md`, "Over the broadcast".
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from radpool_sv2._native.threshold import Dealing, KeyShare, Run
from radpool_sv2.errors import ConfigError, LocalProtocolError
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.codec import CodecError
from radpool_sv2.federation.dkg.message import KeyMessage, Step
from radpool_sv2.federation.dkg.transcript import Transcript
from radpool_sv2.federation.effect import FOREVER, Append

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from radpool_sv2._native.threshold import Dealt, IdentityKey, PublicKey
    from radpool_sv2.federation.broadcast.entry import Entry
    from radpool_sv2.federation.committee import Committee

__all__ = [
    "ATTEMPTS_MAX",
    "MEMBERS_MIN",
    "Counted",
    "Delivered",
    "Failed",
    "Generated",
    "KeyEffect",
    "KeyEvent",
    "KeyFault",
    "KeyGeneration",
    "StoreShare",
    "quorum_of",
]

MEMBERS_MIN: Final = 4
"""With fewer, nobody may be faulty."""

ATTEMPTS_MAX: Final = 64

AHEAD_MAX: Final = len(Step)
"""Messages of the next attempt that are kept for each member."""

PATIENCE_DEFAULT: Final = 6
"""Epochs: three messages, one epoch each, and as many for members that come late."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """Says that the broadcast delivered an entry."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Counted:
    """Says what a decided epoch consists of; one after the other, in order.

    Attributes:
        epoch: The epoch.
        entries: Those of its segments, as the state function has them.
    """

    epoch: int
    entries: Sequence[Entry]


KeyEvent: TypeAlias = Delivered | Counted


@dataclass(frozen=True, slots=True)
class StoreShare:
    """Asks to make a sealed share durable before anything that stands behind it is done."""

    transcript: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class KeyFault:
    """Says that a member spoilt an attempt; the log proves it to anyone.

    Attributes:
        member: Its number in the committee.
        attempt: Which.
        fault: What it did, in the words of the specification.
    """

    member: int
    attempt: int
    fault: str


@dataclass(frozen=True, slots=True)
class Generated:
    """Says that a key is certified.

    Attributes:
        epoch: The epoch that certified it.
        public: The key.
        members: Numbers in the committee of those who are in it, ascending.
        share: The own share; `None` if this member is not in it.
    """

    epoch: int
    public: PublicKey
    members: tuple[int, ...]
    share: KeyShare | None


@dataclass(frozen=True, slots=True)
class Failed:
    """Says that no key comes of it: the committee has to be changed."""

    epoch: int
    reason: str


KeyEffect: TypeAlias = Append | StoreShare | KeyFault | Generated | Failed


def quorum_of(n: int) -> int:
    """Returns how many of the n members of a run sign: the quorum of a committee of as many."""
    return (n + (n - 1) // 3) // 2 + 1


class KeyGeneration:
    """Is a member's part in the generation of one key.

    Args:
        committee: The committee.
        identity: The own identity key.
        purpose: What the key is for.
        epoch_first: The first epoch whose entries count; the same at all members.
        patience: How many epochs an attempt may take; the same at all members.

    Raises:
        LocalProtocolError: The committee is too small, or the key no member's.
    """

    def __init__(
        self,
        committee: Committee,
        identity: IdentityKey,
        purpose: int,
        *,
        epoch_first: int,
        patience: int = PATIENCE_DEFAULT,
    ) -> None:
        if committee.n < MEMBERS_MIN or patience < 1:
            raise LocalProtocolError(
                f"a key is generated by at least {MEMBERS_MIN} members, in at least one epoch"
            )
        self._committee = committee
        self._me = committee.number_of(identity.public)
        self._identity = identity
        self._purpose = purpose
        self._patience = patience
        self._epoch = epoch_first
        self._effects: deque[KeyEffect] = deque()
        self._shares: dict[bytes, KeyShare] = {}
        self._ahead: list[tuple[int, int, KeyMessage]] = []
        self._counted = [0] * committee.n
        self._lost = [-1] * committee.n
        self._silent: set[int] = set()
        self._is_live = False
        self.is_over = False
        self._open(0, tuple(range(committee.n)))

    # What a driver calls.

    def restore(
        self, shares: Iterable[bytes], epochs: Iterable[Counted], delivered: Iterable[Entry]
    ) -> None:
        """Goes on where a store says that it stopped; called first, with nothing at a first start.

        Args:
            shares: All that `StoreShare` asked to be stored.
            epochs: The decided epochs from `epoch_first` on.
            delivered: Entries behind the segments of these epochs.
        """
        for sealed in shares:
            try:
                share = KeyShare.open(self._identity, sealed)
            except ConfigError as error:
                raise ConfigError(f"a stored share of a key cannot be opened: {error}") from error
            self._shares[share.public.run.id] = share
        for counted in epochs:
            self._count(counted)
        for entry in delivered:
            self._hear(entry)
        self._is_live = True
        self._go_on()

    def handle(self, event: KeyEvent, now: int) -> None:  # noqa: ARG002 - epochs are its clock
        """Takes in what has happened."""
        match event:
            case Delivered(entry):
                self._hear(entry)
            case Counted():
                self._count(event)
            case _:
                assert_never(event)
        self._go_on()

    def handle_deadline(self, now: int) -> None:
        """Does nothing: no deadline is a time."""

    def next_deadline(self) -> int:
        """Returns `FOREVER`: what takes too long is told by epochs."""
        return FOREVER

    def poll(self) -> KeyEffect | None:
        """Takes the next effect out."""
        return self._effects.popleft() if self._effects else None

    @property
    def attempt(self) -> int:
        """The number of the attempt that is open, or was the last."""
        return self._transcript.run.attempt

    @property
    def members(self) -> tuple[int, ...]:
        """Numbers in the committee of those who are in it, ascending."""
        return self._members

    # How.

    def _open(self, attempt: int, members: tuple[int, ...]) -> None:
        keys = [self._committee.members[each] for each in members]
        threshold = quorum_of(len(members))
        run = Run(self._committee.id, self._purpose, attempt, threshold, keys)
        self._members = members
        self._places = {member: place for place, member in enumerate(members)}
        self._transcript = Transcript(run)
        self._dealing: Dealing | None = None
        self._dealt: Dealt | None = None
        self._is_spoilt = self._me not in self._places
        self._is_finished = False
        self._ends_at = self._epoch + self._patience
        ahead, self._ahead = self._ahead, []
        for sender, seq, message in ahead:
            self._keep(sender, seq, message)

    def _read(self, entry: Entry) -> KeyMessage | None:
        if entry.header.kind != Kind.KEY_GENERATION:
            return None
        try:
            message = KeyMessage.decode(entry.payload)
        except CodecError:
            # It is in no attempt: its sender is silent in the one that it was meant for.
            return None
        return message if message.purpose == self._purpose else None

    def _hear(self, entry: Entry) -> None:
        message = self._read(entry)
        if message is not None and not self.is_over:
            self._keep(entry.header.sender, entry.header.seq, message)

    def _keep(self, sender: int, seq: int, message: KeyMessage) -> None:
        """Takes in a message before it counts: the same ones, in the same order, as count later."""
        attempt = message.attempt
        if seq < self._counted[sender] or attempt <= self._lost[sender]:
            # Of an attempt that was not open when it counted; or something before it was let go.
            return
        if attempt == self.attempt and sender in self._places:
            self._transcript.hear(self._places[sender], message.step, message.body)
        elif attempt > self.attempt:
            # Others may know already how this attempt has ended. What is let go of here is taken in
            # when its epoch is decided.
            mine = sum(each == sender for each, _, _ in self._ahead)
            if attempt == self.attempt + 1 and mine < AHEAD_MAX:
                self._ahead.append((sender, seq, message))
            else:
                self._lost[sender] = attempt
                self._ahead = [each for each in self._ahead if each[0] != sender]

    def _count(self, counted: Counted) -> None:
        if self.is_over or counted.epoch < self._epoch:
            return
        if counted.epoch != self._epoch:
            raise LocalProtocolError(
                f"epoch {counted.epoch} is given to key generation in the place of {self._epoch}"
            )
        self._epoch += 1
        for entry in counted.entries:
            sender = entry.header.sender
            self._counted[sender] = entry.header.seq + 1
            message = self._read(entry)
            if message is not None and message.attempt == self.attempt and sender in self._places:
                self._transcript.count(self._places[sender], message.step, message.body)
        self._conclude(counted.epoch)

    def _conclude(self, epoch: int) -> None:
        """Ends the attempt, if what counts ends it."""
        transcript, members = self._transcript, self._members
        faults = transcript.faults()
        for place, fault in sorted(faults.items()):
            self._effects.append(KeyFault(members[place], self.attempt, fault))
        if faults:
            left = tuple(each for each in members if self._places[each] not in faults)
            if len(left) < self._members_min:
                self._fail(epoch, f"{len(left)} members are left who have done nothing wrong")
                return
            self._again(epoch, left)
        elif transcript.is_certified:
            self.is_over = True
            share = self._shares.get(transcript.run.id)
            self._effects.append(Generated(epoch, transcript.public, members, share))
        elif self._epoch >= self._ends_at:
            silent = {members[place] for place in transcript.silent()}
            gone, self._silent = silent & self._silent, silent
            left = tuple(each for each in members if each not in gone)
            self._again(epoch, members if len(left) < self._members_min else left)

    @property
    def _members_min(self) -> int:
        return max(MEMBERS_MIN, self._committee.n - self._committee.faulty_max)

    def _again(self, epoch: int, members: tuple[int, ...]) -> None:
        if self.attempt + 1 >= ATTEMPTS_MAX:
            self._fail(epoch, f"{ATTEMPTS_MAX} attempts came to nothing")
            return
        self._open(self.attempt + 1, members)

    def _fail(self, epoch: int, reason: str) -> None:
        self.is_over = True
        self._effects.append(
            Failed(epoch, f"no key for purpose {self._purpose}: {reason}; change the committee")
        )

    def _say(self, step: Step, body: bytes) -> None:
        message = KeyMessage(self._purpose, self.attempt, step, body)
        self._effects.append(Append(Kind.KEY_GENERATION, message.encode()))

    def _go_on(self) -> None:
        """Says what is the own turn to say."""
        if not self._is_live or self.is_over or self._is_spoilt or self._is_finished:
            return
        transcript, place = self._transcript, self._places[self._me]
        stored = self._shares.get(transcript.run.id)
        if stored is not None:
            self._is_finished = True
            if transcript.said(place, Step.SIGNATURE) is None:
                self._sign(stored)
            return
        if self._dealing is None:
            if transcript.said(place, Step.FIRST) is not None:
                # An earlier life dealt, and its polynomial is gone.
                self._is_spoilt = True
                return
            self._dealing = Dealing(transcript.run, place)
            self._say(Step.FIRST, self._dealing.message)
        said = transcript.said(place, Step.FIRST)
        if said is not None and said != self._dealing.message:
            self._is_spoilt = True
            return
        if self._dealt is None and transcript.has_first:
            self._dealt, second = self._dealing.deal(transcript.round1)
            self._say(Step.SECOND, second)
        if self._dealt is not None and transcript.has_second:
            self._finish(self._dealt)

    def _finish(self, dealt: Dealt) -> None:
        self._is_finished = True
        share, complaints = dealt.finish(self._transcript.round2)
        for _, complaint in complaints:
            self._say(Step.COMPLAINT, complaint)
        if share is not None:
            sealed = share.seal(self._identity)
            self._shares[self._transcript.run.id] = share
            self._effects.append(StoreShare(share.public.transcript, sealed))
            self._sign(share)

    def _sign(self, share: KeyShare) -> None:
        signature = self._identity.sign(share.public.certificate_hash)
        self._say(Step.SIGNATURE, signature)
