"""The registry of extensions: what is offered, what is refused, who gets what."""

import struct
from types import SimpleNamespace

import pytest
import trio

from radpool_sv2.errors import ConfigError, InternalError, RemoteProtocolError
from radpool_sv2.pool.extension import (
    Attachment,
    ChannelGrant,
    Extension,
    OpenMessage,
    ShareMessage,
    attachments_of,
    split_tlvs,
)
from radpool_sv2.pool.registry import ExtensionRegistry, load_extensions


class Idle(Extension):
    """Leaves everything to the defaults."""

    def __init__(self, host, extension_type=0x0100):
        self.host = host
        self.number = extension_type

    @property
    def extension_type(self):
        return self.number


class Echo(Idle):
    share_messages = (ShareMessage(0x40, 0x41),)
    open_message = OpenMessage(0x50, 0x51, 0x52)

    def __init__(self, host, extension_type=0x0100):
        super().__init__(host, extension_type)
        self.told = []

    async def open(self, request):
        self.told.append(request)
        return ChannelGrant(7, bytes(32), 1, None, b"tail")

    def opened(self, event):
        self.told.append(event)

    def closed(self, event):
        self.told.append(event)

    async def repeat(self, share):
        self.told.append(share)

    async def deliver(self, frame):
        self.told.append(frame)
        self.host.send(3, self.extension_type, 1, channel_msg=False, payload=b"pong")

    def disconnected(self, connection):
        self.told.append(connection)


class Engine:
    def __init__(self):
        self.sent = []

    def send_extension(self, *arguments, **options):
        self.sent.append((arguments, options))

    def reject_repeated(self, share, error_code):
        self.sent.append((share, error_code))

    def disconnect(self, connection):
        self.sent.append(connection)


def by(extension_type):
    """Makes what every event has in common here."""
    return SimpleNamespace(extension_type=extension_type)


def test_what_the_engine_is_told():
    registry = ExtensionRegistry({"a": Echo, "b": lambda host: Idle(host, 0x0200)}, ["b"])
    assert registry.supported == (0x0002, 0x0100, 0x0200)
    assert registry.required == (0x0200,)
    assert registry.share_messages == ((0x0100, 0x40, 0x41),)
    assert registry.open_messages == ((0x0100, 0x50, 0x51, 0x52),)


async def test_everything_reaches_its_extension_and_answers_the_engine():
    made = []

    def factory(host):
        made.append(Echo(host))
        return made[0]

    registry = ExtensionRegistry({"a": factory, "b": lambda host: Idle(host, 0x0200)}, [])
    [echo] = made
    # To nobody: there is no engine yet.
    echo.host.send(3, 0x0100, 1, channel_msg=False, payload=b"hello")
    echo.host.disconnect(3)
    echo.host.reject_repeated("share", "too-early")
    engine = Engine()
    registry.attach(engine)
    frame, opened, request, repeated = (by(0x0100) for _ in range(4))
    await registry.deliver(frame)
    await registry.deliver(by(0x0300))
    registry.opened(opened)
    registry.opened(by(0))
    registry.closed("any channel")
    assert (await registry.open(request)).tail == b"tail"
    await registry.repeat(repeated)
    registry.disconnected(9)
    assert echo.told == [frame, opened, "any channel", request, repeated, 9]
    echo.host.disconnect(3)
    assert engine.sent == [((3, 0x0100, 1), {"channel_msg": False, "payload": b"pong"}), 3]


async def test_an_extension_that_does_nothing_refuses_what_it_is_asked_for():
    registry = ExtensionRegistry({"idle": Idle}, [])
    engine = Engine()
    registry.attach(engine)
    share = by(0x0100)
    await registry.repeat(share)
    assert engine.sent == [(share, "duplicate-share")]
    with pytest.raises(InternalError, match="0x0100 does not open channels"):
        await registry.open(by(0x0100))
    idle = Idle(None)
    assert await idle.enclose(None) is None
    assert await idle.accept(None, None) == ()
    assert registry.share_messages == registry.open_messages == ()


