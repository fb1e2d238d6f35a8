"""`radpool verify federation`: computes a federation's epochs again from its public log."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.progress import Progress

from radpool_sv2.errors import ConfigError
from radpool_sv2.federation.state.audit import audit
from radpool_sv2.federation.state.payout import parts_of
from radpool_sv2.federation.state.spends import payout_of
from radpool_sv2.verify.federation import FederationReport, verify_federation
from radpool_sv2.verify.holding import Payout

if TYPE_CHECKING:
    from radpool_sv2.federation.state.audit import Audit
    from radpool_sv2.federation.state.ledger import Block
    from radpool_sv2.federation.state.rules import Rules

__all__ = ["federation"]

ALL = 1_000
PROVEN = {
    False: "counted by an independent program, which shares no code with what members run",
    True: "counted by the program that members run: its own mistakes it does not find; without "
    "--native another one counts",
}
FALSE_OWNERS = {
    1: "they cannot be read",
    2: "they are another MSP's",
    3: "a signature is not true",
    4: "a number, a key or a commitment was told with something else before",
}
PERCENT = 10
"""Per mille in a per cent: what is said of a sample is said of one share in a hundred."""


def federation(
    directory: Path,
    *,
    sample_per_mille: Annotated[
        int, Parameter(name="--sample-per-mille", validator=Number(gte=1, lte=1000))
    ] = 1000,
    native: Annotated[bool, Parameter(name="--native", negative=())] = False,
    json_output: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Computes a federation's epochs again, trusting no member of it.

    Two programs can do so. By default it is one in Python that shares no code with what members
    run: neither has the other's mistakes. With --native it is the members' own, which is more than
    ten times as fast and always looks at all shares: it shows that what a quorum has signed is what
    this program makes of these entries, and not that the program is right.

    Exit status: 0 all is as a quorum has signed it; 1 something is not.

    Args:
        directory: The public log.
        sample_per_mille: How many of a thousand proofs of work are recomputed, drawn at random; all
            else is checked in any case.
        native: Count by the program that members run, on all processors.
        json_output: Print one JSON object instead of words.
    """
    if native and sample_per_mille != ALL:
        raise ConfigError("--native looks at all shares: leave --sample-per-mille out")
    with Progress(console=Console(stderr=True), transient=True, disable=json_output) as progress:
        task = progress.add_task("epochs", total=None)

        def update(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        if native:
            report = _report(audit(directory, update))
        else:
            report = verify_federation(directory, sample_per_mille, update)
    fields = {"program": "members" if native else "independent", **_fields(report)}
    print(json.dumps(fields) if json_output else f"{_words(report)}\n{PROVEN[native]}")


def _report(found: Audit) -> FederationReport:
    return FederationReport(
        committee=found.committee.id,
        members=found.committee.n,
        quorum=found.committee.quorum,
        epochs=found.epochs,
        entries=found.entries,
        batches=found.batches,
        shares=found.shares,
        recomputed=found.shares,
        void=tuple(found.void),
        weights=found.weights,
        owners=found.owners,
        false_owners=tuple(found.false_owners),
        blocks=tuple(
            sorted(
                (_payout(found.rules, name, block) for name, block in found.blocks.items()),
                key=lambda each: (each.height, each.block),
            )
        ),
        root=found.root,
    )


def _payout(rules: Rules, name: bytes, block: Block) -> Payout:
    parts, payout = parts_of(rules, name, block), payout_of(rules, name, block)
    return Payout(
        block=name,
        height=block.height,
        value=block.value,
        parts=tuple((part.member, part.sats, part.script) for part in parts),
        fee=block.value - sum(part.sats for part in parts) if parts else 0,
        txid=b"" if payout is None else payout.txid,
        is_mature=block.matured_epoch >= 0,
    )


def _fields(report: FederationReport) -> dict[str, object]:
    return {
        "verified": True,
        "committee": report.committee.hex(),
        "members": report.members,
        "quorum": report.quorum,
        "epochs": report.epochs,
        "entries": report.entries,
        "batches": report.batches,
        "shares": report.shares,
        "recomputed": report.recomputed,
        "void": [list(each) for each in report.void],
        "weights": [str(weight) for weight in report.weights],
        "owners": list(report.owners),
        "false_owners": [list(each) for each in report.false_owners],
        "blocks": [
            {
                "block": each.block[::-1].hex(),
                "height": each.height,
                "sats": each.value,
                "parts": [[member, sats, script.hex()] for member, sats, script in each.parts],
                "fee_sats": each.fee,
                "payout": each.txid[::-1].hex(),
                "mature": each.is_mature,
            }
            for each in report.blocks
        ],
        "root": report.root.hex(),
        "unfound": f"{report.unfound(PERCENT):.3g}",
    }


def _words(report: FederationReport) -> str:
    lines = [
        f"federation {report.committee.hex()}, {report.members} members",
        f"{report.epochs} epochs: every cut, root and sum is what {report.quorum} members signed",
        f"{report.batches} batches, {report.shares} shares, {report.recomputed} recomputed",
    ]
    if report.recomputed < report.shares:
        lines.append(
            "if one share in a hundred had no work, that would have gone unnoticed with a "
            f"probability of {report.unfound(PERCENT):.3g}"
        )
    lines += [
        f"member {member}: the batch in entry {seq} counts nothing, fault {code}"
        for member, seq, code in report.void
    ]
    lines += [
        f"member {member}: {count} owner{'s' * (count != 1)}, signed by both sides"
        for member, count in enumerate(report.owners)
        if count
    ]
    lines += [
        f"member {member}: the owners in entry {seq} are false: {FALSE_OWNERS[fault]}"
        for member, seq, fault in report.false_owners
    ]
    total = sum(report.weights) or 1
    lines += [
        f"member {member}: {weight * 10_000 // total / 100:.2f} % of the window"
        for member, weight in enumerate(report.weights)
    ]
    lines += [_block_in_words(each) for each in report.blocks]
    lines.append(f"root {report.root.hex()}")
    return "\n".join(lines)


def _block_in_words(block: Payout) -> str:
    """Says whom a block pays."""
    shown = f"block {block.block[::-1].hex()} at height {block.height} pays {block.value} sats: "
    if not block.parts:
        return shown + "nobody can be paid of it yet"
    shown += ", ".join(f"member {member} gets {sats}" for member, sats, _ in block.parts)
    if not block.txid:
        return f"{shown}, in its coinbase"
    when = "" if block.is_mature else "; it is not mature yet"
    return f"{shown}, {block.fee} are the fee of payout {block.txid[::-1].hex()}{when}"
