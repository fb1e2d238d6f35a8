"""The source in front of the embedded chain, against a chain that plays a script."""

from pathlib import Path

import pytest
import trio
import trio.testing

from radpool_sv2.templates.embedded import EmbeddedSource
from radpool_sv2.templates.source import (
    BlockVerdict,
    Solution,
    SubmitResult,
    SubmitStatus,
    TemplateSource,
    TemplateTransactions,
)

A, B, C = (bytes([n]) * 32 for n in (10, 11, 12))


def template(number, previous, **more):
    return {
        "id": number,
        "height": 7,
        "previous": previous.hex(),
        "version": 0x20000000,
        "nbits": 0x207FFFFF,
        "target": "ff" * 29 + "000000",
        "time_min": 5,
        "time": 9,
        "coinbase_tx_version": 2,
        "coinbase_prefix": "57",
        "coinbase_sequence": 0xFFFFFFFE,
        "coinbase_locktime": 0,
        "template_outputs": "00" * 9,
        "template_output_count": 1,
        "merkle_path": ["ab" * 32],
        "value_sats": 50,
        "fees_sats": 3,
        "tx_count": 1,
        "weight": 8_400,
        "room_size": 0,
        "room_sigops": 0,
        "block_zeros": 24,
        "rule": "24 leading zero bits",
        **more,
    }


class ScriptedChain:
    """A chain whose templates and answers a test sets."""

    socket_path = Path("/nowhere/chain.sock")

    def __init__(self):
        self.newest = template(1, A)
        self.tip = A
        self.answers = {}
        self.asked = []
        self.changed = trio.Event()

    def announce(self, fields, tip):
        self.newest, self.tip = fields, tip
        self.changed.set()
        self.changed = trio.Event()

    async def run(self, *, task_status):
        task_status.started()
        await trio.sleep_forever()

    is_serving = True

    async def request_apart(self, method, params=None):
        return await self.request(method, params)

    async def next_template(self, after=0):
        while self.newest["id"] == after:
            await self.changed.wait()
        return self.newest

    async def request(self, method, params=None):
        self.asked.append((method, params))
        if method == "changes_since":
            since = bytes.fromhex(params["since"])
            moved = since != self.tip
            return {
                "known": True,
                "height": self.tip[0],
                "tip": self.tip.hex(),
                "connected": [self.tip.hex()] if moved else [],
                "disconnected": [],
            }
        return self.answers[method](params)


@pytest.fixture
async def playing(nursery, autojump_clock):
    chain = ScriptedChain()
    source: TemplateSource = EmbeddedSource(chain)
    update_send, updates = trio.open_memory_channel(10)
    event_send, events = trio.open_memory_channel(10)

    async def run(task_status):
        await source.run(update_send, event_send, task_status=task_status)

    await nursery.start(run)
    await trio.testing.wait_all_tasks_blocked()
    return chain, source, updates, events


def drained(channel):
    found = []
    while channel.statistics().current_buffer_used:
        found.append(channel.receive_nowait())
    return found


async def test_template_and_tip_come_as_one_unit(playing):
    _, _, updates, events = playing
    (update,) = drained(updates)
    assert update.template.id == update.tip.template_id == 1
    assert update.template.coinbase_prefix == b"\x57"
    assert update.template.merkle_path == (b"\xab" * 32,)
    assert (update.template.value_sats, update.template.fees_sats) == (50, 3)
    assert update.tip.prev_hash == A
    assert (update.tip.min_ntime, update.tip.time_min) == (9, 5)
    assert update.tip.target == b"\xff" * 29 + bytes(3)
    assert update.template.rule == "24 leading zero bits"
    (event,) = drained(events)
    assert (event.hash, event.connected, event.disconnected) == (A, (), ())


async def test_new_fees_change_no_tip(playing):
    chain, _, updates, events = playing
    drained(events)
    chain.announce(template(2, A), A)
    await trio.testing.wait_all_tasks_blocked()
    assert [u.template.id for u in drained(updates)] == [1, 2]
    assert drained(events) == []


async def test_templates_that_were_overtaken_leave_no_gap(playing):
    chain, _, updates, events = playing
    chain.announce(template(2, B), B)
    chain.announce(template(3, C), C)
    await trio.testing.wait_all_tasks_blocked()
    assert [u.template.id for u in drained(updates)] == [1, 3]
    assert [(e.hash, e.connected) for e in drained(events)] == [(A, ()), (C, (C,))]
    assert chain.asked[-1] == ("changes_since", {"since": A.hex()})


