"""The vectors of page 04, which Rust reads too."""

import hashlib
import json
import sqlite3
from dataclasses import dataclass, field

import pytest
from vector_file import bodies_of, cases

from radpool_sv2._native.ledger import MspKey
from radpool_sv2.errors import FaultyMSPError, LocalProtocolError, StoreError
from radpool_sv2.ledger import Claim, split_reward
from radpool_sv2.ledger.books import Books
from radpool_sv2.ledger.export import export_epoch
from radpool_sv2.store import QuoteRow, SqliteStore, WeightRow
from radpool_sv2.units import tagged_hash
from radpool_sv2.verify import verify_batch, verify_export
from radpool_sv2.verify.payout import payouts_of
from radpool_sv2.verify.value import NO_WEIGHT

FILE = "04-epoch-accounting.json"

POOL_SCRIPT = bytes([0, 20]) + hashlib.sha256(b"radpool vector pool script").digest()[:20]


def displayed(text):
    """Reads a displayed hash."""
    return bytes.fromhex(text)[::-1]


@cases(FILE, "splits")
def test_split(case):
    """spec: EA-9, EA-10, EA-11, EA-12"""
    sats, block = case["inputs"]["sats"], displayed(case["inputs"]["block"])
    claims = [
        Claim(bytes.fromhex(row["commitment"]), row["rail"], int(row["weight"]))
        for row in case["inputs"]["claims"]
    ]
    parts = split_reward(sats, claims, block)
    assert parts == case["expected"]["parts"]
    weights = {(claim.commitment, claim.rail): claim.weight for claim in claims}
    paid, carry = payouts_of(sats, weights, block)
    owners = [(claim.commitment, claim.rail) for claim in claims]
    due = dict(zip(owners, parts or [], strict=bool(parts)))
    assert paid == {owner: part for owner, part in due.items() if part}
    assert carry == (sats if parts is None else 0)
    assert sum(paid.values()) + carry == sats


@dataclass
class Sealed:
    """Stands in for a batch that the native module has sealed."""

    sums: list
    count: int
    hash: bytes
    header_hashes: bytes
    share_keys: bytes
    blob: bytes = b"\x00"
    bodies: list = field(default_factory=list)


class Rows:
    """Stands in for the engine's batch, of shares that a story tells."""

    def __init__(self, rows, accounts):
        self.rows, self.accounts = rows, accounts

    def __len__(self):
        return len(self.rows)

    def seal(self, _key, sequence, previous, _time_ms, *, weight, epoch_min, excluding):
        assert not excluding
        sums = {}
        for row in self.rows:
            account = self.accounts[row["commitment"]]
            place = (account, max(row["epoch"], epoch_min), row["rail"])
            count, work, value = sums.get(place, (0, 0, 0))
            own = 2 ** row["exponent"]
            worth = int(row["price"]) * 2 ** (row["exponent"] - weight.base)
            sums[place] = (count + 1, work + own, value + worth)
        name = sequence.to_bytes(8, "little") + previous
        hashes = [hashlib.sha256(name + bytes([i])).digest() for i in range(len(self.rows))]
        return Sealed(
            sums=[(*place, *total) for place, total in sums.items()],
            count=len(self.rows),
            hash=hashlib.sha256(name).digest(),
            header_hashes=b"".join(hashes),
            share_keys=b"".join(bytes(4) + found[:16] for found in hashes),
        )


class Weigher:
    """Knows the rule and the quotes that a batch of the vectors was made by."""

    script = bytes.fromhex("0014") + bytes(20)

    def __init__(self, rule, quotes=()):
        self.rule = rule
        self.quotes = {
            (row["digest"], row["price"]): QuoteRow(
                price=int(row["price"]),
                paid_sats=row["paid_sats"],
                cap_sats=row["cap_sats"],
                reference_sats=row["reference_sats"],
                target=bytes.fromhex(row["target"])[::-1],
                script=POOL_SCRIPT,
            )
            for row in quotes
        }

    def quote_of(self, body, price):
        digest = tagged_hash("radpool/template", body).hex()
        return self.quotes.get((digest, str(price)))


class Key:
    """Stands in for the MSP's key where nothing is signed."""

    public = bytes(32)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "ledger.sqlite"


def books_of(file, key, maturity):
    store = SqliteStore(file, owner=key.public, time_ms=0)
    return Books(store, key, maturity_blocks=maturity, unix_ms=lambda: 1_790_000_000_000)


