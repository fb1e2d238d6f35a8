"""Plays a mint that keeps everything and wants to know whose shares a redemption came from.

What it has: of each claim channel, time, `B_`, amount and signature; of each request over HTTP its
time and its whole text, and which requests came over one connection, but no address. What it does
not have is the blinding factors. The wallets are the real ones, at a mint with real keys.

A guess is right if it names the channel whose shares a redemption came from. The figures of
`docs/reference/linkage.md` are what this prints with
`RADPOOL_SEED=1 pytest -s tests/system/test_linkage.py`.
"""

import json
import math
import os
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import httpx
import pytest
import trio
from coincurve import PrivateKey, PublicKey
from wallet_rig.mint import FakeMint, unread
from wallet_rig.play import earn

from radpool_sv2._native.ecash import KeysetKeys, blind, hash_to_curve, unblind
from radpool_sv2.wallet import Wallet, recovery, redemption
from radpool_sv2.wallet.exchange import perform, plan
from radpool_sv2.wallet.price import price_of, split

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SEED = int(os.environ.get("RADPOOL_SEED", "1"))
# A unit is worth ten sats: no part is too small to be redeemed by itself.
MSAT_PER_UNIT = 10_000
DAY_S = 86_400


@dataclass(frozen=True)
class Request:
    """Is what the mint sees of a request; `channel` is the truth, which it does not see."""

    channel: int
    connection: tuple
    time: float
    path: str
    body: dict

    @property
    def amounts(self):
        return Counter(row["amount"] for row in self.body["inputs"])

    @property
    def units(self):
        return sum(row["amount"] for row in self.body["inputs"])


@dataclass
class Mint:
    """Is a mint that writes everything down."""

    machine: FakeMint = field(default_factory=FakeMint)
    claims: dict = field(default_factory=lambda: defaultdict(lambda: defaultdict(Counter)))
    last_claim: dict = field(default_factory=lambda: defaultdict(dict))
    requests: list = field(default_factory=list)
    connection: Counter = field(default_factory=Counter)

    def transport(self, channel):
        """Returns a wallet's way to the mint, which sees its connections, not whose they are."""

        def serve(request):
            body = json.loads(request.content) if request.content else {}
            path, connection = request.url.path, (channel, self.connection[channel])
            self.requests.append(Request(channel, connection, trio.current_time(), path, body))
            return unread(self.machine._serve(request))

        return httpx.MockTransport(serve)

    def redemptions(self, keyset):
        return [
            each
            for each in self.requests
            if each.path == "/work/v1/redeem" and each.body["keyset_id"] == keyset.hex()
        ]

    def merges(self, keyset):
        return [
            each
            for each in self.requests
            if each.path == "/work/v1/swap" and each.body["keyset_id"] == keyset.hex()
        ]

    def earned(self, keyset):
        """Returns what each channel's claims of a keyset sum to, units."""
        return {
            channel: sum(amount * count for amount, count in amounts.items())
            for channel, amounts in self.claims[keyset].items()
        }


class Crowd:
    """Is M miners with wallets at one mint."""

    def __init__(self, size, chance, directory):
        self.size = size
        self.chance = chance
        self.directory = directory
        self.mint = Mint()
        self.wallets = []
        # What each share is worth, and how many a keyset has: the ladder is coarse, so difficulty
        # control leaves a miner somewhere between 20 and 60.
        self.rates = [(chance.randrange(8), chance.randint(20, 60)) for _ in range(size)]

    async def __aenter__(self):
        for channel in range(self.size):
            transport = self.mint.transport(channel)
            wallet = await Wallet.create(self.directory / str(channel), transport=transport)
            self.wallets.append(wallet)
        return self

    async def __aexit__(self, *_):
        for wallet in self.wallets:
            await wallet.close()

    def shares(self, channel):
        """Draws the amounts of a miner's shares in a keyset, around its rate."""
        exponent, count = self.rates[channel]
        many = max(1, round(self.chance.gauss(count, math.sqrt(count))))
        # Now and then difficulty moves a step on the way.
        moved = self.chance.randrange(many) if self.chance.random() < 0.25 else 0
        return [1 << exponent] * (many - moved) + [2 << exponent] * moved

    async def mine(self, shares=None):
        """Everybody earns tokens of a new keyset, which is paid; returns its id."""
        machine = self.mint.machine
        keyset = machine.open()
        for channel in self.chance.sample(range(self.size), self.size):
            amounts = self.shares(channel) if shares is None else list(shares)
            await earn(self.wallets[channel], machine, keyset, amounts)
            self.mint.claims[keyset][channel] = Counter(amounts)
            self.mint.last_claim[keyset][channel] = len(self.mint.last_claim[keyset])
        machine.close(keyset, MSAT_PER_UNIT * sum(self.mint.earned(keyset).values()))
        return keyset

    async def each(self, act):
        """Every miner acts, in random order, each over a connection of its own."""
        for channel in self.chance.sample(range(self.size), self.size):
            self.mint.connection[channel] += 1
            await act(self.wallets[channel])

    async def all_at_once(self, act, seconds):
        """Every miner acts at a time of its own within so many seconds."""
        async with trio.open_nursery() as nursery:
            for channel in range(self.size):
                nursery.start_soon(self._later, act, channel, self.chance.uniform(0, seconds))

    async def _later(self, act, channel, seconds):
        await trio.sleep(seconds)
        self.mint.connection[channel] += 1
        await act(self.wallets[channel])


