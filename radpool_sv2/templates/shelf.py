"""Keeps the templates of a node whole, so that a block can be put together without the node.

A node forgets a template when its connection breaks or when it restarts; a solution that arrives
then must not be lost. What miners may still solve is therefore kept here: the templates of the
current tip and of the one before in memory, the newest ones on disk too, for when this process was
away.

A file is `ID.template`: a mark, prev_hash, nbits, a u8 and as many hashes of the merkle path, a u32
and as many transactions, each behind its u32 length, and the SHA-256 of all that; little-endian.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import structlog
import trio

from radpool_sv2.durable import write_whole
from radpool_sv2.errors import InternalError, LocalProtocolError
from radpool_sv2.templates.source import TemplateTransactions
from radpool_sv2.units import HASH_LEN, sha256d

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from radpool_sv2.templates.source import Solution, Template, Tip

__all__ = ["TemplateShelf"]

log = structlog.get_logger(__name__)

TEMPLATES_MAX: Final = 64
"""In memory; at a new template every 5 s and a block every 10 min half of it is the rule."""

FILES_MAX: Final = 8
"""On disk. A share is of one of the last few templates: miners leave an old one within seconds."""

MARK: Final = b"RPTMPL1\n"
SUFFIX: Final = ".template"
DRAFT: Final = ".draft"
"""One process writes, one file at a time: what a crash left is written over."""

_ID_SHIFT: Final = 20
"""A template's number begins with the time in ms: a million of them fit into one."""

_SEGWIT_MARK: Final = b"\x00\x01"
_WITNESS_LEN: Final = 34
_LOCKTIME_LEN: Final = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kept:
    """Is what a block needs besides the solution."""

    prev_hash: bytes
    nbits: int
    merkle_path: tuple[bytes, ...]
    transactions: TemplateTransactions


class TemplateShelf:
    """Keeps templates and their transactions; puts solved blocks together.

    Args:
        directory: Where the newest templates are kept on disk; None keeps them in memory only.
        templates_max: How many are kept in memory; more where templates share their transactions.
        clock_ms: Tells the Unix time in ms.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        templates_max: int = TEMPLATES_MAX,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._directory = directory
        self._templates_max = templates_max
        self._clock_ms = clock_ms
        self._kept: dict[int, _Kept] = {}
        self._tips: list[bytes] = []
        self._unsaved: list[int] = []
        self._last_id = max(self._files(), default=0)

    def next_id(self) -> int:
        """Returns a number that no template of this node ever had, below 2^63.

        It begins with the time, so a restart goes on above; what lies on disk bounds it from below,
        so a clock that went back does no harm.
        """
        self._last_id = max(self._last_id + 1, self._clock_ms() << _ID_SHIFT)
        return self._last_id

    def put(self, template: Template, tip: Tip, transactions: TemplateTransactions) -> None:
        """Keeps a template, and lets go of what belongs to the tip before the previous one."""
        if tip.prev_hash in self._tips:
            self._tips.remove(tip.prev_hash)
        self._tips = [*self._tips, tip.prev_hash][-2:]
        self._kept[template.id] = _Kept(
            prev_hash=tip.prev_hash,
            nbits=tip.nbits,
            merkle_path=template.merkle_path,
            transactions=transactions,
        )
        newest = list(self._kept)[-self._templates_max :]
        self._kept = {
            each: self._kept[each] for each in newest if self._kept[each].prev_hash in self._tips
        }
        if self._directory is not None:
            self._unsaved = [*self._unsaved, template.id][-FILES_MAX:]

    def holds(self, template_id: int) -> bool:
        """Returns whether a template is kept in memory."""
        return template_id in self._kept

    def transactions(self, template_id: int) -> TemplateTransactions:
        """Returns the transactions of a template.

        Raises:
            LocalProtocolError: It is not kept.
        """
        return self._find(template_id).transactions

    def block(self, solution: Solution) -> bytes:
        """Puts a solved block together, from disk when it must; may read a file.

        Raises:
            LocalProtocolError: The template is not kept, or the solution does not fit it.
        """
        kept = self._find(solution.template_id)
        root = sha256d(_without_witness(solution.coinbase_tx))
        for sibling in kept.merkle_path:
            root = sha256d(root + sibling)
        header = (
            solution.version.to_bytes(4, "little")
            + kept.prev_hash
            + root
            + solution.ntime.to_bytes(4, "little")
            + kept.nbits.to_bytes(4, "little")
            + solution.nonce.to_bytes(4, "little")
        )
        if sha256d(header) != solution.hash:
            raise LocalProtocolError(
                f"the solution of template {solution.template_id} has another hash than its block"
            )
        raws = kept.transactions.raw
        return header + _compact_size(1 + len(raws)) + solution.coinbase_tx + b"".join(raws)

    async def save(self) -> None:
        """Writes what was put since the last call, and removes old files.

        A disk that fails costs the templates nothing but their safety in a restart: it is logged.
        """
        directory, unsaved = self._directory, self._unsaved
        self._unsaved = []
        for template_id in unsaved:
            kept = self._kept.get(template_id)
            if kept is not None and directory is not None:
                await trio.to_thread.run_sync(_write, directory, template_id, kept)
        if unsaved and directory is not None:
            await trio.to_thread.run_sync(self._remove_old)

    def _find(self, template_id: int) -> _Kept:
        kept = self._kept.get(template_id) or self._read(template_id)
        if kept is None:
            raise LocalProtocolError(f"template-id-not-found: template {template_id} is not kept")
        return kept

    def _files(self) -> list[int]:
        """Returns the numbers of the templates on disk, oldest first."""
        if self._directory is None or not self._directory.is_dir():
            return []
        names = (each.stem for each in self._directory.glob(f"*{SUFFIX}"))
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def _remove_old(self) -> None:
        assert self._directory is not None
        for old in self._files()[:-FILES_MAX]:
            with contextlib.suppress(OSError):  # the next time will do as well
                (self._directory / f"{old}{SUFFIX}").unlink()

    def _read(self, template_id: int) -> _Kept | None:
        if self._directory is None:
            return None
        file = self._directory / f"{template_id}{SUFFIX}"
        try:
            return _decoded(file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.error(  # noqa: TRY400 - the message tells the cause, the place is always this
                "a kept template cannot be read", file=str(file), reason=str(error)
            )
            return None


def _write(directory: Path, template_id: int, kept: _Kept) -> None:
    """Writes a template durably, all of it or nothing."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = directory / f"{template_id}{SUFFIX}"
        write_whole(file, _encoded(kept), draft=directory / DRAFT)
    except OSError as error:
        log.warning(
            "a template cannot be kept on disk", directory=str(directory), reason=error.strerror
        )


