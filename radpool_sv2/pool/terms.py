"""Says on which terms the pool lets miners make their own jobs: whom for, and with which outputs.

A token's outputs are the pool's script with no value, where the miner puts what the block pays,
and the owner output of whoever it is for; for a job whose transactions stay hidden also the mark of
such jobs. The exponent in it is what the pool wants of the owner's
channels at that moment; the miner may use any of the last few that it was given.

Source: `spec/10-job-declaration.md`, "Tokens" and "The coinbase".
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.pool.account import INVALID_USER_IDENTITY, UserIdentity
from radpool_sv2.pool.hidden import hidden_script, is_hidden_script
from radpool_sv2.pool.tag import OwnerTag, is_owner_script, owner_script
from radpool_sv2.pool.work import payout_output
from radpool_sv2.templates.coinbase import (
    INVALID_COINBASE,
    INVALID_OUTPUTS,
    CoinbaseOutput,
    CoinbaseParts,
    paid_sats,
)
from radpool_sv2.templates.declared import Owner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from radpool_sv2.ledger import Account

__all__ = ["ECASH_PREFIX", "EPOCHS_LIVE", "JobPay", "JobTerms"]

RAIL_ACCOUNT: Final = 0

ECASH_PREFIX: Final = "ecash:"
"""What follows is a policy of the mint instead of an account's name."""

EPOCHS_LIVE: Final = 3
"""A tag of the current epoch and of so many less one before it may be mined: a miner declares with
the outputs it was given last, and blocks may follow one another faster than its templates."""

OWNERS_REMEMBERED_MAX: Final = 50_000
"""For so many owners the exponent that is wanted is kept; for others the easiest is given."""


@dataclass(frozen=True, slots=True)
class JobPay:
    """Is what a coinbase says of its shares.

    Attributes:
        paid_sats: What it pays to the pool's script.
        tag: The epoch and exponent of its owner output.
    """

    paid_sats: int
    tag: OwnerTag


