"""Says what may be signed: what follows from a state that a quorum certified, and nothing else.

A `Certified` exists only where the certificate holds and the state at hand has the certified root.
Tasks are made of one; the machines that sign take tasks and nothing else, and answer a peer only
about a signing id that they came to themselves. So no peer can bring a message to be signed.

Source: `spec/16-threshold-keys.md`, "What is signed".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from radpool_sv2._native.threshold import CHECKPOINT, TREASURY
from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.federation.codec import HASH_LEN, Tag, u32
from radpool_sv2.federation.statement import StateRoot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from radpool_sv2._native.threshold import PublicKey
    from radpool_sv2.federation.certificate import Certificate
    from radpool_sv2.federation.codec import Reader
    from radpool_sv2.federation.committee import Committee
    from radpool_sv2.federation.identity import Verifier
    from radpool_sv2.federation.record import Started
    from radpool_sv2.federation.state.checkpoint import StateFunction

__all__ = ["Certified", "Spend", "Spends", "Task", "tasks_of"]

CHECKPOINT_TAG: Final = Tag("radpool/signing-checkpoint")
ID_TAG: Final = Tag("radpool/signing-id")

_OWN: Final = object()


class Certified:
    """Is a state whose root a quorum has signed; made by `verify` alone."""

    __slots__ = ("committee", "epoch", "root", "state")

    def __init__(self, mark: object, committee: bytes, root: StateRoot, state: bytes) -> None:
        if mark is not _OWN:
            raise LocalProtocolError("a certified state is made by `Certified.verify` alone")
        self.committee = committee
        self.epoch = root.epoch
        self.root = root.root
        self.state = state

    @classmethod
    def verify(  # noqa: PLR0913, PLR0917 - each is one thing that is checked
        cls,
        committee: Committee,
        verifier: Verifier,
        function: StateFunction,
        certificate: Certificate,
        start: Started,
        state: bytes,
    ) -> Certified:
        """Checks that a state is the certified one.

        Args:
            committee: The committee.
            verifier: Checks its members' signatures.
            function: Computes the root of the state.
            certificate: Of a state root.
            start: Where the streams go on behind the epoch.
            state: The state behind the epoch, as this member computed it.

        Raises:
            RemoteProtocolError: The certificate does not hold.
            LocalProtocolError: The certificate is not of this state.
        """
        certificate.verify(committee, verifier)
        root = certificate.statement
        if (
            not isinstance(root, StateRoot)
            or start.decided != root.epoch + 1
            or start.root(function.root(state)) != root.root
        ):
            raise LocalProtocolError(
                "the certificate is not of this state: nothing may be signed over it; compare "
                "program versions with other members"
            )
        return cls(_OWN, committee.id, root, state)


@dataclass(frozen=True, slots=True)
class Spend:
    """Is an input that a state wants spent.

    Attributes:
        sighash: What BIP341 has signed for it, 32 bytes.
        merkle_root: Of the output's script tree; `None` without one.
    """

    sighash: bytes
    merkle_root: bytes | None


class Spends(Protocol):
    """Tells what a state wants spent."""

    def __call__(self, epoch: int, state: bytes) -> Iterable[Spend]:
        """Returns the inputs, in an order that follows from the state."""


@dataclass(frozen=True, slots=True)
class Task:
    """Is one signature that a key is to make; made by `tasks_of`, or read from the own store.

    Attributes:
        id: The signing id, 32 bytes.
        epoch: The epoch whose certified state asks for it.
        message: What is signed, 32 bytes.
        merkle_root: The tweak of the key, if there is one.
    """

    id: bytes
    epoch: int
    message: bytes
    merkle_root: bytes | None

    def encode(self) -> bytes:
        """Writes the task, for the own store."""
        tweak = b"\0" if self.merkle_root is None else b"\1" + self.merkle_root
        return self.id + u32(self.epoch) + self.message + tweak

    @classmethod
    def read(cls, reader: Reader) -> Task:
        """Takes a task off a reader, whose bytes are the own store's.

        Raises:
            CodecError: The bytes are none.
        """
        signing_id, epoch, message = reader.take(HASH_LEN), reader.u32(), reader.take(HASH_LEN)
        is_tweaked = reader.flag("whether there is a tweak")
        return cls(signing_id, epoch, message, reader.take(HASH_LEN) if is_tweaked else None)


def tasks_of(certified: Certified, key: PublicKey, spends: Spends) -> list[Task]:
    """Returns what a key is to sign because of a state, in an order that follows from it.

    Raises:
        LocalProtocolError: The key signs nothing here: it attests by announced nonces; or it is
            another committee's.
    """
    if key.run.committee != certified.committee:
        raise LocalProtocolError("the key is not one of the committee that certified the state")
    if key.run.purpose == CHECKPOINT:
        message = CHECKPOINT_TAG.hash(certified.committee, u32(certified.epoch), certified.root)
        return [_task(certified, key, message, None)]
    if key.run.purpose != TREASURY:
        raise LocalProtocolError("an oracle key signs attestations alone, by announced nonces")
    wanted = list(spends(certified.epoch, certified.state))
    if any(len(each.sighash) != HASH_LEN for each in wanted):
        raise LocalProtocolError("a sighash has 32 bytes")
    return [_task(certified, key, each.sighash, each.merkle_root) for each in wanted]


def _task(certified: Certified, key: PublicKey, message: bytes, merkle_root: bytes | None) -> Task:
    tweak = b"\0" if merkle_root is None else b"\1" + merkle_root
    signing_id = ID_TAG.hash(key.transcript, message, tweak)
    return Task(signing_id, certified.epoch, message, merkle_root)
