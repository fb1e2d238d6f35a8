"""What a federation holds: keys, blocks, and who is paid of them."""

from dataclasses import replace

import pytest
from shares import sha256d
from state_rig import (
    KEY_SAID,
    KEYS,
    NBITS,
    SCRIPT,
    TREASURY_KEY,
    Scene,
    block,
    rules_of,
    template,
)

from radpool_sv2._native.threshold import CHECKPOINT, ORACLE, TREASURY
from radpool_sv2.chain.transaction import Transaction
from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.codec import CodecError
from radpool_sv2.federation.state.accounting import Accounting, Fault
from radpool_sv2.federation.state.holding import DISTRIBUTIONS_KEPT
from radpool_sv2.federation.state.ledger import Ledger, output_of_key, syndicate_script
from radpool_sv2.federation.state.payload import NO_OUTPUT, Found, KeySaid, decode_mature
from radpool_sv2.federation.state.payout import (
    direct_outputs,
    distributions_of,
    find_distribution,
    parts_of,
)
from radpool_sv2.federation.state.rules import PayoutMode
from radpool_sv2.federation.state.spends import payouts_of, spends
from radpool_sv2.federation.treasury.payout import fee_of

OTHER_KEY = KEYS[0].public
OUTPUT_KEY = output_of_key(rules_of(), TREASURY_KEY).output_key


def script_of(member):
    return b"\x00\x14" + bytes([member + 1]) * 20


def found(**changes):
    fields = Found(sha256d(b"found"), 101, sha256d(b"coinbase"), 1, 5_000_000_000, OUTPUT_KEY)
    return replace(fields, **changes)


def say(scene, kind, payload, members=range(4)):
    for member in members:
        scene.streams[member].add(kind, payload)


def working(**changes):
    """A federation whose members have scripts, and weights of 1 : 2 : 4 : 0."""
    scene = Scene(**changes)
    scene.tips(101)
    for member in range(4):
        scene.streams[member].add(Kind.PAYOUT_SCRIPT, script_of(member))
    return scene


def mined(scene):
    of = template(101, script=output_of_key(scene.accounting.rules, TREASURY_KEY).script)
    for member in range(3):
        scene.streams[member].mine(101, 1, z=member, of=of)
    return scene.cut()


# Keys.


def test_a_key_is_known_once_a_quorum_says_the_same():
    """spec: CS-22"""
    scene = Scene()
    for stream in scene.streams:
        stream.take()
    said = KeySaid(CHECKPOINT, OTHER_KEY, bytes(32))
    say(scene, Kind.KEY_SAID, said.encode(), (0, 1))
    say(scene, Kind.KEY_SAID, replace(said, transcript=b"\x01" * 32).encode(), (2,))
    assert scene.cut().keys == {}
    say(scene, Kind.KEY_SAID, said.encode(), (2,))
    ledger = scene.cut()
    assert ledger.keys == {CHECKPOINT: (OTHER_KEY, bytes(32), 1)}
    assert syndicate_script(rules_of(), ledger) == b""
    # Who takes back what it said takes no key away.
    say(scene, Kind.KEY_SAID, replace(said, purpose=ORACLE).encode(), (0, 1, 2))
    say(scene, Kind.KEY_SAID, replace(said, transcript=b"\x01" * 32).encode(), (0, 1))
    assert set(scene.cut().keys) == {CHECKPOINT, ORACLE}


def test_templates_pay_the_key_that_is_known():
    """spec: CS-9, CS-22, CS-28"""
    scene = Scene()
    for stream in scene.streams:
        stream.take()
    scene.tips(101)
    scene.streams[0].mine(101)
    ledger = scene.cut()
    assert [each.code for each in ledger.verdicts] == [Fault.PRICE]
    say(scene, Kind.KEY_SAID, KEY_SAID.encode())
    ledger = scene.cut()
    assert syndicate_script(rules_of(), ledger) == SCRIPT
    assert syndicate_script(rules_of(payout=PayoutMode.DIRECT), ledger) == b""
    scene.streams[0].mine(101)
    assert scene.cut().verdicts == ()


