"""Checks what the demo of a federation has shown: members, their chain and an outsider compared."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from radpool_sv2.demo.check import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = [
    "Paid",
    "Roots",
    "check_keys",
    "check_log",
    "check_payouts",
    "parts_of",
    "read_report",
]


@dataclass
class Roots:
    """Collects which root each member had behind which epoch."""

    seen: dict[int, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))

    def take(self, name: str, figures: Mapping[str, Any]) -> None:
        """Takes in what a member says of itself."""
        epochs = figures.get("epochs", {})
        if epochs.get("applied"):
            self.seen[epochs["applied"]][name] = epochs["root"]

    def check(self, names: Sequence[str]) -> Iterator[Outcome]:
        """Compares what was seen at each moment, and the last that all were seen at."""
        shared = {epoch: by for epoch, by in self.seen.items() if len(by) > 1}
        differing = sorted(epoch for epoch, by in shared.items() if len(set(by.values())) > 1)
        yield Outcome(
            bool(shared) and not differing,
            "wherever two members were seen behind the same epoch, their books had one root",
            f"{len(shared)} epochs compared"
            + (f"; different behind epochs {differing}" if differing else ""),
        )
        whole = [epoch for epoch, by in self.seen.items() if by.keys() == set(names)]
        last = max(whole, default=0)
        roots = set(self.seen[last].values()) if whole else set()
        yield Outcome(
            len(roots) == 1,
            f"in the end the books of all {len(names)} members have one root",
            f"behind epoch {last - 1}: {', '.join(sorted(roots)) or 'never seen together'}",
        )


@dataclass(frozen=True, slots=True)
class Paid:
    """Is what the chain has of a payout.

    Attributes:
        block: The block whose output it spends, as shown.
        txid: Its id, as shown.
        confirmations: How deep it lies; 0 off the chain.
        value_sats: What it spends.
        outputs: Script and sats of each output, in order.
        witness: What the input is signed with.
    """

    block: str
    txid: str
    confirmations: int
    value_sats: int
    outputs: tuple[tuple[str, int], ...]
    witness: tuple[str, ...]


def check_keys(figures: Mapping[str, Mapping[str, Any]], script: str) -> Iterator[Outcome]:
    """Compares what members say of the treasury's key.

    Args:
        figures: Of each member, what it says of itself.
        script: What blocks pay, in hex.
    """
    keys = {name: each["keys"]["treasury"] for name, each in figures.items()}
    public = {each.get("public_key", "") for each in keys.values()}
    threshold = max((each.get("threshold", 0) for each in keys.values()), default=0)
    holds = len(public) == 1 and all(each.get("has_share") for each in keys.values())
    yield Outcome(
        holds and script.startswith("5120"),
        "all members have a share of one key, and none has the key",
        f"{threshold} of {len(keys)} sign; the key is {', '.join(sorted(public))}",
    )


def read_report(output: bytes) -> dict[str, Any]:
    """Reads what the outsider's verifier printed; nothing if that cannot be read."""
    try:
        report: dict[str, Any] = json.loads(output)
    except ValueError:
        return {}
    return report


def check_log(report: Mapping[str, Any], roots: Roots) -> Outcome:
    """Compares the outsider's books with the members'."""
    epochs, root = report.get("epochs", 0), report.get("root", "")
    known = set(roots.seen.get(epochs, {}).values())
    return Outcome(
        bool(report.get("verified")) and bool(epochs) and known == {root},
        "an outsider computes the members' books again from the public log alone",
        f"{epochs} epochs, {report.get('entries', 0)} entries, {report.get('shares', 0)} shares; "
        f"root {root or '-'}",
    )


def parts_of(report: Mapping[str, Any], txid: str) -> list[tuple[int, int, str]]:
    """Returns whom the outsider found a payout to pay: member, sats and script in hex."""
    for block in report.get("blocks", ()):
        if block["payout"] == txid:
            return [(member, sats, script) for member, sats, script in block["parts"]]
    return []


def check_payouts(
    paid: Iterable[Paid], report: Mapping[str, Any], scripts: Mapping[int, str]
) -> Outcome:
    """Compares payouts in the chain with what the outsider computed, and with who members are.

    Args:
        paid: The payouts.
        report: The outsider's.
        scripts: Where each member is paid, in hex.
    """
    listed = list(paid)
    wrong = [
        f"{each.txid}: {fault}"
        for each in listed
        for fault in _faults(each, parts_of(report, each.txid), scripts)
    ]
    value = sum(each.value_sats for each in listed)
    members = sum(sats for each in listed for _, sats in each.outputs)
    return Outcome(
        bool(listed) and not wrong,
        "the chain has payouts, each under one signature, that pay every member what the outsider "
        "computed",
        "; ".join(wrong)
        or f"{len(listed)} payouts: {value:,} sats of as many blocks, {members:,} to members, "
        f"{value - members:,} to miners",
    )


def _faults(
    paid: Paid, parts: Sequence[tuple[int, int, str]], scripts: Mapping[int, str]
) -> Iterator[str]:
    if not paid.confirmations:
        yield "it is not in the chain"
    if [len(item) for item in paid.witness] != [128]:
        yield "it was not spent by one signature"
    if tuple((script, sats) for _, sats, script in parts) != paid.outputs:
        yield f"the chain has {paid.outputs}, the outsider {parts}"
    foreign = [member for member, _, script in parts if scripts.get(member) != script]
    if foreign:
        yield f"members {foreign} are paid elsewhere"
