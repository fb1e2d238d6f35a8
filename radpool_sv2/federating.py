"""Joins a pool with its federation: the member, what the pool feeds it, and what it pays the pool.

Theory of operation. `Federating` is a role of the node: it opens the member and runs it, anew after
each failure. What is certified of the federation's state is all that the pool acts by: the script
that blocks pay, the least exponent of shares, and which part of each block is this member's. While
the member is down the pool mines on by what it knows last; its ledger keeps what the federation
is to hear.

A block that pays the federation is recorded in the pool's ledger with this member's part, whoever
has found it, once certified books say how it is split. From there on it is a block like any other:
paid to the pool's miners when it is deep enough in the chain that the own node sees, and undone
when it leaves it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import structlog
import trio

from radpool_sv2.config import load
from radpool_sv2.config.federation import FederationConfig
from radpool_sv2.errors import ConfigError, LocalProtocolError, StoreError
from radpool_sv2.federation.codec import CodecError
from radpool_sv2.federation.installation import CONFIG_NAME, Convention
from radpool_sv2.federation.role import identity_of, opened_member, serve_member
from radpool_sv2.federation.state.accounting import Accounting
from radpool_sv2.federation.state.ledger import (
    output_of_key,
    syndicate_outputs,
    syndicate_script,
)
from radpool_sv2.federation.state.payload import Tip, decode_script
from radpool_sv2.federation.state.payout import direct_outputs
from radpool_sv2.federation.state.rules import PayoutMode
from radpool_sv2.network import NETWORKS
from radpool_sv2.pool.feed import Feed
from radpool_sv2.pool.setting import payout_script
from radpool_sv2.pool.telling import ToldRegister
from radpool_sv2.pool.work import Payee
from radpool_sv2.weight import WeightMode, scale_of
from radpool_sv2.weight.body import body_outputs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from radpool_sv2.chain.transaction import Transaction
    from radpool_sv2.config import MspConfig
    from radpool_sv2.federation.broadcast.entry import Entry, Position
    from radpool_sv2.federation.role import OpenMember
    from radpool_sv2.federation.state.ledger import Ledger
    from radpool_sv2.keyfile import KeyRing
    from radpool_sv2.pool.role import Pool
    from radpool_sv2.supervision import RunRole
    from radpool_sv2.templates.source import TemplateUpdate

__all__ = ["Federating"]

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 0.2
"""How often is looked whether more is certified; epochs take minutes."""

SETTLE_SECONDS: Final = 2.0
"""How long shares on templates that pay the pool alone may be on their way, once others are out."""

LEAVE_SECONDS: Final = 1.0
"""What the feed may take to pass on the last shares when the node leaves."""


class Federating:
    """Is a pool's seat in its federation; `run` is its role.

    Args:
        config: The pool's configuration, with the directory of a member.
        keys: Its keys.

    Raises:
        ConfigError: The member is not one of this pool's, or the committee has other rules.
    """

    def __init__(self, config: MspConfig, keys: KeyRing) -> None:
        assert config.federation.dir is not None, "only a member's pool has a seat"
        file = config.federation.dir / CONFIG_NAME
        self._settings = load(FederationConfig, file)
        self._convention = Convention.read(self._settings.member.committee_file)
        self._check(config, keys, file)
        self._rules = self._convention.rules
        self._function = Accounting(self._rules)
        self._me = self._convention.committee.number_of(keys.msp.public)
        self._pool: Pool | None = None
        self._member: OpenMember | None = None
        self._feed: Feed | None = None
        self._ledger: Ledger | None = None
        self._scripts: set[bytes] = set()
        self._recorded: dict[bytes, int] = {}
        self._failure = ""

    def _check(self, config: MspConfig, keys: KeyRing, file: Path) -> None:
        """Refuses a member that this pool cannot be.

        Raises:
            ConfigError: It is one.
        """
        committee, rules = self._convention.committee, self._convention.rules
        committee_file = self._settings.member.committee_file
        if identity_of(self._settings).public != keys.msp.public:
            raise ConfigError(
                "the member has another key than this pool. `radpool federation init --msp-dir` "
                "makes a member with the pool's",
                file=file,
                key="member.identity_key_file",
                value=str(self._settings.member.identity_key_file),
                allowed=str(config.keys.msp_key_file),
            )
        if keys.msp.public not in committee.members:
            raise ConfigError("this pool is not in the committee", file=committee_file)
        if config.templates.source == "embedded":
            raise ConfigError(
                "the embedded chain is this node's alone: members need one that all of them see",
                key="templates.source",
                value='"embedded"',
                allowed="bitcoind, tdp or core_ipc",
            )
        network = NETWORKS[config.templates.network]
        if committee.chain[::-1].hex() != network.first_block:
            raise ConfigError(
                f"the committee is one of another network than {network.name}",
                file=committee_file,
                key="templates.network",
                value=repr(config.templates.network),
            )
        mode = WeightMode[config.weight.mode.upper()]
        if mode is not rules.mode:
            raise ConfigError(
                "the federation weighs shares in another way",
                key="weight.mode",
                value=repr(config.weight.mode),
                allowed=rules.mode.name.lower(),
            )
        if scale_of(network.name) != rules.scale:
            raise ConfigError(
                f"the committee counts by another scale than shares on {network.name} have",
                file=committee_file,
            )
        if config.ledger.maturity_blocks < rules.maturity:
            raise ConfigError(
                "miners would be paid before the federation pays this pool",
                key="ledger.maturity_blocks",
                value=str(config.ledger.maturity_blocks),
                allowed=f"at least {rules.maturity}, as the committee has agreed",
            )
        templates = config.templates
        try:
            decode_script(payout_script(templates.payout_address, templates.network))
        except CodecError:
            raise ConfigError(
                "members are paid to no address of a witness version above 1",
                key="templates.payout_address",
                value=repr(templates.payout_address),
                allowed="an address of a key or script, or of a witness of version 0 or 1",
            ) from None
        if rules.payout is PayoutMode.DIRECT and config.declarator.enabled:
            raise ConfigError(
                "where blocks pay the members themselves, how they do so changes with each block, "
                "which tokens of miners cannot tell",
                key="declarator.enabled",
                value="true",
                allowed="false in a federation with payout = direct",
            )

    def watch(self, pool: Pool) -> RunRole:
        """Follows a pool, and leads its blocks; to be called before either runs.

        Returns:
            The role.
        """
        self._pool = pool
        pool.shared = self._is_shared
        pool.set_floor(self._rules.exponent_floor)
        pool.offered.add(self._offered)
        pool.ledger.committed.add(self._wake)
        return self.run

    # What others see.

    @property
    def problem(self) -> str:
        """What keeps the pool from its federation, in plain words; empty when nothing does."""
        if self._member is None:
            return "the member of the federation does not run now; the log says why"
        status = self._member.node.status()
        if status["halted"]:
            return (
                "federation: the member has stopped for good, and blocks pay by what was certified "
                f"last: {status['halted']}"
            )
        for trouble in ("store_failure", "chain_failure"):
            if status[trouble]:
                return f"federation: {status[trouble]}"
        if len(status["links"]) + 1 < status["quorum"]:
            return (
                f"federation: links to {len(status['links'])} of {status['members'] - 1} other "
                f"members are up, and nothing is decided by fewer than {status['quorum']} members"
            )
        return "" if self._feed is None else self._feed.problem

    def figures(self) -> Mapping[str, Any]:
        """Returns what an operator looks at, ready for JSON."""
        ledger, feed = self._ledger, self._feed
        told: dict[str, Any] = {
            "committee": self._convention.committee.id.hex(),
            "member": self._me,
            "members": self._convention.committee.n,
            "problem": self.problem,
            "payout": self._rules.payout.name.lower(),
            "script": "" if ledger is None else syndicate_script(self._rules, ledger).hex(),
            "next_batch": -1 if feed is None else feed.next_batch,
            "batches_too_late": 0 if feed is None else feed.skipped,
            "registrations": _registrations(feed),
            "blocks": [] if ledger is None else _blocks(ledger, self._recorded),
            "weights": {} if ledger is None else _weights(ledger),
            "stale_shares": 0 if ledger is None else ledger.stale,
            "void_batches": 0 if ledger is None else len(ledger.verdicts),
        }
        if self._member is not None:
            told["node"] = self._member.node.status()
        return told

    # The role.

    async def run(
        self, stop: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Runs the member until `stop` is set.

        Raises:
            ConfigError: A file cannot be used, or the member cannot listen.
            StoreError: What it remembers cannot be read.
        """
        pool = self._pool
        assert pool is not None, "a seat has a pool"
        async with opened_member(self._settings, self._convention, self._function) as member:
            try:
                async with trio.open_nursery() as nursery:
                    await nursery.start(serve_member, member)
                    self._member = member
                    stream = _Stream(member, self._me)
                    committee = self._convention.committee
                    owners = ToldRegister(pool.ledger, committee.members[self._me], committee.id)
                    feed = self._feed = Feed(
                        stream,
                        pool.ledger,
                        self._rules,
                        script=pool.script,
                        pays=self._pays,
                        owners=owners,
                    )
                    if pool.work is not None:
                        self._offered(pool.work)
                    # What is certified already leads the pool before it serves.
                    looked = await self._look(member, None)
                    ledger = self._ledger or self._function.start()
                    nursery.start_soon(feed.run, ledger.members[self._me])
                    nursery.start_soon(self._follow, member, looked)
                    nursery.start_soon(self._begin, pool, feed)
                    task_status.started()
                    await stop.wait()
                    feed.rested = trio.Event()
                    feed.wake()
                    with trio.move_on_after(LEAVE_SECONDS):
                        await feed.rested.wait()
                    nursery.cancel_scope.cancel()
            finally:
                self._member = self._feed = None

    async def _follow(self, member: OpenMember, looked: Ledger | None) -> None:
        while True:
            await trio.sleep(LOOK_SECONDS)
            try:
                looked = await self._look(member, looked)
                await self._record_parts()
            except StoreError as error:
                log.error("the federation's books are not taken in", reason=str(error))  # noqa: TRY400
                await trio.sleep(1.0)

    async def _look(self, member: OpenMember, looked: Ledger | None) -> Ledger | None:
        """Takes in the certified books, if they are others than at the last look; returns them."""
        ledger = await member.books()
        if ledger is not None and ledger is not looked:
            self._take_in(ledger)
        return ledger

    def _take_in(self, ledger: Ledger) -> None:
        pool = self._pool
        assert pool is not None
        self._ledger = ledger
        self._scripts.update(
            output.script for output in syndicate_outputs(self._rules, ledger).values()
        )
        if self._rules.payout is PayoutMode.SYNDICATE:
            # A key that templates pay no more still has blocks, which are found in the solution log
            # at each start.
            self._scripts.update(
                output_of_key(self._rules, block.key).script for block in ledger.blocks.values()
            )
        if self._rules.payout is PayoutMode.DIRECT:
            self._pay_directly(pool, ledger)
        else:
            script = syndicate_script(self._rules, ledger)
            if script and script != pool.payee.script:
                pool.pay(Payee.one(script, is_shared=True))
        pool.set_floor(ledger.exponents[-1])
        if self._feed is not None:
            self._feed.certified(ledger.members[self._me])

    def _pay_directly(self, pool: Pool, ledger: Ledger) -> None:
        scripts = {stake.script for stake in ledger.direct_stakes()}
        if not scripts:
            return
        self._scripts.update(scripts)

        def divide(value_sats: int) -> list[tuple[bytes, int]]:
            return direct_outputs(ledger, value_sats)

        pool.pay(Payee(pool.script, divide, is_shared=True))

    async def _begin(self, pool: Pool, feed: Feed) -> None:
        """Lets the feed begin once all shares are on templates that pay the federation."""
        await pool.sharing.wait()
        await trio.sleep(SETTLE_SECONDS)
        feed.begin()

    async def _record_parts(self) -> None:
        """Records blocks that certified books say how to split."""
        ledger, pool = self._ledger, self._pool
        assert pool is not None
        if ledger is None:
            return
        new = [each for each in ledger.blocks.items() if each[0] not in self._recorded]
        for block_hash, block in sorted(new, key=lambda each: (each[1].height, each[0])):
            try:
                part = self._function.part_of(ledger, block_hash, self._me)
            except LocalProtocolError:
                continue  # nobody can be paid for it yet
            if part and not await pool.record_part(block_hash, block.height, part):
                return
            self._recorded[block_hash] = part
            log.info("a block of the federation", height=block.height, value=block.value, part=part)
        self._recorded = {
            block_hash: part
            for block_hash, part in self._recorded.items()
            if block_hash in ledger.blocks
        }

    # What the pool tells.

    def _wake(self) -> None:
        if self._feed is not None:
            self._feed.wake()

    def _offered(self, update: TemplateUpdate) -> None:
        if self._feed is not None and update.tip is not None:
            self._feed.offered(_tip(update))

    def _is_shared(self, coinbase: Transaction) -> bool:
        """Tells whether a block pays the federation, and not this pool alone."""
        assert self._pool is not None
        paid = {each.script for each in coinbase.outputs if each.value_sats}
        if self._ledger is None:
            # Nobody says yet whom the federation pays. A block of it must not be booked as the
            # pool's own, whole: miners would be owed what others get.
            return paid != {self._pool.script}
        return self._is_paid(paid)

    def _pays(self, body: bytes) -> bool:
        return self._is_paid({script for sats, script in body_outputs(body) if sats})

    def _is_paid(self, scripts: set[bytes]) -> bool:
        assert self._pool is not None
        others = self._scripts - {self._pool.script}
        if self._rules.payout is PayoutMode.DIRECT and not others:
            # It is the only member that can be paid.
            others = self._scripts
        return not scripts.isdisjoint(others)


