"""Joins the mint with the node: its keys and store, the chain that it sees, what moves it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from radpool_sv2.consensus import subsidy_sats
from radpool_sv2.ecash.desk import MintDesk
from radpool_sv2.ecash.keyset import ChainTip
from radpool_sv2.ecash.mint import Mint
from radpool_sv2.ecash.value import ValueRule
from radpool_sv2.keyfile import load_mint_seed
from radpool_sv2.weight import WeightMode, scale_of

if TYPE_CHECKING:
    from radpool_sv2.config import MspConfig
    from radpool_sv2.keyfile import KeyRing
    from radpool_sv2.ledger import Ledger
    from radpool_sv2.pool.role import Pool

__all__ = ["Minting", "PoolChain", "open_minting"]


class PoolChain:
    """Is the chain as the pool's template source tells it; nothing is known before there is a pool.

    What a block must meet is what the source asks of a solution, so on the embedded chain its own
    rule, which is harder than the chain's, counts as difficulty.
    """

    def __init__(self) -> None:
        self._pool: Pool | None = None

    def follow(self, pool: Pool) -> None:
        """Answers by what this pool knows, from now on."""
        self._pool = pool

    @property
    def tip(self) -> ChainTip | None:
        """The tip of the active chain; None until it is known."""
        tip = None if self._pool is None else self._pool.tip
        return None if tip is None else ChainTip(tip.height, tip.hash)

    @property
    def block_target(self) -> bytes | None:
        """What a block on the tip must meet, 32 bytes, least significant first; None if unknown."""
        work = None if self._pool is None else self._pool.work
        return None if work is None or work.tip is None else work.tip.target


@dataclass(frozen=True, slots=True)
class Minting:
    """Is the mint of a node and what moves it.

    Attributes:
        mint: The mint.
        desk: Its role.
        chain: What it sees of the chain.
    """

    mint: Mint
    desk: MintDesk
    chain: PoolChain

    @property
    def parts(self) -> tuple[object, ...]:
        """What extensions may use."""
        return self.mint, self.desk

    def watch(self, pool: Pool) -> None:
        """Follows a pool: its tips, blocks and settlements move the mint."""
        self.chain.follow(pool)
        pool.changed.add(self.desk.wake)


async def open_minting(config: MspConfig, keys: KeyRing, ledger: Ledger) -> Minting:
    """Opens the mint of a node; it moves once `desk` runs and a pool is watched.

    Raises:
        ConfigError: The mint's key cannot be had.
        StoreError: The ledger's file cannot be read or written.
    """
    chain = PoolChain()
    mint = await Mint.open(
        ledger.store,
        keys.msp,
        load_mint_seed(config.keys),
        config.ecash,
        chain,
        confirmations=config.ledger.maturity_blocks,
        rule=_value_rule(config),
    )
    return Minting(mint, MintDesk(mint, chain), chain)


def _value_rule(config: MspConfig) -> ValueRule | None:
    """Returns how the pool weighs templates by value; None when it weighs them in another way.

    What is split by work, all of it or the subsidy, is earned by work.
    """
    if WeightMode[config.weight.mode.upper()] is not WeightMode.VALUE:
        return None
    scale = scale_of(config.templates.network)
    return ValueRule(
        scale.bits, scale.base, partial(subsidy_sats, halving_blocks=scale.halving_blocks)
    )
