"""A member of a committee with no network: it is told everything, and what it does is listed."""

from dataclasses import dataclass, field, replace
from hashlib import sha256

from radpool_sv2.federation import messages
from radpool_sv2.federation.agreement.mark import Mark
from radpool_sv2.federation.broadcast.entry import START, Entry
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.certificate import Certificate
from radpool_sv2.federation.committee import Committee
from radpool_sv2.federation.effect import Limits, LinkUp, Persist, Received, Send
from radpool_sv2.federation.member import Member
from radpool_sv2.federation.messages import Said, SentEntry, Sync, decode_message, encode_message
from radpool_sv2.federation.record import decode_record, encode_record
from radpool_sv2.federation.statement import Echo
from radpool_sv2.testing.signatures import keyed_signers

LIMITS = Limits(
    segment_bytes_max=4_096,
    payload_bytes_max=1_024,
    append_queue=16,
    pull_delay_ms=100,
    pull_timeout_ms=1_000,
    ready_interval_ms=50,
    grace_ms=500,
    view_timeout_ms=1_000,
    view_timeout_max_ms=4_000,
)


def committee_of(n, *, seed=0, **more):
    signers, verifier = keyed_signers(n, seed)
    keys = tuple(signer.public for signer in signers)
    more = {"height_first": 1} | more
    return Committee(sha256(b"a chain").digest(), 0, keys, **more), signers, verifier


@dataclass
class Rig:
    """Member `me` of a committee of n; all others are signers whose words are put together here."""

    n: int = 4
    me: int = 0
    limits: Limits = LIMITS
    linked: bool = True
    records: list = field(default_factory=list)

    def __post_init__(self):
        self.committee, self.signers, self.verifier = committee_of(self.n)
        self.now = 1_000
        self.member = Member(self.committee, self.signers[self.me], self.verifier, self.limits)
        self.effects = []
        kept, self.records = self.records, []
        self.member.restore([decode_record(each, self.committee) for each in kept], self.now)
        self.records = list(kept)
        self.drain()
        if self.linked:
            for peer in self.others:
                self.link(peer)
            self.effects.clear()

    @property
    def others(self):
        return [each for each in range(self.n) if each != self.me]

    def again(self, **more):
        """The member after a crash in which nothing was lost that was written down."""
        return Rig(n=self.n, me=self.me, limits=self.limits, records=self.records, **more)

    def drain(self):
        while (effect := self.member.poll()) is not None:
            if isinstance(effect, Persist):
                self.records.append(encode_record(effect.record))
                assert decode_record(self.records[-1], self.committee) == effect.record
            self.effects.append(effect)

    def give(self, event):
        self.member.handle(event, self.now)
        self.drain()

    def wait(self, ms):
        """Lets time go by, deadline after deadline."""
        end = self.now + ms
        while self.member.next_deadline() <= end:
            self.now = max(self.now, self.member.next_deadline())
            self.member.handle_deadline(self.now)
            self.drain()
        self.now = end

    def link(self, peer, *, heads=(), decided=0, certified=0, latest=None):
        self.give(LinkUp(peer))
        self.receive(peer, Sync(heads, decided, certified, latest))

    def receive(self, peer, message):
        data = encode_message(message)
        self.give(Received(peer, decode_message(data, self.committee)))

    def take(self, kind):
        """Takes the effects of a kind out of the list; messages with whom they are for."""
        if kind in SENT:
            found = [
                (each.member, each.message)
                for each in self.effects
                if isinstance(each, Send) and isinstance(each.message, kind)
            ]
            self.effects = [
                each
                for each in self.effects
                if not (isinstance(each, Send) and isinstance(each.message, kind))
            ]
            return found
        found = [each for each in self.effects if isinstance(each, kind)]
        self.effects = [each for each in self.effects if not isinstance(each, kind)]
        return found

    # What others would say.

    def said(self, member, statement):
        return Said(statement, self.signers[member].sign(statement.digest))

    def entry(self, sender, position=START, payload=b"x", kind=Kind.SHARE_BATCH):
        return Entry.sign(self.committee, sender, self.signers[sender], position, (kind, payload))

    def mark(self, sender, epoch, position=START, /, **wrong):
        mark = replace(Mark(epoch, self.committee.height_of(epoch), bytes(32)), **wrong)
        return self.entry(sender, position, mark.encode(), Kind.EPOCH_MARK)

    def entries(self, sender, count, position=START, payload=b"x"):
        entries = []
        for _ in range(count):
            entries.append(self.entry(sender, position, payload))
            position = position.after(entries[-1])
        return entries

    def echo(self, entry):
        header = entry.header
        return Echo(header.committee, header.sender, header.seq, header.previous, header.digest)

    def certificate(self, statement, members=None):
        members = range(self.committee.quorum) if members is None else members
        signatures = {each: self.signers[each].sign(statement.digest) for each in members}
        return Certificate.of(statement, signatures, self.committee)

    def offer(self, entry):
        self.receive(entry.header.sender, SentEntry(entry))

    def certify(self, entry, members=None):
        """Lets others echo an entry until it is certified."""
        for each in self.others if members is None else members:
            self.receive(each, self.said(each, self.echo(entry)))

    def deliver(self, entry):
        self.offer(entry)
        self.certify(entry)

    def stream(self, sender):
        return self.member.broadcast.streams[sender]


SENT = (
    messages.Entries,
    messages.Epochs,
    messages.Notarised,
    messages.Propose,
    messages.Pull,
    messages.PullEpochs,
    messages.Ready,
    messages.Said,
    messages.SentEntry,
    messages.Sync,
)
