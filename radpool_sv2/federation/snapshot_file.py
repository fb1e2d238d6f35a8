"""Reads and writes snapshots as files, with which a member begins or comes back after long.

Whoever serves a snapshot need not be trusted: a quorum has signed the state and where the streams
go on. The hash at the end only tells a file that was torn on its way from one that somebody made.

Bounds: a proof of `PROOF_BYTES_MAX`, a state of `STATE_BYTES_MAX`; a file that is not as long as it
says is not read further than its head.

Source: `spec/14-epoch-agreement.md`, "Checkpoints".
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from radpool_sv2.durable import write_whole
from radpool_sv2.errors import ConfigError, LocalProtocolError, RemoteProtocolError
from radpool_sv2.federation.codec import HASH_LEN, CodecError, u8, u32, u64
from radpool_sv2.federation.state.snapshot import Snapshot

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from radpool_sv2.federation.committee import Committee
    from radpool_sv2.federation.identity import Verifier
    from radpool_sv2.federation.state.checkpoint import StateFunction
    from radpool_sv2.federation.store import FederationStore

__all__ = ["SnapshotFile", "take_snapshot"]

MAGIC: Final = b"radpool snapshot"
VERSION: Final = 1
HEAD_LEN: Final = len(MAGIC) + 1 + HASH_LEN + 4 + 8
PROOF_BYTES_MAX: Final = 1 << 20
STATE_BYTES_MAX: Final = 1 << 30
"""Several thousand times the books of a hundred members; a state is in memory whole anyway."""

READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """Is a snapshot with its state.

    Attributes:
        snapshot: Where streams and epochs go on, and who signed it.
        state: The state there.
    """

    snapshot: Snapshot
    state: bytes

    def write(self, file: Path, committee: Committee) -> None:
        """Writes the file, whole or not at all.

        Raises:
            ConfigError: It cannot be written.
        """
        proof = self.snapshot.encode()
        head = (MAGIC, u8(VERSION), committee.id, u32(len(proof)), u64(len(self.state)))
        data = b"".join((*head, proof, self.state))
        draft = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            write_whole(file, data + sha256(data).digest(), draft=draft)
        except OSError as error:
            raise ConfigError(f"cannot write: {error.strerror}", file=file) from error

    @classmethod
    def read(
        cls, file: Path, committee: Committee, verifier: Verifier, function: StateFunction
    ) -> SnapshotFile:
        """Reads a file and checks that a quorum has signed what is in it.

        Args:
            file: The file.
            committee: The committee that it must be of.
            verifier: Checks signatures.
            function: Computes the root of the state.

        Raises:
            ConfigError: It cannot be read, or is none, torn, another committee's or forged.
        """
        try:
            with file.open("rb") as stream:
                proof, state = _read(stream, file, committee)
        except OSError as error:
            raise ConfigError(f"cannot read the snapshot: {error.strerror}", file=file) from error
        try:
            snapshot = Snapshot.decode(proof, committee)
            snapshot.verify(committee, verifier)
            root = function.root(state)
        except (CodecError, RemoteProtocolError) as error:
            raise ConfigError(
                f"no quorum of the committee has signed this snapshot: {error}. Take one of "
                "another member",
                file=file,
            ) from error
        except LocalProtocolError as error:
            raise ConfigError(
                f"{error}. Compare the rules in the file of the committee with those of other "
                "members",
                file=file,
            ) from error
        if root != snapshot.state_root:
            raise ConfigError(
                "its state is not the one that a quorum has signed. Take one of another member",
                file=file,
            )
        return cls(snapshot, state)


def take_snapshot(store: FederationStore, function: StateFunction) -> SnapshotFile:
    """Takes the snapshot behind the last certified epoch that a store has closed.

    Args:
        store: A member's; it may run meanwhile.
        function: Computes the root of the state.

    Raises:
        StoreError: The store cannot be read.
        ConfigError: No epoch is certified yet.
    """
    found = store.latest()
    if found is None:
        raise ConfigError("the member has certified no epoch yet: there is nothing to begin with")
    start, state, checkpoint = found
    return SnapshotFile(Snapshot(start, function.root(state), checkpoint), state)


def _read(stream: BinaryIO, file: Path, committee: Committee) -> tuple[bytes, bytes]:
    head = stream.read(HEAD_LEN)
    at = len(MAGIC) + 1
    if len(head) < HEAD_LEN or not head.startswith(MAGIC):
        raise ConfigError("is no snapshot of a federation", file=file)
    if head[at - 1] != VERSION:
        raise ConfigError(
            f"was written by another version of radpool (format {head[at - 1]}, this one knows "
            f"{VERSION})",
            file=file,
        )
    if head[at : at + HASH_LEN] != committee.id:
        raise ConfigError(
            f"is of another committee, {head[at : at + HASH_LEN].hex()}; this member is in "
            f"{committee.id.hex()}",
            file=file,
        )
    at += HASH_LEN
    proof_len = int.from_bytes(head[at : at + 4], "little")
    state_len = int.from_bytes(head[at + 4 :], "little")
    if proof_len > PROOF_BYTES_MAX or state_len > STATE_BYTES_MAX:
        raise ConfigError("is no snapshot: it says to be larger than any can be", file=file)
    size = os.fstat(stream.fileno()).st_size
    expected = HEAD_LEN + proof_len + state_len + HASH_LEN
    if size != expected:
        raise ConfigError(
            f"is torn: {size} bytes of {expected} have come. Copy it again", file=file
        )
    rest = _Hashed(stream, file, head)
    proof, state = rest.take(proof_len), rest.take(state_len)
    if stream.read(HASH_LEN) != rest.digest.digest():
        raise ConfigError("is damaged: its hash is another. Copy it again", file=file)
    return proof, state


class _Hashed:
    """Reads on in a file and hashes what it reads."""

    def __init__(self, stream: BinaryIO, file: Path, head: bytes) -> None:
        self._stream = stream
        self._file = file
        self.digest = sha256(head)

    def take(self, length: int) -> bytes:
        taken = bytearray()
        while len(taken) < length:
            chunk = self._stream.read(min(length - len(taken), READ_BYTES))
            if not chunk:
                raise ConfigError("is torn: it became shorter. Copy it again", file=self._file)
            self.digest.update(chunk)
            taken += chunk
        return bytes(taken)
