"""`radpool verify claim`: looks for a miner's own ecash claims in what the mint has signed."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import httpx
from cyclopts import Parameter

from radpool_sv2.errors import ConfigError, FaultyMSPError, LocalProtocolError, RadpoolError
from radpool_sv2.verify import verify_export
from radpool_sv2.verify.bip340 import is_point
from radpool_sv2.verify.ecash import ClaimFound
from radpool_sv2.verify.field import block_hash, natural, octets
from radpool_sv2.verify.statement import Statement, claim_leaf, path_root, read_statement

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["claim"]

HTTP_SECONDS_MAX = 10.0
PATH_NODES_MAX = 64
POINT_DIGITS = 66


@dataclass(slots=True)
class _Search:
    """Is what was found, and why the rest was not."""

    found: dict[bytes, ClaimFound] = field(default_factory=dict)
    missing: dict[bytes, str] = field(default_factory=dict)


def claim(
    file: Path,
    *,
    export: Path | None = None,
    mint: str | None = None,
    msp_key: str | None = None,
    json_output: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Looks for your own ecash claims in an export, or in the statements of a running mint.

    Exit status: 0 all of them are counted; 1 some are not.

    Args:
        file: The blinded messages B_ of your claims: one in hex at the beginning of each line, or a
            JSON list.
        export: What `radpool verify export` wrote; all of it is recomputed first.
        mint: The URL of a mint instead; it proves each claim by a path to a root it has signed.
        msp_key: With --mint: the MSP's key, 64 hex digits, or 66 as wallets show it.
        json_output: Print one JSON object instead of words.
    """
    if (export is None) == (mint is None):
        raise ConfigError("give either --export or --mint")
    wanted = _read(file)
    if export is not None:
        report = verify_export(export, find=wanted)
        search = _Search(dict(report.found))
        for blinded in wanted:
            if blinded not in report.found:
                search.missing[blinded] = "in no keyset of this export"
    else:
        assert mint is not None
        search = _ask(mint, _key(msp_key), wanted)
    if json_output:
        print(json.dumps(_fields(search)))
    else:
        print(_words(search))
    if search.missing:
        sys.exit(1)


def _read(file: Path) -> list[bytes]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LocalProtocolError(f"{file}: cannot be read: {error}") from error
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise LocalProtocolError(f"{file}: is no JSON list: {error}") from error
    else:
        lines = [line.split() for line in text.splitlines()]
        rows = [words[0] for words in lines if words and not words[0].startswith("#")]
    blinded = []
    for row in rows:
        try:
            blinded.append(octets(row, POINT_DIGITS // 2))
        except ValueError as error:
            raise LocalProtocolError(f"{file}: no blinded message: {error}") from error
        if not is_point(blinded[-1]):
            raise LocalProtocolError(f"{file}: {row} is no point, so no blinded message")
    if not blinded:
        raise LocalProtocolError(f"{file}: names no claims")
    return list(dict.fromkeys(blinded))


def _key(text: str | None) -> bytes:
    digits = (text or "").strip()
    if len(digits) == POINT_DIGITS and digits[:2] == "02":
        digits = digits[2:]
    try:
        return octets(digits, 32)
    except ValueError as error:
        raise ConfigError(
            "give --msp-key: without it anybody could have signed", key="--msp-key"
        ) from error


def _ask(url: str, msp_key: bytes, wanted: Sequence[bytes]) -> _Search:
    """Has a mint prove each claim.

    Raises:
        FaultyMSPError: A proof does not lead to the signed root.
        RadpoolError: The mint does not answer.
    """
    search = _Search()
    statements: dict[bytes, Statement] = {}
    try:
        with httpx.Client(base_url=url, timeout=HTTP_SECONDS_MAX) as http:
            for blinded in wanted:
                answer = http.post("/work/v1/inclusion", json={"B_": blinded.hex()})
                if answer.is_client_error:
                    search.missing[blinded] = _reason(answer)
                    continue
                proof = answer.raise_for_status().json()
                keyset = octets(proof["leaf"]["keyset"], 33)
                if keyset not in statements:
                    name = f"/work/v1/statements/{keyset.hex()}"
                    document = http.get(name).raise_for_status().content
                    statements[keyset] = read_statement(document, msp_key, name)
                search.found[blinded] = _proved(blinded, proof, statements[keyset])
    except httpx.HTTPError as error:
        raise RadpoolError(f"the mint at {url} does not answer: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RadpoolError(f"the mint at {url} answers with something else: {error!r}") from error
    return search


def _reason(answer: httpx.Response) -> str:
    told = answer.json()
    return f"{told.get('error', '')}: {told.get('detail', '')}"


def _proved(blinded: bytes, proof: Mapping[str, Any], statement: Statement) -> ClaimFound:
    """Follows a claim's path to the root that was signed."""
    leaf = proof["leaf"]
    share, units = block_hash(leaf["share"]), natural(leaf["work"])
    path = [(octets(node["hash"], 32), natural(node["work"])) for node in proof["path"]]
    sums = [units, *(work for _, work in path)]
    fits = len(path) <= PATH_NODES_MAX and sum(sums) == statement.work and units.bit_count() <= 1
    # Tokens that were given for residues stand behind the claims of shares.
    count = statement.claims + sum(statement.cash_outs.values())
    reached = None
    if fits and leaf["keyset"] == statement.keyset.hex() and leaf["count"] == count:
        start = claim_leaf(share, blinded, units)
        reached = path_root(start, natural(leaf["index"]), count, path)
    if reached != (statement.root, statement.work):
        raise FaultyMSPError(
            f"claim {blinded.hex()}: its path does not lead to the root that was signed for keyset "
            f"{statement.keyset.hex()}",
            statement.msp_key.hex(),
        )
    return ClaimFound(statement.keyset, share, units)


def _fields(search: _Search) -> dict[str, Any]:
    return {
        "found": [
            {
                "B_": blinded.hex(),
                "keyset": found.keyset.hex(),
                "share": found.share_hash[::-1].hex(),
                "work": found.units,
            }
            for blinded, found in search.found.items()
        ],
        "missing": [blinded.hex() for blinded in search.missing],
        "reasons": {blinded.hex(): reason for blinded, reason in search.missing.items()},
    }


def _words(search: _Search) -> str:
    def lines() -> Iterator[str]:
        total = len(search.found) + len(search.missing)
        units = sum(found.units for found in search.found.values())
        yield f"{len(search.found)} of {total} claims are counted, worth {units:,} units."
        keysets: dict[bytes, int] = {}
        for found in search.found.values():
            keysets[found.keyset] = keysets.get(found.keyset, 0) + found.units
        for keyset, own in sorted(keysets.items()):
            yield f"  keyset {keyset.hex()}  {own:>16,} units"
        for blinded, reason in search.missing.items():
            yield f"MISSING {blinded.hex()}: {reason}"

    return "\n".join(lines())
