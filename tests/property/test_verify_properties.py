"""The verifiers: any altered byte is found, and Rust and Python judge alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shares import Key, Owner, Share, ShareBatch, Template, seal

from radpool_sv2._native import ledger as native
from radpool_sv2.errors import FaultyMSPError
from radpool_sv2.ledger.books import Books
from radpool_sv2.ledger.export import export_epoch
from radpool_sv2.ledger.payout import Claim, split_reward
from radpool_sv2.store import SqliteStore
from radpool_sv2.units import tagged_hash
from radpool_sv2.verify import BatchFault, verify_batch, verify_export
from radpool_sv2.verify.bip340 import is_signed_by
from radpool_sv2.verify.payout import payouts_of

KEY = Key()

owners = st.builds(
    Owner, st.binary(min_size=32, max_size=32), st.integers(0, 2**32 - 1), st.integers(0, 2)
)
templates = st.builds(
    Template,
    height=st.integers(1, 2**31),
    merkle_path=st.lists(st.binary(min_size=32, max_size=32), max_size=3).map(tuple),
    extranonce_len=st.just(12),
)
shares = st.builds(
    Share,
    owner=owners,
    template=templates,
    z=st.integers(0, 5),
    version=st.integers(0, 2**24 - 1).map(lambda bits: 0x20000000 | (bits << 5) & 0x1FFFFFE0),
    ntime=st.integers(0, 2**32 - 1),
    extranonce=st.binary(min_size=12, max_size=12),
)


@st.composite
def batches(draw):
    drawn = draw(st.lists(shares, min_size=1, max_size=5, unique_by=lambda share: share.ntime))
    mined = [share.mined(KEY.public) for share in drawn]
    return seal(mined, KEY, draw(st.integers(0, 2**64 - 1)), epoch_min=draw(st.integers(0, 99)))


def judge(blob: bytes, bodies: dict[bytes, bytes]) -> tuple[object, object]:
    try:
        batch, _ = verify_batch(blob, bodies)
        python = (batch.hash, batch.sequence, batch.epoch_min, batch.count, batch.work, batch.root)
    except BatchFault:
        python = None
    try:
        got = native.verify_batch(blob, bodies)
        rust = (got.hash, got.sequence, got.epoch_min, got.count, got.work, got.root)
    except FaultyMSPError:
        rust = None
    return python, rust


@settings(max_examples=40, deadline=None)
@given(batches())
def test_rust_and_python_recompute_the_same(sealed):
    bodies = {digest: body for digest, body, *_ in sealed.bodies}
    python, rust = judge(sealed.blob, bodies)
    assert python is not None
    assert tuple(map(_plain, python)) == tuple(map(_plain, rust))


def _plain(value: object) -> object:
    return bytes(value) if isinstance(value, list | bytes) else value


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches(), st.data())
def test_rust_and_python_refuse_the_same(sealed, data):
    bodies = {digest: body for digest, body, *_ in sealed.bodies}
    at = data.draw(st.integers(0, len(sealed.blob) - 1))
    flipped = sealed.blob[at] ^ data.draw(st.integers(1, 255))
    wrong = sealed.blob[:at] + bytes([flipped]) + sealed.blob[at + 1 :]
    assert judge(wrong, bodies) == (None, None)
    assert judge(sealed.blob[:at], bodies) == (None, None)
    digest, body = next(iter(bodies.items()))
    at = data.draw(st.integers(0, len(body) - 1))
    wrong_body = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
    assert judge(sealed.blob, bodies | {digest: wrong_body}) == (None, None)


@settings(max_examples=60, deadline=None)
@given(shares, st.data())
def test_signed_lies_are_found(share, data):
    """The MSP may sign what it likes: each claim is recomputed."""
    mined = share.mined(KEY.public)
    lie = data.draw(st.sampled_from(["work", "root", "count"]))
    value = {"work": (1 << mined.z) + 1, "root": bytes(32), "count": 2}[lie]
    sealed = seal([mined], KEY, **{lie: value})
    bodies = {digest: body for digest, body, *_ in sealed.bodies}
    assert judge(sealed.blob, bodies) == (None, None)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 2**63 - 1),
    st.dictionaries(
        st.tuples(st.binary(min_size=32, max_size=32), st.integers(0, 2)),
        st.integers(0, 2**120),
        max_size=20,
    ),
    st.binary(min_size=32, max_size=32),
)
def test_ledger_and_verifier_split_alike_and_lose_nothing(sats, work, block):
    claims = [Claim(commitment, rail, own) for (commitment, rail), own in work.items()]
    parts = split_reward(sats, claims, block)
    payouts, carry = payouts_of(sats, work, block)
    assert sum(payouts.values()) + carry == sats
    if parts is None:
        assert not any(work.values())
        assert carry == sats
        return
    assert sum(parts) == sats
    assert payouts == {owner: part for owner, part in zip(work, parts, strict=True) if part}
    total = sum(work.values())
    for owner, part in zip(work, parts, strict=True):
        assert abs(part * total - sats * work[owner]) < total


@settings(max_examples=25, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.integers(0, 63), st.integers(1, 255))
def test_signatures_of_libsecp256k1_verify_and_altered_ones_do_not(message, at, flip):
    signature = KEY.sign(message)
    assert is_signed_by(KEY.public, message, signature)
    wrong = bytearray(signature)
    wrong[at] ^= flip
    assert not is_signed_by(KEY.public, message, bytes(wrong))
    assert not is_signed_by(KEY.public, tagged_hash("x", message), signature)


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """An epoch that was paid, orphaned, and paid again by the next block with its own."""
    directory = tmp_path_factory.mktemp("ledger")
    clock = iter(range(1_700_000_000_000, 1_800_000_000_000))
    store = SqliteStore(directory / "l.sqlite", owner=KEY.public, time_ms=0)
    books = Books(store, KEY, maturity_blocks=1, unix_ms=lambda: next(clock))
    alice, bob = books.account("alice"), books.account("bob")
    blocks = []
    for epoch, account in ((1, alice), (2, bob)):
        owner = Owner(account.commitment, epoch, 0, account.id)
        mined = [Share(owner, z=2, ntime=n).mined(KEY.public) for n in range(2)]
        books.commit(ShareBatch(mined[:1]))
        books.commit(ShareBatch(mined[1:]))
        blocks.append(mined[1].hash(KEY.public))
        books.record_block(blocks[-1], 101, 5_000_000_000, account.id)
        books.reconcile({blocks[0]: 1 if epoch == 1 else None, blocks[-1]: 1})
    out = directory / "export"
    export_epoch(store, KEY, out, 1)
    store.close()
    return out


def test_the_export_is_right_as_it_is(export):
    report = verify_export(export)
    assert (report.batches, report.shares) == (4, 4)
    [note] = report.notes
    assert "is not explained" in note
    assert sum(report.payouts.values()) == report.value_sats == 5_000_000_000


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_any_altered_byte_of_an_export_is_found(export, data):
    files = sorted(path for path in export.rglob("*") if path.is_file())
    file: Path = data.draw(st.sampled_from(files))
    good = file.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "add", "remove"]))
    wrong = {
        "flip": good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :],
        "cut": good[:at],
        "add": good[:at] + b"0" + good[at:],
        "remove": good[:at] + good[at + 1 :],
    }[kind]
    try:
        file.write_bytes(wrong)
        with pytest.raises(FaultyMSPError):
            verify_export(export)
    finally:
        file.write_bytes(good)


def test_missing_and_added_files_are_found(export):
    for file in sorted(path for path in export.rglob("*") if path.is_file()):
        if file.name == "epoch.json":
            continue
        good = file.read_bytes()
        try:
            file.unlink()
            with pytest.raises(FaultyMSPError, match="is missing"):
                verify_export(export)
        finally:
            file.write_bytes(good)
    extra = export / "templates" / "extra.bin"
    extra.write_bytes(b"")
    with pytest.raises(FaultyMSPError, match="not part of what was signed"):
        verify_export(export)
    extra.unlink()
