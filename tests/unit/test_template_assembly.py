"""Declared templates on their way: from memory, from the node, from the declarer."""

from dataclasses import replace

import pytest
from rig.template_draft import ANYONE, Coin, CoinbaseDraft, Draft, sha256d, spend

from radpool_sv2._native.template import (
    TRANSACTIONS_MAX,
    Declaration,
    Selection,
    TransactionCache,
    parse_transaction_ids,
)
from radpool_sv2.consensus import push_height
from radpool_sv2.declarator.assembly import Assembler
from radpool_sv2.errors import LocalProtocolError, NodeError, RemoteProtocolError
from radpool_sv2.templates.declared import TipView

HEIGHT = 700
TIP = TipView(HEIGHT, b"\x05" * 32, 1_001, 0x207FFFFF, b"\xff" * 32)


class Mempool:
    """A node's mempool."""

    def __init__(self, *raws):
        self.known = {sha256d(each): each for each in raws}
        self.asked = []

    async def known_transactions(self, wtxids):
        self.asked.append(list(wtxids))
        return {each: self.known[each] for each in wtxids if each in self.known}


class Away:
    async def known_transactions(self, _):
        raise NodeError("it is away")


class Mad:
    async def known_transactions(self, wtxids):
        return dict.fromkeys(wtxids, b"nonsense")


def payment(number):
    coin = Coin((bytes([number]) * 32, 0), 5_000)
    return spend([coin], [(1_000, ANYONE)], witness=(b"\x51",))


def draft(count=6):
    script = push_height(HEIGHT) + b"\x10"
    coinbase = CoinbaseDraft(script=script, outputs=((5_000, ANYONE), (0, b"\x6a")))
    return Draft(
        previous=TIP.prev_hash,
        height=HEIGHT,
        ntime=TIP.min_ntime,
        median_time=TIP.min_ntime - 1,
        coinbase=coinbase,
        transactions=tuple(payment(n + 1) for n in range(count)),
    )


async def begin(assembler, draft):
    prefix, suffix = draft.parts
    return await assembler.begin(
        version=draft.version,
        coinbase_prefix=prefix,
        coinbase_suffix=suffix,
        wtxids=tuple(each.wtxid for each in draft.transactions),
    )


async def test_cache_then_node_then_declarer():
    """What nobody here has is asked for once, and that alone is taken (spec: JD-13, JD-14)."""
    template = draft()
    raws = [each.raw for each in template.transactions]
    cache = TransactionCache(1_000_000)
    cache.add(raws[:2])
    node = Mempool(raws[2], raws[4])
    assembly = await begin(Assembler(cache, node), template)
    assert node.asked == [[sha256d(each) for each in raws[2:]]]
    assert assembly.missing == (3, 5)
    for wrong in ([raws[3]], [raws[5], raws[3]], [raws[3], raws[5], raws[0]], [raws[3], b"x"]):
        with pytest.raises(RemoteProtocolError):
            await assembly.supply(wrong)
    await assembly.supply([raws[3], raws[5]])
    declaration = await assembly.declaration(tip=TIP)
    assert declaration.structural() is None
    assert declaration.proposal(template.ntime) == template.block()
    again = await begin(Assembler(cache, node), template)
    assert again.missing == ()
    assert len(node.asked) == 1


async def test_template_that_lacks_transactions_is_none():
    assembly = await begin(Assembler(TransactionCache(1_000), Mempool()), draft(2))
    with pytest.raises(LocalProtocolError, match="2 transactions are missing"):
        await assembly.declaration(tip=TIP)


@pytest.mark.parametrize("node", [Away(), Mad(), Mempool()])
async def test_node_that_is_of_no_help_leaves_all_to_the_declarer(node):
    template = draft(3)
    assembly = await begin(Assembler(TransactionCache(1_000), node), template)
    assert assembly.missing == (0, 1, 2)
    await assembly.supply([each.raw for each in template.transactions])
    assert (await assembly.declaration(tip=TIP)).structural() is None


async def test_template_without_transactions_asks_nobody():
    node = Mempool()
    assembly = await begin(Assembler(TransactionCache(0), node), draft(0))
    assert (assembly.missing, node.asked) == ((), [])
    assert (await assembly.declaration(tip=TIP)).tx_count == 0


async def test_lists_on_both_sides_of_the_bound():
    assembler = Assembler(TransactionCache(0), Mempool())
    for count in (TRANSACTIONS_MAX, TRANSACTIONS_MAX + 1):
        given = {"version": 1, "coinbase_prefix": b"", "coinbase_suffix": b""}
        wtxids = tuple(count * [bytes(32)])
        if count > TRANSACTIONS_MAX:
            with pytest.raises(RemoteProtocolError, match="at most 16666"):
                await assembler.begin(**given, wtxids=wtxids)
        else:
            assert (await assembler.begin(**given, wtxids=wtxids)).missing == (0,)


