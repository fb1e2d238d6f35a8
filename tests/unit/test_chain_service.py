"""The socket: good requests, bad input, limits, notifications."""

import contextlib
import json
import socket
from pathlib import Path

import pytest
import trio
from chain_rig import ANYONE, founded, solve
from hypothesis import given
from hypothesis import strategies as st

from radpool_sv2.chain import service as service_module
from radpool_sv2.chain.client import ChainUnavailableError, check_socket_path, open_client
from radpool_sv2.chain.frame import FRAME_LEN_MAX, FrameReader, decode, encode
from radpool_sv2.chain.node import Node
from radpool_sv2.chain.service import ChainService
from radpool_sv2.chain.transaction import Transaction
from radpool_sv2.errors import ConfigError, LocalProtocolError, RemoteProtocolError, StoreError

WALLET = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"


@contextlib.asynccontextmanager
async def serving(directory, *, block_zeros=0, payments=0):
    (directory / "chain.blocks").write_bytes((founded_path() / "chain.blocks").read_bytes())
    node = Node(directory, block_zeros)
    service = ChainService(node, payments_per_minute=payments, template_interval_s=1)
    listening = socket.socket(socket.AF_UNIX)
    path = directory / "chain.sock"
    listening.bind(str(path))
    listening.listen()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            service.run, trio.SocketListener(trio.socket.from_stdlib_socket(listening))
        )
        await ready(path)
        # Its connection must not count among those of the test.
        while service._connections:
            await trio.sleep(0)
        yield path
        nursery.cancel_scope.cancel()
    node.close()


def founded_path():
    return Path(founded().name)


async def ready(path):
    async with open_client(path) as client:
        while not (await client.request("ping"))["serving"]:
            await trio.sleep(0)


async def raw_exchange(path, data, *, close=False):
    """Sends bytes and returns the first reply."""
    stream = await trio.open_unix_socket(str(path))
    async with stream:
        await stream.send_all(data)
        if close:
            await stream.send_eof()
        reader = FrameReader(stream)
        length = await reader.begin()
        return None if length is None else decode(await reader.finish(length))


async def test_template_block_and_confirmations(tmp_path):
    async with serving(tmp_path) as path, open_client(path) as client:
        fields = await client.request("template")
        params = solve(fields)
        answer = await client.request("submit_solution", params)
        assert (answer["status"], answer["active"]) == ("accepted", True)
        assert answer["hash"] == params["hash"]
        again = await client.request("submit_solution", params)
        assert again["status"] == "duplicate"
        found = await client.request("active_blocks", {"hashes": [params["hash"], "ab" * 32]})
        assert found["confirmations"] == {params["hash"]: 1, "ab" * 32: None}
        status = await client.request("status")
        assert status["height"] == fields["height"]
        assert status["template_id"] != fields["id"]


async def test_a_request_without_an_id_is_answered(tmp_path):
    """The engine sends its solutions so."""
    async with serving(tmp_path) as path:
        request = encode({"method": "submit_solution", "params": {"template_id": 1}})
        reply = await raw_exchange(path, request)
        assert reply["id"] is None
        assert reply["error"]["code"] == "bad-request"


async def test_subscribers_hear_of_new_tips_and_new_fees(tmp_path):
    heard = []
    async with serving(tmp_path) as path, open_client(path, heard.append) as client:
        first = await client.request("subscribe")
        mined = await client.request("mine", {"count": 2})
        while not heard:
            await trio.sleep(0.001)
        assert heard[-1]["previous"] == mined["hashes"][-1]
        assert heard[-1]["id"] > first["id"]
        sent = await client.request("send", {"address": WALLET, "amount_sats": 1_000})
        with trio.fail_after(60):
            while heard[-1]["tx_count"] == 0:
                await trio.sleep(0.01)
        assert heard[-1]["fees_sats"] == sent["fee_sats"]
        assert heard[-1]["time"] == heard[0]["time"]


async def test_rule_is_said_wherever_the_chain_shows(tmp_path):
    async with serving(tmp_path, block_zeros=9) as path, open_client(path) as client:
        for method in ("status", "template", "subscribe"):
            answer = await client.request(method)
            assert answer["block_zeros"] == 9
            assert "9 leading zero bits" in answer["rule"]
            assert "not consensus" in answer["rule"]