class _Stream:
    """Is the own stream of a running member, for the feed."""

    def __init__(self, member: OpenMember, me: int) -> None:
        self._member = member
        self._me = me

    @property
    def tip(self) -> Position:
        return self._member.node.machine.broadcast.own.tip()

    @property
    def certified(self) -> int:
        return self._member.node.machine.broadcast.own.certified.count

    @property
    def waiting(self) -> int:
        return self._member.node.waiting

    def append(self, kind: int, payload: bytes) -> None:
        self._member.node.append(kind, payload)

    async def entry(self, seq: int) -> Entry | None:
        for entry in self._member.node.machine.broadcast.own.echoed_entries():
            if entry.header.seq == seq:
                return entry
        return await trio.to_thread.run_sync(self._member.store.entry, self._me, seq)


def _tip(update: TemplateUpdate) -> Tip:
    template, tip = update.template, update.tip
    assert tip is not None
    target = int.from_bytes(tip.target, "little")
    return Tip(tip.prev_hash, template.height, tip.nbits, target, template.fees_sats)


def _registrations(feed: Feed | None) -> int:
    """Returns how many registrations the federation has been told of."""
    return 0 if feed is None or feed.telling is None else feed.telling.place


def _blocks(ledger: Ledger, parts: Mapping[bytes, int]) -> list[dict[str, Any]]:
    """Lists the blocks in the books; the own part is null until it is in the pool's ledger."""
    return [
        {
            "hash": block_hash[::-1].hex(),
            "height": block.height,
            "value_sats": block.value,
            "own_part_sats": parts.get(block_hash),
            "is_mature": block.matured_epoch >= 0,
        }
        for block_hash, block in sorted(ledger.blocks.items(), key=lambda each: each[1].height)
    ]


def _weights(ledger: Ledger) -> dict[str, str]:
    # Weights exceed what JSON readers take for a number.
    return {str(member): str(weight) for member, weight in ledger.weights().items()}
