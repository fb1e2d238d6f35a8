"""Bitcoin Core's socket as a source of templates. `make interop` builds the node and runs this."""

import hashlib
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

import pytest
import trio
from rig.bitcoind import compact
from rig.core_ipc import core_settings, following_core
from rig.getblocktemplate import DEADLINE_S, block_of, double_hash, solve

from radpool_sv2.errors import LocalProtocolError, NodeError
from radpool_sv2.network import MAIN, REGTEST, SIGNET
from radpool_sv2.node.report import report_core
from radpool_sv2.templates.source import STALE_PREVBLK, SubmitStatus

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.pair("source of templates `core_ipc`", "Bitcoin Core's socket"),
]

BLOCKS = 150


@pytest.fixture
def socket():
    """A short path: a socket's has 107 bytes at most."""
    directory = Path(tempfile.mkdtemp(prefix="core-"))
    yield directory / "node.sock"
    shutil.rmtree(directory)


@pytest.fixture
def core(bitcoinds, socket):
    return bitcoinds("core", blocks=BLOCKS, **core_settings(socket))


def shown(block_hash):
    return block_hash[::-1].hex()


async def waits_for(condition):
    with trio.fail_after(DEADLINE_S):
        while not condition():
            await trio.sleep(0.05)


async def test_the_doctor_tries_the_socket(core, socket):
    report = partial(report_core, trusted_uids=[os.getuid()], has_rpc=False)
    [(is_good, words)] = await report(socket, network=REGTEST)
    assert is_good
    assert f"{socket} is Satoshi" in words
    assert words.endswith(f"at height {BLOCKS:,}")
    [(is_good, words)] = await report(socket, network=MAIN)
    assert not is_good
    [(is_good, words)] = await partial(report, trusted_uids=[12_345])(socket, network=REGTEST)
    assert not is_good
    await trio.to_thread.run_sync(core.stop)
    [(is_good, words)] = await report(socket, network=REGTEST)
    assert not is_good
    assert str(socket) in words


async def test_templates_are_those_of_the_same_node_s_rpc(core, socket):
    for fee in (1_000, 5_000, 3_000):
        core.spend(fee_sats=fee)
    told = core.rpc("getblocktemplate", {"rules": ["segwit"]})
    async with following_core(socket) as followed:
        update = await followed.until(lambda update: update.template.tx_count == 3)
        template, tip = update.template, update.tip
        kept = await followed.source.transactions(template.id)
        assert followed.source.problems() == []
    assert [raw.hex() for raw in kept.raw] == [each["data"] for each in told["transactions"]]
    assert list(kept.fees_sats) == [each["fee"] for each in told["transactions"]]
    assert (template.height, template.value_sats) == (told["height"], told["coinbasevalue"])
    assert (template.version, tip.nbits) == (told["version"], int(told["bits"], 16))
    assert template.fees_sats == 9_000
    assert shown(tip.prev_hash) == told["previousblockhash"]
    assert tip.target[::-1].hex() == told["target"]
    assert told["mintime"] <= tip.min_ntime <= told["curtime"]
    assert told["default_witness_commitment"] in template.template_outputs.hex()
    assert template.weight > sum(each["weight"] for each in told["transactions"])


async def test_a_solution_becomes_a_block_and_the_next_tip(core, socket, record_property):
    core.spend(fee_sats=7_000)
    async with following_core(socket) as followed:
        update = await followed.until(lambda update: update.template.fees_sats == 7_000)
        await followed.change_to(core.tip)
        solution = solve(update)
        result = await followed.source.submit_solution(solution)
        assert (result.status, result.active) == (SubmitStatus.ACCEPTED, True)
        assert core.tip == shown(solution.hash)
        event = await followed.change_to(core.tip)
        assert (event.connected, event.disconnected) == ((solution.hash,), ())
        following = await followed.on(core.tip)
        assert following.template.id > update.template.id
        again = await followed.source.submit_solution(solution)
        assert (again.status, again.active) == (SubmitStatus.DUPLICATE, True)
        depths = await followed.source.active_blocks([solution.hash, bytes(32)])
        assert depths == {solution.hash: 1, bytes(32): None}
        coinbase = core.rpc("getblock", core.tip, 2)["tx"][0]
        assert round(coinbase["vout"][0]["value"] * 10**8) == update.template.value_sats
    record_property("mined", "1 block")


