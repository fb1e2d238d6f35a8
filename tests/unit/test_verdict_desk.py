"""The queue in front of a node: one at a time, fair, within budgets, nothing left over."""

from dataclasses import dataclass, field

import pytest
import trio
import trio.testing

from radpool_sv2.declarator import verdict as verdict_module
from radpool_sv2.declarator.verdict import VerdictBudget, VerdictDesk
from radpool_sv2.errors import NodeError, RemoteProtocolError
from radpool_sv2.templates.source import BlockVerdict

VALID = BlockVerdict(True)
PAYS_TOO_MUCH = BlockVerdict(False, "bad-cb-amount", "too much")
NTIME = 1_000


@dataclass(eq=False)
class Declared:
    """A template as far as the desk looks at it."""

    name: str
    size: int = 1_000
    wrong: tuple[str, str] | None = None
    prev_hash: bytes = bytes(32)

    @property
    def digest(self):
        return self.name.encode()

    def structural(self):
        return self.wrong

    def proposal(self, ntime):
        assert ntime == NTIME
        return self.name.encode()


@dataclass
class ScriptedNode:
    """A node that takes its time, and says of each block what it was told to."""

    seconds: float = 1
    answers: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)
    at_once: int = 0

    async def check_block(self, block):
        name = block.decode()
        self.asked.append(name)
        self.at_once += 1
        assert self.at_once == 1, "two verdicts at once"
        try:
            await trio.sleep(self.seconds)
        finally:
            self.at_once -= 1
        answer = self.answers.get(name, VALID)
        if isinstance(answer, NodeError):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def threads_take_no_time(monkeypatch):
    """A clock that jumps when nobody runs does not see threads run."""

    async def call(function, *given):
        await trio.lowlevel.checkpoint()
        return function(*given)

    monkeypatch.setattr(trio.to_thread, "run_sync", call)


@pytest.fixture
async def playing(nursery, autojump_clock):
    node = ScriptedNode()
    desk = VerdictDesk(node)
    await nursery.start(desk.run)
    return node, desk


async def told(desk, results, declarer, declared):
    """Asks, and notes what came of it and when."""
    try:
        verdict = await desk.judge(declarer, declared, NTIME)
    except (NodeError, RemoteProtocolError) as error:
        verdict = error
    results.append((declared.name, verdict, trio.current_time()))


async def test_structure_needs_no_node(playing, autojump_clock):
    node, desk = playing
    wrong = Declared("a", wrong=("bad-blk-weight", "too heavy"))
    verdict = await desk.judge("x", wrong, NTIME)
    assert verdict == BlockVerdict(False, "bad-blk-weight", "too heavy")
    assert node.asked == []


async def test_verdicts_are_remembered_per_tip_and_template(playing, autojump_clock):
    node, desk = playing
    node.answers["b"] = PAYS_TOO_MUCH
    for _ in range(3):
        assert await desk.judge("x", Declared("a"), NTIME) == VALID
        assert await desk.judge("y", Declared("b"), NTIME) == PAYS_TOO_MUCH
    assert node.asked == ["a", "b"]
    await desk.judge("x", Declared("a", prev_hash=b"\x01" * 32), NTIME)
    assert node.asked == ["a", "b", "a"]
    assert (desk.judged, desk.waiting) == (3, 0)


@pytest.mark.parametrize("reason", ["stale-prevblk", "time-too-new"])
async def test_what_may_mend_by_itself_is_asked_again(playing, autojump_clock, reason):
    node, desk = playing
    node.answers["a"] = BlockVerdict(False, reason)
    assert (await desk.judge("x", Declared("a"), NTIME)).reason == reason
    del node.answers["a"]
    assert await desk.judge("x", Declared("a"), NTIME) == VALID


async def test_remembered_verdicts_are_bounded(playing, autojump_clock, monkeypatch):
    node, desk = playing
    monkeypatch.setattr(verdict_module, "REMEMBERED_MAX", 2)
    for name in "abcac":
        await desk.judge("x", Declared(name), NTIME)
    assert node.asked == ["a", "b", "c", "a"]


async def test_same_template_of_two_declarers_is_one_case(playing, autojump_clock):
    node, desk = playing
    results = []
    async with trio.open_nursery() as nursery:
        for declarer in "xyz":
            nursery.start_soon(told, desk, results, declarer, Declared("a"))
    assert [each[1] for each in results] == [VALID] * 3
    assert node.asked == ["a"]


async def test_declarers_take_turns_whatever_they_have_waiting(playing, autojump_clock):
    node, desk = playing
    results = []
    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(told, desk, results, "flood", Declared(f"flood-{number}"))
        await trio.sleep(0.5)
        for declarer in ("one", "two"):
            nursery.start_soon(told, desk, results, declarer, Declared(declarer))
    assert node.asked[0].startswith("flood")
    assert set(node.asked[1:3]) == {"one", "two"}
    assert len(results) == 6


async def test_cases_of_a_declarer_on_both_sides_of_the_bound(playing, autojump_clock):
    _, desk = playing
    results = []
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(told, desk, results, "x", Declared(f"{number}"))
            await trio.testing.wait_all_tasks_blocked()
        # One is at the node, four wait: that is all.
        with pytest.raises(RemoteProtocolError, match="4 templates wait") as raised:
            await desk.judge("x", Declared("5"), NTIME)
        assert raised.value.error_code == "declaration-rate-exceeded"
        assert desk.waiting == 5
    assert [each[1] for each in results] == [VALID] * 5


