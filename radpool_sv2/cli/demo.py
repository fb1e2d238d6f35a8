"""`radpool demo`: a whole pool on this machine, played and checked."""

import functools
import sys
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import App, Parameter

from radpool_sv2.demo import play
from radpool_sv2.demo.chosen import play_chosen
from radpool_sv2.demo.federated import play_federated
from radpool_sv2.demo.regtest import find_bitcoind
from radpool_sv2.demo.view import JsonView, TextView
from radpool_sv2.log import configure_logging

app = App(name="demo")


@app.default
def demo(
    *,
    keep: Annotated[bool, Parameter(negative="")] = False,
    node: Annotated[bool, Parameter(negative="")] = False,
    federation: Annotated[bool, Parameter(negative="")] = False,
    bitcoind: Path | None = None,
    json_lines: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Plays a whole pool on this machine in about a minute, and checks what it did.

    Starts an embedded regtest chain, a pool and CPU miners of different speed as processes of
    their own, one of them a Stratum V1 miner behind a translator; shows their shares, blocks that
    the consensus engine accepts, and what each miner earned and why; recomputes it from the
    exported shares. The exit status is 0 only if every check held. Nothing is left behind.

    With --node it plays on real bitcoin nodes instead, in about two minutes: miners who choose the
    transactions of their blocks declare them to the pool, and earn what these are worth.

    With --federation four pools on real nodes hold their blocks together, in about three minutes:
    they make a key that none of them has, one is killed and comes back, and a payout that three
    of them sign pays all four by their work.

    Args:
        keep: Go on until Ctrl-C before the checks.
        node: Play on real nodes, on regtest. Needs a bitcoind of release 28 or later.
        federation: Play a federation of four pools, on real nodes as well.
        bitcoind: That program; without it $BITCOIND or the first on PATH.
        json_lines: Print one JSON object a line.
    """
    configure_logging("warning", "auto")
    view = JsonView() if json_lines else TextView()
    if federation:
        held = trio.run(play_federated, view, find_bitcoind(bitcoind))
    elif node or bitcoind is not None:
        held = trio.run(play_chosen, view, find_bitcoind(bitcoind))
    else:
        held = trio.run(functools.partial(play, view, keep=keep))
    sys.exit(0 if held else 1)
