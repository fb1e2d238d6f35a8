"""`radpool miner`: mines on a pool with this machine's processors, and for ecash with a wallet.

With `--wallet` or `--owner` the shares are carried by an extension, whose side
(`radpool_sv2.miner`) runs beside the native miner: it gives each share what it is to carry, takes
in what the pool signs, and ends the run when the pool cheats.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path  # noqa: TC003 - the command line reads the annotation
from typing import TYPE_CHECKING, Annotated, Literal

import trio
from cyclopts import App, Group, Parameter
from cyclopts.validators import LimitedChoice, Number
from rich import console as drawn
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from radpool_sv2._native.keys import AuthorityPublicKey
from radpool_sv2._native.miner import Miner
from radpool_sv2.errors import ConfigError, RadpoolError, RemoteProtocolError
from radpool_sv2.miner.side import SideOptions, find_side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from radpool_sv2._native.miner import MinerStats
    from radpool_sv2.miner.side import MinerSide

app = App(name="miner")

ADDRESS = Group("Address", validator=LimitedChoice(1, 1))

LOOK_EVERY_S = 0.25
"""How often the figures are looked at: often enough to look alive."""
JSON_EVERY_S = 1.0
"""How often `--json` prints the figures."""
LEAVING_LOOK_S = 0.01
LEAVING_LOOKS_MAX = 300
"""The miner itself gives up the last answers after a second; three are for a busy machine."""
EVENTS_SHOWN = 6
UNTRUSTED = "No --authority-key: whoever answers at this address is trusted."
UNENCRYPTED = "Stratum V1: nothing is encrypted, and whoever answers at this address is trusted."
WALLET_EXTENSION = "ecash"
"""The extension that fills wallets."""
OWNER_EXTENSION = "share_ownership"
"""The extension that makes shares the property of a key."""
UNSIGNED_MAX = 3
"""Shares without a token that a pool may owe by default. Source: `spec/08-wallet-recovery.md`."""


@app.default
def miner(  # noqa: PLR0913 - one argument for each option
    *,
    connect: Annotated[str | None, Parameter(group=ADDRESS)] = None,
    sv1: Annotated[str | None, Parameter(group=ADDRESS)] = None,
    authority_key: str | None = None,
    user: str = "anonymous",
    kind: Literal["standard", "extended"] = "extended",
    threads: Annotated[int | None, Parameter(validator=Number(gte=1, lte=1024))] = None,
    hash_rate_limit: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    seconds: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    wallet: Path | None = None,
    policy: Literal["network", "pool", "window", "fixed"] | None = None,
    sign_mode: Literal["eager", "lazy"] = "eager",
    unsigned_max: Annotated[int, Parameter(validator=Number(gte=1, lte=32))] = UNSIGNED_MAX,
    mint_url: str | None = None,
    owner: Path | None = None,
) -> None:
    """Mines on a pool with this CPU. Good for trying a pool out; it earns nothing on a real chain.

    It connects again by itself when the connection is lost. Ctrl-C leaves in order and tells what
    was mined.

    Args:
        connect: The pool's address, HOST:PORT.
        sv1: The address of a translator, or of a pool that speaks Stratum V1, HOST:PORT: mine as a
            device does, without encryption.
        authority_key: The pool's authority public key. Without it whoever answers is trusted.
        user: Who is to be paid, as the pool knows you.
        kind: Which channel to open: an extended one rolls the extranonce, a standard one cannot.
        threads: Threads that hash; as many as this machine has processors by default.
        hash_rate_limit: Hashes per second at most, of all threads together.
        seconds: Stop after so many seconds.
        json: Print a line of JSON each second instead of the live view.
        wallet: Mine for ecash: each share earns a token, which is kept in the wallet in this
            directory. `radpool wallet create` makes one. Needs an extended channel.
        policy: How tokens are to be paid; by default the pool chooses.
        sign_mode: When tokens are signed: with the answer to the share, or only when asked later.
        unsigned_max: Submit no more once so many shares got no token: their answer came without,
            or none came for 10 s. It goes on when the pool has signed them.
        mint_url: Where the mint's HTTP interface is, to see there too that all miners are shown the
            same keys; by default the place that the pool names.
        owner: Mine under a key of your own, which is in this directory or made there; the pool
            signs for every share, and the receipts are kept beside it. Needs an extended channel.
    """
    address = connect or sv1 or ""
    host, port = parse_address(address)
    if sv1 is not None:
        _refuse_for_sv1(authority_key, wallet, owner, kind)
    extension, directory = _extension(wallet, owner, kind)
    options = None
    if directory is not None:
        options = SideOptions(
            directory=directory,
            policy=policy,
            sign_mode=sign_mode,
            unsigned_max=unsigned_max,
            mint_url=mint_url,
        )
    key = None if authority_key is None else AuthorityPublicKey.from_text(authority_key)

    def make(side: MinerSide | None) -> Miner:
        return Miner(
            host=host,
            port=port,
            authority=key,
            user=user,
            kind=kind,
            threads=threads or os.cpu_count() or 1,
            hash_rate_limit=hash_rate_limit,
            carrier=None if side is None else side.carrier,
            sv1=sv1 is not None,
        )

    warning = "" if key is not None else UNTRUSTED
    if sv1 is not None:
        warning = UNENCRYPTED
    show = _JsonView() if json else _LiveView(address, user, warning)
    trio.run(_mine, make, (extension, options), show, seconds)


def _refuse_for_sv1(
    authority_key: str | None, wallet: Path | None, owner: Path | None, kind: str
) -> None:
    """Refuses what Stratum V1 does not have.

    Raises:
        ConfigError: Something of it was asked for.
    """
    given = {"--authority-key": authority_key, "--wallet": wallet, "--owner": owner}
    if kind != "extended":
        given["--kind"] = kind
    for key, value in given.items():
        if value is not None:
            raise ConfigError(
                "Stratum V1 has no keys, no channels and no ecash: the translator has them",
                key=key,
                value=str(value),
                allowed="nothing beside --sv1",
            )


def _extension(wallet: Path | None, owner: Path | None, kind: str) -> tuple[str, Path | None]:
    """Returns the extension that carries the shares, and its directory.

    Raises:
        ConfigError: The options contradict each other.
    """
    if wallet is not None and owner is not None:
        raise ConfigError(
            "a share earns a token, which is its bearer's, or belongs to a key: not both",
            key="--owner",
            value=str(owner),
            allowed="either --wallet or --owner",
        )
    directory = owner if wallet is None else wallet
    if directory is not None and kind == "standard":
        raise ConfigError(
            "shares of a standard channel carry nothing else: --wallet and --owner need an "
            "extended channel",
            key="--kind",
            value=kind,
            allowed="extended, which is the default",
        )
    return (OWNER_EXTENSION if wallet is None else WALLET_EXTENSION), directory


def parse_address(text: str) -> tuple[str, int]:
    """Cuts HOST:PORT, where an IPv6 address stands in brackets.

    Raises:
        ConfigError: If there is no port or no host; the message shows what is expected.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    wrong = not colon or not host or (":" in host and not bracketed)
    if wrong or not (port.isascii() and port.isdigit()) or not 1 <= int(port) <= 65535:
        raise ConfigError(
            "not an address to connect to",
            key="--connect",
            value=text,
            allowed="HOST:PORT with a port from 1 to 65535, such as 127.0.0.1:3333 or [::1]:3333",
        )
    return host, int(port)