# What a miner may do.


async def redeem_raw(wallet, keyset_id, chosen):
    """Redeems lots of tokens as they are: what `chosen` makes of the list of them."""
    [known] = await wallet.mints()
    async with wallet._at(known) as (mint, caught):
        keyset = await wallet.keyset(keyset_id)
        for lot in chosen(redemption._ours(wallet._purse, keyset)):
            await redeem_lot(wallet, mint, keyset, caught.sat, lot)


async def redeem_lot(wallet, mint, keyset, sat, lot):
    sats = price_of(keyset).sats(sum(1 << token.exponent for token in lot))
    with wallet._purse.file.write() as connection:
        exchange = plan(
            wallet._purse,
            connection,
            kind="redeem",
            inputs=keyset,
            given=lot,
            outputs=sat,
            amounts=[(exponent, False) for exponent in split(sats)],
        )
    await perform(wallet._purse, mint, exchange)


async def redeem_in_parts(crowd, wallet, keyset_id):
    """Merges, then redeems each token by itself, at times and over connections of their own."""
    await wallet.merge(keyset_id)
    [known] = await wallet.mints()
    keyset = await wallet.keyset(keyset_id)
    tokens = redemption._ours(wallet._purse, keyset)
    async with wallet._client(known.url) as mint:
        met = await recovery.meet(wallet._purse, mint)
        for token in crowd.chance.sample(tokens, len(tokens)):
            await trio.sleep(crowd.chance.expovariate(1 / DAY_S))
            crowd.mint.connection[crowd.wallets.index(wallet)] += 1
            await redeem_lot(wallet, mint, keyset, met.sat, [token])


# What the mint may try. Each strategy returns the channels that it cannot tell apart.


def by_sum(mint, keyset, request):
    """Who has earned exactly what is redeemed?"""
    return [channel for channel, units in mint.earned(keyset).items() if units == request.units]


def by_part(mint, keyset, request):
    """Whose sum has these powers of two?"""
    parts = set(request.amounts)
    return [
        channel
        for channel, units in mint.earned(keyset).items()
        if parts <= {1 << exponent for exponent in split(units)}
    ]


def by_denomination(mint, keyset, request):
    """Who has earned tokens of these amounts, and would most likely redeem that many of each?"""
    asked = request.amounts
    scores = {}
    for channel, had in mint.claims[keyset].items():
        if all(had[amount] >= count for amount, count in asked.items()):
            ways = math.prod(math.comb(had[amount], count) for amount, count in asked.items())
            scores[channel] = ways / math.comb(had.total(), asked.total())
    best = max(scores.values(), default=0)
    return [channel for channel, score in scores.items() if score == best]


def by_merge(mint, keyset, request):
    """What was merged over the same connection: whose tokens were they?"""
    merged = [each for each in mint.merges(keyset) if each.connection == request.connection]
    # The outputs of one merge are inputs of the next: what is merged first are tokens of shares.
    found = [by_denomination(mint, keyset, each) for each in merged]
    return next((channels for channels in found if channels), [])


def by_order(mint, keyset, request):
    """Do they redeem in the order in which they stopped mining?"""
    requests = mint.redemptions(keyset)
    place = requests.index(request) * len(mint.claims[keyset]) // len(requests)
    return [channel for channel, last in mint.last_claim[keyset].items() if last == place]


STRATEGIES = [by_sum, by_part, by_denomination, by_merge, by_order]


def success(mint, keyset, strategy):
    """Returns how often a strategy is right on average; whom it cannot tell apart it draws."""
    requests = mint.redemptions(keyset)
    assert requests
    right = 0.0
    for request in requests:
        channels = strategy(mint, keyset, request) or list(mint.claims[keyset])
        right += (request.channel in channels) / len(channels)
    return right / len(requests)


def together(mint, keysets):
    """Returns how often a connection is told that redeemed several keysets, by all sums at once."""
    by_connection = defaultdict(list)
    for keyset in keysets:
        for request in mint.redemptions(keyset):
            by_connection[request.connection].append((keyset, request))
    right = 0.0
    for asked in by_connection.values():
        everybody = set(mint.claims[keysets[0]])
        channels = set.intersection(
            everybody, *(by_sum(mint, keyset, request) for keyset, request in asked)
        )
        right += (asked[0][1].channel in channels) / len(channels or everybody)
    return right / len(by_connection)


def show(size, name, rates):
    figures = "  ".join(f"{rate:6.1%}" for rate in rates.values())
    print(f"{size:3}  {name:38} {1 / size:6.1%}  {figures}")


@pytest.mark.parametrize("size", [8, 32])
async def test_what_a_mint_can_tell(size, tmp_path, autojump_clock):
    """attack: A10, A11. Sums link, and no delay hides them; amounts link what was not merged."""
    print(f"\nRADPOOL_SEED={SEED}  M, what the miners do, guessing, then each strategy:")
    print(" " * 52, "  ".join(each.__name__.removeprefix("by_")[:6] for each in STRATEGIES))
    chance = random.Random(SEED + size)
    rates = {}

    def measure(name, keyset):
        rates[name] = {each: success(crowd.mint, keyset, each) for each in STRATEGIES}
        show(size, name, rates[name])

    async with Crowd(size, chance, tmp_path) as crowd:
        keyset = await crowd.mine()
        await crowd.each(lambda wallet: redeem_raw(wallet, keyset, lambda tokens: [tokens]))
        measure("not merged, all at once", keyset)

        keyset = await crowd.mine()
        await crowd.each(
            lambda wallet: redeem_raw(wallet, keyset, lambda tokens: [[t] for t in tokens[:20]])
        )
        measure("not merged, one by one", keyset)

        keyset = await crowd.mine()
        await crowd.each(lambda wallet: wallet.redeem(keyset))
        measure("merged: `wallet redeem`", keyset)

        keyset = await crowd.mine()
        act = lambda wallet: wallet.redeem(keyset, spread_s=3_600)  # noqa: E731
        await crowd.all_at_once(act, DAY_S)
        measure("merged, delayed: `--spread 3600`", keyset)

        keysets = [await crowd.mine() for _ in range(3)]
        await crowd.each(lambda wallet: wallet.redeem())
        measure("merged, the first of three keysets", keysets[0])
        rates["three"] = {together: together(crowd.mint, keysets)}
        show(size, "merged, three keysets by all sums", rates["three"])

        keyset = await crowd.mine()
        await crowd.all_at_once(lambda wallet: redeem_in_parts(crowd, wallet, keyset), DAY_S)
        measure("merged, each part by itself", keyset)

        keyset = await crowd.mine([4] * 21)
        await crowd.all_at_once(lambda wallet: wallet.redeem(keyset), DAY_S)
        measure("merged, everybody earned the same", keyset)

    assert_what_must_hold(size, rates)