async def test_solutions_that_are_none_are_refused(core, socket):
    async with following_core(socket) as followed:
        update = await followed.until(lambda _update: True)
        too_much = solve(update, sats=update.template.value_sats + 1)
        result = await followed.source.submit_solution(too_much)
        assert (result.status, result.reason) == (SubmitStatus.REJECTED, "bad-cb-amount")
        without_work = solve(update, is_solved=False)
        result = await followed.source.submit_solution(without_work)
        assert (result.status, result.reason) == (SubmitStatus.REJECTED, "high-hash")
        good = await followed.source.submit_solution(solve(update))
        assert good.status is SubmitStatus.ACCEPTED


async def test_fees_make_a_new_template_on_the_same_tip(core, socket):
    async with following_core(socket) as followed:
        first = await followed.until(lambda _update: True)
        core.spend(fee_sats=4_000)
        second = await followed.until(lambda update: update.template.fees_sats == 4_000)
        assert second.tip.prev_hash == first.tip.prev_hash
        assert second.tip.min_ntime == first.tip.min_ntime
        assert second.template.id > first.template.id


async def test_a_reorganisation_is_told_block_by_block(core, socket):
    async with following_core(socket) as followed:
        await followed.change_to(core.tip)
        old = core.mine(2)
        await followed.change_to(old[1])
        core.rpc("invalidateblock", old[0])
        core.rpc("setmocktime", core.rpc("getblockheader", core.tip)["time"] + 1_000)
        new = core.mine(3)
        await followed.change_to(new[2])
        # However many looks the source took: what it told adds up to the chain that there is.
        active = []
        for event in followed.changes:
            for gone in event.disconnected:
                assert active.pop() == shown(gone)
            active += map(shown, event.connected)
        assert active == new


def spoilt(block, *, coinbase=None, header=None, cut=0):
    """Returns a block with another coinbase's hash, header field or end."""
    if header is not None:
        at, value = header
        block = block[:at] + value + block[at + len(value) :]
    return block[: len(block) - cut]


async def verdicts(core, source, update):
    """Judges blocks that are wrong in one way each; yields name, ours, the RPC's."""
    good = await block_of(source, update)
    blocks = {
        "good": good,
        "without work": await block_of(source, update, is_solved=False),
        "too much": await block_of(source, update, sats=update.template.value_sats + 1),
        "root": spoilt(good, header=(36, bytes(32))),
        "time": spoilt(good, header=(68, bytes(4))),
        "bits": spoilt(good, header=(72, b"\xff\xff\x00\x1d")),
        "another tip": spoilt(good, header=(4, bytes.fromhex(core.rpc("getblockhash", 5))[::-1])),
        "height": with_coinbase(
            good, lambda tx: tx.replace(update.template.coinbase_prefix, b"\2\1\1")
        ),
        "no commitment": with_coinbase(good, lambda tx: tx.replace(b"\xaa\x21\xa9\xed", bytes(4))),
        "repeated": repeated(good),
    }
    for name, block in blocks.items():
        told = core.rpc(
            "getblocktemplate", {"mode": "proposal", "data": block.hex(), "rules": ["segwit"]}
        )
        yield name, await source.check_block(block), told


def with_coinbase(block, change):
    """Changes the coinbase of a block that has no other transaction, and its root."""
    coinbase = change(block[81:])
    root = double_hash(coinbase[:4] + coinbase[6:-38] + coinbase[-4:])
    return block[:36] + root + block[68:81] + coinbase


def repeated(block):
    return block[:80] + compact(2) + block[81:] * 2


async def test_verdicts_are_those_of_the_same_node_s_rpc(core, socket):
    async with following_core(socket) as followed:
        update = await followed.until(lambda _update: True)
        seen = {}
        async for name, verdict, told in verdicts(core, followed.source, update):
            seen[name] = verdict.reason
            assert verdict.valid == (told is None), name
            expected = told or ""
            if expected == "inconclusive-not-best-prevblk":
                expected = STALE_PREVBLK
            assert verdict.reason == expected, name
        assert seen["good"] == seen["without work"] == ""
        assert len(set(seen.values())) >= 7, seen
        garbage = await followed.source.check_block(b"\x00" * 90)
        assert (garbage.valid, garbage.reason) == (False, "block-decode-failed")
        too_much = await block_of(followed.source, update, sats=update.template.value_sats + 1)
        detail = (await followed.source.check_block(too_much)).detail
        assert "coinbase pays too much" in detail
        assert core.rpc("getblockcount") == BLOCKS


