"""The pool role with the real engine and ledger: decisions, epochs, restarts, leaving in order."""

import json
import struct
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
import trio
from peer import work
from peer.client import Client
from peer.key import public_key_from_text
from peer.message import Message, decode, frame
from peer.session import Session

from radpool_sv2 import supervision
from radpool_sv2.config import Endpoint, MspConfig, load
from radpool_sv2.errors import ConfigError, RemoteProtocolError, StoreError
from radpool_sv2.installation import install_msp
from radpool_sv2.keyfile import load_keys
from radpool_sv2.ledger import Ledger
from radpool_sv2.pool import role as role_module
from radpool_sv2.pool.extension import ChannelGrant, Extension, OpenMessage
from radpool_sv2.pool.registry import ExtensionRegistry
from radpool_sv2.pool.role import Pool
from radpool_sv2.supervision import Role, supervise
from radpool_sv2.templates.source import (
    SubmitResult,
    SubmitStatus,
    Template,
    TemplateUpdate,
    Tip,
    TipChanged,
)

BLOCK_ZEROS = 8
WITNESS_COMMITMENT = bytes(8) + b"\x26\x6a\x24\xaa\x21\xa9\xed" + b"\x07" * 32
LOCAL = Endpoint("127.0.0.1", 0)
SETTINGS = {
    "mining.exponent_min": 4,
    "mining.exponent_max": 8,
    "ledger.maturity_blocks": 1,
    "ledger.prefix_lease": 16,
    "ledger.prefixes_low": 8,
}


class Source:
    """Is a template source whose chain is a list of block hashes."""

    name = "list"

    def __init__(self):
        self.submitted = []
        self.active = {}

    def problems(self):
        return []

    def solution_socket(self):
        return None

    async def submit_solution(self, solution):
        self.submitted.append(solution)
        return SubmitResult(SubmitStatus.ACCEPTED, active=True)

    async def active_blocks(self, hashes):
        return {each: self.active.get(each) for each in hashes}


def update(number, block_zeros=64):
    """Makes the template of a height on a tip of its own."""
    template = Template(
        id=number,
        height=100 + number,
        version=0x20000000,
        coinbase_tx_version=2,
        coinbase_prefix=bytes([1, 100 + number]),
        coinbase_sequence=0xFFFFFFFE,
        template_outputs=WITNESS_COMMITMENT,
        template_output_count=1,
        coinbase_locktime=0,
        merkle_path=(b"\x11" * 32,),
        value_sats=5_000,
        fees_sats=0,
        tx_count=1,
        weight=1_000,
    )
    tip = Tip(
        template_id=number,
        prev_hash=struct.pack("<I", number) * 8,
        min_ntime=int(time.time()) - 600,
        nbits=0x207FFFFF,
        target=work.ladder_target(block_zeros),
    )
    return TemplateUpdate(template, tip)


class Scene:
    def __init__(self, pool, source, ledger, config):
        self.pool, self.source, self.ledger, self.config = pool, source, ledger, config
        self.updates, self.updates_receive = trio.open_memory_channel(8)
        self.events, self.events_receive = trio.open_memory_channel(8)
        self.stop = trio.Event()

    async def session(self, *extensions):
        address = (self.pool.address.host, self.pool.address.port)
        key = public_key_from_text(self.config.keys.authority_public_key)
        client = await Client.connect(address, key)
        assert (await client.set_up()).name == "SetupConnectionSuccess"
        if extensions:
            request = Message("RequestExtensions", request_id=1, requested_extensions=extensions)
            await client.send(request)
            await client.expect("RequestExtensionsSuccess")
        return Session(client)

    async def until(self, condition):
        with trio.fail_after(60):
            while not condition():
                await trio.sleep(0.01)


@asynccontextmanager
async def running(tmp_path, *, extension=None, **changes):
    if not (tmp_path / "msp" / "msp.toml").exists():
        install_msp(tmp_path / "msp", settings=SETTINGS | changes)
    config = load(MspConfig, tmp_path / "msp" / "msp.toml")
    config.node.data_dir.mkdir(exist_ok=True)
    keys = load_keys(config.keys)
    ledger = await Ledger.open(
        config.ledger.file, keys.msp, maturity_blocks=config.ledger.maturity_blocks
    )
    source = Source()
    factories = {} if extension is None else {"terms": extension}
    registry = ExtensionRegistry(factories, [])
    pool = Pool(config, keys, ledger, source, registry, listen=LOCAL)
    scene = Scene(pool, source, ledger, config)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.follow_work, scene.updates_receive)
            nursery.start_soon(pool.follow_chain, scene.events_receive)
            await scene.updates.send(update(1))
            await nursery.start(supervise, [Role("pool", pool.run)], scene.stop)
            yield scene
            scene.stop.set()
            await scene.until(lambda: pool.problems() != [])
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await ledger.close()


async def test_shares_are_acknowledged_and_in_the_books(tmp_path):
    async with running(tmp_path) as scene:
        session = await scene.session()
        channel = await session.open(user="alice.rig,z=6")
        assert channel.z == 6
        await session.accepted(session.mine(channel))
        [row] = await scene.ledger.sums([1])
        assert (row.count, row.work) == (1, 1 << 6)
        assert scene.pool.problems() == []
        await session.client.aclose()


@pytest.mark.parametrize("tip_first", [True, False])
async def test_work_behind_a_block_counts_in_the_epoch_behind_it(tmp_path, monkeypatch, tip_first):
    """A node may tell of the tip that a block of ours is before the ledger has the block."""
    block = int.from_bytes(work.ladder_target(BLOCK_ZEROS), "little")
    async with running(tmp_path) as scene:
        may_record, record = trio.Event(), scene.ledger.record_block

        async def record_later(**fields):
            await may_record.wait()
            return await record(**fields)

        async def is_on(number):
            while channel.prev_hash != update(number).tip.prev_hash:
                await session.receive()

        monkeypatch.setattr(scene.ledger, "record_block", record_later)
        session = await scene.session()
        channel = await session.open(user="alice,z=4")
        await scene.updates.send(update(2, BLOCK_ZEROS))
        await is_on(2)
        await session.accepted(session.mine(channel, block_target=block))
        await scene.until(lambda: scene.source.submitted)
        if tip_first:
            await scene.updates.send(update(3))
            await is_on(3)
        job = channel.active
        may_record.set()
        await scene.until(lambda: scene.ledger.current_epoch == 2)
        if tip_first:
            while channel.active == job:
                await session.receive()
        else:
            await session.settle()
            assert channel.active == job, "the tip that goes gets no further job"
            await scene.updates.send(update(3))
            await is_on(3)
        await session.accepted(session.mine(channel))
        assert [row.count for row in await scene.ledger.sums([1])] == [1]
        assert [row.count for row in await scene.ledger.sums([2])] == [1]
        await session.client.aclose()


async def test_a_template_that_waited_over_a_block_is_of_the_epoch_behind_it(tmp_path):
    async with running(tmp_path) as scene:
        session = await scene.session()
        channel = await session.open(user="alice,z=4")
        later = update(3)
        await scene.updates.send(TemplateUpdate(later.template, None))
        await session.settle()
        await scene.ledger.record_block(hash=b"\x05" * 32, height=102, value_sats=1, finder=1)
        await scene.updates.send(later)
        while channel.prev_hash != later.tip.prev_hash:
            await session.receive()
        await session.accepted(session.mine(channel))
        assert await scene.ledger.sums([1]) == []
        assert [row.count for row in await scene.ledger.sums([2])] == [1]
        await session.client.aclose()


async def test_new_accounts_are_bounded_but_known_ones_come_back(tmp_path, monkeypatch):
    # The minute does not pass meanwhile, however slow the machine is.
    still = SimpleNamespace(monotonic=lambda: 1_000.0, time_ns=time.time_ns)
    monkeypatch.setattr(role_module, "time", still)
    limits = {"ledger.new_accounts_per_minute_max": 2}
    async with running(tmp_path, **limits) as scene:
        session = await scene.session()
        for user in ("alice", "bob.one", "bob.two"):
            await session.open(user=user)
        await session.request(user="carol")
        error = await session.expect("OpenMiningChannelError")
        assert error.error_code == "unknown-user"
        await session.open(user="alice.other")
        await session.client.aclose()
    async with running(tmp_path, **limits) as scene:
        session = await scene.session()
        await session.open(user="alice")
        await session.client.aclose()


@pytest.mark.parametrize("user", ["", ".rig", "alice\n", "alice,z=999", "ali\u202ece"])
async def test_identities_that_name_nobody_are_refused(tmp_path, user):
    async with running(tmp_path) as scene:
        session = await scene.session()
        await session.request(user=user)
        error = await session.expect("OpenMiningChannelError")
        assert error.error_code == "invalid-user-identity"
        assert not scene.pool.roster.get(next(iter(scene.pool.roster)).connection).requested
        await session.client.aclose()


