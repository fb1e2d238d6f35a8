"""Follows what a federation holds: its keys, and the blocks that pay them.

Theory of operation. A key is known once a quorum of members has said the same of it last. Another
treasury key may follow; what templates pay to the one before counts for a while. A block is known
once one more than the faulty say the same of it. Among whom it is split is settled then, by the
window behind that epoch, and changes no more. Once as many say that it is mature, the books want it
paid out. So a block goes from said to known, from known to mature, and is let go when its output
can be spent by other means than the key.

Bounds: a member has one saying of each purpose, as many blocks as tips, and no more mature ones
than are known.

Source: `spec/15-checkpoint-state.md`, "Keys", "Blocks".
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from radpool_sv2._native.threshold import TREASURY
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.state.ledger import Block, FormerKey, KnownKey, output_of_key
from radpool_sv2.federation.state.payload import (
    NO_OUTPUT,
    Found,
    KeySaid,
    decode_mature,
)
from radpool_sv2.federation.state.payout import distributions_of, settled_distribution
from radpool_sv2.federation.state.rules import PayoutMode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radpool_sv2.federation.state.ledger import Books, Ledger, Stake
    from radpool_sv2.federation.state.rules import Rules

__all__ = ["AHEAD", "DISTRIBUTIONS_KEPT", "Holding"]

AHEAD: Final = 8
"""How many blocks what members say may be ahead of the end of the epoch: they mark late when they
are busy."""

DISTRIBUTIONS_KEPT: Final = 64
"""For how many epochs what templates paid may be paid: half for how long checkpoints may wait while
templates go on, half for how late a segment may come and still be judged."""


class Holding:
    """Takes in what members say of keys and blocks in one epoch.

    Args:
        rules: Of the federation.
        before: The state before the epoch.
        members: What is known of each, to be changed.

    Attributes:
        keys: Keys that are known.
        former: Treasury keys that may still be paid.
        blocks: Blocks that are known.
        distributions: How templates may pay the members.
    """

    def __init__(self, rules: Rules, before: Ledger, members: Sequence[Books]) -> None:
        self.keys = dict(before.keys)
        self.former = before.former
        self.blocks = dict(before.blocks)
        self.distributions = distributions_of(rules, before)[-DISTRIBUTIONS_KEPT:]
        self._rules = rules
        self._members = members
        self._epoch = before.epochs
        self._end = rules.height_of(before.epochs)

    def hear(self, books: Books, kind: int, payload: bytes) -> None:
        """Takes in what a member says.

        Raises:
            CodecError: It says nothing.
        """
        if kind == Kind.KEY_SAID:
            said = KeySaid.decode(payload)
            books.keys[said.purpose] = said
        elif kind == Kind.BLOCK_FOUND:
            found = Found.decode(payload)
            if (
                found.block_hash not in books.found
                and len(books.found) < 2 * self._rules.lateness + AHEAD
                and self._lowest <= found.height <= self._end + 1 + AHEAD
            ):
                books.found[found.block_hash] = found
        elif kind == Kind.BLOCK_MATURE:
            books.mature.add(decode_mature(payload))

    @property
    def _lowest(self) -> int:
        return self._end + 1 - self._rules.lateness

    def know(self) -> None:
        """Finds what is known, once all of the epoch has been heard."""
        self._know_keys()
        self._know_blocks()
        self._know_mature()

    def _know_keys(self) -> None:
        last_epoch = self._epoch - DISTRIBUTIONS_KEPT
        self.former = tuple(each for each in self.former if each.epoch > last_epoch)
        for purpose in sorted({purpose for books in self._members for purpose in books.keys}):
            said = [books.keys[purpose] for books in self._members if purpose in books.keys]
            known = next((each for each in said if said.count(each) >= self._rules.quorum), None)
            last = self.keys.get(purpose)
            if known is None or (last and last[:2] == (known.key, known.transcript)):
                continue
            self.keys[purpose] = KnownKey(known.key, known.transcript, self._epoch)
            if last and purpose == TREASURY:
                self.former = (*self.former, FormerKey(last.key, self._epoch))

    def treasury_keys(self) -> list[bytes]:
        """Lists the keys that templates may pay, the current one first."""
        known = self.keys.get(TREASURY)
        if known is None or self._rules.payout is PayoutMode.DIRECT:
            return []
        return [known.key, *(each.key for each in self.former)]

    def _know_blocks(self) -> None:
        for block_hash in sorted({name for books in self._members for name in books.found}):
            said = [books.found[block_hash] for books in self._members if block_hash in books.found]
            known = {each for each in said if said.count(each) > self._rules.faulty_max}
            if len(known) == 1 and block_hash not in self.blocks:
                block = self._block(known.pop())
                if block is not None:
                    self.blocks[block_hash] = block
        for books in self._members:
            books.found = {
                name: found
                for name, found in books.found.items()
                if name not in self.blocks and found.height >= self._lowest
            }

    def _block(self, found: Found) -> Block | None:
        """Finds what a block pays; nothing if it is nothing of this federation's."""
        place = found.height, found.txid, found.vout, found.value
        if self._rules.payout is PayoutMode.DIRECT:
            by = settled_distribution(self.distributions, found.value, found.paid)
            if by is None or found.vout != NO_OUTPUT:
                return None
            return Block(*place, by.root, self._epoch, by.stakes)
        for key in self.treasury_keys() if found.vout != NO_OUTPUT else ():
            if output_of_key(self._rules, key).output_key == found.paid:
                return Block(*place, key, self._epoch)
        return None

    def _know_mature(self) -> None:
        for block_hash, block in self.blocks.items():
            count = sum(block_hash in books.mature for books in self._members)
            if block.matured_epoch < 0 and count > self._rules.faulty_max:
                self.blocks[block_hash] = replace(block, matured_epoch=self._epoch)
        waiting = {name for name, block in self.blocks.items() if block.matured_epoch < 0}
        for books in self._members:
            books.mature &= waiting

    def settle(self, stakes: tuple[Stake, ...]) -> dict[bytes, Block]:
        """Returns the blocks behind the epoch.

        Args:
            stakes: Among whom blocks are split that became known in the epoch, or while nobody
                could be paid.
        """
        first = self._end - self._rules.recovery_blocks[0]
        blocks = {name: block for name, block in self.blocks.items() if block.height > first}
        # Who is said to be mature and is gone is not waited for.
        for books in self._members:
            books.mature &= blocks.keys()
        return {
            name: block if block.stakes else replace(block, stakes=stakes)
            for name, block in sorted(blocks.items())
        }
