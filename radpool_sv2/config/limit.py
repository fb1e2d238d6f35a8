"""Describes the section `limits` of `msp.toml`: bounds against overload and attack.

Names of keys are those of the native engine's settings.
"""

from __future__ import annotations

from dataclasses import dataclass

from radpool_sv2.config.setting import integer

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds against overload and attack. Reaching one costs its connection, never the node."""

    connections_max: int = integer(
        20_000,
        1,
        1_000_000,
        unit="connections",
        about="Open connections in all; further ones are closed at once.",
        why="Some 5 KiB of memory each. The file-descriptor limit must be above it.",
    )
    connections_per_address_max: int = integer(
        64,
        1,
        1_000_000,
        unit="connections",
        about="Open connections from one IP address (IPv6: from one /64).",
        why="A large home or a proxy; farms without a proxy need more.",
    )
    handshakes_per_second_max: int = integer(
        1_000,
        1,
        1_000_000,
        unit="handshakes a second",
        about="Noise handshakes answered in all, in the long run; the others wait.",
        why="One costs about 0.12 ms of a core, so strangers can take an eighth of one at most.",
    )
    handshakes_burst_max: int = integer(
        2_000,
        1,
        10_000_000,
        unit="handshakes",
        about="Handshakes answered at once.",
        why="All miners come back together after a restart: a quarter of a second's work.",
    )
    handshakes_per_second_per_address_max: int = integer(
        20,
        1,
        1_000_000,
        unit="handshakes a second",
        about="Noise handshakes answered to one IP address (IPv6: one /64) in the long run.",
        why="Reconnecting devices behind one address come one after the other.",
    )
    handshakes_burst_per_address_max: int = integer(
        100,
        1,
        10_000_000,
        unit="handshakes",
        about="Handshakes answered to one IP address at once; its further connections are closed.",
        why="More than the connections that an address may have.",
    )
    handshake_deadline_ms: int = integer(
        5_000,
        100,
        MINUTE_MS,
        unit="milliseconds",
        about="From the connection to the end of the Noise handshake.",
        why="Two messages on the slowest link that mining is possible on.",
    )
    setup_deadline_ms: int = integer(
        10_000,
        100,
        10 * MINUTE_MS,
        unit="milliseconds",
        about="From the handshake to SetupConnection.",
        why="A client sends it at once.",
    )
    channel_deadline_ms: int = integer(
        5 * MINUTE_MS,
        1_000,
        24 * HOUR_MS,
        unit="milliseconds",
        about="How long a connection may stay without any open channel.",
        why="A proxy may wait for its first miner; nobody else has a reason to stay.",
    )
    extension_retry_ms: int = integer(
        10_000,
        100,
        10 * MINUTE_MS,
        unit="milliseconds",
        about="How long a client that did not ask for a required extension has to ask again.",
        why="A client answers at once.",
    )
    frame_deadline_ms: int = integer(
        20_000,
        100,
        10 * MINUTE_MS,
        unit="milliseconds",
        about="From the announcement of a frame to its last byte.",
        why="The longest frame at modem speed; who announces and does not send holds memory.",
    )
    write_deadline_ms: int = integer(
        30_000,
        100,
        10 * MINUTE_MS,
        unit="milliseconds",
        about="How long a client may take no byte while some are waiting for it.",
        why="A client that is gone without a word; live ones take bytes within a second.",
    )
    channels_per_connection_max: int = integer(
        1_000,
        1,
        1_000_000,
        unit="channels",
        about="Channels open or asked for on one connection; more are refused.",
        why="A proxy in front of a container of devices.",
    )
    workers_per_connection_max: int = integer(
        1_000,
        0,
        1_000_000,
        unit="names",
        about="Worker names that shares on one connection can introduce; later ones stay unnamed.",
        why="As many as channels.",
    )
    submits_per_second_max: int = integer(
        50,
        1,
        1_000_000,
        unit="shares a second",
        about="Shares that one connection may submit in the long run; the excess is refused.",
        why="Five hundred channels at the usual rate; a proxy with more needs more.",
    )
    submits_burst_max: int = integer(
        500,
        1,
        10_000_000,
        unit="shares",
        about="Shares that one connection may submit at once; as many again above the limit "
        "close it.",
        why="A device that starts with an easy target sends some hundred before it is steered.",
    )
    requests_per_second_max: int = integer(
        50,
        1,
        1_000_000,
        unit="messages a second",
        about="Messages that open, update or close channels, on one connection in the long run; "
        "the connection is closed above it. As many shares, counted apart, may be repeated with "
        "something else attached; these are refused above it.",
        why="They cost more than shares and come seldom.",
    )
    requests_burst_max: int = integer(
        2_000,
        1,
        10_000_000,
        unit="messages",
        about="Such messages at once.",
        why="A proxy that reconnects opens all its channels.",
    )
    outbound_bytes_max: int = integer(
        4 << 20,
        1 << 14,
        1 << 30,
        unit="bytes",
        about="What may wait to be sent on one connection; a reader slower than that is closed.",
        why="The jobs of one template for a proxy with a thousand channels are 0.7 MiB.",
    )
    extension_bytes_pending_max: int = integer(
        1 << 18,
        0,
        1 << 30,
        unit="bytes",
        about="Extension frames and attachments of one connection that an extension has not yet "
        "looked at.",
        why="Some hundred frames of the longest kind in use.",
    )
    custom_jobs_pending_max: int = integer(
        16,
        1,
        10_000,
        unit="jobs",
        about="Custom jobs of one connection that wait for a decision; further ones are refused.",
        why="A job declarator client sends one for each template and waits for the answer.",
    )
    custom_jobs_kept_max: int = integer(
        64,
        1,
        10_000,
        unit="jobs",
        about="Custom jobs of one connection that are remembered for shares in flight; the oldest "
        "of more are forgotten.",
        why="A job each half second for as long as a replaced one counts.",
    )
    setup_frame_bytes_max: int = integer(
        2_048,
        64,
        1 << 24,
        unit="bytes",
        about="Payload of SetupConnection; a longer one closes the connection.",
        why="Five texts of 255 bytes and some numbers.",
    )
    mining_frame_bytes_max: int = integer(
        4_096,
        128,
        1 << 24,
        unit="bytes",
        about="Payload of any other mining message.",
        why="The longest is a channel request of some 300 bytes.",
    )
    custom_job_frame_bytes_max: int = integer(
        8_192,
        512,
        1 << 17,
        unit="bytes",
        about="Payload of a custom job, from a client that selects its work.",
        why="A path of 32 siblings is 1 KiB; the rest is for outputs. Each job in memory has it.",
    )
    extension_frame_bytes_max: int = integer(
        65_536,
        0,
        1 << 24,
        unit="bytes",
        about="Payload of a message of a negotiated extension.",
        why="One chunk of the encryption.",
    )
    ignored_frame_bytes_max: int = integer(
        65_536,
        0,
        1 << 24,
        unit="bytes",
        about="Payload of a message of an unknown extension, which is read and dropped.",
        why="The specification wants such messages ignored; one chunk is read, a flood is not.",
    )
    seen_tips: int = integer(
        16,
        2,
        1_000,
        unit="tips",
        about="For how many tips back the hashes of shares are kept: against replays, and so that "
        "a share whose attachment was refused may come again with another one.",
        why="More than come while a job is remembered, mining.job_stale_ms: a share that counts "
        "and is not known any more is refused as stale, and never gets its token.",
    )
    seen_shares_expected: int = integer(
        100_000,
        0,
        1_000_000_000,
        unit="shares",
        about="For how many shares room is made in memory at each new tip.",
        why="A thousand channels between two blocks; growing later costs a pause of some "
        "milliseconds.",
    )
    seen_shares_max: int = integer(
        20_000_000,
        1_000,
        1_000_000_000,
        unit="shares",
        about="How many hashes of shares are kept in memory; beyond it the oldest are forgotten.",
        why="11 to 22 bytes each. The ledger refuses what memory has forgotten.",
    )
    ring_records_max: int = integer(
        65_536,
        64,
        1 << 24,
        unit="shares",
        about="Shares validated and not yet taken by the ledger; when full, sockets are not read.",
        why="Some seconds of a slow disk; a share that is not handed over is never paid.",
    )
    events_max: int = integer(
        65_536,
        64,
        1 << 24,
        unit="events",
        about="Events not yet taken by the node, such as opened channels; when full, sockets are "
        "not read.",
        why="All channels of a large pool coming back at once.",
    )
    io_threads: int = integer(
        0,
        0,
        1_024,
        unit="threads",
        about="Threads of the native engine; 0 means one less than there are cores.",
        why="One core is left to the ledger.",
    )