async def _mine(
    make: Callable[[MinerSide | None], Miner],
    asked: tuple[str, SideOptions | None],
    view: _JsonView | _LiveView,
    seconds: float | None,
) -> None:
    async with _open_side(*asked) as side:
        await _run(make(side), view, seconds, side)


@asynccontextmanager
async def _open_side(
    extension: str, options: SideOptions | None
) -> AsyncIterator[MinerSide | None]:
    if options is None:
        yield None
        return
    async with find_side(extension)(options) as side:
        yield side


async def _run(
    machine: Miner,
    view: _JsonView | _LiveView,
    seconds: float | None,
    side: MinerSide | None = None,
) -> None:
    """Shows the miner until it ends, time is up or a signal comes; then lets it leave in order."""
    machine.start()
    serving = _Serving(machine, side)
    try:
        with trio.move_on_after(seconds if seconds is not None else float("inf")), view:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_on_signal, nursery.cancel_scope.cancel)
                nursery.start_soon(serving.serve, nursery.cancel_scope.cancel)
                while (stats := machine.stats()).state != "stopped":
                    view.update(stats, _events(machine, side), side)
                    await trio.sleep(LOOK_EVERY_S)
                nursery.cancel_scope.cancel()
    finally:
        gave_up = machine.stats().state == "stopped"
        with trio.CancelScope(shield=True):
            await serving.leave()
        view.finish(machine.stats(), _events(machine, side), side)
    if serving.fault is not None:
        raise serving.fault
    if gave_up:
        raise RemoteProtocolError(machine.stats().last_end or "the miner ended by itself")


