"""`radpool translator`: Stratum V1 devices on pools that speak Stratum V2.

With `--json` the figures go to stdout, a line each second; whoever does not read them stops nothing
but the printing.
"""

from __future__ import annotations

import functools
import json as json_module
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cyclopts
import trio
from cyclopts import App, Parameter
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from radpool_sv2.cli.wallet_table import show_created
from radpool_sv2.config import Endpoint, load, loads
from radpool_sv2.errors import ConfigError
from radpool_sv2.log import configure_logging
from radpool_sv2.wallet import Wallet
from radpool_sv2.wallet.file import FILE_NAME
from radpool_sv2_translator.config import TranslatorConfig
from radpool_sv2_translator.first_run import choose_wallet
from radpool_sv2_translator.installation import CONFIG_NAME, pool_line
from radpool_sv2_translator.role import run_translator
from radpool_sv2_translator.view import busiest, figures, printable, rows
from radpool_sv2_translator.wallet_cli import restore, wallets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from radpool_sv2_translator.role import TranslatorRole

app = App(name="translator", help="Brings Stratum V1 devices to pools that speak Stratum V2.")
app.command(wallets)
app.command(restore)

LOOK_EVERY_S = 0.25
JSON_EVERY_S = 1.0
LAST_WORDS_S = 1.0
FINISH_S = 25.0
"""A mint may take 20 seconds to answer for what shares left over."""
NOTES_SHOWN = 8
DEVICES_SHOWN = 6
COLUMN_MAX = 28
HERE = ("127.0.0.1", "::1", "localhost")


def _endpoint(_type: object, tokens: list[cyclopts.Token]) -> Endpoint:
    return Endpoint.parse(tokens[0].value)


_Endpoint = Annotated[
    Endpoint | None, Parameter(converter=_endpoint, n_tokens=1, accepts_keys=False)
]


