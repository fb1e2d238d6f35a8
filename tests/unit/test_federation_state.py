"""What shares of a federation count, case by case."""

from dataclasses import replace

import pytest
from shares import Key, sha256d
from state_rig import (
    KEYS,
    PRICE_MAX,
    SCRIPT,
    Scene,
    block,
    owner,
    rules_of,
    template,
    tip,
)

from radpool_sv2.errors import LocalProtocolError, RemoteProtocolError
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.codec import CodecError
from radpool_sv2.federation.state.accounting import Accounting, Fault
from radpool_sv2.federation.state.ledger import Ledger
from radpool_sv2.federation.state.payload import Tip, decode_bodies, encode_bodies
from radpool_sv2.federation.state.payout import direct_outputs, divide
from radpool_sv2.federation.state.registration import SignedRegistration, encode_registrations
from radpool_sv2.federation.state.rules import PayoutMode
from radpool_sv2.federation.state.tree import Row, path_of, root_of, verify_path
from radpool_sv2.verify import decode_batch
from radpool_sv2.weight import REAL, Scale, WeightMode


@pytest.fixture
def scene():
    scene = Scene()
    scene.tips(101)
    return scene


def faults(ledger):
    return [(each.member, each.seq, Fault(each.code).name) for each in ledger.verdicts]


def only_fault(ledger):
    [verdict] = ledger.verdicts
    return Fault(verdict.code)


def counted(ledger):
    return {row.member: row.count for row in ledger.rows}


def test_good_shares_count(scene):
    """spec: CS-6, CS-12"""
    scene.streams[0].mine(101, 3, z=2)
    scene.streams[2].mine(101, 1, z=5, name=b"b")
    ledger = scene.cut()
    assert ledger.verdicts == ()
    assert ledger.rows == (
        Row(0, owner(b"a").commitment, 0, 101, 3, 12, 12 * PRICE_MAX),
        Row(2, owner(b"b").commitment, 0, 101, 1, 32, 32 * PRICE_MAX),
    )
    assert ledger.weights() == {0: 12 * PRICE_MAX, 1: 0, 2: 32 * PRICE_MAX, 3: 0}
    assert ledger.members[0].sequence == 1
    assert ledger.members[1].sequence == 0


def test_a_batch_that_proves_nothing_is_void(scene):
    """spec: CS-7"""
    good = scene.streams[0].shares(101, 2, z=3)
    scene.streams[0].batch([good[0], replace(good[1], nonce=good[1].nonce - 1)])
    scene.streams[1].mine(101)
    ledger = scene.cut()
    assert faults(ledger) == [(0, 3, "BATCH")]
    assert counted(ledger) == {1: 1}


def test_a_batch_needs_its_bodies_in_the_stream_before_it(scene):
    """spec: CS-5, CS-7"""
    scene.streams[0].batch(scene.streams[0].shares(101), bodies=False)
    assert only_fault(scene.cut()) is Fault.BATCH


def test_shares_of_another_msp_are_void(scene):
    """spec: CS-7"""
    thief, victim = scene.streams[1], scene.streams[0]
    stolen = victim.shares(101)
    victim.batch(stolen)
    thief.batch(stolen, key=victim.key)
    ledger = scene.cut()
    assert faults(ledger) == [(1, 3, "KEY")]
    assert counted(ledger) == {0: 1}


def test_shares_signed_anew_by_a_thief_are_void(scene):
    """spec: CS-7"""
    shares = scene.streams[0].shares(101, 1, z=12)
    scene.streams[1].batch(shares)
    assert only_fault(scene.cut()) is Fault.BATCH


@pytest.mark.parametrize("change", [{"sequence": 7}, {"previous": b"\x07" * 32}, {"sequence": 0}])
def test_a_gap_in_the_chain_voids_one_batch(scene, change):
    """spec: CS-8"""
    stream = scene.streams[0]
    stream.mine(101)
    sealed = stream.batch(stream.shares(101), **change)
    link = change.get("sequence", 1)
    if link:
        stream.sequence, stream.previous = link + 1, sealed.hash
    else:
        # What goes back does not move the chain.
        stream.sequence, stream.previous = 1, stream_hash(scene)
    stream.mine(101)
    ledger = scene.cut()
    assert only_fault(ledger) is Fault.CHAIN
    assert counted(ledger) == {0: 2}


def stream_hash(scene):
    """Recomputes the hash of member 0's first batch."""
    batches = [e for e in scene.streams[0].entries if e.header.kind == Kind.SHARE_BATCH]
    return decode_batch(batches[0].payload).hash


