"""Signs although members are silent or lie: ROAST, with so many coordinators that one is honest.

Theory of operation. A coordinator invites all members of the key and keeps those who are ready: who
has sent a commitment, or its last share with the next commitment. As soon as they are as many as
sign, it opens a session with exactly these. A member is in one session of a coordinator at a time,
so each that is silent stalls one session, and each that lies is left out for good: after at most
n - threshold + 1 sessions there is one in which all sign. There are as many coordinators, each
starting one delay after the one before it, so one of them is honest; no member needs to trust any
of them, as it signs only tasks that it came to itself, and by a commitment that it gave to that
coordinator alone.

A session's number has the coordinator, its boot and a counter, so no two sessions of a task have
one number. A member that was started again may send one commitment out of turn for each new boot.

Bounds: for each task, one commitment given to each coordinator, and `sessions_max` sessions.

Source: `spec/16-threshold-keys.md`, "ROAST".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from radpool_sv2._native.threshold import NONCES_MAX
from radpool_sv2.errors import FaultyMSPError, LocalProtocolError, RemoteProtocolError
from radpool_sv2.federation.signing.commitments import in_order
from radpool_sv2.federation.signing.evidence import SignedShare
from radpool_sv2.federation.signing.message import Open, Share
from radpool_sv2.federation.signing.session import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from radpool_sv2._native.threshold import Commitment, NoncePool, PublicKey
    from radpool_sv2.federation.identity import Signer
    from radpool_sv2.federation.signing.evidence import ShareEvidence, Signers
    from radpool_sv2.federation.signing.purpose import Task

__all__ = ["Coordinator", "Respondent", "coordinator_of", "coordinators"]

RESTARTS_MAX = 3
"""How often a coordinator believes that a member has lost its nonces, for one task."""


def coordinators(key: PublicKey, signing_id: bytes) -> list[int]:
    """Returns the places of a task's coordinators, in the order in which they start."""
    n = len(key.run.members)
    return in_order(signing_id, b"coordinator", n)[: n - key.run.threshold + 1]


def number_of(place: int, boot: int, count: int) -> int:
    """Returns the number of a coordinator's session."""
    return place + 1 << 48 | (boot & 0xFFFFFFFF) << 16 | count


def coordinator_of(number: int) -> int:
    """Returns the place of the coordinator that a session's number is one of; -1 for none."""
    return (number >> 48) - 1


class Coordinator:
    """Is a task's coordinator.

    Args:
        key: The key.
        task: What is signed.
        place: The own place in the key.
        boot: The own boot counter.
        excluded: Places of those who are proven to lie.
    """

    def __init__(
        self, key: PublicKey, task: Task, place: int, boot: int, excluded: AbstractSet[int]
    ) -> None:
        self._key = key
        self._task = task
        self._place = place
        self._boot = boot
        self._ready: dict[int, Commitment] = {}
        self._pending: dict[int, Attempt] = {}
        self._sits: dict[int, int] = {}
        self._restarts: dict[int, int] = {}
        self._boots: dict[int, int] = {}
        self._opened: dict[int, Open] = {}
        self.malicious: set[int] = set(excluded)
        self.evidence: list[ShareEvidence] = []
        self.signature: bytes | None = None

    @property
    def sessions(self) -> int:
        """How many sessions were opened."""
        return len(self._opened)

    def commit(self, place: int, commitment: Commitment) -> list[tuple[int, Open]]:
        """Takes in that a member is ready; returns what is to be sent to open a session."""
        if place in self.malicious or self.signature is not None:
            return []
        if place in self._sits:
            if commitment.boot <= self._boots[place]:
                return []
            # It was started again: the nonce of its session is gone, and so is that session.
            if self._restarts.get(place, 0) >= RESTARTS_MAX:
                return []
            self._restarts[place] = self._restarts.get(place, 0) + 1
            del self._sits[place]
        self._boots[place] = commitment.boot
        self._ready[place] = commitment
        if len(self._ready) < self._key.run.threshold:
            return []
        return self._open()

    def take(self, place: int, share: Share) -> list[tuple[int, Open]]:
        """Takes in a share that its member has signed; returns what is to be sent."""
        attempt = self._pending.get(share.number)
        if attempt is None or self._sits.get(place) != share.number:
            return []
        if share.signed.session != attempt.session.id:
            self._leave_out(place)
            return []
        try:
            attempt.session.verify_share(place, share.signed.share)
        except FaultyMSPError:
            self.evidence.append(attempt.accuse(place, share.signed))
            self._leave_out(place)
            return []
        attempt.take(place, share.signed)
        if not attempt.missing:
            self.signature, evidence = attempt.join()
            self.evidence += evidence
            return []
        del self._sits[place]
        if share.following is None:
            return []
        return self.commit(place, share.following)

    def pending_of(self, place: int) -> Open | None:
        """Returns the session that waits for a member, to be sent again over a new link."""
        number = self._sits.get(place)
        return None if number is None else self._opened[number]

    def waits_in(self, place: int, number: int) -> bool:
        """Says whether a session waits for a member's share."""
        return self._sits.get(place) == number

    def is_waiting_for(self, place: int) -> bool:
        """Says whether a member is neither ready nor in a session."""
        return not (place in self._ready or place in self._sits or place in self.malicious)

    def _open(self) -> list[tuple[int, Open]]:
        signers: Signers = tuple(sorted(self._ready.items(), key=lambda each: each[0]))
        number = number_of(self._place, self._boot, len(self._opened))
        self._ready = {}
        try:
            attempt = Attempt(self._key, self._task, number, signers)
        except LocalProtocolError:
            # The task is of a damaged snapshot, with a tweak that the key cannot have: as many
            # places in order are a session, even if two of them brought one commitment.
            return []
        opened = Open(self._task.id, number, signers)
        self._pending[number] = attempt
        self._opened[number] = opened
        for place, _ in signers:
            self._sits[place] = number
        return [(place, opened) for place, _ in signers]

    def _leave_out(self, place: int) -> None:
        self.malicious.add(place)
        self._sits.pop(place, None)
        self._ready.pop(place, None)


