"""Writes `04-epoch-accounting.json`: splits, stories of blocks and reorgs, and exports."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from accounting import WORK, Block, Earning, Owner, Rule, Story, canonical, split
from layout import Body, Draft, Share, commitment_of, mined, named, template, write
from layout import Owner as TagOwner
from secp256k1 import public_key, sign, tagged_hash
from value import cap, price, target_of

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = named("msp secret")
MSP_KEY = public_key(SECRET)
COIN = 100_000_000
ALICE: Owner = (commitment_of("alice", named("salt of alice", 16)), 0)
BOB: Owner = (commitment_of("bob", named("salt of bob", 16)), 0)
BOB_ECASH: Owner = (BOB[0], 1)
CAROL: Owner = (commitment_of("carol", named("salt of carol", 16)), 2)


def splits() -> list[dict[str, Any]]:
    equal = [(ALICE, 1), (BOB, 1), (CAROL, 1)]
    crowd = [((named(f"owner {i}"), i % 3), 2 ** (i % 40)) for i in range(40)]
    huge = [(ALICE, 2**120), (BOB, 2**121), (CAROL, 2**122 - 1)]
    stories: dict[str, tuple[int, list[tuple[Owner, int]], str]] = {
        "thirds-of-a-hundred": (100, equal, "a"),
        "thirds-by-another-block": (100, equal, "b"),
        "thirds-of-two": (2, equal, "a"),
        "thirds-of-one": (1, equal, "c"),
        "nothing-to-split": (0, equal, "a"),
        "two-rails-of-one-owner": (3, [(BOB, 1), (BOB_ECASH, 1)], "a"),
        "three-miners": (312_500_000, [(ALICE, 7 << 10), (BOB, 3 << 12), (CAROL, 1 << 13)], "a"),
        "larger-remainder-first": (10, [(ALICE, 49), (BOB, 26), (CAROL, 25)], "a"),
        "one-owner": (5_000_000_000, [(ALICE, 2**64 + 1)], "a"),
        "owner-without-work": (7, [(ALICE, 0), (BOB, 5)], "a"),
        "one-hash-among-many": (COIN, [(ALICE, 1), (BOB, 2**100)], "a"),
        "products-of-170-bits": (5_000_000_000, huge, "a"),
        "all-coins": (2_100_000_000_000_000, [*huge, (BOB_ECASH, 2**90 + 7)], "b"),
        "a-crowd": (6_250_000_000, crowd, "d"),
        "no-work": (5_000_000_000, [(ALICE, 0), (BOB, 0)], "a"),
        "nobody": (5_000_000_000, [], "a"),
    }
    cases = []
    for name, (sats, claims, block) in stories.items():
        block_hash = named(f"block {block}")
        parts = split(sats, claims, block_hash)
        assert parts is None or sum(parts) == sats
        cases.append(
            {
                "id": f"split-{name}",
                "inputs": {
                    "sats": sats,
                    "block": block_hash[::-1].hex(),
                    "claims": [
                        {"commitment": commitment.hex(), "rail": rail, "weight": str(weight)}
                        for (commitment, rail), weight in claims
                    ],
                },
                "expected": {"parts": parts},
            }
        )
    return cases


class Telling:
    """Writes a story down while it is lived."""

    def __init__(self, name: str, maturity: int = 3) -> None:
        self.name = name
        self.story = Story(maturity)
        self.events: list[dict[str, Any]] = []
        self.hashes: dict[str, bytes] = {}

    def batch(
        self, *shares: tuple[Owner, int, int], prices: tuple[int, ...] = (), rule: Rule = (1, 32, 0)
    ) -> None:
        """Takes shares as owner, epoch of the tag, and exponent; a price is 3 if not said."""
        priced = list(zip(shares, prices or (3,) * len(shares), strict=True))
        earned = [Earning(owner, epoch, 2**z, 2**z * each) for (owner, epoch, z), each in priced]
        self.story.batch(earned, rule)
        rows = [
            {
                "commitment": owner[0].hex(),
                "rail": owner[1],
                "epoch": epoch,
                "exponent": z,
                "price": str(each),
            }
            for (owner, epoch, z), each in priced
        ]
        self.events.append({"event": "batch", "weight": list(rule), "shares": rows})

    def found(self, block: str, height: int, value_sats: int) -> None:
        self.hashes[block] = named(f"{self.name} {block}")
        self.story.found(self.hashes[block], height, value_sats)
        shown = self.hashes[block][::-1].hex()
        self.events.append(
            {
                "event": "block",
                "hash": shown,
                "height": height,
                "value_sats": value_sats,
                "open_epoch": self.story.epoch,
            }
        )

    def look(self, **active: int | None) -> None:
        posted = self.story.look({self.hashes[name]: n for name, n in active.items()})
        self.events.append(
            {
                "event": "look",
                "active": {self.hashes[name][::-1].hex(): n for name, n in active.items()},
                "posted": [settlement.to_json() for settlement in posted],
                "epoch_min": self.story.epoch_min,
            }
        )

    def case(self) -> dict[str, Any]:
        story = self.story
        return {
            "id": f"story-{self.name}",
            "inputs": {"maturity_blocks": story.maturity},
            "events": self.events,
            "expected": {
                "carry": story.carry,
                "balances": [
                    {"commitment": commitment.hex(), "rail": rail, "sats": sats}
                    for (commitment, rail), sats in sorted(story.balances().items())
                ],
                "sums": [
                    {
                        "epoch": epoch,
                        "commitment": commitment.hex(),
                        "rail": rail,
                        "count": count,
                        "work": str(work),
                        "value": str(value),
                    }
                    for (epoch, (commitment, rail)), (count, work, value) in sorted(
                        story.sums.items()
                    )
                ],
            },
        }


def quiet_stories() -> list[Telling]:
    """Stories in which no block is lost."""
    plain = Telling("a-block-matures")
    plain.batch((ALICE, 1, 10), (BOB, 1, 11))
    plain.found("one", 101, 50 * COIN)
    plain.look(one=1)
    plain.look(one=2)
    plain.look(one=3)
    plain.look(one=4)

    late = Telling("late-shares")
    late.batch((ALICE, 1, 10))
    late.found("one", 101, 50 * COIN)
    late.batch((ALICE, 1, 3), (BOB, 2, 10))
    late.look(one=3)
    late.batch((BOB, 1, 12), (BOB, 2, 12), (CAROL, 2, 4))
    late.found("two", 140, 50 * COIN)
    late.look(one=42, two=3)

    rails = Telling("rails-are-paid-apart")
    rails.batch((BOB, 1, 5), (BOB_ECASH, 1, 5), (CAROL, 1, 5))
    rails.found("one", 101, 100)
    rails.look(one=3)

    nobody = Telling("a-block-without-shares")
    nobody.found("one", 101, 7)
    nobody.look(one=3)
    nobody.batch((ALICE, 2, 0))
    nobody.found("two", 102, 50 * COIN)
    nobody.look(one=4, two=3)

    order = Telling("paid-in-the-order-of-epochs")
    order.batch((ALICE, 1, 4))
    order.found("one", 101, 11)
    order.batch((BOB, 2, 4))
    order.found("two", 102, 13)
    order.look(two=3, one=4)

    again = Telling("the-same-block-told-twice")
    again.batch((ALICE, 1, 4))
    again.found("one", 101, 11)
    again.found("one", 101, 11)
    again.look(one=3)
    return [plain, late, rails, nobody, order, again]


def value_stories() -> list[Telling]:
    """Stories in which templates are not all worth the same."""
    prices = Telling("templates-of-different-worth")
    prices.batch((ALICE, 1, 10), (BOB, 1, 10), (CAROL, 1, 10), prices=(1_000, 1_004, 980))
    prices.batch((ALICE, 1, 12), prices=(0,))
    prices.found("one", 101, 50 * COIN)
    prices.look(one=3)

    worthless = Telling("templates-that-pay-nothing")
    worthless.batch((ALICE, 1, 10), prices=(0,))
    worthless.found("one", 101, 50 * COIN)
    worthless.look(one=3)
    worthless.batch((BOB, 2, 4), (ALICE, 2, 20), prices=(1, 0))
    worthless.found("two", 102, 50 * COIN)
    worthless.look(one=4, two=3)

    level = Telling("weighed-by-difficulty")
    level.batch((ALICE, 1, 10), (BOB, 1, 11), prices=(77, 77), rule=(2, 32, 0))
    level.found("one", 101, 50 * COIN)
    level.look(one=3)

    grown = Telling("an-epoch-that-began-without-prices")
    grown.batch((ALICE, 1, 10), prices=(0,), rule=WORK)
    grown.batch((BOB, 1, 11), prices=(10**20,))
    grown.found("one", 101, 50 * COIN)
    grown.look(one=3)
    grown.batch((ALICE, 2, 10), (BOB, 2, 10), prices=(2, 1))
    grown.found("two", 102, 50 * COIN)
    grown.look(one=4, two=3)

    turned = Telling("an-epoch-in-which-the-mode-was-changed")
    turned.batch((ALICE, 1, 10), prices=(1_000,))
    turned.batch((BOB, 1, 11), prices=(5,), rule=(2, 32, 0))
    turned.found("one", 101, 50 * COIN)
    turned.batch((BOB, 2, 10), (ALICE, 2, 10), prices=(5, 5), rule=(2, 32, 0))
    turned.found("two", 102, 50 * COIN)
    turned.look(one=4, two=3)
    return [prices, worthless, level, grown, turned]


def reorg_stories() -> list[Telling]:
    """Stories in which blocks leave the active chain, and come back."""
    orphan = Telling("orphaned-before-it-paid")
    orphan.batch((ALICE, 1, 8))
    orphan.found("one", 101, 50 * COIN)
    orphan.look(one=None)
    orphan.batch((BOB, 2, 9))
    orphan.found("two", 102, 25 * COIN)
    orphan.look(one=None, two=3)

    undone = Telling("orphaned-after-it-paid")
    undone.batch((ALICE, 1, 8))
    undone.found("one", 101, 50 * COIN)
    undone.look(one=3)
    undone.look(one=None)
    undone.batch((BOB, 2, 9))
    undone.found("two", 101, 25 * COIN)
    undone.look(one=None, two=3)

    back = Telling("orphaned-and-back-before-the-next")
    back.batch((ALICE, 1, 8))
    back.found("one", 101, 50 * COIN)
    back.look(one=3)
    back.look(one=None)
    back.look(one=2)
    back.look(one=5)

    twice = Telling("orphaned-and-back-after-the-next")
    twice.batch((ALICE, 1, 8))
    twice.found("one", 101, 50 * COIN)
    twice.look(one=3)
    twice.look(one=None)
    twice.batch((BOB, 2, 9))
    twice.found("two", 101, 25 * COIN)
    twice.look(one=None, two=3)
    twice.look(one=6, two=None)

    both = Telling("two-orphans-and-both-back")
    both.batch((ALICE, 1, 8))
    both.found("one", 101, 50 * COIN)
    both.batch((BOB, 2, 8))
    both.found("two", 102, 50 * COIN)
    both.look(one=4, two=3)
    both.look(one=None, two=None)
    both.look(one=5, two=4)

    return [orphan, undone, back, twice, both, debt_story()]


def debt_story() -> Telling:
    """A block whose reward was carried, and paid, is orphaned: the next ones make it good."""
    debt = Telling("a-carry-that-is-undone")
    debt.found("one", 101, 50)
    debt.look(one=3)
    debt.batch((ALICE, 2, 0), (BOB, 2, 1))
    debt.found("two", 102, 20)
    debt.look(one=4, two=3)
    debt.look(one=None, two=3)
    debt.batch((CAROL, 3, 0))
    debt.found("three", 103, 30)
    debt.look(one=None, two=4, three=3)
    debt.batch((CAROL, 4, 0))
    debt.found("four", 104, 100)
    debt.look(one=None, two=5, three=4, four=3)

    return debt


def tag_owner(owner: Owner, epoch: int) -> TagOwner:
    return TagOwner(owner[0], epoch, owner[1])


def share(owner: Owner, epoch: int, z: int, number: int, body: Body) -> Share:
    extranonce = number.to_bytes(4, "big") + named(f"rolled {number}", 8)
    return mined(MSP_KEY, Share(tag_owner(owner, epoch), body, z, extranonce=extranonce))


POOL_SCRIPT = bytes([0, 20]) + named("pool script", 20)
MINUTE_MS = 60_000


class Books:
    """Makes batches and an export of them."""

    def __init__(self, rule: Rule = (1, 32, 0), reference: int = 20_000) -> None:
        self.rule, self.reference = rule, reference
        self.minute = 0
        self.quotes: dict[tuple[bytes, int], dict[str, Any]] = {}
        self.story = Story(3)
        self.drafts: list[Draft] = []
        self.events: list[dict[str, Any]] = []

    def found(self, solving: bytes, height: int, value_sats: int) -> None:
        self.story.found(solving, height, value_sats)
        shown = solving[::-1].hex()
        self.events.append(
            {"event": "block", "hash": shown, "height": height, "value_sats": value_sats}
        )

    def look(self, active: dict[bytes, int | None]) -> None:
        self.story.look(active)
        shown = {block[::-1].hex(): n for block, n in active.items()}
        self.events.append({"event": "look", "active": shown})

    def void(self, body: Body, reason: str) -> None:
        self.story.void(body.digest(), reason)
        self.events.append({"event": "void", "template": body.digest().hex(), "reason": reason})

    def priced(self, share: Share) -> Share:
        """Gives a share the price of its template, and notes how it came about."""
        body, (mode, scale, _) = share.body, self.rule
        if self.rule == WORK:
            return replace(share, price=0)
        paid = int.from_bytes(body.before_tag[5:13], "little")
        most = cap(body.height, scale, self.reference)
        target = target_of(body.nbits)
        each = price(mode, scale, target, body.height, paid, most)
        self.quotes[body.digest(), each] = {
            "paid_sats": paid,
            "cap_sats": most,
            "reference_sats": self.reference,
            "target": target.to_bytes(32).hex(),
        }
        return replace(share, price=each)

    def batch(self, *given: Share) -> None:
        shares = [self.priced(share) for share in given]
        previous = self.drafts[-1].hash() if self.drafts else bytes(32)
        draft = Draft(
            SECRET,
            shares,
            len(self.drafts),
            previous,
            time_ms=1_790_000_040_000 + MINUTE_MS * self.minute,
            epoch_min=self.story.epoch_min,
            version=1 if self.rule == WORK else 2,
            weight=self.rule,
        )
        self.drafts.append(draft)
        self.story.batch([self.earning(draft, share) for share in shares], self.rule)
        self.events.append(
            {
                "event": "batch",
                "blob": draft.blob().hex(),
                "bodies": draft.body_map(),
                "quotes": self.quote_rows({(s.body.digest(), s.price) for s in shares}),
            }
        )

    def earning(self, draft: Draft, share: Share) -> Earning:
        return Earning(
            (share.owner.commitment, share.owner.rail),
            share.owner.epoch,
            2**share.z,
            0 if draft.version == 1 else draft.value_of(share),
            share.body.digest(),
            (draft.time_ms // MINUTE_MS, share.body.prev_hash),
        )

    def quote_rows(self, templates: set[tuple[bytes, int]]) -> list[dict[str, Any]]:
        return [
            {"digest": digest.hex(), "price": str(each), **self.quotes[digest, each]}
            for digest, each in sorted(templates)
            if (digest, each) in self.quotes
        ]

    def template_rows(self, drafts: list[Draft]) -> list[dict[str, Any]]:
        """Returns the claimed entries of the batches' tables."""
        nothing = dict.fromkeys(("paid_sats", "cap_sats", "reference_sats", "target"))
        bare = {
            share.body.digest() for draft in drafts if draft.version == 1 for share in draft.shares
        }
        priced = {
            (share.body.digest(), share.price)
            for draft in drafts
            if draft.version == 2
            for share in draft.shares
        }
        rows = [{"digest": digest.hex(), "price": None, **nothing} for digest in bare]
        rows += self.quote_rows(priced)
        return sorted(rows, key=lambda row: (row["digest"], int(row["price"] or -1)))

    def claims(self, epoch: int, first: int, last: int, state: str) -> dict[str, Any]:
        posted = [s for s in self.story.settlements if epoch in s.epochs]
        scope = {epoch}.union(*(settlement.epochs for settlement in posted))
        drafts = self.drafts[first : last + 1]
        blocks = {settlement.block.hash for settlement in posted}
        shown = [b for b in self.story.blocks if b.hash in blocks or b.epoch == epoch]
        bodies = {body.digest() for draft in drafts for body in draft.bodies}
        voids = [void for void in self.story.voids if void.template in bodies]
        return {
            "format": "radpool-epoch/2",
            "msp_key": MSP_KEY.hex(),
            "epoch": epoch,
            "state": state,
            "batches": [{"sequence": d.sequence, "hash": d.hash().hex()} for d in drafts],
            "templates": self.template_rows(drafts),
            "scripts": [POOL_SCRIPT.hex()] if self.quotes else [],
            "weights": [
                {"epoch": number, "mode": mode, "scale": scale, "base": base}
                for number, (mode, scale, base) in sorted(self.story.rules)
                if number in scope
            ],
            "voids": [void.to_json() for void in sorted(voids, key=lambda void: void.template)],
            "sums": [
                {
                    "epoch": number,
                    "commitment": commitment.hex(),
                    "rail": rail,
                    "count": count,
                    "work": str(work),
                    "value": str(value),
                }
                for (number, (commitment, rail)), (count, work, value) in sorted(
                    self.story.sums.items()
                )
                if number in scope
            ],
            "blocks": [block_row(block) for block in shown],
            "settlements": [settlement.to_json() for settlement in posted],
        }

    def files(self, claims: dict[str, Any]) -> dict[str, bytes]:
        named_batches = {row["sequence"] for row in claims["batches"]}
        files = {"epoch.json": signed(claims)}
        for draft in self.drafts:
            if draft.sequence in named_batches:
                files[f"batches/{draft.sequence:010d}.bin"] = draft.blob()
                for body in draft.bodies:
                    files[f"templates/{body.digest().hex()}.bin"] = body.encode()
        return files


