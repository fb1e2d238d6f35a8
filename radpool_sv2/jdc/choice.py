"""Makes of a node's template and a policy's wishes the template that is mined.

The result is a block that consensus allows whenever the node's was and what is included is valid:
parents stay before children, nothing spends what is not there, no output is spent twice, the weight
stays below its bound, and the coinbase claims no fee that left with its transaction.

Source: BIP141 (commitment), consensus rules of Bitcoin Core (order and weight of transactions).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from radpool_sv2.chain.block import COMMITMENT_PREFIX, witness_commitment
from radpool_sv2.chain.transaction import Reader, TxOutput
from radpool_sv2.consensus import merkle_path
from radpool_sv2.jdc.policy import Candidate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from radpool_sv2.chain.transaction import OutPoint
    from radpool_sv2.jdc.policy import Wishes
    from radpool_sv2.templates.source import Template

__all__ = ["Choice", "choose"]

RANK_SHIFT: Final = 64
"""Fee rates are ranked as fractions of integers, with so many binary places."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Is what the wishes came to.

    Attributes:
        template: The template as it is mined.
        transactions: Its transactions.
        left_out: How many of the node's are not in it.
        added: How many are in it that the node had not chosen; then the node has to judge it.
    """

    template: Template
    transactions: tuple[bytes, ...]
    left_out: int = 0
    added: int = 0


def choose(
    template: Template,
    offered: Sequence[Candidate],
    wishes: Wishes,
    found: Iterable[bytes],
    weight_max: int,
) -> Choice:
    """Applies wishes to a template.

    Args:
        template: What the node made.
        offered: Its transactions, with their fees.
        wishes: What the policies want.
        found: Transactions that were looked up for them.
        weight_max: The heaviest block.

    Raises:
        LocalProtocolError: A transaction that is to be included is none.
    """
    block = _Block(offered, wishes)
    block.exclude(wishes.exclude)
    for raw in (*wishes.include, *found):
        block.include(Candidate(raw, 0))
    reserved = template.weight - sum(each.weight for each in offered)
    block.fit(weight_max - reserved)
    chosen = block.chosen()
    left_out = len(offered) - sum(each.txid not in block.added for each in chosen)
    added = sum(each.txid in block.added for each in chosen)
    raws = tuple(each.raw for each in chosen)
    if not left_out and not added:
        return Choice(template, raws)
    return Choice(_rebuilt(template, offered, chosen, reserved), raws, left_out, added)


class _Block:
    """Is the transactions of a block while they are chosen, in block order."""

    def __init__(self, offered: Sequence[Candidate], wishes: Wishes) -> None:
        self._in = {each.txid: each for each in offered}
        self._wishes = wishes
        self._spent_by: dict[OutPoint, bytes] = {}
        self._children: defaultdict[bytes, set[bytes]] = defaultdict(set)
        self._removed: set[bytes] = set()
        self.added: set[bytes] = set()
        for each in offered:
            self._link(each)

    def chosen(self) -> list[Candidate]:
        return list(self._in.values())

    def exclude(self, txids: Iterable[bytes]) -> None:
        """Takes transactions out, and all that spends of them."""
        for txid in txids:
            for each in self._family(txid):
                self._remove(each)

    def include(self, new: Candidate) -> None:
        """Puts a transaction in, in place of what spends the same; behind all of its parents.

        One that is excluded or spends what is excluded stays out. Included transactions come in the
        order in which they are wished for, so a parent is to be wished for first.
        """
        parents = {txid for txid, _ in (each.previous for each in new.transaction.inputs)}
        barred = self._wishes.exclude
        if new.txid in self._in or new.txid in barred or parents & barred:
            return
        if new.transaction.is_coinbase:
            return
        for each in new.transaction.inputs:
            rival = self._spent_by.get(each.previous)
            if rival is not None:
                self.exclude([rival])
        if parents & self._removed:
            return
        self._in[new.txid] = new
        self.added.add(new.txid)
        self._link(new)

    def fit(self, weight: int) -> None:
        """Takes the cheapest out until the rest fits; what is wished for goes last."""
        total = sum(each.weight for each in self._in.values())
        for wished in (False, True):
            for each in sorted(self._in.values(), key=_rank):
                if total <= weight:
                    return
                family = self._family(each.txid)
                if not wished and any(self._is_wished(txid) for txid in family):
                    continue
                total -= sum(self._in[txid].weight for txid in family)
                for txid in family:
                    self._remove(txid)

    def _is_wished(self, txid: bytes) -> bool:
        return txid in self.added or txid in self._wishes.prefer

    def _family(self, txid: bytes) -> list[bytes]:
        """Returns a transaction that is in, and all that spends of it, however indirectly."""
        found = dict.fromkeys([txid] if txid in self._in else [])
        queue = list(found)
        while queue:
            for child in self._children[queue.pop()]:
                if child in self._in and child not in found:
                    found[child] = None
                    queue.append(child)
        return list(found)

    def _link(self, new: Candidate) -> None:
        for each in new.transaction.inputs:
            self._spent_by[each.previous] = new.txid
            self._children[each.previous[0]].add(new.txid)

    def _remove(self, txid: bytes) -> None:
        gone = self._in.pop(txid, None)
        if gone is None:
            return
        self._removed.add(txid)
        self.added.discard(txid)
        for each in gone.transaction.inputs:
            self._spent_by.pop(each.previous, None)


def _rank(each: Candidate) -> int:
    return (each.fee_sats << RANK_SHIFT) // each.weight


def _rebuilt(
    template: Template, offered: Sequence[Candidate], chosen: Sequence[Candidate], reserved: int
) -> Template:
    lost = sum(each.fee_sats for each in offered) - sum(each.fee_sats for each in chosen)
    outputs, count = _committed(template, [each.wtxid for each in chosen])
    return replace(
        template,
        merkle_path=merkle_path([each.txid for each in chosen]),
        template_outputs=outputs,
        template_output_count=count,
        value_sats=template.value_sats - lost,
        fees_sats=template.fees_sats - lost,
        tx_count=len(chosen),
        weight=reserved + sum(each.weight for each in chosen),
    )


def _committed(template: Template, wtxids: Sequence[bytes]) -> tuple[bytes, int]:
    """Returns the template's outputs with the commitment to these transactions, and their count."""
    reader = Reader(template.template_outputs)
    kept = []
    for _ in range(template.template_output_count):
        value = int.from_bytes(reader.take(8), "little", signed=True)
        output = TxOutput(value, reader.take_bytes())
        if not output.script.startswith(COMMITMENT_PREFIX):
            kept.append(output)
    kept.append(witness_commitment(wtxids))
    return b"".join(each.to_bytes() for each in kept), len(kept)
