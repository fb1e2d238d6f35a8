"""Prints what `radpool wallet` found, as words and tables or as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from radpool_sv2.cli.miner import scale
from radpool_sv2.wallet.mint import plain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from radpool_sv2.wallet.redemption import Redeemed
    from radpool_sv2.wallet.residue import CashedOut
    from radpool_sv2.wallet.store import Event, Keyset, Mint, Transfer
    from radpool_sv2.wallet.view import Balance, EpochLine, ResidueLine

DAY_S = 86_400
HOUR_S = 3_600
ID_SHOWN = 12
WHEN_SHOWN = 19


def _console() -> Console:
    return Console(soft_wrap=True, highlight=False)


def _shape(table: Table, *numbers: int) -> None:
    """Sets numbers to the right, and keeps ids whole so that they can be given to --keyset."""
    for column in numbers:
        table.columns[column].justify = "right"
    for named in table.columns:
        if named.header == "keyset":
            named.min_width = ID_SHOWN


def show_notes(notes: Sequence[str]) -> None:
    """Prints what people should know on standard error."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    for note in notes:
        console.print(Text(f"note: {note}", style="yellow"))


def show_created(
    directory: Path, words: str | None, mints: Sequence[Mint], *, as_json: bool
) -> None:
    """Prints a new wallet's words and the mints that it met."""
    if as_json:
        known = [{"url": mint.url, "key": mint.public_key.hex()} for mint in mints]
        print(json.dumps({"directory": str(directory), "words": words, "mints": known}))
        return
    console = _console()
    if words is not None:
        console.print(Text(f"A wallet in {directory}. Its words:\n", style="bold"))
        console.print(Text(f"    {words}\n"))
        console.print(
            "Write them on paper, now. They bring everything back; whoever has them has the\n"
            "money. They are in the wallet's file as well, which only you can read and nothing\n"
            "encrypts."
        )
    for mint in mints:
        console.print(Text(f"\nMint {mint.url}\n  with the key {mint.public_key.hex()}"))
        console.print("  Compare it with what its operator publishes; another key will be refused.")


def show_balance(found: Balance) -> None:
    """Prints sats, and the work of each epoch with its value."""
    console = _console()
    console.print(Text(f"{found.sats:,} sat", style="bold"))
    for line in found.by_mint:
        extra = "".join(
            f", {amount:,} {what}"
            for amount, what in (
                (line.held_sats, "in an exchange under way"),
                (line.sent_sats, "sent and not claimed"),
            )
            if amount
        )
        console.print(Text(f"  {line.sats:,} sat at {line.mint}{extra}"))
    show_residues(found.residues)
    if not found.epochs:
        console.print("No work tokens.")
        return
    console.print(
        "\nWork tokens. n of them are worth floor(theta x n / W): theta is what is paid for the\n"
        "work of a whole keyset, W that work; the mint has signed both."
    )
    table = Table("epoch", "keyset", "n", "work", "today", "computed", "redeem")
    _shape(table, 2, 3, 4)
    for epoch in found.epochs:
        table.add_row(
            str(epoch.epoch),
            epoch.keyset[:ID_SHOWN],
            f"{epoch.units:,}",
            f"{scale(epoch.hashes)}H",
            "-" if epoch.value_msat is None else f"{epoch.sats:,} sat",
            epoch.formula,
            Text(epoch.reason or "now"),
        )
    console.print(table)


def show_residues(lines: Sequence[ResidueLine]) -> None:
    """Prints what mints hold that no token stands for yet."""
    console = _console()
    for line in lines:
        work = "" if line.z0 is None else f" ({scale(line.units << line.z0)}H)"
        what = "unit" if line.units == 1 else "units"
        console.print(
            Text(
                f"\n{line.units:,} {what}{work} that your shares earned at {line.mint}, policy "
                f"{line.policy}, are in no token yet: shares are worth more or less than a power "
                "of two, and what is left over stays with the mint, which says so itself. "
                "`radpool wallet redeem` turns it into tokens."
            )
        )


def show_epochs(lines: Sequence[EpochLine]) -> None:
    """Prints how each epoch fares."""
    console = _console()
    if not lines:
        console.print("No epochs with tokens.")
        return
    table = Table("epoch", "keyset", "policy", "state", "tokens", "n", "redeemable", "expires")
    _shape(table, 4, 5)
    for line in lines:
        table.add_row(
            str(line.epoch),
            line.keyset[:ID_SHOWN],
            line.policy,
            line.state,
            f"{line.tokens:,}",
            f"{line.units:,}",
            Text(line.reason or "now"),
            _expiry(line.expires_at),
        )
    console.print(table)


def _expiry(unix_s: int) -> str:
    if not unix_s:
        return "not set"
    try:
        when = datetime.fromtimestamp(unix_s, UTC)
    except (OverflowError, ValueError, OSError):
        return "far away"
    left = int((when - datetime.now(UTC)).total_seconds())
    if left <= 0:
        return f"over since {when:%Y-%m-%d}"
    days, hours = left // DAY_S, left % DAY_S // HOUR_S
    return f"in {days} d {hours} h ({when:%Y-%m-%d %H:%M} UTC)"


