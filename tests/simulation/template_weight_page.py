"""Writes `docs/reference/template-weight.md` from what the games bring.

`python tests/simulation/template_weight_page.py` writes the page; a test fails when the page and
the games differ.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

from template_games import (
    FEES,
    ROOT,
    ROUND_RULES,
    RULES,
    STRATEGIES,
    SUBSIDY,
    TIPS,
    Outcome,
    play,
    play_round,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from fractions import Fraction

PAGE = ROOT / "docs" / "reference" / "template-weight.md"

RULE_ROWS = """\
| rule | what a share counts |
|---|---|
| value | what its template pays the pool, up to a quarter above the reference fees |
| value, no cap | the same with any fees |
| slice | subsidy by work; the fees of a minute's work by what its templates collect |
| difficulty | work alone |
| published | PPLNS with job declaration: more fees begin a new slice, all slices get as much |
"""

HEAD = f"""\
# Games with templates, and what each rule makes of them

Where miners choose the transactions, a share's weight can be played for. Here each known game is
played against each rule by which a pool can weigh shares. The page is written by
`tests/simulation/template_weight_page.py`, and a test fails when the page and the games differ.

Prices, batches, ledger and settlements are the pool's own code; the published rule is a model.
There is no chance in it: a strategy is settled twice, by a block of the player's own and by one of
the others', and the two are weighed with how often each happens.

{RULE_ROWS}
Value, slice and difficulty are in `spec/09-template-value.md`; `weight.mode` in `msp.toml` selects
one of them, value unless told otherwise.

The pool has a tenth of the network's work and pays an epoch of {TIPS} blocks of the network. The
subsidy is {SUBSIDY:,} satoshis, honest templates collect {FEES:,}. The player has 1 % of the
pool's work unless the line says otherwise; all others are honest.

## What the player gains

Beside mining honestly: what it may expect of all blocks of the pool, its own included, less what it
pays out of its pocket. A miner who withholds its blocks forgoes its part of each.
"""

OTHERS = """
## What all others gain or lose

The same for the rest of the pool together.
"""

TAKEN = """
## What the player takes of the fees

Its part of the fees of a block that another miner found, if the subsidy is split by work. More than
100 % is of the subsidy of others.
"""

ROUNDS = """
## Who stays for a part of the round

Fees grow evenly from one block of the network to the next, from nothing to twice the average; work
is the same in each of ten minutes. A share is worth what a block of its minute would bring. A
hopper mines here in the minutes in which a share is paid above its worth, and elsewhere, for its
worth, in all others.
"""

READING = """
## What this says

- **Published slices are open to anyone.** Twenty small shares that declare a little more each, and
  never become blocks, take a fifth of all fees, however small the miner. Nobody need lie: whoever
  has a few more fees than the others at the end of a slice, or an empty block at its beginning,
  has a slice of its own, and with it the same part of the fees as all others together.
- **Fees that are paid to oneself and published bring nothing** by value: the player pays when it
  finds the block exactly what its shares have brought. That is why the weight is what the coinbase
  pays, and not a score.
- **Fees that are never published cost nothing**, so without a cap they bring whatever one likes to
  declare. With it they bring a quarter of the fees, 0.39 % of the whole, less the player's part of
  its own withheld blocks: above 0.39 % of the pool's work it is a loss.
- **By difficulty, whoever keeps the fees has them**, and who mines empty blocks is paid for full
  ones by everybody else.
- **By value, what a share is paid is what it is worth**, in every minute: there is no better time
  to come or to go. Any rule that spreads fees over time has one.
- What a cap costs: of fees twice as high as the reference, all of them real, the miner has the
  first quarter and shares the rest with everybody.

What the simulation does not show: miners who have a say in the reference fees
(today they are those of the pool's own node), and what fees do from hour to hour.
"""


def percent(part: Fraction, *, signed: bool = True) -> str:
    """Writes a part of one, rounded half up: three decimals of a percent when small, else one."""
    decimals = 3 if abs(part) < 1 / 10 else 1
    scale = 10 ** (2 + decimals)
    number = int(abs(part) * scale + type(part)(1, 2))
    if number == 0:
        return "0"
    sign = "−" if part < 0 else "+" * signed
    whole, rest = divmod(number, 10**decimals)
    return f"{sign}{whole:,}.{rest:0{decimals}} %"


def table(columns: Iterable[str], rows: Iterable[tuple[str, Iterable[str]]], first: str) -> str:
    """Writes a table of numbers."""
    columns = list(columns)
    lines = [f"| {first} | {' | '.join(columns)} |", "|---" + "|---:" * len(columns) + "|"]
    lines += [f"| {text} | {' | '.join(cells)} |" for text, cells in rows]
    return "\n".join(lines) + "\n"


def results() -> dict[tuple[str, str], Outcome]:
    """Plays every strategy against every rule."""
    return {
        (strategy.text, rule): play(strategy, rule) for strategy in STRATEGIES for rule in RULES
    }


def of_strategies(found: Mapping[tuple[str, str], Outcome], cell: Callable[[Outcome], str]) -> str:
    rows = [(each.text, [cell(found[each.text, rule]) for rule in RULES]) for each in STRATEGIES]
    return table(RULES, rows, "a miner …")


def render(found: Mapping[tuple[str, str], Outcome]) -> str:
    """Returns the page."""
    rounds = {rule: play_round(rule) for rule in ROUND_RULES}
    lines = {
        "a share of the first minute is paid beside its worth": "first",
        "a share of the last minute": "last",
        "what a hopper gains": "gain",
    }
    of_rounds = [
        (text, [percent(getattr(rounds[rule], name)) for rule in ROUND_RULES])
        for text, name in lines.items()
    ]
    return "".join(
        [
            HEAD,
            "\n",
            of_strategies(found, lambda outcome: percent(outcome.player)),
            OTHERS,
            "\n",
            of_strategies(found, lambda outcome: percent(outcome.others)),
            TAKEN,
            "\n",
            of_strategies(found, lambda outcome: percent(outcome.fees_taken, signed=False)),
            ROUNDS,
            "\n",
            table(ROUND_RULES, of_rounds, ""),
            READING,
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(render(results()), encoding="utf-8")
    print(PAGE)