class Respondent:
    """Is a member's part towards one coordinator of one task.

    Args:
        key: The key.
        task: What is signed, which this member came to itself.
        coordinator: The coordinator's place.
        pool: The own nonces.
        signer: The own identity key.
        spent: Told of each commitment that is signed by, and of its session.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - a task, a coordinator and what is signed with
        self,
        key: PublicKey,
        task: Task,
        coordinator: int,
        pool: NoncePool,
        signer: Signer,
        spent: Callable[[Commitment, bytes], None],
    ) -> None:
        self._key = key
        self._task = task
        self._coordinator = coordinator
        self._pool = pool
        self._signer = signer
        self._spent = spent
        self._given: Commitment | None = None
        self._answers: dict[int, Share] = {}

    @property
    def sessions_max(self) -> int:
        """How many sessions are signed: those that may be needed, for some starts of each."""
        return 4 * (len(self._key.run.members) - self._key.run.threshold + 1)

    def commitment(self) -> Commitment | None:
        """Returns the commitment that is for this coordinator alone, if one more may be unspent."""
        if self._given is None and self._pool.unspent < NONCES_MAX:
            [self._given] = self._pool.commit(1)
        return self._given

    def open(self, place: int, message: Open) -> Share | None:
        """Signs in a session; for one that was signed before it returns the same bytes again.

        Args:
            place: The own.
            message: The session.

        Returns:
            `None` if it is to be signed by a nonce that this member does not have.

        Raises:
            RemoteProtocolError: The coordinator broke the protocol.
        """
        answer = self._answers.get(message.number)
        if answer is not None:
            return answer
        if coordinator_of(message.number) != self._coordinator:
            raise RemoteProtocolError("the session is not one of its sender", "session")
        if len(self._answers) >= self.sessions_max:
            raise RemoteProtocolError("the coordinator opens sessions without end", "session")
        if self._given is None or dict(message.signers).get(place) != self._given:
            return None
        try:
            attempt = Attempt(self._key, self._task, message.number, message.signers)
        except LocalProtocolError as error:
            raise RemoteProtocolError(f"the session cannot be: {error}", "session") from None
        given, self._given = self._given, None
        try:
            share = SignedShare.sign(self._signer, self._pool.sign(attempt.session))
        except LocalProtocolError:
            # The task was open before, and a session of this number was signed then.
            self._pool.burn([given.slot])
            return None
        self._spent(given, share.session)
        answer = Share(self._task.id, message.number, share, self.commitment())
        self._answers[message.number] = answer
        return answer

    def burn(self) -> None:
        """Wipes the nonce that will not be used."""
        if self._given is not None:
            self._pool.burn([self._given.slot])
            self._given = None
