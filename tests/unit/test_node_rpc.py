"""Calls to a node: passwords, cookies, deadlines, and answers that no node gives."""

import socket
import threading

import pytest
import trio
from rig.fake_node import FakeNode, Refuse

from radpool_sv2.errors import NodeError
from radpool_sv2.node import rpc as module
from radpool_sv2.node.refusal import RpcRefusedError
from radpool_sv2.node.rpc import NodeRpc, NodeSettings


@pytest.fixture
def fake():
    with FakeNode() as node:
        yield node


@pytest.fixture
async def rpc(fake):
    made = NodeRpc(fake.settings())
    yield made
    await made.aclose()


async def test_results_and_refusals(fake, rpc):
    fake.answers["add"] = lambda a, b: a + b
    assert await rpc.call("add", 2, 3) == 5

    def refuse():
        raise Refuse(-5, "Block not found")

    fake.answers["look"] = refuse
    with pytest.raises(RpcRefusedError, match="refuses look: Block not found") as caught:
        await rpc.call("look")
    assert (caught.value.code, caught.value.reason, caught.value.node) == (
        -5,
        "Block not found",
        fake.url,
    )


async def test_a_batch_keeps_its_order_and_its_gaps(fake, rpc):
    def double(number):
        if number == 2:
            raise Refuse(-5, "no")
        return 2 * number

    fake.answers["double"] = double
    assert await rpc.batch("double", [[1], [2], [3]]) == [2, None, 6]
    assert await rpc.batch("double", []) == []
    fake.status = (200, b'[{"result":1,"error":null}]')
    with pytest.raises(NodeError, match="1 of 2 calls"):
        await rpc.batch("double", [[1], [2]])


async def test_a_batch_may_be_answered_in_any_order(fake, rpc):
    fake.status = (200, b'[{"result":6,"id":1},{"result":4,"id":0}]')
    assert await rpc.batch("double", [[2], [3]]) == [4, 6]
    fake.status = (200, b'[{"result":6,"id":1},{"result":4,"id":1}]')
    with pytest.raises(NodeError, match="other calls than it was asked"):
        await rpc.batch("double", [[2], [3]])


async def test_a_gap_in_a_batch_is_only_what_the_node_does_not_know(fake, rpc):
    def stopping(_):
        raise Refuse(-1, "Shutting down")

    fake.answers["getblockheader"] = stopping
    with pytest.raises(NodeError, match="Shutting down"):
        await rpc.batch("getblockheader", [["aa"]])


async def test_a_cookie_is_read_again_when_the_node_has_made_another(fake, tmp_path):
    cookie = tmp_path / ".cookie"
    rpc = NodeRpc(NodeSettings(url=fake.url, deadline_s=60, cookie_file=cookie))
    with pytest.raises(NodeError, match=r"cookie .* cannot be read: No such file"):
        await rpc.call("getblockcount")
    cookie.write_text("__cookie__:secret")
    fake.answers["getblockcount"] = 7
    assert await rpc.call("getblockcount") == 7
    fake.password = "another"
    with pytest.raises(NodeError, match=r"does not accept .*\.cookie"):
        await rpc.call("getblockcount")
    cookie.write_text("__cookie__:another\n")
    assert await rpc.call("getblockcount") == 7
    cookie.write_text("nothing")
    fake.password = "third"
    with pytest.raises(NodeError, match="is no cookie"):
        await rpc.call("getblockcount")
    await rpc.aclose()


async def test_a_wrong_password_is_not_told(fake):
    rpc = NodeRpc(fake.settings(password="hunter2"))
    with pytest.raises(NodeError, match="does not accept the password of 'me'") as caught:
        await rpc.call("getblockcount")
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(rpc.settings)
    await rpc.aclose()


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (503, b"Work queue depth exceeded", "status 503: Work queue depth exceeded"),
        (403, b"", "does not allow it from here"),
        (200, b"hello", "what no node does"),
        (200, b'{"result": "text", "error": null}', "what no node does"),
        (500, b'{"result": null, "error": {"code": -28, "message": "Loading"}}', "not ready yet"),
        (404, b"", "status 404"),
        (200, b"[" * 100_000, "what no node does"),
        (200, b'{"result": "\xff"}', "what no node does"),
        (200, b'{"result":' + b"[" * 100_000, "what no node does"),
    ],
)
async def test_what_is_no_answer_is_a_fault_of_the_node(fake, rpc, status, body, says):
    fake.status = (status, body)
    with pytest.raises(NodeError, match=says):
        await rpc.call_for(int, "getblockcount")


async def test_an_answer_without_end_is_cut_off(fake, rpc, monkeypatch):
    monkeypatch.setattr(module, "ANSWER_BYTES_MAX", 1_000)
    fake.answers["big"] = "x" * 2_000
    with pytest.raises(NodeError, match="more than 1000 bytes"):
        await rpc.call("big")


async def test_a_node_that_does_not_answer_has_a_deadline(fake, rpc):
    given_up = threading.Event()
    fake.answers["slow"] = lambda: given_up.wait(60)
    with pytest.raises(NodeError, match=r"does not answer within 0\.05 s .asked for slow"):
        await rpc.call("slow", deadline_s=0.05)
    given_up.set()


async def test_nobody_there():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        rpc = NodeRpc(NodeSettings(url=f"http://127.0.0.1:{taken.getsockname()[1]}", deadline_s=60))
        with pytest.raises(NodeError, match="cannot be reached"):
            await rpc.call("getblockcount")
        await rpc.aclose()


async def test_a_connection_that_the_node_closed_meanwhile_is_made_again():
    listener = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener[0].socket.getsockname()[1]
    body = b'{"result":1,"error":null,"id":1}'
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    connections = []

    async def serve(stream):
        connections.append(stream)
        await stream.receive_some(65_536)
        if len(connections) == 2:
            # The third request: read, and no word said.
            await stream.aclose()
            return
        await stream.send_all(head + body)
        await stream.aclose()

    rpc = NodeRpc(NodeSettings(url=f"http://127.0.0.1:{port}", deadline_s=60, user="u"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listener)
        assert await rpc.call("one") == 1
        assert await rpc.call("two") == 1
        assert len(connections) == 3
        await rpc.aclose()
        nursery.cancel_scope.cancel()
