"""Each worker of a translator has a wallet of its own, with real processes."""

import json
import signal
from contextlib import ExitStack

import pytest
from rig.book import Book
from rig.declarer import Relay
from rig.node import NO_BLOCKS, UNLIMITED, Node
from rig.process import radpool
from rig.sv1 import Sv1Miner
from rig.translating import Translating
from rig.wait import until

pytestmark = pytest.mark.slow

POOL = (
    UNLIMITED
    | NO_BLOCKS
    | {
        "mining.exponent_min": 10,
        "mining.exponent_max": 14,
        "mining.shares_per_minute": 600,
        "mining.report_interval_ms": 1_000,
        "templates.payments_per_minute": 60,
    }
)
PATIENCE_S = 90


def tokens_in(directory):
    balance = json.loads(radpool("wallet", "balance", "--dir", directory, "--json"))
    return sum(epoch["tokens"] for epoch in balance["epochs"])


def directories(wallet):
    """Returns the directories of workers' wallets by what is shown of their names."""
    found = sorted((wallet / "workers").iterdir())
    return {each.name.split("-")[1]: each for each in found}


def mined(miners, count):
    before = [each.accepted for each in miners]

    def look():
        pairs = zip(miners, before, strict=True)
        return any(each.lost for each in miners) or all(
            each.accepted - start >= count for each, start in pairs
        )

    return look


def told(miners, translating):
    return lambda: (
        f"{[(m.accepted, m.lost, m.refused) for m in miners]}; " + (translating.process.tail())
    )


def wallets_of(translating):
    """Returns what the translator tells of wallets, by worker."""
    items = translating.get("/api/v1/sv1/wallets").json()["items"]
    return {each["worker"]: each for each in items}


def settled(translating, names):
    """Returns whether each wallet has the tokens of its own devices' shares, and no other's."""

    def look():
        clients = translating.get("/api/v1/sv1/clients").json()["items"]
        accepted = {
            worker["name"]: each["pool_shares_accepted"]
            for each in clients
            for worker in each["workers"]
        }
        wallets = wallets_of(translating)
        tokens = {
            name: sum(pool["tokens"] for pool in wallets[name]["pools"].values()) for name in names
        }
        quiet = translating.figures["unanswered"] == 0
        return quiet and tokens == {name: accepted[name] for name in names}

    return look


@pytest.mark.timeout(900)
def test_each_worker_has_a_wallet_and_all_tokens_are_the_ledgers(tmp_path):
    """Killed once and started again, and brought back from one set of words: nothing is missing."""
    node = Node(tmp_path / "msp", POOL)
    wallet, again = tmp_path / "wallet", tmp_path / "again"
    keys = {"wallet.dir": str(wallet), "wallet.per_worker": True, "wallet.workers_max": 2}
    names = ("one.rig", "two", "three")
    with node.running() as running:
        mint = f"http://{running.http}"
        made = json.loads(radpool("wallet", "create", "--dir", wallet, "--mint", mint, "--json"))
        pools = [(running.sv2, running.authority_key)]
        for ends in (signal.SIGKILL, signal.SIGTERM):
            with Translating(tmp_path / ends.name, pools, keys, ecash=True) as translating:
                translating.mining_for(running.sv2)
                with ExitStack() as stack:
                    miners = []
                    for name in names:
                        # In this order they have the numbers, and the third has none.
                        miners.append(stack.enter_context(Sv1Miner(translating.sv1, name)))
                        until(mined(miners[-1:], 5), told(miners, translating), PATIENCE_S)
                    until(mined(miners, 10), told(miners, translating), PATIENCE_S)
                    assert [each.lost for each in miners] == [""] * 3
                    if ends == signal.SIGKILL:
                        # Nothing comes from an earlier run, so the figures are those of this one.
                        for each in miners:
                            each.rests = True
                        until(
                            settled(translating, names[:2]), told(miners, translating), PATIENCE_S
                        )
                        states = [wallets_of(translating)[name]["state"] for name in names]
                        assert states == ["mining", "mining", "common"]
                        for each in miners:
                            each.rests = False
                        until(mined(miners, 5), told(miners, translating), PATIENCE_S)
                    translating.process.signal(ends)
                    assert translating.process.wait() in {0, -signal.SIGKILL}
        kept = directories(wallet)
        counts = {name: tokens_in(each) for name, each in kept.items()}
        (tmp_path / "words").write_text(made["words"])
        options = ["--wallet", again, "--mint", mint, "--words-file", tmp_path / "words", "--json"]
        found = json.loads(radpool("translator", "restore", *options))["wallets"]
        assert running.leave(signal.SIGTERM, 60) == 0
    assert kept.keys() == {"one.rig", "two"}, "the third has no wallet of its own"
    counts["common"] = tokens_in(wallet)
    assert sum(counts.values()) == Book(node.database).check() > 0, counts
    assert all(count >= 10 for count in counts.values()), counts
    assert [each["number"] for each in found] == [0, 1, 2]
    restored = [tokens_in(each["directory"]) for each in found]
    assert restored == [counts["common"], counts["one.rig"], counts["two"]]
    assert sorted(each.name for each in (again / "workers").iterdir()) == ["0001", "0002"]
    listed = json.loads(radpool("translator", "wallets", "--wallet", wallet, "--json"))["wallets"]
    assert [(each["worker"], each["tokens"]) for each in listed] == [
        (name, counts[name]) for name in names[:2]
    ]


