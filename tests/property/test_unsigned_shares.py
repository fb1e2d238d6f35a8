"""The miner's count of claims, whatever a pool does: how much work it can hold without a token."""

from hypothesis import example, given, settings
from hypothesis import strategies as st
from radpool_sv2_extensions.ecash.claims import FORGIVEN_S, WINDOW_MAX, Claim, Claims

from radpool_sv2.wallet import Output

KEYSET = b"\1" * 33

cheats = st.lists(
    st.tuples(
        st.sampled_from(["send", "ack", "refuse", "refuse again", "unavailable", "cut", "wait"]),
        st.integers(0, 40),
    ),
    max_size=60,
)


class Pool:
    """Takes shares as fast as it gets them, and does with each whatever a test says."""

    def __init__(self, unsigned_max):
        self.claims = Claims(unsigned_max)
        self.claims.begin()
        self.sequence = 0
        self.counter = 0
        self.open = []
        self.now_s = 0.0
        self.sent = {}
        self.signed = 0
        """Which share each claim went out with: one that goes out again is one share."""
        self.again = []

    def send(self, count):
        for _ in range(min(count, self.claims.credit)):
            share = self.again.pop() if self.again else self.counter
            output = Output(self.counter, "", bytes(33))
            share_hash = share.to_bytes(32, "big")
            claim = Claim(KEYSET, output, 20, share_hash, self.now_s, 1)
            self.claims.send(self.sequence, claim)
            self.open.append(self.sequence)
            self.sent[claim.key] = share
            self.sequence += 1
            self.counter += 1

    def ack(self, count):
        self.claims.pass_over(self.sequence, count, self.now_s)

    def refuse(self, *, again, available=True):
        if self.open:
            claim = self.claims.refuse(
                self.open.pop(0),
                again=again,
                stands=True,
                available=available,
                now_s=self.now_s,
            )
            if again and claim is not None:
                self.again.append(self.sent[claim.key])

    def cut(self):
        self.claims.end()
        for claim in list(self.claims.lost.values()):
            self.claims.forget(claim)
        self.open.clear()
        self.again.clear()
        self.claims.begin()

    def wait(self, seconds):
        self.now_s += seconds
        self.claims.check(self.now_s)

    def do(self, deed, number):
        match deed:
            case "send":
                self.send(number)
            case "ack":
                self.ack(number)
            case "refuse":
                self.refuse(again=False)
            case "refuse again":
                self.refuse(again=True)
            case "unavailable":
                self.refuse(again=False, available=False)
            case "cut":
                self.cut()
            case "wait":
                self.wait(number)


KEPT_AND_CUT = [("send", 3), *[("refuse again", 0)] * 3, ("cut", 0)]


@settings(deadline=None)
@given(unsigned_max=st.integers(1, 32), deeds=cheats)
@example(unsigned_max=3, deeds=KEPT_AND_CUT * 10)
def test_pool_that_signs_nothing_gets_little(unsigned_max, deeds):
    """attack: A8. K shares unsigned, K that were lost, and one more for each connection it cuts."""
    pool = Pool(unsigned_max)
    for deed, number in deeds:
        pool.do(deed, number)
        assert pool.now_s < FORGIVEN_S
    pool.send(100)
    cuts = sum(deed == "cut" for deed, _ in deeds)
    lost = unsigned_max + cuts if cuts else 0
    assert len(set(pool.sent.values())) <= unsigned_max + lost
    assert pool.claims.unsigned <= unsigned_max


@given(unsigned_max=st.integers(1, 32), signed=st.integers(0, 100), deeds=cheats)
@settings(max_examples=50, deadline=None)
def test_pool_that_stops_signing_gets_no_more_than_the_window(unsigned_max, signed, deeds):
    """attack: A8"""
    pool = Pool(unsigned_max)
    for _ in range(signed):
        pool.send(1)
        claim = pool.claims.answer(pool.open.pop())
        pool.claims.sign([claim])
    pool.sent.clear()
    assert pool.claims.credit == min(unsigned_max + signed, max(unsigned_max, WINDOW_MAX))
    for deed, number in deeds:
        if deed != "cut":
            pool.do(deed, number)
    pool.send(100)
    assert len(set(pool.sent.values())) <= unsigned_max - 1 + max(unsigned_max, WINDOW_MAX)


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20, unique=True))
def test_acknowledgement_takes_only_what_it_covers(sequences):
    claims = Claims(1000)
    claims.begin()
    first = sequences[0]
    for counter, sequence in enumerate(sequences):
        claims.send(sequence, Claim(KEYSET, Output(counter, "", bytes(33))))
    claims.pass_over(first, len(sequences), 0.0)
    covered = sum((first - sequence) % 2**32 < 2**31 for sequence in sequences)
    assert claims.unsigned == covered
