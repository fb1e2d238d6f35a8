"""Templates as a declarer might make them, good at first, for tests that spoil them.

A `Workshop` has one chain in two engines that share no code of ours: the embedded chain and, when
it is given one, a real bitcoind that was fed the same blocks. A `Draft` is a template whose every
part a test may change; what depends on it (merkle root, commitment) follows unless it is set.
"""

import hashlib
import select
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path

from chain_rig import open_node

from radpool_sv2._native.template import Declaration, Selection, TransactionCache
from radpool_sv2.chain.block import COMMITMENT_PREFIX, Block
from radpool_sv2.chain.judgement import Judgement
from radpool_sv2.chain.kernel import Status
from radpool_sv2.chain.transaction import Transaction, TxInput, TxOutput, compact_size
from radpool_sv2.consensus import merkle_root, push_height, subsidy_sats
from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.network import REGTEST

NBITS = 0x207FFFFF
ANYONE = b"\x51"
"""OP_TRUE: spendable without a signature."""
WITNESS_SCRIPT = b"\x51"
WITNESS_ANYONE = b"\x00\x20" + hashlib.sha256(WITNESS_SCRIPT).digest()
"""P2WSH of OP_TRUE."""
FUTURE = b"\x52\x02ra"
"""A witness program of version 2, which any witness of any size may spend."""
OWNER_TAG = b"\x6a\x26RADP" + bytes(34)
NULL_POINT = (bytes(32), 0xFFFFFFFF)
FINAL = 0xFFFFFFFF
COINS = 12
WAIT_SECONDS = 60


def sha256d(data):
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


@dataclass(frozen=True)
class Coin:
    """An output that a draft may spend."""

    point: tuple[bytes, int]
    sats: int
    script: bytes = ANYONE

    @property
    def witness(self):
        return (WITNESS_SCRIPT,) if self.script == WITNESS_ANYONE else ()


def spend(coins, outputs, *, sequence=FINAL, locktime=0, version=2, script=b"", witness=None):
    """A transaction of coins and `(sats, script)` outputs, rightly signed unless told otherwise."""
    inputs = tuple(
        TxInput(each.point, script, sequence, each.witness if witness is None else witness)
        for each in coins
    )
    return Transaction(version, inputs, tuple(TxOutput(*each) for each in outputs), locktime)


def coin_of(transaction, index):
    """The output of a transaction as a coin."""
    output = transaction.outputs[index]
    return Coin((transaction.txid, index), output.value_sats, output.script)


@dataclass(frozen=True)
class CoinbaseDraft:
    """A coinbase; `outputs` are without the commitment, which comes last.

    `script` is what stands before the extranonce. `commitment` is the output's script: None for the
    right one, empty for none at all.
    """

    script: bytes
    outputs: tuple[tuple[int, bytes], ...]
    extranonce_len: int = 16
    version: int = 2
    sequence: int = 0xFFFFFFFE
    locktime: int = 0
    point: tuple[bytes, int] = NULL_POINT
    more_inputs: tuple[TxInput, ...] = ()
    witness: tuple[bytes, ...] = (bytes(32),)
    commitment: bytes | None = None


@dataclass(frozen=True)
class Draft:
    """A template; `raws` are its transactions as bytes, which need not be any."""

    previous: bytes
    height: int
    ntime: int
    median_time: int
    coinbase: CoinbaseDraft
    transactions: tuple[Transaction, ...]
    version: int = 0x20000000
    nbits: int = NBITS
    root: bytes | None = None
    raws: tuple[bytes, ...] | None = None

    def with_coinbase(self, **changes):
        return replace(self, coinbase=replace(self.coinbase, **changes))

    def adding(self, *transactions):
        return replace(self, transactions=(*self.transactions, *transactions))

    @property
    def commitment(self):
        if self.coinbase.commitment is not None:
            return self.coinbase.commitment
        root = merkle_root([bytes(32), *(each.wtxid for each in self.transactions)])
        reserved = self.coinbase.witness[0] if self.coinbase.witness else bytes(32)
        return COMMITMENT_PREFIX + sha256d(root + reserved)

    @property
    def coinbase_tx(self):
        draft = self.coinbase
        script = draft.script + bytes(draft.extranonce_len)
        outputs = [TxOutput(*each) for each in draft.outputs]
        if self.commitment:
            outputs.append(TxOutput(0, self.commitment))
        first = TxInput(draft.point, script, draft.sequence, draft.witness)
        inputs = (first, *draft.more_inputs)
        return Transaction(draft.version, inputs, tuple(outputs), draft.locktime)

    @property
    def parts(self):
        """The coinbase before and behind its extranonce, with its witness if it has one."""
        raw, draft = self.coinbase_tx.raw, self.coinbase
        length = len(draft.script) + draft.extranonce_len
        start = (7 if draft.witness else 5) + 36 + len(compact_size(length)) + len(draft.script)
        return raw[:start], raw[start + draft.extranonce_len :]

    @property
    def transactions_raw(self):
        return self.raws or tuple(each.raw for each in self.transactions)

    def block(self):
        """The whole block with a nonce and an extranonce of zeros."""
        return self._block(self.coinbase_tx)

    def block_with(self, coinbase_raw):
        """The block with another coinbase, to which the header commits; None if it is none."""
        try:
            return self._block(Transaction.from_bytes(coinbase_raw))
        except LocalProtocolError:
            return None

    def _block(self, coinbase):
        ids = [coinbase.txid, *(each.txid for each in self.transactions)]
        root = merkle_root(ids) if self.root is None else self.root
        header = struct.pack("<I", self.version) + self.previous + root
        header += struct.pack("<III", self.ntime, self.nbits, 0)
        count = compact_size(1 + len(self.transactions_raw))
        return b"".join((header, count, coinbase.raw, *self.transactions_raw))

    def declare(self, cache=None):
        """The native declaration; raises RemoteProtocolError where the declarer would be told."""
        wtxids = b"".join(sha256d(each) for each in self.transactions_raw)
        selection = Selection(cache or TransactionCache(100_000_000), wtxids)
        distinct = list(dict.fromkeys(self.transactions_raw))
        if selection.missing:
            selection.offer(distinct)
        prefix, suffix = self.parts
        return Declaration.build(
            selection,
            version=self.version,
            prev_hash=self.previous,
            nbits=self.nbits,
            height=self.height,
            coinbase_prefix=prefix,
            coinbase_suffix=suffix,
            median_time=self.median_time,
        )


