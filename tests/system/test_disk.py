"""A disk that refuses: said clearly, nothing acknowledged that is not durable, mended by itself."""

import json
import resource
import signal

import pytest
from rig import audit
from rig.book import Book
from rig.faulty_disk import SOUND, SYNC_EIO, WRITE_EIO, WRITE_ENOSPC, FaultyDisk
from rig.load import Load
from rig.node import EASY_SHARES, NO_BLOCKS, UNLIMITED, Node
from rig.wait import steady, until

pytestmark = pytest.mark.slow

# A ring that is full soon, so that the node stops reading within the test.
SETTINGS = UNLIMITED | EASY_SHARES | NO_BLOCKS | {"limits.ring_records_max": 256}
SHARES = 6_000
RATE = 1_000
FIRST = 500
PROBLEM = "shares cannot be stored"

FAULTS = {
    "EIO from fdatasync": SYNC_EIO,
    "EIO from write": WRITE_EIO,
    "no space left": WRITE_ENOSPC,
}


def start_load(running, file, **options):
    return Load(running, "load", "shares", connections=5, acknowledged=file, **options)


def check_refusing(running, load):
    """Checks what a node does whose disk refuses; returns what was acknowledged before."""
    # A metrics page and a health page are there all the time.
    until(lambda: running.get("/api/v1/health").status_code == 503, "the health page complains")
    assert any(PROBLEM in each for each in running.problems())
    line = running.wait_for_log("shares cannot be stored; miners wait")
    assert "ledger.sqlite" in line["reason"], line
    # Answers to what was stored before may still be on their way.
    before = steady(load.count, "the number of acknowledged shares", 1.0)
    assert Book(running.node.database).missing(load.hashes()) == []
    assert load.process.is_alive, load.process.tail()
    return before


def check_recovered(node, running, load):
    """Checks that a node goes on by itself, and that every share was acknowledged once."""
    until(lambda: running.problems() == [], lambda: running.problems())
    running.wait_for_log("shares are stored again")
    assert load.process.wait() == 0, load.process.tail()
    said = load.process.message("shares")
    assert (said["accepted"], said["rejected"], said["mismatches"]) == (SHARES, {}, 0)
    assert running.leave(signal.SIGTERM) == 0
    book = Book(node.database)
    assert book.missing(load.hashes()) == []
    assert book.check() == SHARES == len(set(load.hashes()))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_ledger_on_a_refusing_disk(tmp_path, fault):
    node = Node(tmp_path / "msp", SETTINGS)
    disk = FaultyDisk(tmp_path, node.database)
    with node.running(disk.env) as running:
        with start_load(running, tmp_path / "acknowledged", shares=SHARES, rate=RATE) as load:
            until(lambda: load.count() > FIRST, lambda: load.process.tail())
            disk.set(fault)
            before = check_refusing(running, load)
            assert disk.refused > 0, "nothing was refused: the fault does not reach the database"
            disk.set(SOUND)
            until(lambda: load.count() > before, "acknowledged shares again")
            check_recovered(node, running, load)


@pytest.mark.timeout(300)
def test_whole_data_directory_on_a_full_disk(tmp_path):
    """The chain's files and the log of solved blocks refuse, too."""
    node = Node(tmp_path / "msp", SETTINGS)
    disk = FaultyDisk(tmp_path, node.data)
    with node.running(disk.env) as running:
        with start_load(running, tmp_path / "acknowledged", shares=SHARES, rate=RATE) as load:
            until(lambda: load.count() > FIRST, lambda: load.process.tail())
            disk.set(WRITE_ENOSPC)
            check_refusing(running, load)
            assert disk.refused > 0
            disk.set(SOUND)
            check_recovered(node, running, load)


@pytest.mark.timeout(300)
def test_file_size_limit_of_the_kernel(tmp_path):
    """The kernel itself refuses, with EFBIG, until the limit is raised again."""
    node = Node(tmp_path / "msp", SETTINGS)
    with node.running() as running:
        with start_load(running, tmp_path / "acknowledged", shares=SHARES, rate=RATE) as load:
            until(lambda: load.count() > FIRST, lambda: load.process.tail())
            pid = running.process.pid
            soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            # Log lines still fit, pages of the database do not.
            limit = 100_000
            assert running.process.stderr.stat().st_size < limit / 2
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, hard))
            check_refusing(running, load)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
            check_recovered(node, running, load)


