"""Writes `10-job-declaration.json`: messages, tokens' outputs, coinbases, custom jobs, lots."""

from __future__ import annotations

from typing import Any

from layout import (
    OWNER_SCRIPT_START,
    POOL_OUTPUT,
    WITNESS_COMMITMENT,
    Owner,
    commitment_of,
    compact_size,
    height_push,
    le,
    named,
    output,
)
from layout import write as write_vectors
from secp256k1 import public_key, tagged_hash

MSP_KEY = public_key(named("msp secret"))
PAYOUT = bytes([0, 20]) + named("pool script", 20)
HIDDEN_START = bytes([0x6A, 0x24]) + b"RADH"
HEIGHT = 870_001
TIP = named("tip of page 10")
NBITS = 0x17021369
MIN_NTIME = 1_790_000_000
NOW = MIN_NTIME + 600
MTP = MIN_NTIME - 3_000
PATH = [named(f"sibling {n}") for n in range(3)]
EXTRANONCE_LEN = 12
EPOCH = 9
EXPONENTS = [32, 96]


def owner_of(account: str, epoch: int = EPOCH, rail: int = 0) -> Owner:
    return Owner(commitment_of(account, named(f"salt of {account}", 16)), epoch, rail)


ALICE, BOB = owner_of("alice"), owner_of("bob")


def tag(owner: Owner = ALICE, z: int = 40) -> bytes:
    return output(0, owner.script(MSP_KEY, z))


def hidden_script(owner: Owner = ALICE) -> bytes:
    hashed = MSP_KEY + owner.commitment + le(owner.rail, 1)
    return HIDDEN_START + tagged_hash("radpool/hidden", hashed)


def mark(owner: Owner = ALICE) -> bytes:
    return output(0, hidden_script(owner))


def text(value: str) -> bytes:
    return le(len(value), 1) + value.encode()


def short(value: bytes) -> bytes:
    return le(len(value), 1) + value


def long(value: bytes) -> bytes:
    return le(len(value), 2) + value


def message_case(name: str, number: int, fields: dict[str, Any], payload: bytes) -> dict[str, Any]:
    return {
        "id": f"message-{name}",
        "inputs": {"message": name, "fields": fields},
        "expected": {"msg_type": number, "payload": payload.hex()},
    }


def messages() -> list[dict[str, Any]]:
    token, fresh = named("token"), named("fresh token")
    outputs = b"\x02" + output(0, PAYOUT) + tag()
    prefix, suffix = halves()
    wtxids = [named(f"wtxid {n}") for n in range(3)]
    raws = [named("raw transaction 0", 20), named("raw transaction 1", 31)]
    return [
        message_case(
            "AllocateMiningJobToken",
            0x50,
            {"user_identifier": "alice.rig,z=40", "request_id": 7},
            text("alice.rig,z=40") + le(7, 4),
        ),
        message_case(
            "AllocateMiningJobTokenSuccess",
            0x51,
            {
                "request_id": 7,
                "mining_job_token": token.hex(),
                "coinbase_tx_outputs": outputs.hex(),
            },
            le(7, 4) + short(token) + long(outputs),
        ),
        message_case(
            "DeclareMiningJob",
            0x57,
            {
                "request_id": 8,
                "mining_job_token": token.hex(),
                "version": 0x20000000,
                "coinbase_tx_prefix": prefix.hex(),
                "coinbase_tx_suffix": suffix.hex(),
                "wtxid_list": [each.hex() for each in wtxids],
                "excess_data": "",
            },
            le(8, 4)
            + short(token)
            + le(0x20000000, 4)
            + long(prefix)
            + long(suffix)
            + le(len(wtxids), 2)
            + b"".join(wtxids)
            + long(b""),
        ),
        message_case(
            "ProvideMissingTransactions",
            0x55,
            {"request_id": 8, "unknown_tx_position_list": [0, 2]},
            le(8, 4) + le(2, 2) + le(0, 2) + le(2, 2),
        ),
        message_case(
            "ProvideMissingTransactionsSuccess",
            0x56,
            {"request_id": 8, "transaction_list": [each.hex() for each in raws]},
            le(8, 4) + le(2, 2) + b"".join(le(len(each), 3) + each for each in raws),
        ),
        message_case(
            "DeclareMiningJobSuccess",
            0x58,
            {"request_id": 8, "new_mining_job_token": fresh.hex()},
            le(8, 4) + short(fresh),
        ),
        message_case(
            "DeclareMiningJobError",
            0x59,
            {
                "request_id": 8,
                "error_code": "invalid-job",
                "error_details": b"bad-cb-amount: pays too much".hex(),
            },
            le(8, 4) + text("invalid-job") + long(b"bad-cb-amount: pays too much"),
        ),
        message_case(
            "PushSolution",
            0x60,
            {
                "extranonce": named("extranonce", EXTRANONCE_LEN).hex(),
                "prev_hash": TIP.hex(),
                "nonce": 1,
                "ntime": MIN_NTIME,
                "nbits": NBITS,
                "version": 0x20002000,
            },
            short(named("extranonce", EXTRANONCE_LEN))
            + TIP
            + le(1, 4)
            + le(MIN_NTIME, 4)
            + le(NBITS, 4)
            + le(0x20002000, 4),
        ),
    ]