async def test_payments_at_a_rate_fill_the_mempool(tmp_path):
    async with serving(tmp_path, payments=600) as path, open_client(path) as client:
        with trio.fail_after(60):
            while (await client.request("status"))["mempool_count"] < 3:
                await trio.sleep(0.02)
        await client.request("traffic", {"payments_per_minute": 0})
        mined = await client.request("mine")
        block = await client.request("block", {"height": mined["height"]})
        assert len(block["block"]) > 1_000
        assert (await client.request("status"))["mempool_count"] == 0


async def test_sent_money_arrives(tmp_path):
    async with serving(tmp_path) as path, open_client(path) as client:
        sent = await client.request("send", {"address": WALLET, "amount_sats": 12_345})
        where = await client.request("transaction", {"txid": sent["txid"]})
        assert where["where"] == "mempool"
        await client.request("mine")
        balance = await client.request("balance", {"address": WALLET})
        assert balance == {"coins": 1, "sats": 12_345}
        where = await client.request("transaction", {"txid": sent["txid"]})
        assert where == {"where": "chain", "confirmations": 1}


async def test_reorg_tells_what_left_and_what_joined(tmp_path):
    async with serving(tmp_path) as path, open_client(path) as client:
        before = await client.request("mine", {"count": 3})
        changes = await client.request("reorg", {"depth": 2})
        assert changes["disconnected"] == list(reversed(before["hashes"][1:]))
        assert len(changes["connected"]) == 3
        since = await client.request("changes_since", {"since": before["hashes"][0]})
        assert since["connected"] == changes["connected"]


BAD_REQUESTS = [
    ({}, "method must be a string"),
    ({"method": 3}, "method must be a string"),
    ({"method": "nonsense"}, "no method 'nonsense'"),
    ({"method": "mine", "params": []}, "params must be an object"),
    ({"method": "mine", "params": {"count": 0}}, "1 to 1000"),
    ({"method": "mine", "params": {"count": 1001}}, "1 to 1000"),
    ({"method": "mine", "params": {"count": True}}, "an integer"),
    ({"method": "mine", "params": {"count": 1.5}}, "an integer"),
    ({"method": "mine", "params": {"script": "zz"}}, "hex digits"),
    ({"method": "reorg", "params": {"depth": 101}}, "1 to 100"),
    ({"method": "send", "params": {"amount_sats": 1}}, "a regtest address"),
    ({"method": "send", "params": {"address": WALLET, "amount_sats": 0}}, "amount_sats is 0"),
    ({"method": "send", "params": {"address": WALLET, "amount_sats": "1"}}, "an integer"),
    ({"method": "submit_solution", "params": {"template_id": -1}}, "template_id is -1"),
    ({"method": "submit_block", "params": {"block": None}}, "hex digits"),
    ({"method": "active_blocks", "params": {"hashes": "ab"}}, "a list"),
    ({"method": "active_blocks", "params": {"hashes": ["ab"]}}, "1 bytes, 32 are needed"),
    ({"method": "active_blocks", "params": {"hashes": ["ab" * 32] * 10_001}}, "at most 10000"),
    ({"method": "changes_since", "params": {}}, "hex digits"),
    ({"method": "traffic", "params": {"payments_per_minute": 601}}, "0 to 600"),
    ({"method": "block", "params": {"height": 102}}, "0 to 101"),
]


