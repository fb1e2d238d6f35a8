"""Declaring miners on a real node that lie, each in one way, and what their node says of it."""

import contextlib
import struct

import trio
from peer import work
from peer.client import Client
from peer.declarer import Declarer
from peer.key import public_key_from_text
from peer.session import Session
from peer.template import OwnTemplate, compact, spend

from .bitcoind import PURSE_SCRIPT, transaction
from .declaring import REQUIRES_WORK_SELECTION, DeclaringMiner, address

OTHERS_SCRIPT = b"\x00\x14" + b"\x99" * 20


class NodeMiner(DeclaringMiner):
    """Is a miner whose templates come from a bitcoind."""

    def __init__(self, bitcoind, declarer, session, user):
        super().__init__(None, declarer, session, user)
        self.bitcoind = bitcoind

    @classmethod
    @contextlib.asynccontextmanager
    async def at(cls, running, bitcoind, user, *, whole=True):
        """Connects to a running node."""
        told = running.told
        authority = public_key_from_text(told["authority_public_key"])
        declarer = await Declarer.connect(address(told["declarator"]), authority, whole=whole)
        client = await Client.connect(address(told["sv2"]), authority)
        assert (await client.set_up(REQUIRES_WORK_SELECTION)).name == "SetupConnectionSuccess"
        miner = cls(bitcoind, declarer, Session(client, selects=True), user)
        miner.channel = await miner.session.open(user=user)
        try:
            yield miner
        finally:
            with trio.CancelScope(shield=True):
                await declarer.client.aclose()
                await client.aclose()

    async def template(self, outputs, **changes):
        """Makes a template of what the miner's node offers."""
        offered = self.bitcoind.rpc("getblocktemplate", {"rules": ["segwit"]})
        fields = {
            "height": offered["height"],
            "prev_hash": bytes.fromhex(offered["previousblockhash"])[::-1],
            "nbits": int(offered["bits"], 16),
            "min_ntime": offered["mintime"],
            "value": offered["coinbasevalue"],
            "token_outputs": outputs,
            "extranonce_len": self.channel.extranonce_len,
            "transactions": [bytes.fromhex(each["data"]) for each in offered["transactions"]],
            "version": offered["version"],
        }
        return OwnTemplate(**{**fields, **changes})

    def node_says(self, template):
        """Returns the node's own reason against a template; empty when it is valid."""
        extranonce = bytes(template.extranonce_len)
        root = work.merkle_root(template.coinbase(extranonce), template.path)
        head = work.block_header(
            template.version, template.prev_hash, root, template.min_ntime, template.nbits, 0
        )
        coinbase = template.prefix + extranonce + template.suffix
        count = compact(1 + len(template.transactions))
        block = head + count + coinbase + b"".join(template.transactions)
        proposal = {"mode": "proposal", "data": block.hex(), "rules": ["segwit"]}
        return self.bitcoind.rpc("getblocktemplate", proposal) or ""


class Coins:
    """Is what liars spend: good coins, one that is spent, one that is not ripe."""

    def __init__(self, bitcoind):
        self.bitcoind = bitcoind
        spent, sats = bitcoind.purse.coin()
        bitcoind.rpc("sendrawtransaction", _pay(spent, sats - 1_000).hex(), 0)
        self.spent = (spent, sats)
        bitcoind.mine(1)
        tip = bitcoind.rpc("getblock", bitcoind.tip, 2)
        output = tip["tx"][0]["vout"][0]
        self.unripe = ((tip["tx"][0]["txid"], 0), round(output["value"] * 10**8))
        self.good = [bitcoind.purse.coin() for _ in range(3)]


def _pay(outpoint, sats):
    return transaction([outpoint], [(sats, PURSE_SCRIPT)])


def _txid(raw):
    """Returns the id of a transaction, as shown."""
    stripped = OwnTemplate(0, bytes(32), 0, 0, 0, [], 0, transactions=[raw]).txids[0]
    return stripped[::-1].hex()


LIES = {}


def lie(kind):
    """Registers a function of a good template's fields and of coins that makes them a lie."""

    def register(make):
        LIES[kind] = make
        return make

    return register


@lie("a satoshi more than the fees")
def _fees(good, coins):
    return {"value": good.value + 1}


@lie("fees of transactions that were left out")
def _left_out(good, coins):
    return {"transactions": good.transactions[:-1]}


@lie("an input that was spent long ago")
def _spent(good, coins):
    outpoint, sats = coins.spent
    return {"transactions": [*good.transactions, _pay(outpoint, sats - 5_000)]}


@lie("an input that never was")
def _never(good, coins):
    return {"transactions": [*good.transactions, spend(b"\x77" * 32, 0, 1_000)]}


@lie("one coin spent twice")
def _twice(good, coins):
    outpoint, sats = coins.good[0]
    both = [_pay(outpoint, sats - 1_000), _pay(outpoint, sats - 2_000)]
    return {"transactions": [*good.transactions, *both]}


@lie("a coin that is not ripe")
def _unripe(good, coins):
    outpoint, sats = coins.unripe
    return {"transactions": [*good.transactions, _pay(outpoint, sats - 1_000)]}


@lie("more out than in")
def _inflation(good, coins):
    outpoint, sats = coins.good[0]
    return {"transactions": [*good.transactions, _pay(outpoint, sats + 1)]}


@lie("a witness that proves nothing")
def _witness(good, coins):
    outpoint, sats = coins.good[0]
    raw = _pay(outpoint, sats - 1_000)
    forged = raw.removesuffix(b"\x01\x01\x51" + bytes(4)) + b"\x01\x01\x52" + bytes(4)
    return {"transactions": [*good.transactions, forged]}


@lie("a child before its parent")
def _order(good, coins):
    outpoint, sats = coins.good[0]
    parent = _pay(outpoint, sats - 1_000)
    child = _pay((_txid(parent), 0), sats - 2_000)
    return {"transactions": [*good.transactions, child, parent]}


@lie("a transaction that is locked")
def _locked(good, coins):
    outpoint, sats = coins.good[0]
    outputs = [(sats - 1_000, PURSE_SCRIPT)]
    raw = transaction([outpoint], outputs, sequence=0, locktime=good.height + 5)
    return {"transactions": [*good.transactions, raw]}


@lie("a block that is too heavy")
def _heavy(good, coins):
    outpoint, sats = coins.good[0]
    padding = [(0, b"\x6a\x4d" + struct.pack("<H", 60_000) + bytes(60_000))]
    raws = []
    for _ in range(17):
        sats -= 100_000
        raws.append(transaction([outpoint], [(sats, PURSE_SCRIPT), *padding]))
        outpoint = (_txid(raws[-1]), 0)
    return {"transactions": [*good.transactions, *raws]}


@lie("too many signature operations")
def _sigops(good, coins):
    return {"extra_outputs": [work.Output(0, b"\xac" * 10_000)] * 3}


@lie("a coinbase that is locked")
def _locked_coinbase(good, coins):
    return {"locktime": good.height, "sequence": 0}
