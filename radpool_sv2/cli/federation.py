"""`radpool federation`: makes, joins and shows a federation of Mining Service Providers."""

import functools
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import trio
from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from radpool_sv2.cli.federation_keys import keys_in_words
from radpool_sv2.config import load
from radpool_sv2.config.federation import FederationConfig
from radpool_sv2.config.msp import MspConfig
from radpool_sv2.errors import ConfigError
from radpool_sv2.federation.dkg.generation import MEMBERS_MIN
from radpool_sv2.federation.installation import (
    CONFIG_NAME,
    RECORD_NAME,
    Convention,
    install_member,
    read_record,
)
from radpool_sv2.federation.operation import begin_from
from radpool_sv2.federation.role import first_block, read_figures, run_member
from radpool_sv2.federation.state.accounting import Accounting
from radpool_sv2.federation.state.rules import PayoutMode
from radpool_sv2.installation import CONFIG_NAME as MSP_CONFIG_NAME
from radpool_sv2.log import configure_logging
from radpool_sv2.network import NETWORKS
from radpool_sv2.weight import WeightMode, scale_of

app = App(name="federation", help="Makes, joins and shows a federation of MSPs.")

for name, about in {
    "log": "Writes the public log, for anyone to compute it again.",
    "snapshot": "Writes a snapshot for a newcomer, or for a member that was away.",
    "evidence": "Lists evidence against members, or checks a piece of it.",
    "sign": "Shows what the federation signs and has signed.",
}.items():
    app.command(f"radpool_sv2.cli.federation_books:{name}", name=name, help=about)

Directory = Annotated[Path, Parameter(name="--dir")]
Json = Annotated[bool, Parameter(name="--json", negative="")]


@app.command
def init(  # noqa: PLR0913 - what a member is made of
    *,
    dir: Directory,  # noqa: A002 - the option's name
    msp_dir: Path | None = None,
    address: tuple[str, ...] = (),
    listen: str | None = None,
    rpc_url: str | None = None,
    rpc_cookie_file: Path | None = None,
) -> None:
    """Makes the keys, the configuration and the record of a member.

    Args:
        dir: Where to write; must not hold a member already.
        msp_dir: The directory of the MSP whose shares the member brings in; they have one key.
        address: HOST:PORT where other members reach it; may be given more than once, or not at all.
        listen: HOST:PORT to listen on.
        rpc_url: The RPC interface of the own bitcoin node.
        rpc_cookie_file: Its cookie file.
    """
    given = {
        "links.listen": listen,
        "chain.rpc_url": rpc_url,
        "chain.rpc_cookie_file": None if rpc_cookie_file is None else str(rpc_cookie_file),
    }
    settings = {key: value for key, value in given.items() if value is not None}
    msp_key = None
    if msp_dir is not None:
        msp_key = load(MspConfig, msp_dir / MSP_CONFIG_NAME).keys.msp_key_file
    made = install_member(dir, address, settings, msp_key)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"[bold]A member in {made.directory}[/]")
    console.print(f"  identity key   {made.identity.hex()}")
    console.print(f"  its record     {made.record}")
    console.print("Give the record to whoever invites, and join with the committee they send.")


@app.command
def invite(  # noqa: PLR0913 - what members agree on
    *records: Path,
    dir: Directory,  # noqa: A002 - the option's name
    height_first: int | None = None,
    interval: int = 1,
    network: str | None = None,
    payout: Literal["syndicate", "direct"] = "syndicate",
    mode: Literal["value", "difficulty"] = "value",
    window: int | None = None,
    grace: int | None = None,
    lateness: int | None = None,
    shares_target: int | None = None,
    exponent_floor: int | None = None,
    maturity: int | None = None,
    fee_sats_per_vb: int | None = None,
) -> None:
    """Makes the file of a committee: of this member, and of those whose records are given.

    What members agree on holds for good; options that are not given have the defaults of page 15.

    Args:
        records: Record files of the other members.
        dir: The directory of this member.
        height_first: The height at which the first epoch ends; without it the next block's.
        interval: Blocks of an epoch.
        network: main, testnet4, signet or regtest: the unit of values; without it, that of the own
            node's chain.
        payout: Whom blocks pay: the federation's key (syndicate) or all members (direct).
        mode: What prices stand for.
        window: How many blocks' expected work is paid for.
        grace: How many blocks a share may be behind its member's last mark.
        lateness: How many blocks a share may be behind the end of the epoch that counts it.
        shares_target: About how many shares an epoch should have.
        exponent_floor: The lowest exponent of shares that is ever asked for.
        maturity: Confirmations after which what the syndicate has is paid out.
        fee_sats_per_vb: The fee of payouts, sats per virtual byte.
    """
    settings = load(FederationConfig, dir / CONFIG_NAME)
    members = [read_record(file) for file in (dir / RECORD_NAME, *records)]
    chain, height = trio.run(first_block, settings.chain)
    scale = scale_of(_network(chain) if network is None else _known_network(network))
    given = {
        "window": window,
        "grace": grace,
        "lateness": lateness,
        "shares_target": shares_target,
        "maturity": maturity,
        "fee_sats_per_vb": fee_sats_per_vb,
    }
    convention = Convention.of(
        members,
        chain=chain,
        height_first=height + 1 if height_first is None else height_first,
        interval=interval,
        agreed={
            "payout": PayoutMode[payout.upper()],
            "mode": WeightMode[mode.upper()],
            "scale": scale,
            "exponent_floor": scale.base if exponent_floor is None else exponent_floor,
            **{name: value for name, value in given.items() if value is not None},
        },
    )
    file = settings.member.committee_file
    convention.write(file)
    committee = convention.committee
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"[bold]A committee of {committee.n} in {file}[/]")
    console.print(f"  id               {committee.id.hex()}")
    console.print(f"  rules            {convention.rules.digest.hex()}")
    console.print(f"  quorum           {committee.quorum}; {committee.faulty_max} may be faulty")
    console.print(f"  first epoch      ends at height {committee.height_first}")
    console.print(f"  blocks pay       {_PAID[convention.rules.payout]}")
    if convention.rules.payout is PayoutMode.SYNDICATE and committee.n < MEMBERS_MIN:
        console.print(
            f"[bold]Fewer than {MEMBERS_MIN} members make no key that blocks could pay:[/] no "
            "share will count. Invite more, or give --payout direct."
        )
    console.print(
        "Send the file to all members: they join with --committee, and compare id and rules."
    )


