"""Jobs of the client's own, and jobs for which another pool pays. Rows: `rows.py`."""

import itertools
import json
import struct
import time

import pytest
from engine_pool import (
    NBITS,
    NO_BLOCK,
    POOL_SCRIPT,
    REQUIRES_WORK_SELECTION,
    SUBSIDY,
    WITNESS_COMMITMENT,
    push_height,
    records,
)
from peer import work
from peer.message import Message
from peer.session import MAX_TARGET

from radpool_sv2._native import engine as native
from radpool_sv2._native.ledger import verify_batch

REGTEST = 0x207FFFFF
PRICE = 123_456
# The easiest step that the pool gives.
Z = 4
PAYOUT = struct.pack("<Q", SUBSIDY) + bytes([len(POOL_SCRIPT)]) + POOL_SCRIPT
REQUESTS = itertools.count(1)


class Declarer:
    """Is a client that selects its work, with one channel, and the desk that decides about it."""

    def __init__(self, pool, session, channel):
        self.pool, self.session, self.channel = pool, session, channel
        self.templates = itertools.count(1 << 63)

    @classmethod
    async def start(cls, pool, **fields):
        session = await pool.session(REQUIRES_WORK_SELECTION)
        return cls(pool, session, await session.open(**fields))

    def tag(self, z, user=b"alice", epoch=None):
        return work.owner_output(
            self.pool.msp.public,
            self.pool.commitment(user),
            self.pool.epoch if epoch is None else epoch,
            self.pool.rails.get(user, 0),
            z,
        )

    def job(self, z, *outputs, channel=None, **changes):
        outputs = outputs or (PAYOUT, self.tag(z), WITNESS_COMMITMENT)
        height = self.pool.height
        fields = {
            "channel_id": (channel or self.channel).id,
            "request_id": next(REQUESTS),
            "mining_job_token": b"\x55" * 32,
            "version": 0x20000000,
            "prev_hash": struct.pack("<I", self.pool.tips) * 8,
            "min_ntime": int(time.time()) - 300,
            "nbits": NBITS,
            "coinbase_tx_version": 2,
            # Height, a text, the push of the whole extranonce.
            "coinbase_prefix": push_height(height) + b"\x03me!" + b"\x0c",
            "coinbase_tx_input_n_sequence": 0xFFFFFFFD,
            "coinbase_tx_outputs": bytes([len(outputs)]) + b"".join(outputs),
            "coinbase_tx_locktime": height - 1,
            "merkle_path": [bytes([n]) * 32 for n in range(12)],
        }
        return Message("SetCustomMiningJob", **{**fields, **changes})

    async def ask(self, job):
        await self.session.offer(job)
        return await self.pool.event(native.CustomJobRequested)

    def accept(self, asked, z, *, user=b"alice", **changes):
        fields = {
            "template_id": next(self.templates),
            "account": self.pool.accounts[user],
            "commitment": self.pool.commitment(user),
            "rail": self.pool.rails.get(user, 0),
            "epoch": self.pool.epoch,
            "exponent": z,
            "price": PRICE,
            "height": self.pool.height,
            "target": NO_BLOCK,
        }
        return self.pool.engine.accept_custom_job(
            asked.connection, asked.channel, asked.request, **{**fields, **changes}
        )

    async def set(self, z, **changes):
        """Has a job set and returns what the client was sent."""
        asked = await self.ask(self.job(z, **changes))
        await self.pool.done(self.accept(asked, z))
        return [message.name for message in await self.session.settle()]


@pytest.fixture
async def declarer(start_pool):
    return await Declarer.start(await start_pool(work_selection=True))


