"""Bytes of the federation: each structure there and back, cut off anywhere, and made of nothing."""

import pytest
from federation_rig import Rig, committee_of
from hypothesis import given, settings
from hypothesis import strategies as st

from radpool_sv2.errors import LocalProtocolError, RemoteProtocolError
from radpool_sv2.federation.agreement.mark import Cut, Ending, Mark
from radpool_sv2.federation.broadcast.entry import START, Entry
from radpool_sv2.federation.broadcast.payload import PAYLOAD_BYTES_MAX, Kind
from radpool_sv2.federation.certificate import Certificate
from radpool_sv2.federation.codec import CodecError, Reader
from radpool_sv2.federation.committee import MEMBERS_MAX, Committee
from radpool_sv2.federation.evidence import Evidence
from radpool_sv2.federation.identity import Bip340Verifier, MemberRecord
from radpool_sv2.federation.messages import (
    ENTRIES_BYTES_MAX,
    ENTRY_HEAD_BYTES,
    MESSAGE_BYTES_MAX,
    DecidedEpoch,
    Entries,
    Epochs,
    Gone,
    Head,
    Notarised,
    Propose,
    Pull,
    PullEpochs,
    Ready,
    SentEntry,
    Sync,
    decode_message,
    encode_message,
)
from radpool_sv2.federation.record import (
    Applied,
    Checkpointed,
    Decided,
    Echoed,
    Ended,
    Grown,
    Proposed,
    Started,
    Voted,
    decode_record,
    encode_record,
    is_needed,
)
from radpool_sv2.federation.statement import (
    NO_HASH,
    Header,
    Phase,
    Proposal,
    StateRoot,
    Vote,
)
from radpool_sv2.testing.signatures import bip340_signers

RIG = Rig(linked=False)
ID = RIG.committee.id
ENTRY = RIG.entry(1, payload=b"what is said")
HEADER = ENTRY.header
ECHO = RIG.echo(ENTRY)
CUT = Cut(3, (Ending(0, 5, b"\1" * 32), Ending(2, 7, b"\2" * 32), Ending(3, 0, b"\3" * 32)))
PROPOSAL = Proposal(ID, 3, 2, 1, CUT.digest(ID))
NOTE = Vote(ID, 3, 2, Phase.NOTARISE, CUT.digest(ID))
SKIP = Vote(ID, 3, 2, Phase.SKIP, NO_HASH)
FINAL = Vote(ID, 3, 2, Phase.FINALISE, CUT.digest(ID))
ROOT = StateRoot(ID, 3, b"\7" * 32)
PROPOSE = Propose(PROPOSAL, RIG.signers[0].sign(PROPOSAL.digest), CUT)
HEADS = (Head(0, 3, b"\4" * 32), Head(2, 1, b"\5" * 32))
DECISION = DecidedEpoch(RIG.certificate(FINAL), CUT, RIG.certificate(ROOT))

MESSAGES = [
    Sync((), 0, 0, None),
    Sync(HEADS, 7, 6, ENTRY.signed_header),
    SentEntry(ENTRY),
    RIG.said(1, ECHO),
    RIG.said(1, NOTE),
    RIG.said(1, SKIP),
    RIG.said(1, ROOT),
    Ready(HEADS, 7, 6),
    Pull(3, 1 << 63),
    Entries(RIG.certificate(ECHO), (ENTRY,)),
    PROPOSE,
    Notarised(RIG.certificate(NOTE), CUT),
    Notarised(RIG.certificate(SKIP), None),
    PullEpochs(9),
    Gone(2**32 - 1),
    Epochs((DECISION,)),
    Epochs((DecidedEpoch(RIG.certificate(FINAL), CUT, None),)),
]
RECORDS = [
    Echoed(ENTRY),
    Grown(RIG.certificate(ECHO), ()),
    Grown(RIG.certificate(ECHO), (ENTRY,)),
    Proposed(PROPOSAL, CUT),
    Voted(NOTE, CUT),
    Voted(SKIP, None),
    Ended(RIG.certificate(NOTE), CUT),
    Ended(RIG.certificate(SKIP), None),
    Decided(RIG.certificate(FINAL), CUT),
    Applied(3, b"\7" * 32),
    Checkpointed(RIG.certificate(ROOT)),
    Started(0, ()),
    Started(4, ((3, CUT.endings[0]), (1, CUT.endings[1]))),
]


