"""Every edge of a pool's machine: what is sent, what goes to the miners, what fails it."""

import pytest
from jdc_rig.templates import SUBSIDY, own, transaction
from jdc_rig.upstream import (
    CHANNEL,
    OWN_LEN,
    PAYOUT,
    PREFIX,
    TAGGED,
    Peer,
    Z,
    outputs,
    share,
    tag,
)

from radpool_sv2.chain.transaction import Transaction, TxOutput
from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.jdc import upstream
from radpool_sv2.jdc.job import JobState
from radpool_sv2.jdc.upstream import Phase
from radpool_sv2.units import target_of
from radpool_sv2.wire.frame import Frame
from radpool_sv2.wire.message import job_declaration as jd
from radpool_sv2.wire.message import mining
from radpool_sv2.wire.message.connection import Reconnect

TRANSACTIONS = (transaction(1, witness=True), transaction(2), transaction(3, witness=True))
OWN = own(1, transactions=TRANSACTIONS)


# --- to the first accepted job ---


def test_full_template_goes_from_token_to_accepted_job():
    peer = Peer().start(5.0)
    request = peer.taken(mining.OpenExtendedMiningChannel)[0]
    assert (request.user_identity, request.min_extranonce_size) == ("alice.rig", OWN_LEN)
    assert request.nominal_hash_rate == 5.0
    peer.open().offer(OWN)
    assert peer.machine.phase is Phase.READY
    asked = peer.taken(jd.AllocateMiningJobToken)
    assert [each.user_identifier for each in asked] == ["alice.rig"] * 2
    peer.declarator(jd.AllocateMiningJobTokenSuccess(asked[0].request_id, b"first", TAGGED))
    declared = peer.judge(token=b"second")
    assert declared.mining_job_token == b"first"
    assert list(declared.wtxid_list) == [each.wtxid for each in TRANSACTIONS]
    custom = peer.accept()
    assert (custom.token, custom.channel_id) == (b"second", CHANNEL)
    assert (custom.prev_hash, custom.nbits) == (OWN.tip.prev_hash, OWN.tip.nbits)
    assert custom.merkle_path == OWN.template.merkle_path
    assert (peer.works, peer.machine.phase) == (1, Phase.WORKING)
    assert peer.published == [], "miners come when the ladder says so"


def test_declared_coinbase_is_the_one_of_the_custom_job():
    """The parts around the extranonce are one transaction, whose outputs are those offered."""
    peer = Peer().start().open().offer(OWN).give()
    declared = peer.judge()
    custom = peer.accept()
    extranonce = PREFIX + bytes(OWN_LEN)
    raw = declared.coinbase_tx_prefix + extranonce + declared.coinbase_tx_suffix
    coinbase = Transaction.from_bytes(raw)
    assert coinbase.is_coinbase
    assert coinbase.inputs[0].script == custom.coinbase_prefix + extranonce
    assert custom.coinbase_prefix[-1] == len(extranonce)
    assert len(custom.coinbase_prefix) <= 8
    whole = b"".join(each.to_bytes() for each in coinbase.outputs)
    assert custom.coinbase_tx_outputs == bytes([len(coinbase.outputs)]) + whole
    assert (coinbase.outputs[0].value_sats, coinbase.outputs[0].script) == (SUBSIDY, PAYOUT)
    assert coinbase.outputs[1] == tag()
    assert [each.value_sats for each in coinbase.outputs[1:]] == [0, 0]


def test_coinbase_only_needs_no_declaration():
    peer = Peer(full_template=False).start().open().offer(OWN).give()
    assert not peer.taken(jd.DeclareMiningJob)
    assert peer.accept().token == b"token 1"
    assert peer.works == 1


def test_template_that_comes_last_is_declared_too():
    peer = Peer().start().open().give()
    assert not peer.taken(jd.DeclareMiningJob)
    peer.offer(OWN)
    assert peer.judge()


def test_room_for_outputs_is_asked_for_once():
    peer = Peer().start().open().offer(OWN).give()
    assert peer.constraints == [(len(TAGGED) - 1, 0)]


