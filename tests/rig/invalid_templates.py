"""Kinds of invalid template: each spoils a good one in one way.

    for kind in KINDS.values():
        draft = kind.spoil(workshop)
        worse = kind.change(workshop, another_draft)

`kind.seen` says who has to refuse it first: "declaring", because it is no template at all,
"structure", which needs no coins, or "coins", which takes a full verdict; "header" is for blocks
whose fault a declaration cannot have. `kind.reason` is Core's word.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from radpool_sv2.chain.block import COMMITMENT_PREFIX
from radpool_sv2.chain.script import push
from radpool_sv2.chain.transaction import Transaction, TxInput, TxOutput
from radpool_sv2.consensus import push_height

from .template_draft import (
    ANYONE,
    FUTURE,
    NULL_POINT,
    WITNESS_ANYONE,
    WITNESS_SCRIPT,
    Coin,
    Draft,
    Workshop,
    coin_of,
    spend,
)

MISSING = "bad-txns-inputs-missingorspent"
SCRIPT = "block-script-verify-flag-failed"
MONEY_MAX = 21_000_000 * 100_000_000
DECODE = "block-decode-failed"


@dataclass(frozen=True)
class Kind:
    """One way to spoil a template."""

    name: str
    seen: str
    reason: str
    change: Callable[[Workshop, Draft], Draft]

    @property
    def is_large(self):
        """Whether it makes megabytes."""
        return "heavy" in self.name or "weight" in self.name or "bytes-than" in self.name

    def spoil(self, shop):
        """The good template, spoiled."""
        return self.change(shop, shop.good())


KINDS: dict[str, Kind] = {}


def kind(seen, reason):
    """Registers a function that spoils the good template under the function's name."""

    def register(spoil):
        name = spoil.__name__.replace("_", "-")
        assert name not in KINDS
        KINDS[name] = Kind(name, seen, reason, spoil)
        return spoil

    return register


def spare(shop):
    """A mature coin that the good template leaves alone."""
    return shop.coins[3]


# The header.


@kind("header", "stale-prevblk")
def builds_on_an_unknown_block(_, good):
    return replace(good, previous=b"\x77" * 32)


@kind("header", "stale-prevblk")
def builds_on_the_block_below_the_tip(shop, good):
    return replace(good, previous=shop.node.chain.tips[-2].hash, height=good.height - 1)


@kind("header", "bad-diffbits")
def claims_another_difficulty(_, good):
    return replace(good, nbits=0x1D00FFFF)


@kind("header", "time-too-old")
def time_is_the_median(_, good):
    return replace(good, ntime=good.median_time)


@kind("header", "time-too-new")
def time_is_hours_ahead(_, good):
    return replace(good, ntime=good.ntime + 100 * 86_400)


@kind("header", "bad-version(0x00000001)")
def version_of_2009(_, good):
    return replace(good, version=1)


@kind("header", "bad-version(0x00000003)")
def version_of_2015(_, good):
    return replace(good, version=3)


@kind("header", "bad-txnmrklroot")
def root_of_something_else(_, good):
    return replace(good, root=b"\x11" * 32)


# The tree.


@kind("structure", "bad-txns-duplicate")
def last_transaction_twice(_, good):
    one, two, _ = good.transactions
    return replace(good, transactions=(one, two, two))


@kind("structure", "bad-txns-duplicate")
def last_pair_twice(shop, good):
    one, two, three = good.transactions
    more = spend([spare(shop)], [(1_000, ANYONE)])
    last = spend([shop.coins[4]], [(1_000, ANYONE)])
    return replace(good, transactions=(one, two, three, more, last, more, last))


@kind("structure", MISSING)
def a_transaction_twice_apart(_, good):
    one, two, three = good.transactions
    return replace(good, transactions=(one, two, three, one))


# The coinbase.


@kind("structure", "bad-cb-missing")
def coinbase_spends_an_output(shop, good):
    return good.with_coinbase(point=spare(shop).point)


@kind("structure", "bad-cb-missing")
def coinbase_has_an_index(_, good):
    return good.with_coinbase(point=(bytes(32), 0))


