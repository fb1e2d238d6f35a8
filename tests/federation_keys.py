"""Members that generate keys and sign, over a broadcast that needs no network."""

from dataclasses import dataclass, field
from hashlib import sha256

from radpool_sv2._native.threshold import CHECKPOINT, IdentityKey
from radpool_sv2.federation.broadcast.entry import START, Entry
from radpool_sv2.federation.committee import Committee
from radpool_sv2.federation.dkg.generation import (
    Counted,
    Delivered,
    Failed,
    Generated,
    KeyFault,
    KeyGeneration,
    StoreShare,
)
from radpool_sv2.federation.dkg.message import KeyMessage
from radpool_sv2.federation.effect import Append


def identities(n):
    keys = [IdentityKey.from_secret(sha256(b"member %d" % each).digest()) for each in range(n)]
    return sorted(keys, key=lambda key: key.public)


def committee_of(keys):
    return Committee(sha256(b"a chain").digest(), 0, tuple(key.public for key in keys), 1)


@dataclass
class Log:
    """Streams of n members: what is said in them, and where decided epochs end."""

    n: int = 4
    patience: int = 3
    purpose: int = CHECKPOINT
    silent: set = field(default_factory=set)
    spoil: object = None

    def __post_init__(self):
        self.keys = identities(self.n)
        self.committee = committee_of(self.keys)
        self.streams = [[] for _ in range(self.n)]
        self.tips = [START] * self.n
        self.ends = [0] * self.n
        self.epochs = []
        self.stored = [[] for _ in range(self.n)]
        self.seen = [[] for _ in range(self.n)]
        self.order = [[] for _ in range(self.n)]
        self.machines = [self.machine(member) for member in range(self.n)]
        for machine in self.machines:
            machine.restore([], [], [])
        self.settle()

    def machine(self, member):
        return KeyGeneration(
            self.committee,
            self.keys[member],
            self.purpose,
            epoch_first=0,
            patience=self.patience,
        )

    def append(self, member, kind, payload):
        entry = Entry.sign(
            self.committee, member, self.keys[member], self.tips[member], (kind, payload)
        )
        self.tips[member] = self.tips[member].after(entry)
        self.streams[member].append(entry)
        for machine in self.machines:
            if machine is not None:
                machine.handle(Delivered(entry), 0)

    def settle(self):
        """Performs effects until there are none."""
        going = True
        while going:
            going = False
            for member, machine in enumerate(self.machines):
                while machine is not None and (effect := machine.poll()) is not None:
                    going = True
                    self.perform(member, effect)

    def perform(self, member, effect):
        if isinstance(effect, Append):
            self.order[member].append(KeyMessage.decode(effect.payload).step)
            if member in self.silent:
                return
            payload = effect.payload
            if self.spoil is not None:
                message = KeyMessage.decode(payload)
                payload = self.spoil(member, message)
                payload = payload and payload.encode()
            if payload is not None:
                self.append(member, effect.kind, payload)
        elif isinstance(effect, StoreShare):
            self.order[member].append("store")
            self.stored[member].append(effect.sealed)
        else:
            self.seen[member].append(effect)

    def decide(self, without=()):
        """Decides an epoch of all that has been said, but for what some members said."""
        entries = []
        for member, stream in enumerate(self.streams):
            if member not in without:
                entries += stream[self.ends[member] :]
                self.ends[member] = len(stream)
        counted = Counted(len(self.epochs), entries)
        self.epochs.append(counted)
        for machine in self.machines:
            if machine is not None:
                machine.handle(counted, 0)
        self.settle()

    def crash(self, member):
        self.machines[member] = None

    def back(self, member):
        machine = self.machine(member)
        rest = [
            entry
            for sender, stream in enumerate(self.streams)
            for entry in stream[self.ends[sender] :]
        ]
        machine.restore(self.stored[member], self.epochs, rest)
        self.machines[member] = machine
        self.settle()

    def all_of(self, kind):
        return [[each for each in seen if isinstance(each, kind)] for seen in self.seen]

    def generated(self):
        """The one key that all running members have generated."""
        found = self.all_of(Generated)
        alive = [each for each, machine in zip(found, self.machines, strict=True) if machine]
        assert all(len(each) == 1 for each in alive)
        assert len({(each[0].epoch, each[0].public.transcript) for each in alive}) == 1
        return [each[0] if each else None for each in found]

    def faults(self):
        """What all members say of who is at fault."""
        found = self.all_of(KeyFault)
        assert all(each == found[0] for each in found)
        return [(each.member, each.attempt, each.fault) for each in found[0]]

    def failed(self):
        return self.all_of(Failed)
