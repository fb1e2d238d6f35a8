"""A protocol extension in a package of its own, found by entry point in a real node.

It uses all ways that an extension has: attachments on shares, which it encloses in the ledger's
transaction and may refuse, repeated shares, channels that it opens, and frames of its own. The
client is the independent peer.
"""

import sqlite3
import textwrap
from contextlib import closing

import pytest
from peer.client import Client
from peer.key import public_key_from_text
from peer.message import Message, RawFrame, decode, frame, tlv
from peer.session import Session
from rig.node import EASY_SHARES, NO_BLOCKS, Node

pytestmark = pytest.mark.slow

ECHO = 0x4E45

PACKAGE = textwrap.dedent(
    '''
    """Echoes frames, keeps what shares bring, and refuses attachments that say "bad"."""

    from radpool_sv2.errors import RemoteProtocolError
    from radpool_sv2.pool.extension import (
        ChannelGrant,
        Extension,
        OpenMessage,
        RejectedShare,
        ShareMessage,
        attachments_of,
    )


    class Notes:
        """Keeps attachments in the ledger's file, with their batch."""

        def __init__(self, attachments):
            self.attachments = attachments
            self.kept = []

        def store(self, connection, sequence, excluded):
            self.kept = [each for each in self.attachments if each.index not in excluded]
            connection.execute("CREATE TABLE IF NOT EXISTS echo (sequence, data UNIQUE)")
            connection.executemany(
                "INSERT INTO echo VALUES (?, ?)", [(sequence, each.data) for each in self.kept]
            )


    class Echo(Extension):
        extension_type = 0x4E45
        share_messages = (ShareMessage(0x40, 0x42),)
        open_message = OpenMessage(0x50, 0x51, 0x52)

        def __init__(self, host):
            self.host = host

        async def enclose(self, batch):
            return Notes(attachments_of(batch, self))

        async def accept(self, batch, enclosure):
            refused = []
            for item in enclosure.kept:
                if item.data.endswith(b"bad"):
                    refused.append(RejectedShare(item.index, "echo-refused"))
                elif item.msg_type == 0x40:
                    connection = batch.connection_of(item.index)
                    channel = batch.channel_of(item.index).to_bytes(4, "little")
                    self._send(connection, 0x41, channel + item.data[::-1], channel_msg=True)
            return refused

        async def open(self, request):
            if request.tail == b"bad":
                raise RemoteProtocolError("not on these terms", "echo-terms")
            return ChannelGrant(1, bytes(32), 1, None, request.tail[::-1], [(0x53, b"before")])

        async def repeat(self, share):
            if share.data.endswith(b"bad"):
                raise RemoteProtocolError("still bad", "echo-refused")
            payload = share.channel.to_bytes(4, "little") + share.data[::-1]
            self._send(share.connection, 0x41, payload, channel_msg=True)

        async def deliver(self, frame):
            self._send(
                frame.connection,
                frame.msg_type + 1,
                frame.payload[::-1],
                channel_msg=frame.channel_msg,
            )

        def _send(self, connection, msg_type, payload, *, channel_msg):
            self.host.send(
                connection, self.extension_type, msg_type, channel_msg=channel_msg, payload=payload
            )
    '''
)


@pytest.fixture
def environment(tmp_path):
    """Installs the package as an installer would, in a directory of the test."""
    site = tmp_path / "site"
    info = site / "radpool_echo-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "radpool_echo.py").write_text(PACKAGE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: radpool-echo\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[radpool_sv2.extensions]\necho = radpool_echo:Echo\n")
    return {"PYTHONPATH": str(site)}


async def session_on(running, *extensions):
    host, _, port = running.sv2.rpartition(":")
    client = await Client.connect((host, int(port)), public_key_from_text(running.authority_key))
    assert (await client.set_up()).name == "SetupConnectionSuccess"
    if extensions:
        await client.send(
            Message("RequestExtensions", request_id=1, requested_extensions=list(extensions))
        )
        answer = await client.expect("RequestExtensionsSuccess")
        assert sorted(answer.supported_extensions) == sorted(extensions)
    return Session(client)


