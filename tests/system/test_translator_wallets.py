"""Each worker of a translator has a wallet of its own, with real processes."""

import json
import signal

import pytest
from rig.book import Book
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


@pytest.mark.timeout(300)
def test_each_worker_has_a_wallet_and_all_tokens_are_the_ledgers(tmp_path):
    """Killed once and started again: no accepted share is without its token, in its own wallet."""
    node = Node(tmp_path / "msp", POOL)
    wallet = tmp_path / "wallet"
    keys = {"wallet.dir": str(wallet), "wallet.per_worker": True, "wallet.workers_max": 2}
    names = ("one.rig", "two", "three")
    with node.running() as running:
        radpool("wallet", "create", "--dir", wallet, "--mint", f"http://{running.http}")
        pools = [(running.sv2, running.authority_key)]
        for ends in (signal.SIGKILL, signal.SIGTERM):
            with Translating(tmp_path / ends.name, pools, keys, ecash=True) as translating:
                translating.mining_for(running.sv2)
                with Sv1Miner(translating.sv1, names[0]) as one:
                    until(mined([one], 5), told([one], translating), PATIENCE_S)
                    with Sv1Miner(translating.sv1, names[1]) as two:
                        until(mined([two], 5), told([two], translating), PATIENCE_S)
                        with Sv1Miner(translating.sv1, names[2]) as three:
                            miners = [one, two, three]
                            until(mined(miners, 10), told(miners, translating), PATIENCE_S)
                            assert [each.lost for each in miners] == [""] * 3
                            translating.process.signal(ends)
                            assert translating.process.wait(30) in {0, -signal.SIGKILL}
        assert running.leave(signal.SIGTERM, 10) == 0
    ledger = Book(node.database)
    kept = directories(wallet)
    assert kept.keys() == {"one.rig", "two"}, "the third has no wallet of its own"
    counts = {name: tokens_in(each) for name, each in kept.items()}
    counts["common"] = tokens_in(wallet)
    assert sum(counts.values()) == ledger.check() > 0, counts
    assert all(count >= 10 for count in counts.values()), counts
