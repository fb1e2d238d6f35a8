"""From a miner's share to a paid block, with real processes, and back when the chain changes."""

import json
import random
import shutil
import signal

import pytest
from peer import work
from rig import audit
from rig.book import Book
from rig.node import UNLIMITED, Node
from rig.paid import settled
from rig.process import RADPOOL, Process
from rig.wait import until

from radpool_sv2.errors import FaultyMSPError, LocalProtocolError
from radpool_sv2.verify import verify_export

pytestmark = pytest.mark.slow

ZEROS = 18
MATURITY = 3
SETTINGS = UNLIMITED | {
    "mining.exponent_min": 8,
    "mining.shares_per_minute": 1_200,
    "templates.block_zeros": ZEROS,
    "templates.payments_per_minute": 120,
    "ledger.maturity_blocks": MATURITY,
}
MINERS = {"alice": ("extended", 200_000), "bob": ("standard", 100_000)}
SUBSIDY_SATS = 50 * 100_000_000
BLOCKS = 3
SEED = 20_260_101
ALTERED = 200


def start_miner(running, name):
    kind, rate = MINERS[name]
    command = [RADPOOL, "miner", "--connect", running.sv2, "--json", "--threads", "1"]
    command += ["--authority-key", running.authority_key, "--user", f"{name}.rig", "--kind", kind]
    command += ["--hash-rate-limit", rate]
    return Process(command, running.node.directory, name)


def rows(running, page):
    return running.get(f"/api/v1/{page}?limit=100").json()["items"]


@pytest.fixture(scope="module")
def mined(tmp_path_factory):
    """A node on which two miners have found blocks that are paid; it is stopped again."""
    node = Node(tmp_path_factory.mktemp("mined") / "msp", SETTINGS)
    told = {}
    with node.running() as running:
        with start_miner(running, "alice") as alice, start_miner(running, "bob") as bob:
            found = lambda: len(rows(running, "blocks")) >= BLOCKS  # noqa: E731
            until(found, lambda: f"blocks; {alice.tail()}", 60)
            for miner in (alice, bob):
                miner.signal(signal.SIGTERM)
                assert miner.wait() == 0, miner.tail()
                told[miner.name] = miner.message("stopped")
        # Of the last blocks some may still be under way.
        until(lambda: audit.is_at_rest(node), "all blocks on the chain and in the books")
        # Deep enough that all of them are paid.
        running.chain("mine", MATURITY)
        blocks = until(
            lambda: settled(rows(running, "blocks")),
            lambda: json.dumps(rows(running, "blocks")),
        )
        accounts = rows(running, "accounts")
        status = json.loads(running.chain("status", "--json"))
        assert running.leave(signal.SIGTERM) == 0
    return node, told, blocks, accounts, status


@pytest.mark.timeout(600)
def test_blocks_are_on_the_chain_of_the_consensus_engine(mined):
    node, _, blocks, _, status = mined
    log = (node.data / "blocks.jsonl").read_text().splitlines()
    solved = {json.loads(line)["hash"]: json.loads(line) for line in log}
    for block in blocks:
        assert block["confirmations"] == status["height"] - block["height"] + 1 > MATURITY - 1
        assert block["value_sats"] >= SUBSIDY_SATS
        # The header that was solved is what the engine says it is.
        line = solved[bytes.fromhex(block["hash"])[::-1].hex()]
        header = bytes.fromhex(line["header"])
        assert work.sha256d(header)[::-1].hex() == block["hash"]
        assert work.number(work.sha256d(header)) < 1 << (256 - ZEROS)
    assert {block["finder"] for block in blocks} <= set(MINERS)


@pytest.mark.timeout(600)
def test_every_share_that_a_miner_was_told_of_is_in_the_books(mined):
    node, told, _, _, _ = mined
    book = Book(node.database)
    shares = book.check()
    assert audit.check_batches(node) == shares
    assert shares == sum(each["accepted"] for each in told.values())
    assert book.work() == sum(each["accepted_hashes"] for each in told.values())
    for each in told.values():
        assert each["mismatches"] == each["unanswered"] == each["lost"] == 0
        assert set(each["rejected"]) <= {"stale-share"}


