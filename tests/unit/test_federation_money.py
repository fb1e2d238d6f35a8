"""What a member may append to have more than its part, or to stop the others: it does not help."""

import struct
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
from shares import Template
from state_rig import SCRIPT, Scene, block, rules_of, template

from radpool_sv2.chain.transaction import Transaction, TxInput, TxOutput
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.codec import CodecError
from radpool_sv2.federation.state.accounting import Accounting, Fault
from radpool_sv2.federation.state.ledger import Ledger
from radpool_sv2.federation.state.payload import (
    NO_OUTPUT,
    Found,
    decode_script,
    encode_bodies,
)
from radpool_sv2.federation.watch import ChainWatch, _Coinbase
from radpool_sv2.verify.books import Counter, Item, read_rules
from radpool_sv2.weight import Scale


class Both(Scene):
    """Is a scene that the second program counts, too."""

    def __init__(self, **changes):
        super().__init__(**changes)
        self.counter = Counter(read_rules(self.accounting.rules.encode()))

    def cut(self, **which):
        apply = self.accounting.apply

        def both(state, epoch, segments):
            self.counter.count(
                [
                    [Item(e.header.sender, e.header.seq, e.header.kind, e.payload) for e in each]
                    for each in segments
                ]
            )
            return apply(state, epoch, segments)

        self.accounting.apply = both
        ledger = super().cut(**which)
        self.accounting.apply = apply
        assert self.counter.root() == ledger.root()
        return ledger


@dataclass(frozen=True)
class Disguised(Template):
    """Is a template whose script seems to pay the syndicate: the coinbase pays somebody else."""

    def parts(self):
        prefix, before, after = super().parts()
        pays = replace(template(self.height), script=b"\x51").parts()[1]
        assert before == super().parts()[1]
        syndicate = struct.pack("<Q", self.value_sats) + bytes([len(self.script)]) + self.script
        looks = b"\xff" * 4 + b"\x03" + syndicate + bytes(8) + bytes([len(pays)])
        script_len = prefix[41] + len(looks)
        return prefix[:41] + bytes([script_len]) + prefix[42:], looks + pays, after


def disguised(height):
    # The script has 100 bytes at most.
    return Disguised(
        height=height,
        prev_hash=block(height - 1),
        script=SCRIPT,
        text=b"",
        extranonce_len=12,
    )


def test_what_stands_in_the_script_of_a_coinbase_is_no_output():
    """spec: OT-13, CS-7, CS-9"""
    scene = Both()
    scene.tips(101)
    stream = scene.streams[0]
    stream.batch(stream.shares(101, of=disguised(101)))
    ledger = scene.cut()
    assert [verdict.code for verdict in ledger.verdicts] == [Fault.BATCH]
    assert not ledger.rows


def test_bodies_above_the_budget_are_not_kept():
    """spec: CS-5, CS-15"""
    scene = Both(bytes_base=4_000, bytes_shared=0)
    scene.tips(101)
    stream = scene.streams[0]
    for number in range(100):
        stream.add(Kind.TEMPLATE, encode_bodies([template(101, version=number).encode()]))
    ledger = scene.cut()
    assert 0 < len(ledger.members[0].bodies) < 10


@pytest.mark.parametrize(
    "script",
    [
        b"",
        b"\x51",
        b"\x6a\x14" + bytes(20),
        b"\xae" * 34,
        b"\x00\x14" + bytes(21),
        b"\x51\x20" + bytes(31),
        b"\x52\x20" + bytes(32),
        b"\x21" + bytes(33) + b"\xac",
        b"\x76\xa9\x14" + bytes(20) + b"\x88\xad",
    ],
)
def test_a_script_that_nodes_do_not_relay_is_no_payout_script(script):
    """spec: CS-3"""
    with pytest.raises(CodecError):
        decode_script(script)
    scene = Both()
    scene.streams[0].add(Kind.PAYOUT_SCRIPT, script)
    assert scene.cut().members[0].script == b""


@pytest.mark.parametrize(
    "script",
    [
        b"\x76\xa9\x14" + b"\n" * 20 + b"\x88\xac",
        b"\xa9\x14" + b"\n" * 20 + b"\x87",
        b"\x00\x14" + b"\n" * 20,
        b"\x00\x20" + b"\n" * 32,
        b"\x51\x20" + b"\n" * 32,
    ],
)
def test_scripts_of_addresses_are_payout_scripts(script):
    """spec: CS-3"""
    scene = Both()
    scene.streams[0].add(Kind.PAYOUT_SCRIPT, script)
    assert scene.cut().members[0].script == script


def test_more_value_than_the_books_hold_is_void_and_costs_others_nothing():
    """spec: CS-30"""
    # As where blocks are easy and the unit of value is about that of a real chain.
    scene = Both(scale=Scale(94, 0, 150))
    scene.tips(101)
    price = (5_000_000_000 << 94) // 2
    for _ in range(8):
        for stream, part in zip(scene.streams, (price, price >> 40), strict=False):
            stream.batch(stream.shares(101, price=part), weight=(1, 94, 0))
    ledger = scene.cut()
    assert [(each.member, each.code) for each in ledger.verdicts] == [(0, Fault.SUM)] * 7
    assert [(row.member, row.value) for row in ledger.rows] == [(0, price), (1, 8 * (price >> 40))]
    # The window has it still.
    scene.tips(102)
    scene.streams[0].batch(scene.streams[0].shares(102, price=price), weight=(1, 94, 0))
    assert [each.code for each in scene.cut().verdicts] == [Fault.SUM]


def test_a_state_is_read_as_itself_while_another_one_is_counted():
    """spec: CS-2"""
    accounting = Accounting(rules_of())
    first = accounting.apply(b"", 0, [])

    class Slow(bytes):
        """Is a state while which is compared another thread counts on."""

        __hash__ = bytes.__hash__

        def __eq__(self, other):
            accounting._last = (second, Ledger.decode(second))
            return bytes.__eq__(self, other)

    second = Accounting(rules_of()).apply(first, 1, [])
    assert accounting.ledger(Slow(first)).epochs == 1


@pytest.mark.parametrize("vout", [0xFFFE, 0xFFFF, 0x10000])
def test_an_output_too_far_back_to_be_told_is_not_told(vout):
    """spec: CS-3, SO-5"""
    ledger = Scene().cut()
    coinbase = Transaction(
        2,
        (TxInput((bytes(32), 0xFFFFFFFF), b"\x01\x65", 0),),
        (*[TxOutput(0, b"")] * vout, TxOutput(7, SCRIPT)),
        0,
    )
    said = []
    stream = SimpleNamespace(append=lambda kind, payload: said.append((kind, payload)))
    watch = ChainWatch(None, rules_of(), 0, stream, None, tips=False)
    watch._coinbases[101] = _Coinbase(block(101), 101, coinbase)
    watch._say_found(ledger)
    assert [Found.decode(payload).vout for _, payload in said] == [vout] * (vout < NO_OUTPUT)