@kind("declaring", "bad-cb-missing")
def coinbase_has_two_inputs(shop, good):
    return good.with_coinbase(more_inputs=(TxInput(spare(shop).point, b"", 0),))


@kind("structure", "bad-cb-multiple")
def second_coinbase(_, good):
    source = TxInput(NULL_POINT, push_height(good.height) + b"\x00", 0)
    return good.adding(Transaction(2, (source,), (TxOutput(0, ANYONE),), 0))


@kind("structure", "bad-cb-length")
def coinbase_script_of_one_byte(_, good):
    return good.with_coinbase(script=b"\x02", extranonce_len=0)


@kind("structure", "bad-cb-length")
def coinbase_script_of_101_bytes(_, good):
    return good.with_coinbase(script=push_height(good.height), extranonce_len=98)


@kind("structure", "bad-cb-height")
def height_of_the_tip(_, good):
    return good.with_coinbase(script=push_height(good.height - 1) + bytes(4))


@kind("structure", "bad-cb-height")
def height_of_the_block_after(_, good):
    return good.with_coinbase(script=push_height(good.height + 1) + bytes(4))


@kind("structure", "bad-cb-height")
def height_in_a_longer_form(_, good):
    return good.with_coinbase(script=push(good.height.to_bytes(3, "little")) + bytes(4))


@kind("structure", "bad-cb-height")
def no_height(_, good):
    return good.with_coinbase(script=b"\x07radpool")


def paying(good, sats):
    (first, script), *rest = good.coinbase.outputs
    return good.with_coinbase(outputs=((first + sats, script), *rest))


@kind("coins", "bad-cb-amount")
def a_satoshi_too_much(_, good):
    return paying(good, 1)


@kind("coins", "bad-cb-amount")
def fees_of_a_transaction_that_was_left_out(_, good):
    return replace(good, transactions=good.transactions[:2])


@kind("coins", "bad-cb-amount")
def twice_the_subsidy(_, good):
    return paying(good, good.coinbase.outputs[0][0])


@kind("coins", "bad-cb-amount")
def too_much_in_an_output_of_its_own(_, good):
    return good.with_coinbase(outputs=(*good.coinbase.outputs, (1, ANYONE)))


@kind("structure", "bad-txns-vout-negative")
def coinbase_pays_less_than_nothing(_, good):
    return good.with_coinbase(outputs=(*good.coinbase.outputs, (-1, ANYONE)))


@kind("structure", "bad-txns-vout-toolarge")
def coinbase_pays_more_than_there_is(_, good):
    return good.with_coinbase(outputs=(*good.coinbase.outputs, (MONEY_MAX + 1, ANYONE)))


@kind("structure", "bad-txns-txouttotal-toolarge")
def coinbase_outputs_sum_to_more_than_there_is(_, good):
    return good.with_coinbase(outputs=((MONEY_MAX, ANYONE), (1, ANYONE)))


@kind("structure", "bad-txns-vout-empty")
def coinbase_pays_nobody(_, good):
    return good.with_coinbase(outputs=(), commitment=b"")


@kind("structure", "bad-txns-nonfinal")
def coinbase_is_locked(_, good):
    return good.with_coinbase(locktime=good.height)


@kind("structure", "bad-blk-sigops")
def coinbase_full_of_signature_operations(_, good):
    outputs = ((0, b"\xac" * 10_000), (0, b"\xac" * 10_001))
    return good.with_coinbase(outputs=(*good.coinbase.outputs, *outputs))


# Witnesses.


@kind("structure", "unexpected-witness")
def no_commitment(_, good):
    return good.with_coinbase(commitment=b"")


@kind("structure", "unexpected-witness")
def witness_of_the_coinbase_alone(_, good):
    bare = tuple(each for each in good.transactions if not each.inputs[0].witness)
    return replace(good, transactions=bare).with_coinbase(commitment=b"")


@kind("structure", "unexpected-witness")
def commitment_a_byte_too_short(_, good):
    short = b"\x6a\x23" + good.commitment[2:-1]
    return good.with_coinbase(commitment=short)