@pytest.mark.timeout(300)
def test_killed_while_the_disk_refuses(tmp_path):
    node = Node(tmp_path / "msp", SETTINGS)
    disk = FaultyDisk(tmp_path, node.database)
    acknowledged = tmp_path / "acknowledged"
    with node.running(disk.env) as running:
        with start_load(running, acknowledged, shares=10**9, rate=RATE) as load:
            until(lambda: load.count() > FIRST, lambda: load.process.tail())
            disk.set(SYNC_EIO)
            check_refusing(running, load)
            running.process.kill()
            load.process.wait()
    disk.set(SOUND)
    with node.running() as running:
        book = Book(node.database)
        assert book.missing(load.hashes()) == []
        with start_load(running, tmp_path / "more", shares=300) as more:
            assert more.process.wait() == 0, more.process.tail()
        assert running.leave(signal.SIGTERM) == 0
    assert book.missing(more.hashes()) == []
    assert book.check() >= len(load.hashes()) + 300


@pytest.mark.timeout(300)
def test_block_found_while_the_ledger_refuses_reaches_the_chain_and_then_the_books(tmp_path):
    # One share in 256 is a block, and the ring has room for many blocks' worth of shares.
    settings = SETTINGS | {"templates.block_zeros": 12, "limits.ring_records_max": 16_384}
    node = Node(tmp_path / "msp", settings)
    disk = FaultyDisk(tmp_path, node.database)
    book = Book(node.database)
    with node.running(disk.env) as running:
        first = height_of(running)
        with start_load(running, tmp_path / "acknowledged", shares=10**9, rate=RATE) as load:
            until(lambda: load.count() > FIRST, lambda: load.process.tail())
            disk.set(WRITE_ENOSPC)
            check_refusing(running, load)
            # The books stand still: what is above their blocks was found meanwhile.
            before = book.number("SELECT count(*) FROM block")
            active = book.number("SELECT count(confirmations) FROM block")
            height = max(first, book.number("SELECT max(height) FROM block"))
            until(lambda: height_of(running) > height + 2, "blocks on the chain")
            assert book.number("SELECT count(*) FROM block") == before
            disk.set(SOUND)
            until(lambda: running.problems() == [], lambda: running.problems())
            assert running.leave(signal.SIGTERM) == 0
            load.process.wait()
        said = load.process.message("shares")
    assert set(said["rejected"]) <= {"stale-share"}
    assert said["mismatches"] == 0
    assert book.missing(load.hashes()) == []
    assert audit.check_batches(node) == book.check()
    # What the last blocks of a node that leaves become is seen to by its next start.
    with node.running() as running:
        running.chain("mine", 1)
        until(
            lambda: audit.solved(node).keys() == audit.recorded(node).keys(),
            "all blocks in the books",
        )
        assert running.leave(signal.SIGTERM) == 0
    assert len(audit.check_blocks(node)) > active + 2


def height_of(running):
    return json.loads(running.chain("status", "--json"))["height"]


@pytest.mark.timeout(300)
def test_leaves_in_time_while_the_disk_refuses(tmp_path):
    """What cannot be stored is not acknowledged; nobody waits for the disk for ever."""
    node = Node(tmp_path / "msp", SETTINGS)
    disk = FaultyDisk(tmp_path, node.database)
    with node.running(disk.env) as running:
        with start_load(running, tmp_path / "acknowledged", shares=10**9, rate=RATE) as load:
            until(lambda: load.count() > FIRST, lambda: load.process.tail())
            disk.set(SYNC_EIO)
            check_refusing(running, load)
            running.leave(signal.SIGTERM)
            until(lambda: not running.left_behind(), "nobody is left behind")
            load.process.wait()
    assert Book(node.database).missing(load.hashes()) == []


@pytest.mark.timeout(300)
def test_refusing_disk_at_the_start_is_one_clear_line(tmp_path):
    node = Node(tmp_path / "msp", SETTINGS)
    disk = FaultyDisk(tmp_path, node.database)
    disk.set(WRITE_ENOSPC)
    starting = node.launch(disk.env)
    with starting.process:
        assert starting.process.wait() == 1
        last = starting.process.stderr.read_text().splitlines()[-1]
        assert last.startswith("radpool: "), last
        assert "ledger.sqlite" in last
        assert disk.refused > 0
        until(lambda: not starting.left_behind(), "nobody is left behind")