def is_refused_cut_off_or_with_more(decode, data):
    for wrong in (*(data[:length] for length in range(len(data))), data + b"\0"):
        with pytest.raises(CodecError):
            decode(wrong, RIG.committee)


def named(each):
    return type(each).__name__


@pytest.mark.parametrize("message", MESSAGES, ids=named)
def test_messages_come_back_and_are_refused_cut_off_or_with_more(message):
    """spec: FB-18"""
    data = encode_message(message)
    assert decode_message(data, RIG.committee) == message
    is_refused_cut_off_or_with_more(decode_message, data)


@pytest.mark.parametrize("record", RECORDS, ids=named)
def test_records_come_back_and_are_refused_cut_off_or_with_more(record):
    data = encode_record(record)
    assert decode_record(data, RIG.committee) == record
    is_refused_cut_off_or_with_more(decode_record, data)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=600))
def test_bytes_of_any_kind_are_a_message_or_a_codec_error(data):
    """spec: FB-18"""
    for read in (decode_message, decode_record):
        try:
            found = read(data, RIG.committee)
        except CodecError:
            continue
        write = encode_message if read is decode_message else encode_record
        assert write(found) == data
    for decode in (Mark.decode, Evidence.decode, MemberRecord.decode):
        try:
            assert decode(data).encode() == data
        except CodecError:
            continue


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(MESSAGES), st.integers(0, 10**6), st.integers(1, 255))
def test_messages_with_a_flipped_byte_are_another_message_or_a_codec_error(message, at, flip):
    """spec: FB-18"""
    data = bytearray(encode_message(message))
    data[at % len(data)] ^= flip
    try:
        found = decode_message(bytes(data), RIG.committee)
    except CodecError:
        return
    assert encode_message(found) == data
    assert found != message


def test_what_is_read_whole_has_nothing_behind_it_and_what_is_wrong_first_is_told():
    """spec: FB-18"""
    with Reader(b"\1\2") as reader:
        assert (reader.u8(), reader.u8()) == (1, 2)
    with pytest.raises(CodecError, match="1 bytes follow"), Reader(b"\1\2") as reader:
        reader.u8()
    with pytest.raises(CodecError, match="must be below 1"), Reader(b"\1\2") as reader:
        reader.below(1, 1, "the first")


def test_a_message_is_bounded():
    """spec: FB-18"""
    with pytest.raises(CodecError, match="4194304 is the most"):
        decode_message(bytes(MESSAGE_BYTES_MAX + 1), RIG.committee)
    # A length is compared with its bound before anything is read.
    body = HEADER.body().replace(
        len(ENTRY.payload).to_bytes(4, "little"), (PAYLOAD_BYTES_MAX + 1).to_bytes(4, "little")
    )
    with pytest.raises(CodecError, match="the length of the payload"):
        Header.read(Reader(body, ID))


def test_the_largest_payload_fits_an_answer():
    """spec: FB-7, FB-18"""
    entry = RIG.entry(1, payload=bytes(PAYLOAD_BYTES_MAX))
    signers, _ = committee_of(MEMBERS_MAX)[1:]
    certificate = Certificate(
        RIG.echo(entry), tuple((each, signers[each].sign(bytes(32))) for each in range(MEMBERS_MAX))
    )
    message = Entries(certificate, (entry,))
    assert decode_message(encode_message(message), RIG.committee) == message


@pytest.mark.parametrize("over", [0, 1])
def test_the_entries_of_an_answer_are_bounded_together(over):
    """spec: FB-18"""
    each = ENTRIES_BYTES_MAX // 4 - ENTRY_HEAD_BYTES
    entries = [RIG.entry(1, payload=bytes(each)) for _ in range(3)]
    entries.append(RIG.entry(1, payload=bytes(each + ENTRIES_BYTES_MAX % 4 + over)))
    message = Entries(RIG.certificate(ECHO), tuple(entries))
    data = encode_message(message)
    assert len(data) < MESSAGE_BYTES_MAX
    if over:
        with pytest.raises(CodecError, match="the entries of an answer"):
            decode_message(data, RIG.committee)
    else:
        assert decode_message(data, RIG.committee) == message


def test_a_payload_that_its_header_does_not_name_is_refused():
    """spec: FB-7"""
    wrong = Entry(HEADER, ENTRY.signature, b"what is sAid")
    with pytest.raises(CodecError, match="not the one that its header names"):
        decode_message(encode_message(SentEntry(wrong)), RIG.committee)


