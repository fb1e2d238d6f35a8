"""Lists what the pool does about each limit that is reached and each message that is wrong.

One entry is one test and one line of `docs/reference/bad-input.md`, so that the page says what was
seen. `python tests/conformance/bad_input.py` writes the page.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import trio

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "bad-input.md"
sys.path.insert(0, str(ROOT / "tests"))

import custom_bad_input  # noqa: E402
import declaration_bad_input  # noqa: E402
import ecash_bad_input  # noqa: E402
from engine_pool import SHARE_MESSAGE, TEST_EXTENSION, request_extensions  # noqa: E402
from peer.client import PATIENCE_S, Client, open_stream, setup_message  # noqa: E402
from peer.curve import EllSwiftKey  # noqa: E402
from peer.message import Message, frame, tlv  # noqa: E402
from peer.noise import ACT_2_LEN, Initiator  # noqa: E402
from peer.session import MAX_TARGET, Session  # noqa: E402
from visit import CLOSED, Act, Entry, Visit, render, suppress_broken  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

ENTRIES: list[Entry] = []


def entry(group: str, text: str, *answers: str, **more: object) -> Callable[[Act], Act]:
    """Enters what the decorated function does."""

    def enter(act: Act) -> Act:
        ENTRIES.append(Entry(group, text, act, answers, **more))  # type: ignore[arg-type]
        return act

    return enter


def send(*frames: bytes) -> Act:
    """Sends whole frames and nothing else."""

    async def act(visit: Visit) -> None:
        await visit.client.send_frames(*frames)

    return act


def add(group: str, text: str, act: Act, *answers: str, **more: object) -> None:
    entry(group, text, *answers, **more)(act)


# --- the handshake

HANDSHAKE = "Handshake"
SHORT = {"handshake_deadline_ms": 300}


@entry(
    HANDSHAKE,
    "connects and sends nothing until `handshake_deadline_ms`",
    then=CLOSED,
    stage="raw",
    settings=SHORT,
)
async def silent(_visit):
    pass


@entry(
    HANDSHAKE, "sends 63 of the 64 bytes, then nothing", then=CLOSED, stage="raw", settings=SHORT
)
async def one_byte_short(visit):
    await visit.stream.send_all(bytes(63))


@entry(HANDSHAKE, "sends a byte every 20 ms", then=CLOSED, stage="raw", settings=SHORT)
async def dripping_handshake(visit):
    with trio.move_on_after(1.0), suppress_broken():
        for _ in range(63):
            await visit.stream.send_all(b"x")
            await trio.sleep(0.02)


@entry(
    HANDSHAKE,
    "sends any 64 bytes: each is a key, so the pool answers; then bytes that no key has sealed",
    "act 2 (234 bytes)",
    then=CLOSED,
    reason="decrypt-failed",
    stage="raw",
)
async def random_bytes(visit):
    await visit.stream.send_all(os.urandom(64))
    received = b""
    while len(received) < ACT_2_LEN:
        received += await visit.stream.receive_some(ACT_2_LEN - len(received))
    visit.answers.append("act 2 (234 bytes)")
    await visit.stream.send_all(bytes(22))


@entry(
    HANDSHAKE,
    "speaks Stratum V1, where nobody serves that",
    "client.show_message",
    then=CLOSED,
    stage="raw",
)
async def older_version(visit):
    await visit.stream.send_all(b'{"id":1,"method":"mining.subscribe","params":[]}\n')
    line = b""
    while not line.endswith(b"\n"):
        line += await visit.stream.receive_some(512)
    visit.answers.append(json.loads(line)["method"])


@entry(
    HANDSHAKE,
    "sends a line of Stratum V1 that names no method, then nothing",
    then=CLOSED,
    stage="raw",
    settings=SHORT,
)
async def older_version_without_method(visit):
    await visit.stream.send_all(b'{"id":1}\n')


@entry(HANDSHAKE, "sends act 1 one byte a time, in time", "SetupConnectionSuccess", stage="fresh")
async def slow_but_in_time(visit):
    initiator = Initiator(EllSwiftKey(random.SystemRandom()))
    stream = await open_stream(visit.pool.address)
    for byte in initiator.act_1():
        await stream.send_all(bytes([byte]))
    client = await answered(visit, stream, initiator)
    visit.session = Session(client)
    visit.hear(await client.set_up())


async def answered(visit: Visit, stream: trio.SocketStream, initiator: Initiator) -> Client:
    """Hears act 2 and returns the client behind its handshake."""
    received = b""
    with trio.fail_after(PATIENCE_S):
        while len(received) < ACT_2_LEN:
            more = await stream.receive_some(ACT_2_LEN - len(received))
            assert more, "the pool has closed instead"
            received += more
    pair = initiator.finish(received, visit.pool.authority, int(time.time()))
    client = Client(stream, *pair)
    visit.pool.clients.append(client)
    return client


def flip(where: int) -> Act:
    async def act(visit: Visit) -> None:
        sealed = bytearray(visit.client.send_cipher.seal_frame(setup_message().frame()))
        sealed[where] ^= 1
        await visit.client.send_bytes(bytes(sealed))

    return act


add(
    HANDSHAKE,
    "alters a bit of a sealed header",
    flip(0),
    then=CLOSED,
    reason="decrypt-failed",
    stage="fresh",
)
add(
    HANDSHAKE,
    "alters a bit of a header's tag",
    flip(21),
    then=CLOSED,
    reason="decrypt-failed",
    stage="fresh",
)
add(
    HANDSHAKE,
    "alters a bit of a sealed payload",
    flip(22),
    then=CLOSED,
    reason="decrypt-failed",
    stage="fresh",
)
add(
    HANDSHAKE,
    "alters a bit of a payload's tag",
    flip(-1),
    then=CLOSED,
    reason="decrypt-failed",
    stage="fresh",
)


@entry(
    HANDSHAKE,
    "sends a sealed frame twice",
    "SetupConnectionSuccess",
    then=CLOSED,
    reason="decrypt-failed",
    stage="fresh",
)
async def replayed_frame(visit):
    sealed = visit.client.send_cipher.seal_frame(setup_message().frame())
    await visit.client.send_bytes(sealed)
    visit.hear(await visit.client.receive())
    await visit.client.send_bytes(sealed)


# --- set-up

SETUP = "Set-up"

add(
    SETUP,
    "sends another message first",
    send(request_extensions(2).frame()),
    then=CLOSED,
    reason="setup-missing",
    stage="fresh",
)
add(
    SETUP,
    "asks for a protocol other than mining",
    send(setup_message(protocol=1).frame()),
    "SetupConnectionError `unsupported-protocol`",
    then=CLOSED,
    reason="setup-refused",
    stage="fresh",
)
add(
    SETUP,
    "asks for versions without 2",
    send(setup_message(min_version=3, max_version=4).frame()),
    "SetupConnectionError `protocol-version-mismatch`",
    then=CLOSED,
    reason="setup-refused",
    stage="fresh",
)
add(
    SETUP,
    "sets flags that the pool does not support (all of them are named)",
    send(setup_message(0xFFFFFFFF).frame()),
    "SetupConnectionError `unsupported-feature-flags`",
    then=CLOSED,
    reason="setup-refused",
    stage="fresh",
)
add(SETUP, "sends SetupConnection a second time", send(setup_message().frame()), stage="set-up")


@entry(
    SETUP,
    "sends nothing until `setup_deadline_ms`",
    then=CLOSED,
    reason="setup-timeout",
    stage="fresh",
    settings={"setup_deadline_ms": 300},
)
async def no_setup(_visit):
    pass


@entry(
    SETUP,
    "opens no channel until `channel_deadline_ms`",
    then=CLOSED,
    reason="channel-timeout",
    stage="set-up",
    settings={"channel_deadline_ms": 1_000},
)
async def no_channel(_visit):
    pass


@entry(
    SETUP,
    "closes its last channel and opens none until `channel_deadline_ms`",
    then=CLOSED,
    reason="channel-timeout",
    # The first channel has to be asked for in time, however slow the machine is.
    settings={"channel_deadline_ms": 3_000},
)
async def no_channel_any_more(visit):
    await visit.client.send(Message("CloseChannel", channel_id=visit.channel.id, reason_code=""))


REQUIRED = {"required_extensions": [TEST_EXTENSION]}
add(
    SETUP,
    "does not negotiate an extension that the pool requires, and mines",
    send(
        Message(
            "UpdateChannel", channel_id=1, nominal_hash_rate=0.0, maximum_target=MAX_TARGET
        ).frame()
    ),
    then=CLOSED,
    reason="extension-required",
    stage="set-up",
    settings=REQUIRED,
)
add(
    SETUP,
    "asks for extensions without a required one and does not ask again until `extension_retry_ms`",
    send(request_extensions(2).frame()),
    "RequestExtensionsError",
    then=CLOSED,
    reason="extension-required",
    stage="set-up",
    settings={**REQUIRED, "extension_retry_ms": 300},
)
add(
    SETUP,
    "asks for extensions that the pool does not know",
    send(request_extensions(0x4123).frame()),
    "RequestExtensionsError",
    stage="set-up",
)
add(SETUP, "asks for extensions after it has opened a channel", send(request_extensions(2).frame()))


# --- frames

FRAMES = "Frames"


def padded(message: Message, size: int) -> bytes:
    """A message with bytes behind its last field, which the protocol leaves to extensions."""
    payload = message.payload()
    return Message(message.name, tail=bytes(size - len(payload)), **message.fields).frame()


UPDATE = Message("UpdateChannel", channel_id=99, nominal_hash_rate=0.0, maximum_target=MAX_TARGET)
NOBODY = "UpdateChannelError `invalid-channel-id`"

add(
    FRAMES,
    "SetupConnection of `setup_frame_bytes_max` bytes",
    send(padded(setup_message(), 2048)),
    "SetupConnectionSuccess",
    stage="fresh",
)
add(
    FRAMES,
    "SetupConnection of one byte more",
    send(padded(setup_message(), 2049)),
    then=CLOSED,
    reason="frame-too-large",
    stage="fresh",
)
add(FRAMES, "mining message of `mining_frame_bytes_max` bytes", send(padded(UPDATE, 4096)), NOBODY)
add(
    FRAMES,
    "mining message of one byte more",
    send(padded(UPDATE, 4097)),
    then=CLOSED,
    reason="frame-too-large",
)
add(
    FRAMES,
    "message of a negotiated extension of `extension_frame_bytes_max` bytes",
    send(frame(TEST_EXTENSION, 9, bytes(65_536), channel=False)),
    stage="extension",
)
add(
    FRAMES,
    "message of a negotiated extension of one byte more",
    send(frame(TEST_EXTENSION, 9, bytes(65_537), channel=False)),
    then=CLOSED,
    reason="frame-too-large",
    stage="extension",
)
add(
    FRAMES,
    "unknown message of `ignored_frame_bytes_max` bytes",
    send(frame(0x4123, 9, bytes(65_536), channel=False)),
)
add(
    FRAMES,
    "unknown message of one byte more",
    send(frame(0x4123, 9, bytes(65_537), channel=False)),
    then=CLOSED,
    reason="frame-too-large",
)
add(FRAMES, "unknown message without payload", send(frame(0x4123, 9, b"", channel=True)))
add(
    FRAMES,
    "core message that only a server sends",
    send(Message("SetTarget", channel_id=1, maximum_target=MAX_TARGET).frame()),
)


def announce(number: int, length: int, sent: int = 0) -> Act:
    async def act(visit: Visit) -> None:
        head = frame(0, number, b"", channel=True)[:3] + length.to_bytes(3, "little")
        await visit.client.send_bytes(visit.client.send_cipher.seal(head) + bytes(sent))

    return act


add(FRAMES, "announces 16 MiB", announce(0x1B, 0xFFFFFF), then=CLOSED, reason="frame-too-large")
add(
    FRAMES,
    "announces a share and sends nothing of it until `frame_deadline_ms`",
    announce(0x1B, 100),
    then=CLOSED,
    reason="frame-timeout",
    settings={"frame_deadline_ms": 300},
)
add(
    FRAMES,
    "announces a share and sends half of it",
    announce(0x1B, 100, 50),
    then=CLOSED,
    reason="frame-timeout",
    settings={"frame_deadline_ms": 300},
)


@entry(
    FRAMES,
    "sends a byte of a frame every 20 ms",
    then=CLOSED,
    reason="frame-timeout",
    settings={"frame_deadline_ms": 300},
)
async def dripping_frame(visit):
    sealed = visit.client.send_cipher.seal_frame(padded(UPDATE, 4000))
    with trio.move_on_after(1.0), suppress_broken():
        for byte in sealed:
            await visit.client.send_bytes(bytes([byte]))
            await trio.sleep(0.02)


@entry(
    FRAMES,
    "sends a header of 22 bytes but for the last",
    then=CLOSED,
    reason="frame-timeout",
    settings={"frame_deadline_ms": 300},
)
async def part_of_a_header(visit):
    sealed = visit.client.send_cipher.seal_frame(UPDATE.frame())
    await visit.client.send_bytes(sealed[:21])


# --- messages

MESSAGES = "Messages that do not parse"
SHARE = {"channel_id": 1, "sequence_number": 1, "job_id": 1, "nonce": 0, "ntime": 0, "version": 0}
OPENING = {
    "request_id": 1,
    "user_identity": "a",
    "nominal_hash_rate": 0.0,
    "max_target": MAX_TARGET,
}
CUSTOM = Message(
    "SetCustomMiningJob",
    channel_id=1,
    request_id=5,
    mining_job_token=b"t",
    version=2,
    prev_hash=bytes(32),
    min_ntime=0,
    nbits=0,
    coinbase_tx_version=2,
    coinbase_prefix=b"\3",
    coinbase_tx_input_n_sequence=0,
    coinbase_tx_outputs=b"\0",
    coinbase_tx_locktime=0,
    merkle_path=[],
)
CLIENT_MESSAGES = [
    Message("OpenStandardMiningChannel", **OPENING),
    Message("OpenExtendedMiningChannel", **OPENING, min_extranonce_size=8),
    UPDATE,
    Message("CloseChannel", channel_id=9, reason_code="bye"),
    Message("SubmitSharesStandard", **SHARE),
    Message("SubmitSharesExtended", **SHARE, extranonce=bytes(8)),
]


def cut(message: Message, length: int) -> bytes:
    whole = message.frame()
    return whole[:3] + length.to_bytes(3, "little") + whole[6 : 6 + length]


BROKEN = {"then": CLOSED, "reason": "malformed-message"}
for message in CLIENT_MESSAGES:
    add(
        MESSAGES,
        f"{message.name} without its last byte",
        send(cut(message, len(message.payload()) - 1)),
        **BROKEN,
    )
    add(MESSAGES, f"{message.name} without payload", send(cut(message, 0)), **BROKEN)
add(
    MESSAGES,
    "SetupConnection without its last byte",
    send(cut(setup_message(), len(setup_message().payload()) - 1)),
    stage="fresh",
    **BROKEN,
)
add(
    MESSAGES,
    "RequestExtensions without its last byte",
    send(cut(request_extensions(2), 5)),
    stage="set-up",
    **BROKEN,
)
add(MESSAGES, "SetCustomMiningJob without its ids", send(cut(CUSTOM, 7)), **BROKEN)


@entry(MESSAGES, "SubmitSharesExtended with an extranonce of 33 bytes", **BROKEN)
async def long_extranonce(visit):
    payload = Message("SubmitSharesExtended", **SHARE, extranonce=b"").payload()[:-1]
    await visit.client.send_frames(frame(0, 0x1B, payload + b"\x21" + bytes(33), channel=True))


@entry(MESSAGES, "share message of an extension that is cut off", stage="extension", **BROKEN)
async def cut_extension_share(visit):
    await visit.client.send_frames(frame(TEST_EXTENSION, SHARE_MESSAGE, bytes(20), channel=True))


@entry(
    MESSAGES,
    "a share with the channel bit missing",
    NOBODY.replace("UpdateChannelError", "SubmitSharesError"),
)
async def share_without_channel_bit(visit):
    fields = {**SHARE, "channel_id": 99}
    payload = Message("SubmitSharesExtended", **fields, extranonce=bytes(8)).payload()
    await visit.client.send_frames(frame(0, 0x1B, payload, channel=False))


# --- requests

REQUESTS = "Requests that are refused"


def ask(kind: str = "extended", **fields: object) -> Act:
    async def act(visit: Visit) -> None:
        await visit.session.request(kind, **fields)

    return act


for rate in ("nan", "inf", "-1"):
    add(
        REQUESTS,
        f"opens a channel with a hash rate of {rate}",
        ask(hash_rate=float(rate)),
        "OpenMiningChannelError `invalid-nominal-hashrate`",
    )
add(
    REQUESTS,
    "opens a channel with max_target 0",
    ask(max_target=bytes(32)),
    "OpenMiningChannelError `max-target-out-of-range`",
)
add(
    REQUESTS,
    "opens a channel with a max_target one below the hardest step of the pool",
    ask(max_target=(2 ** (256 - 40) - 2).to_bytes(32, "little")),
    "OpenMiningChannelError `max-target-out-of-range`",
)
add(
    REQUESTS,
    "opens an extended channel with min_extranonce_size 17",
    ask(min_extranonce_size=17),
    "OpenMiningChannelError `min-extranonce-size-too-large`",
)
add(REQUESTS, "updates a channel that it does not have", send(UPDATE.frame()), NOBODY)
add(
    REQUESTS,
    "closes a channel that it does not have",
    send(Message("CloseChannel", channel_id=9, reason_code="").frame()),
)
add(
    REQUESTS,
    "offers a job of its own",
    send(CUSTOM.frame()),
    "SetCustomMiningJobError `jd-not-supported`",
)


@entry(
    REQUESTS,
    "has `channels_per_connection_max` channels and opens another",
    "OpenMiningChannelError `channel-capacity-exhausted`",
    settings={"channels_per_connection_max": 3},
)
async def too_many_channels(visit):
    await visit.session.open()
    await visit.session.open("standard")
    await visit.session.request()


@entry(
    REQUESTS,
    "closes one of `channels_per_connection_max` channels and opens another",
    "OpenExtendedMiningChannelSuccess",
    settings={"channels_per_connection_max": 1},
)
async def channel_after_another(visit):
    await visit.client.send(Message("CloseChannel", channel_id=visit.channel.id, reason_code=""))
    del visit.session.channels[visit.channel.id]
    channel = await visit.session.open()
    assert channel.active is not None
    visit.answers.append("OpenExtendedMiningChannelSuccess")


# --- jobs of the client's own: `custom_bad_input.py`

ENTRIES += custom_bad_input.ENTRIES

# --- shares

SHARES = "Shares that are refused"


def share(change: Callable[[Visit, Message], None], *, good: bool = True, **mine: object) -> Act:
    async def act(visit: Visit) -> None:
        made = visit.session.mine(visit.channel, good=good, **mine)
        change(visit, made.message)
        await visit.client.send(made.message)

    return act


def put(**fields: object) -> Callable[[Visit, Message], None]:
    return lambda _visit, message: message.fields.update(fields)


def error(code: str) -> str:
    return f"SubmitSharesError `{code}`"


add(
    SHARES,
    "hash above the target of the job's tag",
    share(put(), good=False),
    error("difficulty-too-low"),
)
add(SHARES, "channel that it does not have", share(put(channel_id=99)), error("invalid-channel-id"))
add(SHARES, "job that was never sent", share(put(job_id=99)), error("invalid-job-id"))
add(
    SHARES,
    "extranonce of 7 bytes where 8 were agreed",
    share(put(extranonce=bytes(7))),
    error("bad-extranonce-size"),
)
add(
    SHARES,
    "extranonce of 9 bytes where 8 were agreed",
    share(put(extranonce=bytes(9))),
    error("bad-extranonce-size"),
)
add(
    SHARES,
    "ntime one second before the job's",
    share(lambda visit, message: message.fields.update(ntime=visit.channel.job.min_ntime - 1)),
    error("invalid-share"),
)
add(SHARES, "ntime far ahead of the clock", share(put(ntime=0xFFFFFFFF)), error("invalid-share"))
add(
    SHARES,
    "version with a bit that may not roll",
    share(put(version=0x20000001)),
    error("invalid-non-rollable-version-bit"),
)
add(
    SHARES,
    "version rolled although the pool lets nothing roll",
    share(put(version=0x20002000)),
    error("version-rolling-not-allowed"),
    settings={"version_rolling": False},
)


@entry(SHARES, "the same share twice", error("duplicate-share"))
async def twice(visit):
    made = visit.session.mine(visit.channel)
    await visit.session.accepted(made)
    await visit.client.send(made.message)


@entry(SHARES, "a share of the tip before", error("stale-share"))
async def stale(visit):
    made = visit.session.mine(visit.channel)
    visit.pool.new_tip()
    await visit.session.until("SetNewPrevHash")
    await visit.client.send(made.message)


@entry(SHARES, "a worker name of 33 bytes", error("invalid-share"), stage="extension")
async def long_worker(visit):
    made = visit.session.mine(visit.channel)
    made.message.tail = tlv(2, 1, bytes(33))
    await visit.client.send(made.message)


# --- rates and bytes

RATES = "Rates and queues"
SLOW_SUBMITS = {"submits_per_second_max": 1, "submits_burst_max": 5}


async def submit_bad(visit: Visit, count: int) -> None:
    """Sends so many shares that are refused anyway, in one write."""
    made = visit.session.mine(visit.channel).message.replace(job_id=99)
    await visit.client.send(*[made] * count)


@entry(
    RATES,
    "submits `submits_burst_max` shares at once",
    *[error("invalid-job-id")] * 5,
    settings=SLOW_SUBMITS,
)
async def burst_of_submits(visit):
    await submit_bad(visit, 5)


@entry(
    RATES,
    "submits one more",
    *[error("invalid-job-id")] * 5,
    error("submit-rate-exceeded"),
    settings=SLOW_SUBMITS,
)
async def burst_and_one(visit):
    await submit_bad(visit, 6)


@entry(
    RATES,
    "submits twice as many and one more",
    *[error("invalid-job-id")] * 5,
    *[error("submit-rate-exceeded")] * 5,
    then=CLOSED,
    reason="submit-rate-exceeded",
    settings=SLOW_SUBMITS,
)
async def two_bursts_and_one(visit):
    await submit_bad(visit, 11)


@entry(
    RATES,
    "sends one request more than `requests_burst_max` at once",
    *[NOBODY] * 4,
    then=CLOSED,
    reason="request-rate-exceeded",
    stage="set-up",
    settings={"requests_per_second_max": 1, "requests_burst_max": 4},
)
async def too_many_requests(visit):
    # In one write: no new right flows in while the pool reads it.
    await visit.client.send(*[UPDATE] * 5)


@entry(
    RATES,
    "sends as many requests as `requests_burst_max`",
    *[NOBODY] * 3,
    settings={"requests_per_second_max": 1, "requests_burst_max": 5},
)
async def enough_requests(visit):
    # Opening the channel was one, and the question whether it is all right is another.
    await visit.client.send(*[UPDATE] * 3)


@entry(
    RATES,
    "has `extension_bytes_pending_max` bytes of an extension waiting",
    stage="extension",
    settings={"extension_bytes_pending_max": 1_000},
)
async def pending_bytes(visit):
    visit.pool.stalled = True
    await visit.client.send_frames(*[frame(TEST_EXTENSION, 9, bytes(500), channel=False)] * 2)


@entry(
    RATES,
    "has one byte more waiting",
    then=CLOSED,
    reason="extension-bytes-exceeded",
    stage="extension",
    settings={"extension_bytes_pending_max": 1_000},
)
async def too_many_pending_bytes(visit):
    visit.pool.stalled = True
    await visit.client.send_frames(
        frame(TEST_EXTENSION, 9, bytes(500), channel=False),
        frame(TEST_EXTENSION, 9, bytes(501), channel=False),
    )


async def never_read(visit: Visit) -> None:
    """Provokes answers and reads none, until the pool has had enough."""
    made = visit.session.mine(visit.channel).message.replace(job_id=99)
    # Each write is left to its end: what follows one that was cut short would not decrypt. None of
    # them hangs, as the pool goes on reading.
    with trio.fail_after(PATIENCE_S), suppress_broken():
        while visit.pool.gauge("closed_slow_reader_total") == 0:
            await visit.client.send(*[made] * 2_000)
    visit.session = None


UNBOUND = {"submits_burst_max": 10_000_000, "submits_per_second_max": 1_000_000}
add(
    RATES,
    "reads nothing until `outbound_bytes_max` bytes wait for it",
    never_read,
    then=CLOSED,
    reason="slow-reader",
    settings={**UNBOUND, "outbound_bytes_max": 1 << 16},
)


add(
    RATES,
    "takes no byte for `write_deadline_ms` while some wait",
    never_read,
    then=CLOSED,
    reason="slow-reader",
    settings={**UNBOUND, "outbound_bytes_max": 1 << 28, "write_deadline_ms": 500},
)


# --- crowds

CROWDS = "Connections"


async def served(visit: Visit, count: int) -> None:
    """Brings so many clients in; the entry's own client is one more before them."""
    for _ in range(count):
        await visit.pool.session()


