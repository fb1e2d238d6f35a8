"""From a device that speaks Stratum V1 to sats in the translator's wallet, on a real node."""

import json
import signal

import pytest
from rig.audit import check_batches
from rig.mint_book import FINAL, MSAT, POOL, MintBook
from rig.node import NO_BLOCKS, UNLIMITED, Node
from rig.paid import ChainOf, blocks, check_paid, script_of, settled
from rig.process import RADPOOL, Process, radpool
from rig.translating import Translating
from rig.wait import until

pytestmark = pytest.mark.slow

SETTINGS = UNLIMITED | {
    "mining.exponent_min": 10,
    "mining.exponent_max": 12,
    "mining.shares_per_minute": 1_200,
    "templates.source": "bitcoind",
    "templates.network": "regtest",
    "templates.block_zeros": 19,
    "templates.interval_s": 1,
    "ledger.maturity_blocks": 3,
    "ecash.policies": ["pool"],
}
HASH_RATE = 300_000
# From the next block on the network lets a coinbase be spent; the mint pays from there, too.
COINBASE_MATURITY = 100
SUBSIDY_SATS = 50 * 10**8
PATIENCE_S = 300


def pool_on(bitcoind, directory, **more):
    settings = {
        "templates.rpc_urls": [bitcoind.url],
        "templates.rpc_cookie_files": [str(bitcoind.cookie_file)],
        "templates.zmq_urls": [bitcoind.zmq_url],
    }
    return Node(directory, SETTINGS | settings | more)


def translator_on(running, directory, wallet):
    keys = {
        "wallet.dir": str(wallet),
        "wallet.policy": "pool",
        "wallet.mint_url": f"http://{running.http}",
        "devices.shares_per_minute": 600,
        "devices.nominal_hash_rate_mh": 1,
    }
    pools = [(running.sv2, running.authority_key)]
    return Translating(directory, pools, keys, ecash=True)


def device_on(translating, directory):
    command = [RADPOOL, "miner", "--sv1", translating.sv1, "--user", "rig.one", "--threads", "1"]
    return Process([*command, "--hash-rate-limit", HASH_RATE, "--json"], directory, "device")


def leave(process):
    process.signal(signal.SIGTERM)
    assert process.wait() == 0, process.tail()


def asked(what, wallet):
    """Returns what a command of the wallet answers."""
    return json.loads(radpool("wallet", what, "--dir", wallet, "--json"))


def tokens_of(translating):
    return translating.figures.get("wallet", {}).get("tokens", 0)


def confirmed(running):
    """Returns the pool's blocks but for those that lost to another one of their height."""
    return [row for row in blocks(running) if row["confirmations"]]


