"""Serves miners over Stratum V2 on threads of its own and hands batches of shares to trio.

The engine wakes its one user through a file descriptor. The loop is: wait until `Engine.event_fd`
is readable, `Engine.drain`, make the batch durable, `Engine.acknowledge` it. It stands in
`radpool_sv2.pool.intake`. Nothing here blocks for longer than a lock is held, except `Engine.stop`.

All methods may be called from any thread of the process that made the engine; in a forked child
each raises `InternalError`.
"""

from collections.abc import Mapping, Sequence
from typing import final

from .event import BlockFound as BlockFound
from .event import ChannelClosed as ChannelClosed
from .event import ChannelFailed as ChannelFailed
from .event import ChannelOpened as ChannelOpened
from .event import ChannelReport as ChannelReport
from .event import ChannelRequested as ChannelRequested
from .event import ChannelUpdated as ChannelUpdated
from .event import CustomJobFailed as CustomJobFailed
from .event import CustomJobRequested as CustomJobRequested
from .event import Disconnected as Disconnected
from .event import EngineFailed as EngineFailed
from .event import Event as Event
from .event import ExponentChanged as ExponentChanged
from .event import ExponentWanted as ExponentWanted
from .event import ExtensionFrame as ExtensionFrame
from .event import ExtensionsNegotiated as ExtensionsNegotiated
from .event import PrefixesLow as PrefixesLow
from .event import RepeatedShare as RepeatedShare
from .event import SetUp as SetUp
from .event import Sv1TurnedAway as Sv1TurnedAway
from .event import WorkerNamed as WorkerNamed
from .keys import ServerIdentity
from .ledger import MspKey, SealedBatch
from .translator import Translator

