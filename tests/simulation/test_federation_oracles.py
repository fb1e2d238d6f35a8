"""Attacks on published oracles of mining contracts, and what keeps them from the keys here.

There is no oracle here yet: these are what one must not be, and what its key could not do.
"""

import sys
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from random import Random

import pytest
from federation_keys import Log

from radpool_sv2._native.threshold import (
    CHECKPOINT,
    ORACLE,
    TREASURY,
    NoncePool,
    Session,
    invalid_signatures,
)
from radpool_sv2.errors import LocalProtocolError, RemoteProtocolError
from radpool_sv2.federation.certificate import Certificate
from radpool_sv2.federation.codec import u32
from radpool_sv2.federation.identity import Bip340Verifier
from radpool_sv2.federation.record import Started
from radpool_sv2.federation.signing.purpose import CHECKPOINT_TAG, Certified, tasks_of
from radpool_sv2.federation.statement import StateRoot
from radpool_sv2.testing.fold import Fold

HERE = Path(__file__).resolve().parent
for path in (HERE, HERE.parents[1] / "spec" / "vectors"):
    sys.path.insert(0, str(path))
try:
    from frost import Key
    from published_oracle import (
        ORDER,
        AnnouncedFrost,
        DigitOracle,
        ProviderNonce,
        forged,
        key_behind,
        lagrange,
        point,
        share_behind,
        signed,
        x_of,
    )
finally:
    for path in (HERE, HERE.parents[1] / "spec" / "vectors"):
        sys.path.remove(str(path))

OUTCOME, OTHER = sha256(b"it mined 7").digest(), sha256(b"it mined 700").digest()


def holds(public, message, signature):
    return invalid_signatures([(public, message, signature)]) == []


def generated(purpose):
    """A key of four members, of whom three sign: its log, its members' shares."""
    log = Log(purpose=purpose)
    for _ in range(4):
        log.decide()
    return log, [each.share for each in log.generated()]


@pytest.fixture(scope="module")
def keys():
    """A key of each purpose, of the same members."""
    return {purpose: generated(purpose) for purpose in (CHECKPOINT, TREASURY, ORACLE)}


def sign_together(shares, signers, message, published=None):
    """Lets members sign; what all can see goes into `published`."""
    pools = {each: NoncePool(shares[each], 1) for each in signers}
    commitments = [(each, pools[each].commit(1)[0]) for each in signers]
    session = Session(shares[0].public, message, commitments)
    answers = [(each, pools[each].sign(session)) for each in signers]
    signature, cheaters = session.aggregate(answers)
    assert cheaters == []
    if published is not None:
        published += [each.encode() for _, each in commitments]
        published += [share for _, share in answers]
        published.append(signature)
    return signature


def test_a_nonce_that_its_provider_broadcasts_gives_the_key_away(keys):
    """spec: TK-20, TK-26"""
    oracle = ProviderNonce(Random(1), is_broadcast=True)
    signature = oracle.attest(OUTCOME)
    assert holds(oracle.public, OUTCOME, signature)
    secret = key_behind(oracle.published, oracle.public, OUTCOME, signature)
    assert x_of(point(secret)) == oracle.public
    # From now on whoever reads the log attests what it likes.
    assert holds(oracle.public, OTHER, signed(secret, 1_234_567, OTHER))

    # Here: nobody has the nonce of a signature. Of all that was ever published of a key, there are
    # no 32 bytes that are it.
    log, shares = keys[CHECKPOINT]
    published = [entry.payload for stream in log.streams for entry in stream]
    assert sum(map(len, published)) > 1_000
    signature = sign_together(shares, (0, 1, 3), OUTCOME, published)
    public = shares[0].public.internal_key
    assert holds(public, OUTCOME, signature)
    assert key_behind(published, public, OUTCOME, signature) is None


def test_a_nonce_that_its_provider_keeps_lets_it_veto(keys):
    """spec: TK-22, TK-46"""
    oracle = ProviderNonce(Random(2), is_broadcast=False)
    assert oracle.attest(OUTCOME, has_provider=False) is None

    # Here: no member is needed, whichever it is.
    _, shares = keys[CHECKPOINT]
    for signers in combinations(range(4), 3):
        signature = sign_together(shares, signers, OUTCOME)
        shares[0].public.verify(OUTCOME, signature)


