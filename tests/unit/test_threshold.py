"""Threshold keys and links as Python has them; what they compute is tested in Rust."""

import os
import subprocess
import sys
import textwrap

import pytest

from radpool_sv2._native import threshold
from radpool_sv2._native.threshold import (
    CHECKPOINT,
    ORACLE,
    TREASURY,
    Commitment,
    Dealing,
    IdentityKey,
    KeyShare,
    Link,
    NoncePool,
    PublicKey,
    Round1,
    Round1Set,
    Round2,
    Run,
    Session,
    TransportKey,
    invalid_signatures,
    judge,
)
from radpool_sv2.errors import (
    ConfigError,
    FaultyMSPError,
    LocalProtocolError,
    RemoteProtocolError,
)

COMMITTEE = b"\xc0" * 32
MESSAGE = b"\x5e" * 32
ROOT = b"\x77" * 32
MEMBERS = sorted(
    (IdentityKey.from_secret(bytes([n]) * 32) for n in range(1, 5)), key=lambda k: k.public
)


def a_run(purpose=TREASURY, attempt=0):
    return Run(COMMITTEE, purpose, attempt, 3, [key.public for key in MEMBERS])


def first_round(run):
    dealings = [Dealing(run, index) for index in range(4)]
    messages = [Round1.decode(run, index, each.message) for index, each in enumerate(dealings)]
    return dealings, Round1Set(run, messages)


def second_round(run):
    dealings, round1 = first_round(run)
    dealt, messages = zip(*(dealing.deal(round1) for dealing in dealings), strict=True)
    return dealt, round1, list(messages)


def read_second(round1, messages):
    return [Round2.decode(round1, index, data) for index, data in enumerate(messages)]


def a_key(purpose=TREASURY):
    dealt, round1, messages = second_round(a_run(purpose))
    round2 = read_second(round1, messages)
    return [each.finish(round2)[0] for each in dealt], round1, round2


@pytest.fixture(scope="module")
def shares():
    return a_key()[0]


@pytest.fixture
def pools(shares):
    return [NoncePool(share, 1) for share in shares]


def a_session(shares, commitments, number=0, signers=(0, 1, 3), root=None):
    chosen = [(index, commitments[index]) for index in signers]
    return Session(shares[0].public, MESSAGE, chosen, number, root)


def test_members_generate_a_key_and_certify_it():
    """spec: TK-11, TK-14, TK-18"""
    shares, round1, round2 = a_key()
    outside = PublicKey.from_broadcast(round1, round2)
    assert [share.index for share in shares] == [0, 1, 2, 3]
    assert {share.public.encode() for share in shares} == {outside.encode()}
    assert outside.run.id == a_run().id
    assert (outside.run.purpose, outside.run.attempt, outside.run.threshold) == (TREASURY, 0, 3)
    assert outside.run.members == [key.public for key in MEMBERS]
    signatures = [key.sign(outside.certificate_hash) for key in MEMBERS]
    assert outside.unsigned_by(signatures) == []
    assert outside.unsigned_by([*signatures[:2], None, bytes(64)]) == [2, 3]
    assert outside.unsigned_by([b"short", *signatures[1:]]) == [0]
    with pytest.raises(LocalProtocolError, match="4 members"):
        outside.unsigned_by(signatures[:3])
    assert PublicKey.decode(outside.encode()).transcript == outside.transcript
    with pytest.raises(RemoteProtocolError):
        PublicKey.decode(outside.encode() + b"\0")


def test_a_bad_share_is_complained_about_and_judged():
    """spec: TK-15, TK-16, TK-17"""
    run = a_run()
    dealt, round1, messages = second_round(run)
    messages[2] = messages[2][:-80] + bytes(80)  # the last box of member 2 is for member 3
    round2 = read_second(round1, messages)
    share, complaints = dealt[3].finish(round2)
    assert share is None
    [(accused, complaint)] = complaints
    assert accused == 2
    assert judge(round1, round2, 3, complaint) == (2, "unreadable-share")
    assert judge(round1, round2, 1, complaint) == (1, "foreign-secret")
    with pytest.raises(FaultyMSPError) as caught:
        judge(round1, round2, 3, complaint[:-1])
    assert caught.value.msp == MEMBERS[3].public.hex()
    assert caught.value.evidence == complaint[:-1]
    with pytest.raises(LocalProtocolError, match="member 2 is missing"):
        judge(round1, round2[:2], 3, complaint)
    assert dealt[0].finish(round2)[1] == []
    with pytest.raises(LocalProtocolError, match="used once"):
        dealt[0].finish(round2)


