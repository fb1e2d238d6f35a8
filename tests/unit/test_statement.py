"""The settlement statement of a keyset: what is signed, the tree over its claims, its shares."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256

import pytest
from coincurve import PublicKeyXOnly
from hypothesis import given
from hypothesis import strategies as st
from shares import Key, Owner, Share, ShareBatch, Template, merkle_root, tagged_hash

from radpool_sv2._native.ecash import claims_root
from radpool_sv2.ecash.archive import ShareArchive
from radpool_sv2.ecash.export import PublishedKeyset, claimed_batches, export_keysets
from radpool_sv2.ecash.statement import (
    Allocation,
    ClaimRow,
    ClaimTree,
    KeysetAccount,
    Leaf,
    build_statement,
    claim_record,
)
from radpool_sv2.errors import InternalError, StoreError
from radpool_sv2.ledger.books import Books
from radpool_sv2.store import SqliteStore
from radpool_sv2.verify.statement import claim_leaf, path_root, read_statement, root

KEY = Key()
BLOCK = b"\xb1" + bytes(30) + b"\x0b"


class Archive:
    """Knows the shares of three batches."""

    def share_hash(self, sequence, place):
        return sha256(bytes([sequence, place])).digest()

    def coinbase_output(self, block):
        return (b"\xc0" + bytes(31), 1) if block == BLOCK else None


def blinded(number: int) -> bytes:
    return b"\x02" + number.to_bytes(32, "big")


CLAIMS = [
    ClaimRow(3, 0, 4, blinded(1)),
    ClaimRow(3, 7, 6, blinded(2)),
    ClaimRow(4, 1, 4, blinded(3)),
]

PAYMENT = Allocation(
    settlement=5,
    reverses=None,
    block=BLOCK,
    height=120,
    theta_sats=10,
    fee_msat=100,
    carry_in_msat=3,
    work=12,
    allocated_msat=4951,
)

ACCOUNT = KeysetAccount(
    id=b"\x01" + b"\x5e" * 32,
    number=9,
    policy="pool",
    commitment=b"\xcc" * 32,
    z0=4,
    epochs=(2,),
    state="final",
    allocations=(PAYMENT,),
    theta_msat=4951,
    work=6,
)


def test_a_statement_says_all_of_it_in_one_form():
    """spec: ES-20"""
    signed = build_statement(ACCOUNT, CLAIMS, Archive(), KEY)
    outer = json.loads(signed.document)
    statement = outer["statement"]
    assert statement == {
        "format": "radpool-ecash-statement/1",
        "msp_key": KEY.public.hex(),
        "keyset": "01" + "5e" * 32,
        "number": 9,
        "policy": "pool",
        "commitment": "cc" * 32,
        "z0": 4,
        "epochs": [2],
        "state": "final",
        "price_num": 0,
        "price_den": 0,
        "settlements": [
            {
                "id": 5,
                "reverses": None,
                "block": "0b" + "00" * 30 + "b1",
                "height": 120,
                "coinbase": "00" * 31 + "c0:1",
                "theta_sats": 10,
                "fee_msat": 100,
                "carry_in_msat": 3,
                "work": 12,
                "allocated_msat": 4951,
            }
        ],
        "theta_msat": 4951,
        "work": 6,
        "tokens": {"4": 2, "6": 1},
        "claims": 3,
        "root": statement["root"],
        "issued_msat": None,
        "carry_out_msat": None,
    }
    form = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
    assert signed.hash == tagged_hash("radpool/statement", form)
    key = PublicKeyXOnly(KEY.public)
    assert key.verify(bytes.fromhex(outer["signature"]), signed.hash)
    # The same books give the same bytes.
    assert build_statement(ACCOUNT, CLAIMS, Archive(), KEY) == signed


def test_the_verifier_reads_what_was_written():
    expired = replace(ACCOUNT, state="expired", issued_msat=4_000, carry_out_msat=951)
    signed = build_statement(expired, CLAIMS, Archive(), KEY)
    read = read_statement(signed.document, KEY.public, "x")
    assert (read.keyset, read.work, read.tokens) == (ACCOUNT.id, 6, {4: 2, 6: 1})
    assert (read.issued_msat, read.carry_out_msat) == (4_000, 951)
    [row] = read.settlements
    assert (row.block, row.coinbase) == (BLOCK, (b"\xc0" + bytes(31), 1))
    assert row.amount_msat == 9_903


def test_the_root_is_that_of_the_page():
    """spec: ES-21"""
    leaves = []
    for claim in CLAIMS:
        units = 1 << claim.exponent - 4
        share = Archive().share_hash(claim.sequence, claim.place)
        hashed = tagged_hash("radpool/claim", share, claim.blinded, units.to_bytes(8, "little"))
        leaves.append((hashed, units))
    signed = build_statement(ACCOUNT, CLAIMS, Archive(), KEY)
    assert json.loads(signed.document)["statement"]["root"] == merkle_root(leaves)[0].hex()
    assert merkle_root(leaves)[1] == 6


def test_without_claims_the_root_is_zeros():
    void = replace(ACCOUNT, state="void", allocations=(), theta_msat=0, work=0)
    signed = build_statement(void, [], Archive(), KEY)
    statement = json.loads(signed.document)["statement"]
    assert (statement["root"], statement["tokens"]) == ("00" * 32, {})
    assert read_statement(signed.document, KEY.public, "x").claims == 0


def test_books_that_disagree_with_the_claims_are_not_signed():
    for wrong in (replace(ACCOUNT, work=7), replace(ACCOUNT, theta_msat=4950)):
        with pytest.raises(InternalError, match="the books say"):
            build_statement(wrong, CLAIMS, Archive(), KEY)


@given(st.lists(st.integers(0, 63), min_size=1, max_size=70), st.data())
def test_every_claim_has_a_path_and_no_other_leads_to_the_root(exponents, data):
    """spec: ES-21"""
    leaves = [
        Leaf(bytes([at]) * 32, blinded(at), 1 << exponent) for at, exponent in enumerate(exponents)
    ]
    tree = ClaimTree(leaves)
    nodes = [claim_leaf(*leaf) for leaf in leaves]
    assert root(nodes) == tree.root
    assert tree.root == claims_root(b"".join(_record(leaf) for leaf in leaves))
    index = data.draw(st.integers(0, len(leaves) - 1))
    assert tree.find(leaves[index].blinded) == index
    assert tree.find(b"\x03" + bytes(32)) is None
    assert len(tree) == len(leaves)
    proof = tree.inclusion(b"id", index)
    assert (proof.share_hash, proof.units) == (leaves[index].share_hash, leaves[index].units)
    assert path_root(nodes[index], index, len(leaves), proof.path) == tree.root
    more = claim_leaf(leaves[index].share_hash, leaves[index].blinded, leaves[index].units + 1)
    assert path_root(more, index, len(leaves), proof.path) != tree.root
    assert path_root(nodes[index], len(leaves), len(leaves), proof.path) is None
    assert path_root(nodes[index], index, len(leaves), (*proof.path, nodes[0])) is None
    if proof.path:
        assert path_root(nodes[index], index, len(leaves), proof.path[:-1]) is None


def _record(leaf: Leaf) -> bytes:
    return leaf.share_hash + leaf.blinded + leaf.units.to_bytes(8, "little")


def test_an_exported_claim_has_44_bytes(tmp_path):
    """spec: ES-22"""
    record = claim_record(CLAIMS[1])
    assert record == bytes.fromhex("0300000000000000070006") + blinded(2)
    keyset = PublishedKeyset(ACCOUNT.id, b"{}", CLAIMS)
    assert claimed_batches([keyset, PublishedKeyset(ACCOUNT.id, b"", [])]) == (3, 4)
    assert claimed_batches([]) is None
    export_keysets(tmp_path, [])
    assert list(tmp_path.iterdir()) == []
    export_keysets(tmp_path, [keyset])
    listed = (tmp_path / "ecash" / f"{ACCOUNT.id.hex()}.claims").read_bytes()
    assert listed == b"".join(map(claim_record, CLAIMS))
    with pytest.raises(StoreError, match="cannot be written"):
        export_keysets(tmp_path, [keyset])


# Shares in a ledger.


@pytest.fixture
def ledger(tmp_path):
    """Three batches, of which the ledger keeps whole hashes of the last only; two blocks."""
    store = SqliteStore(tmp_path / "l.sqlite", owner=KEY.public, time_ms=0, recent_shares_max=1)
    books = Books(store, KEY, maturity_blocks=1, unix_ms=lambda: 1)
    account = books.account("ecash.pool")
    shares = []
    for sequence, count in enumerate((2, 1, 2)):
        template = Template(height=101 + sequence, value_sats=1_000 + sequence)
        batch = [
            Share(Owner(account.commitment, 1, 1, account.id), template, ntime=9 * sequence + place)
            for place in range(count)
        ]
        books.commit(ShareBatch(batch))
        shares.append(batch)
    books.record_block(shares[0][1].hash(KEY.public), 101, 1_000, account.id)
    books.record_block(b"\xee" * 32, 102, 1_000, account.id)
    yield store, shares
    store.close()


def test_old_and_new_shares_are_found(ledger):
    store, shares = ledger
    assert [sequence for sequence, _ in store.header_hashes(0, 9)] == [2]
    archive = ShareArchive(store)
    for sequence, batch in enumerate(shares):
        for place, share in enumerate(batch):
            assert archive.share_hash(sequence, place) == share.hash(KEY.public)
    for missing in ((0, 2), (3, 0)):
        with pytest.raises(StoreError, match="the ledger lost share"):
            archive.share_hash(*missing)


def test_the_coinbase_of_a_block_is_found_among_the_shares(ledger):
    store, shares = ledger
    solved = shares[0][1]
    found = ShareArchive(store).coinbase_output(solved.hash(KEY.public))
    txid = sha256(sha256(solved.coinbase(KEY.public)).digest()).digest()
    assert found == (txid, 0)
    # A block that no share solved, and one that the ledger does not have.
    assert ShareArchive(store).coinbase_output(b"\xee" * 32) is None
    assert ShareArchive(store).coinbase_output(bytes(32)) is None


def test_the_coinbase_of_a_batch_s_second_block_is_found_in_front_of_its_epoch(ledger):
    store, shares = ledger
    books = Books(store, KEY, maturity_blocks=1, unix_ms=lambda: 2)
    for share in shares[2]:
        books.record_block(share.hash(KEY.public), 103, 1_000, 1)
    _, epochs = store.epochs(0, 9)
    assert [each.opened_sequence for each in epochs][:3] == [3, 3, 3], "the epochs have no batch"
    for share in shares[2]:
        txid = sha256(sha256(share.coinbase(KEY.public)).digest()).digest()
        assert ShareArchive(store).coinbase_output(share.hash(KEY.public)) == (txid, 0)