def show_redeemed(
    done: Sequence[Redeemed], more: Sequence[CashedOut], notes: Sequence[str], *, as_json: bool
) -> None:
    """Prints what came of each keyset, and of what shares left over."""
    total = sum(one.sats for one in done)
    if as_json:
        rows = [
            {
                "keyset": one.keyset.id.hex(),
                "epoch": one.keyset.announcement.epoch,
                "units": one.units,
                "theta_msat": None if one.price is None else one.price.num,
                "work": None if one.price is None else one.price.den,
                "sats": one.sats,
                "reason": one.reason,
            }
            for one in done
        ]
        left_over = [
            {
                "claim_key": one.counter,
                "keyset": None if one.keyset is None else one.keyset.id.hex(),
                "units": one.units,
                "tokens": one.tokens,
                "reason": one.reason,
            }
            for one in more
        ]
        print(json.dumps({"sats": total, "redeemed": rows, "left_over": left_over, "notes": notes}))
        return
    show_notes(notes)
    console = _console()
    for one in done:
        name = f"epoch {one.keyset.announcement.epoch}, keyset {one.keyset.id.hex()[:ID_SHOWN]}"
        if one.reason or one.price is None:
            console.print(Text(f"{name}: nothing redeemed. {one.reason}"))
        else:
            console.print(
                Text(
                    f"{name}: {one.units:,} units at {one.price.num:,} msat for {one.price.den:,} "
                    f"gave {one.sats:,} sat"
                )
            )
    for cashed in more:
        if cashed.keyset is None:
            console.print(Text(f"left over: nothing came. {cashed.reason}"))
        else:
            epoch, name = cashed.keyset.announcement.epoch, cashed.keyset.id.hex()[:ID_SHOWN]
            console.print(
                Text(
                    f"left over: {cashed.units:,} units are {cashed.tokens} tokens now, of epoch "
                    f"{epoch}, keyset {name}"
                )
            )
    if not done:
        console.print("There are no work tokens.")
    console.print(Text(f"Redeemed {total:,} sat.", style="bold"))


def show_merged(
    done: Sequence[tuple[Keyset, int, int]], notes: Sequence[str], *, as_json: bool
) -> None:
    """Prints how many tokens each keyset had and has."""
    if as_json:
        rows = [
            {"keyset": keyset.id.hex(), "before": before, "after": after}
            for keyset, before, after in done
        ]
        print(json.dumps({"merged": rows, "notes": notes}))
        return
    show_notes(notes)
    for keyset, before, after in done:
        name = f"epoch {keyset.announcement.epoch}, keyset {keyset.id.hex()[:ID_SHOWN]}"
        print(f"{name}: {before:,} tokens are {after:,} now.")
    if not done:
        print("There is nothing to merge.")


def show_sent(made: Transfer, notes: Sequence[str], *, as_json: bool) -> None:
    """Prints a token for somebody else."""
    if as_json:
        row = {"transfer": made.number, "sats": made.sats, "token": made.token, "notes": notes}
        print(json.dumps(row))
        return
    show_notes(notes)
    print(made.token)
    Console(stderr=True, soft_wrap=True, highlight=False).print(
        f"{made.sats:,} sat, transfer {made.number}. Until it is claimed, "
        f"`radpool wallet send --reclaim {made.number}` takes it back."
    )


def show_reclaimed(made: Transfer, notes: Sequence[str], *, as_json: bool) -> None:
    """Prints what was taken back."""
    if as_json:
        print(json.dumps({"transfer": made.number, "sats": made.sats, "notes": notes}))
        return
    show_notes(notes)
    print(f"Took back {made.sats:,} sat of transfer {made.number}.")


def show_transfers(transfers: Sequence[Transfer], *, as_json: bool) -> None:
    """Prints what was sent; the tokens of pending transfers too."""
    if as_json:
        print(json.dumps({"transfers": [asdict(transfer) for transfer in transfers]}))
        return
    console = _console()
    for transfer in transfers:
        line = f"{transfer.number}  {_clock(transfer.created_ms)}  {transfer.sats:,} sat"
        console.print(Text(f"{line}  {transfer.state}  {plain(transfer.memo)}".rstrip()))
        if transfer.state == "pending":
            console.print(Text(f"   {transfer.token}"))
    if not transfers:
        console.print("Nothing was sent.")


def show_history(events: Sequence[Event], *, as_json: bool) -> None:
    """Prints what happened."""
    if as_json:
        rows = [
            asdict(event) | {"keyset": None if event.keyset is None else event.keyset.hex()}
            for event in events
        ]
        print(json.dumps({"events": rows}))
        return
    console = _console()
    table = Table("when", "what", "keyset", "units", "sat", "note")
    _shape(table, 3, 4)
    table.columns[0].min_width = WHEN_SHOWN
    for event in events:
        table.add_row(
            _clock(event.time_ms),
            event.kind,
            "" if event.keyset is None else event.keyset.hex()[:ID_SHOWN],
            f"{event.units:,}" if event.units else "",
            f"{event.sats:+,}" if event.sats else "",
            Text(plain(event.note)),
        )
    console.print(table if events else "Nothing happened yet.")


def _clock(unix_ms: int) -> str:
    return f"{datetime.fromtimestamp(unix_ms / 1000, UTC).astimezone():%Y-%m-%d %H:%M:%S}"
