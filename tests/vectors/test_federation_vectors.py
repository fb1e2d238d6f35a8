"""The vectors of pages 13 and 14."""

import pytest
from vector_file import cases

from radpool_sv2._native.ledger import MspKey
from radpool_sv2.errors import LocalProtocolError, RemoteProtocolError
from radpool_sv2.federation.agreement.mark import Cut, Ending, Mark
from radpool_sv2.federation.agreement.simplex import turns_of
from radpool_sv2.federation.broadcast.entry import Entry
from radpool_sv2.federation.certificate import Certificate
from radpool_sv2.federation.codec import Reader
from radpool_sv2.federation.committee import Committee
from radpool_sv2.federation.evidence import Evidence
from radpool_sv2.federation.identity import Bip340Verifier, MemberRecord
from radpool_sv2.federation.messages import decode_message, encode_message
from radpool_sv2.federation.record import Started
from radpool_sv2.federation.statement import Echo, decode_statement, encode_statement

BROADCAST, AGREEMENT = "13-broadcast.json", "14-epoch-agreement.json"
VERIFIER = Bip340Verifier()


def committee_of(shown):
    return Committee(
        bytes.fromhex(shown["chain"]),
        shown["term"],
        tuple(bytes.fromhex(key) for key in shown["members"]),
        shown["height_first"],
        shown["interval"],
    )


@cases(BROADCAST, "committees")
def test_committee(case):
    """spec: FB-1, FB-2"""
    if "expected_error" in case:
        with pytest.raises(LocalProtocolError):
            committee_of(case["inputs"])
        return
    committee = committee_of(case["inputs"])
    assert {
        "id": committee.id.hex(),
        "faulty_max": committee.faulty_max,
        "quorum": committee.quorum,
    } == case["expected"]


@cases(BROADCAST, "members")
def test_record(case):
    """spec: FB-3"""
    inputs, expected = case["inputs"], case["expected"]
    key = MspKey.from_secret(bytes.fromhex(inputs["secret"]))
    record = MemberRecord.sign(
        key, bytes.fromhex(inputs["transport"]), tuple(inputs["addresses"]), inputs["sequence"]
    )
    assert record.signed_hash().hex() == expected["signed_hash"]
    assert record.encode().hex() == expected["record"]
    found = MemberRecord.decode(record.encode())
    assert found == record
    found.verify(VERIFIER)


@cases(BROADCAST, "entries")
def test_entry(case):
    """spec: FB-4, FB-5, FB-7"""
    inputs, expected = case["inputs"], case["expected"]
    committee = committee_of(inputs["committee"])
    encoded = bytes.fromhex(inputs["encoded"])
    reader = Reader(encoded, committee.id)
    entry = Entry.read(reader)
    reader.finish()
    header = entry.header
    assert entry.encode() == encoded
    assert VERIFIER.is_signed(committee.members[header.sender], header.digest, entry.signature)
    echo = Echo(header.committee, header.sender, header.seq, header.previous, header.digest)
    by = committee.members[inputs["echo_by"]]
    assert VERIFIER.is_signed(by, echo.digest, bytes.fromhex(expected.pop("echo_signature")))
    assert {
        "header": header.encode().hex(),
        "digest": header.digest.hex(),
        "payload": entry.payload.hex(),
        "echo": echo.encode().hex(),
        "echo_digest": echo.digest.hex(),
    } == expected


@cases(BROADCAST, "certificates")
def test_certificate(case):
    """spec: FB-15"""
    committee = committee_of(case["inputs"]["committee"])
    data = bytes.fromhex(case["inputs"]["certificate"])
    reader = Reader(data, committee.id)
    certificate = Certificate.read(reader)
    reader.finish()
    assert certificate.encode() == data
    if "expected_error" in case:
        with pytest.raises(RemoteProtocolError) as caught:
            certificate.verify(committee, VERIFIER)
        assert caught.value.error_code == case["expected_error"]
        return
    certificate.verify(committee, VERIFIER)
    assert [member for member, _ in certificate.signatures] == case["expected"]["members"]
    assert certificate.statement.digest.hex() == case["expected"]["digest"]


