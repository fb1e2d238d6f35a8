"""What `radpool doctor` and `radpool status` say about the mint."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from radpool_sv2.cli.status import _picture
from radpool_sv2.config import MspConfig, load
from radpool_sv2.doctor import Verdict, _mint
from radpool_sv2.installation import CONFIG_NAME, install_msp


@pytest.fixture
def node(tmp_path):
    install_msp(tmp_path)
    return tmp_path


def set_(file, section: str, **values: str) -> None:
    """Sets keys of a section, wherever they stand."""
    lines, inside = [], False
    for line in file.read_text().splitlines():
        if line.startswith("["):
            inside = line == f"[{section}]"
        key = line.lstrip("# ").split(" =")[0]
        if not (inside and key in values):
            lines.append(line)
        if line == f"[{section}]":
            lines += [f"{name} = {value}" for name, value in values.items()]
    file.write_text("\n".join(lines) + "\n")


def verdicts(node) -> list[tuple[Verdict, str]]:
    return [(each.verdict, each.text) for each in _mint(load(MspConfig, node / CONFIG_NAME))]


def test_a_node_without_a_mint_is_fine(node):
    set_(node / CONFIG_NAME, "ecash", enabled="false")
    [(verdict, text)] = verdicts(node)
    assert verdict is Verdict.GOOD
    assert "not enabled" in text


def test_a_mint_that_is_set_up_is_fine(node):
    set_(node / CONFIG_NAME, "ecash", enabled="true", url='"http://pool.example:9090"')
    set_(node / CONFIG_NAME, "extensions", enabled='["ecash"]')
    [(verdict, text)] = verdicts(node)
    assert verdict is Verdict.GOOD
    assert "window, pool, network" in text


def test_what_an_operator_should_know_is_said(node):
    set_(
        node / CONFIG_NAME,
        "ecash",
        enabled="true",
        url='""',
        advance_cap_sats="5000",
        policies='["fixed"]',
        fixed_price_msat="7",
    )
    set_(node / CONFIG_NAME, "extensions", enabled="[]")
    said = verdicts(node)
    assert {verdict for verdict, _ in said} == {Verdict.WARNING}
    texts = " ".join(text for _, text in said)
    for words in ("miners cannot reach it", "ecash.url is empty", "5,000 sat of your own", "fixed"):
        assert words in texts


@pytest.mark.parametrize("content", [None, "00", "not hex"])
def test_a_mint_without_its_key_is_bad(node, content):
    set_(node / CONFIG_NAME, "ecash", enabled="true")
    file = node / "keys" / "mint.key"
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    [(verdict, text)] = verdicts(node)
    assert verdict is Verdict.BAD
    assert "mint.key" in text


def test_the_status_shows_the_mint_exactly():
    now = {
        "tip_height": 5,
        "epoch": 2,
        "sv2": "127.0.0.1:1",
        "template": None,
        "problems": [],
        "mint": {
            "claims": 1234,
            "keysets": {"open": 3, "final": 1},
            "theta_msat": 4_950_000_000_001,
            "issued_msat": 12_000,
            "carry_msat": 999,
            "liabilities_sats": 12,
            "advance_used_msat": 0,
            "advance_cap_msat": 1_000,
        },
    }
    rows = {"items": []}
    pages = dict.fromkeys(("clients", "accounts", "blocks", "declarers"), rows)
    seen = {"status": now, **pages}
    text = shown(seen)
    for words in (
        "1,234 shares have tokens; keysets: 3 open, 1 final",
        "settled 4,950,000,000.001 sat, redeemed 12 sat, carried on 0.999 sat",
        "12 sat in tokens; advanced 0 sat of at most 1 sat",
    ):
        assert words in text, text
    seen["status"] = {key: value for key, value in now.items() if key != "mint"}
    assert "mint:" not in shown(seen)


def shown(seen) -> str:
    out = io.StringIO()
    Console(width=120, file=out).print(_picture(seen))
    return out.getvalue()