def test_wide_channel_is_filled_up_in_front_of_the_engines_part():
    peer = Peer().start().open(size=OWN_LEN + 3).offer(OWN).give()
    peer.judge()
    custom = peer.accept(41)
    assert custom.coinbase_prefix[-1] == len(PREFIX) + OWN_LEN + 3
    job = peer.machine.job
    assert job.coinbase.head == PREFIX + bytes(3)
    peer.machine.use(peer.now)
    peer.submit(share(job))
    assert peer.one(mining.SubmitSharesExtended).extranonce == bytes(3) + b"\x0b" * OWN_LEN


def test_tokens_are_refilled_and_the_oldest_fresh_one_is_used():
    peer = Peer(interval_s=1.0)
    peer.work(OWN)
    peer.give()
    peer.wait(2)
    peer.offer(own(2))
    assert peer.one(jd.DeclareMiningJob).mining_job_token == b"token 2"
    peer.give()
    peer.wait(1)


def test_old_token_gives_way_to_a_newer_one():
    """Its tag has the exponent and the epoch of then."""
    peer = Peer()
    peer.start().open()
    first, second = peer.taken(jd.AllocateMiningJobToken)
    peer.declarator(jd.AllocateMiningJobTokenSuccess(first.request_id, b"old", TAGGED))
    peer.now = 9.0
    peer.declarator(jd.AllocateMiningJobTokenSuccess(second.request_id, b"new", TAGGED))
    peer.now = 62.0
    peer.offer(OWN)
    assert peer.one(jd.DeclareMiningJob).mining_job_token == b"new"


# --- missing transactions ---


def test_missing_transactions_are_sent_in_the_order_asked_for():
    peer = Peer().start().open().offer(OWN).give()
    [declared] = [each for each in peer.told if isinstance(each, jd.DeclareMiningJob)]
    peer.declarator(jd.ProvideMissingTransactions(declared.request_id, (2, 0)))
    answer = peer.one(jd.ProvideMissingTransactionsSuccess)
    assert answer.transaction_list == (TRANSACTIONS[2].to_bytes(), TRANSACTIONS[0].to_bytes())
    assert answer.request_id == declared.request_id


@pytest.mark.parametrize("positions", [(3,), (0, 0)])
def test_positions_that_cannot_be_end_the_connection(positions):
    peer = Peer().start().open().offer(OWN).give()
    [declared] = [each for each in peer.told if isinstance(each, jd.DeclareMiningJob)]
    with pytest.raises(RemoteProtocolError):
        peer.declarator(jd.ProvideMissingTransactions(declared.request_id, positions))


def test_transactions_of_one_job_are_sent_a_few_times_at_most():
    peer = Peer().start().open().offer(OWN).give()
    [declared] = [each for each in peer.told if isinstance(each, jd.DeclareMiningJob)]
    for _ in range(4):
        peer.declarator(jd.ProvideMissingTransactions(declared.request_id, (0,)))
    with pytest.raises(RemoteProtocolError, match="asked 5 times"):
        peer.declarator(jd.ProvideMissingTransactions(declared.request_id, (0,)))


def test_transactions_of_another_job_are_not_sent():
    peer = Peer().start().open().offer(OWN).give()
    peer.declarator(jd.ProvideMissingTransactions(999, (0,)))
    assert not peer.taken(jd.ProvideMissingTransactionsSuccess)


# --- optimistic mining ---


def test_job_goes_to_the_miners_before_it_is_judged_and_its_shares_follow_in_order():
    peer = Peer()
    peer.work(OWN)
    peer.give()
    peer.offer(own(2, on=2))
    job = peer.published[-1]
    assert (job.own.template.id, job.state) == (2, JobState.DECLARED)
    for nonce in (1, 2, 3):
        peer.submit(share(job, nonce=nonce))
    assert not peer.taken(mining.SubmitSharesExtended)
    peer.judge()
    peer.submit(share(job, nonce=4))
    assert not peer.taken(mining.SubmitSharesExtended)
    peer.accept(55)
    sent = peer.taken(mining.SubmitSharesExtended)
    assert [each.nonce for each in sent] == [1, 2, 3, 4]
    assert {each.job_id for each in sent} == {55}
    assert [each.sequence_number for each in sent] == [1, 2, 3, 4]


