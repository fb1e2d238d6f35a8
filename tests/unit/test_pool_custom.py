"""Custom jobs in the pool: whose they are, what they wait for, what is kept for their blocks."""

from types import SimpleNamespace

import pytest
import trio
import trio.testing
from declarator_rig.part import (
    COMMITMENT,
    NBITS,
    POOL_SCRIPT,
    halves,
    job,
    named,
    output,
    owner,
    tip,
)

from radpool_sv2._native.engine import Engine
from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.pool import custom
from radpool_sv2.pool.account import INVALID_USER_IDENTITY
from radpool_sv2.pool.custom import JOBS_PER_CONNECTION_MAX, CustomJobDesk
from radpool_sv2.pool.hidden import body_digest, hidden_script
from radpool_sv2.pool.tag import OwnerTag, owner_script
from radpool_sv2.pool.terms import JobTerms
from radpool_sv2.templates.board import TipBoard
from radpool_sv2.templates.coinbase import CoinbaseParts
from radpool_sv2.templates.declared import DECLARED_ID_MIN, HiddenJob, Unrevealed
from radpool_sv2.units import tagged_hash

MSP = named("msp key")
ALICE, BOB = owner("alice"), owner("bob")
EPOCH = 5
SUBSIDY = 5_000_000_000


class CustomJobFailed(SimpleNamespace):
    def __init__(self, connection, channel, request, code):
        super().__init__(connection=connection, channel=channel, request=request, code=code)


class ChannelFailed(SimpleNamespace):
    def __init__(self, connection, request, code):
        super().__init__(connection=connection, request=request, code=code)


class Disconnected(SimpleNamespace):
    def __init__(self, connection, reason):
        super().__init__(connection=connection, reason=reason)


@pytest.fixture(autouse=True)
def native_events(monkeypatch):
    """The engine alone can make its own."""
    for each in (CustomJobFailed, ChannelFailed, Disconnected):
        monkeypatch.setattr(custom, each.__name__, each)


def tag(of=ALICE, z=8, epoch=EPOCH):
    return output(0, owner_script(MSP, of, epoch, z))


def outputs(*more, of=ALICE):
    return [output(SUBSIDY, POOL_SCRIPT), tag(of), *more, output(0, COMMITMENT)]


class FakeEngine:
    def __init__(self):
        self.accepted, self.refused = [], []

    def accept_custom_job(self, connection, channel, request, **fields):
        self.accepted.append(((connection, channel, request), fields))

    def refuse_custom_job(self, connection, channel, request, code):
        self.refused.append(((connection, channel, request), code))


class Weighing:
    def __init__(self):
        self.asked = []
        self.least = 1

    def least_sats(self, height):
        return self.least

    def price(self, at, height, paid_sats, *, upside=True):
        self.asked.append((at.prev_hash, height, paid_sats, upside))
        return 77

    def quality_q32(self, at, height, paid_sats):
        return 1 << 32


class Declarator:
    def __init__(self):
        self.rights, self.hidden, self.jobs, self.tips = {}, [], [], 0
        self.forgotten = []
        self.blocks = []

    def claim(self, token, owner, prev_hash):
        right = self.rights.get((token, owner))
        if right is None:
            raise RemoteProtocolError("unknown", "invalid-mining-job-token")
        return right

    def mined(self, hidden):
        self.hidden.append(hidden)

    def unmined(self, hidden):
        self.forgotten.append(hidden)

    def accepted(self, owner, paid_sats, quality_q32, *, hidden):
        self.jobs.append((owner, paid_sats, quality_q32, hidden))

    def solved(self, owner, block_hash):
        self.blocks.append((owner.name, block_hash))

    def tip_changed(self):
        self.tips += 1


def terms(**changes):
    async def find(name):
        return SimpleNamespace(id=1, name=name, commitment=named(name))

    fields = {
        "script": POOL_SCRIPT,
        "msp_key": MSP,
        "exponents": (4, 40),
        "current_epoch": lambda: EPOCH,
        "find_account": find,
        "ecash_owner": None,
    }
    return JobTerms(**{**fields, **changes})


@pytest.fixture
def scene():
    board = TipBoard()
    board.post(tip())
    engine, weighing, declarator = FakeEngine(), Weighing(), Declarator()
    desk = CustomJobDesk(terms(), declarator, weighing, board, lambda: 1_700_000_000)
    desk._owners[3] = {4: ALICE}
    return SimpleNamespace(
        board=board, engine=engine, weighing=weighing, declarator=declarator, desk=desk
    )