def test_a_key_that_was_followed_is_paid_for_a_while():
    """spec: CS-22"""
    scene = Scene(lateness=200)
    say(scene, Kind.KEY_SAID, replace(KEY_SAID, key=OTHER_KEY).encode())
    scene.streams[0].take()
    ledger = scene.cut()
    # Of one member the last word counts: three have said the other key.
    assert ledger.keys[TREASURY].key == OTHER_KEY
    assert ledger.former == ()
    say(scene, Kind.KEY_SAID, KEY_SAID.encode())
    ledger = scene.cut()
    assert ledger.keys[TREASURY] == (TREASURY_KEY, bytes(32), 1)
    assert ledger.former == ((OTHER_KEY, 1),)
    old = output_of_key(rules_of(lateness=200), OTHER_KEY).script
    for wait, expected in ((DISTRIBUTIONS_KEPT - 1, []), (1, [Fault.PRICE])):
        for _ in range(wait - 1):
            scene.cut()
        height = 101 + scene.epoch
        scene.tips(height)
        of = template(height, script=old)
        scene.streams[0].batch(scene.streams[0].shares(height, of=of))
        assert [each.code for each in scene.cut().verdicts] == expected


def test_what_is_said_of_keys_and_blocks_is_read_strictly():
    """spec: CS-3"""
    for said in (KEY_SAID, found()):
        data = said.encode()
        assert type(said).decode(data) == said
        for length in range(len(data)):
            with pytest.raises(CodecError):
                type(said).decode(data[:length])
        with pytest.raises(CodecError):
            type(said).decode(data + b"\0")
    for wrong in (replace(KEY_SAID, purpose=0), replace(KEY_SAID, purpose=4)):
        with pytest.raises(CodecError):
            KeySaid.decode(wrong.encode())
    with pytest.raises(CodecError, match="no key"):
        KeySaid.decode(replace(KEY_SAID, key=b"\xff" * 32).encode())
    assert Found.decode(found(value=21 * 10**14).encode()).value == 21 * 10**14
    with pytest.raises(CodecError):
        Found.decode(found(value=21 * 10**14 + 1).encode())
    assert decode_mature(b"\x05" * 32) == b"\x05" * 32
    for length in (0, 31, 33):
        with pytest.raises(CodecError):
            decode_mature(bytes(length))


# Blocks.


def test_a_block_is_known_split_mature_and_let_go():
    """spec: CS-23, CS-24, CS-25, CS-26"""
    scene = working(maturity=1, recovery_blocks=(144, 145))
    rules = scene.accounting.rules
    output_key = output_of_key(rules, TREASURY_KEY).output_key
    said = found(paid=output_key)
    say(scene, Kind.BLOCK_FOUND, said.encode(), (0,))
    ledger = mined(scene)
    assert ledger.blocks == {}
    assert ledger.members[0].found == {said.block_hash: said}
    say(scene, Kind.BLOCK_FOUND, said.encode(), (3,))
    ledger = scene.cut()
    [(block_hash, known)] = ledger.blocks.items()
    assert block_hash == said.block_hash
    assert (known.height, known.txid, known.vout, known.value) == (
        *(101, said.txid, 1),
        5_000_000_000,
    )
    assert (known.key, known.epoch, known.matured_epoch) == (TREASURY_KEY, 1, -1)
    weights = ledger.weights()
    assert known.weights == {member: weights[member] for member in range(3)}
    assert [each.script for each in known.stakes] == [script_of(member) for member in range(3)]
    assert all(books.found == {} for books in ledger.members)
    assert payouts_of(rules, ledger) == {}

    # What comes later does not change how it is split.
    scene.streams[3].add(Kind.PAYOUT_SCRIPT, script_of(9))
    scene.tips(102)
    scene.streams[3].mine(102, 9)
    say(scene, Kind.BLOCK_MATURE, block_hash, (1,))
    say(scene, Kind.BLOCK_FOUND, said.encode(), (1, 2))
    ledger = scene.cut()
    assert ledger.blocks == {block_hash: known}
    say(scene, Kind.BLOCK_MATURE, block_hash, (2,))
    ledger = scene.cut()
    assert ledger.blocks == {block_hash: replace(known, matured_epoch=3)}
    assert all(books.mature == set() for books in ledger.members)
    [payout] = payouts_of(rules, ledger).values()
    assert Ledger.decode(ledger.encode()) == ledger

    while block_hash in ledger.blocks:
        last, ledger = ledger, scene.cut()
    assert rules.height_of(last.epochs - 1) == 101 + 144 - 1
    # Nothing brings it back.
    say(scene, Kind.BLOCK_FOUND, said.encode())
    say(scene, Kind.BLOCK_MATURE, block_hash)
    ledger = scene.cut()
    assert ledger.blocks == {}
    assert all(not books.found and not books.mature for books in ledger.members)
    assert payout.txid