def block_row(block: Block) -> dict[str, Any]:
    return {
        "hash": block.hash[::-1].hex(),
        "height": block.height,
        "epoch": block.epoch,
        "value_sats": block.value_sats,
    }


def signed(claims: dict[str, Any], secret: bytes = SECRET) -> bytes:
    signature = sign(secret, tagged_hash("radpool/epoch", canonical(claims)))
    return canonical({"claims": claims, "signature": signature.hex()})


def export(name: str, books: Books, claims: dict[str, Any]) -> dict[str, Any]:
    standing = [s for s in books.story.standing() if claims["epoch"] in s.epochs]
    payouts: dict[Owner, int] = {}
    for settlement in standing:
        for owner, sats in settlement.payouts.items():
            payouts[owner] = payouts.get(owner, 0) + sats
    own = [row for row in claims["sums"] if row["epoch"] == claims["epoch"]]
    first = [row["sequence"] for row in claims["batches"]]
    return {
        "id": f"export-{name}",
        "inputs": {
            "secret_key": SECRET.hex(),
            "maturity_blocks": books.story.maturity,
            "events": books.events,
            "files": {path: data.hex() for path, data in books.files(claims).items()},
            "claims": canonical(claims).hex(),
            "digest": tagged_hash("radpool/epoch", canonical(claims)).hex(),
        },
        "expected": {
            "epoch": claims["epoch"],
            "state": claims["state"],
            "batches": len(first),
            "shares": sum(len(books.drafts[n].shares) for n in first),
            "work": str(sum(int(row["work"]) for row in own)),
            "value": str(sum(int(row["value"]) for row in own)),
            "value_sats": sum(settlement.value_sats for settlement in standing),
            "payouts": [
                {"commitment": commitment.hex(), "rail": rail, "sats": sats}
                for (commitment, rail), sats in sorted(payouts.items())
            ],
        },
    }


