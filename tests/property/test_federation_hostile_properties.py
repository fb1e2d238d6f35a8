"""Whatever bytes members append: both programs count them, and come to the same."""

import struct
from dataclasses import dataclass, replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from shares import Template
from state_rig import KEYS, SCRIPT, Scene, block, owner, template, tip

from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.state.ledger import Ledger
from radpool_sv2.federation.state.payload import NO_OUTPUT, Found, KeySaid, encode_bodies
from radpool_sv2.federation.state.payout import parts_of
from radpool_sv2.federation.state.rules import PayoutMode
from radpool_sv2.federation.state.spends import payouts_of
from radpool_sv2.verify.books import Counter, Item, read_rules
from radpool_sv2.weight import REGTEST, Scale

SEEDS = st.integers(0, 2**32)
MOST = 2**64 - 1
SATS = (0, 1, 545, 546, 10_000, 5_000_000_000, 21 * 10**14, 21 * 10**14 + 1, 2**63, MOST)
HEIGHTS = (0, 1, 99, 100, 101, 102, 110, 2**31, 2**32 - 1)
KINDS = (1, 2, 5 + 128, 10, 11, 12, 14, 15, 16, 255)


@dataclass(frozen=True)
class Bent(Template):
    """Is a template with bytes changed in its coinbase, anywhere."""

    seed: int = 0

    def parts(self):
        if not self.seed:
            return super().parts()
        random = Random(self.seed)
        parts = [bytearray(part) for part in super().parts()]
        for _ in range(random.randrange(3)):
            part = random.choice(parts)
            at = random.randrange(len(part))
            change = random.randrange(4)
            if change == 0:
                part[at] = random.choice((0, 1, 0x22, 0x7F, 0xFC, 0xFD, 0xFE, 0xFF))
            elif change == 1:
                del part[at:]
                part.append(0)
            elif change == 2:
                part[at:at] = random.randbytes(random.randrange(1, 12))
            else:
                part[at : at + 8] = struct.pack("<Q", random.choice(SATS))
        return tuple(bytes(part) for part in parts)


def mutated(random, payload):
    data = bytearray(payload)
    for _ in range(random.randrange(1, 4)):
        at = random.randrange(len(data) + 1)
        choice = random.randrange(4)
        if choice == 0 and at < len(data):
            data[at] ^= 1 << random.randrange(8)
        elif choice == 1:
            del data[at:]
        elif choice == 2:
            data[at:at] = random.randbytes(random.randrange(1, 40))
        else:
            data[at : at + 4] = random.choice((b"\xff" * 4, bytes(4)))
    return bytes(data)


def hostile(random, height):
    """Makes a payload of numbers at the edges."""
    kind = random.choice((Kind.TIP, Kind.KEY_SAID, Kind.BLOCK_FOUND, Kind.BLOCK_MATURE))
    if kind == Kind.TIP:
        said = tip(
            random.choice((height, height, *HEIGHTS[1:])),
            random.choice(SATS),
            nbits=random.choice((0, 0x207FFFFF, 2**32 - 1)),
            target=random.choice((1, 2**255, 2**256 - 1)),
        )
        return kind, said.encode()
    if kind == Kind.KEY_SAID:
        key = random.choice((*(each.public for each in KEYS), bytes(32), b"\xff" * 32))
        return kind, KeySaid(random.randint(1, 3), key, bytes(32)).encode()
    if kind == Kind.BLOCK_MATURE:
        return kind, block(random.randint(1, 3))
    # One byte too large a value is no payload.
    place = block(random.randint(1, 3)), random.choice(HEIGHTS), block(9)
    paid = random.choice((SCRIPT[2:], bytes(32)))
    found = Found(*place, random.choice((0, NO_OUTPUT)), random.choice(SATS), paid)
    return kind, found.encode()


def mine(random, scene, stream, height):
    """Seals a batch of shares on templates that are bent, with prices at the edges."""
    fields = {
        "value_sats": random.choice(SATS),
        "script": random.choice((SCRIPT, SCRIPT, SCRIPT, b"\x51")),
    }
    made = template(random.choice((*[height] * 14, *HEIGHTS[:7])), **fields)
    of = Bent(
        **{name: getattr(made, name) for name in made.__dataclass_fields__},
        seed=random.choice((0, 0, random.randrange(2**32))),
    )
    scale = scene.accounting.rules.scale
    price = random.choice((0, 1, 2**123, (fields["value_sats"] << scale.bits) // 2))
    shares = stream.shares(
        height, random.randint(1, 3), of=of, price=min(price, 2**123), z=random.randrange(3)
    )
    shares = [replace(each, owner=replace(owner(), rail=random.randrange(3))) for each in shares]
    shares = [each.mined(stream.key.public) for each in shares]
    bodies = random.random() < 0.9
    numbers = {"sequence": 2**64 - 1} if random.random() < 0.05 else {}
    stream.batch(shares, bodies=bodies, weight=(1, scale.bits, scale.base), **numbers)


@settings(max_examples=120, deadline=None)
@given(SEEDS)
def test_no_bytes_stop_the_count_and_two_programs_agree(seed):
    """spec: CS-3, CS-7, CS-13, CS-30"""
    random = Random(seed)
    scene = Scene(
        scale=random.choice((REGTEST, Scale(90, 0, 150))),
        payout=random.choice(tuple(PayoutMode)),
        bytes_base=random.choice((2_500, 1 << 20, 1 << 20)),
        window=random.choice((1, 50)),
    )
    counter = Counter(read_rules(scene.accounting.rules.encode()))
    told = []
    apply = scene.accounting.apply
    scene.accounting.apply = lambda state, epoch, segments: (
        told.append(segments) or apply(state, epoch, segments)
    )
    for stream in scene.streams[:3]:
        stream.add(Kind.PAYOUT_SCRIPT, b"\x00\x14" + bytes([stream.member]) * 20)
    for height in range(101, 101 + random.randint(1, 3)):
        if random.random() < 0.8:
            scene.tips(height, random.choice(SATS))
        for _ in range(random.randrange(12)):
            stream = random.choice(scene.streams)
            choice = random.randrange(5)
            if choice == 0:
                said = hostile(random, height)
                for each in random.sample(scene.streams, random.randint(1, 4)):
                    each.add(*said)
            elif choice == 1 and stream.entries:
                # No quorum lets a mark pass that is none.
                entry = random.choice(stream.entries)
                if entry.header.kind == Kind.EPOCH_MARK:
                    continue
                kind = random.choice((entry.header.kind, random.choice(KINDS)))
                stream.add(kind, mutated(random, entry.payload))
            elif choice == 2:
                bodies = [random.randbytes(random.randrange(90)) for _ in range(2)]
                stream.add(Kind.TEMPLATE, encode_bodies(bodies))
            else:
                mine(random, scene, stream, height)
        ledger = scene.cut(without=tuple(random.sample(range(4), random.randrange(2))))
        counter.count(
            [
                [Item(e.header.sender, e.header.seq, e.header.kind, e.payload) for e in segment]
                for segment in told[-1]
            ]
        )
        assert counter.root() == ledger.root()
        assert Ledger.decode(scene.state) == ledger
        payouts_of(scene.accounting.rules, ledger)
        for name, known in ledger.blocks.items():
            paid = sum(part.sats for part in parts_of(scene.accounting.rules, name, known))
            assert 0 <= paid <= known.value