@pytest.mark.timeout(300)
async def test_attachments_and_frames(tmp_path, environment):
    node = Node(tmp_path / "msp", EASY_SHARES | NO_BLOCKS | {"extensions.enabled": ["echo"]})
    with node.running(env=environment) as running:
        session = await session_on(running, 0x0002, ECHO)
        channel = await session.open(user="alice")

        await session.client.send_frames(frame(ECHO, 0x10, b"ping", channel=False))
        answer = await session.receive()
        assert isinstance(answer, RawFrame)
        assert (answer.extension, answer.number, answer.payload_bytes) == (ECHO, 0x11, b"gnip")

        good = tlv(2, 1, b"rig-7") + tlv(ECHO, 1, b"good")
        await session.accepted(session.mine(channel), tail=good)
        refused = await session.refused(session.mine(channel), tail=tlv(ECHO, 1, b"bad"))
        assert refused == "echo-refused"

        first, second = session.mine(channel), session.mine(channel)
        steps = ((first, b"one", 0x41), (first, b"two", 0x41), (second, b"bad", 0x42))
        for share, way, number in steps:
            payload = share.message.payload() + way
            await session.client.send_frames(frame(ECHO, 0x40, payload, channel=True))
            answer = await session.receive()
            assert (answer.extension, answer.number, answer.channel) == (ECHO, number, True)
            if number == 0x41:
                assert answer.payload_bytes[4:] == way[::-1]
            else:
                assert answer.payload_bytes.endswith(b"echo-refused")

        # A refused attachment is no refused work: all shares are in the books, the repeated once.
        [epoch] = running.get("/api/v1/epochs").json()["items"]
        assert epoch["shares"] == 4
        with closing(sqlite3.connect(tmp_path / "msp" / "data" / "ledger.sqlite")) as book:
            rows = book.execute("SELECT data FROM echo JOIN batch USING (sequence)").fetchall()
        assert {data[-4:] for (data,) in rows} == {b"good", b"\0bad", b"one", b"bad"}
        [row] = running.get("/api/v1/clients").json()["items"]
        page = running.get(f"/api/v1/clients/{row['client_id']}/channels").json()
        assert page["extended_channels"][0]["workers"] == ["rig-7"]
        assert running.problems() == []
        await session.client.aclose()


@pytest.mark.timeout(300)
async def test_the_extension_opens_channels_on_its_own_terms(tmp_path, environment):
    node = Node(tmp_path / "msp", EASY_SHARES | NO_BLOCKS | {"extensions.enabled": ["echo"]})
    with node.running(env=environment) as running:
        session = await session_on(running, ECHO)
        await session.open(user="alice")
        core = Message(
            "OpenExtendedMiningChannel",
            request_id=7,
            user_identity="",
            nominal_hash_rate=0.0,
            max_target=b"\xff" * 32,
            min_extranonce_size=0,
        ).payload()
        await session.client.send_frames(frame(ECHO, 0x50, core + b"bad", channel=False))
        answer = await session.receive()
        assert (answer.extension, answer.number) == (ECHO, 0x52)
        assert answer.payload_bytes.endswith(b"echo-terms")

        await session.client.send_frames(frame(ECHO, 0x50, core + b"terms", channel=False))
        while (answer := await session.receive()).name != "RawFrame":
            pass
        assert (answer.number, answer.payload_bytes) == (0x53, b"before")
        answer = await session.receive()
        assert (answer.extension, answer.number, answer.channel) == (ECHO, 0x51, False)
        assert answer.payload_bytes.endswith(b"smret")
        session.requests[7] = "extended"
        opened = decode(0, False, 0x14, answer.payload_bytes[:-5])
        session.take(opened)
        channel = session.channels[opened.channel_id]
        while channel.active is None:
            await session.receive()
        await session.accepted(session.mine(channel))
        [row] = running.get("/api/v1/clients").json()["items"]
        page = running.get(f"/api/v1/clients/{row['client_id']}/channels").json()
        assert len(page["extended_channels"]) == 2
        assert running.problems() == []
        await session.client.aclose()


@pytest.mark.timeout(300)
async def test_a_required_extension_turns_others_away(tmp_path, environment):
    node = Node(
        tmp_path / "msp",
        EASY_SHARES | NO_BLOCKS | {"extensions.enabled": ["echo"], "extensions.required": ["echo"]},
    )
    with node.running(env=environment) as running:
        host, _, port = running.sv2.rpartition(":")
        client = await Client.connect(
            (host, int(port)), public_key_from_text(running.authority_key)
        )
        assert (await client.set_up()).name == "SetupConnectionSuccess"
        await client.send(Message("RequestExtensions", request_id=1, requested_extensions=[2]))
        answer = await client.expect("RequestExtensionsError")
        assert answer.required_extensions == [ECHO]
        await client.aclose()
        session = await session_on(running, ECHO)
        await session.accepted(session.mine(await session.open()))
        await session.client.aclose()


@pytest.mark.timeout(300)
def test_an_extension_that_is_not_installed_is_told_before_anything_starts(tmp_path):
    node = Node(tmp_path / "msp", {"extensions.enabled": ["echo"]})
    launched = node.launch()
    with launched.process:
        assert launched.process.wait() == 1
    assert "extensions.enabled = 'echo': no such extension is installed" in node.stderr()