def accounts_of(books, commitments):
    """Opens an account for each commitment; returns their numbers, and the way back."""
    accounts = {}
    for commitment in sorted(commitments):
        row = books.store.add_account(commitment, bytes(16), bytes.fromhex(commitment), 0)
        accounts[commitment] = row.id
    return accounts, {number: commitment for commitment, number in accounts.items()}


def to_json(settlement, commitments):
    payouts = [
        {"commitment": commitments[entry.account], "rail": entry.rail, "sats": entry.sats}
        for entry in settlement.entries
        if entry.book == "miner"
    ]
    return {
        "id": settlement.id,
        "block": settlement.block[::-1].hex(),
        "reverses": settlement.reverses,
        "epochs": list(settlement.epochs),
        "sequence": settlement.sequence,
        "value_sats": settlement.value_sats,
        "carry_in": settlement.carry_in,
        "carry_out": settlement.carry_out,
        "payouts": sorted(payouts, key=lambda row: (row["commitment"], row["rail"])),
    }


def tell(books, case, accounts, commitments):
    """Lives a story; returns every settlement."""
    settlements = []
    for event in case["events"]:
        if event["event"] == "batch":
            books.weigh_by(Weigher(WeightRow(*event["weight"])))
            assert books.commit(Rows(event["shares"], accounts)) == []
        elif event["event"] == "block":
            given = displayed(event["hash"]), event["height"], event["value_sats"]
            assert books.record_block(*given, finder=1) == event["open_epoch"]
        else:
            active = {displayed(block): n for block, n in event["active"].items()}
            found = books.reconcile(active)
            posted = [to_json(row, commitments) for row in (*found.reversed, *found.paid)]
            assert posted == event["posted"]
            assert [row["id"] for row in posted] == sorted(row["id"] for row in posted)
            settlements += posted
            again = books.reconcile(active)
            assert (again.paid, again.reversed) == ((), ())
    return settlements


@cases(FILE, "stories")
def test_story(case, file):
    """spec: EA-1, EA-2, EA-6, EA-7, EA-8, EA-9, EA-13, EA-15, EA-16, EA-17, EA-25"""
    books = books_of(file, Key(), case["inputs"]["maturity_blocks"])
    named = {
        row["commitment"]
        for event in case["events"]
        if event["event"] == "batch"
        for row in event["shares"]
    }
    accounts, commitments = accounts_of(books, named)
    settlements = tell(books, case, accounts, commitments)
    carry = 0
    for settlement in settlements:
        paid = sum(row["sats"] for row in settlement["payouts"])
        assert settlement["carry_in"] == carry
        carry = settlement["carry_out"]
        assert settlement["value_sats"] + settlement["carry_in"] == paid + carry
    expected = case["expected"]
    assert books.store.carry() == carry == expected["carry"]
    balances = [
        {"commitment": commitments[account], "rail": rail, "sats": sats}
        for (account, rail), sats in books.store.balances().items()
    ]
    balances.sort(key=lambda row: (row["commitment"], row["rail"]))
    assert balances == expected["balances"]
    total, epochs = books.store.epochs(0, 99)
    assert [epoch.number for epoch in epochs] == list(range(total, 0, -1))
    assert [epoch.number for epoch in epochs if epoch.closed_ms is None] == [total]
    standing = [row["id"] for row in settlements if row["reverses"] is None]
    for row in settlements:
        if row["reverses"] is not None:
            standing.remove(row["reverses"])
    blocks = [row["block"] for row in settlements if row["id"] in standing]
    assert len(blocks) == len(set(blocks))
    books.store.close()


@cases(FILE, "stories")
def test_shares_count_in_the_epoch_that_takes_them(case, file):
    """spec: EA-3, EA-4, EA-5"""
    books = books_of(file, Key(), case["inputs"]["maturity_blocks"])
    rows = case["expected"]["sums"]
    accounts, commitments = accounts_of(books, {row["commitment"] for row in rows})
    lowest = 1
    for event in case["events"]:
        # Told event by event, and after a restart at each: what is known is in the file.
        assert books._epoch_min == lowest
        tell(books, {"events": [event]}, accounts, commitments)
        lowest = event.get("epoch_min", lowest)
        books.store.close()
        books = books_of(file, Key(), case["inputs"]["maturity_blocks"])
    found = [
        {
            "epoch": row.epoch,
            "commitment": commitments[row.account],
            "rail": row.rail,
            "count": row.count,
            "work": str(row.work),
            "value": str(row.value),
        }
        for row in books.store.sums(range(1, 20))
    ]
    found.sort(key=lambda row: (row["epoch"], row["commitment"], row["rail"]))
    assert found == rows
    books.store.close()


