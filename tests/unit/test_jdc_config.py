"""The configuration of a job declarator client: round trip, bounds, and repeated sections."""

import dataclasses
import tomllib
from pathlib import Path
from typing import get_type_hints

import pytest

from radpool_sv2.config import Endpoint, load, loads, render
from radpool_sv2.config.jdc import JdcConfig, PolicySection, PoolSection
from radpool_sv2.config.reader import repeated_section
from radpool_sv2.config.setting import setting_of
from radpool_sv2.errors import ConfigError

FILE = Path("/srv/jdc/jdc.toml")
SOLO = {"templates.payout_address": "bcrt1q"}


def pool(number, **keys):
    first = {
        "address": f"pool{number}.example:3333",
        "authority_public_key": "9a",
        "declarator": f"pool{number}.example:3334",
        "user": "alice.rig",
    }
    return {f"pools[{number}].{key}": value for key, value in (first | keys).items()}


def written(*pools, **values):
    together = SOLO | values
    for each in pools:
        together |= each
    return render(JdcConfig, together)


def fields():
    for name, section in get_type_hints(JdcConfig).items():
        section = repeated_section(section) or section
        for field in dataclasses.fields(section):
            yield name, field.name, setting_of(field)


def test_a_rendered_file_reads_back():
    config = loads(JdcConfig, written(pool(1), pool(2, ecash=True, user="")), FILE)
    assert [each.address for each in config.pools] == [
        Endpoint("pool1.example", 3333),
        Endpoint("pool2.example", 3333),
    ]
    assert [each.ecash for each in config.pools] == [False, True]
    assert config.pools[0].mode == "full-template"
    assert config.wallet.dir == Path("/srv/jdc/wallet")


def test_without_pools_it_mines_solo():
    assert loads(JdcConfig, written(), FILE).pools == ()


def test_a_rendered_file_explains_every_key():
    text = written(pool(1))
    for section, key, setting in fields():
        header = f"\n[[{section}]]\n" if section == "pools" else f"\n[{section}]\n"
        _, _, part = text.partition(header)
        entry = part[: part.index(f"\n{key} = ")].rpartition("\n\n")[2]
        words = " ".join(line.removeprefix("# ") for line in entry.splitlines())
        assert " ".join(setting.about.split()) in words
        assert f"Allowed: {setting.allowed}." in words


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
    for wrong in (low - 1, high + 1, "1", 1.0, True):
        with pytest.raises(ValueError, match=r"."):
            setting.read(wrong, FILE.parent)


def test_a_fault_in_a_repeated_section_names_its_place():
    text = written(pool(1), pool(2)).replace('"pool2.example:3333"', '"pool2.example"')
    with pytest.raises(ConfigError) as caught:
        loads(JdcConfig, text, FILE)
    assert caught.value.key == "pools[2].address"
    lines = text.splitlines()
    assert lines[caught.value.line - 1] == 'address = "pool2.example"'


def test_a_misspelt_key_of_a_repeated_section_is_told_with_the_right_one():
    text = written(pool(1)).replace('\nuser = "alice.rig"', '\nusers = "alice.rig"')
    with pytest.raises(ConfigError, match=r"pools\[1\]\.users.*did you mean pools\[1\]\.user\?"):
        loads(JdcConfig, text, FILE)


def test_a_missing_key_of_a_repeated_section_is_told_with_its_line():
    text = written(pool(1)).replace('\ndeclarator = "pool1.example:3334"', "")
    with pytest.raises(ConfigError) as caught:
        loads(JdcConfig, text, FILE)
    assert caught.value.key == "pools[1].declarator"
    assert text.splitlines()[caught.value.line - 1] == "[[pools]]"


@pytest.mark.parametrize("wrong", ["pools = 1", "[pools]\naddress = 'x:1'", "pools = [1]"])
def test_a_repeated_section_must_be_written_as_one(wrong):
    text = f"{wrong}\n[templates]\npayout_address = 'x'\n"
    tomllib.loads(text)
    with pytest.raises(ConfigError, match=r"write \[\[pools\]\]"):
        loads(JdcConfig, text, FILE)


def test_a_pool_must_know_whom_to_pay():
    with pytest.raises(ConfigError, match=r"pools\[2\]\.user"):
        loads(JdcConfig, written(pool(1), pool(2, user="")), FILE)


def test_ecash_needs_full_templates():
    text = written(pool(1, ecash=True, mode="coinbase-only"))
    with pytest.raises(ConfigError, match="cannot be taken back"):
        loads(JdcConfig, text, FILE)


def test_a_pool_has_a_port():
    with pytest.raises(ConfigError, match="a pool has a port above 0"):
        loads(JdcConfig, written(pool(1, address="pool.example:0")), FILE)


def test_the_easiest_share_is_not_harder_than_the_hardest():
    text = written(**{"mining.exponent_min": 20, "mining.exponent_max": 19})
    with pytest.raises(ConfigError, match=r"mining\.exponent_min"):
        loads(JdcConfig, text, FILE)


def test_rules_are_noticed(tmp_path):
    file = tmp_path / "jdc.toml"
    file.write_text(written())
    policy = load(JdcConfig, file).policy
    assert policy.asks_for_nothing()
    assert not dataclasses.replace(policy, feerate_min_sat_per_kvb=1).asks_for_nothing()
    assert not dataclasses.replace(policy, exclude_addresses=("x",)).asks_for_nothing()
    assert not dataclasses.replace(policy, weight_max=3_999_999).asks_for_nothing()
    (tmp_path / "include").mkdir()
    assert not policy.asks_for_nothing()
    assert isinstance(policy, PolicySection)
    assert PoolSection.__doc__
