"""Asks, when a miner leaves, for what its shares earned above their tokens.

What does not come in time stays with the mint, under the claim key, until the wallet asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from radpool_sv2.errors import ConfigError, RemoteProtocolError
from radpool_sv2.wallet.mint import MintUnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from radpool_sv2.wallet import Wallet
    from radpool_sv2.wallet.residue import CashedOut

__all__ = ["cash_out"]

PATIENCE_S: Final = 20.0
"""A miner that is told to stop does so soon."""
LATER: Final = "`radpool wallet redeem` asks for it again"


async def cash_out(wallet: Wallet, mint: bytes, counter: int) -> tuple[int | None, list[str]]:
    """Has what is held under a claim key turned into tokens.

    Args:
        wallet: The wallet.
        mint: The mint's key.
        counter: The claim key's.

    Returns:
        How many units came, None where nobody knows, and sentences for people.
    """
    notes: list[str] = []
    with trio.move_on_after(PATIENCE_S):
        try:
            done = await wallet.cash_out(mint, [counter], notes=notes)
        except (ConfigError, MintUnreachableError, RemoteProtocolError) as error:
            return None, [*notes, f"what shares left over stays with the mint: {error}; {LATER}"]
        return sum(one.units for one in done), [*notes, *_sentences(done)]
    return None, [
        *notes,
        f"what shares left over stays with the mint, which did not answer in time; {LATER}",
    ]


def _sentences(done: Iterable[CashedOut]) -> list[str]:
    return [
        f"what shares left over, {one.units} units, is {one.tokens} tokens now"
        if not one.reason
        else f"what shares left over stays with the mint: {one.reason}; {LATER}"
        for one in done
    ]