async def test_custom_job_is_handed_up_as_it_came(declarer):
    job = declarer.job(Z)
    asked = await declarer.ask(job)
    assert (asked.channel, asked.token) == (declarer.channel.id, job.mining_job_token)
    assert (asked.version, asked.prev_hash, asked.nbits) == (job.version, job.prev_hash, job.nbits)
    assert (asked.min_ntime, asked.merkle_path) == (job.min_ntime, job.merkle_path)
    assert asked.coinbase_tx_version == job.coinbase_tx_version
    assert asked.coinbase_prefix == job.coinbase_prefix
    assert asked.coinbase_sequence == job.coinbase_tx_input_n_sequence
    assert (asked.output_count, asked.coinbase_tx_outputs) == (3, job.coinbase_tx_outputs[1:])
    assert asked.coinbase_locktime == job.coinbase_tx_locktime
    assert asked.exponent == declarer.channel.z
    assert asked.extranonce_len == declarer.channel.extranonce_len == 12


async def test_custom_job_is_mined_and_its_shares_are_provable(declarer):
    """The answer names the job; a verifier that knows nothing else recomputes each share."""
    pool, session, channel = declarer.pool, declarer.session, declarer.channel
    assert await declarer.set(channel.z) == ["SetCustomMiningJobSuccess"]
    shares = [session.mine(channel) for _ in range(3)]
    for share in shares:
        await session.accepted(share)
    taken = [record for batch in pool.batches for record in records(batch)]
    assert [record["hash"] for record in taken] == [share.hash for share in shares]
    assert {record["template_id"] for record in taken} == {1 << 63}
    assert {record["account"] for record in taken} == {pool.accounts[b"alice"]}
    for batch in pool.batches:
        assert batch.price_of(0) == PRICE
        assert batch.template_of(0) == 1 << 63
        assert batch.job_of(0) == channel.active
        sealed = batch.seal(pool.msp, 0, bytes(32), 0, weight=(1, 32, 0))
        bodies = {body[0]: body[1] for body in sealed.bodies}
        assert verify_batch(sealed.blob, bodies).hash == sealed.hash


async def test_set_target_precedes_the_answer_when_the_tag_differs(declarer):
    session, channel = declarer.session, declarer.channel
    await declarer.set(6)
    before = session.mine(channel)
    assert await declarer.set(5) == ["SetTarget", "SetCustomMiningJobSuccess"]
    assert channel.z == 5
    moved = await declarer.pool.event(native.ExponentChanged)
    assert (moved.channel, moved.exponent) == (channel.id, 6)
    # The job before keeps the weight of its own tag.
    await session.accepted(before)
    await session.accepted(session.mine(channel))
    taken = [record for batch in declarer.pool.batches for record in records(batch)]
    assert [record["exponent"] for record in taken] == [6, 5]


async def test_work_selection_gets_no_jobs_of_the_pool(declarer):
    """Neither for templates nor for tips, as the reference pool; nor are channels grouped."""
    pool, session = declarer.pool, declarer.session
    other = await session.open()
    assert other.group != declarer.channel.group
    pool.new_template()
    pool.new_tip()
    pool.new_future()
    pool.activate_future()
    assert await session.settle() == []
    # It is not the client that is slow: without work nobody is.
    await declarer.set(Z)
    await session.accepted(session.mine(declarer.channel))


async def test_work_selection_asks_for_extended_channels(start_pool):
    pool = await start_pool(work_selection=True)
    client = await pool.connect()
    answer = await client.set_up(REQUIRES_WORK_SELECTION)
    assert (answer.name, answer.flags) == ("SetupConnectionSuccess", 2)
    session = await pool.session(REQUIRES_WORK_SELECTION)
    await session.request("standard")
    error = await session.expect("OpenMiningChannelError")
    assert error.error_code == "standard-channels-not-supported-for-custom-work"


async def test_custom_job_is_refused_by_the_pool(declarer):
    job = declarer.job(Z)
    asked = await declarer.ask(job)
    pool = declarer.pool
    code = "invalid-mining-job-token"
    token = pool.engine.refuse_custom_job(asked.connection, asked.channel, asked.request, code)
    error = await declarer.session.expect("SetCustomMiningJobError")
    assert (error.request_id, error.error_code) == (job.request_id, code)
    await pool.done(token)
    # It is answered once.
    await pool.done(declarer.accept(asked, Z))
    assert await declarer.session.settle() == []


