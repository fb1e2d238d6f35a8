"""The job declaration protocol, against an independent peer. Rows: `rows.py`."""

import dataclasses

import pytest
import trio
from declaring_pool import (
    EXTRANONCE_LEN,
    POOL_SCRIPT,
    SUBSIDY,
    DeclaringPool,
    transactions,
)
from peer import work
from peer.client import ConnectionClosed, setup_message
from peer.curve import tagged_hash
from peer.declarer import JOB_DECLARATION
from peer.message import Message, frame
from peer.template import is_challenged, serialised

from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.templates.coinbase import CoinbaseParts, read_outputs
from radpool_sv2.templates.declared import HiddenJob
from radpool_sv2.templates.source import BlockVerdict


@pytest.fixture
async def start(nursery):
    """Starts declarators with settings as given."""
    pools = []

    async def start(**settings):
        pool = DeclaringPool(**settings)
        pools.append(pool)
        await nursery.start(pool.run)
        return pool

    yield start
    for pool in pools:
        await pool.close()


@pytest.fixture
async def pool(start):
    return await start()


async def closed(declarer):
    """Waits until the server has closed and returns what it said before."""
    with trio.fail_after(60):
        said = await declarer.client.closed()
    await declarer.client.aclose()
    return said


async def reason(pool):
    """Waits until a connection has ended and returns why."""
    with trio.fail_after(60):
        while not pool.role.closed:
            await trio.sleep(0.005)
    [(found, _)] = pool.role.closed.items()
    return found


# --- set-up


async def test_declaration_set_up_is_answered(pool):
    whole, hiding = await pool.declarer(), await pool.declarer(whole=False)
    assert (await whole.token())[0] != (await hiding.token())[0]


@pytest.mark.parametrize(
    ("fields", "code", "flags"),
    [
        ({"protocol": 0}, "unsupported-protocol", 0),
        ({"protocol": 2}, "unsupported-protocol", 0),
        ({"min_version": 3, "max_version": 9}, "protocol-version-mismatch", 0),
        ({"flags": 0b111}, "unsupported-feature-flags", 0b110),
    ],
)
async def test_declaration_set_up_errors(pool, fields, code, flags):
    client = await pool.connect()
    await client.send(setup_message(**{"protocol": JOB_DECLARATION, **fields}))
    answer = await client.expect("SetupConnectionError")
    assert (answer.error_code, answer.flags) == (code, flags)
    assert await client.closed() == []


async def test_declaration_flag_may_be_required(start):
    """spec: JD-18"""
    pool = await start(coinbase_only=False)
    client = await pool.connect()
    await client.send(setup_message(0, protocol=JOB_DECLARATION))
    answer = await client.expect("SetupConnectionError")
    assert answer.error_code == "missing-declare-tx-data-flag"
    await pool.declarer()


async def test_declaration_extensions_are_negotiated(pool):
    declarer = await pool.declarer()
    await declarer.client.send(
        Message("RequestExtensions", request_id=5, requested_extensions=[2, 0x4E45])
    )
    answer = await declarer.client.expect("RequestExtensionsError")
    assert (answer.request_id, answer.unsupported_extensions) == (5, [2, 0x4E45])


# --- tokens


async def test_token_comes_with_payout_script_and_tag(pool):
    """spec: JD-1, JD-2, JD-4"""
    declarer = await pool.declarer()
    _, outputs = await declarer.token("alice.rig-7,z=12")
    assert [output.script for output in outputs] == [POOL_SCRIPT, pool.tag("alice", 12)]
    _, outputs = await declarer.token("bob,d=1")
    assert outputs[1].script == pool.tag("bob", 32)


async def test_token_of_a_policy_has_the_mints_tag(pool):
    """spec: JD-1"""
    _, outputs = await (await pool.declarer()).token("ecash:window")
    assert outputs[1].script == pool.tag("ecash.window", rail=1)


async def test_token_of_a_hiding_connection_is_marked(pool):
    """spec: JD-2, JD-24"""
    _, outputs = await (await pool.declarer(whole=False)).token("alice")
    mark = tagged_hash("radpool/hidden", pool.msp.public + pool.commitment("alice") + b"\x00")
    assert [output.script for output in outputs] == [
        POOL_SCRIPT,
        pool.tag("alice"),
        b"\x6a\x24RADH" + mark,
    ]


async def test_token_follows_the_wanted_exponent_and_the_epoch(pool):
    """spec: JD-2"""
    declarer = await pool.declarer()
    await declarer.token("alice")
    pool.terms.want((1, 0), 9)
    pool.epoch += 1
    _, outputs = await declarer.token("alice")
    assert outputs[1].script == pool.tag("alice", 9)


