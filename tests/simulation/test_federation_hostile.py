"""A member is told anything at all, and every signature is taken for good: nothing may escape it.

What members sent in a few worlds is given to one: out of order, by other members, twice, with bytes
flipped. It may close links and accuse; it would halt, but here it goes on. It must not raise, and
must not grow without bound.
"""

from random import Random

import pytest
from federation_rig import Rig

from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.federation.codec import CodecError
from radpool_sv2.federation.effect import ChainTip, LinkDown, LinkUp, Received
from radpool_sv2.federation.messages import decode_message
from radpool_sv2.testing.plan import Plan
from radpool_sv2.testing.simulator import World


class Credulous:
    """Takes every signature for good."""

    def is_signed(self, key, digest, signature):
        return True


@pytest.fixture(scope="module")
def traffic():
    """What was sent in a few worlds, from whom."""
    sent = []
    for seed in range(3):
        plan = Plan.draw(seed, 4, ("twins",))
        world = World(plan)
        transmit = world.transmit

        def record(sender, to, data, generation, transmit=transmit):
            sent.append((sender, data))
            transmit(sender, to, data, generation)

        world.transmit = record
        world.run()
        # Members of all worlds are the same ones to who believes everything.
    return sent


@pytest.mark.parametrize("seed", range(12))
def test_nothing_that_peers_send_escapes(traffic, seed):
    """spec: FB-18, FB-19"""
    random = Random(seed)
    rig = Rig(me=seed % 4)
    object.__setattr__(rig.member.seat, "verifier", Credulous())
    reasons = []
    vars(rig.member.seat.outlet)["halt"] = reasons.append
    for height in range(3):
        rig.give(ChainTip(height, bytes(32)))
    heights, deepest = 3, 0
    for _ in range(1_500):
        sender, data = random.choice(traffic)
        if random.random() < 0.5:
            sender = random.choice(rig.others)
        if sender == rig.me:
            continue
        if random.random() < 0.4:
            spoilt = bytearray(data)
            spoilt[random.randrange(len(spoilt))] ^= 1 << random.randrange(8)
            data = bytes(spoilt)
        try:
            message = decode_message(data, rig.committee)
        except CodecError:
            continue
        rig.give(Received(sender, message))
        match random.randrange(40):
            case 0:
                rig.wait(random.choice((10, 1_000, 20_000)))
            case 1:
                peer = random.choice(rig.others)
                rig.give(LinkDown(peer))
                rig.give(LinkUp(peer))
            case 2:
                rig.give(ChainTip(heights, bytes(32)))
                heights += 1
        rig.effects.clear()
        deepest = max(deepest, *(len(stream._slots) for stream in rig.member.broadcast.streams))
    assert reasons, "with every signature good there is always a reason to halt"
    assert deepest <= 2 * rig.limits.window


def test_there_is_no_link_to_oneself_or_to_strangers():
    rig = Rig()
    for member in (0, -1, 4):
        with pytest.raises(LocalProtocolError):
            rig.give(LinkUp(member))
