"""Says from what members have left on their disks whether a federation did what it has to do.

It reads stores and logs of processes that have ended, and holds of honest members:

streams       all have the same entries, in chains, signed by their authors
one decision  an epoch has one cut, with a certificate, in all stores
one root      an epoch has one certified root, and it is that of the state behind the epoch,
              computed here again from the entries
exactly once  each batch that its author knew to be certified is in exactly one epoch, in its
              author's stream, which has no others; and the books count each of its shares once:
              none is void, none stale
one word      a member signs one statement per slot, through all its lives
one nonce     a nonce signs one thing, through all its lives; and those of one store are all of
              different places, so that none was drawn at a place where another had been used
"""

from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from federation_process import shares_of, whole_lines

from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.federation.broadcast.payload import Kind, payload_digest
from radpool_sv2.federation.identity import Bip340Verifier
from radpool_sv2.federation.record import Started
from radpool_sv2.federation.statement import Phase, StateRoot, Vote
from radpool_sv2.federation.store import FederationStore


class CheckError(AssertionError):
    """Says what does not hold."""


@dataclass
class Remains:
    """What a member has left behind, in one home or more.

    Attributes:
        member: Its number.
        store: The file of its store.
        acknowledged: How many shares each batch has that it knew to be certified, by digest.
        said: Kind, slot and digest of all that it signed.
        stores: All of its stores: what copies of it have signed counts too.
    """

    member: int
    store: Path
    acknowledged: dict = field(default_factory=dict)
    said: list = field(default_factory=list)
    stores: list = field(default_factory=list)

    @classmethod
    def read(cls, member, home, *copies):
        """Reads a home, and what was said out of copies of it."""
        remains = cls(member, home / "federation.sqlite")
        for each in (home, *copies):
            for line in _lines(each / "acknowledged"):
                digest, count = line.split()
                remains.acknowledged[bytes.fromhex(digest)] = int(count)
            for line in _lines(each / "said"):
                kind, slot, digest = line.split()
                remains.said.append(((int(kind), slot), digest))
            remains.stores.append(each / "federation.sqlite")
        return remains


def _lines(file):
    return [line.removesuffix(".") for line in whole_lines(file)] if file.exists() else []


@dataclass
class Findings:
    """What was found, when all holds."""

    epochs: int = 0
    entries: int = 0
    batches: int = 0
    shares: int = 0
    statements: int = 0
    nonces: int = 0