async def test_bytes_of_a_declarer_on_both_sides_of_the_bound(nursery, autojump_clock):
    budget = VerdictBudget(bytes_per_minute=60_000, bytes_burst=10_000)
    desk = VerdictDesk(ScriptedNode(seconds=0), budget)
    await nursery.start(desk.run)
    await desk.judge("x", Declared("a", size=10_000), NTIME)
    with pytest.raises(RemoteProtocolError, match="1 bytes exceed what is left of 60000"):
        await desk.judge("x", Declared("b", size=1), NTIME)
    await desk.judge("y", Declared("b", size=10_000), NTIME)
    await trio.sleep(5)
    await desk.judge("x", Declared("c", size=5_000), NTIME)


async def test_everybodys_bytes_and_cases_are_bounded(playing, autojump_clock, monkeypatch):
    _, desk = playing
    monkeypatch.setattr(verdict_module, "BYTES_MAX", 3_000)
    results = []
    async with trio.open_nursery() as nursery:
        for declarer in "xyz":
            nursery.start_soon(told, desk, results, declarer, Declared(declarer))
            await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(RemoteProtocolError, match="too many templates"):
            await desk.judge("q", Declared("q"), NTIME)
        monkeypatch.setattr(verdict_module, "BYTES_MAX", 4_000)
        monkeypatch.setattr(verdict_module, "CASES_MAX", 3)
        with pytest.raises(RemoteProtocolError, match="too many templates"):
            await desk.judge("q", Declared("q"), NTIME)
    monkeypatch.setattr(verdict_module, "CASES_MAX", 1)
    assert await desk.judge("q", Declared("q"), NTIME) == VALID


async def test_who_has_the_most_waiting_gives_way(playing, autojump_clock, monkeypatch):
    """A flood of large templates keeps nobody else from being judged."""
    _, desk = playing
    monkeypatch.setattr(verdict_module, "BYTES_MAX", 5_000)
    results = []
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(told, desk, results, "flood", Declared(f"flood-{number}"))
            await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(told, desk, results, "honest", Declared("honest"))
    verdicts = {name: verdict for name, verdict, _ in results}
    assert verdicts["honest"] == VALID
    given_up = [name for name, each in verdicts.items() if isinstance(each, RemoteProtocolError)]
    assert given_up == ["flood-4"]
    assert verdicts["flood-4"].error_code == "declaration-rate-exceeded"
    assert [name for name, _, _ in results].index("honest") <= 2, "and it waits for one turn"
    assert desk.waiting == 0


async def test_time_used_up_is_waited_for_and_costs_nobody_else(nursery, autojump_clock):
    node = ScriptedNode(seconds=2)
    budget = VerdictBudget(node_ms_per_minute=6_000, node_ms_burst=1_000)
    desk = VerdictDesk(node, budget)
    await nursery.start(desk.run)
    results = []
    async with trio.open_nursery() as nursery_:
        for number in range(2):
            nursery_.start_soon(told, desk, results, "slow", Declared(f"slow-{number}"))
        await trio.sleep(2.5)
        nursery_.start_soon(told, desk, results, "quick", Declared("quick"))
    assert [each[0].partition("-")[0] for each in results] == ["slow", "quick", "slow"]
    # A second is owed after the first verdict; it flows back at a tenth of the clock.
    assert results[2][2] - results[0][2] == pytest.approx(10 + 2)
    assert results[1][2] == pytest.approx(results[0][2] + 2.5)


async def test_node_that_does_not_answer_is_told_to_all_who_wait(playing, autojump_clock):
    node, desk = playing
    node.answers["a"] = NodeError("it is away", "node")
    results = []
    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(told, desk, results, name, Declared(name))
            await trio.testing.wait_all_tasks_blocked()
    assert [str(each[1]) for each in results] == ["it is away"] * 3
    assert node.asked == ["a"]
    assert desk.waiting == 0
    del node.answers["a"]
    assert await desk.judge("x", Declared("a"), NTIME) == VALID


async def test_case_that_nobody_waits_for_is_dropped(playing, autojump_clock):
    node, desk = playing
    results = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(told, desk, results, "x", Declared("a"))
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.5):
            await desk.judge("gone", Declared("b"), NTIME)
        assert desk.waiting == 2
    await trio.sleep(1)
    assert (node.asked, desk.waiting) == (["a"], 0)
    # Its place is free at once for the same declarer.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(told, desk, results, "x", Declared("c"))
        await trio.testing.wait_all_tasks_blocked()
        for number in range(10):
            with trio.move_on_after(0.01):
                await desk.judge("gone", Declared(f"g{number}"), NTIME)
    assert node.asked == ["a", "c"]


async def test_desk_that_ends_leaves_nobody_waiting(autojump_clock):
    desk = VerdictDesk(ScriptedNode())
    results = []
    async with trio.open_nursery() as nursery:
        running = await nursery.start(_run_in_scope, desk)
        for name in "ab":
            nursery.start_soon(told, desk, results, name, Declared(name))
            await trio.testing.wait_all_tasks_blocked()
        running.cancel()
    assert [type(each[1]) for each in results] == [NodeError, NodeError]
    assert desk.waiting == 0


async def _run_in_scope(desk, *, task_status):
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(desk.run)
            task_status.started(scope)


async def test_declarers_that_are_owed_nothing_are_forgotten(playing, autojump_clock, monkeypatch):
    _, desk = playing
    monkeypatch.setattr(verdict_module, "DECLARERS_MAX", 3)
    for number in range(3):
        await desk.judge(number, Declared(f"{number}"), NTIME)
    with pytest.raises(RemoteProtocolError, match="too many declarers"):
        await desk.judge("more", Declared("more"), NTIME)
    await trio.sleep(120)
    assert await desk.judge("more", Declared("more"), NTIME) == VALID
