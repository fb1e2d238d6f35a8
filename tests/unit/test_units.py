"""Numbers and hashes."""

from __future__ import annotations

import pytest

from radpool_sv2.units import leading_zero_bits, sha256d, target_of, work_of


def test_both_ends_of_the_ladder():
    assert target_of(0) == 2**256 - 1
    assert work_of(120) == 2**120
    for exponent in (-1, 121):
        with pytest.raises(ValueError, match="give 0 to 120"):
            work_of(exponent)


def test_work_counts_the_step_not_the_hash():
    assert [work_of(z) for z in range(5)] == [1, 2, 4, 8, 16]
    assert all(type(work_of(z)) is int for z in range(121))


def test_the_genesis_header_hashes_as_everybody_knows():
    header = bytes.fromhex(
        "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b2"
        "7ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c"
    )
    value = sha256d(header)
    assert value[::-1].hex().startswith("000000000019d6689c085ae165831e93")
    assert leading_zero_bits(value) == 43