@dataclass
class Workshop:
    """One chain of blocks with coins of many ages, and who judges blocks on it."""

    node: object
    bitcoind: object = None
    coins: list[Coin] = field(default_factory=list)

    @classmethod
    def open(cls, directory: Path, bitcoind=None):
        """Makes a chain of 214 blocks; gives them to `bitcoind`, whose own chain is empty."""
        node = open_node(directory)
        shop = cls(node)
        for _ in range(COINS):
            node.mine(ANYONE)
        young = [shop._reward(node.chain.height - COINS + 1 + n) for n in range(COINS)]
        for _ in range(99):
            node.mine(ANYONE)
        shop.coins = young
        # One coin is spent in the last blocks, by a payment whose outputs are not.
        shop.spent = young[0]
        shop.confirmed = spend([young[0]], [(young[0].sats - 1_000, ANYONE)])
        node.submit_transaction(shop.confirmed.raw)
        for _ in range(2):
            node.mine(ANYONE)
        shop.immature = shop._reward(node.chain.height)
        if bitcoind is not None:
            shop.follow(bitcoind)
        return shop

    def follow(self, bitcoind):
        """Gives a bitcoind all blocks that it does not have."""
        self.bitcoind = bitcoind
        for height in range(bitcoind.rpc("getblockcount") + 1, self.node.chain.height + 1):
            answer = bitcoind.rpc("submitblock", self.node.block_at(height).hex())
            assert answer is None, answer

    def _reward(self, height):
        return coin_of(Block.from_bytes(self.node.block_at(height)).transactions[0], 0)

    def good(self):
        """A good template: a payment, its child with a witness, and one of somebody else."""
        one, two = self.coins[1], self.coins[2]
        half = (one.sats - 1_000) // 2
        payment = spend([one], [(half, WITNESS_ANYONE), (half, ANYONE), (0, b"\x6a\x01x")])
        child = spend([coin_of(payment, 0)], [(half - 2_000, ANYONE)])
        other = spend([two], [(two.sats - 3_000, WITNESS_ANYONE)], version=1)
        chain = self.node.chain
        height = chain.height + 1
        fees = one.sats - 2 * half + 2_000 + 3_000
        coinbase = CoinbaseDraft(
            script=push_height(height) + b"\x07radpool\x10",
            outputs=((subsidy_sats(height, REGTEST.halving_blocks) + fees, ANYONE), (0, OWNER_TAG)),
        )
        median = chain.median_time()
        return Draft(
            previous=chain.tip.hash,
            height=height,
            ntime=max(median + 1, chain.tip.time),
            median_time=median,
            coinbase=coinbase,
            transactions=(payment, child, other),
        )

    def embedded_reason(self, block):
        """What the embedded chain says of a block: empty when it is valid."""
        judgement = self.node.judge(block)
        if isinstance(judgement, Judgement):
            assert select.select([judgement.fd], [], [], WAIT_SECONDS)[0]
            judgement = judgement.end()
        return judgement.reason if judgement.status is Status.REJECTED else ""

    def node_reason(self, block):
        """What bitcoind says of a proposal: empty when it is valid."""
        request = {"mode": "proposal", "rules": ["segwit"], "data": block.hex()}
        return self.bitcoind.rpc("getblocktemplate", request) or ""
