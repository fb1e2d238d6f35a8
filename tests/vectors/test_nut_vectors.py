"""The vectors of NUT-00, NUT-02, NUT-12 and NUT-13, which Rust reads too.

Checked are the native module and the independent peer, which is Python alone and was written from
the specification. The files name their source and its licence (MIT).
"""

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode
from pathlib import Path

import pytest
from peer import curve
from peer import ecash as peer

from radpool_sv2._native import ecash
from radpool_sv2.errors import LocalProtocolError, RemoteProtocolError
from radpool_sv2.wallet.seed import check_words, seed_of
from radpool_sv2.wallet.token import decode_token, encode_token

DIRECTORY = Path(__file__).parent / "nuts"
NUT_00, NUT_02, NUT_12, NUT_13 = "nut-00.json", "nut-02.json", "nut-12.json", "nut-13.json"


def cases(file, group):
    found = json.loads((DIRECTORY / file).read_text(encoding="ascii"))[group]
    assert found
    return pytest.mark.parametrize("case", found, ids=lambda case: case["id"])


def raw(case, *names):
    return [bytes.fromhex(case[name]) for name in names]


def test_each_file_names_its_source_and_licence():
    files = sorted(DIRECTORY.glob("*.json"))
    assert [path.name for path in files] == [NUT_00, NUT_02, NUT_12, NUT_13]
    for path in files:
        vectors = json.loads(path.read_text(encoding="ascii"))
        number = path.stem.removeprefix("nut-")
        assert vectors["source"].startswith(f"github.com/cashubtc/nuts, tests/{number}-tests.md")
        assert vectors["licence"].startswith("MIT")


@cases(NUT_00, "hash_to_curve")
def test_hash_to_curve(case):
    (message,) = raw(case["inputs"], "message")
    (point,) = raw(case["expected"], "Y")
    assert ecash.hash_to_curve([message]) == [point]
    assert peer.encode(peer.hash_to_curve(message)) == point


@cases(NUT_00, "blinded_messages")
def test_blinded_message(case):
    message, factor = raw(case["inputs"], "x", "r")
    (blinded,) = raw(case["expected"], "B_")
    assert ecash.blind([(message, factor)]) == [blinded]
    shift = curve.multiply_base(int.from_bytes(factor, "big"))
    assert peer.encode(curve.add(peer.hash_to_curve(message), shift)) == blinded


@cases(NUT_00, "blind_signatures")
def test_blind_signature(case):
    key, blinded = raw(case["inputs"], "k", "B_")
    (signature,) = raw(case["expected"], "C_")
    [(found, e, s)] = ecash.KeysetKeys.from_secrets([(1, key)], "sat").sign([(1, blinded)])
    assert found == signature
    multiplied = curve.multiply(int.from_bytes(key, "big"), peer.decode(blinded))
    assert peer.encode(multiplied) == signature
    public = peer.encode(curve.multiply_base(int.from_bytes(key, "big")))
    assert peer.proves(public, blinded, signature, e, s)


def proofs_of(token):
    return [
        (proof.keyset.hex(), proof.amount, proof.secret, proof.signature.hex()) for proof in token
    ]


@cases(NUT_00, "tokens_v3")
def test_token_v3(case):
    text = case["inputs"]["text"]
    if "expected_error" in case:
        with pytest.raises(RemoteProtocolError, match="this is no token"):
            decode_token(text)
        return
    token = decode_token(text)
    if "memo" in case["expected"]:
        assert token.memo == case["expected"]["memo"]
        return
    expected = case["expected"]["token"]
    (entry,) = expected["token"]
    assert (token.mint, token.unit) == (entry["mint"], expected["unit"])
    assert token.memo == expected["memo"]
    rows = [(row["id"], row["amount"], row["secret"], row["C"]) for row in entry["proofs"]]
    assert proofs_of(token.proofs) == rows


@cases(NUT_00, "tokens_v4")
def test_token_v4(case):
    inputs, expected = case["inputs"], case["expected"]["token"]
    if "raw" in inputs:
        # The same bytes behind another head: "crawB".
        head, body = bytes.fromhex(inputs["raw"])[:5], bytes.fromhex(inputs["raw"])[5:]
        assert head == b"crawB"
        same = json.loads((DIRECTORY / NUT_00).read_text(encoding="ascii"))["tokens_v4"][0]
        assert urlsafe_b64decode(same["inputs"]["text"].removeprefix("cashuB")) == body
        return
    token = decode_token(inputs["text"])
    assert (token.mint, token.unit) == (expected["m"], expected["u"])
    assert token.memo == expected.get("d", "")
    rows = [
        (group["i"], row["a"], row["s"], row["c"]) for group in expected["t"] for row in group["p"]
    ]
    assert proofs_of(token.proofs) == rows
    assert encode_token(token) == inputs["text"].rstrip("=")


