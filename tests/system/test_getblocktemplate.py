"""The source in front of real nodes: templates, blocks, reorganisations, and nodes that fail."""

import dataclasses

import pytest
import trio
from rig.bitcoind import PURSE_SCRIPT, free_ports, transaction
from rig.getblocktemplate import block_of, double_hash, following, settings_of, solve
from rig.wait import until

from radpool_sv2.errors import ConfigError, LocalProtocolError, NodeError
from radpool_sv2.network import MAIN, REGTEST
from radpool_sv2.node.template import CoinbaseRoom
from radpool_sv2.templates.source import SubmitStatus

pytestmark = pytest.mark.slow


def shown(raw):
    return raw[::-1].hex()


async def in_thread(function, *arguments, **named):
    return await trio.to_thread.run_sync(lambda: function(*arguments, **named))


async def test_a_block_with_a_real_mempool_is_taken(bitcoind):
    sent = {bitcoind.spend(fee_sats=1_000 * n, outputs=n) for n in (1, 2, 3)}
    async with following([bitcoind]) as followed:
        update = await followed.until(lambda each: each.template.tx_count == 3)
        template = update.template
        assert (template.height, template.fees_sats) == (111, 6_000)
        assert template.value_sats == 50 * 10**8 + 6_000
        told = await followed.source.transactions(template.id)
        assert sum(told.fees_sats) == 6_000
        assert len(told.raw) == 3
        first = await followed.change_to(bitcoind.tip)
        assert (first.height, first.connected, first.disconnected) == (110, (), ())

        result = await followed.source.submit_solution(solve(update))
        assert (result.status, result.active) == (SubmitStatus.ACCEPTED, True)
        block = bitcoind.rpc("getblock", bitcoind.tip, 2)
        assert {tx["txid"] for tx in block["tx"][1:]} == sent
        assert block["tx"][0]["vout"][0]["scriptPubKey"]["hex"] == PURSE_SCRIPT.hex()

        next_one = await followed.on(block["hash"])
        assert next_one.template.height == 112
        assert next_one.template.id > template.id
        event = await followed.change_to(block["hash"])
        assert [shown(each) for each in event.connected] == [block["hash"]]
        again = await followed.source.submit_solution(solve(update))
        assert (again.status, again.active) == (SubmitStatus.DUPLICATE, True)
        depths = await followed.source.active_blocks([event.hash, bytes(32)])
        assert depths == {event.hash: 1, bytes(32): None}
        assert followed.source.problems() == []


async def test_better_fees_make_a_template_before_the_next_block(bitcoind):
    async with following([bitcoind]) as followed:
        empty = await followed.on(bitcoind.tip)
        assert empty.template.tx_count == 0
        bitcoind.spend(fee_sats=7_777)
        # The node itself looks at its mempool again after five seconds.
        better = await followed.until(lambda each: each.template.tx_count == 1)
        assert better.template.fees_sats == 7_777
        assert better.tip.prev_hash == empty.tip.prev_hash
        assert better.tip.min_ntime == empty.tip.min_ntime
        chain = await in_thread(bitcoind.rpc, "getblockchaininfo")
        assert better.tip.time_min == chain["mediantime"] + 1


async def test_a_reorganisation_is_told_block_by_block(bitcoind):
    old = bitcoind.mine(3)
    async with following([bitcoind]) as followed:
        await followed.change_to(old[2])
        told = len(followed.changes)
        await in_thread(bitcoind.rpc, "invalidateblock", old[1])
        event = await followed.change_to(old[0])
        # The node takes off one block after the other, and may be looked at in between.
        events = followed.changes[told:]
        assert not any(each.connected for each in events)
        left = [shown(block) for each in events for block in each.disconnected]
        assert left == [old[2], old[1]]
        assert event.height == 111
        back = await followed.on(old[0])
        assert back.template.height == 112
        # Not to the purse: that would be the block again that has just been made invalid.
        new = await in_thread(bitcoind.rpc, "generatetodescriptor", 1, "raw(51)")
        event = await followed.change_to(new[0])
        assert [shown(each) for each in event.connected] == new
        depths = await followed.source.active_blocks([bytes.fromhex(old[2])[::-1]])
        assert set(depths.values()) == {None}


async def test_proposals_are_judged_in_the_nodes_words(bitcoind):
    bitcoind.spend(fee_sats=5_000)
    async with following([bitcoind]) as followed:
        update = await followed.until(lambda each: each.template.tx_count == 1)
        check = followed.source.check_block
        good = await block_of(followed.source, update, is_solved=False)
        verdict = await check(good)
        assert (verdict.valid, verdict.reason) == (True, "")
        greedy = await block_of(followed.source, update, sats=update.template.value_sats + 1)
        assert (await check(greedy)).reason == "bad-cb-amount"
        mutated = good[:36] + bytes(32) + good[68:]
        assert (await check(mutated)).reason == "bad-txnmrklroot"
        assert (await check(b"\0")).reason == "block-decode-failed"
        await in_thread(bitcoind.mine, 1)
        assert (await check(good)).reason == "stale-prevblk"


