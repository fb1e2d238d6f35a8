"""`radpool verify`: recomputes an exported epoch; `radpool verify export` writes one."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations
from typing import TYPE_CHECKING, Annotated, TypeVar

import trio
from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.progress import Progress

from radpool_sv2.cli.claim import claim
from radpool_sv2.cli.receipt import receipt
from radpool_sv2.cli.register import register
from radpool_sv2.cli.verify_federation import federation
from radpool_sv2.errors import FaultyMSPError, LocalProtocolError
from radpool_sv2.verify import EpochReport, verify_export

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from radpool_sv2._native.ledger import MspKey
    from radpool_sv2.config import MspConfig
    from radpool_sv2.ledger import Account, Ledger

Found = TypeVar("Found")

app = App(name="verify")
app.command(claim)
app.command(receipt)
app.command(register)
app.command(federation)

RAILS = ("account", "ecash", "contract")


@app.default
def verify(
    directory: Path, *, json_output: Annotated[bool, Parameter(name="--json")] = False
) -> None:
    """Recomputes an exported epoch from its shares alone.

    Exit status: 0 every share, sum and satoshi is as claimed; 1 something is not.

    Args:
        directory: What `radpool verify export` wrote.
        json_output: Print one JSON object instead of words.
    """
    try:
        # Small exports take no time: the bar shows itself only when there is something to wait for.
        with Progress(
            console=Console(stderr=True), transient=True, disable=json_output
        ) as progress:
            task = progress.add_task("batches", total=None)
            report = verify_export(
                directory, lambda done, total: progress.update(task, completed=done, total=total)
            )
    except (FaultyMSPError, LocalProtocolError) as error:
        if not json_output:
            raise
        msp_key = error.msp if isinstance(error, FaultyMSPError) else ""
        print(json.dumps({"verified": False, "reason": str(error), "msp_key": msp_key}))
        sys.exit(1)
    print(json.dumps(_fields(report)) if json_output else _words(report))


@app.command
def export(
    epoch: Annotated[int, Parameter(validator=Number(gte=1))],
    *,
    dir: Annotated[Path, Parameter(name="--dir")],  # noqa: A002 - the name of the option
    to: Path,
) -> None:
    """Writes an epoch with its claims, signed, for anyone to verify. The node may be running.

    If the node has a mint, the epoch's ecash keysets that have a final price are in it.

    Args:
        epoch: The number of the epoch, from 1.
        dir: The directory of the node.
        to: An empty directory, or one that does not exist yet.
    """
    # Verifying needs neither the ledger nor the native module; these commands need both.
    from radpool_sv2.ecash.export import (  # noqa: PLC0415
        PublishedKeyset,
        claimed_batches,
        export_keysets,
        published_keysets,
    )
    from radpool_sv2.store import SqliteStore  # noqa: PLC0415

    keysets: list[PublishedKeyset] = []
    config, key = _node(dir)

    def reach(epochs: Sequence[int]) -> tuple[int, int] | None:
        file = config.ledger.file
        with closing(SqliteStore(file, owner=key.public, time_ms=0, check=False)) as store:
            keysets.extend(published_keysets(store, epochs))
        return claimed_batches(keysets)

    async def run(ledger: Ledger) -> int:
        return (await ledger.export(to, epoch, reach)).batches

    batches = _with_ledger(dir, run)
    export_keysets(to, keysets)
    print(
        f"{to}: epoch {epoch}; batches: {batches}, ecash keysets: {len(keysets)}. Check it with: "
        f"radpool verify {to}"
    )


@app.command
def opening(
    account: str,
    *,
    dir: Annotated[Path, Parameter(name="--dir")],  # noqa: A002 - the name of the option
    json_output: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Shows what an account's owner needs to recognise their shares and payouts in an export.

    Exports name owners by commitments, which nobody can open without the salt. Give it to the
    owner alone: whoever has it sees what the account earns.

    Args:
        account: The account's name, as miners give it, without worker and options.
        dir: The directory of the node, which may be running.
        json_output: Print one JSON object instead of words.
    """

    async def run(ledger: Ledger) -> Account | None:
        return await ledger.find_account(account)

    found = _with_ledger(dir, run)
    if found is None:
        raise LocalProtocolError(f"nobody has mined as {account!r} here")
    if json_output:
        fields = {"commitment": found.commitment.hex(), "salt": found.salt.hex()}
        print(json.dumps({"account": found.name} | fields))
        return
    print(f"account     {found.name}\ncommitment  {found.commitment.hex()}")
    print(f"salt        {found.salt.hex()}")
    print(
        "The commitment is the tagged hash radpool/account of name and salt: spec/02-owner-tag.md."
    )


