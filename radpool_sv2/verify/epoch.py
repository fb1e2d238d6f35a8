"""Recomputes an exported epoch and compares it with what the MSP claims.

Theory of operation. The claims are authenticated first, then the files they name are read: each
template body must have its digest, each batch must be signed, follow the one before it, and hold
nothing but shares that prove their owner and their work. What the shares sum to must be what the
claims say, and what the settlements pay must be what the formula gives. Nothing in the directory is
left unread, so one altered byte anywhere is found.

Source: `spec/04-epoch-accounting.md`, "Verification".
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from radpool_sv2.errors import FaultyMSPError, LocalProtocolError
from radpool_sv2.verify.batch import EVIDENCE, BatchFault, VerifiedShare, verify_batch
from radpool_sv2.verify.claims import FORMAT_WORK, Claims, Settlement, read_claims
from radpool_sv2.verify.coinbase import coinbase_paid_sats, coinbase_value_sats
from radpool_sv2.verify.ecash import ClaimFound, KeysetAudit, KeysetReport
from radpool_sv2.verify.value import NO_WEIGHT, Earnings, check_prices, split_payment

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

__all__ = ["EpochReport", "verify_export"]

Owner = tuple[bytes, int]

NO_BATCH = bytes(32)
"""What the first batch of a chain names as the one before it."""


@dataclass(frozen=True, slots=True)
class EpochReport:
    """Says what was recomputed and found to be as claimed.

    Attributes:
        msp_key: The MSP whose epoch it is, 32 bytes.
        epoch: The epoch's number.
        state: `open`, `closed` or `paid`.
        batches: How many batches were recomputed.
        shares: How many shares they hold.
        work: What the epoch's own shares prove, expected hashes.
        value: What they are worth, in the unit of the epoch's weight; 0 without prices.
        payouts: What the epoch's standing settlements pay, sats, by commitment and rail.
        value_sats: What the blocks of these settlements bring.
        notes: What could not be checked from the export alone, in plain words.
        keysets: The ecash keysets whose statements were recomputed.
        found: Those of the claims asked for that are in one of them, by their `B_`.
    """

    msp_key: bytes
    epoch: int
    state: str
    batches: int
    shares: int
    work: int
    value: int
    payouts: dict[Owner, int]
    value_sats: int
    notes: tuple[str, ...]
    keysets: tuple[KeysetReport, ...] = ()
    found: Mapping[bytes, ClaimFound] = field(default_factory=dict)


@dataclass(slots=True)
class _Totals:
    """Gathers what the shares of all batches prove."""

    shares: int = 0
    hashes: set[bytes] = field(default_factory=set)
    sums: dict[tuple[int, Owner], tuple[int, int, int]] = field(
        default_factory=lambda: defaultdict(lambda: (0, 0, 0))
    )
    earnings: Earnings = field(default_factory=Earnings)
    solved: dict[bytes, VerifiedShare] = field(default_factory=dict)


def verify_export(
    directory: Path,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
    find: Collection[bytes] = (),
    scripts: Collection[bytes] = (),
) -> EpochReport:
    """Recomputes an export.

    Args:
        directory: The export.
        progress: Is called with the batches done and all batches.
        find: The `B_` of ecash claims to look for.
        scripts: The pool's output scripts, if they are known: then no other may count as its own.

    Raises:
        FaultyMSPError: Something is not as the MSP claims, or the export was altered.
        LocalProtocolError: The directory holds no export.
    """
    try:
        claims = read_claims((directory / "epoch.json").read_bytes())
    except FileNotFoundError:
        raise LocalProtocolError(f"{directory}: holds no export: there is no epoch.json") from None
    except OSError as error:
        raise LocalProtocolError(f"{directory}: cannot be read: {error.strerror}") from error
    try:
        audit = KeysetAudit.read(directory, claims.msp_key)
        _check_files(directory, claims, audit.files)
        totals = _verify_batches(directory, claims, audit, progress)
        _check_sums(claims, totals)
        _check_weights(claims, totals, scripts)
        notes = check_prices(claims, totals.earnings) + _void_notes(claims)
        notes += _check_blocks(claims, totals)
        _check_settlements(claims, totals)
        keysets, more = audit.finish(claims, totals.solved)
        notes += more
    except OSError as error:
        raise LocalProtocolError(f"{error.filename}: cannot be read: {error.strerror}") from error
    standing = _standing(claims)
    payouts: dict[Owner, int] = defaultdict(int)
    for settlement in standing:
        for owner, sats in settlement.payouts.items():
            payouts[owner] += sats
        if settlement.carry_in:
            notes.append(
                f"settlement {settlement.id} pays {settlement.carry_in} sats more than its block "
                "brings, carried from earlier ones: verify these for where they come from"
            )
    return EpochReport(
        msp_key=claims.msp_key,
        epoch=claims.epoch,
        state=claims.state,
        batches=len(claims.batches),
        shares=totals.shares,
        work=sum(work for (epoch, _), (_, work, _) in claims.sums.items() if epoch == claims.epoch),
        value=sum(row[2] for (epoch, _), row in claims.sums.items() if epoch == claims.epoch),
        payouts=dict(payouts),
        value_sats=sum(settlement.value_sats for settlement in standing),
        notes=tuple(notes),
        keysets=keysets,
        found=audit.find(find),
    )


def _check_files(directory: Path, claims: Claims, keyset_files: set[str]) -> None:
    """Compares the names in the directory with the claims: nothing may be missing or unclaimed."""
    wanted = {f"batches/{sequence:010d}.bin" for sequence in claims.batches}
    wanted |= {f"templates/{digest.hex()}.bin" for digest, _ in claims.templates}
    wanted |= {"batches", "templates", "epoch.json"} | keyset_files
    found = {path.relative_to(directory).as_posix() for path in directory.rglob("*")}
    for name in sorted(wanted ^ found):
        what = "is missing" if name in wanted else "is not part of what was signed"
        raise FaultyMSPError(f"{name} {what}")


def _verify_batches(
    directory: Path, claims: Claims, audit: KeysetAudit, progress: Callable[[int, int], None]
) -> _Totals:
    bodies = {
        digest: (directory / "templates" / f"{digest.hex()}.bin").read_bytes()
        for digest, _ in claims.templates
    }
    block_hashes = claims.blocks.keys()
    totals = _Totals()
    previous: bytes | None = None
    expected = min(claims.batches, default=0)
    epoch_min = 0
    used: set[tuple[bytes, int | None]] = set()
    for done, sequence in enumerate(sorted(claims.batches)):
        name = f"batches/{sequence:010d}.bin"
        try:
            batch, shares = verify_batch((directory / name).read_bytes(), bodies)
        except BatchFault as fault:
            accused = claims.msp_key.hex() if fault.code in EVIDENCE else ""
            raise FaultyMSPError(f"{name}: {fault}", accused) from fault
        if batch.hash != claims.batches[sequence] or batch.msp_key != claims.msp_key:
            raise FaultyMSPError(f"{name}: is another batch than the one that was signed for")
        if batch.sequence != sequence or sequence != expected:
            raise _fault(claims, f"{name}: batch {expected} of the chain is missing here")
        if sequence == 0:
            previous = NO_BATCH
        if previous is not None and batch.previous != previous:
            raise _fault(claims, f"{name}: does not follow the batch before it")
        if batch.epoch_min < epoch_min:
            raise _fault(claims, f"{name}: opens epochs again that were settled")
        previous, expected, epoch_min = batch.hash, sequence + 1, batch.epoch_min
        used.update(
            (template.digest, None if batch.weight is None else template.price)
            for template in batch.templates
        )
        totals.earnings.see(batch, shares)
        _check_frozen(claims, sequence, epoch_min, name)
        _count(claims, totals, shares, block_hashes, name)
        audit.see(sequence, shares)
        progress(done + 1, len(claims.batches))
    if used != claims.templates.keys():
        raise _fault(claims, "templates: not those that the batches refer to, at their prices")
    return totals


def _check_frozen(claims: Claims, sequence: int, epoch_min: int, name: str) -> None:
    """Checks that the epoch takes shares until it is settled first, and none afterwards."""
    first = min((settlement.sequence for settlement in claims.settlements), default=sequence)
    if sequence <= first and epoch_min > claims.epoch:
        raise _fault(claims, f"{name}: counts no shares in an epoch that is not settled yet")
    for settlement in claims.settlements:
        if sequence > settlement.sequence and epoch_min <= settlement.epochs[-1]:
            raise _fault(claims, f"{name}: adds to an epoch after it was settled")


def _count(
    claims: Claims,
    totals: _Totals,
    shares: list[VerifiedShare],
    blocks: object,
    name: str,
) -> None:
    assert hasattr(blocks, "__contains__")
    for index, share in enumerate(shares):
        if share.hash in totals.hashes:
            raise _fault(claims, f"{name}: share {index}: the same header was counted before")
        totals.hashes.add(share.hash)
        key = (share.epoch, (share.owner.commitment, share.owner.rail))
        count, work, value = totals.sums[key]
        totals.sums[key] = (count + 1, work + share.work, value + share.value)
        if share.hash in blocks:
            totals.solved[share.hash] = share
    totals.shares += len(shares)


def _scope(claims: Claims) -> set[int]:
    """Returns the epochs whose shares are in the export completely."""
    return {claims.epoch}.union(*(settlement.epochs for settlement in claims.settlements))


def _check_sums(claims: Claims, totals: _Totals) -> None:
    scope = _scope(claims)
    proved = {key: value for key, value in totals.sums.items() if key[0] in scope}
    for key in sorted(proved.keys() | claims.sums.keys()):
        epoch, (commitment, rail) = key
        if proved.get(key) != claims.sums.get(key):
            raise _fault(
                claims,
                f"owner {commitment.hex()}, rail {rail}, epoch {epoch}: the shares prove "
                f"{_words(proved.get(key))}, claimed are {_words(claims.sums.get(key))}",
            )


def _words(sums: tuple[int, int, int] | None) -> str:
    count, work, value = sums or (0, 0, 0)
    return f"{count} shares of {work} hashes and value {value}"


def _check_weights(claims: Claims, totals: _Totals, scripts: Collection[bytes]) -> None:
    """Compares the rules of weight and the scripts that are claimed with what there is."""
    scope = _scope(claims)
    proved = {(epoch, weight) for epoch, weight in totals.earnings.rules if epoch in scope}
    if claims.format != FORMAT_WORK and proved != claims.weights:
        raise _fault(claims, "weights: not the rules that the shares of the epochs were weighed by")
    if claims.format == FORMAT_WORK and any(weight != NO_WEIGHT for _, weight in proved):
        raise _fault(claims, "batches with prices need an export of format 2")
    others = claims.scripts.difference(scripts)
    if scripts and others:
        shown = ", ".join(sorted(script.hex() for script in others))
        raise _fault(claims, f"payments to {shown} are counted as payments to the pool")
    if unknown := {void.template for void in claims.voids} - {each for each, _ in claims.templates}:
        raise _fault(claims, f"voids: template {min(unknown).hex()} is not part of the export")


def _void_notes(claims: Claims) -> list[str]:
    return [
        f"the shares on template {void.template.hex()} were voided ({void.reason}): whether that "
        "is true is between the MSP and who declared it"
        for void in claims.voids
    ]


def _check_blocks(claims: Claims, totals: _Totals) -> list[str]:
    notes = []
    for block in claims.blocks.values():
        share = totals.solved.get(block.hash)
        shown = block.hash[::-1].hex()
        if share is None:
            notes.append(
                f"block {shown} is not among the shares: look up its value, {block.value_sats} "
                "sats, on the chain"
            )
            continue
        value_sats = _value_sats(claims, share)
        if (block.height, block.value_sats) != (share.height, value_sats):
            raise _fault(
                claims,
                f"block {shown}: its coinbase pays {value_sats} sats at height {share.height}, "
                f"claimed are {block.value_sats} sats at height {block.height}",
            )
    return notes


def _value_sats(claims: Claims, share: VerifiedShare) -> int:
    """Returns what a block brings the pool: all that it pays where no script is told apart."""
    if share.weight is None or not claims.scripts:
        return coinbase_value_sats(share.coinbase)
    return coinbase_paid_sats(share.coinbase, claims.scripts)


def _check_settlements(claims: Claims, totals: _Totals) -> None:
    payments: dict[int, Settlement] = {}
    reversed_ids: set[int] = set()
    last_id = 0
    for settlement in claims.settlements:
        if settlement.id <= last_id:
            raise _fault(claims, f"settlement {settlement.id} is out of order")
        last_id = settlement.id
        if settlement.reverses is None:
            _check_payment(claims, totals, settlement)
            standing_before = [p for number, p in payments.items() if number not in reversed_ids]
            _check_epochs(claims, settlement, standing_before)
            payments[settlement.id] = settlement
        else:
            if settlement.reverses in reversed_ids or settlement.reverses not in payments:
                raise _fault(claims, f"settlement {settlement.id} reverses no standing payment")
            _check_reversal(claims, settlement, payments[settlement.reverses])
            reversed_ids.add(settlement.reverses)
    standing = [payment.block for payment in _standing(claims)]
    if len(set(standing)) < len(standing):
        raise _fault(claims, "a block is paid out twice")
    if (claims.state == "paid") != bool(standing):
        raise _fault(claims, f"the epoch is called {claims.state}, which its settlements are not")


def _check_payment(claims: Claims, totals: _Totals, payment: Settlement) -> None:
    name = f"settlement {payment.id}"
    block = claims.blocks.get(payment.block)
    if block is None or block.value_sats != payment.value_sats or block.epoch < payment.epochs[-1]:
        raise _fault(claims, f"{name} does not belong to one of the blocks")
    if claims.epoch not in payment.epochs:
        raise _fault(claims, f"{name} does not concern epoch {claims.epoch}")
    payouts, carry = split_payment(claims, totals.earnings, payment)
    if carry != payment.carry_out:
        raise _fault(claims, f"{name} carries {payment.carry_out} sats on; {carry} is right")
    for owner in sorted(payouts.keys() | payment.payouts.keys()):
        if payouts.get(owner, 0) != payment.payouts.get(owner, 0):
            raise _fault(
                claims,
                f"{name} pays owner {owner[0].hex()}, rail {owner[1]}, "
                f"{payment.payouts.get(owner, 0)} sats; {payouts.get(owner, 0)} is right",
            )


def _check_epochs(claims: Claims, payment: Settlement, standing: list[Settlement]) -> None:
    """Checks that a payment has unpaid epochs, or the block's own alone."""
    paid = {epoch for earlier in standing for epoch in earlier.epochs}
    own = (claims.blocks[payment.block].epoch,)
    if payment.epochs != own and not paid.isdisjoint(payment.epochs):
        raise _fault(claims, f"settlement {payment.id} pays an epoch that is paid already")


def _check_reversal(claims: Claims, reversal: Settlement, payment: Settlement) -> None:
    opposite = {owner: -sats for owner, sats in payment.payouts.items()}
    carried = reversal.carry_out - reversal.carry_in == payment.carry_in - payment.carry_out
    same = (reversal.block, reversal.epochs) == (payment.block, payment.epochs)
    if not (same and carried and reversal.value_sats == -payment.value_sats) or (
        reversal.payouts != opposite
    ):
        raise _fault(claims, f"settlement {reversal.id} does not undo settlement {payment.id}")


def _standing(claims: Claims) -> list[Settlement]:
    """Returns the payments that no settlement reverses."""
    undone = {settlement.reverses for settlement in claims.settlements}
    return [
        settlement
        for settlement in claims.settlements
        if settlement.reverses is None and settlement.id not in undone
    ]


def _fault(claims: Claims, text: str) -> FaultyMSPError:
    return FaultyMSPError(text, claims.msp_key.hex())
