"""Does for an operator what concerns a member's store beside the member that may run on it.

Nothing here writes to a store that is in use: it is read, or taken for oneself before.

Source: `spec/13-broadcast.md`, "Evidence"; `spec/14-epoch-agreement.md`, "Checkpoints";
`spec/16-threshold-keys.md`, "Signed shares".
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, assert_never

from radpool_sv2._native.threshold import TREASURY
from radpool_sv2.errors import ConfigError, RemoteProtocolError
from radpool_sv2.federation.codec import CodecError
from radpool_sv2.federation.evidence import Evidence
from radpool_sv2.federation.identity import Bip340Verifier
from radpool_sv2.federation.keys import table
from radpool_sv2.federation.keys.table import KeptKey, Proof
from radpool_sv2.federation.role import STORE_NAME, identity_of
from radpool_sv2.federation.signing.evidence import ShareEvidence
from radpool_sv2.federation.snapshot_file import SnapshotFile
from radpool_sv2.federation.state.accounting import Accounting
from radpool_sv2.federation.state.ledger import output_of_key
from radpool_sv2.federation.state.rules import PayoutMode
from radpool_sv2.federation.state.spends import payout_of
from radpool_sv2.federation.statement import Echo, Header, Phase, Proposal, StateRoot, Vote
from radpool_sv2.federation.store import FederationStore
from radpool_sv2.residence import reside

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from radpool_sv2._native.threshold import PublicKey
    from radpool_sv2.config.federation import FederationConfig
    from radpool_sv2.federation.committee import Committee
    from radpool_sv2.federation.installation import Convention
    from radpool_sv2.federation.statement import Statement

__all__ = [
    "FinishedPayout",
    "begin_from",
    "descriptors",
    "finished_payouts",
    "guilt",
    "keys_of",
    "kind_of",
    "reading",
    "verify_evidence",
]


@contextmanager
def reading(settings: FederationConfig, convention: Convention) -> Iterator[FederationStore]:
    """Opens a member's store for reading, as long as the context lasts.

    Raises:
        StoreError: It is not there, damaged, or another committee's.
    """
    store = FederationStore(settings.node.data_dir / STORE_NAME, convention.committee, None)
    try:
        yield store
    finally:
        store.close()


def begin_from(settings: FederationConfig, convention: Convention, file: Path) -> int:
    """Lets a member that does not run go on from a snapshot: a new one, or one far behind it.

    Returns:
        The epoch that is next.

    Raises:
        ConfigError: The file is none that a quorum has signed, or the member runs.
        StoreError: The member's store has as many epochs already, or cannot be written.
    """
    committee = convention.committee
    taken = SnapshotFile.read(file, committee, Bip340Verifier(), Accounting(convention.rules))
    member = identity_of(settings).public
    with reside(settings.node.data_dir):
        store = FederationStore(settings.node.data_dir / STORE_NAME, committee, member)
        try:
            start = taken.snapshot.start
            store.adopt(start, taken.state, taken.snapshot.checkpoint)
        finally:
            store.close()
    return start.decided


# Evidence.


def keys_of(store: FederationStore, committee: Committee) -> tuple[PublicKey, ...]:
    """Returns the keys that a member knows to be certified."""
    ended = store.read(partial(table.generations, committee=committee))
    return tuple(each.public for each in ended if isinstance(each, KeptKey))


def verify_evidence(
    data: bytes, committee: Committee, keys: tuple[PublicKey, ...] = ()
) -> tuple[int, str]:
    """Checks evidence, by nothing but itself, the committee and keys that one knows.

    Returns:
        Who is guilty, and of what, in words.

    Raises:
        ConfigError: It is no evidence, does not convince, or needs a key that is not given.
    """
    verifier = Bip340Verifier()
    try:
        evidence = Evidence.decode(data)
    except CodecError:
        return _verify_share(data, committee, keys)
    try:
        evidence.verify(committee, verifier)
    except RemoteProtocolError as error:
        raise ConfigError(f"the evidence does not convince: {error}") from error
    return evidence.offender, guilt(evidence.first)


def _verify_share(
    data: bytes, committee: Committee, keys: tuple[PublicKey, ...]
) -> tuple[int, str]:
    try:
        evidence = ShareEvidence.decode(data)
    except CodecError as error:
        raise ConfigError(f"is no evidence: {error}") from error
    key = next((each for each in keys if each.transcript == evidence.transcript), None)
    if key is None:
        raise ConfigError(
            f"is about key {evidence.transcript.hex()}: whoever has that key can check it. Give "
            "--dir of a member that has it"
        )
    try:
        evidence.verify(key, Bip340Verifier())
    except RemoteProtocolError as error:
        raise ConfigError(f"the evidence does not convince: {error}") from error
    identity = key.run.members[evidence.offender]
    if identity not in committee.members:
        raise ConfigError("is about a key of another committee")
    what = f"signed a share of a signature of {evidence.message.hex()} that does not hold"
    return committee.number_of(identity), what


def guilt(statement: Statement) -> str:
    """Says in words what it means to have signed another statement of the same slot."""
    match statement:
        case Header():
            return f"has written two different entries {statement.seq} into its stream"
        case Echo():
            return (
                f"has echoed two different entries {statement.seq} of member {statement.sender}: "
                "it helped to tell members different things, or ran twice"
            )
        case Proposal():
            return (
                f"has proposed two different cuts in view {statement.view} of epoch "
                f"{statement.epoch}"
            )
        case Vote():
            how = "for two cuts" if statement.phase is Phase.NOTARISE else "to skip and to finalise"
            return f"has voted {how} in view {statement.view} of epoch {statement.epoch}"
        case StateRoot():
            return f"has signed two different states behind epoch {statement.epoch}"
        case _:
            assert_never(statement)


def kind_of(proof: Proof) -> str:
    """Names what evidence is made of."""
    return {
        Proof.STATEMENTS: "two signed statements",
        Proof.SHARE: "a signed share",
        Proof.GENERATION: "the streams, by the public log",
    }[proof]


# Payouts.


@dataclass(frozen=True, slots=True)
class FinishedPayout:
    """Is a payout with its signature.

    Attributes:
        block: The block that is paid out, internal byte order.
        txid: Its id, internal byte order.
        sats: What the block had paid.
        transaction: The whole of it.
    """

    block: bytes
    txid: bytes
    sats: int
    transaction: bytes


def descriptors(store: FederationStore, convention: Convention) -> list[str]:
    """Returns what a wallet finds what blocks have paid the federation by, and recovers it.

    That of each treasury key that the last books know; the current one first.

    Raises:
        StoreError: The store cannot be read.
    """
    latest = store.latest()
    if latest is None:
        return []
    ledger = Accounting(convention.rules).ledger(latest[1])
    known = ledger.keys.get(TREASURY)
    keys = [] if known is None else [known.key]
    keys += [former.key for former in ledger.former]
    keys += [block.key for _, block in sorted(ledger.blocks.items())]
    if convention.rules.payout is PayoutMode.DIRECT:
        return []
    return [output_of_key(convention.rules, key).descriptor for key in dict.fromkeys(keys)]


def finished_payouts(store: FederationStore, convention: Convention) -> list[FinishedPayout]:
    """Returns the payouts that are signed, of the blocks that the last books have.

    Raises:
        StoreError: The store cannot be read.
    """
    latest = store.latest()
    if latest is None:
        return []
    signed: dict[bytes, bytes] = {}
    for key in keys_of(store, convention.committee):
        if key.run.purpose == TREASURY:
            done = store.read(partial(table.signatures, transcript=key.transcript))
            signed |= {task.message: signature for task, signature in done}
    ledger = Accounting(convention.rules).ledger(latest[1])
    finished = []
    for name, block in sorted(ledger.blocks.items(), key=lambda each: each[1].height):
        payout = payout_of(convention.rules, name, block)
        if payout is not None and payout.sighash in signed:
            raw = payout.signed(signed[payout.sighash])
            finished.append(FinishedPayout(name, payout.txid, block.value, raw))
    return finished