@cases(BROADCAST, "messages")
def test_message_of_the_broadcast(case):
    """spec: FB-18"""
    check_message(case)


@cases(AGREEMENT, "messages")
def test_message_of_the_agreement(case):
    """spec: FA-17"""
    check_message(case)


def check_message(case):
    committee = committee_of(case["inputs"]["committee"])
    data = bytes.fromhex(case["inputs"]["message"])
    if "expected_error" in case:
        with pytest.raises(RemoteProtocolError) as caught:
            decode_message(data, committee)
        assert caught.value.error_code == case["expected_error"]
        return
    message = decode_message(data, committee)
    assert encode_message(message) == data
    assert {"type": message.NUMBER, "length": len(data)} == case["expected"]


@cases(BROADCAST, "evidence")
def test_evidence(case):
    """spec: FB-23"""
    committee = committee_of(case["inputs"]["committee"])
    data = bytes.fromhex(case["inputs"]["evidence"])
    evidence = Evidence.decode(data)
    assert evidence.encode() == data
    if "expected_error" in case:
        with pytest.raises(RemoteProtocolError) as caught:
            evidence.verify(committee, VERIFIER)
        assert caught.value.error_code == case["expected_error"]
        return
    evidence.verify(committee, VERIFIER)
    assert evidence.offender == case["expected"]["offender"]


@cases(AGREEMENT, "marks")
def test_mark(case):
    """spec: FA-1"""
    inputs, expected = case["inputs"], case["expected"]
    committee = Committee(bytes(32), 0, (bytes(32),), inputs["height_first"], inputs["interval"])
    height = committee.height_of(inputs["epoch"])
    assert height == expected["height"]
    assert committee.epochs_ended(height) == inputs["epoch"] + 1
    mark = Mark(inputs["epoch"], height, bytes.fromhex(inputs["block_hash"]))
    assert mark.encode().hex() == expected["payload"]
    assert Mark.decode(mark.encode()) == mark


@cases(AGREEMENT, "cuts")
def test_cut(case):
    """spec: FA-4"""
    inputs = case["inputs"]
    if "expected_error" in case:
        with pytest.raises(RemoteProtocolError):
            Cut.read(Reader(bytes.fromhex(inputs["encoded"])))
        return
    endings = tuple(
        Ending(member, seq, bytes.fromhex(digest)) for member, seq, digest in inputs["endings"]
    )
    cut = Cut(inputs["epoch"], endings)
    assert cut.encode().hex() == case["expected"]["encoded"]
    assert cut.digest(committee_of(inputs["committee"]).id).hex() == case["expected"]["digest"]
    assert Cut.read(Reader(cut.encode())) == cut


@cases(AGREEMENT, "turns")
def test_turns(case):
    """spec: FA-6"""
    committee = committee_of(case["inputs"]["committee"])
    assert turns_of(committee, case["inputs"]["epoch"]) == case["expected"]["members"]


@cases(AGREEMENT, "roots")
def test_root(case):
    """spec: FA-18"""
    inputs, expected = case["inputs"], case["expected"]
    endings = tuple(
        (epoch, Ending(member, seq, bytes.fromhex(digest)))
        for epoch, member, seq, digest in inputs["endings"]
    )
    start = Started(inputs["decided"], endings)
    assert start.body().hex() == expected["start"]
    assert Started.read(Reader(start.body())) == start
    assert start.root(bytes.fromhex(inputs["state_root"])).hex() == expected["root"]


@cases(AGREEMENT, "statements")
def test_statement(case):
    """spec: FA-7, FA-15"""
    inputs, expected = case["inputs"], case["expected"]
    committee = committee_of(inputs["committee"])
    data = bytes.fromhex(inputs["statement"])
    reader = Reader(data)
    statement = decode_statement(reader)
    reader.finish()
    assert encode_statement(statement, whole=True) == data
    assert statement.committee == committee.id
    assert statement.digest.hex() == expected["digest"]
    assert list(statement.slot) == expected["slot"]
    key = committee.members[inputs["by"]]
    assert VERIFIER.is_signed(key, statement.digest, bytes.fromhex(expected["signature"]))
