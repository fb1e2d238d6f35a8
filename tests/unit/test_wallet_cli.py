"""`radpool wallet`: what people and programs read, and that a mistake costs nothing."""

import io
import json
import sys

import httpx
import pytest
import trio
from wallet_rig.mint import URL, FakeMint
from wallet_rig.play import earn

from radpool_sv2.cli import main
from radpool_sv2.wallet import Wallet
from radpool_sv2.wallet import wallet as facade
from radpool_sv2.wallet.mint import MintClient
from radpool_sv2.wallet.seed import check_words

COMMANDS = [
    "balance",
    "create",
    "epochs",
    "history",
    "merge",
    "receive",
    "redeem",
    "restore",
    "send",
    "words",
]


@pytest.fixture
def mint():
    return FakeMint()


@pytest.fixture
def radpool(monkeypatch, capsys, mint):
    """Runs a command line with the mint beside it; returns exit status, stdout, stderr."""
    monkeypatch.setattr(facade, "MintClient", lambda url, _: MintClient(url, mint.transport()))

    def run(*arguments, stdin=""):
        monkeypatch.setattr(sys, "argv", ["radpool", "wallet", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        status = 0
        try:
            main()
        except SystemExit as left:
            status = left.code or 0
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return run


@pytest.fixture
def directory(radpool, tmp_path):
    assert radpool("create", "--dir", tmp_path / "w", "--mint", URL)[0] == 0
    return tmp_path / "w"


def mine(directory, mint, amounts, theta_msat=None, **more):
    async def work():
        keyset_id = mint.open()
        async with Wallet.using(directory) as wallet:
            await earn(wallet, mint, keyset_id, amounts)
        if theta_msat is not None:
            mint.close(keyset_id, theta_msat, **more)
        return keyset_id.hex()

    return trio.run(work)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(radpool, name):
    status, out, _ = radpool(name, "--help")
    assert status == 0
    assert f"radpool wallet {name}" in out
    assert "--dir" in out
    assert "--json" in out


def test_create_shows_the_words(radpool, tmp_path, mint):
    status, out, _ = radpool("create", "--dir", tmp_path / "w", "--mint", URL)
    assert status == 0
    [words] = [line for line in out.splitlines() if line.startswith("    ")]
    assert check_words(words)
    assert mint.key.public.hex() in out
    assert radpool("words", "--dir", tmp_path / "w")[1].strip() == words.strip()


def test_create_does_not_overwrite(radpool, directory):
    before = radpool("words", "--dir", directory)[1]
    status, _, err = radpool("create", "--dir", directory)
    assert (status, "not overwritten" in err) == (1, True)
    # With a mint it only adds the mint.
    status, out, _ = radpool("create", "--dir", directory, "--mint", URL, "--json")
    assert (status, json.loads(out)["words"]) == (0, None)
    assert radpool("words", "--dir", directory)[1] == before


def test_create_with_a_mint_that_is_away_keeps_the_words(radpool, tmp_path, mint):
    mint.on_request = lambda *_: httpx.Response(502)
    status, out, err = radpool("create", "--dir", tmp_path / "w", "--mint", URL, "--json")
    assert (status, "is that a mint's address" in err) == (1, True)
    assert (
        json.loads(radpool("words", "--dir", tmp_path / "w", "--json")[1])["words"]
        == (json.loads(out)["words"])
    )


def test_create_with_another_key(radpool, tmp_path):
    status, _, err = radpool(
        "create", "--dir", tmp_path / "w", "--mint", URL, "--mint-key", "02" * 33
    )
    assert (status, "it is another one" in err) == (1, True)
    status, _, err = radpool("create", "--dir", tmp_path / "v", "--mint", URL, "--mint-key", "xy")
    assert (status, "66 hex digits" in err) == (1, True)
    assert not (tmp_path / "v").exists()


def test_from_work_to_sats(radpool, directory, mint):
    keyset = mine(directory, mint, [4] * 30 + [8], 640_000, after=250)
    found = json.loads(radpool("balance", "--dir", directory, "--json")[1])
    [line] = found["epochs"]
    assert (line["units"], line["hashes"], line["sats"]) == (128, str(128 << mint.z0), 640)
    status, out, _ = radpool("balance", "--dir", directory)
    assert (status, "640 sat" in out, "floor(" in out) == (0, True, True)
    status, out, _ = radpool("epochs", "--dir", directory)
    assert (status, "final" in out) == (0, True)
    status, out, _ = radpool("redeem", "--dir", directory)
    assert (status, "from height 250 on: in 50 blocks" in out) == (0, True)
    status, out, _ = radpool("redeem", "--dir", directory, "--early")
    assert (status, "immature" in out) == (0, True)
    mint.tip = 250
    done = json.loads(radpool("redeem", "--dir", directory, "--keyset", keyset[:10], "--json")[1])
    assert done["sats"] == 640
    assert done["redeemed"][0]["keyset"] == keyset
    assert done["redeemed"][0]["theta_msat"] == 640_000
    found = json.loads(radpool("balance", "--dir", directory, "--json")[1])
    assert (found["sats"], found["epochs"], found["fresh"]) == (640, [], True)
    events = json.loads(radpool("history", "--dir", directory, "--json")[1])["events"]
    assert [event["kind"] for event in events] == ["earn", "merge", "redeem"]
    assert "redeem" in radpool("history", "--dir", directory)[1]
    shown = json.loads(radpool("epochs", "--all", "--dir", directory, "--json")[1])["epochs"]
    assert [line["keyset"] for line in shown] == [keyset]


def test_merge(radpool, directory, mint):
    keyset = mine(directory, mint, [1] * 20)
    done = json.loads(radpool("merge", "--dir", directory, "--json")[1])
    assert done["merged"] == [{"keyset": keyset, "before": 20, "after": 2}]
    status, out, _ = radpool("merge", "--dir", directory)
    assert (status, "2 tokens are 2 now" in out) == (0, True)


def test_a_keyset_that_is_not_there(radpool, directory, mint):
    mine(directory, mint, [1])
    mine(directory, mint, [1])
    for start, reason in (("ff", "no keyset"), ("01", "several keysets")):
        status, _, err = radpool("redeem", "--dir", directory, "--keyset", start)
        assert (status, reason in err) == (1, True)


def test_a_payment(radpool, directory, mint, tmp_path):
    mine(directory, mint, [1], 500_000)
    radpool("redeem", "--dir", directory)
    status, token, err = radpool("send", "123", "--memo", "hi", "--dir", directory)
    assert (status, token.startswith("cashuB")) == (0, True)
    assert "--reclaim 1" in err
    radpool("create", "--dir", tmp_path / "b", "--mint", URL)
    status, out, _ = radpool("receive", "--dir", tmp_path / "b", stdin=token)
    assert (status, out) == (0, "Received 123 sat.\n")
    status, _, err = radpool("receive", token.strip(), "--dir", tmp_path / "b")
    assert (status, "already-spent" in err) == (1, True)
    rows = json.loads(radpool("send", "--list", "--dir", directory, "--json")[1])["transfers"]
    assert [(row["sats"], row["state"]) for row in rows] == [(123, "claimed")]
    sent = json.loads(radpool("send", "7", "--dir", directory, "--json")[1])
    assert sent["sats"] == 7
    assert "cashuB" in radpool("send", "--list", "--dir", directory)[1]
    status, out, _ = radpool("send", "--reclaim", sent["transfer"], "--dir", directory)
    assert (status, out) == (0, "Took back 7 sat of transfer 2.\n")
    status, _, err = radpool("send", "1000", "--dir", directory)
    assert (status, "377 sat" in err) == (1, True)


@pytest.mark.parametrize("arguments", [(), ("5", "--list"), ("--list", "--reclaim", "1")])
def test_sending_one_thing_at_a_time(radpool, directory, arguments):
    status, _, err = radpool("send", *arguments, "--dir", directory)
    assert (status, "give an amount" in err) == (1, True)


def test_restore(radpool, directory, mint, tmp_path):
    mine(directory, mint, [16], 77_000)
    radpool("redeem", "--dir", directory)
    mine(directory, mint, [2, 2])
    words = radpool("words", "--dir", directory)[1]
    balance = json.loads(radpool("balance", "--dir", directory, "--json")[1])
    status, out, _ = radpool("restore", "--dir", tmp_path / "r", "--mint", URL, stdin=words)
    assert (status, "77 sat" in out) == (0, True)
    restored = json.loads(radpool("balance", "--dir", tmp_path / "r", "--json")[1])
    assert restored == balance
    (tmp_path / "words").write_text(words)
    arguments = ("--dir", tmp_path / "s", "--mint", URL, "--words-file", tmp_path / "words")
    found = json.loads(radpool("restore", *arguments, "--json")[1])
    assert (found["sats"], found["keysets"]) == (77, 3)


def test_restore_with_wrong_words(radpool, tmp_path):
    status, _, err = radpool("restore", "--dir", tmp_path / "r", "--mint", URL, stdin="one two")
    assert (status, "2 words" in err) == (1, True)
    assert not (tmp_path / "r").exists()
    missing = ("--words-file", tmp_path / "none")
    status, _, err = radpool("restore", "--dir", tmp_path / "r", "--mint", URL, *missing)
    assert (status, "cannot be read" in err) == (1, True)


def test_no_wallet(radpool, tmp_path):
    for name in ("balance", "redeem", "words", "history"):
        status, _, err = radpool(name, "--dir", tmp_path)
        assert (status, "radpool wallet create" in err) == (1, True)


def test_without_the_mint(radpool, directory, mint):
    mine(directory, mint, [2], 9_000)
    radpool("balance", "--dir", directory)
    mint.on_request = lambda *_: httpx.Response(502)
    status, out, err = radpool("balance", "--dir", directory)
    assert (status, "9 sat" in out, "note:" in err) == (0, True, True)
    status, out, err = radpool("balance", "--dir", directory, "--offline")
    assert (status, "9 sat" in out, err) == (0, True, "")
    status, _, err = radpool("redeem", "--dir", directory)
    assert (status, err.count("\n")) == (1, 1)
