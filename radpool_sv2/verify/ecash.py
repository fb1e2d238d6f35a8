"""Recomputes what a mint claims about the keysets of an exported epoch.

Theory of operation. Each keyset has two files: the signed statement and the list of its claims. A
claim names a share of the exported batches. While the batches are recomputed, the auditor takes
from each the shares that are claimed and makes the leaves of the trees; at the end the leaves of a
keyset must give the signed root. From then on the list is what the MSP has signed for, and every
further fault is its own: a claim on a share of somebody else or of less work, a share or a `B_`
that was signed for twice, an allocation that the formula does not give.

Tokens of a keyset that goes by value are not those of single shares: a claimant's residue joins
each. What shares are worth and what residues were before must be what tokens cost and what residues
are behind; that chain goes from keyset to keyset of a policy.

Source: `spec/07-ecash-epochs.md`, "Export".
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from radpool_sv2.errors import FaultyMSPError
from radpool_sv2.verify.allocation import check_allocations, keyset_fault
from radpool_sv2.verify.bip340 import is_point
from radpool_sv2.verify.statement import Node, Statement, claim_leaf, read_statement, root

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from radpool_sv2.verify.batch import VerifiedShare
    from radpool_sv2.verify.claims import Claims

__all__ = ["ClaimFound", "KeysetAudit", "KeysetReport"]

RECORD_LEN = 8 + 2 + 1 + 33
CASH_OUT_LEN = 1 + 33
NO_TOKEN = 255
NO_SHARE = bytes(32)
MODE_VALUE = 1
UNITS_MAX_LOG = 64
BLINDED_AT = 8 + 2 + 1
RAIL_ECASH = 1
KEYSET_DIGITS = 66
DIRECTORY = "ecash"


class ClaimFound(NamedTuple):
    """Is a claim that was found in a keyset: its share's hash (internal byte order), its units."""

    keyset: bytes
    share_hash: bytes
    units: int


@dataclass(frozen=True, kw_only=True, slots=True)
class KeysetReport:
    """Says what was recomputed about a keyset and found to be as claimed.

    Attributes:
        keyset: The keyset id, 33 bytes.
        policy: The name of its policy.
        state: `final`, `void` or `expired`.
        claims: How many shares have a token of it.
        work: What they are worth, units.
        theta_msat: What settlements gave it.
        issued_msat: What was paid out; None before it expires.
    """

    keyset: bytes
    policy: str
    state: str
    claims: int
    work: int
    theta_msat: int
    issued_msat: int | None


class _Claim(NamedTuple):
    keyset: bytes
    place: int
    exponent: int
    blinded: bytes


