"""Holds the peer itself against published vectors, before it judges anything."""

import ast
import csv
import random
import struct
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from peer import curve, key, noise, work
from peer.message import LAYOUTS, Message, decode, header
from peer.server import Identity

VECTORS = Path(__file__).parent / "vectors"


def test_peer_shares_no_code_with_what_it_judges():
    for path in Path(__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0].startswith("radpool")]


def rows(name):
    with (VECTORS / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_ellswift_decodes_as_bip324_says():
    found = rows("bip324_ellswift_decode.csv")
    assert len(found) == 76
    for row in found:
        assert curve.decode(bytes.fromhex(row["ellswift"])) == int(row["x"], 16), row["comment"]


def test_exchange_is_that_of_bip324():
    found = rows("bip324_ecdh.csv")
    assert found
    for row in found:
        secret = int(row["in_priv_ours"], 16)
        ours, theirs = (bytes.fromhex(row[f"in_ellswift_{who}"]) for who in ("ours", "theirs"))
        assert curve.decode(ours) == int(row["mid_x_ours"], 16)
        assert curve.shared_x(secret, theirs).hex() == row["mid_x_shared"]
        first, second = (ours, theirs) if row["in_initiating"] == "1" else (theirs, ours)
        shared = curve.shared_secret(secret, theirs, first, second)
        assert shared.hex() == row["mid_shared_secret"]


def test_encodings_decode_in_all_eight_cases():
    randomness, seen = random.Random(324), set()
    for _ in range(40):
        x = curve.affine(curve.multiply_base(randomness.randrange(1, curve.ORDER)))[0]
        u = randomness.randrange(1, curve.P)
        for case in range(8):
            t = curve.encode_x(x, u, case)
            if t is not None:
                seen.add(case)
                assert curve.decode_x(u, t) == x
    assert seen == set(range(8))


@pytest.mark.parametrize("row", rows("bip340.csv"), ids=lambda row: row["index"])
def test_signatures_are_those_of_bip340(row):
    public, message, signature = (
        bytes.fromhex(row[name]) for name in ("public key", "message", "signature")
    )
    if row["secret key"]:
        secret = bytes.fromhex(row["secret key"])
        assert curve.public_key(secret) == public
        assert curve.sign(secret, message, bytes.fromhex(row["aux_rand"])) == signature
    assert curve.verify(public, message, signature) is (row["verification result"] == "TRUE")


def test_cipher_is_that_of_rfc_8439():
    """RFC 8439, section 2.8.2."""
    sealed = ChaCha20Poly1305(bytes(range(0x80, 0xA0))).encrypt(
        bytes.fromhex("070000004041424344454647"),
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the"
        b" future, sunscreen would be it.",
        bytes.fromhex("50515253c0c1c2c3c4c5c6c7"),
    )
    assert sealed[:16].hex() == "d31a8d34648e60db7b86afbc53ef7ec2"
    assert sealed[-16:].hex() == "1ae10b594f09e26a7e902ecbd0600691"


def test_both_sides_of_the_handshake_agree():
    randomness = random.Random(1)
    identity = Identity.generate(randomness)
    initiator = noise.Initiator(curve.EllSwiftKey(randomness))
    act_2, receive, send = noise.respond(
        initiator.act_1(), identity.static, identity.certificate, curve.EllSwiftKey(randomness)
    )
    client_send, client_receive = initiator.finish(
        act_2, identity.authority, identity.certificate.valid_from
    )
    assert receive.open(client_send.seal(b"up")) == b"up"
    assert client_receive.open(send.seal(b"down")) == b"down"
    for position in range(noise.ACT_2_LEN):
        broken = bytearray(act_2)
        broken[position] ^= 1
        with pytest.raises(noise.NoiseError):
            initiator.finish(bytes(broken), identity.authority, identity.certificate.valid_from)


def test_keys_have_the_text_form_of_sv2():
    text = "9bL4dVdgxxTorKEe85wj94joY1m7ynEGJqFopxuRFhVD4cVdN11"
    raw = key.public_key_from_text(text)
    assert key.public_key_to_text(raw) == text
    with pytest.raises(ValueError, match="checksum"):
        key.public_key_from_text(text[:-1] + "2")


SAMPLES = {
    "u8": 1,
    "u16": 0x102,
    "u32": 0x1020304,
    "u64": 2**63,
    "f32": 1.5,
    "bool": True,
    "u256": bytes(range(32)),
    "str": "pool",
    "b032": b"\1\2",
    "b0255": b"\3",
    "b064k": b"\4" * 300,
    "option": 7,
    "hashes": [bytes(32), b"\1" * 32],
    "hashes64k": [b"\2" * 32],
    "transactions": [b"\5" * 70, b""],
    "u16s": [2, 0x4123],
    "u32s": [5, 6],
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_messages_survive_the_wire(name):
    fields = {field: SAMPLES[kind] for field, kind in LAYOUTS[name][3]}
    frame = Message(name, **fields).frame()
    extension, channel, number, length = header(frame[:6])
    assert length == len(frame) - 6
    assert decode(extension, channel, number, frame[6:]).fields == fields
    for end in range(6, len(frame)):
        with pytest.raises((ValueError, struct.error)):
            decode(extension, channel, number, frame[6:end])


def test_genesis_header_hashes_to_its_work():
    """Block 0 of bitcoin: a known header, its hash and its target."""
    root = bytes.fromhex("4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b")[::-1]
    raw = work.block_header(1, bytes(32), root, 1231006505, 0x1D00FFFF, 2083236893)
    hash_ = work.sha256d(raw)
    assert hash_[::-1].hex() == "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
    assert work.number(hash_) <= work.nbits_target(0x1D00FFFF)
    assert work.exponent(work.ladder_target(40)) == 40
