"""Shows keysets as everybody may know them, and what has changed about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from radpool_sv2.ecash.announcement import GROUP_MAX, Update
from radpool_sv2.ecash.keyset import KeysetChange, KeysetView
from radpool_sv2.ecash.policy import SAT, KeysetState, Policy
from radpool_sv2.ecash.price import value_of
from radpool_sv2.ecash.redemption import price_of
from radpool_sv2.store import ecash as table

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from radpool_sv2.ecash.announcement import MintKey
    from radpool_sv2.store.ecash import KeysetRow

__all__ = ["Gallery"]

KEPT_MAX: Final = 4_096
"""How many unexpired keysets are kept in memory: some 3 KiB each."""


class Gallery:
    """Keeps a view of each unexpired keyset; one thread at a time changes it, any may look.

    Attributes:
        views: The views by keyset number.
        opened: The open keyset of each policy; replaced whole, so that any thread may look.
    """

    def __init__(self, key: MintKey, confirmations_shown: int) -> None:
        """Takes what stays the same.

        Args:
            key: The MSP's key, which signs updates.
            confirmations_shown: From how many on a block's confirmations are of no interest.
        """
        self._key = key
        self._confirmations_shown = confirmations_shown
        self.views: dict[int, KeysetView] = {}
        self._by_id: dict[bytes, KeysetView] = {}
        self._told: dict[int, Update] = {}
        self._newest = 0
        self.opened: Mapping[Policy, KeysetView] = {}

    def find(self, keyset_id: bytes) -> KeysetView | None:
        """Returns the view of an unexpired keyset."""
        return self._by_id.get(keyset_id)

    def open_numbers(self) -> set[int]:
        """Returns the open keysets: claims come in without anybody telling."""
        return {view.number for view in self.opened.values()}

    def moving(self, height: int) -> set[int]:
        """Returns the keysets whose view changes with the chain: their block gets confirmations.

        Args:
            height: The tip's height when they were looked at before.
        """
        return {
            number
            for number, view in self.views.items()
            if view.state is KeysetState.PROVISIONAL
            or (view.state is KeysetState.FINAL and view.redeem_after_height >= height)
        }

    def refresh(self, connection: sqlite3.Connection, numbers: Iterable[int]) -> list[KeysetChange]:
        """Looks at keysets anew; returns news about them, ascending by number."""
        changes = []
        for number in sorted(numbers):
            found = table.keysets(connection, "number = ?", (number,))
            if not found:
                self._forget(number)
                continue
            [row] = found
            update = self.update_of(connection, row)
            view = self._view(connection, row, update)
            is_new = number not in self._told
            if is_new or _news(self._told[number]) != _news(update):
                # One that was forgotten and is looked at again was announced long ago.
                announced = view.announcement if number > self._newest else None
                changes.append(KeysetChange(view, announced, view.update))
            self._newest = max(self._newest, number)
            self._told[number] = update
            self.views[number] = view
            self._by_id[view.id] = view
            if view.state is KeysetState.EXPIRED:
                self._forget(number)
        while len(self.views) > KEPT_MAX:
            self._forget(min(number for number, view in self.views.items() if view.unit != "sat"))
        self.opened = {
            view.policy: view
            for view in self.views.values()
            if view.policy is not None and view.state is KeysetState.OPEN
        }
        return changes

    def _forget(self, number: int) -> None:
        view = self.views.pop(number, None)
        self._told.pop(number, None)
        if view is not None:
            del self._by_id[view.id]

    def show(self, connection: sqlite3.Connection, row: KeysetRow) -> KeysetView:
        """Makes the view of any keyset, without keeping it."""
        return self._view(connection, row, self.update_of(connection, row))

    def update_of(self, connection: sqlite3.Connection, row: KeysetRow) -> Update:
        """Returns what an EcashEpochUpdate says about a keyset now."""
        height = confirmations = 0
        group: list[bytes] = []
        if row.block is not None:
            height, confirmations = table.block_of(connection, row.block)
            group = table.group_of(connection, row, GROUP_MAX)
        statement = table.statement_of(connection, row.number, row.state)
        return Update(
            id=row.id,
            state=row.state,
            block=row.block,
            height=height,
            confirmations=min(confirmations, self._confirmations_shown),
            theta_msat=_theta(row),
            work=row.work,
            group=tuple(group),
            statement_hash=b"" if statement is None else statement[0],
            redeem_after_height=row.redeem_after,
            expires_at=0 if row.expires_ms is None else row.expires_ms // 1_000,
        )

    def _view(self, connection: sqlite3.Connection, row: KeysetRow, update: Update) -> KeysetView:
        price_num, price_den = price_of(row)
        known = self.views.get(row.number)
        if known is not None and self._told.get(row.number) == update:
            signed = known.update
        else:
            signed = update.sign(self._key)
        return KeysetView(
            id=row.id,
            number=row.number,
            unit=row.unit,
            policy=None if row.policy == SAT else Policy(row.policy),
            state=KeysetState(row.state),
            z0=row.z0,
            epoch=row.epoch,
            height=row.height,
            opened_ms=row.opened_ms,
            theta_msat=update.theta_msat,
            work=row.work,
            paid_msat=row.paid_msat,
            price_num=price_num,
            price_den=price_den,
            redeem_after_height=row.redeem_after,
            expires_at=update.expires_at,
            announcement=(
                table.announcement_of(connection, row.number)
                if known is None
                else known.announcement
            ),
            update=signed,
            unit_value=row.unit_value,
        )


def _theta(row: KeysetRow) -> int:
    if row.price_den:
        return value_of(row.price_num, row.price_den, row.work)
    return row.theta_msat


def _news(update: Update) -> Update:
    """Leaves out what changes all the time: claims of a keyset that takes some."""
    if update.state in {KeysetState.FINAL, KeysetState.VOID, KeysetState.EXPIRED}:
        return update
    return Update(
        **{name: getattr(update, name) for name in update.__slots__ if name != "work"} | {"work": 0}
    )
