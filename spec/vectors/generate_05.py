"""Writes `05-ecash-messages.json`: the twelve messages, claims, receipts, signatures and
cash-outs."""

from __future__ import annotations

import struct
from typing import Any

from ecash import (
    Keyset,
    Signature,
    cash_out_digest,
    compressed,
    derived,
    hash_to_curve,
    receipt_digest,
    receipt_root,
    times,
    uncompressed,
)
from layout import le, named, write
from messages import EXTENSION, MESSAGES, SIGNATURE_TAGS, encode, signed
from secp256k1 import FIELD, public_key, sign, tagged_hash

MSP_SECRET = named("msp secret")
MSP_KEY = public_key(MSP_SECRET)
MINT_KEY = b"\x02" + MSP_KEY
SEED = named("mint seed")
WALLET = named("wallet seed") + named("wallet seed, second half")
WORK = Keyset(SEED, "work", 7, 32)
SMALL = Keyset(SEED, "work", 8, 118)
SAT = Keyset(SEED, "sat", 0)
ZEROS = "00" * 32


def output(keyset: Keyset, counter: int) -> bytes:
    return derived(WALLET, keyset.id, counter).blinded


def signature(made: Signature) -> dict[str, str]:
    return {"C_": made.c.hex(), "e": made.e.hex(), "s": made.s.hex()}


NOTHING = {"C_": "", "e": "", "s": ""}


def announcement(keyset: Keyset, **changes: Any) -> dict[str, Any]:
    work = keyset.unit == "work"
    fields = {
        "keyset_id": keyset.id.hex(),
        "unit": keyset.unit,
        "policy": 2 if work else 255,
        "epoch": 3 if work else 0,
        "opened_height": 900_001 if work else 0,
        "opened_block": named("tip").hex() if work else ZEROS,
        "z0": keyset.z0,
        "keys": [{"z": keyset.z0 + i, "A": key.hex()} for i, key in enumerate(keyset.publics)],
        "input_fee_ppk": 0,
        "final_expiry": 0,
        "fee_ppm": 20_000 if work else 0,
        "fee_fixed_msat": 1_000 if work else 0,
        "price_num": 0,
        "price_den": 0,
        "supersedes": "",
    }
    return signed(MSP_SECRET, "EcashKeysetAnnounce", {**fields, **changes})


def update(**changes: Any) -> dict[str, Any]:
    fields = {
        "keyset_id": WORK.id.hex(),
        "state": 3,
        "block_hash": named("block that pays").hex(),
        "height": 900_017,
        "confirmations": 6,
        "theta_msat": 306_249_999_000,
        "work_total": 27_648,
        "group": [WORK.id.hex(), SMALL.id.hex()],
        "statement_hash": named("statement").hex(),
        "redeem_after_height": 900_116,
        "expires_at": 1_797_776_000,
    }
    return signed(MSP_SECRET, "EcashEpochUpdate", {**fields, **changes})


def open_messages() -> dict[str, tuple[str, dict[str, Any]]]:
    asked = {
        "request_id": 1,
        "user_identity": "",
        "nominal_hash_rate": struct.pack("<f", 1.5e12).hex(),
        "max_target": "ff" * 32,
        "min_extranonce_size": 4,
        "policies_accepted": 0b0100,
        "sign_modes_accepted": 1,
        "min_protocol": 1,
        "claim_pubkey": "",
    }
    given = {
        "request_id": 1,
        "channel_id": 5,
        "target": "ff" * 28 + "00" * 4,
        "extranonce_size": 8,
        "extranonce_prefix": "00000001",
        "group_channel_id": 6,
        "policy": 2,
        "sign_mode": 1,
        "z0": 32,
        "z_step": 1,
        "keyset_id": WORK.id.hex(),
        "mint_pubkey": MINT_KEY.hex(),
        "mint_url": "https://pool.example",
        "max_batch": 500,
    }
    everything = {
        "user_identity": "rig.7",
        "policies_accepted": 0b1111,
        "sign_modes_accepted": 3,
        "claim_pubkey": MINT_KEY.hex(),
    }
    opening = "OpenExtendedEcashMiningChannel"
    return {
        "open": (opening, asked),
        "open-with-claim-key": (opening, {**asked, **everything}),
        "opened": (f"{opening}.Success", given),
        "opened-lazy-network": (
            f"{opening}.Success",
            {**given, "policy": 0, "sign_mode": 2, "mint_url": ""},
        ),
        "not-opened": (
            f"{opening}.Error",
            {"request_id": 1, "error_code": "unsupported-policy"},
        ),
    }


