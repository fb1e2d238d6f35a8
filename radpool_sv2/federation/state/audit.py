"""Counts a public log again by the program that members run, on all processors.

Theory of operation. The log is believed in nothing: certificates, the chain of each stream and the
payloads' digests are checked, and each state is computed and compared with the root that a quorum
has signed. What takes long, the shares of batches, is verified ahead in threads, which need no more
than the batch and the template bodies before it; the rest is counted in order by `Accounting`.

What that shows is that members have run this program on these entries. A mistake in it would be
made here again: `radpool_sv2.verify.federation` is the program that shares nothing with it.

Source: `spec/15-checkpoint-state.md`, "Public log".
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from radpool_sv2._native.ledger import verify_batch
from radpool_sv2.errors import FaultyMSPError, LocalProtocolError, RemoteProtocolError
from radpool_sv2.federation.agreement.mark import Mark
from radpool_sv2.federation.broadcast.entry import Entry
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.codec import CodecError, Reader
from radpool_sv2.federation.committee import Committee
from radpool_sv2.federation.identity import Bip340Verifier
from radpool_sv2.federation.messages import DecidedEpoch
from radpool_sv2.federation.record import Started
from radpool_sv2.federation.state.accounting import Accounting, body_digest
from radpool_sv2.federation.state.payload import decode_bodies
from radpool_sv2.federation.state.registration import RegisterCheck
from radpool_sv2.federation.state.rules import Rules
from radpool_sv2.federation.statement import NO_HASH, StateRoot, Vote
from radpool_sv2.federation.treasury.output import check_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from radpool_sv2._native.ledger import BatchSummary
    from radpool_sv2.federation.agreement.mark import Cut, Ending
    from radpool_sv2.federation.state.ledger import Block, Ledger

__all__ = ["Audit", "audit"]


@dataclass(slots=True)
class Audit:
    """Says what was counted again and is as a quorum has signed it.

    Attributes:
        committee: The committee.
        rules: By which it counts.
        epochs: How many epochs the log has.
        entries: How many entries count in them.
        batches: How many batches hold what they claim.
        shares: How many shares these have; each was recomputed.
        void: Of each batch that counts nothing: member, number of its entry, fault.
        weights: What each member's shares in the last window are worth.
        owners: How many registrations of owners each member has told.
        false_owners: Of each payload of registrations that is false: member, number of its entry,
            fault.
        blocks: The blocks that pay the federation, by hash, as the books last had them.
        root: The last state root.
    """

    committee: Committee
    rules: Rules
    epochs: int = 0
    entries: int = 0
    batches: int = 0
    shares: int = 0
    void: list[tuple[int, int, int]] = field(default_factory=list)
    weights: tuple[int, ...] = ()
    owners: tuple[int, ...] = ()
    false_owners: list[tuple[int, int, int]] = field(default_factory=list)
    blocks: dict[bytes, Block] = field(default_factory=dict)
    root: bytes = NO_HASH


def audit(
    directory: Path,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
    threads: int | None = None,
) -> Audit:
    """Counts a federation's epochs again.

    Args:
        directory: The public log.
        progress: Is called with the epochs done and all epochs.
        threads: How many verify batches; by default as many as there are processors.

    Raises:
        FaultyMSPError: Something is not as a quorum has signed it, or the log was altered.
        LocalProtocolError: The directory holds no log.
    """
    if threads is None:
        threads = len(os.sched_getaffinity(0))
    try:
        with ThreadPoolExecutor(threads) as pool:
            return _Log(directory, pool).count(progress)
    except FileNotFoundError as error:
        raise LocalProtocolError(f"{error.filename}: is missing in the log") from error
    except OSError as error:
        raise LocalProtocolError(f"{error.filename}: cannot be read: {error.strerror}") from error


class _Log:
    def __init__(self, directory: Path, pool: ThreadPoolExecutor) -> None:
        self._directory = directory
        self._pool = pool
        try:
            committee = Committee.decode((directory / "committee.bin").read_bytes())
            rules = Rules.decode((directory / "rules.bin").read_bytes())
            for key in rules.msp_keys:
                # Outputs are made of them.
                check_key(key)
        except (CodecError, LocalProtocolError) as error:
            raise FaultyMSPError(f"committee.bin or rules.bin: {error}") from error
        if (rules.height_first, rules.interval, rules.faulty_max, len(rules.msp_keys)) != (
            committee.height_first,
            committee.interval,
            committee.faulty_max,
            committee.n,
        ):
            raise FaultyMSPError("rules.bin: the rules are not of this committee")
        self._committee = committee
        self._verifier = Bip340Verifier()
        self._accounting = Accounting(rules, self._take)
        self._endings: dict[int, tuple[int, Ending]] = {}
        self._ahead: dict[int, Future[BatchSummary]] = {}
        self._owners = [RegisterCheck(key) for key in rules.msp_keys]
        self._found = Audit(committee, rules)

    def count(self, progress: Callable[[int, int], None]) -> Audit:
        files, state = sorted((self._directory / "epochs").iterdir()), b""
        for epoch, file in enumerate(files):
            if file.name != f"{epoch:010d}.bin":
                raise FaultyMSPError(f"epochs/{file.name}: epoch {epoch} should come here")
            try:
                state = self._count(epoch, file.read_bytes(), state)
            except (LocalProtocolError, RemoteProtocolError) as error:
                # Rules that have been altered may have keys that are none.
                raise FaultyMSPError(f"epoch {epoch}: {error}") from error
            progress(epoch + 1, len(files))
        weights = self._accounting.ledger(state).weights()
        self._found.epochs = len(files)
        self._found.weights = tuple(weights[member] for member in range(self._committee.n))
        self._found.owners = tuple(each.count for each in self._owners)
        return self._found

    def _count(self, epoch: int, data: bytes, state: bytes) -> bytes:
        """Counts an epoch; returns the state behind it."""
        cut, signed = self._decided(epoch, data)
        segments = [self._segment(epoch, ending) for ending in cut.endings]
        self._verify_ahead(self._accounting.ledger(state), segments)
        state = self._accounting.apply(state, epoch, segments)
        # What stood behind a fault that came first was not asked for.
        self._ahead.clear()
        ledger = self._accounting.ledger(state)
        root = ledger.root()
        endings = tuple(each for _, each in sorted(self._endings.items()))
        if Started(epoch + 1, endings).root(root) != signed:
            raise FaultyMSPError(
                f"epoch {epoch}: the entries give the books {root.hex()}, and the checkpoint is of "
                "others: the log was altered, or members run another program"
            )
        self._found.void += [(each.member, each.seq, each.code) for each in ledger.verdicts]
        self._found.blocks |= ledger.blocks
        self._found.root = root
        return state

    def _decided(self, epoch: int, data: bytes) -> tuple[Cut, bytes]:
        """Reads what was decided and checks who has signed it; returns the cut and the root."""
        with Reader(data, self._committee.id) as reader:
            decided = DecidedEpoch.read(reader)
        vote, checkpoint = decided.decision.statement, decided.checkpoint
        assert isinstance(vote, Vote), "the codec lets no other pass"
        if checkpoint is None or decided.cut.epoch != epoch:
            raise FaultyMSPError(f"epoch {epoch}: another epoch's cut, or no checkpoint")
        if vote.cut != decided.cut.digest(self._committee.id):
            raise FaultyMSPError(f"epoch {epoch}: its votes are for another cut")
        for certificate in (decided.decision, checkpoint):
            certificate.verify(self._committee, self._verifier)
        said = checkpoint.statement
        assert isinstance(said, StateRoot), "the codec lets no other pass"
        return decided.cut, said.root

    def _segment(self, epoch: int, ending: Ending) -> list[Entry]:
        """Reads what of a stream counts in an epoch; the cut names the digest of its end."""
        member = ending.member
        _, last = self._endings.get(member, (0, None))
        first, previous = (0, NO_HASH) if last is None else (last.seq + 1, last.digest)
        entries = []
        for seq in range(first, ending.seq + 1):
            name = f"streams/{member:03d}/{seq:010d}.bin"
            with Reader((self._directory / name).read_bytes(), self._committee.id) as reader:
                entry = Entry.read(reader)
            header = entry.header
            if (header.sender, header.seq, header.previous) != (member, seq, previous):
                raise FaultyMSPError(f"{name}: is not the entry behind the one before it")
            previous = header.digest
            entries.append(entry)
        mark = entries[-1] if entries else None
        if previous != ending.digest or mark is None or mark.header.kind != Kind.EPOCH_MARK:
            raise FaultyMSPError(f"epoch {epoch}: its cut names another mark of member {member}")
        if Mark.decode(mark.payload).epoch != epoch:
            raise FaultyMSPError(f"epoch {epoch}: the mark of member {member} is another epoch's")
        self._endings[member] = epoch, ending
        self._found.entries += len(entries)
        for entry in entries:
            if entry.header.kind == Kind.REGISTRATION:
                fault = self._owners[member].take(entry.payload)
                if fault is not None:
                    self._found.false_owners.append((member, entry.header.seq, fault))
        return entries

    def _verify_ahead(self, before: Ledger, segments: Sequence[Sequence[Entry]]) -> None:
        """Has all batches of an epoch verified, with all bodies that may be known there."""
        for segment in segments:
            bodies: Mapping[bytes, bytes] = before.members[segment[0].header.sender].bodies
            for entry in segment:
                if entry.header.kind == Kind.TEMPLATE:
                    try:
                        told = decode_bodies(entry.payload)
                    except CodecError:
                        continue
                    bodies = {**bodies, **{body_digest(body): body for body in told}}
                elif entry.header.kind == Kind.SHARE_BATCH:
                    blob = entry.payload
                    self._ahead[id(blob)] = self._pool.submit(verify_batch, blob, bodies)

    def _take(self, blob: bytes, bodies: Mapping[bytes, bytes]) -> BatchSummary:
        """Returns what came of a batch; `bodies` are those that the books really have.

        Raises:
            FaultyMSPError: It is not what it claims to be, or refers to other bodies.
        """
        summary = self._ahead.pop(id(blob)).result()
        if any(digest not in bodies for digest, *_ in summary.template_shares):
            raise FaultyMSPError("a template body is missing")
        self._found.batches += 1
        self._found.shares += summary.count
        return summary
