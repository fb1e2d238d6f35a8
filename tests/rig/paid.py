"""Compares blocks three ways: what a chain has, what the pool's books say, what an export proves.

chain = ChainOf(bitcoind)            # or EmbeddedOf(running) while the pool runs
rows = paid_blocks(running, chain)   # buries the blocks, waits until the pool has paid them
...                                  # the pool may end now
checked = check_paid(node, rows, chain, script, tmp_path / "exports")
"""

import json
from dataclasses import dataclass

import tomlkit

from radpool_sv2.chain.record_log import FILE_MAGIC, HEADER_LEN
from radpool_sv2.chain.transaction import Reader, Transaction

from . import audit
from .bitcoind import SATS, RpcFailure
from .book import Book
from .sv1 import double_hash
from .wait import until

WITNESS_COMMITMENT = "6a24aa21a9ed"
OP_RETURN = "6a"
# A record begins with its mark and its kind.
RECORD_LENGTH_AT = 5
BLOCK_HEADER_LEN = 80


@dataclass(frozen=True)
class Mined:
    """Is a block of the active chain.

    `due_sats` is subsidy and fees; None where nobody but the pool itself could tell.
    """

    height: int
    outputs: list
    transactions: list
    due_sats: int | None

    def paid_to(self, script):
        return sum(sats for each, sats in self.outputs if each == script)


class ChainOf:
    """Is what a bitcoind says of blocks."""

    def __init__(self, bitcoind):
        self._node = bitcoind

    def bury(self, blocks):
        self._node.mine(blocks)

    def block(self, shown):
        """Returns a block of the active chain, or None."""
        try:
            told = self._node.rpc("getblock", shown, 2)
        except RpcFailure:
            return None
        if told["confirmations"] < 1:
            return None
        stats = self._node.rpc("getblockstats", shown, ["subsidy", "totalfee"])
        outputs = [
            (each["scriptPubKey"]["hex"], round(each["value"] * SATS))
            for each in told["tx"][0]["vout"]
        ]
        others = [tx["txid"] for tx in told["tx"][1:]]
        return Mined(told["height"], outputs, others, stats["subsidy"] + stats["totalfee"])


class EmbeddedOf:
    """Is what the embedded chain's file of accepted blocks says; its tip by its own command."""

    def __init__(self, running):
        self._running = running
        self._tip = b""

    def bury(self, blocks):
        self._running.chain("mine", blocks)
        self._tip = bytes.fromhex(json.loads(self._running.chain("status", "--json"))["tip"])

    def block(self, shown):
        """Returns a block of the active chain, or None: the file has those that lost, too."""
        raw = (self._running.node.data / "chain" / "chain.blocks").read_bytes()
        block_hash = bytes.fromhex(shown)[::-1]
        if block_hash not in _chain_to(self._tip, raw):
            return None
        header = audit.solved(self._running.node)[block_hash]
        reader = Reader(raw.partition(header)[2])
        count = reader.take_compact_size()
        transactions = [Transaction.take_from(reader) for _ in range(count)]
        coinbase = transactions[0]
        push = coinbase.inputs[0].script
        outputs = [(each.script.hex(), each.value_sats) for each in coinbase.outputs]
        txids = [each.txid[::-1].hex() for each in transactions[1:]]
        return Mined(int.from_bytes(push[1 : 1 + push[0]], "little"), outputs, txids, None)


def _chain_to(tip, raw):
    """Returns the hashes of a block and of all below it that a file of accepted blocks has."""
    parents, at = {}, len(FILE_MAGIC)
    while at < len(raw):
        length = int.from_bytes(raw[at + RECORD_LENGTH_AT :][:4], "little")
        at += HEADER_LEN
        header = raw[at : at + BLOCK_HEADER_LEN]
        parents[double_hash(header)] = header[4:36]
        at += length
    found = set()
    while tip in parents:
        found.add(tip)
        tip = parents[tip]
    return found


def script_of(node, bitcoind):
    """Returns what a pool's payout address pays to, as a bitcoind reads it."""
    address = tomlkit.parse(node.config.read_text())["templates"]["payout_address"]
    return bitcoind.rpc("validateaddress", address)["scriptPubKey"]


def blocks(running):
    return running.get("/api/v1/blocks?limit=100").json()["items"]


