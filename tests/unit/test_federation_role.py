"""A member as a role beside others: what of it fails, and what it does anew then."""

import threading
from functools import partial

import pytest
import structlog
import trio
from rig.bitcoind import free_ports

from radpool_sv2.config import load
from radpool_sv2.config.federation import FederationConfig
from radpool_sv2.durable import write_whole
from radpool_sv2.errors import ConfigError, InternalError, StoreError
from radpool_sv2.federation import role
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.installation import (
    CONFIG_NAME,
    Convention,
    install_member,
    read_record,
)
from radpool_sv2.federation.member import Member
from radpool_sv2.federation.role import (
    CertifiedBooks,
    open_member,
    opened_member,
    read_figures,
    serve_member,
)
from radpool_sv2.federation.state.accounting import Accounting
from radpool_sv2.federation.state.ledger import Ledger
from radpool_sv2.federation.store import FederationStore
from radpool_sv2.supervision import Role, supervise

HASH = bytes(32)


@pytest.fixture
def alone(tmp_path):
    """A committee of one, which needs nobody to go on; no bitcoin node answers it."""
    made = install_member(
        tmp_path / "member",
        (),
        {
            "links.listen": "127.0.0.1:0",
            "chain.rpc_url": "http://127.0.0.1:1",
            "chain.rpc_cookie_file": str(tmp_path / "none"),
        },
    )
    settings = load(FederationConfig, made.directory / CONFIG_NAME)
    convention = Convention.of([read_record(made.record)], chain=HASH, height_first=1)
    return settings, convention


@pytest.fixture
def said():
    with structlog.testing.capture_logs() as lines:
        yield lines


async def until(holds):
    with trio.fail_after(60):
        while not holds():
            await trio.sleep(0.01)


async def test_a_member_that_fails_starts_again_with_what_was_durable(alone, said, monkeypatch):
    settings, convention = alone
    lives = []

    async def serve(stop, *, task_status):
        with open_member(settings, convention, Accounting(convention.rules)) as member:
            async with trio.open_nursery() as nursery:
                await nursery.start(serve_member, member)
                lives.append(member)
                task_status.started()
                await stop.wait()
                nursery.cancel_scope.cancel()

    async def steady(stop, *, task_status):
        task_status.started()
        await stop.wait()

    pool, federation = Role("pool", steady), Role("federation", serve)
    check, checks = FederationStore.check, []

    def damaged_once(store):
        checks.append(store)
        if len(checks) == 2:
            raise StoreError("the disk is away for a moment")
        check(store)

    [port], listened = free_ports(1), []

    async def listen(_port, **options):
        # As in life, it is the same one each time, and nobody else takes it between two lives.
        listened.append(port)
        return await open_listeners(port, **options)

    open_listeners = trio.open_tcp_listeners
    monkeypatch.setattr(trio, "open_tcp_listeners", listen)

    def broken(writes):
        raise InternalError("a defect of this program")

    monkeypatch.setattr(FederationStore, "check", damaged_once)
    monkeypatch.setattr("radpool_sv2.supervision.BACKOFF_SECONDS_MIN", 0.01)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(supervise, [pool, federation], stop))
        first = lives[0]
        first.node.append(Kind.SHARE_BATCH, b"durable")
        await until(lambda: first.store.durable == first.store.written > 0)
        first.store.commit = broken
        first.node.append(Kind.SHARE_BATCH, b"not durable")
        await until(lambda: len(lives) == 2)
        # Nothing of the first life goes on beside the second.
        written = first.store.written
        second = lives[1]
        second.node.append(Kind.SHARE_BATCH, b"after")
        await until(lambda: second.store.durable == second.store.written > 0)
        assert first.store.written == written
        payloads = [second.store.entry(0, seq).payload for seq in range(2)]
        assert payloads == [b"durable", b"after"]
        assert second.store.entry(0, 2) is None
        assert len(listened) == 3
        assert (pool.state.restarts, pool.state.failure) == (0, "")
        assert federation.state.restarts == 2
        assert "away for a moment" in federation.state.failure
        assert federation.state.serving
        stop.set()
    assert [line["reason"] for line in said if line["event"].startswith("a role failed")] == [
        "a defect of this program",
        "the disk is away for a moment",
    ]


async def test_a_state_of_other_rules_is_told_from_damage(alone, monkeypatch):
    settings, convention = alone
    with open_member(settings, convention, Accounting(convention.rules)) as member:
        member.store.keep_state(0, Accounting(convention.rules).start().encode())
        member.store.commit(member.store.take())
    edited = Convention.of(
        convention.records, chain=HASH, height_first=1, agreed={"fee_sats_per_vb": 99}
    )
    with open_member(settings, edited, Accounting(edited.rules)) as member:
        member.node.applied = 1
        with pytest.raises(StoreError, match="Compare the rules"):
            member.node._read_store()