@pytest.mark.parametrize(
    ("user", "word"),
    [
        ("", "invalid-user-identity"),
        (",z=3", "invalid-user-identity"),
        ("alice,x=3", "invalid-user-identity"),
        ("al\nice", "invalid-user-identity"),
        ("ecash:fixed", "invalid-user-identity"),
        ("ecash:", "invalid-user-identity"),
        ("too-new", "unknown-user"),
    ],
)
async def test_token_for_nobody_closes(pool, user, word):
    """spec: JD-1"""
    declarer = await pool.declarer()
    await declarer.client.send(
        Message("AllocateMiningJobToken", user_identifier=user, request_id=1)
    )
    assert await closed(declarer) == []
    assert await reason(pool) == word


async def test_ecash_is_not_for_hidden_jobs(pool):
    """spec: JD-25"""
    declarer = await pool.declarer(whole=False)
    await declarer.client.send(
        Message("AllocateMiningJobToken", user_identifier="ecash:window", request_id=1)
    )
    assert await closed(declarer) == []
    assert await reason(pool) == "missing-declare-tx-data-flag"


async def test_tokens_beyond_the_rate_come_later(start):
    """spec: JD-3"""
    pool = await start(tokens_per_minute_max=600)
    declarer = await pool.declarer()
    for request in range(210):
        await declarer.client.send(
            Message("AllocateMiningJobToken", user_identifier="alice", request_id=request)
        )
        answer = await declarer.client.expect("AllocateMiningJobTokenSuccess")
        assert answer.request_id == request
        declarer.take(answer.mining_job_token)


# --- declarations


async def test_template_is_judged_and_its_token_given(pool):
    """spec: JD-16"""
    declarer = await pool.declarer()
    token, outputs = await declarer.token()
    template = pool.template(outputs, transactions=transactions(5))
    new, code, detail = await declarer.declare(template, token)
    assert (code, detail) == ("", "")
    [block] = pool.node.blocks
    assert block[4:36] == template.prev_hash
    assert all(raw in block for raw in template.transactions)
    job = pool.desk.claim(new, (1, 0), template.prev_hash)
    assert list(job.merkle_path) == template.path
    assert job.coinbase.outputs[0].value_sats == SUBSIDY


async def test_template_without_transactions(pool):
    declarer = await pool.declarer()
    token, outputs = await declarer.token()
    new, code, _ = await declarer.declare(pool.template(outputs), token)
    assert new, code


async def test_only_unknown_transactions_are_asked_for(pool):
    """spec: JD-13"""
    declarer = await pool.declarer()
    token, outputs = await declarer.token()
    template = pool.template(outputs, transactions=transactions(6))
    for at in (0, 2, 5):
        raw = template.transactions[at]
        pool.node.mempool[work.sha256d(raw)] = raw
    await declarer.client.send(template.declare(token, 9))
    asked = await declarer.client.expect("ProvideMissingTransactions")
    assert (asked.request_id, asked.unknown_tx_position_list) == (9, [1, 3, 4])
    await declarer.client.send(
        Message(
            "ProvideMissingTransactionsSuccess",
            request_id=9,
            transaction_list=[template.transactions[at] for at in (1, 3, 4)],
        )
    )
    assert (await declarer.client.expect("DeclareMiningJobSuccess")).request_id == 9


async def test_another_declaration_costs_what_changed(pool):
    """spec: JD-13"""
    first, second = await pool.declarer(), await pool.declarer()
    token, outputs = await first.token()
    template = pool.template(outputs, transactions=transactions(8))
    assert (await first.declare(template, token))[0]
    token, outputs = await second.token("bob")
    fresh = transactions(1, seed=9)
    template = pool.template(outputs, transactions=template.transactions[:7] + fresh)
    await second.client.send(template.declare(token, 3))
    asked = await second.client.expect("ProvideMissingTransactions")
    assert asked.unknown_tx_position_list == [7]


async def test_transactions_that_are_others(pool):
    """spec: JD-14"""
    declarer = await pool.declarer()
    token, outputs = await declarer.token()
    template = pool.template(outputs, transactions=transactions(3))
    wtxids = template.wtxids
    swapped = [template.transactions[1], template.transactions[0], template.transactions[2]]
    template.transactions = swapped
    new, code, _ = await declarer.declare(template, token, wtxid_list=wtxids)
    assert (new, code) == (None, "missing-txs")


@pytest.mark.parametrize(
    "answer",
    [
        [],
        [b""],
        [b"\x00" * 60],
        transactions(1),
        transactions(1) * 3,
        transactions(3)[::-1],
        [*transactions(2), transactions(3)[2][:-1]],
        [*transactions(2), transactions(3)[2] + b"\x00"],
    ],
    ids=["none", "empty", "zeros", "fewer", "repeated", "reversed", "cut", "longer"],
)
async def test_transactions_that_are_not_what_was_asked_for(pool, answer):
    """spec: JD-14"""
    declarer = await pool.declarer()
    token, outputs = await declarer.token()
    template = pool.template(outputs, transactions=transactions(3))
    await declarer.client.send(template.declare(token, 4))
    await declarer.client.expect("ProvideMissingTransactions")
    await declarer.client.send(
        Message("ProvideMissingTransactionsSuccess", request_id=4, transaction_list=answer)
    )
    refused = await declarer.client.expect("DeclareMiningJobError")
    assert (refused.request_id, refused.error_code) == (4, "missing-txs")
    assert pool.node.blocks == []