class _Serving:
    """Runs the side of the extension, where there is one, and keeps what ended it."""

    def __init__(self, machine: Miner, side: MinerSide | None) -> None:
        self._machine = machine
        self._side = side
        self.fault: RadpoolError | None = None

    async def serve(self, cancel: Callable[[], None]) -> None:
        """Serves until it is cancelled; what goes wrong ends the miner, which is told later."""
        if self._side is None:
            return
        try:
            await self._side.run(self._machine)
        except RadpoolError as error:
            self.fault = error
            cancel()

    async def leave(self) -> None:
        """Lets the miner leave in order, served to the end."""
        side = self._side if self.fault is None else None
        if side is not None:
            self._machine.leave()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.serve, nursery.cancel_scope.cancel)
                for _ in range(LEAVING_LOOKS_MAX):
                    if self._machine.stats().state == "stopped":
                        break
                    await trio.sleep(LEAVING_LOOK_S)
                nursery.cancel_scope.cancel()
        await trio.to_thread.run_sync(self._machine.stop)
        if side is not None and self.fault is None:
            await side.finish(self._machine)


def _events(machine: Miner, side: MinerSide | None) -> list[tuple[int, str]]:
    told = machine.events() + ([] if side is None else side.events())
    return sorted(told, key=itemgetter(0))


async def _cancel_on_signal(cancel: Callable[[], None]) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            cancel()
            return


class _JsonView:
    """Prints figures and events as lines of JSON on stdout."""

    def __init__(self) -> None:
        self._next_s = 0.0

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def update(
        self, stats: MinerStats, events: list[tuple[int, str]], side: MinerSide | None = None
    ) -> None:
        for unix_ms, text in events:
            self._print({"event": "note", "unix_ms": unix_ms, "text": text})
        if trio.current_time() >= self._next_s:
            self._next_s = trio.current_time() + JSON_EVERY_S
            self._print(_figures("stats", stats, side))

    def finish(
        self, stats: MinerStats, events: list[tuple[int, str]], side: MinerSide | None = None
    ) -> None:
        self.update(stats, events, side)
        self._print(_figures("stopped", stats, side))

    @staticmethod
    def _print(line: dict[str, object]) -> None:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def _figures(event: str, stats: MinerStats, side: MinerSide | None = None) -> dict[str, object]:
    prev_hash = stats.prev_hash
    figures: dict[str, object] = {
        "event": event,
        "state": stats.state,
        "hashes": stats.hashes,
        "hash_rate": stats.hash_rate,
        "submitted": stats.submitted,
        "accepted": stats.accepted,
        "accepted_hashes": stats.accepted_hashes,
        "rejected": stats.rejected,
        "unanswered": stats.unanswered,
        "waiting": stats.waiting,
        "resent": stats.resent,
        "lost": stats.lost,
        "mismatches": stats.mismatches,
        "exponent": stats.exponent,
        "prev_hash": None if prev_hash is None else prev_hash[::-1].hex(),
        "tips": stats.tips,
        "sessions": stats.sessions,
        "latency_p50_us": stats.latency_p50_us,
        "latency_p99_us": stats.latency_p99_us,
        "last_end": stats.last_end,
    }
    return figures if side is None else figures | {side.word: side.figures()}


