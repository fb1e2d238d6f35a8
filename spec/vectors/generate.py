"""Writes the vectors of pages 01 to 04: `python spec/vectors/generate.py [--check]`.

Everything is derived from constants, so the files are the same on each run.
"""

from __future__ import annotations

import json
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from reference import Key, Owner, Share, Template, height_push, seal, sha256d, tagged_hash

HERE = Path(__file__).parent
KEY = Key()
ALICE = Owner(b"\xa1" * 32, epoch=1, rail=0, account=1)
BOB = Owner(b"\xb0" * 32, epoch=2, rail=1, account=2)
PATHED = Template(height=900_000, merkle_path=(b"\x55" * 32, b"\x66" * 32), extranonce_len=8)


def conventions() -> dict[str, Any]:
    messages = [b"", b"radpool", bytes(range(64))]
    hashes = [bytes(32), b"\xff" * 32, b"\xff" * 31 + b"\x00", b"\x00" * 31 + b"\x01"]
    hashes += [b"\xff" * 30 + b"\x01\x00", b"\xff" * 30 + b"\x7f\x00"]
    return {
        "tagged_hashes": [
            {
                "id": f"{tag}-{len(message)}",
                "tag": tag,
                "message": message.hex(),
                "hash": tagged_hash(tag, message).hex(),
            }
            for tag in ("radpool/owner", "radpool/leaf", "BIP0340/challenge")
            for message in messages
        ],
        "ladder": [
            {"id": f"z-{z}", "z": z, "target": f"{2 ** (256 - z) - 1:064x}", "work": str(2**z)}
            for z in (0, 1, 7, 8, 9, 32, 33, 63, 64, 119, 120)
        ],
        "off_ladder": [{"id": f"z-{z}", "z": z, "error": "exponent"} for z in (121, 255)],
        "hashes": [
            {
                "id": f"hash-{index}",
                "hash_internal": value.hex(),
                "leading_zero_bits": 256 - int.from_bytes(value, "little").bit_length(),
            }
            for index, value in enumerate(hashes)
        ],
    }


def owner_tag() -> dict[str, Any]:
    accounts = [("alice", b"\x00" * 16), ("bc1qexample", bytes(range(16))), ("zoë", b"\xff" * 16)]
    owners = [(ALICE, 0), (ALICE, 32), (BOB, 33), (replace(BOB, rail=2, epoch=2**32 - 1), 120)]
    heights = (1, 16, 17, 127, 128, 32_767, 32_768, 900_000, 2**31)
    return {
        "commitments": [
            {
                "id": name,
                "name": name,
                "salt": salt.hex(),
                "commitment": tagged_hash("radpool/account", name.encode(), salt).hex(),
            }
            for name, salt in accounts
        ],
        "tags": [
            {
                "id": f"rail-{owner.rail}-z-{z}",
                "msp_key": KEY.public.hex(),
                "commitment": owner.commitment.hex(),
                "epoch": owner.epoch,
                "rail": owner.rail,
                "z": z,
                "binding": owner.binding(KEY.public, z).hex(),
                "script": owner.script(KEY.public, z).hex(),
            }
            for owner, z in owners
        ],
        "heights": [
            {"id": str(height), "height": height, "push": height_push(height).hex()}
            for height in heights
        ],
    }


def batch_case(name: str, shares: list[Share], **link: Any) -> dict[str, Any]:
    sealed = seal(shares, KEY, **link)
    return {
        "id": name,
        "secret_key": KEY.secret.hex(),
        "sequence": link.get("sequence", 0),
        "previous": link.get("previous", bytes(32)).hex(),
        "time_ms": link.get("time_ms", 1_700_000_000_000),
        "epoch_min": link.get("epoch_min", 0),
        "shares": [
            {
                "account": share.owner.account,
                "commitment": share.owner.commitment.hex(),
                "epoch": share.owner.epoch,
                "rail": share.owner.rail,
                "body": share.template.encode().hex(),
                "z": share.z,
                "version": share.version,
                "ntime": share.ntime,
                "nonce": share.nonce,
                "extranonce": share.extranonce.hex(),
                "hash": share.hash(KEY.public)[::-1].hex(),
            }
            for share in shares
        ],
        "blob": sealed.blob.hex(),
        "hash": sealed.hash.hex(),
        "root": sealed.root.hex(),
        "work": str(sealed.work),
        "sums": [[*sums[:4], str(sums[4])] for sums in sealed.sums],
    }


def valid_shares() -> list[Share]:
    plain = [replace(Share(ALICE, z=z), ntime=1_700_000_000 + z).mined(KEY.public) for z in (4, 9)]
    pathed = [
        Share(BOB, PATHED, z=6, extranonce=struct.pack(">Q", i), version=0x3FFFE000 + (i << 5))
        for i in range(3)
    ]
    return plain + [share.mined(KEY.public) for share in pathed]