def test_frost_does_not_sign_by_the_nonce_that_was_announced():
    """The nonce of a FROST signature follows from message and signers: it is known afterwards."""
    random = Random(3)
    secrets = [random.randrange(1, ORDER) for _ in range(3)]
    identifiers = [1, 2, 3, 4]
    shares = [
        sum(secret * at**power for power, secret in enumerate(secrets)) % ORDER
        for at in identifiers
    ]
    key = Key(identifiers, secrets[0], shares)
    nonces = {each: (random.randrange(1, ORDER), random.randrange(1, ORDER)) for each in range(4)}
    starts = set()
    for message in (OUTCOME, OTHER):
        for signers in combinations(range(4), 3):
            _, signature = key.sign(message, {each: nonces[each] for each in signers})
            assert holds(x_of(point(secrets[0])), message, signature)
            starts.add(signature[:32])
    assert len(starts) == 2 * 4


def test_frost_by_nonces_that_are_fixed_beforehand_gives_the_key_away(keys):
    """One of the signers is silent, the others sign again without it, and it has their shares.

    spec: TK-27, TK-29
    """
    oracle = AnnouncedFrost(Random(4), members=4, threshold=3)
    mallory, first, second = 3, [1, 2, 3], [1, 2, 4]
    seen = {1: [], 2: []}
    for signers in (first, second):
        for place in (1, 2):
            seen[place].append((signers, oracle.sign(place, signers, OUTCOME)))
    # What the others end in is a good attestation.
    answers = {place: seen[place][1][1] for place in (1, 2)}
    signature = oracle.join(answers | {4: oracle.sign(4, second, OUTCOME)})
    assert holds(oracle.public, OUTCOME, signature)
    # And what the silent one has is the key.
    taken = {place: share_behind(oracle, OUTCOME, place, seen[place]) for place in (1, 2)}
    taken[mallory] = oracle.shares[mallory]
    secret = sum(share * lagrange(place, taken) for place, share in taken.items()) % ORDER
    assert x_of(point(secret)) == oracle.public
    assert holds(oracle.public, OTHER, signed(secret, 7_654_321, OTHER))

    # Here: a nonce that was asked for with one list of signers is spent for every other one.
    _, shares = keys[CHECKPOINT]
    pools = [NoncePool(share, 1) for share in shares]
    commitments = [pool.commit(1)[0] for pool in pools]
    sessions = [
        Session(shares[0].public, OUTCOME, [(each, commitments[each]) for each in signers], number)
        for number, signers in enumerate(((0, 1, 2), (0, 1, 3)))
    ]
    for member in (0, 1):
        pools[member].sign(sessions[0])
        with pytest.raises(LocalProtocolError):
            pools[member].sign(sessions[1])


def test_256_open_binary_nonces_are_a_signature_of_anything(keys):
    """The oracle keeps to its rules, signs each digit once, and has signed what it never saw.

    spec: TK-25, TK-42
    """
    oracle = DigitOracle(Random(5), digits=256)
    log, shares = keys[CHECKPOINT]
    root = StateRoot(log.committee.id, 9, Started(10, ()).root(Fold().root(b"state")))
    wanted = CHECKPOINT_TAG.hash(log.committee.id, u32(9), root.root)
    signature = forged(oracle, wanted)
    assert holds(oracle.public, wanted, signature)
    # It is of no announced nonce: who compares that is not deceived.
    assert signature[:32] not in oracle.announced

    # Here: each purpose has a key of its own, of its own generation, so that what an oracle's key
    # signs is no checkpoint and no spend.
    public = {purpose: each[0].public for purpose, (_, each) in keys.items()}
    assert len({key.internal_key for key in public.values()}) == 3
    for purpose in (CHECKPOINT, TREASURY):
        with pytest.raises(RemoteProtocolError):
            public[purpose].verify(wanted, signature)
    shares[0].public.verify(wanted, sign_together(shares, (1, 2, 3), wanted))

    # And an oracle's key signs nothing of all this: not in a session, and for no certified state.
    pools = [NoncePool(share, 1) for share in keys[ORACLE][1]]
    commitments = [(each, pool.commit(1)[0]) for each, pool in enumerate(pools[:3])]
    with pytest.raises(LocalProtocolError, match="oracle"):
        Session(public[ORACLE], wanted, commitments)
    signatures = {each: log.keys[each].sign(root.digest) for each in range(log.committee.quorum)}
    certificate = Certificate.of(root, signatures, log.committee)
    certified = Certified.verify(
        log.committee, Bip340Verifier(), Fold(), certificate, Started(10, ()), b"state"
    )
    with pytest.raises(LocalProtocolError, match="oracle"):
        tasks_of(certified, public[ORACLE], lambda *_: [])
    [task] = tasks_of(certified, public[CHECKPOINT], lambda *_: [])
    assert task.message == wanted


def test_fewer_open_nonces_than_bits_do_not_suffice():
    """The forgery writes a challenge in binary: it is for want of digits that it fails."""
    oracle = DigitOracle(Random(6), digits=128)
    assert not holds(oracle.public, OTHER, forged(oracle, OTHER))
