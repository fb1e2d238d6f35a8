"""The registry of extensions: what is offered, what is refused, who gets what."""

from dataclasses import dataclass

import pytest

from radpool_sv2.errors import ConfigError
from radpool_sv2.pool.extension import ExtensionRegistry, load_extensions


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
    assert registry.supported == (0x0100, 0x0200)
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
