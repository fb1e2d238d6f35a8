"""`radpool federation log | snapshot | evidence | sign`: what a member knows, for others to have.

All of them read the store of a member, which may run meanwhile.
"""

from __future__ import annotations

import json
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import trio
from cyclopts import Parameter
from rich.console import Console
from rich.progress import Progress

from radpool_sv2.cli.federation_keys import keys_in_words
from radpool_sv2.config import load
from radpool_sv2.config.federation import FederationConfig
from radpool_sv2.errors import ConfigError
from radpool_sv2.federation.installation import CONFIG_NAME, Convention
from radpool_sv2.federation.keys.table import KeptEvidence, Proof
from radpool_sv2.federation.operation import (
    FinishedPayout,
    descriptors,
    finished_payouts,
    keys_of,
    kind_of,
    reading,
    verify_evidence,
)
from radpool_sv2.federation.role import node_rpc, read_figures
from radpool_sv2.federation.snapshot_file import take_snapshot
from radpool_sv2.federation.state.accounting import Accounting
from radpool_sv2.federation.state.publication import Publication
from radpool_sv2.node.refusal import RpcRefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["evidence", "log", "sign", "snapshot"]

Directory = Annotated[Path, Parameter(name="--dir")]
Json = Annotated[bool, Parameter(name="--json", negative="")]

EVIDENCE_BYTES_MAX = 1 << 16
"""More than evidence of the largest committee has, in hex."""


def _member(directory: Path) -> tuple[FederationConfig, Convention]:
    settings = load(FederationConfig, directory / CONFIG_NAME)
    return settings, Convention.read(settings.member.committee_file)


def log(
    *,
    dir: Directory,  # noqa: A002 - the option's name
    out: Path,
    to: int | None = None,
    json_line: Json = False,
) -> None:
    """Writes the public log, or what has come since it was last written.

    Certified epochs only; the books behind each are computed again and compared with what a quorum
    has signed. `radpool verify federation` reads the directory.

    Args:
        dir: The directory of the member.
        out: Where the log is, or is to be.
        to: The last epoch to write; without it, all that are certified.
        json_line: Print one JSON object instead of words.
    """
    settings, convention = _member(dir)
    publication = Publication(out, convention.committee, convention.rules)
    end = None if to is None else to + 1
    quiet = Progress(console=Console(stderr=True), transient=True, disable=json_line)
    with reading(settings, convention) as store, quiet as progress:
        task = progress.add_task("epochs", total=None)
        added = publication.go_on(
            store,
            Accounting(convention.rules),
            end,
            lambda epoch: progress.update(task, completed=epoch),
        )
    if json_line:
        print(json.dumps({"epochs": publication.epochs, "added": added, "log": str(out)}))
    else:
        print(f"{publication.epochs} epochs in {out}, {added} of them new")


def snapshot(
    *,
    dir: Directory,  # noqa: A002 - the option's name
    out: Path,
) -> None:
    """Writes a snapshot, with which a newcomer begins, or a member that was away for long goes on.

    Whoever takes it need not trust this member: a quorum has signed it.

    Args:
        dir: The directory of the member.
        out: The file to write.
    """
    settings, convention = _member(dir)
    with reading(settings, convention) as store:
        taken = take_snapshot(store, Accounting(convention.rules))
    taken.write(out, convention.committee)
    print(
        f"{out}: behind epoch {taken.snapshot.start.decided - 1}, {len(taken.state)} bytes of books"
    )


def evidence(
    shown: str | None = None,
    *,
    dir: Annotated[Path | None, Parameter(name="--dir")] = None,  # noqa: A002 - the option's name
    committee: Path | None = None,
    json_line: Json = False,
) -> None:
    """Lists the evidence that a member has, or checks a piece of it.

    Exit status: 0 the piece convinces; 1 it does not.

    Args:
        shown: Evidence to check: a file, or its hex digits. Without it, all that a member has is
            listed.
        dir: The directory of the member.
        committee: The file of the committee, where there is no member.
        json_line: Print one JSON object instead of words.
    """
    if dir is None:
        if committee is None or shown is None:
            raise ConfigError(
                "give --dir to list what a member has, or a piece of evidence and --committee"
            )
        found = verify_evidence(_given(shown), Convention.read(committee).committee)
        return _tell_guilt(found, Convention.read(committee), json_line=json_line)
    settings, convention = _member(dir)
    with reading(settings, convention) as store:
        if shown is not None:
            known = keys_of(store, convention.committee)
            found = verify_evidence(_given(shown), convention.committee, known)
            return _tell_guilt(found, convention, json_line=json_line)
        kept = store.evidence()
        keys = keys_of(store, convention.committee)
    pieces = []
    for each in kept:
        what = each.what
        if each.kind is not Proof.GENERATION:
            _, what = verify_evidence(each.blob, convention.committee, keys)
        pieces.append((each, what))
    return _tell_pieces(pieces, convention, json_line=json_line)


