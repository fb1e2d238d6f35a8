"""Reads durable batches back, for whoever passes them on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from radpool_sv2.errors import StoreError
from radpool_sv2.store.batch import template_entries

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from radpool_sv2.store import Store

__all__ = ["DurableBatch", "last_sequence", "read_batches", "read_bodies"]


@dataclass(frozen=True, slots=True)
class DurableBatch:
    """Is a signed batch that a crash cannot take.

    Attributes:
        sequence: Its number in the MSP's chain.
        blob: The batch as exported.
        templates: Digests of the template bodies that it names, in its order, each once.
    """

    sequence: int
    blob: bytes
    templates: tuple[bytes, ...]


def last_sequence(store: Store) -> int:
    """Returns the number of the last batch; -1 before the first."""
    head = store.head()
    return -1 if head is None else head[0]


def read_batches(store: Store, first: int, limit: int) -> Sequence[DurableBatch]:
    """Reads up to `limit` batches from `first` on."""
    return [
        DurableBatch(
            sequence, blob, tuple(dict.fromkeys(each for each, _ in template_entries(blob)))
        )
        for sequence, _, blob in store.batches(max(first, 0), first + limit - 1)
    ]


def read_bodies(store: Store, digests: Collection[bytes]) -> Mapping[bytes, bytes]:
    """Reads template bodies.

    Raises:
        StoreError: One is not there.
    """
    bodies = {digest: store.body(digest) for digest in digests}
    found = {digest: body for digest, body in bodies.items() if body is not None}
    for digest in digests:
        if digest not in found:
            raise StoreError(f"the ledger lost the template body {digest.hex()}")
    return found
