"""Describes the section `ecash` of `msp.toml`: the mint."""

from __future__ import annotations

from dataclasses import dataclass

from radpool_sv2.config.setting import flag, integer, selection, text

POLICIES = ("network", "pool", "window", "fixed")

UNIT_EXPONENT_MAX = 57
"""Keysets have 64 denominations, and the hardest share has 120 leading zero bits."""

PRICE_MAX = 1 << 62
SATS_MAX = 21_000_000 * 100_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class EcashSection:
    """The mint: shares earn work tokens, which are redeemed for sat tokens once a block pays them.

    What is announced with a keyset holds for it to its end: changed fees and prices begin with the
    next keyset of the policy.
    """

    enabled: bool = flag(
        False,
        about="Whether the node is a mint. The extension that miners use it by is enabled in "
        "extensions.enabled.",
        why="`radpool init msp` enables both where the extension is installed.",
    )
    url: str = text(
        "",
        bytes_max=255,
        about="Where wallets reach this node's HTTP interface, told to each miner.",
        why="Empty: the node does not know its name outside. Miners can redeem without it.",
    )
    unit_exponent: int = integer(
        32,
        0,
        UNIT_EXPONENT_MAX,
        unit="leading zero bits",
        about="The share whose token is one unit of work: 2^exponent hashes. Not above "
        "mining.exponent_min.",
        why="Difficulty 1, the easiest share of real devices.",
    )
    policies: tuple[str, ...] = selection(
        ["window", "pool", "network"],
        POLICIES,
        about="What tokens may be paid by, the most wanted first: of those that a miner accepts it "
        "gets the first. window: a block pays the last difficulties of work; pool: the work since "
        "the pool's last block; network: the work since the network's last block, nothing if that "
        "block is another's; fixed: a price announced in advance, at the operator's risk.",
        why="A window evens out luck and rewards nobody for coming and going.",
    )
    coinbase_maturity: int = integer(
        100,
        1,
        10_000,
        unit="confirmations",
        about="From how many confirmations of its block money is there to be issued. Prices are "
        "final after ledger.maturity_blocks already.",
        why="The network lets nobody spend a coinbase earlier.",
    )
    advance_cap_sats: int = integer(
        0,
        0,
        SATS_MAX,
        unit="sats",
        about="How much may be issued for final prices before their money is mature. It is lost "
        "when such a block is orphaned after all.",
        why="Advances are a loan by the operator, who has to want it.",
    )
    window_difficulties: int = integer(
        8,
        1,
        1_000,
        unit="difficulties of a block",
        about="How much work a block pays under the policy window.",
        why="Eight blocks' work: a share is paid by eight blocks on average, whoever finds them.",
    )
    slice_divisor: int = integer(
        8,
        1,
        64,
        unit="slices a difficulty",
        about="Into how many slices a block's work is cut under the policy window; each has a "
        "keyset of its own.",
        why="A window is then exact to an eighth of a difficulty; more keysets hide miners less.",
    )
    slice_hours: int = integer(
        6,
        1,
        720,
        unit="hours",
        about="After how long a slice ends that has less work.",
        why="Tokens of a small pool get a price without waiting for a block's work.",
    )
    slice_seconds_min: int = integer(
        60,
        0,
        86_400,
        unit="seconds",
        about="How long a slice lasts at least, however much work comes.",
        why="Who shares a keyset with few others is easy to tell from them.",
    )
    fixed_price_msat: int = integer(
        0,
        0,
        PRICE_MAX,
        unit="millisats",
        about="The price of fixed_price_units under the policy fixed; needed if that is offered.",
        why="It has no sensible default: it follows from the block reward and the difficulty.",
    )
    fixed_price_units: int = integer(
        1 << 20,
        1,
        PRICE_MAX,
        unit="units of work",
        about="The work that fixed_price_msat pays.",
        why="One unit is worth less than a millisat at today's difficulty.",
    )
    fixed_hours: int = integer(
        24,
        1,
        720,
        unit="hours",
        about="How long a keyset of the policy fixed takes claims at its price.",
        why="A day's price follows fees and difficulty well enough.",
    )
    fixed_reserve_msat: int = integer(
        0,
        0,
        1_000 * SATS_MAX,
        unit="millisats",
        about="The operator's money behind the policy fixed. Work is taken only while what it is "
        "worth is covered by this and by what blocks have brought.",
        why="Nobody should owe what nobody has.",
    )
    fee_ppm: int = integer(
        0,
        0,
        1_000_000,
        unit="millionths",
        about="The mint's part of what a settlement pays a policy.",
        why="A pool that wants to be tried takes nothing.",
    )
    fee_fixed_msat: int = integer(
        0,
        0,
        PRICE_MAX,
        unit="millisats",
        about="What the mint takes of each settlement besides.",
        why="As above.",
    )
    grace_s: int = integer(
        120,
        0,
        3_600,
        unit="seconds",
        about="How long a closed keyset takes claims of shares of its own epoch.",
        why="As long as jobs of the time before stay valid: mining.job_past_ms.",
    )
    expiry_days: int = integer(
        90,
        1,
        3_650,
        unit="days",
        about="How long tokens with a final price can be redeemed; what is left goes to the next "
        "settlement of the policy.",
        why="A season of holidays. A mint that remembers spent tokens for ever grows for ever.",
    )
    redeems_per_minute: int = integer(
        60,
        1,
        1_000_000,
        unit="requests a minute",
        about="Requests about tokens that one connection may make in the long run; more are "
        "refused until later.",
        why="Checking 250 tokens takes some ten milliseconds of a core.",
    )
    redeems_burst: int = integer(
        60,
        1,
        1_000_000,
        unit="requests",
        about="Such requests at once.",
        why="A wallet that merges some thousand tokens after a week.",
    )
    requests_pending_max: int = integer(
        256,
        1,
        65_536,
        unit="requests",
        about="Requests about tokens that wait for the database, of all clients together; more are "
        "refused until later.",
        why="Some seconds' work.",
    )
    per_share_price: bool = flag(
        False,
        about="Whether each token is rounded down to a millisat by itself, as the NUT-X draft "
        "says, instead of a redemption as a whole.",
        why="Tokens of small miners are worth less than a millisat and would be lost.",
    )