def paid_books() -> Books:
    """One block pays epoch 1, of which a share came late; the block is a share of the epoch."""
    books = Books()
    body, next_body = template(), template(height=102, prev_hash=named("tip"))
    books.batch(share(ALICE, 1, 3, 1, body), share(BOB, 1, 5, 2, body))
    solving = share(ALICE, 1, 6, 3, body)
    books.batch(share(CAROL, 1, 0, 4, body), solving)
    books.found(solving.hash(MSP_KEY), 101, 5_000_000_000)
    books.batch(share(BOB, 1, 2, 5, body), share(BOB, 2, 4, 6, next_body))
    books.look({solving.hash(MSP_KEY): 3})
    books.batch(share(ALICE, 1, 4, 7, body), share(ALICE, 2, 4, 8, next_body))
    return books


def undone_books() -> Books:
    """The block of epoch 1 is orphaned after it paid; that of epoch 2 pays both."""
    books = Books()
    body = template()
    one = share(ALICE, 1, 4, 21, body)
    books.batch(one, share(BOB_ECASH, 1, 3, 22, body))
    books.found(one.hash(MSP_KEY), 101, 5_000_000_000)
    books.look({one.hash(MSP_KEY): 3})
    other = template(value_sats=2_500_000_001)
    books.batch(share(BOB, 2, 5, 23, other), share(ALICE, 1, 2, 24, body))
    books.look({one.hash(MSP_KEY): None})
    two = share(CAROL, 2, 4, 25, other)
    books.batch(two)
    books.found(two.hash(MSP_KEY), 101, 2_500_000_001)
    books.look({one.hash(MSP_KEY): None, two.hash(MSP_KEY): 3})
    return books