def test_orders_and_references_inside_messages_are_checked():
    """spec: FB-18, FA-4, FA-7"""
    backwards = Cut(3, CUT.endings[::-1])
    other = Cut(4, CUT.endings)
    for message in (
        Ready(HEADS[::-1], 0, 0),
        Ready((HEADS[0], HEADS[0]), 0, 0),
        Notarised(RIG.certificate(NOTE), backwards),
        Epochs((DecidedEpoch(RIG.certificate(FINAL), other, None),)),
        Epochs((DecidedEpoch(RIG.certificate(NOTE), CUT, None),)),
        Epochs((DecidedEpoch(RIG.certificate(FINAL), CUT, RIG.certificate(StateRoot(ID, 4, ID))),)),
        Epochs((DECISION, DECISION)),
        Entries(RIG.certificate(ROOT), (ENTRY,)),
        Entries(RIG.certificate(ECHO), ()),
        Propose(Proposal(ID, 3, 2, 2, CUT.digest(ID)), bytes(64), CUT),
        RIG.said(1, Vote(ID, 3, 2, Phase.SKIP, b"\1" * 32)),
        RIG.said(1, Vote(ID, 3, 2, Phase.NOTARISE, NO_HASH)),
    ):
        with pytest.raises(CodecError):
            decode_message(encode_message(message), RIG.committee)