def token_outputs() -> list[dict[str, Any]]:
    cases = []
    for name, owner, z, hidden in [
        ("whole", ALICE, 40, False),
        ("hidden", ALICE, 40, True),
        ("other-owner", BOB, 32, False),
        ("other-owner-hidden", BOB, 96, True),
        ("ecash", owner_of("ecash.window", rail=1), 33, False),
    ]:
        outputs = [output(0, PAYOUT), tag(owner, z)] + ([mark(owner)] if hidden else [])
        cases.append(
            {
                "id": f"token-outputs-{name}",
                "inputs": {
                    "msp_key": MSP_KEY.hex(),
                    "payout_script": PAYOUT.hex(),
                    "commitment": owner.commitment.hex(),
                    "rail": owner.rail,
                    "epoch": owner.epoch,
                    "exponent": z,
                    "hidden": hidden,
                },
                "expected": {
                    "coinbase_tx_outputs": (bytes([len(outputs)]) + b"".join(outputs)).hex()
                },
            }
        )
    return cases


def halves(  # noqa: PLR0913 - each is one thing that can be wrong
    *,
    outputs: list[bytes] | None = None,
    count: bytes | None = None,
    script: bytes | None = None,
    script_len: int | None = None,
    witness: bool = True,
    start: bytes = b"\x01" + bytes(32) + b"\xff" * 4,
    reserved: bytes = b"\x01\x20" + bytes(32),
    locktime: bytes = le(HEIGHT - 1, 4),
) -> tuple[bytes, bytes]:
    outputs = [POOL_OUTPUT, tag(), WITNESS_COMMITMENT] if outputs is None else outputs
    script = height_push(HEIGHT) + b"/me/" if script is None else script
    length = len(script) + EXTRANONCE_LEN if script_len is None else script_len
    prefix = le(2, 4) + (b"\x00\x01" if witness else b"") + start + le(length, 1) + script
    counted = compact_size(len(outputs)) if count is None else count
    suffix = b"\xfe\xff\xff\xff" + counted + b"".join(outputs)
    return prefix, suffix + (reserved if witness else b"") + locktime


def declared_case(
    name: str, cut: tuple[bytes, bytes], error: str | None = None, **expected: Any
) -> dict[str, Any]:
    prefix, suffix = cut
    case: dict[str, Any] = {
        "id": f"coinbase-{name}",
        "inputs": {"coinbase_tx_prefix": prefix.hex(), "coinbase_tx_suffix": suffix.hex()},
    }
    if error:
        case["expected_error"] = error
    else:
        extranonce_len = expected.pop("extranonce_len", EXTRANONCE_LEN)
        extranonce = named("extranonce")[:extranonce_len]
        script_at = 4 + (2 if expected["witness"] else 0) + 37 + 1
        stripped = prefix[:4] + prefix[6:] if expected["witness"] else prefix
        tail = suffix[:-38] + suffix[-4:] if expected["witness"] else suffix
        case["expected"] = {
            "script_prefix": prefix[script_at:].hex(),
            "extranonce_len": extranonce_len,
            "reserved": bytes(32).hex() if expected["witness"] else "",
            "extranonce": extranonce.hex(),
            "transaction": (prefix + extranonce + suffix).hex(),
            "transaction_without_witness": (stripped + extranonce + tail).hex(),
        }
    return case