def test_a_payout_is_exact_and_the_part_of_each_is_its_output():
    """spec: CS-25, CS-27"""
    scene = working()
    rules = scene.accounting.rules
    say(scene, Kind.BLOCK_FOUND, found().encode())
    ledger = mined(scene)
    name, known = next(iter(ledger.blocks.items()))
    parts = parts_of(rules, name, known)
    assert [part.member for part in parts] == [0, 1, 2]
    fee = fee_of([part.script for part in parts], rules.fee_sats_per_vb)
    assert sum(part.sats for part in parts) + fee == known.value
    paid = known.value - fee
    for part, share in zip(parts, (1, 2, 4), strict=True):
        assert abs(part.sats * 7 - paid * share) < 7
    for member in range(4):
        expected = parts[member].sats if member < 3 else 0
        assert scene.accounting.part_of(ledger, name, member) == expected
    say(scene, Kind.BLOCK_MATURE, name)
    ledger = scene.cut()
    [(_, payout)] = payouts_of(rules, ledger).items()
    transaction = Transaction.from_bytes(payout.transaction)
    assert [(each.value_sats, each.script) for each in transaction.outputs] == [
        (part.sats, part.script) for part in parts
    ]
    assert [each.previous for each in transaction.inputs] == [(known.txid, 1)]
    for read in (None, scene.accounting.ledger):
        [spend] = spends(rules, read=read)(1, ledger.encode())
        assert spend.sighash == payout.sighash
        assert spend.merkle_root == output_of_key(rules, TREASURY_KEY).merkle_root
    assert list(spends(rules, OTHER_KEY)(1, ledger.encode())) == []
    with pytest.raises(LocalProtocolError, match="no split"):
        scene.accounting.part_of(ledger, bytes(32), 0)


def test_dust_is_left_to_the_others_and_a_block_below_the_fee_pays_nobody():
    """spec: CS-25"""
    for value, members in ((10**6, [0, 1, 2]), (5_400, [1, 2]), (1_500, []), (0, [])):
        scene = working(fee_sats_per_vb=10)
        rules = scene.accounting.rules
        say(scene, Kind.BLOCK_FOUND, found(value=value).encode())
        name = found().block_hash
        say(scene, Kind.BLOCK_MATURE, name)
        ledger = mined(scene)
        assert ledger.blocks[name].matured_epoch == 0
        parts = parts_of(rules, name, ledger.blocks[name])
        assert [part.member for part in parts] == members
        assert len(payouts_of(rules, ledger)) == bool(members)
        if members:
            fee = fee_of([part.script for part in parts], 10)
            assert sum(part.sats for part in parts) + fee == value
        assert scene.accounting.part_of(ledger, name, 3) == 0


def test_a_block_is_split_once_somebody_can_be_paid():
    """spec: CS-24"""
    scene = Scene()
    scene.tips(101)
    say(scene, Kind.BLOCK_FOUND, found().encode())
    say(scene, Kind.BLOCK_MATURE, found().block_hash)
    scene.streams[0].mine(101)
    ledger = scene.cut()
    assert ledger.blocks[found().block_hash].stakes == ()
    with pytest.raises(LocalProtocolError, match="no split"):
        scene.accounting.part_of(ledger, found().block_hash, 0)
    assert payouts_of(scene.accounting.rules, ledger) == {}
    scene.streams[0].add(Kind.PAYOUT_SCRIPT, script_of(0))
    ledger = scene.cut()
    assert ledger.blocks[found().block_hash].weights == {0: ledger.weights()[0]}
    assert len(payouts_of(scene.accounting.rules, ledger)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"vout": NO_OUTPUT},
        {"paid": TREASURY_KEY},
        {"height": 91},
        {"height": 111},
    ],
    ids=["no output", "another output", "too old", "too new"],
)
def test_a_block_that_is_not_the_federations_is_not_known(change):
    """spec: CS-23"""
    scene = working(lateness=10)
    say(scene, Kind.BLOCK_FOUND, found(**change).encode())
    say(scene, Kind.BLOCK_FOUND, found(block_hash=block(7), height=92).encode())
    assert list(scene.cut().blocks) == [block(7)]


def test_members_that_say_different_things_of_a_block_make_it_not_known():
    """spec: CS-23"""
    scene = working()
    say(scene, Kind.BLOCK_FOUND, found().encode(), (0, 1))
    say(scene, Kind.BLOCK_FOUND, found(value=1).encode(), (2, 3))
    # Of one member the first word counts.
    say(scene, Kind.BLOCK_FOUND, found().encode(), (2,))
    assert scene.cut().blocks == {}