@kind("structure", "bad-witness-merkle-match")
def commitment_to_other_witnesses(_, good):
    return good.with_coinbase(commitment=COMMITMENT_PREFIX + bytes(32))


@kind("structure", "bad-witness-merkle-match")
def commitment_before_a_change(shop, good):
    added = spend([spare(shop)], [(1_000, ANYONE)])
    return good.with_coinbase(commitment=good.commitment).adding(added)


@kind("structure", "bad-witness-merkle-match")
def right_commitment_before_a_wrong_one(_, good):
    outputs = (*good.coinbase.outputs, (0, good.commitment))
    return good.with_coinbase(outputs=outputs, commitment=COMMITMENT_PREFIX + bytes(32))


@kind("structure", "bad-witness-merkle-match")
def same_transaction_with_another_witness(_, good):
    one, child, other = good.transactions
    stuffed = replace(child.inputs[0], witness=(b"stuffed", WITNESS_SCRIPT))
    changed = replace(child, inputs=(stuffed,))
    assert changed.txid == child.txid
    kept = good.with_coinbase(commitment=good.commitment)
    return replace(kept, transactions=(one, changed, other))


@kind("structure", "bad-witness-nonce-size")
def reserved_value_of_31_bytes(_, good):
    return good.with_coinbase(witness=(bytes(31),))


@kind("structure", "bad-witness-nonce-size")
def reserved_value_and_another(_, good):
    return good.with_coinbase(witness=(bytes(32), bytes(32)))


@kind("structure", "bad-witness-nonce-size")
def commitment_and_no_reserved_value(_, good):
    return good.with_coinbase(witness=())


# Forms of transactions.


@kind("structure", "bad-txns-vin-empty")
def spends_and_pays_nothing(_, good):
    return good.adding(spend([], []))


@kind("structure", "bad-txns-vout-empty")
def pays_nobody(_, good):
    return good.adding(spend([coin_of(good.transactions[2], 0)], []))


@kind("structure", "bad-txns-vout-negative")
def pays_less_than_nothing(shop, good):
    return good.adding(spend([spare(shop)], [(-1, ANYONE)]))


@kind("structure", "bad-txns-vout-toolarge")
def pays_more_than_there_is(shop, good):
    return good.adding(spend([spare(shop)], [(MONEY_MAX + 1, ANYONE)]))


@kind("structure", "bad-txns-vout-toolarge")
def two_outputs_that_overflow_to_little(shop, good):
    """The block of August 2010 that made 184 billion coins."""
    return good.adding(spend([spare(shop)], [((1 << 63) - 1, ANYONE), ((1 << 63) - 1, ANYONE)]))


@kind("structure", "bad-txns-txouttotal-toolarge")
def outputs_sum_to_more_than_there_is(shop, good):
    return good.adding(spend([spare(shop)], [(MONEY_MAX, ANYONE), (MONEY_MAX, ANYONE)]))


@kind("structure", "bad-txns-inputs-duplicate")
def spends_one_coin_twice_at_once(shop, good):
    """The inflation that Core 0.14 to 0.16.2 would have let in."""
    coin = spare(shop)
    return good.adding(spend([coin, coin], [(2 * coin.sats, ANYONE)]))


@kind("structure", "bad-txns-prevout-null")
def spends_nothing_beside_a_coin(shop, good):
    return good.adding(spend([spare(shop), Coin(NULL_POINT, 0)], [(1, ANYONE)]))


@kind("declaring", DECODE)
def transaction_with_bytes_too_many(_, good):
    first, *others = good.transactions_raw
    return replace(good, raws=(first + b"\xff" * 4, *others))


@kind("declaring", DECODE)
def transaction_cut_short(_, good):
    *others, last = good.transactions_raw
    return replace(good, raws=(*others, last[:-1]))


@kind("declaring", DECODE)
def mark_of_a_witness_that_is_not_there(shop, good):
    bare = spend([spare(shop)], [(1_000, ANYONE)])
    raw = bare.raw[:4] + b"\x00\x01" + bare.raw[4:-4] + b"\x00" + bare.raw[-4:]
    return replace(good.adding(bare), raws=(*good.transactions_raw, raw))


