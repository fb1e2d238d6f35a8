"""`radpool certify`: signs the listener's key for another span of days."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from radpool_sv2._native.keys import StaticKey
from radpool_sv2.config import MspConfig, load
from radpool_sv2.installation import CONFIG_NAME
from radpool_sv2.keyfile import load_authority_key, read_text, sign_certificate, write_text

app = App(name="certify")


@app.default
def certify(
    *,
    dir: Annotated[Path, Parameter(name="--dir")],  # noqa: A002 - the name of the option
    authority_key_file: Path | None = None,
    days: Annotated[int | None, Parameter(validator=Number(gte=1, lte=3650))] = None,
) -> None:
    """Signs the listener's key again with the authority's key. A running node takes it up.

    Args:
        dir: The directory of the node.
        authority_key_file: Where the authority's key is, if not where the configuration says.
        days: How long the certificate is to be valid; the configuration's number by default.
    """
    config = load(MspConfig, dir / CONFIG_NAME).keys
    authority = load_authority_key(
        authority_key_file or config.authority_key_file, config.authority_public_key
    )
    static_key = StaticKey.from_text(
        read_text(config.server_key_file, "the listener's key", secret=True)
    )
    certificate = sign_certificate(authority, static_key, days or config.certificate_days)
    text = certificate.to_bytes().hex()
    write_text(config.certificate_file, text, secret=False, replace=True)
    end = datetime.fromtimestamp(certificate.not_valid_after, UTC)
    print(f"{config.certificate_file}: valid until {end:%Y-%m-%d %H:%M} UTC")
