"""Writes `12-federation-transport.json`: handshakes, frames, and a key that was replaced."""

from __future__ import annotations

from typing import Any

from layout import named
from layout import write as write_vectors
from noise import Handshake
from sealing import x25519


def handshake_of(name: str) -> Handshake:
    return Handshake(
        named("committee"),
        named(f"{name} dialler"),
        named(f"{name} dialler's ephemeral"),
        named(f"{name} dialled"),
        named(f"{name} dialled's ephemeral"),
    )


def inputs_of(handshake: Handshake) -> dict[str, Any]:
    return {
        "committee": handshake.committee.hex(),
        "dialler_secret": handshake.dialler.hex(),
        "dialler_ephemeral": handshake.dialler_ephemeral.hex(),
        "dialled_secret": handshake.dialled.hex(),
        "dialled_public": x25519(handshake.dialled).hex(),
        "dialled_ephemeral": handshake.dialled_ephemeral.hex(),
    }


def links() -> list[dict[str, Any]]:
    cases = []
    for name, sends in {
        "short": [("dialler", [b"one", b"two"]), ("dialled", [b"three"]), ("dialler", [b"\0"])],
        "many": [("dialled", [bytes([n]) * n for n in range(1, 40)]), ("dialler", [b"end"])],
    }.items():
        handshake = handshake_of(name)
        frames, digest, *senders = handshake.run()
        ends = dict(zip(("dialler", "dialled"), senders, strict=True))
        sealed = [
            {
                "from": end,
                "messages": [message.hex() for message in messages],
                "sealed": ends[end].send(messages).hex(),
            }
            for end, messages in sends
        ]
        expected = {
            "frames": [frame.hex() for frame in frames],
            "handshake_hash": digest.hex(),
            "sends": sealed,
        }
        cases.append({"id": f"link-{name}", "inputs": inputs_of(handshake), "expected": expected})
    return cases


def replaced_keys() -> list[dict[str, Any]]:
    handshake = handshake_of("replaced")
    _, _, sender, _ = handshake.run()
    cases = []
    for before in (65_535, 65_536):
        sender.pass_by(before - sender.number)
        sealed = sender.send([b"message"])
        inputs = {**inputs_of(handshake), "noise_messages_before": before}
        expected = {"message": b"message".hex(), "sealed": sealed.hex()}
        cases.append({"id": f"after-{before}", "inputs": inputs, "expected": expected})
    return cases


write_vectors(
    "12-federation-transport.json",
    ["Page 12. Everything is bytes in the order in which they are sent."],
    {"links": links(), "replaced_keys": replaced_keys()},
)
