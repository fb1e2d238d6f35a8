"""Keeps what is offered to clients: the newest template, and those that a block may still be of.

An offer is a template with its tip. With `is_ahead`, each tip brings one more: a template without
transactions for the tip to come, so that clients have work for it before anybody knows it. It gets
its tip when that comes; its blocks are built here, as no source knows of it.

Bounds: `OFFERS_MAX` templates of the present tip and the one before.

Source: sv2-spec, section 7.3 ("future templates"); BIP 34, BIP 141.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from radpool_sv2.chain.block import witness_commitment
from radpool_sv2.consensus import push_height, subsidy_sats
from radpool_sv2.templates.distribution import retold

if TYPE_CHECKING:
    from radpool_sv2.templates.source import Template, TemplateUpdate, Tip

__all__ = ["AHEAD_BIT", "REPEAT_BIT", "Offer", "Offers"]

OFFERS_MAX: Final = 512
"""A template each second for some minutes."""

AHEAD_BIT: Final = 1 << 62
"""Marks the numbers of templates that are made here; those of sources are smaller."""

REPEAT_BIT: Final = 1 << 61
"""Marks the number of a template that is sent a second time."""

ROOM_SIZE: Final = 1_700
"""Bytes of outputs for which every source leaves room: as Bitcoin Core, they reserve 8,000 weight
units for the coinbase, 1,168 of which it takes without outputs, and an output's byte weighs 4."""

BLOCK_WEIGHT_MAX: Final = 4_000_000
_WITNESS_SCALE: Final = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """Is a template on its tip.

    Args:
        template: The template.
        tip: The block that it builds on.
        room_size: Bytes of coinbase outputs for which it surely leaves room.
        is_ahead: Whether it was made here, without transactions, before its tip was there.
    """

    template: Template
    tip: Tip
    room_size: int
    is_ahead: bool = False

    def fits(self, size: int) -> bool:
        """Says whether a coinbase with outputs of so many bytes fits the block."""
        if size <= self.room_size:
            return True
        weight = self.template.weight + _WITNESS_SCALE * (size - ROOM_SIZE)
        return self.template.weight > 0 and weight <= BLOCK_WEIGHT_MAX


class Offers:
    """Is what all clients are offered.

    Attributes:
        newest: What to mine on now.
        ahead: The template for the tip to come, if one is made.
        changed: Is set when either changes, and replaced.
    """

    def __init__(self, *, is_ahead: bool, halving_blocks: int) -> None:
        self.newest: Offer | None = None
        self.ahead: Template | None = None
        self.changed = trio.Event()
        self._is_ahead = is_ahead
        self._halving_blocks = halving_blocks
        self._known: OrderedDict[int, Offer] = OrderedDict()
        self._room_asked = 0
        self._room_size = ROOM_SIZE

    def take(self, update: TemplateUpdate) -> None:
        """Takes what a source says; templates for a tip to come are left out.

        A template may have been under way when other room was asked for, so that it counts from
        the second one on.
        """
        if update.tip is None:
            return
        offer = Offer(template=update.template, tip=update.tip, room_size=self._room_size)
        self._room_size = max(ROOM_SIZE, self._room_asked)
        is_new_tip = self.newest is None or self.newest.tip.prev_hash != offer.tip.prev_hash
        if is_new_tip:
            self._forget(offer.tip.prev_hash)
            self._arrive(offer)
        self.newest = offer
        self._keep(offer)
        if is_new_tip and self._is_ahead:
            self.ahead = _ahead_of(offer.template, self._halving_blocks)
        self.changed.set()
        self.changed = trio.Event()

    def ask_room(self, size: int) -> None:
        """Notes that further templates are asked to leave room for outputs of so many bytes."""
        self._room_asked = size
        self._room_size = min(self._room_size, max(ROOM_SIZE, size))

    def find(self, number: int) -> Offer | None:
        """Returns an offer of the present tip or of the one before."""
        return self._known.get(number & ~REPEAT_BIT)

    def _arrive(self, offer: Offer) -> None:
        """Gives the template made ahead its tip, when it is the one that it was made for."""
        ahead = self.ahead
        self.ahead = None
        if ahead is not None and ahead.height == offer.template.height:
            tip = retold(offer.tip, ahead.id)
            self._keep(Offer(template=ahead, tip=tip, room_size=BLOCK_WEIGHT_MAX, is_ahead=True))

    def _forget(self, prev_hash: bytes) -> None:
        """Forgets all but the templates of the last tip and of the one that comes."""
        kept = {prev_hash}
        if self.newest is not None:
            kept.add(self.newest.tip.prev_hash)
        for number in [n for n, each in self._known.items() if each.tip.prev_hash not in kept]:
            del self._known[number]

    def _keep(self, offer: Offer) -> None:
        self._known[offer.template.id] = offer
        while len(self._known) > OFFERS_MAX:
            self._known.popitem(last=False)


def _ahead_of(template: Template, halving_blocks: int) -> Template | None:
    """Makes a template without transactions for the block after a template's one.

    Returns:
        The template; None where a coinbase has to hold more than the witness commitment.
    """
    if template.template_output_count > 1:
        return None
    commitment = witness_commitment(()).to_bytes() if template.template_output_count else b""
    if len(commitment) != len(template.template_outputs):
        return None
    height = template.height + 1
    return dataclasses.replace(
        template,
        id=template.id | AHEAD_BIT,
        height=height,
        coinbase_prefix=push_height(height),
        # A node that sets it at all sets it to the height before (BIP 54).
        coinbase_locktime=template.height if template.coinbase_locktime else 0,
        template_outputs=commitment,
        merkle_path=(),
        value_sats=subsidy_sats(height, halving_blocks),
        fees_sats=0,
        tx_count=0,
        weight=0,
    )
