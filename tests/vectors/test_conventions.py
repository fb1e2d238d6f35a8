"""The vectors of page 01, which Rust reads too."""

import hashlib

import pytest
from vector_file import cases

from radpool_sv2.consensus import target_of_nbits as node_target
from radpool_sv2.units import leading_zero_bits, sha256d, tagged_hash, target_of, work_of
from radpool_sv2.verify.value import target_of_nbits as verifier_target

FILE = "01-conventions.json"


@cases(FILE, "tagged_hashes")
def test_tagged_hash(case):
    """spec: CV-5"""
    tag, message = case["inputs"]["tag"], bytes.fromhex(case["inputs"]["message"])
    assert hashlib.sha256(tag.encode()).hexdigest() == case["expected"]["tag_hash"]
    assert tagged_hash(tag, message).hex() == case["expected"]["hash"]
    assert tagged_hash(tag, message[:2], message[2:]).hex() == case["expected"]["hash"]


@cases(FILE, "double_hashes")
def test_double_hash(case):
    """spec: CV-4"""
    found = sha256d(bytes.fromhex(case["inputs"]["message"]))
    assert found.hex() == case["expected"]["internal"]
    assert found[::-1].hex() == case["expected"]["displayed"]


@cases(FILE, "ladder")
def test_step_of_the_ladder(case):
    """spec: CV-8, CV-10"""
    exponent = case["inputs"]["exponent"]
    if "expected_error" in case:
        with pytest.raises(ValueError, match="outside the ladder"):
            target_of(exponent)
        with pytest.raises(ValueError, match="outside the ladder"):
            work_of(exponent)
        return
    assert f"{target_of(exponent):064x}" == case["expected"]["target"]
    assert str(work_of(exponent)) == case["expected"]["work"]


@cases(FILE, "proofs")
def test_proof(case):
    """spec: CV-4, CV-9"""
    found, exponent = bytes.fromhex(case["inputs"]["hash"]), case["inputs"]["exponent"]
    zeros, is_share = case["expected"]["zeros"], case["expected"]["is_share"]
    assert leading_zero_bits(found) == zeros
    assert (leading_zero_bits(found) >= exponent) is is_share
    assert (int.from_bytes(found, "little") <= target_of(exponent)) is is_share


@cases(FILE, "compact_targets")
@pytest.mark.parametrize("read", [node_target, verifier_target], ids=["node", "verifier"])
def test_compact_target(case, read):
    """spec: CV-11"""
    nbits = case["inputs"]["nbits"]
    if "expected_error" in case:
        with pytest.raises(ValueError, match=f"{nbits:08x}"):
            read(nbits)
        return
    target = read(nbits)
    assert f"{target:064x}" == case["expected"]["target"]
    exponent = case["expected"]["exponent"]
    if exponent is None:
        assert target < target_of(120)
    else:
        assert target_of(exponent) <= target
        assert exponent == 0 or target_of(exponent - 1) > target


@cases(FILE, "merkle_roots")
def test_merkle_root(case):
    """spec: CV-12"""
    root = bytes.fromhex(case["inputs"]["txid"])
    for sibling in case["inputs"]["path"]:
        root = sha256d(root + bytes.fromhex(sibling))
    assert root.hex() == case["expected"]["root"]