async def test_transactions_are_found_by_their_witness_hash(bitcoind):
    known = [bitcoind.purse.transaction(fee_sats=fee) for fee in (1_000, 2_000)]
    for raw in known:
        bitcoind.rpc("sendrawtransaction", raw.hex())
    stranger = bitcoind.purse.transaction(fee_sats=3_000)
    wtxids = [double_hash(raw) for raw in [*known, stranger]]
    async with following([bitcoind], interval_s=60) as followed:
        await followed.on(bitcoind.tip)
        late = bitcoind.purse.transaction(fee_sats=4_000)
        await in_thread(bitcoind.rpc, "sendrawtransaction", late.hex())
        # Two by the templates, one by the mempool alone.
        found = await followed.source.known_transactions([*wtxids, double_hash(late)])
        assert found == {double_hash(raw): raw for raw in [*known, late]}
        assert await followed.source.known_transactions([]) == {}


async def test_room_for_the_coinbase_is_made_by_leaving_transactions_out(bitcoind):
    for _ in range(2):
        bitcoind.spend(fee_sats=10_000, padding=90_000)
    bitcoind.spend(fee_sats=100)
    async with following([bitcoind]) as followed:
        whole = await followed.until(lambda each: each.template.tx_count == 3)
        left = 4_000_000 - whole.template.weight
        wanted = CoinbaseRoom().size + left // 4 + 1
        followed.source.constrain(wanted, 100)
        trimmed = await followed.until(lambda each: each.template.tx_count == 2)
        assert trimmed.template.weight <= 4_000_000
        assert trimmed.template.value_sats == whole.template.value_sats - 10_000
        verdict = await followed.source.check_block(await block_of(followed.source, trimmed))
        assert (verdict.valid, verdict.reason) == (True, "")
        result = await followed.source.submit_solution(solve(trimmed))
        assert result.status is SubmitStatus.ACCEPTED
        assert len(bitcoind.rpc("getrawmempool")) == 1


async def test_packages_with_a_parent_that_pays_nothing_are_in_the_template(bitcoind):
    coin, sats = bitcoind.purse.coin()
    parent = transaction([coin], [(sats, PURSE_SCRIPT)], version=3)
    parent_id = shown(double_hash(_stripped(parent)))
    child = transaction([(parent_id, 0)], [(sats - 5_000, PURSE_SCRIPT)], version=3)
    answer = bitcoind.rpc("submitpackage", [parent.hex(), child.hex()])
    assert answer["package_msg"] == "success"
    async with following([bitcoind]) as followed:
        update = await followed.until(lambda each: each.template.tx_count == 2)
        assert update.template.fees_sats == 5_000
        assert (await followed.source.submit_solution(solve(update))).active


def _stripped(raw):
    """A transaction with one input and one witness item, without the witness."""
    return raw[:4] + raw[6 : -4 - 3] + raw[-4:]


async def test_a_restarted_source_puts_an_old_block_together(bitcoind, tmp_path):
    bitcoind.spend(fee_sats=9_000)
    async with following([bitcoind], directory=tmp_path / "kept") as followed:
        update = await followed.until(lambda each: each.template.tx_count == 1)
        while not list((tmp_path / "kept").glob(f"{update.template.id}.*")):
            await trio.sleep(0.01)
    solution = solve(update)
    async with following([bitcoind], directory=tmp_path / "kept") as followed:
        later = await followed.on(bitcoind.tip)
        assert later.template.id > update.template.id
        assert (await followed.source.submit_solution(solution)).active
        with pytest.raises(LocalProtocolError, match="template-id-not-found"):
            await followed.source.transactions(1)


async def test_what_is_asked_meanwhile_waits_for_a_node_that_restarts(bitcoind):
    bitcoind.restart()  # A node that is killed forgets the blocks since its start.
    async with following([bitcoind]) as followed:
        update = await followed.on(bitcoind.tip)
        await followed.change_to(bitcoind.tip)
        await in_thread(bitcoind.kill)
        results = []
        async with trio.open_nursery() as nursery:

            async def submit():
                results.append(await followed.source.submit_solution(solve(update)))

            async def look():
                results.append(await followed.source.active_blocks([update.tip.prev_hash]))

            nursery.start_soon(submit)
            nursery.start_soon(look)
            while "no node" not in " ".join(followed.source.problems()):
                await trio.sleep(0.01)
            with pytest.raises(NodeError):
                await followed.source.check_block(bytes(80))
            assert not results
            await in_thread(bitcoind.start)
        assert any(getattr(each, "active", False) for each in results)
        # A new cookie, the same port: nothing had to be told to the source.
        await followed.on(bitcoind.tip)
        assert followed.source.problems() == []


async def test_a_node_that_hangs_is_told_of_and_followed_again(bitcoind):
    settings = settings_of(bitcoind, deadline_s=1.0)
    async with following([settings]) as followed:
        await followed.on(bitcoind.tip)
        bitcoind.hang()
        while "does not answer within 1 s" not in " ".join(followed.source.problems()):
            await trio.sleep(0.01)
        bitcoind.resume()
        (block,) = await in_thread(bitcoind.mine, 1)
        await followed.on(block)
        event = await followed.change_to(block)
        assert len(event.connected) == 1
        while followed.source.problems():
            await trio.sleep(0.01)


async def test_a_second_node_takes_over_and_gives_back(bitcoinds):
    first = bitcoinds("first")
    second = bitcoinds("second", blocks=0)
    copy_chain(first, second)
    nodes = [settings_of(each, deadline_s=3.0) for each in (first, second)]
    async with following(nodes) as followed:
        await followed.on(first.tip)
        first.hang()
        (block,) = await in_thread(second.mine, 1)
        update = await followed.on(block)
        result = await followed.source.submit_solution(solve(update))
        assert (result.status, result.active) == (SubmitStatus.ACCEPTED, True)
        later = await followed.on(second.tip)
        first.resume()
        # The first node is two blocks behind: it is not turned to before it has them.
        await trio.sleep(0)
        await in_thread(copy_chain, second, first)
        (block,) = await in_thread(first.mine, 1)
        back = await followed.on(block)
        assert back.template.height == later.template.height + 1
        heights = [each.template.height for each in followed.seen]
        assert heights == sorted(heights)


async def test_long_polls_on_nodes_that_are_each_others_peers(bitcoinds):
    """As on a real network: a node without peers would not be used, and nobody polls often."""
    (port,) = free_ports(1)
    first = bitcoinds("first", arguments=["-listen=1", f"-bind=127.0.0.1:{port}"])
    second = bitcoinds("second", blocks=0, arguments=[f"-connect=127.0.0.1:{port}"])
    while second.rpc("getblockcount") < first.rpc("getblockcount"):
        await trio.sleep(0.05)
    network = dataclasses.replace(REGTEST, is_real=True)
    nodes = [settings_of(each, zmq=False) for each in (first, second)]
    async with following(nodes, network=network, interval_s=3_600) as followed:
        update = await followed.on(first.tip)
        # Mined elsewhere: only the first node's long poll can tell.
        for _ in range(3):
            (block,) = await in_thread(second.mine, 1)
            update = await followed.on(block)
        assert (await followed.source.submit_solution(solve(update))).active
        await followed.on(shown(solve(update).hash))
        assert followed.source.problems() == []


async def test_a_block_goes_to_all_nodes(bitcoinds):
    first = bitcoinds("first")
    second = bitcoinds("second", blocks=0)
    copy_chain(first, second)
    async with following([first, second]) as followed:
        update = await followed.on(first.tip)
        while followed.source.problems():
            await trio.sleep(0.01)
        await followed.source.submit_solution(solve(update))
        # One that has it is enough for an answer; the other gets it all the same.
        tips = lambda: {first.tip, second.tip}  # noqa: E731
        await in_thread(until, lambda: tips() == {shown(solve(update).hash)}, tips)


async def test_a_node_of_another_network_ends_the_start_in_plain_words(bitcoind):
    with pytest.RaisesGroup(
        pytest.RaisesExc(ConfigError, match="on regtest, but templates.network is main"),
        flatten_subgroups=True,
    ):
        async with following([bitcoind], network=MAIN):
            raise AssertionError("it has started")


async def test_blocks_on_regtest_can_be_made_rarer(bitcoind):
    async with following([bitcoind], block_zeros=12) as followed:
        update = await followed.on(bitcoind.tip)
        assert int.from_bytes(update.tip.target, "little") == (1 << 244) - 1
        assert update.template.rule == "12 leading zero bits"
        assert (await followed.source.submit_solution(solve(update))).active


def copy_chain(source, target):
    """Gives one node the blocks of another that it lacks."""
    for height in range(target.rpc("getblockcount") + 1, source.rpc("getblockcount") + 1):
        block = source.rpc("getblock", source.rpc("getblockhash", height), 0)
        target.rpc("submitblock", block)
    assert source.tip == target.tip
