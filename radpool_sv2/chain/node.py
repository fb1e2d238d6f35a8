"""Is the embedded chain without its process: engine, log, coins, mempool, templates, wallet.

All calls are synchronous and come from one thread. The order in which a block becomes part of the
chain is: the demo rule, the consensus engine, the block log on disk, the maps, whoever listens. If
the log refuses, the engine is ahead of it: `StoreError` leaves this object unusable, and the
process starts again from the log.

The demo rule: regtest asks for one bit of work, so nearly every share would be a block. With
`block_zeros = N`, blocks from outside (`submit_solution`, `submit_block`) need N leading zero bits
in their hash. Blocks that the operator orders (`mine`, `reorg`, and those a new chain begins with)
are made here and need only regtest's one bit: they serve tests and learning, and nobody's shares
are judged by them. The rule is no consensus rule; status, templates and refusals say so.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from radpool_sv2.chain.assembly import (
    BLOCK_VERSION,
    COINBASE_SEQUENCE,
    COINBASE_VERSION,
    BlockTemplate,
    Room,
    choose,
)
from radpool_sv2.chain.block import (
    HEADER_LEN,
    WITNESS_RESERVED,
    Block,
    Header,
)
from radpool_sv2.chain.coin import CoinMap, Tip
from radpool_sv2.chain.faucet import FAUCET_SECRET, TaprootKey, pay
from radpool_sv2.chain.journal import Journal
from radpool_sv2.chain.judgement import Judgement
from radpool_sv2.chain.kernel import Connected, Kernel, Status, Verdict
from radpool_sv2.chain.mempool import Mempool, RefusedError
from radpool_sv2.chain.record_log import Record, RecordLog
from radpool_sv2.chain.script import push
from radpool_sv2.chain.transaction import Transaction, TxInput, TxOutput
from radpool_sv2.consensus import push_height, subsidy_sats
from radpool_sv2.errors import InternalError, LocalProtocolError, StoreError
from radpool_sv2.network import REGTEST
from radpool_sv2.units import leading_zero_bits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

__all__ = ["BLOCK_ZEROS_MAX", "FOUNDING_BLOCKS", "Changes", "Node", "Submitted"]

# The faucet's first coinbase matures with the 101st block.
FOUNDING_BLOCKS: Final = 101
# 48 bits are years of work for a demo: more is a mistake in the configuration.
BLOCK_ZEROS_MAX: Final = 48
REORG_DEPTH_MAX: Final = 100
MINE_MAX: Final = 1_000
_NBITS: Final = 0x207FFFFF
_REGTEST_TARGET: Final = 0x7FFFFF << 8 * 29
_KIND_BLOCK: Final = 1
_COINBASE_TEXT: Final = b"/radpool embedded chain/"


@dataclass(frozen=True)
class Submitted:
    """Is the answer to a block: `active` tells whether it is on the active chain now."""

    status: Status
    reason: str = ""
    detail: str = ""
    hash: bytes = b""
    active: bool = False


@dataclass(frozen=True)
class Changes:
    """Tells how the active chain differs from when `since` was its tip; hashes in order.

    `disconnected` goes down from the old tip, `connected` up to the new one. When the old tip is
    not known, both are empty and `known` is False.
    """

    known: bool
    height: int
    tip: bytes
    disconnected: tuple[bytes, ...] = ()
    connected: tuple[bytes, ...] = ()


class Node:
    """Is one embedded chain in one directory, which it alone uses."""

    def __init__(
        self, directory: Path, block_zeros: int, now: Callable[[], int] = lambda: int(time.time())
    ) -> None:
        """Opens the files and an empty engine; `replay` has to be run to its end next."""
        if not 0 <= block_zeros <= BLOCK_ZEROS_MAX:
            raise LocalProtocolError(
                f"block_zeros is {block_zeros}, allowed: 0 to {BLOCK_ZEROS_MAX}"
            )
        self.block_zeros = block_zeros
        self.wallet = TaprootKey(FAUCET_SECRET)
        self.template: BlockTemplate | None = None
        self.room = Room()
        self._judgement: Judgement | None = None
        self._now = now
        self._log, self._records = RecordLog.open(directory / "chain.blocks")
        self._kernel = Kernel(directory / "chain.scratch")
        genesis = Header.from_bytes(self._kernel.header_at(0))
        self.chain = CoinMap(Tip(genesis.hash, genesis.time))
        self.mempool = Mempool(self.chain)
        self._journal = Journal(directory / "chain.templates")
        self._template_id = max([*self._journal.templates, 0])
        self._template_changes = 0

    @property
    def target(self) -> int:
        """What the hash of a block from outside, as a number, must not exceed."""
        return min(_REGTEST_TARGET, (1 << 256 - self.block_zeros) - 1)

    @property
    def log_bytes(self) -> int:
        """The size of the block log."""
        return self._log.size

    def replay(self) -> Iterator[tuple[int, int]]:
        """Feeds the logged blocks to the engine, founds a new chain, and makes the first template.

        Yields:
            How many blocks are done, and of how many, after each block.

        Raises:
            StoreError: The engine refuses a block that it had accepted.
        """
        total = max(len(self._records), FOUNDING_BLOCKS)
        for number, record in enumerate(self._records, 1):
            block = Block.from_bytes(record.payload)
            verdict = self._kernel.process(record.payload, block.header.hash)
            if verdict.status is Status.REJECTED:
                raise StoreError(
                    f"{self._log.path}: block {number} was accepted once and is refused now "
                    f"({verdict.reason}). Is the clock right? Else restore the file from a copy"
                )
            self._follow(verdict)
            yield number, total
        self._records = []
        for transaction in self._journal.transactions.values():
            self._accept_again(transaction)
        while self.chain.height < FOUNDING_BLOCKS:
            answer = self.mine(self.wallet.script)
            if not answer.active:
                raise InternalError(f"the engine refused a founding block: {answer.reason}")
            yield self.chain.height, total
        self._journal.compact(self._waiting(), always=True)
        self.renew_template()

    def close(self) -> None:
        """Closes the files."""
        self._log.close()
        self._journal.close()

    # -- templates ---------------------------------------------------------------------------

    def template_is_stale(self) -> bool:
        """Tells whether the mempool or the room has changed since the template was made."""
        return (
            self.template is None
            or self._template_changes != self.mempool.changes
            or self.template.room != self.room
        )

    def remembered(self, template_id: int) -> BlockTemplate | None:
        """Returns one of the newest templates by its id."""
        return self._journal.templates.get(template_id)

    def renew_template(self) -> BlockTemplate:
        """Makes a template on the tip, durable before it is returned."""
        self._template_changes = self.mempool.changes
        # Ids never repeat, even when the journal is lost: then they go on from the clock.
        self._template_id = max(self._template_id + 1, self._now() * 1000)
        template = self._build_template(self._template_id)
        self._journal.add_template(template)
        self._journal.compact(self._waiting())
        self.template = template
        return template

    def _build_template(self, template_id: int) -> BlockTemplate:
        chosen = choose(self.mempool, self.room)
        height = self.chain.height + 1
        time_min = self.chain.median_time() + 1
        start = max(time_min, self._now())
        # Within one tip the start never moves: miners have built on it.
        if self.template is not None and self.template.previous == self.chain.tip.hash:
            start = self.template.time
        fees = sum(entry.fee_sats for entry in chosen)
        return BlockTemplate(
            id=template_id,
            previous=self.chain.tip.hash,
            height=height,
            nbits=_NBITS,
            time_min=time_min,
            time=start,
            value_sats=subsidy_sats(height, REGTEST.halving_blocks) + fees,
            fees_sats=fees,
            transactions=tuple(entry.transaction for entry in chosen),
            weight=self.room.weight + sum(entry.weight for entry in chosen),
            tx_fees_sats=tuple(entry.fee_sats for entry in chosen),
            room=self.room,
        )

    # -- blocks ------------------------------------------------------------------------------

    def submit_solution(
        self, template_id: int, version: int, ntime: int, nonce: int, coinbase: bytes
    ) -> Submitted:
        """Takes the solution of a template; the same one again is a duplicate.

        Args:
            template_id: Which template.
            version: The header's version with its rolled bits.
            ntime: The header's time, s.
            nonce: The header's nonce.
            coinbase: The whole coinbase transaction with its witness.
        """
        template = self._journal.templates.get(template_id)
        if template is None:
            return Submitted(
                Status.REJECTED, "template-unknown", f"template {template_id} is not remembered"
            )
        try:
            transaction = Transaction.from_bytes(coinbase)
        except LocalProtocolError as error:
            return Submitted(Status.REJECTED, "coinbase-decode-failed", str(error))
        block = template.block(transaction, version=version, time=ntime, nonce=nonce)
        return self._take_from_outside(block.header, block.to_bytes())

    def submit_block(self, raw: bytes) -> Submitted:
        """Takes a whole block from outside."""
        try:
            header = Header.from_bytes(raw[:HEADER_LEN])
        except LocalProtocolError as error:
            return Submitted(Status.REJECTED, "block-decode-failed", str(error))
        return self._take_from_outside(header, raw)

    def judge(self, raw: bytes) -> Verdict | Judgement:
        """Judges a block that builds on the tip and need not have proof of work.

        Args:
            raw: The serialised block.

        Returns:
            The verdict, or a judgement under way that tells it; one at a time.
        """
        try:
            header = Header.from_bytes(raw[:HEADER_LEN])
        except LocalProtocolError as error:
            return Verdict(Status.REJECTED, "block-decode-failed", str(error))
        if header.previous != self.chain.tip.hash:
            detail = f"the tip is {self.chain.tip.hash[::-1].hex()}"
            return Verdict(Status.REJECTED, "stale-prevblk", detail)
        if header.nbits != _NBITS:
            # Before the solving, which a harder target would make long.
            detail = f"incorrect proof of work: {header.nbits:#010x}, not {_NBITS:#010x}"
            return Verdict(Status.REJECTED, "bad-diffbits", detail)
        self._give_judgement_up()
        self._judgement = Judgement(self._kernel, raw, _REGTEST_TARGET)
        return self._judgement

    def _give_judgement_up(self) -> None:
        if self._judgement is not None:
            self._judgement.give_up()
            self._judgement = None

    def _take_from_outside(self, header: Header, raw: bytes) -> Submitted:
        zeros = leading_zero_bits(header.hash)
        if zeros < self.block_zeros:
            detail = f"this demo chain asks for {self.block_zeros} leading zero bits, {zeros} found"
            return Submitted(Status.REJECTED, "block-zeros-too-few", detail, header.hash)
        return self._take(header, raw)

    def _take(self, header: Header, raw: bytes) -> Submitted:
        self._give_judgement_up()
        verdict = self._kernel.process(raw, header.hash)
        if verdict.status is Status.ACCEPTED:
            self._log.append([Record(_KIND_BLOCK, raw)])
        self._follow(verdict)
        active = self._kernel.height_of(header.hash) is not None
        return Submitted(verdict.status, verdict.reason, verdict.detail, header.hash, active)

    def _follow(self, verdict: Verdict) -> None:
        """Brings coins and mempool to where the engine is."""
        returned: list[tuple[Transaction, ...]] = []
        for event in verdict.events:
            if event.height == 0:
                continue  # the engine reports its own genesis block with the first block
            block = Block.from_bytes(event.raw)
            self.chain.apply(event, block)
            if isinstance(event, Connected):
                self.mempool.connect(block)
            else:
                returned.append(block.transactions[1:])
        if returned:
            self.mempool.rebuild([each for block in reversed(returned) for each in block])

    def mine(self, script: bytes) -> Submitted:
        """Makes one block on the tip with the waiting transactions, exempt from the demo rule.

        Args:
            script: The output script that gets subsidy and fees.
        """
        template = self._build_template(0)
        coinbase = _coinbase(template.height, script, template.value_sats, template.commitment)
        return self._solve(template, coinbase)

    def reorg(self, depth: int) -> list[Submitted]:
        """Replaces the last `depth` blocks by `depth + 1` empty ones, exempt from the demo rule."""
        most = min(REORG_DEPTH_MAX, self.chain.height)
        if not 1 <= depth <= most:
            raise LocalProtocolError(f"a reorg of depth {depth} is not possible: 1 to {most}")
        tips = self.chain.tips[:-depth]
        answers = []
        for _ in range(depth + 1):
            past = sorted(tip.time for tip in tips[-11:])
            start = max(past[len(past) // 2] + 1, self._now())
            height, previous = len(tips), tips[-1].hash
            value = subsidy_sats(height, REGTEST.halving_blocks)
            template = BlockTemplate(
                0, previous, height, _NBITS, start, start, value, 0, (), Room().weight
            )
            coinbase = _coinbase(height, self.wallet.script, value, template.commitment)
            answer = self._solve(template, coinbase)
            answers.append(answer)
            tips.append(Tip(answer.hash, start))
        return answers

    def _solve(self, template: BlockTemplate, coinbase: Transaction) -> Submitted:
        for nonce in range(1 << 32):  # two tries on average
            block = template.block(coinbase, version=BLOCK_VERSION, time=template.time, nonce=nonce)
            if int.from_bytes(block.header.hash, "little") <= _REGTEST_TARGET:
                return self._take(block.header, block.to_bytes())
        raise LocalProtocolError("no nonce solves the block")

    def confirmations(self, block_hash: bytes) -> int | None:
        """Returns how many blocks deep a block is on the active chain, the tip being 1, or None."""
        height = self._kernel.height_of(block_hash)
        return None if height is None else self.chain.height - height + 1

    def block_at(self, height: int) -> bytes:
        """Returns the bytes of the active block at a height."""
        return self._kernel.block_at(height)

    def changes_since(self, since: bytes) -> Changes:
        """Returns how the active chain differs from when `since` was its tip."""
        fork = self._kernel.fork_height(since)
        tip = Changes(known=False, height=self.chain.height, tip=self.chain.tip.hash)
        if fork is None:
            return tip
        disconnected = self._kernel.branch_above(since, fork)
        connected = tuple(each.hash for each in self.chain.tips[fork + 1 :])
        return Changes(True, tip.height, tip.tip, disconnected, connected)

    # -- transactions ------------------------------------------------------------------------

    def submit_transaction(self, raw: bytes) -> Transaction:
        """Takes a transaction into the mempool.

        Raises:
            RefusedError: It is not taken.
        """
        try:
            transaction = Transaction.from_bytes(raw)
        except LocalProtocolError as error:
            raise RefusedError("tx-decode-failed", str(error)) from error
        self._journal_accepted(transaction)
        return transaction

    def send(self, script: bytes, amount_sats: int, fee_rate_sats_per_vbyte: int) -> Transaction:
        """Pays from the faucet's wallet.

        Raises:
            RefusedError: The wallet cannot pay that now.
        """
        target = TxOutput(amount_sats, script)
        transaction = pay(self.wallet, self.chain, self.mempool, target, fee_rate_sats_per_vbyte)
        self._journal_accepted(transaction)
        return transaction

    def _journal_accepted(self, transaction: Transaction) -> None:
        self.mempool.accept(transaction)
        self._journal.add_transaction(transaction)

    def _accept_again(self, transaction: Transaction) -> None:
        try:
            self.mempool.accept(transaction)
        except RefusedError:
            return  # confirmed meanwhile, or only named by an old template

    def _waiting(self) -> Sequence[Transaction]:
        return [entry.transaction for entry in self.mempool.in_order()]


def _coinbase(height: int, script: bytes, value_sats: int, commitment: TxOutput) -> Transaction:
    """Builds the coinbase of a block that is made here; random bytes keep each one apart."""
    text = push_height(height) + push(_COINBASE_TEXT) + push(os.urandom(8))
    source = TxInput((bytes(32), 0xFFFFFFFF), text, COINBASE_SEQUENCE, (WITNESS_RESERVED,))
    outputs = (TxOutput(value_sats, script), commitment)
    return Transaction(COINBASE_VERSION, (source,), outputs, 0)