def event(declared_outputs=None, **changes):
    written = outputs() if declared_outputs is None else declared_outputs
    parts = CoinbaseParts.declared(*halves(outputs=written))
    fields = {
        "connection": 3,
        "channel": 4,
        "request": 5,
        "token": named("token"),
        "version": 0x20000000,
        "prev_hash": tip().prev_hash,
        "min_ntime": 1_700_000_000,
        "nbits": NBITS,
        "coinbase_tx_version": parts.tx_version,
        "coinbase_prefix": parts.script_prefix,
        "coinbase_sequence": parts.sequence,
        "coinbase_tx_outputs": parts.written_outputs,
        "output_count": len(parts.outputs),
        "coinbase_locktime": parts.locktime,
        "merkle_path": [],
        "extranonce_len": parts.extranonce_len,
    }
    return SimpleNamespace(**{**fields, **changes})


def declare(scene, written=None, of=ALICE):
    made = job(of, coinbase=CoinbaseParts.declared(*halves(outputs=written or outputs())))
    scene.declarator.rights[named("token"), of.key] = made
    return made


async def test_declared_job_is_accepted_with_its_price(scene):
    """spec: JD-20, JD-23"""
    made = declare(scene)
    await scene.desk.decide(scene.engine, event())
    [(where, fields)] = scene.engine.accepted
    assert where == (3, 4, 5)
    assert fields.pop("template_id") >= DECLARED_ID_MIN
    assert fields == {
        "account": ALICE.account,
        "commitment": ALICE.commitment,
        "rail": 0,
        "epoch": EPOCH,
        "exponent": 8,
        "price": 77,
        "height": 101,
        "target": made.tip.target,
    }
    assert scene.weighing.asked == [(tip().prev_hash, 101, SUBSIDY, True)]
    assert scene.declarator.jobs == [(ALICE, SUBSIDY, 1 << 32, False)]
    accepted = set(fields) | {"template_id", "connection", "channel", "request"}
    assert accepted <= set(Engine.accept_custom_job.__text_signature__.replace(",", " ")
                           .replace("(", " ").replace(")", " ").split())  # fmt: skip


async def test_numbers_of_templates_never_repeat(scene):
    for _ in range(50):
        declare(scene)
        await scene.desk.decide(scene.engine, event())
    numbers = {fields["template_id"] for _, fields in scene.engine.accepted}
    assert len(numbers) == 50


async def test_block_of_a_channel_is_its_owners(scene):
    scene.desk.solved(3, 4, named("block"))
    scene.desk.solved(3, 5, named("another"))
    assert scene.declarator.blocks == [("alice", named("block"))]


async def test_hidden_job_has_no_upside(scene):
    """spec: JD-25"""
    scene.declarator.rights[named("token"), ALICE.key] = Unrevealed(ALICE, named("token"))
    marked = outputs(output(0, hidden_script(MSP, ALICE)))
    await scene.desk.decide(scene.engine, event(marked, merkle_path=[named("sibling")]))
    assert scene.engine.refused == []
    assert scene.weighing.asked == [(tip().prev_hash, 101, SUBSIDY, False)]
    [hidden] = scene.declarator.hidden
    assert (hidden.owner, hidden.token) == (ALICE, named("token"))
    assert hidden.merkle_path == (named("sibling"),)
    assert hidden.template_id == scene.engine.accepted[0][1]["template_id"]
    assert scene.desk.block_of(hidden.template_id, bytes(80), b"") is None


async def test_hidden_job_that_was_not_set_is_not_challenged(scene):
    """The tip moved between the pool's word and the engine's: nobody can mine such a job.

    spec: JD-26
    """
    scene.declarator.rights[named("token"), ALICE.key] = Unrevealed(ALICE, named("token"))
    marked = outputs(output(0, hidden_script(MSP, ALICE)))
    await scene.desk.decide(scene.engine, event(marked))
    scene.desk.hear(CustomJobFailed(3, 4, 6, "stale-chain-tip"))
    assert scene.declarator.forgotten == [], "another request"
    scene.desk.hear(CustomJobFailed(3, 4, 5, "stale-chain-tip"))
    assert scene.declarator.forgotten == scene.declarator.hidden
    scene.desk.hear(CustomJobFailed(3, 4, 5, "stale-chain-tip"))
    assert len(scene.declarator.forgotten) == 1


async def test_template_that_was_not_set_is_forgotten(scene):
    declare(scene)
    await scene.desk.decide(scene.engine, event())
    assert len(scene.desk._kept) == 1
    scene.desk.hear(CustomJobFailed(3, 4, 5, "stale-chain-tip"))
    assert len(scene.desk._kept) == len(scene.desk._kept_of) == 0