async def test_coinbase_that_is_none_has_the_protocols_code():
    template = draft(1)
    assembler = Assembler(TransactionCache(0), Mempool(template.transactions[0].raw))
    prefix, suffix = template.parts
    assembly = await assembler.begin(
        version=1,
        coinbase_prefix=prefix,
        coinbase_suffix=suffix[:-1],
        wtxids=(template.transactions[0].wtxid,),
    )
    with pytest.raises(RemoteProtocolError, match="not one transaction") as raised:
        await assembly.declaration(tip=TIP)
    assert raised.value.error_code == "invalid-coinbase-tx"


def test_least_time_of_the_tip_never_refuses_what_is_final():
    """The median is below it; a lock that ends at the median is left to the full verdict."""
    for locktime, wrong in ((TIP.min_ntime - 2 + 500_000_000, None), (HEIGHT, "bad-txns-nonfinal")):
        locked = replace(payment(1), locktime=locktime)
        locked = replace(locked, inputs=(replace(locked.inputs[0], sequence=0),))
        template = replace(draft(0), median_time=TIP.min_ntime - 1 + 500_000_000)
        told = replace(template, transactions=(locked,)).declare().structural()
        assert (told and told[0]) == wrong


def test_declaration_tells_its_parts():
    template = draft(5)
    told = template.declare()
    coinbase = template.coinbase_tx
    assert told.outputs == [(each.value_sats, each.script) for each in coinbase.outputs]
    assert told.outputs_raw == b"".join(each.to_bytes() for each in coinbase.outputs)
    assert (told.script_prefix, told.script_suffix) == (template.coinbase.script, b"")
    assert (told.coinbase_tx_version, told.coinbase_locktime) == (2, 0)
    assert told.coinbase_sequence == template.coinbase.sequence
    assert told.extranonce_len == 16
    assert (told.version, told.prev_hash, told.nbits, told.height) == (
        template.version,
        template.previous,
        template.nbits,
        HEIGHT,
    )
    assert told.tx_count == 5
    assert told.wtxids == b"".join(each.wtxid for each in template.transactions)
    assert told.size == len(template.block())
    assert told.coinbase(bytes(16)) == coinbase.raw
    assert told.coinbase(bytes(16), witness=False) == coinbase.to_bytes(witness=False)
    block = told.block(b"\x07" * 16, version=1, ntime=2, nonce=3)
    assert block[36:68] == told.merkle_root(b"\x07" * 16)
    assert told.block_of(block[:80], told.coinbase(b"\x07" * 16, witness=False)) == block
    for wrong in (b"", bytes(15), bytes(17)):
        with pytest.raises(LocalProtocolError, match="this template's has 16"):
            told.block(wrong, version=1, ntime=2, nonce=3)
    with pytest.raises(LocalProtocolError, match="80 bytes"):
        told.block_of(block[:79], told.coinbase(bytes(16)))
    with pytest.raises(LocalProtocolError, match="whatever the extranonce"):
        told.block_of(block[:80], b"nonsense")
    assert repr(told) == f"Declaration(height {HEIGHT}, 5 transactions)"


def test_numbers_out_of_range_are_the_callers_fault():
    selection = Selection(TransactionCache(0), b"")
    good = {
        "version": 1,
        "prev_hash": bytes(32),
        "nbits": 1,
        "height": 1,
        "coinbase_prefix": b"",
        "coinbase_suffix": b"",
    }
    for name, wrong in (("version", -1), ("nbits", 1 << 32), ("prev_hash", b"x"), ("height", -1)):
        with pytest.raises(LocalProtocolError):
            Declaration.build(selection, **{**good, name: wrong})
    with pytest.raises(RemoteProtocolError, match="no list of hashes"):
        Selection(TransactionCache(0), b"x")
    with pytest.raises(LocalProtocolError, match="no list of hashes"):
        TransactionCache(0).missing(b"x")
    with pytest.raises(LocalProtocolError, match="out of range"):
        TransactionCache(-1)


def test_ids_and_cache():
    one, two = payment(1), payment(2)
    assert parse_transaction_ids(one.raw) == (one.txid, one.wtxid)
    with pytest.raises(RemoteProtocolError, match="too many"):
        parse_transaction_ids(one.raw + b"\x00")
    cache = TransactionCache(1_000_000)
    assert cache.add([one.raw, two.raw, one.raw]) == [one.wtxid, two.wtxid, one.wtxid]
    assert cache.count == 2
    assert cache.bytes > len(one.raw) + len(two.raw)
    assert cache.missing(one.wtxid + bytes(32) + two.wtxid) == [1]
    with pytest.raises(RemoteProtocolError, match="transaction 1: the bytes end"):
        cache.add([one.raw, two.raw[:-1]])
