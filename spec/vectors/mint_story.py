"""Lives the story of a mint of the policy `pool` as page 07 has it, for the vectors."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from accounting import Earning, Settlement, Story
from layout import named
from settlement import Slice, allocate, prices_pool, value_of

OWNER = (named("commitment of ecash.pool"), 1)


@dataclass
class Keyset:
    """Is an epoch's keyset."""

    epoch: int
    tokens: list[int] = field(default_factory=list)
    gone: set[int] = field(default_factory=set)
    redeemed: int = 0
    paid: int = 0
    theta: int = 0
    lent: int = 0
    state: str = "open"

    @property
    def work(self) -> int:
        return sum(self.tokens)

    def to_json(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "state": self.state,
            "work": str(self.work),
            "theta_msat": self.theta,
            "paid_msat": self.paid,
        }


@dataclass
class Payment:
    """Is what a settlement did to the mint's books."""

    theta: int
    fee: int
    carry_in: int
    carry_out: int
    parts: dict[int, int]
    height: int
    stands: bool = True


class MintStory:
    """Is a mint over a ledger in which nobody else has work; units are hashes."""

    def __init__(self, name: str, **settings: int) -> None:
        self.name = name
        self.settings = {
            "confirmations": 3,
            "coinbase_maturity": 5,
            "advance_cap_sats": 0,
            "fee_ppm": 0,
            "fee_fixed_msat": 0,
            **settings,
        }
        self.ledger = Story(self.settings["confirmations"])
        self.tip = 100
        self.active: dict[str, int] = {}
        self.gone: dict[str, int] = {}
        self.keysets: dict[int, Keyset] = {}
        self.payments: dict[int, Payment] = {}
        self.books: dict[str, int] = defaultdict(int)
        self.events: list[dict[str, Any]] = []

    def post(self, **entries: int) -> None:
        assert sum(entries.values()) == 0
        for book, msat in entries.items():
            self.books[book] += msat

    def tell(self, event: str, **fields: Any) -> None:
        """Notes an event, and where everything is after it."""
        for keyset in self.keysets.values():
            if keyset.state in {"closed", "provisional"}:
                keyset.state = "provisional" if self.hope(keyset) else "closed"
        assert sum(self.books.values()) == 0
        self.events.append(
            {
                "event": event,
                **fields,
                "books": {book: msat for book, msat in sorted(self.books.items()) if msat},
                "keysets": [keyset.to_json() for _, keyset in sorted(self.keysets.items())],
            }
        )

    def hope(self, keyset: Keyset) -> bool:
        paid = {settlement.block.hash for settlement in self.ledger.standing()}
        return any(
            block.epoch >= keyset.epoch
            and block.hash not in paid
            and block.hash in {self.hash(name) for name in self.active}
            for block in self.ledger.blocks
        )

    def hash(self, block: str) -> bytes:
        return named(f"{self.name} {block}")

    # What happens.

    def mine(self, *exponents: int) -> None:
        epoch = self.ledger.epoch
        self.ledger.batch([Earning(OWNER, epoch, 2**z, 2**z) for z in exponents])
        keyset = self.keysets.setdefault(epoch, Keyset(epoch))
        keyset.tokens += [2**z for z in exponents]
        self.tell("mine", exponents=list(exponents))

    def block(self, name: str, value_sats: int) -> None:
        self.tip += 1
        self.active[name] = self.tip
        self.ledger.found(self.hash(name), self.tip, value_sats)
        for keyset in self.keysets.values():
            keyset.state = "closed" if keyset.state == "open" else keyset.state
        self.look()
        self.tell("block", name=name, value_sats=value_sats)

    def grow(self, blocks: int) -> None:
        for _ in range(blocks):
            self.tip += 1
            self.look()
        self.tell("grow", blocks=blocks)

    def orphan(self, name: str) -> None:
        self.gone[name] = self.active.pop(name)
        self.look()
        self.tell("orphan", name=name)

    def revive(self, name: str) -> None:
        self.active[name] = self.gone[name]
        self.look()
        self.tell("revive", name=name)

    def look(self) -> None:
        heights = {self.hash(name): height for name, height in self.active.items()}
        known = {block.hash: heights.get(block.hash) for block in self.ledger.blocks}
        depths = {
            block: None if height is None else self.tip - height + 1
            for block, height in known.items()
        }
        for settlement in self.ledger.look(depths):
            if settlement.reverses is None:
                self.pay(settlement)
            else:
                self.reverse(self.payments[settlement.reverses])

    def pay(self, settlement: Settlement) -> None:
        theta_sats = settlement.payouts.get(OWNER, 0)
        carry = self.books["carry"]
        paid = [
            keyset
            for keyset in self.keysets.values()
            if keyset.epoch <= max(settlement.epochs) and keyset.state in {"closed", "provisional"}
        ]
        terms = {name: self.settings[name] for name in ("fee_ppm", "fee_fixed_msat")}
        slices = [Slice(row.epoch, row.work, row.epoch, **terms) for row in paid]
        if not prices_pool(theta_sats, carry, slices):
            paid, slices = [], []
        found = allocate(theta_sats, carry, slices)
        parts = {row["number"]: row["msat"] for row in found["allocations"]}
        payment = Payment(
            theta_sats * 1000,
            found["fee_msat"],
            carry,
            found["carry_msat"],
            parts,
            settlement.block.height,
        )
        self.payments[settlement.id] = payment
        self.post(
            reward=-payment.theta,
            fee=payment.fee,
            carry=payment.carry_out - carry,
            keyset=sum(parts.values()),
        )
        for keyset in paid:
            keyset.theta += parts.get(keyset.epoch, 0)
            keyset.state = "final" if keyset.theta else "void"

    def reverse(self, payment: Payment) -> None:
        payment.stands = False
        self.post(
            reward=payment.theta,
            fee=-payment.fee,
            carry=payment.carry_in - payment.carry_out,
            keyset=-sum(payment.parts.values()),
        )
        for epoch, msat in payment.parts.items():
            keyset = self.keysets[epoch]
            keyset.theta -= msat
            keyset.state = "closed"
            fair = keyset.theta * keyset.redeemed // keyset.work
            loss = keyset.paid - fair - keyset.lent
            if loss > 0:
                keyset.lent += loss
                self.post(operator=-loss, keyset=loss)

    def redeem_after(self, keyset: Keyset) -> int:
        heights = [p.height for p in self.payments.values() if p.stands and keyset.epoch in p.parts]
        return max(heights) + self.settings["coinbase_maturity"] - 1

    def redeem(self, epoch: int, *tokens: int) -> None:
        """Redeems tokens of an epoch, named by their place among its shares."""
        keyset = self.keysets[epoch]
        units = sum(keyset.tokens[place] for place in tokens)
        fields: dict[str, Any] = {"epoch": epoch, "tokens": list(tokens)}
        error = self.refusal(keyset, units)
        if error is not None:
            self.tell("redeem", **fields, error=error)
            return
        assert not keyset.gone & set(tokens), "a token is redeemed once"
        sats = value_of(keyset.theta, keyset.work, units) // 1000
        keyset.paid += sats * 1000
        keyset.redeemed += units
        keyset.gone |= set(tokens)
        self.post(keyset=-sats * 1000, issued=sats * 1000)
        self.tell("redeem", **fields, sats=sats)

    def refusal(self, keyset: Keyset, units: int) -> str | None:
        if keyset.state in {"void", "expired"}:
            return "epoch-void" if keyset.state == "void" else "expired"
        if keyset.state != "final":
            return "epoch-open"
        msat = value_of(keyset.theta, keyset.work, units) // 1000 * 1000
        if not msat:
            return "amount-mismatch"
        if self.tip < self.redeem_after(keyset):
            advanced = sum(
                row.paid
                for row in self.keysets.values()
                if row.state == "final" and self.tip < self.redeem_after(row)
            )
            if advanced + msat > self.settings["advance_cap_sats"] * 1000:
                return "immature"
        return None

    def expire(self) -> None:
        """Lets the time of all final keysets run out."""
        for keyset in self.keysets.values():
            if keyset.state == "final":
                rest = keyset.theta - keyset.paid + keyset.lent
                back = min(rest, keyset.lent)
                self.post(keyset=-rest, operator=back, carry=rest - back)
                keyset.lent -= back
                keyset.state = "expired"
        self.tell("expire")

    def case(self) -> dict[str, Any]:
        return {
            "id": f"story-{self.name}",
            "inputs": self.settings,
            "expected": {"events": self.events},
        }