class FederationChecker:
    """Checks what honest members of a committee have left.

    Args:
        committee: The committee.
        function: Computes states; an `Accounting`.
    """

    def __init__(self, committee, function):
        self.committee = committee
        self.function = function
        self.verifier = Bip340Verifier()

    def check(self, remains, epochs):
        """Checks everything.

        Args:
            remains: What honest members have left.
            epochs: How many epochs all of them must have certified.

        Raises:
            CheckError: Something does not hold.
        """
        found = Findings(epochs=epochs)
        for each in remains:
            self._check_words(each, found)
            found.nonces += self.check_nonces(each)
        first = None
        for each in remains:
            with self._open(each.store, each.member) as store:
                view = self._read(store, each.member, epochs)
            if first is None:
                first = view
            self._compare(first, view)
        self._check_states(first)
        self._check_shares(first, remains, found)
        found.entries = len(first.entries)
        return found

    # Words and nonces.

    def _check_words(self, remains, found):
        known = {}
        for slot, digest in remains.said:
            if known.setdefault(slot, digest) != digest:
                raise CheckError(f"member {remains.member} signed two statements of slot {slot}")
        found.statements += len(known)

    def check_nonces(self, remains):
        """Checks the nonces of a member alone, whose copies may have done anything else.

        Returns:
            How many have signed.

        Raises:
            CheckError: One has signed two things.
        """
        known = {}
        for file in remains.stores:
            places = set()
            with self._open(file, remains.member) as store:
                spent = list(store.spent())
            for each in spent:
                nonce = each.transcript, each.nonce
                place = each.transcript, each.boot, each.slot
                if known.setdefault(nonce, each.session) != each.session:
                    raise CheckError(
                        f"member {remains.member} signed twice by nonce {each.boot}/{each.slot}"
                    )
                if place in places:
                    raise CheckError(
                        f"member {remains.member} had two nonces at {each.boot}/{each.slot}"
                    )
                places.add(place)
        return len(known)

    def _open(self, file, member):
        return closing(FederationStore(file, self.committee, self.committee.members[member]))

    # Streams and epochs.

    def _read(self, store, member, epochs):
        view = _View(member)
        ends = dict.fromkeys(range(self.committee.n), 0)
        for epoch in range(epochs):
            decided = store.epoch(epoch)
            if decided is None or decided.checkpoint is None:
                raise CheckError(f"member {member} has not certified epoch {epoch}")
            view.cuts.append(self._cut(member, epoch, decided))
            view.roots.append(self._root(member, epoch, decided))
            for ending in decided.cut.endings:
                segment = []
                for seq in range(ends[ending.member], ending.seq + 1):
                    segment.append(self._entry(store, view, ending.member, seq))
                if not segment or segment[-1].header.digest != ending.digest:
                    raise CheckError(
                        f"member {member} has another end of epoch {epoch} in the stream of "
                        f"member {ending.member} than was decided"
                    )
                ends[ending.member] = ending.seq + 1
                view.segments[epoch].append(segment)
        if store.epoch(epochs) is not None:
            raise CheckError(f"member {member} has decided more than {epochs} epochs")
        for sender in range(self.committee.n):
            for seq in range(ends[sender], store.end(sender)):
                self._entry(store, view, sender, seq)
        view.state = store.state(epochs - 1)
        return view

    def _entry(self, store, view, sender, seq):
        entry = store.entry(sender, seq)
        what = f"entry {seq} of member {sender} in the store of member {view.member}"
        if entry is None:
            raise CheckError(f"{what} is missing")
        header = entry.header
        before = view.entries.get((sender, seq - 1))
        previous = bytes(32) if before is None else before.header.digest
        if (header.sender, header.seq, header.previous) != (sender, seq, previous):
            raise CheckError(f"{what} does not stand on the one before it")
        if header.payload_digest != payload_digest(entry.payload):
            raise CheckError(f"{what} has another payload than its header says")
        if not self.verifier.is_signed(
            self.committee.members[sender], header.digest, entry.signature
        ):
            raise CheckError(f"{what} is not signed by its author")
        view.entries[sender, seq] = entry
        return entry

    def _cut(self, member, epoch, decided):
        vote = decided.decision.statement
        cut = decided.cut
        if (
            not isinstance(vote, Vote)
            or (vote.epoch, vote.phase) != (epoch, Phase.FINALISE)
            or (cut.epoch, cut.digest(self.committee.id)) != (epoch, vote.cut)
        ):
            raise CheckError(f"the decision of epoch {epoch} at member {member} is of another cut")
        self._verify(decided.decision, f"the decision of epoch {epoch} at member {member}")
        return cut

    def _root(self, member, epoch, decided):
        statement = decided.checkpoint.statement
        if not isinstance(statement, StateRoot) or statement.epoch != epoch:
            raise CheckError(f"the checkpoint of epoch {epoch} at member {member} is another's")
        self._verify(decided.checkpoint, f"the checkpoint of epoch {epoch} at member {member}")
        return statement.root

    def _verify(self, certificate, what):
        try:
            certificate.verify(self.committee, self.verifier)
        except RemoteProtocolError as error:
            raise CheckError(f"{what}: {error}") from error

    def _compare(self, first, view):
        who = f"members {first.member} and {view.member}"
        for epoch, cuts in enumerate(zip(first.cuts, view.cuts, strict=True)):
            if cuts[0] != cuts[1]:
                raise CheckError(f"epoch {epoch} is decided twice: {who} have different cuts")
        for epoch, roots in enumerate(zip(first.roots, view.roots, strict=True)):
            if roots[0] != roots[1]:
                raise CheckError(f"epoch {epoch} has two roots: {who} have different ones")
        if first.entries.keys() != view.entries.keys():
            place = min(first.entries.keys() ^ view.entries.keys())
            raise CheckError(f"{who} have streams of different lengths, from {place}")
        for place, entry in first.entries.items():
            if view.entries[place].header.digest != entry.header.digest:
                raise CheckError(f"{who} have different entries at {place}")
        if first.state != view.state:
            raise CheckError(f"{who} have different states behind the last epoch")

    # States and shares.

    def _check_states(self, view):
        state, endings = b"", {}
        for epoch, cut in enumerate(view.cuts):
            state = self.function.apply(state, epoch, view.segments[epoch])
            for ending in cut.endings:
                endings[ending.member] = epoch, ending
            start = Started(epoch + 1, tuple(each for _, each in sorted(endings.items())))
            if start.root(self.function.root(state)) != view.roots[epoch]:
                raise CheckError(f"the certified root of epoch {epoch} is not that of its state")
            view.ledgers.append(self.function.ledger(state))
        if state != view.state:
            raise CheckError("the state behind the last epoch is not what its entries make")

    def _check_shares(self, view, remains, found):
        epochs_of, shares = defaultdict(list), Counter()
        for epoch, segments in view.segments.items():
            for segment in segments:
                for entry in segment:
                    if entry.header.kind == Kind.SHARE_BATCH:
                        author = entry.header.sender
                        epochs_of[author, payload_digest(entry.payload)].append(epoch)
                        shares[epoch] += shares_of(entry.payload)
        for each in remains:
            for digest, count in each.acknowledged.items():
                if len(epochs := epochs_of[each.member, digest]) != 1:
                    raise CheckError(
                        f"a batch of {count} shares of member {each.member}, "
                        f"{digest.hex()}, is in epochs {epochs}"
                    )
        for epoch, ledger in enumerate(view.ledgers):
            if ledger.verdicts or ledger.stale:
                raise CheckError(
                    f"epoch {epoch} has {ledger.stale} stale shares and void batches: "
                    f"{ledger.verdicts}"
                )
            if sum(row.count for row in ledger.rows) != shares[epoch]:
                raise CheckError(
                    f"epoch {epoch} counts {sum(row.count for row in ledger.rows)} shares of "
                    f"{shares[epoch]}"
                )
        known = {(each.member, digest) for each in remains for digest in each.acknowledged}
        found.batches = len(known)
        found.shares = sum(shares.values())
        if strangers := [batch for batch in epochs_of if batch not in known]:
            raise CheckError(f"{len(strangers)} batches count of which their authors do not know")


@dataclass
class _View:
    """What one store says."""

    member: int
    cuts: list = field(default_factory=list)
    roots: list = field(default_factory=list)
    entries: dict = field(default_factory=dict)
    segments: dict = field(default_factory=lambda: defaultdict(list))
    ledgers: list = field(default_factory=list)
    state: bytes | None = None
