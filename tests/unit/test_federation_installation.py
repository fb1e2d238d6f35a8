"""Directories of members, records and committees as files."""

import json

import pytest

from radpool_sv2._native.threshold import IdentityKey
from radpool_sv2.cli import federation
from radpool_sv2.cli.federation import init
from radpool_sv2.config import load, loads, render
from radpool_sv2.config.federation import FederationConfig
from radpool_sv2.errors import ConfigError
from radpool_sv2.federation.installation import (
    CONFIG_NAME,
    RECORD_NAME,
    Convention,
    install_member,
    read_record,
)
from radpool_sv2.federation.state.rules import PayoutMode
from radpool_sv2.installation import install_msp
from radpool_sv2.keyfile import write_text
from radpool_sv2.network import REGTEST as REGTEST_CHAIN
from radpool_sv2.weight import REAL, REGTEST, WeightMode

CHAIN = bytes(range(32))


def members(tmp_path, count=4):
    return [
        install_member(tmp_path / f"{each}", (f"127.0.0.1:{9_000 + each}",))
        for each in range(count)
    ]


def test_a_member_has_keys_that_only_it_can_read_and_a_signed_record(tmp_path):
    made = install_member(tmp_path / "a", ("pool.example:8444", "[::1]:8444"))
    record = read_record(made.record)
    assert record.identity == made.identity
    assert record.addresses == ("pool.example:8444", "[::1]:8444")
    for name in ("identity.key", "transport.key"):
        assert (tmp_path / "a" / "keys" / name).stat().st_mode & 0o777 == 0o600
    settings = load(FederationConfig, tmp_path / "a" / CONFIG_NAME)
    assert settings.member.identity_key_file == tmp_path / "a" / "keys" / "identity.key"
    with pytest.raises(ConfigError, match="not overwritten"):
        install_member(tmp_path / "a", ())
    with pytest.raises(ConfigError, match="no address of a member"):
        install_member(tmp_path / "b", ("pool.example",))
    with pytest.raises(ConfigError, match="at most 8 addresses"):
        install_member(tmp_path / "c", ("a:1",) * 9)


def test_the_file_of_a_committee_is_the_same_whoever_makes_it(tmp_path):
    records = [read_record(made.record) for made in members(tmp_path)]
    convention = Convention.of(records, chain=CHAIN, height_first=7)
    other = Convention.of(records[::-1], chain=CHAIN, height_first=7)
    assert convention == other
    file = tmp_path / "committee.json"
    convention.write(file)
    assert Convention.read(file) == convention
    convention.write(file)
    another = Convention.of(records, chain=CHAIN, height_first=8)
    with pytest.raises(ConfigError, match="not overwritten"):
        another.write(file)
    assert Convention.read(file).committee.height_first == 7


def test_the_file_of_a_committee_has_the_rules(tmp_path):
    records = [read_record(made.record) for made in members(tmp_path)]
    file = tmp_path / "committee.json"
    agreed = {
        "payout": PayoutMode.DIRECT,
        "mode": WeightMode.DIFFICULTY,
        "scale": REGTEST,
        "window": 3,
        "exponent_floor": 2,
        "recovery_blocks": (200, 300),
    }
    made = Convention.of(records, chain=CHAIN, height_first=7, interval=2, agreed=agreed)
    assert made.rules.msp_keys == made.committee.members
    assert (made.rules.faulty_max, made.rules.quorum) == (1, made.committee.quorum)
    assert (made.rules.height_first, made.rules.interval, made.rules.window) == (7, 2, 3)
    made.write(file)
    assert Convention.read(file) == made
    with pytest.raises(ConfigError, match="not overwritten"):
        Convention.of(records, chain=CHAIN, height_first=7, interval=2).write(file)
    fields = json.loads(file.read_text())
    for change in (
        {"window": 0},
        {"window": "many"},
        {"payout": "me"},
        {"recovery_blocks": [1]},
        {"scale": {"bits": 1}},
        {"unknown": 1},
    ):
        file.write_text(json.dumps(fields | {"rules": fields["rules"] | change}))
        with pytest.raises(ConfigError):
            Convention.read(file)
    for agreed in ({"window": 0}, {"nothing": 1}):
        with pytest.raises(ConfigError, match="no rules"):
            Convention.of(records, chain=CHAIN, height_first=7, agreed=agreed)