async def test_prefixes_are_leased_before_they_run_out_and_differ(tmp_path):
    async with running(tmp_path) as scene:
        session = await scene.session()
        prefixes = set()
        for _ in range(40):
            channel = await session.open(user="alice")
            prefixes.add(bytes(channel.prefix))
            # This client is faster than a disk; leases of real size are some thousand times longer.
            await scene.until(lambda: scene.pool.metrics()["prefixes_left"] > 0)
        assert len(prefixes) == 40
        await session.client.aclose()


class Terms(Extension):
    """Opens channels, or fails to, as the tail of the request says."""

    extension_type = 0x4E45
    open_message = OpenMessage(0x50, 0x51, 0x52)

    def __init__(self, host):
        self.told = []
        Terms.last = self
        self.failures = {
            b"no": RemoteProtocolError("not so", "unsupported-policy"),
            b"mute": RemoteProtocolError("not so, and no more"),
            b"disk": StoreError("no space left on device"),
        }

    async def open(self, request):
        if request.tail in self.failures:
            raise self.failures[request.tail]
        exponent = request.tail[0] if request.tail else None
        return ChannelGrant(1, bytes(32), 1, exponent, b"")

    def opened(self, event):
        self.told.append(("opened", event.channel))

    def closed(self, event):
        self.told.append(("closed", event.channel))

    def disconnected(self, connection):
        self.told.append(("disconnected", connection))


async def ask(session, user, tail):
    """Asks for a channel by the extension's message; returns the answer as the core's message."""
    payload = Message(
        "OpenExtendedMiningChannel",
        request_id=7,
        user_identity=user,
        nominal_hash_rate=0.0,
        max_target=b"\xff" * 32,
        min_extranonce_size=0,
    ).payload()
    await session.client.send_frames(frame(0x4E45, 0x50, payload + tail, channel=False))
    while (answer := await session.receive()).name != "RawFrame":
        pass
    assert answer.extension == 0x4E45
    core = {0x51: 0x14, 0x52: 0x12}[answer.number]
    return decode(0, False, core, answer.payload_bytes)


async def test_an_extension_opens_channels_for_whoever_it_likes(tmp_path):
    async with running(tmp_path, extension=Terms) as scene:
        await scene.ledger.account("ecash")
        session = await scene.session(0x4E45)
        channels = []
        # The step is the extension's, or what the client asks for, who need not name anybody.
        for user, tail, z in ((",z=6", b"\x07", 7), (",z=6", b"", 6), ("alice.rig", b"", 4)):
            opened = await ask(session, user, tail)
            session.requests[7] = "extended"
            session.take(opened)
            channel = session.channels[opened.channel_id]
            channels.append(channel.id)
            assert channel.z == z
            while channel.active is None:
                await session.receive()
            await session.accepted(session.mine(channel))
        assert [row.rail for row in await scene.ledger.sums([1])] == [1]
        [client] = scene.pool.roster
        assert {each.extension_type for each in client.channels.values()} == {0x4E45}
        assert (await scene.ledger.accounts(0, 9))[0] == 1
        await session.client.send(
            Message("CloseChannel", channel_id=channels[0], reason_code="enough")
        )
        await scene.until(lambda: len(Terms.last.told) == 4)
        await session.client.aclose()
        await scene.until(lambda: len(Terms.last.told) == 5)
        assert [what for what, _ in Terms.last.told] == [
            *("opened", "opened", "opened"),
            *("closed", "disconnected"),
        ]


async def test_an_extension_refuses_channels_and_nothing_stays_of_them(tmp_path):
    async with running(tmp_path, extension=Terms) as scene:
        session = await scene.session(0x4E45)
        codes = {
            ("alice", b"no"): "unsupported-policy",
            ("alice", b"mute"): "internal-error",
            ("alice", b"disk"): "internal-error",
            ("alice\n", b""): "invalid-user-identity",
        }
        for (user, tail), code in codes.items():
            assert (await ask(session, user, tail)).error_code == code
        [client] = scene.pool.roster
        assert (client.requested, client.channels) == ({}, {})
        await session.open(user="alice")
        await session.client.aclose()


async def test_changes_of_the_chain_are_told(tmp_path):
    async with running(tmp_path) as scene:
        told = []
        assert scene.pool.tip is None
        scene.pool.changed.add(lambda: told.append(scene.pool.tip))
        tip = TipChanged(102, bytes(32), (), ())
        await scene.events.send(tip)
        # For the tip, then for the settlements that were brought in line with it.
        await scene.until(lambda: told[-2:] == [tip, tip])
        assert (scene.pool.tip, scene.pool.tip_height) == (tip, 102)


