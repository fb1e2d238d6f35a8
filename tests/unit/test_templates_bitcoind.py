"""The source in front of nodes that play a script: refusals, long polls, who is followed."""

import dataclasses
import threading

import pytest
import trio
from rig.fake_node import TIP, FakeNode, Refuse, block_template, chain
from rig.getblocktemplate import DEADLINE_S, following

from radpool_sv2.errors import ConfigError, LocalProtocolError, NodeError
from radpool_sv2.network import MAIN, REGTEST
from radpool_sv2.node import watch
from radpool_sv2.templates import getblocktemplate as module
from radpool_sv2.templates.source import Solution, SubmitStatus

NEXT = "33" * 32


@pytest.fixture
def fakes():
    with FakeNode() as first, FakeNode() as second:
        for each in (first, second):
            each.answers["getblockheader"] = lambda shown: {
                "confirmations": 1,
                "height": 900_000,
                "previousblockhash": TIP,
            }
        yield first, second


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Looks at nodes more often, so that tests need not wait."""
    monkeypatch.setattr(watch, "EXAMINE_S", 0.05)
    monkeypatch.setattr(watch, "RETRY_S_MIN", 0.01)
    monkeypatch.setattr(watch, "RETRY_S_MAX", 0.05)
    monkeypatch.setattr(module, "LONG_POLL_RETRY_S", 0.05)


def until_woken(node):
    """Lets the node answer long polls when the event is set, with the template of then."""
    woken = threading.Event()

    def answer(request):
        if "longpollid" in request:
            woken.wait(60)
            woken.clear()
        return node.template

    node.template = block_template()
    node.answers["getblocktemplate"] = answer
    return woken


def main_nodes(*fakes):
    return [each.settings() for each in fakes]


async def test_nodes_of_another_chain_end_the_start(fakes):
    for each in fakes:
        each.answers["getdeploymentinfo"] = {"deployments": {"reduced_data": {}}}
    with pytest.RaisesGroup(
        pytest.RaisesExc(ConfigError, match="another chain than Bitcoin.*another chain"),
        flatten_subgroups=True,
    ):
        async with following(main_nodes(*fakes), network=MAIN):
            raise AssertionError("it has started")


async def test_one_node_of_the_right_chain_is_enough(fakes):
    first, second = fakes
    first.answers["getdeploymentinfo"] = {"deployments": {"blake2b": {}}}
    async with following(main_nodes(*fakes), network=MAIN) as followed:
        update = await followed.on(TIP)
        assert update.template.height == 900_001
        with trio.fail_after(DEADLINE_S):
            while "follows another chain" not in followed.source.problems()[0]:
                await trio.sleep(0.01)
        second.answers["submitblock"] = None
        result = await followed.source.submit_block(bytes(81))
        assert result.status is SubmitStatus.ACCEPTED
        assert not [each for each in first.calls if each[0] in ("submitblock", "getblocktemplate")]


async def test_templates_by_foreign_rules_are_not_mined(fakes):
    first, _ = fakes
    first.template = block_template(rules=["!segwit", "!blake2b"])
    first.answers["getblocktemplate"] = lambda request: first.template
    async with following(main_nodes(*fakes), network=MAIN) as followed:
        await followed.on(TIP)
        while "!blake2b" not in " ".join(followed.source.problems()):
            await trio.sleep(0.01)


async def test_a_long_poll_tells_of_a_block_and_is_begun_again(fakes):
    first, _ = fakes
    woken = until_woken(first)
    nodes = main_nodes(first)
    async with following(nodes, network=MAIN, interval_s=3_600) as followed:
        await followed.on(TIP)
        for number in range(1, 4):
            shown = f"{number:02x}" * 32
            first.template = block_template(previousblockhash=shown, height=900_001 + number)
            woken.set()
            update = await followed.on(shown)
            assert update.template.height == 900_001 + number
        woken.set()


async def test_fees_are_looked_for_between_long_polls(fakes):
    first, _ = fakes
    woken = until_woken(first)
    async with following(main_nodes(first), network=MAIN, interval_s=0.05) as followed:
        await followed.on(TIP)
        for value in (312_600_000, 312_500_000, 312_700_000):
            first.template = block_template(coinbasevalue=value)
            if value > 312_500_000:
                update = await followed.until(lambda each: each.template.value_sats == value)  # noqa: B023
                assert update.tip.prev_hash[::-1].hex() == TIP
        assert [each.template.value_sats for each in followed.seen] == sorted(
            each.template.value_sats for each in followed.seen
        )
        woken.set()


async def test_a_node_that_refuses_templates_is_left_for_the_next(fakes):
    first, second = fakes

    def refuse(_):
        raise Refuse(-9, "Bitcoin is not connected!")

    first.answers["getblocktemplate"] = refuse
    async with following(main_nodes(*fakes), network=MAIN) as followed:
        await followed.on(TIP)
        assert [each for each in second.calls if each[0] == "getblocktemplate"]


async def test_a_node_behind_does_not_lead_back(fakes):
    first, second = fakes
    first.answers["getblockchaininfo"] = chain(bestblockhash=NEXT, chainwork="0100")
    first.answers["getblocktemplate"] = block_template(previousblockhash=NEXT, height=900_002)
    # Else the one behind might answer first.
    second.status = (503, b"")
    async with following(main_nodes(*fakes), network=MAIN, interval_s=0.05) as followed:
        await followed.on(NEXT)
        second.status = None
        first.status = (503, b"Work queue depth exceeded")
        while not [each for each in second.calls if each[0] == "getblocktemplate"]:
            await trio.sleep(0.01)
        await trio.sleep(0.1)
        second.answers["getblocktemplate"] = block_template(
            previousblockhash=NEXT, height=900_002, coinbasevalue=400_000_000
        )
        await followed.until(lambda each: each.template.value_sats == 400_000_000)
        assert {each.template.height for each in followed.seen} == {900_002}


async def test_a_node_that_is_not_caught_up_is_not_returned_to(fakes):
    first, second = fakes
    for each in fakes:
        each.answers["getblocktemplate"] = block_template(previousblockhash=NEXT, height=900_002)
    first.answers["getblockchaininfo"] = chain(chainwork="ff")
    second.answers["getblockchaininfo"] = chain(chainwork="0100")
    async with following(main_nodes(*fakes), network=MAIN) as followed:
        while followed.source._node.name != second.url:
            await trio.sleep(0.01)
        first.answers["getblockchaininfo"] = chain(chainwork="0100")
        while followed.source._node.name != first.url:
            await trio.sleep(0.01)
        # One that knows less for a moment only is not left.
        second.answers["getblockchaininfo"] = chain(chainwork="0101")
        await trio.sleep(0.2)
        assert followed.source._node.name == first.url


async def test_what_nobody_can_answer_now_is_an_error_of_the_node(fakes):
    first, _ = fakes
    async with following(main_nodes(first), network=MAIN) as followed:
        await followed.on(TIP)
        first.status = (503, b"")
        with pytest.raises(NodeError):
            await followed.source.check_block(bytes(80))
        while "no node gives templates" not in " ".join(followed.source.problems()):
            await trio.sleep(0.01)
        with pytest.raises(NodeError, match="no node answers"):
            await followed.source.known_transactions([bytes(32)])


@pytest.mark.parametrize(
    ("answer", "valid", "reason"),
    [
        (None, True, ""),
        ("bad-cb-amount", False, "bad-cb-amount"),
        ("inconclusive-not-best-prevblk", False, "stale-prevblk"),
        ("duplicate", False, "stale-prevblk"),
        ("duplicate-invalid", False, "duplicate-invalid"),
        ("rejected", False, "rejected"),
    ],
)
async def test_verdicts_are_the_nodes_words(fakes, answer, valid, reason):
    first, _ = fakes

    def judge(request):
        return answer if request.get("mode") == "proposal" else block_template()

    first.answers["getblocktemplate"] = judge
    async with following(main_nodes(first), network=MAIN) as followed:
        verdict = await followed.source.check_block(bytes(80))
        assert (verdict.valid, verdict.reason) == (valid, reason)


@pytest.mark.parametrize("answer", [{}, ["duplicate"], 1, block_template()])
async def test_what_is_no_verdict_is_a_fault_of_the_node(fakes, answer):
    first, _ = fakes
    first.answers["getblocktemplate"] = lambda request: (
        answer if request.get("mode") == "proposal" else block_template()
    )
    async with following(main_nodes(first), network=MAIN) as followed:
        with pytest.raises(NodeError, match="does not judge proposed blocks"):
            await followed.source.check_block(bytes(80))


@pytest.mark.parametrize("answer", [{"a": 1}, [1], 0, True])
async def test_nonsense_about_a_block_is_a_refusal_by_that_node_alone(fakes, answer):
    first, second = fakes
    first.answers["submitblock"] = answer
    second.answers["submitblock"] = None
    async with following(main_nodes(*fakes), network=MAIN) as followed:
        result = await followed.source.submit_block(bytes(81))
        assert result.status is SubmitStatus.ACCEPTED


async def test_a_node_that_does_not_wait_is_not_asked_without_a_pause(fakes):
    first, _ = fakes
    began_s = trio.current_time()
    async with following(main_nodes(first), network=MAIN, interval_s=3_600) as followed:
        await followed.on(TIP)
        await trio.sleep(0.5)
        asked = [params for method, params in first.calls if method == "getblocktemplate"]
        # One for the first template, and one at the beginning of each pause.
        pauses = (trio.current_time() - began_s) / module.LONG_POLL_RETRY_S
        assert len(asked) <= 2 + pauses


async def test_room_that_is_asked_for_while_a_template_is_read_is_left_in_the_next(
    fakes, monkeypatch
):
    first, _ = fakes
    woken = until_woken(first)
    read = module.read_template

    def read_late(raw, room, *rest):
        followed_source.constrain(3_000, 0)
        return read(raw, room, *rest)

    async with following(main_nodes(first), network=MAIN, interval_s=0.05) as followed:
        followed_source = followed.source
        await followed.on(TIP)
        monkeypatch.setattr(module, "read_template", read_late)
        first.template = block_template(coinbasevalue=312_600_000)
        update = await followed.until(lambda each: each.template.weight > 4 * 3_000)
        assert update.template.value_sats == 312_600_000
        woken.set()


async def test_template_that_could_not_be_handed_on_is_not_taken_for_known(fakes):
    """A node is given up in the middle of telling of a block; the next tells of the same."""
    first, _ = fakes
    async with following(main_nodes(first), network=MAIN) as followed:
        await followed.on(TIP)
        source = followed.source
        first.answers["getblocktemplate"] = block_template(previousblockhash=NEXT, height=900_002)

        class Full:
            async def send(self, _):
                await trio.sleep_forever()

        outlet = module._Outlet(Full(), Full(), trio.TASK_STATUS_IGNORED)
        template = await source._ask(source._nodes[0])
        with trio.move_on_after(0.05):
            await source._deliver(source._nodes[0], template, source._tips_seen, outlet)
        await followed.on(NEXT)


@pytest.mark.parametrize(
    ("answers", "status", "reason"),
    [
        ((None, "duplicate"), SubmitStatus.ACCEPTED, ""),
        (("bad-txns", "inconclusive"), SubmitStatus.ACCEPTED, ""),
        (("duplicate", "duplicate"), SubmitStatus.DUPLICATE, ""),
        (("bad-txns", "bad-txns"), SubmitStatus.REJECTED, "bad-txns"),
    ],
)
async def test_a_block_is_taken_when_any_node_takes_it(fakes, answers, status, reason):
    for node, answer in zip(fakes, answers, strict=True):
        node.answers["submitblock"] = answer
    async with following(main_nodes(*fakes), network=MAIN) as followed:
        result = await followed.source.submit_block(bytes(81))
        assert (result.status, result.reason) == (status, reason)


async def test_a_refusal_does_not_count_while_another_node_is_away(fakes):
    first, second = fakes
    first.answers["submitblock"] = "prev-blk-not-found"
    second.answers["submitblock"] = None
    async with following(main_nodes(*fakes), network=MAIN) as followed:
        second.status = (503, b"")
        with trio.move_on_after(0.3):
            await followed.source.submit_block(bytes(81))
            raise AssertionError("a node that lags behind has refused it for good")
        second.status = None
        result = await followed.source.submit_block(bytes(81))
        assert (result.status, result.active) == (SubmitStatus.ACCEPTED, True)


async def test_what_is_not_kept_is_told(fakes):
    async with following(main_nodes(fakes[0]), network=MAIN) as followed:
        solution = Solution(
            template_id=1, version=0, ntime=0, nonce=0, coinbase_tx=b"", hash=bytes(32)
        )
        with pytest.raises(LocalProtocolError, match="template-id-not-found"):
            await followed.source.submit_solution(solution)


async def test_a_real_network_knows_no_rarer_blocks(fakes):
    async with following(main_nodes(fakes[0]), network=MAIN, block_zeros=250) as followed:
        update = await followed.on(TIP)
        assert int.from_bytes(update.tip.target, "little") == 0x020000 << 8 * 0x14
        assert update.template.rule == ""
    easy = dataclasses.replace(REGTEST, name="main")
    async with following(main_nodes(fakes[0]), network=easy, block_zeros=250) as followed:
        update = await followed.on(TIP)
        assert int.from_bytes(update.tip.target, "little") == (1 << 6) - 1
