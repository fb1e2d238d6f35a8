"""Shows what a wallet has, in figures that anyone can check.

Every value comes with the numbers that it is computed from: theta, W and n, of which theta and W
stand under the mint's signature.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from radpool_sv2.wallet.announcement import SAT_UNIT, EpochState
from radpool_sv2.wallet.price import price_of
from radpool_sv2.wallet.redemption import why_not
from radpool_sv2.wallet.store import Event, TokenState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from radpool_sv2.wallet.deposit import Deposit
    from radpool_sv2.wallet.purse import Purse
    from radpool_sv2.wallet.store import Keyset, Mint

__all__ = ["Balance", "EpochLine", "ResidueLine", "SatLine", "history", "look"]


@dataclass(frozen=True, slots=True)
class EpochLine:
    """Is what the wallet has of one work keyset.

    Attributes:
        keyset: The keyset's id in hex.
        mint: Where its mint answers, or the mint's key.
        policy: How its epoch is paid.
        epoch: The mint's epoch.
        height: The height of the tip when it opened.
        state: Where the epoch stands.
        tokens: How many tokens there are.
        units: What they are worth in units; held ones are not among them.
        held_units: What is in exchanges under way.
        z0: One unit is 2^z0 hashes.
        hashes: The work, in hashes.
        theta_msat: What is paid for the keyset's whole work; None while nothing is.
        work: The keyset's whole work in units; None while theta is.
        value_msat: floor(theta * n / W); None while nothing is paid.
        final: Whether that stays as it is.
        sats: What redeeming all of it gives.
        formula: The same in words and figures.
        reason: Why it cannot be redeemed now; empty if it can.
        redeem_after_height: The height of the tip from which on the mint pays; 0 while unknown.
        blocks_left: How many blocks are missing to that; None while unknown.
        expires_at: When the mint stops paying, in seconds since 1970; 0 while unknown.
    """

    keyset: str
    mint: str
    policy: str
    epoch: int
    height: int
    state: str
    tokens: int
    units: int
    held_units: int
    z0: int
    hashes: int
    theta_msat: int | None
    work: int | None
    value_msat: int | None
    final: bool
    sats: int
    formula: str
    reason: str
    redeem_after_height: int
    blocks_left: int | None
    expires_at: int


@dataclass(frozen=True, slots=True)
class SatLine:
    """Is what the wallet has of one mint's sats.

    Attributes:
        mint: Where the mint answers, or its key.
        sats: What can be spent.
        held_sats: What is in exchanges under way.
        sent_sats: What was sent and nobody has claimed.
    """

    mint: str
    sats: int
    held_sats: int
    sent_sats: int


@dataclass(frozen=True, slots=True)
class ResidueLine:
    """Is what a mint holds of one policy that shares earned above their tokens.

    Attributes:
        mint: Where the mint answers, or its key.
        policy: How its tokens will be paid.
        units: How many units of work it makes, by the mint's own word.
        z0: One unit is 2^z0 hashes on a template that pays the subsidy alone; None while no keyset
            of the mint is known.
        claim_keys: Under how many claim keys.
    """

    mint: str
    policy: str
    units: int
    z0: int | None
    claim_keys: int


@dataclass(frozen=True, slots=True)
class Balance:
    """Is everything a wallet has.

    Attributes:
        sats: What can be spent, over all mints.
        by_mint: The same by mint.
        epochs: The work keysets of which there are tokens, newest first.
        residues: What mints hold that no token stands for yet, where it is a whole unit or more.
        fresh: Whether the mints were asked just now.
        notes: What people should know, in words.
    """

    sats: int
    by_mint: tuple[SatLine, ...]
    epochs: tuple[EpochLine, ...]
    residues: tuple[ResidueLine, ...]
    fresh: bool
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Returns it as JSON shows it; work in hashes is text, as it may pass 2^64."""
        fields = asdict(self)
        for line in fields["epochs"]:
            line["hashes"] = str(line["hashes"])
        return fields


Sums = dict[tuple[int, TokenState], tuple[int, int]]