def test_a_run_is_repeated_without_the_culprit():
    """spec: TK-17"""
    left = [MEMBERS[index] for index in (0, 1, 3)]
    run = Run(COMMITTEE, TREASURY, 1, 2, [key.public for key in left])
    dealings = [Dealing(run, index) for index in range(3)]
    firsts = [Round1.decode(run, index, each.message) for index, each in enumerate(dealings)]
    round1 = Round1Set(run, firsts)
    dealt, messages = zip(*(dealing.deal(round1) for dealing in dealings), strict=True)
    shares = [each.finish(read_second(round1, messages))[0] for each in dealt]
    pools = [NoncePool(share, 1) for share in shares]
    signers = [(index, pools[index].commit(1)[0]) for index in (0, 2)]
    session = Session(shares[0].public, MESSAGE, signers)
    signature, _ = session.aggregate([(index, pools[index].sign(session)) for index in (0, 2)])
    shares[1].public.verify(MESSAGE, signature)


def test_a_false_complaint_is_its_authors_fault():
    dealt, round1, messages = second_round(a_run())
    spoiled = [messages[0][:-80] + bytes(80), *messages[1:]]
    [(_, complaint)] = dealt[3].finish(read_second(round1, spoiled))[1]
    assert judge(round1, read_second(round1, messages), 3, complaint) == (3, "false-complaint")


def test_bytes_of_members_are_judged_by_who_sent_them():
    """spec: TK-6, TK-10, TK-17"""
    run = a_run()
    dealings, round1 = first_round(run)
    data = dealings[1].message
    with pytest.raises(FaultyMSPError) as caught:
        Round1.decode(run, 2, data)
    assert caught.value.msp == MEMBERS[2].public.hex()
    assert caught.value.evidence == data
    with pytest.raises(FaultyMSPError, match="another run"):
        Round1.decode(a_run(attempt=1), 1, data)
    with pytest.raises(LocalProtocolError, match="no member 4"):
        Round1.decode(run, 4, data)
    with pytest.raises(LocalProtocolError, match="member 0 is missing"):
        Round1Set(run, [])
    _, message = dealings[0].deal(round1)
    with pytest.raises(LocalProtocolError, match="used once"):
        dealings[0].deal(round1)
    with pytest.raises(FaultyMSPError):
        Round2.decode(round1, 0, message[:-1])
    assert Round2.decode(round1, 0, message).author == 0


def test_runs_are_checked():
    """spec: TK-3"""
    keys = [key.public for key in MEMBERS]
    for arguments in [
        (COMMITTEE[1:], TREASURY, 0, 3, keys),
        (COMMITTEE, 0, 0, 3, keys),
        (COMMITTEE, 4, 0, 3, keys),
        (COMMITTEE, 256, 0, 3, keys),
        (COMMITTEE, TREASURY, -1, 3, keys),
        (COMMITTEE, TREASURY, 0, 1, keys),
        (COMMITTEE, TREASURY, 0, 5, keys),
        (COMMITTEE, TREASURY, 0, 3, keys[::-1]),
        (COMMITTEE, TREASURY, 0, 2, [keys[0], keys[1][1:]]),
    ]:
        with pytest.raises(LocalProtocolError):
            Run(*arguments)


def test_three_of_four_sign(shares, pools):
    commitments = [pool.commit(1)[0] for pool in pools]
    assert [(each.boot, each.slot) for each in commitments] == [(1, 0)] * 4
    session = a_session(shares, commitments)
    assert session.signers == [0, 1, 3]
    given = [(index, pools[index].sign(session)) for index in session.signers]
    for index, share in given:
        assert len(share) == threshold.SHARE_LEN
        session.verify_share(index, share)
        assert pools[index].unspent == 0
    signature, cheaters = session.aggregate(given)
    assert cheaters == []
    key = shares[0].public
    key.verify(MESSAGE, signature)
    assert key.output_key() == key.internal_key
    assert invalid_signatures([(key.internal_key, MESSAGE, signature)]) == []
    with pytest.raises(RemoteProtocolError):
        key.verify(bytes(32), signature)
    with pytest.raises(RemoteProtocolError):
        key.verify(MESSAGE, signature, ROOT)


def test_a_treasury_signs_under_its_tweak(shares, pools):
    """spec: TK-12, TK-25"""
    commitments = [pool.commit(1)[0] for pool in pools]
    session = a_session(shares, commitments, root=ROOT)
    given = [(index, pools[index].sign(session)) for index in session.signers]
    signature, _ = session.aggregate(given)
    key = shares[0].public
    key.verify(MESSAGE, signature, ROOT)
    assert invalid_signatures([(key.output_key(ROOT), MESSAGE, signature)]) == []
    checkpoint = a_key(CHECKPOINT)[0][0].public
    with pytest.raises(LocalProtocolError, match="treasury"):
        checkpoint.output_key(ROOT)


