"""Defines an own template as it is mined and declared: transactions, tip, and how they are found.

A node's template and the transactions in it are read once and kept together, so that a declaration,
an answer to a pool that lacks transactions, and a block that was solved are all made of the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from radpool_sv2.units import sha256d

if TYPE_CHECKING:
    from radpool_sv2.templates.source import Template, Tip

__all__ = ["OwnTemplate"]


@dataclass(frozen=True, kw_only=True)
class OwnTemplate:
    """Is a template that this client stands behind.

    Attributes:
        template: What the node made, as the policies left it.
        tip: The block that it builds on.
        transactions: All but the coinbase, with their witnesses, in block order.
        is_changed: Whether a policy has changed it, so that the node knows no such template.
    """

    template: Template
    tip: Tip
    transactions: tuple[bytes, ...] = field(repr=False)
    is_changed: bool = False

    @cached_property
    def wtxids(self) -> tuple[bytes, ...]:
        """The witness ids of the transactions: the hash over all of each."""
        return tuple(map(sha256d, self.transactions))