async def test_transactions_are_found_by_their_wtxid(core, socket):
    raw = core.purse.transaction(fee_sats=2_000)
    async with following_core(socket) as followed:
        wtxid = hashlib.sha256(hashlib.sha256(raw).digest()).digest()
        assert await followed.source.known_transactions([wtxid]) == {}
        core.rpc("sendrawtransaction", raw.hex())
        many = [index.to_bytes(32, "big") for index in range(1, 250)]
        assert await followed.source.known_transactions([*many, wtxid]) == {wtxid: raw}


async def test_room_for_outputs_is_kept_free(bitcoinds, socket):
    settings = core_settings(socket, arguments=["-blockmaxweight=60000"])
    core = bitcoinds("core", blocks=BLOCKS, **settings)
    for _ in range(12):
        core.spend(fee_sats=20_000, padding=1_000)
    async with following_core(socket) as followed:
        roomy = await followed.until(lambda update: update.template.tx_count)
        followed.source.constrain(8_000, 80)
        tight = await followed.until(
            lambda update: update.template.tx_count < roomy.template.tx_count
        )
        assert tight.template.weight <= 60_000
        followed.source.constrain(100, 4)
        await followed.until(lambda update: update.template.tx_count > tight.template.tx_count)


async def test_a_node_that_is_killed_loses_no_block(core, socket, tmp_path):
    directory = tmp_path / "kept"
    async with following_core(socket, directory=directory) as followed:
        update = await followed.until(lambda _update: True)
        await waits_for(lambda: list(directory.glob("*.template")))
        core.stop()
        await waits_for(lambda: followed.source.problems())
        with pytest.raises(NodeError):
            await followed.source.check_block(await block_of(followed.source, update))
        solution = solve(update)
        async with trio.open_nursery() as nursery:
            results = []

            async def submit():
                results.append(await followed.source.submit_solution(solution))

            nursery.start_soon(submit)
            await trio.sleep(0.1)
            assert results == []
            await trio.to_thread.run_sync(core.start)
        assert (results[0].status, results[0].active) == (SubmitStatus.ACCEPTED, True)
        event = await followed.change_to(shown(solution.hash))
        assert event.connected == (solution.hash,)
        await waits_for(lambda: followed.source.problems() == [])
        following = await followed.on(core.tip)
    # And so after a restart of ours: what was on the shelf is on it again.
    core.stop()
    late = solve(following)
    async with following_core(socket, directory=directory, starts=False) as followed:
        kept = await followed.source.transactions(following.template.id)
        assert (kept.raw, kept.fees_sats) == ((), None)
        core.start()
        result = await followed.source.submit_solution(late)
        assert result.status is SubmitStatus.ACCEPTED
        newest = await followed.on(shown(late.hash))
        assert newest.template.id > following.template.id
        with pytest.raises(LocalProtocolError, match="template-id-not-found"):
            await followed.source.transactions(1)


async def test_a_node_that_hangs_is_noticed_and_followed_again(core, socket):
    async with following_core(socket) as followed:
        await followed.until(lambda _update: True)
        core.hang()
        try:
            with trio.fail_after(3 * DEADLINE_S):
                while not any("has not answered" in each for each in followed.source.problems()):
                    await trio.sleep(0.05)
        finally:
            core.resume()
        new = core.mine()[0]
        await followed.on(new)
        await waits_for(lambda: followed.source.problems() == [])


async def test_a_node_of_another_network_is_not_mined_on(core, socket):
    async with following_core(socket, network=SIGNET, starts=False) as followed:
        await waits_for(lambda: any("is on regtest" in each for each in followed.source.problems()))
        with pytest.raises(trio.WouldBlock):
            followed.updates.receive_nowait()


async def test_a_node_of_another_user_is_not_spoken_to(core, socket):
    async with following_core(socket, uids=[os.getuid() + 1], starts=False) as followed:
        words = f"user {os.getuid()} listens on {socket}"
        await waits_for(lambda: any(words in each for each in followed.source.problems()))
        with pytest.raises(NodeError):
            await followed.source.known_transactions([bytes(32)])


async def test_a_path_without_a_node_says_what_to_do(socket):
    async with following_core(socket, starts=False) as followed:
        await waits_for(lambda: any("-ipcbind=unix" in each for each in followed.source.problems()))