def test_an_oracle_key_does_not_sign(pools):
    """spec: TK-25"""
    key = a_key(ORACLE)[0][0].public
    commitments = [(index, pool.commit(1)[0]) for index, pool in enumerate(pools[:3])]
    with pytest.raises(LocalProtocolError, match="oracle"):
        Session(key, MESSAGE, commitments)


def test_all_cheaters_are_named(shares, pools):
    """spec: TK-23, TK-24"""
    commitments = [pool.commit(1)[0] for pool in pools]
    session = a_session(shares, commitments)
    given = [(index, pools[index].sign(session)) for index in session.signers]
    # Errors of different sizes: those that add up to nothing spoil nothing.
    wrong = [(index, share[:-1] + bytes([share[-1] ^ 1 << index])) for index, share in given]
    assert session.aggregate([given[0], *wrong[1:]]) == (None, [1, 3])
    with pytest.raises(FaultyMSPError) as caught:
        session.verify_share(*wrong[1])
    assert caught.value.msp == MEMBERS[1].public.hex()
    with pytest.raises(LocalProtocolError, match=r"\[3\] are missing"):
        session.aggregate(given[:2])
    again = a_session(shares, commitments, number=1)
    with pytest.raises(FaultyMSPError, match="another session"):
        again.verify_share(*given[0])
    with pytest.raises(FaultyMSPError, match="does not sign"):
        session.verify_share(2, given[0][1])


def test_a_nonce_signs_one_session(shares, pools):
    """spec: TK-26, TK-27, TK-28, TK-29"""
    commitments = [pool.commit(1)[0] for pool in pools]
    session = a_session(shares, commitments)
    share = pools[0].sign(session)
    assert pools[0].sign(a_session(shares, commitments)) == share
    with pytest.raises(LocalProtocolError, match="spent"):
        pools[0].sign(a_session(shares, commitments, number=1))
    with pytest.raises(LocalProtocolError, match="other signers"):
        pools[0].sign(a_session(shares, commitments, signers=(0, 1, 2)))
    with pytest.raises(LocalProtocolError, match="does not sign"):
        pools[2].sign(session)
    restarted = NoncePool(shares[1], 2)
    restarted.commit(1)
    with pytest.raises(LocalProtocolError, match="void"):
        restarted.sign(session)
    assert restarted.unspent == 1
    pools[1].burn([0])
    with pytest.raises(LocalProtocolError, match="burnt"):
        pools[1].sign(session)
    pools[3].wipe()
    assert (pools[3].unspent, pools[3].boot) == (0, 1)
    with pytest.raises(LocalProtocolError):
        pools[3].commit(threshold.NONCES_MAX + 1)
    with pytest.raises(RemoteProtocolError):
        Commitment.decode(commitments[0].encode()[:-1])


def test_nonces_are_fresh(shares, pools):
    """spec: TK-20, TK-30"""
    twin = NoncePool(shares[0], 1)
    commitments = [*pools[0].commit(20), *twin.commit(20)]
    assert [(each.boot, each.slot) for each in commitments] == [(1, n) for n in range(20)] * 2
    encoded = [each.encode() for each in commitments]
    assert {len(each) for each in encoded} == {threshold.COMMITMENT_LEN}
    assert [Commitment.decode(each) for each in encoded] == commitments
    assert len(set(commitments)) == 40  # as many as differ, though every slot is there twice
    assert commitments[0] != commitments[20]
    points = {each[start : start + 33] for each in encoded for start in (16, 49)}
    assert len(points) == 80


def test_a_forked_child_has_no_nonces(shares, pools, tmp_path):
    """spec: TK-29"""
    sealed = shares[0].seal(MEMBERS[0])
    script = """
        import os, sys
        from radpool_sv2._native.threshold import IdentityKey, KeyShare, NoncePool
        from radpool_sv2.errors import LocalProtocolError

        owner = IdentityKey.from_secret(bytes.fromhex(sys.argv[1]))
        pool = NoncePool(KeyShare.open(owner, bytes.fromhex(sys.argv[2])), 1)
        pool.commit(5)
        child = os.fork()
        if child == 0:
            wiped = pool.unspent == 0
            try:
                pool.commit(1)
            except LocalProtocolError as error:
                os._exit(0 if wiped and "forked" in str(error) else 1)
            os._exit(2)
        _, status = os.waitpid(child, 0)
        assert pool.unspent == 5
        sys.exit(os.waitstatus_to_exitcode(status))
    """
    arguments = [MEMBERS[0].expose_secret().hex(), sealed.hex()]
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    done = subprocess.run(
        command, check=False, timeout=600, capture_output=True, cwd=tmp_path, env=os.environ
    )
    assert done.returncode == 0, done.stderr.decode()