@app.default
def translator(  # noqa: PLR0913 - one argument for each option
    *,
    config: Path | None = None,
    dir: Annotated[Path | None, Parameter(name="--dir")] = None,  # noqa: A002 - the option's name
    pool: _Endpoint = None,
    authority_key: str = "",
    user: str = "",
    wallet: Path | None = None,
    listen: _Endpoint = None,
    http_listen: _Endpoint = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Serves Stratum V1 devices until Ctrl-C or SIGTERM. The log goes to stderr.

    Args:
        config: The configuration file, for more than one pool and for everything else.
        dir: The directory that `radpool init translator` has made; its translator.toml is the file.
        pool: The pool, HOST:PORT, where there is no configuration file.
        authority_key: The pool's authority public key. Without it whoever answers is trusted.
        user: Whom the pool is to pay; the names of the devices' workers follow behind a dot.
        wallet: Earn ecash, kept in the wallet in this directory; it is made if there is none, and
            its words are shown once. Without --user and --wallet the pool is asked: if it has
            ecash, the directory is ./wallet, else the devices' own user names are passed on.
        listen: HOST:PORT for devices; port 0 takes any free one.
        http_listen: HOST:PORT for /api/v1/sv1/clients and /metrics; by default they are not served.
        json: Print a line of JSON each second instead of the live view.
    """
    if dir is not None:
        if config is not None:
            raise ConfigError("give either --dir or --config")
        config = dir / CONFIG_NAME
    if pool is not None and not (config or user or wallet):
        wallet = trio.run(choose_wallet, pool, authority_key)
    settings = _settings(config, pool, {"authority_public_key": authority_key}, user, wallet)
    if any(each.ecash for each in settings.pools):
        trio.run(_provide_wallet, settings.wallet.dir, json)
    configure_logging(settings.log.level, settings.log.format)
    show = _show_json if json else _show_live
    trio.run(functools.partial(run_translator, settings, listen, http_listen, show))


def _settings(
    config: Path | None,
    pool: Endpoint | None,
    words: dict[str, str],
    user: str,
    wallet: Path | None,
) -> TranslatorConfig:
    if (config is None) == (pool is None):
        raise ConfigError("give either --pool HOST:PORT, or --dir or --config FILE")
    if config is not None:
        if any(words.values()) or user or wallet is not None:
            raise ConfigError("the configuration file has the key, the user and the wallet")
        return load(TranslatorConfig, config)
    # The file that says the same, so that both are checked in one place.
    sections = {"devices": {"user": user}, "[pools]": {"address": str(pool), **words}}
    if wallet is not None:
        sections["wallet"] = {"dir": str(wallet.absolute())}
    lines = []
    for section, keys in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {json_module.dumps(value)}" for key, value in keys.items()]
        if section == "[pools]":
            lines.append(f"ecash = {json_module.dumps(wallet is not None)}")
    return loads(TranslatorConfig, "\n".join(lines), Path("command line"))


async def _provide_wallet(directory: Path, as_json: bool) -> None:  # noqa: FBT001 - see trio.run
    """Makes a wallet where there is none, and shows its words."""
    if (directory / FILE_NAME).exists():
        return
    wallet = await Wallet.create(directory)
    try:
        show_created(directory, wallet.words(), [], as_json=as_json)
    finally:
        await wallet.close()


async def _show_json(role: TranslatorRole, stop: trio.Event) -> None:
    http = None if role.http is None else str(role.http)
    tls = None if role.tls is None else str(role.tls)
    await _print({"event": "serving", "sv1": str(role.address), "sv1_tls": tls, "http": http})
    while not stop.is_set():
        await _print_all(role, "stats")
        with trio.move_on_after(JSON_EVERY_S):
            await stop.wait()
    with trio.move_on_after(FINISH_S):
        await role.finished.wait()
    with trio.move_on_after(LAST_WORDS_S):
        await _print_all(role, "stopped")


async def _print_all(role: TranslatorRole, event: str) -> None:
    for unix_ms, text in role.take_notes():
        await _print({"event": "note", "unix_ms": unix_ms, "text": text})
    await _print({"event": event, **figures(role)})


async def _print(line: Mapping[str, object]) -> None:
    """Prints on a thread: a reader that has stopped must not stop the mining."""

    def write() -> None:
        sys.stdout.write(json_module.dumps(line) + "\n")
        sys.stdout.flush()

    await trio.to_thread.run_sync(write, abandon_on_cancel=True)


async def _show_live(role: TranslatorRole, stop: trio.Event) -> None:
    console = Console(highlight=False)
    title = _title(role)
    last: list[str] = []
    live = Live(console=console, refresh_per_second=4, transient=True)
    if not console.is_terminal:
        console.print(title, soft_wrap=True)
    with live if console.is_terminal else nullcontext():
        while not stop.is_set():
            notes = role.take_notes()
            lines = [f"{_clock(unix_ms)}  {printable(text)}" for unix_ms, text in notes]
            if console.is_terminal:
                last = (last + lines)[-NOTES_SHOWN:]
                shown = Text("\n".join(last), style="dim")
                live.update(Group(title, _table(role), _devices(role), shown))
            else:
                for line in lines:
                    console.print(Text(line), soft_wrap=True)
            with trio.move_on_after(LOOK_EVERY_S):
                await stop.wait()
    with trio.move_on_after(FINISH_S):
        await role.finished.wait()
    console.print(Text("Ended.", style="bold"))
    for name, value in rows(role):
        console.print(Text(f"  {name:<14}{value}"), soft_wrap=True)


def _table(role: TranslatorRole) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in rows(role):
        table.add_row(Text(name, style="dim"), Text(value))
    return table


def _title(role: TranslatorRole) -> Text:
    """Says what is to be typed into miners."""
    assert role.address is not None, "it is shown once it serves"
    title = Text(f"Type into your miners: {pool_line(role.address)}", style="bold")
    if role.tls is not None:
        title.append(f"\nor, encrypted: {pool_line(role.tls, 'stratum+ssl')}")
    if role.address.host in HERE:
        port = role.address.port
        title.append(
            f"\nOnly this machine can connect: --listen 0.0.0.0:{port} lets in your own network",
            style="not bold",
        )
    return title


def _devices(role: TranslatorRole) -> Table:
    """Shows the devices that bring most."""
    table = Table(box=None, padding=(0, 2), header_style="dim")
    columns = ("device", "hash rate", "accepted", "refused", "difficulty", "firmware")
    for column in columns:
        table.add_column(column, max_width=COLUMN_MAX, no_wrap=True, overflow="ellipsis")
    shown, more = busiest(role, DEVICES_SHOWN)
    for row in shown:
        table.add_row(*map(Text, row))
    if more:
        table.add_row(Text(f"and {more} more", style="dim"))
    table.show_header = bool(shown)
    return table


def _clock(unix_ms: int) -> str:
    return f"{datetime.fromtimestamp(unix_ms / 1000, UTC).astimezone():%H:%M:%S}"
