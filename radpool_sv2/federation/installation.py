"""Writes the directory of a new member, and the file of a committee.

A member's record is text that it gives to the others: who it is, how it is reached, signed. Whoever
puts the committee together makes one file of the records of all, which every member keeps.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from radpool_sv2._native.threshold import IdentityKey, TransportKey
from radpool_sv2.config import Endpoint, render
from radpool_sv2.config.federation import FederationConfig
from radpool_sv2.durable import write_whole
from radpool_sv2.errors import ConfigError, LocalProtocolError, RemoteProtocolError
from radpool_sv2.federation.committee import Committee
from radpool_sv2.federation.identity import Bip340Verifier, MemberRecord
from radpool_sv2.federation.state.rules import PayoutMode, Rules
from radpool_sv2.keyfile import read_text, write_text
from radpool_sv2.weight import Scale, WeightMode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = [
    "CONFIG_NAME",
    "RECORD_NAME",
    "Convention",
    "Membership",
    "install_member",
    "read_record",
]

CONFIG_NAME: Final = "federation.toml"
RECORD_NAME: Final = "member.txt"
FILE_BYTES_MAX: Final = 1 << 20

NUMBERS: Final = (
    "maturity",
    "fee_sats_per_vb",
    "window",
    "grace",
    "lateness",
    "shares_target",
    "exponent_floor",
    "bytes_base",
    "bytes_shared",
)
"""The fields of rules that are one number."""


@dataclass(frozen=True, slots=True)
class Membership:
    """Tells what was made.

    Attributes:
        directory: Where it is.
        record: The member's record, for whoever invites.
        identity: The identity key.
    """

    directory: Path
    record: Path
    identity: bytes


def install_member(
    directory: Path,
    addresses: Sequence[str],
    settings: Mapping[str, object] | None = None,
    msp_key: Path | None = None,
) -> Membership:
    """Makes the keys, the configuration and the record of a member.

    The member that counts the shares of an MSP has the MSP's key: what it says and what it has
    sealed are one's word.

    Args:
        directory: Where to write; made if it is not there.
        addresses: HOST:PORT where other members reach it; none behind a NAT.
        settings: Values that replace defaults of the configuration, by dotted key.
        msp_key: The file with the key of an MSP, to be the member's; without it one is made.

    Raises:
        ConfigError: There is one already, an address is none, or nothing can be written there.
    """
    config = directory / CONFIG_NAME
    if config.exists():
        raise ConfigError(
            "there is a member already; its keys are not overwritten. Give another --dir",
            file=config,
        )
    for address in addresses:
        try:
            Endpoint.parse(address)
        except ValueError as error:
            raise ConfigError(f"is no address of a member: {error}", value=address) from error
    keys = directory / "keys"
    try:
        keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the directory: {error.strerror}", file=keys) from error
    given = dict(settings or {})
    if msp_key is None:
        identity = IdentityKey.generate()
    else:
        identity = _msp_identity(msp_key)
        given["member.identity_key_file"] = str(msp_key.absolute())
    transport = TransportKey.generate()
    try:
        record = MemberRecord.sign(identity, transport.public, tuple(addresses), 1)
    except LocalProtocolError as error:
        raise ConfigError(str(error)) from error
    if msp_key is None:
        write_text(keys / "identity.key", identity.expose_secret().hex(), secret=True)
    write_text(keys / "transport.key", transport.expose_secret().hex(), secret=True)
    write_text(directory / RECORD_NAME, record.encode().hex(), secret=False)
    # Last: whoever sees the configuration may rely on everything that it names.
    write_text(config, render(FederationConfig, given), secret=False)
    return Membership(directory, directory / RECORD_NAME, identity.public)


def _msp_identity(file: Path) -> IdentityKey:
    text = read_text(file, "the MSP's key", secret=True)
    try:
        return IdentityKey.from_secret(bytes.fromhex(text))
    except (ValueError, ConfigError) as error:
        raise ConfigError("is not an MSP key: 64 hex digits expected", file=file) from error


def read_record(file: Path) -> MemberRecord:
    """Reads a member's record and checks that the member signed it.

    Raises:
        ConfigError: The file holds no record, or not one that its member signed.
    """
    return _record(read_text(file, "the member's record", secret=False), file)


def _record(text: str, file: Path) -> MemberRecord:
    try:
        record = MemberRecord.decode(bytes.fromhex(text))
        record.verify(Bip340Verifier())
    except (ValueError, RemoteProtocolError) as error:
        raise ConfigError(f"holds no record of a member: {error}", file=file) from error
    return record


@dataclass(frozen=True, slots=True)
class Convention:
    """Is a committee with the records of its members, in their order, and the rules it counts by.

    Attributes:
        committee: The committee.
        records: One of each member.
        rules: What it has agreed on.
    """

    committee: Committee
    records: tuple[MemberRecord, ...]
    rules: Rules

    @classmethod
    def of(  # noqa: PLR0913 - what a committee is, and what it agrees on
        cls,
        records: Sequence[MemberRecord],
        *,
        chain: bytes,
        height_first: int,
        interval: int = 1,
        term: int = 0,
        agreed: Mapping[str, Any] | None = None,
    ) -> Convention:
        """Puts a committee together.

        Args:
            records: Of its members, in any order.
            chain: Hash of the chain's first block, internal byte order.
            height_first: The height at which the first epoch ends.
            interval: Blocks of an epoch.
            term: The committee's number.
            agreed: Fields of the rules that replace defaults; those that the committee gives are
                not among them.

        Raises:
            ConfigError: These make no committee.
        """
        ordered = tuple(sorted(records, key=lambda record: record.identity))
        try:
            members = tuple(record.identity for record in ordered)
            committee = Committee(chain, term, members, height_first, interval)
        except LocalProtocolError as error:
            raise ConfigError(f"these make no committee: {error}") from error
        try:
            rules = Rules(
                msp_keys=members,
                faulty_max=committee.faulty_max,
                height_first=height_first,
                interval=interval,
                **(agreed or {}),
            )
        except (LocalProtocolError, TypeError) as error:
            raise ConfigError(f"these are no rules: {error}") from error
        return cls(committee, ordered, rules)

    @classmethod
    def read(cls, file: Path) -> Convention:
        """Reads the file of a committee.

        Raises:
            ConfigError: It is none.
        """
        try:
            with file.open("rb") as stream:
                raw = stream.read(FILE_BYTES_MAX)
        except OSError as error:
            raise ConfigError(
                f"cannot read the committee: {error.strerror}. `radpool federation invite` makes "
                "it, and `join --committee` takes it from whoever did",
                file=file,
            ) from error
        try:
            fields: dict[str, Any] = json.loads(raw)
            records = [_record(text, file) for text in fields["members"]]
            chain = bytes.fromhex(fields["chain"])[::-1]
            numbers = [int(fields[name]) for name in ("height_first", "interval", "term")]
            agreed = _agreed(fields["rules"])
        # An edited file may have a number or a list for a word, or far too many brackets.
        except (ArithmeticError, AttributeError, LookupError, RecursionError) as error:
            raise ConfigError(f"holds no committee: {error!r}", file=file) from error
        except (ValueError, TypeError) as error:
            raise ConfigError(f"holds no committee: {error}", file=file) from error
        height_first, interval, term = numbers
        try:
            return cls.of(
                records,
                chain=chain,
                height_first=height_first,
                interval=interval,
                term=term,
                agreed=agreed,
            )
        except ConfigError as error:
            raise ConfigError(str(error), file=file) from error

    def is_as(self, other: Convention) -> bool:
        """Says whether members of the two come to the same; addresses may have changed."""
        return (self.committee, self.rules) == (other.committee, other.rules)

    def write(self, file: Path) -> None:
        """Writes the file of the committee.

        Raises:
            ConfigError: Another committee is there, or it cannot be written.
        """
        if file.exists() and not Convention.read(file).is_as(self):
            raise ConfigError(
                "another committee or other rules are there and are not overwritten", file=file
            )
        committee = self.committee
        fields = {
            "chain": committee.chain[::-1].hex(),
            "term": committee.term,
            "height_first": committee.height_first,
            "interval": committee.interval,
            "rules": _shown(self.rules),
            "members": [record.encode().hex() for record in self.records],
        }
        draft = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            write_whole(file, (json.dumps(fields, indent=1) + "\n").encode(), draft=draft)
        except OSError as error:
            raise ConfigError(f"cannot write: {error.strerror}", file=file) from error


def _shown(rules: Rules) -> dict[str, Any]:
    """Writes rules for people, but for what the committee gives."""
    return {
        "payout": rules.payout.name.lower(),
        "mode": rules.mode.name.lower(),
        "scale": asdict(rules.scale),
        "recovery_blocks": list(rules.recovery_blocks),
        **{name: getattr(rules, name) for name in NUMBERS},
    }


def _agreed(shown: dict[str, Any]) -> dict[str, Any]:
    """Reads what `_shown` has written; raises `KeyError`, `TypeError` and `ValueError`."""
    known = {"payout", "mode", "scale", "recovery_blocks", *NUMBERS}
    if set(shown) != known:
        raise ValueError(f"rules have other fields: {sorted(set(shown) ^ known)}")
    lower, upper = map(int, shown["recovery_blocks"])
    return {
        "payout": PayoutMode[shown["payout"].upper()],
        "mode": WeightMode[shown["mode"].upper()],
        "scale": Scale(**{name: int(number) for name, number in shown["scale"].items()}),
        "recovery_blocks": (lower, upper),
        **{name: int(shown[name]) for name in NUMBERS},
    }
