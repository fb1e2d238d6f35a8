"""Wraps Bitcoin Core's consensus engine: takes blocks, gives verdicts with Core's own reasons.

The engine runs wholly in memory and on a scratch directory that is emptied at each start, because
it may lose everything since its last clean close: the block log is the truth, and feeding 300
blocks takes 0.1 s. It says valid or invalid through a callback, and the reason only in its log, in
one line per judged block:

    BlockChecked: block hash=<hash> state=<reason>[, <detail>]

`Kernel.process` puts the two together. Callbacks only collect: asking the engine anything from
inside one may deadlock, so what they report is handled after `process_block` has returned.
"""

from __future__ import annotations

import ctypes
import re
import shutil
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import pbk

from radpool_sv2.chain.transaction import TxOutput
from radpool_sv2.errors import InternalError, StoreError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Connected", "Disconnected", "Kernel", "Status", "Verdict"]

_CHECKED: Final = re.compile(r"BlockChecked: block hash=([0-9a-f]{64}) state=(.*)")
# Reasons of refused blocks that are remembered, so that asking again gives the same answer.
REFUSED_MAX: Final = 1_000


class Status(Enum):
    """Says what became of a block."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Connected:
    """Says that a block joined the active chain."""

    height: int
    raw: bytes


@dataclass(frozen=True)
class Disconnected:
    """Says that a block left the active chain; `spent` are the coins its inputs give back."""

    height: int
    raw: bytes
    spent: tuple[tuple[SpentCoin, ...], ...]


@dataclass(frozen=True)
class SpentCoin:
    """Is an output together with where it came from, as the engine's undo data holds it."""

    output: TxOutput
    height: int
    coinbase: bool


@dataclass(frozen=True)
class Verdict:
    """Is the engine's answer to one block.

    `reason` is Core's word, such as `bad-cb-amount`, and `detail` its explanation; both are empty
    for an accepted block. `events` are the changes of the active chain, in order.
    """

    status: Status
    reason: str = ""
    detail: str = ""
    events: tuple[Connected | Disconnected, ...] = ()


class _Block(pbk.Block):  # type: ignore[misc] # the package has no types
    """Is a parsed block whose bytes were handed over in one piece.

    The package's own constructor makes a Python object of each byte. Giving the bytes back is slow
    in any case, one call from the engine for each field, and is avoided where they are at hand.
    """

    def __init__(self, raw: bytes) -> None:
        buffer = (ctypes.c_ubyte * len(raw)).from_buffer_copy(raw)
        super(pbk.Block, self).__init__(buffer, len(raw))


@dataclass
class _Collected:
    """Holds what the callbacks of one call have said; `raw` and `block_hash` are its block."""

    raw: bytes = b""
    block_hash: bytes = b""
    events: list[tuple[bool, int, bytes]] = field(default_factory=list)
    states: dict[bytes, str] = field(default_factory=dict)
    final: set[bytes] = field(default_factory=set)
    failed: bool = False
    last_line: str = ""