def settled(rows):
    """Returns the blocks that are paid once all others have lost their height; None until then."""
    paid = [row for row in rows if row["state"] == "paid"]
    return paid if paid and {row["state"] for row in rows} <= {"paid", "orphaned"} else None


def paid_blocks(running, chain, maturity=3):
    """Buries the pool's blocks and returns them once each is paid, or known to be lost."""
    node = running.node
    until(lambda: audit.solved(node).keys() <= audit.recorded(node).keys(), "all blocks recorded")
    chain.bury(maturity)

    def settled():
        rows = blocks(running)
        # A block that the pool has not asked the chain about yet is not known to be lost.
        done = all(
            row["state"] == "paid"
            or (row["state"] == "orphaned" and chain.block(row["hash"]) is None)
            for row in rows
        )
        return rows if done else None

    return until(settled, lambda: f"payment; {blocks(running)}; {running.problems()}")


def check_paid(node, rows, chain, script, directory):
    """Compares everything that is said of blocks; returns those on the chain, the oldest first.

    Args:
        node: The pool that found them.
        rows: What its API says of them once they are paid.
        chain: Where to look for them.
        script: The pool's own script, in hexadecimal.
        directory: Where exports may go.
    """
    book = Book(node.database)
    assert book.rows("SELECT DISTINCT script FROM quote") == [(bytes.fromhex(script),)]
    found = []
    for row in sorted(rows, key=lambda each: each["height"]):
        mined = chain.block(row["hash"])
        if row["state"] == "orphaned":
            assert mined is None, f"{row} is on the chain"
            continue
        assert mined is not None, f"{row} is not on the chain"
        assert mined.height == row["height"]
        assert mined.paid_to(script) == row["value_sats"] > 0, (row, mined.outputs)
        check_other_outputs(mined, script)
        assert mined.due_sats in (None, row["value_sats"]), (row, mined)
        check_settlement(book, row)
        check_export(node, row, directory)
        found.append(mined)
    balances = book.number("SELECT sum(sats) FROM entry WHERE book = 'miner'")
    carried = book.number("SELECT sum(sats) FROM entry WHERE book = 'carry'")
    assert balances + carried == sum(mined.paid_to(script) for mined in found)
    assert book.number("SELECT sum(sats) FROM entry") == 0
    return found


def check_other_outputs(mined, script):
    """Whatever else a coinbase has pays nobody: commitments and marks, which cannot be spent."""
    others = [(each, sats) for each, sats in mined.outputs if each != script]
    assert all(sats == 0 and each.startswith(OP_RETURN) for each, sats in others), others
    assert sum(each.startswith(WITNESS_COMMITMENT) for each, _ in others) == 1, others


def check_settlement(book, row):
    """A block's own settlement divides what its coinbase pays, and what was carried into it."""
    [(number, value, carry_in, carry_out)] = book.rows(
        "SELECT id, value_sats, carry_in, carry_out FROM payment WHERE block = ?",
        bytes.fromhex(row["hash"])[::-1],
    )
    sums = dict(
        book.rows("SELECT book, sum(sats) FROM entry WHERE settlement = ? GROUP BY book", number)
    )
    assert value == row["value_sats"] == -sums["reward"]
    assert sums.get("miner", 0) == value + carry_in - carry_out


def check_export(node, row, directory):
    """Anybody who recomputes the epoch from its export comes to the same payments."""
    place = directory / f"{node.directory.name}-{row['epoch']}"
    report = audit.verify(audit.export(node, row["epoch"], place))
    assert (report["verified"], report["state"]) == (True, "paid")
    assert report["value_sats"] == row["value_sats"]
    number, carry_in, carry_out = payment_of(node, row)
    assert sum(each["sats"] for each in report["payouts"]) == (
        row["value_sats"] + carry_in - carry_out
    )
    owners = Book(node.database).rows(
        "SELECT commitment, sats FROM entry JOIN account ON account.id = entry.account"
        " WHERE settlement = ? AND book = 'miner' AND sats <> 0",
        number,
    )
    told = {each["commitment"]: each["sats"] for each in report["payouts"] if each["sats"]}
    assert told == {commitment.hex(): sats for commitment, sats in owners}


def payment_of(node, row):
    [found] = Book(node.database).rows(
        "SELECT id, carry_in, carry_out FROM payment WHERE block = ?",
        bytes.fromhex(row["hash"])[::-1],
    )
    return found