def priced_books() -> Books:
    """Templates that collect more fees, too many, or none; a cap at a quarter of the reference."""
    books = Books(reference=400_000)
    rich, stuffed = template(value_sats=5_000_450_000), template(value_sats=9_000_000_000)
    empty = template()
    books.batch(share(ALICE, 1, 4, 61, rich), share(BOB, 1, 4, 62, empty))
    books.reference = 100_000
    solving = share(CAROL, 1, 4, 63, stuffed)
    books.batch(solving, share(ALICE, 1, 3, 64, rich))
    books.found(solving.hash(MSP_KEY), 101, 9_000_000_000)
    books.look({solving.hash(MSP_KEY): 3})
    return books


def sliced_books() -> Books:
    """Three slices: two minutes on one tip, and another tip; in one there are no fees."""
    books = Books(rule=(3, 32, 0), reference=6_000_000)
    rich, half = template(value_sats=5_006_000_000), template(value_sats=5_003_000_000)
    other = template(height=102, prev_hash=named("tip"))
    books.batch(share(ALICE, 1, 3, 71, rich), share(BOB, 1, 4, 72, half))
    books.minute = 1
    solving = share(BOB, 1, 2, 73, rich)
    books.batch(solving, share(ALICE, 1, 2, 74, half), share(CAROL, 1, 1, 75, other))
    books.found(solving.hash(MSP_KEY), 101, 5_006_000_000)
    books.look({solving.hash(MSP_KEY): 3})
    return books