class _LiveView:
    """Shows figures that change in place, and below them what happened last.

    Without a terminal only what happened is printed: a file full of redrawn tables helps nobody.
    """

    def __init__(self, address: str, user: str, warning: str) -> None:
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._title = f"Mining on {address} for {user}"
        self._warning = warning
        self._last: list[str] = []

    def __enter__(self) -> None:
        if self._warning:
            self._console.print(self._warning, style="yellow")
        if self._console.is_terminal:
            self._live.start()

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(
        self, stats: MinerStats, events: list[tuple[int, str]], side: MinerSide | None = None
    ) -> None:
        lines = [f"{_clock(unix_ms)}  {text}" for unix_ms, text in events]
        if not self._console.is_terminal:
            for line in lines:
                self._console.print(Text(line), soft_wrap=True)
            return
        self._last = (self._last + lines)[-EVENTS_SHOWN:]
        rows = Table.grid(padding=(0, 2))
        for name, value in _rows(stats, side):
            rows.add_row(Text(name, style="dim"), Text(value))
        title = Text(self._title, style="bold")
        self._live.update(drawn.Group(title, rows, Text("\n".join(self._last), style="dim")))

    def finish(
        self, stats: MinerStats, events: list[tuple[int, str]], side: MinerSide | None = None
    ) -> None:
        if not stats.sessions and stats.last_end != "stopped":
            return  # nothing was mined, and the reason is about to be told
        if not self._console.is_terminal:
            self.update(stats, events, side)
        self._console.print(Text(self._title, style="bold"), Text("- ended"))
        for name, value in _rows(stats, side):
            self._console.print(Text(f"  {name:<14}{value}"), soft_wrap=True)


def _rows(stats: MinerStats, side: MinerSide | None = None) -> list[tuple[str, str]]:
    """Says what a miner wants to know, in the order in which it is wanted."""
    rejected = ", ".join(f"{count} {code}" for code, count in sorted(stats.rejected.items()))
    rows = [
        (
            "state",
            stats.state
            if stats.last_end in {None, "stopped"} or stats.state == "mining"
            else f"{stats.state}: {stats.last_end}",
        ),
        ("hash rate", f"{scale(stats.hash_rate)}H/s, {scale(stats.hashes)}H in all"),
        (
            "shares",
            f"{stats.accepted} accepted, {stats.unanswered} under way"
            + (f", {stats.waiting} wait for a claim" if stats.waiting else ""),
        ),
        ("rejected", rejected or "none"),
        ("worth", f"{scale(stats.accepted_hashes)}H, says the pool"),
    ]
    if stats.exponent is not None:
        expected = scale(1 << stats.exponent)
        rows.append(("target", f"{stats.exponent} zero bits: a share every {expected}H"))
    if stats.prev_hash is not None:
        rows.append(("on block", stats.prev_hash[::-1].hex()))
    if stats.latency_p50_us is not None and stats.latency_p99_us is not None:
        p50, p99 = stats.latency_p50_us / 1000, stats.latency_p99_us / 1000
        rows.append(("answered in", f"{p50:.1f} ms, 99 of 100 in {p99:.1f} ms"))
    if stats.mismatches:
        rows.append(("miscounted", f"{stats.mismatches} answers do not fit what was sent"))
    return rows if side is None else rows + side.rows()


def scale(number: int) -> str:
    """Writes a number with three digits and the SI prefix of the unit that follows."""
    value, prefixes = float(number), ["", "k", "M", "G", "T", "P", "E", "Z", "Y"]
    while value >= 999.5 and len(prefixes) > 1:
        value /= 1000
        prefixes.pop(0)
    digits = 0 if value >= 99.95 or prefixes[0] == "" else 1
    return f"{value:.{digits}f} {prefixes[0]}"


def _clock(unix_ms: int) -> str:
    return f"{datetime.fromtimestamp(unix_ms / 1000, UTC).astimezone():%H:%M:%S}"