def test_as_many_shares_wait_as_are_allowed_and_the_oldest_go():
    peer = Peer(cached_shares_max=3)
    peer.work(OWN)
    peer.give().offer(own(2, on=2))
    for nonce in range(5):
        peer.submit(share(peer.published[-1], nonce=nonce))
    peer.judge()
    peer.accept()
    assert [each.nonce for each in peer.taken(mining.SubmitSharesExtended)] == [2, 3, 4]
    assert peer.totals.given_up == 2


def test_shares_of_a_refused_job_are_given_up():
    peer = Peer()
    peer.work(OWN)
    peer.give().offer(own(2, on=2))
    job = peer.published[-1]
    peer.submit(share(job))
    peer.refuse_declared()
    peer.submit(share(job, nonce=2))
    assert not peer.taken(mining.SubmitSharesExtended)
    assert peer.totals.given_up == 2


def test_only_shares_that_meet_the_tag_are_sent():
    peer = Peer()
    job = peer.work(OWN)
    peer.submit(share(job, zeros=Z - 1))
    assert not peer.taken(mining.SubmitSharesExtended)
    peer.submit(share(job, zeros=Z))
    assert peer.one(mining.SubmitSharesExtended)
    assert peer.totals.given_up == 0


def test_without_a_tag_the_channels_target_decides():
    peer = Peer()
    job = peer.work(OWN, outputs())
    peer.pool(mining.SetTarget(CHANNEL, target_of(Z + 5).to_bytes(32, "little")))
    peer.submit(share(job, zeros=Z + 4))
    assert not peer.taken(mining.SubmitSharesExtended)
    peer.submit(share(job, zeros=Z + 5))
    assert peer.one(mining.SubmitSharesExtended)


def test_share_of_a_forgotten_job_is_given_up():
    peer = Peer()
    job = peer.work(OWN)
    job.number += 1_000
    peer.submit(share(job))
    assert peer.totals.given_up == 1


# --- new templates and tips ---


def test_new_tip_is_declared_at_once_and_supersedes_what_is_under_way():
    peer = Peer()
    peer.work(OWN)
    peer.give().offer(own(2, on=2))
    late = peer.one(jd.DeclareMiningJob)
    superseded = peer.published[-1]
    peer.submit(share(superseded))
    peer.give().offer(own(3, on=3))
    assert peer.published[-1].own.template.id == 3
    assert superseded.state is JobState.REFUSED
    peer.declarator(jd.DeclareMiningJobSuccess(late.request_id, b"late"))
    assert not peer.taken(mining.SetCustomMiningJob)
    peer.judge()
    peer.accept()
    assert peer.totals.given_up == 1
    assert peer.machine.accepted_job.own.template.id == 3


def test_refusal_of_a_superseded_job_is_no_refusal():
    peer = Peer(refusals_max=1)
    peer.work(OWN)
    peer.give().offer(own(2, on=2))
    late = peer.one(jd.DeclareMiningJob)
    peer.give().offer(own(3, on=3))
    peer.declarator(jd.DeclareMiningJobError(late.request_id, "stale-chain-tip", b""))
    assert not peer.reason
    peer.judge()
    custom = peer.one(mining.SetCustomMiningJob)
    peer.give().offer(own(4, on=4))
    peer.pool(mining.SetCustomMiningJobError(CHANNEL, custom.request_id, "stale-chain-tip"))
    assert not peer.reason


def test_more_fees_on_the_same_tip_wait_for_the_interval():
    peer = Peer()
    peer.work(OWN)
    peer.give().offer(own(2))
    peer.wait(14.9)
    assert not peer.taken(jd.DeclareMiningJob)
    peer.offer(own(3))
    peer.wait(0.2)
    assert peer.published[-1].own.template.id == 3
    assert peer.judge()


def test_one_declaration_is_under_way_for_a_tip():
    peer = Peer(interval_s=1.0)
    peer.work(OWN)
    peer.give().offer(own(2, on=2))
    declared = peer.one(jd.DeclareMiningJob)
    peer.give().offer(own(3, on=2))
    peer.wait(5)
    assert not peer.taken(jd.DeclareMiningJob)
    peer.declarator(jd.DeclareMiningJobSuccess(declared.request_id, b"x"))
    peer.accept()
    peer.give()
    assert peer.one(jd.DeclareMiningJob)


