"""The vectors of page 03, which Rust reads too."""

import pytest
from vector_file import bodies_of, cases

from radpool_sv2._native.ledger import template_sums
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
    "weight",
    "rail",
    "share-count",
    "exponent",
    "extranonce-length",
    "table-order",
    "trailing-bytes",
    "table-repeat",
    "signature",
    "work-sum",
    "value-sum",
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
    """spec: SB-4, SB-6, SB-14, SB-16, SB-18, SB-21, SB-22, SB-23, SB-27, EA-3, CV-7"""
    inputs, expected = case["inputs"], case["expected"]
    blob = bytes.fromhex(expected["blob"])
    batch, shares = verify_batch(blob, bodies_of(expected["bodies"]))
    assert batch.hash.hex() == expected["hash"]
    assert batch.root.hex() == expected["root"]
    assert batch.msp_key.hex() == expected["msp_key"]
    assert (batch.count, str(batch.work)) == (expected["count"], expected["work"])
    assert str(batch.value) == expected["value"]
    assert batch.previous.hex() == inputs["previous"]
    for name in ("sequence", "time_ms", "epoch_min"):
        assert getattr(batch, name) == inputs[name]
    assert [share.hash.hex() for share in shares] == expected["header_hashes"]
    for read, share, given in zip(batch.shares, shares, inputs["shares"], strict=True):
        assert share.owner.commitment.hex() == given["commitment"]
        assert (share.owner.epoch, share.owner.rail) == (given["epoch"], given["rail"])
        assert share.work == 2 ** given["exponent"]
        assert share.template is batch.templates[read.template]
        assert str(share.template.price) == given["price"]
        doublings = given["exponent"] - inputs["weight"]["base"]
        assert share.value == int(given["price"]) * 2**doublings
        for name in ("exponent", "version", "ntime", "nonce"):
            assert getattr(read, name) == given[name]
        assert read.extranonce.hex() == given["extranonce"]
    sums = {}
    for share in shares:
        place = (share.owner.commitment.hex(), share.epoch, share.owner.rail)
        count, work, value = sums.get(place, (0, 0, 0))
        sums[place] = (count + 1, work + share.work, value + share.value)
    assert sums == {
        (row["commitment"], row["epoch"], row["rail"]): (
            row["count"],
            int(row["work"]),
            int(row["value"]),
        )
        for row in expected["sums"]
    }
    assert {name: getattr(batch.weight, name) for name in inputs["weight"]} == inputs["weight"]


@cases(FILE, "batches_1")
def test_batch_of_version_1(case):
    """spec: SB-26"""
    expected = case["expected"]
    blob, bodies = bytes.fromhex(expected["blob"]), bodies_of(expected["bodies"])
    batch, shares = verify_batch(blob, bodies)
    assert batch.hash.hex() == expected["hash"]
    assert (batch.weight, str(batch.work), batch.value) == (None, expected["work"], 0)
    assert [share.hash.hex() for share in shares] == expected["header_hashes"]
    assert {share.value for share in shares} == {0}
    summary = verify_batch_natively(blob, bodies)
    assert (summary.weight, summary.work, summary.value) == (None, batch.work, 0)


@cases(FILE, "batches")
def test_batch_natively(case):
    """spec: SB-16"""
    expected = case["expected"]
    summary = verify_batch_natively(bytes.fromhex(expected["blob"]), bodies_of(expected["bodies"]))
    assert summary.hash.hex() == expected["hash"]
    assert summary.root.hex() == expected["root"]
    assert (summary.count, str(summary.work)) == (expected["count"], expected["work"])
    weight = case["inputs"]["weight"]
    assert summary.weight == (weight["mode"], weight["scale"], weight["base"])
    assert str(summary.value) == expected["value"]


@cases(FILE, "batches")
def test_sums_by_template(case):
    """spec: SB-27"""
    inputs, expected = case["inputs"], case["expected"]
    found = template_sums(bytes.fromhex(expected["blob"]))
    due = {}
    for share in inputs["shares"]:
        epoch = max(share["epoch"], inputs["epoch_min"])
        place = int(share["price"]), share["commitment"], epoch, share["rail"]
        count, work, value = due.get(place, (0, 0, 0))
        work += 2 ** share["exponent"]
        value += int(share["price"]) * 2 ** (share["exponent"] - inputs["weight"]["base"])
        due[place] = (count + 1, work, value)
    grouped = {}
    for digest, price, commitment, epoch, rail, *totals in found:
        assert digest.hex() in expected["bodies"]
        place = price, commitment.hex(), epoch, rail
        grouped[place] = tuple(map(sum, zip(grouped.get(place, (0, 0, 0)), totals, strict=True)))
    assert grouped == due


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
    walk(case, ("work", "value"), "/2")


@cases(FILE, "trees_1")
def test_path_of_work_alone(case):
    """spec: SB-26"""
    walk(case, ("work",), "")


def walk(case, names, suffix):
    def sums(row):
        return tuple(int(row[name]) for name in names)

    leaves = case["inputs"]["leaves"]
    count = len(leaves)
    for index, leaf in enumerate(leaves):
        record = bytes.fromhex(leaf["record"])
        node = tagged_hash("radpool/leaf" + suffix, record, packed(sums(leaf))), sums(leaf)
        assert node[0].hex() == case["expected"]["leaf_hashes"][index]
        steps = iter(case["expected"]["paths"][index])
        at, left = index, count
        while left > 1:
            if at % 2 == 1 or at + 1 < left:
                step = next(steps)
                sibling = bytes.fromhex(step["hash"]), sums(step)
                pair = (sibling, node) if at % 2 else (node, sibling)
                node = joined("radpool/node" + suffix, *pair)
            at, left = at // 2, (left + 1) // 2
        assert list(steps) == []
        assert (node[0].hex(), node[1]) == (case["expected"]["root"], sums(case["expected"]))


def packed(sums):
    return b"".join(part.to_bytes(16, "little") for part in sums)


def joined(tag, left, right):
    total = tuple(map(sum, zip(left[1], right[1], strict=True)))
    return tagged_hash(tag, left[0], right[0], packed(left[1]) + packed(right[1])), total
