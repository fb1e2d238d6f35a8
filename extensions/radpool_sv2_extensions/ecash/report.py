"""Tells how mining for ecash goes: figures for programs, rows for people, sentences for both."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from radpool_sv2.wallet.announcement import Announcement
    from radpool_sv2_extensions.ecash.claims import Claims
    from radpool_sv2_extensions.ecash.worth import Worth

__all__ = ["Report"]

EVENTS_MAX: Final = 256
PERCENT: Final = 100


class Report:
    """Is what happened since the start.

    Args:
        claims: The count of claims.
        sign_mode: `eager` or `lazy`.
    """

    def __init__(self, claims: Claims, sign_mode: str) -> None:
        self._claims = claims
        self._sign_mode = sign_mode
        self._events: deque[tuple[int, str]] = deque(maxlen=EVENTS_MAX)
        self.keyset: Announcement | None = None
        self.tokens = 0
        self.units = 0
        self.promised = 0
        self.dropped = 0
        self.refused: Counter[str] = Counter()
        self.held = ""
        self.left_over = 0
        self.worth: Worth | None = None
        self.by_value = False
        self._doubted: Worth | None = None

    def weigh(self, worth: Worth) -> None:
        """Shows the count of this keyset from now on."""
        self.worth = worth
        self.by_value = self.by_value or worth.by_value

    def look_at(self, worth: Worth) -> None:
        """Says, once for each keyset, when shares bring less than the subsidy alone would."""
        percent = worth.percent_max
        if percent is None or percent >= PERCENT or worth is self._doubted:
            return
        self._doubted = worth
        self.note(
            f"warning: the mint counts these shares at no more than {percent} % of what templates "
            "with the subsidy alone pay: the difficulty rose or the subsidy fell since the keyset "
            "opened, templates pay the pool less, or the mint keeps part. Its published books "
            "name the price of each share"
        )

    def note(self, text: str) -> None:
        """Writes a sentence down; the oldest gives way."""
        self._events.append((time.time_ns() // 1_000_000, text))

    def events(self) -> list[tuple[int, str]]:
        """Gives the sentences away."""
        events = list(self._events)
        self._events.clear()
        return events

    def hold(self) -> bool:
        """Says whether the claims forbid to submit more, and tells when that changes."""
        held = ""
        if self._claims.unsigned >= self._claims.unsigned_max:
            held = (
                f"nothing more is submitted: {self._claims.unsigned} shares have no token "
                f"({self._reasons()}). The pool is asked for them; choose another one if it does "
                "not sign"
            )
        if bool(held) != bool(self.held):
            self.note(held or "the pool has signed: shares are submitted again")
        self.held = held
        return bool(held)

    def figures(self) -> dict[str, object]:
        """Returns the figures for programs.

        `tokens` and `units` were received since the start; `promised` are claims with a signed
        receipt in lazy mode; `unsigned` is explained in `claims`; `lost` are asked for; `gone` ones
        the pool never got; `kept` shares the pool has, with no token for good; `dropped` shares
        found no claim in time; `refused` counts refused claims by code; `held` says why nothing is
        submitted. `left_over` shares brought no token of their own; `unit_value` is what a unit of
        the keyset costs of value, 0 where it counts work, null while nobody knows;
        `subsidy_percent` is what tokens stand for, beside what templates with
        the subsidy alone would pay for the work, null where it is work that is counted.
        """
        keyset, worth = self.keyset, self.worth
        return {
            "tokens": self.tokens,
            "units": self.units,
            "promised": self.promised,
            "unsigned": self._claims.unsigned,
            "unsigned_reasons": dict(self._claims.reasons),
            "lost": len(self._claims.lost),
            "gone": self._claims.gone,
            "kept": self._claims.kept,
            "dropped": self.dropped,
            "refused": dict(self.refused),
            "held": self.held or None,
            "left_over": self.left_over,
            "unit_value": None
            if worth is None or worth.unit_value is None
            else str(worth.unit_value),
            "subsidy_percent": self._subsidy_percent,
            "policy": None if keyset is None or keyset.policy is None else keyset.policy.word,
            "sign_mode": self._sign_mode,
            "keyset": None if keyset is None else keyset.keyset_id.hex(),
        }

    def rows(self) -> list[tuple[str, str]]:
        """Returns the figures for people: a name and a text each."""
        rows = [("tokens", f"{self.tokens} worth {self.units} units of work")]
        if self.keyset is not None and self.keyset.policy is not None:
            name = self.keyset.keyset_id.hex()[:16]
            rows.append(("paid by", f"{self.keyset.policy.word}, keyset {name}"))
        if self.promised:
            rows.append(("promised", f"{self.promised} tokens, by signed receipts"))
        if (percent := self._subsidy_percent) is not None:
            text = f"{percent} % of what the subsidy alone pays; the rest waits with the mint"
            rows.append(("tokens are", text))
        if self._claims.unsigned:
            rows.append(("unsigned", self._reasons()))
        if self.refused:
            codes = ", ".join(f"{count} {code}" for code, count in sorted(self.refused.items()))
            rows.append(("claims refused", codes))
        if self._claims.kept:
            rows.append(("without token", f"{self._claims.kept}, kept by the pool"))
        if self.held:
            rows.append(("holding", self.held))
        return rows

    @property
    def _subsidy_percent(self) -> int | None:
        worth = self.worth
        if worth is None or not worth.by_value or not worth.work:
            return None
        return PERCENT * worth.tokens // worth.work

    def _reasons(self) -> str:
        return ", ".join(f"{count} {why}" for why, count in self._claims.reasons.items())