_PAID = {
    PayoutMode.SYNDICATE: "the federation's key, and are paid out to the members",
    PayoutMode.DIRECT: "the members",
}


def _known_network(name: str) -> str:
    if name not in NETWORKS:
        raise ConfigError("is no network: " + ", ".join(NETWORKS), key="--network", value=name)
    return name


def _network(chain: bytes) -> str:
    """Finds which network a chain is of."""
    shown = chain[::-1].hex()
    for network in NETWORKS.values():
        if network.first_block == shown:
            return network.name
    raise ConfigError(
        "the own bitcoin node's chain is of no network that is known; give the one whose unit of "
        "values it should have: " + ", ".join(NETWORKS),
        key="--network",
    )


@app.command
def join(
    *,
    dir: Directory,  # noqa: A002 - the option's name
    committee: Path | None = None,
    snapshot: Path | None = None,
    json_line: Json = False,
) -> None:
    """Runs this member until Ctrl-C or SIGTERM.

    Args:
        dir: The directory of the member.
        committee: The file of the committee; it is kept, and need not be given again.
        snapshot: Begin with this file of another member, or go on from it after a long absence.
        json_line: Once it listens, print one line of JSON instead of text.
    """
    settings = load(FederationConfig, dir / CONFIG_NAME)
    if committee is not None:
        Convention.read(committee).write(settings.member.committee_file)
    convention = Convention.read(settings.member.committee_file)
    configure_logging(settings.node.log_level, settings.node.log_format)
    if snapshot is not None:
        begin_from(settings, convention, snapshot)
    tell = _tell_json if json_line else _tell
    trio.run(functools.partial(run_member, settings, Accounting(convention.rules), tell))


def _tell_json(serving: dict[str, Any]) -> None:
    print(json.dumps(serving), flush=True)


def _tell(serving: dict[str, Any]) -> None:
    console = Console(soft_wrap=True, highlight=False)
    console.print("[bold]Serving.[/] Ctrl-C ends it.")
    console.print(f"  members dial   {serving['links']}")
    console.print(f"  member         {serving['member']} of {serving['members']}")
    console.print(f"  committee      {serving['committee']}")


@app.command
def status(
    *,
    dir: Directory,  # noqa: A002 - the option's name
    json_line: Json = False,
) -> None:
    """Shows links, streams, epochs and keys of a running member.

    Args:
        dir: The directory of the member.
        json_line: Print all of it as one JSON object.
    """
    figures = read_figures(load(FederationConfig, dir / CONFIG_NAME).node.data_dir)
    if json_line:
        print(json.dumps(figures))
        return
    console = Console(soft_wrap=True, highlight=False)
    epochs = figures["epochs"]
    console.print(
        f"[bold]Member {figures['member']} of {figures['members']}[/], "
        f"committee {figures['committee'][:16]}, height {figures['height']}"
    )
    console.print(
        f"epochs: {epochs['decided']} decided, {epochs['applied']} applied, "
        f"{epochs['certified']} certified; state {epochs['root'][:16] or '-'}"
    )
    for trouble in ("halted", "store_failure", "chain_failure"):
        if figures[trouble]:
            console.print(f"[bold red]{trouble.replace('_', ' ')}:[/] {figures[trouble]}")
    for member, first in figures["gone"].items():
        console.print(
            f"[bold red]member {member} keeps epochs from {first} on, this one has "
            f"{epochs['decided']}:[/] unless another keeps more, start from a snapshot"
        )
    console.print(_links(figures))
    for member, reason in figures.get("down", {}).items():
        console.print(f"no link to member {member}: {reason or 'it has not been reached yet'}")
    for line in keys_in_words(figures["keys"]):
        console.print(line)
    said = ", ".join(f"{count} {name}" for name, count in figures["heard"].items())
    console.print(f"heard since it started: {said or 'nothing'}")


def _links(figures: dict[str, Any]) -> Table:
    table = Table(
        *("member", "link", "behind", "waiting", "echoes", "readies", "certified", "evidence")
    )
    for member, stream in enumerate(figures["streams"]):
        link = figures["links"].get(str(member))
        if member == figures["member"]:
            cells = ("this one", *[""] * 4)
        elif link is None:
            cells = ("down", *[""] * 4)
        else:
            up = f"up {link['seconds']} s"
            cells = (
                up,
                f"{link['behind_entries']} entries",
                f"{link['outbox_bytes']} B",
                str(link["echoes"]),
                str(link["readies"]),
            )
        evidence = str(stream["blamed"] or "")
        table.add_row(str(member), *cells, str(stream["certified"]), evidence)
    return table