async def test_custom_job_of_a_tip_that_went_is_refused(declarer):
    """Although the pool wanted it: the client and the pool both hear that it came too late."""
    pool, session, channel = declarer.pool, declarer.session, declarer.channel
    await declarer.set(Z)
    share = session.mine(channel)
    asked = await declarer.ask(declarer.job(Z))
    pool.new_tip()
    declarer.accept(asked, Z)
    error = await session.expect("SetCustomMiningJobError")
    assert error.error_code == "stale-chain-tip"
    failed = await pool.event(native.CustomJobFailed)
    assert (failed.connection, failed.channel) == (asked.connection, asked.channel)
    assert (failed.request, failed.code) == (asked.request, "stale-chain-tip")
    assert await session.refused(share) == "stale-share"
    await declarer.set(Z)
    await session.accepted(session.mine(channel))


async def test_custom_job_without_exactly_one_tag_is_refused(declarer):
    tag, other = declarer.tag(Z), declarer.tag(Z, user=b"bob")
    wrong = [
        [PAYOUT, WITNESS_COMMITMENT],
        [PAYOUT, tag, tag],
        [PAYOUT, tag, other],
        [PAYOUT, other],
        [PAYOUT, declarer.tag(Z + 1)],
        [PAYOUT, declarer.tag(Z, epoch=6)],
        [PAYOUT, b"\1" + tag[1:]],
    ]
    for outputs in wrong:
        asked = await declarer.ask(declarer.job(Z, *outputs))
        declarer.accept(asked, Z)
        error = await declarer.session.expect("SetCustomMiningJobError")
        assert error.error_code == "invalid-coinbase-tx-outputs"
        assert (await declarer.pool.event(native.CustomJobFailed)).code == error.error_code
    for outputs in ([tag, PAYOUT], [PAYOUT, WITNESS_COMMITMENT, tag]):
        asked = await declarer.ask(declarer.job(Z, *outputs))
        declarer.accept(asked, Z)
        await declarer.session.expect("SetCustomMiningJobSuccess")
        await declarer.session.accepted(declarer.session.mine(declarer.channel))


async def test_a_bounded_number_of_custom_jobs_is_remembered(start_pool):
    pool = await start_pool(work_selection=True, custom_jobs_kept_max=3)
    declarer = await Declarer.start(pool)
    session, channel = declarer.session, declarer.channel
    shares = []
    for _ in range(4):
        await declarer.set(Z)
        shares.append(session.mine(channel))
    assert await session.refused(shares[0]) == "invalid-job-id"
    for share in shares[1:]:
        await session.accepted(share)


async def test_custom_job_solves_a_block(start_pool):
    """The block leaves with the number of its template; the source, which does not know it, is not
    asked."""
    declarer = await Declarer.start(await start_pool(work_selection=True))
    pool, session, channel = declarer.pool, declarer.session, declarer.channel
    asked = await declarer.ask(declarer.job(Z, nbits=REGTEST))
    declarer.accept(asked, Z, target=work.ladder_target(7))
    await session.expect("SetCustomMiningJobSuccess")
    share = session.mine(channel, block_target=2 ** (256 - 7) - 1)
    await session.accepted(share)
    found = await pool.event(native.BlockFound)
    assert (found.header, found.hash) == (share.header, share.hash)
    assert found.template_id == 1 << 63
    assert found.extranonce == channel.prefix + share.message.extranonce
    stripped = found.coinbase_tx[:4] + found.coinbase_tx[6:-38] + found.coinbase_tx[-4:]
    assert stripped == channel.coinbase(channel.job, share.message.extranonce)
    line = json.loads(pool.solution_log.read_text().splitlines()[-1])
    assert line["template_id"] == 1 << 63
    assert bytes.fromhex(line["coinbase_tx"]) == found.coinbase_tx


