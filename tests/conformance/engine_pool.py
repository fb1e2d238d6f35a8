"""A pool for the tests: the real engine, with templates and decisions that a test chooses."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import trio
from peer import work
from peer.client import Client
from peer.key import public_key_from_text
from peer.message import Message
from peer.session import Session

from radpool_sv2._native import engine as native
from radpool_sv2._native import keys, ledger

SALT = b"conformance-salt"
NBITS = 0x1D00FFFF
# No share of a test is a block by chance: 2^-64 each.
NO_BLOCK = work.ladder_target(64)
WITNESS_COMMITMENT = bytes(8) + b"\x26\x6a\x24\xaa\x21\xa9\xed" + b"\x07" * 32
REQUIRES_WORK_SELECTION = 2
POOL_SCRIPT = b"\x00\x14" + b"\x11" * 20
SUBSIDY = 50 * 10**8
TEST_EXTENSION = 0x4E45
SHARE_MESSAGE = 0x00
SHARE_ERROR = 0x01
OPEN_MESSAGE, OPEN_SUCCESS, OPEN_ERROR = 0x02, 0x03, 0x04

SETTINGS: dict[str, object] = {
    "pool_text": "conformance",
    "shares_per_minute": 6,
    "exponent_min": 4,
    "exponent_max": 40,
    "version_rolling": True,
    "group_jobs": False,
    "work_selection": False,
    "rollable_fixed": None,
    # No test is slow enough to see a job forgotten.
    "job_past_ms": 600_000,
    "job_stale_ms": 600_000,
    "ntime_slack_s": 120,
    "report_interval_ms": 1_000,
    "supported_extensions": [0x0002, TEST_EXTENSION],
    "required_extensions": [],
    "share_messages": [(TEST_EXTENSION, SHARE_MESSAGE, SHARE_ERROR)],
    "open_messages": [(TEST_EXTENSION, OPEN_MESSAGE, OPEN_SUCCESS, OPEN_ERROR)],
    "setup_deadline_ms": 60_000,
    "channel_deadline_ms": 60_000,
    "extension_retry_ms": 60_000,
    "channels_per_connection_max": 1_000,
    "workers_per_connection_max": 100,
    "submits_per_second_max": 100_000,
    "submits_burst_max": 100_000,
    "requests_per_second_max": 100_000,
    "requests_burst_max": 100_000,
    "extension_bytes_pending_max": 1 << 18,
    "custom_jobs_pending_max": 4,
    "custom_jobs_kept_max": 6,
    "setup_frame_bytes_max": 2_048,
    "mining_frame_bytes_max": 4_096,
    "custom_job_frame_bytes_max": 8_192,
    "extension_frame_bytes_max": 65_536,
    "ignored_frame_bytes_max": 65_536,
    "seen_tips": 3,
    "seen_shares_expected": 100,
    "seen_shares_max": 100_000,
    "io_threads": 1,
    "connections_max": 10_000,
    "connections_per_address_max": 10_000,
    "handshakes_per_second_max": 100_000,
    "handshakes_burst_max": 100_000,
    "handshakes_per_second_per_address_max": 100_000,
    "handshakes_burst_per_address_max": 100_000,
    "handshake_deadline_ms": 60_000,
    "frame_deadline_ms": 60_000,
    "write_deadline_ms": 60_000,
    "outbound_bytes_max": 1 << 20,
    "ring_records_max": 10_000,
    "events_max": 10_000,
    "prefixes_low": 0,
    "solution_socket": None,
}


def push_height(height: int) -> bytes:
    """Pushes a height as BIP34 has it; heights of tests are above 16."""
    length = (height.bit_length() + 8) // 8
    return bytes([length]) + height.to_bytes(length, "little")


class EnginePool:
    """Runs an engine and does what a pool does: opens channels, keeps shares, acknowledges them."""

    def __init__(
        self, directory: Path, *, msp: ledger.MspKey | None = None, **overrides: object
    ) -> None:
        self.msp = msp or ledger.MspKey.generate()
        authority, static = keys.AuthoritySecretKey.generate(), keys.StaticKey.generate()
        now = int(time.time())
        self.identity = keys.ServerIdentity(
            static,
            keys.Certificate.sign(
                authority, static, valid_from=now - 60, not_valid_after=now + 3600
            ),
        )
        self.authority = public_key_from_text(authority.public_key().to_text())
        self.settings = {**SETTINGS, **overrides}
        self.solution_log = directory / "solutions.jsonl"
        self.engine = native.Engine(
            native.EngineSettings(
                msp_key=self.msp.public, solution_log=str(self.solution_log), **self.settings
            ),
            self.identity,
        )
        self.address = self.engine.listen("127.0.0.1", 0)
        self.events: list[native.Event] = []
        self.batches: list[native.ShareBatch] = []
        self.completions: dict[int, str | None] = {}
        self.accounts: dict[bytes, int] = {}
        self.rails: dict[bytes, int] = {}
        self.exponents: dict[bytes, int] = {}
        self.hold_decisions = False
        self.hold_acknowledgements = False
        self.refuse_with: str | None = None
        self.stalled = False
        self.epoch = 7
        self.height = 1000
        self.template_id = 0
        self.tips = 0
        self.clients: list[Client] = []
        self._changed = trio.Event()
        self.engine.add_prefixes(0x01020304, 0x01020304 + 1_000_000)

    # --- the pool's side ---

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self.new_tip()
        task_status.started()
        while True:
            await trio.lowlevel.wait_readable(self.engine.event_fd())
            while self.stalled:
                await self.changed()
            more = True
            while more:
                drained = self.engine.drain(1_000)
                more = drained.more
                if drained.stopped:
                    return
                self.events += drained.events
                self.completions.update(drained.completions)
                for event in drained.events:
                    if isinstance(event, native.ChannelRequested) and not self.hold_decisions:
                        self.decide(event)
                if drained.batch is not None:
                    self.batches.append(drained.batch)
                    if not self.hold_acknowledgements:
                        self.engine.acknowledge(drained.batch)
            self.wake()

    def wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def changed(self) -> None:
        await self._changed.wait()

    async def until(self, condition) -> None:
        """Waits for a state that the engine reports, or one of its gauges."""
        with trio.fail_after(60):
            while not condition():
                # Gauges change without an event; events are seen at once.
                with trio.move_on_after(0.02):
                    await self.changed()

    async def event(self, kind):
        """Waits for an event of a kind and takes it out."""
        await self.until(lambda: any(isinstance(event, kind) for event in self.events))
        found = next(event for event in self.events if isinstance(event, kind))
        self.events.remove(found)
        return found

    def gauge(self, name: str) -> int:
        return self.engine.metrics().get(name, 0)

    async def done(self, token: int) -> None:
        """Waits for a command to be carried out."""
        await self.until(lambda: token in self.completions)

    def decide(self, event: native.ChannelRequested) -> None:
        if self.refuse_with is not None:
            self.engine.refuse_channel(event.connection, event.request, self.refuse_with)
            return
        user = event.user_identity
        account = self.accounts.setdefault(user, len(self.accounts) + 1)
        self.engine.open_channel(
            event.connection,
            event.request,
            account=account,
            commitment=self.commitment(user),
            rail=self.rails.get(user, 0),
            exponent=self.exponents.get(user),
        )

    def commitment(self, user: bytes) -> bytes:
        return work.owner_commitment(user.decode(errors="replace"), SALT)

    def template(self, **changes: object) -> native.Template:
        self.template_id += 1
        fields = {
            "id": self.template_id,
            "epoch": self.epoch,
            "height": self.height,
            "version": 0x20000000,
            "coinbase_tx_version": 2,
            "coinbase_prefix": push_height(self.height),
            "coinbase_sequence": 0xFFFFFFFE,
            "pool_outputs": struct.pack("<Q", SUBSIDY) + bytes([len(POOL_SCRIPT)]) + POOL_SCRIPT,
            "pool_output_count": 1,
            "template_outputs": WITNESS_COMMITMENT,
            "template_output_count": 1,
            "coinbase_locktime": self.height - 1,
            "merkle_path": [bytes([self.template_id % 251, n]) * 16 for n in range(3)],
            **changes,
        }
        return native.Template(**fields)

    def tip(self, **changes: object) -> native.Tip:
        fields = {
            "template_id": self.template_id,
            "prev_hash": struct.pack("<I", self.tips) * 8,
            "min_ntime": int(time.time()) - 600,
            "nbits": NBITS,
            "target": NO_BLOCK,
            "price": 11,
            **changes,
        }
        return native.Tip(**fields)

    def new_tip(self, **changes: object) -> None:
        """A block came: another template on another tip."""
        self.tips += 1
        self.height += 1
        template = self.template()
        self.last_tip = self.tip(**changes)
        self.engine.publish_template(template, self.last_tip)

    def new_template(self) -> None:
        """The mempool changed: another template on the same tip."""
        template = self.template()
        self.engine.publish_template(template, self.tip())

    def new_future(self) -> None:
        """A template for the time after the next block."""
        self.height += 1
        self.engine.publish_template(self.template(), None)

    def activate_future(self) -> None:
        """The block came that the future template waited for."""
        self.tips += 1
        self.engine.activate_template(self.tip())

    # --- the clients' side ---

    async def connect(self) -> Client:
        client = await Client.connect(self.address, self.authority)
        self.clients.append(client)
        return client

    async def session(self, flags: int = 0, extensions: tuple[int, ...] = ()) -> Session:
        """A client that is set up."""
        client = await self.connect()
        answer = await client.set_up(flags)
        assert answer.name == "SetupConnectionSuccess", answer
        if extensions:
            await client.send(request_extensions(*extensions))
            await client.expect("RequestExtensionsSuccess")
        return Session(
            client,
            selects=bool(flags & REQUIRES_WORK_SELECTION),
            own_tags=self.settings["rollable_fixed"] is None,
        )

    async def close(self) -> None:
        with trio.CancelScope(shield=True):
            for client in self.clients:
                await client.aclose()
            await trio.to_thread.run_sync(self.engine.stop, 2_000)


def request_extensions(*extensions: int, request_id: int = 1) -> Message:
    return Message(
        "RequestExtensions", request_id=request_id, requested_extensions=list(extensions)
    )


def records(batch: native.ShareBatch) -> list[dict[str, object]]:
    """Takes a batch's buffer apart, by the layout that the stub documents."""
    form = "<QQQQIIIIIIIIBBBB32s32s"
    names = [
        "unix_ms",
        "connection",
        "account",
        "template_id",
        "channel",
        "sequence",
        "version",
        "ntime",
        "nonce",
        "epoch",
        "worker",
        "height",
        "exponent",
        "rail",
        "extranonce_len",
        "flags",
        "hash",
        "extranonce",
    ]
    raw = bytes(batch)
    size = struct.calcsize(form)
    assert size == batch.RECORD_LEN
    return [
        dict(zip(names, struct.unpack_from(form, raw, at), strict=True))
        for at in range(0, len(raw), size)
    ]


def descriptors() -> int:
    """Counts this process's file descriptors."""
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_kib() -> int:
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
