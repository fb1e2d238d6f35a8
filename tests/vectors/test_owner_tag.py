"""The vectors of page 02, which Rust reads too."""

import pytest
from vector_file import cases

from radpool_sv2.ledger import Ledger
from radpool_sv2.ledger.account import commitment_of
from radpool_sv2.verify.coinbase import CoinbaseFault, check_coinbase, owner_script

FILE = "02-owner-tag.json"


def script_of(inputs):
    key, commitment = bytes.fromhex(inputs["msp_key"]), bytes.fromhex(inputs["commitment"])
    return owner_script(key, commitment, inputs["epoch"], inputs["rail"], inputs["exponent"])


@cases(FILE, "commitments")
def test_commitment(case):
    """spec: OT-1"""
    salt = bytes.fromhex(case["inputs"]["salt"])
    assert commitment_of(case["inputs"]["account"], salt).hex() == case["expected"]["commitment"]


async def test_accounts_have_salts_of_their_own(tmp_path):
    """spec: OT-2"""

    class Key:
        public = bytes(32)

    ledger = await Ledger.open(tmp_path / "ledger.sqlite", Key(), maturity_blocks=1)
    accounts = [await ledger.account(name) for name in ("alice", "bob", "carol")]
    assert len({account.salt for account in accounts}) == 3
    for account in accounts:
        assert len(account.salt) == 16
        assert account.commitment == commitment_of(account.name, account.salt)
        assert await ledger.account(account.name) == account
    shown = repr((await ledger.accounts(0, 9), await ledger.epochs(0, 9)))
    assert all(account.salt.hex() not in shown for account in accounts)
    await ledger.close()


@cases(FILE, "tags")
def test_tag(case):
    """spec: OT-3, OT-4, OT-5"""
    script = script_of(case["inputs"])
    assert script.hex() == case["expected"]["script"]
    assert script[8:].hex() == case["expected"]["binding"]
    assert (bytes(8) + bytes([len(script)]) + script).hex() == case["expected"]["output"]


@cases(FILE, "coinbases")
def test_coinbase(case):
    """spec: OT-7, OT-11, OT-12, OT-13, OT-14, OT-15"""
    inputs, body = case["inputs"], case["inputs"]["body"]
    parts = ("coinbase_prefix", "coinbase_before_tag", "coinbase_after_tag")
    prefix, before, after = (bytes.fromhex(body[part]) for part in parts)
    script, extranonce = script_of(inputs), bytes.fromhex(inputs["extranonce"])
    output = bytes(8) + bytes([len(script)]) + script
    coinbase = prefix + extranonce + before + output + after
    place = (len(prefix), len(extranonce), body["height"])
    if "expected" in case:
        check_coinbase(coinbase, *place, script)
        assert coinbase.hex() == case["expected"]["coinbase"]
        return
    with pytest.raises(CoinbaseFault) as caught:
        check_coinbase(coinbase, *place, script)
    assert caught.value.code == case["expected_error"]
