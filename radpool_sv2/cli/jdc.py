"""`radpool jdc`: declares own templates to pools, for miners behind it.

With `--json` the figures go to stdout, a line each second; whoever does not read them stops nothing
but the printing.
"""

from __future__ import annotations

import functools
import json
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - the command line reads the annotation
from typing import TYPE_CHECKING, Annotated

import cyclopts
import trio
from cyclopts import App, Parameter
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from radpool_sv2.config import Endpoint, load
from radpool_sv2.config.jdc import JdcConfig
from radpool_sv2.errors import ConfigError
from radpool_sv2.installation import JDC_CONFIG_NAME
from radpool_sv2.jdc.role import run_jdc
from radpool_sv2.jdc.view import figures, rows
from radpool_sv2.log import configure_logging

if TYPE_CHECKING:
    from collections.abc import Mapping

    from radpool_sv2.jdc.client import DeclaringClient

app = App(name="jdc")

LOOK_EVERY_S = 0.25
JSON_EVERY_S = 1.0
LAST_WORDS_S = 1.0
NOTES_SHOWN = 8


def _endpoint(_type: object, tokens: list[cyclopts.Token]) -> Endpoint:
    return Endpoint.parse(tokens[0].value)


@app.default
def jdc(
    *,
    config: Path | None = None,
    dir: Annotated[Path | None, Parameter(name="--dir")] = None,  # noqa: A002 - the option's name
    sv2_listen: Annotated[
        Endpoint | None, Parameter(converter=_endpoint, n_tokens=1, accepts_keys=False)
    ] = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Mines your own templates for pools that take them, until Ctrl-C or SIGTERM.

    Your miners connect here. Jobs go to them at once and are declared to the first pool of the file
    that works; while none does, blocks are mined solo. The log goes to stderr.

    Args:
        config: The configuration file.
        dir: The directory that `radpool init jdc` has made; its jdc.toml is the configuration.
        sv2_listen: HOST:PORT for miners instead of mining.listen; port 0 takes any free one.
        json: Print a line of JSON each second instead of the live view.
    """
    if (config is None) == (dir is None):
        raise ConfigError("give either --dir or --config; `radpool init jdc` makes a directory")
    file = config if dir is None else dir / JDC_CONFIG_NAME
    assert file is not None
    settings = load(JdcConfig, file)
    configure_logging(settings.node.log_level, settings.node.log_format)
    show = _show_json if json else _show_live
    trio.run(functools.partial(run_jdc, settings, sv2_listen, show))


async def _show_json(client: DeclaringClient, authority_public_key: str, stop: trio.Event) -> None:
    serving = {
        "event": "serving",
        "sv2": str(client.front.address),
        "authority_public_key": authority_public_key,
    }
    await _print(serving)
    while not stop.is_set():
        await _print_all(client, "stats")
        with trio.move_on_after(JSON_EVERY_S):
            await stop.wait()
    with trio.move_on_after(LAST_WORDS_S):
        await _print_all(client, "stopped")


async def _print_all(client: DeclaringClient, event: str) -> None:
    for unix_ms, text in client.take_notes():
        await _print({"event": "note", "unix_ms": unix_ms, "text": text})
    await _print({"event": event, **figures(client)})


async def _print(line: Mapping[str, object]) -> None:
    """Prints on a thread: a reader that has stopped must not stop the mining."""

    def write() -> None:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    await trio.to_thread.run_sync(write, abandon_on_cancel=True)


async def _show_live(client: DeclaringClient, authority_public_key: str, stop: trio.Event) -> None:
    console = Console(highlight=False)
    title = Text(f"Miners connect to {client.front.address}", style="bold")
    key = Text(f"with the authority key {authority_public_key}", style="dim")
    last: list[str] = []
    live = Live(console=console, refresh_per_second=4, transient=True)
    if not console.is_terminal:
        console.print(title, key, soft_wrap=True)
    with live if console.is_terminal else nullcontext():
        while not stop.is_set():
            lines = [f"{_clock(unix_ms)}  {text}" for unix_ms, text in client.take_notes()]
            if console.is_terminal:
                last = (last + lines)[-NOTES_SHOWN:]
                notes = Text("\n".join(last), style="dim")
                live.update(Group(title, key, _table(client), notes))
            else:
                for line in lines:
                    console.print(Text(line), soft_wrap=True)
            with trio.move_on_after(LOOK_EVERY_S):
                await stop.wait()
    console.print(Text("Ended.", style="bold"))
    for name, value in rows(client):
        console.print(Text(f"  {name:<14}{value}"), soft_wrap=True)


def _table(client: DeclaringClient) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in rows(client):
        table.add_row(Text(name, style="dim"), Text(value))
    return table


def _clock(unix_ms: int) -> str:
    return f"{datetime.fromtimestamp(unix_ms / 1000, UTC).astimezone():%H:%M:%S}"