def declared_coinbases() -> list[dict[str, Any]]:
    wrong = "invalid-coinbase-tx"
    prefix, suffix = halves()
    full = height_push(HEIGHT) + bytes(100 - 4)
    right = [
        declared_case("usual", halves(), witness=True),
        declared_case("without-witness", halves(witness=False), witness=False),
        declared_case("no-extranonce", halves(script_len=8), witness=True, extranonce_len=0),
        declared_case("extranonce-32", halves(script_len=40), witness=True, extranonce_len=32),
        declared_case(
            "script-of-100", halves(script=full, script_len=100), witness=True, extranonce_len=0
        ),
        declared_case("no-outputs", halves(outputs=[]), witness=True),
        declared_case("253-outputs", halves(outputs=[output(0, b"\x51")] * 253), witness=True),
    ]
    faults: dict[str, tuple[bytes, bytes]] = {
        "empty": (b"", b""),
        "prefix-cut": (prefix[:40], suffix),
        "suffix-cut": (prefix, suffix[:-1]),
        "suffix-longer": (prefix, suffix + b"\x00"),
        "two-inputs": halves(start=b"\x02" + bytes(32) + b"\xff" * 4),
        "other-outpoint": halves(start=b"\x01" + named("outpoint") + b"\xff" * 4),
        "other-index": halves(start=b"\x01" + bytes(36)),
        "script-of-1": halves(script=b"", script_len=1),
        "script-of-101": halves(script=full + b"\x00", script_len=101),
        "extranonce-33": halves(script_len=41),
        "script-shorter-than-prefix": halves(script_len=7),
        "extranonce-before-the-end": (prefix, b"\x51" + suffix),
        "witness-in-the-prefix-alone": (prefix, halves(witness=False)[1]),
        "witness-in-the-suffix-alone": (halves(witness=False)[0], suffix),
        "reserved-of-31": halves(reserved=b"\x01\x1f" + bytes(31)),
        "two-witness-items": halves(reserved=b"\x02\x20" + bytes(33)),
        "count-too-high": halves(count=b"\x04"),
        "count-too-low": halves(count=b"\x02"),
        "count-in-long-form": halves(count=b"\xfd\x03\x00"),
        "count-of-four-bytes": halves(count=b"\xfe\x03\x00\x00\x00"),
        "more-money-than-there-is": halves(outputs=[output(21_000_000 * 10**8 + 1, b"\x51")]),
        "more-money-in-sum": halves(outputs=[output(21_000_000 * 10**8, b"\x51")] * 2),
        "no-lock-time": halves(locktime=b""),
    }
    return right + [declared_case(name, cut, wrong) for name, cut in faults.items()]


def terms_case(
    name: str, outputs: list[bytes], *, hidden: bool = False, **expected: int
) -> dict[str, Any]:
    case: dict[str, Any] = {
        "id": f"terms-{name}",
        "inputs": {
            "msp_key": MSP_KEY.hex(),
            "payout_script": PAYOUT.hex(),
            "commitment": ALICE.commitment.hex(),
            "rail": ALICE.rail,
            "epoch": EPOCH,
            "exponents": EXPONENTS,
            "hidden": hidden,
            "output_count": len(outputs),
            "outputs": b"".join(outputs).hex(),
        },
    }
    if expected:
        case["expected"] = expected
    else:
        case["expected_error"] = "invalid-coinbase-tx-outputs"
    return case