def test_shares_of_an_epoch_to_come_are_not_booked(file):
    """spec: EA-24"""
    books = books_of(file, Key(), 1)
    accounts, _ = accounts_of(books, {"aa" * 32})
    row = {"commitment": "aa" * 32, "rail": 0, "exponent": 4, "price": "1"}
    with pytest.raises(StoreError):
        books.commit(Rows([{**row, "epoch": 1}, {**row, "epoch": 2}], accounts))
    assert books.store.head() is None
    assert books.commit(Rows([{**row, "epoch": 1}], accounts)) == []
    assert [(row.epoch, row.count) for row in books.store.sums([1, 2])] == [(1, 1)]
    books.store.close()


@cases(FILE, "stories")
def test_settlements_stay(case, file):
    """spec: EA-14"""
    books = books_of(file, Key(), case["inputs"]["maturity_blocks"])
    rows = case["expected"]["sums"]
    accounts, commitments = accounts_of(books, {row["commitment"] for row in rows})
    assert tell(books, case, accounts, commitments)
    books.store.close()
    database = sqlite3.connect(file)
    for change in (
        "DELETE FROM settlement",
        "UPDATE settlement SET value_sats = 0",
        "DELETE FROM entry",
        "UPDATE entry SET sats = 0",
        "DELETE FROM settlement_epoch",
        "UPDATE settlement_epoch SET epoch = 1",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            database.execute(change)
    database.close()


class Told:
    """Stands in for the engine's batch: what it is sealed into stands in the vectors."""

    def __init__(self, event, accounts):
        self.blob, self.encoded = bytes.fromhex(event["blob"]), bodies_of(event["bodies"])
        self.batch, self.shares = verify_batch(self.blob, self.encoded)
        self.accounts = accounts

    def __len__(self):
        return len(self.shares)

    def seal(self, _key, sequence, previous, _time_ms, *, weight, epoch_min, excluding):
        batch = self.batch
        rule = batch.weight or NO_WEIGHT
        assert weight == (rule.mode, rule.scale, rule.base)
        assert (batch.sequence, batch.previous) == (sequence, previous)
        assert batch.epoch_min == epoch_min
        assert not excluding
        sums = {}
        for share in self.shares:
            account = self.accounts[share.owner.commitment.hex()]
            place = account, share.epoch, share.owner.rail
            count, work, value = sums.get(place, (0, 0, 0))
            sums[place] = (count + 1, work + share.work, value + share.value)
        return Sealed(
            sums=[(*place, *total) for place, total in sums.items()],
            count=batch.count,
            hash=batch.hash,
            header_hashes=b"".join(share.hash for share in self.shares),
            share_keys=b"".join(
                share.ntime.to_bytes(4, "big") + proved.hash[:16]
                for share, proved in zip(batch.shares, self.shares, strict=True)
            ),
            blob=self.blob,
            bodies=[
                (template.digest, self.encoded[template.digest], 0, template.price)
                for template in batch.templates
            ],
        )


def live(books, event, accounts):
    """Lets the books live through an event of an export."""
    if event["event"] == "batch":
        told = Told(event, accounts)
        rule = told.batch.weight or NO_WEIGHT
        books.weigh_by(Weigher(WeightRow(rule.mode, rule.scale, rule.base), event["quotes"]))
        assert books.commit(told) == []
    elif event["event"] == "block":
        books.record_block(displayed(event["hash"]), event["height"], event["value_sats"], finder=1)
    elif event["event"] == "void":
        books.void(bytes.fromhex(event["template"]), event["reason"])
    else:
        books.reconcile({displayed(block): n for block, n in event["active"].items()})


@cases(FILE, "exports")
def test_the_ledger_exports_these_bytes(case, file, tmp_path):
    """spec: EA-4, EA-18, EA-19, EA-20, EA-25, EA-27, EA-29, CV-13"""
    inputs = case["inputs"]
    key = MspKey.from_secret(bytes.fromhex(inputs["secret_key"]))
    books = books_of(file, key, inputs["maturity_blocks"])
    claims = json.loads(bytes.fromhex(inputs["claims"]))
    events = [event for event in inputs["events"] if event["event"] == "batch"]
    owners = {
        share.owner.commitment.hex()
        for event in events
        for share in verify_batch(bytes.fromhex(event["blob"]), bodies_of(event["bodies"]))[1]
    }
    accounts, _ = accounts_of(books, owners)
    for event in inputs["events"]:
        live(books, event, accounts)
    export_epoch(books.store, key, tmp_path / "export", claims["epoch"])
    books.store.close()
    found = {
        path.relative_to(tmp_path / "export").as_posix(): path.read_bytes().hex()
        for path in (tmp_path / "export").rglob("*")
        if path.is_file()
    }
    assert json.loads(bytes.fromhex(found["epoch.json"]))["claims"] == claims
    assert found == inputs["files"]


def write_files(directory, files):
    (directory / "batches").mkdir(parents=True)
    (directory / "templates").mkdir()
    for path, data in files.items():
        if data is not None:
            (directory / path).write_bytes(bytes.fromhex(data))
    return directory


@cases(FILE, "exports")
def test_export(case, tmp_path):
    """spec: EA-18, EA-20, EA-22, EA-26, EA-27, EA-29, EA-30, CV-13"""
    expected = case["expected"]
    report = verify_export(write_files(tmp_path / "export", case["inputs"]["files"]))
    for name in ("epoch", "state", "batches", "shares", "value_sats"):
        assert getattr(report, name) == expected[name]
    assert (str(report.work), str(report.value)) == (expected["work"], expected["value"])
    assert report.payouts == {
        (bytes.fromhex(row["commitment"]), row["rail"]): row["sats"] for row in expected["payouts"]
    }
    unknown = [note for note in report.notes if "is not among the shares" in note]
    assert len(unknown) == (case["id"] == "export-block-not-among-the-shares")


def test_scripts_of_others_are_refused_by_whoever_knows_the_pools(tmp_path):
    """spec: EA-22, EA-30"""
    [case] = [each for each in cases(FILE, "exports").args[1] if "three-templates" in each["id"]]
    directory = write_files(tmp_path / "export", case["inputs"]["files"])
    report = verify_export(directory, scripts=[POOL_SCRIPT, b"\x51"])
    assert [note for note in report.notes if POOL_SCRIPT.hex() in note]
    with pytest.raises(FaultyMSPError, match="counted as payments to the pool"):
        verify_export(directory, scripts=[b"\x51"])


def test_voids_stay(file):
    """spec: EA-28"""
    [case] = [each for each in cases(FILE, "exports").args[1] if each["id"] == "export-with-a-void"]
    inputs = case["inputs"]
    books = books_of(file, MspKey.from_secret(bytes.fromhex(inputs["secret_key"])), 3)
    owners = {row["commitment"] for row in case["expected"]["payouts"]}
    claims = json.loads(bytes.fromhex(inputs["claims"]))
    accounts, _ = accounts_of(books, owners | {row["commitment"] for row in claims["sums"]})
    for event in inputs["events"][:3]:
        live(books, event, accounts)
    [void] = books.store.voids()
    assert books.void(void.digest, "another reason") == void
    with pytest.raises(LocalProtocolError, match="no share on a template"):
        books.void(bytes(32), "unknown")
    assert [row.count for row in void.sums] == [1]
    books.store.close()
    database = sqlite3.connect(file)
    for table in ("void", "void_sum", "quote", "epoch_weight"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            database.execute(f"DELETE FROM {table}")
    database.close()


@cases(FILE, "exports_1")
def test_export_of_format_1(case, tmp_path):
    """spec: EA-31"""
    test_export(case, tmp_path)


@cases(FILE, "refused_exports")
def test_refused_export(case, tmp_path):
    """spec: EA-5, EA-20, EA-21, EA-27, EA-30, SB-18, SB-24, CV-13"""
    [base] = [
        export
        for export in cases(FILE, "exports").args[1]
        if export["id"] == case["inputs"]["base"]
    ]
    files = {**base["inputs"]["files"], **case["inputs"]["files"]}
    with pytest.raises(FaultyMSPError):
        verify_export(write_files(tmp_path / "export", files))
