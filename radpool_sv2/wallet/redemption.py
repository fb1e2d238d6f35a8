"""Merges work tokens and redeems them for sats.

Thousands of small tokens are exchanged, some hundred at a time, for the powers of two that make up
their sum: few tokens to store, one rounding down for all of them, and amounts that no longer tell
at which targets the shares were mined. Then all tokens of a keyset are redeemed at once, at the
price that the mint signed.

What privacy this gives, and what not: a blind signature hides which share a token came from, and
after a merge so does its amount. But whoever redeems everything right after merging, from the
address that mined, tells by time and sum who it is; `spread` waits a random while before each
request, and the way to the mint (such as Tor) is the user's choice.

Source: `spec/06-work-tokens.md`, `spec/07-ecash-epochs.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import SystemRandom
from typing import TYPE_CHECKING, Final

import trio

from radpool_sv2.wallet.announcement import WORK_UNIT, EpochState, Policy
from radpool_sv2.wallet.exchange import perform, plan
from radpool_sv2.wallet.mint import REUSED_CODES, MintRefusedError
from radpool_sv2.wallet.price import price_of, split
from radpool_sv2.wallet.recovery import look_ahead
from radpool_sv2.wallet.store import TokenState

if TYPE_CHECKING:
    from collections.abc import Callable

    from radpool_sv2.wallet.mint import MintClient
    from radpool_sv2.wallet.price import Price
    from radpool_sv2.wallet.purse import Purse
    from radpool_sv2.wallet.store import Exchange, Keyset, Mint, Token

__all__ = [
    "CHUNK",
    "Redeemed",
    "count",
    "is_over",
    "merge",
    "redeem",
    "refresh",
    "why_not",
    "with_tokens",
]

RANDOM = SystemRandom()
CHUNK: Final = 250
"""How many tokens a mint takes at once."""
TRIES: Final = 3
CHANGED_CODES: Final = frozenset({"already-spent", "amount-mismatch", "11001", "11005"})
"""What the wallet believed has changed meanwhile: it looks again (the numbers are NUT codes)."""


WAITING: Final = {
    EpochState.OPEN: "still open: it can be redeemed after a block pays it",
    EpochState.CLOSED: "waits for a block that pays it",
    EpochState.PROVISIONAL: "waits for its block to be confirmed",
    EpochState.VOID: "no block pays this epoch",
    EpochState.EXPIRED: "expired: the mint no longer pays it",
}
"""Why tokens cannot be redeemed, by the state of their epoch."""
OVER: Final = frozenset({EpochState.VOID, EpochState.EXPIRED})


@dataclass(frozen=True, slots=True)
class Redeemed:
    """Is what came of redeeming a keyset's tokens.

    Attributes:
        keyset: The keyset.
        units: What was redeemed.
        price: At which price.
        sats: What came of it; 0 if nothing was redeemed.
        reason: Why nothing was, in words; empty if it was.
    """

    keyset: Keyset
    units: int
    price: Price | None
    sats: int
    reason: str


def why_not(keyset: Keyset, units: int, tip: int | None = None) -> str:
    """Says why the tokens of a keyset cannot be redeemed now; empty if they can.

    Args:
        keyset: The keyset.
        units: What there is of it.
        tip: The height of the tip; None if it is not known, or does not matter because the mint
            may advance what has not matured.
    """
    update, price = keyset.update, price_of(keyset)
    state = EpochState.OPEN if update is None else update.state
    fixed = keyset.announcement.policy is Policy.FIXED
    if state in WAITING and not (fixed and state not in OVER):
        return WAITING[state]
    if price is None:
        return "the mint has announced no price"
    if not price.sats(units):
        return f"worth {price.msat(units)} msat: less than a satoshi, and nothing is paid for that"
    after = 0 if update is None else update.redeem_after_height
    if tip is not None and tip < after:
        return f"the mint pays from height {after} on: in {after - tip} blocks"
    return ""


async def merge(
    purse: Purse,
    mint: MintClient,
    keyset: Keyset,
    *,
    spread_s: float = 0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[int, int]:
    """Exchanges the tokens of a keyset until they are the fewest that make up their sum.

    Args:
        purse: The wallet.
        mint: The keyset's mint.
        keyset: The keyset.
        spread_s: How long to wait before each request on average, at random; 0 for not at all.
        progress: Is told how many tokens there were and how many there are.

    Returns:
        How many tokens there were, and how many there are.

    Raises:
        MintRefusedError: The mint refused; what it did not take is still ours.
    """
    before = now = len(await trio.to_thread.run_sync(_ours, purse, keyset))
    refusals = 0
    while chunks := await trio.to_thread.run_sync(_chunks, purse, keyset):
        for chunk in chunks:
            await _wait(spread_s)
            exchange = await trio.to_thread.run_sync(_plan_merge, purse, keyset, chunk)
            if exchange is None:
                continue
            try:
                await perform(purse, mint, exchange)
            except MintRefusedError as refusal:
                refusals += 1
                await _recover(purse, mint, keyset, refusal, refusals)
            now = len(await trio.to_thread.run_sync(_ours, purse, keyset))
            if progress is not None:
                progress(before, now)
    return before, now


async def redeem(  # noqa: PLR0913 - what a redemption is made of, and two options
    purse: Purse,
    mint: MintClient,
    keyset: Keyset,
    sat: Keyset,
    *,
    tip: int | None = None,
    spread_s: float = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Redeemed:
    """Redeems all tokens of a keyset for sats.

    Args:
        purse: The wallet.
        mint: The keyset's mint.
        keyset: The keyset.
        sat: The mint's sat keyset.
        tip: The height of the tip; None to ask even for what has not matured.
        spread_s: How long to wait before each request on average, at random; 0 for not at all.
        progress: Is told how many tokens there were and how many there are while they are merged.

    Raises:
        MintRefusedError: The mint refused; the tokens are still ours unless they were spent before.
    """
    for attempt in range(1, TRIES + 1):
        keyset = await refresh(purse, mint, keyset)
        units = sum(
            1 << token.exponent for token in await trio.to_thread.run_sync(_ours, purse, keyset)
        )
        if reason := why_not(keyset, units, tip):
            return Redeemed(keyset, units, price_of(keyset), 0, reason)
        await merge(purse, mint, keyset, spread_s=spread_s, progress=progress)
        await _wait(spread_s)
        planned = await trio.to_thread.run_sync(_plan_redeem, purse, keyset, sat)
        if planned is None:
            continue
        exchange, done = planned
        try:
            await perform(purse, mint, exchange)
        except MintRefusedError as refusal:
            await _recover(purse, mint, sat, refusal, attempt)
        else:
            return done
    return Redeemed(keyset, 0, price_of(keyset), 0, "another process uses these tokens now")


def is_over(keyset: Keyset) -> bool:
    """Says whether nothing can be exchanged any more, because nothing will be paid."""
    return keyset.update is not None and keyset.update.state in OVER


def count(purse: Purse, keyset: Keyset) -> int:
    """Returns how many tokens of a keyset are ours."""
    return len(_ours(purse, keyset))


def with_tokens(purse: Purse, of: Mint) -> list[Keyset]:
    """Returns the work keysets of a mint of which tokens are ours, oldest first."""
    with purse.file.read() as connection:
        sums = purse.store.sums(connection)
        return [
            keyset
            for keyset in purse.store.keysets(connection)
            if keyset.unit == WORK_UNIT and keyset.mint.number == of.number
            if (keyset.number, TokenState.OURS) in sums
        ]


async def refresh(purse: Purse, mint: MintClient, keyset: Keyset) -> Keyset:
    """Asks the mint how a keyset's epoch fares, and keeps what it signed."""
    update = (await mint.keyset(keyset.id)).updated
    if update is None:
        return keyset
    return await trio.to_thread.run_sync(purse.take_update, update, keyset.id)