def test_a_chain_may_be_joined_anywhere(scene):
    """spec: CS-8"""
    stream = scene.streams[0]
    stream.sequence, stream.previous = 2**64 - 1, b"\x01" * 32
    stream.mine(101)
    ledger = scene.cut()
    assert counted(ledger) == {0: 1}
    assert ledger.members[0].sequence == 2**64 - 1


def test_another_rule_of_weight_is_void(scene):
    """spec: CS-9"""
    stream = scene.streams[0]
    stream.batch(stream.shares(101), weight=(2, 32, 0))
    stream.batch(stream.shares(101), weight=(0, 0, 0))
    assert [each.code for each in scene.cut().verdicts] == [Fault.RULE, Fault.RULE]


def test_a_share_counts_once_in_all_batches_and_epochs(scene):
    """spec: CS-10"""
    stream = scene.streams[0]
    shares = stream.shares(101, 3)
    stream.batch(shares[:2])
    stream.batch(shares[1:])
    assert only_fault(scene.cut()) is Fault.DUPLICATE
    stream.batch(shares[:1])
    ledger = scene.cut()
    assert only_fault(ledger) is Fault.DUPLICATE
    # What was void has not counted: it may be sealed anew.
    stream.batch(shares[2:])
    ledger = scene.cut()
    assert ledger.verdicts == ()


def test_fingerprints_and_bodies_go_when_nothing_can_repeat(scene):
    """spec: CS-5, CS-10"""
    scene.streams[0].mine(101)
    ledger = scene.cut()
    assert list(ledger.members[0].seen) == [101]
    for _ in range(2):
        ledger = scene.cut()
    assert list(ledger.members[0].seen) == []
    assert len(ledger.members[0].bodies) == 1
    for _ in range(6):
        ledger = scene.cut()
    assert ledger.members[0].bodies == {}


def test_unknown_tips_are_stale_not_void():
    """spec: CS-4, CS-11"""
    scene = Scene()
    scene.tips(101)
    scene.streams[0].mine(101)
    scene.streams[3].tip(102)
    stream = scene.streams[3]
    stream.batch(stream.shares(102) + stream.shares(101, 2))
    ledger = scene.cut()
    assert ledger.verdicts == ()
    assert ledger.stale == 1
    assert counted(ledger) == {0: 1, 3: 2}


def test_one_more_than_the_faulty_make_a_tip():
    """spec: CS-4"""
    for said, expected in ((1, {}), (2, {0: 1})):
        scene = Scene()
        for stream in scene.streams[:said]:
            stream.tip(101)
        scene.streams[3].tip(101, nbits=0x1D00FFFF)
        scene.streams[0].mine(101)
        assert counted(scene.cut()) == expected


def test_shares_behind_the_grace_of_the_own_mark_are_stale(scene):
    """spec: CS-11"""
    stream = scene.streams[0]
    scene.cut()
    scene.cut()
    stream.mine(101)
    assert counted(scene.cut()) == {0: 1}
    stream.mine(101)
    ledger = scene.cut()
    assert ledger.rows == ()
    assert ledger.stale == 1
    assert ledger.verdicts == ()


def test_a_late_segment_loses_nothing(scene):
    """spec: CS-11, CS-13"""
    late = scene.streams[0]
    late.mine(101, 2)
    assert scene.cut(without=(0,)).rows == ()
    scene.tips(102)
    late.mine(102, 1)
    # Its segment has two marks in it now.
    ledger = scene.cut()
    assert [(row.height, row.count) for row in ledger.rows] == [(101, 2), (102, 1)]
    assert [slot.epoch for slot in ledger.window] == [1]


def test_what_is_too_late_is_stale():
    """spec: CS-11"""
    scene = Scene(lateness=3)
    scene.tips(101)
    scene.streams[0].mine(101)
    for epoch in range(4):
        ledger = scene.cut(without=(0,))
        assert bool(ledger.members[1].tips) == (epoch < 3)
    ledger = scene.cut()
    assert (ledger.rows, ledger.stale) == ((), 1)


@pytest.mark.parametrize(
    "change", [{"nbits": 0x1D00FFFF}, {"height": 102}], ids=["easier target", "other height"]
)
def test_a_template_that_is_not_of_its_tip_is_void(scene, change):
    """spec: CS-9"""
    stream = scene.streams[0]
    stream.batch(stream.shares(101, of=replace(template(101), **change)))
    assert only_fault(scene.cut()) is Fault.TEMPLATE


