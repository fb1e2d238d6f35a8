"""Writes `sv2-messages.json`: messages as our Python writes them, for SRI's crates to read.

A Rust test reads each with SRI's types, compares every field by its name and writes it again; a
Python test looks that the file is what we write today. `python tests/vectors/sv2_messages.py`.
"""

import dataclasses
import hashlib
import json
from pathlib import Path

from radpool_sv2.wire.message import job_declaration as jdp
from radpool_sv2.wire.message import mining
from radpool_sv2.wire.message import template_distribution as tdp

FILE = Path(__file__).with_name("sv2-messages.json")


def octets(length, seed):
    """Returns bytes that nothing else in the file has."""
    return hashlib.shake_256(f"{seed}/{length}".encode()).digest(length)


def hashes(count, seed):
    return tuple(octets(32, f"{seed}{number}") for number in range(count))


MESSAGES = (
    mining.SetCustomMiningJob(
        1,
        2,
        octets(32, "t"),
        3,
        octets(32, "p"),
        4,
        5,
        6,
        b"\x03abc",
        7,
        octets(90, "o"),
        8,
        hashes(2, "m"),
    ),
    mining.SetCustomMiningJobSuccess(1, 2, 3),
    mining.SetCustomMiningJobError(1, 2, "invalid-mining-job-token"),
    jdp.AllocateMiningJobToken("miner.rig", 0xFFFF_FFFF),
    jdp.AllocateMiningJobTokenSuccess(1, octets(255, "t"), octets(300, "o")),
    jdp.ProvideMissingTransactions(1, (0, 1, 0xFFFF, 512)),
    jdp.ProvideMissingTransactionsSuccess(1, (b"", octets(700, "r"), b"\x01")),
    jdp.DeclareMiningJob(
        1, b"", 0x2000_0000, octets(100, "p"), octets(900, "s"), hashes(3, "w"), octets(3, "e")
    ),
    jdp.DeclareMiningJobSuccess(1, octets(32, "n")),
    jdp.DeclareMiningJobError(1, "invalid-job", b"bad-txns-vin-empty"),
    jdp.PushSolution(octets(32, "x"), octets(32, "p"), 1, 2, 3, 4),
    tdp.CoinbaseOutputConstraints(0xFFFF_FFFF, 0xFFFE),
    tdp.NewTemplate(
        0xFFFF_FFFF_FFFF_FFFE,
        True,
        1,
        2,
        b"\x03\xa0\xbb\x0d",
        3,
        4,
        5,
        octets(45, "o"),
        6,
        hashes(3, "m"),
    ),
    tdp.NewTemplate(1, False, 2, 3, b"", 4, 5, 0, b"", 6, ()),
    tdp.SetNewPrevHash(1, octets(32, "p"), 2, 3, octets(32, "t")),
    tdp.RequestTransactionData(0x0102_0304_0506_0708),
    tdp.RequestTransactionDataSuccess(1, octets(4, "e"), (octets(61, "r"), octets(300, "q"))),
    tdp.RequestTransactionDataError(1, "stale-template-id"),
    tdp.SubmitSolution(1, 2, 3, 4, octets(250, "c")),
)


def shown(value):
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, str):
        return value.encode().hex()
    if isinstance(value, tuple):
        return [shown(each) for each in value]
    return value


def text():
    cases = [
        {
            "name": message.name,
            "fields": {
                field.name: shown(getattr(message, field.name))
                for field in dataclasses.fields(message)
            },
            "frame": message.encode().to_bytes().hex(),
        }
        for message in MESSAGES
    ]
    return json.dumps(cases, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
