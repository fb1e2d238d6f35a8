"""Shows the demo: a live table on a terminal, plain lines elsewhere, or lines of JSON."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radpool_sv2.demo.books import Seen
    from radpool_sv2.demo.check import Outcome
    from radpool_sv2.demo.stage import Miner
    from radpool_sv2.demo.tokens import Keyset, Redemption

__all__ = ["JsonView", "TextView", "View"]

PLAIN_SECONDS = 5.0
"""How often the figures are printed where nothing can be drawn over."""


class View(Protocol):
    """Is told what happens, in order."""

    def say(self, text: str, **fields: object) -> None:
        """Tells a step of the story."""

    def figures(self, miners: Sequence[Miner], seen: Seen) -> None:
        """Shows where miners and pool are now."""

    def redeemed(self, keyset: Keyset, redemptions: Sequence[Redemption]) -> None:
        """Shows what the tokens of an epoch gave each miner, and why."""

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Shows rows of text; all columns but the first two are numbers."""

    def outcome(self, outcome: Outcome) -> None:
        """Shows a check."""

    def close(self) -> None:
        """Stops drawing."""


class JsonView:
    """Prints one object a line."""

    def say(self, text: str, **fields: object) -> None:
        """Tells a step of the story."""
        _print("step", text=text, **fields)

    def figures(self, miners: Sequence[Miner], seen: Seen) -> None:
        """Shows where miners and pool are now."""
        _print(
            "figures",
            tip_height=seen.tip_height,
            epoch=seen.epoch,
            blocks=len(seen.blocks),
            miners={miner.plan.name: miner.figures for miner in miners},
        )

    def redeemed(self, keyset: Keyset, redemptions: Sequence[Redemption]) -> None:
        """Shows what the tokens of an epoch gave each miner, and why."""
        _print(
            "redeemed",
            epoch=keyset.epoch,
            keyset=keyset.id,
            theta_msat=keyset.theta_msat,
            work=keyset.work,
            parts=[
                {"miner": each.miner, "units": each.units, "sats": each.sats, "why": each.reason}
                for each in redemptions
            ],
        )

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Shows rows of text."""
        _print("table", title=title, rows=[dict(zip(columns, row, strict=True)) for row in rows])

    def outcome(self, outcome: Outcome) -> None:
        """Shows a check."""
        _print("check", holds=outcome.holds, claim=outcome.claim, detail=outcome.detail)

    def close(self) -> None:
        """Has nothing to stop."""


def _print(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)  # noqa: T201 - it is the output


class TextView:
    """Draws a table that stays at the bottom while the story scrolls; prints lines without one."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=not _is_terminal())
        self._live: Live | None = None
        self._next_s = 0.0

    def say(self, text: str, **_fields: object) -> None:
        """Tells a step of the story."""
        self._console.print(Text.assemble(("• ", "bold cyan"), text))

    def figures(self, miners: Sequence[Miner], seen: Seen) -> None:
        """Shows where miners and pool are now."""
        if self._console.is_terminal:
            if self._live is None:
                self._live = Live(console=self._console, auto_refresh=False, transient=True)
                self._live.start()
            self._live.update(_now(miners, seen), refresh=True)
        elif time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + PLAIN_SECONDS
            for miner in miners:
                figures = miner.figures
                self._console.print(
                    f"  {miner.plan.name:<6} {figures.get('hash_rate', 0):>9,} H/s  "
                    f"{figures.get('accepted', 0):>4} shares  "
                    f"{figures.get('accepted_hashes', 0):>13,} hashes  {miner.tokens:>4} tokens"
                )

    def redeemed(self, keyset: Keyset, redemptions: Sequence[Redemption]) -> None:
        """Shows what the tokens of an epoch gave each miner, and why."""
        self._console.print(_redeemed(keyset, redemptions))

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Shows rows of text; all columns but the first two are numbers."""
        drawn = _right(Table(*columns, title=title), 2)
        for row in rows:
            drawn.add_row(*(Text(cell) for cell in row))
        self._console.print(drawn)

    def outcome(self, outcome: Outcome) -> None:
        """Shows a check."""
        mark = ("✓ ", "bold green") if outcome.holds else ("✗ ", "bold red")
        self._console.print(Text.assemble(mark, outcome.claim, (f"\n    {outcome.detail}", "dim")))

    def close(self) -> None:
        """Stops drawing."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def _is_terminal() -> bool:
    return Console().is_terminal


def _right(table: Table, first: int) -> Table:
    for column in table.columns[first:]:
        column.justify = "right"
    return table


def _now(miners: Sequence[Miner], seen: Seen) -> Group:
    table = _right(Table("miner", "hash rate", "share", "acknowledged", "work", "tokens", "ack"), 1)
    for miner in miners:
        figures: dict[str, Any] = miner.figures
        exponent = figures.get("exponent")
        latency = figures.get("latency_p50_us")
        table.add_row(
            miner.plan.name,
            f"{figures.get('hash_rate', 0):,} H/s",
            "" if exponent is None else f"2^{exponent} hashes",
            f"{figures.get('accepted', 0):,} shares",
            f"{figures.get('accepted_hashes', 0):,}",
            f"{miner.tokens:,}",
            "" if latency is None else f"{latency / 1000:.1f} ms",
        )
    head = Text(
        f"tip {seen.tip_height}   epoch {seen.epoch}   blocks found {len(seen.blocks)}",
        style="bold",
    )
    return Group(head, table)


def _redeemed(keyset: Keyset, redemptions: Sequence[Redemption]) -> Table:
    theta, work = keyset.theta_msat, keyset.work
    table = _right(
        Table(
            *("miner", "units of work", "of the work", "sats"),
            title=f"Epoch {keyset.epoch}: what the tokens were worth, and why",
            caption=f"theta = {theta:,} msat for W = {work:,} units; n units are worth "
            "floor(theta x n / W)",
            show_footer=True,
        ),
        1,
    )
    for each in sorted(redemptions, key=lambda each: each.units):
        percent = f"{100 * each.units / work:.2f} %" if work else ""
        table.add_row(Text(each.miner), f"{each.units:,}", percent, f"{each.sats:,}")
    units = sum(each.units for each in redemptions)
    sats = sum(each.sats for each in redemptions)
    share = f"{100 * units / work:.2f} %" if work else ""
    for column, footer in zip(
        table.columns, ("sum", f"{units:,}", share, f"{sats:,}"), strict=True
    ):
        column.footer = footer
    return table
