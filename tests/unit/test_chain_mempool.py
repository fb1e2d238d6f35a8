"""The mempool and the choice of transactions, with real signatures on a real engine."""

import pytest
from chain_rig import ANYONE, open_node

from radpool_sv2.chain import assembly, mempool
from radpool_sv2.chain.assembly import Room, choose
from radpool_sv2.chain.faucet import FAUCET_SECRET, TaprootKey
from radpool_sv2.chain.mempool import RefusedError
from radpool_sv2.chain.transaction import Transaction, TxInput, TxOutput

FAUCET = TaprootKey(FAUCET_SECRET)
FINAL = 0xFFFFFFFF
FUND = 100_000


@pytest.fixture
def node(tmp_path):
    """A node whose tip has made 30 coins that anyone may spend."""
    node = open_node(tmp_path)
    point, coin = node.chain.of_script(FAUCET.script)[0]
    outputs = tuple(TxOutput(FUND, ANYONE) for _ in range(30))
    change = TxOutput(coin.output.value_sats - 30 * FUND - 5_000, FAUCET.script)
    split = Transaction(2, (TxInput(point, b"", FINAL),), (*outputs, change), 0)
    node.submit_transaction(FAUCET.sign(split, [coin.output]).to_bytes())
    node.mine(FAUCET.script)
    node.split = split.txid
    yield node
    node.close()