async def test_a_block_closes_its_epoch_behind_its_shares_and_is_paid(tmp_path):
    """spec: EA-2, EA-6, EA-23"""
    async with running(tmp_path) as scene:
        session = await scene.session()
        channel = await session.open(user="alice,z=4")
        await session.accepted(session.mine(channel))
        await scene.updates.send(update(2, block_zeros=4))
        await session.until("SetNewPrevHash")
        await session.accepted(session.mine(channel))
        await scene.until(lambda: scene.source.submitted)
        await scene.until(lambda: scene.ledger.current_epoch == 2)
        [solution] = scene.source.submitted
        # The engine wrote the block down before anybody here learnt of it.
        logged = json.loads((scene.config.node.data_dir / "blocks.jsonl").read_text())
        assert bytes.fromhex(logged["hash"]) == solution.hash
        scene.source.active[solution.hash] = 1
        await scene.events.send(TipChanged(102, solution.hash, (solution.hash,), ()))
        while not (page := await scene.ledger.epoch(1))["payment"]:
            await trio.sleep(0.01)
        assert page["payment"]["value_sats"] == 5_000
        assert page["accounts"][0]["shares"] == 2
        await session.client.aclose()


async def test_a_failed_role_serves_again_on_its_port_and_credits_nothing_twice(tmp_path):
    async with running(tmp_path) as scene:
        address = scene.pool.address
        session = await scene.session()
        channel = await session.open(user="alice")
        share = session.mine(channel)
        await session.accepted(share)
        first = scene.pool._engine
        await trio.to_thread.run_sync(first.stop, 0)
        await scene.until(lambda: scene.pool._engine is not first and scene.pool.is_serving)
        assert scene.pool.address == address
        again = await scene.session()
        fresh = await again.open(user="alice")
        await again.accepted(again.mine(fresh))
        [row] = await scene.ledger.sums([1])
        assert row.count == 2
        for each in (session, again):
            await each.client.aclose()


async def test_what_was_sent_before_the_stop_is_acknowledged(tmp_path, monkeypatch):
    # A pool that is cut off at the deadline may have shares in its books that it told nobody of.
    monkeypatch.setattr(supervision, "STOP_SECONDS_MAX", 60)
    monkeypatch.setattr(role_module, "STOP_MS_MAX", 60_000)
    async with running(tmp_path) as scene:
        session = await scene.session()
        channel = await session.open(user="alice,z=4")
        shares = [session.mine(channel) for _ in range(50)]
        await session.submit(*shares)
        scene.stop.set()
        received = await session.client.closed()
        sums = await scene.ledger.sums([1])
        answered = sum(
            message.new_submits_accepted_count
            for message in received
            if message.name == "SubmitSharesSuccess"
        )
        # Those that the engine had not read yet are lost, and the miner knows it.
        assert answered == sum(row.count for row in sums)
        await session.client.aclose()


async def test_a_taken_port_is_told_in_plain_words(tmp_path):
    install_msp(tmp_path / "msp", settings=SETTINGS)
    config = load(MspConfig, tmp_path / "msp" / "msp.toml")
    config.node.data_dir.mkdir()
    keys = load_keys(config.keys)
    ledger = await Ledger.open(config.ledger.file, keys.msp, maturity_blocks=1)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    pool = Pool(
        config,
        keys,
        ledger,
        Source(),
        ExtensionRegistry({}, []),
        listen=Endpoint("127.0.0.1", port),
    )
    pool.work = update(1)
    pool._first_work.set()

    async def node():
        await supervise([Role("pool", pool.run)], trio.Event())

    try:
        with pytest.RaisesGroup(ConfigError, flatten_subgroups=True) as caught:
            await node()
        assert str(port) in str(caught.value.exceptions)
    finally:
        for listener in listeners:
            await listener.aclose()
        await ledger.close()


async def test_a_payout_address_of_another_network_is_refused_before_anything_starts(tmp_path):
    install_msp(tmp_path / "msp", payout_address="bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4")
    config = load(MspConfig, tmp_path / "msp" / "msp.toml")
    with pytest.raises(ConfigError, match=r"templates\.payout_address"):
        Pool(config, load_keys(config.keys), None, Source(), ExtensionRegistry({}, []))