# Locks.


@kind("structure", "bad-txns-nonfinal")
def locked_until_the_next_height(shop, good):
    return good.adding(spend([spare(shop)], [(1, ANYONE)], sequence=0, locktime=good.height))


@kind("structure", "bad-txns-nonfinal")
def locked_until_the_median_time(shop, good):
    locked = spend([spare(shop)], [(1, ANYONE)], sequence=0, locktime=good.median_time)
    return good.adding(locked)


@kind("coins", "bad-txns-nonfinal")
def relative_lock_in_blocks(shop, good):
    return good.adding(spend([spare(shop)], [(1, ANYONE)], sequence=5_000))


@kind("coins", "bad-txns-nonfinal")
def relative_lock_in_time(shop, good):
    return good.adding(spend([spare(shop)], [(1, ANYONE)], sequence=1 << 22 | 0xFFFF))


@kind("coins", "bad-txns-nonfinal")
def relative_lock_on_a_parent_in_the_block(_, good):
    parent = coin_of(good.transactions[0], 1)
    return good.adding(spend([parent], [(1, ANYONE)], sequence=1))


# Spends.


@kind("coins", MISSING)
def spends_what_never_was(_, good):
    return good.adding(spend([Coin((b"\x42" * 32, 0), 1_000)], [(1, ANYONE)]))


@kind("coins", MISSING)
def spends_what_was_spent_before(shop, good):
    return good.adding(spend([shop.spent], [(1, ANYONE)]))


@kind("coins", MISSING)
def spends_an_output_that_a_confirmed_transaction_lacks(shop, good):
    point = (shop.confirmed.txid, 1)
    return good.adding(spend([Coin(point, 1_000)], [(1, ANYONE)]))


@kind("structure", MISSING)
def spends_what_the_block_has_spent(shop, good):
    return good.adding(spend([shop.coins[2]], [(1, ANYONE)]))


@kind("structure", MISSING)
def child_before_its_parent(_, good):
    parent, child, other = good.transactions
    return replace(good, transactions=(child, parent, other))


@kind("structure", MISSING)
def spends_an_output_that_its_parent_lacks(_, good):
    return good.adding(spend([Coin((good.transactions[0].txid, 3), 1_000)], [(1, ANYONE)]))


@kind("structure", MISSING)
def spends_data(_, good):
    return good.adding(spend([coin_of(good.transactions[0], 2)], [(0, ANYONE)]))


@kind("structure", MISSING)
def spends_a_script_too_long_to_run(shop, good):
    parent = spend([spare(shop)], [(1_000, b"\x51" * 10_001)])
    return good.adding(parent, spend([coin_of(parent, 0)], [(1, ANYONE)]))


@kind("coins", "bad-txns-premature-spend-of-coinbase")
def spends_a_young_reward(shop, good):
    return good.adding(spend([shop.immature], [(1, ANYONE)]))


@kind("coins", "bad-txns-in-belowout")
def pays_more_than_it_spends(shop, good):
    coin = spare(shop)
    return good.adding(spend([coin], [(coin.sats + 1, ANYONE)]))


@kind("coins", "bad-txns-BIP30")
def confirmed_transaction_again(shop, good):
    return good.adding(shop.confirmed)


# Scripts.


def through(shop, good, lock, **unlock):
    """A payment to a script, and a spend of it that does not unlock it."""
    coin = spare(shop)
    parent = spend([coin], [(coin.sats - 1_000, lock)])
    unlock.setdefault("witness", ())
    return good.adding(parent, spend([coin_of(parent, 0)], [(1_000, ANYONE)], **unlock))


@kind("coins", SCRIPT)
def script_that_is_false(shop, good):
    return through(shop, good, b"\x00")


@kind("coins", SCRIPT)
def disabled_operation(shop, good):
    return through(shop, good, b"\x51\x51\x7e")


@kind("coins", SCRIPT)
def witness_where_none_belongs(shop, good):
    return through(shop, good, ANYONE, witness=(b"x",))