SHARE = {
    "channel_id": 5,
    "sequence_number": 41,
    "job_id": 12,
    "nonce": 0xDEADBEEF,
    "ntime": 1_790_000_000,
    "version": 0x20000000,
    "extranonce": "0000000000000001",
}


def lazy_fields(count: int) -> dict[str, Any]:
    root = bytes(32)
    for i in range(count):
        root = receipt_root(root, output(WORK, i), 32 + i, named(f"share {i}"))
    return {
        "receipt_root": root.hex(),
        "receipt_sig": sign(MSP_SECRET, receipt_digest(5, 40 + count, root)).hex(),
    }


def share_messages() -> dict[str, tuple[str, dict[str, Any]]]:
    success = "SubmitSharesEcashExtended.Success"
    claim = {"keyset_short": WORK.short.hex(), "B_": output(WORK, 0).hex()}
    receipts = [
        {"sequence_number": 41 + i, "z": 32 + i, **signature(WORK.sign(32 + i, output(WORK, i)))}
        for i in range(2)
    ]
    counted = {
        "channel_id": 5,
        "last_sequence_number": 42,
        "new_submits_accepted_count": 2,
        "new_shares_sum": 2**32 + 2**33,
    }
    unsigned = {"receipt_root": "", "receipt_sig": ""}
    bare = [{"sequence_number": 41 + i, "z": 32 + i, **NOTHING} for i in range(2)]
    residue = [{"sequence_number": 43, "z": 255, **NOTHING}]
    repeated = {**counted, "new_submits_accepted_count": 0, "new_shares_sum": 0}
    error = {"channel_id": 5, "sequence_number": 41}
    return {
        "submit": ("SubmitSharesEcashExtended", {**SHARE, **claim}),
        "accepted": (success, {**counted, "receipts": receipts, **unsigned}),
        "accepted-lazy": (success, {**counted, "receipts": bare, **lazy_fields(2)}),
        "accepted-again": (success, {**repeated, "receipts": receipts[1:], **unsigned}),
        "accepted-into-residue": (
            success,
            {
                **counted,
                "last_sequence_number": 43,
                "new_submits_accepted_count": 1,
                "new_shares_sum": 1,
                "receipts": residue,
                **unsigned,
            },
        ),
        "refused": (
            "SubmitSharesEcashExtended.Error",
            {**error, "error_code": "blinded-message-reused"},
        ),
    }


def redeem_messages() -> dict[str, tuple[str, dict[str, Any]]]:
    request = {"request_id": 9, "mode": 0, "keyset_id": WORK.id.hex()}
    first, second = (derived(WALLET, WORK.id, i) for i in range(2))
    proofs = [
        {
            "z": 32 + i,
            "secret": made.secret,
            "C": compressed_signature(WORK, 32 + i, made.secret).hex(),
        }
        for i, made in enumerate((first, second))
    ]
    sats = [
        {"amount": amount, "keyset_short": SAT.short.hex(), "B_": output(SAT, i).hex()}
        for i, amount in enumerate((2, 1))
    ]
    signatures = [
        {"index": i, "amount": 2**i, **signature(WORK.sign(32 + i, output(WORK, i)))}
        for i in range(2)
    ]
    issued = [
        {"index": i, "amount": 2 ** (1 - i), **signature(SAT.sign(1 - i, output(SAT, i)))}
        for i in range(2)
    ]
    answer = {"request_id": 9, "mode": 0}
    lists = {"pending": [], "unknown": []}
    claims = [made.blinded.hex() for made in (first, second)]
    unknown = output(WORK, 99).hex()
    asked = "RedeemSharesEcash"
    return {
        "fetch": (asked, {**request, "claims": [*claims, unknown], "inputs": [], "outputs": []}),
        "fetched": (
            f"{asked}.Success",
            {
                **answer,
                "signatures": signatures,
                "pending": [],
                "unknown": [2],
                "price_num": 0,
                "price_den": 0,
            },
        ),
        "spend": (asked, {**request, "mode": 1, "claims": [], "inputs": proofs, "outputs": sats}),
        "spent": (
            f"{asked}.Success",
            {
                **answer,
                "mode": 1,
                "signatures": issued,
                **lists,
                "price_num": 3_500,
                "price_den": 3,
            },
        ),
        "not-spent": (
            f"{asked}.Error",
            {"request_id": 9, "error_code": "immature", "retry_after_s": 600},
        ),
    }