async def test_vardiff_wants_a_tag_and_sends_nothing(start_pool):
    pool = await start_pool(work_selection=True, shares_per_minute=1)
    declarer = await Declarer.start(pool)
    session, channel = declarer.session, declarer.channel
    await declarer.set(Z)
    for _ in range(12):
        await session.accepted(session.mine(channel))
    wanted = await pool.event(native.ExponentWanted)
    assert wanted.channel == channel.id
    assert wanted.exponent > Z
    assert await session.settle() == []
    assert channel.z == Z
    # The pool's own wish takes the same way.
    connection = wanted.connection
    await pool.done(pool.engine.set_exponent(connection, channel.id, 9))
    await pool.until(lambda: any(isinstance(e, native.ExponentWanted) for e in pool.events))
    assert await session.settle() == []
    assert await declarer.set(9) == ["SetTarget", "SetCustomMiningJobSuccess"]


async def test_smaller_max_target_of_a_work_selecting_channel(declarer):
    session, channel = declarer.session, declarer.channel
    await declarer.set(Z)
    maximum_target = work.ladder_target(6)
    await session.client.send(
        Message(
            "UpdateChannel",
            channel_id=channel.id,
            nominal_hash_rate=0.0,
            maximum_target=maximum_target,
        )
    )
    assert (await session.expect("SetTarget")).maximum_target == maximum_target
    wanted = await declarer.pool.event(native.ExponentWanted)
    assert (wanted.channel, wanted.exponent) == (channel.id, 6)


async def test_custom_jobs_of_a_pool_without_work_selection(pool):
    client = await pool.connect()
    answer = await client.set_up(REQUIRES_WORK_SELECTION)
    assert (answer.error_code, answer.flags) == ("unsupported-feature-flags", 2)


@pytest.mark.parametrize("owner_output", [None, b"", "tag"], ids=["own", "none", "another's"])
async def test_jobs_for_which_another_pool_pays(start_pool, owner_output):
    """A declarator client's engine: fixed extranonce, the other pool's head and owner output."""
    pool = await start_pool(rollable_fixed=9)
    if owner_output == "tag":
        owner_output = work.owner_output(bytes(32), bytes(32), 1, 0, 30)
    head = bytes(range(7))
    pool.engine.publish_template(
        pool.template(extranonce_head=head, owner_output=owner_output), pool.tip()
    )
    session = await pool.session()
    channel = await session.open(min_extranonce_size=3)
    assert channel.rollable == 9
    share = session.mine(channel)
    await session.accepted(share)
    coinbase = work.parse_coinbase(channel.coinbase(channel.job, share.message.extranonce))
    extranonce = channel.prefix + share.message.extranonce
    assert coinbase.script_sig.endswith(bytes([len(head) + 13]) + head + extranonce)
    expected = {None: 3, b"": 2}.get(owner_output, 3)
    assert len(coinbase.outputs) == expected
    if owner_output:
        assert coinbase.outputs[1].script == owner_output[9:]
    (batch,) = pool.batches
    assert batch.extranonce_of(0) == extranonce
    assert batch.version_of(0) == share.message.version
    assert batch.ntime_of(0) == share.message.ntime
    assert batch.nonce_of(0) == share.message.nonce
    assert (batch.template_of(0), batch.job_of(0)) == (pool.template_id, channel.active)
    zeros = 256 - work.number(share.hash).bit_length()
    assert batch.meeting(zeros) == [0]
    assert batch.meeting(zeros + 1) == []
    # More than is fixed cannot be had.
    await session.request(min_extranonce_size=10, max_target=MAX_TARGET)
    error = await session.until("OpenMiningChannelError")
    assert error.error_code == "min-extranonce-size-too-large"
