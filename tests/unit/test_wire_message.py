"""Every message of the core protocols, against the independent peer's layouts."""

import dataclasses
import random

import pytest
from peer import message as wire
from vectors import sv2_messages

from radpool_sv2.errors import LocalProtocolError, RemoteProtocolError
from radpool_sv2.wire.frame import Frame
from radpool_sv2.wire.message.base import FIELDS_MAX, decode
from radpool_sv2.wire.message.connection import CONNECTION, EXTENSIONS
from radpool_sv2.wire.message.job_declaration import (
    JOB_DECLARATION,
    DeclareMiningJob,
    ProvideMissingTransactionsSuccess,
)
from radpool_sv2.wire.message.mining import (
    MINING,
    NewMiningJob,
    OpenExtendedMiningChannel,
    SetTarget,
)
from radpool_sv2.wire.message.template_distribution import TEMPLATE_DISTRIBUTION, NewTemplate

PROTOCOLS = {
    "connection": CONNECTION,
    "extensions": EXTENSIONS,
    "mining": MINING,
    "declaration": JOB_DECLARATION,
    "templates": TEMPLATE_DISTRIBUTION,
}
# Where two protocols have a message of one name, or the peer's field has another one.
PEER_NAMES = {("templates", "SetNewPrevHash"): "TemplateSetNewPrevHash"}
PEER_FIELDS = {("SetCustomMiningJob", "token"): "mining_job_token"}
KINDS = [(protocol, kind) for protocol, kinds in PROTOCOLS.items() for kind in kinds.values()]


def peer_name(protocol, kind):
    return PEER_NAMES.get((protocol, kind.__name__), kind.__name__)


def value(kind, randomness):
    """Returns a random value of a peer's field kind."""
    octets = randomness.randbytes
    match kind:
        case "u8" | "u16" | "u32" | "u64":
            return randomness.randrange(1 << int(kind[1:]))
        case "f32":
            return float(randomness.randrange(1 << 20))
        case "bool":
            return randomness.random() < 0.5
        case "u256":
            return octets(32)
        case "str":
            return "".join(randomness.choice("abcé-.7") for _ in range(randomness.randrange(90)))
        case "b032":
            return octets(randomness.randrange(33))
        case "b0255":
            return octets(randomness.randrange(256))
        case "b064k":
            return octets(randomness.randrange(600))
        case "option":
            return randomness.choice([None, randomness.randrange(1 << 32)])
        case "hashes" | "hashes64k":
            return tuple(octets(32) for _ in range(randomness.randrange(6)))
        case "transactions":
            return tuple(octets(randomness.randrange(99)) for _ in range(randomness.randrange(6)))
        case "u16s" | "u32s":
            top = 1 << int(kind[1:3])
            return tuple(randomness.randrange(top) for _ in range(randomness.randrange(6)))
    raise AssertionError(kind)


def example(protocol, kind, randomness):
    """Returns one message twice: ours and the peer's."""
    layout = wire.LAYOUTS[peer_name(protocol, kind)][3]
    values = {field: value(form, randomness) for field, form in layout}
    ours = [
        PEER_FIELDS.get((kind.__name__, each.name), each.name) for each in dataclasses.fields(kind)
    ]
    assert ours == [field for field, _form in layout]
    return kind(*values.values()), wire.Message(peer_name(protocol, kind), **values)


@pytest.mark.parametrize(
    ("protocol", "kind"), KINDS, ids=lambda each: getattr(each, "__name__", each)
)
def test_each_message_is_written_and_read_as_the_independent_peer_does(protocol, kind):
    randomness = random.Random(f"{protocol}{kind.__name__}")
    for _ in range(20):
        message, theirs = example(protocol, kind, randomness)
        frame = message.encode()
        assert frame.to_bytes() == theirs.frame()
        assert kind.decode(frame.payload) == message
        if protocol != "extensions":
            assert decode(frame, PROTOCOLS[protocol]) == message


@pytest.mark.parametrize(
    ("protocol", "kind"), KINDS, ids=lambda each: getattr(each, "__name__", each)
)
def test_a_message_that_is_cut_anywhere_is_refused_by_its_name(protocol, kind):
    message, _ = example(protocol, kind, random.Random(1))
    payload = message.encode().payload
    for length in range(len(payload)):
        with pytest.raises(RemoteProtocolError, match=kind.__name__):
            kind.decode(payload[:length])


def test_fields_of_extensions_are_skipped_and_other_bytes_are_not():
    payload = SetTarget(7, bytes(32)).encode().payload
    tail = wire.tlv(0x4E45, 1, b"claim") + wire.tlv(2, 1, b"")
    assert SetTarget.decode(payload + tail) == SetTarget(7, bytes(32))
    for length in range(1, len(tail)):
        if length == len(wire.tlv(0x4E45, 1, b"claim")):
            continue
        with pytest.raises(RemoteProtocolError, match="no field of an extension"):
            SetTarget.decode(payload + tail[:length])


def test_fields_of_extensions_are_no_way_to_keep_a_reader_busy():
    payload = SetTarget(7, bytes(32)).encode().payload
    many = wire.tlv(0x4E45, 1, b"")
    assert SetTarget.decode(payload + many * FIELDS_MAX) == SetTarget(7, bytes(32))
    with pytest.raises(RemoteProtocolError, match="more than 64 fields"):
        SetTarget.decode(payload + many * 3_000_000)


