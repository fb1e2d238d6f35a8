"""Says whether a world is as it must be, as it happens and when it has come to rest.

agreement     no two honest members deliver different entries of one number
order         an honest member delivers each stream in order, without gap, once
one word      an honest member signs one statement per slot, through all its crashes
one cut       an epoch has one decision, and one certified root
one state     honest members have the same segments and sign the same root
exactly once  every entry is in at most one epoch's segment, and none is left out before it
no blame      no evidence is against an honest member, and all of it convinces anyone
no stop       no honest member halts, and none closes a link to another for what it sent
totality      at rest, what one honest member has delivered all have
liveness      at rest, all that honest members appended is delivered, all epochs are decided and
              their roots certified
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from radpool_sv2.federation.evidence import Evidence
from radpool_sv2.federation.messages import Propose, Said, SentEntry
from radpool_sv2.federation.statement import StateRoot

if TYPE_CHECKING:
    from typing import NoReturn

    from radpool_sv2.federation.agreement.mark import Cut
    from radpool_sv2.federation.broadcast.entry import Entry
    from radpool_sv2.federation.certificate import Certificate
    from radpool_sv2.federation.effect import Segment
    from radpool_sv2.federation.messages import Message
    from radpool_sv2.federation.statement import Statement
    from radpool_sv2.testing.simulator import World

__all__ = ["CheckError", "Checker"]


class CheckError(AssertionError):
    """Says what does not hold in a world."""


class Checker:
    """Watches a world.

    Args:
        world: The world.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        plan = world.plan
        self.honest = [member for member in range(plan.n) if member not in plan.byzantine]
        self._is_honest = [member not in plan.byzantine for member in range(plan.n)]
        self._entries: dict[tuple[int, int], bytes] = {}
        self._delivered = [[0] * plan.n for _ in range(plan.n)]
        self._said: dict[tuple[int, int, tuple[int, ...]], Statement] = {}
        self._cuts: dict[int, Cut] = {}
        self._roots: dict[int, bytes] = {}
        self._segments: dict[int, tuple[Segment, ...]] = {}
        self._ends = [0] * plan.n
        self.evidence: list[Evidence] = []
        self.closes: list[tuple[int, int, str]] = []

    @property
    def entries(self) -> int:
        """How many entries honest members have delivered, each counted once."""
        return len(self._entries)

    @property
    def epochs(self) -> int:
        """How many epochs have been decided."""
        return len(self._cuts)

    def fail(self, what: str) -> NoReturn:
        """Ends the world.

        Raises:
            CheckError: Always.
        """
        raise CheckError(f"at {self._world.now} ms: {what}\n{self._world.plan.describe()}")

    # As it happens.

    def sent(self, member: int, message: Message) -> None:
        """Looks at what an honest member sends."""
        if not self._is_honest[member]:
            return
        if isinstance(message, Said):
            self._one_word(member, message.statement)
        elif isinstance(message, SentEntry):
            self._one_word(member, message.entry.header)
        elif isinstance(message, Propose):
            self._one_word(member, message.proposal)

    def _one_word(self, member: int, statement: Statement) -> None:
        known = self._said.setdefault((member, statement.NUMBER, statement.slot), statement)
        if known is not statement and known != statement:
            self.fail(f"honest member {member} signed both {known} and {statement}")

    def delivered(self, member: int, entry: Entry) -> None:
        """Looks at what a member delivers."""
        if not self._is_honest[member]:
            return
        header = entry.header
        count = self._delivered[member][header.sender]
        if header.seq != count:
            self.fail(
                f"member {member} delivered entry {header.seq} of member {header.sender} in the "
                f"place of {count}"
            )
        self._delivered[member][header.sender] = count + 1
        known = self._entries.setdefault((header.sender, header.seq), header.digest)
        if known != header.digest:
            self.fail(
                f"member {member} delivered another entry {header.seq} of member {header.sender} "
                "than another honest member did"
            )

    def crashed(self, member: int) -> None:
        """Takes in that a member has forgotten what was not durable."""
        store = self._world.nodes[member].store
        for sender in range(self._world.plan.n):
            count = self._delivered[member][sender]
            while store.entry(sender, count) is not None:
                count += 1
            self._delivered[member][sender] = count

    def decided(self, member: int, certificate: Certificate, cut: Cut) -> None:
        """Looks at a decision."""
        if not self._is_honest[member]:
            return
        certificate.verify(self._world.committee, self._world.verifier)
        known = self._cuts.setdefault(cut.epoch, cut)
        if known != cut:
            self.fail(f"epoch {cut.epoch} was decided twice: {known} and {cut}")
        if len(cut.endings) < self._world.plan.n - self._world.committee.faulty_max:
            self.fail(f"epoch {cut.epoch} was decided for {len(cut.endings)} members only")

    def applied(self, member: int, epoch: int, segments: tuple[Segment, ...]) -> None:
        """Looks at what an epoch consists of."""
        if not self._is_honest[member]:
            return
        if epoch in self._segments:
            if self._segments[epoch] != segments:
                self.fail(f"member {member} has other segments of epoch {epoch} than another")
            return
        if epoch != len(self._segments):
            self.fail(f"epoch {epoch} was applied before epoch {len(self._segments)}")
        self._segments[epoch] = segments
        for segment in segments:
            if segment.first != self._ends[segment.member] or segment.end <= segment.first:
                self.fail(
                    f"epoch {epoch} has entries {segment.first} to {segment.end} of member "
                    f"{segment.member}, behind {self._ends[segment.member]}"
                )
            self._ends[segment.member] = segment.end

    def certified(self, member: int, certificate: Certificate) -> None:
        """Looks at a checkpoint."""
        root = certificate.statement
        if not self._is_honest[member] or not isinstance(root, StateRoot):
            return
        certificate.verify(self._world.committee, self._world.verifier)
        known = self._roots.setdefault(root.epoch, root.root)
        if known != root.root:
            self.fail(f"epoch {root.epoch} has two certified roots")

    def blamed(self, member: int, offender: int, evidence: Evidence) -> None:
        """Looks at an accusation."""
        if not self._is_honest[member]:
            return
        if self._is_honest[offender]:
            self.fail(f"member {member} accuses honest member {offender}: {evidence}")
        Evidence.decode(evidence.encode()).verify(self._world.committee, self._world.verifier)
        self.evidence.append(evidence)

    def closed(self, member: int, peer: int, reason: str) -> None:
        """Looks at a link that was closed for what the peer sent."""
        self.closes.append((member, peer, reason))
        if self._is_honest[member] and self._is_honest[peer]:
            self.fail(f"member {member} closes the link of honest member {peer}: {reason}")

    def halted(self, member: int, reason: str) -> None:
        """Looks at a member that stops."""
        if self._is_honest[member]:
            self.fail(f"honest member {member} halts: {reason}")

    # At rest.

    def is_at_rest(self) -> bool:
        """Says whether nothing is left to be done."""
        return self.unrest() is None

    def unrest(self) -> str | None:  # noqa: PLR0911 - one reason each
        """Says what is left to be done, if anything is."""
        world = self._world
        ended = world.committee.epochs_ended(len(world.heights) - 1)
        machines = []
        for member in self.honest:
            machine = world.nodes[member].machine
            if machine is None or world.nodes[member].height < len(world.heights) - 1:
                return f"member {member} is not up, or behind its chain"
            machines.append((member, machine))
        first = machines[0][1]
        for member, machine in machines:
            broadcast = machine.broadcast
            if not world.nodes[member].is_idle:
                return f"member {member} waits for its disk"
            if broadcast.waiting or broadcast.own.tip() != broadcast.own.certified:
                return f"entries of member {member} are not certified"
            if (machine.epochs.decided, machine.checkpoints.certified) != (ended, ended):
                return (
                    f"member {member} has decided {machine.epochs.decided} and certified "
                    f"{machine.checkpoints.certified} of {ended} epochs"
                )
            if machine.checkpoints.applied != ended:
                return f"member {member} has applied {machine.checkpoints.applied} epochs"
            for stream, other in zip(broadcast.streams, first.broadcast.streams, strict=True):
                if stream.certified != other.certified:
                    return (
                        f"members {member} and {machines[0][0]} differ about the stream of member "
                        f"{stream.sender}: {stream.certified} and {other.certified}"
                    )
        return None

    def finish(self) -> None:
        """Looks at the world at rest.

        Raises:
            CheckError: Something is missing.
        """
        world = self._world
        for member in self.honest:
            node = world.nodes[member]
            machine = node.machine
            assert machine is not None, "it is at rest"
            for stream in machine.broadcast.streams:
                if self._delivered[member][stream.sender] != stream.certified.count:
                    self.fail(f"member {member} has certified entries that it did not deliver")
            if machine.checkpoints.applied != len(self._segments):
                self.fail(f"member {member} has not applied all epochs")
