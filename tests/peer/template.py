"""Builds templates of a miner's own: coinbase, witness commitment, merkle path, what is declared.

Source: Bitcoin's serialisation of transactions, BIP34, BIP141; sv2-spec, chapters 5 and 6; pages 02
and 10 of this project's specification.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from . import work
from .curve import tagged_hash
from .message import Message

RESERVED = bytes(32)
COMMITMENT_START = bytes.fromhex("6a24aa21a9ed")


def compact(number: int) -> bytes:
    return bytes([number]) if number < 0xFD else b"\xfd" + struct.pack("<H", number)


def serialised(output: work.Output) -> bytes:
    return struct.pack("<Q", output.value) + compact(len(output.script)) + output.script


def read_outputs(raw: bytes) -> list[work.Output]:
    """Reads outputs behind their count, and nothing else."""
    reader = work.TransactionReader(raw)
    outputs = []
    for _ in range(reader.compact()):
        value = struct.unpack("<Q", reader.take(8))[0]
        outputs.append(work.Output(value, reader.take(reader.compact())))
    assert reader.at == len(raw), "bytes behind the last output"
    return outputs


def push_height(height: int) -> bytes:
    if height == 0:
        return b"\x00"
    if height <= 16:
        return bytes([0x50 + height])
    number = height.to_bytes(height.bit_length() // 8 + 1, "little")
    return bytes([len(number)]) + number


def plain(raw: bytes) -> bytes:
    """Strips a transaction of its witness."""
    if raw[4:6] != b"\x00\x01":
        return raw
    reader = work.TransactionReader(raw)
    reader.at = 6
    inputs = reader.compact()
    for _ in range(inputs):
        reader.take(36)
        reader.take(reader.compact())
        reader.take(4)
    for _ in range(reader.compact()):
        reader.take(8)
        reader.take(reader.compact())
    return raw[:4] + raw[6 : reader.at] + raw[-4:]


def spend(
    previous: bytes, index: int, value: int, *, script: bytes = b"\x51", pad: int = 0
) -> bytes:
    """Makes a transaction with a witness that spends an output whose script is OP_TRUE in P2WSH."""
    outputs = [work.Output(value, script)]
    if pad:
        outputs.append(work.Output(0, b"\x6a" + compact_push(pad)))
    return b"".join(
        (
            struct.pack("<I", 2) + b"\x00\x01\x01",
            previous + struct.pack("<I", index) + b"\x00" + b"\xff" * 4,
            compact(len(outputs)) + b"".join(map(serialised, outputs)),
            b"\x01\x01\x51" + struct.pack("<I", 0),
        )
    )


def compact_push(length: int) -> bytes:
    return b"\x4d" + struct.pack("<H", length) + bytes(length)


def next_level(level: list[bytes]) -> list[bytes]:
    level = level + level[-1:] if len(level) % 2 else level
    return [work.sha256d(level[i] + level[i + 1]) for i in range(0, len(level), 2)]


def merkle_root(leaves: list[bytes]) -> bytes:
    while len(leaves) > 1:
        leaves = next_level(leaves)
    return leaves[0]


def merkle_path(txids: list[bytes]) -> list[bytes]:
    """Returns the siblings of the coinbase."""
    path, level = [], [bytes(32), *txids]
    while len(level) > 1:
        path.append(level[1])
        level = next_level(level)
    return path


@dataclass
class OwnTemplate:
    """Is a template that a miner has made.

    Attributes:
        height: Of the block.
        prev_hash: The tip.
        nbits: Of the header.
        min_ntime: The least time of the header.
        value: What the coinbase may pay; all of it goes to the first of `token_outputs`.
        token_outputs: What the token came with.
        extranonce_len: The whole extranonce of the channel.
        transactions: Those besides the coinbase.
    """

    height: int
    prev_hash: bytes
    nbits: int
    min_ntime: int
    value: int
    token_outputs: list[work.Output]
    extranonce_len: int
    transactions: list[bytes] = field(default_factory=list)
    version: int = 0x20000000
    text: bytes = b"\x05miner"
    coinbase_version: int = 2
    sequence: int = 0xFFFFFFFE
    locktime: int = 0
    extra_outputs: list[work.Output] = field(default_factory=list)

    @property
    def wtxids(self) -> list[bytes]:
        return [work.sha256d(raw) for raw in self.transactions]

    @property
    def txids(self) -> list[bytes]:
        return [work.sha256d(plain(raw)) for raw in self.transactions]

    @property
    def path(self) -> list[bytes]:
        return merkle_path(self.txids)

    @property
    def outputs(self) -> list[work.Output]:
        root = merkle_root([bytes(32), *self.wtxids])
        commitment = COMMITMENT_START + work.sha256d(root + RESERVED)
        first = work.Output(self.value, self.token_outputs[0].script)
        return [first, *self.token_outputs[1:], *self.extra_outputs, work.Output(0, commitment)]

    @property
    def script(self) -> bytes:
        """The coinbase's script up to the extranonce: height, a text, the extranonce's push."""
        return push_height(self.height) + self.text + bytes([self.extranonce_len])

    @property
    def written_outputs(self) -> bytes:
        return compact(len(self.outputs)) + b"".join(map(serialised, self.outputs))

    @property
    def prefix(self) -> bytes:
        script_len = len(self.script) + self.extranonce_len
        start = struct.pack("<I", self.coinbase_version) + b"\x00\x01\x01" + bytes(32) + b"\xff" * 4
        return start + bytes([script_len]) + self.script

    @property
    def suffix(self) -> bytes:
        witness = b"\x01\x20" + RESERVED
        locktime = struct.pack("<I", self.locktime)
        return struct.pack("<I", self.sequence) + self.written_outputs + witness + locktime

    def declare(self, token: bytes, request_id: int = 1, **changes: object) -> Message:
        """Declares it."""
        fields = {
            "request_id": request_id,
            "mining_job_token": token,
            "version": self.version,
            "coinbase_tx_prefix": self.prefix,
            "coinbase_tx_suffix": self.suffix,
            "wtxid_list": self.wtxids,
            "excess_data": b"",
        }
        return Message("DeclareMiningJob", **{**fields, **changes})

    def job(self, channel_id: int, token: bytes, request_id: int = 1, **changes: object) -> Message:
        """Makes it a custom job."""
        fields = {
            "channel_id": channel_id,
            "request_id": request_id,
            "mining_job_token": token,
            "version": self.version,
            "prev_hash": self.prev_hash,
            "min_ntime": self.min_ntime,
            "nbits": self.nbits,
            "coinbase_tx_version": self.coinbase_version,
            "coinbase_prefix": self.script,
            "coinbase_tx_input_n_sequence": self.sequence,
            "coinbase_tx_outputs": self.written_outputs,
            "coinbase_tx_locktime": self.locktime,
            "merkle_path": self.path,
        }
        return Message("SetCustomMiningJob", **{**fields, **changes})

    def coinbase(self, extranonce: bytes) -> bytes:
        """Writes the coinbase without its witness."""
        prefix = self.prefix[:4] + self.prefix[6:]
        suffix = self.suffix[:-38] + self.suffix[-4:]
        return prefix + extranonce + suffix

    def solve(self, extranonce: bytes, limit: int, *, ntime: int | None = None) -> Message:
        """Finds a block and makes the message that pushes it."""
        ntime = self.min_ntime if ntime is None else ntime
        root = work.merkle_root(self.coinbase(extranonce), self.path)
        nonce = 0
        while True:
            header = work.block_header(self.version, self.prev_hash, root, ntime, self.nbits, nonce)
            if work.number(work.sha256d(header)) <= limit:
                break
            nonce += 1
        return Message(
            "PushSolution",
            extranonce=extranonce,
            prev_hash=self.prev_hash,
            nonce=nonce,
            ntime=ntime,
            nbits=self.nbits,
            version=self.version,
        )


def is_challenged(block_hash: bytes, token: bytes) -> bool:
    """Says whether a hidden job must be revealed (page 10, JD-26)."""
    return tagged_hash("radpool/challenge", block_hash + token)[0] % 64 == 0