@cases(NUT_02, "version_2")
def test_keyset_id(case):
    inputs = case["inputs"]
    amounts = {int(amount): bytes.fromhex(key) for amount, key in inputs["keys"].items()}
    fee, expiry = inputs["input_fee_ppk"], inputs["final_expiry"]
    (expected,) = raw(case["expected"], "id")
    assert ecash.keyset_id(list(amounts.items())[::-1], inputs["unit"], fee, expiry) == expected
    assert peer.keyset_id(amounts, inputs["unit"], fee, expiry or 0) == expected


@cases(NUT_02, "version_1")
def test_deprecated_keyset_id(case):
    """attack: A27. The vector holds, and nothing is derived for an id of that version."""
    amounts = sorted((int(amount), key) for amount, key in case["inputs"]["keys"].items())
    keys = b"".join(bytes.fromhex(key) for _, key in amounts)
    assert "00" + hashlib.sha256(keys).hexdigest()[:14] == case["expected"]["id"]
    wallet = ecash.WalletSeed.from_seed(bytes(64))
    with pytest.raises(LocalProtocolError, match="version 0x00: only version 0x01"):
        wallet.derive(bytes.fromhex(case["expected"]["id"]), 0, 1)


@cases(NUT_12, "challenges")
def test_challenge(case):
    points = raw(case["inputs"], "R1", "R2", "K", "C_")
    (expected,) = raw(case["expected"], "e")
    assert peer.hash_points(*map(peer.decode, points)) == expected


@cases(NUT_12, "deterministic")
def test_deterministic_proof(case):
    """attack: A5. The nonce is the NUT's, so the proof is the same bytes, each time."""
    key, public, blinded = raw(case["inputs"], "a", "A", "B_")
    signature = tuple(raw(case["expected"], "C_", "e", "s"))
    keys = ecash.KeysetKeys.from_secrets([(1, key)], "sat")
    assert keys.public == [(1, public)]
    assert keys.sign([(1, blinded), (1, blinded)]) == [signature, signature]
    assert peer.proves(public, blinded, *signature)


@cases(NUT_12, "blind_signatures")
def test_proof_of_a_blind_signature(case):
    item = tuple(raw(case["inputs"], "A", "B_", "C_", "e", "s"))
    assert ecash.verify_signature_dleqs([item]) == [True]
    assert peer.proves(*item)


@cases(NUT_12, "proofs")
def test_proof_of_a_token(case):
    signature, e, s, factor, public = raw(case["inputs"], "C", "e", "s", "r", "A")
    secret = case["inputs"]["secret"]
    assert ecash.verify_proof_dleqs([(secret, signature, e, s, factor, public)]) == [True]
    number = int.from_bytes(factor, "big")
    shift = curve.multiply(number, peer.decode(public))
    blind_signature = peer.encode(curve.add(peer.decode(signature), shift))
    assert peer.proves(public, peer.blind(secret, number), blind_signature, e, s)


@cases(NUT_13, "seeds")
def test_seed(case):
    assert seed_of(check_words(case["inputs"]["words"])).hex() == case["expected"]["seed"]


@cases(NUT_13, "version_2")
def test_derived_output(case):
    seed, keyset = raw(case["inputs"], "seed", "keyset_id")
    counter, expected = case["inputs"]["counter"], case["expected"]
    wallet = ecash.WalletSeed.from_seed(seed)
    outputs = wallet.derive(keyset, counter, 1)
    other = peer.Seed(seed).output(keyset, counter)
    assert outputs.secrets == [other.secret] == [expected["secret"]]
    assert outputs.blinded == [other.blinded]
    assert other.factor == int(expected["r"], 16)
    assert wallet.expose_blinding_factors(keyset, [counter]) == [bytes.fromhex(expected["r"])]


def bip32(seed, path):
    """Derives a private key; the steps are numbers, from 2^31 on hardened."""
    digest = hmac.digest(b"Bitcoin seed", seed, "sha512")
    for step in path:
        key, chain = int.from_bytes(digest[:32], "big"), digest[32:]
        public = peer.encode(curve.multiply_base(key))
        head = b"\0" + digest[:32] if step >> 31 else public
        digest = hmac.digest(chain, head + step.to_bytes(4, "big"), "sha512")
        child = (int.from_bytes(digest[:32], "big") + key) % curve.ORDER
        digest = child.to_bytes(32, "big") + digest[32:]
    return digest[:32]


@cases(NUT_13, "version_1")
def test_deprecated_output(case):
    """attack: A27. The vector holds, and the wallet derives nothing for an id of that version."""
    seed, keyset = raw(case["inputs"], "seed", "keyset_id")
    counter, hardened = case["inputs"]["counter"], 1 << 31
    number = int.from_bytes(keyset, "big") % (hardened - 1)
    path = [step | hardened for step in (129372, 0, number, counter)]
    assert bip32(seed, [*path, 0]).hex() == case["expected"]["secret"]
    assert bip32(seed, [*path, 1]).hex() == case["expected"]["r"]
    with pytest.raises(LocalProtocolError, match="version 0x00: only version 0x01"):
        ecash.WalletSeed.from_seed(seed).derive(keyset, counter, 1)
