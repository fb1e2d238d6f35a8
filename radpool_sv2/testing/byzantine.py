"""Is up to no good: members that lie in every way that broadcast and agreement must bear.

A faulty node runs the honest machines and spoils what they send, or sends things of its own; twins
run them twice with one key, so that each half of the world sees another member. It goes on after
the faults of the network have ended: a world must come to rest all the same.

    twins            two stores, two streams, two votes under one key: equivocation in everything
    split-echoes     echoes something else to some
    withhold         sends entries to few, echoes to some, answers no pull, or says that all is gone
    forge-sender     speaks in the name of others
    flood            sends far above window and budget, and bytes that mean nothing
    replay           brings certificates of another committee with the same members
    double-vote      proposes and votes differently to different members
    favour           lets one member alone see that a cut is decided
    select           proposes cuts without members that are there, or with ends that are not
    lie-about-marks  ends epochs early, wrongly or not at all; claims streams that nobody has
    lie-about-roots  signs different roots to different members
    silent           sends nothing
    rewind           starts from older copies of its store, and goes on whatever peers show it
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from radpool_sv2.federation.agreement.mark import Cut, Ending, Mark
from radpool_sv2.federation.broadcast.entry import Entry, Position
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.certificate import Certificate
from radpool_sv2.federation.committee import Committee
from radpool_sv2.federation.effect import ChainTip
from radpool_sv2.federation.messages import (
    DecidedEpoch,
    Entries,
    Epochs,
    Gone,
    Head,
    Message,
    Notarised,
    Propose,
    Pull,
    PullEpochs,
    Ready,
    Said,
    SentEntry,
    encode_message,
)
from radpool_sv2.federation.statement import NO_HASH, Echo, Phase, Proposal, StateRoot, Vote
from radpool_sv2.testing.simulator import Node
from radpool_sv2.testing.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from radpool_sv2.testing.simulator import World

__all__ = ["FaultyNode", "Twins", "faulty_node"]

MISCHIEF_EVERY_MS = (100, 1_500)
MISCHIEF_AFTER_CALM_MS = 5_000

REWINDS = 0.5
"""How often an occasion to crash is taken by who goes on from an older copy."""


def faulty_node(world: World, member: int, misdeeds: tuple[str, ...]) -> Node:
    """Makes a node that does these."""
    if "twins" in misdeeds:
        return Twins(world, member, misdeeds)
    if "rewind" in misdeeds:
        return _Rewound(world, member, misdeeds)
    return FaultyNode(world, member, misdeeds)


class FaultyNode(Node):
    """Runs the honest machines and spoils what they send.

    Args:
        world: The world.
        member: Its number.
        misdeeds: What it does.
    """

    def __init__(self, world: World, member: int, misdeeds: tuple[str, ...]) -> None:
        super().__init__(world, member)
        self.misdeeds = misdeeds
        others = [each for each in range(world.plan.n) if each != member]
        self._friends = set(world.random.sample(others, world.random.randint(0, len(others))))
        self._victim = world.random.choice(others)
        self._is_at_it = False

    def start(self) -> None:
        """Starts it."""
        super().start()
        if not self._is_at_it:
            self._is_at_it = True
            self.world.after(self.world.random.randint(*MISCHIEF_EVERY_MS), self.mischief)

    def mischief(self) -> None:
        """Sends things of its own now and then."""
        world = self.world
        if world.now > world.plan.calm_ms + MISCHIEF_AFTER_CALM_MS:
            return
        if self.machine is not None and not self.machine.is_halted:
            for misdeed in self.misdeeds:
                for to, data in self._inventions(misdeed):
                    world.transmit(self.me, to, data, world.generation(self.me, to))
        world.after(world.random.randint(*MISCHIEF_EVERY_MS), self.mischief)

    def send(self, to: int, message: Message, generation: int) -> None:
        """Sends what has become of a message."""
        messages = [message]
        for misdeed in self.misdeeds:
            messages = [each for before in messages for each in self._spoil(misdeed, to, before)]
        for each in messages:
            self.world.transmit(self.me, to, encode_message(each), generation)

    # What becomes of messages.

    def _spoil(self, misdeed: str, to: int, message: Message) -> Iterable[Message]:  # noqa: C901, PLR0911, PLR0912 - one each
        random = self.world.random
        match misdeed, message:
            case "silent", _:
                return ()
            case "split-echoes", Said(Echo() as echo) if to not in self._friends:
                other = Echo(
                    echo.committee, echo.sender, echo.seq, echo.previous, random.randbytes(32)
                )
                return (
                    (self._said(other), message) if random.random() < 0.3 else (self._said(other),)
                )
            case "withhold", SentEntry() if to not in self._friends:
                return ()
            case "withhold", Said(Echo()) if random.random() < 0.5:
                return ()
            case "withhold", Entries() | Epochs() if random.random() < 0.5:
                return (Gone(random.choice((0, 1, 10**6))),)
            case "withhold", Entries() | Epochs() | Notarised():
                return ()
            case "double-vote", Propose(proposal, _, cut) if to not in self._friends:
                return (self._proposed(proposal, self._without(cut, to)),)
            case "double-vote", Said(Vote() as vote) if to not in self._friends:
                if vote.phase is Phase.NOTARISE:
                    cut_digest = random.randbytes(32)
                    return (self._said(self._vote(vote, Phase.NOTARISE, cut_digest)),)
                return (
                    self._said(self._vote(vote, Phase.SKIP, NO_HASH)),
                    self._said(self._vote(vote, Phase.FINALISE, random.randbytes(32))),
                )
            case "favour", Said(Vote(phase=Phase.FINALISE)) | Ready() if to != self._victim:
                return ()
            case "favour", Epochs():
                return ()
            case "select", Propose(proposal, _, cut):
                return (self._proposed(proposal, self._selected(cut)),)
            case "lie-about-marks", Ready(heads, decided, certified):
                lies = tuple(
                    Head(head.sender, head.count + random.choice((0, 1, 10**6)), NO_HASH)
                    for head in heads
                )
                return (Ready(lies, decided + random.choice((0, 0, 5)), certified),)
            case "lie-about-roots", Said(StateRoot() as root) if to not in self._friends:
                lie = StateRoot(root.committee, root.epoch, random.randbytes(32))
                return (self._said(lie),)
            case _:
                return (message,)

    def _said(self, statement: Echo | Vote | StateRoot) -> Said:
        return Said(statement, self.world.signers[self.me].sign(statement.digest))

    def _vote(self, vote: Vote, phase: Phase, cut: bytes) -> Vote:
        return Vote(vote.committee, vote.epoch, vote.view, phase, cut)

    def _proposed(self, proposal: Proposal, cut: Cut) -> Propose:
        spoilt = Proposal(
            proposal.committee,
            proposal.epoch,
            proposal.view,
            proposal.parent,
            cut.digest(proposal.committee),
        )
        return Propose(spoilt, self.world.signers[self.me].sign(spoilt.digest), cut)

    def _selected(self, cut: Cut) -> Cut:
        """Makes a cut that is missing somebody, or nearly all, or has an ending that nobody has."""
        # The same to all: it wants it decided.
        match (cut.epoch + self.me) % 4:
            case 0:
                return Cut(cut.epoch, cut.endings[:1])
            case 1:
                first, *rest = cut.endings
                made_up = Ending(first.member, first.seq + 1, first.digest)
                return Cut(cut.epoch, (made_up, *rest))
            case _:
                return self._without(cut, self._victim)

    def _without(self, cut: Cut, member: int) -> Cut:
        return Cut(cut.epoch, tuple(each for each in cut.endings if each.member != member))

    # What it invents.

    def _inventions(self, misdeed: str) -> Iterable[tuple[int, bytes]]:
        world = self.world
        to = world.random.choice([each for each in range(world.plan.n) if each != self.me])
        match misdeed:
            case "forge-sender":
                return [(to, encode_message(message)) for message in self._forgeries(to)]
            case "flood":
                return [(to, data) for data in self._floods()]
            case "replay":
                return [(to, encode_message(self._replay()))]
            case "lie-about-marks":
                self._lie()
        return ()

    def _entry(self, sender: int, seq: int, payload: bytes = b"forged") -> Entry:
        world = self.world
        position = Position(seq, world.random.randbytes(32) if seq else NO_HASH, 0, 0)
        content = Kind.SHARE_BATCH, payload
        return Entry.sign(world.committee, sender, world.signers[self.me], position, content)

    def _forgeries(self, to: int) -> Iterable[Message]:
        """Speaks for others; a peer closes the link at the first, so there is one at a time."""
        world, machine = self.world, self.machine
        assert machine is not None, "only a running node sends"
        seq = machine.broadcast.streams[self._victim].certified.count
        forged = self._entry(self._victim, seq)
        genuine = world.nodes[to].store.entry(self._victim, 0)
        echo = Echo(world.committee.id, self._victim, seq, NO_HASH, forged.header.digest)
        choices: list[Message] = [
            SentEntry(forged),
            Said(echo, world.random.randbytes(64)),
            SentEntry(Entry(forged.header, world.random.randbytes(64), forged.payload)),
        ]
        if genuine is not None:
            choices.append(SentEntry(genuine))
        return (world.random.choice(choices),)

    def _floods(self) -> Iterable[bytes]:
        random, world = self.world.random, self.world
        machine = self.machine
        assert machine is not None, "only a running node sends"
        tip = machine.broadcast.own.tip()
        match random.randrange(5):
            case 0:
                entry = self._entry(self.me, tip.count + random.randint(9, 10**6))
                return (encode_message(SentEntry(entry)),)
            case 1:
                return (random.randbytes(random.randint(0, 200)),)
            case 2:
                # All of the budget at once, then more, each on top of the other.
                position, entries = tip, []
                for _ in range(world.limits.window + 2):
                    payload = bytes(world.limits.payload_bytes_max)
                    content = Kind.SHARE_BATCH, payload
                    entry = Entry.sign(
                        world.committee, self.me, world.signers[self.me], position, content
                    )
                    entries.append(encode_message(SentEntry(entry)))
                    position = position.after(entry)
                return entries
            case 3:
                pulls: list[Message] = [Pull(random.randrange(world.plan.n), 0), PullEpochs(0)]
                return [encode_message(each) for each in pulls] * 10
            case _:
                statement = Echo(
                    world.committee.id, self._victim, random.randrange(1 << 60), NO_HASH, NO_HASH
                )
                return [encode_message(self._said(statement))] * 10

    def _replay(self) -> Message:
        """Makes a certificate that all members have signed, in another committee."""
        world, random = self.world, self.world.random
        old = Committee(world.committee.chain, 1, world.committee.members, height_first=1)
        machine = self.machine
        assert machine is not None, "only a running node sends"
        epoch = machine.epochs.decided
        match random.randrange(3):
            case 0:
                stream = machine.broadcast.streams[self._victim]
                entry = self._entry(self._victim, stream.certified.count)
                header = entry.header
                echo = Echo(old.id, self._victim, header.seq, header.previous, header.digest)
                return Entries(self._signed_by_all(echo, old), (entry,))
            case 1:
                cut = Cut(epoch, ())
                vote = Vote(old.id, epoch, 0, Phase.FINALISE, cut.digest(old.id))
                return Epochs((DecidedEpoch(self._signed_by_all(vote, old), cut, None),))
            case _:
                vote = Vote(old.id, epoch, 0, Phase.SKIP, NO_HASH)
                return Notarised(self._signed_by_all(vote, old), None)

    def _signed_by_all(self, statement: Echo | Vote, committee: Committee) -> Certificate:
        signatures = {
            member: signer.sign(statement.digest)
            for member, signer in enumerate(self.world.signers)
        }
        return Certificate.of(statement, signatures, committee)

    def _lie(self) -> None:
        """Has its own machine append marks that are none, or before their time."""
        world, random = self.world, self.world.random
        machine = self.machine
        assert machine is not None, "only a running node lies"
        match random.randrange(4):
            case 0:
                height = len(world.heights) + random.randint(0, 3)
                self.give(ChainTip(height, random.randbytes(32)))
            case 1 if random.random() < 0.1:
                mark = Mark(random.randrange(9), random.randrange(9), NO_HASH)
                if machine.broadcast.room_for_marks > 0:
                    machine.broadcast.append(Kind.EPOCH_MARK, mark.encode(), first=True)
            case _:
                pass


class _Reckless(FaultyNode):
    """Goes on where an honest machine would see that its key is used elsewhere."""

    def start(self) -> None:
        """Starts it, without the checks of its own store."""
        super().start()
        machine = self.machine
        assert machine is not None, "it has just been started"
        vars(machine.seat.outlet)["halt"] = _shrug
        vars(machine.broadcast)["_heard"] = set(range(self.world.plan.n))


def _shrug(reason: str) -> None:
    del reason


class _Rewound(_Reckless):
    """Loses more in a crash than disks do, and crashes often: its signatures say so."""

    def crash(self) -> None:
        """Stops it, and puts its store back to some earlier time."""
        if self.machine is None:
            return
        super().crash()
        records = list(self.store.records())
        self.store = Store(self.world.committee)
        for record in records[: self.world.random.randint(0, len(records))]:
            self.store.write(record)
        self.store.sync(self.store.written)

    def mischief(self) -> None:
        """Crashes now and then, until faults are over."""
        super().mischief()
        world = self.world
        is_time = world.now < world.plan.calm_ms and world.random.random() < REWINDS
        if self.machine is not None and is_time:
            self.crash()
            world.after(world.random.randint(1, 500), self.start)


class Twins(FaultyNode):
    """Is two nodes with one key: some peers know one of them, some the other, some both."""

    def __init__(self, world: World, member: int, misdeeds: tuple[str, ...]) -> None:
        super().__init__(world, member, misdeeds)
        rest = tuple(each for each in misdeeds if each != "twins")
        self._twins = _Reckless(world, member, rest), _Reckless(world, member, rest)
        self._sides = [world.random.choice(((0, 1), (0,), (1,))) for _ in range(world.plan.n)]

    def _known_to(self, peer: int) -> list[_Reckless]:
        return [self._twins[side] for side in self._sides[peer]]

    @property
    def is_up(self) -> bool:
        """Whether they are running."""
        return self._twins[0].is_up

    def start(self) -> None:
        """Starts both."""
        for twin in self._twins:
            twin.start()

    def crash(self) -> None:
        """Stops both."""
        for twin in self._twins:
            twin.crash()

    def work(self) -> None:
        """Lets both work."""
        for twin in self._twins:
            twin.work()

    def connected(self, peer: int) -> None:
        """Tells whom the peer knows."""
        for twin in self._known_to(peer):
            twin.connected(peer)

    def disconnected(self, peer: int) -> None:
        """Tells both: a link that one of them closed is closed."""
        for twin in self._known_to(peer):
            twin.disconnected(peer)

    def received(self, sender: int, data: bytes) -> None:
        """Tells whom the peer knows."""
        for twin in self._known_to(sender):
            twin.received(sender, data)

    def mined(self, height: int) -> None:
        """Tells both."""
        for twin in self._twins:
            twin.mined(height)