def assert_what_must_hold(size, rates):
    """Says what protects and what does not; both are promises of the page."""
    guessing = 1 / size
    # Whoever redeems a sum that nobody else has is known by it, delay or not.
    for name in ("merged: `wallet redeem`", "merged, delayed: `--spread 3600`"):
        assert rates[name][by_sum] > 0.5
        # The amounts that are redeemed are of the sum: they tell no more than it does.
        assert rates[name][by_denomination] < rates[name][by_sum]
    assert rates["three"][together] >= rates["merged, the first of three keysets"][by_sum]
    # Tokens of shares tell the target that they were mined at.
    assert rates["not merged, one by one"][by_denomination] > 1.5 * guessing
    # Parts hide among all whose sums have them.
    parts = rates["merged, each part by itself"]
    assert (
        max(parts[by_sum], parts[by_part], parts[by_order])
        < rates["merged: `wallet redeem`"][by_sum]
    )
    # Equal sums hide perfectly from everything but the order, which tells nothing either.
    equal = rates["merged, everybody earned the same"]
    order = equal.pop(by_order)
    assert all(rate == pytest.approx(guessing) for rate in equal.values())
    assert is_guessing(order, size, size)


def is_guessing(rate, trials, size):
    """Whether a rate is what guessing gives; of 150,000 that guess one is too good or too bad.

    Few of many are not spread evenly around their mean: the chances are counted, not approximated.
    """
    right, chance = round(rate * trials), 1 / size
    chances = [
        math.comb(trials, count) * chance**count * (1 - chance) ** (trials - count)
        for count in range(trials + 1)
    ]
    return min(sum(chances[: right + 1]), sum(chances[right:])) > 1 / 300_000


# What is written on the tokens.


def strings(request):
    """Returns every point, secret and number of 32 bytes that a request shows."""
    rows = [*request.body.get("inputs", []), *request.body.get("outputs", [])]
    found = {row[name] for row in rows for name in ("secret", "C", "B_") if name in row}
    return found | set(request.body.get("claims", [])) | set(request.body.get("Ys", []))


@pytest.mark.parametrize("size", [8, 32])
async def test_nothing_on_a_token_tells_its_share(size, tmp_path, autojump_clock):
    """attack: A10. Tokens are redeemed one by one as they were signed, all of one amount."""
    chance = random.Random(SEED)
    count = 320 // size
    async with Crowd(size, chance, tmp_path) as crowd:
        machine = crowd.mint.machine
        keyset = await crowd.mine([1] * count)
        owners = await owners_of(crowd, keyset, count)
        assert set(owners) == {b for b, (of, _) in machine.signed.items() if of == keyset}
        for wallet in chance.sample(crowd.wallets * count, size * count):
            await redeem_raw(wallet, keyset, lambda tokens: [[chance.choice(tokens)]])
        requests = crowd.mint.redemptions(keyset)
    assert len(requests) == size * count
    shown = set().union(*map(strings, crowd.mint.requests))
    keys = machine.epochs[keyset].keys
    answers = keys.sign([(1, blinded) for blinded in owners])
    told = {part.hex() for answer in answers for part in answer} | {b.hex() for b in owners}
    assert not shown & told, "what the mint saw with a share comes back with its token"

    claims = [(b, c) for b, (c, *_) in zip(owners, answers, strict=True)]
    tokens = [
        (hash_to_curve([row["secret"].encode()])[0], bytes.fromhex(row["C"]), row["secret"])
        for request in requests
        for row in request.body["inputs"]
    ]
    for name, claim_key, token_key in COMPARISONS:
        # Matches ranks, and nearest values: any dependence of one on the other would show.
        ranked = [owners[b] for b, _ in sorted(claims, key=claim_key)]
        order = sorted(range(len(tokens)), key=lambda at: token_key(tokens[at]))
        right = sum(requests[at].channel == ranked[rank] for rank, at in enumerate(order)) / len(
            order
        )
        print(f"{size:3}  {name:20} {1 / size:6.1%} {right:6.1%}")
        assert is_guessing(right, len(order), size), name


COMPARISONS = [
    ("B_ with Y", lambda claim: claim[0][1:], lambda token: token[0][1:]),
    ("C_ with C", lambda claim: claim[1][1:], lambda token: token[1][1:]),
    ("B_ with C", lambda claim: claim[0][1:], lambda token: token[1][1:]),
    ("C_ with secret", lambda claim: claim[1][1:], lambda token: token[2]),
    ("order in time", lambda _: 0, lambda _: 0),
]


