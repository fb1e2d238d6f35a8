"""Goes on with a public log out of a member's store, while the member runs too.

A store has the books of its last epoch only, so the books behind each epoch are computed again from
the last that is published. Each is compared with what a quorum has signed before it is written. An
epoch's books are written last: an epoch that has them is published.

Source: `spec/15-checkpoint-state.md`, "Public log".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from radpool_sv2.errors import ConfigError, LocalProtocolError
from radpool_sv2.federation.codec import CodecError, Reader
from radpool_sv2.federation.messages import DecidedEpoch
from radpool_sv2.federation.record import Started
from radpool_sv2.federation.statement import StateRoot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from radpool_sv2.federation.agreement.mark import Ending
    from radpool_sv2.federation.broadcast.entry import Entry
    from radpool_sv2.federation.committee import Committee
    from radpool_sv2.federation.state.checkpoint import StateFunction
    from radpool_sv2.federation.state.log import LogSource
    from radpool_sv2.federation.state.rules import Rules

__all__ = ["Publication"]

DRAFT: Final = ".draft"


class Publication:
    """Is the directory of a public log that grows.

    Args:
        directory: Where; made if it is not there.
        committee: The committee.
        rules: By which it counts.

    Raises:
        ConfigError: The directory holds something else, or cannot be written.

    Attributes:
        epochs: How many are published.
    """

    def __init__(self, directory: Path, committee: Committee, rules: Rules) -> None:
        self._directory = directory
        self._committee = committee
        self._endings: dict[int, tuple[int, Ending]] = {}
        self._state = b""
        self._last: DecidedEpoch | None = None
        self.epochs = 0
        try:
            self._open(rules)
        except OSError as error:
            raise ConfigError(
                f"cannot be used for a log: {error.strerror}", file=directory
            ) from error
        except CodecError as error:
            raise ConfigError(
                f"the log there is damaged: {error}. Publish to another directory", file=directory
            ) from error

    def _open(self, rules: Rules) -> None:
        for name in ("streams", "epochs", "books"):
            (self._directory / name).mkdir(parents=True, exist_ok=True)
        for draft in self._directory.rglob(f"*{DRAFT}"):
            draft.unlink()
        for name, data in (
            ("committee.bin", self._committee.encode()),
            ("rules.bin", rules.encode()),
        ):
            file = self._directory / name
            if file.exists() and file.read_bytes() != data:
                raise ConfigError(
                    "another federation's log is there: give another directory", file=file
                )
            _write(file, data)
        while (books := self._file("books", self.epochs)).exists():
            data = self._file("epochs", self.epochs).read_bytes()
            with Reader(data, self._committee.id) as reader:
                decided = DecidedEpoch.read(reader)
            self._take(decided)
            last = books
        if self.epochs:
            self._state = last.read_bytes()

    def _file(self, name: str, epoch: int) -> Path:
        return self._directory / name / f"{epoch:010d}.bin"

    def _take(self, decided: DecidedEpoch) -> None:
        cut = decided.cut
        if cut.epoch != self.epochs:
            raise CodecError(f"epoch {cut.epoch} stands in the place of {self.epochs}")
        for ending in cut.endings:
            self._endings[ending.member] = cut.epoch, ending
        self._last = decided
        self.epochs += 1

    def go_on(
        self,
        source: LogSource,
        function: StateFunction,
        end: int | None = None,
        progress: Callable[[int], None] = lambda _epoch: None,
    ) -> int:
        """Publishes the certified epochs that a store has and the log has not.

        Args:
            source: A member's store.
            function: Computes the books.
            end: Behind which epoch to stop; `None` behind the last one.
            progress: Told of each epoch that is published.

        Returns:
            How many epochs were added.

        Raises:
            LocalProtocolError: What the log needs next is not kept any more, or the books are not
                what a quorum has signed.
            ConfigError: The directory cannot be written.
            StoreError: The store cannot be read.
        """
        before = self.epochs
        if self._last is not None:
            self._check(self._last, self._endings, function.root(self._state))
        try:
            while end is None or self.epochs < end:
                decided = source.epoch(self.epochs)
                if decided is None or decided.checkpoint is None:
                    break
                self._publish(decided, source, function)
                progress(self.epochs)
        except OSError as error:
            raise ConfigError(
                f"cannot write the log: {error.strerror}", file=self._directory
            ) from error
        if self.epochs == before:
            self._explain(source)
        return self.epochs - before

    def _explain(self, source: LogSource) -> None:
        first = source.first_epoch()
        if first > self.epochs:
            raise LocalProtocolError(
                f"the member keeps epochs from {first} on, and the log goes on with "
                f"{self.epochs}. Take it from a member that keeps more, or go on with a log that "
                "somebody has published further"
            )

    def _publish(self, decided: DecidedEpoch, source: LogSource, function: StateFunction) -> None:
        cut = decided.cut
        segments = [
            list(self._segment(ending.member, ending.seq + 1, source)) for ending in cut.endings
        ]
        state = function.apply(self._state, cut.epoch, segments)
        endings = {**self._endings, **{each.member: (cut.epoch, each) for each in cut.endings}}
        self._check(decided, endings, function.root(state))
        for segment in segments:
            for entry in segment:
                header = entry.header
                place = self._directory / "streams" / f"{header.sender:03d}"
                place.mkdir(exist_ok=True)
                _write(place / f"{header.seq:010d}.bin", entry.encode())
        for member in range(self._committee.n):
            (self._directory / "streams" / f"{member:03d}").mkdir(exist_ok=True)
        _write(self._file("epochs", cut.epoch), decided.encode())
        _write(self._file("books", cut.epoch), state)
        self._state = state
        self._take(decided)

    @staticmethod
    def _check(
        decided: DecidedEpoch, endings: dict[int, tuple[int, Ending]], state_root: bytes
    ) -> None:
        epoch = decided.cut.epoch
        start = Started(epoch + 1, tuple(endings[member] for member in sorted(endings)))
        signed = None if decided.checkpoint is None else decided.checkpoint.statement
        if not isinstance(signed, StateRoot) or start.root(state_root) != signed.root:
            raise LocalProtocolError(
                f"the books behind epoch {epoch} are not those that a quorum has signed: the log "
                "was altered, or this program counts by other rules"
            )

    def _segment(self, member: int, end: int, source: LogSource) -> Iterator[Entry]:
        last = self._endings.get(member)
        for seq in range(0 if last is None else last[1].seq + 1, end):
            entry = source.entry(member, seq)
            if entry is None:
                raise LocalProtocolError(
                    f"entry {seq} of member {member} is not kept any more: take the log from a "
                    "member that keeps more epochs"
                )
            yield entry


def _write(file: Path, data: bytes) -> None:
    draft = file.with_name(f"{file.name}{DRAFT}")
    draft.write_bytes(data)
    draft.replace(file)
