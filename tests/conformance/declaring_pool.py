"""A job declarator for the tests: the real role, with a node and a ledger that a test chooses."""

from __future__ import annotations

import time

import trio
from peer import work
from peer.client import Client
from peer.declarer import Declarer
from peer.key import public_key_from_text
from peer.template import OwnTemplate, spend

from radpool_sv2._native import keys, ledger
from radpool_sv2._native.template import TransactionCache
from radpool_sv2.config import Endpoint
from radpool_sv2.config.declarator import DeclaratorSection
from radpool_sv2.declarator.assembly import Assembler
from radpool_sv2.declarator.challenge import ChallengeBook, ChallengeLimits
from radpool_sv2.declarator.desk import DeclaratorDesk
from radpool_sv2.declarator.keep import TemplateKeep
from radpool_sv2.declarator.role import Declarator
from radpool_sv2.declarator.token import TokenLimits, TokenStore
from radpool_sv2.declarator.verdict import VerdictBudget, VerdictDesk
from radpool_sv2.errors import NodeError, RemoteProtocolError
from radpool_sv2.ledger import Account
from radpool_sv2.pool.terms import JobTerms
from radpool_sv2.templates.board import TipBoard
from radpool_sv2.templates.declared import Owner, TipView
from radpool_sv2.templates.source import BlockVerdict

SALT = b"declaration-salt"
POOL_SCRIPT = b"\x00\x14" + b"\x33" * 20
SUBSIDY = 50 * 10**8
NBITS = 0x207FFFFF
EASY = b"\xff" * 31 + b"\x7f"
EXTRANONCE_LEN = 20


class Node:
    """Stands for the pool's node.

    Attributes:
        mempool: What it knows, by wtxid.
        verdict: What it says of any block; None leaves it silent until `answers` is set.
        blocks: What it was asked about.
    """

    def __init__(self):
        self.mempool = {}
        self.verdict = BlockVerdict(True)
        self.blocks = []
        self.asked = []
        self.away = False
        self.answers = trio.Event()

    async def known_transactions(self, wtxids):
        self.asked += wtxids
        if self.away:
            raise NodeError("it is away", "node")
        return {each: self.mempool[each] for each in wtxids if each in self.mempool}

    async def check_block(self, block):
        self.blocks.append(block)
        if self.away:
            raise NodeError("it is away", "node")
        if self.verdict is None:
            await self.answers.wait()
            return BlockVerdict(True)
        return self.verdict


class Blocks:
    """Takes what is pushed and written off."""

    def __init__(self):
        self.pushed_blocks = []
        self.voided = []

    async def pushed(self, owner, header, coinbase_tx, block):
        self.pushed_blocks.append((owner, header, coinbase_tx, block))

    async def void(self, job, reason):
        self.voided.append((job, reason))


class DeclaringPool:
    """Is a declarator behind its listener."""

    def __init__(self, **settings):
        self.msp = ledger.MspKey.generate()
        authority, static = keys.AuthoritySecretKey.generate(), keys.StaticKey.generate()
        now = int(time.time())
        self.identity = keys.ServerIdentity(
            static,
            keys.Certificate.sign(
                authority, static, valid_from=now - 60, not_valid_after=now + 3600
            ),
        )
        self.authority = public_key_from_text(authority.public_key().to_text())
        self.node, self.blocks, self.board = Node(), Blocks(), TipBoard()
        self.accounts = {}
        self.epoch = 7
        self.height = 1000
        self.tips = 0
        self.clients = []
        limits = {
            name: settings.pop(name)
            for name in ("allocated_per_connection_max", "declared_per_connection_max")
            if name in settings
        }
        challenge = ChallengeLimits(
            # The lot falls on one in 64: no test comes to so many before it does.
            jobs_per_owner_max=16_384,
            **{n: settings.pop(n) for n in ("reveal_s", "banned_s") if n in settings},
        )
        budget = settings.pop("budget", VerdictBudget())
        kept_bytes_max = settings.pop("kept_bytes_max", 1 << 30)
        section = DeclaratorSection(enabled=True, **settings)
        self.cache = TransactionCache(section.cache_bytes_max)
        self.terms = JobTerms(
            script=POOL_SCRIPT,
            msp_key=self.msp.public,
            exponents=(4, 40),
            current_epoch=lambda: self.epoch,
            find_account=self.account,
            ecash_owner=self.policy,
        )
        verdicts = VerdictDesk(self.node, budget)
        self.desk = DeclaratorDesk(
            terms=self.terms,
            tokens=TokenStore(TokenLimits(**limits)),
            challenges=ChallengeBook(challenge),
            board=self.board,
            assembler=Assembler(self.cache, self.node),
            verdicts=verdicts,
            keep=TemplateKeep(self.cache, kept_bytes_max),
            blocks=self.blocks,
            coinbase_only=section.coinbase_only,
        )
        self.role = Declarator(
            section,
            self.identity,
            self.desk,
            verdicts,
            listen=Endpoint("127.0.0.1", 0),
        )
        self.stop = trio.Event()
        self.new_tip()

    # The pool's side.

    async def account(self, name):
        if name == "too-new":
            raise RemoteProtocolError("too many new accounts", "unknown-user")
        number = self.accounts.setdefault(name, len(self.accounts) + 1)
        return Account(number, name, SALT, self.commitment(name))

    def policy(self, word):
        if word != "window":
            raise RemoteProtocolError("no such policy", "invalid-user-identity")
        return Owner(900, "ecash.window", self.commitment("ecash.window"), 1)

    @staticmethod
    def commitment(name):
        return work.owner_commitment(name, SALT)

    def tag(self, name, z=4, *, epoch=None, rail=0):
        epoch = self.epoch if epoch is None else epoch
        return work.owner_output(self.msp.public, self.commitment(name), epoch, rail, z)[9:]

    def new_tip(self, target=EASY):
        self.tips += 1
        self.height += 1
        tip = TipView(self.height, bytes([self.tips]) * 32, int(time.time()) - 600, NBITS, target)
        self.board.post(tip)
        self.desk.tip_changed()

    async def run(self, *, task_status=trio.TASK_STATUS_IGNORED):
        await self.role.run(self.stop, task_status=task_status)

    @property
    def address(self):
        return self.role.address.host, self.role.address.port

    async def close(self):
        with trio.CancelScope(shield=True):
            for client in self.clients:
                await client.aclose()
        self.stop.set()

    # The clients' side.

    async def connect(self):
        client = await Client.connect(self.address, self.authority)
        self.clients.append(client)
        return client

    async def declarer(self, *, whole=True):
        found = await Declarer.connect(self.address, self.authority, whole=whole)
        self.clients.append(found.client)
        return found

    def template(self, outputs, **changes):
        now = self.board.now
        fields = {
            "height": now.height,
            "prev_hash": now.prev_hash,
            "nbits": now.nbits,
            "min_ntime": now.min_ntime,
            "value": SUBSIDY,
            "token_outputs": outputs,
            "extranonce_len": EXTRANONCE_LEN,
        }
        return OwnTemplate(**{**fields, **changes})


def transactions(count, *, pad=0, seed=0):
    """Makes transactions that spend nothing in common."""
    return [
        spend(bytes([seed]) + n.to_bytes(31, "little"), 0, 1_000 + n, pad=pad)
        for n in range(1, count + 1)
    ]