async def test_refused_declarations_hold_nothing(pool):
    """What was looked up for a declaration goes with it, however often that is repeated.

    spec: JD-34
    """
    declarer = await pool.declarer()
    template = None
    for request in range(10):
        token, outputs = await declarer.token()
        template = pool.template(outputs, transactions=transactions(3))
        await declarer.client.send(template.declare(token, request))
        await declarer.client.expect("ProvideMissingTransactions")
        assert pool.desk.intake.held == 1
        answer = Message(
            "ProvideMissingTransactionsSuccess", request_id=request, transaction_list=[]
        )
        await declarer.client.send(answer)
        assert (await declarer.client.expect("DeclareMiningJobError")).request_id == request
    [session] = pool.role._sessions.values()
    assert session._selected == {}
    assert pool.desk.intake.held == 0
    token, outputs = await declarer.token()
    assert (await declarer.declare(template, token))[0]


async def test_connection_that_ends_gives_its_place_back(pool):
    """spec: JD-34"""
    declarer = await pool.declarer()
    token, outputs = await declarer.token()
    await declarer.client.send(
        pool.template(outputs, transactions=transactions(3)).declare(token, 1)
    )
    await declarer.client.expect("ProvideMissingTransactions")
    assert pool.desk.intake.held == 1
    await declarer.client.aclose()
    assert await reason(pool) == "peer-closed"
    assert pool.desk.intake.held == 0


async def test_transactions_of_one_site_come_two_templates_at_a_time(pool):
    """spec: JD-34"""
    declarers = [await pool.declarer() for _ in range(4)]
    templates = []
    for number, declarer in enumerate(declarers):
        token, outputs = await declarer.token()
        made = pool.template(outputs, transactions=transactions(3, seed=number))
        templates.append(made)
        await declarer.client.send(made.declare(token, 1))
        # They come by connections of their own: the next one waits until this one is in the queue.
        with trio.fail_after(60):
            while pool.desk.intake.held + pool.desk.intake.waiting <= number:
                await trio.sleep(0.005)
    assert (pool.desk.intake.held, pool.desk.intake.waiting) == (2, 2)
    for declarer, template in zip(declarers, templates, strict=True):
        assert (await declarer.answer(template)).name == "DeclareMiningJobSuccess"
        assert pool.desk.intake.held <= 2
    assert (pool.desk.intake.held, pool.desk.intake.waiting) == (0, 0)


async def test_template_whose_tip_moves_while_it_waits_is_not_asked_for(pool):
    """spec: JD-12, JD-34"""
    declarers = [await pool.declarer() for _ in range(3)]
    for number, declarer in enumerate(declarers):
        token, outputs = await declarer.token()
        made = pool.template(outputs, transactions=transactions(3, seed=number))
        await declarer.client.send(made.declare(token, 1))
        if number < 2:
            await declarer.client.expect("ProvideMissingTransactions")
    with trio.fail_after(60):
        while not pool.desk.intake.waiting:
            await trio.sleep(0.005)
    pool.new_tip()
    await declarers[0].client.aclose()
    assert (await declarers[2].client.expect("DeclareMiningJobError")).error_code == (
        "stale-chain-tip"
    )


async def test_verdict_that_the_tip_overtakes_is_worth_nothing(pool):
    """The node takes a template for valid, and says so when the block it builds on is gone.

    spec: JD-6, JD-17
    """
    declarer = await pool.declarer()
    token, outputs = await declarer.token()
    template = pool.template(outputs)
    pool.node.verdict = None
    await declarer.client.send(template.declare(token, 1))
    with trio.fail_after(60):
        while not pool.node.blocks:
            await trio.sleep(0.005)
    pool.new_tip()
    pool.node.answers.set()
    told = await declarer.client.receive()
    if told.name == "DeclareMiningJobSuccess":
        with pytest.raises(RemoteProtocolError) as caught:
            pool.desk.claim(told.new_mining_job_token, (1, 0), pool.board.now.prev_hash)
        assert caught.value.error_code == "stale-chain-tip"
    else:
        assert told.error_code == "stale-chain-tip"