async def test_who_offers_many_jobs_takes_no_room_of_others(scene):
    """Templates of one connection are bounded, and hidden jobs have none to keep."""
    scene.desk._owners[7] = {1: BOB}
    declare(scene, outputs(of=BOB), of=BOB)
    await scene.desk.decide(scene.engine, event(outputs(of=BOB), connection=7, channel=1))
    [(_, honest)] = scene.engine.accepted
    declare(scene)
    for request in range(JOBS_PER_CONNECTION_MAX + 10):
        await scene.desk.decide(scene.engine, event(request=request))
    assert len(scene.desk._kept) == JOBS_PER_CONNECTION_MAX + 1
    assert honest["template_id"] in scene.desk._kept
    newest = scene.engine.accepted[-1][1]["template_id"]
    assert newest in scene.desk._kept


@pytest.mark.parametrize("first", [0, 1, SUBSIDY])
async def test_a_job_that_pays_a_federation_by_several_outputs_is_refused(scene, first):
    """spec: JD-11"""
    scene.desk.terms.pay(POOL_SCRIPT, is_shared=True)
    twice = [output(first, POOL_SCRIPT), *outputs()]
    declare(scene, twice)
    await scene.desk.decide(scene.engine, event(twice))
    assert [code for _, code in scene.engine.refused] == ["invalid-coinbase-tx-outputs"]
    assert scene.weighing.asked == []


async def test_a_job_that_pays_less_than_shares_count_by_is_refused(scene):
    """spec: JD-11"""
    scene.weighing.least = SUBSIDY + 1
    declare(scene)
    await scene.desk.decide(scene.engine, event())
    assert [code for _, code in scene.engine.refused] == ["invalid-coinbase-tx-outputs"]
    scene.weighing.least = SUBSIDY
    await scene.desk.decide(scene.engine, event())
    assert len(scene.engine.accepted) == 1


async def test_connection_that_ends_leaves_nothing_behind(scene):
    scene.desk.granted(8, 1, BOB)
    scene.desk.granted(8, 2, BOB)
    scene.desk.hear(ChannelFailed(8, 2, "invalid-user-identity"))
    scene.desk.hear(Disconnected(8, "peer-closed"))
    scene.desk.hear(Disconnected(3, "peer-closed"))
    assert not scene.desk._asked
    assert not scene.desk._owners
    declare(scene)
    await scene.desk.decide(scene.engine, event())
    assert scene.engine.refused == [((3, 4, 5), "invalid-channel-id")]


async def test_channel_that_is_gone(scene):
    declare(scene)
    await scene.desk.decide(scene.engine, event(channel=9))
    assert scene.engine.refused == [((3, 9, 5), "invalid-channel-id")]


async def test_token_of_another_owner(scene):
    """spec: JD-20"""
    declare(scene, of=BOB)
    await scene.desk.decide(scene.engine, event())
    assert scene.engine.refused == [((3, 4, 5), "invalid-mining-job-token")]


async def test_tag_that_died_between_declaration_and_job(scene):
    """spec: JD-23"""
    declare(scene, outputs(of=ALICE))
    scene.desk.terms._current_epoch = lambda: EPOCH + 3
    await scene.desk.decide(scene.engine, event())
    assert scene.engine.refused == [((3, 4, 5), "invalid-coinbase-tx-outputs")]


async def test_job_waits_for_the_pools_tip(scene, nursery):
    """spec: JD-19"""
    following = tip(102)
    made = job(ALICE, on=following, coinbase=CoinbaseParts.declared(*halves(outputs=outputs())))
    scene.declarator.rights[named("token"), ALICE.key] = made
    nursery.start_soon(scene.desk.decide, scene.engine, event(prev_hash=following.prev_hash))
    await trio.testing.wait_all_tasks_blocked()
    assert scene.engine.accepted == []
    scene.board.post(following)
    await trio.testing.wait_all_tasks_blocked()
    assert len(scene.engine.accepted) == 1


async def test_job_waits_five_seconds_and_no_longer(scene, autojump_clock):
    """spec: JD-19"""
    declare(scene)
    began = trio.current_time()
    await scene.desk.decide(scene.engine, event(prev_hash=named("elsewhere")))
    assert scene.engine.refused == [((3, 4, 5), "stale-chain-tip")]
    assert trio.current_time() - began == pytest.approx(5.0)


async def test_templates_are_kept_for_the_tip_and_the_one_before(scene):
    """spec: JD-31"""
    made = declare(scene)
    await scene.desk.decide(scene.engine, event())
    number = scene.engine.accepted[0][1]["template_id"]
    for height in (102, 103):
        assert scene.desk.block_of(number, bytes(80), b"coinbase")
        scene.board.post(tip(height))
        scene.desk.tip_changed()
    assert scene.desk.block_of(number, bytes(80), b"coinbase") is None
    assert scene.declarator.tips == 2
    assert len(made.template.blocks) == 2


