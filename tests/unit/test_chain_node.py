"""The node with the real consensus engine: blocks, verdicts, reorgs, restarts."""

import contextlib
import itertools
import os
import random
import resource
import signal
import time
from dataclasses import replace

import pytest
from chain_rig import (
    ANYONE,
    OWNER_OUTPUT,
    fields_of,
    open_node,
    pay_output,
    replayed,
    solve,
    submit,
)

from radpool_sv2.chain.address import address_from_script
from radpool_sv2.chain.block import Block
from radpool_sv2.chain.coin import COINBASE_MATURITY
from radpool_sv2.chain.faucet import FAUCET_SECRET, TaprootKey
from radpool_sv2.chain.kernel import Status
from radpool_sv2.chain.mempool import RefusedError
from radpool_sv2.chain.node import FOUNDING_BLOCKS
from radpool_sv2.chain.transaction import Transaction, TxInput, TxOutput
from radpool_sv2.consensus import subsidy_sats
from radpool_sv2.errors import LocalProtocolError, StoreError
from radpool_sv2.network import REGTEST

FAUCET = TaprootKey(FAUCET_SECRET)


@pytest.fixture
def node(tmp_path):
    node = open_node(tmp_path)
    yield node
    node.close()


def spend(node, index=0, *, outputs=None, fee=1_000, sequence=0xFFFFFFFF, locktime=0, version=2):
    """A signed payment from one of the faucet's coins, oldest first."""
    point, coin = node.chain.of_script(FAUCET.script)[index]
    if outputs is None:
        outputs = (TxOutput(coin.output.value_sats - fee, FAUCET.script),)
    transaction = Transaction(version, (TxInput(point, b"", sequence),), tuple(outputs), locktime)
    return FAUCET.sign(transaction, [coin.output])


def check_conservation(node):
    """The coins are exactly what a walk over the active chain leaves, and no satoshi is made."""
    coins, created = {}, 0
    for height in range(1, node.chain.height + 1):
        block = Block.from_bytes(node.block_at(height))
        fees = 0
        for transaction in block.transactions[1:]:
            fees += sum(coins.pop(each.previous) for each in transaction.inputs)
            fees -= sum(output.value_sats for output in transaction.outputs)
            add(coins, transaction)
        claimed = sum(output.value_sats for output in block.transactions[0].outputs)
        assert claimed <= subsidy_sats(height, REGTEST.halving_blocks) + fees
        created += claimed - fees
        add(coins, block.transactions[0])
    assert coins == {p: c.output.value_sats for p, c in node.chain.coins.items()}
    assert sum(coins.values()) == created


def add(coins, transaction):
    for index, output in enumerate(transaction.outputs):
        if output.script[:1] != b"\x6a":
            coins[transaction.txid, index] = output.value_sats


def test_new_chain_begins_with_a_mature_faucet(tmp_path):
    node = replayed(tmp_path)
    assert node.chain.height == FOUNDING_BLOCKS
    assert address_from_script(node.wallet.script).startswith("bcrt1p")
    assert node.send(ANYONE, 1_000, 1).txid in node.mempool.entries
    node.close()


def test_solved_template_with_an_owner_output_becomes_the_tip(node):
    for rate in (2, 9, 4):
        node.send(ANYONE, 100_000, rate)
    fields = fields_of_new(node)
    answer = submit(node, solve(fields))
    assert (answer.status, answer.active) == (Status.ACCEPTED, True)
    assert node.chain.height == fields["height"]
    assert fields["tx_count"] == 3
    assert node.mempool.entries == {}
    block = Block.from_bytes(node.block_at(node.chain.height))
    assert OWNER_OUTPUT in block.transactions[0].to_bytes()
    check_conservation(node)


def fields_of_new(node):
    node.renew_template()
    return fields_of(node)


def test_template_says_what_a_coinbase_needs(node):
    node.send(ANYONE, 100_000, 3)
    fields = fields_of_new(node)
    assert fields["coinbase_prefix"] == "0166"
    assert fields["coinbase_tx_version"] == 2
    assert fields["value_sats"] == subsidy_sats(102, REGTEST.halving_blocks) + fields["fees_sats"]
    assert fields["fees_sats"] > 0
    assert len(fields["merkle_path"]) == 1
    assert fields["template_outputs"].startswith("0000000000000000266a24aa21a9ed")
    assert fields["time"] >= fields["time_min"] == node.chain.median_time() + 1
    assert fields["nbits"] == 0x207FFFFF


def test_the_same_solution_again_is_a_duplicate(node):
    params = solve(fields_of(node))
    assert submit(node, params).status is Status.ACCEPTED
    again = submit(node, params)
    assert (again.status, again.active) == (Status.DUPLICATE, True)


@pytest.mark.parametrize(
    ("change", "reason", "detail"),
    [
        ({"sats": 5_000_000_001}, "bad-cb-amount", "coinbase pays too much (actual=5000000001"),
        # Without the commitment even the coinbase's own witness is too much.
        ({"template_outputs": b""}, "unexpected-witness", ""),
        (
            {"template_outputs": pay_output(0, bytes.fromhex("6a24aa21a9ed") + bytes(32))},
            "bad-witness-merkle-match",
            "",
        ),
        ({"witness": False}, "bad-witness-nonce-size", ""),
        ({"prefix": b"\x01\x67"}, "bad-cb-height", "block height mismatch in coinbase"),
        ({"time": 1_300_000_000}, "time-too-old", ""),
        ({"extranonce": bytes(100)}, "bad-cb-length", ""),
        (
            {"extra_outputs": OWNER_OUTPUT + pay_output(0, b"\xac" * 20_001), "extra_count": 2},
            "bad-blk-sigops",
            "",
        ),
    ],
)
def test_each_fault_of_a_coinbase_has_its_exact_reason(node, change, reason, detail):
    before = node.chain.tip
    answer = submit(node, solve(fields_of(node), **change))
    assert (answer.status, answer.reason) == (Status.REJECTED, reason)
    assert detail in answer.detail
    assert node.chain.tip == before


def test_missing_commitment_with_witnesses_in_the_block_is_refused(node):
    node.send(ANYONE, 100_000, 3)
    params = solve(fields_of_new(node), template_outputs=b"", witness=False)
    answer = submit(node, params)
    assert (answer.status, answer.reason) == (Status.REJECTED, "unexpected-witness")


def test_refused_body_does_not_poison_the_right_one(node):
    """The witness is not under the header's hash: the same header may come again, mended."""
    fields = fields_of(node)
    assert submit(node, solve(fields, witness=False)).reason == "bad-witness-nonce-size"
    assert submit(node, solve(fields)).status is Status.ACCEPTED


def test_final_refusal_is_repeated_with_its_reason(node):
    params = solve(fields_of(node), sats=6_000_000_000)
    first, second = submit(node, params), submit(node, params)
    assert first.reason == second.reason == "bad-cb-amount"
    assert second.detail == first.detail


def block_of(node, *transactions):
    """A solved block with transactions that the mempool would not take."""
    genuine = node.template
    node.template = replace(genuine, transactions=transactions)
    params = solve(fields_of(node))
    coinbase = Transaction.from_bytes(bytes.fromhex(params["coinbase_tx"]))
    block = node.template.block(
        coinbase, version=params["version"], time=params["ntime"], nonce=params["nonce"]
    )
    node.template = genuine
    return block


def test_wrong_merkle_root_is_refused(node):
    block = block_of(node, spend(node))
    raw = Block(block.header, block.transactions[:1]).to_bytes()
    answer = node.submit_block(raw)
    assert (answer.status, answer.reason) == (Status.REJECTED, "bad-txnmrklroot")


def test_spending_an_output_that_is_not_there_is_refused(node):
    ghost = FAUCET.sign(
        Transaction(2, (TxInput((b"\x11" * 32, 0), b"", 0),), (TxOutput(1, ANYONE),), 0),
        [TxOutput(2, FAUCET.script)],
    )
    answer = node.submit_block(block_of(node, ghost).to_bytes())
    assert answer.reason == "bad-txns-inputs-missingorspent"
    with pytest.raises(RefusedError, match="bad-txns-inputs-missingorspent"):
        node.submit_transaction(ghost.to_bytes())


