"""Own templates by the job declarator client on the embedded chain, with real processes."""

import json
import signal

import pytest
from rig import audit
from rig.book import Book
from rig.declarer import Declarer
from rig.node import UNLIMITED, Node
from rig.process import radpool
from rig.wait import until

from radpool_sv2.chain.transaction import Transaction

pytestmark = pytest.mark.slow

ZEROS = 19
POOL = UNLIMITED | {
    "mining.exponent_min": 10,
    "mining.shares_per_minute": 600,
    "templates.block_zeros": ZEROS,
    "templates.payments_per_minute": 240,
    "ledger.maturity_blocks": 3,
}
CLIENT = {
    "mining.exponent_min": 10,
    "mining.shares_per_minute": 1_200,
    "declaration.interval_s": 1,
    "declaration.retry_s": 1,
}
BLOCKS = 2
TAG = bytes.fromhex("6a2652414450")


def pool_of(running, **keys):
    told = running.process.message("serving")
    return {
        "address": told["sv2"],
        "authority_public_key": told["authority_public_key"],
        "declarator": told["declarator"],
    } | keys


def found(node):
    """Returns the coinbases of the blocks that the pool's engine has seen solved, by hash."""
    solved = (node.data / "blocks.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in solved]
    return {
        each["hash"]: Transaction.from_bytes(bytes.fromhex(each["coinbase_tx"])) for each in lines
    }


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["full-template", "coinbase-only"])
def test_own_templates_earn_an_account_and_find_blocks(tmp_path, mode):
    node = Node(tmp_path / "msp", POOL)
    with node.running() as running:
        pool = pool_of(running, user="alice.rig", mode=mode)
        declarer = Declarer(tmp_path / "jdc", [pool], CLIENT, node.data / "chain")
        with declarer.running() as client:
            client.mining_for(pool["address"])
            with client.miner() as miner:
                # Of two blocks of one height the chain has one.
                client.until(
                    lambda figures: (
                        figures["blocks_accepted"] >= BLOCKS
                        and figures["template"]["transactions"] > 0
                        and len({each["height"] for each in blocks(running)}) >= BLOCKS
                    ),
                    f"{BLOCKS} blocks",
                )
                miner.signal(signal.SIGTERM)
                assert miner.wait() == 0
                mined = miner.message("stopped")
            client.until(
                lambda figures: not figures["miners"] and not figures["pools"][0]["unanswered"],
                "answers to all shares",
            )
            client.process.signal(signal.SIGTERM)
            assert client.process.wait() == 0, client.process.tail()
            told = client.pool()
        until(lambda: audit.is_at_rest(node), "all blocks on the chain and in the books")
        running.chain("mine", 3)
        # Of two blocks of one height the chain has one; the other stays an orphan.
        until(
            lambda: {each["state"] for each in blocks(running)} - {"orphaned"} == {"paid"},
            lambda: json.dumps(blocks(running)),
        )
        paid = [each for each in blocks(running) if each["state"] == "paid"]
        accounts = running.get("/api/v1/accounts?limit=100").json()["items"]
        status = json.loads(running.chain("status", "--json"))
        assert running.leave(signal.SIGTERM) == 0
    check_shares(node, told, mined)
    check_blocks(node, paid, status)
    [alice] = [each for each in accounts if each["account"] == "alice"]
    # The tags of a new tip's first job may be of the epoch before: a block that is found at once
    # may close an epoch in which nobody has worked, and its reward waits for the next.
    carried = Book(node.database).number("SELECT SUM(sats) FROM entry WHERE book = 'carry'")
    assert alice["balance_sats"] + carried == sum(each["value_sats"] for each in paid)


def blocks(running):
    return running.get("/api/v1/blocks?limit=100").json()["items"]


def check_shares(node, told, mined):
    """What the pool has acknowledged to the client is in its ledger, all of it and once."""
    assert told["mismatches"] == told["lost"] == 0
    assert not told["rejected"].keys() - {"stale-share"}
    assert told["jobs_accepted"] > 2
    shares = Book(node.database).check()
    assert shares == told["accepted"] > 10
    # An easy share of the miner's is not always one of the pool's.
    assert mined["accepted"] >= told["accepted"]
    assert not mined["rejected"].keys() - {"stale-share"}


def check_blocks(node, paid, status):
    """Blocks are on the chain, pay the pool, and carry the owner's tag."""
    assert len(paid) >= BLOCKS
    coinbases = found(node)
    for block in paid:
        assert block["finder"] == "alice"
        assert block["confirmations"] == status["height"] - block["height"] + 1
        coinbase = coinbases[bytes.fromhex(block["hash"])[::-1].hex()]
        assert coinbase.outputs[0].value_sats == block["value_sats"]
        assert sum(each.script.startswith(TAG) for each in coinbase.outputs) == 1


@pytest.mark.timeout(600)
def test_own_templates_earn_ecash(tmp_path):
    """The wallet gets a token for each share that the pool has accepted."""
    node = Node(tmp_path / "msp", POOL)
    with node.running() as running:
        pool = pool_of(running, ecash=True)
        declarer = Declarer(tmp_path / "jdc", [pool], CLIENT, node.data / "chain")
        wallet = declarer.directory / "wallet"
        radpool("wallet", "create", "--dir", wallet, "--mint", f"http://{running.http}")
        with declarer.running() as client:
            client.mining_for(pool["address"])
            with client.miner():
                client.until(
                    lambda figures: (
                        figures["blocks_accepted"] >= 1
                        and figures["pools"][0]["wallet"]["tokens"] >= 50
                    ),
                    "a block and 50 tokens",
                )
            client.until(
                lambda figures: (
                    not figures["miners"]
                    and not figures["pools"][0]["unanswered"]
                    and not figures["pools"][0]["wallet"]["unsigned"]
                ),
                "answers to all shares",
            )
            client.process.signal(signal.SIGTERM)
            assert client.process.wait() == 0, client.process.tail()
            told = client.pool()
        assert running.leave(signal.SIGTERM) == 0
    purse = told["wallet"]
    assert purse["unsigned"] == 0
    # A share whose answer was on its way may have its token already, or have it by the next start.
    kept = Book(node.database).check()
    assert told["accepted"] <= purse["tokens"] <= kept <= told["accepted"] + told["lost"]


@pytest.mark.timeout(600)
def test_without_a_pool_blocks_are_mined_solo(tmp_path):
    node = Node(tmp_path / "msp", POOL)
    with node.running() as running:
        declarer = Declarer(tmp_path / "jdc", (), CLIENT, node.data / "chain")
        with declarer.running() as client:
            with client.miner():
                client.until(lambda figures: figures["blocks_accepted"] >= 1, "a block")
            client.until(
                lambda figures: (
                    not figures["miners"] and figures["blocks_found"] == figures["blocks_accepted"]
                ),
                "all blocks on the chain",
            )
            status = json.loads(running.chain("status", "--json"))
            done = declarer.directory / "data" / "blocks" / "submitted"
            tip = done / f"{bytes.fromhex(status['tip'])[::-1].hex()}.block"
            until(tip.exists, lambda: f"{tip} among {list(done.iterdir())}")
            client.process.signal(signal.SIGTERM)
            assert client.process.wait() == 0, client.process.tail()
            assert client.figures["state"] == "solo"
        assert not blocks(running), "it is none of the pool's"
        assert running.leave(signal.SIGTERM) == 0
    assert audit.solved(node) == {}
