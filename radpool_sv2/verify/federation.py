"""Checks the public log of a federation: certificates, streams, cuts, and books behind epochs.

Nothing is believed of whoever served the log. That a root is right is not taken from its signatures
either: the books are computed again from the entries, and signatures only show that a quorum of
the members has said the same.

Source: `spec/15-checkpoint-state.md`, "Public log"; `spec/13-broadcast.md`;
`spec/14-epoch-agreement.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import SystemRandom
from typing import TYPE_CHECKING

from radpool_sv2.errors import FaultyMSPError, LocalProtocolError
from radpool_sv2.units import tagged_hash
from radpool_sv2.verify.bip340 import is_signed_by
from radpool_sv2.verify.books import MARK, Counter, Item, read_rules, read_served
from radpool_sv2.verify.reader import Reader, TruncatedError
from radpool_sv2.verify.registration import ToldOwners

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

    from radpool_sv2.verify.holding import Payout

__all__ = ["FederationReport", "verify_federation"]

VOTE, STATE = 4, 5
FINALISE = 2
REGISTRATION = 2
STATE_TAG, VOTE_TAG = "radpool/federation-state", "radpool/federation-vote"
DRAWS = 2**32


@dataclass(frozen=True, slots=True)
class FederationReport:
    """Says what was computed again and is as a quorum has signed it.

    Attributes:
        committee: Id of the committee.
        members: How many it has.
        quorum: How many have signed each root.
        epochs: How many epochs the log has.
        entries: How many entries count in them.
        batches: How many batches passed but for what a sample left out.
        shares: How many shares these have.
        recomputed: How many proofs of work were recomputed.
        void: Of each batch that counts nothing: member, number of its entry, fault.
        weights: What each member's shares in the last window are worth.
        owners: How many registrations of owners each member has told.
        false_owners: Of each payload of registrations that is false: member, number of its entry,
            fault.
        blocks: Whom each block pays that the members have found, by its height.
        root: The last state root.
    """

    committee: bytes
    members: int
    quorum: int
    epochs: int
    entries: int
    batches: int
    shares: int
    recomputed: int
    void: tuple[tuple[int, int, int], ...]
    weights: tuple[int, ...]
    owners: tuple[int, ...]
    false_owners: tuple[tuple[int, int, int], ...]
    blocks: tuple[Payout, ...]
    root: bytes

    def unfound(self, per_mille: int) -> float:
        """Returns how likely it is that nothing was noticed of so many shares without work."""
        if self.recomputed == self.shares:
            return 0.0
        return (1 - per_mille / 1000) ** self.recomputed


@dataclass(frozen=True)
class _Committee:
    id: bytes
    first: int
    interval: int
    members: tuple[bytes, ...]

    @property
    def faulty(self) -> int:
        return (len(self.members) - 1) // 3

    @property
    def quorum(self) -> int:
        return (len(self.members) + self.faulty) // 2 + 1


class _Cut:
    """Is a cut as it was read: member, number and digest of each mark."""

    def __init__(self, reader: Reader) -> None:
        at = reader.at
        self.epoch, count = reader.number(4), reader.number(2)
        self.endings = [(reader.number(2), reader.number(8), reader.take(32)) for _ in range(count)]
        self.length = reader.at - at


def verify_federation(
    directory: Path,
    sample_per_mille: int = 1000,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
    random: Random | None = None,
) -> FederationReport:
    """Computes a federation's epochs again.

    Args:
        directory: The public log.
        sample_per_mille: Which part of the proofs of work is recomputed; 1000 is all.
        progress: Is called with the epochs done and all epochs.
        random: Where the sample is drawn from; the system's randomness unless a test says other.

    Raises:
        FaultyMSPError: Something is not as a quorum has signed it, or the log was altered.
        LocalProtocolError: The directory holds no log.
    """
    try:
        return _Log(directory, sample_per_mille, random or SystemRandom()).verify(progress)
    except FileNotFoundError as error:
        raise LocalProtocolError(f"{error.filename}: is missing in the log") from error
    except OSError as error:
        raise LocalProtocolError(f"{error.filename}: cannot be read: {error.strerror}") from error


class _Log:
    def __init__(self, directory: Path, sample: int, random: Random) -> None:
        if not 1 <= sample <= 1000:
            raise LocalProtocolError(f"a sample of {sample} per mille: give 1 to 1000")
        self._directory = directory
        self._is_sample = sample < 1000
        try:
            self._committee = _read_committee((directory / "committee.bin").read_bytes())
            rules = read_rules((directory / "rules.bin").read_bytes())
        except TruncatedError:
            raise FaultyMSPError("committee.bin or rules.bin is not well formed") from None
        if (rules.height_first, rules.interval) != (
            self._committee.first,
            self._committee.interval,
        ) or len(rules.keys) != len(self._committee.members):
            raise FaultyMSPError("rules.bin: the rules are not of this committee")
        if rules.faulty != self._committee.faulty:
            raise FaultyMSPError("rules.bin: another number of faulty members than the committee's")
        bound = DRAWS * sample // 1000
        draws = (lambda: random.randrange(DRAWS) < bound) if self._is_sample else None
        self._counter = Counter(rules, draws)
        self._tails = [(0, bytes(32))] * len(self._committee.members)
        self._last: dict[int, tuple[int, int, bytes]] = {}
        self._entries = 0
        self._void: list[tuple[int, int, int]] = []
        self._blocks: dict[bytes, Payout] = {}
        self._owners = [ToldOwners(key) for key in rules.keys]
        self._false_owners: list[tuple[int, int, int]] = []

    def verify(self, progress: Callable[[int, int], None]) -> FederationReport:
        files = sorted((self._directory / "epochs").iterdir())
        root = bytes(32)
        for epoch, file in enumerate(files):
            if file.name != f"{epoch:010d}.bin":
                raise FaultyMSPError(f"epochs/{file.name}: epoch {epoch} should come here")
            try:
                root = self._verify_epoch(epoch, file.read_bytes())
            except TruncatedError:
                raise FaultyMSPError(f"epoch {epoch}: a file is not well formed") from None
            progress(epoch + 1, len(files))
        self._check_files(len(files))
        counter = self._counter
        return FederationReport(
            committee=self._committee.id,
            members=len(self._committee.members),
            quorum=self._committee.quorum,
            epochs=len(files),
            entries=self._entries,
            batches=counter.batches,
            shares=counter.shares,
            recomputed=counter.drawn,
            void=tuple(self._void),
            weights=tuple(counter.weights()),
            owners=tuple(each.count for each in self._owners),
            false_owners=tuple(self._false_owners),
            blocks=tuple(sorted(self._blocks.values(), key=lambda each: (each.height, each.block))),
            root=root,
        )

    def _verify_epoch(self, epoch: int, data: bytes) -> bytes:
        reader = Reader(data)
        vote = self._certificate(reader, VOTE, VOTE_TAG, 4 + 4 + 1 + 32)
        at = reader.at
        cut = _Cut(reader)
        digest = tagged_hash(
            "radpool/federation-cut", self._committee.id, data[at : at + cut.length]
        )
        if vote[:4] != epoch.to_bytes(4, "little") or vote[8] != FINALISE or vote[9:] != digest:
            raise FaultyMSPError(f"epoch {epoch}: its votes are not for finalising this cut")
        if cut.epoch != epoch or reader.number(1) != 1:
            raise FaultyMSPError(f"epoch {epoch}: another epoch's cut, or no checkpoint")
        said = self._certificate(reader, STATE, STATE_TAG, 4 + 32)
        if reader.left or said[:4] != epoch.to_bytes(4, "little"):
            raise FaultyMSPError(f"epoch {epoch}: the checkpoint is not of this epoch")
        segments = [self._segment(epoch, *ending) for ending in cut.endings]
        served = None
        if self._is_sample:
            books = (self._directory / "books" / f"{epoch:010d}.bin").read_bytes()
            served = read_served(books, len(self._committee.members))
        self._counter.count(segments, served)
        self._void += self._counter.verdicts
        self._blocks |= {each.block: each for each in self._counter.payouts()}
        try:
            root = self._counter.root()
        except ValueError as error:
            raise FaultyMSPError(f"epoch {epoch}: {error}") from error
        start = (epoch + 1).to_bytes(4, "little") + len(self._last).to_bytes(2, "little")
        for member, (last, seq, mark) in sorted(self._last.items()):
            start += last.to_bytes(4, "little") + member.to_bytes(2, "little")
            start += seq.to_bytes(8, "little") + mark
        if said[4:] != tagged_hash("radpool/federation-root", start, root):
            raise FaultyMSPError(
                f"epoch {epoch}: the entries give the books {root.hex()}, and the checkpoint is of "
                "others: the log was altered, or a quorum is wrong"
            )
        return root

    def _certificate(self, reader: Reader, kind: int, tag: str, length: int) -> bytes:
        """Reads a certificate and checks its signatures; returns the statement's fields."""
        committee = self._committee
        if reader.number(1) != kind:
            raise FaultyMSPError(f"a certificate is not of statements of kind {kind}")
        body = reader.take(length)
        signed, before = tagged_hash(tag, committee.id, body), -1
        if reader.number(1) != committee.quorum:
            raise FaultyMSPError(f"a certificate has not {committee.quorum} signatures")
        for _ in range(committee.quorum):
            member, signature = reader.number(2), reader.take(64)
            if not before < member < len(committee.members):
                raise FaultyMSPError("the signers of a certificate are not in ascending order")
            if not is_signed_by(committee.members[member], signed, signature):
                raise FaultyMSPError(f"a certificate's signature of member {member} is not true")
            before = member
        return body

    def _segment(self, epoch: int, member: int, seq: int, digest: bytes) -> list[Item]:
        """Reads what of a stream counts in an epoch; the cut names the digest of its end."""
        first, previous = self._tails[member]
        items = []
        for number in range(first, seq + 1):
            name = f"streams/{member:03d}/{number:010d}.bin"
            data = (self._directory / name).read_bytes()
            reader = Reader(data)
            place = reader.number(2), reader.number(8)
            linked, kind = reader.take(32), reader.number(1)
            length, wanted = reader.number(4), reader.take(32)
            header = data[: reader.at]
            reader.take(64)
            payload = reader.take(length)
            if reader.left or place != (member, number) or linked != previous:
                raise FaultyMSPError(f"{name}: is not the entry behind the one before it")
            if tagged_hash("radpool/federation-payload", payload) != wanted:
                raise FaultyMSPError(f"{name}: the payload is not that of its header")
            previous = tagged_hash("radpool/federation-entry", self._committee.id, header)
            items.append(Item(member, number, kind, payload))
        if previous != digest or not items or items[-1].kind != MARK:
            raise FaultyMSPError(f"epoch {epoch}: its cut names another mark of member {member}")
        if items[-1].payload[:4] != epoch.to_bytes(4, "little"):
            raise FaultyMSPError(f"epoch {epoch}: the mark of member {member} is another epoch's")
        self._tails[member] = seq + 1, previous
        self._last[member] = epoch, seq, digest
        self._entries += len(items)
        for item in items:
            if item.kind == REGISTRATION and (fault := self._owners[member].take(item.payload)):
                self._false_owners.append((member, item.seq, fault))
        return items

    def _check_files(self, epochs: int) -> None:
        """Finds files that nothing was signed for."""
        wanted = {"committee.bin", "rules.bin", "streams", "epochs", "books"}
        for epoch in range(epochs):
            wanted |= {f"epochs/{epoch:010d}.bin", f"books/{epoch:010d}.bin"}
        for member, (end, _) in enumerate(self._tails):
            wanted.add(f"streams/{member:03d}")
            wanted |= {f"streams/{member:03d}/{seq:010d}.bin" for seq in range(end)}
        found = {
            path.relative_to(self._directory).as_posix() for path in self._directory.rglob("*")
        }
        for name in sorted(wanted ^ found):
            what = "is missing" if name in wanted else "is not part of what was signed"
            raise FaultyMSPError(f"{name}: {what}")


def _read_committee(data: bytes) -> _Committee:
    reader = Reader(data)
    reader.take(32 + 4)
    first, interval = reader.number(4), reader.number(2)
    members = tuple(reader.take(32) for _ in range(reader.number(2)))
    if reader.left or list(members) != sorted(set(members)) or not members or not interval:
        raise TruncatedError
    return _Committee(tagged_hash("radpool/federation-committee", data), first, interval, members)