@entry(
    CROWDS,
    "is one of `connections_max` connections",
    stage="set-up",
    settings={"connections_max": 3},
)
async def as_many(visit):
    await served(visit, 2)


@entry(
    CROWDS,
    "is one more than `connections_max`",
    then=CLOSED,
    stage="raw",
    settings={"connections_max": 3},
)
async def one_too_many(visit):
    await crowd_out(visit, 3)


@entry(
    CROWDS,
    "is one of `connections_per_address_max` connections of its address",
    stage="set-up",
    settings={"connections_per_address_max": 3},
)
async def as_many_of_an_address(visit):
    await served(visit, 2)


@entry(
    CROWDS,
    "is one more than `connections_per_address_max`",
    then=CLOSED,
    stage="raw",
    settings={"connections_per_address_max": 3},
)
async def one_too_many_of_an_address(visit):
    await crowd_out(visit, 3)


async def crowd_out(visit: Visit, count: int) -> None:
    """Lets others take all places first."""
    await trio.aclose_forcefully(visit.stream)
    # Its handshake has failed before its place is free: it was not merely not accepted yet.
    await visit.pool.until(
        lambda: (
            visit.pool.gauge("handshakes_failed_total") == 1 and visit.pool.gauge("sockets") == 0
        )
    )
    await served(visit, count)
    visit.stream = await open_stream(visit.pool.address)


