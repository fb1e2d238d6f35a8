"""Follows a mining connection from the client's side and judges every message of the server.

`Session.take` checks each rule of the mining protocol that a client can see, and raises
AssertionError at the first breach, so that every test that mines is a conformance test too. It
knows the owner tag: each job's coinbase must bear one, with the exponent of the channel's target. A
client that selects its work must get no jobs; what it offers must have the channel's exponent in
its tag by the time that it is taken.
"""

from __future__ import annotations

import itertools
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from . import work
from .message import Message, RawFrame

if TYPE_CHECKING:
    from .client import Client

MAX_TARGET = b"\xff" * 32


@dataclass
class Job:
    """Is a job as a channel got it."""

    message: Message
    prefix: bytes
    z: int
    future: bool
    prev_hash: bytes = b""
    nbits: int = 0
    min_ntime: int = 0
    stale: bool = False

    @property
    def id(self) -> int:
        return self.message.job_id


@dataclass
class MiningChannel:
    """Is a channel as the client knows it."""

    id: int
    kind: str
    group: int
    prefix: bytes
    rollable: int
    target: bytes
    jobs: dict[int, Job] = field(default_factory=dict)
    active: int | None = None
    prev_hash: bytes = b""
    nbits: int = 0
    sequence: int = 0
    outstanding: list[tuple[int, int]] = field(default_factory=list)
    accepted: int = 0
    work: int = 0

    @property
    def z(self) -> int:
        return work.exponent(self.target)

    @property
    def job(self) -> Job:
        assert self.active is not None, "no job is active"
        return self.jobs[self.active]

    @property
    def extranonce_len(self) -> int:
        return len(self.prefix) + self.rollable

    def coinbase(self, job: Job, rolled: bytes) -> bytes:
        message = job.message
        assert message.name == "NewExtendedMiningJob"
        return message.coinbase_tx_prefix + job.prefix + rolled + message.coinbase_tx_suffix


@dataclass
class Share:
    """Is a share with all that a judge needs to know of it."""

    message: Message
    job: Job
    hash: bytes
    header: bytes

    @property
    def work(self) -> int:
        return 2**self.job.z


