"""Writes `02-owner-tag.json`: commitments, tags, scripts that are none, and coinbases."""

from __future__ import annotations

from typing import Any

from layout import (
    OWNER_SCRIPT_START,
    POOL_OUTPUT,
    WITNESS_COMMITMENT,
    Body,
    Owner,
    coinbase_start,
    commitment_of,
    height_push,
    le,
    named,
    output,
    template,
)
from layout import write as write_vectors
from secp256k1 import public_key

SECRET = named("msp secret")
MSP_KEY = public_key(SECRET)
OWNER = Owner(commitment_of("alice", named("salt of alice", 16)), epoch=7)


def commitments() -> list[dict[str, Any]]:
    names = {
        "plain": "alice",
        "one-letter": "a",
        "accents": "Zoë Ångström",
        "address": "bc1qexample",
    }
    return [
        {
            "id": f"commitment-{name}",
            "inputs": {"account": account, "salt": named(f"salt of {account}", 16).hex()},
            "expected": {
                "commitment": commitment_of(account, named(f"salt of {account}", 16)).hex()
            },
        }
        for name, account in names.items()
    ]


def tags() -> list[dict[str, Any]]:
    fields = [(0, 0, 0), (1, 0, 32), (7, 1, 41), (258, 2, 120), (2**32 - 1, 0, 8)]
    cases = []
    for epoch, rail, z in fields:
        owner = Owner(OWNER.commitment, epoch, rail)
        cases.append(
            {
                "id": f"tag-{epoch}-{rail}-{z}",
                "inputs": {
                    "msp_key": MSP_KEY.hex(),
                    "commitment": owner.commitment.hex(),
                    "epoch": epoch,
                    "rail": rail,
                    "exponent": z,
                },
                "expected": {
                    "binding": owner.binding(MSP_KEY, z).hex(),
                    "script": owner.script(MSP_KEY, z).hex(),
                    "output": output(0, owner.script(MSP_KEY, z)).hex(),
                },
            }
        )
    return cases


def scripts() -> list[dict[str, Any]]:
    right = OWNER.script(MSP_KEY, 32)
    wrong = {
        "empty": (b"", "shape"),
        "one-byte-short": (right[:-1], "shape"),
        "one-byte-long": (right + b"\x00", "shape"),
        "no-return": (b"\x00" + right[1:], "shape"),
        "other-push": (right[:1] + b"\x27" + right[2:], "shape"),
        "pushdata-1": (b"\x6a\x4c\x26" + right[2:-1], "shape"),
        "other-magic": (right[:2] + b"RADQ" + right[6:], "shape"),
        "version-0": (right[:6] + b"\x00" + right[7:], "version"),
        "version-2": (right[:6] + b"\x20" + right[7:], "version"),
        "rail-3": (right[:6] + b"\x13" + right[7:], "rail"),
        "rail-15": (right[:6] + b"\x1f" + right[7:], "rail"),
        "exponent-121": (right[:7] + bytes([121]) + right[8:], "exponent"),
        "exponent-255": (right[:7] + b"\xff" + right[8:], "exponent"),
        "version-before-rail": (right[:6] + b"\x2f\xff" + right[8:], "version"),
    }
    return [
        {"id": f"script-{name}", "inputs": {"script": script.hex()}, "expected_error": error}
        for name, (script, error) in wrong.items()
    ]


def coinbase_case(name: str, body: Body, error: str | None, **inputs: Any) -> dict[str, Any]:
    owner: Owner = inputs.get("owner", OWNER)
    z: int = inputs.get("z", 0)
    extranonce: bytes = inputs.get("extranonce", named("extranonce", 12))
    case: dict[str, Any] = {
        "id": f"coinbase-{name}",
        "inputs": {
            "secret_key": SECRET.hex(),
            "msp_key": MSP_KEY.hex(),
            "commitment": owner.commitment.hex(),
            "epoch": owner.epoch,
            "rail": owner.rail,
            "exponent": z,
            "extranonce": extranonce.hex(),
            "body": body.to_json(),
        },
    }
    if error:
        case["expected_error"] = error
    else:
        owner_output = output(0, owner.script(MSP_KEY, z))
        case["expected"] = {"coinbase": body.coinbase(extranonce, owner_output).hex()}
    return case


def outputs(
    *before: bytes, after: tuple[bytes, ...] = (), count: int | None = None
) -> dict[str, Any]:
    total = len(before) + 1 + len(after) if count is None else count
    sized = le(total, 1) if total < 0xFD else b"\xfd" + le(total, 2)
    return {
        "before_tag": b"\xff" * 4 + sized + b"".join(before),
        "after_tag": b"".join(after) + le(0, 4),
    }


def right_coinbases() -> list[dict[str, Any]]:
    lengths = {0: height_push(101) + b"\x00", 32: None}
    return [
        coinbase_case("usual", template(), None),
        coinbase_case("contract", template(), None, owner=Owner(OWNER.commitment, 9, 2)),
        *(
            coinbase_case(
                f"extranonce-{length}",
                template(extranonce_len=length, push=push),
                None,
                extranonce=named("extranonce")[:length],
            )
            for length, push in lengths.items()
        ),
        *(
            coinbase_case(f"height-{height}", template(height=height), None)
            for height in [0, 1, 16, 17, 127, 128, 32767, 32768, 900_000, 2**31, 2**32 - 1]
        ),
        coinbase_case("tag-first", template(**outputs(after=(POOL_OUTPUT,))), None),
        coinbase_case("tag-last", template(**outputs(POOL_OUTPUT, WITNESS_COMMITMENT)), None),
        coinbase_case("tag-alone", template(**outputs()), None),
        coinbase_case("253-outputs", template(**outputs(*[output(1, b"\x51")] * 252)), None),
        # Only a direct push of 38 bytes makes an owner output.
        coinbase_case(
            "almost-a-tag",
            template(**outputs(output(0, b"\x6a\x25RADP" + bytes(33)), POOL_OUTPUT)),
            None,
        ),
        coinbase_case(
            "script-of-100-bytes",
            template(
                prefix=coinbase_start(height_push(101) + bytes(100 - 2 - 12), 12),
            ),
            None,
        ),
    ]


