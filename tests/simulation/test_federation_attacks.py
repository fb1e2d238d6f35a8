"""Attacks that work on what was published, and what becomes of them here."""

import sys
from collections import deque
from pathlib import Path

import pytest
from federation_rig import Rig, committee_of

from radpool_sv2.errors import LocalProtocolError, RemoteProtocolError
from radpool_sv2.federation.broadcast.entry import START, Entry
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.certificate import Certificate
from radpool_sv2.federation.effect import Append, Blame, Close, Deliver, Send
from radpool_sv2.federation.messages import Entries, SentEntry
from radpool_sv2.federation.statement import StateRoot
from radpool_sv2.testing.plan import Plan
from radpool_sv2.testing.simulator import World

sys.path.insert(0, str(Path(__file__).parent))

from published_federation import EchoBroadcast, committee_by_hashrate, settle_by_prefix

FAULTY = 3


def circle():
    """Three honest members of four, linked with one another; member 3 is whoever attacks."""
    return [Rig(me=each) for each in range(3)]


def settle(rigs):
    """Carries messages between the honest members until there are none."""
    delivered = {rig.me: [] for rig in rigs}
    flying = deque()
    for _ in range(1_000):
        for rig in rigs:
            delivered[rig.me] += [each.entry for each in rig.take(Deliver)]
            flying += [(rig.me, each.member, each.message) for each in rig.take(Send)]
        if not flying:
            return delivered
        sender, to, message = flying.popleft()
        if to != FAULTY:
            rigs[to].receive(sender, message)
    raise AssertionError("they do not come to rest")


def test_contents_of_echoes_that_nobody_compares():
    """An equivocating sender makes honest members of the published broadcast differ.

    spec: FB-10, FB-15, FB-16
    """
    names = ["a", "b", "c", "mallory"]
    members = {name: EchoBroadcast(set(names) - {name}) for name in names[:3]}
    for name, content in (("a", b"one"), ("b", b"two"), ("c", b"two")):
        members[name].receive(7, "mallory", content)
    for name, member in members.items():
        for peer in members:
            if peer != name:
                member.echo(7, peer)
    assert [members[name].delivered["mallory"] for name in names[:3]] == [b"one", b"two", b"two"]

    # Here: each echoes what it was sent, two against one is no quorum without the liar, and with
    # its echo one of them is certified, for all.
    for helps in (False, True):
        rigs = circle()
        one, two = rigs[0].entry(FAULTY, payload=b"one"), rigs[0].entry(FAULTY, payload=b"two")
        for rig, entry in zip(rigs, (one, two, two), strict=True):
            rig.offer(entry)
            if helps:
                # It even echoes to each what it sent to it.
                rig.receive(FAULTY, rig.said(FAULTY, rig.echo(entry)))
        settle(rigs)
        for rig in rigs:
            rig.wait(10_000)
        counts = [rig.stream(FAULTY).certified for rig in rigs]
        assert len({each.digest for each in counts if each.count}) == int(helps)


def test_an_equivocating_sender_is_found_out_by_whoever_sees_both():
    """spec: FB-23"""
    rigs = circle()
    one, two = rigs[0].entry(FAULTY, payload=b"one"), rigs[0].entry(FAULTY, payload=b"two")
    for rig, entry in zip(rigs, (one, two, two), strict=True):
        rig.offer(entry)
        rig.receive(FAULTY, rig.said(FAULTY, rig.echo(two)))
    settle(rigs)
    for rig in rigs:
        rig.wait(1_000)
    settle(rigs)
    certificate = rigs[0].certificate(rigs[0].echo(two), [1, 2, 3])
    for rig in rigs[1:]:
        assert rig.stream(FAULTY).certified.digest == two.header.digest
    # Member 0 has echoed the other; it is shown the certificate, follows it, and has both.
    rigs[0].receive(1, Entries(certificate, (two,)))
    assert rigs[0].stream(FAULTY).certified.digest == two.header.digest
    [blame] = rigs[0].take(Blame)
    blame.evidence.verify(rigs[1].committee, rigs[1].verifier)


