"""Our arithmetic and nutshell's agree on 10,000 random cases each way.

Nutshell runs as a program of its own, in an environment of its own. The seed is printed;
RADPOOL_SEED=N plays the same cases again.
"""

import json
import os
import random
import subprocess
from pathlib import Path

import pytest

from radpool_sv2._native import ecash

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-nutshell" / "bin" / "python"
SEED = int(os.environ.get("RADPOOL_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
CASES = 10_000
"""Each way: many enough to meet what one case in a thousand does."""
KEYS = 64
FLAWED = 1_000
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
ODD_SECRETS = [
    "",
    "a",
    "\u00e4\u00f6\u00fc \u2713 \U0001f4b0",
    "x" * 1024,
    '["P2PK", {}]',
    "00" * 32,
]


class Nutshell:
    """Is the other program."""

    def __init__(self):
        assert PYTHON.exists(), f"{PYTHON} is missing: `make test` installs nutshell there"
        self.process = subprocess.Popen(
            [str(PYTHON), str(Path(__file__).with_name("oracle.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, name, items):
        """Returns nutshell's result for each item."""
        self.process.stdin.write(json.dumps([name, [list(item) for item in items]]) + "\n")
        self.process.stdin.flush()
        results = json.loads(self.process.stdout.readline())
        assert len(results) == len(items)
        return results

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(timeout=60) == 0
        self.process.stdout.close()


@pytest.fixture(scope="module")
def nutshell():
    print(f"RADPOOL_SEED={SEED}")
    program = Nutshell()
    yield program
    program.close()


def scalar(chance):
    return chance.randrange(1, ORDER).to_bytes(32, "big")


class Cases:
    """Is 10,000 tokens to be: secret, blinding factor, and a key of the mint."""

    def __init__(self, salt):
        chance = random.Random(f"{SEED} {salt}")
        edges = [1, 2, ORDER - 1, ORDER - 2, 1 << 255]
        factors = [number.to_bytes(32, "big") for number in edges]
        keys = [*factors, *(scalar(chance) for _ in range(KEYS - len(factors)))]
        self.secrets = [chance.randbytes(32).hex() for _ in range(CASES - len(ODD_SECRETS))]
        self.secrets += ODD_SECRETS
        self.factors = [*factors, *(scalar(chance) for _ in range(CASES - len(factors)))]
        self.amounts = [1 << chance.randrange(KEYS) for _ in range(CASES)]
        self.keys = {1 << place: key for place, key in enumerate(keys)}
        self.keyset = ecash.KeysetKeys.from_secrets(list(self.keys.items()), "work")
        announced = dict(self.keyset.public)
        self.announced = [announced[amount] for amount in self.amounts]
        self.private = [self.keys[amount] for amount in self.amounts]
        self.chance = chance

    def blinded(self):
        messages = [secret.encode() for secret in self.secrets]
        return ecash.blind(list(zip(messages, self.factors, strict=True)))


def hexed(*columns):
    """Turns columns into the rows that nutshell is sent."""
    texts = [[c if isinstance(c, str) else c.hex() for c in column] for column in columns]
    return list(zip(*texts, strict=True))


def pairs(*columns):
    return list(zip(*columns, strict=True))


def test_our_mint_serves_their_wallet(nutshell):
    cases = Cases("our mint")
    points = [point.hex() for point in ecash.KeysetKeys.ys(cases.secrets)]
    assert nutshell.ask("curve", hexed(cases.secrets)) == points
    told = nutshell.ask("blind", hexed(cases.secrets, cases.factors))
    blinded = [bytes.fromhex(point) for point in told]
    signed = cases.keyset.sign(pairs(cases.amounts, blinded))
    signatures, challenges, responses = zip(*signed, strict=True)
    proofs = hexed(cases.announced, blinded, signatures, challenges, responses)
    assert all(nutshell.ask("check", proofs))
    told = nutshell.ask("unblind", hexed(signatures, cases.factors, cases.announced))
    tokens = [bytes.fromhex(point) for point in told]
    assert all(cases.keyset.verify(pairs(cases.amounts, cases.secrets, tokens)))
    handed = hexed(cases.secrets, tokens, challenges, responses, cases.factors, cases.announced)
    assert all(nutshell.ask("receive", handed))


def test_our_wallet_is_served_by_their_mint(nutshell):
    cases = Cases("our wallet")
    blinded = cases.blinded()
    told = nutshell.ask("sign", hexed(cases.private, blinded))
    signed = [tuple(bytes.fromhex(part) for part in parts) for parts in told]
    signatures, challenges, responses = zip(*signed, strict=True)
    proofs = pairs(cases.announced, blinded, signatures, challenges, responses)
    assert all(ecash.verify_signature_dleqs(proofs))
    tokens = ecash.unblind(pairs(signatures, cases.factors, cases.announced))
    assert all(nutshell.ask("verify", hexed(cases.private, cases.secrets, tokens)))
    handed = pairs(cases.secrets, tokens, challenges, responses, cases.factors, cases.announced)
    assert all(ecash.verify_proof_dleqs(handed))
    # Both derive the nonce as NUT-12 has it, so that even the proofs are the same bytes.
    assert signed == cases.keyset.sign(pairs(cases.amounts, blinded))


def flawed(cases, proof):
    """Spoils a proof in one place: its key, its message, its signature or one of its numbers."""
    place, other = cases.chance.randrange(5), cases.chance.randrange(CASES)
    key, message, signature, e, s = proof
    match place:
        case 0:
            key = next(point for point in cases.announced if point != key)
        case 1:
            message = cases.announced[other]
        case 2:
            signature = cases.announced[other]
        case 3:
            e = scalar(cases.chance)
        case _:
            s = scalar(cases.chance)
    return key, message, signature, e, s


def test_both_refuse_what_is_flawed(nutshell):
    cases = Cases("flawed")
    blinded = cases.blinded()[:FLAWED]
    signed = cases.keyset.sign(pairs(cases.amounts[:FLAWED], blinded))
    proofs = [
        flawed(cases, (key, message, *parts))
        for key, message, parts in zip(cases.announced, blinded, signed, strict=False)
    ]
    assert not any(ecash.verify_signature_dleqs(proofs))
    assert not any(nutshell.ask("check", [[part.hex() for part in proof] for proof in proofs]))
    signatures = [parts[0] for parts in signed]
    few = cases.factors[:FLAWED], cases.announced[:FLAWED]
    tokens = ecash.unblind(pairs(signatures, *few))
    wrong = pairs(cases.amounts[:FLAWED], cases.secrets[1 : FLAWED + 1], tokens)
    assert not any(cases.keyset.verify(wrong))
    rows = hexed(cases.private[:FLAWED], cases.secrets[1 : FLAWED + 1], tokens)
    assert not any(nutshell.ask("verify", rows))


def test_both_name_keysets_alike(nutshell):
    chance = random.Random(f"{SEED} keysets")
    asked, ours = [], []
    for _ in range(200):
        secrets = [(1 << place, scalar(chance)) for place in range(chance.randrange(1, 65))]
        keyset = ecash.KeysetKeys.from_secrets(secrets, "work")
        unit, fee = chance.choice(["sat", "work", "msat"]), chance.choice([0, 1, 100])
        expiry = chance.choice([0, 1, 2_000_000_000])
        asked.append([unit, str(fee), str(expiry), *(key.hex() for _, key in keyset.public)])
        ours.append(ecash.keyset_id(keyset.public[::-1], unit, fee, expiry).hex())
    assert nutshell.ask("keyset", asked) == ours
