"""Keeps templates and waiting transactions on disk, so that a late solution always finds its block.

A template is durable before anybody learns of it, together with the transactions it names: work on
it may be solved after the child, or the machine, has died. Waiting transactions are written without
waiting for the disk, like a node's mempool.

Bounds: the newest `TEMPLATES_MAX` templates are kept; the file is rewritten with what still matters
at each start and when it has grown to `REWRITE_AT` bytes and to twice what then mattered.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from radpool_sv2.chain.assembly import BlockTemplate, Room
from radpool_sv2.chain.record_log import Record, RecordLog
from radpool_sv2.chain.transaction import Transaction
from radpool_sv2.errors import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = ["TEMPLATES_MAX", "Journal"]

# With a template every 5 s at most this reaches back 40 minutes at the least.
TEMPLATES_MAX: Final = 512
REWRITE_AT: Final = 32_000_000
_KIND_TRANSACTION: Final = 1
_KIND_TEMPLATE: Final = 2
_PLAIN = ("id", "height", "nbits", "time_min", "time", "value_sats", "fees_sats", "weight")


class Journal:
    """Is the file of templates and transactions of one chain directory."""

    def __init__(self, path: Path) -> None:
        """Opens the file and reads it; what is damaged at its end is left out."""
        self._log, records = RecordLog.open(path, refuse_damage=False)
        self.templates: dict[int, BlockTemplate] = {}
        self.transactions: dict[bytes, Transaction] = {}
        for record in records:
            self._load(record)
        self._written: set[bytes] = set(self.transactions)
        self._rewrite_at = REWRITE_AT

    def add_transaction(self, transaction: Transaction) -> None:
        """Notes a waiting transaction."""
        self._append([transaction], None)

    def add_template(self, template: BlockTemplate) -> None:
        """Makes a template durable; the oldest beyond the limit is forgotten."""
        self._append(template.transactions, template)
        self.templates[template.id] = template
        while len(self.templates) > TEMPLATES_MAX:
            del self.templates[next(iter(self.templates))]

    def compact(self, waiting: Iterable[Transaction], *, always: bool = False) -> None:
        """Rewrites the file with the templates and `waiting` when it is worth it."""
        if not always and self._log.size < self._rewrite_at:
            return
        needed = {each.txid: each for each in waiting}
        for template in self.templates.values():
            needed.update((each.txid, each) for each in template.transactions)
        records = [Record(_KIND_TRANSACTION, each.to_bytes()) for each in needed.values()]
        records += [_template_record(each) for each in self.templates.values()]
        self._log.rewrite(records)
        self._written = set(needed)
        self.transactions.clear()
        self._rewrite_at = max(REWRITE_AT, 2 * self._log.size)

    def close(self) -> None:
        """Closes the file."""
        self._log.close()

    def _append(self, transactions: Sequence[Transaction], template: BlockTemplate | None) -> None:
        fresh = [each for each in transactions if each.txid not in self._written]
        records = [Record(_KIND_TRANSACTION, each.to_bytes()) for each in fresh]
        if template is not None:
            records.append(_template_record(template))
        if records:
            self._log.append(records, durable=template is not None)
            self._written.update(each.txid for each in fresh)

    def _load(self, record: Record) -> None:
        try:
            if record.kind == _KIND_TRANSACTION:
                transaction = Transaction.from_bytes(record.payload)
                self.transactions[transaction.txid] = transaction
            elif record.kind == _KIND_TEMPLATE:
                template = self._template(json.loads(record.payload))
                self.templates[template.id] = template
        except (LocalProtocolError, ValueError, KeyError):
            # The checksum was right, so another version wrote it; the chain does without it.
            return

    def _template(self, fields: dict[str, Any]) -> BlockTemplate:
        transactions = tuple(self.transactions[bytes.fromhex(each)] for each in fields["txids"])
        plain = {name: int(fields[name]) for name in _PLAIN}
        previous = bytes.fromhex(fields["previous"])
        fees = fields.get("tx_fees_sats")
        return BlockTemplate(
            previous=previous,
            transactions=transactions,
            tx_fees_sats=None if fees is None else tuple(int(each) for each in fees),
            room=Room(int(fields.get("room_size", 0)), int(fields.get("room_sigops", 0))),
            **plain,
        )


def _template_record(template: BlockTemplate) -> Record:
    fields: dict[str, Any] = {name: getattr(template, name) for name in _PLAIN}
    fields["previous"] = template.previous.hex()
    fields["txids"] = [each.txid.hex() for each in template.transactions]
    fields["tx_fees_sats"] = template.tx_fees_sats
    fields["room_size"], fields["room_sigops"] = template.room.size, template.room.sigops
    return Record(_KIND_TEMPLATE, json.dumps(fields).encode())
