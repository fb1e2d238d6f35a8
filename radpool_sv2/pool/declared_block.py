"""Keeps the blocks that were found on miners' templates, whole, until the chain has them.

A block of a template of the pool's own can be asked of its node again; the transactions of a
miner's template may be nowhere else. So such a block is on disk before anything else is done with
it: a file named after its hash, with its finder's account beside it. A node that was away, or a
crash, then costs a delay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
import trio

from radpool_sv2.chain.transaction import Reader, Transaction
from radpool_sv2.durable import write_whole
from radpool_sv2.errors import LocalProtocolError, StoreError
from radpool_sv2.templates.declared import DECLARED_ID_MIN
from radpool_sv2.templates.source import Solution
from radpool_sv2.units import sha256d

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["DIRECTORY", "DeclaredBlocks"]

log = structlog.get_logger(__name__)

DIRECTORY: Final = "declared-blocks"

BLOCKS_KEPT_MAX: Final = 256
"""Files that are kept; the oldest goes. A block is of no use any more once it is some days deep."""

BLOCKS_UNSAVED_MAX: Final = 16
"""Blocks that a full disk leaves in memory."""

HEADER_LEN: Final = 80

HEAD_LEN: Final = 1 << 18
"""As much of a file as has its coinbase: two fields of 64 KiB in the protocol, and some."""


class DeclaredBlocks:
    """Is the directory of such blocks."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._saving: dict[bytes, bytes] = {}
        self._writing = trio.Lock()

    async def save(self, block: bytes, account: int) -> bytes:
        """Makes a block durable; returns its hash. Saving it again changes nothing.

        Raises:
            StoreError: It is not durable; it can be loaded nevertheless while this process lives.
        """
        block_hash = self.hash_of(block)
        self._saving[block_hash] = block
        while len(self._saving) > BLOCKS_UNSAVED_MAX:
            del self._saving[next(iter(self._saving))]
        # The block must reach the disk even if whoever has found it is leaving.
        with trio.CancelScope(shield=True):
            # It may come as a share and be pushed at the same moment.
            async with self._writing:
                await trio.to_thread.run_sync(self._write, block_hash, block, account)
        self._saving.pop(block_hash, None)
        return block_hash

    @staticmethod
    def hash_of(block: bytes) -> bytes:
        """Returns the hash of a block, internal byte order."""
        return sha256d(block[:HEADER_LEN])

    async def load(self, block_hash: bytes) -> bytes | None:
        """Returns a block, or None when there is none of that hash."""
        waiting = self._saving.get(block_hash)
        if waiting is not None:
            return waiting
        return await trio.to_thread.run_sync(self._read, block_hash)

    def solutions(self) -> Iterator[tuple[Solution, int]]:
        """Yields what is on disk, the oldest first, with the account that each is due to."""
        for file in self._files():
            with file.open("rb") as opened:
                account_text, _, raw = opened.read(HEAD_LEN).partition(b"\n")
            try:
                yield _solution(raw), int(account_text)
            except (ValueError, LocalProtocolError):
                log.warning("a declared block cannot be read", file=str(file))

    def _files(self) -> list[Path]:
        if not self._directory.is_dir():
            return []
        return sorted(self._directory.glob("*.block"), key=lambda file: file.stat().st_mtime_ns)

    def _path(self, block_hash: bytes) -> Path:
        return self._directory / f"{block_hash[::-1].hex()}.block"

    def _write(self, block_hash: bytes, block: bytes, account: int) -> None:
        path = self._path(block_hash)
        if path.exists():
            return
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            write_whole(path, b"%d\n" % account + block, draft=path.with_suffix(".draft"))
            for old in self._files()[:-BLOCKS_KEPT_MAX]:
                old.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"a block cannot be written to {path}: {error.strerror or error}. It goes to the"
                " node all the same; make room for the next one"
            ) from error

    def _read(self, block_hash: bytes) -> bytes | None:
        try:
            return self._path(block_hash).read_bytes().partition(b"\n")[2]
        except FileNotFoundError:
            return None


def _solution(block: bytes) -> Solution:
    """Reads what a block says of itself; its template's number is no longer known."""
    reader = Reader(block)
    header = reader.take(HEADER_LEN)
    reader.take_compact_size()
    coinbase = Transaction.take_from(reader)
    return Solution(
        template_id=DECLARED_ID_MIN,
        version=int.from_bytes(header[:4], "little"),
        ntime=int.from_bytes(header[68:72], "little"),
        nonce=int.from_bytes(header[76:80], "little"),
        coinbase_tx=coinbase.to_bytes(),
        hash=sha256d(header),
    )