async def test_templates_that_share_nothing_are_kept_within_a_bound(start):
    """spec: JD-33"""
    pool = await start(kept_bytes_max=1_500_000, cache_bytes_max=1 << 20)
    declarer = await pool.declarer()
    tokens = []
    for number in range(5):
        token, outputs = await declarer.token()
        made = pool.template(outputs, transactions=transactions(6, pad=60_000, seed=number))
        new, code, detail = await declarer.declare(made, token)
        assert new, (code, detail)
        tokens.append(new)
    assert pool.desk.tokens.declared < 5
    tip = pool.board.now.prev_hash
    with pytest.raises(RemoteProtocolError) as caught:
        pool.desk.claim(tokens[0], (1, 0), tip)
    assert caught.value.error_code == "invalid-mining-job-token"
    assert pool.desk.claim(tokens[-1], (1, 0), tip).template.is_kept


async def test_transactions_that_never_come(start):
    """spec: JD-15"""
    pool = await start(provide_deadline_ms=150)
    declarer = await pool.declarer()
    token, outputs = await declarer.token()
    template = pool.template(outputs, transactions=transactions(3))
    await declarer.client.send(template.declare(token, 4))
    said = await closed(declarer)
    assert [message.name for message in said] == [
        "ProvideMissingTransactions",
        "DeclareMiningJobError",
    ]
    assert said[1].error_code == "missing-txs"
    assert await reason(pool) == "transactions-timeout"


async def test_transactions_that_nobody_asked_for(pool):
    """spec: JD-15"""
    declarer = await pool.declarer()
    await declarer.client.send(
        Message("ProvideMissingTransactionsSuccess", request_id=4, transaction_list=[])
    )
    assert await closed(declarer) == []
    assert await reason(pool) == "unasked-transactions"


@pytest.mark.parametrize(
    ("verdict", "code", "detail"),
    [
        (BlockVerdict(False, "bad-cb-amount", "pays 1 too much"), "invalid-job",
         "bad-cb-amount: pays 1 too much"),
        (BlockVerdict(False, "bad-txns-inputs-missingorspent"), "invalid-job",
         "bad-txns-inputs-missingorspent"),
        (BlockVerdict(False, "stale-prevblk", "the tip moved"), "stale-chain-tip",
         "stale-prevblk: the tip moved"),
    ],
)  # fmt: skip
async def test_verdict_is_told(pool, verdict, code, detail):
    """spec: JD-17"""
    pool.node.verdict = verdict
    declarer = await pool.declarer()
    token, outputs = await declarer.token()
    assert await declarer.declare(pool.template(outputs), token) == (None, code, detail)


async def test_structure_is_judged_without_the_node(pool):
    """spec: JD-17"""
    declarer = await pool.declarer()
    token, outputs = await declarer.token()
    template = pool.template(outputs, transactions=transactions(1) * 2)
    _, code, detail = await declarer.declare(template, token)
    assert code == "invalid-job"
    assert detail.startswith("bad-txns-inputs-missingorspent: ")
    assert pool.node.blocks == []


async def test_node_that_does_not_answer(pool):
    """spec: JD-17"""
    pool.node.away = True
    declarer = await pool.declarer()
    token, outputs = await declarer.token()
    _, code, _ = await declarer.declare(pool.template(outputs), token)
    assert code == "internal-error"
    pool.node.away = False
    token, _ = await declarer.token()
    assert (await declarer.declare(pool.template(outputs), token))[0]


@pytest.mark.parametrize("off", [-2, -1, 2, 100])
async def test_template_for_another_height(pool, off):
    """spec: JD-12"""
    declarer = await pool.declarer()
    token, outputs = await declarer.token()
    template = pool.template(outputs, height=pool.height + off)
    _, code, _ = await declarer.declare(template, token)
    assert code == "stale-chain-tip"


async def test_template_for_a_block_that_the_pool_has_not_seen(pool):
    """spec: JD-12"""
    declarer = await pool.declarer()
    token, outputs = await declarer.token()
    template = pool.template(outputs, height=pool.height + 1)
    await declarer.client.send(template.declare(token, 1))
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert pool.node.blocks == []
    pool.new_tip()
    assert (await declarer.client.expect("DeclareMiningJobSuccess")).request_id == 1


async def test_token_pays_for_one_declaration(pool):
    """spec: JD-5"""
    declarer = await pool.declarer()
    token, outputs = await declarer.token()
    template = pool.template(outputs)
    assert (await declarer.declare(template, token))[0]
    assert (await declarer.declare(template, token))[1] == "invalid-mining-job-token"


async def test_token_of_another_connection(pool):
    """spec: JD-5, JD-8"""
    owner, thief = await pool.declarer(), await pool.declarer()
    token, outputs = await owner.token()
    template = pool.template(outputs)
    assert (await thief.declare(template, token))[1] == "invalid-mining-job-token"
    assert (await owner.declare(template, token))[0]


