"""Plays games with templates against each rule of weighing, in numbers.

A strategy is played through the pool's own code: templates are priced by `radpool_sv2.weight`,
shares are sealed into batches and kept in a ledger, and blocks are settled by it, to the satoshi.
The published rule is a model (`published_slices.py`). Nothing is drawn by lot: what a miner may
expect is computed from the two settlements that can happen, of a block of its own and of another's.

`template_weight_page.py` writes what comes out into `docs/reference/template-weight.md`.
"""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(Path(__file__).parent)]

from published_slices import PublishedSlices  # noqa: E402
from shares import Key, Owner, Share, ShareBatch, Template, tagged_hash  # noqa: E402

from radpool_sv2.consensus import subsidy_sats  # noqa: E402
from radpool_sv2.ledger.account import commitment_of  # noqa: E402
from radpool_sv2.ledger.books import Books  # noqa: E402
from radpool_sv2.store import SqliteStore  # noqa: E402
from radpool_sv2.weight import REAL, OwnReference, Weighing, WeightMode  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

KEY = Key()
SCRIPT = b"\x00\x14" + b"\x33" * 20
"""What `shares.Template` pays."""

NBITS = 0x17021369
TARGET = (0x021369 << 8 * (0x17 - 3)).to_bytes(32, "little")
HEIGHT = 900_000
SUBSIDY = subsidy_sats(HEIGHT, REAL.halving_blocks)
FEES = 5_000_000
"""What an honest template collects: 1.6 % of the subsidy."""

TIPS = 80
"""Blocks of the network in the epoch that is paid: a tenth of its work, eight expected blocks."""

UNIT_Z = 46
"""The exponent of a unit of work: the player has one for each block of the network."""

SMALL_Z = UNIT_Z - 10
"""The exponent of a share that only declares something."""

DELTA = FEES // 100
"""How much better a template must be to open a slice of the published rule."""

MINUTE_MS = 60_000
START_MS = 1_790_000_040_000
"""A multiple of a minute, so that a batch sealed a millisecond later is in the same slice."""

PLAYER, OTHERS = "player", "others"


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """Is what one miner does while all others mine honestly.

    Attributes:
        text: What it does, for the table.
        per_mille: Its part of the pool's work.
        fees_sats: What its coinbase pays the pool above the subsidy.
        kept_sats: What a block of its own brings it beside; below 0 for fees that it pays itself.
        publishes: Whether its blocks are published.
        steps: How many small shares it adds in the end, each declaring `DELTA` more.
        comes_first: Whether its shares are the first on each new block, or the last.
    """

    text: str
    per_mille: int = 10
    fees_sats: int = FEES
    kept_sats: int = 0
    publishes: bool = True
    steps: int = 0
    comes_first: bool = False


def paying_itself(text: str, fees_sats: int, **more: object) -> Strategy:
    """Makes a strategy that pays the fees above those of an honest template out of its pocket."""
    return Strategy(
        text=text,
        fees_sats=fees_sats,
        kept_sats=FEES - fees_sats,
        comes_first=True,
        **more,  # type: ignore[arg-type]
    )