def voided_books() -> Books:
    """A template is voided before its epoch is paid; one that was paid stays paid."""
    books = Books()
    body, hidden = template(), template(value_sats=5_000_010_000)
    solving = share(ALICE, 1, 4, 81, body)
    books.batch(share(BOB, 1, 5, 82, hidden), solving, share(BOB, 1, 2, 83, body))
    books.found(solving.hash(MSP_KEY), 101, 5_000_000_000)
    books.void(hidden, "its transactions were not shown when they were asked for")
    books.look({solving.hash(MSP_KEY): 3})
    late = share(ALICE, 2, 3, 84, body)
    third = template(value_sats=4_999_999_999)
    books.batch(late, share(BOB, 2, 3, 85, hidden), share(CAROL, 2, 3, 86, third))
    books.found(late.hash(MSP_KEY), 101, 5_000_000_000)
    books.void(body, "too late for epoch 1")
    books.look({solving.hash(MSP_KEY): 4, late.hash(MSP_KEY): 3})
    return books


def grown_books() -> Books:
    """An epoch whose first batch is of version 1 is split by work, the next by value."""
    books = Books(rule=WORK)
    body, rich = template(), template(value_sats=5_000_050_000)
    books.batch(share(ALICE, 1, 4, 91, body), share(BOB, 1, 3, 92, body))
    books.rule = (1, 32, 0)
    solving = share(BOB, 1, 3, 93, rich)
    books.batch(solving, share(ALICE, 1, 1, 94, body))
    books.found(solving.hash(MSP_KEY), 101, 5_000_050_000)
    books.look({solving.hash(MSP_KEY): 3})
    return books