def test_wrong_signature_is_refused_by_block_and_mempool(node):
    good = spend(node)
    forged = replace(good, inputs=(replace(good.inputs[0], witness=(bytes(63) + b"\x01",)),))
    answer = node.submit_block(block_of(node, forged).to_bytes())
    assert answer.reason == "block-script-verify-flag-failed (Invalid Schnorr signature)"
    with pytest.raises(RefusedError, match="mandatory-script-verify-flag-failed: input 0"):
        node.submit_transaction(forged.to_bytes())
    assert node.submit_transaction(good.to_bytes()).txid == good.txid


def test_coinbase_is_spendable_after_exactly_100_blocks(node):
    ripe = [c.height for _, c in node.chain.of_script(FAUCET.script)]
    last_ripe = ripe.index(node.chain.height + 1 - COINBASE_MATURITY)
    early = spend(node, last_ripe + 1)
    answer = node.submit_block(block_of(node, early).to_bytes())
    assert answer.reason == "bad-txns-premature-spend-of-coinbase"
    assert "depth 99" in answer.detail
    with pytest.raises(RefusedError, match="depth 99"):
        node.submit_transaction(early.to_bytes())
    node.submit_transaction(spend(node, last_ripe).to_bytes())


def test_truncated_and_random_blocks_are_answered(node):
    raw = block_of(node).to_bytes()
    for length in range(len(raw)):
        answer = node.submit_block(raw[:length])
        assert answer.status is Status.REJECTED, length
    assert node.submit_block(raw).status is Status.ACCEPTED


def test_unknown_template_and_broken_coinbase_are_answered(node):
    params = solve(fields_of(node))
    assert submit(node, {**params, "template_id": 1}).reason == "template-unknown"
    assert submit(node, {**params, "coinbase_tx": "00"}).reason == "coinbase-decode-failed"


def test_block_zeros_on_both_sides_of_the_bound(tmp_path):
    node = open_node(tmp_path, block_zeros=8)
    fields = fields_of(node)
    weak = solve({**fields, "target": "ff" * 31 + "01"}, zeros_max=7)
    answer = submit(node, weak)
    assert (answer.status, answer.reason) == (Status.REJECTED, "block-zeros-too-few")
    assert "8 leading zero bits, 7 found" in answer.detail
    exact = solve(fields, zeros_max=8)
    assert submit(node, exact).status is Status.ACCEPTED
    # What the operator orders is exempt.
    assert node.mine(ANYONE).active
    node.close()


def test_block_that_lost_the_race_is_kept_and_not_active(node):
    fields = fields_of(node)
    assert submit(node, solve(fields)).active
    late = submit(node, solve(fields, extranonce=b"\x01" * 12))
    assert (late.status, late.active) == (Status.ACCEPTED, False)
    assert node.confirmations(late.hash) is None


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_reorg_brings_transactions_back_and_voids_rewards(node, depth):
    reward = b"\x51\x20" + b"\x07" * 32
    sent = []
    for _ in range(depth):
        sent.append(node.send(ANYONE, 50_000, 2))
        node.mine(reward)
    old = node.chain.tip.hash
    blocks = [node.chain.tips[-1 - i].hash for i in range(depth)]
    assert len(node.chain.of_script(reward)) == depth
    node.reorg(depth)
    assert node.chain.height == FOUNDING_BLOCKS + depth + 1
    assert set(node.mempool.entries) == {each.txid for each in sent}
    assert node.chain.of_script(reward) == []
    changes = node.changes_since(old)
    assert changes.disconnected == tuple(blocks)
    assert len(changes.connected) == depth + 1
    assert changes.connected[-1] == changes.tip == node.chain.tip.hash
    check_conservation(node)
    node.mine(ANYONE)
    assert node.mempool.entries == {}
    check_conservation(node)


def test_reorg_drops_what_spent_a_voided_reward(node):
    # The coin is mature on the old branch alone: there it has one block more beneath it.
    node.mine(ANYONE)
    ripe = [c.height for _, c in node.chain.of_script(FAUCET.script)]
    edge = spend(node, ripe.index(node.chain.height + 1 - COINBASE_MATURITY))
    node.submit_transaction(edge.to_bytes())
    node.reorg(1)
    assert set(node.mempool.entries) == {edge.txid}  # the new branch is longer still
    before = node.chain.tip.hash
    assert node.changes_since(before).connected == ()