def tx(node, *points, fee=1_000, outputs=1, sequence=FINAL, locktime=0, version=2, pad=0):
    """Spends coins of the split (by index) or outputs of other transactions (by pair)."""
    points = [(node.split, p) if isinstance(p, int) else (p[0].txid, p[1]) for p in points]
    value = sum(value_at(node, point) for point in points) - fee
    outs = [TxOutput(value // outputs, ANYONE)] * (outputs - 1)
    outs.append(TxOutput(value - value // outputs * (outputs - 1), ANYONE))
    if pad:
        outs.append(TxOutput(0, b"\x6a" + bytes(pad)))
    inputs = tuple(TxInput(point, b"", sequence) for point in points)
    return Transaction(version, inputs, tuple(outs), locktime)


def value_at(node, point):
    coin = node.chain.coins.get(point)
    if coin is not None:
        return coin.output.value_sats
    return node.mempool.entries[point[0]].transaction.outputs[point[1]].value_sats


def give(node, transaction):
    node.submit_transaction(transaction.to_bytes())
    return transaction


def refused(node, transaction):
    before = dict(node.mempool.entries), node.mempool.weight
    with pytest.raises(RefusedError) as caught:
        node.submit_transaction(transaction.to_bytes())
    assert (dict(node.mempool.entries), node.mempool.weight) == before
    return caught.value.reason


def test_same_transaction_twice(node):
    first = give(node, tx(node, 0))
    assert refused(node, first) == "txn-already-in-mempool"


def test_second_spend_of_an_output(node):
    give(node, tx(node, 0))
    assert refused(node, tx(node, 0, fee=9_000)) == "txn-mempool-conflict"


def test_same_input_twice(node):
    assert refused(node, tx(node, 0, 0)) == "bad-txns-inputs-duplicate"


def test_outputs_above_inputs(node):
    assert refused(node, tx(node, 0, fee=-1)) == "bad-txns-in-belowout"


def test_amounts_out_of_range(node):
    one = tx(node, 0)
    for value in (-1, 21_000_000 * 10**8 + 1):
        wrong = Transaction(2, one.inputs, (TxOutput(value, ANYONE),), 0)
        assert refused(node, wrong) == "bad-txns-vout-toolarge"


def test_no_outputs(node):
    assert refused(node, Transaction(2, tx(node, 0).inputs, (), 0)) == "bad-txns-vout-empty"


def test_coinbase_outside_a_block(node):
    null = TxInput((bytes(32), FINAL), b"\x01\x01", FINAL)
    assert refused(node, Transaction(2, (null,), (TxOutput(1, ANYONE),), 0)) == "coinbase"


def test_fee_rate_on_both_sides_of_the_bound(node):
    least = -(-tx(node, 0).weight // 4)
    assert refused(node, tx(node, 0, fee=least - 1)) == "min relay fee not met"
    give(node, tx(node, 0, fee=least))


def test_weight_on_both_sides_of_the_bound(node, monkeypatch):
    weight = tx(node, 0, pad=100).weight
    monkeypatch.setattr(mempool, "TX_WEIGHT_MAX", weight - 1)
    assert refused(node, tx(node, 0, pad=100)) == "tx-size"
    monkeypatch.setattr(mempool, "TX_WEIGHT_MAX", weight)
    give(node, tx(node, 0, pad=100))


def test_signature_operations_on_both_sides_of_the_bound(node):
    one = tx(node, 0, fee=50_000)
    for count, reason in ((4_001, "bad-txns-too-many-sigops"), (4_000, None)):
        outputs = (*one.outputs, TxOutput(0, b"\xac" * count))
        many = Transaction(2, one.inputs, outputs, 0)
        if reason:
            assert refused(node, many) == reason
        else:
            give(node, many)


def test_locktime_by_height_on_both_sides(node):
    height = node.chain.height + 1
    assert refused(node, tx(node, 0, locktime=height, sequence=0)) == "non-final"
    give(node, tx(node, 0, locktime=height - 1, sequence=0))
    give(node, tx(node, 1, locktime=height, sequence=FINAL))


def test_locktime_by_time_on_both_sides(node):
    median = node.chain.median_time()
    assert refused(node, tx(node, 0, locktime=median, sequence=FINAL - 1)) == "non-final"
    give(node, tx(node, 0, locktime=median - 1, sequence=FINAL - 1))


def test_relative_lock_by_blocks_on_both_sides(node):
    assert refused(node, tx(node, 0, sequence=2)) == "non-BIP68-final"
    give(node, tx(node, 0, sequence=1))
    give(node, tx(node, 1, sequence=2, version=1))
    give(node, tx(node, 2, sequence=1 << 31 | 2))


def test_relative_lock_by_time_holds(node):
    assert refused(node, tx(node, 0, sequence=1 << 22 | 1)) == "non-BIP68-final"
    give(node, tx(node, 0, sequence=1 << 22))


def test_what_the_mempool_takes_the_engine_takes(node):
    """Locks, parents and signature operations at their bounds, all in one block."""
    height, median = node.chain.height + 1, node.chain.median_time()
    parent = give(node, tx(node, 0, locktime=height - 1, sequence=0))
    give(node, tx(node, (parent, 0), sequence=0))
    give(node, tx(node, 1, locktime=median - 1, sequence=FINAL - 1))
    give(node, tx(node, 2, sequence=1))
    give(node, tx(node, 3, sequence=1 << 22))
    answer = node.mine(ANYONE)
    assert answer.active, answer
    assert node.mempool.entries == {}


def test_ancestors_on_both_sides_of_the_bound(node):
    last = give(node, tx(node, 0, fee=200))
    for _ in range(mempool.PACKAGE_MAX - 1):
        last = give(node, tx(node, (last, 0), fee=200))
    assert refused(node, tx(node, (last, 0), fee=200)) == "too-long-mempool-chain"


def test_descendants_on_both_sides_of_the_bound(node):
    parent = give(node, tx(node, 0, outputs=30))
    for index in range(mempool.PACKAGE_MAX - 1):
        give(node, tx(node, (parent, index)))
    assert refused(node, tx(node, (parent, 29))) == "too-long-mempool-chain"


def test_full_pool_gives_up_its_cheapest(node, monkeypatch):
    monkeypatch.setattr(mempool, "COUNT_MAX", 3)
    cheap, _, _ = (give(node, tx(node, i, fee=fee)) for i, fee in enumerate((300, 900, 600)))
    assert refused(node, tx(node, 3, fee=300)) == "mempool full"
    give(node, tx(node, 4, fee=400))
    assert cheap.txid not in node.mempool.entries
    assert len(node.mempool.entries) == 3


def test_full_pool_never_gives_up_a_parent_of_the_newcomer(node, monkeypatch):
    monkeypatch.setattr(mempool, "COUNT_MAX", 1)
    parent = give(node, tx(node, 0, fee=300))
    assert refused(node, tx(node, (parent, 0), fee=9_000)) == "mempool full"


def test_a_block_drops_what_it_conflicts_with(node):
    parent = give(node, tx(node, 0))
    give(node, tx(node, (parent, 0)))
    other = give(node, tx(node, 1))
    node.mempool.connect(type("B", (), {"transactions": (tx(node, 0, fee=2_000),)})())
    assert list(node.mempool.entries) == [other.txid]
    assert node.mempool.weight == other.weight


def ids(entries):
    return [entry.transaction.txid for entry in entries]


def test_choice_is_by_fee_rate(node):
    fees = [400, 2_000, 900]
    made = [give(node, tx(node, i, fee=fee)) for i, fee in enumerate(fees)]
    assert ids(choose(node.mempool, Room())) == [made[1].txid, made[2].txid, made[0].txid]


def test_child_pays_for_its_parent_and_comes_behind_it(node):
    parent = give(node, tx(node, 0, fee=100))
    child = give(node, tx(node, (parent, 0), fee=9_000))
    middle = give(node, tx(node, 1, fee=1_000))
    assert ids(choose(node.mempool, Room())) == [parent.txid, child.txid, middle.txid]


def test_shared_ancestors_are_counted_once(node):
    root = give(node, tx(node, 0, fee=100, outputs=2))
    left = give(node, tx(node, (root, 0), fee=2_000))
    right = give(node, tx(node, (root, 1), fee=1_500))
    both = give(node, tx(node, (left, 0), (right, 0), fee=4_000))
    order = ids(choose(node.mempool, Room()))
    assert sorted(order) == sorted(t.txid for t in (root, left, right, both))
    for early, late in ((root, left), (root, right), (left, both), (right, both)):
        assert order.index(early.txid) < order.index(late.txid)


def test_block_weight_on_both_sides_of_the_bound(node, monkeypatch):
    made = [give(node, tx(node, i, fee=5_000 - i)) for i in range(3)]
    room = Room().weight + sum(each.weight for each in made)
    monkeypatch.setattr(assembly, "BLOCK_WEIGHT_MAX", room)
    assert len(choose(node.mempool, Room())) == 3
    monkeypatch.setattr(assembly, "BLOCK_WEIGHT_MAX", room - 1)
    assert ids(choose(node.mempool, Room())) == [made[0].txid, made[1].txid]


def test_block_signature_operations_are_bounded(node):
    """Seven transactions of 12,000 each exceed the block's 80,000: six go in, and are accepted."""
    for index in range(7):
        one = tx(node, index, fee=20_000)
        outputs = (*one.outputs, TxOutput(0, b"\xac" * 3_000))
        give(node, Transaction(2, one.inputs, outputs, 0))
    assert len(choose(node.mempool, Room())) == 6
    assert node.mine(ANYONE).active
    assert len(node.mempool.entries) == 1


def test_faucet_spends_nothing_twice_and_says_when_it_is_empty(node):
    spent = [point for _ in range(40) for point in inputs_of(node.send(ANYONE, 1_000, 2))]
    assert len(spent) == len(set(spent))
    with pytest.raises(RefusedError, match=r"insufficient-funds: .* chain mine"):
        node.send(ANYONE, 10**14, 2)
    assert node.mine(ANYONE).active


def inputs_of(transaction):
    return [each.previous for each in transaction.inputs]
