"""Makes owners, coinbases and templates that tests declare."""

import hashlib
import struct

from radpool_sv2.templates.coinbase import CoinbaseParts, height_push, root_of
from radpool_sv2.templates.declared import DeclaredJob, Owner, TipView

POOL_SCRIPT = b"\x00\x14" + b"\x11" * 20
TAG_SCRIPT = b"\x6a\x26RADP\x10\x08" + b"\x22" * 32
COMMITMENT = b"\x6a\x24\xaa\x21\xa9\xed" + b"\x07" * 32
EASY = b"\xff" * 32
NBITS = 0x207FFFFF


def named(name, length=32):
    """Bytes that look random and can be made again."""
    return hashlib.sha256(name.encode()).digest()[:length]


def owner(name="alice", rail=0, account=None):
    number = account if account is not None else sum(name.encode()) * 4 + rail
    return Owner(number, name, named(name), rail)


def tip(height=101, prev_hash=None, target=EASY):
    return TipView(height, prev_hash or named(f"tip {height}"), 1_700_000_000, NBITS, target)


def output(value, script):
    return struct.pack("<Q", value) + bytes([len(script)]) + script


def halves(
    *,
    height=101,
    outputs=None,
    extranonce_len=12,
    witness=True,
    sequence=0xFFFFFFFE,
    locktime=100,
    version=2,
    text=b"/miner/",
    push=None,
):
    """Returns prefix and suffix of a coinbase as DeclareMiningJob has them."""
    if outputs is None:
        outputs = [output(5_000_000_000, POOL_SCRIPT), output(0, TAG_SCRIPT), output(0, COMMITMENT)]
    script = (height_push(height) if push is None else push) + text
    prefix = struct.pack("<I", version) + (b"\x00\x01" if witness else b"")
    prefix += b"\x01" + bytes(32) + b"\xff" * 4
    prefix += bytes([len(script) + extranonce_len]) + script
    suffix = struct.pack("<I", sequence) + bytes([len(outputs)]) + b"".join(outputs)
    suffix += (b"\x01\x20" + bytes(32) if witness else b"") + struct.pack("<I", locktime)
    return prefix, suffix


def parts(**changes):
    return CoinbaseParts.declared(*halves(**changes))


class Template:
    """Stands for a native declaration."""

    def __init__(self, path=()):
        self.merkle_path = path
        self.blocks = []

    def block_of(self, header, coinbase_tx):
        block = header + b"\x01" + coinbase_tx
        self.blocks.append(block)
        return block


def job(of=None, *, on=None, connection=1, path=(), coinbase=None, version=0x20000000):
    return DeclaredJob(
        owner=of or owner(),
        connection=connection,
        tip=on or tip(),
        version=version,
        coinbase=coinbase or parts(),
        merkle_path=tuple(path),
        template=Template(tuple(path)),
    )


def solve(declared, *, extranonce=None, nonce=0, good=True, version=None, ntime=1_700_000_100):
    """Returns the numbers of a header that meets a job's target, or just does not."""
    extranonce = bytes(declared.coinbase.extranonce_len) if extranonce is None else extranonce
    coinbase = declared.coinbase.transaction(extranonce, witness=False)
    root = root_of(coinbase, declared.merkle_path)
    version = declared.version if version is None else version
    limit = int.from_bytes(declared.tip.target, "little")
    while True:
        header = struct.pack("<I", version) + declared.tip.prev_hash + root
        header += struct.pack("<III", ntime, declared.tip.nbits, nonce)
        found = hashlib.sha256(hashlib.sha256(header).digest()).digest()
        if (int.from_bytes(found, "little") <= limit) == good:
            return {
                "extranonce": extranonce,
                "prev_hash": declared.tip.prev_hash,
                "nonce": nonce,
                "ntime": ntime,
                "nbits": declared.tip.nbits,
                "version": version,
            }
        nonce += 1