@pytest.mark.parametrize("depth", [0, -1, 102, 1_000])
def test_impossible_reorgs_are_refused(node, depth):
    with pytest.raises(LocalProtocolError, match="not possible"):
        node.reorg(depth)


def test_restart_gives_the_same_chain_mempool_and_templates(tmp_path):
    node = open_node(tmp_path)
    node.send(ANYONE, 10_000, 3)
    node.mine(ANYONE)
    node.reorg(1)
    waiting = node.send(ANYONE, 20_000, 4)
    fields = fields_of_new(node)
    node.close()
    again = open_node(tmp_path)
    assert again.chain.tips == node.chain.tips
    assert again.chain.coins == node.chain.coins
    assert waiting.txid in again.mempool.entries
    assert again.template.id > fields["id"]
    # Work that was given out before the restart is still worth a block.
    assert submit(again, solve(fields)).active
    again.close()


def test_node_after_a_torn_log_is_the_node_before_the_last_block(tmp_path):
    node = open_node(tmp_path)
    log = tmp_path / "chain.blocks"
    before = log.stat().st_size
    tips = list(node.chain.tips)
    node.mine(ANYONE)
    whole = log.read_bytes()
    node.close()
    for kept in (0, 1, 16, 17, 100, len(whole) - before - 1):
        log.write_bytes(whole[: before + kept])
        again = open_node(tmp_path)
        assert again.chain.tips == tips, kept
        again.close()


def test_disk_that_refuses_a_block_leaves_it_unaccepted(tmp_path, monkeypatch):
    node = open_node(tmp_path)
    tips = list(node.chain.tips)
    params = solve(fields_of(node))

    def refuse(_):
        raise OSError(5, os.strerror(5))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", refuse)
        with pytest.raises(StoreError, match="Input/output error"):
            submit(node, params)
    node.close()
    again = open_node(tmp_path)
    assert again.chain.tips[: len(tips)] == tips
    assert submit(again, params).status in (Status.ACCEPTED, Status.DUPLICATE)
    assert again.confirmations(bytes.fromhex(params["hash"])) == 1
    again.close()


def test_changes_since_an_unknown_block_say_so(node):
    changes = node.changes_since(b"\x01" * 32)
    assert not changes.known
    assert changes.tip == node.chain.tip.hash


def test_template_start_stays_within_a_tip(tmp_path):
    clock = itertools.count(int(time.time()) - 5_000, 7)
    node = replayed(tmp_path, now=lambda: next(clock))
    first = node.template
    node.send(ANYONE, 10_000, 3)
    second = node.renew_template()
    assert second.id > first.id
    assert second.time == first.time
    node.close()


def test_engine_that_cannot_write_accepts_nothing(node):
    params = solve(fields_of(node))
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, old[1]))
        with pytest.raises(StoreError, match="engine failed"):
            submit(node, params)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("seed", range(4))
def test_random_life_keeps_every_satoshi_and_survives_a_restart(tmp_path, seed):
    """Payments, blocks and reorgs in any order: each template is a block the engine takes."""
    chance = random.Random(seed)
    node = open_node(tmp_path)
    for _ in range(40):
        step = chance.choice(("send", "send", "send", "solve", "mine", "reorg"))
        if step == "send":
            with contextlib.suppress(RefusedError):
                node.send(ANYONE, chance.randint(1, 10**9), chance.randint(1, 30))
        elif step == "solve":
            assert submit(node, solve(fields_of_new(node), payout=FAUCET.script)).active
        elif step == "mine":
            assert node.mine(FAUCET.script).active
        else:
            assert node.reorg(chance.randint(1, 3))[-1].active
    check_conservation(node)
    node.close()
    again = open_node(tmp_path)
    assert again.chain.tips == node.chain.tips
    assert again.chain.coins == node.chain.coins
    assert set(node.mempool.entries) <= set(again.mempool.entries)
    assert submit(again, solve(fields_of(again))).active
    check_conservation(again)
    again.close()