def compressed_signature(keyset: Keyset, z: int, secret: str) -> bytes:
    return compressed(times(keyset.secrets[z - keyset.z0], hash_to_curve(secret.encode())))


def keyset_messages() -> dict[str, tuple[str, dict[str, Any]]]:
    told = "EcashKeysetAnnounce"
    fixed = {"policy": 3, "epoch": 9, "price_num": 1_234_567, "price_den": 4_096}
    empty = {"block_hash": ZEROS, "height": 0, "confirmations": 0, "theta_msat": 0}
    opened = {**empty, "state": 0, "work_total": 0, "group": [], "statement_hash": ""}
    opened |= {"redeem_after_height": 0, "expires_at": 0}
    return {
        "announced": (told, announcement(WORK)),
        "announced-fixed-price": (
            told,
            announcement(SMALL, **fixed, supersedes=WORK.id.hex()),
        ),
        "announced-sat": (told, announcement(SAT)),
        "ask-keyset": ("EcashKeysetRequest", {"keyset_id": WORK.id.hex()}),
        "ask-current-keysets": ("EcashKeysetRequest", {"keyset_id": ""}),
        "updated-final": ("EcashEpochUpdate", update()),
        "updated-open": ("EcashEpochUpdate", update(**opened)),
    }


RIGHT = {**open_messages(), **share_messages(), **redeem_messages(), **keyset_messages()}


def messages() -> list[dict[str, Any]]:
    cases = []
    for name, (message, fields) in RIGHT.items():
        number, channel, _ = MESSAGES[message]
        cases.append(
            {
                "id": f"message-{name}",
                "inputs": {"message": message, "fields": fields},
                "expected": {
                    "extension_type": EXTENSION,
                    "msg_type": number,
                    "channel_msg": channel,
                    "payload": encode(message, fields).hex(),
                },
            }
        )
    return cases


def malformed() -> list[dict[str, Any]]:
    """Payloads that no receiver takes; claims of shares have rules of their own."""
    wrong: dict[str, tuple[str, bytes]] = {}
    for name, (message, fields) in RIGHT.items():
        if message == "SubmitSharesEcashExtended":
            continue
        payload = encode(message, fields)
        wrong[f"{name}-trailing"] = (message, payload + b"\x00")
        wrong[f"{name}-truncated"] = (message, payload[:-1])
        wrong[f"{name}-empty"] = (message, b"")

    def changed(name: str, **changes: Any) -> tuple[str, bytes]:
        message, fields = RIGHT[name]
        return message, encode(message, {**fields, **changes})

    wrong["claim-key-of-32-bytes"] = changed("open", claim_pubkey="02" * 32)
    wrong["claim-key-of-34-bytes"] = changed("open", claim_pubkey="02" * 34)
    wrong["opened-id-of-8-bytes"] = changed("opened", keyset_id=WORK.short.hex())
    wrong["opened-key-of-32-bytes"] = changed("opened", mint_pubkey=MSP_KEY.hex())
    wrong["receipt-without-proof"] = changed(
        "accepted",
        receipts=[{**RIGHT["accepted"][1]["receipts"][0], "e": "", "s": ""}],
    )
    wrong["receipt-root-alone"] = changed("accepted-lazy", receipt_sig="")
    wrong["redeem-mode-2"] = changed("fetch", mode=2)
    wrong["redeem-short-id"] = changed("fetch", keyset_id=WORK.short.hex())
    wrong["spend-short-id-of-7-bytes"] = changed(
        "spend",
        outputs=[{**RIGHT["spend"][1]["outputs"][0], "keyset_short": "01" * 7}],
    )
    wrong["ask-short-id"] = changed("ask-keyset", keyset_id=WORK.short.hex())
    wrong["state-6"] = changed("updated-final", state=6)
    for name, code in {"text-not-utf-8": b"\xff\xfe"}.items():
        start = encode("RedeemSharesEcash.Error", RIGHT["not-spent"][1])[:4]
        wrong[name] = ("RedeemSharesEcash.Error", start + le(len(code), 1) + code + le(0, 4))
    claims = le(0xFFFF, 2)
    request = encode("RedeemSharesEcash", RIGHT["fetch"][1])
    wrong["65535-claims-announced"] = ("RedeemSharesEcash", request[:39] + claims + request[41:])
    return [
        {
            "id": f"malformed-{name}",
            "inputs": {"message": message, "payload": payload.hex()},
            "expected_error": "malformed",
        }
        for name, (message, payload) in wrong.items()
    ]


