"""Checks what became of the demo's tokens: each check compares what two parts say of the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from radpool_sv2.demo.check import Outcome, each_payment, fits_told
from radpool_sv2.demo.stage import UNIT_EXPONENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from radpool_sv2.demo.books import Epoch
    from radpool_sv2.demo.stage import Miner
    from radpool_sv2.demo.tokens import Keyset, Records, Redemption, Restored, Tokens

__all__ = ["check_links", "check_redemptions", "check_restored", "check_tokens"]

MSAT: int = 1_000


def check_tokens(
    miners: Sequence[Miner],
    held: Mapping[str, Sequence[Tokens]],
    keysets: Sequence[Keyset],
    epochs: Sequence[Epoch],
) -> Iterator[Outcome]:
    """Compares shares with tokens, in each wallet and at the mint."""
    for miner in miners:
        tokens = sum(each.tokens for each in held[miner.plan.name])
        units = sum(each.units for each in held[miner.plan.name])
        told = int(miner.figures.get("accepted", 0))
        work = int(miner.figures.get("accepted_hashes", 0))
        yield Outcome(
            fits_told(tokens, units << UNIT_EXPONENT, [miner]),
            f"{miner.plan.name} has a token for every share, and each proves that the mint made it",
            f"{told} shares, {work:,} hashes; "
            f"{tokens} tokens, {units:,} units of 2^{UNIT_EXPONENT}",
        )
    issued = sum(keyset.work for keyset in keysets) << UNIT_EXPONENT
    earned = sum(part.work for epoch in each_payment(epochs) for part in epoch.parts)
    yield Outcome(
        0 < issued <= earned,
        "the mint has issued no more work than shares have earned",
        f"issued {issued:,} hashes, earned {earned:,}",
    )


def check_restored(name: str, restored: Restored) -> Outcome:
    """Compares a wallet with what its words brought back."""
    return Outcome(
        bool(restored.before) and restored.after == restored.before,
        f"the words alone brought back every token of {name}",
        f"{sum(each.tokens for each in restored.before)} tokens before, "
        f"{sum(each.tokens for each in restored.after)} after",
    )


def check_redemptions(
    redemptions: Sequence[Redemption],
    keysets: Sequence[Keyset],
    paid: Sequence[Epoch],
    account: str,
) -> Iterator[Outcome]:
    """Compares what wallets got with prices, with the mint's books and with the ledger."""
    prices = {keyset.id: keyset for keyset in keysets}
    wrong = [done for done in redemptions if done.units and done.sats != _value(done, prices)]
    units, sats = _total(redemptions)
    yield Outcome(
        units > 0 and not wrong,
        "each wallet got exactly floor(theta x n / W) for its n units, in whole satoshis",
        f"{units:,} units, {sats:,} sats"
        + "".join(f"; wrong: {done.miner} {done.sats} {done.reason}" for done in wrong),
    )
    theta = sum(keyset.theta_msat for keyset in keysets)
    ledger = sum(
        part.sats for epoch in each_payment(paid) for part in epoch.parts if part.account == account
    )
    yield Outcome(
        theta == ledger * MSAT,
        "what the mint divides is what the blocks paid for these shares, to the satoshi",
        f"mint {theta // MSAT:,} sats, ledger {ledger:,} sats",
    )
    work = sum(keyset.work for keyset in keysets)
    mint = sum(keyset.paid_msat for keyset in keysets)
    rest = theta - sats * MSAT
    yield Outcome(
        mint == sats * MSAT and rest >= 0 and (units < work or rest < len(redemptions) * MSAT),
        "what the wallets got and what is left add up to what the blocks paid, to the millisat",
        f"{theta:,} msat = {sats:,} sats in wallets + {rest:,} msat left by rounding down"
        + ("" if units == work else f" and by {work - units:,} units that nobody redeemed"),
    )


def _value(done: Redemption, prices: Mapping[str, Keyset]) -> int:
    price = prices[done.keyset]
    return price.theta_msat * done.units // price.work // MSAT


def _total(redemptions: Sequence[Redemption]) -> tuple[int, int]:
    return sum(done.units for done in redemptions), sum(done.sats for done in redemptions)


def check_links(records: Records) -> Iterator[Outcome]:
    """Looks for a spent token among what the mint knows of shares."""
    claims = sum(records.claims.get(keyset, 0) for keyset in records.spent)
    spent = sum(records.spent.values())
    yield Outcome(
        spent > 0 and records.matches == 0,
        "the mint's books show no link between a redeemed token and a share",
        f"{claims} claims, each with its share; {spent} redeemed tokens; "
        f"numbers that stand on both sides: {records.matches}",
    )
