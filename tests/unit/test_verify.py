"""The verifier against an MSP that signs what is not so."""

from __future__ import annotations

import copy
import json
import shutil

import pytest
from shares import Key, Owner, Share, ShareBatch, tagged_hash

from radpool_sv2.cli import app
from radpool_sv2.errors import FaultyMSPError, LocalProtocolError
from radpool_sv2.ledger.books import Books
from radpool_sv2.ledger.export import export_epoch
from radpool_sv2.store import SqliteStore
from radpool_sv2.verify import verify_export

KEY = Key()


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Epoch 1: paid by its block, orphaned, paid by the next one; with a late share in epoch 2."""
    directory = tmp_path_factory.mktemp("ledger")
    clock = iter(range(1_700_000_000_000, 1_800_000_000_000))
    store = SqliteStore(directory / "l.sqlite", owner=KEY.public, time_ms=0)
    books = Books(store, KEY, maturity_blocks=1, unix_ms=lambda: next(clock))
    alice, bob = books.account("alice"), books.account("bob")

    def commit(account, number: int, epoch: int) -> Share:
        owner = Owner(account.commitment, epoch, 0, account.id)
        share = Share(owner, z=2, ntime=number).mined(KEY.public)
        books.commit(ShareBatch([share]))
        return share

    commit(alice, 1, 1)
    first = commit(bob, 2, 1).hash(KEY.public)
    books.record_block(first, 101, 5_000_000_000, bob.id)
    books.reconcile({first: 1})
    commit(alice, 3, 1)
    second = commit(bob, 4, 2).hash(KEY.public)
    books.record_block(second, 101, 5_000_000_000, bob.id)
    books.reconcile({first: None, second: 1})
    export_epoch(store, KEY, directory / "export", 1)
    store.close()
    return directory / "export"


@pytest.fixture
def export(original, tmp_path):
    return shutil.copytree(original, tmp_path / "export")


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def claims_of(export) -> dict:
    return json.loads((export / "epoch.json").read_bytes())["claims"]


def sign(export, claims: object) -> None:
    signature = KEY.sign(tagged_hash("radpool/epoch", canonical(claims))).hex()
    document = canonical({"claims": claims, "signature": signature})
    (export / "epoch.json").write_bytes(document)


def test_the_truth_verifies(export):
    report = verify_export(export)
    assert (report.epoch, report.state, report.batches, report.shares) == (1, "paid", 4, 4)
    assert report.work == 8
    assert sum(report.payouts.values()) == report.value_sats == 5_000_000_000
    sign(export, claims_of(export))
    assert verify_export(export) == report


LIES = {
    "payout one sat too high": (("settlements", 0, "payouts", 0, "sats"), 1, "is right"),
    "later payout one too low": (("settlements", 2, "payouts", 1, "sats"), -1, "is right"),
    "more work": (("sums", 0, "work"), "99", "the shares prove"),
    "more shares": (("sums", 0, "count"), 1, "the shares prove"),
    "block value": (("blocks", 0, "value_sats"), 1, "its coinbase pays"),
    "block height": (("blocks", 1, "height"), 1, "its coinbase pays"),
    "carry out": (("settlements", 0, "carry_out"), 1, "carries 1 sats on; 0 is right"),
    "carry in": (("settlements", 0, "carry_in"), 1, "is right"),
    "reversal": (("settlements", 1, "payouts", 0, "sats"), 1, "does not undo"),
    "reversal of another": (("settlements", 1, "reverses"), 7, "reverses no standing payment"),
    "settlement value": (("settlements", 2, "value_sats"), 1, "does not belong to one of"),
    "frozen too early": (("settlements", 0, "sequence"), -2, "after it was settled"),
    "state": (("state",), "closed", "is called closed"),
    "another epoch": (("epoch",), 2, "does not concern epoch 3"),
    "batch hash": (("batches", 0, "hash"), "00" * 32, "another batch than"),
    "batch gone": (("batches", 0, "sequence"), 50, "is not part of what was signed"),
    "template": (("templates", 0, "digest"), "00" * 32, "is missing"),
    "price": (("templates", 0, "price"), "1", "not those that the batches refer to"),
    "more value": (("sums", 0, "value"), "99", "the shares prove"),
    "mode": (("weights", 0, "mode"), 2, "weighed by"),
    "work as a number": (("sums", 0, "count"), 1.5, "has a wrong one"),
    "negative height": (("blocks", 0, "height"), -999, "has a wrong one"),
    "upper-case hex": (("sums", 0, "commitment"), "AB" * 32, "has a wrong one"),
    "format": (("format",), "radpool-epoch/3", "has a wrong one"),
    "unordered epochs": (("settlements", 2, "epochs"), [2, 1], "has a wrong one"),
}


# Whoever passes an export on may have altered or dropped the file that does not fit the claim.
NOBODY_ACCUSED = {"batch hash", "batch gone", "template"}


@pytest.mark.parametrize("lie", LIES)
def test_signed_lies_are_found(export, lie):
    path, change, words = LIES[lie]
    claims = copy.deepcopy(claims_of(export))
    place = claims
    for step in path[:-1]:
        place = place[step]
    number = type(change) is int and type(place[path[-1]]) is int
    place[path[-1]] = place[path[-1]] + change if number else change
    sign(export, claims)
    with pytest.raises(FaultyMSPError, match=words) as caught:
        verify_export(export)
    assert caught.value.msp == ("" if lie in NOBODY_ACCUSED else KEY.public.hex())


def test_a_claim_left_out_or_doubled_is_found(export):
    for name in ("sums", "blocks", "settlements", "templates", "batches", "weights"):
        claims = claims_of(export)
        kept = claims[name]
        for wrong in (kept[:-1], [*kept, kept[0]]):
            sign(export, claims | {name: wrong})
            with pytest.raises(FaultyMSPError):
                verify_export(export)
    for name in claims:
        sign(export, {key: value for key, value in claims.items() if key != name})
        with pytest.raises(FaultyMSPError):
            verify_export(export)


@pytest.mark.parametrize(
    "document",
    [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"claims":{},"signature":1}'],
)
def test_what_is_no_claims_is_refused(export, document):
    (export / "epoch.json").write_bytes(document)
    with pytest.raises(FaultyMSPError, match=r"epoch\.json"):
        verify_export(export)


def test_spaces_between_claims_are_an_alteration(export):
    document = (export / "epoch.json").read_bytes()
    (export / "epoch.json").write_bytes(document.replace(b",", b", ", 1))
    with pytest.raises(FaultyMSPError, match="not in the form that is signed"):
        verify_export(export)


def test_another_directory_is_no_fault_of_anybody(tmp_path):
    with pytest.raises(LocalProtocolError, match="holds no export"):
        verify_export(tmp_path)


def test_the_command_says_so_in_words_and_in_json(export, capsys):
    app(["verify", str(export)], result_action="return_value")
    assert "Epoch 1 of MSP" in capsys.readouterr().out
    app(["verify", str(export), "--json"], result_action="return_value")
    report = json.loads(capsys.readouterr().out)
    assert report["verified"] is True
    assert sum(payout["sats"] for payout in report["payouts"]) == report["value_sats"]
    blob = export / "batches" / "0000000001.bin"
    data = bytearray(blob.read_bytes())
    data[40] ^= 1
    blob.write_bytes(data)
    with pytest.raises(SystemExit) as caught:
        app(["verify", str(export), "--json"], result_action="return_value")
    assert caught.value.code == 1
    refused = json.loads(capsys.readouterr().out)
    assert refused["verified"] is False
    assert "0000000001.bin" in refused["reason"]
