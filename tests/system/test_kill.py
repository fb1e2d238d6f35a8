"""kill -9 at random instants under load: what a miner was told is true for ever, and true once.

The seed is printed; RADPOOL_SEED=N plays the same instants again, as far as a real machine repeats
itself. RADPOOL_KILL_CYCLES=N makes it longer.
"""

import contextlib
import os
import random
import signal
import time

import pytest
from rig import audit
from rig.book import Book
from rig.load import Load, read_hashes
from rig.node import UNLIMITED, Node
from rig.wait import until

pytestmark = pytest.mark.slow

CYCLES = int(os.environ.get("RADPOOL_KILL_CYCLES", "50"))
SEED = int(os.environ.get("RADPOOL_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)

# 1,200 shares a second of 2^8 hashes, one of 2^10 of them a block: about a block a second, so that
# blocks, epochs and settlements are under way when the end comes, too.
SETTINGS = UNLIMITED | {
    "mining.exponent_min": 8,
    "mining.exponent_max": 8,
    "templates.block_zeros": 18,
    "templates.payments_per_minute": 120,
    "ledger.maturity_blocks": 3,
}
LOADS = ({"kind": "extended", "user": "alice.rig"}, {"kind": "standard", "user": "bob"})
RATE_OF_EACH = 600
# A node that is killed in its start is killed within what a start takes.
START_S = 1.5
HARMLESS_REJECTIONS = {"stale-share"}
BACK_S = 60.0
EXPORTS = 3


@pytest.mark.timeout(1_200)
def test_killed_at_random_instants_no_acknowledged_share_is_lost_or_doubled(tmp_path):
    print(f"RADPOOL_SEED={SEED}")
    chance = random.Random(SEED)
    node = Node(tmp_path / "msp", SETTINGS)
    book = Book(node.database)
    told, began = 0, time.monotonic()
    for cycle in range(CYCLES):
        files = [tmp_path / f"acknowledged-{cycle}-{number}" for number in range(len(LOADS))]
        phase = chance.choices(("serving", "starting", "leaving"), (8, 1, 1))[0]
        running = node.launch()
        with running.process:
            if phase == "starting":
                time.sleep(chance.uniform(0, START_S))
                running.process.kill()
            else:
                running.serve(BACK_S)
                if cycle:
                    check_kept(book, tmp_path, cycle - 1)
                end_under_load(running, files, phase, chance)
            until(running.is_gone, f"cycle {cycle}: orphans")
        acknowledged = sum(len(read_hashes(file)) for file in files)
        told += acknowledged
        print(f"{time.monotonic() - began:6.1f} s  cycle {cycle:3} {phase:8} {acknowledged:6} told")
    assert told > 100 * CYCLES, "there was hardly any load: the test shows nothing"

    with node.running() as running:
        for cycle in range(CYCLES):
            check_kept(book, tmp_path, cycle)
        # Time to see the last blocks through; then nothing is under way any more.
        running.chain("mine", 4)
        until(lambda: running.problems() == [], lambda: running.problems())
        until(lambda: audit.missed(node) == [], lambda: f"{audit.missed(node)} RADPOOL_SEED={SEED}")
        assert running.leave(signal.SIGTERM) == 0
    shares = book.check()
    assert shares >= told
    assert audit.check_batches(node) == shares
    assert audit.check_blocks(node)
    closed = book.number("SELECT count(*) FROM epoch WHERE closed_ms IS NOT NULL")
    for epoch in chance.sample(range(1, closed + 1), min(closed, EXPORTS)):
        report = audit.verify(audit.export(node, epoch, tmp_path / f"epoch-{epoch}"))
        assert report["verified"], report


@pytest.mark.timeout(300)
def test_block_found_while_the_chain_hangs_outlives_the_pool(tmp_path):
    """On disk and in the books, but not with the node: the next start hands it in."""
    # Two blocks a second: the next start looks at the last 64 alone.
    settings = SETTINGS | {"mining.exponent_min": 4, "templates.block_zeros": 16}
    node = Node(tmp_path / "msp", settings)
    with node.running() as running:
        with Load(running, "load", "shares", shares=10**9, rate=500) as load:
            until(lambda: len(audit.solved(node)) > 1, lambda: load.process.tail())

            def hangs():
                # The pool replaces a chain that is silent for seconds: the new one hangs, too.
                if pid := running.chain_pid():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGSTOP)
                missed = {bytes.fromhex(each)[::-1] for each in audit.missed(node)}
                return len(missed) > 1 and missed & audit.recorded(node).keys()

            until(hangs, "blocks in the books that the chain misses")
            running.process.kill()
            load.process.wait()
        until(running.is_gone, "the hung chain is gone")
    with pytest.raises(AssertionError, match="never reached the chain"):
        audit.check_blocks(node)
    with node.running() as running:
        running.wait_for_log("a block was accepted")
        until(lambda: audit.missed(node) == [], lambda: f"{audit.missed(node)}")
        until(lambda: audit.solved(node).keys() == audit.recorded(node).keys(), "in the books")
        assert running.leave(signal.SIGTERM) == 0
    assert audit.check_blocks(node)


def end_under_load(running, files, phase, chance):
    """Lets clients mine, perhaps kills the chain below the pool, and kills the pool."""
    loads = [
        Load(running, f"load-{number}", "shares", connections=3, shares=10**9, rate=RATE_OF_EACH,
             acknowledged=file, **LOADS[number])
        for number, file in enumerate(files)
    ]  # fmt: skip
    try:
        instants = [(chance.uniform(0.05, 1.4), "end")]
        if chance.random() < 1 / 3:
            instants.append((chance.uniform(0.05, 1.4), "chain"))
        began = time.monotonic()
        for instant, what in sorted(instants):
            time.sleep(max(0.0, began + instant - time.monotonic()))
            if what == "chain":
                if pid := running.chain_pid():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                continue
            if phase == "leaving":
                running.process.signal(signal.SIGTERM)
                time.sleep(chance.uniform(0, 0.3))
            running.process.kill()
            break
        for load in loads:
            load.process.wait()
            for said in load.process.messages("shares"):
                assert said["mismatches"] == 0, said
                assert set(said["rejected"]) <= HARMLESS_REJECTIONS, said
    finally:
        for load in loads:
            load.process.__exit__()


def check_kept(book, directory, cycle):
    """Checks that a node that has come back knows what clients were told in an earlier cycle."""
    for number in range(len(LOADS)):
        hashes = read_hashes(directory / f"acknowledged-{cycle}-{number}")
        missing = book.missing(hashes)
        assert not missing, (
            f"RADPOOL_SEED={SEED}: {len(missing)} of {len(hashes)} shares acknowledged in cycle "
            f"{cycle} are gone, such as {missing[0].hex()}"
        )
