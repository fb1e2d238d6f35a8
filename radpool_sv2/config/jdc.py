"""Describes the configuration of a job declarator client: every key of `jdc.toml`.

Keys of `limits` are those of the native engine's settings, as in `msp.toml`; `node` and `templates`
are the sections that a Mining Service Provider has, too.
"""
# ruff: noqa: RUF009 - the functions return dataclass fields, which the rule cannot see.

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the reader resolves the annotations at run time

from radpool_sv2.config.limit import HOUR_MS, MINUTE_MS, Limits
from radpool_sv2.config.msp import Node  # noqa: TC001 - as above
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
from radpool_sv2.config.template import Templates, check_templates
from radpool_sv2.errors import ConfigError
from radpool_sv2.units import EXPONENT_MAX

__all__ = ["FULL_TEMPLATE", "JdcConfig", "PolicySection", "PoolSection"]

FULL_TEMPLATE = "full-template"
COINBASE_ONLY = "coinbase-only"

USER_BYTES_MAX = 255


def _remote(value: str) -> Endpoint:
    address = Endpoint.parse(value)
    if address.port == 0:
        raise ValueError("a pool has a port above 0")
    return address


_REMOTE = "HOST:PORT with a port from 1 to 65535"


@dataclass(frozen=True, kw_only=True, slots=True)
class JdcKeys:
    """The key that the miners behind this client pin."""

    authority_key_file: Path = path(
        "keys/authority.key",
        about="The secret authority key. The client makes a fresh key for its listener whenever it "
        "starts, and signs it with this one.",
        why="Where `radpool init jdc` writes it. Whoever steals it can pose as this client to your "
        "own miners; no pool trusts it.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolSection:
    """A pool to declare jobs to. The first of them that works is mined for; the order is yours.

    Write one [[pools]] section for each. Without any, or while none of them works, blocks are mined
    solo, for templates.payout_address.
    """

    address: Endpoint = text(
        REQUIRED,
        read=_remote,
        allowed=_REMOTE,
        about="Where the pool takes Stratum V2 mining connections.",
        why="It has no default: the pool publishes it.",
    )
    authority_public_key: str = text(
        REQUIRED,
        bytes_max=100,
        about="The pool's authority key, as base58 text.",
        why="It has no default: the pool publishes it. Without it, whoever sits on the line could "
        "take your work.",
    )
    declarator: Endpoint = text(
        REQUIRED,
        read=_remote,
        allowed=_REMOTE,
        about="Where the pool's job declarator server answers.",
        why="It has no default: the pool publishes it.",
    )
    declarator_public_key: str = text(
        "",
        bytes_max=100,
        about="The authority key of the job declarator server, if it is another one.",
        why="Empty means the pool's: most pools have one key for both.",
    )
    user: str = text(
        "",
        bytes_max=USER_BYTES_MAX,
        about="Who is to be paid, as the pool knows you: account.worker.",
        why="It must be given unless you mine for ecash.",
    )
    ecash: bool = flag(
        False,
        about="Whether shares earn ecash, kept in the wallet of this file, and no account.",
        why="An account needs no wallet; not every pool has a mint.",
    )
    mode: str = choice(
        FULL_TEMPLATE,
        (FULL_TEMPLATE, COINBASE_ONLY),
        about="full-template shows the pool all transactions and is paid for all fees. "
        "coinbase-only shows the coinbase alone; a pool may pay less for it, and ask to see the "
        "template afterwards.",
        why="Most pools pay what a template is worth only when they can see it.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Declaration:
    """How jobs are declared, and when a pool is given up for the next one."""

    interval_s: int = integer(
        15,
        1,
        3600,
        unit="seconds",
        about="How often a template with more fees is declared while the tip stays. A new tip is "
        "declared at once.",
        why="Fees grow slowly, and each declaration costs the pool a check of the whole block.",
    )
    tokens_ahead: int = integer(
        2,
        1,
        16,
        unit="tokens",
        about="How many job tokens are kept ready.",
        why="One for a new tip, one for more fees just before it.",
    )
    connect_deadline_ms: int = integer(
        10_000,
        100,
        10 * MINUTE_MS,
        unit="milliseconds",
        about="From the first packet to an open channel and a first token.",
        why="Two handshakes on the slowest link that mining is possible on.",
    )
    token_deadline_ms: int = integer(
        10_000,
        100,
        10 * MINUTE_MS,
        unit="milliseconds",
        about="How long the pool may take to answer with a token.",
        why="A token costs the pool nothing.",
    )
    declare_deadline_ms: int = integer(
        10_000,
        100,
        10 * MINUTE_MS,
        unit="milliseconds",
        about="How long the pool may take to judge a declared job.",
        why="A check of a full block takes a second; what is mined meanwhile is at stake.",
    )
    custom_job_deadline_ms: int = integer(
        10_000,
        100,
        10 * MINUTE_MS,
        unit="milliseconds",
        about="How long the pool may take to accept a job that it has judged.",
        why="A pool waits some seconds for its own node to see the tip.",
    )
    share_deadline_ms: int = integer(
        MINUTE_MS,
        1_000,
        HOUR_MS,
        unit="milliseconds",
        about="How long a share may stay without an answer.",
        why="Some pools answer in groups; a minute is longer than any of them waits.",
    )
    refusals_max: int = integer(
        2,
        1,
        100,
        unit="refusals",
        about="How many jobs in a row the pool may refuse before the next pool is tried.",
        why="One refusal may be a tip that the pool did not know yet.",
    )
    rejected_shares_max: int = integer(
        16,
        1,
        100_000,
        unit="shares",
        about="How many shares on accepted jobs the pool may reject in a row before the next pool "
        "is tried.",
        why="Some shares are late at a new tip; a row of them without one accepted is not that.",
    )
    cached_shares_max: int = integer(
        10_000,
        1,
        1_000_000,
        unit="shares",
        about="How many shares wait for a job to be accepted; beyond it the oldest are given up.",
        why="Some 200 bytes each. A pool that answers in time has a handful.",
    )
    retry_s: int = integer(
        10,
        1,
        3600,
        unit="seconds",
        about="After how long a pool that failed is tried again; twice as long after each failure.",
        why="Pools that restart are back within seconds.",
    )
    retry_s_max: int = integer(
        600,
        1,
        86_400,
        unit="seconds",
        about="The longest of these waits.",
        why="Ten minutes after the pool of your choice is back, you mine for it again.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicySection:
    """Which transactions go into your blocks. Without rules, those that your node chooses.

    Rules need a node that tells the fee of each transaction; the Template Distribution Protocol
    does not.
    """

    exclude_transactions: tuple[str, ...] = names(
        [],
        about="Transaction ids that never go in, nor what spends their outputs.",
        why="Your node decides.",
    )
    exclude_addresses: tuple[str, ...] = names(
        [],
        about="Addresses, or output scripts as hex digits; transactions that pay them never go in.",
        why="Your node decides.",
    )
    feerate_min_sat_per_kvb: int = integer(
        0,
        0,
        100_000_000,
        unit="satoshi for 1000 virtual bytes",
        about="Transactions that pay less do not go in, unless they are included or preferred.",
        why="Your node decides.",
    )
    include_transactions: tuple[str, ...] = names(
        [],
        about="Witness transaction ids (wtxid) that go in when your node's mempool has them. For a "
        "transaction without witnesses that is its id.",
        why="Your node decides.",
    )
    include_dir: Path = path(
        "include",
        about="Directory of transactions that go in although the mempool may not have them: files "
        "*.hex, one transaction each. Your node judges the block with them first.",
        why="It need not be there.",
    )
    prefer_transactions: tuple[str, ...] = names(
        [],
        about="Transaction ids that stay when the block is too full for all.",
        why="Your node decides.",
    )
    prefer_addresses: tuple[str, ...] = names(
        [],
        about="Addresses or scripts whose transactions stay when the block is too full for all.",
        why="Your node decides.",
    )
    weight_max: int = integer(
        4_000_000,
        100_000,
        4_000_000,
        unit="weight units",
        about="The heaviest block.",
        why="What consensus allows.",
    )
    policies: tuple[str, ...] = names(
        [],
        about="Policies of installed packages that are asked besides these rules, by name.",
        why="Installing a package must not change what is mined.",
    )
    deadline_ms: int = integer(
        2_000,
        10,
        MINUTE_MS,
        unit="milliseconds",
        about="How long they may take all together. Whatever is late has no say in that template.",
        why="Miners wait for it at each new tip.",
    )

    def asks_for_nothing(self) -> bool:
        """Tells whether templates are taken as the node makes them."""
        rules = self.exclude_transactions, self.exclude_addresses, self.include_transactions
        given = any(rules) or bool(self.feerate_min_sat_per_kvb) or bool(self.policies)
        return not given and self.weight_max == 4_000_000 and not self.include_dir.is_dir()


@dataclass(frozen=True, kw_only=True, slots=True)
class WalletSection:
    """The ecash wallet, for pools with `ecash = true`."""

    dir: Path = path(
        "wallet",
        about="Directory of the wallet; `radpool wallet create` makes it.",
        why="Beside this file.",
    )
    policy: str = choice(
        "any",
        ("any", "network", "pool", "window", "fixed"),
        about="How tokens are to be paid; any leaves it to the pool.",
        why="Each pool has a policy that it prefers.",
    )
    sign_mode: str = choice(
        "eager",
        ("eager", "lazy"),
        about="When tokens are signed: with the answer to each share, or when asked later.",
        why="Signed tokens are in the wallet at once.",
    )
    unsigned_max: int = integer(
        3,
        1,
        32,
        unit="shares",
        about="How many shares the pool may leave without a token before no more are submitted.",
        why="What a pool can get for nothing.",
    )
    mint_url: str = text(
        "",
        about="Where the mint's HTTP interface is, to see there too that all are shown the same "
        "keys; empty for the place that the pool names.",
        why="A pool knows where its mint is; a way that does not lead past it is safer.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Downstream:
    """The listener that your own miners connect to, by Stratum V2."""

    listen: Endpoint = endpoint(
        "0.0.0.0:34265",
        about="Address of the listener.",
        why="Every interface, on the port that SRI's job declarator client uses.",
    )
    shares_per_minute: int = integer(
        20,
        1,
        1_000_000,
        unit="shares a minute and channel",
        about="The rate to which each miner's difficulty is steered. The pool sees only those that "
        "meet its own, harder target.",
        why="More than pools ask for, so that no share that the pool would take is missed; half a "
        "minute without a share shows a dead device.",
    )
    exponent_min: int = integer(
        32,
        0,
        EXPONENT_MAX,
        unit="leading zero bits",
        about="The easiest share that a miner is given.",
        why="Difficulty 1 is the easiest that real mining devices are built for.",
    )
    exponent_max: int = integer(
        96,
        0,
        EXPONENT_MAX,
        unit="leading zero bits",
        about="The hardest share that a miner is given; never harder than the pool's.",
        why="Beyond what all miners of the world would need.",
    )
    rollable_bytes: int = integer(
        8,
        6,
        12,
        unit="bytes",
        about="How much of the extranonce each miner rolls. Four more tell miners apart.",
        why="Enough for any device and for a translator behind; a pool grants 16 at most.",
    )
    version_rolling: bool = flag(
        True,
        about="Whether miners may roll the header's version bits 5 to 28 (BIP323).",
        why="Today's devices are too fast for a header without them.",
    )
    job_past_ms: int = integer(
        2 * MINUTE_MS,
        30_000,
        HOUR_MS,
        unit="milliseconds",
        about="How long a job stays valid that a newer one on the same tip replaced.",
        why="Devices finish what they have queued; their work is as good as any.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class JdcConfig:
    """The configuration of a job declarator client: own templates for pools that take them.

    Every key stands here with its default. A key that you delete has its default; a key that does
    not exist is refused.
    """

    node: Node
    keys: JdcKeys
    pools: tuple[PoolSection, ...]
    declaration: Declaration
    policy: PolicySection
    wallet: WalletSection
    mining: Downstream
    templates: Templates
    limits: Limits

    def __post_init__(self) -> None:
        """Checks what concerns several keys.

        Raises:
            ConfigError: A pool would not know whom to pay, or limits contradict each other.
        """
        for number, pool in enumerate(self.pools, start=1):
            if not pool.user and not pool.ecash:
                raise ConfigError(
                    "the pool must know whom to pay",
                    key=f"pools[{number}].user",
                    value="''",
                    allowed="account.worker, or ecash = true",
                )
            if pool.ecash and pool.mode == COINBASE_ONLY:
                raise ConfigError(
                    "ecash cannot be taken back when a template turns out to be wrong, so no mint "
                    "gives it for one that it has not seen",
                    key=f"pools[{number}].mode",
                    value=repr(pool.mode),
                    allowed=FULL_TEMPLATE,
                )
        check_templates(self.templates)
        if self.mining.exponent_min > self.mining.exponent_max:
            raise ConfigError(
                "the easiest share would be harder than the hardest",
                key="mining.exponent_min",
                value=str(self.mining.exponent_min),
                allowed=f"at most mining.exponent_max, which is {self.mining.exponent_max}",
            )
