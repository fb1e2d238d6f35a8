"""Members of a key that say whatever they like: the others sign, once by each nonce."""

from collections import defaultdict
from random import Random

import pytest
from test_federation_signing import CHECKPOINTS, SEVEN, TREASURIES, Table

from radpool_sv2._native.threshold import NoncePool
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.codec import U64_MAX, u64
from radpool_sv2.federation.effect import Close
from radpool_sv2.federation.signing.commitments import Published, encode_reset
from radpool_sv2.federation.signing.evidence import SignedShare
from radpool_sv2.federation.signing.message import Ask, Commit, Done, Invite, Open, Share
from radpool_sv2.federation.signing.signing import Accuse, Heard, Spent

SCALARS = (bytes(32), b"\1" * 32, b"\xff" * 32)


class Liar:
    """Makes messages and payloads of what it has seen, at the bounds and out of place."""

    def __init__(self, table, member, random):
        self.table, self.member, self.random = table, member, random
        self.key = table.log.keys[member]
        self.transcript = table.generated[0].public.transcript
        boot = random.choice((1, 2, 1 << 63, U64_MAX))
        self.pool = NoncePool(table.generated[member].share, boot)

    def of(self, kind):
        return [message for _, _, message in self.table.sent[-300:] if isinstance(message, kind)]

    def commitment(self):
        self.pool.wipe()
        given = [each.commitment for each in self.of(Commit)[-3:]]
        given += [each for opened in self.of(Open)[-2:] for _, each in opened.signers]
        return self.random.choice([*self.pool.commit(1), *given])

    def share(self, machine):
        scalar, number = self.random.choice(SCALARS), self.random.choice((0, 1, U64_MAX))
        sessions = [(0, each.first.session.id) for each in machine._tasks.values() if each.first]
        for each in machine._tasks.values():
            if each.coordinator is not None:
                pending = each.coordinator._pending.items()
                sessions += [(count, attempt.session.id) for count, attempt in pending]
        number, session = self.random.choice([*sessions, (number, bytes(32))])
        shown = [each.signed.share for each in self.of(Share)[-3:]]
        data = self.random.choice([session + scalar, *shown])
        following = self.random.choice((None, self.commitment()))
        return number, SignedShare.sign(self.key, data), following

    def message(self, machine):
        random, n = self.random, self.table.n
        task = random.choice([*machine._tasks, *list(machine._done)[-2:], bytes(32)])
        match random.randrange(6):
            case 0 | 1:
                return Share(task, *self.share(machine))
            case 2:
                return random.choice((Invite, Ask))(task)
            case 3:
                return Commit(task, self.commitment())
            case 4:
                numbers = (0, self.member + 1 << 48, (self.member + 1 << 48) + 7, 5 << 48, U64_MAX)
                places = random.sample(range(n), random.randrange(2, n + 1))
                signers = tuple((place, self.commitment()) for place in sorted(places))
                return Open(task, random.choice(numbers), signers)
            case _:
                return Done(task, bytes(64))

    def payload(self):
        slots = (0, 5, U64_MAX - 1, U64_MAX)
        made = u64(self.random.choice((1, 9, U64_MAX))) + u64(self.random.choice(slots))
        made += self.commitment().encode()[16:]
        return self.random.choice(
            (
                (Kind.COMMITMENTS, self.transcript + b"\1" + made),
                (Kind.COMMITMENTS, Published(self.transcript, tuple(self.pool.commit(3))).encode()),
                (Kind.NONCE_RESET, encode_reset(self.transcript, self.random.choice((3, U64_MAX)))),
                (Kind.SIGNING_EVIDENCE, made),
            )
        )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("keys", "liars"), [(CHECKPOINTS, {1}), (SEVEN, {2, 5}), (TREASURIES, {3})]
)
def test_honest_members_sign_whatever_the_others_say(keys, liars, seed):
    """spec: TK-29, TK-45, TK-50, TK-52"""
    random = Random(seed)
    table = Table(keys, quiet=liars if seed else ())
    crowd = [Liar(table, member, random) for member in sorted(liars)]
    honest = [member for member in range(table.n) if member not in liars]
    for _ in range(12):
        for liar in crowd:
            for _ in range(6):
                machine = table.machines[random.choice(honest)]
                machine.handle(Heard(liar.member, liar.message(machine)), table.now)
            if random.random() < 0.5:
                table.append(liar.member, *liar.payload())
        table.settle()
        if random.random() < 0.5:
            table.certify()
        table.wait(random.choice((0, 600, 3_000)))
        # What is kept behind each epoch can be written, whatever was published.
        assert all(machine.snapshot() for machine in table.machines)
    table.quiet = liars
    table.certify()
    table.wait(60_000)
    assert [table.machines[member].open_tasks for member in honest] == [0] * len(honest)
    sessions = defaultdict(set)
    for member in honest:
        for effect in table.seen[member]:
            if isinstance(effect, Spent):
                sessions[member, effect.commitment.encode()].add(effect.session)
            # Nobody is accused, and loses its link, but who lies.
            assert not isinstance(effect, Accuse | Close) or effect.member in liars
    assert sessions
    assert all(len(each) == 1 for each in sessions.values())