async def _wait(spread_s: float) -> None:
    if spread_s > 0:
        await trio.sleep(RANDOM.expovariate(1 / spread_s))


async def _recover(
    purse: Purse, mint: MintClient, outputs: Keyset, refusal: MintRefusedError, attempt: int
) -> None:
    """Prepares another attempt if that may help; raises the refusal if not."""
    if attempt >= TRIES:
        raise refusal
    if refusal.error_code in REUSED_CODES:
        await look_ahead(purse, mint, outputs)
    elif refusal.error_code not in CHANGED_CODES:
        raise refusal


def _ours(purse: Purse, keyset: Keyset) -> list[Token]:
    with purse.file.read() as connection:
        return purse.store.tokens(connection, keyset.number)


def _chunks(purse: Purse, keyset: Keyset) -> list[list[Token]]:
    """Returns random lots of tokens that are worth merging; none if they are the fewest already."""
    tokens = _ours(purse, keyset)
    total = sum(1 << token.exponent for token in tokens)
    if len(tokens) <= total.bit_count():
        return []
    RANDOM.shuffle(tokens)
    lots = [tokens[at : at + CHUNK] for at in range(0, len(tokens), CHUNK)]
    return [lot for lot in lots if len(lot) > sum(1 << token.exponent for token in lot).bit_count()]


def _plan_merge(purse: Purse, keyset: Keyset, chunk: list[Token]) -> Exchange | None:
    with purse.file.write() as connection:
        # Another process may have taken some since the chunk was cut.
        still = {token.counter for token in purse.store.tokens(connection, keyset.number)}
        given = [token for token in chunk if token.counter in still]
        if len(given) < 2:
            return None
        total = sum(1 << token.exponent for token in given)
        return plan(
            purse,
            connection,
            kind="merge",
            inputs=keyset,
            given=given,
            outputs=keyset,
            amounts=[(exponent, False) for exponent in split(total)],
        )


def _plan_redeem(purse: Purse, keyset: Keyset, sat: Keyset) -> tuple[Exchange, Redeemed] | None:
    price = price_of(keyset)
    with purse.file.write() as connection:
        given = purse.store.tokens(connection, keyset.number)[:CHUNK]
        units = sum(1 << token.exponent for token in given)
        if price is None or not price.sats(units):
            return None
        sats = price.sats(units)
        exchange = plan(
            purse,
            connection,
            kind="redeem",
            inputs=keyset,
            given=given,
            outputs=sat,
            amounts=[(exponent, False) for exponent in split(sats)],
        )
        return exchange, Redeemed(keyset, units, price, sats, "")
