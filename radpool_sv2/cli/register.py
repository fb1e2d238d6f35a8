"""`radpool verify register`: checks a register of owners, and tells whose shares are whose."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from radpool_sv2.errors import ConfigError, LocalProtocolError
from radpool_sv2.verify.receipt import read_shares
from radpool_sv2.verify.register import RAIL, read_register

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from radpool_sv2.verify.register import RegisteredOwner

__all__ = ["register"]


def register(
    *file: Path,
    export: Path | None = None,
    json_output: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Checks a pool's register of owners, and tells whose the shares of an export are.

    Exit status: 0 every registration is signed by the pool, and by the miner where it says so;
    1 something is not.

    Args:
        file: Pages of the register, as `/api/v1/registrations` gives them: all of one pool.
        export: What `radpool verify export` wrote; all of it is recomputed first.
        json_output: Print one JSON object instead of words.
    """
    if not file:
        raise ConfigError("give at least one page of the register, from /api/v1/registrations")
    msp_key, owners = read_register(file)
    earned = None if export is None else _earned(msp_key, export)
    rows = [_row(owner, earned) for owner in sorted(owners.values(), key=lambda each: each.number)]
    other = 0 if earned is None else _count(earned) - _count({key: earned[key] for key in owners})
    if json_output:
        print(json.dumps({"msp_key": msp_key.hex(), "owners": rows, "other_shares": other}))
        return
    print(f"MSP {msp_key.hex()} has registered {len(rows)} owner{'s' * (len(rows) != 1)}.")
    for row in rows:
        print(_words(row))
    if earned is not None:
        print(f"Shares of accounts that no key is registered for: {other}.")


Earned = defaultdict[bytes, list[int]]


def _earned(msp_key: bytes, export: Path) -> Earned:
    """Sums up shares and work of an export by commitment, as far as they are paid to accounts."""
    found, _epoch, shares = read_shares(export)
    if found != msp_key:
        raise LocalProtocolError(
            f"{export}: is of MSP {found.hex()}, the register is of {msp_key.hex()}"
        )
    earned: Earned = defaultdict(lambda: [0, 0])
    for share in shares:
        if share.owner.rail == RAIL:
            earned[share.owner.commitment][0] += 1
            earned[share.owner.commitment][1] += share.work
    return earned


def _count(earned: Mapping[bytes, Sequence[int]]) -> int:
    return sum(count for count, _work in earned.values())


def _row(owner: RegisteredOwner, earned: Earned | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "number": owner.number,
        "miner_key": owner.miner_key.hex(),
        "commitment": owner.commitment.hex(),
        "epoch": owner.epoch,
        "countersigned": owner.is_countersigned,
    }
    if earned is not None:
        count, work = earned[owner.commitment]
        row |= {"shares": count, "work": str(work)}
    return row


def _words(row: Mapping[str, Any]) -> str:
    consent = "" if row["countersigned"] else ", which the miner has not signed"
    shares = "" if "shares" not in row else f": {row['shares']} shares, {row['work']} hashes"
    return f"{row['number']}: {row['miner_key']} since epoch {row['epoch']}{consent}{shares}"