class Kernel:
    """Is one engine on regtest; only one thread uses it."""

    def __init__(self, scratch: Path) -> None:
        self._collected = _Collected()
        self._refused: dict[bytes, tuple[str, str]] = {}
        try:
            shutil.rmtree(scratch, ignore_errors=True)
            (scratch / "blocks").mkdir(parents=True)
        except OSError as error:
            raise StoreError(f"{scratch} cannot be emptied: {error.strerror}") from error
        self._callbacks = pbk.ValidationInterfaceCallbacks(
            block_checked=self._on_checked,
            block_connected=self._on_connected,
            block_disconnected=self._on_disconnected,
        )
        pbk.logging_set_options(
            pbk.LoggingOptions(log_timestamps=False, always_print_category_levels=False)
        )
        pbk.set_log_level_category(pbk.LogCategory.ALL, pbk.LogLevel.DEBUG)
        pbk.enable_log_category(pbk.LogCategory.VALIDATION)
        self._log = pbk.LoggingConnection(self._on_log)
        context = pbk.make_context(pbk.ChainType.REGTEST, self._callbacks)
        options = pbk.ChainstateManagerOptions(context, str(scratch), str(scratch / "blocks"))
        options.set_worker_threads_num(0)
        options.update_block_tree_db_in_memory(block_tree_db_in_memory=True)
        options.update_chainstate_db_in_memory(chainstate_db_in_memory=True)
        self._manager = pbk.ChainstateManager(options)
        self._chain = self._manager.get_active_chain()

    @property
    def height(self) -> int:
        """The height of the active tip."""
        return int(self._chain.height)

    def hash_at(self, height: int) -> bytes:
        """Returns the hash of the active block at a height, in internal byte order."""
        return bytes(self._chain.block_tree_entries[height].block_hash)

    def header_at(self, height: int) -> bytes:
        """Returns the 80 header bytes of the active block at a height."""
        return bytes(self._chain.block_tree_entries[height].block_header)

    def knows(self, block_hash: bytes) -> bool:
        """Tells whether the engine has seen a valid header with this hash."""
        return pbk.BlockHash(block_hash) in self._manager.block_tree_entries

    def height_of(self, block_hash: bytes) -> int | None:
        """Returns the height of a block when it is on the active chain, else None."""
        key = pbk.BlockHash(block_hash)
        if key not in self._manager.block_tree_entries:
            return None
        height = int(self._manager.block_tree_entries[key].height)
        on_chain = height <= self.height and self.hash_at(height) == block_hash
        return height if on_chain else None

    def fork_height(self, block_hash: bytes) -> int | None:
        """Returns the height of the youngest active block below a known block, itself included."""
        key = pbk.BlockHash(block_hash)
        if key not in self._manager.block_tree_entries:
            return None
        entry = self._manager.block_tree_entries[key]
        height = int(entry.height)
        while height > self.height or self.hash_at(height) != self._ancestor(entry, height):
            height -= 1
        return height

    def branch_above(self, block_hash: bytes, height: int) -> tuple[bytes, ...]:
        """Returns a known block and its ancestors down to above `height`, in that order."""
        entry = self._manager.block_tree_entries[pbk.BlockHash(block_hash)]
        return tuple(self._ancestor(entry, at) for at in range(int(entry.height), height, -1))

    def block_at(self, height: int) -> bytes:
        """Returns the bytes of the active block at a height."""
        return bytes(self._manager.blocks[self._chain.block_tree_entries[height]])

    def process(self, raw: bytes, block_hash: bytes) -> Verdict:
        """Judges a block and, when it is good, keeps it.

        Args:
            raw: The serialised block.
            block_hash: Its hash, internal byte order.

        Raises:
            StoreError: The engine failed at its own work; nothing is known about the block.
        """
        if block_hash in self._refused:
            reason, detail = self._refused[block_hash]
            return Verdict(Status.REJECTED, reason, detail)
        self._collected = collected = _Collected(raw, block_hash)
        try:
            block = _Block(raw)
            if _begins_with_block(raw[:-1]):
                # The engine would pass over bytes behind the block; the log must not have them.
                return Verdict(Status.REJECTED, "block-decode-failed", "bytes follow the block")
            is_new = self._manager.process_block(block)
        except pbk.ProcessBlockException:
            # A refusal has been reported by now; without one, the engine itself has failed.
            is_new = True
            collected.failed |= block_hash not in collected.states
        except RuntimeError:
            return Verdict(Status.REJECTED, "block-decode-failed", "the bytes are not a block")
        if collected.failed:
            raise StoreError(f"the consensus engine failed: {collected.last_line}")
        self._remember_refusals(collected)
        state = collected.states.get(block_hash, "")
        if state not in ("", "Valid"):
            reason, _, detail = state.partition(", ")
            return Verdict(Status.REJECTED, reason, detail, self._events(collected))
        if not is_new:
            return Verdict(Status.DUPLICATE)
        if not self.knows(block_hash):
            raise InternalError(f"the engine gave no verdict on block {block_hash[::-1].hex()}")
        return Verdict(Status.ACCEPTED, events=self._events(collected))

    @staticmethod
    def _ancestor(entry: Any, height: int) -> bytes:
        return bytes(entry.get_ancestor(height).block_hash)

    def _remember_refusals(self, collected: _Collected) -> None:
        """Keeps refusals that the engine will not repeat: it answers "duplicate" from then on.

        Only a fault of what the header commits to is final. A body that does not belong to the
        header says nothing about the block, whose right body may still come.
        """
        for block_hash in collected.final:
            if len(self._refused) >= REFUSED_MAX:
                self._refused.pop(next(iter(self._refused)))
            reason, _, detail = collected.states[block_hash].partition(", ")
            self._refused[block_hash] = (reason, detail)

    def _events(self, collected: _Collected) -> tuple[Connected | Disconnected, ...]:
        return tuple(
            Connected(height, raw) if connected else Disconnected(height, raw, self._spent_by(raw))
            for connected, height, raw in collected.events
        )

    def _spent_by(self, raw: bytes) -> tuple[tuple[SpentCoin, ...], ...]:
        """Reads back the coins that a block's transactions spent, the coinbase left out."""
        entry = self._manager.block_tree_entries[_Block(raw).block_hash]
        undo = self._manager.block_spent_outputs[entry]
        return tuple(
            tuple(
                SpentCoin(
                    TxOutput(int(coin.output.amount), bytes(coin.output.script_pubkey)),
                    int(coin.confirmation_height),
                    bool(coin.is_coinbase),
                )
                for coin in spent.coins
            )
            for spent in undo.transactions
        )

    def _on_checked(self, _data: object, block: Any, state: Any) -> None:
        if state.validation_mode == pbk.ValidationMode.INTERNAL_ERROR:
            self._collected.failed = True
        if state.block_validation_result == pbk.BlockValidationResult.CONSENSUS:
            self._collected.final.add(bytes(block.block_hash))

    def _on_connected(self, _data: object, block: Any, entry: Any) -> None:
        self._collected.events.append((True, int(entry.height), self._bytes_of(block)))

    def _on_disconnected(self, _data: object, block: Any, entry: Any) -> None:
        self._collected.events.append((False, int(entry.height), bytes(block)))

    def _bytes_of(self, block: Any) -> bytes:
        """Returns the bytes of a block that was found good.

        Its hash commits to all of them: to the witnesses by the coinbase's commitment.
        """
        if bytes(block.block_hash) == self._collected.block_hash:
            return self._collected.raw
        return bytes(block)

    def _on_log(self, line: str) -> None:
        self._collected.last_line = line.strip()
        found = _CHECKED.search(line)
        if found:
            self._collected.states[bytes.fromhex(found[1])[::-1]] = found[2].strip()


def _begins_with_block(raw: bytes) -> bool:
    """Tells whether bytes are a block, whatever follows it: a block has one serialisation."""
    try:
        _Block(raw)
    except RuntimeError:
        return False
    return True
