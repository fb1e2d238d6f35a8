"""Too few do nothing, and too few that are away stop nothing: what a quorum is, from both sides."""

import pytest
from federation_keys import Log

from radpool_sv2._native.threshold import (
    CHECKPOINT,
    Dealing,
    NoncePool,
    PublicKey,
    Round1,
    Round1Set,
    Round2,
    Run,
    Session,
)
from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.federation.dkg.generation import Generated
from radpool_sv2.testing.plan import Plan
from radpool_sv2.testing.simulator import World

MESSAGE = b"\x5e" * 32
HONEST = 3
"""The one of four whom the others need: three are a quorum, and it is the third."""


# A quorum less one.


@pytest.mark.parametrize("n", [4, 7])
def test_a_quorum_less_one_generates_no_key(n):
    """Not in sixty epochs in which the others say nothing; and epochs need the others too.

    spec: TK-33, TK-35, TK-36
    """
    log = Log(n, silent=set(range(n - (n - 1) // 3 - 1, n)))
    for _ in range(60):
        log.decide()
    assert log.all_of(Generated) == [[]] * n
    assert all(machine.attempt > 0 for machine in log.machines)


def test_whoever_leaves_a_member_out_of_a_key_has_none():
    """Three of four have each other's secrets, and one's first message: they lack its shares.

    spec: TK-10, TK-11, TK-14, TK-16
    """
    keys = Log().keys
    run = Run(b"\xc0" * 32, CHECKPOINT, 0, 3, [key.public for key in keys])
    dealings = [Dealing(run, index) for index in range(4)]
    with pytest.raises(LocalProtocolError):
        Round1Set(run, [Round1.decode(run, each, dealings[each].message) for each in range(3)])
    round1 = Round1Set(
        run, [Round1.decode(run, each, dealing.message) for each, dealing in enumerate(dealings)]
    )
    dealt, messages = zip(*(dealing.deal(round1) for dealing in dealings[:3]), strict=True)
    round2 = [Round2.decode(round1, each, message) for each, message in enumerate(messages)]
    with pytest.raises(LocalProtocolError):
        PublicKey.from_broadcast(round1, round2)
    # They say in its name what they like: it opens to nothing, and there is no share.
    head, boxes = messages[0][:64], messages[0][64:]
    made_up = Round2.decode(round1, HONEST, head + boxes)
    for each in dealt:
        share, complaints = each.finish([*round2, made_up])
        assert share is None
        assert [accused for accused, _ in complaints] == [HONEST]
    # The key is all the same what it would have been, and has no signature of it.
    public = PublicKey.from_broadcast(round1, [*round2, made_up])
    certificate = [key.sign(public.certificate_hash) for key in keys[:3]]
    assert public.unsigned_by([*certificate, None]) == [HONEST]


@pytest.mark.parametrize("n", [4, 7])
def test_a_quorum_less_one_signs_nothing(n):
    """spec: TK-22, TK-23, TK-24"""
    log = Log(n)
    for _ in range(4):
        log.decide()
    shares = [each.share for each in log.generated()]
    key, quorum = shares[0].public, log.committee.quorum
    pools = [NoncePool(share, 1) for share in shares[: quorum - 1]]
    commitments = [(each, pool.commit(1)[0]) for each, pool in enumerate(pools)]
    with pytest.raises(LocalProtocolError):
        Session(key, MESSAGE, commitments)
    # One of them stands in for the member that they lack, by a nonce of its own.
    stranger = quorum - 1
    spare = pools[0].commit(1)[0]
    with pytest.raises(LocalProtocolError):
        Session(key, MESSAGE, [*commitments, commitments[-1]])
    session = Session(key, MESSAGE, [*commitments, (stranger, spare)])
    answers = [(each, pool.sign(session)) for each, pool in enumerate(pools)]
    signature, cheaters = session.aggregate([*answers, (stranger, answers[0][1])])
    assert (signature, cheaters) == (None, [stranger])
    with pytest.raises(LocalProtocolError):
        pools[0].sign(Session(key, MESSAGE, [*commitments[1:], (stranger, spare)]))


@pytest.mark.parametrize("n", [4, 7, 10])
def test_a_quorum_less_one_delivers_and_decides_nothing(n):
    """The others come back in the end, and nothing was lost meanwhile.

    spec: FB-15, FA-10, FA-15
    """
    plan = quiet_plan(n, calm_ms=12_000)
    plan.blocks_ms = (1_000, 3_000)
    quorum = n - (n - 1) // 3
    plan.crashes = tuple((0, 10_000, member) for member in range(quorum - 1, n))
    world = World(plan)
    happened = watched(world)
    world.run()
    assert min(happened["delivered"]) > 10_000
    assert min(happened["decided"]) > 10_000
    assert world.checker.epochs == 2


# As many away as may be.


@pytest.mark.parametrize(("n", "seed"), [(4, 0), (4, 1), (4, 2), (7, 0), (10, 0)])
def test_as_many_away_as_may_be_stop_no_epoch(n, seed):
    """Whatever happened before: once messages come in time, epochs are certified one by one.

    spec: FA-10, FA-15, FA-16
    """
    plan = Plan.draw(seed, n, ())
    plan.byzantine, plan.view_timeout_ms, plan.grace_ms = {}, 1_500, 1_000
    calm, every = plan.calm_ms, 15_000
    away = range((n - 1) // 3)
    gone, back = calm + 1_000, calm + 6 * every
    plan.crashes += tuple((gone, back, member) for member in away)
    late = tuple(calm + every * each for each in range(1, 5))
    plan.blocks_ms += late
    world = World(plan)
    certified = {}
    checked = world.checker.certified

    def watch(member, certificate):
        certified.setdefault((certificate.statement.epoch, member), world.now)
        checked(member, certificate)

    world.checker.certified = watch
    world.run()
    first = len(plan.blocks_ms) - len(late)
    for number, mined in enumerate(late):
        for member in range(len(away), n):
            assert mined < certified[first + number, member] < mined + every


def quiet_plan(n, calm_ms):
    return Plan(seed=n, n=n, calm_ms=calm_ms, append_every_ms=1_500)


def watched(world):
    """Lists when honest members delivered and decided."""
    happened = {"delivered": [], "decided": []}
    for name, times in happened.items():
        look = getattr(world.checker, name)

        def watch(*told, look=look, times=times):
            times.append(world.now)
            look(*told)

        setattr(world.checker, name, watch)
    return happened