def test_new_prefix_makes_a_new_job_at_once():
    peer = Peer()
    peer.work(OWN)
    peer.give()
    peer.pool(mining.SetExtranoncePrefix(CHANNEL, b"\xbb" * 4))
    assert peer.published[-1].coinbase.head == b"\xbb" * 4
    assert PREFIX not in peer.judge().coinbase_tx_prefix


def test_what_a_pool_says_of_its_own_jobs_is_not_listened_to():
    peer = Peer()
    peer.work(OWN)
    peer.pool(mining.SetNewPrevHash(CHANNEL, 1, bytes(32), 0, 0))
    peer.pool(mining.SetGroupChannel(3, (CHANNEL,)))
    peer.pool(mining.CloseChannel(CHANNEL + 1, "other"))
    peer.pool(Frame(0x1234, 1, False, b"what"))
    assert not peer.reason


# --- every edge that fails a pool ---


def test_no_channel_in_time():
    peer = Peer().start()
    peer.wait(9.9)
    assert not peer.reason
    peer.wait(0.2)
    assert "opened no channel within 10 s" in peer.reason


def test_refused_channel():
    peer = Peer().start()
    peer.pool(mining.OpenMiningChannelError(1, "unknown-user"))
    assert peer.reason == "it refused the channel: unknown-user"


def test_channel_with_too_little_extranonce():
    assert "11 bytes of extranonce" in Peer().start().open(size=OWN_LEN - 1).reason


def test_channel_whose_extranonce_no_solution_can_carry():
    peer = Peer().start().open(prefix=b"p" * 21).offer(OWN).give()
    assert "no block can have its extranonce" in peer.reason


def test_longest_extranonce_reaches_the_declarator_with_a_block():
    peer = Peer()
    peer.start().open(prefix=b"p" * 8, size=24).offer(OWN).give()
    peer.judge()
    peer.accept()
    peer.machine.use(peer.now)
    peer.look()
    peer.machine.solve(share(peer.published[-1]))
    solution = peer.one(jd.PushSolution)
    assert len(solution.extranonce) == 32
    solution.encode()


def test_second_channel_is_more_than_was_asked_for():
    peer = Peer().start().open()
    with pytest.raises(RemoteProtocolError, match="a second channel"):
        peer.open()


def test_no_token_in_time():
    peer = Peer().start().open().offer(OWN)
    peer.wait(9.9)
    assert not peer.reason
    peer.wait(0.2)
    assert "gave no token within 10 s" in peer.reason


def test_no_token_in_time_while_working():
    peer = Peer()
    peer.work(OWN)
    peer.wait(10)
    assert "gave no token" in peer.reason


@pytest.mark.parametrize(
    "which",
    [
        b"",
        b"\x00",
        b"\x01",
        outputs() + b"x",
        b"\x01" + (1).to_bytes(8, "little") + b"\x01\x51",
        b"\xfd\x41\x00" + bytes(9) * 65,
        b"\x01" + bytes(8) + b"\xfd\x00\x20" + bytes(8192),
        outputs(TxOutput(0, b"\xae" * 21)),
    ],
    ids=["nothing", "none", "cut", "more", "valued", "many", "long", "sigops"],
)
def test_outputs_that_no_coinbase_should_have_end_the_connection(which):
    with pytest.raises(RemoteProtocolError):
        Peer().start().open().give(which)


def test_refused_declaration_is_tried_again_and_then_fails():
    peer = Peer().start().open().offer(OWN).give()
    first = peer.refuse_declared("invalid-job", b"bad-cb-amount")
    peer.give()
    assert not peer.taken(jd.DeclareMiningJob), "a moment for a node that lags behind"
    peer.wait(1)
    second = peer.refuse_declared("invalid-job", b"bad-cb-amount\x1b[0m")
    assert first.mining_job_token != second.mining_job_token
    assert peer.reason == ("it refused 2 jobs in a row, the last: invalid-job: bad-cb-amount [0m")