def resigned(blob: bytes, head_len: int, head: bytes) -> bytes:
    return head + blob[head_len:-64] + KEY.sign(tagged_hash("radpool/batch", head))


def refused_cases() -> list[tuple[str, str, bytes, dict[bytes, bytes]]]:
    """Lists `(id, code, blob, bodies)` of batches that are wrong in one way each."""
    share = Share(ALICE, z=4).mined(KEY.public)
    good = seal([share], KEY)
    bodies = {digest: body for digest, body, _ in good.bodies}
    digest = good.bodies[0][0]
    head_len = len(good.blob) - 64 - (18 + 12)
    head = good.blob[:head_len]
    cases = [
        ("truncated", "truncated", good.blob[:-1], bodies),
        ("trailing", "trailing-bytes", good.blob + b"\x00", bodies),
        ("magic", "magic", b"RPSC" + good.blob[4:], bodies),
        ("version-2", "version", good.blob[:4] + b"\x02" + good.blob[5:], bodies),
        ("signature", "signature", good.blob[:-1] + bytes([good.blob[-1] ^ 1]), bodies),
        ("work-sum", "work-sum", seal([share], KEY, work=17).blob, bodies),
        ("root", "root", seal([share], KEY, root=bytes(32)).blob, bodies),
        ("no-shares", "share-count", seal([share], KEY, count=0).blob, bodies),
        ("template-missing", "template-missing", good.blob, {}),
        ("template-digest", "template-digest", good.blob, {digest: bodies[digest] + b"\x00"}),
        ("repeat-share", "duplicate-share", seal([share, share], KEY).blob, bodies),
    ]

    def wrong(name: str, code: str, changed: Share, **overrides: Any) -> None:
        sealed = seal([changed], KEY, **overrides)
        cases.append((name, code, sealed.blob, {d: b for d, b, _ in sealed.bodies}))

    stranger = replace(share, owner=replace(ALICE, rail=3))
    wrong("rail-3", "rail", stranger)
    wrong("version-bits", "version-bits", replace(share, version=0x20000001))
    weak = share
    while sha256d(weak.header(KEY.public))[31] < 0x10:
        weak = replace(weak, nonce=weak.nonce + 1)
    wrong("no-work", "insufficient-work", weak)
    wrong("extranonce-too-short", "coinbase", replace(share, extranonce=bytes(11)))
    tagged = Template(text=b"x" * 60)
    wrong("script-too-long", "coinbase", replace(share, template=replace(tagged, text=b"x" * 99)))
    body = Template().encode()
    taller = body[:40] + struct.pack("<I", 102) + body[44:]
    for name, code, encoded in (
        ("height", "height", taller),
        ("body-shape", "template-shape", body[:-1]),
        ("second-tag", "owner-tag", second_tag(share)),
        ("no-coinbase", "coinbase", body.replace(bytes(32) + b"\xff" * 4, b"\x01" * 36)),
    ):
        other = tagged_hash("radpool/template", encoded)
        changed = resigned(good.blob, head_len, head.replace(digest, other))
        cases.append((name, code, changed, {other: encoded}))
    extra = head.replace(b"\x01\x00" + digest, b"\x02\x00" + digest + bytes(32))
    cases.append(("unused-template", "table-order", resigned(good.blob, head_len, extra), bodies))
    cases.append(
        ("repeat-table", "table-repeat", repeat_table(good.blob, head_len, digest), bodies)
    )
    changed = good.blob[: head_len + 4] + b"\x79" + good.blob[head_len + 5 :]
    cases.append(("z-121", "exponent", changed, bodies))
    changed = good.blob[: head_len + 5] + b"\x21" + good.blob[head_len + 6 :]
    cases.append(("extranonce-33", "extranonce-length", changed, bodies))
    return cases


def second_tag(share: Share) -> bytes:
    """Makes a body whose last part has the owner output once more."""
    template = share.template
    prefix, before, after = template.parts()
    script = share.owner.script(KEY.public, share.z)
    before = before.replace(b"\xff" * 4 + b"\x03", b"\xff" * 4 + b"\x04", 1)
    after = bytes(8) + bytes([len(script)]) + script + after
    out = struct.pack("<I", template.version) + template.prev_hash
    out += struct.pack("<II", template.nbits, template.height)
    for part in (prefix, before, after):
        out += struct.pack("<H", len(part)) + part
    return out + b"\x00"


def repeat_table(blob: bytes, head_len: int, digest: bytes) -> bytes:
    """Makes a batch of two shares whose templates are one, listed twice."""
    head = blob[:head_len].replace(b"\x01\x00" + digest, b"\x02\x00" + digest * 2)
    head = head[:-52] + struct.pack("<I", 2) + (32).to_bytes(16, "little") + head[-32:]
    record = blob[head_len:-64]
    return head + record + b"\x01\x00" + record[2:] + blob[-64:]