def test_the_member_of_an_msp_has_its_key(tmp_path):
    secret = IdentityKey.generate()
    file = tmp_path / "msp.key"
    write_text(file, secret.expose_secret().hex(), secret=True)
    made = install_member(tmp_path / "a", (), msp_key=file)
    assert made.identity == secret.public == read_record(made.record).identity
    settings = load(FederationConfig, tmp_path / "a" / CONFIG_NAME)
    assert settings.member.identity_key_file == file
    assert not (tmp_path / "a" / "keys" / "identity.key").exists()
    write_text(file, "zz", secret=True, replace=True)
    with pytest.raises(ConfigError, match="not an MSP key"):
        install_member(tmp_path / "b", (), msp_key=file)
    assert not (tmp_path / "b" / CONFIG_NAME).exists()


def test_the_command_takes_the_key_that_an_msp_is_configured_with(tmp_path, capsys):
    made = install_msp(tmp_path / "msp")
    init(dir=tmp_path / "member", msp_dir=tmp_path / "msp", listen="127.0.0.1:0")
    assert made.msp_public_key.hex() in capsys.readouterr().out
    settings = load(FederationConfig, tmp_path / "member" / CONFIG_NAME)
    assert settings.member.identity_key_file == tmp_path / "msp" / "keys" / "msp.key"
    with pytest.raises(ConfigError):
        init(dir=tmp_path / "other", msp_dir=tmp_path / "nowhere")


def test_who_invites_agrees_on_the_rules_of_the_own_chain(tmp_path, monkeypatch, capsys):
    made = members(tmp_path)
    chain = [bytes.fromhex(REGTEST_CHAIN.first_block)[::-1]]

    async def first_block(_section):
        return chain[0], 5

    monkeypatch.setattr(federation, "first_block", first_block)
    here, file = tmp_path / "0", tmp_path / "0" / "committee.json"
    federation.invite(made[1].record, dir=here, payout="direct", window=3)
    rules = Convention.read(file).rules
    assert (rules.payout, rules.scale, rules.window) == (PayoutMode.DIRECT, REGTEST, 3)
    assert (rules.height_first, rules.exponent_floor) == (6, REGTEST.base)
    assert rules.digest.hex() in capsys.readouterr().out
    file.unlink()
    federation.invite(made[1].record, dir=here)
    assert "no share will count" in capsys.readouterr().out.replace("\n", " ")
    file.unlink()
    federation.invite(*(each.record for each in made[1:]), dir=here, network="main", mode="value")
    assert "no share will count" not in capsys.readouterr().out.replace("\n", " ")
    rules = Convention.read(file).rules
    assert (rules.scale, rules.exponent_floor) == (REAL, REAL.base)
    file.unlink()
    with pytest.raises(ConfigError, match="no network"):
        federation.invite(made[1].record, dir=here, network="chain")
    with pytest.raises(ConfigError, match="no rules"):
        federation.invite(made[1].record, dir=here, lateness=1)
    chain[0] = CHAIN
    with pytest.raises(ConfigError, match="of no network"):
        federation.invite(made[1].record, dir=here)
    assert not file.exists()


def test_files_that_are_none_are_refused(tmp_path):
    records = [read_record(made.record) for made in members(tmp_path, 2)]
    with pytest.raises(ConfigError, match="no committee"):
        Convention.of([*records, records[0]], chain=CHAIN, height_first=1)
    file = tmp_path / "committee.json"
    with pytest.raises(ConfigError, match="cannot read"):
        Convention.read(file)
    Convention.of(records, chain=CHAIN, height_first=1).write(file)
    fields = json.loads(file.read_text())
    for name in fields:
        less = {key: value for key, value in fields.items() if key != name}
        file.write_text(json.dumps(less))
        with pytest.raises(ConfigError, match="holds no committee"):
            Convention.read(file)
    tampered = bytearray.fromhex(fields["members"][0])
    tampered[40] ^= 1
    file.write_text(json.dumps(fields | {"members": [tampered.hex(), fields["members"][1]]}))
    with pytest.raises(ConfigError, match="no record of a member"):
        Convention.read(file)
    record = tmp_path / "0" / RECORD_NAME
    record.write_text("zz\n")
    with pytest.raises(ConfigError, match="no record of a member"):
        read_record(record)


def test_the_configuration_reads_back_and_is_checked(tmp_path):
    file = tmp_path / CONFIG_NAME
    values = {"links.listen": "127.0.0.1:0", "chain.poll_ms": 50}
    settings = loads(FederationConfig, render(FederationConfig, values), file)
    assert str(settings.links.listen) == "127.0.0.1:0"
    assert settings.chain.poll_ms == 50
    with pytest.raises(ConfigError, match="twice") as error:
        loads(FederationConfig, "[links]\nsilence_ms = 29999\n", file)
    assert error.value.line == 2
    loads(FederationConfig, "[links]\nsilence_ms = 30000\n", file)