def exports_1() -> list[dict[str, Any]]:
    """An export as it was before there were prices."""
    books = Books(rule=WORK)
    body = template()
    solving = share(ALICE, 1, 4, 95, body)
    books.batch(solving, share(BOB, 1, 3, 96, body))
    books.found(solving.hash(MSP_KEY), 101, 5_000_000_000)
    books.look({solving.hash(MSP_KEY): 3})
    claims = books.claims(1, 0, 0, "paid")
    for name in ("scripts", "weights", "voids"):
        del claims[name]
    claims["format"] = "radpool-epoch/1"
    claims["templates"] = [row["digest"] for row in claims["templates"]]
    claims["sums"] = [
        {name: value for name, value in row.items() if name != "value"} for row in claims["sums"]
    ]
    case = export(
        "of-format-1", books, {**claims, "sums": [{**r, "value": "0"} for r in claims["sums"]]}
    )
    case["inputs"]["files"]["epoch.json"] = signed(claims).hex()
    return [{"id": case["id"], "inputs": case["inputs"], "expected": case["expected"]}]


def exports() -> list[dict[str, Any]]:
    paid, undone = paid_books(), undone_books()
    unsolved = Books()
    unsolved.batch(share(ALICE, 1, 4, 41, template()))
    unsolved.found(named("a block on the chain"), 101, 77)
    unsolved.look({named("a block on the chain"): 3})
    quiet = Books()
    return [
        export("paid", paid, paid.claims(1, 0, 2, "paid")),
        export("open", paid, paid.claims(2, 2, 3, "open")),
        export("undone-and-paid-together", undone, undone.claims(1, 0, 2, "paid")),
        export("block-not-among-the-shares", unsolved, unsolved.claims(1, 0, 0, "paid")),
        export("empty", quiet, quiet.claims(1, 0, -1, "open")),
        *priced_exports(),
    ]


def priced_exports() -> list[dict[str, Any]]:
    priced, sliced, voided, grown = priced_books(), sliced_books(), voided_books(), grown_books()
    return [
        export("of-three-templates", priced, priced.claims(1, 0, 1, "paid")),
        export("by-slices", sliced, sliced.claims(1, 0, 1, "paid")),
        export("with-a-void", voided, voided.claims(1, 0, 0, "paid")),
        export("with-a-void-that-comes-late", voided, voided.claims(2, 1, 1, "paid")),
        export("begun-without-prices", grown, grown.claims(1, 0, 1, "paid")),
    ]