def share_batch() -> dict[str, Any]:
    shares = valid_shares()
    templates = (Template(), PATHED)
    return {
        "bodies": [
            {
                "id": f"height-{template.height}",
                "version": template.version,
                "prev_hash": template.prev_hash[::-1].hex(),
                "nbits": template.nbits,
                "height": template.height,
                "coinbase_prefix": template.parts()[0].hex(),
                "coinbase_before_tag": template.parts()[1].hex(),
                "coinbase_after_tag": template.parts()[2].hex(),
                "merkle_path": [sibling.hex() for sibling in template.merkle_path],
                "encoded": template.encode().hex(),
                "digest": template.digest().hex(),
            }
            for template in templates
        ],
        "batches": [
            batch_case("one-share", shares[:1]),
            batch_case("two-owners", shares, sequence=7, previous=b"\x77" * 32),
            batch_case("late-shares", shares, sequence=8, previous=b"\x78" * 32, epoch_min=2),
        ],
        "refused": [
            {
                "id": name,
                "blob": blob.hex(),
                "bodies": {digest.hex(): body.hex() for digest, body in bodies.items()},
                "error": code,
            }
            for name, code, blob, bodies in refused_cases()
        ],
    }


def split(sats: int, works: list[tuple[bytes, int, int]], block: bytes) -> list[int] | None:
    """Splits by fractions in whole numbers, in the words of the page."""
    total = sum(work for _, _, work in works)
    if total == 0:
        return None
    parts = [sats * work // total for _, _, work in works]
    queue = sorted(
        range(len(works)),
        key=lambda i: (
            parts[i] * total - sats * works[i][2],
            tagged_hash("radpool/tie", block, works[i][0], bytes([works[i][1]])),
        ),
    )
    for index in queue[: sats - sum(parts)]:
        parts[index] += 1
    return parts


def epoch_accounting() -> dict[str, Any]:
    thirds = [(bytes([n]) * 32, 0, 1) for n in (1, 2, 3)]
    three = [7 << 10, 3 << 12, 1 << 13]
    worked = [(bytes([n]) * 32, 0, work) for n, work in zip((1, 2, 3), three, strict=True)]
    wide = [(sha256d(bytes([n])), n % 3, 2**120 // (n + 1) + n) for n in range(12)]
    cases = [
        ("hundred-in-three", 100, thirds, b"\x11" * 32),
        ("hundred-in-three-other-block", 100, thirds, b"\x12" * 32),
        ("three-workers", 312_500_000, worked, b"\x13" * 32),
        ("large", 2**63 - 1, wide, b"\x14" * 32),
        ("one-sat", 1, wide, b"\x15" * 32),
        ("nobody", 5_000_000_000, [], b"\x16" * 32),
        ("no-work", 5_000_000_000, [(b"\x01" * 32, 0, 0)], b"\x17" * 32),
        ("idle-owner", 7, [(b"\x01" * 32, 0, 0), (b"\x02" * 32, 0, 5)], b"\x18" * 32),
        ("two-rails", 3, [(b"\x01" * 32, 0, 1), (b"\x01" * 32, 1, 1)], b"\x19" * 32),
    ]
    settlements = [
        ("plain", 100, 0, 100, 0),
        ("carried", 100, 50, 150, 0),
        ("debt", 100, -30, 70, 0),
    ]
    settlements.append(("deep-debt", 100, -130, 0, -30))
    return {
        "splits": [
            {
                "id": name,
                "sats": sats,
                "block": block[::-1].hex(),
                "claims": [
                    {"commitment": commitment.hex(), "rail": rail, "work": str(work)}
                    for commitment, rail, work in works
                ],
                "parts": split(sats, works, block),
            }
            for name, sats, works, block in cases
        ],
        "settlements": [
            {
                "id": name,
                "value_sats": value,
                "carry_in": carry_in,
                "paid_sats": paid,
                "carry_out": carry_out,
            }
            for name, value, carry_in, paid, carry_out in settlements
        ],
    }


PAGES = {
    "01-conventions": conventions,
    "02-owner-tag": owner_tag,
    "03-share-batch": share_batch,
    "04-epoch-accounting": epoch_accounting,
}


def texts() -> dict[Path, str]:
    return {
        HERE / f"{name}.json": json.dumps(make(), indent=1, ensure_ascii=False) + "\n"
        for name, make in PAGES.items()
    }


def main() -> None:
    for file, text in texts().items():
        if "--check" not in sys.argv:
            file.write_text(text, encoding="utf-8")
        elif file.read_text(encoding="utf-8") != text:
            sys.exit(f"{file}: is not what this program writes; run it without --check")


if __name__ == "__main__":
    main()