async def test_who_redeems_while_mining_shows_no_claim(tmp_path, autojump_clock):
    """attack: A10. What a miner has ready, or will have next, is not asked for by a redemption."""
    async with Crowd(3, random.Random(SEED), tmp_path) as crowd:
        machine = crowd.mint.machine
        await crowd.mine()
        # The next epoch is open, and a miner has its claims at hand.
        following = machine.open()
        ready = []
        for wallet in crowd.wallets:
            await wallet.trust(machine.epochs[following].announcement, machine.key.public)
            ready += await wallet.reserve(following, 200)
        before = len(crowd.mint.requests)
        await crowd.each(lambda wallet: wallet.redeem())
        shown = set().union(*map(strings, crowd.mint.requests[before:]))
        for wallet in crowd.wallets:
            assert (await wallet.balance(ask=False)).sats > 0
            ready += await wallet.reserve(following, 200)
        assert shown.isdisjoint(output.blinded.hex() for output in ready)


async def test_visits_of_one_wallet_are_known_to_be_one(tmp_path, autojump_clock):
    """attack: A10. The wallet looks whether its file is an old copy: the page says what that shows.

    Whoever does away with it has to change `docs/reference/linkage.md`.
    """
    async with Crowd(3, random.Random(SEED), tmp_path) as crowd:
        asked = []
        for _ in range(2):
            await crowd.mine()
            before = len(crowd.mint.requests)
            await crowd.each(lambda wallet: wallet.redeem())
            asked.append(crowd.mint.requests[before:])
        for first in range(3):
            for second in range(3):
                shown = [
                    set().union(*(strings(each) for each in visit if each.channel == channel))
                    for visit, channel in zip(asked, (first, second), strict=True)
                ]
                assert bool(shown[0] & shown[1]) == (first == second)


async def test_claims_without_an_answer_name_their_channel(tmp_path, autojump_clock):
    """attack: A10. A redemption asks for them once, and the mint has seen them: the page says so.

    Whoever does away with it has to change `docs/reference/linkage.md`.
    """
    async with Crowd(3, random.Random(SEED), tmp_path) as crowd:
        keyset = crowd.mint.machine.open()
        sent = {}
        for channel, wallet in enumerate(crowd.wallets):
            await earn(wallet, crowd.mint.machine, keyset, [1, 2])
            # The channel brings one more, which is refused since the epoch has just ended.
            [sent[channel]] = await wallet.reserve(keyset, 1)
        crowd.mint.machine.close(keyset, MSAT_PER_UNIT * 9)
        await crowd.each(lambda wallet: wallet.redeem())
        for request in crowd.mint.redemptions(keyset):
            visit = [each for each in crowd.mint.requests if each.connection == request.connection]
            shown = set().union(*map(strings, visit))
            named = [channel for channel, each in sent.items() if each.blinded.hex() in shown]
            assert named == [request.channel]


async def owners_of(crowd, keyset, count):
    """Returns which channel each `B_` of a keyset's claims came by."""
    return {
        output.blinded: channel
        for channel, wallet in enumerate(crowd.wallets)
        for output in wallet._purse.derive(keyset, 0, count)
    }


def test_every_claim_fits_every_token():
    """attack: A10, A11. To the mint, with its secret keys, each pairing is as good as the true one.

    What it can test of a claim and a token is whether `C_ - C` is its key times `B_ - Y`. That is
    so for all pairs of one amount, since there is a blinding factor for each.
    """
    secret = bytes(31) + b"\x2a"
    keys = KeysetKeys.from_secrets([(1, secret)], "work")
    [(_, public)] = keys.public
    messages = [f"token {number}".encode() for number in range(6)]
    factors = [PrivateKey().secret for _ in messages]
    blinded = blind(list(zip(messages, factors, strict=True)))
    signed = [c for c, *_ in keys.sign([(1, each) for each in blinded])]
    tokens = unblind([(c, r, public) for c, r in zip(signed, factors, strict=True)])
    for b, c_ in zip(blinded, signed, strict=True):
        for y, c in zip(hash_to_curve(messages), tokens, strict=True):
            assert minus(c_, c) == minus(b, y).multiply(secret)


def minus(left, right):
    """Subtracts one point from another."""
    other = bytes([right[0] ^ 1]) + right[1:]
    return PublicKey.combine_keys([PublicKey(left), PublicKey(other)])