@final
class EngineSettings:
    """Holds what is decided once for all connections; `radpool_sv2.config` has the defaults."""

    def __new__(
        cls,
        *,
        msp_key: bytes,
        pool_text: str,
        shares_per_minute: int,
        exponent_min: int,
        exponent_max: int,
        version_rolling: bool,
        group_jobs: bool,
        work_selection: bool,
        rollable_fixed: int | None,
        job_past_ms: int,
        job_stale_ms: int,
        ntime_slack_s: int,
        report_interval_ms: int,
        supported_extensions: Sequence[int],
        required_extensions: Sequence[int],
        share_messages: Sequence[tuple[int, int, int]],
        open_messages: Sequence[tuple[int, int, int, int]],
        setup_deadline_ms: int,
        channel_deadline_ms: int,
        extension_retry_ms: int,
        channels_per_connection_max: int,
        workers_per_connection_max: int,
        submits_per_second_max: int,
        submits_burst_max: int,
        requests_per_second_max: int,
        requests_burst_max: int,
        extension_bytes_pending_max: int,
        custom_jobs_pending_max: int,
        custom_jobs_kept_max: int,
        setup_frame_bytes_max: int,
        mining_frame_bytes_max: int,
        extension_frame_bytes_max: int,
        ignored_frame_bytes_max: int,
        custom_job_frame_bytes_max: int,
        seen_tips: int,
        seen_shares_expected: int,
        seen_shares_max: int,
        io_threads: int,
        connections_max: int,
        connections_per_address_max: int,
        handshakes_per_second_max: int,
        handshakes_burst_max: int,
        handshakes_per_second_per_address_max: int,
        handshakes_burst_per_address_max: int,
        handshake_deadline_ms: int,
        frame_deadline_ms: int,
        write_deadline_ms: int,
        outbound_bytes_max: int,
        ring_records_max: int,
        events_max: int,
        prefixes_low: int,
        solution_log: str,
        solution_socket: str | None,
    ) -> EngineSettings:
        """Checks the settings.

        Args:
            msp_key: The MSP's x-only public key, 32 bytes: part of every owner tag.
            pool_text: Text in every coinbase, at most 70 bytes of UTF-8.
            shares_per_minute: Rate that vardiff steers each channel to, 1 to 1,000,000.
            exponent_min: The easiest step z of the target ladder, 0 to 120.
            exponent_max: The hardest step z, not below `exponent_min`.
            version_rolling: Whether miners may roll the version bits of BIP323.
            group_jobs: Whether channels of one owner and exponent share a group and its jobs.
            work_selection: Whether clients may select the work themselves: the flag
                REQUIRES_WORK_SELECTION of SetupConnection is taken, and SetCustomMiningJob.
            rollable_fixed: Exactly how many bytes, 1 to 28, an extended channel may roll; a client
                that asks for more is refused. `None` grants 8 to 16, as the client asks.
            job_past_ms: How long a replaced job stays valid on its tip, at least 30,000.
            job_stale_ms: How long a job of an earlier tip is remembered to call its shares stale.
            ntime_slack_s: Seconds by which ntime may run ahead of the clock since the job.
            report_interval_ms: The least time between two reports on one channel.
            supported_extensions: Extension types that a client may negotiate.
            required_extensions: Those of them that a client must negotiate.
            share_messages: `(extension type, message type, error type)` of messages that carry a
                share, and of those that refuse one.
            open_messages: `(extension type, open type, success type, error type)` of messages that
                open an extended channel, and of the answers.
            setup_deadline_ms: From the handshake to SetupConnection.
            channel_deadline_ms: From set-up to the first channel, or without any channel.
            extension_retry_ms: Time to negotiate a required extension after its absence was told.
            channels_per_connection_max: Channels of one connection.
            workers_per_connection_max: Worker names of one connection.
            submits_per_second_max: Share submissions of one connection in the long run.
            submits_burst_max: Share submissions of one connection at once.
            requests_per_second_max: Opens, updates and closes of one connection in the long run.
            requests_burst_max: Opens, updates and closes of one connection at once.
            extension_bytes_pending_max: Extension bytes of one connection not yet taken by Python.
            custom_jobs_pending_max: Custom jobs of one connection that wait for a decision; more
                are refused with `custom-job-capacity-exhausted`.
            custom_jobs_kept_max: Custom jobs of one connection that are remembered for shares in
                flight; the oldest of more are forgotten.
            setup_frame_bytes_max: Payload of SetupConnection.
            mining_frame_bytes_max: Payload of any other core message.
            extension_frame_bytes_max: Payload of a message of a negotiated extension.
            ignored_frame_bytes_max: Payload of a frame that is going to be ignored.
            custom_job_frame_bytes_max: Payload of SetCustomMiningJob from a client that selects.
            seen_tips: Tips for which header hashes are remembered, at least 2.
            seen_shares_expected: Shares to make room for at each new tip.
            seen_shares_max: Header hashes remembered in all, 11 to 22 bytes each.
            io_threads: Threads that serve sockets; 0 means one less than there are processors.
            connections_max: Connections in all.
            connections_per_address_max: Connections of one IPv4 address or IPv6 /64.
            handshakes_per_second_max: Handshakes in the long run; what exceeds it waits.
            handshakes_burst_max: Handshakes at once.
            handshakes_per_second_per_address_max: The same for one address; excess is closed.
            handshakes_burst_per_address_max: The same for one address.
            handshake_deadline_ms: From the accepted connection to a complete handshake.
            frame_deadline_ms: From the first byte of a frame to its last.
            write_deadline_ms: How long a client may take no byte while some are waiting for it.
            outbound_bytes_max: Bytes waiting for one client; above it the client is dropped.
            ring_records_max: Shares waiting to be drained; at it sockets are not read any more.
            events_max: Events waiting to be drained; at it sockets are not read any more.
            prefixes_low: Extranonce prefixes left at which `PrefixesLow` asks for more.
            solution_log: File to which each solved block is appended before anything else.
            solution_socket: Unix socket of the template source that solved blocks are sent to.

        Raises:
            ConfigError: If a setting is out of its range; the message names it and the range.
        """

@final
class Template:
    """Is a block template as miners get it, with the pool's outputs chosen."""

    def __new__(
        cls,
        *,
        id: int,  # noqa: A002 - the name in the protocol
        epoch: int,
        height: int,
        version: int,
        coinbase_tx_version: int,
        coinbase_prefix: bytes,
        coinbase_sequence: int,
        pool_outputs: bytes,
        pool_output_count: int,
        template_outputs: bytes,
        template_output_count: int,
        coinbase_locktime: int,
        merkle_path: Sequence[bytes],
        owner_output: bytes | None = None,
        extranonce_head: bytes = b"",
    ) -> Template:
        """Checks the shapes.

        Args:
            id: The template source's number; never reused in the life of an engine.
            epoch: The accounting period that shares on this template count in.
            height: Height of the block.
            version: The header's version.
            coinbase_tx_version: The coinbase transaction's version.
            coinbase_prefix: The scriptSig's beginning: the push of the height (BIP34).
            coinbase_sequence: The coinbase input's sequence.
            pool_outputs: Serialised outputs that pay the pool; the owner tag follows them.
            pool_output_count: How many these are.
            template_outputs: Serialised outputs that the template asks for, last in the coinbase.
            template_output_count: How many these are.
            coinbase_locktime: The coinbase transaction's lock time.
            merkle_path: Siblings of the coinbase from the leaves up, 32 bytes each, internal order.
            owner_output: Takes the place of the owner tag in every job, for whose shares another
                pool pays: serialised outputs, or `b""` for none. Shares then count by the exponent
                that their channel had when the job was sent.
            extranonce_head: Stands between the push of the extranonce and the channels' prefixes:
                the prefix that another pool gave, and bytes of its extranonce beyond those that
                the engine fills. The push holds at most 75 bytes, the input's script 100.

        Raises:
            LocalProtocolError: If a part has a shape that no coinbase can have.
        """

@final
class Tip:
    """Says that a template's parent is the tip: jobs of this template are what to mine now."""

    def __new__(
        cls,
        *,
        template_id: int,
        prev_hash: bytes,
        min_ntime: int,
        nbits: int,
        target: bytes,
        price: int,
    ) -> Tip:
        """Checks the shapes.

        Args:
            template_id: The template that becomes active.
            prev_hash: Hash of the tip, 32 bytes, internal order.
            min_ntime: Least ntime of the next block.
            nbits: The next header's nBits.
            target: What a solution must meet, 32 bytes, least significant first; it may be harder
                than nBits on a chain that asks for more.
            price: What the template is worth on this block, below 2^128; it goes with each share.

        Raises:
            LocalProtocolError: If a hash is not of 32 bytes.
        """

@final
class ShareBatch:
    """Is a batch of validated shares that are neither durable nor acknowledged yet.

    It offers the buffer protocol: packed little-endian records of `RECORD_LEN` bytes, `unix_ms u64,
    connection u64, account u64, template_id u64, channel u32, sequence u32, version u32, ntime u32,
    nonce u32, epoch u32, worker u32, height u32, exponent u8, rail u8, extranonce_len u8, flags u8
    (bit 0: has an attachment), hash 32 bytes, extranonce 32 bytes`. It keeps what it needs and
    outlives the engine.
    """

    RECORD_LEN: int

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def attachments(self) -> list[tuple[int, int, int, bytes]]:
        """Returns `(index, extension type, message type, bytes)` of shares that have one.

        For TLVs the message type is 0x1b, the bytes are those of all negotiated extensions, whole
        and in order, and the extension type is that of the first.
        """

    def attachment_types(self) -> list[int]:
        """Returns the extensions that shares of this batch carry something for, ascending."""

    def seal(
        self,
        key: MspKey,
        sequence: int,
        previous: bytes,
        time_ms: int,
        *,
        weight: tuple[int, int, int],
        epoch_min: int = 0,
        excluding: Sequence[int] = (),
    ) -> SealedBatch:
        """Builds and signs the durable form of this batch. Takes milliseconds: use a worker thread.

        Args:
            key: The MSP's key; its public half must be the engine's `msp_key`.
            sequence: The batch's number in the MSP's chain.
            previous: Hash of the batch before it, 32 bytes.
            time_ms: Milliseconds since 1970.
            weight: The rule that prices are made by: mode, scale, base.
            epoch_min: The lowest epoch that is not settled: shares of earlier tags count in it.
            excluding: Indices of shares to leave out, because the ledger has them already.

        Raises:
            LocalProtocolError: If no share is left, `previous` is not of 32 bytes, the key is
                another MSP's, an index is outside the batch, there is no such rule, or a share
                cannot be weighed by it.
        """

    def connection_of(self, index: int) -> int:
        """Returns the connection that a share came by.

        Raises:
            LocalProtocolError: If there is no such share.
        """

    def channel_of(self, index: int) -> int:
        """Returns the channel that a share came by.

        Raises:
            LocalProtocolError: If there is no such share.
        """

    def sequence_of(self, index: int) -> int:
        """Returns the sequence number that the miner gave a share.

        Raises:
            LocalProtocolError: If there is no such share.
        """

    def account_of(self, index: int) -> int:
        """Returns the ledger's number of the account that a share counts for.

        Raises:
            LocalProtocolError: If there is no such share.
        """

    def price_of(self, index: int) -> int:
        """Returns what a share of the base exponent is worth on a share's template.

        Raises:
            LocalProtocolError: If there is no such share.
        """

    def hash_of(self, index: int) -> bytes:
        """Returns the header hash of a share, 32 bytes, internal order.

        Raises:
            LocalProtocolError: If there is no such share.
        """

    def template_of(self, index: int) -> int:
        """Returns the id of the template that a share was mined on.

        Raises:
            LocalProtocolError: If there is no such share.
        """

    def job_of(self, index: int) -> int:
        """Returns the id of a share's job on its connection.

        Raises:
            LocalProtocolError: If there is no such share.
        """

    def version_of(self, index: int) -> int:
        """Returns the header's version of a share.

        Raises:
            LocalProtocolError: If there is no such share.
        """

    def ntime_of(self, index: int) -> int:
        """Returns the header's time of a share.

        Raises:
            LocalProtocolError: If there is no such share.
        """

    def nonce_of(self, index: int) -> int:
        """Returns the header's nonce of a share.

        Raises:
            LocalProtocolError: If there is no such share.
        """

    def extranonce_of(self, index: int) -> bytes:
        """Returns the extranonce of a share behind the template's `extranonce_head`.

        Raises:
            LocalProtocolError: If there is no such share.
        """

    def meeting(self, exponent: int) -> list[int]:
        """Returns the indices of shares whose hash meets the target of an exponent, ascending.

        Raises:
            LocalProtocolError: If the exponent is above 120.
        """