def test_a_sender_that_is_who_it_says():
    """A peer of the published broadcast puts a message into another's mouth.

    spec: FB-9
    """
    victim = EchoBroadcast({"honest", "mallory"})
    victim.receive(1, "honest", b"a true round")
    victim.echo(1, "mallory")
    assert victim.delivered == {"honest": b"a true round"}
    victim.receive(2, "honest", b"a forged round")
    victim.echo(2, "mallory")
    assert victim.delivered == {"honest": b"a forged round"}

    # Here: neither over the liar's link, nor with its signature, nor in an echo of its own.
    rig = Rig()
    forged = Entry.sign(
        rig.committee, 1, rig.signers[FAULTY], START, (Kind.KEY_GENERATION, b"a forged round")
    )
    genuine = rig.entry(1, payload=b"a true round", kind=Kind.KEY_GENERATION)
    for entry in (forged, genuine):
        rig.receive(FAULTY, SentEntry(entry))
        assert [each.member for each in rig.take(Close)] == [FAULTY]
    rig.receive(FAULTY, rig.said(1, rig.echo(forged)))
    assert [each.member for each in rig.take(Close)] == [FAULTY]
    rig.receive(FAULTY, rig.said(FAULTY, rig.echo(forged)))
    assert rig.take(Deliver) == []
    rig.deliver(genuine)
    assert [each.entry for each in rig.take(Deliver)] == [genuine]


def test_a_broadcast_without_a_cut():
    """Honest members settle by what they have delivered at one moment, and differ; nobody lies.

    spec: FA-5, FA-15, FA-16
    """
    plan = Plan.draw(2, 4, ())
    plan.byzantine, plan.crashes, plan.partitions = {}, (), ()
    plan.delay_ms, plan.append_every_ms, plan.blocks_ms = (1, 300), 300, (1_000, 3_000)
    world = World(plan)
    differed = 0
    checked = world.checker.certified

    def settle_now(member, certificate):
        nonlocal differed
        settlements = {settle_by_prefix(prefixes(node)) for node in world.nodes}
        differed += len(settlements) > 1
        checked(member, certificate)

    def prefixes(node):
        for sender in range(plan.n):
            count = node.machine.broadcast.streams[sender].certified.count
            entries = [node.store.entry(sender, seq) for seq in range(count)]
            yield [entry.payload for entry in entries if entry is not None]

    world.checker.certified = settle_now
    world.run()
    assert differed > 0

    # Here: the checker has compared segments, decisions and roots of every epoch among all members.
    roots = [sorted(node.store._checkpoints) for node in world.nodes]
    assert roots == [list(range(len(plan.blocks_ms)))] * 4
    assert len({bytes(node._state) for node in world.nodes}) == 1


def test_a_committee_of_tiny_members():
    """Forty members with 0.04 % of the hashrate between them take the published committee.

    spec: FB-1, FB-15
    """
    hashrates = {f"honest {each}": 1_000_000 for each in range(10)}
    hashrates |= {f"tiny {each}": 100 for each in range(40)}
    chosen = committee_by_hashrate(hashrates)
    tiny = [name for name in chosen if name.startswith("tiny")]
    assert sum(hashrates[name] for name in tiny) * 1_000 < sum(hashrates.values())
    threshold = -(-2 * len(chosen) // 3)
    assert (len(chosen), len(tiny), threshold) == (34, 24, 23)

    # Here: a committee is a list that its members sign under by its id. Hashrate puts nobody on it,
    # and the word of who is not on it counts nothing, however many they are.
    committee, signers, verifier = committee_of(10)
    _, strangers, _ = committee_of(40, seed=1)
    root = StateRoot(committee.id, 0, bytes(32))
    for stranger in strangers:
        with pytest.raises(LocalProtocolError):
            committee.number_of(stranger.public)
    everybody = [*signers[: committee.quorum - 1], *strangers]
    signatures = {each: signer.sign(root.digest) for each, signer in enumerate(everybody)}
    forged = Certificate(root, tuple(sorted(signatures.items())[: committee.quorum]))
    with pytest.raises(RemoteProtocolError):
        forged.verify(committee, verifier)
    larger = tuple(sorted([*committee.members, *(each.public for each in strangers)]))
    assert type(committee)(committee.chain, committee.term, larger, 1).id != committee.id


def test_a_flood_ends_where_it_comes_in():
    """spec: FB-11, FB-12"""
    rig = Rig()
    position, echoed = START, 0
    for _ in range(200):
        entry = rig.entry(FAULTY, position, bytes(1_000))
        position = position.after(entry)
        rig.offer(entry)
    echoed = len(rig.stream(FAULTY)._slots)
    assert echoed == rig.limits.window
    assert [each.member for each in rig.take(Close)].count(FAULTY) == 1 + 200 - rig.limits.window
    held = [slot.entry for slot in rig.stream(FAULTY)._slots.values()]
    assert sum(len(entry.payload) for entry in held) <= rig.limits.window * 1_000
    rig.give(Append(Kind.SHARE_BATCH, b"work goes on"))
    assert rig.take(SentEntry)
