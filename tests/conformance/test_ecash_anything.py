"""Requests made of anything: whatever they say, the mint says a code and goes on."""

import random

import pytest
from ecash_pool import ecash_pool
from peer.ecash_session import FIXED, POOL, WINDOW
from test_ecash_peer import earn, visiting, wallet

REQUESTS = 150
REFUSALS = {
    "amount-mismatch",
    "already-spent",
    "blinded-message-reused",
    "epoch-open",
    "invalid-blinded-message",
    "invalid-proof",
    "unknown-epoch",
}


class Anything:
    """Draws requests whose parts are right, nearly right and wrong."""

    def __init__(self, seed, peer, keysets):
        self.luck = random.Random(seed)
        self.peer = peer
        self.keysets = keysets

    def point(self):
        own = self.peer.wallet.output(self.luck.choice(self.keysets[:2]), self.luck.randrange(20))
        wrong = [bytes(33), b"\x04" * 33, b"\x02" + self.luck.randbytes(32)]
        return self.luck.choice([own.blinded, own.blinded, *wrong])

    def input(self):
        token = self.luck.choice(self.peer.tokens)
        z = self.luck.choice([token.z, token.z, token.z + 1, 0, 3, 67, 68, 120, 255])
        secret = self.luck.choice([token.secret, token.secret, "", "x" * 255, "\u00e9\0"])
        signature = self.luck.choice([token.signature, token.signature, self.point()])
        return {"z": z, "secret": secret, "C": signature}

    def output(self):
        amount = self.luck.choice([0, 3, 2**63, 2**64 - 1, 1 << self.luck.randrange(64)])
        short = self.luck.choice(self.keysets)[:8]
        return {"amount": amount, "keyset_short": short, "B_": self.point()}

    def several(self, make):
        return [make() for _ in range(self.luck.choice([0, 1, 1, 2, 5]))]

    def request(self):
        mode = self.luck.choice([0, 1, 1, 1])
        return {
            "mode": mode,
            "keyset_id": self.luck.choice(self.keysets),
            "claims": [] if mode else self.several(self.point),
            "inputs": self.several(self.input) if mode else [],
            "outputs": self.several(self.output) if mode else [],
        }


@pytest.mark.parametrize("seed", [1, 2])
async def test_requests_made_of_anything_are_answered(tmp_path, seed):
    """spec: EW-4, EW-24

    attack: A14, A15
    """
    async with ecash_pool(tmp_path) as pool, visiting(pool, wallet("otto")) as peer:
        channels = [await peer.open_ecash(policy) for policy in (WINDOW, POOL, FIXED)]
        for channel in channels:
            await earn(peer, channel, 2)
        sat = await peer.learn_keysets()
        own = [peer.terms[channel.id].keyset for channel in channels]
        anything = Anything(seed, peer, [*own, sat, b"\x01" * 33, bytes(33)])
        name = "RedeemSharesEcash"
        for number in range(REQUESTS):
            await peer.send_extended(name, request_id=number, **anything.request())
            answer = await peer.hear(f"{name}.Success", f"{name}.Error")
            assert answer.fields["request_id"] == number
            assert answer.fields.get("error_code") in REFUSALS | {None}, answer
        # Nothing was harmed.
        await earn(peer, channels[0], 1)
        assert pool.pool.problems() == []
