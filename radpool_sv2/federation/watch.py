"""Watches the own bitcoin node for the federation: blocks that pay it, and its payouts.

Theory of operation. At each look the watch takes the latest certified books and asks the node for
its best block; if that is another one, it follows the active chain. What the books do not have from
this member yet, and the node confirms, is said: a block that pays, a block that is mature. Nothing
is remembered but the chain's last coinbases and what was said a while ago, so a start needs no
place to go on from: the books are the place. Saying a thing again changes nothing in them.

While the best block, the books and the signatures are those of the last look, and all was said that
there was to say, there is nothing to find: such a look is one question to the node. A hash names
the whole chain behind it, so a reorganisation cannot hide, however high it ends. What failed is
looked at anew as after a start.

A block pays by books that may be ahead of the own ones; so its coinbase is looked at again with
each new ones, for as long as the federation counts work on it.

Each payout that has a signature is given to the node at each new tip while its output is unspent in
the node's chain and mempool: a reorganisation or a full mempool loses none.

Bounds: `lateness` coinbases; as many payouts as the books have mature blocks; one signature for
each block that was ever paid out, which are as many as the store has.

Source: `spec/17-federation-coinbase.md`, "Blocks", "Payout".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol, TypeVar

import msgspec
import structlog
import trio

from radpool_sv2.chain.transaction import Transaction
from radpool_sv2.errors import LocalProtocolError, NodeError, StoreError
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.state.holding import AHEAD
from radpool_sv2.federation.state.ledger import syndicate_outputs
from radpool_sv2.federation.state.payload import NO_OUTPUT, Found, Tip
from radpool_sv2.federation.state.payout import distributions_of, find_distribution
from radpool_sv2.federation.state.rules import PayoutMode
from radpool_sv2.federation.state.spends import payout_of
from radpool_sv2.node.refusal import RpcRefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from radpool_sv2.federation.signing.purpose import Task
    from radpool_sv2.federation.state.ledger import Block, Distribution, Ledger
    from radpool_sv2.federation.state.rules import Rules
    from radpool_sv2.node.rpc import NodeRpc

__all__ = ["ChainWatch", "Stream"]

log = structlog.get_logger(__name__)

AGAIN_EPOCHS: Final = 8
"""What was said and is not in the books after so many epochs is said again."""

BATCH: Final = 16
"""How many blocks the node is asked for at once: their lists of transactions are long."""

T = TypeVar("T")

_Hash = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_Hex = Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{2})+\Z")]


class Stream(Protocol):
    """Is the own stream."""

    def append(self, kind: int, payload: bytes) -> None:
        """Appends a payload.

        Raises:
            LocalProtocolError: Too much waits already.
        """


@dataclass(frozen=True, slots=True)
class _Coinbase:
    """Is the coinbase of a block of the active chain."""

    block_hash: bytes
    height: int
    transaction: Transaction


class _Block(msgspec.Struct):
    tx: Annotated[list[_Hash], msgspec.Meta(min_length=1)]


class _Header(msgspec.Struct):
    confirmations: int


class _Template(msgspec.Struct):
    previousblockhash: _Hash
    height: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
    bits: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{8}\Z")]
    target: _Hash


class ChainWatch:
    """Watches the own node.

    Args:
        rpc: The node.
        rules: By which the federation counts.
        me: The member's number.
        stream: Where it says what it sees.
        books: Returns the latest certified books; nothing before the first.
        tips: Whether it says tips too: where no pool does.
    """

    def __init__(  # noqa: PLR0913 - what it stands between
        self,
        rpc: NodeRpc,
        rules: Rules,
        me: int,
        stream: Stream,
        books: Callable[[], Awaitable[Ledger | None]],
        *,
        tips: bool,
    ) -> None:
        self._rpc = rpc
        self._rules = rules
        self._me = me
        self._stream = stream
        self._books = books
        self._says_tips = tips
        self._coinbases: dict[int, _Coinbase] = {}
        self._followed = ""
        self._height = 0
        self._seen: tuple[str, int, int] | None = None
        self._is_held_back = False
        self._said: dict[tuple[int, bytes], int] = {}
        self._tip = ""
        self._tried: set[tuple[str, bytes]] = set()
        self._signatures: dict[bytes, bytes] = {}
        self._spent: set[bytes] = set()
        self._failure = ""

    # What others call.

    def signed(self, task: Task, signature: bytes) -> None:
        """Takes a signature of the treasury key; may be told it again."""
        self._signatures[task.message] = signature

    def status(self) -> dict[str, Any]:
        """Returns the figures that an operator looks at, ready for JSON."""
        return {
            "payouts_signed": len(self._signatures),
            "payouts_confirmed": len(self._spent),
            "failure": self._failure,
        }

    async def run(self, seconds: float) -> None:
        """Looks again and again until it is cancelled."""
        while True:
            try:
                await self.look()
            except (NodeError, StoreError) as error:
                if not self._failure:
                    log.warning("blocks and payouts cannot be watched", reason=str(error))
                self._failure = str(error)
            else:
                self._failure = ""
            await trio.sleep(seconds)

    async def look(self) -> None:
        """Looks once.

        Raises:
            NodeError: The node does not say what is asked.
            StoreError: The books cannot be read.
        """
        ledger = await self._books()
        try:
            await self._look(ledger)
        except NodeError:
            # Whoever answers next may be another node, or the same one with a chain of its backup.
            self._followed, self._seen = "", None
            raise

    async def _look(self, ledger: Ledger | None) -> None:
        tip = self._read(_Hash, await self._rpc.call("getbestblockhash"))
        if ledger is not None:
            now = tip, ledger.epochs, len(self._signatures)
            if now != self._seen:
                self._seen, self._is_held_back = None, False
                await self._follow(tip)
                self._say_found(ledger)
                await self._say_mature(ledger)
                await self._publish(ledger, tip)
                if self._followed and not self._is_held_back:
                    self._seen = now
        if self._says_tips and tip != self._tip and await self._say_tip():
            self._tip = tip

    # The chain.

    async def _follow(self, tip: str) -> None:
        """Brings the coinbases in line with the active chain, unless they are those of this tip."""
        if tip == self._followed:
            return
        self._followed = ""
        self._height = height = await self._rpc.call_for(int, "getblockcount")
        first = max(height - self._rules.lateness + 1, 1)
        for known in [each for each in self._coinbases if not first <= each <= height]:
            del self._coinbases[known]
        heights = range(first, height + 1)
        last: str | None = tip
        is_whole = True
        for start in range(0, len(heights), BATCH):
            last, has_all = await self._fetch(heights[start : start + BATCH])
            is_whole = is_whole and has_all
        # It may have moved on, or lost a height, while it was asked: then it is followed again.
        if is_whole and last == tip:
            self._followed = tip

    async def _fetch(self, heights: range) -> tuple[str | None, bool]:
        """Takes in blocks; returns the hash of the last one, and whether all were to be had."""
        answer = await self._rpc.batch("getblockhash", [(each,) for each in heights])
        shown = self._read(list[_Hash | None], answer)
        missing = [
            (height, name)
            for height, name in zip(heights, shown, strict=True)
            if name
            and (height not in self._coinbases or self._coinbases[height].block_hash != _hash(name))
        ]
        blocks = await self._rpc.batch("getblock", [(name, 1) for _, name in missing])
        found = [
            (height, name, self._read(_Block, block))
            for (height, name), block in zip(missing, blocks, strict=True)
            if block is not None
        ]
        wanted = [(block.tx[0], 0, name) for _, name, block in found]
        answer = await self._rpc.batch("getrawtransaction", wanted)
        raw = self._read(list[_Hex | None], answer)
        for (height, name, _), data in zip(found, raw, strict=True):
            if data is not None:
                coinbase = self._transaction(data)
                self._coinbases[height] = _Coinbase(_hash(name), height, coinbase)
        has_all = None not in shown and len(found) == len(missing) and None not in raw
        return shown[-1], has_all

    def _read(self, kind: type[T], answer: object) -> T:
        try:
            return msgspec.convert(answer, kind)
        except msgspec.ValidationError as error:
            raise NodeError(f"{self._rpc.name}: {error}", self._rpc.name) from error

    def _transaction(self, shown: str) -> Transaction:
        try:
            return Transaction.from_bytes(bytes.fromhex(shown))
        except LocalProtocolError as error:
            raise NodeError(f"{self._rpc.name}: {error}", self._rpc.name) from error

    async def _say_tip(self) -> bool:
        template = await self._rpc.call_for(_Template, "getblocktemplate", {"rules": ["segwit"]})
        # What fees a node without a pool has seen says nothing about what templates could have.
        tip = Tip(
            _hash(template.previousblockhash),
            template.height,
            int(template.bits, 16),
            int(template.target, 16),
            fees_sats=0,
        )
        return self._append(Kind.TIP, tip.encode())

    # Blocks.

    def _say_found(self, ledger: Ledger) -> None:
        own = ledger.members[self._me].found
        highest = self._rules.height_of(ledger.epochs) + 1 + AHEAD
        distributions = distributions_of(self._rules, ledger)
        for coinbase in self._coinbases.values():
            name = coinbase.block_hash
            if name in ledger.blocks or name in own or coinbase.height > highest:
                continue
            found = self._found(ledger, coinbase, distributions)
            if found is not None:
                self._say_once(ledger, Kind.BLOCK_FOUND, name, found.encode())

    def _found(
        self, ledger: Ledger, coinbase: _Coinbase, distributions: Sequence[Distribution]
    ) -> Found | None:
        """Finds what a block pays the federation."""
        transaction = coinbase.transaction
        place = coinbase.block_hash, coinbase.height, transaction.txid
        outputs = [(each.script, each.value_sats) for each in transaction.outputs]
        if self._rules.payout is PayoutMode.DIRECT:
            paid = find_distribution(distributions, outputs)
            return paid and Found(*place, NO_OUTPUT, paid.sats, paid.digest)
        known = {each.script: each for each in syndicate_outputs(self._rules, ledger).values()}
        # What stands further back cannot be told, nor would members price it.
        for vout, (script, sats) in enumerate(outputs[:NO_OUTPUT]):
            if script in known:
                return Found(*place, vout, sats, known[script].output_key)
        return None

    async def _say_mature(self, ledger: Ledger) -> None:
        own = ledger.members[self._me].mature
        for name, block in ledger.blocks.items():
            is_due = self._height - block.height + 1 >= self._rules.maturity
            if block.matured_epoch >= 0 or name in own or not is_due:
                continue
            [header] = await self._rpc.batch("getblockheader", [(name[::-1].hex(),)])
            if header is None:
                continue
            # A block that has left the active chain has -1.
            if self._read(_Header, header).confirmations >= self._rules.maturity:
                self._say_once(ledger, Kind.BLOCK_MATURE, name, name)

    def _say_once(self, ledger: Ledger, kind: Kind, name: bytes, payload: bytes) -> None:
        last = self._said.get((kind, name))
        if last is not None and ledger.epochs < last + AGAIN_EPOCHS:
            return
        if self._append(kind, payload):
            self._said[kind, name] = ledger.epochs
            log.info("block told", what=kind.name, block=name[::-1].hex())
        for old in [key for key, at in self._said.items() if at + AGAIN_EPOCHS < ledger.epochs]:
            del self._said[old]

    def _append(self, kind: Kind, payload: bytes) -> bool:
        try:
            self._stream.append(kind, payload)
        except LocalProtocolError:
            # The own stream has much to say already: next time.
            self._is_held_back = True
            return False
        return True

    # Payouts.

    async def _publish(self, ledger: Ledger, tip: str) -> None:
        mature = {name: each for name, each in ledger.blocks.items() if each.matured_epoch >= 0}
        self._spent &= mature.keys()
        self._tried = {each for each in self._tried if each[0] == tip}
        for name, block in mature.items():
            if (tip, name) in self._tried:
                continue
            payout = payout_of(self._rules, name, block)
            signature = payout and self._signatures.get(payout.sighash)
            if payout is None or not signature:
                continue
            if await self._is_unspent(block, mempool=False):
                self._spent.discard(name)
                if await self._is_unspent(block, mempool=True):
                    await self._send(name, payout.signed(signature))
            else:
                self._spent.add(name)
            self._tried.add((tip, name))

    async def _is_unspent(self, block: Block, *, mempool: bool) -> bool:
        shown = block.txid[::-1].hex()
        return await self._rpc.call("gettxout", shown, block.vout, mempool) is not None

    async def _send(self, name: bytes, raw: bytes) -> None:
        block = name[::-1].hex()
        try:
            txid = await self._rpc.call_for(str, "sendrawtransaction", raw.hex())
        except RpcRefusedError as error:
            log.warning("the own node refuses a payout", block=block, reason=error.reason)
        else:
            log.info("payout published", block=block, payout=txid)


def _hash(shown: str) -> bytes:
    return bytes.fromhex(shown)[::-1]
