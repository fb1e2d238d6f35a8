"""Writes an epoch so that anyone can recompute it: `radpool verify` reads nothing else.

The directory has `batches/SEQUENCE.bin`, `templates/DIGEST.bin` and `epoch.json`: what the MSP
claims about them, signed. The batches are a gapless piece of the MSP's chain: from the first that
may hold shares of the epoch, or of one that was settled together with it, to the last.

Source: `spec/04-epoch-accounting.md`, "Export".
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from radpool_sv2.errors import LocalProtocolError, StoreError
from radpool_sv2.store.batch import template_entries
from radpool_sv2.units import tagged_hash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from radpool_sv2.ledger.books import BatchKey
    from radpool_sv2.store import BlockRow, EpochRow, SettlementRow, Store

__all__ = ["Export", "Reach", "export_epoch"]

Reach = Callable[["Sequence[int]"], tuple[int, int] | None]
"""Says which batches an export of some epochs is to cover besides: the first and the last."""

FORMAT = "radpool-epoch/2"

_Template = tuple[bytes, int | None]
"""Digest and price; None in batches without prices."""

BATCHES_AT_ONCE = 64
"""How many batches are in memory together: some MiB at most."""


@dataclass(frozen=True, slots=True)
class Export:
    """Says what was written.

    Attributes:
        directory: Where.
        batches: How many batches.
        shares_epochs: The epochs whose shares are in it completely.
    """

    directory: Path
    batches: int
    shares_epochs: tuple[int, ...]


def export_epoch(
    store: Store, key: BatchKey, directory: Path, epoch: int, reach: Reach | None = None
) -> Export:
    """Writes an epoch into a directory; see `Ledger.export`."""
    total, _ = store.epochs(0, 0)
    if not 1 <= epoch <= total:
        raise LocalProtocolError(f"there is no epoch {epoch}: the ledger has 1 to {total}")
    _, newest_first = store.epochs(total - epoch, 1)
    [row] = newest_first
    settlements = store.settlements_of_epoch(epoch)
    scope = sorted({epoch, *(number for paid in settlements for number in paid.epochs)})
    _, [lowest] = store.epochs(total - scope[0], 1)
    _, [highest] = store.epochs(total - scope[-1], 1)
    head = store.head()
    last = -1 if head is None else head[0]
    if highest.frozen_sequence is not None:
        last = highest.frozen_sequence
    first = lowest.opened_sequence
    also = None if reach is None else reach(scope)
    if also is not None:
        first, last = min(first, also[0]), max(last, also[1])
    try:
        _make_empty(directory)
        batches, templates = _write_batches(store, directory, first, last)
        for digest in {digest for digest, _ in templates}:
            body = store.body(digest)
            if body is None:
                raise StoreError(f"the ledger lost the template body {digest.hex()}")
            (directory / "templates" / f"{digest.hex()}.bin").write_bytes(body)
        claims = {
            "format": FORMAT,
            "msp_key": key.public.hex(),
            "epoch": epoch,
            "state": _state(row, settlements),
            "batches": batches,
            "templates": _templates(store, templates),
            "scripts": [script.hex() for script in store.scripts()],
            "weights": [
                {"epoch": number, "mode": rule.mode, "scale": rule.scale, "base": rule.base}
                for number, rule in store.weights_of_epochs(scope)
            ],
            "voids": _voids(store, templates),
            "sums": _sums(store, scope),
            "blocks": _blocks(store, settlements, row),
            "settlements": [_settlement(store, settlement) for settlement in settlements],
        }
        signature = key.sign(tagged_hash("radpool/epoch", _canonical(claims)))
        document = _canonical({"claims": claims, "signature": signature.hex()})
        (directory / "epoch.json").write_bytes(document)
    except OSError as error:
        raise StoreError(f"{directory}: cannot be written: {error.strerror}.") from error
    return Export(directory, len(batches), tuple(scope))


def _make_empty(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise LocalProtocolError(
            f"{directory}: is not empty. Give a directory that is, or a new one."
        )
    (directory / "batches").mkdir()
    (directory / "templates").mkdir()


def _write_batches(
    store: Store, directory: Path, first: int, last: int
) -> tuple[list[Mapping[str, Any]], list[_Template]]:
    rows: list[Mapping[str, Any]] = []
    templates: set[_Template] = set()
    for start in range(first, last + 1, BATCHES_AT_ONCE):
        end = min(start + BATCHES_AT_ONCE - 1, last)
        for sequence, batch_hash, blob in store.batches(start, end):
            (directory / "batches" / f"{sequence:010d}.bin").write_bytes(blob)
            rows.append({"sequence": sequence, "hash": batch_hash.hex()})
            templates.update(template_entries(blob))
    # Batches without prices may name a body that others name with one.
    return rows, sorted(
        templates, key=lambda entry: (entry[0], -1 if entry[1] is None else entry[1])
    )


def _templates(store: Store, templates: Sequence[_Template]) -> list[Mapping[str, Any]]:
    """Explains each price."""
    quotes = {
        (digest, quote.price): quote
        for digest in {digest for digest, _ in templates}
        for quote in store.quotes(digest)
    }
    rows: list[Mapping[str, Any]] = []
    for digest, price in templates:
        quote = None if price is None else quotes.get((digest, price))
        rows.append(
            {
                "digest": digest.hex(),
                "price": None if price is None else str(price),
                "paid_sats": None if quote is None else quote.paid_sats,
                "cap_sats": None if quote is None else quote.cap_sats,
                "reference_sats": None if quote is None else quote.reference_sats,
                "target": None if quote is None else quote.target[::-1].hex(),
            }
        )
    return rows


def _voids(store: Store, templates: Sequence[_Template]) -> list[Mapping[str, Any]]:
    named = {digest for digest, _ in templates}
    return [
        {
            "template": void.digest.hex(),
            "settlement": void.settlement,
            "epoch_min": void.epoch_min,
            "reason": void.reason,
        }
        for void in sorted(store.voids(), key=lambda void: void.digest)
        if void.digest in named
    ]


def _state(row: EpochRow, settlements: Sequence[SettlementRow]) -> str:
    if row.closed_ms is None:
        return "open"
    payments = sum(1 if paid.reverses is None else -1 for paid in settlements)
    return "paid" if payments else "closed"


def _commitments(store: Store) -> Mapping[int, str]:
    _, accounts = store.accounts(0, -1)
    return {account.id: account.commitment.hex() for account in accounts}


def _sums(store: Store, scope: Sequence[int]) -> list[Mapping[str, Any]]:
    commitments = _commitments(store)
    rows = [
        {
            "epoch": row.epoch,
            "commitment": commitments[row.account],
            "rail": row.rail,
            "count": row.count,
            # Work exceeds what JSON readers take for a number.
            "work": str(row.work),
            "value": str(row.value),
        }
        for row in store.sums(scope)
    ]
    return sorted(rows, key=lambda row: (row["epoch"], row["commitment"], row["rail"]))


def _blocks(
    store: Store, settlements: Sequence[SettlementRow], epoch: EpochRow
) -> list[Mapping[str, Any]]:
    hashes = {settlement.block for settlement in settlements}
    found = [block for block in map(store.block, hashes) if block is not None]
    total, _ = store.blocks(0, 0)
    # Blocks close epochs one by one, so the one that closed this epoch stands at its number.
    if epoch.closed_ms is not None:
        _, own = store.blocks(total - epoch.number, 1)
        found += [block for block in own if block.hash not in hashes]
    found.sort(key=lambda block: block.epoch)
    return [_block(block) for block in found]


def _block(block: BlockRow) -> Mapping[str, Any]:
    return {
        "hash": block.hash[::-1].hex(),
        "height": block.height,
        "epoch": block.epoch,
        "value_sats": block.value_sats,
    }


def _settlement(store: Store, settlement: SettlementRow) -> Mapping[str, Any]:
    commitments = _commitments(store)
    payouts = [
        {"commitment": commitments[entry.account], "rail": entry.rail, "sats": entry.sats}
        for entry in settlement.entries
        if entry.book == "miner"
    ]
    return {
        "id": settlement.id,
        "block": settlement.block[::-1].hex(),
        "reverses": settlement.reverses,
        "epochs": list(settlement.epochs),
        "sequence": settlement.sequence,
        "value_sats": settlement.value_sats,
        "carry_in": settlement.carry_in,
        "carry_out": settlement.carry_out,
        "payouts": sorted(payouts, key=lambda payout: (payout["commitment"], payout["rail"])),
    }


def _canonical(value: object) -> bytes:
    """Writes JSON in the one form that is signed: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