def test_quorums_have_an_honest_member_in_common_and_are_reached_by_the_honest():
    """spec: FB-2"""
    for n in range(1, MEMBERS_MAX + 1):
        committee = committee_of(n)[0]
        t, q = committee.faulty_max, committee.quorum
        assert 3 * t < n <= 3 * t + 3
        assert 2 * q - n >= t + 1
        assert q <= n - t
        assert n < 3 or q == -(-2 * n // 3)


def test_a_committee_is_what_all_its_members_have_in_common():
    """spec: FB-1"""
    committee, _, _ = committee_of(4)
    keys = committee.members
    others = [
        Committee(bytes(32), 0, keys, 1),
        Committee(committee.chain, 1, keys, 1),
        Committee(committee.chain, 0, keys, 2),
        Committee(committee.chain, 0, keys, 1, 2),
        Committee(committee.chain, 0, keys[:3], 1),
    ]
    assert len({each.id for each in [committee, *others]}) == 6
    assert committee.number_of(keys[2]) == 2
    for wrong in ((), keys[::-1], (keys[0], keys[0]), (*keys, b"\xff" * 31)):
        with pytest.raises(LocalProtocolError):
            Committee(committee.chain, 0, wrong)
    for more in ({"term": -1}, {"height_first": 1 << 32}, {"interval": 0}, {"interval": 1 << 16}):
        with pytest.raises(LocalProtocolError):
            Committee(**({"chain": committee.chain, "term": 0, "members": keys} | more))
    with pytest.raises(LocalProtocolError, match="1 to 128"):
        Committee(committee.chain, 0, tuple(bytes([each] * 32) for each in range(129)))
    with pytest.raises(LocalProtocolError, match="is no member"):
        committee.number_of(bytes(32))


def test_epochs_end_at_their_heights():
    """spec: FA-1"""
    committee = committee_of(4, height_first=10, interval=3)[0]
    assert [committee.height_of(each) for each in (0, 1, 5)] == [10, 13, 25]
    assert [committee.epochs_ended(each) for each in (0, 9, 10, 12, 13)] == [0, 0, 1, 1, 2]


def test_a_certificate_has_exactly_a_quorum_in_order():
    """spec: FB-15"""
    good = RIG.certificate(ECHO)
    good.verify(RIG.committee, RIG.verifier)
    assert [member for member, _ in good.signatures] == [0, 1, 2]
    every = tuple((each, RIG.signers[each].sign(ECHO.digest)) for each in range(4))
    stranger = committee_of(4, seed=1)[1][3]
    for signatures in (
        every[:2],
        every,
        every[1::-1] + every[2:3],
        (every[0], every[0], every[1]),
        (*every[:2], (4, every[2][1])),
        (*every[:2], (3, every[2][1])),
        (*every[:2], (3, stranger.sign(ECHO.digest))),
    ):
        with pytest.raises(RemoteProtocolError):
            Certificate(ECHO, signatures).verify(RIG.committee, RIG.verifier)
    other = Committee(RIG.committee.chain, 1, RIG.committee.members, 1)
    with pytest.raises(RemoteProtocolError, match="another committee"):
        good.verify(other, RIG.verifier)


def test_evidence_convinces_only_of_two_words_on_one_slot():
    """spec: FB-6, FB-23"""
    other = RIG.entry(1, payload=b"something else").header

    def evidence(first, second, offender=1, by=1):
        key = RIG.signers[by]
        return Evidence(offender, first, key.sign(first.digest), second, key.sign(second.digest))

    good = [
        (HEADER, other),
        (ECHO, RIG.echo(RIG.entry(1, payload=b"y"))),
        (NOTE, Vote(ID, 3, 2, Phase.NOTARISE, b"\1" * 32)),
        (SKIP, FINAL),
        (PROPOSAL, Proposal(ID, 3, 2, None, CUT.digest(ID))),
        (ROOT, StateRoot(ID, 3, ID)),
    ]
    for first, second in good:
        found = Evidence.decode(evidence(first, second).encode())
        found.verify(RIG.committee, RIG.verifier)
        assert found == evidence(first, second)
    later = RIG.entry(1, START.after(ENTRY)).header
    for bad in (
        evidence(HEADER, HEADER),
        evidence(HEADER, later),
        evidence(NOTE, SKIP),
        evidence(NOTE, FINAL),
        evidence(HEADER, other, by=2),
        evidence(HEADER, other, offender=2, by=2),
        evidence(HEADER, ECHO),
        evidence(HEADER, other, offender=4),
        evidence(ROOT, StateRoot(bytes(32), 3, ID)),
    ):
        with pytest.raises(RemoteProtocolError):
            bad.verify(RIG.committee, RIG.verifier)


def test_a_member_record_is_signed_and_bounded():
    """spec: FB-3"""
    signers, verifier = bip340_signers(2, 0)
    record = MemberRecord.sign(signers[0], b"\2" * 32, ("a.onion:7", "10.0.0.1:7"), 5)
    found = MemberRecord.decode(record.encode())
    assert found == record
    found.verify(verifier)
    forged = MemberRecord(signers[1].public, *list(vars(record).values())[1:])
    with pytest.raises(RemoteProtocolError, match="not signed"):
        forged.verify(verifier)
    for length in range(len(record.encode())):
        with pytest.raises(CodecError):
            MemberRecord.decode(record.encode()[:length])
    assert MemberRecord.sign(signers[0], b"\2" * 32, ("x" * 255,) * 8, 0)
    for addresses in (("x" * 256,), ("x",) * 9, ("",), ("a b",), ("ä",)):
        with pytest.raises(LocalProtocolError):
            MemberRecord.sign(signers[0], b"\2" * 32, addresses, 0)
    with pytest.raises(LocalProtocolError):
        MemberRecord.sign(signers[0], b"\2" * 31, (), 0)


def test_bip340_itself_checks_what_members_sign():
    """spec: FB-4"""
    signers, verifier = bip340_signers(3, 0)
    signature = signers[0].sign(HEADER.digest)
    small = Bip340Verifier(keys_max=1)
    for each in (verifier, small, small):
        assert each.is_signed(signers[0].public, HEADER.digest, signature)
        assert not each.is_signed(signers[1].public, HEADER.digest, signature)
        assert not each.is_signed(signers[0].public, ECHO.digest, signature)
        assert not each.is_signed(signers[0].public, HEADER.digest, signature[:-1])
        assert not each.is_signed(b"\xff" * 32, HEADER.digest, signature)


def test_behind_a_start_the_records_are_needed_that_are_not_covered_by_it():
    start = Started(4, ((3, Ending(1, 0, HEADER.digest)),))
    second = RIG.entry(1, START.after(ENTRY))
    later = Vote(ID, 4, 0, Phase.SKIP, NO_HASH)
    offer = Proposal(ID, 4, 0, None, CUT.digest(ID))
    next_cut = Cut(4, CUT.endings)
    for record in RECORDS:
        assert not is_needed(record, start), record
    for record in (
        Echoed(second),
        Echoed(RIG.entry(2)),
        Grown(RIG.certificate(RIG.echo(second)), ()),
        Proposed(offer, next_cut),
        Voted(later, None),
        Ended(RIG.certificate(later), None),
        Decided(RIG.certificate(later), next_cut),
        Applied(4, bytes(32)),
        Checkpointed(RIG.certificate(StateRoot(ID, 4, bytes(32)))),
    ):
        assert is_needed(record, start), record


def test_kinds_are_bytes():
    assert all(0 < kind < 256 for kind in Kind)
