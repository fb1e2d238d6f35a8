"""`radpool init`: makes the directory of a new node."""

from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.markup import escape

from radpool_sv2.errors import ConfigError
from radpool_sv2.installation import Installation, JdcInstallation, install_jdc, install_msp
from radpool_sv2.template_provider.installation import install_template_provider

app = App(name="init", help="Makes the directory of a new node: keys and commented configuration.")
for command in entry_points(group="radpool_sv2.init_commands"):
    # Packages that build on this one bring roles of their own.
    about = "" if command.dist is None else command.dist.metadata["Summary"]
    app.command(command.value, name=command.name, help=about)


@app.command
def msp(
    *,
    dir: Annotated[Path, Parameter(name="--dir")],  # noqa: A002 - the name of the option
    payout_address: str | None = None,
) -> None:
    """Makes a Mining Service Provider that mines on an embedded regtest chain.

    Args:
        dir: Where to write; must not hold an MSP already.
        payout_address: The regtest address that blocks pay; without it a key is made.
    """
    _tell(install_msp(dir, payout_address=payout_address))


@app.command
def template_provider(
    *,
    dir: Annotated[Path, Parameter(name="--dir")],  # noqa: A002 - the name of the option
) -> None:
    """Makes a template provider on an embedded regtest chain; its file names other sources.

    Args:
        dir: Where to write; must not hold a template provider already.
    """
    made = install_template_provider(dir)
    console = Console(soft_wrap=True, highlight=False)
    where = escape(str(made.directory))
    console.print(f"[bold]A template provider in {where}[/]\n")
    console.print("  template-provider.toml  the configuration; every key is explained in it")
    console.print("  keys/authority.key      vouches for it; clients pin its public half")
    console.print(f"\nAuthority public key: [bold]{made.authority_public_key}[/]\n")
    console.print("What to do next:")
    console.print("  name your node in \\[templates], or stay on regtest, worth nothing")
    console.print(f"  radpool template-provider --dir {where}")


@app.command
def jdc(  # noqa: PLR0913 - one argument for each option
    *,
    dir: Annotated[Path, Parameter(name="--dir")],  # noqa: A002 - the name of the option
    pool: str | None = None,
    authority_key: str | None = None,
    declarator: str | None = None,
    user: str | None = None,
    chain_dir: Path | None = None,
    payout_address: str | None = None,
) -> None:
    """Makes a job declarator client: your own templates, for a pool that takes them.

    Args:
        dir: Where to write; must not hold a client already.
        pool: HOST:PORT of the pool. Without a pool, blocks are mined solo; the file takes more.
        authority_key: The pool's authority public key.
        declarator: HOST:PORT of the pool's job declarator server.
        user: Whom the pool is to pay: account.worker. Without it, ecash is mined for.
        chain_dir: The directory of an embedded chain that a node on this machine runs, to take
            templates from it. The file names other sources.
        payout_address: The address that solo blocks pay; without it a regtest key is made.
    """
    given = (pool, authority_key, declarator)
    if any(each is not None for each in given) and not all(each is not None for each in given):
        raise ConfigError("--pool, --authority-key and --declarator belong together")
    pools = []
    if pool is not None:
        keys = {"address": pool, "authority_public_key": authority_key, "declarator": declarator}
        pools.append(keys | ({"user": user} if user else {"ecash": True}))
    settings = {} if chain_dir is None else {"templates.chain_dir": str(chain_dir.absolute())}
    _tell_jdc(install_jdc(dir, pools=pools, payout_address=payout_address, settings=settings))


def _tell_jdc(made: JdcInstallation) -> None:
    console = Console(soft_wrap=True, highlight=False)
    where = escape(str(made.directory))
    console.print(f"[bold]A job declarator client in {where}[/]\n")
    console.print("  jdc.toml             the configuration; every key is explained in it")
    console.print(
        "  keys/authority.key   vouches for the listener; your miners pin its public half"
    )
    if made.payout_key is not None:
        console.print("  keys/payout.key      owns the address that blocks pay which you mine solo")
    console.print(f"\nAuthority public key, for miners: [bold]{made.authority_public_key}[/]")
    console.print(f"Solo blocks pay:                  {made.payout_address}\n")
    console.print("What to do next:")
    console.print("  name your node in \\[templates], and further pools in sections \\[\\[pools]]")
    console.print(f"  radpool jdc --dir {where}")
    console.print(
        "  radpool miner --connect 127.0.0.1:34265 "
        f"--authority-key {made.authority_public_key} --user rig1"
    )


def _tell(made: Installation) -> None:
    console = Console(soft_wrap=True, highlight=False)
    where = escape(str(made.directory))
    console.print(f"[bold]A Mining Service Provider in {where}[/]\n")
    console.print("  msp.toml             the configuration; every key is explained in it")
    console.print("  keys/authority.key   vouches for the listener; miners pin its public half")
    console.print("  keys/server.key      the listener's key, and keys/server.cert for it")
    console.print("  keys/msp.key         signs the share log")
    console.print("  keys/mint.key        makes the mint's money: keep a copy in a safe place")
    if made.payout_key is not None:
        console.print("  keys/payout.key      owns the address that blocks pay")
    console.print(f"\nAuthority public key, for miners: [bold]{made.authority_public_key}[/]")
    console.print(f"Blocks pay:                       {made.payout_address}\n")
    console.print("What to do next:")
    console.print(f"  radpool doctor --dir {where}   checks this machine")
    console.print(f"  radpool msp --dir {where}      serves; blocks are regtest, worth nothing")
    console.print(
        "  radpool miner --connect 127.0.0.1:3333 "
        f"--authority-key {made.authority_public_key} --user alice"
    )
    console.print(
        "\nBefore strangers mine with you, move keys/authority.key to a safe place: the node\n"
        "serves without it. Once a quarter, bring it back for `radpool certify`."
    )
