"""Publishes what a federation has counted, for anyone to compute it again.

Source: `spec/15-checkpoint-state.md`, "Public log".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from radpool_sv2.errors import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from radpool_sv2.federation.broadcast.entry import Entry
    from radpool_sv2.federation.committee import Committee
    from radpool_sv2.federation.messages import DecidedEpoch
    from radpool_sv2.federation.state.rules import Rules

__all__ = ["LogSource", "publish"]


class LogSource(Protocol):
    """Is what a member's store has kept."""

    def entry(self, sender: int, seq: int) -> Entry | None:
        """Returns a certified entry of a stream."""

    def epoch(self, epoch: int) -> DecidedEpoch | None:
        """Returns a decided epoch."""

    def first_epoch(self) -> int:
        """Returns the first decided epoch that is kept, or would be."""


def publish(
    directory: Path,
    committee: Committee,
    rules: Rules,
    source: LogSource,
    states: Sequence[bytes],
) -> None:
    """Writes the log of the first epochs; what is there already is kept.

    Args:
        directory: Where; it is made.
        committee: The committee.
        rules: By which it counts.
        source: Where entries and decisions are.
        states: The states behind epoch 0 and as many after it as are to be published.

    Raises:
        LocalProtocolError: An epoch is not certified, or an entry is not kept any more.
    """
    for name in ("streams", "epochs", "books"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    (directory / "committee.bin").write_bytes(committee.encode())
    (directory / "rules.bin").write_bytes(rules.encode())
    ends = [0] * committee.n
    for epoch, state in enumerate(states):
        decided = source.epoch(epoch)
        if decided is None or decided.checkpoint is None:
            raise LocalProtocolError(f"epoch {epoch} has no checkpoint yet")
        (directory / "epochs" / f"{epoch:010d}.bin").write_bytes(decided.encode())
        (directory / "books" / f"{epoch:010d}.bin").write_bytes(state)
        for ending in decided.cut.endings:
            ends[ending.member] = ending.seq + 1
    for member, end in enumerate(ends):
        place = directory / "streams" / f"{member:03d}"
        place.mkdir(exist_ok=True)
        for seq in range(end):
            file = place / f"{seq:010d}.bin"
            if file.exists():
                continue
            entry = source.entry(member, seq)
            if entry is None:
                raise LocalProtocolError(f"entry {seq} of member {member} is not kept any more")
            file.write_bytes(entry.encode())
