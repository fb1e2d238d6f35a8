"""Plays pool and declarator against the machine of an upstream, without any connection."""

from itertools import count

from radpool_sv2.chain.transaction import TxOutput, compact_size
from radpool_sv2.jdc.job import FoundShare
from radpool_sv2.jdc.submission import Totals
from radpool_sv2.jdc.upstream import (
    Constrain,
    Fails,
    Hidden,
    Publish,
    Retargets,
    ToDeclarator,
    ToPool,
    Upstream,
    UpstreamSettings,
    Withdraws,
    Works,
)
from radpool_sv2.units import target_of
from radpool_sv2.wire.frame import Frame
from radpool_sv2.wire.message import job_declaration as jd
from radpool_sv2.wire.message import mining

CHANNEL = 7
PREFIX = b"\xa0\xa1\xa2\xa3"
OWN_LEN = 12
Z = 20
TARGET = target_of(Z)
PAYOUT = b"\x51\x20" + b"\x99" * 32

SETTINGS = {
    "user": "alice.rig",
    "full_template": True,
    "extranonce_len": OWN_LEN,
    "interval_s": 15.0,
    "tokens_ahead": 2,
    "open_deadline_s": 10.0,
    "token_deadline_s": 10.0,
    "declare_deadline_s": 10.0,
    "custom_job_deadline_s": 10.0,
    "share_deadline_s": 60.0,
    "refusals_max": 2,
    "rejected_shares_max": 4,
    "cached_shares_max": 5,
}


def tag(exponent=Z):
    return TxOutput(0, bytes.fromhex("6a265241445010") + bytes([exponent]) + b"\x77" * 32)


def outputs(*extra):
    whole = (TxOutput(0, PAYOUT), *extra)
    return compact_size(len(whole)) + b"".join(each.to_bytes() for each in whole)


TAGGED = outputs(tag())


def share(job, *, nonce=1, zeros=Z + 1):
    """Makes a share whose hash has so many leading zero bits."""
    value = target_of(zeros) - nonce
    return FoundShare(
        job.number,
        0x20000000,
        1_700_000_001,
        nonce,
        b"\x0b" * OWN_LEN,
        value.to_bytes(32, "little"),
    )


class Peer:
    """Plays the other side; `sent` and `told` gather what the machine says."""

    def __init__(self, *, carried=None, name_owner=None, **changes):
        numbers = count(1)
        self.totals = Totals()
        self.now = 0.0
        self.machine = Upstream(
            UpstreamSettings(**SETTINGS | changes),
            lambda: next(numbers),
            self.totals,
            carried,
            name_owner,
        )
        self.sent, self.told, self.published, self.failed = [], [], [], []
        self.hidden = []
        self.works = self.withdrawn = self.retargeted = 0
        self.constraints = []
        self.tokens = 0

    def look(self):
        """Takes the machine's effects."""
        while (effect := self.machine.poll()) is not None:
            match effect:
                case ToPool(message):
                    self.sent.append(message)
                case ToDeclarator(message):
                    self.told.append(message)
                case Publish(job):
                    self.published.append(job)
                case Hidden(job):
                    self.hidden.append(job)
                case Withdraws():
                    self.withdrawn += 1
                case Retargets():
                    self.retargeted += 1
                case Works():
                    self.works += 1
                case Constrain(size, sigops):
                    self.constraints.append((size, sigops))
                case Fails():
                    self.failed.append(effect)

    @property
    def reason(self):
        self.look()
        return self.failed[0].reason if self.failed else ""

    def taken(self, kind):
        """Takes the messages of a kind that the machine has sent, to either side."""
        self.look()
        found = [each for each in self.sent + self.told if isinstance(each, kind)]
        self.sent = [each for each in self.sent if not isinstance(each, kind)]
        self.told = [each for each in self.told if not isinstance(each, kind)]
        return found

    def one(self, kind):
        [found] = self.taken(kind)
        return found

    def pool(self, message):
        frame = message if isinstance(message, Frame) else message.encode()
        self.machine.hear_pool(frame, self.now)
        self.look()

    def declarator(self, message):
        frame = message if isinstance(message, Frame) else message.encode()
        self.machine.hear_declarator(frame, self.now)
        self.look()

    def wait(self, seconds):
        """Lets time pass, with all deadlines in between."""
        end = self.now + seconds
        while (due := self.machine.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            before = due
            self.machine.handle_deadline(self.now)
            self.look()
            assert self.machine.next_deadline() != before, "a deadline is dealt with"
        self.now = end
        self.look()

    # Steps

    def start(self, rate=0.0):
        self.machine.start(rate, self.now)
        self.look()
        return self

    def open(self, *, prefix=PREFIX, size=OWN_LEN, target=TARGET):
        self.taken(mining.OpenExtendedMiningChannel)
        self.pool(
            mining.OpenExtendedMiningChannelSuccess(
                request_id=1,
                channel_id=CHANNEL,
                target=target.to_bytes(32, "little"),
                extranonce_size=size,
                extranonce_prefix=prefix,
                group_channel_id=1,
            )
        )
        return self

    def give(self, which=TAGGED):
        """Answers all requests for tokens."""
        for request in self.taken(jd.AllocateMiningJobToken):
            self.tokens += 1
            token = b"token %d" % self.tokens
            self.declarator(jd.AllocateMiningJobTokenSuccess(request.request_id, token, which))
        return self

    def offer(self, own):
        self.machine.offer(own, self.now)
        self.look()
        return self

    def judge(self, *, token=b"judged"):
        declared = self.one(jd.DeclareMiningJob)
        self.declarator(jd.DeclareMiningJobSuccess(declared.request_id, token))
        return declared

    def refuse_declared(self, code="invalid-job", details=b""):
        declared = self.one(jd.DeclareMiningJob)
        self.declarator(jd.DeclareMiningJobError(declared.request_id, code, details))
        return declared

    def accept(self, job_id=40):
        custom = self.one(mining.SetCustomMiningJob)
        self.pool(mining.SetCustomMiningJobSuccess(CHANNEL, custom.request_id, job_id))
        return custom

    def refuse_custom(self, code="invalid-coinbase-tx"):
        custom = self.one(mining.SetCustomMiningJob)
        self.pool(mining.SetCustomMiningJobError(CHANNEL, custom.request_id, code))
        return custom

    def work(self, own, which=TAGGED):
        """Goes all the way to the first accepted job, and into use."""
        self.start().open().offer(own).give(which)
        if self.machine._settings.full_template:
            self.judge()
        self.accept()
        self.machine.use(self.now)
        self.look()
        return self.published[-1]

    def submit(self, found):
        self.machine.submit(found, self.now)
        self.look()