class Counted:
    """Is a member's node and store, with as many certified states as a test says."""

    def __init__(self, rules):
        self.function = Accounting(rules)
        self.states = [self.function.start().encode()]
        while len(self.states) < 4:
            self.states.append(self.function.apply(self.states[-1], len(self.states) - 1, []))
        self.certified = 0
        self.kept = set(range(1, 4))
        self.reads = []
        self.error = None
        self.books = CertifiedBooks(self, self, Accounting(rules))

    def state(self, epoch):
        self.reads.append(epoch)
        if self.error is not None:
            raise self.error
        return self.states[epoch + 1] if epoch + 1 in self.kept else None


async def test_books_are_read_once_for_all_who_ask(alone):
    counted, got = Counted(alone[1].rules), []

    async def ask():
        got.append(await counted.books())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
    assert got == [None]
    got.clear()
    for certified in (1, 3):
        counted.certified = certified
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(ask)
        assert len({id(each) for each in got}) == 1
        assert got[0].epochs == certified
        got.clear()
    assert counted.reads == [0, 2]


async def test_books_that_are_not_to_be_had_leave_those_before(alone):
    counted = Counted(alone[1].rules)
    counted.certified = 1
    before = await counted.books()
    counted.certified, counted.error = 2, StoreError("away")
    with pytest.raises(StoreError, match="away"):
        await counted.books()
    counted.error = None
    counted.kept.remove(2)
    assert await counted.books() is before
    counted.certified = 3
    assert (await counted.books()).epochs == 3


async def test_books_that_were_just_counted_are_not_decoded(alone, monkeypatch):
    """As they are for whoever pays by them, says what is found, and signs payouts."""
    counted = Counted(alone[1].rules)

    def decode(state):
        raise AssertionError("the books are large")

    monkeypatch.setattr(Ledger, "decode", decode)
    counted.certified = 3
    counted.books = CertifiedBooks(counted, counted, counted.function)
    assert (await counted.books()).epochs == 3
    settings, convention = alone
    with open_member(settings, convention, counted.function) as member:
        assert member.books._function.ledger(counted.states[3]).epochs == 3


async def test_a_slow_disk_holds_nobody_else_up(alone, monkeypatch):
    settings, convention = alone
    threads = []

    def watched(name):
        real = getattr(FederationStore, name)

        def noted(*arguments, **options):
            threads.append(threading.get_ident())
            return real(*arguments, **options)

        monkeypatch.setattr(FederationStore, name, noted)

    for name in ("__init__", "close", "check", "records"):
        watched(name)
    restore = Member.restore

    def restored(*arguments):
        threads.append(threading.get_ident())
        restore(*arguments)

    monkeypatch.setattr(Member, "restore", restored)
    write = role._write_figures

    def written(*arguments):
        threads.append(threading.get_ident())
        return write(*arguments)

    monkeypatch.setattr(role, "_write_figures", written)
    async with opened_member(settings, convention, Accounting(convention.rules)) as member:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_member, member)
            assert read_figures(settings.node.data_dir)["member"] == 0
            nursery.cancel_scope.cancel()
    assert len(threads) >= 6
    assert threading.get_ident() not in threads


async def test_figures_that_cannot_be_written_are_told_once(alone, said, monkeypatch):
    settings, convention = alone
    monkeypatch.setattr(role, "FIGURES_SECONDS", 0.001)
    blocked = settings.node.data_dir / role.FIGURES_NAME
    tries = []
    write = role._write_figures

    def written(*arguments):
        tries.append(write(*arguments))
        return tries[-1]

    monkeypatch.setattr(role, "_write_figures", written)
    async with opened_member(settings, convention, Accounting(convention.rules)) as member:
        blocked.mkdir()
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_member, member)
            await until(lambda: len(tries) > 3)
            blocked.rmdir()
            await until(lambda: tries[-1] == "")
            blocked.unlink()
            nursery.cancel_scope.cancel()
    lines = [line for line in said if line["event"] == "the figures cannot be written"]
    assert len(lines) == 1


def test_files_that_are_not_of_one_member_are_named(alone, tmp_path):
    settings, convention = alone
    other = install_member(tmp_path / "other", ()).directory / "keys" / "transport.key"
    file = settings.member.transport_key_file
    other.replace(file)
    with (
        pytest.raises(ConfigError, match="transport key is not that of the own record") as caught,
        open_member(settings, convention, Accounting(convention.rules)),
    ):
        pass
    assert str(file) in str(caught.value)
    file.chmod(0o644)
    with (
        pytest.raises(ConfigError, match="chmod 600"),
        open_member(settings, convention, Accounting(convention.rules)),
    ):
        pass
    write_whole(file, b"zz" * 32, draft=file.with_suffix(".new"), mode=0o600)
    with (
        pytest.raises(ConfigError, match="64 hex digits"),
        open_member(settings, convention, Accounting(convention.rules)),
    ):
        pass