def _node(directory: Path) -> tuple[MspConfig, MspKey]:
    """Reads the configuration and the key of a node that has a ledger."""
    from radpool_sv2.config import MspConfig, load  # noqa: PLC0415
    from radpool_sv2.installation import CONFIG_NAME  # noqa: PLC0415
    from radpool_sv2.keyfile import load_keys  # noqa: PLC0415

    config = load(MspConfig, directory / CONFIG_NAME)
    if not config.ledger.file.exists():
        raise LocalProtocolError(
            f"{config.ledger.file}: there is no ledger yet: start the node once"
        )
    return config, load_keys(config.keys).msp


def _with_ledger(directory: Path, use: Callable[[Ledger], Awaitable[Found]]) -> Found:
    """Opens the ledger of a node beside the node, and closes it again."""
    from radpool_sv2.ledger import Ledger  # noqa: PLC0415

    config, key = _node(directory)

    async def run() -> Found:
        maturity = config.ledger.maturity_blocks
        # The node has looked for damage when it started; verifying finds what matters here.
        ledger = await Ledger.open(config.ledger.file, key, maturity_blocks=maturity, check=False)
        try:
            return await use(ledger)
        finally:
            with trio.CancelScope(shield=True):
                await ledger.close()

    return trio.run(run)


def _fields(report: EpochReport) -> dict[str, object]:
    return {
        "verified": True,
        "msp_key": report.msp_key.hex(),
        "epoch": report.epoch,
        "state": report.state,
        "batches": report.batches,
        "shares": report.shares,
        # Work exceeds what JSON readers take for a number.
        "work": str(report.work),
        "value_sats": report.value_sats,
        "payouts": [
            {"commitment": commitment.hex(), "rail": rail, "sats": sats}
            for (commitment, rail), sats in sorted(report.payouts.items())
        ],
        "keysets": [
            {
                "keyset": keyset.keyset.hex(),
                "policy": keyset.policy,
                "state": keyset.state,
                "claims": keyset.claims,
                "work": keyset.work,
                "theta_msat": keyset.theta_msat,
                "issued_msat": keyset.issued_msat,
            }
            for keyset in report.keysets
        ],
        "notes": list(report.notes),
    }


def _words(report: EpochReport) -> str:
    lines = [
        f"Epoch {report.epoch} of MSP {report.msp_key.hex()} is as claimed ({report.state}).",
        (
            f"{report.shares:,} shares in {report.batches:,} batches were recomputed; the epoch's "
            f"own are worth {report.work:,} hashes."
        ),
    ]
    if report.payouts:
        lines.append(f"Its blocks bring {report.value_sats:,} sats:")
        lines += [
            f"  {commitment.hex()}  {RAILS[rail]:8}  {sats:>16,} sats"
            for (commitment, rail), sats in sorted(report.payouts.items())
        ]
    if report.keysets:
        lines.append("Its ecash keysets are as their statements say, to the millisat:")
        lines += [
            f"  {keyset.keyset.hex()}  {keyset.policy} ({keyset.state}): claims {keyset.claims:,}, "
            f"units {keyset.work:,}, msat {keyset.theta_msat:,}"
            for keyset in report.keysets
        ]
    lines += [f"Note: {note}." for note in report.notes]
    return "\n".join(lines)
