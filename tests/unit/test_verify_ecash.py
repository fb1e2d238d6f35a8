"""The verifier against a mint that signs what is not so.

The mint here is a few lines of its own arithmetic: what it writes down truly must verify, and every
lie about it must be found, whoever signs it.
"""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import dataclass, replace

import pytest
from coincurve import PrivateKey
from shares import Key, Owner, Share, ShareBatch, merkle_root, tagged_hash

from radpool_sv2.cli import app
from radpool_sv2.ecash.archive import ShareArchive
from radpool_sv2.ecash.export import PublishedKeyset, claimed_batches, export_keysets
from radpool_sv2.ecash.statement import Allocation, ClaimRow, KeysetAccount, build_statement
from radpool_sv2.errors import FaultyMSPError
from radpool_sv2.ledger.books import Books
from radpool_sv2.ledger.export import export_epoch
from radpool_sv2.store import SqliteStore
from radpool_sv2.verify import verify_export
from radpool_sv2.verify.batch import verify_batch

KEY = Key()
Z0 = 1


def point(number: int) -> bytes:
    return PrivateKey(number.to_bytes(32, "big")).public_key.format()


@dataclass
class Minted:
    """A keyset and the shares that have its tokens."""

    number: int
    epoch: int
    account: object
    claims: list

    @property
    def id(self) -> bytes:
        return b"\x01" + bytes([self.number]) * 32

    @property
    def work(self) -> int:
        return sum(1 << claim.exponent - Z0 for claim in self.claims)


