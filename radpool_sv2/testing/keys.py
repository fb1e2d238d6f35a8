"""Is a world whose members generate a key and sign each checkpoint with it.

A node drives the machines of keys beside its member: what the store has decided and certified goes
in, what they append goes into the stream, and what they store is lost by a crash until it is
synced.
Faults beside those of the plan, which begin once a key is there:

    quiet   says nothing about signing
    lie     signs shares that do not hold

In worlds of even seeds members that come back go on from snapshots of their books, in the others
from all epochs.

What must hold: all honest members end in one key and the same signatures, each of which verifies;
no honest member is accused; and no nonce of an honest member signs in two sessions, through all of
its crashes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from hashlib import sha256
from random import Random
from typing import TYPE_CHECKING

from radpool_sv2._native.threshold import CHECKPOINT, IdentityKey
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.codec import CodecError
from radpool_sv2.federation.dkg.generation import (
    MEMBERS_MIN,
    Counted,
    Delivered,
    Failed,
    Generated,
    KeyFault,
    KeyGeneration,
    StoreShare,
)
from radpool_sv2.federation.dkg.message import KeyMessage, Step
from radpool_sv2.federation.effect import Append, Close, Deliver, LinkDown, LinkUp
from radpool_sv2.federation.record import Started
from radpool_sv2.federation.signing.evidence import SignedShare
from radpool_sv2.federation.signing.message import (
    Share,
    SigningMessage,
    decode_signing,
    encode_signing,
    is_signing,
)
from radpool_sv2.federation.signing.purpose import Certified
from radpool_sv2.federation.signing.signing import (
    CHECKPOINTS_OPEN_MAX,
    Accuse,
    CertifiedEpoch,
    Heard,
    Say,
    Signed,
    Signing,
    SigningLimits,
    Spent,
    StoreBoot,
)
from radpool_sv2.testing.fold import Fold
from radpool_sv2.testing.plan import Plan
from radpool_sv2.testing.simulator import Node, World, limits_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from radpool_sv2.federation.broadcast.entry import Entry
    from radpool_sv2.federation.effect import Effect
    from radpool_sv2.federation.signing.purpose import Spend

__all__ = ["FAULTS", "KEY_SIZES", "KeyNode", "KeyWorld"]

FAULTS = ("quiet", "lie", "deal")
KEY_SIZES = (4, 5, 7)

TICK_MS = 100
REST_MS = 600_000
BLOCK_MS = 4_000
LIMITS = SigningLimits(window=4, patience_ms=1_000, again_ms=2_000)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """Is what a node goes on from in the place of all epochs up to one."""

    epoch: int
    blob: bytes


def no_spends(epoch: int, state: bytes) -> Iterable[Spend]:  # noqa: ARG001 - it has none
    """Says that a state wants nothing spent."""
    return ()


class KeyWorld(World):
    """Is a world of members with keys.

    Args:
        plan: What happens; its members sign by BIP340.
        faults: What some members do about signing.
        patience: Epochs that an attempt to generate a key may take.
    """

    def __init__(self, plan: Plan, faults: dict[int, str] | None = None, patience: int = 3) -> None:
        plan.is_bip340 = True
        self.has_snapshots = plan.seed % 2 == 0
        self.faults = faults or {}
        self.patience = patience
        self.keys: set[bytes] = set()
        self.signatures: dict[bytes, int] = {}
        self.spent: dict[tuple[int, int, bytes], bytes] = {}
        self.accused: set[int] = set()
        super().__init__(plan, limits_of(plan))

    @classmethod
    def draw(cls, seed: int, n: int | None = None) -> KeyWorld:
        """Draws a world: delays, breaks, partitions, crashes, and who is silent or lies.

        Args:
            seed: Any number.
            n: How many members, instead of drawing it.
        """
        random = Random(f"keys {seed}")
        drawn = random.choices(KEY_SIZES, weights=(2, 1, 1))[0]
        n = drawn if n is None else n
        plan = Plan.draw(seed, n, ())
        every, count = random.choice((2_500, 4_000, 6_000)), random.randint(6, 12)
        plan.byzantine, plan.window = {}, 8
        plan.calm_ms = every * (count + 1)
        plan.blocks_ms = tuple(every * each for each in range(1, count + 1))
        crashes = []
        for _ in range(random.choice((0, 1, 4, 12))):
            at = random.randint(0, plan.calm_ms - 1)
            back = min(plan.calm_ms, at + random.randint(50, 6_000))
            crashes.append((at, back, random.randrange(n)))
        plan.crashes = tuple(sorted(crashes))
        faulty = random.sample(range(n), random.randint(0, (n - 1) // 3))
        # With four members nobody can be left out of a key for guilt: it fails, and says so.
        faults = FAULTS if n - len(faulty) >= MEMBERS_MIN else FAULTS[:2]
        return cls(plan, {member: random.choice(faults) for member in faulty})

    def _node(self, member: int) -> Node:
        return KeyNode(self, member)

    def run(self) -> None:
        """Lets the world go on until all is signed.

        Raises:
            CheckError: Something does not hold that must.
        """
        for node in self.key_nodes:
            self.at(0, node.tick)
        super().run()
        end = self.now + REST_MS
        honest = [node for node in self.key_nodes if node.me not in self.faults]
        while not all(node.is_done for node in honest):
            if self._lacks_signers():
                # Honest members were left out for silence, and dishonest ones stayed: spec 16 says
                # that such a key is generated again.
                return
            if self.now > end:
                self.checker.fail(f"not all is signed: {[n.what() for n in self.key_nodes]}")
            last = len(self.heights) - 1
            if any(n.generated is None or n.first_epoch == last for n in honest):
                # Attempts end by epochs, and something has to be signed: so it takes more of them.
                self._mine()
            self._run_until(self.now + BLOCK_MS)
        if len(self.keys) != 1:
            self.checker.fail(f"{len(self.keys)} keys were generated")
        # Who was away for longer may have let go of tasks that later ones took the place of.
        last = len(self.heights) - 1
        first = min(node.first_epoch for node in honest)
        epochs = range(max(first, last - CHECKPOINTS_OPEN_MAX), last)
        for node in honest:
            missing = set(epochs) - node.signed_at.keys()
            if missing:
                self.checker.fail(f"member {node.me} has no signatures of {sorted(missing)}")
        found = {fault.member for node in honest for fault in node.key_faults}
        if not self.accused | found <= self.faults.keys():
            self.checker.fail(f"honest members are accused: {self.accused | found}")

    def _lacks_signers(self) -> bool:
        generated = next((n.generated for n in self.key_nodes if n.generated is not None), None)
        if generated is None:
            return False
        honest = len(set(generated.members) - self.faults.keys())
        return honest < generated.public.run.threshold

    @property
    def key_nodes(self) -> list[KeyNode]:
        """The nodes, as what they are."""
        return [node for node in self.nodes if isinstance(node, KeyNode)]

    def nonce_spent(self, member: int, spent: Spent) -> None:
        """Looks at a nonce that an honest member signs by."""
        nonce = spent.commitment
        known = self.spent.setdefault((member, nonce.boot, nonce.encode()), spent.session)
        if known != spent.session:
            self.checker.fail(f"member {member} signed twice by nonce {nonce.boot}/{nonce.slot}")


class KeyNode(Node):
    """Is a node that drives the machines of keys too.

    Args:
        world: The world.
        member: Its number.
    """

    def __init__(self, world: KeyWorld, member: int) -> None:
        super().__init__(world, member)
        self.keyed = world
        self.identity = next(
            key
            for key in (
                IdentityKey.from_secret(
                    sha256(f"key {n} of world {world.plan.seed}".encode()).digest()
                )
                for n in range(world.plan.n)
            )
            if key.public == world.committee.members[member]
        )
        self.generation: KeyGeneration | None = None
        self.signing: Signing | None = None
        self.generated: Generated | None = None
        self.key_faults: list[KeyFault] = []
        self.shares: list[bytes] = []
        self.boot = 0
        self.snapshot: _Snapshot | None = None
        self.done: dict[bytes, bytes] = {}
        self.signed_at: dict[int, int] = {}
        self._waiting: deque[tuple[int, object]] = deque()
        self._is_storing = False
        self._ends: list[int] = []
        self._counted = 0
        self._certified = 0

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to be signed."""
        return (
            self.signing is not None
            and self.signing.open_tasks == 0
            and not self._waiting
            and not self._is_storing
            and self._certified == len(self.world.heights) - 1
        )

    @property
    def first_epoch(self) -> int:
        """The first epoch whose checkpoint is signed."""
        return 0 if self.generated is None else self.generated.epoch + 1

    def what(self) -> str:
        """Tells how far it is."""
        tasks = -1 if self.signing is None else self.signing.open_tasks
        attempt = -1 if self.generation is None else self.generation.attempt
        return f"{self.me}: counted {self._counted}, attempt {attempt}, {tasks} open"

    # Life.

    def start(self) -> None:
        """Starts it, with what its disk remembers."""
        if self.machine is not None:
            return
        world = self.keyed
        self.signing = self.generated = None
        self._ends, self._counted, self._certified = [0] * world.plan.n, 0, 0
        self.generation = KeyGeneration(
            world.committee,
            self.identity,
            CHECKPOINT,
            epoch_first=0,
            patience=world.patience,
        )
        epochs = []
        while (entries := self._entries(self._counted)) is not None:
            epochs.append(Counted(self._counted, entries))
            self._count()
        self.generation.restore(self.shares, epochs, self._rest())
        super().start()
        self._drive()

    def crash(self) -> None:
        """Stops it: all is lost that was not synced."""
        super().crash()
        self._waiting.clear()
        self._is_storing = False
        self.generation = self.signing = None

    def _condense(self) -> None:
        """Keeps everything: a key is generated from all epochs again at a start."""

    def _cut(self, epoch: int) -> list[tuple[int, int]] | None:
        decided = self.store.epoch(epoch)
        if decided is None:
            return None
        return [(ending.member, ending.seq + 1) for ending in decided.cut.endings]

    def _entries(self, epoch: int) -> list[Entry] | None:
        """Returns what an epoch consists of, if the store has all of it."""
        found = []
        for member, end in self._cut(epoch) or ():
            for seq in range(self._ends[member], end):
                entry = self.store.entry(member, seq)
                if entry is None:
                    return None
                found.append(entry)
        return found or None

    def _count(self) -> None:
        for member, end in self._cut(self._counted) or ():
            self._ends[member] = end
        self._counted += 1

    def _rest(self) -> list[Entry]:
        rest = []
        for member, end in enumerate(self._ends):
            seq = end
            while (entry := self.store.entry(member, seq)) is not None:
                rest.append(entry)
                seq += 1
        return rest

    # What it is told.

    def tick(self) -> None:
        """Looks at its clock and its store."""
        if self.machine is not None:
            self._advance()
            if self.signing is not None and self.signing.next_deadline() <= self.clock():
                self.signing.handle_deadline(self.clock())
            self._drive()
        self.world.after(TICK_MS, self.tick)

    def connected(self, peer: int) -> None:
        """Is told that a link is up."""
        super().connected(peer)
        self._sign(LinkUp(peer))

    def disconnected(self, peer: int) -> None:
        """Is told that a link is down."""
        super().disconnected(peer)
        self._sign(LinkDown(peer))

    def received(self, sender: int, data: bytes) -> None:
        """Is given bytes by a peer."""
        if not is_signing(data):
            super().received(sender, data)
            return
        try:
            message = decode_signing(data)
        except CodecError:
            self.world.checker.closed(self.me, sender, "encoding")
            return
        self._sign(Heard(sender, message))

    def perform(self, effect: Effect, generation: int) -> None:
        """Does what the machines want done."""
        super().perform(effect, generation)
        if isinstance(effect, Deliver) and self.generation is not None:
            self.generation.handle(Delivered(effect.entry), self.clock())
            self._drive()

    def _sign(self, event: Heard | LinkUp | LinkDown | CertifiedEpoch) -> None:
        if self.signing is not None:
            self.signing.handle(event, self.clock())
            self._drive()

    def _advance(self) -> None:
        """Tells the machines what has been decided and certified."""
        while self.generation is not None and (entries := self._entries(self._counted)) is not None:
            self.generation.handle(Counted(self._counted, entries), self.clock())
            self._count()
            self._drive()
        while (event := self._next_certified()) is not None:
            if self.signing is not None:
                self._sign(event)
                if self.keyed.has_snapshots:
                    epoch = event.certified.epoch
                    self._waiting.append((0, _Snapshot(epoch, self.signing.snapshot())))
                    self._work_off()

    def _next_certified(self) -> CertifiedEpoch | None:
        if self.generated is None or self.signing is None:
            return None
        known = -1 if self.snapshot is None else self.snapshot.epoch
        self._certified = max(self._certified, known + 1)
        epoch = max(self._certified, self.generated.epoch + 1)
        event = self._certified_epoch(epoch)
        if event is not None:
            self._certified = epoch + 1
        return event

    def _certified_epoch(self, epoch: int) -> CertifiedEpoch | None:
        decided, world = self.store.epoch(epoch), self.world
        if decided is None or decided.checkpoint is None or epoch not in self.states:
            return None
        endings, ends, entries = {}, [0] * world.plan.n, []
        for each in range(epoch + 1):
            cut = self.store.epoch(each)
            assert cut is not None, "epochs are decided in order"
            for ending in cut.cut.endings:
                if each == epoch:
                    seqs = range(ends[ending.member], ending.seq + 1)
                    entries += [self._stored(ending.member, seq) for seq in seqs]
                ends[ending.member] = ending.seq + 1
                endings[ending.member] = each, ending
        start = Started(epoch + 1, tuple(each for _, each in sorted(endings.items())))
        certified = Certified.verify(
            world.committee,
            world.verifier,
            Fold(),
            decided.checkpoint,
            start,
            self.states[epoch],
        )
        return CertifiedEpoch(entries, certified)

    # What it does.

    def _drive(self) -> None:
        for machine in (self.generation, self.signing):
            while machine is not None and (effect := machine.poll()) is not None:
                peer = effect.member if isinstance(effect, Say) else None
                link = 0 if peer is None else self.world.generation(self.me, peer)
                self._waiting.append((link, effect))
        self._work_off()

    def _work_off(self) -> None:
        while self._waiting and not self._is_storing and self.machine is not None:
            link, effect = self._waiting[0]
            if isinstance(effect, Append):
                if self.machine.broadcast.waiting >= self.world.limits.append_queue:
                    return
                self._waiting.popleft()
                self.give(self._dealt(effect))
                continue
            self._waiting.popleft()
            if isinstance(effect, StoreShare | StoreBoot | Signed | _Snapshot):
                self._store(effect)
            else:
                self._do(link, effect)

    def _dealt(self, effect: Append) -> Append:
        """Returns what is appended of it: whoever deals wrongly spoils its last box."""
        if self.keyed.faults.get(self.me) != "deal" or effect.kind != Kind.KEY_GENERATION:
            return effect
        message = KeyMessage.decode(effect.payload)
        if message.step is not Step.SECOND:
            return effect
        wrong = bytes([message.body[-1] ^ 1])
        return Append(effect.kind, replace(message, body=message.body[:-1] + wrong).encode())

    def _store(self, effect: StoreShare | StoreBoot | Signed | _Snapshot) -> None:
        self._is_storing = True
        life = self.life

        def synced() -> None:
            if self.life != life or self.machine is None:
                return
            self._is_storing = False
            match effect:
                case StoreShare(_, sealed):
                    self.shares.append(sealed)
                case StoreBoot(boot):
                    assert boot > self.boot, "the boot counter goes up"
                    self.boot = boot
                case _Snapshot():
                    self.snapshot = effect
                case Signed(task, signature):
                    self.done[task.id] = signature
                    self.signed_at.setdefault(task.epoch, self.world.now)
                    self._verify(effect)
            self._work_off()

        self.world.after(self.world.random.randint(*self.world.plan.disk_ms), synced)

    def _verify(self, signed: Signed) -> None:
        assert self.generated is not None, "only a key signs"
        self.generated.public.verify(signed.task.message, signed.signature)

    def _do(self, link: int, effect: object) -> None:
        world = self.keyed
        is_honest = self.me not in world.faults
        match effect:
            case Say(member, message):
                self._say(member, message, link)
            case Spent() if is_honest:
                world.nonce_spent(self.me, effect)
            case Accuse(member, _):
                world.accused.add(member)
            case Close(member, reason) if is_honest:
                world.checker.closed(self.me, member, reason)
            case KeyFault():
                self.key_faults.append(effect)
            case Failed(_, reason):
                world.checker.fail(f"member {self.me}: {reason}")
            case Generated():
                self._generated(effect)

    def _generated(self, generated: Generated) -> None:
        world = self.keyed
        world.keys.add(generated.public.transcript)
        self.generated = generated
        self.signing = Signing(
            generated,
            self.me,
            self.identity,
            world.verifier,
            no_spends,
            boot=self.boot,
            limits=LIMITS,
        )
        epochs = []
        while (event := self._next_certified()) is not None:
            epochs.append(event)
        blob = None if self.snapshot is None else self.snapshot.blob
        self.signing.restore(epochs, self.done, self.clock(), blob)
        for peer in range(world.plan.n):
            if peer != self.me and world.is_linked(self.me, peer):
                self.signing.handle(LinkUp(peer), self.clock())
        self._drive()

    def _say(self, to: int, message: SigningMessage, link: int) -> None:
        fault = self.keyed.faults.get(self.me)
        if fault == "quiet":
            return
        if fault == "lie" and isinstance(message, Share):
            wrong = bytearray(message.signed.share)
            wrong[-1] ^= 1
            message = replace(message, signed=SignedShare.sign(self.identity, bytes(wrong)))
        self.world.transmit(self.me, to, encode_signing(message), link)
