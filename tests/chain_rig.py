"""A node with its real engine for tests, and a miner that shares no code with what it tests."""

from __future__ import annotations

import functools
import hashlib
import shutil
import struct
import tempfile
from pathlib import Path

from radpool_sv2.chain.method import template_message
from radpool_sv2.chain.node import Node

OWNER_OUTPUT = bytes(8) + b"\x28\x6a\x26" + b"RADP" + bytes(34)
ANYONE = b"\x51"  # OP_TRUE: spendable without a signature


def double_hash(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def compact(value: int) -> bytes:
    if value < 253:
        return bytes([value])
    return b"\xfd" + struct.pack("<H", value)


def pay_output(sats: int, script: bytes) -> bytes:
    return struct.pack("<q", sats) + compact(len(script)) + script


@functools.cache
def founded() -> tempfile.TemporaryDirectory:
    """A directory with a new chain, made once: founding waits for the disk a hundred times."""
    directory = tempfile.TemporaryDirectory(prefix="radpool-founded-")
    replayed(Path(directory.name)).close()
    return directory


def open_node(directory: Path, block_zeros: int = 0, **more) -> Node:
    """A node that has replayed its log, which a new directory gets from `founded`."""
    if not (directory / "chain.blocks").exists():
        shutil.copyfile(Path(founded().name) / "chain.blocks", directory / "chain.blocks")
    return replayed(directory, block_zeros, **more)


def replayed(directory: Path, block_zeros: int = 0, **more) -> Node:
    """A node that has replayed its log and, when that was empty, founded its chain."""
    node = Node(directory, block_zeros, **more)
    for _ in node.replay():
        pass
    return node


def fields_of(node: Node) -> dict:
    """The template as a client of the socket gets it."""
    return template_message(node, node.template)


def solve(
    fields: dict,
    *,
    sats: int | None = None,
    prefix: bytes | None = None,
    template_outputs: bytes | None = None,
    extra_outputs: bytes = OWNER_OUTPUT,
    extra_count: int = 1,
    witness: bool = True,
    extranonce: bytes = bytes(12),
    time: int | None = None,
    previous: bytes | None = None,
    zeros_max: int | None = None,
    payout: bytes = ANYONE,
) -> dict:
    """The parameters of `submit_solution` for a block that a miner has found."""
    prefix = bytes.fromhex(fields["coinbase_prefix"]) if prefix is None else prefix
    script = prefix + bytes([len(extranonce)]) + extranonce
    outputs = pay_output(fields["value_sats"] if sats is None else sats, payout) + extra_outputs
    count = 1 + extra_count
    if template_outputs is None:
        template_outputs = bytes.fromhex(fields["template_outputs"])
    if template_outputs:
        count += fields["template_output_count"]
    head = struct.pack("<I", fields["coinbase_tx_version"])
    body = b"\x01" + bytes(32) + b"\xff" * 4 + compact(len(script)) + script
    body += struct.pack("<I", fields["coinbase_sequence"])
    body += compact(count) + outputs + template_outputs
    tail = struct.pack("<I", fields["coinbase_locktime"])
    stack = b"\x01\x20" + bytes(32)
    full = head + (b"\x00\x01" if witness else b"") + body + (stack if witness else b"") + tail
    root = double_hash(head + body + tail)
    for sibling in fields["merkle_path"]:
        root = double_hash(root + bytes.fromhex(sibling))
    time = fields["time"] if time is None else time
    previous = bytes.fromhex(fields["previous"]) if previous is None else previous
    start = struct.pack("<I", fields["version"]) + previous + root
    start += struct.pack("<II", time, fields["nbits"])
    target = int.from_bytes(bytes.fromhex(fields["target"]), "little")
    for nonce in range(1 << 32):
        block_hash = double_hash(start + struct.pack("<I", nonce))
        number = int.from_bytes(block_hash, "little")
        if number <= target and (zeros_max is None or 256 - number.bit_length() <= zeros_max):
            break
    return {
        "template_id": fields["id"],
        "version": fields["version"],
        "ntime": time,
        "nonce": nonce,
        "coinbase_tx": full.hex(),
        "hash": block_hash.hex(),
    }


def submit(node: Node, params: dict):
    return node.submit_solution(
        params["template_id"],
        params["version"],
        params["ntime"],
        params["nonce"],
        bytes.fromhex(params["coinbase_tx"]),
    )
