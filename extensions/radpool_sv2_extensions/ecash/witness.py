"""Sees over a second path which keysets a mint shows to everybody.

A mint that gave each miner a keyset of its own could tell at redemption who is who, and nothing on
the miner's own connection would show it. So what was announced there is compared with the mint's
public list, fetched over HTTP: the keyset must stand in it, byte for byte, and no other one of its
policy may be open beside it.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

import httpx
import trio

from radpool_sv2.errors import RadpoolError, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from radpool_sv2.wallet.announcement import Announcement

__all__ = ["UnreachableError", "Witness"]

PATIENCE_S = 3.0
UNIT_VALUE: Final = re.compile(r"0|[1-9][0-9]{0,38}")
LISTED = 100
"""Keysets that are asked for, newest first: some for each policy, and all rotations of an hour."""
BODY_LEN_MAX = 4 << 20
AGAIN_S = 0.5
"""A list that was made just before the keyset was opened is asked for again after this."""


class UnreachableError(RadpoolError):
    """Says that the second path leads nowhere: nothing is known, for or against the mint."""


class Witness:
    """Compares announcements with the list at an address.

    Args:
        fetch: Returns the body at an address; raises `UnreachableError`.
    """

    def __init__(self, fetch: Callable[[str], Awaitable[bytes]] | None = None) -> None:
        self._fetch = _fetch if fetch is None else fetch

    async def compare(self, announced: Announcement, url: str) -> int:
        """Makes sure that everybody is shown this keyset.

        Args:
            announced: What the connection showed.
            url: Where the mint answers.

        Returns:
            What a unit of the keyset costs of shares' value; 0 where it counts work.

        Raises:
            UnreachableError: There is no answer that is a list.
            RemoteProtocolError: The list shows something else.
        """
        if not url.startswith(("http://", "https://")):
            raise UnreachableError(f"{url!r} is no address of a mint")
        for attempt in (1, 2):
            rows = await self._rows(f"{url.rstrip('/')}/work/v1/keysets?offset=0&limit={LISTED}")
            if any(row["id"] == announced.keyset_id.hex() for row in rows):
                break
            if attempt == 1:
                await trio.sleep(AGAIN_S)
        _judge(announced, rows, url)
        return int(
            next(row["unit_value"] for row in rows if row["id"] == announced.keyset_id.hex())
        )

    async def _rows(self, address: str) -> list[dict[str, str]]:
        body = await self._fetch(address)
        try:
            rows = json.loads(body)["keysets"]
            found = [
                {name: str(row[name]) for name in ("id", "policy", "state", "announcement")}
                | {"unit_value": str(row.get("unit_value", "0"))}
                for row in rows
            ]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UnreachableError(f"{address} answers with something else than a list") from error
        if not all(UNIT_VALUE.fullmatch(row["unit_value"]) for row in found):
            raise UnreachableError(f"{address} lists units of a value that is no number")
        return found


def _judge(announced: Announcement, rows: list[dict[str, str]], url: str) -> None:
    name = announced.keyset_id.hex()
    listed = {row["id"]: row for row in rows}
    if name not in listed:
        raise RemoteProtocolError(
            f"the pool shows this miner keyset {name}, and the mint's list at {url} does not have "
            "it: a keyset for one miner marks all that this miner ever redeems. Nothing was "
            "submitted with it; choose another pool, or ask the operator"
        )
    if listed[name]["announcement"] != announced.payload.hex():
        raise RemoteProtocolError(
            f"the pool announces keyset {name} to this miner in another way than at {url}"
        )
    ours = listed[name]
    beside = [
        row["id"]
        for row in rows
        if row["id"] != name and (row["policy"], row["state"]) == (ours["policy"], "open")
    ]
    # Once it is closed, the one beside it is its successor.
    if ours["state"] == "open" and beside:
        raise RemoteProtocolError(
            f"beside keyset {name}, the mint at {url} has keyset {beside[0]} open for the same "
            f"policy {ours['policy']}: that sorts its miners into smaller crowds. Choose another "
            "pool, or ask the operator"
        )


async def _fetch(address: str) -> bytes:
    """Fetches a body of bounded size in bounded time, following nobody elsewhere."""
    try:
        with trio.fail_after(PATIENCE_S):
            async with (
                httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False) as client,
                client.stream("GET", address) as response,
            ):
                response.raise_for_status()
                body = bytearray()
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > BODY_LEN_MAX:
                        raise UnreachableError(
                            f"{address} answers with more than {BODY_LEN_MAX} bytes"
                        )
                return bytes(body)
    except trio.TooSlowError as error:
        raise UnreachableError(f"{address} did not answer within {PATIENCE_S:.0f} s") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnreachableError(f"{address}: {error}") from error