def look(
    purse: Purse, tips: dict[int, int], *, fresh: bool, notes: tuple[str, ...], spent: bool = False
) -> Balance:
    """Reads what the wallet has.

    Args:
        purse: The wallet.
        tips: The height of the tip by mint, as far as mints were asked.
        fresh: Whether they were.
        notes: What people should know.
        spent: Whether keysets are shown of which nothing is left.
    """
    with purse.file.read() as connection:
        sums = purse.store.sums(connection)
        mined = purse.store.mined(connection)
        keysets = purse.store.keysets(connection)
        mints = purse.store.mints(connection)
        deposits = purse.deposits.of(connection)
    work = [
        keyset
        for keyset in keysets
        if keyset.unit != SAT_UNIT
        if _left(keyset, sums) or (spent and keyset.number in mined)
    ]
    # The same order whether the keysets came one by one or were restored all at once.
    work.sort(key=lambda keyset: (keyset.announcement.opened_height, keyset.id), reverse=True)
    work.sort(key=lambda keyset: keyset.announcement.epoch, reverse=True)
    lines = [_epoch(keyset, sums, tips.get(keyset.mint.number)) for keyset in work]
    by_mint = []
    for mint in mints:
        of = [k for k in keysets if k.unit == SAT_UNIT and k.mint.number == mint.number]
        sats, held, sent = (
            sum(sums.get((keyset.number, state), (0, 0))[1] for keyset in of)
            for state in (TokenState.OURS, TokenState.HELD, TokenState.SENT)
        )
        by_mint.append(SatLine(mint.place, sats, held, sent))
    return Balance(
        sats=sum(line.sats for line in by_mint),
        by_mint=tuple(by_mint),
        epochs=tuple(lines),
        residues=tuple(_residues(mints, keysets, deposits)),
        fresh=fresh,
        notes=notes,
    )


def _residues(
    mints: Sequence[Mint], keysets: Sequence[Keyset], deposits: Sequence[Deposit]
) -> Iterator[ResidueLine]:
    """Yields what each mint holds for each policy."""
    for mint in mints:
        of = [row for row in deposits if row.mint == mint.number and row.units]
        works = [k for k in keysets if k.mint.number == mint.number and k.unit != SAT_UNIT]
        z0 = works[-1].announcement.z0 if works else None
        for policy in sorted({row.policy for row in of}):
            held = [row.units for row in of if row.policy == policy]
            yield ResidueLine(mint.place, policy, sum(held), z0, len(held))


def _left(keyset: Keyset, sums: Sums) -> bool:
    return any((keyset.number, state) in sums for state in (TokenState.OURS, TokenState.HELD))


def _epoch(keyset: Keyset, sums: Sums, tip: int | None) -> EpochLine:
    announced, update, price = keyset.announcement, keyset.update, price_of(keyset)
    tokens, units = sums.get((keyset.number, TokenState.OURS), (0, 0))
    after = 0 if update is None else update.redeem_after_height
    formula = "nothing pays it yet"
    if price is not None:
        formula = (
            f"floor({price.num:,} msat x {units:,} / {price.den:,}) = {price.msat(units):,} msat, "
            f"so {price.sats(units):,} sat"
        )
    return EpochLine(
        keyset=keyset.id.hex(),
        mint=keyset.mint.place,
        policy="" if announced.policy is None else announced.policy.word,
        epoch=announced.epoch,
        height=announced.opened_height,
        state=(EpochState.OPEN if update is None else update.state).word,
        tokens=tokens,
        units=units,
        held_units=sums.get((keyset.number, TokenState.HELD), (0, 0))[1],
        z0=announced.z0,
        hashes=units << announced.z0,
        theta_msat=None if price is None else price.num,
        work=None if price is None else price.den,
        value_msat=None if price is None else price.msat(units),
        final=price is not None and price.final,
        sats=0 if price is None else price.sats(units),
        formula=formula,
        reason=why_not(keyset, units, tip) if units else "all of it is redeemed or under way",
        redeem_after_height=after,
        blocks_left=max(after - tip, 0) if tip is not None and after else None,
        expires_at=0 if update is None else update.expires_at,
    )


def history(purse: Purse) -> list[Event]:
    """Returns what happened, oldest first; the shares of a keyset are one event."""
    with purse.file.read() as connection:
        events = purse.store.events(connection)
        mined = purse.store.mined(connection)
        keysets = purse.store.keysets(connection)
    earned = [
        Event(keyset.seen_ms, "earn", keyset.id, mined[keyset.number][1], 0, _shares(keyset, mined))
        for keyset in keysets
        if keyset.number in mined
    ]
    return sorted([*events, *earned], key=lambda event: event.time_ms)


def _shares(keyset: Keyset, mined: dict[int, tuple[int, int]]) -> str:
    return f"{mined[keyset.number][0]} shares, from then on"
