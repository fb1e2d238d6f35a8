"""Names the bitcoin networks and turns their addresses into output scripts and back.

Source: BIP 173, BIP 350, base58check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from radpool_sv2.consensus import HALVING_BLOCKS
from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.units import sha256d

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "MAIN",
    "NETWORKS",
    "REGTEST",
    "SIGNET",
    "TESTNET4",
    "Network",
    "address_from_script",
    "script_from_address",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """Is one of bitcoin's networks.

    Args:
        name: What nodes call it (`chain` in `getblockchaininfo`) and what configurations do.
        hrp: The human-readable part of its bech32 addresses.
        p2pkh_version: The first byte of an address that pays a key's hash.
        p2sh_version: The first byte of an address that pays a script's hash.
        prefixes: How its addresses begin, in words.
        is_real: Whether its blocks cost work. On regtest everybody finds one at once.
        first_block: The hash of its first block, as people read it. Signets of other signers have
            the same.
        halving_blocks: After how many blocks its subsidy halves.
    """

    name: str
    hrp: str
    p2pkh_version: int
    p2sh_version: int
    prefixes: str
    is_real: bool
    first_block: str
    halving_blocks: int = HALVING_BLOCKS


MAIN: Final = Network(
    name="main",
    hrp="bc",
    p2pkh_version=0x00,
    p2sh_version=0x05,
    prefixes="bc1…, 1… or 3…",
    is_real=True,
    first_block="000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
)
TESTNET4: Final = Network(
    name="testnet4",
    hrp="tb",
    p2pkh_version=0x6F,
    p2sh_version=0xC4,
    prefixes="tb1…, m…, n… or 2…",
    is_real=True,
    first_block="00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043",
)
SIGNET: Final = Network(
    name="signet",
    hrp="tb",
    p2pkh_version=0x6F,
    p2sh_version=0xC4,
    prefixes="tb1…, m…, n… or 2…",
    is_real=True,
    first_block="00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6",
)
REGTEST: Final = Network(
    name="regtest",
    hrp="bcrt",
    p2pkh_version=0x6F,
    p2sh_version=0xC4,
    prefixes="bcrt1…, m…, n… or 2…",
    is_real=False,
    first_block="0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206",
    halving_blocks=150,
)

NETWORKS: Final = {each.name: each for each in (MAIN, TESTNET4, SIGNET, REGTEST)}

_BASE32: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_GENERATORS: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
# Checksum constants: bech32 is for witness version 0, bech32m for all later ones.
_BECH32: Final = 1
_BECH32M: Final = 0x2BC830A3
_BECH32_LENGTH_MAX: Final = 90
_BASE58_LENGTHS: Final = (26, 36)


def address_from_script(script: bytes, network: Network) -> str | None:
    """Returns the address of a witness program's script, or None for other scripts."""
    if not 4 <= len(script) <= 42 or script[1] != len(script) - 2:
        return None
    if script[0] != 0 and not 0x51 <= script[0] <= 0x60:
        return None
    version = script[0] - 0x50 if script[0] else 0
    data = [version, *_regroup(script[2:], 8, 5, pad=True)]
    constant = _BECH32M if version else _BECH32
    checksum = _polymod([*_expanded(network.hrp), *data, *[0] * 6]) ^ constant
    data += [checksum >> 5 * (5 - i) & 31 for i in range(6)]
    return f"{network.hrp}1" + "".join(_BASE32[value] for value in data)


def script_from_address(address: str, network: Network) -> bytes:
    """Returns the output script that pays an address.

    Raises:
        LocalProtocolError: It is not an address of this network; the message says why.
    """
    if address.lower().startswith(network.hrp + "1"):
        return _witness_script(address, network)
    if address.lower().startswith(tuple(f"{other.hrp}1" for other in NETWORKS.values())):
        raise _foreign(address, network)
    return _base58_script(address, network)


def _foreign(address: str, network: Network) -> LocalProtocolError:
    return LocalProtocolError(
        f"{address} belongs to another network; addresses of {network.name} begin with "
        f"{network.prefixes}"
    )


def _polymod(values: Iterable[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATORS):
            if top >> bit & 1:
                checksum ^= generator
    return checksum


def _expanded(hrp: str) -> list[int]:
    return [ord(c) >> 5 for c in hrp] + [0] + [ord(c) & 31 for c in hrp]


def _regroup(data: Iterable[int], from_bits: int, to_bits: int, *, pad: bool) -> list[int]:
    accumulator = bits = 0
    groups: list[int] = []
    for value in data:
        accumulator = accumulator << from_bits | value
        bits += from_bits
        while bits >= to_bits:
            bits -= to_bits
            groups.append(accumulator >> bits & (1 << to_bits) - 1)
        accumulator &= (1 << bits) - 1
    if pad and bits:
        groups.append(accumulator << to_bits - bits & (1 << to_bits) - 1)
    elif not pad and (bits >= from_bits or accumulator):
        raise LocalProtocolError("the address has padding bits that are not zero")
    return groups


def _witness_script(address: str, network: Network) -> bytes:
    if address not in (address.lower(), address.upper()):
        raise LocalProtocolError(f"{address} mixes upper and lower case")
    text = address.lower()[len(network.hrp) + 1 :]
    if len(address) > _BECH32_LENGTH_MAX or any(c not in _BASE32 for c in text):
        raise LocalProtocolError(
            f"{address[:_BECH32_LENGTH_MAX]} is too long or has a character that is not bech32"
        )
    data = [_BASE32.index(c) for c in text]
    if len(data) < 8:
        raise LocalProtocolError(f"{address} is too short")
    version = data[0]
    if _polymod([*_expanded(network.hrp), *data]) != (_BECH32M if version else _BECH32):
        raise LocalProtocolError(f"the checksum of {address} is wrong: a mistyped character?")
    program = bytes(_regroup(data[1:-6], 5, 8, pad=False))
    lengths = range(2, 41) if version else (20, 32)
    if version > 16 or len(program) not in lengths:
        raise LocalProtocolError(f"{address} has no valid witness program")
    return bytes([0x50 + version if version else 0, len(program)]) + program


def _base58_script(address: str, network: Network) -> bytes:
    digits = [_BASE58.find(character) for character in address]
    if not _BASE58_LENGTHS[0] <= len(digits) <= _BASE58_LENGTHS[1] or min(digits) < 0:
        raise LocalProtocolError(
            f"{address[:_BECH32_LENGTH_MAX]!r} is not an address of {network.name}: these begin "
            f"with {network.prefixes}"
        )
    zeros = len(address) - len(address.lstrip("1"))
    number = 0
    for digit in digits:
        number = number * 58 + digit
    if number >= 1 << 200:
        raise LocalProtocolError(f"{address} is too long for an address")
    data = number.to_bytes(25, "big")
    # Each leading zero byte is one leading "1" and nothing else: an address has one spelling.
    if zeros != len(data) - len(data.lstrip(b"\0")) or sha256d(data[:21])[:4] != data[21:]:
        raise LocalProtocolError(f"the checksum of {address} is wrong: a mistyped character?")
    payload = data[1:21]
    if data[0] == network.p2pkh_version:
        return b"\x76\xa9\x14" + payload + b"\x88\xac"
    if data[0] == network.p2sh_version:
        return b"\xa9\x14" + payload + b"\x87"
    raise _foreign(address, network)