def wrong_coinbases() -> list[dict[str, Any]]:
    usual = template()
    other = output(0, Owner(named("another owner"), 7).script(MSP_KEY, 0))
    unknown = output(0, OWNER_SCRIPT_START + b"\x2f\xff" + bytes(32))
    stub = output(0, OWNER_SCRIPT_START)
    start = usual.prefix
    nowhere = le(2, 4) + b"\x01" + named("no outpoint") + b"\xff" * 4 + start[41:]
    index = start[:37] + le(0, 4) + start[41:]
    # The extranonce stands in the value of the first output instead of the script.
    behind = Body(
        prefix=coinbase_start(height_push(101) + bytes(12), 0) + b"\xff" * 4 + b"\x03",
        before_tag=POOL_OUTPUT[12:] + output(1, b"\x51"),
        after_tag=le(0, 4),
    )
    # What follows the extranonce inside the script looks like outputs: the last one has all that
    # the coinbase really pays in its script.
    pays = b"\xff" * 4 + b"\x02" + output(5_000_000_000, b"\x51")
    looks = b"\xff" * 4 + b"\x03" + POOL_OUTPUT + le(0, 8) + le(len(pays), 1)
    disguised = Body(
        prefix=coinbase_start(height_push(101), 12 + len(looks)),
        before_tag=looks + pays,
        after_tag=le(0, 4),
    )
    faults: dict[str, tuple[Body, str]] = {
        "second-tag-before": (template(**outputs(other, POOL_OUTPUT)), "owner-tag"),
        "second-tag-behind": (template(**outputs(POOL_OUTPUT, after=(other,))), "owner-tag"),
        "same-tag-twice": (
            template(**outputs(output(0, OWNER.script(MSP_KEY, 0)), POOL_OUTPUT)),
            "owner-tag",
        ),
        "second-tag-unknown-version": (template(**outputs(unknown, POOL_OUTPUT)), "owner-tag"),
        "second-tag-cut-short": (template(**outputs(stub, POOL_OUTPUT)), "owner-tag"),
        "tag-inside-a-script": (
            template(
                before_tag=b"\xff" * 4
                + b"\x02"
                + POOL_OUTPUT
                + le(0, 8)
                + bytes([49 + 2])
                + b"\x6a\x31",
                after_tag=le(0, 4),
            ),
            "owner-tag",
        ),
        "other-height": (template(push=height_push(102)), "height"),
        "height-in-two-bytes-of-one": (template(push=b"\x02\x65\x00"), "height"),
        "height-before-tag": (
            template(push=height_push(102), **outputs(other, POOL_OUTPUT)),
            "height",
        ),
        "two-inputs": (template(prefix=start[:4] + b"\x02" + start[5:]), "coinbase"),
        "no-input": (template(prefix=start[:4] + b"\x00" + start[5:]), "coinbase"),
        "other-outpoint": (template(prefix=nowhere), "coinbase"),
        "other-outpoint-index": (template(prefix=index), "coinbase"),
        "extranonce-outside-the-script": (behind, "coinbase"),
        "outputs-inside-the-script": (disguised, "coinbase"),
        "script-of-101-bytes": (
            template(prefix=coinbase_start(height_push(101) + bytes(101 - 2 - 12), 12)),
            "coinbase",
        ),
        "one-output-more-announced": (template(**outputs(POOL_OUTPUT, count=3)), "coinbase"),
        "one-output-less-announced": (template(**outputs(POOL_OUTPUT, count=1)), "coinbase"),
        "no-lock-time": (template(after_tag=WITNESS_COMMITMENT), "coinbase"),
        "byte-behind-lock-time": (template(after_tag=WITNESS_COMMITMENT + bytes(5)), "coinbase"),
        "long-compact-size": (
            template(before_tag=b"\xff" * 4 + b"\xfd\x03\x00" + POOL_OUTPUT),
            "coinbase",
        ),
        "compact-size-of-four-bytes": (
            template(before_tag=b"\xff" * 4 + b"\xfe\x03\x00\x00\x00" + POOL_OUTPUT),
            "coinbase",
        ),
        "witness-included": (
            template(prefix=start[:4] + b"\x00\x01" + start[4:]),
            "coinbase",
        ),
        "empty": (Body(b"", b"", b""), "coinbase"),
    }
    short = Body(coinbase_start(b"\x00", 0), b"\xff" * 4 + b"\x01", le(0, 4), height=0)
    cases = [coinbase_case(name, body, error) for name, (body, error) in faults.items()]
    cases.append(coinbase_case("script-of-1-byte", short, "coinbase", extranonce=b""))
    return cases


write_vectors(
    "02-owner-tag.json",
    ["Page 02. Keys, commitments and scripts are bytes in the order in which they are sent."],
    {
        "commitments": commitments(),
        "tags": tags(),
        "scripts": scripts(),
        "coinbases": right_coinbases() + wrong_coinbases(),
    },
)