async def test_tip_that_moved_on_before_the_answer_is_told_once(playing):
    """The template is of B when the chain, asked for changes, is at C already."""
    chain, _, _, events = playing
    chain.announce(template(2, B), C)
    await trio.testing.wait_all_tasks_blocked()
    chain.announce(template(3, C), C)
    await trio.testing.wait_all_tasks_blocked()
    assert [e.hash for e in drained(events)] == [A, C]


@pytest.mark.parametrize("status", list(SubmitStatus))
async def test_solution_is_passed_on_and_its_answer_back(playing, status):
    chain, source, _, _ = playing
    answer = {"status": status.value, "reason": "r", "detail": "d", "active": True}
    chain.answers["submit_solution"] = lambda _: answer
    solution = Solution(template_id=4, version=1, ntime=2, nonce=3, coinbase_tx=b"\x01\x02", hash=A)
    assert await source.submit_solution(solution) == SubmitResult(status, "r", "d", active=True)
    assert chain.asked[-1] == (
        "submit_solution",
        {
            "template_id": 4,
            "version": 1,
            "ntime": 2,
            "nonce": 3,
            "coinbase_tx": "0102",
            "hash": A.hex(),
        },
    )
    assert source.solution_socket() == chain.socket_path


async def test_many_hashes_are_asked_in_parts(playing):
    chain, source, _, _ = playing
    chain.answers["active_blocks"] = lambda params: {
        "confirmations": {each: int(each[:8], 16) or None for each in params["hashes"]}
    }
    hashes = [n.to_bytes(4, "big") + bytes(28) for n in range(2_500)]
    found = await source.active_blocks(hashes)
    assert found[hashes[0]] is None
    assert all(found[key] == n for n, key in enumerate(hashes) if n)
    sizes = [len(p["hashes"]) for m, p in chain.asked if m == "active_blocks"]
    assert sizes == [1_000, 1_000, 500]


async def test_block_is_judged_and_submitted_as_bytes(playing):
    chain, source, _, _ = playing
    told = {"valid": False, "reason": "bad-cb-amount", "detail": "too much"}
    chain.answers["check_block"] = lambda _: told
    assert await source.check_block(b"block") == BlockVerdict(False, "bad-cb-amount", "too much")
    answer = {"status": "accepted", "reason": "", "detail": "", "active": True}
    chain.answers["submit_block"] = lambda _: answer
    assert (await source.submit_block(b"block")).active
    assert chain.asked[-2:] == [
        ("check_block", {"blob": b"block"}),
        ("submit_block", {"blob": b"block"}),
    ]


@pytest.mark.parametrize("fees", [[5, 7], None])
async def test_transactions_are_cut_apart(playing, fees):
    chain, source, _, _ = playing
    chain.answers["transactions"] = lambda _: {
        "lengths": [2, 3],
        "blob": b"aabbb",
        "fees_sats": fees,
    }
    expected = TemplateTransactions((b"aa", b"bbb"), None if fees is None else (5, 7))
    assert await source.transactions(4) == expected


async def test_known_transactions_go_by_the_name_they_were_asked_for(playing):
    chain, source, _, _ = playing
    chain.answers["known_transactions"] = lambda _: {
        "lengths": [1, 2],
        "positions": [0, 2],
        "blob": b"acc",
    }
    assert await source.known_transactions([A, B, C]) == {A: b"a", C: b"cc"}
    assert chain.asked[-1] == ("known_transactions", {"blob": A + B + C})
    assert await source.known_transactions([]) == {}


async def test_room_is_asked_for_and_again_when_the_chain_has_forgotten(playing):
    chain, source, _, _ = playing
    chain.answers["constrain"] = lambda _: {"template_id": 1}
    source.constrain(1_000, 3)
    await trio.testing.wait_all_tasks_blocked()
    asked = ("constrain", {"size": 1_000, "sigops": 3})
    assert chain.asked[-1] == asked
    chain.announce(template(2, A, room_size=1_000, room_sigops=9), A)
    await trio.testing.wait_all_tasks_blocked()
    assert chain.asked.count(asked) == 1
    chain.announce(template(3, A), A)
    await trio.testing.wait_all_tasks_blocked()
    assert chain.asked.count(asked) == 2
    source.constrain(1 << 40, 1 << 20)
    await trio.testing.wait_all_tasks_blocked()
    assert chain.asked[-1] == ("constrain", {"size": 500_000, "sigops": 10_000})


async def test_chain_that_is_away_is_a_problem(playing):
    chain, source, _, _ = playing
    assert source.problems() == []
    chain.is_serving = False
    assert source.problems() == ["The embedded chain is being started again."]