async def test_a_repeated_share_is_refused_with_the_code_of_its_extension():
    class Picky(Idle):
        async def repeat(self, share):
            raise RemoteProtocolError("not this one", "stale-keyset")

    registry = ExtensionRegistry({"picky": Picky}, [])
    engine = Engine()
    registry.attach(engine)
    await registry.repeat(by(0x0100))
    registry.reject_repeated(by(0x0100), "too-many")
    assert [code for _, code in engine.sent] == ["stale-keyset", "too-many"]


async def test_run_has_started_once_all_extensions_have(nursery):
    begun = []

    class Slow(Idle):
        async def run(self, task_status):
            await trio.testing.wait_all_tasks_blocked()
            begun.append(self.extension_type)
            task_status.started()
            await trio.sleep_forever()

    registry = ExtensionRegistry(
        {"a": Slow, "b": lambda host: Slow(host, 0x0200), "c": lambda host: Idle(host, 0x0300)}, []
    )
    await nursery.start(registry.run)
    assert begun == [0x0100, 0x0200]
    nursery.cancel_scope.cancel()


def test_parts_of_the_node():
    class Mint:
        pass

    class BetterMint(Mint):
        pass

    mint = BetterMint()
    hosts = []
    ExtensionRegistry({"a": lambda host: hosts.append(host) or Idle(host)}, [], ["text", mint])
    assert hosts[0].part(Mint) is mint
    assert hosts[0].part(str) == "text"
    with pytest.raises(ConfigError, match=r"needs a int, which this node does not have"):
        hosts[0].part(int)


def test_required_but_not_enabled():
    with pytest.raises(ConfigError, match=r"extensions\.required = 'x'"):
        ExtensionRegistry({}, ["x"])


def test_two_with_one_number():
    with pytest.raises(ConfigError, match="same number"):
        ExtensionRegistry({"a": Idle, "b": Idle}, [])


def test_not_installed():
    with pytest.raises(ConfigError, match=r"extensions\.enabled = 'nosuch': no such extension"):
        load_extensions(["nosuch"], [])


@pytest.mark.parametrize("number", [0, 1, 2])
def test_numbers_of_the_specification_are_taken(number):
    with pytest.raises(ConfigError, match="which is taken"):
        ExtensionRegistry({"a": lambda host: Idle(host, number)}, [])


def tlv(extension_type, field, value):
    return struct.pack("<HBH", extension_type, field, len(value)) + value


class Batch:
    def __init__(self, *attachments):
        self.carried = attachments

    def attachments(self):
        return self.carried

    def attachment_types(self):
        pytest.fail("nobody is to be asked for it")


def test_a_batch_costs_nothing_where_there_is_no_extension():
    assert ExtensionRegistry({}, []).concerned(Batch()) == []


def test_who_is_concerned():
    class Typed(Batch):
        def attachment_types(self):
            return [0x0200, 0x0300]

    registry = ExtensionRegistry({"a": Idle, "b": lambda host: Idle(host, 0x0200)}, [])
    assert [each.extension_type for each in registry.concerned(Typed())] == [0x0200]


def test_each_extension_gets_its_own_tlvs():
    first, second, third = tlv(0x0100, 1, b"x"), tlv(0x0200, 1, b"yy"), tlv(0x0100, 2, b"")
    foreign = tlv(0x0300, 1, b"z")
    batch = Batch((4, 0x0100, 0x1B, first + second + third), (6, 0x0300, 0x1B, foreign + second))
    assert attachments_of(batch, Idle(None)) == [Attachment(4, 0x1B, first + third)]
    assert attachments_of(batch, Idle(None, 0x0200)) == [
        Attachment(4, 0x1B, second),
        Attachment(6, 0x1B, second),
    ]


def test_a_share_message_is_handed_over_whole():
    batch = Batch((0, 0x0100, 0x40, b"any bytes"), (1, 0x0200, 0x40, b"another's"))
    assert attachments_of(batch, Echo(None)) == [Attachment(0, 0x40, b"any bytes")]


@pytest.mark.parametrize("cut", range(1, 8))
def test_tlvs_that_are_cut_off_are_our_own_bug(cut):
    with pytest.raises(InternalError, match="cut off"):
        split_tlvs(tlv(0x0100, 1, b"abc")[:cut])


def test_no_tlvs():
    assert split_tlvs(b"") == {}