class Session:
    """Is a client with its channels; see the module's head."""

    def __init__(
        self, client: Client, *, seed: int = 0, selects: bool = False, own_tags: bool = True
    ) -> None:
        """Follows a client behind its set-up.

        Args:
            client: The client.
            seed: Seeds what the miner chooses.
            selects: Whether it required work selection.
            own_tags: Whether the server's jobs bear tags of the server's own.
        """
        self.client = client
        self.selects = selects
        self.own_tags = own_tags
        self.offers: dict[int, Message] = {}
        self.channels: dict[int, MiningChannel] = {}
        self.job_ids: set[int] = set()
        self.ids: set[int] = set()
        self.random = random.Random(seed)
        self.requests: dict[int, str] = {}
        self.log: list[Message | RawFrame] = []

    # --- the server's messages ---

    async def receive(self) -> Message | RawFrame:
        message = await self.client.receive()
        self.take(message)
        return message

    async def expect(self, name: str) -> Message:
        message = await self.receive()
        assert message.name == name, f"{name} was due, {message} came"
        assert isinstance(message, Message)
        return message

    async def until(self, name: str) -> Message:
        """Receives until a message of this kind and returns it."""
        while True:
            message = await self.receive()
            if message.name == name:
                assert isinstance(message, Message)
                return message

    async def settle(self) -> list[Message | RawFrame]:
        """Returns all that the server says before it answers a question asked now."""
        nobody = 0xFFFFFFFF
        await self.client.send(
            Message(
                "UpdateChannel", channel_id=nobody, nominal_hash_rate=0.0, maximum_target=MAX_TARGET
            )
        )
        received = []
        while True:
            message = await self.receive()
            if message.name == "UpdateChannelError" and message.channel_id == nobody:
                return received
            received.append(message)

    def take(self, message: Message | RawFrame) -> None:
        """Judges a message and follows it."""
        self.log.append(message)
        handler = getattr(self, f"_on_{message.name}", None)
        if handler is not None:
            handler(message)

    def members(self, id_: int) -> list[MiningChannel]:
        """Returns the channels that an id addresses: one, or the members of a group."""
        found = [
            channel for channel in self.channels.values() if id_ in (channel.id, channel.group)
        ]
        assert found, f"a message to {id_}, which is neither a channel nor a group"
        return found

    def _on_OpenStandardMiningChannelSuccess(self, message: Message) -> None:
        self._opened(message, "standard", 0)

    def _on_OpenExtendedMiningChannelSuccess(self, message: Message) -> None:
        self._opened(message, "extended", message.extranonce_size)

    def _opened(self, message: Message, kind: str, rollable: int) -> None:
        assert self.requests.pop(message.request_id, None) == kind, "an answer to no request"
        assert message.channel_id not in self.ids, "ids of channels and groups are one name space"
        assert message.group_channel_id != message.channel_id
        self.ids |= {message.channel_id, message.group_channel_id}
        channel = MiningChannel(
            message.channel_id,
            kind,
            message.group_channel_id,
            message.extranonce_prefix,
            rollable,
            message.target,
        )
        assert channel.extranonce_len <= 32
        mates = [other for other in self.channels.values() if other.group == channel.group]
        for mate in mates:
            assert mate.extranonce_len == channel.extranonce_len, "a group has one extranonce size"
        self.channels[channel.id] = channel

    def _on_OpenMiningChannelError(self, message: Message) -> None:
        assert self.requests.pop(message.request_id, None) is not None, "an answer to no request"
        self._check_code(message.error_code)

    def _on_NewMiningJob(self, message: Message) -> None:
        assert not self.selects, "who selects the work gets no jobs"
        channel = self.channels[message.channel_id]
        assert channel.kind == "standard", "NewMiningJob is for standard channels"
        self._new_job(message, [channel])

    def _on_NewExtendedMiningJob(self, message: Message) -> None:
        assert not self.selects, "who selects the work gets no jobs"
        members = self.members(message.channel_id)
        if message.channel_id in self.channels:
            assert members[0].kind == "extended", "a standard channel is no addressee of this"
        self._new_job(message, members)
        for channel in members:
            # The coinbase without witness parses, so it is stripped as BIP141 demands.
            rolled = bytes(channel.rollable)
            coinbase = work.parse_coinbase(channel.coinbase(channel.jobs[message.job_id], rolled))
            if not self.own_tags:
                continue
            tag = work.find_owner_tag(coinbase)
            assert (tag.version, tag.z) == (1, channel.z), (
                f"tag {tag} on a channel of z={channel.z}"
            )

    def _new_job(self, message: Message, members: list[MiningChannel]) -> None:
        assert message.job_id not in self.job_ids, "a job id was reused"
        self.job_ids.add(message.job_id)
        future = message.min_ntime is None
        for channel in members:
            job = Job(message, channel.prefix, channel.z, future)
            if not future:
                assert channel.prev_hash, "an active job before any SetNewPrevHash"
                job.prev_hash, job.nbits = channel.prev_hash, channel.nbits
                job.min_ntime = message.min_ntime
                channel.active = job.id
            channel.jobs[job.id] = job

    def _on_SetCustomMiningJobSuccess(self, message: Message) -> None:
        offer = self.offers.pop(message.request_id)
        assert message.channel_id == offer.channel_id, "an answer to another channel"
        assert message.job_id not in self.job_ids, "a job id was reused"
        self.job_ids.add(message.job_id)
        channel = self.channels[message.channel_id]
        prefix, suffix = work.custom_coinbase(offer, channel.extranonce_len)
        job = Job(
            Message(
                "NewExtendedMiningJob",
                channel_id=channel.id,
                job_id=message.job_id,
                min_ntime=offer.min_ntime,
                version=offer.version,
                version_rolling_allowed=True,
                merkle_path=offer.merkle_path,
                coinbase_tx_prefix=prefix,
                coinbase_tx_suffix=suffix,
            ),
            channel.prefix,
            channel.z,
            future=False,
            prev_hash=offer.prev_hash,
            nbits=offer.nbits,
            min_ntime=offer.min_ntime,
        )
        rolled = bytes(channel.rollable)
        tag = work.find_owner_tag(work.parse_coinbase(channel.coinbase(job, rolled)))
        assert tag.z == channel.z, f"tag {tag} on a channel of z={channel.z}"
        channel.jobs[job.id] = job
        channel.active = job.id

    def _on_SetCustomMiningJobError(self, message: Message) -> None:
        self._check_code(message.error_code)
        offer = self.offers.pop(message.request_id, None)
        assert offer is None or message.channel_id == offer.channel_id

    def _on_SetNewPrevHash(self, message: Message) -> None:
        assert not self.selects, "who selects the work knows the tip"
        for channel in self.members(message.channel_id):
            job = channel.jobs.get(message.job_id)
            assert job is not None and job.future, "SetNewPrevHash names no future job"
            assert job.z == channel.z, "the job was made for another target"
            for other in channel.jobs.values():
                other.stale = True
            job.future, job.stale = False, False
            job.prev_hash, job.nbits, job.min_ntime = (
                message.prev_hash,
                message.nbits,
                message.min_ntime,
            )
            channel.prev_hash, channel.nbits, channel.active = (
                message.prev_hash,
                message.nbits,
                job.id,
            )

    def _on_SetTarget(self, message: Message) -> None:
        for channel in self.members(message.channel_id):
            channel.target = message.maximum_target

    def _on_SetExtranoncePrefix(self, message: Message) -> None:
        channel = self.channels[message.channel_id]
        assert len(message.extranonce_prefix) == len(channel.prefix)
        assert message.extranonce_prefix != channel.prefix
        channel.prefix = message.extranonce_prefix

    def _on_SetGroupChannel(self, message: Message) -> None:
        assert not self.selects, "who selects the work has no groups"
        assert message.group_channel_id not in self.channels
        self.ids.add(message.group_channel_id)
        for id_ in message.channel_ids:
            self.channels[id_].group = message.group_channel_id
        sizes = {
            channel.extranonce_len
            for channel in self.channels.values()
            if channel.group == message.group_channel_id
        }
        assert len(sizes) == 1, "a group has one extranonce size"

    def _on_CloseChannel(self, message: Message) -> None:
        self._check_code(message.reason_code)
        for channel in self.members(message.channel_id):
            del self.channels[channel.id]

    def _on_SubmitSharesSuccess(self, message: Message) -> None:
        channel = self.channels[message.channel_id]
        count = message.new_submits_accepted_count
        assert 0 < count <= len(channel.outstanding), "more shares acknowledged than submitted"
        taken = self._acknowledged(channel, message)
        for share in taken:
            channel.outstanding.remove(share)
        channel.accepted += count
        channel.work += message.new_shares_sum

    def _on_SubmitSharesError(self, message: Message) -> None:
        self._check_code(message.error_code)
        channel = self.channels.get(message.channel_id)
        if channel is not None:
            for share in channel.outstanding:
                if share[0] == message.sequence_number:
                    channel.outstanding.remove(share)
                    break

    @staticmethod
    def _acknowledged(channel: MiningChannel, message: Message) -> list[tuple[int, int]]:
        """Returns the shares that a Success is about: their last one, number and work must fit.

        Shares before the last whose refusal is still on its way may stay outstanding.
        """
        sequences = [sequence for sequence, _ in channel.outstanding]
        assert message.last_sequence_number in sequences, "an acknowledgement of nothing submitted"
        last = sequences.index(message.last_sequence_number)
        count = message.new_submits_accepted_count
        for before in itertools.combinations(channel.outstanding[:last], count - 1):
            taken = [*before, channel.outstanding[last]]
            if message.new_shares_sum == min(sum(share for _, share in taken), 2**64 - 1):
                return taken
        raise AssertionError(f"{message} fits no shares of {channel.outstanding}")

    @staticmethod
    def _check_code(code: str) -> None:
        assert code.isascii() and code.isprintable(), "a code is printable ASCII"

    # --- the client's messages ---

    async def request(
        self,
        kind: str = "extended",
        *,
        user: str = "alice",
        hash_rate: float = 0.0,
        max_target: bytes = MAX_TARGET,
        min_extranonce_size: int = 0,
    ) -> int:
        """Asks for a channel and returns the request's id."""
        request_id = self.random.getrandbits(32)
        self.requests[request_id] = kind
        fields = {
            "request_id": request_id,
            "user_identity": user,
            "nominal_hash_rate": hash_rate,
            "max_target": max_target,
        }
        if kind == "extended":
            fields["min_extranonce_size"] = min_extranonce_size
        await self.client.send(Message(f"Open{kind.title()}MiningChannel", **fields))
        return request_id

    async def open(self, kind: str = "extended", **fields: object) -> MiningChannel:
        """Opens a channel and waits for its first job to be active."""
        await self.request(kind, **fields)  # type: ignore[arg-type]
        opened = await self.receive()
        while opened.name != f"Open{kind.title()}MiningChannelSuccess":
            assert opened.name != "OpenMiningChannelError", f"no channel: {opened.error_code}"
            opened = await self.receive()
        channel = self.channels[opened.channel_id]
        while channel.active is None and not self.selects:
            await self.receive()
        return channel

    async def offer(self, job: Message) -> None:
        """Offers a job of the client's own."""
        self.offers[job.request_id] = job
        await self.client.send(job)

    def mine(
        self,
        channel: MiningChannel,
        *,
        job: Job | None = None,
        ntime: int | None = None,
        version: int | None = None,
        rolled: bytes | None = None,
        good: bool = True,
        block_target: int = 0,
        above: int = 0,
    ) -> Share:
        """Finds a share: its hash is at most the job's target (or above it, when not `good`).

        Args:
            channel: Where to mine.
            job: The job; the active one when left out.
            ntime: The header's time; the job's least when left out.
            version: The header's version; the job's when left out.
            rolled: The rolled part of the extranonce; random when left out.
            good: Whether the hash shall meet the job's target.
            block_target: When not 0, the hash must be at most this, too.
            above: The hash must be above this, so that the share is no block.
        """
        job = job or channel.job
        message = job.message
        if message.name == "NewMiningJob":
            root, rolled = message.merkle_root, b""
        else:
            if rolled is None:
                rolled = self.random.randbytes(channel.rollable)
            root = work.merkle_root(channel.coinbase(job, rolled), message.merkle_path)
        version = message.version if version is None else version
        # A miner may follow its clock, never a time before the job's.
        ntime = max(job.min_ntime, int(time.time())) if ntime is None else ntime
        limit = 2 ** (256 - job.z) - 1
        nonce = self.random.getrandbits(32)
        while True:
            header = work.block_header(version, job.prev_hash, root, ntime, job.nbits, nonce)
            value = work.number(work.sha256d(header))
            is_fit = above < value and (not block_target or value <= block_target)
            if (value <= limit) == good and is_fit:
                break
            nonce = (nonce + 1) & 0xFFFFFFFF
        channel.sequence += 1
        fields = {
            "channel_id": channel.id,
            "sequence_number": channel.sequence,
            "job_id": job.id,
            "nonce": nonce,
            "ntime": ntime,
            "version": version,
        }
        if channel.kind == "standard":
            share = Message("SubmitSharesStandard", **fields)
        else:
            share = Message("SubmitSharesExtended", **fields, extranonce=rolled)
        return Share(share, job, value.to_bytes(32, "little"), header)

    async def submit(self, *shares: Share, tail: bytes = b"") -> None:
        """Sends shares in one write and books them as outstanding."""
        messages = []
        for share in shares:
            channel = self.channels.get(share.message.channel_id)
            if channel is not None:
                channel.outstanding.append((share.message.sequence_number, share.work))
            share.message.tail = tail or share.message.tail
            messages.append(share.message)
        await self.client.send(*messages)

    async def accepted(self, share: Share, tail: bytes = b"") -> Message:
        """Submits a share that must be acknowledged, and returns the acknowledgement."""
        await self.submit(share, tail=tail)
        while True:
            message = await self.receive()
            assert message.name != "SubmitSharesError", message
            if message.name == "SubmitSharesSuccess":
                return message  # type: ignore[return-value]

    async def refused(self, share: Share, tail: bytes = b"") -> str:
        """Submits a share that must be refused, and returns the error code."""
        await self.submit(share, tail=tail)
        while True:
            message = await self.receive()
            assert message.name != "SubmitSharesSuccess", message
            if message.name == "SubmitSharesError":
                assert message.sequence_number == share.message.sequence_number
                assert message.channel_id == share.message.channel_id
                return message.error_code
