"""`radpool msp`: runs a Mining Service Provider."""

import functools
from pathlib import Path
from typing import Annotated

import cyclopts
import trio
from cyclopts import App, Parameter
from rich.console import Console

from radpool_sv2.config import Endpoint, MspConfig, load
from radpool_sv2.errors import ConfigError
from radpool_sv2.installation import CONFIG_NAME
from radpool_sv2.log import configure_logging
from radpool_sv2.msp import run_msp
from radpool_sv2.residence import Serving

app = App(name="msp")


def _endpoint(_type: object, tokens: "list[cyclopts.Token]") -> Endpoint:
    return Endpoint.parse(tokens[0].value)


Address = Annotated[Endpoint | None, Parameter(converter=_endpoint, n_tokens=1, accepts_keys=False)]


@app.default
def msp(
    *,
    config: Path | None = None,
    dir: Annotated[Path | None, Parameter(name="--dir")] = None,  # noqa: A002 - the option's name
    sv2_listen: Address = None,
    http_listen: Address = None,
    json_line: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Runs a Mining Service Provider until Ctrl-C or SIGTERM.

    Prints where it serves and the key that miners pin. The log goes to stderr.

    Args:
        config: The configuration file.
        dir: The directory that `radpool init msp` has made; its msp.toml is the configuration.
        sv2_listen: HOST:PORT for miners instead of mining.listen; port 0 takes any free one, and
            so does the job declarator then.
        http_listen: HOST:PORT for metrics and status instead of http.listen.
        json_line: Once serving, print one line of JSON instead of text.
    """
    if (config is None) == (dir is None):
        raise ConfigError("give either --dir or --config; `radpool init msp` makes a directory")
    file = config if dir is None else dir / CONFIG_NAME
    assert file is not None
    settings = load(MspConfig, file)
    configure_logging(settings.node.log_level, settings.node.log_format)
    tell = _tell_json if json_line else functools.partial(_tell, settings)
    trio.run(functools.partial(run_msp, settings, sv2_listen, http_listen, tell))


def _tell_json(serving: Serving) -> None:
    print(serving.to_json(), flush=True)


def _tell(settings: MspConfig, serving: Serving) -> None:
    address = Endpoint.parse(serving.sv2)
    if address.host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        address = Endpoint("127.0.0.1", address.port)
    console = Console(soft_wrap=True, highlight=False)
    console.print("[bold]Serving.[/] Ctrl-C ends it; nothing acknowledged is lost.")
    versions = "Stratum V2, and V1 for older devices" if settings.sv1.on_same_port else "Stratum V2"
    console.print(f"  miners connect to    {serving.sv2}  ({versions})")
    if serving.declarator:
        console.print(f"  miners declare at    {serving.declarator}  (job declaration)")
    console.print(f"  authority key        {serving.authority_public_key}")
    console.print(f"  metrics and status   http://{serving.http}/metrics, /api/v1/health")
    zeros = settings.templates.block_zeros
    console.print(
        f"  blocks               regtest, worth nothing; this chain takes only blocks with "
        f"{zeros} leading\n                       zero bits (about {1 << zeros:,} hashes)"
    )
    console.print("To mine on it with this CPU:")
    console.print(
        f"  radpool miner --connect {address} --authority-key {serving.authority_public_key} "
        "--user alice"
    )
    if settings.ecash.enabled:
        console.print(
            "  or, for ecash instead of an account, with --wallet wallet in place of --user alice, "
            "after\n"
            f"  radpool wallet create --dir wallet --mint http://{serving.http}"
        )
