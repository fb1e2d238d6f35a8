"""Answers for nutshell, Cashu's reference implementation; runs in nutshell's own environment.

Reads requests from stdin, one JSON list a line: the name of an operation and its items, each a list
of texts (secrets as they are, everything else in hexadecimal). Writes one JSON list of results a
line, in order.
"""

import json
import sys

from cashu.core.crypto import b_dhke
from cashu.core.crypto.keys import derive_keyset_id_v2
from cashu.core.crypto.secp import PrivateKey, PublicKey


def private(text):
    return PrivateKey(bytes.fromhex(text))


def public(text):
    return PublicKey(bytes.fromhex(text))


def curve(secret):
    return b_dhke.hash_to_curve(secret.encode()).format().hex()


def blind(secret, factor):
    return b_dhke.step1_alice(secret, private(factor))[0].format().hex()


def sign(key, blinded):
    signature, e, s = b_dhke.step2_bob(public(blinded), private(key))
    return [signature.format().hex(), e.to_hex(), s.to_hex()]


def check(key, blinded, signature, e, s):
    points = public(blinded), public(signature)
    return b_dhke.alice_verify_dleq(*points, private(e), private(s), public(key))


def unblind(signature, factor, key):
    return b_dhke.step3_alice(public(signature), private(factor), public(key)).format().hex()


def receive(secret, signature, e, s, factor, key):
    proof = private(factor), public(signature), private(e), private(s), public(key)
    return b_dhke.carol_verify_dleq(secret, *proof)


def verify(key, secret, signature):
    return b_dhke.verify(private(key), public(signature), secret)


def keyset(unit, fee, expiry, *keys):
    amounts = {1 << place: public(key) for place, key in enumerate(keys)}
    return derive_keyset_id_v2(amounts, unit, int(expiry) or None, int(fee))


OPERATIONS = {
    operation.__name__: operation
    for operation in (curve, blind, sign, check, unblind, receive, verify, keyset)
}

for line in sys.stdin:
    name, items = json.loads(line)
    print(json.dumps([OPERATIONS[name](*item) for item in items]), flush=True)
