"""The vectors of page 10, which Rust reads too."""

import hashlib
from types import SimpleNamespace

import pytest
from vector_file import cases

from radpool_sv2.declarator.challenge import is_challenged
from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.pool.custom import check_custom_job
from radpool_sv2.pool.terms import JobTerms
from radpool_sv2.templates.coinbase import CoinbaseParts, read_outputs
from radpool_sv2.templates.declared import DeclaredJob, Owner, TipView
from radpool_sv2.units import tagged_hash
from radpool_sv2.wire.message import job_declaration

FILE = "10-job-declaration.json"


def terms_of(inputs):
    return JobTerms(
        script=bytes.fromhex(inputs["payout_script"]),
        msp_key=bytes.fromhex(inputs["msp_key"]),
        exponents=tuple(inputs.get("exponents", (0, 120))),
        current_epoch=lambda: inputs["epoch"],
        find_account=None,
        ecash_owner=None,
    )


def owner_of(inputs):
    return Owner(1, "alice", bytes.fromhex(inputs["commitment"]), inputs["rail"])


def value_of(field, given):
    """Makes a message's field of its JSON form."""
    if isinstance(given, list):
        return tuple(value_of(field, each) for each in given)
    if isinstance(given, str) and field not in ("user_identifier", "error_code"):
        return bytes.fromhex(given)
    return given


@cases(FILE, "messages")
def test_message(case):
    kind = getattr(job_declaration, case["inputs"]["message"])
    fields = {name: value_of(name, each) for name, each in case["inputs"]["fields"].items()}
    frame = kind(**fields).encode()
    assert (frame.extension_type, frame.channel_msg) == (0, False)
    assert frame.msg_type == case["expected"]["msg_type"]
    assert frame.payload.hex() == case["expected"]["payload"]
    assert kind.decode(frame.payload) == kind(**fields)


@cases(FILE, "token_outputs")
def test_token_outputs(case):
    """spec: JD-2, JD-24"""
    inputs = case["inputs"]
    terms, owner = terms_of(inputs), owner_of(inputs)
    terms.want(owner.key, inputs["exponent"])
    written = terms.outputs(owner, hidden=inputs["hidden"])
    assert written.hex() == case["expected"]["coinbase_tx_outputs"]


@cases(FILE, "declared_coinbases")
def test_declared_coinbase(case):
    """spec: JD-9"""
    prefix, suffix = (
        bytes.fromhex(case["inputs"][name]) for name in ("coinbase_tx_prefix", "coinbase_tx_suffix")
    )
    if "expected_error" in case:
        with pytest.raises(RemoteProtocolError) as caught:
            CoinbaseParts.declared(prefix, suffix)
        assert caught.value.error_code == case["expected_error"]
        return
    parts, expected = CoinbaseParts.declared(prefix, suffix), case["expected"]
    assert parts.script_prefix.hex() == expected["script_prefix"]
    assert parts.extranonce_len == expected["extranonce_len"]
    assert (parts.reserved or b"").hex() == expected["reserved"]
    extranonce = bytes.fromhex(expected["extranonce"])
    whole = parts.transaction(extranonce, witness=True)
    assert whole.hex() == expected["transaction"]
    stripped = parts.transaction(extranonce, witness=False)
    assert stripped.hex() == expected["transaction_without_witness"]


@cases(FILE, "declared_coinbases")
def test_declared_coinbase_cut_anywhere(case):
    """A right coinbase that ends early, before its script or behind the extranonce, is none.

    spec: JD-9
    """
    if "expected_error" in case:
        return
    prefix, suffix = (
        bytes.fromhex(case["inputs"][name]) for name in ("coinbase_tx_prefix", "coinbase_tx_suffix")
    )
    script_at = 44 if case["expected"]["reserved"] else 42
    cuts = [(prefix[:cut], suffix) for cut in range(script_at)]
    cuts += [(prefix, suffix[:cut]) for cut in range(len(suffix))]
    for halves in cuts:
        with pytest.raises(RemoteProtocolError) as caught:
            CoinbaseParts.declared(*halves)
        assert caught.value.error_code == "invalid-coinbase-tx"