def _encoded(kept: _Kept) -> bytes:
    parts = [MARK, kept.prev_hash, kept.nbits.to_bytes(4, "little")]
    parts += [bytes([len(kept.merkle_path)]), *kept.merkle_path]
    parts.append(len(kept.transactions.raw).to_bytes(4, "little"))
    for raw in kept.transactions.raw:
        parts += [len(raw).to_bytes(4, "little"), raw]
    body = b"".join(parts)
    return body + sha256(body).digest()


def _decoded(data: bytes) -> _Kept:
    """Reads a file back.

    Raises:
        ValueError: It is not what was written.
    """
    body, checksum = data[:-HASH_LEN], data[-HASH_LEN:]
    if not body.startswith(MARK) or sha256(body).digest() != checksum:
        raise ValueError("its checksum is wrong")
    offset = len(MARK)

    def take(length: int) -> bytes:
        nonlocal offset
        field = body[offset : offset + length]
        offset += length
        if len(field) != length:
            raise InternalError("a template's file has a right checksum and ends early")
        return field

    def number() -> int:
        return int.from_bytes(take(4), "little")

    prev_hash, nbits = take(HASH_LEN), number()
    path = tuple(take(HASH_LEN) for _ in range(take(1)[0]))
    raws = tuple(take(number()) for _ in range(number()))
    return _Kept(
        prev_hash=prev_hash,
        nbits=nbits,
        merkle_path=path,
        transactions=TemplateTransactions(raws, None),
    )


def _without_witness(coinbase: bytes) -> bytes:
    """Returns what the coinbase's txid is the hash of."""
    if coinbase[4:6] != _SEGWIT_MARK:
        return coinbase
    end = len(coinbase) - _LOCKTIME_LEN
    return coinbase[:4] + coinbase[6 : end - _WITNESS_LEN] + coinbase[end:]


def _compact_size(count: int) -> bytes:
    if count < 0xFD:
        return bytes([count])
    return b"\xfd" + count.to_bytes(2, "little")
