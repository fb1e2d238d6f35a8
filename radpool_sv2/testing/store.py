"""Is a member's disk: what was written is there after a crash only if it was synced before.

A crash keeps a beginning of what was not yet synced, as disks do: how much, the world decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from radpool_sv2.federation.messages import DecidedEpoch
from radpool_sv2.federation.record import (
    Checkpointed,
    Decided,
    Echoed,
    Grown,
    Started,
    decode_record,
    encode_record,
    is_needed,
)
from radpool_sv2.federation.statement import Echo, StateRoot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radpool_sv2.federation.agreement.mark import Cut
    from radpool_sv2.federation.broadcast.entry import Entry
    from radpool_sv2.federation.certificate import Certificate
    from radpool_sv2.federation.committee import Committee
    from radpool_sv2.federation.record import Record

__all__ = ["Store"]


class Store:
    """Is a store of records; it also finds what answers are made of.

    Attributes:
        written: How many records have been written.
        durable: How many of them a crash cannot take.
    """

    def __init__(self, committee: Committee) -> None:
        self._committee = committee
        self._blobs: list[bytes] = []
        self._records: list[Record] = []
        self.durable = 0
        self._gone = 0
        self._held: dict[bytes, Entry] = {}
        self._streams: dict[tuple[int, int], Entry] = {}
        self._ends: dict[int, int] = {}
        self._certificates: dict[tuple[int, int], Certificate] = {}
        self._decisions: dict[int, tuple[Certificate, Cut]] = {}
        self._checkpoints: dict[int, Certificate] = {}
        self._begun = 0

    @property
    def written(self) -> int:
        """How many records have been written, those that are gone included."""
        return len(self._blobs) + self._gone

    def write(self, record: Record) -> None:
        """Writes a record; it is not durable yet."""
        self._blobs.append(encode_record(record))
        self._records.append(record)

    def sync(self, count: int) -> None:
        """Makes the first `count` records durable."""
        for record in self._records[self.durable - self._gone : count - self._gone]:
            self._index(record)
        self.durable = max(self.durable, count)

    def crash(self, kept: int) -> None:
        """Loses what was not durable, but for the first `kept` of it."""
        self.sync(min(self.durable + kept, self.written))
        del self._blobs[self.durable - self._gone :]
        del self._records[self.durable - self._gone :]

    def condense(self, start: Started) -> None:
        """Lets go of what a start makes superfluous, for good; all must be durable."""
        assert self.durable == self.written, "what is not durable is not superfluous"
        self._records = [start, *(each for each in self._records if is_needed(each, start))]
        self._blobs = [encode_record(each) for each in self._records]
        self._gone = self.durable - len(self._records)

    def records(self) -> Iterator[Record]:
        """Reads all records back, from their bytes."""
        for blob in self._blobs:
            yield decode_record(blob, self._committee)

    def _index(self, record: Record) -> None:
        match record:
            case Echoed(entry):
                self._held[entry.header.digest] = entry
            case Grown(certificate, entries):
                echo = certificate.statement
                assert isinstance(echo, Echo), "the codec lets no other pass"
                for entry in entries:
                    self._held[entry.header.digest] = entry
                digest = echo.entry
                for seq in range(echo.seq, self._ends.get(echo.sender, 0) - 1, -1):
                    entry = self._held.pop(digest)
                    self._streams[echo.sender, seq] = entry
                    digest = entry.header.previous
                self._ends[echo.sender] = echo.seq + 1
                self._certificates[echo.sender, echo.seq] = certificate
            case Decided(certificate, cut):
                self._decisions[cut.epoch] = certificate, cut
            case Checkpointed(certificate):
                root = certificate.statement
                assert isinstance(root, StateRoot), "the codec lets no other pass"
                self._checkpoints[root.epoch] = certificate
            case Started(_, endings):
                self._begun = record.decided
                for _, ending in endings:
                    self._ends[ending.member] = ending.seq + 1
            case _:
                pass

    def entry(self, sender: int, seq: int) -> Entry | None:
        """Returns a certified entry of a stream."""
        return self._streams.get((sender, seq))

    def certificate(self, sender: int, seq: int) -> Certificate | None:
        """Returns the certificate of an entry, if there is one of its very own."""
        return self._certificates.get((sender, seq))

    def epoch(self, epoch: int) -> DecidedEpoch | None:
        """Returns a decided epoch."""
        decision = self._decisions.get(epoch)
        if decision is None:
            return None
        return DecidedEpoch(*decision, self._checkpoints.get(epoch))

    def first(self, sender: int) -> int:
        """Returns the number of the first entry of a stream that is kept, or would be."""
        kept = (seq for of, seq in self._streams if of == sender)
        return min(kept, default=self._ends.get(sender, 0))

    def first_epoch(self) -> int:
        """Returns the first decided epoch that is kept, or would be."""
        return min(self._decisions, default=self._begun)