@cases(FILE, "terms")
def test_terms(case):
    """spec: JD-10, JD-11, JD-23, JD-24"""
    inputs = case["inputs"]
    outputs = read_outputs(bytes.fromhex(inputs["outputs"]), inputs["output_count"])
    read = lambda: terms_of(inputs).read(owner_of(inputs), outputs, hidden=inputs["hidden"])  # noqa: E731
    if "expected_error" in case:
        with pytest.raises(RemoteProtocolError) as caught:
            read()
        assert caught.value.error_code == case["expected_error"]
        return
    pay = read()
    found = {
        "paid_sats": pay.paid_sats,
        "epoch": pay.tag.epoch,
        "exponent": pay.tag.exponent,
    }
    assert found == case["expected"]


def declared_of(declared, tip):
    if declared is None:
        return None
    halves = (declared["coinbase_tx_prefix"], declared["coinbase_tx_suffix"])
    return DeclaredJob(
        owner=Owner(1, "alice", bytes(32), 0),
        connection=1,
        tip=tip,
        version=declared["version"],
        coinbase=CoinbaseParts.declared(*map(bytes.fromhex, halves)),
        merkle_path=tuple(map(bytes.fromhex, declared["merkle_path"])),
        template=None,
    )


@cases(FILE, "custom_jobs")
def test_custom_job(case):
    """spec: JD-21, JD-22, JD-25"""
    inputs, job = case["inputs"], case["inputs"]["job"]
    at = inputs["tip"]
    prev_hash = bytes.fromhex(at["prev_hash"])
    tip = TipView(at["height"], prev_hash, at["min_ntime"], at["nbits"], bytes(32), at["time_min"])
    event = SimpleNamespace(
        version=job["version"],
        prev_hash=bytes.fromhex(job["prev_hash"]),
        min_ntime=job["min_ntime"],
        nbits=job["nbits"],
        coinbase_tx_version=job["coinbase_tx_version"],
        coinbase_prefix=bytes.fromhex(job["coinbase_prefix"]),
        coinbase_sequence=job["coinbase_tx_input_n_sequence"],
        output_count=job["output_count"],
        coinbase_tx_outputs=bytes.fromhex(job["coinbase_tx_outputs"]),
        coinbase_locktime=job["coinbase_tx_locktime"],
        merkle_path=list(map(bytes.fromhex, job["merkle_path"])),
        extranonce_len=job["extranonce_len"],
    )
    declared = declared_of(inputs["declared"], tip)
    if "expected" in case:
        coinbase = check_custom_job(event, tip, declared, inputs["now_unix_s"])
        assert coinbase.written_outputs == event.coinbase_tx_outputs
        return
    with pytest.raises(RemoteProtocolError) as caught:
        check_custom_job(event, tip, declared, inputs["now_unix_s"])
    assert caught.value.error_code == case["expected_error"]


@cases(FILE, "challenges")
def test_challenge(case):
    """spec: JD-26"""
    block_hash, token = (bytes.fromhex(case["inputs"][name]) for name in ("block_hash", "token"))
    hashed = tagged_hash("radpool/challenge", block_hash, token)
    assert hashed.hex() == case["expected"]["hash"]
    assert is_challenged(block_hash, token) == case["expected"]["challenged"]


def test_one_job_in_64_is_challenged():
    """spec: JD-26"""
    token = hashlib.sha256(b"a token").digest()
    drawn = sum(is_challenged(hashlib.sha256(bytes([n, m])).digest(), token)
                for n in range(64) for m in range(64))  # fmt: skip
    assert 40 <= drawn <= 90, "64 are expected of 4,096"
