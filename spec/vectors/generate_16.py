"""Writes `16-threshold-keys.json`: runs, messages, complaints, keys, stored shares, signatures."""

from __future__ import annotations

from typing import Any

from frost import Generation, Run, be, point
from layout import le, named
from layout import write as write_vectors
from sealing import xchacha20_poly1305
from secp256k1 import ORDER, public_key, tagged_hash

MESSAGE, ROOT = named("message that is signed"), named("root of a script tree")


def scalar(name: str) -> int:
    return int.from_bytes(named(name), "big") % ORDER


def identity_secrets(count: int) -> list[bytes]:
    """Returns members' secrets in the order of their keys."""
    secrets = (named(f"identity secret {number}") for number in range(count))
    return sorted(secrets, key=public_key)


def run_of(count: int, threshold: int, purpose: int, attempt: int) -> Run:
    members = [public_key(secret) for secret in identity_secrets(count)]
    return Run(named("committee"), purpose, attempt, threshold, members)


def generation_of(run: Run, wrong: dict[tuple[int, int], bytes] | None = None) -> Generation:
    seed = run.id.hex()
    members = range(len(run.members))
    return Generation(
        run,
        [[scalar(f"{seed} {m} {power}") for power in range(run.threshold)] for m in members],
        [named(f"{seed} sealing {m}") for m in members],
        [scalar(f"{seed} proof {m}") for m in members],
        wrong or {},
    )


def run_inputs(run: Run) -> dict[str, Any]:
    return {
        "committee": run.committee.hex(),
        "purpose": run.purpose,
        "attempt": run.attempt,
        "threshold": run.threshold,
        "members": [member.hex() for member in run.members],
    }


def runs() -> list[dict[str, Any]]:
    shapes = [
        ("two", 2, 2, 1, 0),
        ("four", 4, 3, 2, 0),
        ("again", 4, 3, 2, 70_000),
        ("oracle", 7, 5, 3, 1),
    ]
    cases = []
    for name, count, threshold, purpose, attempt in shapes:
        run = run_of(count, threshold, purpose, attempt)
        expected = {"encoded": run.encode().hex(), "id": run.id.hex()}
        cases.append({"id": f"run-{name}", "inputs": run_inputs(run), "expected": expected})
    return cases


def broadcast(generation: Generation) -> dict[str, Any]:
    members = range(len(generation.run.members))
    return {
        "run": run_inputs(generation.run),
        "first_messages": [generation.first(member).hex() for member in members],
        "second_messages": [generation.second(member).hex() for member in members],
    }


def generations() -> list[dict[str, Any]]:
    cases = []
    for name, purpose in [("checkpoint", 1), ("treasury", 2)]:
        generation = generation_of(run_of(4, 3, purpose, 0))
        key, transcript = generation.key(), generation.transcript()
        expected = {
            "digest": generation.firsts_digest().hex(),
            "transcript": transcript.hex(),
            "certificate_hash": tagged_hash("radpool/dkg-certificate", transcript).hex(),
            "key": generation.encode_key().hex(),
            "internal_key": point(key.secret)[1:].hex(),
        }
        if name == "treasury":
            expected["merkle_root"] = ROOT.hex()
            expected["output_key"] = point(key.tweaked(ROOT).secret)[1:].hex()
        cases.append({"id": f"key-{name}", "inputs": broadcast(generation), "expected": expected})
    return cases


def refused_first_messages() -> list[dict[str, Any]]:
    run = run_of(4, 3, 2, 0)
    other = generation_of(run_of(4, 3, 2, 1)).first(1)
    good = generation_of(run).first(1)
    changed = {
        "length": good + b"\0",
        "run": other,
        "sealing-key": good[:32] + bytes(32) + good[64:],
        "commitment": good[:64] + b"\4" + good[65:],
        "proof": good[:-1] + bytes([good[-1] ^ 1]),
        # The proof of another run of the same member, under this run's name.
        "replayed-proof": run.id + other[32:],
    }
    return [
        {
            "id": f"first-message-{name}",
            "inputs": {"run": run_inputs(run), "author": 1, "message": message.hex()},
            "expected_error": name.removeprefix("replayed-"),
        }
        for name, message in changed.items()
    ]


