"""A protocol extension in a package of its own, found by entry point in a real node.

It uses both ways that an extension has: attachments on shares, which it may refuse, and frames of
its own, which it answers. The client is the independent peer.
"""

import textwrap

import pytest
from peer.client import Client
from peer.key import public_key_from_text
from peer.message import Message, RawFrame, frame, tlv
from peer.session import Session
from rig.node import EASY_SHARES, NO_BLOCKS, Node

pytestmark = pytest.mark.slow

ECHO = 0x4E45

PACKAGE = textwrap.dedent(
    '''
    """Echoes frames, and refuses attachments that say "bad"."""

    from radpool_sv2.pool.extension import RejectedShare


    class Echo:
        extension_type = 0x4E45
        share_messages = (0x40,)

        def __init__(self, host):
            self.host = host

        async def accept(self, batch, attachments):
            return [
                RejectedShare(item.index, "echo-refused")
                for item in attachments
                if item.data.endswith(b"bad")
            ]

        async def deliver(self, frame):
            self.host.send(
                frame.connection,
                frame.extension_type,
                frame.msg_type + 1,
                channel_msg=frame.channel_msg,
                payload=frame.payload[::-1],
            )

        def disconnected(self, connection):
            pass
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


@pytest.mark.timeout(60)
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

        share = session.mine(channel)
        channel.outstanding.append((share.message.sequence_number, share.work))
        payload = share.message.payload() + b"anything"
        await session.client.send_frames(frame(ECHO, 0x40, payload, channel=True))
        await session.expect("SubmitSharesSuccess")

        # A refused attachment is no refused work: all three shares are in the books.
        [epoch] = running.get("/api/v1/epochs").json()["items"]
        assert epoch["shares"] == 3
        [row] = running.get("/api/v1/clients").json()["items"]
        page = running.get(f"/api/v1/clients/{row['client_id']}/channels").json()
        assert page["extended_channels"][0]["workers"] == ["rig-7"]
        assert running.problems() == []
        await session.client.aclose()


@pytest.mark.timeout(60)
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


@pytest.mark.timeout(60)
def test_an_extension_that_is_not_installed_is_told_before_anything_starts(tmp_path):
    node = Node(tmp_path / "msp", {"extensions.enabled": ["echo"]})
    launched = node.launch()
    with launched.process:
        assert launched.process.wait(20) == 1
    assert "extensions.enabled = 'echo': no such extension is installed" in node.stderr()
