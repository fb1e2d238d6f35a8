"""Lets a member begin at a checkpoint: what it must be shown to believe where the streams go on.

The state itself travels beside it; whoever has it computes its root and compares.

Source: `spec/14-epoch-agreement.md`, "Checkpoints".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.federation.certificate import Certificate
from radpool_sv2.federation.codec import HASH_LEN, Reader
from radpool_sv2.federation.record import Started
from radpool_sv2.federation.statement import StateRoot

if TYPE_CHECKING:
    from radpool_sv2.federation.committee import Committee
    from radpool_sv2.federation.identity import Verifier

__all__ = ["Snapshot"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Says where members go on behind a checkpoint, and proves it.

    Attributes:
        start: The record with which a store begins.
        state_root: Root of the state that belongs to it.
        checkpoint: The certificate.
    """

    start: Started
    state_root: bytes
    checkpoint: Certificate

    def verify(self, committee: Committee, verifier: Verifier) -> None:
        """Checks that a quorum has signed the state and the start.

        Raises:
            RemoteProtocolError: It has not: whoever showed the snapshot is at fault.
        """
        root = self.checkpoint.statement
        if not isinstance(root, StateRoot) or root.epoch + 1 != self.start.decided:
            raise RemoteProtocolError("the checkpoint is of another epoch, or none", "snapshot")
        if root.root != self.start.root(self.state_root):
            raise RemoteProtocolError(
                "the checkpoint is of another state, or of another start", "snapshot"
            )
        if any(ending.member >= committee.n for _, ending in self.start.endings):
            raise RemoteProtocolError("the start is of another committee", "snapshot")
        self.checkpoint.verify(committee, verifier)

    def encode(self) -> bytes:
        """Writes the snapshot without its committee."""
        return self.start.body() + self.state_root + self.checkpoint.encode()

    @classmethod
    def decode(cls, data: bytes, committee: Committee) -> Snapshot:
        """Reads a snapshot; nothing is checked.

        Raises:
            CodecError: The bytes are none.
        """
        with Reader(data, committee.id) as reader:
            return cls(Started.read(reader), reader.take(HASH_LEN), Certificate.read(reader))