def complaints() -> list[dict[str, Any]]:
    run = run_of(4, 3, 2, 2)
    good = generation_of(run)
    wrong = generation_of(run, {(1, 3): be(scalar("wrong share"))})
    none = generation_of(run, {(1, 3): b"\xff" * 32})
    shapes = [
        ("wrong-share", wrong, good.sealing_secrets[3], 1),
        ("unreadable-share", none, good.sealing_secrets[3], 1),
        ("foreign-secret", wrong, named("another secret"), 3),
        ("false-complaint", good, good.sealing_secrets[3], 3),
    ]
    cases = []
    for fault, generation, secret, culprit in shapes:
        complaint = (run.id + le(1, 2) + secret).hex()
        inputs = {**broadcast(generation), "accuser": 3, "complaint": complaint}
        expected = {"culprit": culprit, "fault": fault}
        cases.append({"id": f"complaint-{fault}", "inputs": inputs, "expected": expected})
    return cases


def stored() -> list[dict[str, Any]]:
    generation = generation_of(run_of(4, 3, 2, 0))
    cases = []
    for index in (0, 3):
        secret = identity_secrets(4)[index]
        head = b"RPKS\1" + named(f"storage nonce {index}", 24)
        plain = le(index, 2) + be(generation.key().shares[index]) + generation.encode_key()
        key = tagged_hash("radpool/key-storage", secret)
        data = head + xchacha20_poly1305(key, head[5:], plain, head + public_key(secret))
        inputs = {"owner_secret": secret.hex(), "data": data.hex()}
        expected = {"index": index, "key": generation.encode_key().hex()}
        cases.append({"id": f"stored-{index}", "inputs": inputs, "expected": expected})
    return cases


def sessions() -> list[dict[str, Any]]:
    shapes = [
        ("checkpoint", 1, None, 0, [0, 1, 2]),
        ("treasury", 2, None, 1, [0, 2, 3]),
        ("tweaked", 2, ROOT, 2**40, [1, 2, 3]),
        ("other-signers", 2, ROOT, 2**40 + 1, [0, 1, 3]),
    ]
    cases = []
    for name, purpose, root, number, signers in shapes:
        generation = generation_of(run_of(4, 3, purpose, 0))
        nonces = {
            index: (scalar(f"{name} hiding {index}"), scalar(f"{name} binding {index}"))
            for index in signers
        }
        commitments = {
            index: le(3, 8) + le(17 + index, 8) + point(hiding) + point(binding)
            for index, (hiding, binding) in nonces.items()
        }
        tweak = b"\0" if root is None else b"\1" + root
        signing_id = tagged_hash("radpool/signing-id", generation.transcript(), MESSAGE, tweak)
        listed = b"".join(le(index, 2) + commitments[index] for index in signers)
        session = tagged_hash("radpool/signing-session", signing_id, le(number, 8), listed)
        key = generation.key() if root is None else generation.key().tweaked(root)
        scalars, signature = key.sign(MESSAGE, nonces)
        cases.append(
            {
                "id": f"session-{name}",
                "inputs": {
                    "key": generation.encode_key().hex(),
                    "message": MESSAGE.hex(),
                    "merkle_root": root and root.hex(),
                    "number": number,
                    "signers": signers,
                    "commitments": [commitments[index].hex() for index in signers],
                },
                "expected": {
                    "signing_id": signing_id.hex(),
                    "session": session.hex(),
                    "shares": [(session + scalars[index]).hex() for index in signers],
                    "signature": signature.hex(),
                    "output_key": point(key.secret)[1:].hex(),
                },
            }
        )
    return cases


write_vectors(
    "16-threshold-keys.json",
    ["Page 16. Members are numbers; whoever has a generation's secrets has made all of its bytes."],
    {
        "runs": runs(),
        "generations": generations(),
        "refused_first_messages": refused_first_messages(),
        "complaints": complaints(),
        "stored": stored(),
        "sessions": sessions(),
    },
)
