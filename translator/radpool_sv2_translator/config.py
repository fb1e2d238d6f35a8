"""Describes the configuration of a translator: every key of `translator.toml`.

Keys of `devices` and `limits` are those of the native translator's settings.
"""
# ruff: noqa: RUF009 - the functions return dataclass fields, which the rule cannot see.

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - read at run time

from radpool_sv2.config.jdc import WalletSection
from radpool_sv2.config.limit import MINUTE_MS
from radpool_sv2.config.setting import (
    REQUIRED,
    Endpoint,
    choice,
    endpoint,
    flag,
    integer,
    path,
    text,
)
from radpool_sv2.errors import ConfigError
from radpool_sv2.units import EXPONENT_MAX

__all__ = ["PoolSection", "TranslatorConfig"]

USER_BYTES_MAX = 255


def _remote(value: str) -> Endpoint:
    address = Endpoint.parse(value)
    if address.port == 0:
        raise ValueError("a pool has a port above 0")
    return address


def _optional(value: str) -> str:
    if value:
        Endpoint.parse(value)
    return value


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolSection:
    """A pool to mine for. The first of them that works is mined for; the order is yours.

    Write one [[pools]] section for each. A better one that works again is returned to.
    """

    address: Endpoint = text(
        REQUIRED,
        read=_remote,
        allowed="HOST:PORT with a port from 1 to 65535",
        about="Where the pool takes Stratum V2 mining connections.",
        why="It has no default: the pool publishes it.",
    )
    authority_public_key: str = text(
        "",
        bytes_max=100,
        about="The pool's authority key, as base58 text.",
        why="The pool publishes it. Without it whoever answers is trusted, and whoever sits on the "
        "line can take your work.",
    )
    user: str = text(
        "",
        bytes_max=USER_BYTES_MAX,
        about="Whom this pool is to pay, where it knows you by another name than devices.user.",
        why="Empty is devices.user: most people have one name.",
    )
    ecash: bool = flag(
        False,
        about="Whether shares earn ecash, kept in the wallet of this file, and no account.",
        why="An account needs no wallet; not every pool has a mint.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Wallets(WalletSection):
    """The ecash wallet, for pools with `ecash = true`, or one for each worker."""

    per_worker: bool = flag(
        False,
        about="Whether each user name of a device has a wallet of its own, in the directory "
        "workers of this one. Their words follow from this wallet's, so these are all that is to "
        "be kept.",
        why="One wallet is less to look after. With one for each, a device's owner can be given "
        "what it earned.",
    )
    workers_max: int = integer(
        48,
        1,
        1_000,
        unit="wallets",
        about="How many workers have a wallet; the others mine for the common one.",
        why="Each has a connection to the pool, and a pool takes 64 of one address unless its "
        "operator allows more.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Log:
    """What the translator tells about itself."""

    level: str = choice(
        "info",
        ("debug", "info", "warning", "error"),
        about="How much is logged.",
        why="Pools and devices that come and go fit a screen a day.",
    )
    format: str = choice(
        "auto",
        ("auto", "console", "json"),
        about="How a log line looks. auto is console on a terminal and JSON elsewhere.",
        why="People read terminals, programs read files and pipes.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Http:
    """Figures for people and programs, by HTTP."""

    listen: str = text(
        "",
        read=_optional,
        allowed="HOST:PORT, or nothing for none",
        about="Where /api/v1/sv1/clients and /metrics are served.",
        why="Empty serves nothing: names of workers stand there.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Devices:
    """Your miners, which speak Stratum V1."""

    listen: Endpoint = endpoint(
        "127.0.0.1:3333",
        about="Where they connect.",
        why="Only this machine: Stratum V1 is not encrypted, so give an address of your own "
        "network and never one of the internet.",
    )
    tls_listen: str = text(
        "",
        read=_optional,
        allowed="HOST:PORT, or nothing for none",
        about="Where they connect over TLS: stratum+ssl:// or stratum+tls:// in the device.",
        why="Empty listens nowhere: it needs a certificate.",
    )
    tls_certificate_file: Path = path(
        "tls-certificate.pem",
        about="The certificate that devices are shown, and behind it those that sign it. A new one "
        "is taken within seconds, without a restart.",
        why="Beside this file. `radpool init translator --tls-listen` says how to make one.",
    )
    tls_key_file: Path = path(
        "tls-key.pem",
        about="The key of that certificate. Nobody but its owner may read it; if it is root's, its "
        "group may.",
        why="As openssl writes it.",
    )
    user: str = text(
        "",
        bytes_max=USER_BYTES_MAX,
        about="Who is to be paid, as the pool knows you. The part of a device's user name behind "
        "the first dot, or all of it, follows behind a dot.",
        why="Empty passes the user names of the devices on as they are.",
    )
    aggregated: bool = flag(
        False,
        about="Whether all devices share one channel with the pool, which sees them as one miner. "
        "With ecash they always do: one wallet takes what all of them earn.",
        why="With a channel for each, the pool shows each device and chooses its difficulty.",
    )
    shares_per_minute: int = integer(
        6,
        1,
        1_000_000,
        unit="shares a minute",
        about="How often a device submits, as far as the pool's difficulty allows it.",
        why="A share each ten seconds shows within a minute that a device has stopped.",
    )
    exponent_min: int = integer(
        0,
        0,
        EXPONENT_MAX,
        unit="zero bits",
        about="The easiest difficulty that a device is given: 2^(this - 32).",
        why="The pool's own bound holds anyway; processors need one far below 1.",
    )
    nominal_hash_rate_mh: int = integer(
        500_000,
        1,
        10**12,
        unit="MH/s",
        about="What is declared to the pool for a device that does not ask for a difficulty.",
        why="Half a TH/s, as the smallest devices have: a faster one gets its difficulty within "
        "seconds, a slower one would wait for its first share.",
    )
    handshake_deadline_ms: int = integer(
        30_000,
        100,
        10 * MINUTE_MS,
        unit="milliseconds",
        about="How long a device may take to subscribe and to authorize.",
        why="Firmware does both at once.",
    )
    silence_ms: int = integer(
        30_000,
        1_000,
        10 * MINUTE_MS,
        unit="milliseconds",
        about="How long a device is kept without work; then it is disconnected.",
        why="Firmware looks for its next pool only when the connection ends.",
    )
    keepalive_ms: int = integer(
        45_000,
        1_000,
        10 * MINUTE_MS,
        unit="milliseconds",
        about="After how long without a job the last one is sent again.",
        why="Some firmware takes a minute's quiet for a dead pool.",
    )
    linger_ms: int = integer(
        60_000,
        0,
        10 * MINUTE_MS,
        unit="milliseconds",
        about="How long a pool's channel waits for the next device of its name.",
        why="Firmware that looks whether a pool is back leaves and comes again within a minute.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceLimits:
    """Bounds against overload. Reaching one costs its connection, never the others."""

    connections_max: int = integer(
        10_000,
        1,
        1_000_000,
        unit="connections",
        about="Open connections in all; further ones are closed at once.",
        why="Some KiB of memory each. The file-descriptor limit must be above it.",
    )
    connections_per_address_max: int = integer(
        10_000,
        1,
        1_000_000,
        unit="connections",
        about="Open connections from one IP address.",
        why="A farm may stand behind one address.",
    )
    connects_per_second_per_address_max: int = integer(
        1_000,
        1,
        1_000_000,
        unit="connections a second",
        about="New connections from one IP address in the long run.",
        why="A connection costs some 50 microseconds.",
    )
    connects_burst_per_address_max: int = integer(
        10_000,
        1,
        1_000_000,
        unit="connections",
        about="New connections from one IP address at once.",
        why="A farm comes back together after a restart.",
    )
    tls_handshakes_max: int = integer(
        256,
        1,
        100_000,
        unit="handshakes",
        about="TLS handshakes at once; further ones wait for their turn.",
        why="Each costs up to a millisecond of a processor: that many are done in a moment.",
    )
    tls_handshakes_per_address_max: int = integer(
        64,
        1,
        100_000,
        unit="handshakes",
        about="TLS handshakes of one IP address at once; further ones wait for their turn.",
        why="A quarter: one address cannot take every turn.",
    )
    tls_handshake_deadline_ms: int = integer(
        10_000,
        100,
        10 * MINUTE_MS,
        unit="milliseconds",
        about="How long a device may say nothing, then wait for its turn, then shake hands.",
        why="Slow processors take a second or two.",
    )
    submits_per_second_max: int = integer(
        100,
        1,
        1_000_000,
        unit="shares a second",
        about="Shares of one device in the long run; more are refused.",
        why="Before the difficulty has risen a fast device sends some hundred shares.",
    )
    submits_burst_max: int = integer(
        2_000,
        1,
        10_000_000,
        unit="shares",
        about="Shares of one device at once; another burst above closes it.",
        why="See submits_per_second_max.",
    )
    requests_per_second_max: int = integer(
        10,
        1,
        100_000,
        unit="requests a second",
        about="Other requests of one device in the long run; more close it.",
        why="Firmware sends five when it connects and hardly any later.",
    )
    requests_burst_max: int = integer(
        50,
        1,
        100_000,
        unit="requests",
        about="Other requests of one device at once.",
        why="Proxies authorize several workers at once.",
    )
    malformed_max: int = integer(
        8,
        0,
        1_000,
        unit="lines",
        about="Malformed lines of one device that are answered; one more closes it.",
        why="One may be a slip, nine are another protocol.",
    )
    names_max: int = integer(
        64,
        1,
        10_000,
        unit="names",
        about="Workers that one connection can authorize.",
        why="Proxies have some; the first names the channel.",
    )
    jobs_max: int = integer(
        16,
        2,
        1_000,
        unit="jobs",
        about="Jobs of one device that shares may still be of.",
        why="At a job every few seconds this is longer than any share is under way.",
    )
    line_deadline_ms: int = integer(
        10_000,
        100,
        10 * MINUTE_MS,
        unit="milliseconds",
        about="From the first byte of a line to its last.",
        why="A line is one packet.",
    )
    write_deadline_ms: int = integer(
        20_000,
        100,
        10 * MINUTE_MS,
        unit="milliseconds",
        about="How long a device may take no byte of what it is sent.",
        why="A device that does not read for 20 s mines nothing that counts.",
    )
    ntime_ahead_s: int = integer(
        7_200,
        0,
        7_200,
        unit="seconds",
        about="How far a share's time may run ahead of the clock.",
        why="The network takes two hours; the pool has bounds of its own.",
    )
    seen_shares_max: int = integer(
        2_000_000,
        1,
        1_000_000_000,
        unit="shares",
        about="Shares that are remembered so that none is counted twice.",
        why="Some 40 MB; the pool remembers its own.",
    )
    io_threads: int = integer(
        0,
        0,
        256,
        unit="threads",
        about="Threads that serve sockets; 0 is one less than there are processors.",
        why="One is left for everything else.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Fallback:
    """When pools are tried again."""

    retry_s: int = integer(
        2,
        1,
        3_600,
        unit="seconds",
        about="The first pause after a pool failed; it doubles with each failure.",
        why="A pool that restarts is back within seconds, and devices wait half a minute.",
    )
    retry_s_max: int = integer(
        60,
        1,
        86_400,
        unit="seconds",
        about="The longest pause.",
        why="A pool that is back should not wait longer for its miners.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class TranslatorConfig:
    """The configuration of a translator: Stratum V1 devices on pools that speak Stratum V2.

    Every key stands here with its default. A key that you delete has its default; a key that does
    not exist is refused.
    """

    devices: Devices
    pools: tuple[PoolSection, ...]
    fallback: Fallback
    wallet: Wallets
    limits: DeviceLimits
    http: Http
    log: Log

    def __post_init__(self) -> None:
        """Refuses what no single key can be blamed for.

        Raises:
            ConfigError: There is no pool, a pause ends before it begins, or wallets of workers are
                wanted where workers cannot be told apart, or earn no ecash.
        """
        if not self.pools:
            raise ConfigError("there is no [[pools]] section: a translator needs a pool")
        if self.fallback.retry_s > self.fallback.retry_s_max:
            raise ConfigError(
                "the first pause is longer than the longest one",
                key="fallback.retry_s",
                value=str(self.fallback.retry_s),
                allowed=f"at most fallback.retry_s_max = {self.fallback.retry_s_max}",
            )
        if not self.wallet.per_worker:
            return
        if self.devices.aggregated:
            raise ConfigError(
                "the devices of one channel have one wallet: with a wallet for each worker each "
                "needs a channel",
                key="wallet.per_worker",
                value="true",
                allowed="false, or devices.aggregated = false",
            )
        if not any(each.ecash for each in self.pools):
            raise ConfigError(
                "no pool of the list earns ecash, so workers have nothing to put into wallets",
                key="wallet.per_worker",
                value="true",
                allowed="false, or ecash = true in a [[pools]] section",
            )
