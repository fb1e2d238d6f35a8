"""Splits what a block pays over the members, by what their shares in the window are worth.

Source: `spec/15-checkpoint-state.md`, "Distribution", "Blocks".
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from radpool_sv2.chain.transaction import TxOutput
from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.federation.codec import Tag, u16
from radpool_sv2.federation.state.ledger import Distribution
from radpool_sv2.federation.state.rules import PayoutMode
from radpool_sv2.federation.treasury.payout import fee_of
from radpool_sv2.units import sha256d

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from radpool_sv2.federation.state.ledger import Block, Ledger, Stake
    from radpool_sv2.federation.state.rules import Rules

__all__ = [
    "DUST_SATS",
    "Paid",
    "Part",
    "direct_outputs",
    "distributions_of",
    "divide",
    "find_distribution",
    "part_of",
    "parts_of",
    "settled_distribution",
]

LOT_TAG: Final = Tag("radpool/federation-lot")

DUST_SATS: Final = 546
"""The least that nodes relay to any script; those of witness programs could have less."""


class Part(NamedTuple):
    """Is what a member gets of a block.

    Attributes:
        member: Who.
        script: Where it is paid.
        sats: How much.
    """

    member: int
    script: bytes
    sats: int


class Paid(NamedTuple):
    """Says by which distribution a coinbase pays the members.

    Attributes:
        distribution: It.
        sats: What its members are paid in all.
        digest: Double SHA-256 of their outputs as the coinbase has them: what members say of it,
            since several distributions may come to the same.
    """

    distribution: Distribution
    sats: int
    digest: bytes


def divide(sats: int, weights: Mapping[int, int], lot: bytes) -> dict[int, int]:
    """Splits an amount by largest remainder, exactly.

    Args:
        sats: The amount, 0 or more.
        weights: Of each member, 0 or more.
        lot: What decides among equal remainders, 32 bytes that nobody could choose: the hash of
            the block that pays, internal byte order; the state's root where there is none yet.

    Returns:
        The parts above 0. They sum to the amount, unless nobody has weight: then there are none.
    """
    total = sum(weights.values())
    if total == 0 or sats <= 0:
        return {}
    whole = {member: divmod(sats * weight, total) for member, weight in weights.items()}

    def rank(member: int) -> tuple[int, bytes]:
        return -whole[member][1], _drawn(lot, member)

    left = sats - sum(part for part, _ in whole.values())
    lucky = set(sorted(whole, key=rank)[:left])
    parts = {member: part + (member in lucky) for member, (part, _) in whole.items()}
    return {member: part for member, part in sorted(parts.items()) if part}


@lru_cache(maxsize=1 << 14)
def _drawn(lot: bytes, member: int) -> bytes:
    """Draws what decides for a member; kept, since many templates are split by one lot."""
    return LOT_TAG.hash(lot, u16(member))


def _share_out(
    stakes: Iterable[Stake], sats_for: Callable[[list[bytes]], int], lot: bytes, dust: int
) -> list[Part]:
    """Splits over those whose part is no dust.

    The least is left out first, and then it is split anew: the others share its part.

    Args:
        stakes: Of whom.
        sats_for: Says how much there is when these scripts are paid.
        lot: As of `divide`.
        dust: The least that an output may have.
    """
    left = {stake.member: stake for stake in stakes}
    while left:
        sats = sats_for([stake.script for stake in left.values()])
        parts = divide(sats, {member: stake.weight for member, stake in left.items()}, lot)
        least = min(left, key=lambda member: (parts.get(member, 0), member))
        if parts.get(least, 0) >= dust:
            return [Part(member, left[member].script, part) for member, part in parts.items()]
        del left[least]
    return []


# What a coinbase pays the members.


def distributions_of(rules: Rules, ledger: Ledger) -> tuple[Distribution, ...]:
    """Lists how templates may pay the members now, oldest first; by the ledger itself is last.

    There are none where a syndicate is paid.
    """
    if rules.payout is not PayoutMode.DIRECT:
        return ()
    return (*ledger.distributions, Distribution(ledger.root(), ledger.direct_stakes()))


def direct_outputs(ledger: Ledger, sats: int, dust: int = DUST_SATS) -> list[tuple[bytes, int]]:
    """Lists the outputs of a coinbase that pays the members straight.

    Whoever has said no script, or would get dust, has no output; the others share its part.

    Args:
        ledger: The certified state that the template is built on.
        sats: What the template pays the members.
        dust: The least that an output may have.

    Returns:
        Script and amount each, in ascending order of members; none if nobody can be paid.
    """
    return _direct(Distribution(ledger.root(), ledger.direct_stakes()), sats, dust)


def _direct(distribution: Distribution, sats: int, dust: int) -> list[tuple[bytes, int]]:
    parts = _share_out(distribution.stakes, lambda _: sats, distribution.root, dust)
    return [(part.script, part.sats) for part in parts]


def find_distribution(
    distributions: Sequence[Distribution], outputs: Sequence[tuple[bytes, int]]
) -> Paid | None:
    """Finds by which distribution a coinbase pays the members.

    Args:
        distributions: Those that it may have, oldest first.
        outputs: Its outputs, script and amount each, in their order.

    Returns:
        The distribution by which they are paid most, of equals the newest; `None` if it is none of
        these.
    """
    best: Paid | None = None
    all_sats = sum(sats for _, sats in outputs)
    for each in reversed(distributions):
        if best is not None and best.sats == all_sats:
            break
        scripts = {stake.script for stake in each.stakes}
        paid = [(script, sats) for script, sats in outputs if script in scripts]
        sats = sum(part for _, part in paid)
        if (
            (best is None or sats > best.sats)
            and _is_near(each.stakes, paid, sats)
            and _direct(each, sats, DUST_SATS) == paid
        ):
            best = Paid(each, sats, _digest(paid))
    return best


def settled_distribution(
    distributions: Sequence[Distribution], sats: int, digest: bytes
) -> Distribution | None:
    """Finds a distribution by what members say of a block that pays by it; the newest if several.

    Args:
        distributions: Those that it may have, oldest first.
        sats: What the members are paid in all.
        digest: Of their outputs.
    """
    for each in reversed(distributions):
        outputs = _direct(each, sats, DUST_SATS)
        if outputs and _digest(outputs) == digest:
            return each
    return None


def _digest(outputs: Iterable[tuple[bytes, int]]) -> bytes:
    return sha256d(b"".join(TxOutput(sats, script).to_bytes() for script, sats in outputs))


def _is_near(stakes: Sequence[Stake], paid: Sequence[tuple[bytes, int]], sats: int) -> bool:
    """Says whether parts may be right: to the satoshi, which is seen without splitting anew.

    Members that share a script cannot be told apart by what is paid to it.
    """
    if len({stake.script for stake in stakes}) < len(stakes):
        return bool(paid)
    scripts = {script for script, _ in paid}
    kept = [stake for stake in stakes if stake.script in scripts]
    total = sum(stake.weight for stake in kept)
    return 0 < len(kept) == len(paid) and all(
        0 <= part - sats * stake.weight // total <= 1
        for stake, (_, part) in zip(kept, paid, strict=True)
    )


# What a block that has been found pays.


def parts_of(rules: Rules, block_hash: bytes, block: Block) -> list[Part]:
    """Lists what the members get of a block, in ascending order; none while nobody can be paid.

    What the syndicate has is split less the fee of the payout, which is what is left of it: parts
    and fee are the block's value, exactly.

    Args:
        rules: Of the federation.
        block_hash: The block, internal byte order.
        block: What the books have of it.
    """
    if rules.payout is PayoutMode.DIRECT:
        return _share_out(block.stakes, lambda _: block.value, block.key, DUST_SATS)

    def sats_for(scripts: list[bytes]) -> int:
        return block.value - fee_of(scripts, rules.fee_sats_per_vb)

    return _share_out(block.stakes, sats_for, block_hash, DUST_SATS)


def part_of(rules: Rules, ledger: Ledger, block_hash: bytes, member: int) -> int:
    """Returns what a member gets of a block, sats.

    Raises:
        LocalProtocolError: The books do not have the block, or nobody can be paid for it yet.
    """
    block = ledger.blocks.get(block_hash)
    if block is None or not block.stakes:
        raise LocalProtocolError(
            f"the books say of no split of block {block_hash[::-1].hex()}: wait for the epoch in "
            "which they do"
        )
    parts = parts_of(rules, block_hash, block)
    return next((part.sats for part in parts if part.member == member), 0)