BTC = 100_000_000
STRATEGIES = [
    Strategy(text="mines honestly"),
    Strategy(text="stuffs slices: 20 small shares, each declaring a little more", steps=20),
    Strategy(text="with 0.1 % of the work: stuffs slices like that", steps=20, per_mille=1),
    paying_itself("pays itself 10 times the fees, and publishes its blocks", 10 * FEES),
    Strategy(text="withholds its blocks, declares honestly", publishes=False),
    paying_itself("withholds, declares 1.25 times the fees", FEES * 5 // 4, publishes=False),
    paying_itself(
        "with 0.1 % of the work: withholds, declares 1.25 times the fees",
        FEES * 5 // 4,
        publishes=False,
        per_mille=1,
    ),
    paying_itself("withholds, declares 10 times the fees", 10 * FEES, publishes=False),
    paying_itself("withholds, declares 100 times the fees", 100 * FEES, publishes=False),
    paying_itself("withholds, declares 1,000 times the fees", 1_000 * FEES, publishes=False),
    paying_itself("withholds, declares 100 BTC", 100 * BTC, publishes=False),
    paying_itself("withholds, declares 1,000 BTC", 1_000 * BTC, publishes=False),
    Strategy(text="keeps the fees in an output of its own", fees_sats=0, kept_sats=FEES),
    Strategy(text="mines empty blocks", fees_sats=0),
    Strategy(text="mines empty blocks, first on each new block", fees_sats=0, comes_first=True),
    Strategy(text="leaves half of the fees out", fees_sats=FEES // 2),
    Strategy(text="finds a tenth more fees that are real", fees_sats=FEES * 11 // 10),
    Strategy(text="finds twice the fees, all real", fees_sats=2 * FEES),
]

RULES = ("value", "value, no cap", "slice", "difficulty", "published")
MODES = {
    "value": WeightMode.VALUE,
    "value, no cap": WeightMode.VALUE,
    "slice": WeightMode.SLICE,
    "difficulty": WeightMode.DIFFICULTY,
}


class BoundlessReference:
    """Says that honest nodes offer more than anybody declares, so that no cap is ever reached."""

    def offered(self, prev_hash: bytes, fees_sats: int) -> None:
        """Takes no notice."""

    def fees_sats(self, _prev_hash: bytes) -> int:
        return 10**15


@dataclass(frozen=True)
class Piece:
    """Is work that somebody did at one time.

    Attributes:
        owner: Who did it.
        works: The exponents of its shares.
        tip: On which block, counted from the first.
        minute: When.
        fees_sats: What its template pays the pool above the subsidy.
        reference_sats: What honest templates collected then.
    """

    owner: str
    works: tuple[int, ...]
    tip: int
    minute: int
    fees_sats: int
    reference_sats: int

    @property
    def work(self) -> int:
        return sum(1 << z for z in self.works)


def exponents(units: int) -> tuple[int, ...]:
    """Writes a number of units of work as shares."""
    return tuple(UNIT_Z + bit for bit in range(units.bit_length()) if units >> bit & 1)


def pieces_of(strategy: Strategy) -> Iterator[Piece]:
    """Lays out an epoch: one unit of the player's on each block of the network, and the others'."""
    units = 1_000 // strategy.per_mille
    for tip in range(TIPS):
        own = Piece(PLAYER, exponents(1), tip, tip, strategy.fees_sats, FEES)
        rest = Piece(OTHERS, exponents(units - 1), tip, tip, FEES, FEES)
        yield from (own, rest) if strategy.comes_first else (rest, own)
    for step in range(1, strategy.steps + 1):
        yield Piece(PLAYER, (SMALL_Z,), TIPS - 1, TIPS - 1, FEES + step * DELTA, FEES)


class PoolBooks:
    """Is a pool's ledger with all pieces of an epoch in it."""

    def __init__(self, directory: Path, rule: str, pieces: Iterable[Piece]) -> None:
        self._now_ms = START_MS
        self._store = SqliteStore(
            directory / "ledger.sqlite", owner=KEY.public, time_ms=self._now_ms, check=False
        )
        self._books = Books(self._store, KEY, maturity_blocks=1, unix_ms=lambda: self._now_ms)
        self._reference = BoundlessReference() if rule == "value, no cap" else OwnReference()
        self._weighing = Weighing(MODES[rule], REAL, script=SCRIPT, reference=self._reference)
        self._books.weigh_by(self._weighing)
        self._owners: dict[str, Owner] = {}
        self._nonce = 0
        minutes: dict[int, list[Share]] = defaultdict(list)
        for piece in pieces:
            minutes[piece.minute].extend(self._shares(piece))
        # Only where work is counted minute by minute does it matter which batch a share is in.
        if rule != "slice":
            minutes = {0: [share for shares in minutes.values() for share in shares]}
        for minute, shares in minutes.items():
            self._now_ms = START_MS + minute * MINUTE_MS
            assert self._books.commit(ShareBatch(shares)) == []
        self._paying: bytes | None = None

    def close(self) -> None:
        self._store.close()

    def parts(self, fees_sats: int) -> dict[str, Fraction]:
        """Settles the epoch by a block with such fees; one that paid it before is orphaned."""
        block = tagged_hash("radpool vector", b"block", fees_sats.to_bytes(8, "little"))
        self._books.record_block(block, HEIGHT, SUBSIDY + fees_sats, 1)
        orphaned = {} if self._paying is None else {self._paying: None}
        done = self._books.reconcile({**orphaned, block: 1})
        assert (len(done.paid), len(done.reversed)) == (1, len(orphaned))
        assert 1 in done.paid[0].epochs
        self._paying = block
        balances = self._store.balances()
        assert sum(balances.values()) == SUBSIDY + fees_sats
        return {
            name: Fraction(balances.get((owner.account, 0), 0))
            for name, owner in self._owners.items()
        }

    def _owner(self, name: str) -> Owner:
        if name not in self._owners:
            salt = tagged_hash("radpool vector", name.encode())[:16]
            row = self._store.add_account(name, salt, commitment_of(name, salt), START_MS)
            self._owners[name] = Owner(row.commitment, 1, 0, row.id)
        return self._owners[name]

    def _shares(self, piece: Piece) -> Iterator[Share]:
        template = Template(
            height=HEIGHT,
            value_sats=SUBSIDY + piece.fees_sats,
            prev_hash=tagged_hash("radpool vector", b"tip", bytes([piece.tip])),
            nbits=NBITS,
        )
        tip = SimpleNamespace(prev_hash=template.prev_hash, target=TARGET)
        self._reference.offered(tip.prev_hash, piece.reference_sats)
        price = self._weighing.price(tip, HEIGHT, template.value_sats)
        for z in piece.works:
            self._nonce += 1
            yield Share(self._owner(piece.owner), template, z=z, nonce=self._nonce, price=price)


class PublishedBooks:
    """Is the same by the published rule."""

    def __init__(self, pieces: Iterable[Piece], delta_sats: int = DELTA) -> None:
        self._slices = PublishedSlices(delta_sats)
        for piece in pieces:
            self._slices.add(piece.owner, work=piece.work, tip=piece.tip, fees_sats=piece.fees_sats)

    def close(self) -> None:
        """Has nothing open."""

    def parts(self, fees_sats: int) -> Mapping[str, Fraction]:
        return self._slices.parts(SUBSIDY, fees_sats)  # type: ignore[return-value]


def settled(rule: str, pieces: list[Piece], *fees_sats: int) -> list[Mapping[str, Fraction]]:
    """Settles the same work by one block after the other, each as if the others were not."""
    with tempfile.TemporaryDirectory() as directory:
        books = (
            PublishedBooks(pieces)
            if rule == "published"
            else PoolBooks(Path(directory), rule, pieces)
        )
        try:
            return [books.parts(each) for each in fees_sats]
        finally:
            books.close()


@dataclass(frozen=True)
class Outcome:
    """Is what a strategy brings.

    Attributes:
        player: What the player has more than by mining honestly, as a part of that.
        others: The same of all others together.
        taken: The player's part of what an honest block brings.
        fees_taken: Its part of the fees of an honest block.
    """

    player: Fraction
    others: Fraction
    taken: Fraction
    fees_taken: Fraction


def play(strategy: Strategy, rule: str) -> Outcome:
    """Plays a strategy against a rule; the pool's hash rate is what it is with the player."""
    pieces = list(pieces_of(strategy))
    whole, own_whole = SUBSIDY + FEES, SUBSIDY + strategy.fees_sats
    found = [FEES, *([strategy.fees_sats] if strategy.fees_sats != FEES else [])]
    parts = settled(rule, pieces, *found)
    taken, own_taken = (Fraction(each[PLAYER]) for each in (parts[0], parts[-1]))
    work = sum(piece.work for piece in pieces)
    part = Fraction(sum(piece.work for piece in pieces if piece.owner == PLAYER), work)
    income = (1 - part) * taken
    rest = (1 - part) * (whole - taken)
    if strategy.publishes:
        income += part * (own_taken + strategy.kept_sats)
        rest += part * (own_whole - own_taken)
    return Outcome(
        player=income / (part * whole) - 1,
        others=rest / ((1 - part) * whole) - 1,
        taken=taken / whole,
        fees_taken=(taken - part * SUBSIDY) / FEES,
    )


# A round in which fees grow: who stays for a part of it only.

ROUND_MINUTES = 10
MEAN_FEES = FEES
ROUND_RULES = ("value", "slice", "difficulty", "published")


def round_fees(minute: int) -> int:
    """Returns what a template collects in a minute of a round: from nearly nothing to twice."""
    return MEAN_FEES * (2 * minute + 1) // ROUND_MINUTES


@dataclass(frozen=True)
class Round:
    """Is what a round pays beside what its shares are worth.

    Attributes:
        first: What a share of the first minute is paid above its worth, as a part of it.
        last: The same in the last minute.
        gain: What a miner gains on average who is here only while shares are paid above worth.
    """

    first: Fraction
    last: Fraction
    gain: Fraction


def play_round(rule: str) -> Round:
    """Pays a round of equal work in each minute by a block with its average fees."""
    works = exponents(1)
    pieces = [
        Piece(f"minute {minute}", works, 0, minute, round_fees(minute), round_fees(minute))
        for minute in range(ROUND_MINUTES)
    ]
    [parts] = settled(rule, pieces, MEAN_FEES)
    # Equal work: a share's worth is what a block of its minute would bring.
    worth = [
        Fraction(SUBSIDY + round_fees(minute), ROUND_MINUTES) for minute in range(ROUND_MINUTES)
    ]
    paid = [parts[f"minute {minute}"] for minute in range(ROUND_MINUTES)]
    best = sum(max(here, elsewhere) for here, elsewhere in zip(paid, worth, strict=True))
    return Round(paid[0] / worth[0] - 1, paid[-1] / worth[-1] - 1, best / sum(worth) - 1)
