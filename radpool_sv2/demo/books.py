"""Reads the running pool's books over HTTP, as anybody could."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import httpx

__all__ = ["Block", "Epoch", "Part", "Seen", "look", "read_commitments", "read_epoch"]

ROWS: Final = 100


@dataclass(frozen=True, slots=True)
class Part:
    """Is what an account has done in an epoch, and what it got for it.

    Attributes:
        account: The account's name.
        shares: How many shares count.
        work: Their work in hashes.
        value: What it counts for: their work, each at the price of its template.
        sats: What was paid; 0 until the epoch is settled.
    """

    account: str
    shares: int
    work: int
    value: int
    sats: int


@dataclass(frozen=True, slots=True)
class Epoch:
    """Is an accounting period and its payment.

    Attributes:
        number: Its number.
        block: The hash of the block that pays it, as people write it; empty while none does.
        value_sats: What that block's coinbase pays.
        carry_in_sats: What was carried into the payment from before.
        carry_out_sats: What was carried on.
        parts: What each account did and got.
    """

    number: int
    block: str
    value_sats: int
    carry_in_sats: int
    carry_out_sats: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """Is a block that the pool found; `confirmations` is None off the active chain."""

    hash: str
    height: int
    epoch: int
    value_sats: int
    finder: str
    confirmations: int | None


@dataclass(frozen=True, slots=True)
class Seen:
    """Is what the pool told at one moment; blocks come in the order in which they were found."""

    tip_height: int
    epoch: int
    problems: tuple[str, ...]
    blocks: tuple[Block, ...]

    def paid_blocks(self) -> list[Block]:
        """Returns the blocks that the chain has confirmed."""
        return [block for block in self.blocks if block.confirmations is not None]


async def look(client: httpx.AsyncClient) -> Seen:
    """Asks the pool for everything that the demo shows.

    Raises:
        httpx.HTTPError: It does not answer.
    """
    status = await _get(client, "/api/v1/status")
    rows = (await _get(client, "/api/v1/blocks"))["items"]
    return Seen(
        tip_height=status["tip_height"],
        epoch=status["epoch"],
        problems=tuple(status["problems"]),
        blocks=tuple(_block(row) for row in reversed(rows)),
    )


async def read_epoch(client: httpx.AsyncClient, number: int) -> Epoch:
    """Asks the pool for one epoch.

    Raises:
        httpx.HTTPError: It does not answer, or there is no such epoch.
    """
    row = await _get(client, f"/api/v1/epochs/{number}")
    payment = row["payment"] or {}
    shares = {part["account"]: part["shares"] for part in row["accounts"]}
    # An unpaid epoch has work and no sats. A payment may cover epochs whose own block was lost.
    parts = payment.get("accounts", row["accounts"])
    return Epoch(
        number=row["epoch"],
        block=payment.get("block", ""),
        value_sats=payment.get("value_sats", 0),
        carry_in_sats=payment.get("carry_in_sats", 0),
        carry_out_sats=payment.get("carry_out_sats", 0),
        parts=tuple(
            Part(
                part["account"],
                shares.get(part["account"], 0),
                int(part["work"]),
                int(part["value"]),
                part.get("sats", 0),
            )
            for part in parts
        ),
    )


async def read_commitments(client: httpx.AsyncClient) -> dict[str, str]:
    """Asks the pool which commitment stands for which account in the shares.

    Raises:
        httpx.HTTPError: It does not answer.
    """
    rows = (await _get(client, "/api/v1/accounts"))["items"]
    return {row["account"]: row["commitment"] for row in rows}


def _block(row: dict[str, Any]) -> Block:
    return Block(
        row["hash"],
        row["height"],
        row["epoch"],
        row["value_sats"],
        row["finder"],
        row["confirmations"],
    )


async def _get(client: httpx.AsyncClient, path: str) -> Any:
    answer = await client.get(path, params={"limit": ROWS})
    return answer.raise_for_status().json()
