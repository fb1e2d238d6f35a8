"""Signs in one round: a task's first signers are known beforehand, and each sends its share to all.

Theory of operation. Everyone makes the same session of the book's commitments; nobody leads. Who
has the shares of all signers joins them. If the sum does not hold, it says whose share is to blame,
and the task is left to ROAST, as it is when a signer says nothing.

Source: `spec/16-threshold-keys.md`, "One round".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from radpool_sv2._native.threshold import Session
from radpool_sv2.federation.signing.evidence import ShareEvidence

if TYPE_CHECKING:
    from radpool_sv2._native.threshold import PublicKey
    from radpool_sv2.federation.signing.evidence import SignedShare, Signers
    from radpool_sv2.federation.signing.purpose import Task

__all__ = ["OPTIMISTIC", "Attempt"]

OPTIMISTIC = 0
"""The number of a task's first session; those of coordinators are higher."""


class Attempt:
    """Is one session as it is seen by who joins its shares.

    Args:
        key: The key.
        task: What is signed.
        number: The session's.
        signers: Who signs, by which commitments.

    Raises:
        LocalProtocolError: They make no session.
    """

    def __init__(self, key: PublicKey, task: Task, number: int, signers: Signers) -> None:
        self.session = Session(key, task.message, signers, number, task.merkle_root)
        self.signers = dict(signers)
        self._key = key
        self._task = task
        self._listed = signers
        self._shares: dict[int, SignedShare] = {}

    @property
    def missing(self) -> set[int]:
        """Places of those whose shares are not there."""
        return self.signers.keys() - self._shares.keys()

    def take(self, place: int, signed: SignedShare) -> None:
        """Takes in a share that its member has signed; the first of a member counts."""
        if place in self.signers and signed.session == self.session.id:
            self._shares.setdefault(place, signed)

    def join(self) -> tuple[bytes | None, list[ShareEvidence]]:
        """Joins the shares of all.

        Returns:
            The signature, which holds; or evidence against all whose shares do not.
        """
        shares = [(place, signed.share) for place, signed in sorted(self._shares.items())]
        signature, culprits = self.session.aggregate(shares)
        return signature, [self.accuse(place, self._shares[place]) for place in culprits]

    def accuse(self, place: int, signed: SignedShare) -> ShareEvidence:
        """Makes evidence of a share that does not hold."""
        return ShareEvidence(
            self._key.transcript,
            place,
            self._task.message,
            self._task.merkle_root,
            self.session.number,
            self._listed,
            signed,
        )