@pytest.mark.timeout(600)
def test_verifier_confirms_the_payouts_to_the_satoshi(mined, tmp_path):
    node, _, blocks, accounts, _ = mined
    carry, paid = 0, {}
    for block in sorted(blocks, key=lambda each: each["height"]):
        epoch = block["epoch"]
        report = audit.verify(audit.export(node, epoch, tmp_path / str(epoch)))
        assert (report["epoch"], report["state"]) == (epoch, "paid")
        assert report["value_sats"] == block["value_sats"]
        values = values_of(node, block["hash"])
        carry_in = carry
        expected, carry = largest_remainder(block["value_sats"] + carry_in, values)
        payouts = {each["commitment"]: each["sats"] for each in report["payouts"]}
        assert payouts == {owner: sats for owner, sats in expected.items() if sats}
        assert sum(payouts.values()) + carry == block["value_sats"] + carry_in
        for owner, sats in payouts.items():
            paid[owner] = paid.get(owner, 0) + sats
    balances = {each["commitment"]: each["balance_sats"] for each in accounts}
    assert {owner: sats for owner, sats in balances.items() if sats} == paid


def values_of(node, block):
    """Sums by commitment, from the database alone, what the shares are worth that a block pays.

    They are those of its own epoch, and of epochs before it whose block lost its height.
    """
    found = Book(node.database).rows(
        "SELECT commitment, sum(value_0), sum(value_40), sum(value_80) FROM epoch_sum"
        " JOIN account ON account.id = account JOIN settlement_epoch USING (epoch)"
        " JOIN payment ON payment.id = settlement WHERE block = ? GROUP BY commitment",
        bytes.fromhex(block)[::-1],
    )
    return {owner.hex(): low + (mid << 40) + (high << 80) for owner, low, mid, high in found}


def largest_remainder(sats, values):
    """Splits by the largest remainder; ties go to the lower commitment. Returns parts and carry."""
    total = sum(values.values())
    if not total:
        return {}, sats
    parts = {owner: sats * each // total for owner, each in values.items()}
    left = sats - sum(parts.values())
    order = sorted(values, key=lambda owner: (-(sats * values[owner] % total), owner))
    for owner in order[:left]:
        parts[owner] += 1
    return parts, 0


@pytest.mark.timeout(600)
def test_one_altered_bit_anywhere_in_an_export_is_found(mined, tmp_path):
    node, _, blocks, _, _ = mined
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    # The smallest epoch: what matters is which byte, not how many there are. In that of a block
    # that is found at once nobody may have worked.
    shares = dict(
        Book(node.database).rows("SELECT epoch, sum(count) FROM epoch_sum GROUP BY epoch")
    )
    worked = {block["epoch"] for block in blocks} & shares.keys()
    epoch = min(worked, key=shares.get)
    whole = audit.export(node, epoch, tmp_path / "whole")
    verify_export(whole)
    files = sorted(each for each in whole.rglob("*") if each.is_file())
    assert len(files) >= 3
    for number in range(ALTERED):
        # Each file in turn, at a place of chance.
        file = files[number % len(files)]
        sound = file.read_bytes()
        at, bit = chance.randrange(len(sound)), chance.randrange(8)
        file.write_bytes(sound[:at] + bytes([sound[at] ^ 1 << bit]) + sound[at + 1 :])
        with pytest.raises((FaultyMSPError, LocalProtocolError)):
            verify_export(whole)
        file.write_bytes(sound)
    verify_export(whole)

    # As the command line says it: which file, and nothing on stdout.
    altered = shutil.copytree(whole, tmp_path / "altered")
    file = min((altered / "batches").iterdir())
    sound = file.read_bytes()
    file.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    assert file.name.split(".")[0].lstrip("0") in audit.verify_altered(altered)
    file.unlink()
    audit.verify_altered(altered)


@pytest.mark.timeout(600)
def test_orphaned_blocks_take_their_payments_back(mined, tmp_path):
    """The chain gives up all blocks of the pool: nobody is owed anything, and the books say why."""
    made, _, blocks, accounts, _ = mined
    node = Node.copy(made, tmp_path / "msp")
    deepest = max(block["confirmations"] for block in blocks)
    with node.running() as running:
        assert rows(running, "accounts") == accounts
        running.chain("reorg", deepest)
        until(
            lambda: all(block["state"] == "orphaned" for block in rows(running, "blocks")),
            lambda: json.dumps(rows(running, "blocks")),
        )
        assert {each["balance_sats"] for each in rows(running, "accounts")} == {0}
        assert running.problems() == []
        assert running.leave(signal.SIGTERM) == 0
    book = Book(node.database)
    assert book.number("SELECT sum(sats) FROM entry") == 0
    assert book.number("SELECT sum(sats) FROM entry WHERE book = 'miner'") == 0
    for block in blocks:
        report = audit.verify(audit.export(node, block["epoch"], tmp_path / str(block["epoch"])))
        assert (report["state"], report["payouts"]) == ("closed", [])
