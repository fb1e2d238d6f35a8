"""`radpool verify receipt`: looks for every share that a pool has signed for in its exports."""

from __future__ import annotations

import json
import sys
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from radpool_sv2.errors import ConfigError
from radpool_sv2.verify.receipt import verify_receipts

if TYPE_CHECKING:
    from radpool_sv2.verify.receipt import ReceiptReport

__all__ = ["receipt"]


def receipt(
    file: Path,
    *export: Path,
    json_output: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Looks for every share that the pool has signed for in what it has published.

    Exit status: 0 all of them are there, under your key and at their weight; 1 some are not: file
    and exports together prove it to anyone.

    Args:
        file: The receipts that `radpool miner --owner` keeps.
        export: What `radpool verify export` wrote, for each epoch that you mined in.
        json_output: Print one JSON object instead of words.
    """
    if not export:
        raise ConfigError("give at least one export: `radpool verify export EPOCH` writes it")
    report = verify_receipts(file, export)
    if json_output:
        print(json.dumps(_fields(report)))
    else:
        print(_words(report))
    if report.missing or report.altered:
        sys.exit(1)


def _fields(report: ReceiptReport) -> dict[str, object]:
    return {
        "msp_key": report.msp_key.hex(),
        "miner_key": report.miner_key.hex(),
        "epochs": list(report.epochs),
        "shares": report.shares,
        "found": report.found,
        "missing": [share_hash[::-1].hex() for share_hash in report.missing],
        "altered": [share_hash[::-1].hex() for share_hash in report.altered],
    }


def _words(report: ReceiptReport) -> str:
    epochs = ", ".join(str(epoch) for epoch in report.epochs)
    lines = [
        f"{report.shares} shares of miner {report.miner_key.hex()}",
        f"are signed for by MSP {report.msp_key.hex()};",
        f"{report.found} of them are in its batches of epoch {epochs} as they should be.",
    ]
    for what, hashes in (
        ("is in no batch of these exports", report.missing),
        ("is there under another owner, or at another weight", report.altered),
    ):
        lines += [f"Share {share_hash[::-1].hex()} {what}." for share_hash in hashes]
    if report.missing:
        lines.append(
            "A share of an epoch whose export was not given is missing too. With the exports of "
            "all epochs that you have mined in, the pool has withheld it."
        )
    return "\n".join(lines)