def terms() -> list[dict[str, Any]]:
    paid = POOL_OUTPUT
    value = int.from_bytes(POOL_OUTPUT[:8], "little")
    unknown = output(0, OWNER_SCRIPT_START + b"\x2f\xff" + bytes(32))
    stub = output(0, OWNER_SCRIPT_START)
    usual = {"paid_sats": value, "epoch": EPOCH, "exponent": 40}
    return [
        terms_case("usual", [paid, tag(), WITNESS_COMMITMENT], **usual),
        terms_case("reordered", [WITNESS_COMMITMENT, tag(), paid], **usual),
        terms_case(
            "paid-twice",
            [paid, tag(), output(7, PAYOUT), WITNESS_COMMITMENT],
            **{**usual, "paid_sats": value + 7},
        ),
        terms_case("own-output", [output(1, b"\x51"), paid, tag()], **usual),
        terms_case("hidden", [paid, tag(), mark()], hidden=True, **usual),
        *(
            terms_case(
                f"epoch-{back}-back",
                [paid, tag(owner_of("alice", EPOCH - back))],
                **{**usual, "epoch": EPOCH - back},
            )
            for back in (1, 2)
        ),
        *(
            terms_case(f"exponent-{z}", [paid, tag(z=z)], **{**usual, "exponent": z})
            for z in EXPONENTS
        ),
        terms_case("epoch-3-back", [paid, tag(owner_of("alice", EPOCH - 3))]),
        terms_case("epoch-ahead", [paid, tag(owner_of("alice", EPOCH + 1))]),
        terms_case("exponent-below", [paid, tag(z=31)]),
        terms_case("exponent-above", [paid, tag(z=97)]),
        terms_case("no-tag", [paid, WITNESS_COMMITMENT]),
        terms_case("two-tags", [paid, tag(), tag()]),
        terms_case("second-tag-unknown", [paid, tag(), unknown]),
        terms_case("second-tag-stub", [paid, tag(), stub]),
        terms_case("tag-with-value", [paid, output(1, ALICE.script(MSP_KEY, 40))]),
        terms_case("other-owner", [paid, tag(BOB)]),
        terms_case("other-rail", [paid, tag(owner_of("alice", rail=1))]),
        terms_case("pays-nothing", [output(0, PAYOUT), tag()]),
        terms_case("pays-others", [output(5, b"\x51"), tag()]),
        terms_case("hidden-without-mark", [paid, tag()], hidden=True),
        terms_case("hidden-mark-of-another", [paid, tag(), mark(BOB)], hidden=True),
        terms_case("hidden-two-marks", [paid, tag(), mark(), mark(BOB)], hidden=True),
        terms_case(
            "hidden-mark-with-value", [paid, tag(), output(1, hidden_script())], hidden=True
        ),
        terms_case("mark-on-a-whole-one", [paid, tag(), mark()]),
    ]


def job_of(**changes: Any) -> dict[str, Any]:
    outputs = [POOL_OUTPUT, tag(), WITNESS_COMMITMENT]
    job = {
        "version": 0x20000000,
        "prev_hash": TIP.hex(),
        "min_ntime": MIN_NTIME,
        "nbits": NBITS,
        "coinbase_tx_version": 2,
        "coinbase_prefix": (height_push(HEIGHT) + b"/me/").hex(),
        "coinbase_tx_input_n_sequence": 0xFFFFFFFE,
        "output_count": len(outputs),
        "coinbase_tx_outputs": b"".join(outputs).hex(),
        "coinbase_tx_locktime": HEIGHT - 1,
        "merkle_path": [each.hex() for each in PATH],
        "extranonce_len": EXTRANONCE_LEN,
    }
    return {**job, **changes}


def job_case(
    name: str,
    error: str | None = None,
    *,
    hidden: bool = False,
    time_min: int | None = MTP + 1,
    **changes: Any,
) -> dict[str, Any]:
    prefix, suffix = halves()
    declared = {
        "version": 0x20000000,
        "coinbase_tx_prefix": prefix.hex(),
        "coinbase_tx_suffix": suffix.hex(),
        "merkle_path": [each.hex() for each in PATH],
    }
    case: dict[str, Any] = {
        "id": f"job-{name}",
        "inputs": {
            "tip": {
                "height": HEIGHT,
                "prev_hash": TIP.hex(),
                "min_ntime": MIN_NTIME,
                "nbits": NBITS,
                "time_min": time_min,
            },
            "now_unix_s": NOW,
            "declared": None if hidden else declared,
            "job": job_of(**changes),
        },
    }
    if error:
        case["expected_error"] = error
    else:
        case["expected"] = {"accepted": True}
    return case


