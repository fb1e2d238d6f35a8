"""Runs `radpool` with a member that counts later than others, or in another way, when it is told.

    python federated_told.py DIRECTORY msp --dir ...     is `radpool msp --dir ...`

While DIRECTORY has a file `hold-7`, epoch 7 and those behind it are not counted. With `stray-7`
they are counted as a damaged or an older program might: the books have other keys and scripts then,
so whoever acts by them pays somebody else.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

from radpool_sv2 import federating
from radpool_sv2.cli import main
from radpool_sv2.federation.state.accounting import Accounting
from radpool_sv2.federation.state.ledger import Ledger

OTHER_KEY = bytes.fromhex("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
OTHER_SCRIPT = b"\x00\x14" + b"\x77" * 20
LOOK_S = 0.01


class ToldAccounting(Accounting):
    """Counts as all members do, unless it is told otherwise."""

    told = Path()

    def apply(self, state, epoch, segments):
        while self._is_told("hold", epoch):
            time.sleep(LOOK_S)
        counted = super().apply(state, epoch, segments)
        return stray(counted) if self._is_told("stray", epoch) else counted

    def _is_told(self, what, epoch):
        found = (int(file.name.partition("-")[2]) for file in self.told.glob(f"{what}-*"))
        return any(first <= epoch for first in found)


def stray(state):
    """Returns other books than these, which can be read all the same."""
    ledger = Ledger.decode(state)
    members = tuple(replace(books, script=OTHER_SCRIPT) for books in ledger.members)
    keys = {name: known._replace(key=OTHER_KEY) for name, known in ledger.keys.items()}
    return replace(ledger, members=members, keys=keys).encode()


if __name__ == "__main__":
    ToldAccounting.told = Path(sys.argv.pop(1))
    federating.Accounting = ToldAccounting
    main()
