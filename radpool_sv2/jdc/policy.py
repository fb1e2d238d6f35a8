"""Says which transactions go into a block: rules of the configuration, and policies of packages.

A policy looks at what the node has chosen and returns wishes. It is a class without arguments that
a package registers under the entry point group `radpool_sv2.template_policies`:

    class NoDust:
        def wishes(self, offer: Offer) -> Wishes:
            dust = {each.txid for each in offer.transactions if each.fee_sats < 500}
            return Wishes(exclude=frozenset(dust))

It is called on a worker thread, once for each template, and one call at a time. What wishes come to
is decided elsewhere (`radpool_sv2.jdc.choice`): whatever spends an excluded transaction goes too, a
conflict is won by what is included, and a block with included transactions is judged by the node
first. So a policy may be wrong; it cannot make a block invalid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final, Protocol

from radpool_sv2.chain.transaction import Transaction
from radpool_sv2.errors import ConfigError, LocalProtocolError
from radpool_sv2.network import script_from_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radpool_sv2.config.jdc import PolicySection
    from radpool_sv2.network import Network

__all__ = [
    "ENTRY_POINT_GROUP",
    "Candidate",
    "Offer",
    "Rules",
    "TemplatePolicy",
    "Wishes",
    "find_policies",
    "hash_from_text",
]

ENTRY_POINT_GROUP: Final = "radpool_sv2.template_policies"

VSIZE_SCALE: Final = 4
KILO: Final = 1_000


@dataclass(frozen=True)
class Candidate:
    """Is a transaction of a template.

    Attributes:
        raw: The transaction with its witnesses.
        fee_sats: What it pays; 0 for one that is only to be included, since nobody has told.
    """

    raw: bytes
    fee_sats: int

    @cached_property
    def transaction(self) -> Transaction:
        """The transaction, taken apart."""
        return Transaction.from_bytes(self.raw)

    @property
    def txid(self) -> bytes:
        """Its id, 32 bytes, internal order."""
        return self.transaction.txid

    @property
    def wtxid(self) -> bytes:
        """Its witness id, 32 bytes, internal order."""
        return self.transaction.wtxid

    @property
    def weight(self) -> int:
        """Its weight in weight units."""
        return self.transaction.weight

    @property
    def scripts(self) -> tuple[bytes, ...]:
        """The scripts that it pays."""
        return tuple(output.script for output in self.transaction.outputs)

    def pays_less_than(self, sat_per_kvb: int) -> bool:
        """Tells whether its fee is below a rate for 1000 virtual bytes."""
        return self.fee_sats * VSIZE_SCALE * KILO < sat_per_kvb * self.weight


@dataclass(frozen=True, slots=True)
class Offer:
    """Is what a policy looks at.

    Attributes:
        height: The height of the block.
        prev_hash: The block that it builds on, 32 bytes, internal order.
        transactions: What the node has chosen, parents before children.
    """

    height: int
    prev_hash: bytes
    transactions: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Wishes:
    """Is what a policy wants.

    Attributes:
        exclude: Ids of transactions that must not go in.
        include: Transactions, with their witnesses, that must.
        lookup: Witness ids of transactions that must go in if the node's mempool has them.
        prefer: Ids of transactions that stay when something has to give way.
    """

    exclude: frozenset[bytes] = frozenset()
    include: tuple[bytes, ...] = ()
    lookup: frozenset[bytes] = frozenset()
    prefer: frozenset[bytes] = frozenset()

    def joined(self, other: Wishes) -> Wishes:
        """Returns the wishes of both; what either excludes is excluded."""
        return Wishes(
            self.exclude | other.exclude,
            self.include + other.include,
            self.lookup | other.lookup,
            self.prefer | other.prefer,
        )


class TemplatePolicy(Protocol):
    """Is a policy; see the module's head."""

    def wishes(self, offer: Offer) -> Wishes:
        """Returns what is wanted of a template; may take its time, but is not waited for long."""


def find_policies(names: Sequence[str]) -> list[TemplatePolicy]:
    """Makes the policies of installed packages.

    Raises:
        ConfigError: There is none of that name.
    """
    installed = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
    found: list[TemplatePolicy] = []
    for name in names:
        if name not in installed:
            raise ConfigError(
                f"no installed package has the policy {name!r}",
                key="policy.policies",
                value=repr(list(names)),
                allowed=f"some of {', '.join(sorted(installed)) or 'none: no package has any'}",
            )
        found.append(installed[name].load()())
    return found


def hash_from_text(text: str) -> bytes:
    """Reads a hash as people write it, most significant byte first.

    Raises:
        ValueError: It is not 64 hex digits.
    """
    if len(text) != 64:
        raise ValueError("give 64 hex digits")
    return bytes.fromhex(text)[::-1]


class Rules:
    """Is the policy that the configuration's rules are."""

    def __init__(self, section: PolicySection, network: Network) -> None:
        """Reads the rules.

        Raises:
            ConfigError: An id or an address cannot be read.
        """
        self._exclude = _hashes("exclude_transactions", section.exclude_transactions)
        self._exclude_scripts = _scripts("exclude_addresses", section.exclude_addresses, network)
        self._prefer = _hashes("prefer_transactions", section.prefer_transactions)
        self._prefer_scripts = _scripts("prefer_addresses", section.prefer_addresses, network)
        self._lookup = _hashes("include_transactions", section.include_transactions)
        self._include_dir = section.include_dir
        self._feerate_min = section.feerate_min_sat_per_kvb

    def wishes(self, offer: Offer) -> Wishes:
        """Applies the rules to each transaction."""
        exclude, prefer = set(self._exclude), set(self._prefer)
        for each in offer.transactions:
            if self._exclude_scripts.intersection(each.scripts):
                exclude.add(each.txid)
            elif self._prefer_scripts.intersection(each.scripts):
                prefer.add(each.txid)
        for each in offer.transactions:
            is_wanted = each.txid in prefer or each.wtxid in self._lookup
            if not is_wanted and each.pays_less_than(self._feerate_min):
                exclude.add(each.txid)
        return Wishes(frozenset(exclude), self._files(), self._lookup, frozenset(prefer))

    def _files(self) -> tuple[bytes, ...]:
        """Reads the directory of transactions; a file that holds none is passed over."""
        found = []
        for file in sorted(self._include_dir.glob("*.hex"))[:FILES_MAX]:
            if file.stat().st_size <= FILE_BYTES_MAX:
                try:
                    raw = bytes.fromhex(file.read_text(encoding="ascii").strip())
                    Transaction.from_bytes(raw)
                except (OSError, ValueError, LocalProtocolError):
                    continue
                found.append(raw)
        return tuple(found)


FILES_MAX: Final = 1_000
FILE_BYTES_MAX: Final = 2 * 400_000 + 2
"""Twice the digits of the longest transaction that nodes pass on, and an end of line."""


def _hashes(key: str, texts: Sequence[str]) -> frozenset[bytes]:
    found = set()
    for text in texts:
        try:
            found.add(hash_from_text(text))
        except ValueError as error:
            raise ConfigError(
                "is no transaction id", key=f"policy.{key}", value=repr(text), allowed=str(error)
            ) from error
    return frozenset(found)


def _scripts(key: str, texts: Sequence[str], network: Network) -> frozenset[bytes]:
    found = set()
    for text in texts:
        try:
            found.add(bytes.fromhex(text))
        except ValueError:
            try:
                found.add(script_from_address(text, network))
            except LocalProtocolError as error:
                raise ConfigError(str(error), key=f"policy.{key}", value=repr(text)) from error
    return frozenset(found)