class KeysetAudit:
    """Audits the keysets of one export: `see` each batch in order, then `finish`.

    Attributes:
        files: The names under the export that belong to keysets.
    """

    def __init__(self, msp_key: bytes) -> None:
        self._msp_key = msp_key
        self.files: set[str] = set()
        self._statements: dict[bytes, Statement] = {}
        self._waiting: dict[int, list[_Claim]] = defaultdict(list)
        self._leaves: dict[bytes, list[Node]] = {}
        self._found: dict[bytes, list[ClaimFound]] = {}
        self._faults: dict[bytes, str] = {}
        self._blinded: dict[bytes, list[bytes]] = {}
        self._values: dict[bytes, int] = defaultdict(int)
        self._cash_outs: dict[bytes, list[tuple[int, bytes]]] = {}

    @classmethod
    def read(cls, directory: Path, msp_key: bytes) -> KeysetAudit:
        """Reads the statements and claims of an export.

        Raises:
            FaultyMSPError: One is not in its form, or not signed by this MSP.
            OSError: One cannot be read.
        """
        audit = cls(msp_key)
        place = directory / DIRECTORY
        if not place.is_dir():
            return audit
        audit.files.add(DIRECTORY)
        for file in sorted(place.glob("*.json")):
            audit._read_keyset(file)
        return audit

    def _read_keyset(self, file: Path) -> None:
        name = f"{DIRECTORY}/{file.name}"
        statement = read_statement(file.read_bytes(), self._msp_key, name)
        keyset = statement.keyset
        if file.stem != keyset.hex():
            raise FaultyMSPError(f"{name} is the statement of keyset {keyset.hex()}")
        claims_file = file.with_suffix(".claims")
        if not claims_file.exists():
            raise FaultyMSPError(f"{DIRECTORY}/{claims_file.name} is missing")
        self.files |= {name, f"{DIRECTORY}/{claims_file.name}"}
        self._statements[keyset] = statement
        self._leaves[keyset], self._found[keyset] = [], []
        self._read_claims(keyset, claims_file.read_bytes())
        cash_outs = file.with_suffix(".cashouts")
        self._cash_outs[keyset] = []
        if cash_outs.exists():
            self.files.add(f"{DIRECTORY}/{cash_outs.name}")
            self._read_cash_outs(keyset, cash_outs.read_bytes())

    def _read_claims(self, keyset: bytes, data: bytes) -> None:
        name = _claims_name(keyset)
        if len(data) % RECORD_LEN:
            raise FaultyMSPError(f"{name} ends inside a claim")
        statement = self._statements[keyset]
        blinded = self._blinded[keyset] = []
        last = (-1, -1)
        for at in range(0, len(data), RECORD_LEN):
            record = data[at : at + RECORD_LEN]
            sequence = int.from_bytes(record[:8], "little")
            claim = _Claim(
                keyset, int.from_bytes(record[8:10], "little"), record[10], record[BLINDED_AT:]
            )
            if (sequence, claim.place) <= last:
                raise FaultyMSPError(f"{name}: claims are not in order, or one share has two")
            last = (sequence, claim.place)
            without = claim.exponent == NO_TOKEN and statement.unit_value
            if not without and not _is_step(claim.exponent, statement):
                raise FaultyMSPError(f"{name}: a claim of exponent {claim.exponent}")
            self._waiting[sequence].append(claim)
            blinded.append(claim.blinded)

    def _read_cash_outs(self, keyset: bytes, data: bytes) -> None:
        name = f"{DIRECTORY}/{keyset.hex()}.cashouts"
        if not data or len(data) % CASH_OUT_LEN:
            raise FaultyMSPError(f"{name} ends inside a token")
        for at in range(0, len(data), CASH_OUT_LEN):
            exponent, blinded = data[at], data[at + 1 : at + CASH_OUT_LEN]
            if not _is_step(exponent, self._statements[keyset]):
                raise FaultyMSPError(f"{name}: a token of exponent {exponent}")
            self._cash_outs[keyset].append((exponent, blinded))

    def see(self, sequence: int, shares: Sequence[VerifiedShare]) -> None:
        """Takes from a batch that was recomputed the shares that are claimed.

        Raises:
            FaultyMSPError: A share that is claimed is not there.
        """
        taken: dict[int, bytes] = {}
        for claim in self._waiting.pop(sequence, ()):
            if claim.place >= len(shares):
                raise FaultyMSPError(
                    f"{_claims_name(claim.keyset)}: batch {sequence} has no share {claim.place}"
                )
            share = shares[claim.place]
            units = _units(claim.exponent, self._statements[claim.keyset])
            self._values[claim.keyset] += share.value
            self._leaves[claim.keyset].append(claim_leaf(share.hash, claim.blinded, units))
            self._found[claim.keyset].append(ClaimFound(claim.keyset, share.hash, units))
            fault = self._fault_of(claim, share)
            if claim.place in taken:
                fault = f"has also a token of keyset {taken[claim.place].hex()}"
            taken[claim.place] = claim.keyset
            if fault:
                place = f"batch {sequence}, share {claim.place}"
                self._faults.setdefault(claim.keyset, f"{place} {fault}")

    def _fault_of(self, claim: _Claim, share: VerifiedShare) -> str:
        """Says why a share does not earn the token that was given for it; empty when it does."""
        statement = self._statements[claim.keyset]
        if share.owner.rail != RAIL_ECASH or share.owner.commitment != statement.commitment:
            return "is not a share of this policy"
        if statement.unit_value:
            if share.weight is None or share.weight.mode != MODE_VALUE:
                return "is not weighed by value"
        elif share.work != 1 << claim.exponent:
            return f"is worth {share.work} hashes, its token {1 << claim.exponent}"
        if share.owner.epoch > statement.epochs[-1]:
            return f"is tagged for epoch {share.owner.epoch}, later than the keyset"
        return ""

    def finish(
        self, claims: Claims, solved: Mapping[bytes, VerifiedShare]
    ) -> tuple[tuple[KeysetReport, ...], list[str]]:
        """Checks everything that the shares did not show yet.

        Args:
            claims: What the MSP claims about the epoch; its settlements were checked.
            solved: The shares that are blocks of it, by hash.

        Returns:
            What was recomputed, and what could not be from this export alone, in plain words.

        Raises:
            FaultyMSPError: Something is not as claimed.
        """
        for sequence, missing in sorted(self._waiting.items()):
            name = _claims_name(missing[0].keyset)
            raise FaultyMSPError(f"{name}: claims shares of batch {sequence}, which is not here")
        statements = sorted(self._statements.values(), key=lambda statement: statement.number)
        for statement in statements:
            self._check_claims(statement)
        self._check_blinded(statements)
        notes = self._check_chain(statements)
        notes += check_allocations(statements, claims, solved)
        return tuple(_report(statement) for statement in statements), notes

    def find(self, blinded: Iterable[bytes]) -> dict[bytes, ClaimFound]:
        """Returns those of some claims that are in a keyset; call it after `finish`."""
        wanted = set(blinded)
        return {
            own: found
            for keyset, listed in self._blinded.items()
            for own, found in zip(listed, self._found[keyset], strict=True)
            if own in wanted
        }

    def _check_claims(self, statement: Statement) -> None:
        """Checks that the list is the one that was signed for, then what it says."""
        leaves = self._leaves[statement.keyset]
        given = [
            claim_leaf(NO_SHARE, blinded, _units(exponent, statement))
            for exponent, blinded in self._cash_outs[statement.keyset]
        ]
        together = leaves + given
        if root(together) != (statement.root, statement.work) or len(leaves) != statement.claims:
            raise FaultyMSPError(
                f"{_claims_name(statement.keyset)}: {len(leaves)} claims and {len(given)} tokens "
                f"out of residues, of {sum(units for _, units in together)} units, are not those "
                f"of the statement, {statement.claims} claims of {statement.work}"
            )
        for listed, signed in ((leaves, statement.tokens), (given, statement.cash_outs)):
            tokens: dict[int, int] = defaultdict(int)
            for _, units in listed:
                if units:
                    tokens[statement.z0 + units.bit_length() - 1] += 1
            if dict(tokens) != {z: count for z, count in signed.items() if count}:
                raise keyset_fault(statement, "its tokens are not those of its claims")
        if statement.keyset in self._faults:
            raise keyset_fault(statement, self._faults[statement.keyset])

    def _check_value(self, statement: Statement) -> None:
        """Checks that tokens cost what shares have earned, but for what residues have become."""
        value = self._values[statement.keyset]
        if value != statement.value:
            raise keyset_fault(
                statement, f"its shares are worth {value}, its statement says {statement.value}"
            )
        left = statement.residue_in + value - statement.work * statement.unit_value
        if left != statement.residue_out:
            raise keyset_fault(
                statement, f"residues are {left} behind it, not {statement.residue_out}"
            )

    def _check_chain(self, statements: Sequence[Statement]) -> list[str]:
        """Checks that residues go from keyset to keyset; returns where that was not to be seen."""
        notes = []
        for statement in statements:
            if not statement.unit_value:
                continue
            self._check_value(statement)
            before = self._statements.get(statement.previous or b"")
            if statement.previous is None:
                if statement.residue_in:
                    raise keyset_fault(statement, "is the first of its policy and has residues")
            elif before is None:
                notes.append(
                    f"residues of {statement.residue_in} before keyset {statement.keyset.hex()} "
                    f"are those of keyset {statement.previous.hex()}, which is not in this export"
                )
            elif (before.commitment, before.residue_out) != (
                statement.commitment,
                statement.residue_in,
            ):
                raise keyset_fault(
                    statement,
                    f"residues are {statement.residue_in} before it and {before.residue_out} "
                    f"behind keyset {before.keyset.hex()}",
                )
        return notes

    def _check_blinded(self, statements: Sequence[Statement]) -> None:
        seen: dict[bytes, bytes] = {}
        for statement in statements:
            given = [blinded for _, blinded in self._cash_outs[statement.keyset]]
            for blinded in self._blinded[statement.keyset] + given:
                if blinded in seen:
                    raise keyset_fault(
                        statement,
                        f"B_ {blinded.hex()} has a token already, of keyset {seen[blinded].hex()}",
                    )
                if not is_point(blinded):
                    raise keyset_fault(statement, f"B_ {blinded.hex()} is no point")
                seen[blinded] = statement.keyset


def _is_step(exponent: int, statement: Statement) -> bool:
    return statement.z0 <= exponent < statement.z0 + UNITS_MAX_LOG


def _units(exponent: int, statement: Statement) -> int:
    return 0 if exponent == NO_TOKEN else 1 << exponent - statement.z0


def _claims_name(keyset: bytes) -> str:
    return f"{DIRECTORY}/{keyset.hex()}.claims"


def _report(statement: Statement) -> KeysetReport:
    return KeysetReport(
        keyset=statement.keyset,
        policy=statement.policy,
        state=statement.state,
        claims=statement.claims,
        work=statement.work,
        theta_msat=statement.theta_msat,
        issued_msat=statement.issued_msat,
    )