def test_a_price_above_what_the_coinbase_pays_is_void(scene):
    """spec: CS-9"""
    stream = scene.streams[0]
    stream.batch(stream.shares(101, price=PRICE_MAX + 1))
    stream.batch(stream.shares(101, of=template(101, value_sats=1_000)))
    ledger = scene.cut()
    assert [each.code for each in ledger.verdicts] == [Fault.PRICE, Fault.PRICE]


def test_a_price_counts_up_to_what_the_reference_allows():
    """spec: CS-4, CS-12"""
    paid = 5_000_000_000 + 10_000_000
    for fees, counts in (
        ((0, 0, 0, 0), 50_000),
        ((0, 2_000_000, 2_000_000, 10**9), 2_500_000),
        ((0, 0, 2_000_000, 10**9), 50_000),
        ((10**8, 10**8, 10**8, 10**8), 10_000_000),
    ):
        scene = Scene()
        for stream, sats in zip(scene.streams, fees, strict=True):
            stream.tip(101, 0)
            stream.tip(101, sats)
        rich = template(101, value_sats=paid)
        stream = scene.streams[0]
        stream.batch(stream.shares(101, of=rich, price=(paid << 32) // 2))
        ledger = scene.cut()
        assert ledger.rows[0].value == ((5_000_000_000 + counts) << 32) // 2
        assert ledger.rows[0].work == 1


def test_by_difficulty_all_templates_are_alike():
    """spec: CS-9, CS-12"""
    scene = Scene(mode=WeightMode.DIFFICULTY)
    scene.tips(101)
    stream = scene.streams[0]
    rich = template(101, value_sats=5_100_000_000)
    stream.batch(stream.shares(101, of=rich, price=1 << 31), weight=(2, 32, 0))
    stream.batch(stream.shares(101, price=1 << 31), weight=(2, 32, 0))
    stream.batch(stream.shares(101, price=1 + (1 << 31)), weight=(2, 32, 0))
    ledger = scene.cut()
    assert [row.value for row in ledger.rows] == [2 << 31]
    assert only_fault(ledger) is Fault.PRICE


def test_by_difficulty_too_the_subsidy_must_be_paid():
    """spec: CS-9"""
    scene = Scene(mode=WeightMode.DIFFICULTY)
    scene.tips(101)
    stream = scene.streams[0]
    poor = template(101, value_sats=4_999_999_999)
    stream.batch(stream.shares(101, of=poor, price=1 << 31), weight=(2, 32, 0))
    ledger = scene.cut()
    assert not ledger.rows
    assert only_fault(ledger) is Fault.PRICE


def test_the_least_exponent_follows_the_rate_of_shares():
    """spec: CS-14"""
    scene = Scene(shares_target=2)
    scene.tips(101)
    scene.streams[0].mine(101, 5)
    assert scene.cut().exponents == (0, 1)
    scene.tips(102)
    scene.streams[0].mine(102, 4)
    assert scene.cut().exponents == (0, 1, 1)
    assert scene.cut().exponents == (0, 1, 1, 0)
    assert scene.cut().exponents == (0, 1, 1, 0, 0)


def test_shares_below_the_least_exponent_are_void():
    """spec: CS-14"""
    scene = Scene(shares_target=1)
    for height in range(101, 167):
        scene.tips(height)
        # The first epochs have too many shares, the others as many as they may.
        for stream in scene.streams[: 3 if height < 103 else 2]:
            stream.mine(height, 1, z={165: 0, 166: 1}.get(height, 4))
        ledger = scene.cut()
        assert (height, ledger.verdicts) == (height, ())
    assert set(ledger.exponents[2:]) == {2}
    scene.tips(167)
    # Epoch 1, which asked for 1, is now too long ago.
    scene.streams[0].mine(167, 1, z=1)
    scene.streams[1].mine(167, 1, z=2)
    scene.streams[2].mine(167, 1, z=1)
    assert [each.member for each in scene.cut().verdicts] == [0, 2]


def test_budgets_follow_the_work_in_the_window():
    """spec: CS-15"""
    scene = Scene(bytes_base=2_000, bytes_shared=4_000)
    scene.tips(101)
    scene.streams[0].mine(101, 1, z=2)
    scene.streams[1].mine(101, 1, z=2)
    ledger = scene.cut()
    assert [books.budget for books in ledger.members] == [4_000, 4_000, 2_000, 2_000]
    scene.tips(102)
    for stream in (scene.streams[0], scene.streams[2]):
        for _ in range(2):
            stream.mine(102)
    ledger = scene.cut()
    assert [(each.member, Fault(each.code)) for each in ledger.verdicts] == [(2, Fault.BUDGET)]
    assert counted(ledger) == {0: 2, 2: 1}


def test_owners_are_not_in_the_books_and_use_up_budget():
    """spec: CS-29"""

    def counted_with(*payloads):
        scene = Scene(bytes_base=4_000, bytes_shared=1)
        scene.tips(101)
        for kind, payload in payloads:
            scene.streams[0].add(kind, payload)
        scene.streams[0].mine(101)
        return scene.cut()

    owners = encode_registrations([SignedRegistration(*[bytes(32)] * 3, 1, 1, *[bytes(64)] * 2)])
    plain = counted_with((99, bytes(len(owners))))
    for payload in (owners, bytes(len(owners))):
        ledger = counted_with((Kind.REGISTRATION, payload))
        assert ledger.verdicts == ()
        assert ledger.root() == plain.root()
    flood = counted_with(*[(Kind.REGISTRATION, owners)] * 8)
    assert [(each.member, Fault(each.code)) for each in flood.verdicts] == [(0, Fault.BUDGET)]


def test_the_window_has_the_fewest_whole_slots_that_suffice():
    """spec: CS-13"""
    scene = Scene(window=4)
    works = []
    for height in range(101, 106):
        scene.tips(height)
        scene.streams[height % 4].mine(height, 3)
        works.append(scene.cut().window)
    # Blocks take two hashes, so a slot of three shares has one and a half.
    assert [[slot.epoch for slot in window] for window in works] == [
        [0],
        [0, 1],
        [0, 1, 2],
        [1, 2, 3],
        [2, 3, 4],
    ]
    assert {slot.blocks for slot in works[-1]} == {3 << 63}


def test_empty_epochs_are_no_slots():
    """spec: CS-13"""
    scene = Scene()
    assert scene.cut().window == ()
    assert scene.cut().window == ()


def test_states_are_read_back_and_nothing_else_is():
    """spec: CS-2, CS-16"""
    scene = Scene()
    scene.tips(101, 7)
    scene.streams[0].add(Kind.PAYOUT_SCRIPT, b"\x00\x14" + bytes(20))
    scene.streams[0].mine(101, 3)
    scene.streams[1].batch(scene.streams[1].shares(101, 1), sequence=3, key=Key(b"\x09" * 32))
    ledger = scene.cut()
    data = ledger.encode()
    found = Ledger.decode(data)
    assert found == ledger
    assert found.root() == ledger.root() == Accounting(rules_of()).root(data)
    for length in range(len(data)):
        with pytest.raises(CodecError):
            Ledger.decode(data[:length])
    with pytest.raises(CodecError):
        Ledger.decode(data + b"\0")
    with pytest.raises(LocalProtocolError):
        Accounting(rules_of(window=9)).root(data)
    with pytest.raises(LocalProtocolError):
        scene.accounting.apply(data, 0, [])
    assert Accounting(rules_of()).apply(data, 1, []) == scene.accounting.apply(data, 1, [])


def test_every_part_of_the_state_is_in_the_root():
    """spec: CS-16"""
    scene = Scene()
    scene.tips(101, 7)
    scene.streams[0].add(Kind.PAYOUT_SCRIPT, b"\x00\x14" + bytes(20))
    scene.streams[0].mine(101, 3)
    data = scene.cut().encode()
    roots = {Ledger.decode(data).root()}
    tried = 1
    for at in range(0, len(data), 7):
        try:
            roots.add(Ledger.decode(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]).root())
        except CodecError:
            continue
        tried += 1
    assert len(roots) == tried > 50


def test_rows_are_shown_by_a_path():
    """spec: CS-16"""
    for count in range(1, 10):
        rows = [Row(0, sha256d(b"%d" % each), 0, 101, 1, each, 2 * each) for each in range(count)]
        root = root_of(rows)
        assert (root.work, root.value) == (sum(range(count)), 2 * sum(range(count)))
        for index, row in enumerate(rows):
            path = path_of(rows, index)
            verify_path(row, index, count, path, root)
            for wrong in (
                (replace(row, work=row.work + 1), index, count, path),
                (row, index + 1 if count > 1 else -1, count, path),
                (row, index, count, [*path, root]),
                (row, count, count, path),
            ):
                with pytest.raises(RemoteProtocolError):
                    verify_path(*wrong, root)
            if path:
                with pytest.raises(RemoteProtocolError):
                    verify_path(row, index, count, path[:-1], root)


def test_payloads_are_read_strictly():
    """spec: CS-3"""
    said = tip(101, 5)
    assert len(said.encode()) == 80
    assert Tip.decode(said.encode()) == said
    assert decode_bodies(encode_bodies([b"", b"ab"])) == [b"", b"ab"]
    for read, data in ((Tip.decode, said.encode()), (decode_bodies, encode_bodies([b"", b"ab"]))):
        for length in range(len(data)):
            with pytest.raises(CodecError):
                read(data[:length])
        with pytest.raises(CodecError):
            read(data + b"\0")
    with pytest.raises(CodecError):
        Tip.decode(tip(101, target=0).encode())


def test_payloads_that_are_none_count_nothing(scene):
    """spec: CS-3"""
    stream = scene.streams[0]
    for kind in (Kind.TIP, Kind.TEMPLATE, Kind.PAYOUT_SCRIPT, 99):
        for payload in (b"", b"\x01", bytes(200), b"\x01\x00" + b"\x02\x00\x00\x00ab"):
            stream.add(kind, payload)
    stream.add(Kind.SHARE_BATCH, b"RPSB")
    stream.mine(101)
    ledger = scene.cut()
    assert only_fault(ledger) is Fault.BATCH
    assert counted(ledger) == {0: 1}


def test_floods_of_tips_and_bodies_are_bounded():
    """spec: CS-4, CS-5"""
    scene = Scene(lateness=4)
    stream = scene.streams[0]
    for each in range(40):
        stream.tip(101, prev_hash=block(1_000 + each))
        stream.add(Kind.TEMPLATE, encode_bodies([template(200 + each).encode()]))
    stream.tip(111)
    ledger = scene.cut()
    assert len(ledger.members[0].tips) == 16
    assert ledger.members[0].bodies == {}


def test_rules_that_cannot_be_kept_are_refused():
    """spec: CS-1"""
    for wrong in (
        {"mode": WeightMode.SLICE},
        {"msp_keys": ()},
        {"msp_keys": (b"short",)},
        {"window": 0},
        {"grace": -1},
        {"shares_target": 0},
        {"scale": REAL},
        {"lateness": 1},
        {"maturity": 0},
        {"maturity": 1_008},
        {"recovery_blocks": (4_320, 1_008)},
        {"recovery_blocks": (4_320, 65_536)},
        {"fee_sats_per_vb": 0},
        {"fee_sats_per_vb": 65_536},
        {"window": 65_536},
        {"height_first": -1},
        {"bytes_base": 1 << 64},
        {"exponent_floor": 121},
        {"scale": Scale(32, 0, 0)},
        {"scale": Scale(256, 0, 150)},
    ):
        with pytest.raises(LocalProtocolError):
            rules_of(**wrong)
    changes = ({}, {"payout": PayoutMode.DIRECT}, {"maturity": 101}, {"fee_sats_per_vb": 1})
    changes += ({"recovery_blocks": (1_008, 1_009)}, {"window": 9})
    assert len({rules_of(**change).digest for change in changes}) == len(changes)
    assert rules_of().msp_keys == tuple(key.public for key in KEYS)


def test_amounts_are_split_by_largest_remainder():
    """spec: CS-17"""
    lot = sha256d(b"a block")
    assert divide(100, {0: 1, 1: 1, 2: 2, 3: 0}, lot) == {0: 25, 1: 25, 2: 50}
    assert divide(10, {0: 5, 1: 3, 2: 1}, lot) == {0: 6, 1: 3, 2: 1}
    assert divide(100, {0: 0}, lot) == divide(0, {0: 1}, lot) == divide(100, {}, lot) == {}
    lucky = {
        max(divide(100, {0: 1, 1: 1, 2: 1}, sha256d(b"%d" % each)).items(), key=lambda p: p[1])[0]
        for each in range(40)
    }
    assert lucky == {0, 1, 2}


def test_direct_outputs_leave_out_dust_and_the_silent(scene):
    """spec: CS-18"""
    for member, count in ((0, 60), (1, 30), (2, 9), (3, 1)):
        scene.streams[member].mine(101, count)
        if member != 1:
            scene.streams[member].add(Kind.PAYOUT_SCRIPT, b"\x00\x14" + bytes([member]) * 20)
    ledger = scene.cut()
    paid = direct_outputs(ledger, 69_000)
    # 60 : 9 : 1 is nothing whole of 69000.
    assert [(script[2], sats) for script, sats in paid] == [(0, 59_143), (2, 8_871), (3, 986)]
    assert [script[2] for script, _ in direct_outputs(ledger, 10_000)] == [0, 2]
    assert direct_outputs(ledger, 545) == []
    assert direct_outputs(ledger, 546) == [(b"\x00\x14" + bytes(20), 546)]
    assert direct_outputs(Accounting(rules_of()).start(), 10**9) == []
    assert SCRIPT not in [script for script, _ in paid]
