"""Prices templates and remembers how each price came about.

Theory of operation. A template is priced when its tip is known, once: the price goes with each of
its shares into the batch that is signed. What it was made of (what the coinbase pays, the cap, the
reference fees, the target) is remembered here as a quote, and becomes durable with the first batch
that has such a share, so that an export can explain every price. A quote is found by the block that
the template builds on, by what it pays and by the price: whatever agrees in these has the same
explanation.

Quotes of the last tips are kept, up to a bound; the worker thread that commits shares reads what
trio's thread writes, hence the lock.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Protocol

from radpool_sv2.consensus import subsidy_sats
from radpool_sv2.store import QuoteRow, WeightRow
from radpool_sv2.weight.body import body_paid_sats, body_prev_hash
from radpool_sv2.weight.price import cap_sats, price_of, quality_q32
from radpool_sv2.weight.scale import WeightMode

if TYPE_CHECKING:
    from radpool_sv2.weight.reference import ReferenceFees
    from radpool_sv2.weight.scale import Scale

__all__ = ["PricedTip", "Weighing"]

SCRIPTS_KEPT: Final = 4
"""A pool changes its script once in a long while; shares on older templates come for minutes."""

QUOTES_MAX: Final = 65_536
"""Some 250 bytes each. A thousand declarers that declare every half minute make 20,000 on a tip."""


class PricedTip(Protocol):
    """Is what a price needs of a tip, as `radpool_sv2.templates.source.Tip`."""

    @property
    def prev_hash(self) -> bytes:
        """The tip's hash, internal byte order."""

    @property
    def target(self) -> bytes:
        """What a block's hash must not exceed, 32 bytes little-endian."""


class Weighing:
    """Is the pool's way to weigh templates.

    Attributes:
        rule: What batches name their weight by: mode, scale, base.
        script: The script that templates pay as the pool's.
    """

    def __init__(
        self, mode: WeightMode, scale: Scale, *, script: bytes, reference: ReferenceFees
    ) -> None:
        """Takes what does not change while the pool runs."""
        self._mode = mode
        self._scale = scale
        self._reference = reference
        self.script = script
        self._scripts: tuple[bytes, ...] = (script,)
        self.rule = WeightRow(mode, scale.bits, scale.base)
        self._quotes: dict[tuple[bytes, bytes, int, int], QuoteRow] = {}
        self._lock = threading.Lock()

    def pay(self, script: bytes) -> None:
        """Weighs templates by what they pay to another script from now on.

        Prices that were made before are still explained.
        """
        self.script = script
        others = (each for each in self._scripts if each != script)
        self._scripts = (script, *others)[:SCRIPTS_KEPT]

    def price(self, tip: PricedTip, height: int, paid_sats: int, *, upside: bool = True) -> int:
        """Prices a template on its tip, and remembers the quote.

        Args:
            tip: The tip.
            height: The height of the block that the template would become.
            paid_sats: What its coinbase pays to the pool's script.
            upside: Whether it may earn more than the reference: only if its transactions are known.
        """
        subsidy = subsidy_sats(height, self._scale.halving_blocks)
        reference = self._reference.fees_sats(tip.prev_hash)
        cap = cap_sats(subsidy, reference, upside=upside)
        price = price_of(
            self._mode,
            self._scale,
            target=int.from_bytes(tip.target, "little"),
            subsidy=subsidy,
            paid_sats=paid_sats,
            cap=cap,
        )
        quote = QuoteRow(
            price=price,
            paid_sats=paid_sats,
            cap_sats=cap,
            reference_sats=reference,
            target=tip.target,
            script=self.script,
        )
        self._remember(tip.prev_hash, quote)
        return price

    def least_sats(self, height: int) -> int:
        """Returns what a template must pay to be priced.

        By difficulty all are worth the same, so what one keeps back would be its maker's gain.

        Args:
            height: The height of the block that it would become.
        """
        if self._mode is not WeightMode.DIFFICULTY:
            return 1
        return max(subsidy_sats(height, self._scale.halving_blocks), 1)

    def quality_q32(self, tip: PricedTip, height: int, paid_sats: int) -> int:
        """Returns how good a template is beside the reference: 2^32 when it pays the same."""
        return quality_q32(
            paid_sats,
            subsidy=subsidy_sats(height, self._scale.halving_blocks),
            reference_sats=self._reference.fees_sats(tip.prev_hash),
        )

    def quote_of(self, body: bytes, price: int) -> QuoteRow | None:
        """Returns how the price of a template body came about; None when it is forgotten.

        It may be called in any thread.
        """
        for script in self._scripts:
            key = (body_prev_hash(body), script, body_paid_sats(body, script), price)
            with self._lock:
                quote = self._quotes.get(key)
            if quote is not None:
                return quote
        return None

    def _remember(self, prev_hash: bytes, quote: QuoteRow) -> None:
        with self._lock:
            key = (prev_hash, quote.script, quote.paid_sats, quote.price)
            # The newest explanation is the last to be forgotten.
            self._quotes.pop(key, None)
            if len(self._quotes) >= QUOTES_MAX:
                del self._quotes[next(iter(self._quotes))]
            self._quotes[key] = quote
