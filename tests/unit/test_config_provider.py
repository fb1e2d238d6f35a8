"""The configuration of a template provider, and of who takes templates from one."""

from pathlib import Path

import pytest

from radpool_sv2._native.keys import AuthoritySecretKey
from radpool_sv2.config import loads, render
from radpool_sv2.config.template_provider import TemplateProviderConfig
from radpool_sv2.errors import ConfigError
from radpool_sv2.sources import choose_source
from radpool_sv2.template_provider.installation import install_template_provider
from radpool_sv2.templates.tdp import TdpSource

FILE = Path("/etc/radpool/template-provider.toml")
KEY = AuthoritySecretKey.generate().public_key().to_text()


def read(**templates):
    values = {f"templates.{name}": value for name, value in templates.items()}
    return loads(TemplateProviderConfig, render(TemplateProviderConfig, values), FILE)


def test_defaults_are_on_this_machine_and_kind_to_sri():
    config = read()
    assert str(config.provider.listen) == "127.0.0.1:8336"
    assert not config.provider.future_ahead
    assert not config.provider.repeat_on_tip
    assert config.templates.source == "embedded"
    assert config.keys.authority_key_file == FILE.parent / "keys" / "authority.key"


def test_a_payout_address_is_nothing_that_a_provider_has():
    text = render(TemplateProviderConfig, {})
    assert "payout_address" not in text
    with pytest.raises(ConfigError, match="payout_address"):
        loads(TemplateProviderConfig, text + 'payout_address = "x"\n', FILE)


def test_a_provider_may_stand_before_a_provider(tmp_path):
    for key in ("", KEY):
        config = read(source="tdp", tdp_address="[::1]:8336", tdp_authority_key=key)
        source = choose_source(config.templates, tmp_path)
        assert isinstance(source, TdpSource)
        assert "templates.rpc_urls" in " ".join(source.problems())
    beside = read(
        source="tdp",
        tdp_address="tp.example:8336",
        rpc_urls=["http://127.0.0.1:8332"],
        rpc_cookie_files=["/home/bitcoin/.cookie"],
    )
    assert isinstance(choose_source(beside.templates, tmp_path), TdpSource)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "needs the template provider's address"),
        ({"tdp_address": "127.0.0.1"}, "templates.tdp_address"),
        ({"tdp_address": "127.0.0.1:99999"}, "no port"),
        ({"tdp_address": "::1:8336"}, "brackets"),
        ({"tdp_address": "127.0.0.1:1", "tdp_authority_key": "9x"}, "templates.tdp_authority_key"),
        ({"tdp_address": "127.0.0.1:1", "rpc_urls": ["http://127.0.0.1:8332"]}, "rpc_cookie_files"),
        ({"tdp_address": "127.0.0.1:1", "rpc_urls": ["ftp://127.0.0.1:1"]}, "rpc_urls"),
    ],
)
def test_mistakes_are_told_with_the_key(settings, words):
    with pytest.raises(ConfigError) as told:
        read(source="tdp", **settings)
    assert words in str(told.value)


def test_an_installation_can_be_read_back(tmp_path):
    made = install_template_provider(tmp_path / "tp")
    config = loads(TemplateProviderConfig, made.config.read_text(), made.config)
    secret = AuthoritySecretKey.from_text(config.keys.authority_key_file.read_text().strip())
    assert secret.public_key().to_text() == made.authority_public_key
    assert config.keys.authority_key_file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="not overwritten"):
        install_template_provider(tmp_path / "tp")