def claims() -> list[dict[str, Any]]:
    """The tail of 0x03, and the TLV that carries the same."""
    right, short = output(WORK, 0), WORK.short
    mirror = bytes([right[0] ^ 1]) + right[1:]
    cases = []
    for name, point in {"usual": right, "other-root": mirror}.items():
        tail = le(8, 1) + short + le(33, 1) + point
        value = short + point
        cases.append(
            {
                "id": f"claim-{name}",
                "inputs": {
                    "tail": tail.hex(),
                    "tlv": (le(EXTENSION, 2) + b"\x01" + le(41, 2) + value).hex(),
                },
                "expected": {"keyset_short": short.hex(), "B_": point.hex()},
            }
        )
    x = right[1:]
    whole = uncompressed(hash_to_curve(b"whole"))
    off = next(n for n in range(1, 100) if not is_x(n)).to_bytes(32, "big")
    points = {
        "no-point": b"",
        "32-bytes": x,
        "34-bytes": right + b"\x00",
        "infinity-of-one-byte": b"\x00",
        "infinity-of-33-bytes": bytes(33),
        "prefix-00": b"\x00" + x,
        "prefix-01": b"\x01" + x,
        "prefix-04": b"\x04" + x,
        "prefix-05": b"\x05" + x,
        "prefix-06": b"\x06" + x,
        "prefix-ff": b"\xff" + x,
        "uncompressed": whole,
        "hybrid": b"\x06" + whole[1:],
        "off-the-curve": b"\x02" + off,
        "x-is-0": b"\x02" + bytes(32),
        "x-is-the-field": b"\x02" + FIELD.to_bytes(32, "big"),
        "x-above-the-field": b"\x03" + (FIELD + 1).to_bytes(32, "big"),
        "x-of-ones": b"\x02" + b"\xff" * 32,
    }
    tails = {name: le(8, 1) + short + le(len(p), 1) + p for name, p in points.items()}
    usual = le(8, 1) + short + le(33, 1) + right
    tails |= {
        "nothing": b"",
        "keyset-alone": usual[:9],
        "keyset-of-7-bytes": le(7, 1) + short[:7] + usual[9:],
        "keyset-of-9-bytes": le(9, 1) + short + b"\x00" + usual[9:],
        "cut": usual[:-1],
        "trailing": usual + b"\x00",
    }
    cases += [
        {
            "id": f"claim-{name}",
            "inputs": {"tail": tail.hex()},
            "expected_error": "invalid-blinded-message",
        }
        for name, tail in tails.items()
    ]
    return cases