@entry(
    CROWDS,
    "asks for one handshake more than `handshakes_burst_per_address_max` at once",
    then=CLOSED,
    stage="raw",
    settings={"handshakes_burst_per_address_max": 3, "handshakes_per_second_per_address_max": 1},
)
async def handshakes_of_an_address(visit):
    # Without any arithmetic or answer in between, so that no new right flows in meanwhile. Nobody
    # promises whom the pool hears last.
    streams = [visit.stream, *[await open_stream(visit.pool.address) for _ in range(3)]]
    for stream in streams:
        await stream.send_all(os.urandom(64))
    with trio.fail_after(PATIENCE_S):
        heard = [await stream.receive_some(1) for stream in streams]
    assert sorted(map(len, heard)) == [0, 1, 1, 1]
    for stream, answer in zip(streams, heard, strict=True):
        if answer:
            await trio.aclose_forcefully(stream)
        else:
            visit.stream = stream


@entry(
    CROWDS,
    "asks for more handshakes than `handshakes_burst_max` at once (they wait for their turn)",
    stage="set-up",
    settings={"handshakes_burst_max": 2, "handshakes_per_second_max": 2},
)
async def handshakes_in_all(visit):
    # The arithmetic comes before and behind, so that no new right flows in meanwhile.
    initiators = [Initiator(EllSwiftKey(random.SystemRandom())) for _ in range(5)]
    streams = [await open_stream(visit.pool.address) for _ in initiators]
    for stream, initiator in zip(streams, initiators, strict=True):
        await stream.send_all(initiator.act_1())
    for stream, initiator in zip(streams, initiators, strict=True):
        client = await answered(visit, stream, initiator)
        assert (await client.set_up()).name == "SetupConnectionSuccess"
    assert visit.pool.gauge("handshakes_delayed_total") >= 2


ALL = ENTRIES + declaration_bad_input.ENTRIES + ecash_bad_input.ENTRIES
"""All lines of the page."""


if __name__ == "__main__":
    PAGE.write_text(render(ALL), encoding="utf-8")
    print(f"{len(ALL)} lines: {PAGE}")