@pytest.mark.timeout(900)
def test_worker_whose_wallet_is_damaged_disturbs_no_other(tmp_path):
    """It mines for nobody, least of all for another's wallet; the others go on, over pools too."""
    first, second = Node(tmp_path / "first", POOL), Node(tmp_path / "second", POOL)
    wallet = tmp_path / "wallet"
    keys = {"wallet.dir": str(wallet), "wallet.per_worker": True, "devices.silence_ms": 15_000}
    with first.running() as one, second.running() as two, Relay(one.sv2) as way:
        radpool("wallet", "create", "--dir", wallet, "--mint", f"http://{one.http}")
        pools = [(way.address, one.authority_key), (two.sv2, two.authority_key)]
        with Translating(tmp_path / "first-run", pools, keys, ecash=True) as translating:
            translating.mining_for(way.address)
            with Sv1Miner(translating.sv1, "good") as good, Sv1Miner(translating.sv1, "bad") as bad:
                until(mined([good, bad], 5), told([good, bad], translating), PATIENCE_S)
            translating.process.signal(signal.SIGTERM)
            assert translating.process.wait() == 0
        kept = directories(wallet)
        before = {name: tokens_in(each) for name, each in kept.items()}
        (kept["bad"] / "wallet.sqlite").chmod(0o644)
        with Translating(tmp_path / "second-run", pools, keys, ecash=True) as translating:
            translating.mining_for(way.address)
            with Sv1Miner(translating.sv1, "good") as good, Sv1Miner(translating.sv1, "bad") as bad:
                until(lambda: bad.lost, told([good, bad], translating), PATIENCE_S)
                until(mined([good], 5), told([good, bad], translating), PATIENCE_S)
                way.cut()
                translating.mining_for(two.sv2)
                until(mined([good], 5), told([good, bad], translating), PATIENCE_S)
                way.mend()
                translating.mining_for(way.address)
                until(mined([good], 5), told([good, bad], translating), PATIENCE_S)
                assert (good.lost, bad.accepted) == ("", 0)
            translating.process.signal(signal.SIGTERM)
            assert translating.process.wait() == 0
        said = translating.process.stdout.read_text()
        assert "bad is not mined for" in said
        assert "chmod 600" in said
        (kept["bad"] / "wallet.sqlite").chmod(0o600)
        assert tokens_in(kept["bad"]) == before["bad"]
        assert one.leave(signal.SIGTERM, 60) == two.leave(signal.SIGTERM, 60) == 0
    earned = tokens_in(kept["good"]) + tokens_in(kept["bad"])
    assert tokens_in(wallet) == 0
    assert earned == Book(first.database).check() + Book(second.database).check()
