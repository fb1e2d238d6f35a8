"""The native engine at its border: batches, events, commands, errors, the end. Real sockets."""

import contextlib
import os
import struct
import time
from collections import Counter

import pytest
import trio
from peer.client import Client
from peer.message import Message, tlv
from peer.session import Session

from radpool_sv2._native import engine as native
from radpool_sv2._native import keys
from radpool_sv2._native.ledger import MspKey, verify_batch
from radpool_sv2.errors import ConfigError, InternalError, LocalProtocolError

MSP_KEY = MspKey.from_secret(bytes(31) + b"\x07")
TEST_EXTENSION = 0x4E45
SETTINGS = {
    "msp_key": MSP_KEY.public,
    "pool_text": "test",
    "shares_per_minute": 1_000_000,
    "exponent_min": 0,
    "exponent_max": 0,
    "version_rolling": True,
    "group_jobs": False,
    "work_selection": False,
    "rollable_fixed": None,
    "job_past_ms": 60_000,
    "job_stale_ms": 60_000,
    "ntime_slack_s": 120,
    "report_interval_ms": 10_000,
    "supported_extensions": [2, TEST_EXTENSION],
    "required_extensions": [],
    "share_messages": [(TEST_EXTENSION, 0, 1)],
    "open_messages": [(TEST_EXTENSION, 2, 3, 4)],
    "setup_deadline_ms": 60_000,
    "channel_deadline_ms": 60_000,
    "extension_retry_ms": 10_000,
    "channels_per_connection_max": 10,
    "workers_per_connection_max": 10,
    "submits_per_second_max": 1_000_000,
    "submits_burst_max": 1_000_000,
    "requests_per_second_max": 1_000_000,
    "requests_burst_max": 1_000_000,
    "extension_bytes_pending_max": 65_536,
    "custom_jobs_pending_max": 4,
    "custom_jobs_kept_max": 6,
    "setup_frame_bytes_max": 2_048,
    "mining_frame_bytes_max": 2_048,
    "custom_job_frame_bytes_max": 8_192,
    "extension_frame_bytes_max": 2_048,
    "ignored_frame_bytes_max": 2_048,
    "seen_tips": 3,
    "seen_shares_expected": 1_000,
    "seen_shares_max": 100_000,
    "io_threads": 1,
    "connections_max": 1_000,
    "connections_per_address_max": 1_000,
    "handshakes_per_second_max": 1_000,
    "handshakes_burst_max": 1_000,
    "handshakes_per_second_per_address_max": 1_000,
    "handshakes_burst_per_address_max": 1_000,
    "handshake_deadline_ms": 60_000,
    "frame_deadline_ms": 60_000,
    "write_deadline_ms": 60_000,
    "outbound_bytes_max": 1 << 20,
    "ring_records_max": 10_000,
    "events_max": 10_000,
    "prefixes_low": 0,
    "solution_log": "/dev/null",
    "solution_socket": None,
}
CUSTOM = {
    "template_id": 1 << 63,
    "account": 1,
    "commitment": bytes(32),
    "rail": 0,
    "epoch": 3,
    "exponent": 0,
    "price": (1 << 128) - 1,
    "height": 100,
    "target": bytes(32),
}
# By value, in whole satoshis, from the easiest exponent on.
WEIGHT = (1, 0, 0)
AUTHORITY = keys.AuthoritySecretKey.generate()
LOOKS = [
    getattr(native.ShareBatch, f"{name}_of")
    for name in (
        *("connection", "channel", "sequence", "account", "hash", "template", "job"),
        *("version", "ntime", "nonce", "extranonce", "price"),
    )
]
# The layout that the stub of ShareBatch promises.
RECORD = struct.Struct("<4Q 8I 4B 32s 32s")
REGTEST_TARGET = bytes(29) + b"\xff\xff\x7f"


def identity():
    static = keys.StaticKey.generate()
    now = int(time.time())
    certificate = keys.Certificate.sign(
        AUTHORITY, static, valid_from=now - 60, not_valid_after=now + 3600
    )
    return keys.ServerIdentity(static, certificate)


