"""The command line: help everywhere, plain words and exit statuses, no tracebacks for mistakes."""

import json
import sys

import pytest
import trio

from radpool_sv2.cli import main
from radpool_sv2.config import MspConfig, load
from radpool_sv2.errors import ConfigError, StoreError
from radpool_sv2.keyfile import load_keys
from radpool_sv2.ledger import Ledger
from radpool_sv2.units import tagged_hash

SV1_AND_SV2 = ("miner", "--sv1", "a:1", "--connect", "b:1")
COMMANDS = [
    "certify",
    "chain",
    "demo",
    "doctor",
    "init",
    "miner",
    "msp",
    "status",
    "template-provider",
    "verify",
    "wallet",
]


@pytest.fixture
def radpool(monkeypatch, capsys):
    """Runs a command line; returns exit status, stdout, stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["radpool", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as left:
            status = left.code or 0
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return run


def test_help_lists_every_command(radpool):
    status, out, _ = radpool("--help")
    assert status == 0
    assert all(f" {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(radpool, name):
    status, out, _ = radpool(name, "--help")
    assert status == 0
    assert f"radpool {name}" in out


@pytest.mark.parametrize(
    "arguments",
    [("nosuch",), ("msp", "--nosuch"), ("init", "msp"), ("miner",), ("verify",), SV1_AND_SV2],
)
def test_a_wrong_command_line_is_status_2(radpool, arguments):
    status, _, err = radpool(*arguments)
    assert status == 2
    assert err


def test_init_doctor_certify(radpool, tmp_path):
    where = tmp_path / "msp"
    status, out, _ = radpool("init", "msp", "--dir", where)
    assert status == 0
    assert "What to do next" in out
    assert f"radpool msp --dir {where}" in out

    config = where / "msp.toml"
    text = config.read_text().replace("0.0.0.0:3333", "127.0.0.1:0")
    text = text.replace("0.0.0.0:3334", "127.0.0.1:0")
    config.write_text(text.replace("127.0.0.1:9090", "127.0.0.1:0"))
    status, out, _ = radpool("doctor", "--dir", where, "--json")
    findings = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert {"clock", "keys", "certificate", "ports", "disk", "open files"} <= {
        finding["subject"] for finding in findings
    }
    ports = " ".join(finding["text"] for finding in findings if finding["subject"] == "ports")
    for key in ("mining.listen", "http.listen", "declarator.listen"):
        assert f"{key} = 127.0.0.1:0 is free" in ports

    status, out, _ = radpool("certify", "--dir", where, "--days", 7)
    assert status == 0
    assert "valid until" in out


def test_init_does_not_overwrite(radpool, tmp_path):
    assert radpool("init", "msp", "--dir", tmp_path)[0] == 0
    status, _, err = radpool("init", "msp", "--dir", tmp_path)
    assert status == 1
    assert err.startswith("radpool: ")
    assert "there is an MSP already" in err


def test_doctor_finds_what_is_bad(radpool, tmp_path):
    radpool("init", "msp", "--dir", tmp_path)
    (tmp_path / "keys" / "server.cert").write_text("00")
    config = tmp_path / "msp.toml"
    text = config.read_text().replace('listen = "0.0.0.0:3333"', 'listen = "192.0.2.1:1"')
    lines = [
        'payout_address = "bc1q"' if line.startswith("payout_address") else line
        for line in text.splitlines()
    ]
    config.write_text("\n".join(lines))
    status, out, _ = radpool("doctor", "--dir", tmp_path, "--json")
    bad = {
        finding["subject"]
        for finding in map(json.loads, out.splitlines())
        if finding["verdict"] == "bad"
    }
    assert status == 1
    assert bad == {"keys", "ports", "payout address"}


def test_doctor_without_a_node(radpool, tmp_path):
    status, out, _ = radpool("doctor", "--dir", tmp_path)
    assert status == 1
    assert "radpool init msp" in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("miner", "--sv1", "a:1", "--authority-key", "k"), "--authority-key"),
        (("miner", "--sv1", "a:1", "--wallet", "w"), "the translator has them"),
        (("miner", "--sv1", "a:1", "--kind", "standard"), "--kind"),
        (("msp",), "give either --dir or --config"),
        (("msp", "--dir", "a", "--config", "b"), "give either --dir or --config"),
        (("msp", "--dir", "/nonexistent"), "cannot read the configuration"),
        (("status",), "give either --dir or --http"),
        (("status", "--http", "127.0.0.1:1"), "does not answer"),
        (("certify", "--dir", "/nonexistent"), "cannot read the configuration"),
    ],
)
def test_mistakes_in_plain_words(radpool, arguments, expected):
    status, _, err = radpool(*arguments)
    assert status == 1
    assert err.startswith("radpool: ")
    assert expected in err


def test_status_of_a_node_that_does_not_run(radpool, tmp_path):
    radpool("init", "msp", "--dir", tmp_path)
    status, _, err = radpool("status", "--dir", tmp_path)
    assert status == 1
    assert "no radpool runs on this directory" in err


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ExceptionGroup("", [ConfigError("one"), StoreError("two")]), 1),
        (BaseExceptionGroup("", [KeyboardInterrupt(), StoreError("two")]), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_of_nurseries_are_taken_apart(radpool, monkeypatch, error, expected):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("radpool_sv2.cli.init.install_msp", fail)
    status, _, err = radpool("init", "msp", "--dir", "x")
    assert status == expected
    assert expected == 130 or err == "radpool: one\nradpool: two\n"


def test_our_own_bugs_are_not_hidden(radpool, monkeypatch):
    def fail(*_, **__):
        raise ExceptionGroup("", [ZeroDivisionError("a bug"), ConfigError("and a mistake")])

    monkeypatch.setattr("radpool_sv2.cli.init.install_msp", fail)
    with pytest.raises(ExceptionGroup):
        radpool("init", "msp", "--dir", "x")


def test_an_account_can_be_opened_to_its_owner(radpool, tmp_path):
    """The opening is what spec/02-owner-tag.md hashes: OT-1, OT-2."""
    node = tmp_path / "msp"
    assert radpool("init", "msp", "--dir", node)[0] == 0
    status, _, err = radpool("verify", "opening", "alice", "--dir", node)
    assert (status, "start the node once" in err) == (1, True)
    config = load(MspConfig, node / "msp.toml")
    config.node.data_dir.mkdir()

    async def open_account():
        key = load_keys(config.keys).msp
        ledger = await Ledger.open(config.ledger.file, key, maturity_blocks=1)
        account = await ledger.account("alice")
        await ledger.close()
        return account

    account = trio.run(open_account)
    status, out, _ = radpool("verify", "opening", "alice", "--dir", node, "--json")
    told = json.loads(out)
    assert status == 0
    assert bytes.fromhex(told["commitment"]) == account.commitment
    salt = bytes.fromhex(told["salt"])
    assert tagged_hash("radpool/account", b"alice", salt) == account.commitment
    assert account.salt.hex() in radpool("verify", "opening", "alice", "--dir", node)[1]
    status, _, err = radpool("verify", "opening", "bob", "--dir", node)
    assert (status, "nobody has mined as 'bob'" in err) == (1, True)
