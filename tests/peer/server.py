"""Accepts a client as a server does, to try out clients: our initiator, our miner."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from . import curve
from .client import PATIENCE_S, Channel, ConnectionClosed
from .key import public_key_to_text
from .noise import ACT_1_LEN, Certificate, respond

if TYPE_CHECKING:
    import random


@dataclass(frozen=True)
class Identity:
    """Is a server's key, its certificate and who signed it."""

    static: curve.EllSwiftKey
    certificate: Certificate
    authority: bytes

    @classmethod
    def generate(
        cls, randomness: random.Random, *, valid_from: int | None = None, valid_s: int = 3600
    ) -> Identity:
        secret = randomness.randrange(1, curve.ORDER).to_bytes(32, "big")
        static = curve.EllSwiftKey(randomness)
        start = int(time.time()) - 60 if valid_from is None else valid_from
        certificate = Certificate.sign(secret, static.x, start, start + valid_s)
        return cls(static, certificate, curve.public_key(secret))

    def authority_text(self) -> str:
        return public_key_to_text(self.authority)


async def accept(
    stream: trio.SocketStream, identity: Identity, randomness: random.Random
) -> Channel:
    """Shakes hands as the server."""
    act_1 = b""
    with trio.fail_after(PATIENCE_S):
        while len(act_1) < ACT_1_LEN:
            received = await stream.receive_some(ACT_1_LEN - len(act_1))
            if not received:
                raise ConnectionClosed
            act_1 += received
        act_2, receive, send = respond(
            act_1, identity.static, identity.certificate, curve.EllSwiftKey(randomness)
        )
        await stream.send_all(act_2)
    return Channel(stream, send, receive)
