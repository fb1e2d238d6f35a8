"""`radpool status`: shows how a running node fares."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import httpx
from cyclopts import App, Parameter
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from radpool_sv2.config import MspConfig, load
from radpool_sv2.errors import ConfigError, RadpoolError
from radpool_sv2.installation import CONFIG_NAME
from radpool_sv2.residence import serving_at

app = App(name="status")

WATCH_SECONDS = 1.0
HTTP_SECONDS_MAX = 10.0
ROWS = 100
BLOCKS_SHOWN = 10


@app.default
def status(
    *,
    dir: Annotated[Path | None, Parameter(name="--dir")] = None,  # noqa: A002 - the option's name
    http: str | None = None,
    watch: Annotated[bool, Parameter(negative="")] = False,
    json_line: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Shows tip, miners, accounts and blocks of a running node.

    Args:
        dir: The directory of the node.
        http: HOST:PORT of its status pages, instead of a directory.
        watch: Show it again every second until Ctrl-C.
        json_line: Print all of it as one JSON object.
    """
    if (dir is None) == (http is None):
        raise ConfigError("give either --dir or --http")
    if dir is not None:
        http = serving_at(load(MspConfig, dir / CONFIG_NAME).node.data_dir).http
    console = Console()
    with httpx.Client(base_url=f"http://{http}", timeout=HTTP_SECONDS_MAX) as client:
        if json_line:
            print(json.dumps(_look(client)))
        elif not watch:
            console.print(_picture(_look(client)))
        else:
            with Live(console=console, auto_refresh=False) as live:
                while True:
                    live.update(_picture(_look(client)), refresh=True)
                    time.sleep(WATCH_SECONDS)


def _look(client: httpx.Client) -> dict[str, Any]:
    """Gets everything from the node.

    Raises:
        RadpoolError: It does not answer.
    """
    try:
        seen = {"status": client.get("/api/v1/status").raise_for_status().json()}
        for name in ("clients", "accounts", "blocks", "declarers"):
            answer = client.get(f"/api/v1/{name}", params={"limit": ROWS}).raise_for_status()
            seen[name] = answer.json()
        for row in seen["clients"]["items"]:
            answer = client.get(f"/api/v1/clients/{row['client_id']}/channels")
            channels = answer.json() if answer.is_success else {}
            row["channels"] = [
                *channels.get("standard_channels", []),
                *channels.get("extended_channels", []),
            ]
    except httpx.HTTPError as error:
        raise RadpoolError(f"the node at {client.base_url} does not answer: {error}") from error
    return seen


def _picture(seen: dict[str, Any]) -> RenderableType:
    now = seen["status"]
    template = now["template"] or {}
    lines = [
        Text(f"tip {now['tip_height']}   epoch {now['epoch']}   miners at {now['sv2']}"),
        Text(
            f"next block: {template.get('tx_count', 0)} transactions, pays "
            f"{template.get('value_sats', 0):,} sat"
        ),
        *(Text(problem, style="bold red") for problem in now["problems"]),
    ]
    federation = now.get("federation")
    if federation:
        lines.append(_federation(federation))
    mint = now.get("mint")
    if mint:
        lines.append(_mint(mint))
    if template.get("rule"):
        lines.append(Text(template["rule"], style="yellow"))
    declarers = [_declarers(seen)] if seen["declarers"]["items"] else []
    return Group(*lines, _miners(seen), *declarers, _accounts(seen), _blocks(seen))


def _federation(figures: dict[str, Any]) -> Text:
    """Says in a line how the pool's member fares."""
    who = f"federation: member {figures['member']} of {figures['members']}"
    node = figures.get("node")
    if node is None:
        return Text(f"{who}, which does not run now", style="bold red")
    pays = "blocks pay it" if figures["script"] or figures["payout"] == "direct" else "no key yet"
    return Text(
        f"{who}, {len(node['links'])} links, {node['epochs']['certified']} epochs certified; "
        f"{pays}; next batch {figures['next_batch']}, {node['waiting_payloads']} entries wait"
    )


def _mint(figures: dict[str, Any]) -> Text:
    """Says in three lines what the mint owes and for what."""
    states = ", ".join(f"{count} {state}" for state, count in figures["keysets"].items() if count)
    return Text(
        f"mint: {figures['claims']:,} shares have tokens; keysets: {states or 'none'}\n"
        f"      settled {_sats(figures['theta_msat'])}, redeemed {_sats(figures['issued_msat'])}, "
        f"carried on {_sats(figures['carry_msat'])}\n"
        f"      {figures['liabilities_sats']:,} sat in tokens; advanced "
        f"{_sats(figures['advance_used_msat'])} of at most {_sats(figures['advance_cap_msat'])}"
    )


def _sats(msat: int) -> str:
    """Shows millisats exactly."""
    sats, rest = divmod(msat, 1000)
    return f"{sats:,} sat" if not rest else f"{sats:,}.{rest:03} sat"


def _miners(seen: dict[str, Any]) -> Table:
    table = Table("user", "kind", "hash rate", "2^z", "accepted", "refused", "work", title="Miners")
    for column in table.columns[2:]:
        column.justify = "right"
    for client in seen["clients"]["items"]:
        for channel in client["channels"]:
            kind = "extended" if "rollable_extranonce_size" in channel else "standard"
            table.add_row(
                Text(channel["user_identity"]),
                kind,
                f"{channel['nominal_hashrate']:,.0f}",
                str(channel["exponent"]),
                f"{channel['shares_accepted']:,}",
                f"{channel['shares_rejected']:,}",
                f"{channel['share_work_sum']:,}",
            )
    return table


def _declarers(seen: dict[str, Any]) -> Table:
    """Shows who makes templates, and what they are worth beside the pool's own."""
    table = Table(
        "account", "accepted", "refused", "jobs", "pays", "quality", "blocks", title="Own templates"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for row in seen["declarers"]["items"]:
        quality = row["quality_permille"]
        refused = ", ".join(f"{count} {reason}" for reason, count in row["refused"].items())
        table.add_row(
            Text(row["account"]),
            f"{row['accepted']:,}",
            Text(refused or "none"),
            f"{row['jobs']:,}",
            f"{row['paid_sats']:,} sat",
            "" if quality is None else f"{quality / 10:.1f} %",
            f"{row['blocks']:,}",
        )
    return table


def _accounts(seen: dict[str, Any]) -> Table:
    table = Table("account", "owed", title="Accounts")
    table.columns[1].justify = "right"
    for row in seen["accounts"]["items"]:
        table.add_row(Text(row["account"]), f"{row['balance_sats']:,} sat")
    return table


def _blocks(seen: dict[str, Any]) -> Table:
    table = Table("height", "epoch", "hash", "found by", "pays", "state", title="Blocks")
    for row in seen["blocks"]["items"][:BLOCKS_SHOWN]:
        depth = row["confirmations"]
        state = row["state"] if depth is None else f"{row['state']}, {depth} deep"
        table.add_row(
            str(row["height"]),
            str(row["epoch"]),
            f"{row['hash'][:16]}…",
            Text(row["finder"]),
            f"{row['value_sats']:,} sat",
            state,
        )
    return table