async def test_each_bad_request_is_answered_and_the_connection_lives(tmp_path):
    async with serving(tmp_path) as path:
        stream = await trio.open_unix_socket(str(path))
        async with stream:
            reader = FrameReader(stream)
            for number, (message, says) in enumerate(BAD_REQUESTS):
                await stream.send_all(encode({**message, "id": number}))
                reply = decode(await reader.finish(await reader.begin()))
                assert reply["id"] == number
                assert reply["error"]["code"] == "bad-request"
                assert says in reply["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b"\xff\xfe", b"[" * 100_000, b'{"a":NaN'])
async def test_what_is_not_a_json_object_is_answered(tmp_path, body):
    async with serving(tmp_path) as path:
        reply = await raw_exchange(path, len(body).to_bytes(4, "little") + body)
        assert reply["error"]["code"] == "bad-json"


async def test_frame_length_on_both_sides_of_the_limit(tmp_path):
    async with serving(tmp_path) as path:
        long = FRAME_LEN_MAX + 1
        reply = await raw_exchange(path, long.to_bytes(4, "little"))
        assert reply["error"]["code"] == "frame-too-long"
        request = json.dumps({"method": "ping"}).encode().ljust(FRAME_LEN_MAX)
        reply = await raw_exchange(path, len(request).to_bytes(4, "little") + request)
        assert reply["result"]["serving"]


async def test_frame_cut_at_every_byte_ends_the_connection_alone(tmp_path):
    async with serving(tmp_path) as path, open_client(path) as client:
        frame = encode({"method": "ping"})
        for length in range(1, len(frame)):
            reply = await raw_exchange(path, frame[:length], close=True)
            assert reply["error"]["code"] == "truncated"
        assert (await client.request("ping"))["serving"]


async def test_one_byte_at_a_time_is_understood(tmp_path):
    async with serving(tmp_path) as path:
        stream = await trio.open_unix_socket(str(path))
        async with stream:
            for byte in encode({"method": "ping", "id": 7}):
                await stream.send_all(bytes([byte]))
            reader = FrameReader(stream)
            assert decode(await reader.finish(await reader.begin()))["id"] == 7


async def test_announced_frame_that_never_comes_is_a_timeout(tmp_path, monkeypatch):
    monkeypatch.setattr(service_module, "FRAME_SECONDS", 0.05)
    async with serving(tmp_path) as path:
        reply = await raw_exchange(path, (100).to_bytes(4, "little") + b"{")
        assert reply["error"]["code"] == "timeout"


async def test_connections_on_both_sides_of_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(service_module, "CONNECTIONS_MAX", 3)
    async with serving(tmp_path) as path, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(open_client(path)) for _ in range(3)]
        for client in clients:
            assert (await client.request("ping"))["serving"]
        reply = await raw_exchange(path, b"")
        assert reply["error"]["code"] == "too-many-connections"
        await stack.aclose()
        with trio.fail_after(60):
            while True:
                with contextlib.suppress(ChainUnavailableError):
                    async with open_client(path) as client:
                        await client.request("ping")
                        break


async def test_reader_that_does_not_read_is_dropped_and_others_are_served(tmp_path, monkeypatch):
    monkeypatch.setattr(service_module, "OUTBOX_MAX", 2)
    async with serving(tmp_path) as path, open_client(path) as client:
        stream = await trio.open_unix_socket(str(path))
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        await stream.send_all(encode({"method": "subscribe"}))
        # Some hundred templates fill the socket's buffer and then the outbox.
        for _ in range(400):
            await client.request("mine")
        async with stream:
            with trio.fail_after(60):
                while await stream.receive_some(65_536):
                    pass


async def test_request_after_the_chain_has_gone_says_so(tmp_path):
    async with serving(tmp_path) as path:
        pass
    with pytest.raises(ChainUnavailableError, match="no embedded chain answers"):
        async with open_client(path):
            pass


async def test_error_of_the_chain_reaches_the_caller_as_it_is(tmp_path):
    async with serving(tmp_path) as path:
        with pytest.raises(LocalProtocolError, match="1 to 1000"):
            async with open_client(path) as client:
                await client.request("mine", {"count": 0})


async def test_disk_that_refuses_is_told_and_ends_the_process(tmp_path, monkeypatch):
    async def story():
        async with serving(tmp_path) as path, open_client(path) as client:

            def refuse(_):
                raise OSError(28, "No space left on device")

            monkeypatch.setattr("os.fdatasync", refuse)
            with pytest.raises(StoreError, match="No space left"):
                await client.request("mine")
            await trio.sleep(60)

    with pytest.RaisesGroup(pytest.RaisesExc(StoreError), flatten_subgroups=True):
        await story()


def test_socket_path_on_both_sides_of_the_limit():
    check_socket_path(Path("/" + "x" * 106))
    with pytest.raises(ConfigError, match="shorter name"):
        check_socket_path(Path("/" + "x" * 107))


@given(st.binary(max_size=60))
def test_random_bodies_decode_or_are_refused(body):
    with contextlib.suppress(RemoteProtocolError):
        assert isinstance(decode(body), dict)


async def test_nothing_that_a_client_sends_hurts_the_mined_chain(tmp_path):
    async with serving(tmp_path) as path, open_client(path) as client:
        transaction = "02000000" + "00" * 60
        with pytest.raises(LocalProtocolError, match="tx-decode-failed"):
            await client.request("submit_transaction", {"transaction": transaction})
        await client.request("mine", {"script": ANYONE.hex()})


def pieces(answer):
    blob, at = answer["blob"], 0
    for length in answer["lengths"]:
        yield blob[at : at + length]
        at += length


async def test_transactions_of_a_template_and_of_the_mempool(tmp_path):
    async with serving(tmp_path) as path, open_client(path) as client:
        sent = [
            await client.request("send", {"address": WALLET, "amount_sats": 10_000 + n})
            for n in range(3)
        ]
        template = await client.request("constrain", {"size": 0, "sigops": 5})
        answer = await client.request("transactions", template)
        made = [Transaction.from_bytes(each) for each in pieces(answer)]
        assert {each.txid.hex() for each in made} == {each["txid"] for each in sent}
        assert sorted(answer["fees_sats"]) == sorted(each["fee_sats"] for each in sent)
        asked = [bytes(32), made[1].wtxid, made[0].wtxid, bytes(32)]
        known = await client.request("known_transactions", {"blob": b"".join(asked)})
        assert known["positions"] == [1, 2]
        assert list(pieces(known)) == [made[1].raw, made[0].raw]
        await client.request("mine")
        known = await client.request("known_transactions", {"blob": b"".join(asked)})
        assert (known["positions"], known["blob"]) == ([], b"")
        assert (await client.request("transactions", template))["lengths"] == answer["lengths"]
        with pytest.raises(LocalProtocolError, match="template-id-not-found"):
            await client.request("transactions", {"template_id": 5})


async def test_room_for_the_pools_outputs_is_left_in_the_next_template(tmp_path):
    async with serving(tmp_path) as path, open_client(path) as client:
        before = await client.request("template")
        assert (before["room_size"], before["room_sigops"], before["weight"]) == (0, 0, 8_000)
        made = await client.request("constrain", {"size": 10_000, "sigops": 200})
        after = await client.request("template")
        assert after["id"] == made["template_id"] > before["id"]
        assert (after["room_size"], after["room_sigops"]) == (10_000, 200)
        assert after["weight"] == 1_168 + 4 * 10_000
        # Somebody else asks for less of one and for more of the other: both find enough.
        less = await client.request("constrain", {"size": 9_000, "sigops": 200})
        assert less == made
        await client.request("constrain", {"size": 0, "sigops": 300})
        widest = await client.request("template")
        assert (widest["room_size"], widest["room_sigops"]) == (10_000, 300)
        for size, sigops in ((-1, 0), (500_001, 0), (0, 10_001), (None, 0)):
            with pytest.raises(LocalProtocolError, match="allowed"):
                await client.request("constrain", {"size": size, "sigops": sigops})


async def test_block_is_judged_and_taken_as_bytes(tmp_path):
    async with serving(tmp_path) as path, open_client(path) as client:
        await client.request("mine")
        block = bytes.fromhex((await client.request("block", {"height": 102}))["block"])
        stale = await client.request("check_block", {"blob": block})
        assert (stale["valid"], stale["reason"]) == (False, "stale-prevblk")
        await client.request("reorg", {"depth": 1})
        assert (await client.request("submit_block", {"blob": block}))["status"] == "duplicate"
        for method in ("check_block", "known_transactions"):
            with pytest.raises(LocalProtocolError, match="blob is missing"):
                await client.request(method)
        for wtxids in (b"x", bytes(33), bytes(32 * 16_667)):
            with pytest.raises(LocalProtocolError, match="at most 16666 wtxids"):
                await client.request("known_transactions", {"blob": wtxids})


@given(st.binary(max_size=60), st.sampled_from(["params", "result"]))
def test_blobs_arrive_as_they_are(blob, part):
    message = {"id": 1, part: {"x": [1, 2], "blob": blob}}
    assert decode(encode(message)[4:]) == message


@pytest.mark.parametrize(
    "body",
    [
        b"\x00",
        b"\x00\x05\x00\x00\x00{}",
        b"\x00\x02\x00\x00\x00{}blob",
        b"\x00\x02\x00\x00\x00[]blob",
        b'\x00\x0c\x00\x00\x00{"params":3}blob',
    ],
)
def test_blob_without_a_place_is_refused(body):
    with pytest.raises(RemoteProtocolError) as raised:
        decode(body)
    assert raised.value.error_code == "bad-json"