async def test_tokens_end_with_their_connection(pool):
    """spec: JD-8"""
    declarer = await pool.declarer()
    token, outputs = await declarer.token()
    await declarer.client.aclose()
    with trio.fail_after(60):
        while pool.desk.tokens.allocated:
            await trio.sleep(0.005)
    other = await pool.declarer()
    refused = await other.declare(pool.template(outputs), token)
    assert refused[1] == "invalid-mining-job-token"


async def test_declared_token_outlives_its_connection(pool):
    """spec: JD-6"""
    declarer = await pool.declarer()
    token, outputs = await declarer.token()
    template = pool.template(outputs)
    new, _, _ = await declarer.declare(template, token)
    await declarer.client.aclose()
    assert await reason(pool) == "peer-closed"
    assert pool.desk.claim(new, (1, 0), template.prev_hash)


async def test_hiding_connection_declares_nothing(pool):
    """spec: JD-18"""
    declarer = await pool.declarer(whole=False)
    token, outputs = await declarer.token()
    refused = await declarer.declare(pool.template(outputs), token)
    assert refused[1] == "missing-declare-tx-data-flag"


async def test_hidden_job_is_claimed_with_an_allocated_token(pool):
    """spec: JD-7"""
    hiding, whole = await pool.declarer(whole=False), await pool.declarer()
    hidden, _ = await hiding.token()
    allocated, _ = await whole.token()
    tip = pool.board.now.prev_hash
    assert pool.desk.claim(hidden, (1, 0), tip).token == hidden
    with pytest.raises(RemoteProtocolError) as caught:
        pool.desk.claim(allocated, (1, 0), tip)
    assert caught.value.error_code == "job-not-yet-validated"


# --- coinbases


def altered(outputs, at, **changes):
    fields = {"value": outputs[at].value, "script": outputs[at].script}
    return [
        work.Output(**{**fields, **changes}) if n == at else output
        for n, output in enumerate(outputs)
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda pool, outs: outs[:1],
        lambda pool, outs: [*outs, outs[1]],
        lambda pool, outs: altered(outs, 1, value=1),
        lambda pool, outs: altered(outs, 1, script=pool.tag("bob")),
        lambda pool, outs: altered(outs, 1, script=pool.tag("alice", rail=1)),
        lambda pool, outs: altered(outs, 1, script=pool.tag("alice", epoch=pool.epoch - 3)),
        lambda pool, outs: altered(outs, 1, script=pool.tag("alice", epoch=pool.epoch + 1)),
        lambda pool, outs: altered(outs, 1, script=pool.tag("alice", 3)),
        lambda pool, outs: altered(outs, 1, script=pool.tag("alice", 41)),
        lambda pool, outs: altered(outs, 1, script=outs[1].script[:-1]),
        lambda pool, outs: altered(outs, 0, script=b"\x00\x14" + b"\x44" * 20),
        lambda pool, outs: [*outs, work.Output(0, b"\x6a\x24RADH" + bytes(32))],
    ],
    ids=[
        "no tag",
        "two tags",
        "tag with value",
        "tag of another owner",
        "tag of another rail",
        "tag of an old epoch",
        "tag of the next epoch",
        "exponent below the ladder",
        "exponent above the ladder",
        "tag cut short",
        "pays another script",
        "marked as hidden",
    ],
)
async def test_coinbase_that_is_not_on_the_pools_terms(pool, change):
    """spec: JD-10, JD-11, JD-24"""
    declarer = await pool.declarer()
    token, outputs = await declarer.token()
    template = pool.template(change(pool, outputs))
    new, code, _ = await declarer.declare(template, token)
    assert (new, code) == (None, "invalid-coinbase-tx")
    assert pool.node.blocks == []


async def test_coinbase_that_pays_the_pool_nothing(pool):
    """spec: JD-11"""
    declarer = await pool.declarer()
    token, outputs = await declarer.token()
    _, code, _ = await declarer.declare(pool.template(outputs, value=0), token)
    assert code == "invalid-coinbase-tx"


@pytest.mark.parametrize("back", [0, 1, 2])
async def test_tags_of_the_last_epochs_and_any_exponent_are_good(pool, back):
    """spec: JD-10"""
    declarer = await pool.declarer()
    token, outputs = await declarer.token()
    outputs = altered(outputs, 1, script=pool.tag("alice", 17, epoch=pool.epoch - back))
    assert (await declarer.declare(pool.template(outputs), token))[0]


