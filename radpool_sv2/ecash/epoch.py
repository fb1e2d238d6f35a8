"""Moves keysets through their lives: opens, closes, judges and expires them.

Theory of operation. `Calendar.advance` is given the time and the chain's tip, and looks at the
ledger itself. In one transaction it

1. notes the difficulty of new blocks,
2. closes keysets whose time is over and opens new ones, one of each policy,
3. processes new settlements (see `radpool_sv2.ecash.settlement`),
4. judges the closed ones: PROVISIONAL while an unconfirmed block would pay them, CLOSED again when
   it is gone, FINAL or VOID once nothing can change that any more,
5. expires what is over, and passes its rest on.

It can be cut short or repeated at any time: each call does what is left to do.

    what ends an open keyset       network  pool  window  fixed
    the pool records a block          x       x      x      x
    the chain has another tip         x
    so much work, or so many hours                   x
    so many hours                                           x

Keysets without claims are not ended by the clock, and are forgotten some time after they ended.

Source: `spec/07-ecash-epochs.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from radpool_sv2.ecash.announcement import NO_BLOCK, Announcement
from radpool_sv2.ecash.policy import SAT, SAT_UNIT, WORK_UNIT, KeysetState, Policy
from radpool_sv2.ecash.settlement import settle
from radpool_sv2.ecash.window import slices_of, span_of, window_of
from radpool_sv2.store import ecash as table
from radpool_sv2.store.ecash_token import forget_spent, forget_unclaimed

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from radpool_sv2.config.ecash import EcashSection
    from radpool_sv2.ecash.announcement import MintKey
    from radpool_sv2.ecash.keyring import Keyring
    from radpool_sv2.ecash.keyset import ChainTip
    from radpool_sv2.ecash.value import ValueRule
    from radpool_sv2.store.ecash import KeysetRow, PendingBlock

__all__ = ["Calendar", "Moment"]

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS

UNCLAIMED_MS: Final = 2 * HOUR_MS
"""How long a good share waits for a claim: longer than any job stays valid."""

EXPIRED_AT_ONCE: Final = 64
"""How many keysets expire in one transaction: each may have a million spent tokens to forget."""

WORK_ROTATE: Final = 1 << 62
"""Units at which a keyset ends whatever its policy: half of what it can count."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Is what the calendar goes by.

    Attributes:
        now_ms: Milliseconds since 1970.
        tip: The chain's tip; None before it is known: nothing is opened then.
        difficulty: How many hashes a block on the tip takes on average; None before it is known.
    """

    now_ms: int
    tip: ChainTip | None
    difficulty: int | None


class Calendar:
    """Moves the keysets of the store."""

    def __init__(  # noqa: PLR0913, PLR0917 - what keysets depend on
        self,
        key: MintKey,
        keyring: Keyring,
        settings: EcashSection,
        confirmations: int,
        accounts: Mapping[Policy, int],
        rule: ValueRule | None = None,
    ) -> None:
        """Takes what stays the same.

        Args:
            key: The MSP's key.
            keyring: The mint's keys.
            settings: The section `ecash`.
            confirmations: From how many on the ledger pays a block.
            accounts: The ledger's account of each policy.
            rule: How the pool weighs templates by value; None when shares count their work.
        """
        self._key = key
        self._rule = rule
        self._keyring = keyring
        self._settings = settings
        self._confirmations = confirmations
        self._accounts = accounts
        self._policies = [Policy[name.upper()] for name in settings.policies]
        self._touched: set[int] = set()

    def advance(
        self, connection: sqlite3.Connection, moment: Moment, *, judge: bool = True
    ) -> set[int]:
        """Does all that is due, in the caller's transaction.

        Anything it does for the second time changes nothing.

        Args:
            connection: In a transaction.
            moment: What it goes by.
            judge: Whether to look at closed keysets too, if the ledger has not settled anything.

        Returns:
            The numbers of the keysets that were changed, added or dropped.
        """
        self._touched = set()
        self._note_blocks(connection, moment)
        self._rotate(connection, moment)
        settled = settle(
            connection,
            self._accounts,
            window_difficulties=self._settings.window_difficulties,
            maturity=self._settings.coinbase_maturity,
            expiry_ms=self._settings.expiry_days * DAY_MS,
            now_ms=moment.now_ms,
        )
        if settled is not None:
            self._touched |= settled
        if judge or settled is not None or self._touched:
            self._judge(connection, moment)
            self._expire(connection, moment)
            forget_unclaimed(connection, moment.now_ms - UNCLAIMED_MS)
        return self._touched

    def _change(
        self, connection: sqlite3.Connection, number: int, **columns: int | bytes | None
    ) -> None:
        table.change_keyset(connection, number, **columns)
        self._touched.add(number)

    def open_sat_keyset(self, connection: sqlite3.Connection, now_ms: int) -> KeysetRow:
        """Returns the sat keyset, which is made once."""
        found = table.keysets(connection, "policy = ?", (SAT,))
        if found:
            return found[0]
        return self._add(connection, None, Moment(now_ms, None, None), supersedes=b"")

    def _note_blocks(self, connection: sqlite3.Connection, moment: Moment) -> None:
        if moment.difficulty is not None:
            for block in table.unknown_blocks(connection):
                table.add_mint_block(connection, block, moment.difficulty)

    # Opening and closing.

    def _rotate(self, connection: sqlite3.Connection, moment: Moment) -> None:
        epoch = table.last_epoch(connection)
        opened = table.keysets(connection, "state = 0 AND policy <> ? ORDER BY number", (SAT,))
        live: dict[Policy, KeysetRow] = {}
        superseded: dict[Policy, bytes] = {}
        for row in opened:
            policy = Policy(row.policy)
            if self._is_over(row, epoch, moment):
                self._change(
                    connection, row.number, state=KeysetState.CLOSED, closed_ms=moment.now_ms
                )
                superseded[policy] = row.id
            else:
                live[policy] = row
        if moment.tip is None or (self._rule is not None and moment.difficulty is None):
            return
        for policy in self._policies:
            if policy not in live:
                supersedes = superseded.get(policy) or _last_of(connection, policy)
                self._add(connection, policy, moment, supersedes=supersedes)

    def _is_over(self, row: KeysetRow, epoch: int, moment: Moment) -> bool:
        policy = Policy(row.policy)
        settings = self._settings
        if (
            policy not in self._policies
            or row.epoch != epoch
            or row.z0 != settings.unit_exponent
            or bool(row.unit_value) != (self._rule is not None)
            or row.work >= WORK_ROTATE
        ):
            return True
        age_ms = moment.now_ms - row.opened_ms
        match policy:
            case Policy.NETWORK:
                return moment.tip is not None and row.height != moment.tip.height + 1
            case Policy.WINDOW:
                return row.work > 0 and (
                    age_ms >= settings.slice_hours * HOUR_MS
                    or (
                        age_ms >= settings.slice_seconds_min * 1_000
                        and moment.difficulty is not None
                        and (row.work << row.z0) * settings.slice_divisor >= moment.difficulty
                    )
                )
            case Policy.FIXED:
                return row.work > 0 and age_ms >= settings.fixed_hours * HOUR_MS
            case Policy.POOL:
                return False

    def _add(
        self,
        connection: sqlite3.Connection,
        policy: Policy | None,
        moment: Moment,
        *,
        supersedes: bytes,
    ) -> KeysetRow:
        number = table.next_keyset_number(connection)
        unit = SAT_UNIT if policy is None else WORK_UNIT
        keys = self._keyring.keys(number, unit)
        epoch = 0 if policy is None else table.last_epoch(connection)
        settings = self._settings
        fixed = policy is Policy.FIXED
        announcement = Announcement(
            id=keys.id,
            unit=unit,
            policy=SAT if policy is None else policy,
            epoch=epoch,
            opened_height=0 if moment.tip is None else moment.tip.height,
            opened_block=NO_BLOCK if moment.tip is None else moment.tip.hash,
            z0=0 if policy is None else settings.unit_exponent,
            keys=[public for _, public in keys.public],
            # Who buys at a fixed price has the difference already.
            fee_ppm=0 if policy is None or fixed else settings.fee_ppm,
            fee_fixed_msat=0 if policy is None or fixed else settings.fee_fixed_msat,
            price_num=settings.fixed_price_msat if fixed else 0,
            price_den=settings.fixed_price_units if fixed else 0,
            supersedes=supersedes,
        )
        row = table.KeysetRow(
            number=number,
            id=announcement.id,
            unit=unit,
            policy=announcement.policy,
            epoch=epoch,
            height=announcement.opened_height + 1,
            z0=announcement.z0,
            opened_ms=moment.now_ms,
            closed_ms=None,
            first_sequence=table.last_sequence(connection) + 1,
            last_sequence=None,
            state=KeysetState.OPEN,
            frozen=0,
            price_num=announcement.price_num,
            price_den=announcement.price_den,
            fee_ppm=announcement.fee_ppm,
            fee_fixed_msat=announcement.fee_fixed_msat,
            work=0,
            theta_msat=0,
            paid_msat=0,
            redeemed=0,
            block=None,
            redeem_after=0,
            final_ms=None,
            expires_ms=None,
            expires_height=None,
            unit_value=0 if policy is None else self._unit_value(moment),
        )
        table.add_keyset(connection, row, announcement.sign(self._key))
        self._touched.add(number)
        return row

    def _unit_value(self, moment: Moment) -> int:
        if self._rule is None:
            return 0
        assert moment.tip is not None, "nothing is opened before the chain is known"
        assert moment.difficulty is not None, "nor before the difficulty is"
        height = moment.tip.height + 1
        return self._rule.unit_value(self._settings.unit_exponent, height, moment.difficulty)

    # Judging.

    def _judge(self, connection: sqlite3.Connection, moment: Moment) -> None:
        hopes = self._hopes(connection)
        behind = _work_behind(connection)
        graced_ms = moment.now_ms - self._settings.grace_s * 1_000
        for row in self._undecided(connection, hopes, moment):
            block = hopes.get(row.number)
            if block is not None:
                self._hope(connection, row, block if block.confirmations else None)
            elif (row.closed_ms or 0) <= graced_ms and self._is_decided(
                row, behind.get(row.number, 0), moment
            ):
                self._decide(connection, row, moment)
            else:
                self._hope(connection, row, None)
        if moment.tip is not None:
            connection.execute(
                "UPDATE keyset SET expires_height = ? WHERE state = 4 AND expires_height IS NULL",
                (moment.tip.height + self._confirmations,),
            )

    def _hopes(self, connection: sqlite3.Connection) -> Mapping[int, PendingBlock]:
        """Returns the first block that would pay a keyset, by the keyset's number.

        Keysets without price have no paid epoch: their payment would have given them one.
        """
        hopes: dict[int, PendingBlock] = {}
        slices = slices_of(connection)
        for block in table.pending_blocks(connection):
            rows = table.keysets(
                connection,
                "state IN (1, 2) AND work > 0 AND epoch <= ? AND (policy = 1 OR "
                "(policy = 0 AND height = ?))",
                (block.epoch, block.height),
            )
            span = span_of(connection, block.hash, self._settings.window_difficulties)
            numbers = [row.number for row in rows] + window_of(slices, block.epoch, span)
            for number in numbers:
                # A block that was not looked up yet keeps hopes up; one that was seen shows.
                if number not in hopes or not hopes[number].confirmations:
                    hopes[number] = block
        return hopes

    def _undecided(
        self, connection: sqlite3.Connection, hopes: Mapping[int, PendingBlock], moment: Moment
    ) -> Sequence[KeysetRow]:
        """Returns the closed keysets that may have to change.

        There may be many of the policy network, each of which only waits for its block.
        """
        height = -1 if moment.tip is None else moment.tip.height
        rows = table.keysets(
            connection,
            "state = 2 OR (state = 1 AND (policy IN (2, 3) OR work = 0 OR (policy = 0 AND "
            "height <= ?)))",
            (height - self._confirmations + 1,),
        )
        seen = {row.number for row in rows}
        rows += [table.keyset_at(connection, number) for number in hopes if number not in seen]
        return rows

    def _is_decided(self, row: KeysetRow, behind: int, moment: Moment) -> bool:
        """Says whether no block can pay a keyset any more, or nobody has a claim."""
        if row.work == 0 or row.policy == Policy.FIXED:
            return True
        if row.policy == Policy.NETWORK:
            height = -1 if moment.tip is None else moment.tip.height
            return height >= row.height + self._confirmations - 1
        return (
            row.policy == Policy.WINDOW
            and moment.difficulty is not None
            and behind >= self._settings.window_difficulties * moment.difficulty
        )

    def _hope(
        self, connection: sqlite3.Connection, row: KeysetRow, block: PendingBlock | None
    ) -> None:
        if block is not None:
            state, redeem_after = (
                KeysetState.PROVISIONAL,
                block.height + self._settings.coinbase_maturity - 1,
            )
            if (row.state, row.block) != (state, block.hash):
                self._change(
                    connection,
                    row.number,
                    state=state,
                    block=block.hash,
                    redeem_after=max(redeem_after, row.redeem_after),
                )
        elif row.state == KeysetState.PROVISIONAL:
            paying = table.paying_block(connection, row.number)
            self._change(
                connection,
                row.number,
                state=KeysetState.CLOSED,
                block=None if paying is None else paying[0],
                redeem_after=0
                if paying is None
                else paying[1] + self._settings.coinbase_maturity - 1,
            )

    def _decide(self, connection: sqlite3.Connection, row: KeysetRow, moment: Moment) -> None:
        if row.state == KeysetState.PROVISIONAL:
            self._hope(connection, row, None)
        priced = row.theta_msat > 0 or (row.policy == Policy.FIXED and row.work > 0)
        columns: dict[str, int | bytes | None] = {"frozen": 1, "final_ms": moment.now_ms}
        if row.last_sequence is None:
            columns["last_sequence"] = table.last_sequence(connection)
        if priced:
            columns["state"] = KeysetState.FINAL
            columns["expires_ms"] = moment.now_ms + self._settings.expiry_days * DAY_MS
        else:
            columns["state"] = KeysetState.VOID
        self._change(connection, row.number, **columns)

    def _date_voids(self, connection: sqlite3.Connection, moment: Moment) -> None:
        if moment.tip is not None:
            connection.execute(
                "UPDATE keyset SET expires_height = ? WHERE state = 4 AND expires_height IS NULL",
                (moment.tip.height + self._confirmations,),
            )

    # Expiring.

    def _expire(self, connection: sqlite3.Connection, moment: Moment) -> None:
        height = -1 if moment.tip is None else moment.tip.height
        for row in table.expired_keysets(connection, moment.now_ms, height, EXPIRED_AT_ONCE):
            if row.work == row.value == 0:
                table.drop_keyset(connection, row.number)
                self._touched.add(row.number)
                continue
            rest = table.balance(connection, row.policy, "keyset", row.number)
            if rest and row.policy != Policy.FIXED:
                lent = -table.balance(connection, row.policy, "operator", row.number)
                back = min(rest, lent)
                entries = {
                    ("keyset", row.number): -rest,
                    ("operator", row.number): back,
                    ("carry", row.number): rest - back,
                }
                table.post(connection, "expiry", row.policy, row.number, moment.now_ms, entries)
            forget_spent(connection, row.number)
            self._change(connection, row.number, state=KeysetState.EXPIRED)


def _work_behind(connection: sqlite3.Connection) -> Mapping[int, int]:
    """Returns the hashes of the slices that are newer than a slice, by its number."""
    behind = {}
    hashes = 0
    for each in slices_of(connection):
        behind[each.number] = hashes
        hashes += each.hashes
    return behind


def _last_of(connection: sqlite3.Connection, policy: Policy) -> bytes:
    rows = table.keysets(connection, "policy = ? ORDER BY number DESC LIMIT 1", (policy,))
    return rows[0].id if rows else b""
