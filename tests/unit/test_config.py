"""The configuration: round trip, defaults, both sides of every bound, errors that suffice."""

import dataclasses
from pathlib import Path
from typing import get_type_hints

import pytest

from radpool_sv2.config import Endpoint, MspConfig, load, loads, render
from radpool_sv2.config.setting import setting_of
from radpool_sv2.errors import ConfigError

FILE = Path("/srv/msp/msp.toml")
NEEDED = {"keys.authority_public_key": "9a…", "templates.payout_address": "bcrt1q"}
MINIMAL = """
[keys]
authority_public_key = "key"
[templates]
payout_address = "bcrt1q"
"""


def fields():
    for name, section in get_type_hints(MspConfig).items():
        for field in dataclasses.fields(section):
            yield name, field.name, setting_of(field)


def test_a_rendered_file_reads_back_as_the_defaults():
    rendered = loads(MspConfig, render(MspConfig, NEEDED), FILE)
    minimal = loads(MspConfig, MINIMAL, FILE)
    assert rendered.limits == minimal.limits
    assert rendered.mining == minimal.mining
    assert rendered.keys.authority_public_key == "9a…"


def test_a_rendered_file_has_every_key_with_unit_reason_default_and_range():
    text = render(MspConfig, NEEDED)
    for section, key, setting in fields():
        _, _, part = text.partition(f"\n[{section}]\n")
        entry = part[: part.index(f"\n{key} = ")].rpartition("\n\n")[2]
        words = " ".join(line.removeprefix("# ") for line in entry.splitlines())
        assert " ".join(setting.about.split()) in words
        assert "Why: " in words
        assert f"Allowed: {setting.allowed}." in words
        assert not setting.unit or f"Unit: {setting.unit}." in words


def test_replacements_are_written():
    text = render(MspConfig, {**NEEDED, "mining.exponent_min": 7, "http.listen": "[::1]:0"})
    config = loads(MspConfig, text, FILE)
    assert config.mining.exponent_min == 7
    assert config.http.listen == Endpoint("::1", 0)


def test_paths_start_at_the_file():
    config = loads(MspConfig, MINIMAL, FILE)
    assert config.ledger.file == Path("/srv/msp/data/ledger.sqlite")
    absolute = loads(MspConfig, MINIMAL + '[ledger]\nfile = "/var/ledger"\n', FILE)
    assert absolute.ledger.file == Path("/var/ledger")


INTEGERS = [
    (section, key, setting)
    for section, key, setting in fields()
    if isinstance(setting.default, int) and not isinstance(setting.default, bool)
]


@pytest.mark.parametrize(("section", "key", "setting"), INTEGERS, ids=lambda value: str(value)[:40])
def test_integers_hold_both_bounds(section, key, setting):
    low, high = (int(number) for number in setting.allowed.split(" to "))
    assert setting.read(low, FILE.parent) == low
    assert setting.read(high, FILE.parent) == high
    for wrong in (low - 1, high + 1, "1", 1.0, True, [1]):
        with pytest.raises(ValueError, match=r"."):
            setting.read(wrong, FILE.parent)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[limits]\n\nconnections_max = 0\n", "line 3: limits.connections_max = 0: the number"),
        ("[limits]\nconections_max = 1\n", "line 2: limits.conections_max: there is no such key"),
        ("[limits]\nconections_max = 1\n", "did you mean limits.connections_max?"),
        ("[limit]\n", "line 1: limit: there is no such section; did you mean limits?"),
        ("[http]\nlisten = 'localhost'\n", "line 2: http.listen = 'localhost': give HOST:PORT"),
        ("[http]\nlisten = 'a:65536'\n", "'65536' is no port"),
        ("[http]\nlisten = '::1:80'\n", "brackets"),
        ("[http]\nlisten = 80\n", "give text in quotes"),
        ("[node]\nlog_level = 'loud'\n", "one of debug, info, warning, error"),
        ("[mining]\nversion_rolling = 1\n", "give true or false"),
        ("[mining]\npool_text = '" + "x" * 71 + "'\n", "longer than 70 bytes"),
        ('[mining]\npool_text = "a\\u001bb"\n', "cannot be printed"),
        ("[extensions]\nenabled = 'a'\n", "give a list of names"),
        ("[extensions]\nenabled = ['a', 'a']\n", "twice"),
        ("[ledger]\nfile = ''\n", "give a path"),
        ("limits = 3\n", "line 1: limits = 3: is a section: write [limits]"),
        ("[limits\n", "line 1: this is not TOML"),
        ("[limits]\nx = 1\nx = 2\n", "line 3: this is not TOML"),
    ],
)
def test_errors_name_file_line_key_value_and_range(text, expected):
    with pytest.raises(ConfigError) as caught:
        loads(MspConfig, text, FILE)
    assert str(FILE) in str(caught.value)
    assert expected in str(caught.value)