def template(number=1, **parts):
    return native.Template(
        **(
            {
                "id": number,
                "epoch": 3,
                "height": 100,
                "version": 0x20000000,
                "coinbase_tx_version": 2,
                "coinbase_prefix": b"\x01\x64",
                "coinbase_sequence": 0xFFFFFFFF,
                "pool_outputs": struct.pack("<Q", 5_000_000_000) + b"\x01\x51",
                "pool_output_count": 1,
                "template_outputs": b"",
                "template_output_count": 0,
                "coinbase_locktime": 0,
                "merkle_path": [bytes([number]) * 32] * 2,
            }
            | parts
        )
    )


def tip(number=1, target=bytes(32), **parts):
    defaults = {
        "template_id": number,
        "prev_hash": bytes([number]) * 32,
        "min_ntime": int(time.time()) - 60,
        "nbits": 0x207FFFFF,
        "target": target,
        "price": 7,
    }
    return native.Tip(**(defaults | parts))


class Desk:
    """Is an engine with the simplest possible pool behind it."""

    def __init__(self, **settings):
        self.engine = native.Engine(native.EngineSettings(**(SETTINGS | settings)), identity())
        self.engine.add_prefixes(0, 1_000)
        self.engine.publish_template(template(), tip())
        self.address = self.engine.listen("127.0.0.1", 0)
        self.events = []
        self.completions = {}
        self.batches = []
        self.acknowledging = True
        self.stopped = False
        self.sessions = []
        self.draining = trio.Event()
        self.draining.set()

    async def run(self, task_status=trio.TASK_STATUS_IGNORED):
        task_status.started()
        while not self.stopped:
            await self.draining.wait()
            await trio.lowlevel.wait_readable(self.engine.event_fd())
            if self.draining.is_set():
                self.turn()

    def turn(self):
        drained = self.engine.drain(1_000)
        self.stopped = drained.stopped
        for event in drained.events:
            if isinstance(event, native.ChannelRequested):
                self.engine.open_channel(
                    event.connection,
                    event.request,
                    account=9,
                    commitment=bytes(range(32)),
                    rail=0,
                    exponent=None,
                )
        self.events += drained.events
        self.completions |= dict(drained.completions)
        if drained.batch is not None:
            self.batches.append(drained.batch)
            if self.acknowledging:
                self.engine.acknowledge(drained.batch)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, holds):
        with trio.fail_after(60):
            while not holds():
                await trio.sleep(0.002)

    async def connect(self, extensions=()):
        client = await Client.connect(self.address, AUTHORITY.public_key().to_bytes())
        assert (await client.set_up()).name == "SetupConnectionSuccess"
        if extensions:
            request = Message("RequestExtensions", request_id=1, requested_extensions=extensions)
            await client.send(request)
            assert (await client.receive()).name == "RequestExtensionsSuccess"
        session = Session(client)
        self.sessions.append(session)
        return session


@contextlib.asynccontextmanager
async def desk(**settings):
    it = Desk(**settings)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(it.run)
            yield it
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            for session in it.sessions:
                await session.client.aclose()
        it.engine.stop(200)


async def test_a_share_goes_from_the_socket_to_a_sealed_batch_and_back():
    async with desk() as pool:
        session = await pool.connect()
        channel = await session.open()
        share = session.mine(channel)
        success = await session.accepted(share)
        assert (success.new_submits_accepted_count, success.new_shares_sum) == (1, 1)
        (batch,) = pool.batches
        assert len(batch) == 1
        assert batch.hash_of(0) == share.hash
        assert (batch.channel_of(0), batch.sequence_of(0)) == (channel.id, 1)
        assert batch.account_of(0) == 9
        (set_up,) = pool.of(native.SetUp)
        assert (set_up.vendor, set_up.flags) == (b"peer", 0)
        assert set_up.address.startswith("127.0.0.1:")
        assert batch.connection_of(0) == set_up.connection

        sealed = batch.seal(MSP_KEY, 0, bytes(32), 1_700_000_000_000, weight=WEIGHT)
        assert (sealed.count, sealed.work, sealed.header_hashes) == (1, 1, share.hash)
        assert sealed.sums == [(9, 3, 0, 1, 1, 7)]
        assert sealed.channel_sums == [(set_up.connection, channel.id, 1, 1)]
        bodies = {entry[0]: entry[1] for entry in sealed.bodies}
        assert verify_batch(sealed.blob, bodies).hash == sealed.hash


