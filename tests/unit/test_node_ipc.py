"""A connection to Bitcoin Core's socket as Python sees it; the native side is played here."""

import json
import os

import pytest
import trio
import trio.testing

from radpool_sv2.errors import LocalProtocolError, NodeError
from radpool_sv2.node import ipc
from radpool_sv2.node.ipc import CoreNode, IpcError, serve_core_node
from radpool_sv2.node.refusal import RpcRefusedError


class Native:
    """Answers by hand: `answer(token, ...)` puts an answer where `take` finds it."""

    def __init__(self):
        self.reader, self.writer = os.pipe()
        self.waiting = []
        self.asked = []
        self.refuses = None

    def event_fd(self):
        return self.reader

    def take(self):
        os.read(self.reader, 100)
        taken, self.waiting = self.waiting, []
        return taken

    def answer(self, token, answer):
        self.waiting.append((token, answer))
        os.write(self.writer, b"!")

    def close(self):
        os.close(self.reader)
        os.close(self.writer)

    def rpc(self, token, text, *, deadline_ms):
        self.note("rpc", token, text)

    def is_syncing(self, token, *, deadline_ms):
        self.note("is_syncing", token)

    def find_transactions(self, token, wtxids, *, deadline_ms):
        self.note("find_transactions", token, *wtxids)

    def note(self, *call):
        if self.refuses is not None:
            raise self.refuses
        self.asked.append(call)


class Failure:
    def __init__(self, kind, text):
        self.kind = kind
        self.text = text


class Capabilities:
    answers_rpc = True
    is_test_chain = True
    finds_transactions = True


@pytest.fixture
def native(monkeypatch):
    monkeypatch.setattr(ipc.native, "Failure", Failure)
    made = Native()
    yield made
    made.close()


@pytest.fixture
async def node(native, nursery):
    made = CoreNode(native, "the socket")
    native.answer(0, Capabilities())
    started = await nursery.start(lambda task_status: made.run(task_status))
    assert started is made
    return made


async def ask(nursery, question):
    """Asks in the background; returns a list that will hold the answer or the error."""
    got = []

    async def run():
        try:
            got.append(await question())
        except (NodeError, LocalProtocolError) as error:
            got.append(error)

    nursery.start_soon(run)
    await trio.testing.wait_all_tasks_blocked()
    return got


async def settle():
    """Lets answers arrive."""
    await trio.testing.wait_all_tasks_blocked()


async def test_answers_find_their_questions_in_any_order(node, native, nursery):
    first = await ask(nursery, node.is_syncing)
    second = await ask(nursery, lambda: node.find_transactions([b"\x01" * 32]))
    assert native.asked == [("is_syncing", 1), ("find_transactions", 2, b"\x01" * 32)]
    native.answer(2, [b"raw"])
    native.answer(1, True)
    await settle()
    assert (first, second) == ([True], [[b"raw"]])


async def test_what_came_instead_of_an_answer_is_raised(node, native, nursery):
    got = await ask(nursery, node.is_syncing)
    native.answer(1, Failure("late", "the node has not answered within 5 ms"))
    await settle()
    (error,) = got
    assert isinstance(error, IpcError)
    assert (error.kind, error.node) == ("late", "the socket")


async def test_connecting_that_fails_is_raised(native):
    made = CoreNode(native, "the socket")
    native.answer(0, Failure("foreign", "user 7 listens"))
    with pytest.raises(IpcError, match="user 7 listens"):
        await made.run(trio.TASK_STATUS_IGNORED)


async def test_no_more_is_asked_than_may_be_under_way(node, native, nursery, monkeypatch):
    many = [await ask(nursery, node.is_syncing) for _ in range(ipc.OPEN_MAX + 1)]
    assert len(native.asked) == ipc.OPEN_MAX
    native.answer(1, False)
    await settle()
    assert many[0] == [False]
    assert len(native.asked) == ipc.OPEN_MAX + 1


async def test_whoever_gives_up_leaves_no_room_taken_for_ever(node, native):
    for number in range(1, 2 * ipc.OPEN_MAX):
        async with trio.open_nursery() as asking:
            await ask(asking, node.is_syncing)
            asking.cancel_scope.cancel()
        native.answer(number, False)
        await settle()
    assert len(native.asked) == 2 * ipc.OPEN_MAX - 1


async def test_a_question_that_is_refused_unsent_takes_no_room(node, native, nursery):
    native.refuses = LocalProtocolError("the block cannot be read")
    for _ in range(2 * ipc.OPEN_MAX):
        with pytest.raises(LocalProtocolError):
            await node.is_syncing()


async def told(node, native, nursery, text):
    got = await ask(nursery, lambda: node.call("getblockheader", "aa", 1))
    native.answer(native.asked[-1][1], text)
    await settle()
    return got[0]


async def test_json_rpc_is_carried_over_the_socket(node, native, nursery):
    assert await told(node, native, nursery, '{"result": {"height": 5}, "id": 0}') == {"height": 5}
    question = json.loads(native.asked[0][2])
    assert (question["method"], question["params"]) == ("getblockheader", ["aa", 1])
    assert await told(node, native, nursery, '{"result": null, "error": null}') is None
    text = '{"error": {"code": -5, "message": "Block not found"}}'
    error = await told(node, native, nursery, text)
    assert isinstance(error, RpcRefusedError)
    assert (error.code, error.reason, error.node) == (-5, "Block not found", "the socket")


@pytest.mark.parametrize("text", ["", "[", "5", '"x"', '{"error": 5}', '{"error": {"code": "x"}}'])
async def test_answers_that_are_no_json_rpc_are_nonsense(node, native, nursery, text):
    error = await told(node, native, nursery, text)
    assert isinstance(error, IpcError)
    assert error.kind == "nonsense"


async def test_a_socket_that_is_not_there_says_what_to_do(tmp_path):
    with pytest.raises(IpcError, match="-ipcbind=unix") as caught:
        await serve_core_node(
            tmp_path / "node.sock", [os.getuid()], task_status=trio.TASK_STATUS_IGNORED
        )
    assert caught.value.kind == "unreachable"
