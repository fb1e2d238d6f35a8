"""The registry of extensions: what is offered, what is refused, who gets what."""

import struct
from dataclasses import dataclass

import pytest

from radpool_sv2.errors import ConfigError, InternalError
from radpool_sv2.pool.extension import (
    Attachment,
    ExtensionRegistry,
    RejectedShare,
    load_extensions,
    split_tlvs,
)


@dataclass
class Extension:
    host: object
    extension_type: int = 0x0100
    share_messages: tuple = (0x40,)

    def __post_init__(self):
        self.frames = []
        self.gone = []

    async def accept(self, batch, attachments):
        return []

    async def deliver(self, frame):
        self.frames.append(frame)
        self.host.send(3, self.extension_type, 1, channel_msg=False, payload=b"pong")

    def disconnected(self, connection):
        self.gone.append(connection)


@dataclass
class Frame:
    extension_type: int


class Engine:
    def __init__(self):
        self.sent = []

    def send_extension(self, *arguments, **options):
        self.sent.append((arguments, options))


def test_what_the_engine_is_told():
    registry = ExtensionRegistry(
        {"a": Extension, "b": lambda host: Extension(host, 0x0200, ())}, ["b"]
    )
    assert registry.supported == (0x0002, 0x0100, 0x0200)
    assert registry.required == (0x0200,)
    assert registry.share_messages == ((0x0100, 0x40),)


async def test_frames_reach_their_extension_and_answers_the_engine():
    made = []

    def factory(host):
        made.append(Extension(host))
        return made[0]

    registry = ExtensionRegistry({"a": factory}, [])
    engine = Engine()
    registry.attach(engine)
    await registry.deliver(Frame(0x0100))
    await registry.deliver(Frame(0x0300))
    registry.disconnected(9)
    assert made[0].frames == [Frame(0x0100)]
    assert made[0].gone == [9]
    assert engine.sent == [((3, 0x0100, 1), {"channel_msg": False, "payload": b"pong"})]


def test_required_but_not_enabled():
    with pytest.raises(ConfigError, match=r"extensions\.required = 'x'"):
        ExtensionRegistry({}, ["x"])


def test_two_with_one_number():
    with pytest.raises(ConfigError, match="same number"):
        ExtensionRegistry({"a": Extension, "b": Extension}, [])


def test_not_installed():
    with pytest.raises(ConfigError, match=r"extensions\.enabled = 'nosuch': no such extension"):
        load_extensions(["nosuch"], [])


@pytest.mark.parametrize("number", [0, 1, 2])
def test_numbers_of_the_specification_are_taken(number):
    with pytest.raises(ConfigError, match="which is taken"):
        ExtensionRegistry({"a": lambda host: Extension(host, number)}, [])


def tlv(extension_type, field, value):
    return struct.pack("<HBH", extension_type, field, len(value)) + value


class Batch:
    def __init__(self, *attachments):
        self.carried = attachments

    def attachments(self):
        return self.carried


class Taker(Extension):
    async def accept(self, batch, attachments):
        self.frames.extend(attachments)
        return [RejectedShare(item.index, f"no-{self.extension_type}") for item in attachments]


async def test_each_extension_gets_its_own_tlvs():
    made = {}

    def factory(number):
        def make(host):
            made[number] = Taker(host, number, ())
            return made[number]

        return make

    registry = ExtensionRegistry({"a": factory(0x0100), "b": factory(0x0200)}, [])
    first, second, third = tlv(0x0100, 1, b"x"), tlv(0x0200, 1, b"yy"), tlv(0x0100, 2, b"")
    foreign = tlv(0x0300, 1, b"z")
    batch = Batch((4, 0x0100, 0x1B, first + second + third), (6, 0x0300, 0x1B, foreign + second))
    refused = await registry.accept(batch)
    assert made[0x0100].frames == [Attachment(4, 0x1B, first + third)]
    assert made[0x0200].frames == [Attachment(4, 0x1B, second), Attachment(6, 0x1B, second)]
    assert refused == [(4, "no-256"), (6, "no-512")]


async def test_a_share_message_is_handed_over_whole():
    made = []

    def factory(host):
        made.append(Taker(host))
        return made[0]

    registry = ExtensionRegistry({"a": factory}, [])
    await registry.accept(Batch((0, 0x0100, 0x40, b"any bytes")))
    assert made[0].frames == [Attachment(0, 0x40, b"any bytes")]


@pytest.mark.parametrize("cut", range(1, 8))
def test_tlvs_that_are_cut_off_are_our_own_bug(cut):
    with pytest.raises(InternalError, match="cut off"):
        split_tlvs(tlv(0x0100, 1, b"abc")[:cut])


def test_no_tlvs():
    assert split_tlvs(b"") == {}
