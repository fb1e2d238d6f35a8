"""Joins the job declarator with the node: its keys, its template source, its pool and its mint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from radpool_sv2._native.template import TransactionCache
from radpool_sv2.declarator.assembly import Assembler
from radpool_sv2.declarator.challenge import ChallengeBook, ChallengeLimits
from radpool_sv2.declarator.desk import DeclaratorDesk
from radpool_sv2.declarator.keep import TemplateKeep
from radpool_sv2.declarator.role import Declarator
from radpool_sv2.declarator.token import TokenLimits, TokenStore
from radpool_sv2.declarator.verdict import VerdictDesk
from radpool_sv2.ecash.policy import RAIL, Policy
from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.pool.account import INVALID_USER_IDENTITY
from radpool_sv2.pool.custom import CustomJobDesk
from radpool_sv2.pool.terms import JobTerms
from radpool_sv2.templates.declared import Owner

if TYPE_CHECKING:
    from collections.abc import Callable

    from radpool_sv2.config import Endpoint, MspConfig
    from radpool_sv2.ecash.mint import Mint
    from radpool_sv2.keyfile import KeyRing
    from radpool_sv2.pool.role import Pool
    from radpool_sv2.templates.source import TemplateSource

__all__ = ["open_declaring"]

KEPT_FACTOR: Final = 2
"""Templates in use may take as much memory again as the cache."""


def open_declaring(  # noqa: PLR0913 - the parts of a node that it joins
    config: MspConfig,
    keys: KeyRing,
    source: TemplateSource,
    pool: Pool,
    mint: Mint | None,
    *,
    listen: Endpoint | None = None,
) -> Declarator:
    """Makes the declarator of a node and lets its pool judge custom jobs; nothing runs yet.

    Args:
        config: The configuration.
        keys: The node's keys.
        source: Judges templates and knows transactions.
        pool: The pool that mines what is declared.
        mint: The node's mint, if there is one.
        listen: Where it listens, if not where the configuration says.
    """
    section = config.declarator
    terms = JobTerms(
        script=pool.weighing.script,
        msp_key=keys.msp.public,
        exponents=(config.mining.exponent_min, config.mining.exponent_max),
        current_epoch=lambda: pool.ledger.current_epoch,
        find_account=pool.account,
        ecash_owner=None if mint is None else _policy_owners(mint, config.ecash.policies),
    )
    verdicts = VerdictDesk(source)
    cache = TransactionCache(section.cache_bytes_max)
    desk = DeclaratorDesk(
        terms=terms,
        tokens=TokenStore(TokenLimits(lifetime_s=section.token_lifetime_ms / 1_000)),
        challenges=ChallengeBook(ChallengeLimits(reveal_s=section.reveal_deadline_ms / 1_000)),
        board=pool.board,
        assembler=Assembler(cache, source),
        verdicts=verdicts,
        keep=TemplateKeep(cache, KEPT_FACTOR * section.cache_bytes_max),
        blocks=pool.outlet,
        coinbase_only=section.coinbase_only,
    )
    pool.custom = CustomJobDesk(terms, desk, pool.weighing, pool.board)
    declarator = Declarator(section, keys.identity(), desk, verdicts, listen=listen)
    pool.bearers.append(declarator)
    return declarator


def _policy_owners(mint: Mint, policies: tuple[str, ...]) -> Callable[[str], Owner]:
    def owner(word: str) -> Owner:
        if word not in policies:
            raise RemoteProtocolError(
                f"this mint has no policy {word!r}: it has {', '.join(policies)}",
                INVALID_USER_IDENTITY,
            )
        policy = Policy[word.upper()]
        found = mint.owner(policy)
        return Owner(found.account, policy.account, found.commitment, RAIL)

    return owner