async def test_a_batch_is_a_read_only_buffer_of_records():
    async with desk() as pool:
        session = await pool.connect()
        channel = await session.open()
        shares = [session.mine(channel) for _ in range(5)]
        pool.acknowledging = False
        await session.submit(*shares)
        await pool.until(lambda: sum(map(len, pool.batches)) == 5)
        view = memoryview(pool.batches[0])
        assert view.readonly
        assert len(view) == native.ShareBatch.RECORD_LEN * len(pool.batches[0])
        assert RECORD.size == native.ShareBatch.RECORD_LEN
        records = [one for batch in pool.batches for one in RECORD.iter_unpack(batch)]
        for record, share in zip(records, shares, strict=True):
            message = share.message
            assert abs(record[0] / 1000 - time.time()) < 60
            assert record[2:6] == (9, 1, channel.id, message.sequence_number)
            assert record[6:9] == (message.version, message.ntime, message.nonce)
            assert record[9:16] == (3, 0, 100, 0, 0, 12, 0)
            assert record[16] == share.hash
            assert record[17] == channel.prefix + message.extranonce + bytes(20)
        with pytest.raises(TypeError):
            view[0] = 1
        batch = pool.batches[0]
        for index in (-1, len(batch)):
            for look in LOOKS:
                with pytest.raises(LocalProtocolError):
                    look(batch, index)
            with pytest.raises(LocalProtocolError):
                batch.seal(MSP_KEY, 0, bytes(32), 0, weight=WEIGHT, excluding=[index])
        with pytest.raises(LocalProtocolError):
            batch.meeting(121)
        met = {z: batch.meeting(z) for z in (0, 1, 120)}
        assert met[0] == list(range(len(batch)))
        assert met[1] == [at for at in met[0] if batch.hash_of(at)[31] < 0x80]
        assert met[120] == []
        foreign = MspKey.generate()
        for key, previous, excluding in (
            (foreign, bytes(32), []),
            (MSP_KEY, bytes(31), []),
            (MSP_KEY, bytes(32), range(len(batch))),
        ):
            with pytest.raises(LocalProtocolError):
                batch.seal(key, 0, previous, 0, weight=WEIGHT, excluding=excluding)


async def test_a_batch_outlives_its_engine():
    async with desk() as pool:
        session = await pool.connect()
        share = session.mine(await session.open())
        await session.accepted(share)
    batch = pool.batches[0]
    del pool
    assert batch.hash_of(0) == share.hash
    assert bytes(batch)[-64:-32] == share.hash


async def test_refused_shares_of_a_batch_get_errors_and_a_batch_is_acknowledged_once():
    async with desk() as pool:
        session = await pool.connect()
        channel = await session.open()
        pool.acknowledging = False
        await session.submit(session.mine(channel), session.mine(channel))
        await pool.until(lambda: sum(map(len, pool.batches)) == 2)
        batch = pool.batches[0]
        for rejected in ([(len(batch), "x")], [(-1, "x")], [(0, "bad\n")], [(0, "")]):
            with pytest.raises(LocalProtocolError):
                pool.engine.acknowledge(batch, rejected)
        for one in pool.batches:
            refused = [(i, "duplicate-share") for i in range(len(one)) if one.sequence_of(i) == 1]
            pool.engine.acknowledge(one, refused)
        got = Counter()
        while got.total() < 2:
            message = await session.receive()
            got[message.name] += 1
        assert got == {"SubmitSharesSuccess": 1, "SubmitSharesError": 1}
        with pytest.raises(LocalProtocolError, match="before"):
            pool.engine.acknowledge(batch)