@pytest.mark.timeout(600)
def test_a_device_s_work_becomes_a_block_and_sats(bitcoind, tmp_path):
    """Every satoshi of the blocks is in the wallet, but for what prices round down."""
    sent = bitcoind.spend(fee_sats=12_345)
    wallet, book = tmp_path / "wallet", MintBook(tmp_path / "msp" / "data" / "ledger.sqlite")
    with pool_on(bitcoind, tmp_path / "msp").running() as running:
        radpool("wallet", "create", "--dir", wallet, "--mint", f"http://{running.http}")
        with (
            translator_on(running, tmp_path / "translator", wallet) as translating,
            device_on(translating, tmp_path) as device,
        ):
            until(
                lambda: len(confirmed(running)) >= 2,
                lambda: f"blocks; {device.tail()}; {translating.process.tail()}",
                PATIENCE_S,
            )
            leave(device)
            leave(translating.process)
        bitcoind.mine(COINBASE_MATURITY)
        rows = until(
            lambda: settled(blocks(running)), lambda: f"paid blocks; {blocks(running)}", PATIENCE_S
        )
        height = bitcoind.rpc("getblockcount")
        tip = lambda: running.get("/work/v1/info").json()["tip_height"]  # noqa: E731
        until(lambda: tip() == height and not book.waiting(), "the mint at the tip", PATIENCE_S)
        asked("redeem", wallet)
        balance = asked("balance", wallet)
        assert running.problems() == []
        assert running.leave(signal.SIGTERM, 60) == 0

    chain = ChainOf(bitcoind)
    script = script_of(running.node, bitcoind)
    found = check_paid(running.node, rows, chain, script, tmp_path / "exports")
    value = sum(block.paid_to(script) for block in found)
    assert value == len(found) * SUBSIDY_SATS + 12_345
    assert sent in {txid for block in found for txid in block.transactions}

    issued = book.check_law(POOL)
    # A block that closed an epoch without shares leaves its reward to the next one.
    carried = book.balance(POOL, "carry")
    carried += book.number("SELECT sum(sats) FROM entry WHERE book = 'carry'") * MSAT
    priced = [each for each in book.keysets(POOL) if each.state == FINAL]
    assert sum(each.theta for each in priced) + carried == value * MSAT
    assert all(each.redeemed == each.work for each in priced), "all of it is redeemed"
    redeemed = book.number("SELECT count(*) FROM redemption WHERE issued_sats > 0")
    assert value * MSAT - carried - redeemed * MSAT < issued * MSAT <= value * MSAT - carried
    assert balance["fresh"]
    assert balance["sats"] == issued > 0
    units = {each["keyset"]: each["units"] for each in balance["epochs"]}
    for each in book.keysets(POOL):
        assert units.get(each.id, 0) == each.work - each.redeemed, each
    assert check_batches(running.node) == book.check() > 0


@pytest.mark.timeout(600)
def test_what_is_left_over_is_cashed_out_as_the_translator_leaves(bitcoind, tmp_path):
    """Templates pay 15.54 % above the subsidy: what no token stands for comes to whole units."""
    bitcoind.spend(fee_sats=777_000_000)
    # A share is 2^14 units: that less than one is left over happens once in as many runs.
    settings = NO_BLOCKS | {
        "mining.exponent_min": 14,
        "mining.exponent_max": 14,
        "ecash.unit_exponent": 0,
    }
    wallet, book = tmp_path / "wallet", MintBook(tmp_path / "msp" / "data" / "ledger.sqlite")
    with pool_on(bitcoind, tmp_path / "msp", **settings).running() as running:
        url = f"http://{running.http}"
        words = json.loads(radpool("wallet", "create", "--dir", wallet, "--mint", url, "--json"))[
            "words"
        ]
        with (
            translator_on(running, tmp_path / "translator", wallet) as translating,
            device_on(translating, tmp_path) as device,
        ):
            until(lambda: tokens_of(translating) >= 20, translating.process.tail, PATIENCE_S)
            leave(device)
            leave(translating.process)
        notes = [each["text"] for each in translating.process.messages("note")]
        balance, history = asked("balance", wallet), asked("history", wallet)
        file = tmp_path / "words"
        file.write_text(words)
        again = ["--dir", tmp_path / "again", "--mint", url, "--words-file", file, "--json"]
        restored = json.loads(radpool("wallet", "restore", *again))
        assert running.leave(signal.SIGTERM, 60) == 0

    [(units,)] = book.rows("SELECT units FROM cash_out")
    assert units > 0
    assert any(f"what shares left over, {units} units, is" in text for text in notes), notes
    assert [each["units"] for each in history["events"] if each["kind"] == "cash-out"] == [units]
    [epoch] = balance["epochs"]
    [(unit_value, value)] = [
        tuple(int.from_bytes(each, "big") for each in row)
        for row in book.rows(
            "SELECT unit_value, value FROM keyset_value WHERE value <> zeroblob(16)"
        )
    ]
    left = sum(int.from_bytes(each, "big") for (each,) in book.rows("SELECT value FROM residue"))
    assert epoch["units"] * unit_value + left == value
    assert left < unit_value
    assert balance["residues"] == []
    assert [each["units"] for each in restored["epochs"]] == [epoch["units"]]
