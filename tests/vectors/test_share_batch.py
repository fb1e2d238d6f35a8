"""The vectors of page 03, which Rust reads too."""

import pytest
from vector_file import bodies_of, cases

from radpool_sv2._native.ledger import verify_batch as verify_batch_natively
from radpool_sv2.errors import FaultyMSPError
from radpool_sv2.units import tagged_hash
from radpool_sv2.verify import BatchFault, decode_batch, verify_batch
from radpool_sv2.verify.batch import EVIDENCE, decode_body

FILE = "03-share-batch.json"

PROVES_NOTHING = {
    "truncated",
    "magic",
    "version",
    "rail",
    "share-count",
    "exponent",
    "extranonce-length",
    "table-order",
    "trailing-bytes",
    "table-repeat",
    "signature",
    "work-sum",
    "root",
    "template-missing",
    "template-digest",
}
"""Errors that whoever passed the bytes on may have made."""


@cases(FILE, "bodies")
def test_body(case):
    """spec: SB-1, SB-2, SB-3, CV-1, CV-2"""
    if "expected_error" in case:
        with pytest.raises(BatchFault) as caught:
            decode_body(bytes.fromhex(case["inputs"]["encoded"]))
        assert caught.value.code == case["expected_error"]
        return
    encoded = bytes.fromhex(case["expected"]["encoded"])
    assert tagged_hash("radpool/template", encoded).hex() == case["expected"]["digest"]
    body = decode_body(encoded)
    for name, value in case["inputs"]["body"].items():
        found = getattr(body, name)
        if isinstance(found, bytes):
            found = found.hex()
        elif not isinstance(found, int):
            found = [sibling.hex() for sibling in found]
        assert found == value, name


@cases(FILE, "batches")
def test_batch(case):
    """spec: SB-4, SB-6, SB-14, SB-16, SB-18, SB-21, SB-22, SB-23, EA-3, CV-7"""
    inputs, expected = case["inputs"], case["expected"]
    blob = bytes.fromhex(expected["blob"])
    batch, shares = verify_batch(blob, bodies_of(expected["bodies"]))
    assert batch.hash.hex() == expected["hash"]
    assert batch.root.hex() == expected["root"]
    assert batch.msp_key.hex() == expected["msp_key"]
    assert (batch.count, str(batch.work)) == (expected["count"], expected["work"])
    assert batch.previous.hex() == inputs["previous"]
    for name in ("sequence", "time_ms", "epoch_min"):
        assert getattr(batch, name) == inputs[name]
    assert [share.hash.hex() for share in shares] == expected["header_hashes"]
    for read, share, given in zip(batch.shares, shares, inputs["shares"], strict=True):
        assert share.owner.commitment.hex() == given["commitment"]
        assert (share.owner.epoch, share.owner.rail) == (given["epoch"], given["rail"])
        assert share.work == 2 ** given["exponent"]
        for name in ("exponent", "version", "ntime", "nonce"):
            assert getattr(read, name) == given[name]
        assert read.extranonce.hex() == given["extranonce"]
    sums = {}
    for share in shares:
        place = (share.owner.commitment.hex(), share.epoch, share.owner.rail)
        count, work = sums.get(place, (0, 0))
        sums[place] = (count + 1, work + share.work)
    assert sums == {
        (row["commitment"], row["epoch"], row["rail"]): (row["count"], int(row["work"]))
        for row in expected["sums"]
    }


@cases(FILE, "batches")
def test_batch_natively(case):
    """spec: SB-16"""
    expected = case["expected"]
    summary = verify_batch_natively(bytes.fromhex(expected["blob"]), bodies_of(expected["bodies"]))
    assert summary.hash.hex() == expected["hash"]
    assert summary.root.hex() == expected["root"]
    assert (summary.count, str(summary.work)) == (expected["count"], expected["work"])


@cases(FILE, "refused")
def test_refused_batch(case):
    """spec: SB-3, SB-5, SB-7, SB-8, SB-9, SB-10, SB-14, SB-16, SB-20, SB-21, SB-23, SB-24, CV-3"""
    bodies = bodies_of(case["inputs"]["bodies"])
    with pytest.raises(BatchFault) as caught:
        verify_batch(bytes.fromhex(case["inputs"]["blob"]), bodies)
    assert caught.value.code == case["expected_error"]


@cases(FILE, "refused")
def test_who_is_to_blame(case):
    """spec: SB-25"""
    blob = bytes.fromhex(case["inputs"]["blob"])
    with pytest.raises(FaultyMSPError) as caught:
        verify_batch_natively(blob, bodies_of(case["inputs"]["bodies"]))
    proves = case["expected_error"] not in PROVES_NOTHING
    assert proves is (case["expected_error"] in EVIDENCE)
    assert caught.value.msp == (decode_batch(blob).msp_key.hex() if proves else "")
    assert caught.value.evidence == blob


@cases(FILE, "trees")
def test_path(case):
    """spec: SB-11, SB-12, SB-13, SB-15"""
    leaves = case["inputs"]["leaves"]
    count = len(leaves)
    for index, leaf in enumerate(leaves):
        work = int(leaf["work"])
        record = bytes.fromhex(leaf["record"])
        node = tagged_hash("radpool/leaf", record, work.to_bytes(16, "little")), work
        assert node[0].hex() == case["expected"]["leaf_hashes"][index]
        steps = iter(case["expected"]["paths"][index])
        at, left = index, count
        while left > 1:
            if at % 2 == 1 or at + 1 < left:
                step = next(steps)
                sibling = bytes.fromhex(step["hash"]), int(step["work"])
                node = joined(sibling, node) if at % 2 else joined(node, sibling)
            at, left = at // 2, (left + 1) // 2
        assert list(steps) == []
        assert (node[0].hex(), str(node[1])) == (case["expected"]["root"], case["expected"]["work"])


def joined(left, right):
    works = left[1].to_bytes(16, "little") + right[1].to_bytes(16, "little")
    return tagged_hash("radpool/node", left[0], right[0], works), left[1] + right[1]