@kind("coins", SCRIPT)
def no_witness_where_one_belongs(shop, good):
    return through(shop, good, WITNESS_ANYONE)


@kind("coins", SCRIPT)
def witness_of_another_program(shop, good):
    return through(shop, good, WITNESS_ANYONE, witness=(b"\x52",))


@kind("coins", SCRIPT)
def witness_program_of_a_wrong_length(shop, good):
    return through(shop, good, b"\x00\x15" + b"\x01" * 21, witness=(b"x",))


@kind("coins", SCRIPT)
def taproot_signature_of_nobody(shop, good):
    key = bytes.fromhex("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
    return through(shop, good, b"\x51\x20" + key, witness=(bytes(64),))


@kind("coins", SCRIPT)
def redeem_script_of_another(shop, good):
    program = hashlib.new("ripemd160", hashlib.sha256(b"\x51").digest()).digest()
    return through(shop, good, b"\xa9\x14" + program + b"\x87", script=b"\x01\x52")


@kind("coins", SCRIPT)
def redeem_script_that_is_not_pushed(shop, good):
    program = hashlib.new("ripemd160", hashlib.sha256(b"\x51").digest()).digest()
    return through(shop, good, b"\xa9\x14" + program + b"\x87", script=b"\x61\x01\x51")


@kind("coins", SCRIPT)
def absolute_lock_of_the_script(shop, good):
    script = push((good.height + 10).to_bytes(3, "little")) + b"\xb1"
    return through(shop, good, script, sequence=0)


@kind("coins", SCRIPT)
def relative_lock_of_the_script(shop, good):
    return through(shop, good, b"\x52\xb2", sequence=0)


@kind("coins", SCRIPT)
def dummy_of_a_multisig(shop, good):
    return through(shop, good, b"\x00\x00\xae", script=b"\x51")


@kind("coins", SCRIPT)
def signature_in_a_loose_form(shop, good):
    key = bytes.fromhex("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
    return through(shop, good, push(key) + b"\xac\x91", script=push(b"\x30\x01\x01"))


# Limits.


@kind("structure", "bad-blk-sigops")
def signature_operations_in_outputs(shop, good):
    outputs = [(0, b"\xac" * 10_000), (0, b"\xac" * 10_001)]
    return good.adding(spend([spare(shop)], outputs))


@kind("coins", "bad-blk-sigops")
def signature_operations_in_witnesses(shop, good):
    """195 multisigs that are never run count 20 each, in each of 21 inputs."""
    inner = b"\x51\x00\x63" + b"\xae" * 195 + b"\x68"
    program = b"\x00\x20" + hashlib.sha256(inner).digest()
    coin = spare(shop)
    parent = spend([coin], [(1_000, program)] * 21)
    coins = [coin_of(parent, index) for index in range(21)]
    return good.adding(parent, spend(coins, [(1, ANYONE)], witness=(inner,)))


@kind("structure", "bad-blk-weight")
def witness_that_is_too_heavy(shop, good):
    parent = spend([spare(shop)], [(1_000, FUTURE)])
    child = spend([coin_of(parent, 0)], [(1, ANYONE)], witness=(bytes(3_999_000),))
    return good.adding(parent, child)


@kind("structure", "bad-blk-length")
def more_bytes_than_a_block_may_have(shop, good):
    outputs = [(0, b"\x6a" + bytes(9_999))] * 100
    return good.adding(spend([spare(shop)], outputs))


@kind("structure", "bad-blk-weight")
def one_weight_unit_too_many(shop, good):
    return padded_to(shop, good, 4_000_001)


def padded_to(shop, good, weight):
    """The good template with a transaction whose witness makes the block that heavy."""
    parent = spend([spare(shop)], [(1_000, FUTURE)])
    padding = 3_900_000
    while True:
        child = spend([coin_of(parent, 0)], [(1, ANYONE)], witness=(bytes(padding),))
        draft = good.adding(parent, child)
        found = draft.declare().weight
        if found == weight:
            return draft
        padding += weight - found