def test_shares_are_stored_for_their_owner(shares):
    """spec: TK-19"""
    sealed = shares[1].seal(MEMBERS[1])
    opened = KeyShare.open(MEMBERS[1], sealed)
    assert opened.index == 1
    assert opened.public.encode() == shares[1].public.encode()
    with pytest.raises(ConfigError, match="of another identity key"):
        KeyShare.open(MEMBERS[0], sealed)
    with pytest.raises(ConfigError, match="version 2"):
        KeyShare.open(MEMBERS[1], sealed[:4] + b"\2" + sealed[5:])
    with pytest.raises(LocalProtocolError):
        shares[1].seal(MEMBERS[0])


def test_secrets_are_not_shown(shares, pools):
    for value in [MEMBERS[0], TransportKey.generate(), shares[0], pools[0]]:
        assert "redacted" in repr(value)
    assert "redacted" in repr(Dealing(a_run(), 0))
    assert "3 of 4" in repr(shares[0].public)


def test_many_signatures_are_verified_at_once():
    signed = [(key.public, bytes([n]) * 32) for n, key in enumerate(MEMBERS * 50)]
    items = [
        (public, digest, MEMBERS[n % 4].sign(digest)) for n, (public, digest) in enumerate(signed)
    ]
    assert invalid_signatures(items) == []
    items[7] = (items[7][0], bytes(32), items[7][2])
    items[140] = (b"", b"", b"")
    items[199] = (items[0][0], *items[199][1:])
    assert invalid_signatures(items) == [7, 140, 199]


def test_keys_are_read_strictly():
    key = TransportKey.generate()
    assert TransportKey.from_secret(key.expose_secret()).public == key.public
    for read in [TransportKey.from_secret, IdentityKey.from_secret]:
        with pytest.raises(ConfigError):
            read(bytes(31))
    with pytest.raises(ConfigError):
        IdentityKey.from_secret(bytes(32))
    assert len(IdentityKey.generate().sign(MESSAGE)) == 64
    with pytest.raises(LocalProtocolError):
        MEMBERS[0].sign(MESSAGE[1:])


def linked():
    ours, theirs = TransportKey.generate(), TransportKey.generate()
    dialler, first = Link.dial(ours, theirs.public, COMMITTEE)
    dialled = Link.accept(theirs, [ours.public], COMMITTEE)
    second, _ = dialled.receive(first)
    third, _ = dialler.receive(second)
    assert dialled.receive(third) == (b"", [])
    return dialler, dialled


def test_members_link():
    """spec: FT-1, FT-6, FT-7, FT-8, FT-10"""
    dialler, dialled = linked()
    assert dialler.is_open
    assert dialled.is_open
    assert dialler.handshake_hash == dialled.handshake_hash
    long = bytes(range(256)) * 1_000
    data = dialler.send([b"one", long])
    assert dialled.receive(data[:70_000]) == (b"", [b"one"])
    assert dialled.receive(data[70_000:]) == (b"", [long])
    for refused in [b"", bytes(threshold.MESSAGE_LEN_MAX + 1)]:
        with pytest.raises(LocalProtocolError):
            dialler.send([refused])
    with pytest.raises(RemoteProtocolError):
        dialled.receive(data)
    assert not dialled.is_open
    with pytest.raises(LocalProtocolError, match="closed"):
        dialled.receive(b"")
    dialler.close()
    with pytest.raises(LocalProtocolError, match="closed"):
        dialler.send([b"x"])


def test_strangers_are_told_nothing():
    """spec: FT-2, FT-3, FT-4, FT-5"""
    stranger, theirs = TransportKey.generate(), TransportKey.generate()
    dialler, first = Link.dial(stranger, theirs.public, COMMITTEE)
    with pytest.raises(LocalProtocolError, match="handshake"):
        dialler.send([b"x"])
    dialled = Link.accept(theirs, [TransportKey.generate().public], COMMITTEE)
    second, _ = dialled.receive(first)
    third, _ = dialler.receive(second)
    with pytest.raises(RemoteProtocolError, match=stranger.public.hex()):
        dialled.receive(third)
    assert dialled.remote is None
    other = Link.accept(theirs, [stranger.public], bytes(32))
    with pytest.raises(RemoteProtocolError, match="handshake message 1"):
        other.receive(first)
    with pytest.raises(LocalProtocolError):
        Link.dial(stranger, bytes(32), COMMITTEE)
