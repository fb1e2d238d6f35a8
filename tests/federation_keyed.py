"""Members of one machine that have keys."""

from collections import Counter
from dataclasses import replace
from functools import partial
from hashlib import sha256

from federation_net import Net, is_quiet, wait_until

from radpool_sv2._native.threshold import CHECKPOINT, TREASURY
from radpool_sv2.federation.keys.keyring import Keyring
from radpool_sv2.federation.signing.evidence import SignedShare
from radpool_sv2.federation.signing.message import Share
from radpool_sv2.federation.signing.purpose import Spend
from radpool_sv2.federation.signing.signing import Say, SigningLimits
from radpool_sv2.federation.state.digest import DigestState

SIGNING = SigningLimits(window=4, patience_ms=1_000, again_ms=1_000)
PATIENCE = 3
SPENT_EVERY = 3
"""So many epochs have one spend, which is wanted until the next one is."""


def spends(epoch, _state):
    """What these members' states want spent."""
    if epoch < SPENT_EVERY:
        return ()
    return (Spend(sha256(b"spend %d" % (epoch // SPENT_EVERY)).digest(), sha256(b"root").digest()),)


class LyingKeyring(Keyring):
    """Signs shares that do not hold, as far as others are told."""

    def poll(self):
        effect = super().poll()
        if not (isinstance(effect, Say) and isinstance(effect.message, Share)):
            return effect
        wrong = bytearray(effect.message.signed.share)
        wrong[-1] ^= 1
        signed = SignedShare.sign(self._identity, bytes(wrong))
        return replace(effect, message=replace(effect.message, signed=signed))


class KeyedNet(Net):
    """Is a net of members that have keys."""

    def __init__(self, directory, liars=()):
        super().__init__(directory)
        self.purposes = (CHECKPOINT, TREASURY)
        self.liars = liars
        self.rings = [None] * self.n
        self.told = [{} for _ in range(self.n)]

    def member(self, me, **_):
        store, function = self.store(me), DigestState()
        kind = LyingKeyring if me in self.liars else Keyring
        ring = self.rings[me] = kind(
            self.committee,
            self.signers[me],
            self.verifier,
            function,
            store,
            purposes=self.purposes,
            spends=spends,
            patience=PATIENCE,
            limits=SIGNING,
        )
        node, mesh, _ = super().member(me, store=store, function=function, keys=ring)
        for purpose in self.purposes:
            node.on_signed(partial(self._tell, me, purpose), purpose)
        return node, mesh, store

    def _tell(self, me, purpose, task, signature):
        self.told[me][purpose, task.id] = task, signature

    def keys(self, me):
        return self.nodes[me].status()["keys"]

    async def tick(self, members=None):
        """Ends an epoch, and waits until members have counted it for their keys."""
        members = range(self.n) if members is None else members
        self.chain.tip += 1
        await self.settled(self.chain.tip, members)

    async def generate(self, members=None):
        """Ends epochs until members have all keys; returns how many that took."""
        members = range(self.n) if members is None else members
        for count in range(40):
            if all(has_keys(self.keys(me)) for me in members):
                return count
            await self.tick(members)
            await quiet(self, members)
        raise AssertionError([self.keys(me) for me in members])

    async def signed(self, members=None):
        """Waits until nothing is left to be signed, and all members have counted all epochs."""
        members = range(self.n) if members is None else members
        await wait_until(lambda: all(is_done(self, me) for me in members))

    async def sign(self, epochs, members=None):
        """Ends epochs, each when all is signed that the one before wants."""
        for _ in range(epochs):
            await self.tick(members)
            await self.signed(members)

    def spent(self):
        """Returns what members' stores say of spent nonces: member and row."""
        rows = []
        for me in range(self.n):
            store = self.store(me)
            rows += [(me, row) for row in store.spent()]
            store.close()
        return rows


async def quiet(net, members):
    """Waits until what was appended is delivered everywhere: the next epoch has it."""

    def holds():
        nodes = [net.nodes[me] for me in members]
        heads = {tuple(s["certified"] for s in node.status()["streams"]) for node in nodes}
        return len(heads) == 1 and all(is_quiet(node) for node in nodes)

    await wait_until(holds)


def has_keys(figures):
    return all(figures[name]["generated"] for name in ("checkpoint", "treasury") if name in figures)


def is_done(net, me):
    node, ring = net.nodes[me], net.rings[me]
    figures = node.status()
    return (
        ring.has_counted(net.chain.tip)
        and not figures["waiting_records"]
        and all(figures["keys"][name]["open_tasks"] == 0 for name in ("checkpoint", "treasury"))
    )


def check_nonces(rows):
    """No nonce has signed in two sessions, and none stands in the log twice."""
    seen = Counter((me, row.transcript, row.nonce) for me, row in rows)
    assert seen
    assert max(seen.values()) == 1
    # Not even a place in a pool is in use twice.
    places = Counter((me, row.transcript, row.boot, row.slot) for me, row in rows)
    assert max(places.values()) == 1
