"""Measures tokens over HTTP, beside the mints of others: the same requests in the same run.

All mints of a plan are there at once and have their turns; who does not have it does nothing. A
token is counted when its answer has arrived, which every one of these mints sends after its
database has committed, and each answer is unblinded and spent in the next step.
"""

from __future__ import annotations

import os
import statistics
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.cashu import NUTSHELL, Cdk, Mint, Nutshell, Radpool
from benchmarks.measure import Row
from benchmarks.process import processors

if TYPE_CHECKING:
    from collections.abc import Sequence

AMOUNTS = (1,) * 244 + (2,) * 6
"""As many as our wire protocol takes in one request; together they are one token."""

AT_ONCE = 4

Rates = dict[str, list[float]]


@dataclass(frozen=True)
class Plan:
    """Is how the mints of a comparison run.

    Args:
        words: What the table says of it.
        cpus: The processors of each mint.
        at_once: Requests under way at once.
        mints: Who takes part.
    """

    words: str
    cpus: set[int]
    at_once: int
    mints: Sequence[type[Mint]]


QUOTED = "on a guest with 2 processors, November 2026, 400 outputs a request, not in this run"
FIGURES = {Nutshell: "393 signatures/s (0.20.2)", Cdk: "5,460 signatures/s (0.18.3)"}


def measure_tokens(requests: int, nutshell_requests: int, rounds: int) -> list[Row]:
    """Measures tokens issued and redeemed, beside the mints that are installed.

    Args:
        requests: Requests of each kind in a round.
        nutshell_requests: The same for nutshell, which takes longer.
        rounds: How often; medians count.
    """
    peers: list[type[Mint]] = []
    if os.environ.get("CDK_MINTD"):
        peers.append(Cdk)
    if (NUTSHELL / "bin" / "mint").exists():
        peers.append(Nutshell)
    one, everywhere = processors()[0], set.union(*processors())
    # Nutshell uses one core however many there are, and is slower when several ask at once.
    # cdk-mintd 0.18.3 answers "database is locked" to some of several swaps. So both are asked one
    # at a time, and what we do for several is beside what they do so.
    cores = f"{len(everywhere)} cores"
    plans = [
        Plan("1 core", one, 1, [Radpool, *(each for each in peers if each is not Nutshell)]),
        Plan(cores, everywhere, 1, [Radpool, *peers]),
        Plan(f"{cores}, {AT_ONCE} requests at once", everywhere, AT_ONCE, [Radpool]),
    ]
    rows = [
        Row(f"{mint.name}, quoted: blind signatures over HTTP", figure, note=QUOTED)
        for mint, figure in FIGURES.items()
        if mint not in peers
    ]
    beside: dict[type[Mint], Rates] = {}
    for plan in plans:
        counts = dict.fromkeys(plan.mints, requests) | {Nutshell: nutshell_requests}
        found = _run(plan, counts, rounds)
        beside |= {mint: rates for mint, (_, rates) in found.items()}
        rows += _describe(plan, found, beside)
    return rows


def _run(
    plan: Plan, counts: dict[type[Mint], int], rounds: int
) -> dict[type[Mint], tuple[str, Rates]]:
    found: dict[type[Mint], tuple[str, Rates]] = {}
    with ExitStack() as stack:
        mints = [stack.enter_context(kind(plan.cpus)) for kind in plan.mints]
        for _ in range(rounds):
            for mint in mints:
                _, rates = found.setdefault(type(mint), (mint.durability, {}))
                _take_turn(mint, counts[type(mint)], plan.at_once, rates)
    return found


def _take_turn(mint: Mint, count: int, at_once: int, rates: Rates) -> None:
    """Issues tokens, spends all of them for one a request, and that one for as many again."""

    def add(what: str, seconds: float, cpu_seconds: float) -> None:
        tokens = count * len(AMOUNTS)
        rates.setdefault(what, []).append(tokens / seconds)
        rates.setdefault(f"{what}_cpu_us", []).append(cpu_seconds * 1e6 / tokens)

    requests = mint.issue(AMOUNTS, count)
    before = _cpu_seconds(mint.pid)
    seconds, tokens = mint.run(requests, at_once)
    add("issue", seconds, _cpu_seconds(mint.pid) - before)
    groups = [tokens[at : at + len(AMOUNTS)] for at in range(0, len(tokens), len(AMOUNTS))]
    requests = [mint.swap(group, [sum(AMOUNTS)]) for group in groups]
    before = _cpu_seconds(mint.pid)
    seconds, tokens = mint.run(requests, at_once)
    add("merge", seconds, _cpu_seconds(mint.pid) - before)
    requests = [mint.swap([token], AMOUNTS) for token in tokens]
    before = _cpu_seconds(mint.pid)
    seconds, _ = mint.run(requests, at_once)
    add("split", seconds, _cpu_seconds(mint.pid) - before)
    if isinstance(mint, Radpool):
        paid = [mint.work_tokens(AMOUNTS) for _ in range(count)]
        requests = [mint.redeem(tokens, [sum(AMOUNTS)]) for tokens in paid]
        before = _cpu_seconds(mint.pid)
        seconds, _ = mint.run(requests, at_once)
        add("redeem", seconds, _cpu_seconds(mint.pid) - before)


def _cpu_seconds(pid: int) -> float:
    """Reads what a process has used, threads that have ended too: in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _describe(
    plan: Plan, found: dict[type[Mint], tuple[str, Rates]], beside: dict[type[Mint], Rates]
) -> list[Row]:
    rows = []
    ways = {"issue": "mint", "split": "swap 1 for 250", "merge": "swap 250 for 1"}
    own_ways = ways | {"issue": "redeem 1 for 250", "redeem": "redeem 250 for 1"}
    medians = {
        mint: {what: statistics.median(values) for what, values in rates.items()}
        for mint, rates in beside.items()
    }
    for mint, (durability, rates) in found.items():
        words = own_ways if mint is Radpool else ways
        for question, kinds in (
            ("blind signatures", ("issue", "split")),
            ("tokens spent", ("redeem", "merge")),
        ):
            told = [
                f"{words[kind]} {medians[mint][kind]:,.0f}/s"
                f" ({medians[mint][f'{kind}_cpu_us']:.0f} us CPU)"
                for kind in kinds
                if kind in rates
            ]
            ratios = [
                _ratio(medians, question, peer)
                for peer in beside
                if mint is Radpool and peer is not Radpool
            ]
            goals = [(goal, met) for goal, met, _ in ratios if goal]
            rows.append(
                Row(
                    f"{mint.name}: {question} over HTTP, {len(AMOUNTS)} a request, {plan.words}",
                    "; ".join(told),
                    goal=", ".join(goal for goal, _ in goals),
                    met=all(met for _, met in goals) if goals else None,
                    note="; ".join([*(note for _, _, note in ratios), durability]),
                    data={"rounds": rates},
                )
            )
    return rows


def _ratio(
    medians: dict[type[Mint], dict[str, float]], question: str, peer: type[Mint]
) -> tuple[str, bool, str]:
    """Compares with the better of a peer's ways: goal, whether it is met, and the ratio."""
    own = medians[Radpool]
    if question == "blind signatures":
        ratio = own["issue"] / max(medians[peer]["issue"], medians[peer]["split"])
        least = 20 if peer is Nutshell else 2
        return f"{least}x {peer.name}", ratio >= least, f"{ratio:.1f}x {peer.name}"
    ratio = own["redeem"] / medians[peer]["merge"]
    return "", True, f"{ratio:.1f}x {peer.name}"
