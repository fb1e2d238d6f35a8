"""Gets out what shares earned above the tokens that they brought.

Where shares are worth what their template pays, a share's token is the largest that fits, and the
rest stays with the mint, under the claim key of the channel, until it adds up. Who stops mining has
it turned into tokens: the *cash-out*. It is an exchange as any other: planned and durable before it
is asked for, repeated byte for byte until the answer is known.

What the mint holds is its own word until the keyset's statement, whose books anybody can add up.
What can be held against it at once is said: figures that contradict each other, and tokens that it
told of and does not sign.

Source: `spec/05-ecash-messages.md`, "Cash-out"; `spec/08-wallet-recovery.md`, "Claim keys".
"""

from __future__ import annotations

from dataclasses import dataclass
from random import SystemRandom
from typing import TYPE_CHECKING, Final

import trio

from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.wallet.deposit import SEARCH_GAP
from radpool_sv2.wallet.exchange import perform, plan_cash_out
from radpool_sv2.wallet.mint import REUSED_CODES, MintRefusedError
from radpool_sv2.wallet.price import split
from radpool_sv2.wallet.recovery import adopt, look_ahead

if TYPE_CHECKING:
    from collections.abc import Iterable

    from radpool_sv2.wallet.claim_key import ClaimKey
    from radpool_sv2.wallet.mint import HeldRow, MintClient
    from radpool_sv2.wallet.purse import Purse
    from radpool_sv2.wallet.store import Exchange, Keyset, Mint

__all__ = ["CashedOut", "Held", "cash_out", "find", "look"]

RANDOM = SystemRandom()
TRIES: Final = 4
CHANGED_CODES: Final = frozenset({"stale-keyset", "amount-mismatch", "unknown-epoch"})
"""The keyset has closed since, or another share has come: what is held is asked for again."""
KEYS_MAX: Final = 10_000
"""How many are asked for at most: a mint that claims to know each of them must not keep us busy."""
SETTLED_MS: Final = 7 * 86_400_000
"""A key that no channel had for so long gets nothing more: shares stay claimable for two hours."""


@dataclass(frozen=True, slots=True)
class Held:
    """Is what a mint holds under a claim key for one policy, as it says itself.

    Attributes:
        key: The claim key.
        row: What the mint says.
    """

    key: ClaimKey
    row: HeldRow


@dataclass(frozen=True, slots=True)
class CashedOut:
    """Is what came of a claim key.

    Attributes:
        counter: The claim key's.
        keyset: Of which the tokens are; None if none came.
        units: What they are worth.
        tokens: How many they are.
        reason: Why none came although something is held, in words; empty if they did.
    """

    counter: int
    keyset: Keyset | None
    units: int
    tokens: int
    reason: str


async def look(
    purse: Purse, mint: MintClient, of: Mint, counters: Iterable[int] | None = None
) -> list[Held]:
    """Asks a mint what it holds, and keeps the answer.

    Args:
        purse: The wallet.
        mint: A way to the mint.
        of: The mint.
        counters: The claim keys; all under which something may be, without.
    """
    if counters is None:
        counters = await trio.to_thread.run_sync(_live, purse, of)
    found: list[Held] = []
    for counter in counters:
        key = purse.claim_key(counter)
        rows = await mint.held(key.public)
        await trio.to_thread.run_sync(_learn, purse, of, counter, rows)
        found += [Held(key, row) for row in rows]
    return found


async def cash_out(
    purse: Purse,
    mint: MintClient,
    of: Mint,
    counters: Iterable[int] | None = None,
    *,
    spread_s: float = 0,
) -> list[CashedOut]:
    """Has whatever a mint holds under the wallet's claim keys turned into tokens.

    Args:
        purse: The wallet.
        mint: A way to the mint.
        of: The mint.
        counters: The claim keys; all under which something may be, without.
        spread_s: How long to wait before each request on average, at random; 0 for not at all.

    Returns:
        What came of each key under which a whole unit is held.

    Raises:
        MintUnreachableError: Nobody knows what became of the last request; it is repeated when the
            wallet is used again.
        RemoteProtocolError: An answer is worth nothing; the same holds.
    """
    done: list[CashedOut] = []
    for held in await look(purse, mint, of, counters):
        if held.row.units:
            await _wait(spread_s)
            done.append(await _cash_out_one(purse, mint, of, held))
    return done


async def _cash_out_one(purse: Purse, mint: MintClient, of: Mint, held: Held) -> CashedOut:
    counter = held.key.counter
    reason = ""
    for _ in range(TRIES):
        if held.row.keyset is None or not held.row.units:
            return CashedOut(counter, None, 0, 0, reason)
        keyset = await _keyset(purse, mint, of, held.row.keyset)
        exponents = split(held.row.units)
        exchange = await trio.to_thread.run_sync(_plan, purse, held.key, keyset, exponents)
        try:
            await perform(purse, mint, exchange)
        except MintRefusedError as refusal:
            reason = str(refusal)
            if refusal.error_code in REUSED_CODES:
                await look_ahead(purse, mint, keyset)
            elif refusal.error_code not in CHANGED_CODES:
                break
            policy = held.row.policy
            again = await look(purse, mint, of, [counter])
            held = next((each for each in again if each.row.policy == policy), held)
        else:
            await look(purse, mint, of, [counter])
            return CashedOut(counter, keyset, held.row.units, len(exponents), "")
    return CashedOut(counter, None, 0, 0, reason)


async def find(purse: Purse, mint: MintClient, of: Mint) -> int:
    """Finds the claim keys of a wallet that has nothing but its words.

    Returns:
        How many keys the mint knows.
    """
    end = SEARCH_GAP + await trio.to_thread.run_sync(_count, purse)
    counter = known = 0
    while counter < min(end, KEYS_MAX):
        rows = await mint.held(purse.claim_key(counter).public)
        if rows:
            known += 1
            end = max(end, counter + 1 + SEARCH_GAP)
            await trio.to_thread.run_sync(_learn, purse, of, counter, rows)
        counter += 1
    return known


async def _keyset(purse: Purse, mint: MintClient, of: Mint, identifier: bytes) -> Keyset:
    """Returns a keyset that the wallet trusts, after a look at what everybody is shown."""
    keyset = await adopt(purse, mint, of.public_key, await mint.keyset(identifier))
    if keyset.announcement.policy is None:
        raise RemoteProtocolError(f"the mint at {mint.url} would pay shares in sats: that is wrong")
    return keyset


def _plan(purse: Purse, key: ClaimKey, keyset: Keyset, exponents: list[int]) -> Exchange:
    with purse.file.write() as connection:
        return plan_cash_out(purse, connection, key=key, keyset=keyset, exponents=exponents)


def _live(purse: Purse, of: Mint) -> list[int]:
    with purse.file.read() as connection:
        rows = purse.deposits.of(connection, of.number)
    return list(dict.fromkeys(row.counter for row in rows if not row.over))


def _count(purse: Purse) -> int:
    with purse.file.read() as connection:
        return purse.deposits.count(connection)


def _learn(purse: Purse, of: Mint, counter: int, rows: list[HeldRow]) -> None:
    with purse.file.write() as connection:
        purse.deposits.cover(connection, counter + 1)
        purse.deposits.learn(
            connection,
            counter,
            of.number,
            [(row.policy, row.units) for row in rows],
            settled_ms=purse.clock_ms() - SETTLED_MS,
        )


async def _wait(spread_s: float) -> None:
    if spread_s > 0:
        await trio.sleep(RANDOM.expovariate(1 / spread_s))
