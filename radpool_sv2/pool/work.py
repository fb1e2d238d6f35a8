"""Gives the engine its work: each template with whom it pays and the epoch it counts in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from radpool_sv2._native import engine as native

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from radpool_sv2.templates.source import Template, Tip

__all__ = ["Payee", "payout_output", "to_native_template", "to_native_tip"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Payee:
    """Is whom blocks pay.

    Attributes:
        script: What templates are weighed by: what they pay there.
        divide: Splits what a block may pay: script and satoshi of each output.
        is_shared: Whether others than this pool have a part in it.
    """

    script: bytes
    divide: Callable[[int], Sequence[tuple[bytes, int]]]
    is_shared: bool = False

    @classmethod
    def one(cls, script: bytes, *, is_shared: bool = False) -> Payee:
        """Makes one that has a single script."""
        return cls(script, lambda value_sats: [(script, value_sats)], is_shared)


def payout_output(value_sats: int, script: bytes) -> bytes:
    """Serialises the coinbase output that pays the pool.

    Args:
        value_sats: Subsidy and fees of the block, in satoshi.
        script: The output script, up to 252 bytes.
    """
    assert len(script) < 0xFD, "scripts of addresses are short"
    return value_sats.to_bytes(8, "little") + bytes([len(script)]) + script


def to_native_template(template: Template, epoch: int, payee: Payee) -> native.Template:
    """Makes the engine's template of a source's one: the payee takes the whole value."""
    outputs = payee.divide(template.value_sats)
    return native.Template(
        id=template.id,
        epoch=epoch,
        height=template.height,
        version=template.version,
        coinbase_tx_version=template.coinbase_tx_version,
        coinbase_prefix=template.coinbase_prefix,
        coinbase_sequence=template.coinbase_sequence,
        pool_outputs=b"".join(payout_output(sats, script) for script, sats in outputs),
        pool_output_count=len(outputs),
        template_outputs=template.template_outputs,
        template_output_count=template.template_output_count,
        coinbase_locktime=template.coinbase_locktime,
        merkle_path=template.merkle_path,
    )


def to_native_tip(tip: Tip, price: int) -> native.Tip:
    """Makes the engine's tip of a source's one, with what the template is worth on it."""
    return native.Tip(
        template_id=tip.template_id,
        prev_hash=tip.prev_hash,
        min_ntime=tip.min_ntime,
        nbits=tip.nbits,
        target=tip.target,
        price=price,
    )
