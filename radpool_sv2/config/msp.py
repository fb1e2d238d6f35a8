"""Describes the configuration of a Mining Service Provider: every key of `msp.toml`.

A key's meaning, unit, reason, default and range stand here and nowhere else: the reader checks
with them and `radpool init msp` writes the commented file from them. Names of keys in `mining` and
`limits` (which are in `radpool_sv2.config.limit`) are those of the native engine's settings.
"""
# ruff: noqa: RUF009 - the functions return dataclass fields, which the rule cannot see.

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the reader resolves the annotations at run time

from radpool_sv2.config.declarator import DeclaratorSection  # noqa: TC001 - as below
from radpool_sv2.config.ecash import EcashSection  # noqa: TC001 - as above
from radpool_sv2.config.federated import FederatedSection  # noqa: TC001 - as above
from radpool_sv2.config.limit import HOUR_MS, MINUTE_MS, Limits
from radpool_sv2.config.setting import (
    REQUIRED,
    Endpoint,
    choice,
    endpoint,
    flag,
    integer,
    names,
    path,
    text,
)
from radpool_sv2.config.sv1 import Sv1Section  # noqa: TC001 - as above
from radpool_sv2.config.template import Templates, check_templates
from radpool_sv2.config.weight import WeightSection  # noqa: TC001 - as above
from radpool_sv2.errors import ConfigError
from radpool_sv2.network import REGTEST
from radpool_sv2.units import EXPONENT_MAX


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """The node as a process: where its data lives and what it tells about itself."""

    data_dir: Path = path(
        "data",
        about="Directory of everything the node writes: ledger, solved blocks, embedded chain.",
        why="Beside this file, so that one directory is one node.",
    )
    log_level: str = choice(
        "info",
        ("debug", "info", "warning", "error"),
        about="How much is logged: debug tells every message, error only what you must act upon.",
        why="The life cycle of the node and of its connections fits a screen a day.",
    )
    log_format: str = choice(
        "auto",
        ("auto", "console", "json"),
        about="How a log line looks. auto is console on a terminal and JSON elsewhere.",
        why="People read terminals, programs read files and pipes.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Keys:
    """The keys. Only the authority's public key stands here; secrets are in files of mode 0600."""

    authority_public_key: str = text(
        REQUIRED,
        bytes_max=100,
        about="The key that miners pin when they connect, as base58 text.",
        why="It has no default: `radpool init msp` makes it.",
    )
    authority_key_file: Path = path(
        "keys/authority.key",
        about="The authority's secret key. The file may be moved away: the node serves without it. "
        "While it is here, the node renews its certificate by itself.",
        why="Where `radpool init msp` writes it. Move it offline before you serve strangers: who "
        "steals it can impersonate the pool until every miner has changed the key it pins.",
    )
    server_key_file: Path = path(
        "keys/server.key",
        about="The secret Noise key of the listener.",
        why="Where `radpool init msp` writes it.",
    )
    certificate_file: Path = path(
        "keys/server.cert",
        about="The authority's signature over the listener's key, with its days of validity. The "
        "node takes a renewed file up without a restart.",
        why="Where `radpool init msp` and `radpool certify` write it.",
    )
    msp_key_file: Path = path(
        "keys/msp.key",
        about="The secret key that signs the share log and names the MSP in every owner tag.",
        why="Where `radpool init msp` writes it.",
    )
    mint_key_file: Path = path(
        "keys/mint.key",
        about="The secret seed of all keysets of the mint. Whoever has it can make money: keep a "
        "copy in a safe place, since tokens cannot be redeemed without it.",
        why="Where `radpool init msp` writes it.",
    )
    certificate_days: int = integer(
        90,
        1,
        3650,
        unit="days",
        about="How long a certificate is valid that the node or `radpool certify` signs.",
        why="Short enough that a stolen listener key dies, long enough for a key kept in a safe.",
    )
    certificate_renew_days: int = integer(
        14,
        1,
        365,
        unit="days",
        about="From how many days before its end the node renews its certificate, or, when the "
        "authority key is not here, warns once a day that you must.",
        why="Two weeks cover a holiday.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Mining:
    """The pool as miners see it."""

    listen: Endpoint = endpoint(
        "0.0.0.0:3333",
        about="Address of the Stratum V2 listener.",
        why="Every interface, on the port that mining devices are shipped with.",
    )
    pool_text: str = text(
        "radpool-sv2",
        bytes_max=70,
        about="Text that the pool writes into the coinbase of every job.",
        why="Block explorers name the pool by it. More than 70 bytes do not fit a coinbase.",
    )
    shares_per_minute: int = integer(
        6,
        1,
        1_000_000,
        unit="shares a minute and channel",
        about="The rate to which each channel's difficulty is steered.",
        why="Payment depends on work alone; six a minute show a dead device within a minute and "
        "steer within some minutes, at next to no cost.",
    )
    exponent_min: int = integer(
        32,
        0,
        EXPONENT_MAX,
        unit="leading zero bits",
        about="The easiest share that a channel is given; it is worth 2^exponent hashes.",
        why="Difficulty 1 is the easiest that real mining devices are built for. CPU miners on "
        "regtest need less.",
    )
    exponent_max: int = integer(
        96,
        0,
        EXPONENT_MAX,
        unit="leading zero bits",
        about="The hardest share that a channel is given.",
        why="Beyond what all miners of the world would need for one share a minute.",
    )
    version_rolling: bool = flag(
        True,
        about="Whether miners may roll the header's version bits 5 to 28 (BIP323).",
        why="Today's devices are too fast for a header without them.",
    )
    group_jobs: bool = flag(
        False,
        about="Whether channels of one owner and difficulty on a connection share their jobs.",
        why="Saves bandwidth to large proxies, but several published clients do not understand the "
        "message that it needs.",
    )
    job_past_ms: int = integer(
        2 * MINUTE_MS,
        30_000,
        HOUR_MS,
        unit="milliseconds",
        about="How long a job stays valid that a newer one on the same tip replaced.",
        why="Devices finish what they have queued; their work is as good as any.",
    )
    job_stale_ms: int = integer(
        2 * MINUTE_MS,
        0,
        HOUR_MS,
        unit="milliseconds",
        about="How long a job of an earlier tip is remembered, so that its shares are refused as "
        "stale and not as unknown.",
        why="Operators of miners read the difference off their rejects.",
    )
    ntime_slack_s: int = integer(
        120,
        0,
        7200,
        unit="seconds",
        about="How far a share's time may run ahead of the time since its job was sent.",
        why="Devices step their clock in jumps; the network itself tolerates two hours.",
    )
    report_interval_ms: int = integer(
        10_000,
        1_000,
        10 * MINUTE_MS,
        unit="milliseconds",
        about="The least time between two reports of a channel's counts to the status pages.",
        why="People look every few seconds at most.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerSection:
    """The share ledger: how shares become durable and how blocks are paid."""

    file: Path = path(
        "data/ledger.sqlite",
        about="The database of shares, accounts, blocks and payouts.",
        why="In the data directory. Put it on a disk whose flush means flushed.",
    )
    batch_shares: int = integer(
        8_192,
        1,
        65_535,
        unit="shares",
        about="The most shares that are signed and committed together.",
        why="A batch of that size takes some 20 ms, the longest that an acknowledgement may wait.",
    )
    pace_shares: int = integer(
        64,
        1,
        65_536,
        unit="shares",
        about="From which batch size the node waits before it takes the next batch.",
        why="Below it every share is committed at once; above it waiting saves most of the cost.",
    )
    pace_ms: int = integer(
        5,
        0,
        1_000,
        unit="milliseconds",
        about="How long it then waits.",
        why="A quarter of what an acknowledgement may take.",
    )
    new_accounts_per_minute_max: int = integer(
        6_000,
        1,
        10_000_000,
        unit="accounts a minute",
        about="Accounts that names nobody has used before can open, on all connections together; "
        "a channel for one more is refused with unknown-user until later.",
        why="An account is kept for ever and costs its opener nothing.",
    )
    prefix_lease: int = integer(
        65_536,
        16,
        1 << 24,
        unit="extranonce prefixes",
        about="How many prefixes are taken out of the ledger's counter at a time. What a crash "
        "leaves unused is never used again.",
        why="Of 2^32 prefixes that is one in 65,536 for each restart.",
    )
    prefixes_low: int = integer(
        8_192,
        1,
        1 << 24,
        unit="extranonce prefixes",
        about="At how many prefixes left the next lease is taken.",
        why="As many channels as can open while the ledger answers.",
    )
    replay_shares: int = integer(
        2_000_000,
        0,
        100_000_000,
        unit="shares",
        about="How many recent shares' hashes the engine is given at start, against replays.",
        why="Some hours of a large pool; the ledger refuses older ones at commit.",
    )
    maturity_blocks: int = integer(
        100,
        1,
        10_000,
        unit="blocks",
        about="Confirmations after which a block's payouts are final.",
        why="The network lets nobody spend a coinbase earlier.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Http:
    """Metrics and status pages: read only, without passwords, so keep them to this machine."""

    listen: Endpoint = endpoint(
        "127.0.0.1:9090",
        about="Address of /metrics and /api/v1.",
        why="This machine alone: whoever may read it sees who mines what.",
    )
    requests_max: int = integer(
        64,
        1,
        65_536,
        unit="requests",
        about="Requests answered at the same time; further ones get status 503 at once.",
        why="A Prometheus, a dashboard and some curious people.",
    )
    request_deadline_ms: int = integer(
        10_000,
        100,
        10 * MINUTE_MS,
        unit="milliseconds",
        about="How long a request may take to arrive, and its answer to be made.",
        why="Every answer is made from memory or one look into the ledger.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Extensions:
    """Stratum V2 protocol extensions that are installed as packages of their own."""

    enabled: tuple[str, ...] = names(
        [],
        about="Names of the installed extensions that the node loads and offers to clients.",
        why="Installing a package must not change what a pool does.",
    )
    required: tuple[str, ...] = names(
        [],
        about="Those of them without which a client is turned away.",
        why="A pool for everybody requires none.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class MspConfig:
    """The configuration of a Mining Service Provider.

    Every key stands here with its default. A key that you delete has its default; a key that does
    not exist is refused. `radpool doctor` checks this file and everything that it names.
    """

    node: Node
    keys: Keys
    mining: Mining
    limits: Limits
    ledger: LedgerSection
    templates: Templates
    weight: WeightSection
    declarator: DeclaratorSection
    http: Http
    extensions: Extensions
    ecash: EcashSection
    sv1: Sv1Section
    federation: FederatedSection

    def __post_init__(self) -> None:
        """Checks what concerns several keys.

        Raises:
            ConfigError: The mint is enabled with settings that do not fit each other, or the
                template source lacks something.
        """
        check_templates(self.templates)
        self._check_declarator()
        self._check_sv1()
        if not self.ecash.enabled:
            return
        if self.ecash.unit_exponent > self.mining.exponent_min:
            raise ConfigError(
                "the easiest share must be worth at least one unit",
                key="ecash.unit_exponent",
                value=str(self.ecash.unit_exponent),
                allowed=f"at most mining.exponent_min, which is {self.mining.exponent_min}",
            )
        if "fixed" in self.ecash.policies and not self.ecash.fixed_price_msat:
            raise ConfigError(
                "the policy fixed needs a price",
                key="ecash.fixed_price_msat",
                value="0",
                allowed="at least 1, or ecash.policies without fixed",
            )

    def _check_sv1(self) -> None:
        if self.sv1.on_same_port and self.sv1.ecash and not self.ecash.enabled:
            raise ConfigError(
                "devices can earn ecash only where there is a mint",
                key="sv1.ecash",
                value="true",
                allowed="false while ecash.enabled is false",
            )

    def _check_declarator(self) -> None:
        reveal_ms, promised_ms = self.declarator.reveal_deadline_ms, 10 * MINUTE_MS
        if reveal_ms < promised_ms and self.templates.network != REGTEST.name:
            raise ConfigError(
                "miners are promised ten minutes to reveal a template",
                key="declarator.reveal_deadline_ms",
                value=str(reveal_ms),
                allowed=f"{promised_ms}, or less on regtest",
            )