class Msp:
    """Mines, settles, allocates, exports."""

    def __init__(self, directory):
        clock = iter(range(1_700_000_000_000, 1_800_000_000_000))
        self.store = SqliteStore(directory / "l.sqlite", owner=KEY.public, time_ms=0)
        self.books = Books(self.store, KEY, maturity_blocks=1, unix_ms=lambda: next(clock))
        self.pool = self.books.account("ecash.pool")
        self.window = self.books.account("ecash.window")
        self.alice = self.books.account("alice")
        self.sequence = -1
        self.points = 0
        self.rows = {}

    def mine(self, *work):
        """Commits one batch of `(account, rail, epoch, z)`; returns the shares."""
        self.sequence += 1
        shares = []
        for place, (account, rail, epoch, z) in enumerate(work):
            owner = Owner(account.commitment, epoch, rail, account.id)
            ntime = 1_700_000_000 + 100 * self.sequence + place
            shares.append(Share(owner, z=z, ntime=ntime).mined(KEY.public))
        self.books.commit(ShareBatch(shares))
        return shares

    def claim(self, place, z):
        self.points += 1
        return ClaimRow(self.sequence, place, z, point(self.points))

    def block(self, share):
        block_hash = share.hash(KEY.public)
        self.books.record_block(block_hash, 101, 5_000_000_000, share.owner.account)
        return block_hash

    def reconcile(self, active):
        return self.books.reconcile(active)

    def allocate(self, settlement, keysets, fee=0, carry=0):
        """Splits what a settlement pays a policy, by largest remainder."""
        account = keysets[0].account
        theta = sum(
            row.sats for row in settlement.entries if (row.account, row.rail) == (account.id, 1)
        )
        work = sum(keyset.work for keyset in keysets)
        amount = theta * 1000 - fee + carry
        parts = {keyset.number: amount * keyset.work // work for keyset in keysets}
        order = sorted(keysets, key=lambda k: (-(amount * k.work % work), k.number))
        for keyset in order[: amount - sum(parts.values())]:
            parts[keyset.number] += 1
        for keyset in keysets:
            row = Allocation(
                settlement=settlement.id,
                reverses=None,
                block=settlement.block,
                height=101,
                theta_sats=theta,
                fee_msat=fee,
                carry_in_msat=carry,
                work=work,
                allocated_msat=parts[keyset.number],
            )
            self.rows.setdefault(keyset.number, []).append(row)

    def reverse(self, settlement, keysets):
        for keyset in keysets:
            [paid] = [r for r in self.rows[keyset.number] if r.settlement == settlement.reverses]
            back = replace(
                paid,
                settlement=settlement.id,
                reverses=paid.settlement,
                theta_sats=-paid.theta_sats,
                fee_msat=-paid.fee_msat,
                carry_in_msat=12,
                allocated_msat=-paid.allocated_msat,
            )
            self.rows[keyset.number].append(back)

    def account_of(self, keyset, policy, **changes):
        rows = tuple(self.rows.get(keyset.number, ()))
        theta = sum(row.allocated_msat for row in rows)
        values = {
            "id": keyset.id,
            "number": keyset.number,
            "policy": policy,
            "commitment": keyset.account.commitment,
            "z0": Z0,
            "epochs": (keyset.epoch,),
            "state": "final" if theta else "void",
            "allocations": rows,
            "theta_msat": theta,
            "work": keyset.work,
        }
        return KeysetAccount(**(values | changes))

    def export(self, directory, epoch, keysets):
        archive = ShareArchive(self.store)
        published = []
        for keyset, account in keysets:
            signed = build_statement(account, keyset.claims, archive, KEY)
            published.append(PublishedKeyset(keyset.id, signed.document, keyset.claims))
        # The claims of an export's keysets reach as far as they reach.
        export_epoch(self.store, KEY, directory, epoch, lambda _scope: claimed_batches(published))
        export_keysets(directory, published)
        return directory


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Two pool keysets paid by one block after a reorg, and a window slice that others share."""
    directory = tmp_path_factory.mktemp("mint")
    msp = Msp(directory)
    pool, window, alice = msp.pool, msp.window, msp.alice
    first = Minted(3, 1, pool, [])
    second = Minted(5, 2, pool, [])
    piece = Minted(4, 1, window, [])
    msp.mine((pool, 1, 1, 3), (alice, 0, 1, 2), (window, 1, 1, 2))
    first.claims.append(msp.claim(0, 3))
    piece.claims.append(msp.claim(2, 2))
    # The second share of the policy has no token: its B_ was no good.
    [_, _, found] = msp.mine((pool, 1, 1, 2), (pool, 1, 1, 2), (pool, 1, 1, 1))
    first.claims += [msp.claim(0, 2), msp.claim(2, 1)]
    orphan = msp.block(found)
    [paid] = msp.reconcile({orphan: 1}).paid
    msp.allocate(paid, [first])
    msp.allocate(paid, [piece])
    [_, found] = msp.mine((pool, 1, 2, 1), (pool, 1, 1, 2))
    second.claims += [msp.claim(0, 1), msp.claim(1, 2)]
    block = msp.block(found)
    looked = msp.reconcile({orphan: None, block: 1})
    [undone], [again] = looked.reversed, looked.paid
    msp.reverse(undone, [first, piece])
    msp.allocate(again, [first, second], fee=777, carry=0)
    # A later slice shares with this one, and is not of this epoch.
    later = Minted(6, 3, window, [ClaimRow(0, 0, 4, b"")])
    msp.allocate(again, [piece, later])
    keysets = [
        (first, msp.account_of(first, "pool")),
        (piece, msp.account_of(piece, "window")),
        (second, msp.account_of(second, "pool")),
    ]
    msp.export(directory / "export", 1, keysets)
    msp.store.close()
    return directory / "export"


@pytest.fixture
def export(original, tmp_path):
    return shutil.copytree(original, tmp_path / "export")


FIRST = (b"\x01" + b"\x03" * 32).hex()
PIECE = (b"\x01" + b"\x04" * 32).hex()
SECOND = (b"\x01" + b"\x05" * 32).hex()


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def statement_of(export, keyset: str = FIRST) -> dict:
    return json.loads((export / "ecash" / f"{keyset}.json").read_bytes())["statement"]


def sign(export, statement: dict, keyset: str = FIRST, key: Key = KEY) -> None:
    signature = key.sign(tagged_hash("radpool/statement", canonical(statement))).hex()
    document = canonical({"statement": statement, "signature": signature})
    (export / "ecash" / f"{keyset}.json").write_bytes(document)


def refused(export, words: str) -> str:
    with pytest.raises(FaultyMSPError, match=words) as caught:
        verify_export(export)
    return caught.value.msp


ACCUSED = KEY.public.hex()


def test_the_truth_verifies(export):
    """spec: ES-22, ES-23"""
    report = verify_export(export)
    told = {keyset.keyset.hex(): keyset for keyset in report.keysets}
    assert list(told) == [FIRST, PIECE, SECOND]
    assert [told[FIRST].claims, told[FIRST].work] == [3, 4 + 2 + 1]
    assert [told[SECOND].claims, told[SECOND].work] == [2, 1 + 2]
    payouts = {commitment: sats for (commitment, rail), sats in report.payouts.items() if rail == 1}
    pool = bytes.fromhex(statement_of(export)["commitment"])
    assert told[FIRST].theta_msat + told[SECOND].theta_msat == payouts[pool] * 1000 - 777
    assert told[PIECE].policy == "window"
    # What this export alone cannot show is said, not passed over.
    [note] = [note for note in report.notes if "odd millisats" in note]
    assert "policy window" in note
    # Signing again what was read changes nothing.
    sign(export, statement_of(export))
    assert verify_export(export) == report


def test_an_export_without_keysets_says_what_it_does_not_show(export):
    shutil.rmtree(export / "ecash")
    report = verify_export(export)
    assert report.keysets == ()
    # A payment, its reversal and the next payment, to two accounts.
    assert len([note for note in report.notes if "no keyset with a final price" in note]) == 6


LIES = {
    "one msat more": (("theta_msat",), 1, "its settlements gave it"),
    "theta and its part": (("settlements", 2, "allocated_msat"), 2, "or one more"),
    "theta in sats": (("settlements", 2, "theta_sats"), 1, "or one more|not"),
    "a smaller fee": (("settlements", 2, "fee_msat"), -700, "or one more|told differently"),
    "a negative fee": (("settlements", 2, "fee_msat"), -778, "keeps more than it brings"),
    "a carry": (("settlements", 2, "carry_in_msat"), 700, "or one more|told differently"),
    "more work to divide over": (("settlements", 2, "work"), 5, "or one more"),
    "less work to divide over": (("settlements", 2, "work"), -8, "too little work"),
    "another block": (("settlements", 2, "block"), "00" * 32, "another one in the ledger"),
    "another height": (("settlements", 2, "height"), 1, "another coinbase or height"),
    "another output": (("settlements", 2, "coinbase"), "00" * 32 + ":0", "another coinbase"),
    "no output": (("settlements", 2, "coinbase"), None, "another coinbase"),
    "another settlement": (("settlements", 2, "id"), 1, "that settlement 3 paid is missing"),
    "a reversal of nothing": (("settlements", 1, "reverses"), 7, "does not undo"),
    "half a reversal": (("settlements", 1, "allocated_msat"), 1, "does not undo"),
    "out of order": (("settlements", 0, "id"), 9, "out of order|does not undo"),
    "tokens": (("tokens", "3"), 1, "its tokens are not those"),
    "void": (("state",), "void", "called void"),
    "a price": (("price_den",), 1, "price that its policy"),
    "issued too early": (("issued_msat",), 1, "at the wrong time"),
    "commitment": (("commitment",), "ab" * 32, "not a share of this policy"),
    "z0": (("z0",), -1, "are not those of the statement"),
    "epoch of the future": (("epochs", 0), -1, "later than the keyset"),
    "format": (("format",), "radpool-ecash-statement/2", "has a wrong one"),
    "true for one": (("number",), True, "has a wrong one"),
    "a float": (("work",), 7.0, "has a wrong one"),
    "upper-case hex": (("root",), "AB" * 32, "has a wrong one"),
    "negative": (("claims",), -99, "has a wrong one"),
    "no epochs": (("epochs",), [], "has a wrong one"),
    "a policy of its own": (("policy",), "lottery", "has a wrong one"),
    "an output with zeros": (("settlements", 2, "coinbase"), "00" * 32 + ":01", "has a wrong"),
}

# The list of claims is bound by the root alone: whoever passes an export on may have altered it.
NOBODY_ACCUSED = {"z0", "another settlement"}


@pytest.mark.parametrize("lie", LIES)
def test_signed_lies_are_found(export, lie):
    """attack: A13. spec: ES-23"""
    path, change, words = LIES[lie]
    statement = copy.deepcopy(statement_of(export))
    place = statement
    for step in path[:-1]:
        place = place[step]
    number = type(change) is int and type(place[path[-1]]) is int
    place[path[-1]] = place[path[-1]] + change if number else change
    sign(export, statement)
    accused = refused(export, words)
    assert accused == ("" if lie in NOBODY_ACCUSED else ACCUSED)


def test_a_field_left_out_is_found(export):
    whole = statement_of(export)
    for name in whole:
        sign(export, {key: value for key, value in whole.items() if key != name})
        with pytest.raises(FaultyMSPError):
            verify_export(export)


def test_altered_theta_without_signing_is_found(export):
    """attack: A13"""
    file = export / "ecash" / f"{FIRST}.json"
    theta = statement_of(export)["theta_msat"]
    file.write_bytes(file.read_bytes().replace(str(theta).encode(), str(theta + 1).encode()))
    assert refused(export, "the signature of ecash/") == ""


def test_another_key_cannot_sign(export):
    """attack: A13"""
    stranger = Key(b"\x02" * 32)
    statement = statement_of(export)
    sign(export, statement, key=stranger)
    assert refused(export, "the signature of ecash/") == ""
    sign(export, statement | {"msp_key": stranger.public.hex()}, key=stranger)
    assert refused(export, "statement of another MSP") == ""


@pytest.mark.parametrize(
    "document",
    [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"signature":"","statement":{}}'],
)
def test_what_is_no_statement_is_refused(export, document):
    (export / "ecash" / f"{FIRST}.json").write_bytes(document)
    assert refused(export, "ecash/.* cannot be read") == ""


def test_spaces_and_more_keys_are_an_alteration(export):
    file = export / "ecash" / f"{FIRST}.json"
    whole = file.read_bytes()
    for altered in (whole.replace(b",", b", ", 1), canonical(json.loads(whole) | {"x": 1})):
        file.write_bytes(altered)
        refused(export, "not in the form that is signed")


def relist(export, change, keyset: str = FIRST) -> None:
    """Changes the list of claims and signs for what it then says, as a lying mint would."""
    file = export / "ecash" / f"{keyset}.claims"
    data = file.read_bytes()
    records = change([data[at : at + 44] for at in range(0, len(data), 44)])
    file.write_bytes(b"".join(records))
    batches = {int(path.stem): path.read_bytes() for path in sorted((export / "batches").iterdir())}
    bodies = {
        bytes.fromhex(path.stem): path.read_bytes() for path in (export / "templates").iterdir()
    }
    leaves, tokens = [], {}
    for record in records:
        _, shares = verify_batch(batches[int.from_bytes(record[:8], "little")], bodies)
        share = shares[int.from_bytes(record[8:10], "little")]
        units = 1 << record[10] - Z0
        leaf = tagged_hash("radpool/claim", share.hash, record[11:], units.to_bytes(8, "little"))
        leaves.append((leaf, units))
        tokens[str(record[10])] = tokens.get(str(record[10]), 0) + 1
    root, work = merkle_root(leaves)
    statement = statement_of(export, keyset)
    changed = {"claims": len(records), "root": root.hex(), "work": work, "tokens": tokens}
    sign(export, statement | changed, keyset)


def test_relisting_the_truth_changes_nothing(export):
    relist(export, lambda records: records)
    assert len(verify_export(export).keysets) == 3


def record(sequence, place, z, blinded) -> bytes:
    fixed = sequence.to_bytes(8, "little") + place.to_bytes(2, "little")
    return fixed + bytes([z]) + blinded


CLAIM_LIES = {
    # The share without a token is a share of the policy: who gets one for it must not be told.
    "a hidden claim": (lambda r: [*r[:2], record(1, 1, 2, point(90)), r[2]], "is right|little"),
    "a claim less": (lambda r: r[:-1], "is right|missing"),
    "a share of alice": (lambda r: [r[0], record(0, 1, 2, point(91)), *r[1:]], "of this policy"),
    "a share of the window": (lambda r: [r[0], record(0, 2, 2, point(92)), *r[1:]], "policy"),
    "more than the share's work": (lambda r: [r[0][:10] + b"\x05" + r[0][11:], *r[1:]], "worth 8"),
    "the same B_ twice": (lambda r: [r[0], r[1][:11] + r[0][11:], r[2]], "has a token already"),
    "the B_ of another keyset": (
        lambda r: [r[0][:11] + point(2), *r[1:]],
        "has a token already",
    ),
    "no point": (lambda r: [r[0][:11] + b"\x02" + b"\xff" * 32, *r[1:]], "is no point"),
    "a share of the other keyset": (
        lambda r: [*r, record(2, 0, 1, point(93))],
        "has also a token|later than",
    ),
}


@pytest.mark.parametrize("lie", CLAIM_LIES)
def test_signed_lies_about_claims_are_found(export, lie):
    """attack: A3, A13. spec: ES-23"""
    change, words = CLAIM_LIES[lie]
    relist(export, change)
    accused = refused(export, words)
    assert accused in (ACCUSED, "")
    if lie != "a claim less":
        assert accused == ACCUSED


def test_a_list_that_was_not_signed_for_accuses_nobody(export):
    """attack: A13"""
    file = export / "ecash" / f"{FIRST}.claims"
    whole = file.read_bytes()
    lists = {
        whole[:-44]: "are not those of the statement",
        whole[:-1]: "ends inside a claim",
        whole + whole[:44]: "not in order",
        whole[44:88] + whole[:44] + whole[88:]: "not in order",
        whole[:44] + whole[:44] + whole[88:]: "one share has two",
        whole[:43] + bytes([whole[43] ^ 1]) + whole[44:]: "are not those of the statement",
        whole[:10] + b"\x00" + whole[11:]: "a claim of exponent 0",
        whole[:10] + b"\x80" + whole[11:]: "a claim of exponent 128",
        whole[:88] + record(1, 9, 1, whole[99:132]): "has no share 9",
        whole[:88] + record(9, 0, 1, whole[99:132]): "batch 9, which is not here",
    }
    for altered, words in lists.items():
        file.write_bytes(altered)
        assert refused(export, words) == ""


def test_files_belong_together(export):
    """spec: ES-23"""
    place = export / "ecash"
    (place / f"{FIRST}.claims").rename(place / "x.claims")
    assert refused(export, "claims is missing") == ""
    (place / "x.claims").rename(place / f"{FIRST}.claims")
    (place / "more").write_bytes(b"")
    assert refused(export, "ecash/more is not part") == ""
    (place / "more").unlink()
    (place / f"{FIRST}.json").rename(place / f"{SECOND[:-2]}ff.json")
    assert refused(export, "is the statement of keyset") == ""


def test_a_keyset_that_was_left_out_is_missed(export):
    """attack: A13"""
    for file in (export / "ecash").glob(f"{SECOND}.*"):
        file.unlink()
    assert refused(export, "a keyset that settlement 3 paid is missing") == ""


def test_one_settlement_cannot_be_told_in_two_ways(export):
    """attack: A13"""
    statement = statement_of(export, SECOND)
    [row] = statement["settlements"]
    row["fee_msat"] += 1
    row["carry_in_msat"] += 1
    sign(export, statement, SECOND)
    assert refused(export, "told differently") == ACCUSED


def test_what_is_carried_prices_nothing_in_pool(export):
    """attack: A13. spec: ES-4, ES-23. Work that is paid later would get the leavings."""
    statement = statement_of(export, SECOND)
    [row] = statement["settlements"]
    row["theta_sats"] = row["fee_msat"] = 0
    sign(export, statement, SECOND)
    assert refused(export, "prices it and brings nothing") == ACCUSED


def test_the_odd_millisat_goes_where_it_belongs(export):
    """attack: A13"""
    one, other = statement_of(export), statement_of(export, SECOND)
    for statement, keyset in ((one, FIRST), (other, SECOND)):
        row = statement["settlements"][-1]
        least = (row["theta_sats"] * 1000 - row["fee_msat"]) * statement["work"] // row["work"]
        # Whichever has the odd one, the other gets it here.
        row["allocated_msat"] = 2 * least + 1 - row["allocated_msat"]
        statement["theta_msat"] = sum(r["allocated_msat"] for r in statement["settlements"])
        sign(export, statement, keyset)
    assert refused(export, "is right") == ACCUSED


def test_a_share_without_its_work_is_found_under_a_claim(export):
    """attack: A13, nuts#451: a leaf that is no proof of work convicts whoever signed the batch"""
    blob = export / "batches" / "0000000000.bin"
    data = bytearray(blob.read_bytes())
    data[-65] ^= 1
    blob.write_bytes(data)
    refused(export, "0000000000.bin")


def test_expiry_must_add_up(export):
    """spec: ES-20"""
    statement = statement_of(export, SECOND)
    theta = statement["theta_msat"]
    expired = statement | {"state": "expired", "issued_msat": theta - 5, "carry_out_msat": 5}
    sign(export, expired, SECOND)
    assert verify_export(export).keysets[2].issued_msat == theta - 5
    for issued, left, words in (
        (theta - 5, 6, "which are not"),
        (theta + 1, 0, "and earned"),
        (None, 5, "at the wrong time"),
        (5, None, "at the wrong time"),
    ):
        sign(export, expired | {"issued_msat": issued, "carry_out_msat": left}, SECOND)
        assert refused(export, words) == ACCUSED


# The command.


def test_the_command_lists_the_keysets(export, capsys):
    app(["verify", str(export)], result_action="return_value")
    out = capsys.readouterr().out
    assert FIRST[:16] in out
    assert "pool" in out
    app(["verify", str(export), "--json"], result_action="return_value")
    report = json.loads(capsys.readouterr().out)
    assert [keyset["keyset"] for keyset in report["keysets"]] == [FIRST, PIECE, SECOND]
    assert report["keysets"][0]["work"] == 7


def test_a_miner_finds_own_claims(export, tmp_path, capsys):
    """attack: A8, A13: what was left out is named"""
    mine = tmp_path / "mine.txt"
    mine.write_text(f"# my tokens\n{point(1).hex()}\n{point(3).hex()} spent\n\n")
    command = ["verify", "claim", str(mine), "--export", str(export)]
    app(command, result_action="return_value")
    out = capsys.readouterr().out
    assert "2 of 2" in out
    assert "6 units" in out
    mine.write_text(json.dumps([point(1).hex(), point(99).hex()]))
    with pytest.raises(SystemExit) as caught:
        app([*command, "--json"], result_action="return_value")
    assert caught.value.code == 1
    told = json.loads(capsys.readouterr().out)
    assert told["missing"] == [point(99).hex()]
    [found] = told["found"]
    assert (found["B_"], found["keyset"], found["work"]) == (point(1).hex(), FIRST, 4)