def test_a_missing_key_is_told_with_its_meaning():
    with pytest.raises(ConfigError, match=r"the key is missing\. The key that") as caught:
        loads(MspConfig, "", FILE)
    assert caught.value.key == "keys.authority_public_key"


def test_a_file_that_is_not_there_or_no_text(tmp_path):
    with pytest.raises(ConfigError, match="radpool init msp"):
        load(MspConfig, tmp_path / "msp.toml")
    (tmp_path / "msp.toml").write_bytes(b"[node]\n\xff")
    with pytest.raises(ConfigError, match="line 2: is not UTF-8"):
        load(MspConfig, tmp_path / "msp.toml")
    (tmp_path / "msp.toml").write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(ConfigError, match="another file"):
        load(MspConfig, tmp_path / "msp.toml")


@pytest.mark.parametrize("text", ["127.0.0.1:0", "[::1]:65535", "host.example:3333"])
def test_endpoints_print_as_they_read(text):
    assert str(Endpoint.parse(text)) == text


@pytest.mark.parametrize("text", ["", ":1", "a:", "a:-1", "a:1_0", "a:١", "[::1]", "a"])
def test_endpoints_that_are_none(text):
    with pytest.raises(ValueError, match=r"."):
        Endpoint.parse(text)


BITCOIND = """
[keys]
authority_public_key = "key"
[templates]
payout_address = "bc1q"
source = "bitcoind"
network = "main"
"""


@pytest.mark.parametrize(
    ("more", "key", "says"),
    [
        ("", "rpc_urls", "needs the node's RPC interface"),
        ('rpc_urls = ["127.0.0.1:8332"]', "rpc_urls", "is no address"),
        ('rpc_urls = ["http://127.0.0.1"]', "rpc_urls", "is no address"),
        ('rpc_urls = ["http://me:pw@127.0.0.1:8332"]', "rpc_urls", "rpc_password_file"),
        ('rpc_urls = ["http://127.0.0.1:8332/wallet/x"]', "rpc_urls", "more than scheme"),
        ('rpc_urls = ["http://127.0.0.1:8332"]', "rpc_cookie_files", "1 nodes"),
        (
            'rpc_urls = ["http://127.0.0.1:8332"]\nrpc_user = "u"\nrpc_cookie_files = ["c"]',
            "rpc_cookie_files",
            "rpc_user logs in",
        ),
        (
            'rpc_urls = ["http://a:1", "http://b:1"]\nrpc_user = "u"\nzmq_urls = ["tcp://a:2"]',
            "zmq_urls",
            "one address for each node",
        ),
        (
            'rpc_urls = ["http://a:1"]\nrpc_user = "u"\nzmq_urls = ["http://a:2"]',
            "zmq_urls",
            "is no address",
        ),
    ],
)
def test_nodes_that_cannot_be_asked_are_refused(more, key, says):
    with pytest.raises(ConfigError, match=says) as caught:
        loads(MspConfig, BITCOIND + more, FILE)
    assert caught.value.key == f"templates.{key}"
    assert "pw" not in str(caught.value)


def test_nodes_are_named_in_the_configuration():
    more = 'rpc_urls = ["http://127.0.0.1:8332"]\nrpc_cookie_files = ["../b/.cookie"]'
    config = loads(MspConfig, BITCOIND + more, FILE)
    assert config.templates.rpc_cookie_files == (Path("/srv/msp/../b/.cookie"),)
    with pytest.raises(ConfigError, match="embedded chain is regtest"):
        loads(MspConfig, BITCOIND.replace("bitcoind", "embedded"), FILE)


def test_miners_are_promised_ten_minutes_but_on_regtest():
    short = "\n[declarator]\nreveal_deadline_ms = 5000\n"
    assert loads(MspConfig, MINIMAL + short, FILE).declarator.reveal_deadline_ms == 5_000
    node = 'rpc_urls = ["http://127.0.0.1:8332"]\nrpc_cookie_files = ["c"]'
    main = BITCOIND + node
    assert loads(MspConfig, main, FILE).declarator.reveal_deadline_ms == 600_000
    with pytest.raises(ConfigError, match="ten minutes") as caught:
        loads(MspConfig, main + short, FILE)
    assert caught.value.key == "declarator.reveal_deadline_ms"