def each_byte(raw):
    return [raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :] for at in range(len(raw))]


async def test_outputs_that_differ_in_any_byte_are_refused(scene):
    """spec: JD-22"""
    good = event().coinbase_tx_outputs
    for wrong in each_byte(good):
        declare(scene)
        await scene.desk.decide(scene.engine, event(coinbase_tx_outputs=wrong))
    assert scene.engine.accepted == []
    assert {code for _, code in scene.engine.refused} == {"invalid-coinbase-tx-outputs"}
    assert len(scene.engine.refused) == len(good)


async def test_script_that_differs_in_any_byte_is_refused(scene):
    """spec: JD-22"""
    for wrong in each_byte(event().coinbase_prefix):
        declare(scene)
        await scene.desk.decide(scene.engine, event(coinbase_prefix=wrong))
    assert scene.engine.accepted == []
    assert {code for _, code in scene.engine.refused} == {"invalid-coinbase-prefix"}


# --- terms


async def test_exponent_of_a_hint_holds_until_a_channel_asks_otherwise():
    """spec: JD-1, JD-2"""
    held = terms()
    alice = await held.owner("alice,z=12")
    assert held.wanted(alice.key) == 12
    held.want(alice.key, 9)
    await held.owner("alice,z=20")
    assert held.wanted(alice.key) == 9


@pytest.mark.parametrize(
    ("asked", "given"), [(0, 4), (3, 4), (4, 4), (40, 40), (41, 40), (120, 40)]
)
def test_exponents_are_those_that_the_pool_mines_at(asked, given):
    """spec: JD-2"""
    held = terms()
    held.want(ALICE.key, asked)
    assert held.wanted(ALICE.key) == given


async def test_pool_without_a_mint_has_no_policies():
    """spec: JD-1"""
    with pytest.raises(RemoteProtocolError) as caught:
        await terms().owner("ecash:window")
    assert caught.value.error_code == INVALID_USER_IDENTITY


def test_tag_is_read_back():
    script = owner_script(MSP, ALICE, 5, 33)
    assert OwnerTag.read(script, MSP, ALICE, [7, 6, 5]) == OwnerTag(5, 33)
    assert OwnerTag.read(script, MSP, ALICE, [7, 6]) is None
    assert OwnerTag.read(script, MSP, BOB, [5]) is None
    assert OwnerTag.read(script, named("another msp"), ALICE, [5]) is None
    for wrong in each_byte(script):
        assert OwnerTag.read(wrong, MSP, ALICE, [5]) is None
    for cut in range(len(script)):
        assert OwnerTag.read(script[:cut], MSP, ALICE, [5]) is None


# --- hidden jobs


def hidden_job(of=ALICE, *, marked=True, **changes):
    mark = [output(0, hidden_script(MSP, of))] if marked else []
    coinbase = CoinbaseParts.declared(*halves(outputs=outputs(*mark, of=of), witness=False))
    fields = {
        "owner": of,
        "token": named("token"),
        "template_id": DECLARED_ID_MIN,
        "tip": tip(),
        "version": 0x20000000,
        "coinbase": coinbase,
        "merkle_path": (named("sibling"),),
    }
    return HiddenJob(**{**fields, **changes})


def test_body_of_a_hidden_job_is_that_of_page_3():
    """spec: JD-28, SB-1, SB-2"""
    made = hidden_job()
    coinbase = made.coinbase.transaction(bytes(12), witness=False)
    script_end = 42 + len(made.coinbase.script_prefix)
    at = coinbase.index(tag())
    parts = (coinbase[:script_end], coinbase[script_end + 12 : at], coinbase[at + 49 :])
    body = (
        (0x20000000).to_bytes(4, "little")
        + tip().prev_hash
        + NBITS.to_bytes(4, "little")
        + (101).to_bytes(4, "little")
        + b"".join(len(part).to_bytes(2, "little") + part for part in parts)
        + b"\x01"
        + named("sibling")
    )
    assert body_digest(made) == tagged_hash("radpool/template", body)


def test_no_two_owners_have_hidden_jobs_with_one_body():
    """A liar cannot hide behind a copy of an honest job: the mark is in the body.

    spec: JD-24
    """
    assert body_digest(hidden_job(ALICE)) != body_digest(hidden_job(BOB))
    assert body_digest(hidden_job(ALICE, marked=False)) == body_digest(
        hidden_job(BOB, marked=False)
    ), "without it there would be one"
