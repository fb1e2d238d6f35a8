"""Holds the peer and the handshake's vectors against each other: the same acts, the same bytes."""

import hashlib
import json
from pathlib import Path

import pytest

from peer import curve, key
from peer.noise import Certificate, Cipher, Initiator, NoiseError, respond

VECTORS = json.loads((Path(__file__).parents[2] / "spec" / "vectors" / "01-noise.json").read_text())


def keys(case):
    return {name: bytes.fromhex(value) for name, value in case.items() if isinstance(value, str)}


def ellswift(secret, encoded):
    """Takes a key with the encoding that the vector chose."""
    made = curve.EllSwiftKey.__new__(curve.EllSwiftKey)
    made.secret, made.encoded = int.from_bytes(secret, "big"), encoded
    made.x = curve.public_key(secret)
    assert curve.decode(encoded).to_bytes(32, "big") == made.x
    return made


@pytest.mark.parametrize("case", VECTORS["handshakes"], ids=lambda case: case["id"])
def test_handshake_vector(case):
    given, due = keys(case["inputs"]), case["expected"]
    act_1, act_2 = bytes.fromhex(due["act1"]), bytes.fromhex(due["act2"])
    certificate = Certificate.from_bytes(bytes.fromhex(due["certificate"]))
    static_x = bytes.fromhex(due["static_x_only"])
    digest = certificate.digest(static_x)
    signature = curve.sign(given["authority_secret"], digest, given["certificate_aux"])
    assert signature == certificate.signature

    initiator = Initiator(ellswift(given["initiator_secret"], act_1))
    authority = curve.public_key(given["authority_secret"])
    initiator.finish(act_2, authority, certificate.valid_from)
    assert initiator.server_x == static_x
    static = ellswift(given["static_secret"], bytes.fromhex(due["static_elligator_swift"]))
    ephemeral = ellswift(given["responder_secret"], act_2[:64])
    answer, _, _ = respond(act_1, static, certificate, ephemeral)
    assert answer == act_2

    for direction in ("client_to_server", "server_to_client"):
        seal = Cipher(bytes.fromhex(due[f"key_{direction}"]))
        for frame in due[direction]:
            plain = bytes.fromhex(frame["plain"]) if "plain" in frame else None
            if plain is None:
                break
            sealed = seal.seal_frame(plain)
            assert sealed.hex() == frame["sealed"]
            assert hashlib.sha256(sealed).hexdigest() == frame["sealed_sha256"]


@pytest.mark.parametrize("case", VECTORS["certificates"], ids=lambda case: case["id"])
def test_certificate_vector(case):
    given = case["inputs"]
    authority = key.public_key_from_text(given["authority_public_key"])
    raw = bytes.fromhex(given["certificate"])
    static_x = bytes.fromhex(given["static_x_only"])
    if "expected" in case:
        Certificate.from_bytes(raw).check(authority, static_x, given["unix_s"])
        return
    with pytest.raises(NoiseError):
        Certificate.from_bytes(raw).check(authority, static_x, given["unix_s"])


@pytest.mark.parametrize("case", VECTORS["key_texts"], ids=lambda case: case["id"])
def test_key_text_vector(case):
    secret = bytes.fromhex(case["inputs"]["secret"])
    due = case["expected"]
    assert curve.public_key(secret).hex() == due["public"]
    assert key.public_key_to_text(bytes.fromhex(due["public"])) == due["public_text"]
    assert key.secret_key_to_text(secret) == due["secret_text"]