def test_floods_of_blocks_are_bounded():
    """spec: CS-23, CS-26"""
    scene = working(lateness=4)
    for each in range(40):
        say(scene, Kind.BLOCK_FOUND, found(block_hash=sha256d(b"%d" % each)).encode(), (0,))
        say(scene, Kind.BLOCK_MATURE, sha256d(b"%d" % each), (0,))
    ledger = scene.cut()
    assert len(ledger.members[0].found) == 16
    assert ledger.members[0].mature == set()
    for _ in range(4):
        ledger = scene.cut()
    assert ledger.members[0].found == {}


# Members that are paid in the coinbase.


@pytest.fixture
def direct():
    scene = Scene(payout=PayoutMode.DIRECT)
    for member in range(4):
        scene.streams[member].add(Kind.PAYOUT_SCRIPT, script_of(member))
    scene.cut()
    return scene


def ledger_of(scene):
    return scene.accounting.ledger(scene.state)


def pay(scene, member, height, outputs, count=1, **changes):
    scene.tips(height)
    stream = scene.streams[member]
    total = sum(sats for _, sats in outputs)
    fields = {"price": (total << 32) // 2, **changes}
    of = template(height, outputs=tuple(outputs))
    stream.batch(stream.shares(height, count, of=of, **fields))


def test_before_anybody_has_weight_all_have_the_same(direct):
    """spec: CS-18"""
    paid = direct_outputs(ledger_of(direct), 4_000)
    assert paid == [(script_of(member), 1_000) for member in range(4)]
    pay(direct, 0, 102, paid)
    ledger = direct.cut()
    assert ledger.verdicts == ()
    assert direct_outputs(ledger, 4_000) == [(script_of(0), 4_000)]


def test_a_template_pays_as_the_books_say_that_it_is_built_on(direct):
    """spec: CS-9, CS-18, CS-28"""
    first = ledger_of(direct)
    pay(direct, 0, 102, direct_outputs(first, 3_000_000_001), 2)
    second = direct.cut()
    pay(direct, 1, 103, direct_outputs(second, 5_000), 3)
    # Books of before count as well as the last.
    pay(direct, 2, 103, direct_outputs(first, 5_001), 3)
    ledger = direct.cut()
    assert ledger.verdicts == ()
    assert {row.member: row.count for row in ledger.rows} == {1: 3, 2: 3}
    weights = ledger.weights()
    paid = direct_outputs(ledger, 10**9)
    assert [script for script, _ in paid] == [script_of(member) for member in (0, 1, 2)]
    for member, (_, sats) in enumerate(paid):
        assert abs(sats - 10**9 * weights[member] // sum(weights.values())) <= 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda paid: paid[1:],
        lambda paid: paid[::-1],
        lambda paid: [*paid, (script_of(1), 1_000)],
        lambda paid: [(paid[0][0], paid[0][1] + 2), (paid[1][0], paid[1][1] - 2), *paid[2:]],
        lambda paid: [(script_of(7), sats) for _, sats in paid],
    ],
    ids=["one less", "other order", "one twice", "other parts", "strangers"],
)
def test_a_template_that_pays_otherwise_is_void(direct, spoil):
    """spec: CS-9, CS-18, CS-28"""
    pay(direct, 0, 102, direct_outputs(ledger_of(direct), 10**6))
    pay(direct, 1, 102, spoil(direct_outputs(ledger_of(direct), 10**6)))
    ledger = direct.cut()
    assert [(each.member, each.code) for each in ledger.verdicts] == [(1, Fault.PRICE)]


def test_members_may_share_a_script():
    """spec: CS-18"""
    scene = Scene(payout=PayoutMode.DIRECT)
    for member, script in enumerate((9, 9, 3, 9)):
        scene.streams[member].add(Kind.PAYOUT_SCRIPT, script_of(script))
    first = scene.cut()
    for member, z in ((0, 0), (1, 4), (2, 4)):
        pay(scene, member, 102, direct_outputs(first, 10**6), z=z)
    second = scene.cut()
    # The least has dust: one output of the script is another member's.
    outputs = direct_outputs(second, 20_000)
    assert [script for script, _ in outputs] == [script_of(9), script_of(9), script_of(3)]
    few = direct_outputs(second, 6_000)
    assert [script for script, _ in few] == [script_of(9), script_of(3)]
    pay(scene, 0, 103, outputs)
    pay(scene, 1, 103, few)
    pay(scene, 2, 103, few[::-1])
    ledger = scene.cut()
    assert [(each.member, each.code) for each in ledger.verdicts] == [(2, Fault.PRICE)]


