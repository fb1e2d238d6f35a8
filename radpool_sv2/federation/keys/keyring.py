"""Holds the keys of a member: generates those that are not there, and signs with those that are.

Theory of operation. Per purpose there is one `KeyGeneration` until a key is certified, and one
`Signing` behind it. Epochs are read from the store, each twice and both times in order: once when
its state is applied, for generations, and once when its state is certified and here, for signing.
Reading is done in a thread (`read`), what follows from it beside the member's machines (`take`).

Effects of all machines leave through `poll` in order. A `Kept` is to be made durable before
anything behind it is done; so no share of a key is signed, no nonce shown and no signature share
sent that a crash could make forgotten. Behind each certified epoch a snapshot of the books is kept,
so a start costs the epochs since then and not the history.

Shares of keys are sealed by the identity key: who has the store and that key file can sign, and who
has lost either cannot. A member whose history does not reach back to the first epoch - it went on
from somebody's snapshot - takes no part in a key that it has not stored.

A `stop` is for good: whoever is told that it is a copy of itself must not sign any more.

Source: `spec/16-threshold-keys.md`.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, assert_never

import structlog

from radpool_sv2._native.threshold import CHECKPOINT, TREASURY, KeyShare
from radpool_sv2.errors import ConfigError, RemoteProtocolError, StoreError
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.codec import CodecError
from radpool_sv2.federation.dkg.generation import (
    PATIENCE_DEFAULT,
    Counted,
    Delivered,
    Failed,
    Generated,
    KeyFault,
    KeyGeneration,
    StoreShare,
)
from radpool_sv2.federation.effect import FOREVER, Append, Close, LinkDown, LinkUp
from radpool_sv2.federation.evidence import Evidence
from radpool_sv2.federation.keys import table
from radpool_sv2.federation.keys.cursor import Cursor
from radpool_sv2.federation.keys.table import (
    PURPOSES,
    Kept,
    KeptBooks,
    KeptBoot,
    KeptEvidence,
    KeptFailure,
    KeptKey,
    KeptShare,
    KeptSignature,
    KeptSpent,
    Proof,
)
from radpool_sv2.federation.signing.commitments import COUNTED_KINDS, COUNTED_MAX
from radpool_sv2.federation.signing.evidence import ShareEvidence
from radpool_sv2.federation.signing.purpose import Certified
from radpool_sv2.federation.signing.signing import (
    DONE_KEPT,
    Accuse,
    CertifiedEpoch,
    Heard,
    Say,
    Signed,
    Signing,
    Spent,
    StoreBoot,
)
from radpool_sv2.federation.state.payload import KeySaid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from radpool_sv2._native.threshold import IdentityKey
    from radpool_sv2.federation.agreement.mark import Cut
    from radpool_sv2.federation.broadcast.entry import Entry
    from radpool_sv2.federation.committee import Committee
    from radpool_sv2.federation.dkg.generation import KeyEffect
    from radpool_sv2.federation.identity import Verifier
    from radpool_sv2.federation.signing.message import SigningMessage
    from radpool_sv2.federation.signing.purpose import Spend, Spends, Task
    from radpool_sv2.federation.signing.signing import SigningEffect, SigningEvent, SigningLimits
    from radpool_sv2.federation.state.checkpoint import StateFunction
    from radpool_sv2.federation.store import FederationStore

__all__ = ["Keyring", "KeyringEffect", "ReadEpoch", "Told", "nothing", "proof_of_statements"]

log = structlog.get_logger(__name__)

PROOFS: Final = {
    Proof.STATEMENTS: "statements",
    Proof.SHARE: "shares",
    Proof.GENERATION: "generations",
}
"""What figures call evidence."""

TASKS_SHOWN: Final = 16
"""How many open signatures figures tell of."""

OF_GENERATION: Final = (Kind.KEY_GENERATION,)
OF_EVIDENCE: Final = (Kind.EVIDENCE,)
"""Kinds of payloads that the machines, or the table of evidence, take anything from."""

EVIDENCE_AT_ONCE: Final = 16
"""So many pieces of evidence of one segment are looked at, the last ones. An honest member has one
for each offender and kind of statement in all its life; each costs two signatures to check."""

PROOFS_KEPT_MAX: Final = 64
"""Pieces of evidence against one member that are kept: whoever has lost its key, or its mind, can
make more of them without end, and they say nothing new."""


def nothing(epoch: int, state: bytes) -> Iterable[Spend]:  # noqa: ARG001 - a `Spends` has both
    """Says that a state wants nothing spent."""
    return ()


@dataclass(frozen=True, slots=True)
class Told:
    """Asks to tell of a signature that is durable."""

    purpose: int
    task: Task
    signature: bytes


KeyringEffect: TypeAlias = Kept | Append | Say | Close | Told


@dataclass(frozen=True, slots=True)
class ReadEpoch:
    """Is what was read of an epoch for the machines.

    Attributes:
        cut: How it was cut.
        entries: Those that mean something to them, and the last of each segment.
        certified: Its certified state; `None` where the epoch is read for generations.
        wanted: What the state wants spent.
        proofs: Evidence that holds, among the entries.
    """

    cut: Cut
    entries: list[Entry]
    certified: Certified | None = None
    wanted: tuple[Spend, ...] = ()
    proofs: tuple[KeptEvidence, ...] = ()


@dataclass(slots=True)
class _Key:
    """Is what there is of one purpose."""

    purpose: int
    generation: KeyGeneration | None = None
    generated: Generated | None = None
    signing: Signing | None = None
    boot: int = 0
    failure: str = ""
    done: dict[bytes, tuple[Task, bytes]] = field(default_factory=dict)
    count: int = 0


class Keyring:
    """Is a member's keys.

    Args:
        committee: The committee.
        identity: The own identity key.
        verifier: Checks everybody's signatures.
        function: Computes the root of a state.
        store: What the member remembers; written to by whoever performs effects.
        purposes: For what keys there are to be; the same at all members.
        spends: What a treasury key is to sign.
        patience: How many epochs an attempt to generate a key may take; the same at all members.
        limits: How long is waited for signers, and how many commitments are open.

    Raises:
        LocalProtocolError: The committee is too small for keys.
    """

    def __init__(  # noqa: PLR0913 - all that keys depend on
        self,
        committee: Committee,
        identity: IdentityKey,
        verifier: Verifier,
        function: StateFunction,
        store: FederationStore,
        *,
        purposes: Sequence[int] = (CHECKPOINT, TREASURY),
        spends: Spends = nothing,
        patience: int = PATIENCE_DEFAULT,
        limits: SigningLimits | None = None,
    ) -> None:
        self._committee = committee
        self._identity = identity
        self._me = committee.number_of(identity.public)
        self._verifier = verifier
        self._function = function
        self._store = store
        self._spends = spends
        self._patience = patience
        self._limits = limits
        self._keys = [_Key(purpose, self._generation(purpose)) for purpose in purposes]
        self._counted = Cursor()
        self._certified: Cursor | None = None
        self._places: dict[int, Cursor] = {}
        self._wanted: tuple[Spend, ...] = ()
        self._linked: set[int] = set()
        self._now = 0
        self._effects: deque[KeyringEffect] = deque()
        self._listeners: list[tuple[Callable[[Task, bytes], None], int | None]] = []
        self._evidence: Counter[str] = Counter()
        self._proven: set[bytes] = set()
        self._proofs_against: Counter[int] = Counter()
        self.stopped = ""

    def _generation(self, purpose: int) -> KeyGeneration:
        return KeyGeneration(
            self._committee, self._identity, purpose, epoch_first=0, patience=self._patience
        )

    # What others call.

    def on_signed(
        self, callback: Callable[[Task, bytes], None], purpose: int | None = None
    ) -> None:
        """Has a callback told of each finished signature, also of those that are there already.

        Each is durable when it is told. It may be told more than once, and is again after a start
        (of a checkpoint key the latest `DONE_KEPT`).

        Args:
            callback: Told the task and the signature, 64 bytes; it does not wait.
            purpose: Only of keys for this.
        """
        self._listeners.append((callback, purpose))
        for key in self._keys:
            if purpose in {None, key.purpose}:
                for task, signature in list(key.done.values()):
                    callback(task, signature)

    def tell(self, told: Told) -> None:
        """Tells all who listen of a signature."""
        for callback, purpose in self._listeners:
            if purpose in {None, told.purpose}:
                callback(told.task, told.signature)

    def status(self) -> dict[str, Any]:
        """Returns the figures that an operator looks at, ready for JSON."""
        figures: dict[str, Any] = {PURPOSES[key.purpose]: self._figures(key) for key in self._keys}
        return figures | {
            "counted": 0 if self._certified is None else self._certified.epoch,
            "evidence": dict(sorted(self._evidence.items())),
            "stopped": self.stopped,
        }

    def _figures(self, key: _Key) -> dict[str, Any]:
        generated, signing, generation = key.generated, key.signing, key.generation
        figures: dict[str, Any] = {
            "generated": generated is not None,
            "failure": key.failure,
            "signatures": key.count,
        }
        if generated is None:
            return figures | {
                "attempt": -1 if generation is None else generation.attempt,
                "members": [] if generation is None else list(generation.members),
            }
        public = generated.public
        return figures | {
            "attempt": public.run.attempt,
            "members": list(generated.members),
            "epoch": generated.epoch,
            "threshold": public.run.threshold,
            "public_key": public.internal_key.hex(),
            "transcript": public.transcript.hex(),
            "has_share": generated.share is not None,
            "boot": key.boot,
            "open_tasks": 0 if signing is None else signing.open_tasks,
            "tasks": [] if signing is None else _tasks_of(signing, generated.members),
            "unspent_nonces": 0 if signing is None else signing.unspent,
            "commitments": {
                str(each): 0 if signing is None else signing.open_commitments(each)
                for each in generated.members
            },
        }

    # Start and end.

    def restore(self, applied: int, now: int) -> None:
        """Goes on where the store says that it stopped; called first, may be called in a thread.

        Args:
            applied: How many epochs are applied.
            now: The time.

        Raises:
            StoreError: The store is damaged.
            ConfigError: A share cannot be opened: it was sealed by another identity key.
        """
        self._now = now
        read = self._store.read
        sealed = read(table.shares)
        ended = read(partial(table.generations, committee=self._committee))
        for proof in self._store.evidence():
            self._know(proof)
        begins = self._store.first_epoch()
        for key in self._keys:
            found = next((each for each in ended if each.purpose == key.purpose), None)
            if isinstance(found, KeptKey):
                self._restore_key(key, found, sealed)
            elif found is not None:
                key.generation, key.failure = None, found.reason
            elif begins:
                key.generation = None
                key.failure = "this member's history begins behind that of the key: it has no part"
        self._restore_generations(sealed, applied)
        self._gather()
        if self._certified is not None and self._store.state(self._certified.epoch) is None:
            self._skip(self._certified.epoch)

    def _restore_key(self, key: _Key, kept: KeptKey, sealed: Sequence[bytes]) -> None:
        transcript = kept.public.transcript
        share = None
        for each in sealed:
            try:
                opened = KeyShare.open(self._identity, each)
            except ConfigError as error:
                raise ConfigError(f"a stored share of a key cannot be opened: {error}") from error
            if opened.public.transcript == transcript:
                share = opened
        read = self._store.read
        key.boot = read(partial(table.boot_of, transcript=transcript))
        done = read(partial(table.signatures, transcript=transcript))
        key.count = len(done)
        kept_ones = done if key.purpose != CHECKPOINT else done[-DONE_KEPT:]
        key.done = {task.id: (task, signature) for task, signature in kept_ones}
        snapshot = read(table.books).get(transcript)
        self._certified = Cursor(kept.start)
        self._begin(key, Generated(kept.epoch, kept.public, kept.members, share), snapshot)

    def _skip(self, epoch: int) -> None:
        """Goes on behind epochs that the store has let go of: it began anew from a snapshot.

        Of the commitments in them nothing is known here: first rounds fail where these are asked
        for, and ROAST signs, until they are used up.
        """
        latest = self._store.latest()
        if latest is not None and latest[0].decided > epoch:
            log.warning("keys go on behind a gap", first=epoch, behind=latest[0].decided)
            self._certified = Cursor(latest[0])

    def _restore_generations(self, sealed: Sequence[bytes], applied: int) -> None:
        """Has open generations count all epochs again."""
        generations = [each for each in map(_generation_of, self._keys) if each is not None]
        if not generations:
            return
        epochs = []
        while self._counted.epoch < applied:
            counted = self._read_counted(self._counted)
            if counted is None:
                break
            epochs.append(Counted(counted.cut.epoch, counted.entries))
            self._pass(counted.cut)
        rest = []
        for member in range(self._committee.n):
            place = self._counted.first(member), self._store.end(member)
            rest += self._store.entries_of(member, *place, OF_GENERATION)
        for generation in generations:
            generation.restore(sealed, epochs, rest)

    def stop(self, reason: str) -> None:
        """Signs nothing any more."""
        self.stopped = reason
        self._effects.clear()
        for key in self._keys:
            key.generation = key.signing = None

    # What has happened.

    def linked(self, member: int, now: int) -> None:
        """Takes in that a link is up."""
        self._linked.add(member)
        self._sign(LinkUp(member), now)

    def unlinked(self, member: int, now: int) -> None:
        """Takes in that a link is down."""
        self._linked.discard(member)
        self._sign(LinkDown(member), now)

    def heard(self, member: int, message: SigningMessage, now: int) -> None:
        """Takes in a message of a link."""
        self._now = now
        machines = [key.signing for key in self._keys if key.signing is not None]
        # Before its task is known, a message may be about any key.
        for each in [each for each in machines if each.knows(message.task)] or machines:
            each.handle(Heard(member, message), now)
        self._gather()

    def delivered(self, entry: Entry, now: int) -> None:
        """Takes in that the broadcast delivered an entry."""
        self._now = now
        if entry.header.kind in OF_GENERATION:
            for generation in map(_generation_of, self._keys):
                if generation is not None:
                    generation.handle(Delivered(entry), now)
            self._gather()

    def handle_deadline(self, now: int) -> None:
        """Does what is due."""
        self._now = now
        for key in self._keys:
            if key.signing is not None and key.signing.next_deadline() <= now:
                key.signing.handle_deadline(now)
        self._gather()

    def next_deadline(self) -> int:
        """Returns when `handle_deadline` is to be called; `FOREVER` for never."""
        machines = (key.signing for key in self._keys)
        return min((each.next_deadline() for each in machines if each is not None), default=FOREVER)

    def _sign(self, event: SigningEvent, now: int) -> None:
        self._now = now
        for key in self._keys:
            if key.signing is not None:
                key.signing.handle(event, now)
        self._gather()

    # Epochs.

    def next_read(self, applied: int, certified: int) -> Callable[[], ReadEpoch | None] | None:
        """Says what is to be read now, in a thread; `take` wants it if it is there.

        Args:
            applied: How many epochs are applied.
            certified: How many are certified.

        Returns:
            What to call, which returns `None` while the store has not all of it, and raises
            `StoreError`, or `LocalProtocolError` when the state is not the certified one.
        """
        is_generating = any(_generation_of(key) is not None for key in self._keys)
        if is_generating and self._counted.epoch < applied:
            return partial(self._read_counted, self._counted)
        cursor = self._certified
        if cursor is None or self.stopped or cursor.epoch >= min(applied, certified):
            return None
        if is_generating and cursor.epoch >= self._counted.epoch:
            return None
        return partial(self._read_certified, cursor)

    def has_counted(self, decided: int) -> bool:
        """Says whether states and records before an epoch are of no more use to the keys."""
        is_generating = any(_generation_of(key) is not None for key in self._keys)
        if is_generating and not self.stopped and self._counted.epoch < decided:
            # A key may have been certified in between: signing goes on from the state behind it.
            return False
        return self._certified is None or bool(self.stopped) or self._certified.epoch >= decided

    def take(self, epoch: ReadEpoch, now: int) -> None:
        """Takes in an epoch that was read."""
        self._now = now
        if self.stopped:
            return
        cut, certified = epoch.cut, epoch.certified
        if certified is None:
            self._pass(cut)
            for generation in map(_generation_of, self._keys):
                if generation is not None:
                    generation.handle(Counted(cut.epoch, epoch.entries), now)
            self._gather()
            return
        assert self._certified is not None, "it was read behind this place"
        self._wanted = epoch.wanted
        machines = []
        for key in self._keys:
            if key.signing is None or key.generated is None or key.generated.epoch >= cut.epoch:
                continue
            key.signing.handle(CertifiedEpoch(epoch.entries, certified), now)
            machines.append((key.generated.public.transcript, key.signing))
        self._gather()
        for proof in epoch.proofs:
            self.prove(proof)
        self._certified = self._certified.behind(cut)
        books = tuple((transcript, machine.snapshot()) for transcript, machine in machines)
        self._effects.append(KeptBooks(self._certified.start, books))

    def _pass(self, cut: Cut) -> None:
        self._counted = self._counted.behind(cut)
        self._places[cut.epoch] = self._counted

    def _read_counted(self, cursor: Cursor) -> ReadEpoch | None:
        decided = self._store.epoch(cursor.epoch)
        if decided is None:
            return None
        entries = []
        for ending in decided.cut.endings:
            place = cursor.first(ending.member), ending.seq + 1
            entries += self._store.entries_of(ending.member, *place, OF_GENERATION)
        return ReadEpoch(decided.cut, entries)

    def _read_certified(self, cursor: Cursor) -> ReadEpoch | None:
        decided, state = self._store.epoch(cursor.epoch), self._store.state(cursor.epoch)
        if decided is None or decided.checkpoint is None or state is None:
            return None
        cut, entries = decided.cut, []
        proofs: list[KeptEvidence] = []
        for ending in cut.endings:
            member, last = ending.member, self._store.entry(ending.member, ending.seq)
            if last is None:
                return None
            place = cursor.first(member), ending.seq
            for each in self._store.entries_of(member, *place, OF_EVIDENCE, EVIDENCE_AT_ONCE):
                proofs += self._proof_in(each)
            for each in self._store.entries_of(member, *place, COUNTED_KINDS, COUNTED_MAX):
                found = self._proof_in(each)
                proofs += found
                # What proves nothing need not be checked again by the book, which holds up others.
                if found or each.header.kind != Kind.SIGNING_EVIDENCE:
                    entries.append(each)
            # That a member has a segment at all means something: it is there.
            entries.append(last)
        certified = Certified.verify(
            self._committee,
            self._verifier,
            self._function,
            decided.checkpoint,
            cursor.behind(cut).start,
            state,
        )
        wanted: tuple[Spend, ...] = ()
        if any(key.purpose == TREASURY and key.signing is not None for key in self._keys):
            wanted = tuple(self._spends(cut.epoch, state))
        return ReadEpoch(cut, entries, certified, wanted, tuple(proofs))

    def _proof_in(self, entry: Entry) -> tuple[KeptEvidence, ...]:
        """Finds what proves that a member is at fault, whoever has shown it."""
        try:
            if entry.header.kind == Kind.EVIDENCE:
                evidence = Evidence.decode(entry.payload)
                evidence.verify(self._committee, self._verifier)
                return (proof_of_statements(evidence),)
            if entry.header.kind == Kind.SIGNING_EVIDENCE:
                share = ShareEvidence.decode(entry.payload)
                for key in self._keys:
                    known = key.generated
                    if known is not None and known.public.transcript == share.transcript:
                        share.verify(known.public, self._verifier)
                        return (_proof_of_share(known.members[share.offender], share),)
        except RemoteProtocolError:
            # The books take no notice of it either.
            pass
        return ()

    # What is to be done.

    def poll(self) -> KeyringEffect | None:
        """Takes the next effect out."""
        return self._effects.popleft() if self._effects else None

    def _gather(self) -> None:
        """Takes effects out of the machines; some make other machines."""
        going = not self.stopped
        while going:
            going = False
            for key in self._keys:
                while key.generation is not None and (made := key.generation.poll()) is not None:
                    going = True
                    self._do_generation(key, made)
                while key.signing is not None and (said := key.signing.poll()) is not None:
                    going = True
                    self._do_signing(key, said)
        self._places.clear()

    def _do_generation(self, key: _Key, effect: KeyEffect) -> None:
        name = PURPOSES[key.purpose]
        match effect:
            case Append():
                self._effects.append(effect)
            case StoreShare(transcript, sealed):
                self._effects.append(KeptShare(transcript, sealed))
            case KeyFault(member, attempt, fault):
                what = f"{name} key, attempt {attempt}: {fault}"
                self.prove(KeptEvidence(Proof.GENERATION, member, what, b""))
            case Failed(epoch, reason):
                log.error("a key cannot be generated", purpose=name, reason=reason)
                key.generation, key.failure = None, reason
                self._effects.append(KeptFailure(key.purpose, epoch, reason))
            case Generated(epoch, public, members, _):
                place = self._places[epoch]
                key.generation = None
                kept = KeptKey(key.purpose, epoch, public, members, place.start)
                self._effects.append(kept)
                if self._certified is None:
                    self._certified = place
                self._begin(key, effect, None)
            case _:
                assert_never(effect)

    def _begin(self, key: _Key, generated: Generated, snapshot: bytes | None) -> None:
        """Begins to sign with a key."""
        public = generated.public
        key.generation, key.generated = None, generated
        log.info(
            "a key is there",
            purpose=PURPOSES[key.purpose],
            key=public.internal_key.hex(),
            members=list(generated.members),
            has_share=generated.share is not None,
        )
        key.signing = Signing(
            generated,
            self._me,
            self._identity,
            self._verifier,
            self._spends_now,
            boot=key.boot,
            limits=self._limits,
        )
        done = {task: signature for task, (_, signature) in key.done.items()}
        try:
            key.signing.restore((), done, self._now, snapshot)
        except CodecError as error:
            raise StoreError(
                f"the books of the {PURPOSES[key.purpose]} key are damaged: {error}. Restore the "
                "store from a backup, or start from a snapshot."
            ) from error
        # Said at each start: what was appended and not yet shown to anybody does not survive one.
        said = KeySaid(key.purpose, public.internal_key, public.transcript)
        self._effects.append(Append(Kind.KEY_SAID, said.encode()))
        for task, signature in key.done.values():
            self._effects.append(Told(key.purpose, task, signature))
        for member in sorted(self._linked):
            key.signing.handle(LinkUp(member), self._now)

    def _spends_now(self, epoch: int, state: bytes) -> Iterable[Spend]:  # noqa: ARG002 - as above
        """Returns what was computed of the state where it was read."""
        return self._wanted

    def _do_signing(self, key: _Key, effect: SigningEffect) -> None:
        assert key.generated is not None, "only a key signs"
        transcript = key.generated.public.transcript
        match effect:
            case Append() | Say() | Close():
                self._effects.append(effect)
            case StoreBoot(boot):
                key.boot = boot
                self._effects.append(KeptBoot(transcript, boot))
            case Spent(nonce, session):
                row = nonce.encode(), nonce.boot, nonce.slot, session
                self._effects.append(KeptSpent(transcript, *row))
            case Signed(task, signature):
                key.count += 1
                key.done[task.id] = task, signature
                if key.purpose == CHECKPOINT and len(key.done) > DONE_KEPT:
                    del key.done[next(iter(key.done))]
                self._effects.append(KeptSignature(transcript, task, signature))
                self._effects.append(Told(key.purpose, task, signature))
            case Accuse(member, evidence):
                self.prove(_proof_of_share(member, evidence))
            case _:
                assert_never(effect)

    def prove(self, proof: KeptEvidence) -> None:
        """Keeps evidence, unless it is there already."""
        is_enough = self._proofs_against[proof.member] >= PROOFS_KEPT_MAX
        if is_enough or proof.digest in self._proven:
            return
        self._know(proof)
        log.warning("a member is proven to be at fault", member=proof.member, what=proof.what)
        self._effects.append(proof)

    def _know(self, proof: KeptEvidence) -> None:
        self._proven.add(proof.digest)
        self._proofs_against[proof.member] += 1
        self._evidence[PROOFS[proof.kind]] += 1


def _tasks_of(signing: Signing, members: tuple[int, ...]) -> list[dict[str, Any]]:
    """Says which signatures are not there yet, the first of them, and who is waited for."""
    return [
        {
            "epoch": task.epoch,
            "message": task.message.hex(),
            "missing": [members[place] for place in places],
        }
        for task, places in signing.waited_for()[:TASKS_SHOWN]
    ]


def _generation_of(key: _Key) -> KeyGeneration | None:
    """Returns a generation that is not over."""
    machine = key.generation
    return None if machine is None or machine.is_over else machine


def proof_of_statements(evidence: Evidence) -> KeptEvidence:
    """Makes what is kept of two statements of one slot."""
    name = type(evidence.first).__name__.lower()
    what = f"signed two different statements of one slot: {name} {evidence.first.slot}"
    return KeptEvidence(Proof.STATEMENTS, evidence.offender, what, evidence.encode())


def _proof_of_share(member: int, evidence: ShareEvidence) -> KeptEvidence:
    what = f"signed a share that does not hold, of session {evidence.signed.session.hex()}"
    return KeptEvidence(Proof.SHARE, member, what, evidence.encode())
