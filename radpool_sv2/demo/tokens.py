"""Turns what the miners of the demo have earned into sats, as each of them would do it.

The chain goes on until the coinbases can be spent; one wallet is deleted and comes back from its
words; each wallet then redeems its tokens. All that is said of a sum is read twice: in the wallets,
and in what the mint tells everybody.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio

from radpool_sv2.errors import RadpoolError
from radpool_sv2.wallet import Wallet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import httpx

    from radpool_sv2.demo.stage import Miner

__all__ = [
    "Keyset",
    "Records",
    "Redemption",
    "Restored",
    "Tokens",
    "read_keysets",
    "read_records",
    "read_wallet",
    "redeem",
    "restore",
    "wait_until_payable",
]

KEYSETS_MAX: Final = 100
PAYABLE_SECONDS_MAX: Final = 60.0
"""The mint follows the chain within a second, where the machine has time for it."""
LOOK_SECONDS: Final = 0.2

# The number of a row tells what it belongs to: see `radpool_sv2.store.ecash_schema`.
CLAIMS: Final = """
    SELECT lower(hex(keyset.id)), count(*) FROM blinded
    JOIN keyset ON keyset.number = blinded.keyset WHERE blinded.id > 0 GROUP BY 1
"""
SPENT: Final = """
    SELECT lower(hex(keyset.id)), count(*) FROM spent
    JOIN redemption ON redemption.number = spent.id >> 10
    JOIN keyset ON keyset.number = redemption.keyset GROUP BY 1
"""
MATCHES: Final = "SELECT count(*) FROM spent WHERE y IN (SELECT message FROM blinded)"


@dataclass(frozen=True, slots=True)
class Keyset:
    """Is what the mint tells everybody about the tokens of an epoch.

    Attributes:
        id: Its id in hex.
        epoch: The epoch whose shares earned them.
        state: Where it stands.
        theta_msat: What is paid for all of them together.
        work: How many units they are.
        paid_msat: What has been redeemed.
        redeem_after_height: The height of the chain from which on it is.
    """

    id: str
    epoch: int
    state: str
    theta_msat: int
    work: int
    paid_msat: int
    redeem_after_height: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """Is what a wallet has of one keyset."""

    keyset: str
    tokens: int
    units: int


@dataclass(frozen=True, slots=True)
class Restored:
    """Is a wallet before it was deleted and after it came back."""

    before: tuple[Tokens, ...]
    after: tuple[Tokens, ...]


@dataclass(frozen=True, slots=True)
class Redemption:
    """Is what a wallet got for its tokens of one keyset; `reason` says why it got nothing."""

    miner: str
    keyset: str
    units: int
    sats: int
    reason: str


@dataclass(frozen=True, slots=True)
class Records:
    """Is what the mint has written down of claims and of spent tokens.

    Attributes:
        claims: Claims of shares, by keyset.
        spent: Spent tokens, by keyset.
        matches: Spent tokens whose number stands anywhere among the claims.
    """

    claims: Mapping[str, int]
    spent: Mapping[str, int]
    matches: int


async def read_keysets(client: httpx.AsyncClient) -> list[Keyset]:
    """Asks the mint for its keysets, the oldest first.

    Raises:
        httpx.HTTPError: It does not answer.
    """
    answer = await client.get("/work/v1/keysets", params={"limit": KEYSETS_MAX})
    rows = answer.raise_for_status().json()["keysets"]
    return [_keyset(row) for row in reversed(rows)]


def _keyset(row: Mapping[str, Any]) -> Keyset:
    return Keyset(
        id=row["id"],
        epoch=row["epoch"],
        state=row["state"],
        theta_msat=row["theta_msat"],
        work=row["work"],
        paid_msat=row["paid_msat"],
        redeem_after_height=row["redeem_after_height"],
    )


async def read_wallet(directory: Path) -> tuple[Tokens, ...]:
    """Reads what a wallet has, without asking the mint."""
    async with Wallet.using(directory) as wallet:
        balance = await wallet.balance(ask=False)
    lines = ((line.keyset, line.tokens, line.units) for line in balance.epochs)
    return tuple(Tokens(*line) for line in sorted(lines))


async def wait_until_payable(
    client: httpx.AsyncClient, epochs: Sequence[int], height: int
) -> list[Keyset]:
    """Waits until the mint pays what the paid epochs have earned; returns these keysets.

    Blocks may come so quickly that nobody has earned a token between two of them: what such an
    epoch is paid goes to the next, and its keyset has no price.

    Raises:
        RadpoolError: It does not within the time that this may take.
    """
    keysets: list[Keyset] = []
    with trio.move_on_after(PAYABLE_SECONDS_MAX):
        while True:
            read = await read_keysets(client)
            keysets = [each for each in read if each.epoch in epochs and each.work]
            if keysets and all(_is_payable(each, height) for each in keysets):
                return keysets
            await trio.sleep(LOOK_SECONDS)
    waiting = [f"{each.epoch}: {each.state}" for each in keysets if not _is_payable(each, height)]
    raise RadpoolError(f"the mint does not pay these epochs: {', '.join(waiting) or epochs}")


def _is_payable(keyset: Keyset, height: int) -> bool:
    return keyset.state == "final" and keyset.redeem_after_height <= height


async def restore(miner: Miner, url: str) -> Restored:
    """Deletes a wallet and makes it again from nothing but its words."""
    before = await read_wallet(miner.wallet)
    async with Wallet.using(miner.wallet) as wallet:
        words = wallet.words()
    shutil.rmtree(miner.wallet)
    again, _ = await Wallet.restore(miner.wallet, words, url)
    await again.close()
    return Restored(before, await read_wallet(miner.wallet))


async def redeem(miner: Miner, keysets: Sequence[Keyset]) -> list[Redemption]:
    """Redeems a wallet's tokens of some keysets."""
    done: list[Redemption] = []
    async with Wallet.using(miner.wallet) as wallet:
        for keyset in keysets:
            done += [
                Redemption(miner.plan.name, keyset.id, each.units, each.sats, each.reason)
                for each in await wallet.redeem(bytes.fromhex(keyset.id))
            ]
    return done


def read_records(database: Path) -> Records:
    """Reads the mint's own books: every number it keeps of a claim or of a spent token."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as books:
        claims = books.execute(CLAIMS).fetchall()
        spent = books.execute(SPENT).fetchall()
        [(matches,)] = books.execute(MATCHES)
    return Records(dict(claims), dict(spent), matches)
