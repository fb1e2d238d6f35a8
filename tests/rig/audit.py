"""Audits a node's books from outside: the chain of batches, the blocks, exported epochs."""

import json

from radpool_sv2._native.ledger import verify_batch

from .book import Book
from .process import RADPOOL, radpool, run

GENESIS = bytes(32)


def check_batches(node):
    """Recomputes every share, sum and signature of the chain of batches; returns the shares."""
    book = Book(node.database)
    bodies = dict(book.rows("SELECT digest, body FROM template"))
    previous, shares, keys = GENESIS, 0, set()
    for sequence, blob in book.rows("SELECT sequence, blob FROM batch ORDER BY sequence"):
        batch = verify_batch(blob, bodies)
        assert (batch.sequence, batch.previous) == (sequence, previous)
        previous = batch.hash
        shares += batch.count
        keys.add(batch.msp_key)
    assert len(keys) == 1
    return shares


def check_blocks(node):
    """Checks that each block that was ever solved is in the books; returns those on the chain.

    Each one has also reached the chain, if only as a branch that lost: its header is in the log of
    all blocks that the consensus engine has accepted.
    """
    assert not missed(node), f"never reached the chain: {missed(node)}"
    found = recorded(node)
    assert found.keys() == solved(node).keys()
    return [each for each, confirmations in found.items() if confirmations]


def missed(node):
    """Returns the hashes of solved blocks that the chain has never accepted."""
    # In this order: of a block that comes meanwhile nothing is known.
    found = solved(node).items()
    accepted = (node.data / "chain" / "chain.blocks").read_bytes()
    return [block_hash[::-1].hex() for block_hash, header in found if header not in accepted]


def solved(node):
    """Returns the headers that the engine has written down as blocks, by hash."""
    # A line may be under way.
    lines = (node.data / "blocks.jsonl").read_text().split("\n")[:-1]
    fields = [json.loads(line) for line in lines]
    return {bytes.fromhex(each["hash"]): bytes.fromhex(each["header"]) for each in fields}


def is_at_rest(node):
    """Whether each block that was solved is in the books, and has been on the chain."""
    return solved(node).keys() <= recorded(node).keys() and not missed(node)


def recorded(node):
    """Returns the blocks in the books: hash and confirmations."""
    return dict(Book(node.database).rows("SELECT hash, confirmations FROM block"))


def export(node, epoch, directory):
    """Exports an epoch as anyone can who has the node's directory."""
    radpool("verify", "export", epoch, "--dir", node.directory, "--to", directory)
    return directory


def verify(directory):
    """Returns what the verifier makes of an export that must be right."""
    return json.loads(radpool("verify", directory, "--json", seconds=300))


def verify_altered(directory):
    """Returns what the verifier says of an export that must be wrong."""
    done = run([RADPOOL, "verify", directory], 300)
    assert done.returncode == 1, f"taken for right:\n{done.stdout}{done.stderr}"
    assert done.stdout == ""
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr
