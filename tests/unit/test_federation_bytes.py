"""Bytes that peers and operators give to a member: read as what they are, or refused as none."""

import json
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_federation_operation import Federation
from test_federation_signing import CHECKPOINTS, _evidence

from radpool_sv2._native.threshold import NoncePool
from radpool_sv2.errors import ConfigError, RemoteProtocolError
from radpool_sv2.federation import messages
from radpool_sv2.federation.agreement.mark import Cut, Ending
from radpool_sv2.federation.broadcast.entry import START, Entry
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.certificate import Certificate
from radpool_sv2.federation.codec import CodecError
from radpool_sv2.federation.dkg.message import KeyMessage
from radpool_sv2.federation.evidence import Evidence
from radpool_sv2.federation.identity import Bip340Verifier
from radpool_sv2.federation.installation import Convention
from radpool_sv2.federation.messages import decode_message, encode_message
from radpool_sv2.federation.record import Started, decode_record, encode_record
from radpool_sv2.federation.signing import message as signing
from radpool_sv2.federation.signing.commitments import Published
from radpool_sv2.federation.signing.evidence import ShareEvidence, SignedShare
from radpool_sv2.federation.signing.message import decode_signing, encode_signing
from radpool_sv2.federation.snapshot_file import SnapshotFile
from radpool_sv2.federation.state.accounting import Accounting
from radpool_sv2.federation.state.snapshot import Snapshot
from radpool_sv2.federation.statement import Echo, Phase, Proposal, StateRoot, Vote

HASH = b"\3" * 32
LOG, KEYS = CHECKPOINTS
COMMITTEE = LOG.committee
VERIFIER = Bip340Verifier()


def certificate(statement):
    signatures = {each: LOG.keys[each].sign(statement.digest) for each in range(COMMITTEE.quorum)}
    return Certificate.of(statement, signatures, COMMITTEE)


def of_links():
    entry = Entry.sign(COMMITTEE, 1, LOG.keys[1], START, (Kind.SHARE_BATCH, b"payload"))
    of = COMMITTEE.id
    echo = Echo(of, 1, 0, bytes(32), entry.header.digest)
    cut = Cut(4, (Ending(1, 7, HASH), Ending(2, 9, HASH)))
    votes = {
        phase: Vote(of, 4, 1, phase, cut.digest(of)) for phase in (Phase.NOTARISE, Phase.FINALISE)
    }
    root = StateRoot(of, 4, HASH)
    heads = (messages.Head(1, 5, HASH), messages.Head(3, 1 << 63, HASH))
    decided = messages.DecidedEpoch(certificate(votes[Phase.FINALISE]), cut, certificate(root))
    return [
        messages.Sync(heads, 1, 2, entry.signed_header),
        messages.SentEntry(entry),
        messages.Said(echo, bytes(64)),
        messages.Ready(heads, 9, 8),
        messages.Pull(2, 1 << 40),
        messages.Entries(certificate(echo), (entry,)),
        messages.Propose(Proposal(of, 4, 1, 0, cut.digest(of)), bytes(64), cut),
        messages.Notarised(certificate(votes[Phase.NOTARISE]), cut),
        messages.PullEpochs(7),
        messages.Epochs((decided,)),
        messages.Gone(77),
    ]


def of_signing():
    first, second = NoncePool(KEYS[0].share, 1).commit(2)
    signed = SignedShare(b"\1" * 64, b"\2" * 64)
    return [
        signing.Share(HASH, 5, signed, first),
        signing.Invite(HASH),
        signing.Commit(HASH, first),
        signing.Open(HASH, 5, ((0, first), (1, second))),
        signing.Done(HASH, b"\4" * 64),
        signing.Ask(HASH),
    ]


def two_roots():
    first, second = (StateRoot(COMMITTEE.id, 3, bytes([each]) * 32) for each in (1, 2))
    return Evidence(1, first, bytes(64), second, bytes(64))


def published():
    return Published(HASH, tuple(NoncePool(KEYS[0].share, 1).commit(3)))


PARSERS = [
    *(
        (lambda data: encode_message(decode_message(data, COMMITTEE)), encode_message(each))
        for each in of_links()
    ),
    *(
        (lambda data: encode_signing(decode_signing(data)), encode_signing(each))
        for each in of_signing()
    ),
    (lambda data: ShareEvidence.decode(data).encode(), _evidence(LOG, KEYS).encode()),
    (lambda data: Evidence.decode(data).encode(), two_roots().encode()),
    (lambda data: Published.decode(data).encode(), published().encode()),
    (lambda data: KeyMessage.decode(data).encode(), KeyMessage(1, 0, 2, b"body").encode()),
    (
        lambda data: encode_record(decode_record(data, COMMITTEE)),
        encode_record(Started(3, ((2, Ending(1, 7, HASH)),))),
    ),
]


@st.composite
def damaged(draw, data):
    """Bytes that somebody has turned over, cut out, doubled or set to the bounds of numbers."""
    made = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        if not made:
            break
        at = draw(st.integers(0, len(made) - 1))
        match draw(st.integers(0, 4)):
            case 0:
                made[at] = draw(st.sampled_from((0, 1, 2, 64, 127, 128, 254, 255)))
            case 1:
                made[at] ^= 1 << draw(st.integers(0, 7))
            case 2:
                del made[at : at + draw(st.integers(1, 40))]
            case 3:
                made[at:at] = made[at : at + draw(st.integers(1, 40))]
            case _:
                made[at : at + 8] = b"\xff" * draw(st.integers(1, 8))
    return bytes(made)


@settings(max_examples=900, deadline=None)
@given(st.data())
def test_bytes_of_a_peer_are_one_message_or_none(data):
    """spec: FB-18, TK-51"""
    read, whole = data.draw(st.sampled_from(PARSERS))
    assert read(whole) == whole
    given_bytes = data.draw(st.one_of(damaged(whole), st.binary(max_size=300)))
    try:
        again = read(given_bytes)
    except CodecError:
        return
    # What can be read has one encoding.
    assert again == given_bytes


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    directory = tmp_path_factory.mktemp("snapshot")
    federation = Federation(directory)
    function = Accounting(federation.convention.rules)
    state = function.start().encode()
    start = Started(4, ((3, Ending(1, 7, HASH)), (2, Ending(3, 1, HASH))))
    root = StateRoot(federation.committee.id, 3, start.root(function.root(state)))
    keys = federation.keys
    signatures = {each: keys[each].sign(root.digest) for each in range(3)}
    proof = Snapshot(
        start, function.root(state), Certificate.of(root, signatures, federation.committee)
    )
    taken = SnapshotFile(proof, state)
    file = directory / "snapshot"
    taken.write(file, federation.committee)
    return federation, function, taken, file


def read_snapshot(snapshot, file):
    federation, function, _, _ = snapshot
    return SnapshotFile.read(file, federation.committee, VERIFIER, function)


def test_a_snapshot_comes_back(snapshot):
    assert read_snapshot(snapshot, snapshot[3]) == snapshot[2]


@settings(max_examples=250, deadline=None)
@given(st.data(), st.booleans())
def test_a_damaged_or_forged_snapshot_is_refused_with_its_file(snapshot, data, is_forged):
    """spec: FA-18"""
    file = snapshot[3].with_name("damaged")
    whole = snapshot[3].read_bytes()
    made = data.draw(damaged(whole[:-32] if is_forged else whole))
    if is_forged:
        # Whoever makes a file can make its hash.
        made += sha256(made).digest()
    file.write_bytes(made)
    if made == whole:
        return
    with pytest.raises(ConfigError) as caught:
        read_snapshot(snapshot, file)
    assert str(file) in str(caught.value)


def test_a_state_that_nobody_signed_is_refused_whatever_it_is(snapshot, tmp_path):
    federation, _, taken, _ = snapshot
    other = replace(federation.convention.rules, fee_sats_per_vb=77)
    foreign = Accounting(other).start().encode()
    for state, why in (
        (b"\xff" * 99, "no quorum"),
        (b"", "torn|not the one|comes"),
        (foreign, "other rules"),
    ):
        file = tmp_path / "forged"
        replace(taken, state=state).write(file, federation.committee)
        if state:
            with pytest.raises(ConfigError, match=why):
                read_snapshot(snapshot, file)


def test_what_is_no_file_is_refused(snapshot, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    for file in (tmp_path, link, tmp_path / "x" / "y"):
        with pytest.raises(ConfigError, match="cannot read"):
            read_snapshot(snapshot, file)
    link.unlink()
    link.symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match="no snapshot"):
        read_snapshot(snapshot, link)


VALUES = st.sampled_from(
    (None, 5, -1, 1 << 40, 1 << 70, 1.5, float("inf"), float("nan"), "x", "", [], {}, [1], True)
)


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_a_committee_that_was_edited_is_one_or_is_refused_with_its_file(snapshot, data):
    fields = json.loads(snapshot[0].file.read_text())
    place = fields
    while True:
        key = data.draw(
            st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place)))
        )
        if not isinstance(place[key], (dict, list)) or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(VALUES)
    check_committee(snapshot[3].with_name("edited"), json.dumps(fields))


@pytest.mark.parametrize("text", ["[" * 100_000, "", "[]", "null", "1", '"a"', '{"members": {}}'])
def test_a_file_that_is_no_committee_is_refused(tmp_path, text):
    file = tmp_path / "committee.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match="holds no committee"):
        Convention.read(file)


def check_committee(file, text):
    file.write_text(text)
    try:
        convention = Convention.read(file)
    except ConfigError as error:
        assert str(file) in str(error)
    else:
        assert len(convention.committee.id) == len(convention.rules.digest) == 32


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_evidence_that_is_damaged_accuses_nobody(data):
    """spec: TK-45"""
    evidence = _evidence(LOG, KEYS)
    whole = evidence.encode()
    made = data.draw(damaged(whole))
    if made == whole:
        return
    with pytest.raises(RemoteProtocolError):
        ShareEvidence.decode(made).verify(KEYS[0].public, VERIFIER)