def test_refused_custom_job_is_tried_again_and_then_fails():
    peer = Peer().start().open().offer(OWN).give()
    peer.judge()
    peer.refuse_custom("stale-chain-tip")
    peer.give()
    peer.wait(1)
    peer.judge()
    peer.refuse_custom("invalid-merkle-path")
    assert peer.reason == "it refused 2 jobs in a row, the last: invalid-merkle-path"


def test_miners_of_a_refused_job_go_back_to_what_the_pool_pays_for():
    peer = Peer(interval_s=1.0)
    first = peer.work(OWN)
    peer.wait(1)
    peer.give().offer(own(2, on=1))
    assert peer.published[-1] is not first
    peer.refuse_declared()
    assert peer.published[-1] is first
    peer.submit(share(first))
    assert peer.taken(mining.SubmitSharesExtended)


def test_miners_of_the_only_job_on_a_tip_are_free_when_it_is_refused():
    peer = Peer()
    peer.work(OWN)
    peer.give().offer(own(2, on=2))
    assert peer.withdrawn == 0
    peer.refuse_declared()
    assert peer.withdrawn == 1


def test_refusal_of_a_pool_that_is_not_used_concerns_no_miner():
    peer = Peer().start().open().offer(OWN).give()
    peer.refuse_declared()
    assert (peer.withdrawn, peer.published) == (0, [])


def test_accepted_job_ends_the_row_of_refusals():
    peer = Peer(interval_s=1.0)
    peer.work(OWN)
    for number in range(2, 6):
        peer.give().offer(own(number, on=number))
        peer.refuse_declared()
        peer.give().wait(1)
        peer.judge()
        peer.accept()
    assert not peer.reason


def test_no_verdict_in_time():
    peer = Peer().start().open().offer(OWN).give().give()
    peer.wait(9.9)
    assert not peer.reason
    peer.wait(0.2)
    assert "did not judge a job in time" in peer.reason


def test_no_answer_to_a_custom_job_in_time():
    peer = Peer().start().open().offer(OWN).give()
    peer.wait(5)
    peer.give()
    peer.judge()
    peer.wait(9.9)
    assert not peer.reason
    peer.wait(0.2)
    assert "did not answer to a job in time" in peer.reason


def test_no_answer_to_a_share_in_time():
    peer = Peer()
    job = peer.work(OWN)
    peer.give()
    peer.submit(share(job))
    peer.wait(59.9)
    assert not peer.reason
    peer.wait(0.2)
    assert "did not answer to a share within 60 s" in peer.reason
    assert peer.totals.lost == 1


def test_shares_rejected_in_a_row():
    peer = Peer()
    job = peer.work(OWN)
    for nonce in range(4):
        assert not peer.reason
        peer.submit(share(job, nonce=nonce))
        sent = peer.one(mining.SubmitSharesExtended)
        peer.pool(mining.SubmitSharesError(CHANNEL, sent.sequence_number, "invalid-share"))
    assert "rejected 4 shares in a row" in peer.reason
    assert peer.totals.rejected == {"invalid-share": 4}


def test_accepted_share_ends_the_row_of_rejected_ones():
    peer = Peer()
    job = peer.work(OWN)
    for nonce in range(12):
        peer.submit(share(job, nonce=nonce))
        number = peer.one(mining.SubmitSharesExtended).sequence_number
        if nonce % 4 == 3:
            peer.pool(mining.SubmitSharesSuccess(CHANNEL, number, 1, 1 << Z))
        else:
            peer.pool(mining.SubmitSharesError(CHANNEL, number, "invalid-share"))
    assert not peer.reason
    assert (peer.totals.accepted, peer.totals.accepted_sum) == (3, 3 << Z)


def test_late_shares_of_the_last_tip_fail_nobody():
    peer = Peer()
    job = peer.work(OWN)
    for nonce in range(8):
        peer.submit(share(job, nonce=nonce))
    peer.give().offer(own(2, on=2))
    for sent in peer.taken(mining.SubmitSharesExtended):
        peer.pool(mining.SubmitSharesError(CHANNEL, sent.sequence_number, "stale-share"))
    assert not peer.reason