def is_x(x: int) -> bool:
    return pow(x**3 + 7, (FIELD - 1) // 2, FIELD) == 1


def receipts() -> list[dict[str, Any]]:
    """Running roots of a lazy channel, with the signature over each."""
    cases = []
    for count in (0, 1, 2, 5):
        rows = [(output(WORK, i), 32 + i, named(f"share {i}")) for i in range(count)]
        roots, root = [], bytes(32)
        for blinded, z, share_hash in rows:
            root = receipt_root(root, blinded, z, share_hash)
            roots.append(root.hex())
        digest = receipt_digest(5, 40 + count, root)
        cases.append(
            {
                "id": f"receipts-{count}",
                "inputs": {
                    "msp_secret": MSP_SECRET.hex(),
                    "channel_id": 5,
                    "last_sequence_number": 40 + count,
                    "claims": [
                        {"B_": blinded.hex(), "z": z, "share_hash": share_hash.hex()}
                        for blinded, z, share_hash in rows
                    ],
                },
                "expected": {
                    "roots": roots,
                    "root": root.hex(),
                    "digest": digest.hex(),
                    "msp_key": MSP_KEY.hex(),
                    "receipt_sig": sign(MSP_SECRET, digest).hex(),
                },
            }
        )
    return cases


def signatures() -> list[dict[str, Any]]:
    """Announcements and updates as a client checks them."""
    cases: list[dict[str, Any]] = []
    for name, (message, fields) in RIGHT.items():
        if message not in SIGNATURE_TAGS:
            continue
        payload = encode(message, fields)
        digest = tagged_hash(SIGNATURE_TAGS[message], payload[:-64])
        inputs = {"message": message, "msp_key": MSP_KEY.hex()}
        expected = {"digest": digest.hex(), "signature": fields["sig"]}
        cases.append(
            {
                "id": f"signature-{name}",
                "inputs": {**inputs, "payload": payload.hex()},
                "expected": expected,
            }
        )
        flipped = payload[:-70] + bytes([payload[-70] ^ 1]) + payload[-69:]
        cases.append(
            {
                "id": f"signature-{name}-altered",
                "inputs": {**inputs, "payload": flipped.hex()},
                "expected_error": "signature",
            }
        )
    told = "EcashKeysetAnnounce"
    inputs = {"message": told, "msp_key": MSP_KEY.hex()}
    swapped = RIGHT["announced"][1]["keys"]
    swapped = [{**row, "A": swapped[i ^ 1]["A"]} for i, row in enumerate(swapped)]
    lies = {
        "keys-swapped": announcement(WORK, keys=swapped),
        "key-missing": announcement(WORK, keys=RIGHT["announced"][1]["keys"][:-1]),
        "other-unit": announcement(WORK, unit="hash"),
        "other-z0": announcement(SMALL, z0=117),
        "with-input-fee": announcement(WORK, input_fee_ppk=1),
        "with-final-expiry": announcement(WORK, final_expiry=1),
        "version-2-id": announcement(WORK, keyset_id="02" + WORK.id.hex()[2:]),
    }
    cases += [
        {
            "id": f"keyset-id-{name}",
            "inputs": {**inputs, "payload": encode(told, fields).hex()},
            "expected_error": "keyset-id",
        }
        for name, fields in lies.items()
    ]
    return cases


def cash_outs() -> list[dict[str, Any]]:
    """What the holder of a claim key signs, right and altered."""
    secret = named("claim key")
    # The wallet takes the key whose point is even; the signature is that of its x.
    claim_key = b"\x02" + public_key(secret)
    blinded = [output(WORK, 900 + i) for i in range(3)]
    kinds = {
        "one": [(1, blinded[0])],
        "three-ascending": [(1, blinded[0]), (4, blinded[1]), (2**40, blinded[2])],
        "three-as-they-come": [(4, blinded[2]), (1, blinded[1]), (4, blinded[0])],
        "largest": [(2**62, blinded[0])],
    }
    cases: list[dict[str, Any]] = []
    for name, outputs in kinds.items():
        hashed = cash_out_digest(claim_key, WORK.id, outputs)
        signature = sign(secret, hashed)
        inputs = {
            "claim_key": claim_key.hex(),
            "keyset_id": WORK.id.hex(),
            "outputs": [{"amount": str(amount), "B_": each.hex()} for amount, each in outputs],
        }
        cases.append(
            {
                "id": f"cash-out-{name}",
                "inputs": {**inputs, "signature": signature.hex()},
                "expected": {"hash": hashed.hex()},
            }
        )
    for name, change in {
        "other-keyset": {"keyset_id": SMALL.id.hex()},
        "other-key": {"claim_key": (b"\x02" + MSP_KEY).hex()},
        "other-amount": {"outputs": [{**inputs["outputs"][0], "amount": "1"}]},
        "signature-of-nothing": {"signature": "00" * 64},
    }.items():
        wrong = {**inputs, "signature": signature.hex(), **change}
        cases.append(
            {
                "id": f"cash-out-refused-{name}",
                "inputs": wrong,
                "expected_error": "invalid-signature",
            }
        )
    return cases


write(
    "05-ecash-messages.json",
    [
        "Page 05. Bytes are in the order in which they are sent; nominal_hash_rate is the four",
        "bytes of the number. Lists of records are lists of objects.",
    ],
    {
        "messages": messages(),
        "malformed": malformed(),
        "claims": claims(),
        "receipts": receipts(),
        "signatures": signatures(),
        "cash_outs": cash_outs(),
    },
)