async def test_miner_may_pay_itself_too(pool):
    """spec: JD-11"""
    declarer = await pool.declarer()
    token, outputs = await declarer.token()
    own = work.Output(SUBSIDY // 4, b"\x00\x14" + b"\x55" * 20)
    template = pool.template(outputs, value=SUBSIDY - own.value, extra_outputs=[own])
    assert (await declarer.declare(template, token))[0]


async def test_each_byte_of_the_outputs_matters(pool):
    """Every output byte altered: refused, or declared as what it says. Nothing else happens.

    spec: JD-9, JD-10, JD-11
    """
    outputs = [work.Output(SUBSIDY, POOL_SCRIPT), work.Output(0, pool.tag("alice"))]
    written = b"".join(map(serialised, outputs))
    owner = await pool.terms.owner("alice")
    pays = {}
    for at in range(len(written)):
        raw = written[:at] + bytes([written[at] ^ 1]) + written[at + 1 :]
        try:
            pays[at] = pool.terms.read(owner, read_outputs(raw, 2), hidden=False).paid_sats
        except RemoteProtocolError as error:
            assert error.error_code == "invalid-coinbase-tx-outputs"
    # Only the value of what is paid to the pool can be another, and then another is paid.
    assert set(pays) == set(range(7)), "an eighth byte would be more money than there is"
    assert all(pays[at] == SUBSIDY ^ (1 << 8 * at) for at in pays)


# --- solutions


async def test_pushed_block_goes_out_whole(pool):
    """spec: JD-30, JD-31"""
    declarer = await pool.declarer()
    token, outputs = await declarer.token()
    template = pool.template(outputs, transactions=transactions(3))
    assert (await declarer.declare(template, token))[0]
    extranonce = bytes(range(EXTRANONCE_LEN))
    await declarer.client.send(template.solve(extranonce, work.nbits_target(template.nbits)))
    with trio.fail_after(60):
        while not pool.blocks.pushed_blocks:
            await trio.sleep(0.005)
    [(owner, header, coinbase, block)] = pool.blocks.pushed_blocks
    assert owner.name == "alice"
    assert block == header + b"\x04" + coinbase + b"".join(template.transactions)
    assert coinbase == template.prefix + extranonce + template.suffix
    root = work.merkle_root(template.coinbase(extranonce), template.path)
    assert header[36:68] == root


async def test_pushed_block_of_another_connection(pool):
    """spec: JD-30"""
    declarer, thief = await pool.declarer(), await pool.declarer()
    token, outputs = await declarer.token()
    template = pool.template(outputs)
    assert (await declarer.declare(template, token))[0]
    solution = template.solve(bytes(EXTRANONCE_LEN), work.nbits_target(template.nbits))
    await thief.client.send(solution)
    await thief.token("bob")
    assert pool.blocks.pushed_blocks == []


async def test_pushed_block_without_proof_of_work(pool):
    """spec: JD-30"""
    pool.new_tip(target=bytes(30) + b"\x01\x00")
    declarer = await pool.declarer()
    token, outputs = await declarer.token()
    template = pool.template(outputs)
    assert (await declarer.declare(template, token))[0]
    await declarer.client.send(template.solve(bytes(EXTRANONCE_LEN), 2**256))
    await declarer.token()
    assert pool.blocks.pushed_blocks == []


# --- limits


@pytest.mark.parametrize("number", [0x50, 0x56, 0x57, 0x60, 0x7F])
async def test_frame_beyond_what_may_come(pool, number):
    """The header alone ends the connection: nobody waits for 4 MB.

    spec: JD-32
    """
    declarer = await pool.declarer()
    header = frame(0, number, b"", channel=False)[:3] + (4_000_000).to_bytes(3, "little")
    sealed = declarer.client.send_cipher.seal_frame(header + bytes(1))[:22]
    await declarer.client.send_bytes(sealed)
    assert await closed(declarer) == []
    assert await reason(pool) == "malformed-frame"


async def test_whole_block_of_unknown_transactions(pool):
    """spec: JD-32"""
    declarer = await pool.declarer()
    token, outputs = await declarer.token()
    template = pool.template(outputs, transactions=transactions(60, pad=16_000))
    new, code, detail = await declarer.declare(template, token)
    assert new, (code, detail)


async def test_flood_of_transactions_is_read_slowly(start):
    """A declarer that pushes megabytes is paced; another one is served meanwhile.

    spec: JD-32
    """
    pool = await start(bytes_per_second_max=10_000)
    flooder, honest = await pool.declarer(), await pool.declarer()
    token, outputs = await flooder.token()
    template = pool.template(outputs, transactions=transactions(30, pad=16_000))
    assert (await flooder.declare(template, token))[0]
    # Its next request waits until half a megabyte is paid for.
    await flooder.client.send(
        Message("AllocateMiningJobToken", user_identifier="alice", request_id=99)
    )
    token, outputs = await honest.token("bob")
    assert (await honest.declare(pool.template(outputs), token))[0]
    with trio.move_on_after(0.2):
        await flooder.client.receive()
        raise AssertionError("the flood was not paced")


async def test_slow_verdict_delays_nobody_elses_tokens(pool):
    """spec: JD-18"""
    pool.node.verdict = None
    slow, other = await pool.declarer(), await pool.declarer()
    token, outputs = await slow.token()
    template = pool.template(outputs)
    await slow.client.send(template.declare(token, 1))
    for _ in range(10):
        await other.token("bob")
    pool.node.answers.set()
    await slow.client.expect("DeclareMiningJobSuccess")


async def test_declarations_under_way_are_bounded(pool):
    """spec: JD-18"""
    pool.node.verdict = None
    declarer = await pool.declarer()
    for request in range(4):
        token, outputs = await declarer.token()
        template = pool.template(outputs, text=b"\x01" + bytes([request]))
        await declarer.client.send(template.declare(token, request))
    token, outputs = await declarer.token()
    await declarer.client.send(pool.template(outputs).declare(token, 9))
    refused = await declarer.client.expect("DeclareMiningJobError")
    assert (refused.request_id, refused.error_code) == (9, "declaration-rate-exceeded")
    pool.node.answers.set()
    for _ in range(4):
        await declarer.client.expect("DeclareMiningJobSuccess")


async def test_request_id_that_is_under_way(pool):
    """spec: JD-18"""
    pool.node.verdict = None
    declarer = await pool.declarer()
    for _ in range(2):
        token, outputs = await declarer.token()
        await declarer.client.send(pool.template(outputs).declare(token, 5))
    assert await closed(declarer) == []
    assert await reason(pool) == "request-id-reused"


async def test_silent_connection_is_closed(start):
    pool = await start(idle_deadline_ms=1_000)
    declarer = await pool.declarer()
    assert await closed(declarer) == []
    assert await reason(pool) == "idle"


async def test_connections_of_an_address_are_bounded(start):
    pool = await start(connections_per_address_max=2)
    await pool.declarer()
    await pool.declarer()
    with pytest.raises(ConnectionClosed):
        await pool.declarer()


@pytest.mark.parametrize("number", [0x50, 0x56, 0x57, 0x60])
@pytest.mark.parametrize("payload", [b"", b"\x01", b"\xff" * 40], ids=["empty", "one", "ones"])
async def test_malformed_declaration_messages_close(pool, number, payload):
    declarer = await pool.declarer()
    await declarer.client.send_frames(frame(0, number, payload, channel=False))
    assert await closed(declarer) == []
    assert await reason(pool) == "malformed-message"


async def test_unknown_declaration_messages_are_ignored(pool):
    declarer = await pool.declarer()
    await declarer.client.send_frames(
        frame(0, 0x7E, b"?", channel=False),
        frame(0, 0x1B, b"?" * 30, channel=True),
        frame(0x4E45, 0x50, b"?", channel=False),
    )
    await declarer.token()


async def test_messages_one_byte_at_a_time(pool):
    declarer = await pool.declarer()
    message = Message("AllocateMiningJobToken", user_identifier="alice", request_id=1)
    for byte in declarer.client.send_cipher.seal_frame(message.frame()):
        await declarer.client.send_bytes(bytes([byte]))
    assert (await declarer.client.expect("AllocateMiningJobTokenSuccess")).request_id == 1


async def test_quality_is_counted_by_declarer(pool):
    declarer = await pool.declarer()
    for verdict in (BlockVerdict(True), BlockVerdict(False, "bad-cb-amount")):
        pool.node.verdict = verdict
        token, outputs = await declarer.token("alice")
        template = pool.template(
            outputs, transactions=transactions(2), text=b"\x01" + bytes([verdict.valid])
        )
        await declarer.declare(template, token)
    _, [report] = pool.desk.quality.page(0, 10)
    assert (report["account"], report["declared"], report["accepted"]) == ("alice", 2, 1)
    assert report["refused"] == {"bad-cb-amount": 1}
    assert report["transactions_provided"] == 2


# --- hidden jobs that are drawn


async def hidden_job(pool, declarer, *, drawn=True):
    """Has a hidden job mined and its lot drawn; returns its template and token."""
    while True:
        token, outputs = await declarer.token("alice")
        template = pool.template(outputs, transactions=transactions(3))
        right = pool.desk.claim(token, (1, 0), template.prev_hash)
        parts = CoinbaseParts.declared(template.prefix, template.suffix)
        pool.desk.mined(
            HiddenJob(
                owner=right.owner,
                token=token,
                template_id=1 << 63,
                tip=pool.board.now,
                version=template.version,
                coinbase=dataclasses.replace(parts, reserved=None),
                merkle_path=tuple(template.path),
            )
        )
        following = bytes([pool.tips + 1]) * 32
        if is_challenged(following, token) == drawn:
            pool.new_tip()
            return template, token


async def test_hidden_template_is_revealed(start):
    """spec: JD-26, JD-27"""
    pool = await start(tokens_per_minute_max=6_000)
    hiding, whole = await pool.declarer(whole=False), await pool.declarer()
    template, token = await hidden_job(pool, hiding)
    assert pool.desk.challenges.due >= 1
    due = pool.desk.challenges.due
    whole.requests += 1
    await whole.client.send(template.declare(token, whole.requests))
    answer = await whole.answer(template)
    assert answer.name == "DeclareMiningJobSuccess", answer
    assert answer.new_mining_job_token == token
    assert pool.desk.challenges.due == due - 1
    assert pool.node.blocks == [], "its tip is gone: no node can judge it"
    refused = await whole.declare(template, token)
    assert refused[1] == "invalid-mining-job-token"


@pytest.mark.parametrize(
    "change",
    [
        {"transactions": transactions(3)[::-1]},
        {"transactions": transactions(2)},
        {"value": SUBSIDY - 1},
        {"version": 0x20000001},
        {"text": b"\x05other"},
        {"locktime": 1},
        {"sequence": 0},
        {"coinbase_version": 1},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_another_template_reveals_nothing(start, change):
    """spec: JD-27"""
    pool = await start(tokens_per_minute_max=6_000)
    hiding, whole = await pool.declarer(whole=False), await pool.declarer()
    template, token = await hidden_job(pool, hiding)
    other = dataclasses.replace(template, **change)
    assert (await whole.declare(other, token))[1] == "invalid-job"
    assert pool.desk.challenges.job(token), "it may be tried again"
    whole.requests += 1
    await whole.client.send(template.declare(token, whole.requests))
    assert (await whole.answer(template)).name == "DeclareMiningJobSuccess"


async def test_hidden_template_that_is_not_revealed(start):
    """spec: JD-28"""
    pool = await start(tokens_per_minute_max=6_000, reveal_s=0.2)
    hiding = await pool.declarer(whole=False)
    _, token = await hidden_job(pool, hiding)
    await trio.sleep_until(pool.desk.challenges.next_deadline())
    await pool.desk.write_off()
    assert (token, "not revealed") in [(job.token, why) for job, why in pool.blocks.voided]
    fresh, _ = await hiding.token("alice")
    with pytest.raises(RemoteProtocolError) as caught:
        pool.desk.claim(fresh, (1, 0), pool.board.now.prev_hash)
    assert caught.value.error_code == "invalid-mining-job-token"
    other, _ = await hiding.token("bob")
    assert pool.desk.claim(other, (2, 0), pool.board.now.prev_hash).token == other


async def test_hidden_template_that_is_another_is_written_off_with_the_reason(start):
    """spec: JD-27, JD-28"""
    pool = await start(tokens_per_minute_max=6_000, reveal_s=3600.0)
    hiding, whole = await pool.declarer(whole=False), await pool.declarer()
    template, token = await hidden_job(pool, hiding)
    other = dataclasses.replace(template, value=SUBSIDY - 1)
    told = await whole.declare(other, token)
    assert told == (None, "invalid-job", "it is not the template that was mined with this token")
    # Its time is over as soon as the role looks, which another tip makes it do.
    pool.desk._clock = lambda: trio.current_time() + 4_000
    pool.new_tip()
    with trio.fail_after(60):
        while token not in [job.token for job, _ in pool.blocks.voided]:
            await trio.sleep(0.01)
    [why] = [why for job, why in pool.blocks.voided if job.token == token]
    assert why == f"not revealed: {told[2]}"
    late = await whole.declare(template, token)
    assert late[1] == "invalid-mining-job-token"


async def test_write_off_that_is_cut_short_is_made_up_for(start):
    """The role may fail between a job's deadline and the ledger's word: nothing is forgotten.

    spec: JD-28
    """
    pool = await start(tokens_per_minute_max=6_000, reveal_s=3600.0)
    hiding = await pool.declarer(whole=False)
    _, token = await hidden_job(pool, hiding)
    pool.desk._clock = lambda: trio.current_time() + 4_000

    async def hang(job, reason):
        await trio.sleep_forever()

    void, pool.blocks.void = pool.blocks.void, hang
    with trio.move_on_after(0.05):
        await pool.desk.write_off()
    pool.blocks.void = void
    assert pool.blocks.voided == []
    await pool.desk.write_off()
    assert token in [job.token for job, _ in pool.blocks.voided]
    count = len(pool.blocks.voided)
    await pool.desk.write_off()
    assert len(pool.blocks.voided) == count


async def test_ecash_owner_is_given_no_hidden_job(pool):
    """Not even with a token that was never due to it.

    spec: JD-25
    """
    owner = pool.policy("window")
    pool.desk.tokens.allocate(bytes(32), 1, owner, whole=False, now=trio.current_time())
    with pytest.raises(RemoteProtocolError) as caught:
        pool.desk.claim(bytes(32), owner.key, pool.board.now.prev_hash)
    assert caught.value.error_code == "invalid-mining-job-token"