def refusal(name: str, base: str, changed: dict[str, bytes | None]) -> dict[str, Any]:
    """Makes an export that differs from another in some files; None removes one."""
    files = {path: None if data is None else data.hex() for path, data in changed.items()}
    return {
        "id": f"refused-{name}",
        "inputs": {"base": f"export-{base}", "files": files},
        "expected_error": "refused",
    }


def altered_exports() -> list[dict[str, Any]]:
    """Exports that were altered behind the MSP's back."""
    books = paid_books()
    honest = books.files(books.claims(1, 0, 2, "paid"))
    document = honest["epoch.json"]
    first, last = "batches/0000000000.bin", "batches/0000000002.bin"
    body = next(path for path in honest if path.startswith("templates/"))
    forged = signed(books.claims(1, 0, 2, "paid"), named("another secret"))

    def flipped(path: str) -> dict[str, bytes | None]:
        blob = honest[path]
        return {path: blob[:-70] + bytes([blob[-70] ^ 1]) + blob[-69:]}

    changes: dict[str, dict[str, bytes | None]] = {
        "document-altered": {"epoch.json": document.replace(b"101", b"102")},
        "document-spaced": {"epoch.json": document.replace(b",", b", ")},
        "document-of-another-key": {"epoch.json": forged},
        "document-empty": {"epoch.json": b""},
        "batch-missing": {"batches/0000000001.bin": None},
        "batch-unclaimed": {"batches/0000000003.bin": books.drafts[3].blob()},
        "batch-exchanged": {"batches/0000000001.bin": books.drafts[0].blob()},
        "file-unclaimed": {"readme.txt": b"hello"},
        "body-missing": {body: None},
        "body-altered": {body: honest[body][:-1] + b"\x01"},
        "first-batch-altered": flipped(first),
        "last-batch-altered": flipped(last),
    }
    return [refusal(name, "paid", changed) for name, changed in changes.items()]


Change: TypeAlias = "Callable[[dict[str, Any]], object]"


def put(*place: Any, value: Any) -> Change:
    """Makes a change of one value; `value` may be a function of the old one."""

    def change(claims: dict[str, Any]) -> None:
        target: Any = claims
        for step in place[:-1]:
            target = target[step]
        target[place[-1]] = value(target[place[-1]]) if callable(value) else value

    return change


def move_a_sat(claims: dict[str, Any]) -> None:
    payouts = claims["settlements"][0]["payouts"]
    payouts[0]["sats"] -= 1
    payouts[1]["sats"] += 1


def pay_again(claims: dict[str, Any]) -> None:
    again = {**claims["settlements"][0], "id": 2}
    claims["settlements"].append(again)


def redrawn(name: str, number: int, **wrong: Any) -> dict[str, Any]:
    """An export in which everything follows from one batch whose head is wrong."""
    books = paid_books()
    for draft in books.drafts[number:3]:
        chain: dict[str, Any] = {
            "previous": draft.previous,
            "epoch_min": draft.epoch_min,
            "time_ms": draft.time_ms,
        }
        if draft.sequence == number:
            chain |= wrong
        elif draft.sequence > 0:
            chain["previous"] = books.drafts[draft.sequence - 1].hash()
        books.drafts[draft.sequence] = Draft(SECRET, draft.shares, draft.sequence, **chain)
    claims = books.claims(1, 0, 2, "paid")
    return refusal(name, "paid", {**books.files(claims)})