@pytest.mark.parametrize(("protocol", "kind"), KINDS)
def test_random_bytes_are_a_message_or_a_fault_of_the_peer(protocol, kind):
    randomness = random.Random(f"{protocol} {kind.__name__}")
    for _ in range(300):
        message, _ = example(protocol, kind, randomness)
        payload = bytearray(message.encode().payload)
        for _ in range(randomness.randrange(1, 4)):
            spoil(payload, randomness)
        try:
            read = kind.decode(bytes(payload))
        except RemoteProtocolError:
            continue
        # What was read can be written, and is the same again.
        assert kind.decode(read.encode().payload) == read


def spoil(payload, randomness):
    """Changes, cuts, doubles or inserts some bytes."""
    at = randomness.randrange(len(payload) + 1)
    match randomness.randrange(4):
        case 0:
            payload[at : at + 1] = randomness.randbytes(1)
        case 1:
            del payload[at : at + randomness.randrange(1, 40)]
        case 2:
            payload[at:at] = payload[: randomness.randrange(1, 40)]
        case 3:
            payload[at : at + 2] = b"\xff\xff"


def test_padding_bits_of_a_bool_mean_nothing():
    message = NewTemplate(1, False, 2, 3, b"\x51", 4, 5, 0, b"", 6, ())
    payload = bytearray(message.encode().payload)
    payload[8] = 0xFE
    assert NewTemplate.decode(bytes(payload)) == message
    payload[8] = 0xFF
    assert NewTemplate.decode(bytes(payload)).future_template


def test_an_option_with_two_items_is_refused():
    payload = bytearray(NewMiningJob(1, 2, 3, 4, bytes(32)).encode().payload)
    payload[8] = 2
    with pytest.raises(RemoteProtocolError, match="at most one"):
        NewMiningJob.decode(bytes(payload))


def test_counts_beyond_what_a_block_holds_are_refused_before_anything_is_read():
    head = DeclareMiningJob(1, b"", 2, b"", b"", (), b"").encode().payload[:-4]
    with pytest.raises(RemoteProtocolError, match="65535 hashes: 16666 is the most"):
        DeclareMiningJob.decode(head + b"\xff\xff")
    with pytest.raises(RemoteProtocolError, match="65535 items: 16666 is the most"):
        ProvideMissingTransactionsSuccess.decode(bytes(4) + b"\xff\xff")
    with pytest.raises(RemoteProtocolError, match="16777215 bytes: 4000000 is the most"):
        ProvideMissingTransactionsSuccess.decode(bytes(4) + b"\x01\x00" + b"\xff" * 3)
    whole = DeclareMiningJob(1, b"t", 2, b"p", b"s", (bytes(32),) * 16_666, b"")
    assert DeclareMiningJob.decode(whole.encode().payload) == whole


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), -1.0])
def test_a_hash_rate_that_is_none_is_told_by_its_code(rate):
    theirs = wire.Message(
        "OpenExtendedMiningChannel",
        request_id=1,
        user_identity="u",
        nominal_hash_rate=rate,
        max_target=bytes(32),
        min_extranonce_size=8,
    )
    with pytest.raises(RemoteProtocolError) as refused:
        OpenExtendedMiningChannel.decode(theirs.payload())
    assert refused.value.error_code == "invalid-nominal-hashrate"


def test_values_that_do_not_fit_are_our_own_fault():
    for message in (
        SetTarget(1 << 32, bytes(32)),
        SetTarget(1, bytes(31)),
        DeclareMiningJob(1, bytes(256), 2, b"", b"", (), b""),
        DeclareMiningJob(1, b"", 2, bytes(65_536), b"", (), b""),
        DeclareMiningJob(1, b"", 2, b"", b"", (bytes(31),), b""),
        DeclareMiningJob(1, b"", 2, b"", b"", (bytes(32),) * 16_667, b""),
        NewTemplate(1, 1, 2, 3, b"", 4, 5, 0, b"", 6, ()),
    ):
        with pytest.raises(LocalProtocolError):
            message.encode()
    with pytest.raises(LocalProtocolError, match="16777215 is the most"):
        Frame(0, 0, False, bytes(1 << 24)).to_bytes()


def test_a_frame_of_another_protocol_is_refused_and_one_of_an_extension_is_none_of_ours():
    frame = SetTarget(7, bytes(32)).encode()
    with pytest.raises(RemoteProtocolError, match="0x21 has no place"):
        decode(frame, TEMPLATE_DISTRIBUTION)
    with pytest.raises(RemoteProtocolError, match="without the channel bit"):
        decode(dataclasses.replace(frame, channel_msg=False), MINING)
    assert decode(Frame(0x4E45, 0x21, True, b"\xff"), MINING) is None


@pytest.mark.parametrize(
    ("protocol", "kind"), KINDS, ids=lambda each: getattr(each, "__name__", each)
)
def test_whatever_can_be_read_is_written_again(protocol, kind):
    randomness = random.Random(f"noise{protocol}{kind.__name__}")
    message, _ = example(protocol, kind, randomness)
    payload = message.encode().payload
    for _ in range(200):
        bad = bytearray(payload or b"\0")
        for _ in range(randomness.randrange(1, 4)):
            bad[randomness.randrange(len(bad))] = randomness.randrange(256)
        try:
            read = kind.decode(bytes(bad))
        except RemoteProtocolError:
            continue
        assert kind.decode(read.encode().payload) == read


def test_what_sri_is_shown_is_what_is_written_today():
    """A Rust test reads the same file with SRI's crates, field by field."""
    assert sv2_messages.FILE.read_text() == sv2_messages.text()
