"""`radpool init translator`: writes the commented configuration of a new translator."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path  # noqa: TC003 - the command line reads the annotation
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import App, Parameter
from rich.console import Console
from rich.markup import escape

from radpool_sv2._native.keys import AuthorityPublicKey
from radpool_sv2.config import Endpoint, loads, render
from radpool_sv2.errors import ConfigError
from radpool_sv2.keyfile import write_text
from radpool_sv2_translator.config import TranslatorConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from radpool_sv2_translator.config import Devices

__all__ = ["CONFIG_NAME", "app", "install_translator"]

CONFIG_NAME: Final = "translator.toml"
ANYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - it is compared with, not listened on

app = App(name="translator")


def install_translator(directory: Path, values: Mapping[str, object]) -> TranslatorConfig:
    """Writes the configuration of a translator, with every key, and returns it.

    Args:
        directory: Where to write; made if it is not there.
        values: Values that replace defaults, by dotted key; `pools[1].address` is required.

    Raises:
        ConfigError: There is a translator already, the directory cannot be written, or a value is
            outside of its range.
    """
    file = directory / CONFIG_NAME
    if file.exists():
        raise ConfigError(
            "there is a translator already; its file is not overwritten. Give another --dir",
            file=file,
        )
    text = render(TranslatorConfig, values)
    # What nobody could start with is not written.
    config = loads(TranslatorConfig, text, file)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the directory: {error.strerror}", file=directory) from error
    write_text(file, text, secret=False)
    return config


@app.default
def translator(  # noqa: PLR0913 - one argument for each option
    *,
    dir: Annotated[Path, Parameter(name="--dir")],  # noqa: A002 - the name of the option
    pool: str,
    authority_key: str = "",
    user: str = "",
    ecash: Annotated[bool, Parameter(negative=())] = False,
    per_worker: Annotated[bool, Parameter(negative=())] = False,
    listen: str = "127.0.0.1:3333",
    tls_listen: str = "",
) -> None:
    """Makes a translator: Stratum V1 devices on pools that speak Stratum V2.

    Args:
        dir: Where to write; must not hold a translator already.
        pool: HOST:PORT of the pool; the file takes more.
        authority_key: The pool's authority public key. Without it whoever answers is trusted.
        user: Whom the pool is to pay. By default the devices' own user names are passed on.
        ecash: Earn ecash; the wallet is made beside the file when the translator starts.
        per_worker: Earn ecash in a wallet for each user name of a device.
        listen: HOST:PORT for devices: an address of your own network, never of the internet.
        tls_listen: HOST:PORT for devices that speak TLS, which needs a certificate beside the file.
    """
    if authority_key:
        AuthorityPublicKey.from_text(authority_key)
    values = {
        "pools[1].address": pool,
        "pools[1].authority_public_key": authority_key,
        "pools[1].ecash": ecash or per_worker,
        "wallet.per_worker": per_worker,
        "devices.user": user,
        "devices.listen": listen,
        "devices.tls_listen": tls_listen,
    }
    config = install_translator(dir, values)
    console = Console(soft_wrap=True, highlight=False)
    where = escape(str(dir))
    console.print(f"[bold]A translator in {where}[/]\n")
    console.print("  translator.toml  the configuration; every key is explained in it")
    if ecash or per_worker:
        console.print("  wallet           made when it first starts, which shows its words once")
    if not authority_key:
        console.print("\n[bold]Nothing names the pool's key:[/] whoever answers is trusted.")
    console.print("\nWhat to do next:")
    if tls_listen:
        console.print(f"  {escape(certificate_line(config.devices, dir))}")
        console.print("     makes a certificate for ten years; or copy one from your ACME client")
    console.print(f"  radpool doctor --translator --dir {where}   checks the way to the pool")
    console.print(f"  radpool translator --dir {where}")
    console.print(f"\nType into your miners: [bold]{escape(pool_line(config.devices.listen))}[/]")
    if tls_listen:
        line = pool_line(Endpoint.parse(tls_listen), "stratum+ssl")
        console.print(f"or, encrypted: [bold]{escape(line)}[/]")


def pool_line(listen: Endpoint, scheme: str = "stratum+tcp") -> str:
    """Returns what is to be typed into a miner as its pool."""
    if listen.host in ANYWHERE:
        return f"{scheme}://THIS-MACHINE:{listen.port}, with this machine's address"
    return f"{scheme}://{listen}"


def certificate_line(devices: Devices, directory: Path) -> str:
    """Returns the command that makes a certificate which nobody else vouches for."""
    host = Endpoint.parse(devices.tls_listen).host
    host = "THIS-MACHINE" if host in ANYWHERE else host
    try:
        name = f"IP:{ip_address(host)}"
    except ValueError:
        name = f"DNS:{host}"
    certificate, key = (
        quote(str(directory / file))
        for file in (devices.tls_certificate_file, devices.tls_key_file)
    )
    return (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "
        f"/CN=translator -addext subjectAltName={name} -addext basicConstraints=critical,CA:FALSE "
        f"-keyout {key} -out {certificate}"
    )