@final
class Drained:
    """Is what one call of `Engine.drain` took out of the engine."""

    @property
    def batch(self) -> ShareBatch | None:
        """Shares to be made durable and acknowledged, or `None` when there are none."""

    @property
    def events(self) -> list[Event]:
        """What happened, in order for each connection; to be handled before the batch."""

    @property
    def completions(self) -> list[tuple[int, str | None]]:
        """`(token, None)` for each command that was carried out, or `(token, why not)`."""

    @property
    def more(self) -> bool:
        """Whether shares were left behind because of `records_max`."""

    @property
    def stopped(self) -> bool:
        """Whether the engine has stopped, so that nothing will ever follow."""

@final
class Engine:
    """Is the pool's front: listeners, connections, jobs and validation on threads of its own.

    Commands about a connection return a token at once; the connection carries them out in order,
    and `Drained.completions` tells the outcome. A connection that is gone completes with
    `no-such-connection`, which is no error: clients leave at any time.
    """

    def __new__(cls, settings: EngineSettings, identity: ServerIdentity) -> Engine:
        """Starts the threads. Nothing listens yet.

        Raises:
            ConfigError: If the solution log cannot be opened for appending.
            InternalError: If the system gives no thread or file descriptor.
        """

    def listen(self, host: str, port: int) -> tuple[str, int]:
        """Starts to accept connections and returns the address and port that it got.

        Args:
            host: Name or address of the interface.
            port: 0 takes any free port.

        Raises:
            ConfigError: If the address cannot be bound; the message says why.
        """

    def set_sv1(self, translator: Translator | None, /) -> None:
        """Has a translator serve the Stratum V1 devices that call at the engine's port, or nobody.

        Those that were taken in before stay where they are. While nobody serves them, or the
        translator has stopped, they are turned away, which `Sv1TurnedAway` tells of.
        """

    def event_fd(self) -> int:
        """Returns the descriptor that becomes readable when there is something to drain.

        It belongs to the engine and stays open as long as the engine or a `Drained` of it exists.
        """

    def drain(self, records_max: int) -> Drained:
        """Takes out what has gathered: all events and completions, and shares up to a number.

        Wake-ups coalesce: one readable descriptor may stand for any amount. Call again at once
        while `Drained.more`.

        Args:
            records_max: Most shares in the batch, at least 1.
        """

    def acknowledge(self, batch: ShareBatch, rejected: Sequence[tuple[int, str]] = ()) -> None:
        """Tells miners that the shares of a batch are durable: to be called once, after the commit.

        Clients that have left meanwhile are skipped.

        Args:
            batch: What was drained.
            rejected: `(index, error code)` of shares that were refused; these are answered with
                SubmitShares.Error, the others with one SubmitShares.Success per channel. Shares
                that came by a message of an extension are answered with its error message, and not
                at all when they were accepted: that is for the extension to do.

        Raises:
            LocalProtocolError: If an index is outside the batch, a code is no printable ASCII, or
                the batch was acknowledged before.
        """

    def publish_template(self, template: Template, tip: Tip | None) -> None:
        """Gives all channels a new job.

        Args:
            template: What to mine.
            tip: Its parent when that is the tip now, `None` for a future template.

        Raises:
            LocalProtocolError: If the tip names another template.
        """

    def activate_template(self, tip: Tip) -> None:
        """Makes the future template the active one, on a new tip.

        Raises:
            LocalProtocolError: If the tip names a template that was not published.
        """

    def set_floor(self, exponent: int) -> None:
        """Gives no channel shares that are easier than this from now on; settings may ask more.

        Channels below are moved; jobs that they have already stay good as past jobs do.

        Raises:
            LocalProtocolError: If the exponent is above 120.
        """

    def add_prefixes(self, start: int, end: int) -> None:
        """Adds the extranonce prefixes from `start` up to but not including `end`.

        Each prefix must have been reserved durably before, and must never have been added.

        Raises:
            LocalProtocolError: If the range is empty or beyond 32 bits.
        """

    def preload_seen(self, header_hashes: bytes) -> None:
        """Refuses these shares from now on: the recent ones of the time before a restart.

        Args:
            header_hashes: Hashes of 32 bytes each, internal order, oldest first.

        Raises:
            LocalProtocolError: If the length is no multiple of 32.
        """

    def open_channel(
        self,
        connection: int,
        request: int,
        *,
        account: int,
        commitment: bytes,
        rail: int,
        exponent: int | None,
        tail: bytes = b"",
        before: Sequence[tuple[int, bytes]] = (),
    ) -> int:
        """Grants a request; `ChannelOpened` or `ChannelFailed` follows.

        What was sent on the connection before leaves before the Success, which leaves before the
        channel's first job.

        Args:
            connection: As the request says.
            request: As the request says.
            account: The ledger's number of the owner.
            commitment: The owner's commitment, 32 bytes.
            rail: How the owner is paid: 0 account, 1 ecash, 2 contract.
            exponent: First step on the ladder, or `None` to take it from the declared hash rate.
            tail: What follows the core fields of the Success.
            before: Frames of the extension that asked, `(message type, payload)`, not of a channel:
                nothing leaves between them and the Success.

        Returns:
            The command's token.

        Raises:
            LocalProtocolError: If an argument is out of range, the tail above 65,535 bytes or a
                payload above 16,777,215.
        """

    def refuse_channel(self, connection: int, request: int, error_code: str) -> int:
        """Refuses a request with an error code; returns the command's token.

        A request by an extension's message is answered with the extension's error message.

        Raises:
            LocalProtocolError: If the code is no printable ASCII of 1 to 255 characters.
        """

    def close_channel(self, connection: int, channel: int, reason: str) -> int:
        """Closes a channel, or all of a group; returns the command's token.

        Raises:
            LocalProtocolError: If the reason is no printable ASCII of at most 255 characters.
        """

    def accept_custom_job(
        self,
        connection: int,
        channel: int,
        request: int,
        *,
        template_id: int,
        account: int,
        commitment: bytes,
        rail: int,
        epoch: int,
        exponent: int,
        price: int,
        height: int,
        target: bytes,
    ) -> int:
        """Makes a custom job the one that a channel mines; returns the command's token.

        The client gets SetTarget when the exponent is not the channel's, then
        SetCustomMiningJob.Success. The channel's job before counts on for `job_past_ms`. When the
        engine cannot do it, the client gets SetCustomMiningJob.Error and `CustomJobFailed` follows.
        A channel that is gone meanwhile has neither.

        Args:
            connection: As the request says.
            channel: As the request says.
            request: As the request says.
            template_id: The pool's number for it, never reused; not below 2^63, so that no template
                of a source has it.
            account: The ledger's number of the owner that shares count for.
            commitment: The owner's commitment, 32 bytes.
            rail: How the owner is paid: 0 account, 1 ecash, 2 contract.
            epoch: The accounting period in the owner output of the job.
            exponent: The exponent in that output: what a share's hash must meet.
            price: What a unit of work on the job is worth, below 2^128.
            height: Height of the block.
            target: What a solution must meet, 32 bytes, least significant first; it may be harder
                than the job's nBits.

        Raises:
            LocalProtocolError: If an argument is out of range.
        """

    def refuse_custom_job(
        self, connection: int, channel: int, request: int, error_code: str
    ) -> int:
        """Refuses a custom job with an error code; returns the command's token.

        Raises:
            LocalProtocolError: If the code is no printable ASCII of 1 to 255 characters.
        """

    def set_owner(
        self, connection: int, channel: int, *, account: int, commitment: bytes, rail: int
    ) -> int:
        """Gives a channel's further jobs to another owner; returns the command's token.

        Raises:
            LocalProtocolError: If an argument is out of range.
        """

    def set_exponent(self, connection: int, channel: int, exponent: int) -> int:
        """Moves a channel on the ladder; vardiff starts afresh; returns the command's token.

        A channel that selects its work is not moved: `ExponentWanted` follows.

        Raises:
            LocalProtocolError: If the exponent is above 120.
        """

    def set_extranonce_prefix(self, connection: int, channel: int) -> int:
        """Gives a channel's further jobs a new prefix; returns the command's token."""

    def send_extension(
        self,
        connection: int,
        extension_type: int,
        msg_type: int,
        *,
        channel_msg: bool,
        payload: bytes,
    ) -> int:
        """Sends a frame of an extension; returns the command's token.

        Raises:
            LocalProtocolError: If the type has bit 15 set or the payload is above 16,777,215 bytes.
        """

    def reject_repeated(self, share: RepeatedShare, error_code: str) -> int:
        """Refuses a repeated share; returns the command's token.

        TLVs are answered with SubmitShares.Error, an extension's message with its error message.

        Raises:
            LocalProtocolError: If the code is no printable ASCII of 1 to 255 characters.
        """

    def reconnect(self, connection: int, host: str, port: int) -> int:
        """Asks a client to connect elsewhere (`""` and 0: here again); returns the command's token.

        Raises:
            LocalProtocolError: If the host is longer than 255 bytes.
        """

    def disconnect(self, connection: int) -> int:
        """Closes a connection once what waits for it is sent; returns the command's token."""

    def set_identity(self, identity: ServerIdentity) -> None:
        """Shows a renewed certificate to clients that connect from now on."""

    def metrics(self) -> dict[str, int]:
        """Returns counters (names ending in `_total`) and gauges."""

    def stop_accepting(self) -> None:
        """Closes the listeners; connections stay."""

    def pause_reads(self) -> None:
        """Reads no socket any more, so that the next drain is the last that holds shares."""

    def stop(self, timeout_ms: int) -> None:
        """Sends what is waiting, closes all connections and ends the threads.

        The whole order is `stop_accepting`, `pause_reads`, the last `drain`, commit, `acknowledge`,
        `stop`. It blocks for up to the time-out without holding the GIL, and wakes whoever waits
        for the descriptor; a second call does nothing.
        """