async def test_a_stalled_consumer_loses_nothing():
    async with desk(ring_records_max=50) as pool:
        session = await pool.connect()
        channel = await session.open()
        shares = [session.mine(channel) for _ in range(2_000)]
        pool.draining = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.submit, *shares[:1000])
            await pool.until(lambda: pool.engine.metrics()["connections_paused"] == 1)
            metrics = pool.engine.metrics()
            assert metrics["connections"] == 1
            assert 50 <= metrics["ring_records"] <= 1_000
            nursery.start_soon(session.submit, *shares[1000:])
            await trio.sleep(0.1)
            assert pool.engine.metrics()["ring_records"] == metrics["ring_records"]
            pool.draining.set()
            acknowledged = 0
            while acknowledged < 2_000:
                message = await session.receive()
                if message.name == "SubmitSharesSuccess":
                    acknowledged += message.new_submits_accepted_count
        assert sum(map(len, pool.batches)) == 2_000
        assert pool.engine.metrics()["connections_paused"] == 0


async def test_stop_wakes_who_waits_and_is_told_for_ever():
    async with desk() as pool:
        session = await pool.connect()
        await session.open()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.client.closed)
            await trio.to_thread.run_sync(pool.engine.stop, 5_000)
        await pool.until(lambda: pool.stopped)
        assert pool.of(native.Disconnected)[-1].reason == "stopped"
        assert pool.engine.drain(1).stopped
        pool.engine.stop(5_000)
        with pytest.raises(LocalProtocolError, match="stopped"):
            pool.engine.listen("127.0.0.1", 0)


async def test_shares_and_frames_of_extensions_come_up_untouched():
    async with desk() as pool:
        session = await pool.connect([TEST_EXTENSION])
        await pool.until(lambda: pool.of(native.ExtensionsNegotiated))
        assert pool.of(native.ExtensionsNegotiated)[0].extensions == [TEST_EXTENSION]
        channel = await session.open()
        tail = tlv(TEST_EXTENSION, 1, b"opaque") + tlv(TEST_EXTENSION, 2, b"")
        await session.accepted(session.mine(channel), tail=tail)
        (batch,) = pool.batches
        assert batch.attachments() == [(0, TEST_EXTENSION, 0x1A + 1, tail)]
        assert batch.attachment_types() == [TEST_EXTENSION]
        assert RECORD.unpack(bytes(batch))[15] == 1

        (set_up,) = pool.of(native.SetUp)
        token = pool.engine.send_extension(
            set_up.connection, TEST_EXTENSION, 7, channel_msg=False, payload=b"hello"
        )
        while (message := await session.receive()).name == "SubmitSharesSuccess":
            pass
        assert (message.extension, message.number, message.payload_bytes) == (
            TEST_EXTENSION,
            7,
            b"hello",
        )
        await session.client.send_frames(struct.pack("<HB", TEST_EXTENSION, 9) + b"\x02\0\0hi")
        await pool.until(lambda: pool.of(native.ExtensionFrame))
        (frame,) = pool.of(native.ExtensionFrame)
        assert (frame.extension_type, frame.msg_type, frame.channel_msg) == (
            TEST_EXTENSION,
            9,
            False,
        )
        assert frame.payload == b"hi"
        assert pool.completions[token] is None


async def test_commands_to_nobody_complete_with_a_reason():
    async with desk() as pool:
        tokens = [
            pool.engine.refuse_channel(77, 1, "unknown-user"),
            pool.engine.close_channel(1 << 40, 1, ""),
            pool.engine.set_exponent(77, 1, 5),
            pool.engine.set_extranonce_prefix(77, 1),
            pool.engine.set_owner(77, 1, account=1, commitment=bytes(32), rail=1),
            pool.engine.accept_custom_job(77, 1, 1, **CUSTOM),
            pool.engine.refuse_custom_job(77, 1, 1, "stale-chain-tip"),
            pool.engine.reconnect(77, "", 0),
            pool.engine.disconnect(77),
        ]
        await pool.until(lambda: len(pool.completions) == 9)
        assert pool.completions == dict.fromkeys(tokens, "no-such-connection")