def test_other_outputs_and_other_prices_do_not_matter(direct):
    """spec: CS-9"""
    paid = direct_outputs(ledger_of(direct), 10**6)
    more = [(b"\x6a\x01\x05", 0), *paid, (script_of(8), 7)]
    pay(direct, 0, 102, more, price=(10**6 << 32) // 2)
    assert direct.cut().verdicts == ()
    pay(direct, 0, 103, more, price=((10**6 + 1) << 32) // 2)
    assert [each.code for each in direct.cut().verdicts] == [Fault.PRICE]


def test_books_are_paid_by_for_so_many_epochs_and_late_ones_without_blame():
    """spec: CS-9, CS-18, CS-28"""
    scene = Scene(payout=PayoutMode.DIRECT)
    for member in range(4):
        scene.streams[member].add(Kind.PAYOUT_SCRIPT, script_of(member))
    paid = direct_outputs(scene.cut(), 10**6)
    # From epoch 1 on the books have other weights.
    pay(scene, 0, 102, paid)
    pay(scene, 1, 102, paid, z=2)
    for epoch in range(1, DISTRIBUTIONS_KEPT):
        scene.tips(101 + epoch)
        scene.cut(without=(2, 3))
    # The last epoch whose books these are among, in segments that were late.
    pay(scene, 0, 101 + scene.epoch, paid)
    late = template(102, outputs=tuple(paid))
    scene.streams[2].take()
    scene.streams[2].batch(scene.streams[2].shares(102, of=late, price=1))
    ledger = scene.cut(without=(3,))
    assert ledger.verdicts == ()
    assert ledger.stale == 0
    pay(scene, 0, 101 + scene.epoch, paid)
    scene.streams[3].take()
    scene.streams[3].batch(scene.streams[3].shares(102, of=late, price=1))
    ledger = scene.cut()
    assert [(each.member, each.code) for each in ledger.verdicts] == [(0, Fault.PRICE)]
    assert ledger.stale == 1


def test_a_block_that_pays_members_is_in_the_books_and_not_paid_again(direct):
    """spec: CS-23, CS-25"""
    rules = direct.accounting.rules
    before = ledger_of(direct)
    paid = direct_outputs(before, 10**6 + 1)
    pay(direct, 0, 102, paid, 5)
    known = find_distribution(distributions_of(rules, before), [(b"\x51", 9), *paid, (b"\x6a", 0)])
    assert (known.distribution.root, known.sats) == (before.root(), 10**6 + 1)
    said = found(height=102, vout=NO_OUTPUT, value=known.sats, paid=known.digest)
    say(direct, Kind.BLOCK_FOUND, said.encode())
    say(direct, Kind.BLOCK_FOUND, replace(said, block_hash=block(1), vout=1).encode())
    say(direct, Kind.BLOCK_FOUND, replace(said, block_hash=block(2), paid=bytes(32)).encode())
    say(direct, Kind.BLOCK_MATURE, said.block_hash)
    ledger = direct.cut()
    assert list(ledger.blocks) == [said.block_hash]
    assert ledger.blocks[said.block_hash].matured_epoch == 1
    parts = [direct.accounting.part_of(ledger, said.block_hash, member) for member in range(4)]
    assert parts == [part for _, part in paid]
    assert ledger.blocks[said.block_hash].key == before.root()
    assert payouts_of(rules, ledger) == {}
    assert Ledger.decode(ledger.encode()) == ledger
    assert Accounting(rules).root(ledger.encode()) == ledger.root()


def test_members_say_the_same_of_a_block_by_books_of_different_epochs(direct):
    """spec: CS-23"""
    rules, first = direct.accounting.rules, ledger_of(direct)
    second = direct.cut()
    paid = direct_outputs(first, 4_000)
    said = [find_distribution(distributions_of(rules, ledger), paid) for ledger in (first, second)]
    assert said[0].distribution.root == first.root() != said[1].distribution.root
    assert said[0][1:] == said[1][1:]
    for member, each in enumerate(said):
        block = found(height=102, vout=NO_OUTPUT, value=each.sats, paid=each.digest)
        say(direct, Kind.BLOCK_FOUND, block.encode(), (member,))
    ledger = direct.cut()
    [block_hash] = ledger.blocks
    parts = [direct.accounting.part_of(ledger, block_hash, member) for member in range(4)]
    assert parts == [1_000] * 4


def test_bits_of_a_template_are_looked_at_before_what_it_pays(direct):
    """spec: CS-9"""
    of = template(102, outputs=((script_of(0), 5),), nbits=NBITS - 1)
    direct.tips(102)
    direct.streams[0].batch(direct.streams[0].shares(102, of=of))
    assert [each.code for each in direct.cut().verdicts] == [Fault.TEMPLATE]
