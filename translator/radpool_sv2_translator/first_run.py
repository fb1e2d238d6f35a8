"""Decides where the wallet is when nobody has said: `radpool translator --pool HOST:PORT`.

Who names nobody to be paid wants ecash, if the pool has it. So the pool is asked once; when it
speaks the extension, a wallet is made in the present directory. A wallet that is there is used
without asking: a pool that has no ecash any more is told as a fault, and does not get work for
nobody.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from radpool_sv2._native.keys import AuthorityPublicKey
from radpool_sv2.errors import ConfigError, RadpoolError
from radpool_sv2.wallet.file import FILE_NAME
from radpool_sv2.wire.message.connection import Protocol
from radpool_sv2.wire.setup import request_extensions, set_up
from radpool_sv2.wire.stream import Sv2Stream

if TYPE_CHECKING:
    from radpool_sv2.config import Endpoint

__all__ = ["DIRECTORY", "choose_wallet"]

DIRECTORY: Final = "wallet"

ECASH_EXTENSION: Final = 0x4E45
"""What a pool with a mint agrees to speak. Source: page 05."""

CONNECT_S_MAX: Final = 10.0


async def choose_wallet(pool: Endpoint, authority_key: str) -> Path | None:
    """Returns the directory of the wallet; None when the pool has no ecash.

    Args:
        pool: Where the pool is.
        authority_key: Its key, as text; empty trusts whoever answers.

    Raises:
        ConfigError: The pool cannot be asked.
    """
    directory = Path.cwd() / DIRECTORY
    if (directory / FILE_NAME).exists():
        return directory
    key = AuthorityPublicKey.from_text(authority_key) if authority_key else None
    try:
        stream = await Sv2Stream.connect(pool, key, CONNECT_S_MAX)
        try:
            return directory if await _speaks_ecash(stream, pool) else None
        finally:
            with trio.CancelScope(shield=True):
                await stream.aclose()
    except ConfigError:
        raise
    except RadpoolError as error:
        raise ConfigError(
            f"cannot ask the pool whether shares earn ecash: {error}. Give --wallet DIR if they "
            "do, or --user NAME to be paid as the pool pays its accounts"
        ) from error


async def _speaks_ecash(stream: Sv2Stream, pool: Endpoint) -> bool:
    await set_up(stream, Protocol.MINING, endpoint=pool)
    return ECASH_EXTENSION in await request_extensions(stream, [ECASH_EXTENSION])
