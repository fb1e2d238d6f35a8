"""Two ways to take what others have earned, against the published scheme and against ours.

In the published scheme a share's owner is named by its job id, a hash over owner, sequence number
and MSP key, and its difficulty by whoever publishes it. Neither is in the header. In ours both are
in the owner output, below the merkle root.
"""

import sys
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import pytest

from radpool_sv2.verify.batch import BatchFault, verify_batch

VECTORS = Path(__file__).resolve().parents[2] / "spec" / "vectors"
sys.path.insert(0, str(VECTORS))
try:
    from layout import Draft, Owner, Share, commitment_of, mined, named, template
    from secp256k1 import public_key
finally:
    sys.path.remove(str(VECTORS))

HONEST, THIEF = named("an honest MSP"), named("a thieving MSP")
MINER = Owner(commitment_of("miner", named("salt of the miner", 16)))
MALLORY = Owner(commitment_of("mallory", named("salt of mallory", 16)))
Z = 4
SHARES = 64
LADDER = range(Z, Z + 12)


@dataclass(frozen=True)
class PublishedShare:
    """Is a share as the published scheme broadcasts it."""

    header: bytes
    job_id: bytes
    difficulty_bits: int


class PublishedScheme:
    """Is a model of the published rule: what a peer checks, and what it credits."""

    def __init__(self):
        self.notified = {}
        self.seen = set()
        self.credit = {}

    @staticmethod
    def job_id(owner, sequence, msp_key):
        return sha256(owner.commitment + sequence.to_bytes(8, "little") + msp_key).digest()

    def notify(self, owner, sequence, msp_key, bits):
        self.notified[self.job_id(owner, sequence, msp_key), bits] = (owner, msp_key)

    def deliver(self, share):
        found = self.notified.get((share.job_id, share.difficulty_bits))
        digest = sha256(sha256(share.header).digest()).digest()
        zeros = 256 - int.from_bytes(digest, "little").bit_length()
        if found is None or zeros < share.difficulty_bits or digest in self.seen:
            return False
        self.seen.add(digest)
        self.credit[found] = self.credit.get(found, 0) + (1 << share.difficulty_bits)
        return True


def honest_shares():
    """Shares that a miner has found for the honest MSP, each at the exponent of its job."""
    key = public_key(HONEST)
    body = template()
    return [
        mined(key, Share(MINER, body, z=Z, extranonce=index.to_bytes(12, "little")))
        for index in range(SHARES)
    ]


def bodies(draft):
    return {bytes.fromhex(digest): bytes.fromhex(raw) for digest, raw in draft.body_map().items()}


def refusal(draft):
    with pytest.raises(BatchFault) as caught:
        verify_batch(draft.blob(), bodies(draft))
    return caught.value.code


@pytest.fixture(scope="module")
def shares():
    return honest_shares()


def test_published_scheme_pays_whoever_publishes_first(shares):
    scheme = PublishedScheme()
    honest, thief = public_key(HONEST), public_key(THIEF)
    scheme.notify(MINER, 1, honest, Z)
    scheme.notify(MALLORY, 9, thief, Z)
    stolen = PublishedScheme.job_id(MALLORY, 9, thief)
    for share in shares:
        assert scheme.deliver(PublishedShare(share.header(honest), stolen, Z))
    mine = PublishedScheme.job_id(MINER, 1, honest)
    assert not any(
        scheme.deliver(PublishedShare(share.header(honest), mine, Z)) for share in shares
    )
    assert scheme.credit == {(MALLORY, thief): SHARES << Z}


def test_published_scheme_pays_the_difficulty_that_fits_best(shares):
    scheme = PublishedScheme()
    honest = public_key(HONEST)
    claimed = 0
    for bits in LADDER:
        scheme.notify(MINER, bits, honest, bits)
    for share in shares:
        bits = min(share.zeros(honest), LADDER[-1])
        job_id = PublishedScheme.job_id(MINER, bits, honest)
        assert scheme.deliver(PublishedShare(share.header(honest), job_id, bits))
        claimed += 1 << bits
    # With K steps to choose from 1 + K/2 is expected: 6.5 times the work that was done.
    assert scheme.credit[MINER, honest] == claimed > 3 * (SHARES << Z)


def test_ours_takes_the_shares_as_they_were_mined(shares):
    draft = Draft(HONEST, shares)
    batch, verified = verify_batch(draft.blob(), bodies(draft))
    assert batch.work == SHARES << Z
    assert {share.owner.commitment for share in verified} == {MINER.commitment}


def test_another_msp_cannot_publish_them(shares):
    """The tag binds the MSP's key: under another one each header is another."""
    for stolen in (shares, [replace(share, owner=MALLORY) for share in shares]):
        assert refusal(Draft(THIEF, stolen)) == "insufficient-work"


def test_the_msp_cannot_book_them_elsewhere(shares):
    """spec: OR-13"""
    for change in (
        {"owner": MALLORY},
        {"owner": Owner(MINER.commitment, epoch=2)},
        {"owner": Owner(MINER.commitment, rail=1)},
    ):
        booked = [replace(share, **change) for share in shares]
        assert refusal(Draft(HONEST, booked)) == "insufficient-work"


def test_the_msp_cannot_claim_the_difficulty_that_fits_best(shares):
    """A hash of more zero bits than its tag asks for weighs what the tag says."""
    key = public_key(HONEST)
    lucky = [share for share in shares if share.zeros(key) > Z]
    assert len(lucky) > SHARES // 4
    best = [replace(share, z=share.zeros(key)) for share in lucky]
    assert refusal(Draft(HONEST, best)) == "insufficient-work"
