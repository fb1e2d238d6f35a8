"""kill -9 of pool, miner and wallet at random instants: every claim is a token, and one token.

The one wallet of the test holds all that the mint has ever signed. So at the end the mint's books
and the wallet must agree to the unit and to the satoshi, and so must a wallet that is restored from
the words alone. The seed is printed; RADPOOL_SEED=N plays the same instants again, as far as a real
machine repeats itself. RADPOOL_KILL_CYCLES=N makes it longer.
"""

import contextlib
import json
import os
import random
import signal
import time

import pytest
from rig.bitcoind import free_ports
from rig.book import Book
from rig.node import UNLIMITED, Node
from rig.process import RADPOOL, Process, radpool
from rig.wait import until

pytestmark = pytest.mark.slow

CYCLES = int(os.environ.get("RADPOOL_KILL_CYCLES", "50"))
SEED = int(os.environ.get("RADPOOL_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)

# Some 150 shares a second of 2^8 hashes, one of 2^8 of them a block: keysets open, close, are paid
# and redeemed all the time.
EXPONENT = 8
HASH_RATE = 40_000
SETTINGS = UNLIMITED | {
    "mining.exponent_min": EXPONENT,
    "mining.exponent_max": EXPONENT,
    "templates.block_zeros": 16,
    "ledger.maturity_blocks": 2,
    "ecash.unit_exponent": EXPONENT,
    "ecash.coinbase_maturity": 3,
    "ecash.policies": ["pool"],
}
LIFE_S = 1.5
BACK_S = 60.0
# What the last claims of a keyset and the last shares of a job may meet.
HARMLESS_REFUSALS = {"stale-keyset", "stale-share", "mint-unavailable"}


@pytest.mark.timeout(1_800)
def test_killed_at_random_instants_no_claim_is_lost_or_doubled(tmp_path):
    """spec: RC-3. attack: A25. attack: A19."""
    print(f"RADPOOL_SEED={SEED}")
    chance = random.Random(SEED)
    node = Node(tmp_path / "msp", SETTINGS)
    place, url, port = tmp_path / "wallet", *free_url()
    words = json.loads(radpool("wallet", "create", "--dir", place, "--json"))["words"]
    kills, began, told = {"pool": 0, "miner": 0, "wallet": 0}, time.monotonic(), 0
    for cycle in range(CYCLES):
        running = node.launch(http_port=port)
        with running.process:
            running.serve(BACK_S)
            said = live_and_die(running, place, url, chance, kills)
            until(running.is_gone, f"cycle {cycle}: orphans")
        told += said
        print(f"{time.monotonic() - began:6.1f} s  cycle {cycle:3} {said:6} tokens told")
    assert kills["pool"] == kills["miner"] == CYCLES
    assert kills["wallet"] > CYCLES / 8, "the wallet was hardly ever killed: nothing is shown"
    assert told > 10 * CYCLES, "there was hardly any load: the test shows nothing"

    running = node.launch(http_port=port)
    with running.process:
        running.serve(BACK_S)
        settle(running, place, url)
        after = radpool("wallet", "restore", "--dir", tmp_path / "again", "--mint", url,
                        "--words-file", written(tmp_path / "words", words), "--json")  # fmt: skip
        assert json.loads(after), after
        ours, again = balance(place), balance(tmp_path / "again")
        assert running.leave(signal.SIGTERM) == 0
    assert ours == again, "the words bring back what the wallet has, no more and no less"
    check_books(Book(node.database), ours, told)


def live_and_die(running, place, url, chance, kills):
    """Mines and redeems until pool and miner are killed; returns the tokens that were told of."""
    directory = running.node.directory
    command = [RADPOOL, "miner", "--connect", running.sv2, "--authority-key", running.authority_key]
    command += ["--user", "rig", "--threads", "1", "--hash-rate-limit", HASH_RATE, "--json"]
    command += ["--wallet", place, "--mint-url", url, "--unsigned-max", "32"]
    with contextlib.ExitStack() as stack:
        miner = stack.enter_context(Process(command, directory, "miner"))
        # Most ends come while shares become tokens, some while everything is still starting.
        if chance.random() < 3 / 4:
            until(lambda: tokens(miner), lambda: f"a first token; {miner.tail()}", BACK_S)
        command = [RADPOOL, "wallet", "redeem", "--dir", place, "--json"]
        redeem = stack.enter_context(Process(command, directory, "redeem"))
        instants = {what: chance.uniform(0, LIFE_S) for what in kills}
        began = time.monotonic()
        for what, instant in sorted(instants.items(), key=lambda item: item[1]):
            time.sleep(max(0.0, began + instant - time.monotonic()))
            process = {"pool": running.process, "miner": miner, "wallet": redeem}[what]
            kills[what] += process.is_alive
            process.kill()
        for line in miner.messages("stats"):
            assert set(line["wallet"]["refused"]) <= HARMLESS_REFUSALS, line
        return tokens(miner)


def tokens(miner):
    """Returns how many tokens a miner has told of."""
    return max((line["wallet"]["tokens"] for line in miner.messages("stats")), default=0)


def settle(running, place, url):
    """Mines once more, leaves in order, and redeems all that can be."""
    command = [RADPOOL, "miner", "--connect", running.sv2, "--authority-key", running.authority_key]
    command += ["--user", "rig", "--threads", "1", "--hash-rate-limit", HASH_RATE, "--json"]
    command += ["--wallet", place, "--mint-url", url]
    with Process(command, running.node.directory, "last") as miner:
        until(lambda: tokens(miner), miner.tail)
        miner.signal(signal.SIGTERM)
        assert miner.wait() == 0, miner.tail()
    running.chain("mine", 5)
    until(lambda: running.problems() == [], lambda: running.problems())
    until(lambda: not payable(place), lambda: payable(place))


def payable(place):
    """Redeems; returns what is still waiting to be."""
    answer = json.loads(radpool("wallet", "redeem", "--dir", place, "--json"))
    return [each for each in answer["redeemed"] if each["sats"]]


def balance(place):
    answer = json.loads(radpool("wallet", "balance", "--dir", place, "--json"))
    assert answer["fresh"], answer
    units = {each["keyset"]: each["units"] for each in answer["epochs"] if each["units"]}
    return answer["sats"], units


def check_books(book, ours, told):
    """Compares the mint's books with the one wallet that there is."""
    shares = book.check()
    claims = book.number("SELECT count(*) FROM blinded WHERE id > 0")
    # A claim of a keyset that has just closed is refused, to be sent anew; the end may come first.
    assert shares * 19 // 20 < claims <= shares, "each claim has a share of its own"
    assert claims >= told
    units = book.rows(
        "SELECT lower(hex(id)), work - redeemed FROM keyset WHERE unit = 'work' AND state < 4"
    )
    issued = book.number("SELECT sum(issued_sats) FROM redemption")
    sats, held = ours
    assert held == {keyset: left for keyset, left in units if left}
    assert sats == issued > 0
    uneven = "SELECT event FROM mint_entry GROUP BY event HAVING sum(msat) <> 0"
    assert book.rows(uneven) == []
    theta, paid = book.rows("SELECT sum(theta_msat), sum(paid_msat) FROM keyset")[0]
    assert 0 < paid == issued * 1_000 <= theta


def free_url():
    (port,) = free_ports(1)
    return f"http://127.0.0.1:{port}", port


def written(file, text):
    file.write_text(text)
    return file