class JobTerms:
    """Knows the terms."""

    def __init__(  # noqa: PLR0913 - what the terms depend on
        self,
        *,
        script: bytes,
        msp_key: bytes,
        exponents: tuple[int, int],
        current_epoch: Callable[[], int],
        find_account: Callable[[str], Awaitable[Account]],
        ecash_owner: Callable[[str], Owner] | None,
    ) -> None:
        """Takes what the terms depend on.

        Args:
            script: The script that blocks pay.
            msp_key: The pool's x-only key, 32 bytes.
            exponents: The easiest and the hardest step of the ladder.
            current_epoch: Tells the open epoch.
            find_account: Returns the account of a name, opening it if it may.
            ecash_owner: Returns the owner of a policy; None when the pool has no mint.
        """
        self._script = script
        self._is_shared = False
        self._msp_key = msp_key
        self._exponent_min, self._exponent_max = exponents
        self._current_epoch = current_epoch
        self._find_account = find_account
        self._ecash_owner = ecash_owner
        self._wanted: OrderedDict[tuple[int, int], int] = OrderedDict()

    async def owner(self, user_identifier: str) -> Owner:
        """Returns who earns by what a miner calls itself.

        Raises:
            RemoteProtocolError: It can be nobody; the error code says why.
            StoreError: The ledger does not answer.
        """
        identity = UserIdentity.parse(user_identifier.encode())
        if identity.account.startswith(ECASH_PREFIX):
            owner = self._policy_owner(identity.account.removeprefix(ECASH_PREFIX))
        else:
            account = await self._find_account(identity.account)
            owner = Owner(account.id, account.name, account.commitment, RAIL_ACCOUNT)
        if identity.exponent is not None and owner.key not in self._wanted:
            self.want(owner.key, identity.exponent)
        return owner

    def pay(self, script: bytes, *, is_shared: bool = False) -> None:
        """Asks for jobs that pay another script from now on; tokens of before are worth nothing.

        Args:
            script: The script.
            is_shared: Whether it is a federation's, which takes the first output that pays it for
                all that is paid.
        """
        self._script, self._is_shared = script, is_shared

    def set_floor(self, exponent: int) -> None:
        """Gives nobody tags below an exponent any more, and takes none."""
        self._exponent_min = min(exponent, self._exponent_max)
        for owner, wanted in self._wanted.items():
            self._wanted[owner] = max(wanted, self._exponent_min)

    def want(self, owner: tuple[int, int], exponent: int) -> None:
        """Sets the exponent of the tags that an owner is given from now on."""
        exponent = min(max(exponent, self._exponent_min), self._exponent_max)
        self._wanted[owner] = exponent
        self._wanted.move_to_end(owner)
        if len(self._wanted) > OWNERS_REMEMBERED_MAX:
            self._wanted.popitem(last=False)

    def wanted(self, owner: tuple[int, int]) -> int:
        """Returns the exponent of the tags that an owner is given now."""
        return self._wanted.get(owner, self._exponent_min)

    def outputs(self, owner: Owner, *, hidden: bool) -> bytes:
        """Serialises the outputs of a token behind their count.

        Args:
            owner: Whom the token is for.
            hidden: Whether it is for a job whose transactions stay hidden.
        """
        epoch, exponent = self._current_epoch(), self.wanted(owner.key)
        scripts = [self._script, owner_script(self._msp_key, owner, epoch, exponent)]
        if hidden:
            scripts.append(hidden_script(self._msp_key, owner))
        return bytes([len(scripts)]) + b"".join(payout_output(0, each) for each in scripts)

    def check(self, owner: Owner, coinbase: CoinbaseParts) -> None:
        """Looks at a declared coinbase.

        Raises:
            RemoteProtocolError: The error code is `invalid-coinbase-tx`.
        """
        try:
            self.read(owner, coinbase.outputs, hidden=False)
        except RemoteProtocolError as error:
            raise RemoteProtocolError(str(error), INVALID_COINBASE) from error

    def read(self, owner: Owner, outputs: tuple[CoinbaseOutput, ...], *, hidden: bool) -> JobPay:
        """Reads what the outputs of a coinbase say of its shares.

        Args:
            owner: Whose job it is.
            outputs: All outputs.
            hidden: Whether the job's transactions stay hidden.

        Raises:
            RemoteProtocolError: They do not pay the pool, or not for this owner; the error code is
                `invalid-coinbase-tx-outputs`.
        """
        tags = [each for each in outputs if is_owner_script(each.script)]
        if len(tags) != 1 or tags[0].value_sats:
            raise RemoteProtocolError(
                f"{len(tags)} owner outputs, where exactly one of value 0 belongs: copy those of"
                " the token",
                INVALID_OUTPUTS,
            )
        epoch = self._current_epoch()
        live = range(epoch, max(epoch - EPOCHS_LIVE, -1), -1)
        tag = OwnerTag.read(tags[0].script, self._msp_key, owner, live)
        if tag is None:
            raise RemoteProtocolError(
                f"the owner output is not that of {owner.name!r} in one of the last {EPOCHS_LIVE}"
                " epochs: copy that of the newest token",
                INVALID_OUTPUTS,
            )
        if not self._exponent_min <= tag.exponent <= self._exponent_max:
            raise RemoteProtocolError(
                f"the owner output has exponent {tag.exponent}, where {self._exponent_min} to"
                f" {self._exponent_max} are mined",
                INVALID_OUTPUTS,
            )
        marks = [each for each in outputs if is_hidden_script(each.script)]
        mark = CoinbaseOutput(0, hidden_script(self._msp_key, owner))
        if marks != ([mark] if hidden else []):
            raise RemoteProtocolError(
                "a job has the output that marks hidden ones exactly if its transactions are"
                " hidden: copy the outputs of a token of the same connection",
                INVALID_OUTPUTS,
            )
        paid = paid_sats(outputs, self._script)
        if not paid:
            raise RemoteProtocolError(
                "nothing is paid to the script of the token's first output", INVALID_OUTPUTS
            )
        if self._is_shared and sum(each.script == self._script for each in outputs) > 1:
            raise RemoteProtocolError(
                "several outputs pay the script of the token's first output: a federation counts"
                " one alone",
                INVALID_OUTPUTS,
            )
        return JobPay(paid, tag)

    def _policy_owner(self, word: str) -> Owner:
        if self._ecash_owner is None:
            raise RemoteProtocolError("this pool has no mint", INVALID_USER_IDENTITY)
        return self._ecash_owner(word)
