"""Certifies the state: each member signs the root behind an epoch, and a quorum is a checkpoint.

A root follows from the decided segments alone, so honest members sign the same one. A member whose
own root differs from a certified one stops: it, or this program, is wrong, and nothing may be
signed over that.

Bounds: roots of `EPOCHS_OPEN_MAX` epochs that are not yet certified.

Source: `spec/14-epoch-agreement.md`, "Checkpoints".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.federation.broadcast.sync import Puller
from radpool_sv2.federation.certificate import Certificate
from radpool_sv2.federation.effect import Certify, Persist
from radpool_sv2.federation.messages import PullEpochs, Said
from radpool_sv2.federation.record import Applied, Checkpointed
from radpool_sv2.federation.statement import StateRoot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from radpool_sv2.federation.broadcast.entry import Entry
    from radpool_sv2.federation.broadcast.stream import Seat
    from radpool_sv2.federation.messages import DecidedEpoch

__all__ = ["Checkpoints", "StateFunction"]

EPOCHS_OPEN_MAX: Final = 64


class StateFunction(Protocol):
    """Computes the state behind an epoch: integers and bytes in, the same at every member."""

    def apply(self, state: bytes, epoch: int, segments: Iterable[Iterable[Entry]]) -> bytes:
        """Returns the state behind an epoch.

        Args:
            state: The state before; empty before epoch 0.
            epoch: The epoch.
            segments: Entries of each member in the cut, in ascending order of members.
        """

    def root(self, state: bytes) -> bytes:
        """Returns what a checkpoint signs of a state, 32 bytes."""


class Checkpoints:
    """Is a member's part in certifying the state.

    Args:
        seat: Who this member is.
    """

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self.applied = 0
        self.certified = 0
        self._own: dict[int, tuple[StateRoot, bytes]] = {}
        self._heard: dict[int, dict[int, tuple[StateRoot, bytes]]] = {}
        self._certificates: dict[int, Certificate] = {}
        self._puller = Puller(seat.limits)

    def sign(self, epoch: int, root: bytes) -> None:
        """Signs the root behind an epoch, for good."""
        if self._differs(epoch, root):
            return
        self._seat.outlet.emit(Persist(Applied(epoch, root)))
        statement, signature = self._sign(epoch, root)
        self._seat.outlet.tell(Said(statement, signature))
        self._count(epoch, statement)
        self._forget(epoch)

    def heard(self, member: int, root: StateRoot, signature: bytes) -> None:
        """Takes in a peer's root.

        Raises:
            RemoteProtocolError: It is not signed by that member.
        """
        epoch = root.epoch
        if not self.certified <= epoch < self.certified + EPOCHS_OPEN_MAX:
            return
        roots = self._heard.setdefault(epoch, {})
        if not self._seat.is_first(member, roots.get(member), root, signature, "a state root"):
            return
        roots[member] = root, signature
        self._count(epoch, root)

    def linked(self, member: int) -> None:
        """Takes in that a link is open: says again what is not certified."""
        for _, said in sorted(self._own.items())[:EPOCHS_OPEN_MAX]:
            self._seat.outlet.send(member, Said(*said))

    def unlinked(self, member: int) -> None:
        """Takes in that a link is closed."""
        self.refused(member)

    def refused(self, member: int) -> None:
        """Takes in that a peer has nothing to answer with, until it claims again."""
        self._puller.forget(member)

    def claimed(self, member: int, certified: int) -> None:
        """Takes in how many epochs a peer has certificates for."""
        self._puller.claim(member, certified, self.certified, self._seat.outlet.now)

    def answered(self, member: int, epochs: tuple[DecidedEpoch, ...]) -> None:
        """Takes in certified roots.

        Raises:
            RemoteProtocolError: One is not certified.
        """
        before = self.certified
        for each in epochs:
            if each.checkpoint is not None and each.cut.epoch == self.certified:
                each.checkpoint.verify(self._seat.committee, self._seat.verifier)
                self._adopt(each.checkpoint)
        self._puller.answered(member, self._seat.outlet.now, useful=self.certified > before)

    def next_deadline(self) -> int:
        """Returns when `handle_deadline` has something to do."""
        return self._puller.next_deadline()

    def handle_deadline(self, now: int) -> None:
        """Asks for what is missing."""
        member = self._puller.ask(now)
        if member is not None:
            self._seat.outlet.send(member, PullEpochs(self.certified))

    def restore_start(self, decided: int) -> None:
        """Takes a record back in: epochs before this one are applied and certified."""
        self.applied = self.certified = decided

    def restore_applied(self, epoch: int, root: bytes) -> None:
        """Takes a record back in: this root was signed."""
        self._sign(epoch, root)
        self._forget(epoch)

    def restore_checkpointed(self, certificate: Certificate) -> None:
        """Takes a record back in: a root was certified."""
        root = certificate.statement
        assert isinstance(root, StateRoot), "the codec lets no other pass"
        self.certified = root.epoch + 1
        self._certificates[root.epoch] = certificate
        self._forget(root.epoch)

    def _sign(self, epoch: int, root: bytes) -> tuple[StateRoot, bytes]:
        statement = StateRoot(self._seat.committee.id, epoch, root)
        said = statement, self._seat.signer.sign(statement.digest)
        self.applied = epoch + 1
        self._own[epoch] = said
        if epoch >= self.certified:
            self._heard.setdefault(epoch, {})[self._seat.me] = said
        return said

    def _count(self, epoch: int, root: StateRoot) -> None:
        """Makes a checkpoint when a quorum has signed the same root."""
        if epoch < self.certified:
            return
        roots = self._heard.get(epoch, {})
        agreeing = {
            member: signature for member, (each, signature) in roots.items() if each == root
        }
        if len(agreeing) >= self._seat.committee.quorum:
            self._certificates.setdefault(
                epoch, Certificate.of(root, agreeing, self._seat.committee)
            )
            self._go_on()

    def _go_on(self) -> None:
        while self.certified in self._certificates and not self._seat.outlet.halted:
            self._adopt(self._certificates[self.certified])

    def _adopt(self, certificate: Certificate) -> None:
        root = certificate.statement
        if not isinstance(root, StateRoot):
            raise RemoteProtocolError("a checkpoint is a certificate of a state root", "epochs")
        own = self._own.get(root.epoch)
        self._certificates[root.epoch] = certificate
        if own is not None and self._differs(root.epoch, own[0].root):
            return
        self.certified = root.epoch + 1
        self._seat.outlet.emit(Persist(Checkpointed(certificate)))
        self._seat.outlet.emit(Certify(certificate))
        self._forget(root.epoch)
        self._puller.grown(self.certified, self._seat.outlet.now)
        self._go_on()

    def _differs(self, epoch: int, root: bytes) -> bool:
        """Halts when an own root is not the certified one."""
        certificate = self._certificates.get(epoch)
        if certificate is None:
            return False
        certified = certificate.statement
        if isinstance(certified, StateRoot) and certified.root == root:
            return False
        self._seat.outlet.halt(
            f"the state behind epoch {epoch} is not the one that a quorum certified: compare "
            "program versions, then ask the other members"
        )
        return True

    def _forget(self, epoch: int) -> None:
        """Lets go of an epoch whose root is both certified and known here."""
        if epoch >= self.certified:
            return
        self._heard.pop(epoch, None)
        if epoch < self.applied:
            self._own.pop(epoch, None)
            self._certificates.pop(epoch, None)