async def test_a_solved_block_is_an_event(tmp_path):
    async with desk(solution_log=str(tmp_path / "blocks.jsonl")) as pool:
        pool.engine.publish_template(template(2), tip(2, target=REGTEST_TARGET))
        session = await pool.connect()
        channel = await session.open()
        share = session.mine(channel, block_target=0x7FFFFF << 232)
        await session.accepted(share)
        await pool.until(lambda: pool.of(native.BlockFound))
        (found,) = pool.of(native.BlockFound)
        assert (found.template_id, found.account, found.channel) == (2, 9, channel.id)
        assert (found.hash, found.header) == (share.hash, share.header)
        assert (tmp_path / "blocks.jsonl").read_text().count("\n") == 1


async def test_prefixes_are_asked_for():
    async with desk(prefixes_low=2_000) as pool:
        session = await pool.connect()
        await session.open()
        await pool.until(lambda: pool.of(native.PrefixesLow))
        assert pool.of(native.PrefixesLow)[0].remaining < 1_000


async def test_shares_from_before_a_restart_are_duplicates():
    async with desk() as pool:
        session = await pool.connect()
        channel = await session.open()
        share = session.mine(channel)
        pool.engine.preload_seen(bytes(32) + share.hash)
        assert await session.refused(share) == "duplicate-share"


async def test_a_renewed_certificate_is_shown_to_new_clients():
    async with desk() as pool:
        await pool.connect()
        pool.engine.set_identity(identity())
        session = await pool.connect()
        await session.open()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("msp_key", bytes(31)),
        ("pool_text", "x" * 71),
        ("shares_per_minute", 0),
        ("exponent_min", 121),
        ("exponent_max", -1),
        ("job_past_ms", 29_999),
        ("required_extensions", [5]),
        ("share_messages", [(5, 0, 1)]),
        ("share_messages", [(TEST_EXTENSION, 0x1B, 1)]),
        ("share_messages", [(TEST_EXTENSION, 2, 1)]),
        ("open_messages", [(5, 0, 1, 2)]),
        ("supported_extensions", [1 << 16]),
        ("channels_per_connection_max", 0),
        ("seen_tips", 1),
        ("rollable_fixed", 0),
        ("rollable_fixed", 29),
        ("custom_jobs_pending_max", 0),
        ("custom_jobs_kept_max", 0),
        ("custom_job_frame_bytes_max", 0),
        ("io_threads", 257),
        ("connections_max", -1),
        ("connections_max", 0),
        ("events_max", "many"),
        ("frame_deadline_ms", 0),
    ],
)
def test_a_setting_out_of_range_is_named(key, value):
    with pytest.raises(ConfigError):
        native.EngineSettings(**(SETTINGS | {key: value}))


def test_all_settings_are_required_and_no_others_known():
    for key in SETTINGS:
        with pytest.raises(TypeError, match=key):
            native.EngineSettings(
                **{name: value for name, value in SETTINGS.items() if name != key}
            )
    with pytest.raises(TypeError, match="unheard_of"):
        native.EngineSettings(**SETTINGS, unheard_of=1)


def test_a_log_that_cannot_be_opened_and_a_port_in_use_are_the_operators():
    settings = native.EngineSettings(**(SETTINGS | {"solution_log": "/nonexistent/blocks.jsonl"}))
    with pytest.raises(ConfigError, match="solution_log"):
        native.Engine(settings, identity())
    pool = Desk()
    with pytest.raises(ConfigError, match="in use"):
        pool.engine.listen(*pool.address)
    with pytest.raises(ConfigError, match="cannot listen"):
        pool.engine.listen("no.such.host.invalid", 0)
    pool.engine.stop(0)


