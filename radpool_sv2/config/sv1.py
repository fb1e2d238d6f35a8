"""Describes the section `sv1` of `msp.toml`: devices that speak Stratum V1."""
# ruff: noqa: RUF009 - the functions return dataclass fields, which the rule cannot see.

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the reader resolves the annotations at run time

from radpool_sv2.config.setting import choice, flag, integer, path


@dataclass(frozen=True, kw_only=True, slots=True)
class Sv1Section:
    """Devices that speak Stratum V1 instead of V2, by the package radpool-sv2-translator.

    What limits says of connections and handshakes holds for them, too. Each has a channel of its
    own with this pool.
    """

    on_same_port: bool = flag(
        False,
        about="Whether such devices are served at mining.listen. Which version a miner speaks is "
        "known by its first bytes, so nobody can pick the wrong port.",
        why="Stratum V1 is neither encrypted nor signed: whoever sits on the line can take a "
        "device's work. Better is `radpool translator` beside the devices.",
    )
    ecash: bool = flag(
        False,
        about="Whether what all these devices earn is ecash in the wallet of wallet_dir, which is "
        "yours, instead of a share for the account that each of them names.",
        why="The devices of others are to be paid themselves.",
    )
    wallet_dir: Path = path(
        "sv1-wallet",
        about="Directory of that wallet; `radpool wallet create` makes it.",
        why="Beside this file.",
    )
    wallet_policy: str = choice(
        "any",
        ("any", "network", "pool", "window", "fixed"),
        about="How its tokens are to be paid; any leaves it to ecash.policies.",
        why="The pool has a policy that it prefers.",
    )
    exponent_min: int = integer(
        0,
        0,
        120,
        unit="zero bits",
        about="The easiest difficulty that a device is given: 2^(this - 32). What does not meet "
        "mining.exponent_min is filtered by the translator.",
        why="A device that is too slow for the pool sees its shares taken all the same.",
    )
    nominal_hash_rate_mh: int = integer(
        500_000,
        1,
        10**12,
        unit="MH/s",
        about="What is assumed of a device that does not ask for a difficulty.",
        why="Half a TH/s, as the smallest devices have: a faster one gets its difficulty within "
        "seconds, a slower one would wait for its first share.",
    )
