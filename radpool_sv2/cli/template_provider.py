"""`radpool template-provider`: offers templates to pools and job declarator clients."""

import functools
from pathlib import Path
from typing import Annotated

import cyclopts
import trio
from cyclopts import App, Parameter
from rich.console import Console

from radpool_sv2.config import Endpoint, load
from radpool_sv2.config.template_provider import TemplateProviderConfig
from radpool_sv2.errors import ConfigError
from radpool_sv2.log import configure_logging
from radpool_sv2.template_provider.installation import CONFIG_NAME
from radpool_sv2.template_provider.role import Offering, run_template_provider

app = App(name="template-provider")


def _endpoint(_type: object, tokens: "list[cyclopts.Token]") -> Endpoint:
    return Endpoint.parse(tokens[0].value)


Address = Annotated[Endpoint | None, Parameter(converter=_endpoint, n_tokens=1, accepts_keys=False)]


@app.default
def template_provider(
    *,
    config: Path | None = None,
    dir: Annotated[Path | None, Parameter(name="--dir")] = None,  # noqa: A002 - the option's name
    listen: Address = None,
    json_line: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Offers templates by the Template Distribution Protocol until Ctrl-C or SIGTERM.

    Prints where it serves and the key that clients pin. The log goes to stderr.

    Args:
        config: The configuration file.
        dir: The directory that `radpool init template-provider` has made.
        listen: HOST:PORT for clients instead of provider.listen; port 0 takes any free one.
        json_line: Once serving, print one line of JSON instead of text.
    """
    if (config is None) == (dir is None):
        raise ConfigError(
            "give either --dir or --config; `radpool init template-provider` makes a directory"
        )
    file = config if dir is None else dir / CONFIG_NAME
    assert file is not None
    settings = load(TemplateProviderConfig, file)
    configure_logging(settings.node.log_level, settings.node.log_format)
    tell = _tell_json if json_line else functools.partial(_tell, settings)
    trio.run(functools.partial(run_template_provider, settings, listen, tell))


def _tell_json(offering: Offering) -> None:
    print(offering.to_json(), flush=True)


def _tell(settings: TemplateProviderConfig, offering: Offering) -> None:
    console = Console(soft_wrap=True, highlight=False)
    templates = settings.templates
    console.print("[bold]Serving.[/] Ctrl-C ends it; blocks under way still reach the node.")
    console.print(f"  clients connect to   {offering.tdp}  (Template Distribution Protocol)")
    console.print(f"  authority key        {offering.authority_public_key}")
    console.print(f"  templates from       {templates.source}, {templates.network}")
    console.print("SRI's pool_sv2 and jd_client_sv2 take these templates with:")
    console.print("  [template_provider_type.Sv2Tp]", markup=False)
    console.print(f'  address = "{offering.tdp}"')
    console.print(f'  public_key = "{offering.authority_public_key}"')