PAID_LIES: dict[str, Change] = {
    "a-sat-moved": move_a_sat,
    "a-payout-missing": lambda claims: claims["settlements"][0]["payouts"].pop(),
    "carry-kept": put("settlements", 0, "carry_out", value=1),
    "carry-invented": put("settlements", 0, "carry_in", value=1),
    "value-hidden": put("blocks", 0, "value_sats", value=4_999_999_999),
    "height-wrong": put("blocks", 0, "height", value=102),
    "block-value-unlike-payment": put("settlements", 0, "value_sats", value=1),
    "block-missing": put("blocks", value=[]),
    "share-not-counted": put("sums", 0, "count", value=lambda count: count - 1),
    "work-overstated": put("sums", 0, "work", value=lambda work: str(int(work) + 1)),
    "owner-left-out": lambda claims: claims["sums"].pop(),
    "owner-repeated": lambda claims: claims["sums"].append(claims["sums"][0]),
    "first-batch-unclaimed": lambda claims: claims["batches"].pop(0),
    "batch-hash-wrong": put("batches", 1, "hash", value=bytes(32).hex()),
    "template-unclaimed": lambda claims: claims["templates"].pop(),
    "called-open": put("state", value="open"),
    "called-something": put("state", value="settled"),
    "other-format": put("format", value="radpool-epoch/3"),
    "older-format": put("format", value="radpool-epoch/1"),
    "value-overstated": put("sums", 0, "value", value=lambda value: str(int(value) + 1)),
    "value-as-a-number": put("sums", 0, "value", value=int),
    "price-unlike-the-batch": put("templates", 0, "price", value="1"),
    "price-missing": put("templates", 0, "price", value=None),
    "paid-more-than-the-coinbase": put("templates", 0, "paid_sats", value=5_000_000_001),
    "cap-of-other-fees": put("templates", 0, "cap_sats", value=5_000_070_001),
    "reference-of-another-cap": put("templates", 0, "reference_sats", value=300_000),
    "target-easier-than-nbits": put("templates", 0, "target", value="ff" * 32),
    "target-of-another-price": put("templates", 0, "target", value="00" + "ff" * 31),
    "half-explained": put("templates", 0, "cap_sats", value=None),
    "script-of-nobody": put("scripts", value=["51"]),
    "script-repeated": lambda claims: claims["scripts"].append(claims["scripts"][0]),
    "weights-left-out": put("weights", value=[]),
    "weight-of-another-mode": put("weights", 0, "mode", value=2),
    "void-of-nothing": put(
        "voids",
        value=[{"template": "11" * 32, "settlement": 0, "epoch_min": 1, "reason": "none"}],
    ),
    "other-epoch": put("epoch", value=2),
    "settled-before-its-last-batch": put("settlements", 0, "sequence", value=1),
    "work-as-a-number": put("sums", 0, "work", value=int),
    "sats-as-a-float": put("blocks", 0, "value_sats", value=float),
    "upper-case": put("msp_key", value=str.upper),
    "no-settlements": lambda claims: claims.pop("settlements"),
    "no-epochs": put("settlements", 0, "epochs", value=[]),
    "payment-twice": lambda claims: claims["settlements"].append(claims["settlements"][0]),
    "paid-by-two-settlements": pay_again,
}

UNDONE_LIES: dict[str, Change] = {
    "reversal-keeps-a-sat": put("settlements", 1, "payouts", 0, "sats", value=-1),
    "reversal-of-nothing": put("settlements", 1, "reverses", value=7),
    "reversal-left-out": lambda claims: claims["settlements"].pop(1),
    "reversal-of-other-epochs": put("settlements", 1, "epochs", value=[1, 2]),
    "epoch-not-merged": put("settlements", 2, "epochs", value=[1]),
}


def void_the_first(claims: dict[str, Any]) -> None:
    """Voids a template whose shares the payment has counted."""
    paid = next(row for row in claims["templates"] if row["paid_sats"] == 5_000_000_000)
    void = {"template": paid["digest"], "settlement": 0, "epoch_min": 1, "reason": "none"}
    claims["voids"].append(void)


VOID_LIES: dict[str, Change] = {
    "void-left-out": put("voids", value=[]),
    "void-told-later-than-paid": put("voids", 0, "settlement", value=1),
    "void-of-later-epochs": put("voids", 0, "epoch_min", value=2),
    "void-invented": void_the_first,
}


def refused_exports() -> list[dict[str, Any]]:
    """Exports that differ from `export-paid` or `export-undone-and-paid-together` in one thing."""
    cases = altered_exports()
    for base, books_of, lies in (
        ("paid", paid_books, PAID_LIES),
        ("undone-and-paid-together", undone_books, UNDONE_LIES),
    ):
        for name, change in lies.items():
            claims = books_of().claims(1, 0, 2, "paid")
            change(claims)
            cases.append(refusal(name, base, {"epoch.json": signed(claims)}))
    for name, change in VOID_LIES.items():
        claims = voided_books().claims(1, 0, 0, "paid")
        change(claims)
        cases.append(refusal(name, "with-a-void", {"epoch.json": signed(claims)}))
    cases.append(redrawn("chain-broken", 1, previous=named("elsewhere")))
    cases.append(redrawn("chain-begins-elsewhere", 0, previous=named("elsewhere")))
    cases.append(redrawn("epoch-min-too-early", 2, epoch_min=2))
    cases.append(redrawn("epoch-min-falls", 2, epoch_min=0))
    return cases


write(
    "04-epoch-accounting.json",
    [
        "Page 04. Block hashes are displayed hex; digests, keys and commitments are in byte order.",
        "A refused export is its base with the files exchanged, or removed where null stands.",
    ],
    {
        "splits": splits(),
        "stories": [
            telling.case() for telling in quiet_stories() + value_stories() + reorg_stories()
        ],
        "exports": exports(),
        "exports_1": exports_1(),
        "refused_exports": refused_exports(),
    },
)