def test_closed_channel():
    peer = Peer()
    peer.work(OWN)
    peer.pool(mining.CloseChannel(CHANNEL, "maintenance"))
    assert peer.reason == "it closed the channel: maintenance"


@pytest.mark.parametrize("side", ["pool", "declarator"])
def test_pool_that_asks_to_be_called_again(side):
    peer = Peer()
    peer.work(OWN)
    getattr(peer, side)(Reconnect("other.example", 3333))
    assert peer.failed[0].elsewhere == ("other.example", 3333)
    assert peer.failed[0].of_declarator == (side == "declarator")


def test_new_target_of_the_channel_is_told():
    peer = Peer()
    peer.work(OWN)
    peer.pool(mining.SetTarget(CHANNEL, (1).to_bytes(32, "little")))
    assert peer.retargeted == 1


def test_hidden_job_is_kept_although_its_answer_is_never_heard():
    peer = Peer(full_template=False)
    peer.work(OWN)
    peer.give().offer(own(2, on=1)).wait(15)
    late = peer.one(mining.SetCustomMiningJob)
    peer.give().offer(own(3, on=2))
    peer.pool(mining.SetCustomMiningJobSuccess(CHANNEL, late.request_id, 41))
    assert [each.token for each in peer.hidden] == [b"token 1", b"token 2", b"token 3"]
    assert not any(each.denied for each in peer.hidden)
    peer.refuse_custom()
    assert peer.hidden[-1].denied


def test_hidden_jobs_on_one_tip_are_bounded(monkeypatch):
    monkeypatch.setattr(upstream, "HIDDEN_MAX", 3)
    peer = Peer(full_template=False)
    peer.work(OWN)
    for number in range(2, 6):
        peer.give().offer(own(number, on=1)).wait(15)
        for each in peer.taken(mining.SetCustomMiningJob):
            peer.pool(mining.SetCustomMiningJobSuccess(CHANNEL, each.request_id, number))
    assert len(peer.hidden) == 3
    assert not peer.reason
    peer.give().offer(own(9, on=2))
    assert len(peer.hidden) == 4, "a new tip has room again"


def test_lost_connection_counts_what_was_under_way():
    peer = Peer()
    job = peer.work(OWN)
    peer.submit(share(job))
    peer.give().offer(own(2, on=2))
    peer.submit(share(peer.published[-1]))
    peer.machine.fail("the connection broke")
    peer.machine.fail("again")
    assert peer.reason == "the connection broke"
    assert (peer.totals.lost, peer.totals.given_up) == (1, 1)
    assert peer.machine.next_deadline() is None
    peer.pool(mining.SubmitSharesSuccess(CHANNEL, 1, 1, 1))
    assert peer.totals.accepted == 0


def test_messages_of_another_protocol_end_the_connection():
    peer = Peer().start().open()
    with pytest.raises(RemoteProtocolError):
        peer.declarator(mining.SetTarget(CHANNEL, bytes(32)))
    with pytest.raises(RemoteProtocolError, match="a declarator sent"):
        peer.declarator(jd.AllocateMiningJobToken("x", 1))


# --- shares' answers ---


def test_answers_are_counted_in_groups():
    peer = Peer()
    job = peer.work(OWN)
    for nonce in range(5):
        peer.submit(share(job, nonce=nonce))
    peer.pool(mining.SubmitSharesError(CHANNEL, 2, "duplicate-share"))
    peer.pool(mining.SubmitSharesSuccess(CHANNEL, 4, 3, 3 << Z))
    totals = peer.totals
    assert (totals.submitted, totals.accepted, totals.mismatches) == (5, 3, 0)
    assert peer.machine.submissions.unanswered == 1


def test_answers_that_do_not_fit_are_told():
    peer = Peer()
    job = peer.work(OWN)
    peer.submit(share(job))
    peer.pool(mining.SubmitSharesSuccess(CHANNEL, 1, 2, 2 << Z))
    peer.pool(mining.SubmitSharesError(CHANNEL, 9, "duplicate-share"))
    assert peer.totals.mismatches == 2