def custom_jobs() -> list[dict[str, Any]]:
    swapped = b"".join([tag(), POOL_OUTPUT, WITNESS_COMMITMENT]).hex()
    usual = job_of()["coinbase_tx_outputs"]
    outputs, prefix = "invalid-coinbase-tx-outputs", "invalid-coinbase-prefix"
    path = job_of()["merkle_path"]
    later = height_push(HEIGHT + 1).hex()
    return [
        job_case("usual"),
        job_case("rolled-version", version=0x20000000 | 0x1FFFFFE0),
        job_case("latest-ntime", min_ntime=NOW + 7200),
        job_case("nbits", "invalid-nbits", nbits=NBITS + 1),
        job_case("ntime-of-a-node-that-was-first", min_ntime=MIN_NTIME - 1),
        job_case("least-ntime", min_ntime=MTP + 1),
        job_case("ntime-early", "invalid-min-ntime", min_ntime=MTP),
        job_case("unknown-least-ntime", time_min=None, min_ntime=MIN_NTIME - 7200),
        job_case(
            "unknown-ntime-early", "invalid-min-ntime", time_min=None, min_ntime=MIN_NTIME - 7201
        ),
        job_case("ntime-late", "invalid-min-ntime", min_ntime=NOW + 7201),
        *(
            job_case(f"version-bit-{bit}", "invalid-version", version=0x20000000 ^ 1 << bit)
            for bit in (0, 4, 29, 31)
        ),
        job_case("tx-version", "invalid-coinbase-tx-version", coinbase_tx_version=1),
        job_case("script", prefix, coinbase_prefix=later),
        job_case("script-longer", prefix, coinbase_prefix=job_of()["coinbase_prefix"] + "00"),
        job_case("extranonce-shorter", prefix, extranonce_len=EXTRANONCE_LEN - 1),
        job_case(
            "sequence",
            "invalid-coinbase-tx-input-n-sequence",
            coinbase_tx_input_n_sequence=0xFFFFFFFF,
        ),
        job_case("outputs-swapped", outputs, coinbase_tx_outputs=swapped),
        job_case("outputs-cut", outputs, coinbase_tx_outputs=usual[:-2]),
        job_case("outputs-longer", outputs, coinbase_tx_outputs=usual + "00"),
        job_case("outputs-miscounted", outputs, output_count=2),
        job_case("locktime", "invalid-coinbase-tx-locktime", coinbase_tx_locktime=0),
        job_case("path-shorter", "invalid-merkle-path", merkle_path=path[:2]),
        job_case("path-swapped", "invalid-merkle-path", merkle_path=path[::-1]),
        job_case("nbits-before-version", "invalid-nbits", nbits=0, version=0),
        job_case(
            "version-before-outputs", "invalid-version", version=0, coinbase_tx_outputs=swapped
        ),
        job_case("hidden", hidden=True),
        job_case("hidden-any-path", hidden=True, merkle_path=[]),
        job_case("hidden-version-4", hidden=True, version=4),
        job_case("hidden-version-3", "invalid-version", hidden=True, version=3),
        job_case("hidden-version-negative", "invalid-version", hidden=True, version=1 << 31),
        job_case("hidden-other-height", prefix, hidden=True, coinbase_prefix=later),
    ]


def challenges() -> list[dict[str, Any]]:
    cases = []
    token = named("hidden token")
    drawn = [n for n in range(600) if is_challenged(named(f"block {n}"), token)]
    free = [n for n in range(600) if not is_challenged(named(f"block {n}"), token)]
    for number in sorted(drawn[:4] + free[:6]):
        block_hash = named(f"block {number}")
        cases.append(
            {
                "id": f"challenge-{number}",
                "inputs": {"block_hash": block_hash.hex(), "token": token.hex()},
                "expected": {
                    "hash": tagged_hash("radpool/challenge", block_hash + token).hex(),
                    "challenged": number in drawn,
                },
            }
        )
    return cases


def is_challenged(block_hash: bytes, token: bytes) -> bool:
    return tagged_hash("radpool/challenge", block_hash + token)[0] % 64 == 0


write_vectors(
    "10-job-declaration.json",
    ["Page 10. Hashes, scripts and serialised parts are bytes in the order they are sent in."],
    {
        "messages": messages(),
        "token_outputs": token_outputs(),
        "declared_coinbases": declared_coinbases(),
        "terms": terms(),
        "custom_jobs": custom_jobs(),
        "challenges": challenges(),
    },
)