def test_work_that_no_job_can_be_made_of_is_refused():
    pool = Desk()
    for parts in (
        {"coinbase_prefix": bytes(90)},
        {"pool_output_count": 2},
        {"template_outputs": b"\0", "template_output_count": 1},
        {"owner_output": b"\0"},
        {"extranonce_head": bytes(56)},
    ):
        with pytest.raises(LocalProtocolError):
            pool.engine.publish_template(template(2, **parts), None)
    with pytest.raises(LocalProtocolError, match="publish both"):
        pool.engine.publish_template(template(2), tip(3))
    with pytest.raises(LocalProtocolError, match="waiting"):
        pool.engine.activate_template(tip(4))
    for parts in ({"id": -1}, {"epoch": 1 << 32}, {"merkle_path": [bytes(31)]}):
        with pytest.raises(LocalProtocolError):
            template(**parts)
    for parts in ({"prev_hash": bytes(31)}, {"target": b""}, {"nbits": -1}):
        with pytest.raises(LocalProtocolError):
            tip(**parts)
    pool.engine.stop(0)


def test_wrong_arguments_are_refused_before_anything_happens():
    pool = Desk()
    engine = pool.engine
    for bad in (
        {"template_id": (1 << 63) - 1},
        {"template_id": 1 << 64},
        {"account": -1},
        {"commitment": bytes(33)},
        {"rail": 3},
        {"epoch": 1 << 32},
        {"exponent": 121},
        {"price": -1},
        {"price": 1 << 128},
        {"height": -1},
        {"target": bytes(31)},
    ):
        with pytest.raises(LocalProtocolError):
            engine.accept_custom_job(1, 1, 1, **(CUSTOM | bad))
    good = {"account": 1, "commitment": bytes(32), "rail": 0}
    for bad in ({"commitment": bytes(31)}, {"rail": 3}, {"account": -1}):
        with pytest.raises(LocalProtocolError):
            engine.set_owner(1, 1, **(good | bad))
    wrong = [
        lambda: engine.open_channel(1, 1, **good, exponent=121),
        lambda: engine.set_exponent(1, 1, 256),
        lambda: engine.set_floor(121),
        lambda: engine.refuse_channel(1, 1, "ä"),
        lambda: engine.refuse_channel(1, 1, ""),
        lambda: engine.refuse_custom_job(1, 1, 1, ""),
        lambda: engine.refuse_custom_job(1, 1, 1, "a\nb"),
        lambda: engine.close_channel(1, 1, "x" * 256),
        lambda: engine.send_extension(1, 0x8001, 1, channel_msg=False, payload=b""),
        lambda: engine.send_extension(1, 1, 1, channel_msg=False, payload=bytes(1 << 24)),
        lambda: engine.reconnect(1, "x" * 256, 1),
        lambda: engine.add_prefixes(5, 5),
        lambda: engine.add_prefixes(-1, 5),
        lambda: engine.add_prefixes(0, 1 << 32),
        lambda: engine.preload_seen(bytes(33)),
        lambda: engine.listen("127.0.0.1", 65_536),
        lambda: engine.drain(-1),
        lambda: engine.stop(-1),
    ]
    for call in wrong:
        with pytest.raises(LocalProtocolError):
            call()
    assert engine.drain(1).completions == []
    engine.stop(0)


def test_metrics_are_integers_by_plain_names():
    pool = Desk()
    metrics = pool.engine.metrics()
    assert metrics["connections"] == 0
    assert metrics["prefixes_left"] == 1_000
    assert all(type(value) is int and name.isidentifier() for name, value in metrics.items())
    pool.engine.stop(0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_told_to_keep_its_hands_off():
    pool = Desk()
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            try:
                pool.engine.drain(1)
            except InternalError as error:
                status = 0 if "forked" in str(error) else 2
            begun = time.monotonic()
            pool.engine.stop(600_000)
            del pool
            status = status or 3 * (time.monotonic() - begun > 60)
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pool.engine.metrics()["connections"] == 0
    pool.engine.stop(0)