def test_invented_codes_are_counted_together():
    peer = Peer(rejected_shares_max=1_000)
    job = peer.work(OWN)
    for nonce in range(100):
        peer.submit(share(job, nonce=nonce))
        peer.pool(mining.SubmitSharesError(CHANNEL, nonce + 1, f"code-{nonce}"))
    assert len(peer.totals.rejected) == 65
    assert peer.totals.rejected["other"] == 36


# --- blocks and hash rates ---


def test_block_on_a_judged_template_is_pushed():
    peer = Peer()
    job = peer.work(OWN)
    found = share(job)
    peer.machine.solve(found)
    pushed = peer.one(jd.PushSolution)
    assert pushed.extranonce == PREFIX + found.extranonce
    assert (pushed.nonce, pushed.prev_hash) == (found.nonce, OWN.tip.prev_hash)


def test_block_on_a_template_that_the_pool_has_not_judged_is_not_pushed():
    peer = Peer()
    peer.work(OWN)
    peer.give().offer(own(2, on=2))
    peer.machine.solve(share(peer.published[-1]))
    assert not peer.taken(jd.PushSolution)
    only = Peer(full_template=False)
    only.machine.solve(share(only.work(OWN)))
    assert not only.taken(jd.PushSolution)


def test_hash_rate_is_told_when_it_has_changed_enough():
    peer = Peer().start(100.0).open()
    peer.machine.set_rate(200.0, 9.0)
    assert not peer.taken(mining.UpdateChannel), "too soon"
    peer.machine.set_rate(109.0, 11.0)
    assert not peer.taken(mining.UpdateChannel), "too little"
    peer.machine.set_rate(112.0, 12.0)
    assert peer.one(mining.UpdateChannel).nominal_hash_rate == 112.0
    peer.machine.set_rate(0.0, 30.0)
    assert peer.one(mining.UpdateChannel).nominal_hash_rate == 0.0


def test_hash_rate_beyond_what_a_message_holds_is_told_as_the_most():
    peer = Peer()
    peer.machine.start(1e39, 0.0)
    peer.one(mining.OpenExtendedMiningChannel).encode()
    peer.open()
    peer.machine.set_rate(0.0, 20.0)
    peer.machine.set_rate(1e300, 40.0)
    assert [each.encode() for each in peer.taken(mining.UpdateChannel)]


def test_jobs_are_forgotten_beyond_a_few():
    peer = Peer(interval_s=1.0)
    first = peer.work(OWN)
    for number in range(2, 12):
        peer.give().offer(own(number, on=number))
        peer.judge()
        peer.accept(number)
    assert len(peer.machine._jobs) == 8
    peer.submit(share(first))
    assert peer.totals.given_up == 1


# --- tokens of now ---


def test_tokens_are_renewed_on_a_new_tip_and_another_tag_makes_the_next_job():
    """A pool counts shares in the epoch of the tag; its own block has begun another."""
    peer = Peer()
    peer.work(OWN)
    peer.give().offer(own(2, on=2))
    asked = peer.taken(jd.AllocateMiningJobToken)
    peer.judge()
    peer.accept()
    renewed = peer.taken(jd.AllocateMiningJobToken)
    assert len(renewed) == 2
    declared = len(peer.published)
    fresh = outputs(tag(Z + 1))
    old, new = asked[0].request_id, renewed[0].request_id
    peer.declarator(jd.AllocateMiningJobTokenSuccess(old, b"old", fresh))
    assert len(peer.published) == declared, "it was asked for before the pool knew the tip"
    peer.declarator(jd.AllocateMiningJobTokenSuccess(new, b"fresh", fresh))
    assert len(peer.published) == declared + 1
    assert peer.published[-1].coinbase.asked.exponent == Z + 1
    assert peer.published[-1].own.template.id == 2
    assert peer.one(jd.DeclareMiningJob).mining_job_token == b"fresh"


def test_tokens_of_the_same_tag_make_no_further_job():
    peer = Peer()
    peer.work(OWN)
    peer.give().offer(own(2, on=2))
    peer.judge()
    peer.accept()
    declared = len(peer.published)
    peer.give()
    peer.give()
    assert len(peer.published) == declared