def group_attachments(
    batch: ShareBatch, extension_type: int, msg_type: int
) -> list[tuple[int, int, int, bytes, list[int]]]:
    """Groups shares that came by one message of an extension by what they carry.

    Returns:
        Connection, channel, account, attachment and the indices of the shares that have these in
        common, in the order in which they come up.
    """

def run_receipts(
    batch: ShareBatch,
    extension_type: int,
    msg_type: int,
    excluded: Sequence[int],
    before: Mapping[tuple[int, int], tuple[int, int, bytes]],
) -> list[tuple[int, int, int, int, int, int, int, bytes]]:
    """Extends the running receipts of channels by the shares of a batch.

    Args:
        batch: The batch.
        extension_type: Only shares that came by a message of this extension count,
        msg_type: and only by this one.
        excluded: Indices of shares that were refused.
        before: Count, work and root (32 bytes) of the receipt so far, by connection and channel;
            shares of other channels are passed over.

    Returns:
        For each channel with shares, in the order in which they come up: connection, channel, last
        sequence number, number of its shares in the batch and the sum of their work in hashes
        (u64), then count, work (hashes) and root of the receipt.

    Raises:
        LocalProtocolError: If a root is not of 32 bytes.

    Source: `spec/11-owner-registration.md`, "Receipts".
    """
