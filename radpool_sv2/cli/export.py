"""`radpool export`: writes an epoch so that anyone can recompute it."""

import functools
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import App, Parameter

from radpool_sv2.config import MspConfig, load
from radpool_sv2.errors import ConfigError
from radpool_sv2.installation import CONFIG_NAME
from radpool_sv2.keyfile import load_keys
from radpool_sv2.ledger import Ledger

app = App(name="export")

EPOCHS_LOOKED_AT = 1_000


@app.default
def export(
    *,
    dir: Annotated[Path, Parameter(name="--dir")],  # noqa: A002 - the name of the option
    to: Path,
    epoch: int | None = None,
) -> None:
    """Writes an epoch's shares, templates and signed claims; `radpool verify` recomputes them.

    The node may run or not.

    Args:
        dir: The directory of the node.
        to: Where to write: an empty directory, or a new one.
        epoch: The epoch's number; the newest that is paid by default.
    """
    config = load(MspConfig, dir / CONFIG_NAME)
    trio.run(functools.partial(_export, config, to, epoch))


async def _export(config: MspConfig, directory: Path, epoch: int | None) -> None:
    if not config.ledger.file.exists():
        raise ConfigError("there is no ledger yet: nobody has mined", file=config.ledger.file)
    keys = load_keys(config.keys)
    ledger = await Ledger.open(
        config.ledger.file,
        keys.msp,
        maturity_blocks=config.ledger.maturity_blocks,
        recent_shares_max=config.ledger.replay_shares,
    )
    try:
        done = await ledger.export(directory, epoch or await _newest_paid(ledger))
    finally:
        await ledger.close()
    epochs = ", ".join(map(str, done.shares_epochs))
    print(f"{done.directory}: epoch {epochs} in {done.batches} batches")
    print(f"radpool verify {done.directory}")


async def _newest_paid(ledger: Ledger) -> int:
    _, epochs = await ledger.epochs(0, EPOCHS_LOOKED_AT)
    for row in epochs:
        if row["state"] == "paid":
            return int(row["epoch"])
    raise ConfigError("no epoch is paid yet; --epoch 1 exports the first as it is")