def _given(shown: str) -> bytes:
    """Reads evidence: hex digits, or a file with some."""
    with suppress(ValueError):
        return bytes.fromhex(shown)
    file = Path(shown)
    try:
        with file.open("rb") as stream:
            text = stream.read(EVIDENCE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(
            f"is no hex digits and no file that can be read: {error.strerror}", value=shown[:64]
        ) from error
    if len(text) > EVIDENCE_BYTES_MAX:
        raise ConfigError("is too long for evidence", file=file)
    try:
        return bytes.fromhex(text.decode("ascii"))
    except ValueError as error:
        raise ConfigError("holds no hex digits", file=file) from error


def _tell_guilt(found: tuple[int, str], convention: Convention, *, json_line: bool) -> None:
    member, what = found
    identity = convention.committee.members[member].hex()
    if json_line:
        print(json.dumps({"proven": True, "member": member, "identity": identity, "what": what}))
    else:
        print(f"It is proven: member {member}, {identity}, {what}.")


def _tell_pieces(
    pieces: Sequence[tuple[KeptEvidence, str]], convention: Convention, *, json_line: bool
) -> None:
    members = convention.committee.members
    if json_line:
        fields = [
            {
                "member": each.member,
                "identity": members[each.member].hex(),
                "proof": each.kind.name.lower(),
                "what": what,
                "evidence": each.blob.hex(),
            }
            for each, what in pieces
        ]
        print(json.dumps({"evidence": fields}))
        return
    if not pieces:
        print("No member is proven to be at fault.")
    for each, what in pieces:
        print(f"member {each.member}, {members[each.member].hex()}, {what}")
        print(f"  proven by {kind_of(each.kind)}{': ' if each.blob else ''}{each.blob.hex()}")


def sign(
    *,
    dir: Directory,  # noqa: A002 - the option's name
    publish: bool = False,
    json_line: Json = False,
) -> None:
    """Shows what the federation signs: what waits, for whom, and which payouts are finished.

    Args:
        dir: The directory of the member.
        publish: Give finished payouts to the own bitcoin node; a running member does so by itself.
        json_line: Print one JSON object instead of words.
    """
    settings, convention = _member(dir)
    with reading(settings, convention) as store:
        payouts = finished_payouts(store, convention)
        found_by = descriptors(store, convention)
    try:
        keys = read_figures(settings.node.data_dir).get("keys", {})
    except ConfigError:
        # Without a member that runs nothing is being signed; what is signed is in the store.
        keys = {}
    sent = trio.run(_publish, settings, payouts) if publish else {}
    if json_line:
        shown = [_fields(each, sent) for each in payouts]
        print(json.dumps({"keys": keys, "descriptors": found_by, "payouts": shown}))
        return
    words = keys_in_words(keys)
    for line in words or ["No member runs here, or it has no keys: nothing is being signed."]:
        print(line)
    for each_descriptor in found_by:
        print(f"what blocks paid is found, and recovered if need be, by {each_descriptor}")
    if not payouts:
        print("No payout is finished.")
    for each in payouts:
        print(f"payout {each.txid[::-1].hex()} of block {each.block[::-1].hex()}, {each.sats} sats")
        print(f"  {each.transaction.hex()}")
        if each.txid in sent:
            print(f"  {sent[each.txid]}")


def _fields(payout: FinishedPayout, sent: dict[bytes, str]) -> dict[str, object]:
    return {
        "block": payout.block[::-1].hex(),
        "txid": payout.txid[::-1].hex(),
        "sats": payout.sats,
        "transaction": payout.transaction.hex(),
        "published": sent.get(payout.txid, ""),
    }


async def _publish(
    settings: FederationConfig, payouts: Sequence[FinishedPayout]
) -> dict[bytes, str]:
    """Gives payouts to the own node; returns what it said of each."""
    said = {}
    async with aclosing(node_rpc(settings.chain)) as rpc:
        for each in payouts:
            try:
                await rpc.call_for(str, "sendrawtransaction", each.transaction.hex())
            except RpcRefusedError as error:
                # One that is in a block already is refused too.
                said[each.txid] = f"refused by the own node: {error.reason}"
            else:
                said[each.txid] = "published"
    return said
