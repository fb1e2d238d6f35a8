"""Writes `03-share-batch.json`: template bodies, trees, batches, and batches that are refused."""

from __future__ import annotations

from typing import Any

from layout import (
    WITNESS_COMMITMENT,
    Body,
    Draft,
    Owner,
    Share,
    Sums,
    commitment_of,
    height_push,
    le,
    leaf,
    levels,
    mined,
    named,
    output,
    proof,
    template,
    write,
)
from secp256k1 import public_key, tagged_hash

SECRET = named("msp secret")
MSP_KEY = public_key(SECRET)
ALICE = Owner(commitment_of("alice", named("salt of alice", 16)), epoch=3)
BOB = Owner(commitment_of("bob", named("salt of bob", 16)), epoch=4)
BOB_ECASH = Owner(BOB.commitment, epoch=4, rail=1)
CAROL_CONTRACT = Owner(commitment_of("carol", named("salt of carol", 16)), epoch=2, rail=2)

PLAIN = template()
DEEP = template(
    height=900_000,
    extranonce_len=16,
    nbits=0x17021369,
    path=tuple(named(f"sibling {i}") for i in range(12)),
)
EARLY = template(height=5, extranonce_len=32, prev_hash=named("early"), path=(named("one"),))
BARE = template(extranonce_len=0, push=height_push(101) + b"\x00")


def bodies() -> list[dict[str, Any]]:
    right = {"plain": PLAIN, "deep": DEEP, "empty": Body(b"", b"", b"", height=0)}
    right["longest-path"] = template(path=tuple(named(f"sibling {i}") for i in range(32)))
    cases = [
        {
            "id": f"body-{name}",
            "inputs": {"body": body.to_json()},
            "expected": {"encoded": body.encode().hex(), "digest": body.digest().hex()},
        }
        for name, body in right.items()
    ]
    encoded = PLAIN.encode()
    prefix_at = 4 + 32 + 4 + 4
    wrong = {
        "nothing": b"",
        "in-the-height": encoded[:43],
        "in-a-length": encoded[: prefix_at + 1],
        "in-a-part": encoded[: prefix_at + 40],
        "without-path-length": encoded[:-1],
        "in-the-path": DEEP.encode()[:-1],
        "trailing": encoded + b"\x00",
        "path-of-33": encoded[:-1] + le(33, 1) + bytes(33 * 32),
        "length-beyond-the-end": encoded[:prefix_at] + b"\xff\xff" + encoded[prefix_at + 2 :],
    }
    refused: list[dict[str, Any]] = [
        {
            "id": f"body-{name}",
            "inputs": {"encoded": damaged.hex()},
            "expected_error": "template-shape",
        }
        for name, damaged in wrong.items()
    ]
    return cases + refused


def sums_row(sums: Sums) -> dict[str, str]:
    return dict(zip(("work", "value"), map(str, sums), strict=False))


def trees(version: int) -> list[dict[str, Any]]:
    cases = []
    for count in [1, 2, 3, 4, 5, 6, 7, 8, 9, 13]:
        records = [named(f"record {count} {i}", 18 + i) for i in range(count)]
        works = [2 ** (13 * i % 121) for i in range(count)]
        values = [int.from_bytes(named(f"value {count} {i}", 15)) for i in range(count)]
        sums = [(work, value)[:version] for work, value in zip(works, values, strict=True)]
        leaves = [leaf(record, *parts) for record, parts in zip(records, sums, strict=True)]
        root = levels(leaves)[-1][0]
        paths = [proof(leaves, index) for index in range(count)]
        cases.append(
            {
                "id": f"tree-{count}" if version == 2 else f"tree-of-version-1-{count}",
                "inputs": {
                    "leaves": [
                        {"record": record.hex(), **sums_row(parts)}
                        for record, parts in zip(records, sums, strict=True)
                    ]
                },
                "expected": {
                    "leaf_hashes": [node[0].hex() for node in leaves],
                    "root": root[0].hex(),
                    **sums_row(root[1]),
                    "paths": [
                        [{"hash": node[0].hex(), **sums_row(node[1])} for node in path]
                        for path in paths
                    ],
                },
            }
        )
    return cases


def batch(name: str, draft: Draft) -> dict[str, Any]:
    places: list[Body] = draft.bodies
    sums: dict[tuple[str, int, int], list[int]] = {}
    for share in draft.shares:
        assert share.zeros(MSP_KEY) >= share.z, f"{name}: a share without its work"
        epoch = max(share.owner.epoch, draft.epoch_min)
        place = share.owner.commitment.hex(), epoch, share.owner.rail
        total = sums.setdefault(place, [0, 0, 0])
        total[0] += 1
        total[1] += 2**share.z
        total[2] += draft.value_of(share)
    assert draft.root is not None
    return {
        "id": f"batch-{name}",
        "inputs": {
            "secret_key": SECRET.hex(),
            "sequence": draft.sequence,
            "previous": draft.previous.hex(),
            "time_ms": draft.time_ms,
            "epoch_min": draft.epoch_min,
            "weight": dict(zip(("mode", "scale", "base"), draft.weight, strict=True)),
            "bodies": [body.to_json() for body in places],
            "shares": [
                {
                    "body": places.index(share.body),
                    "price": str(share.price),
                    "commitment": share.owner.commitment.hex(),
                    "epoch": share.owner.epoch,
                    "rail": share.owner.rail,
                    "exponent": share.z,
                    "version": share.version,
                    "ntime": share.ntime,
                    "nonce": share.nonce,
                    "extranonce": share.extranonce.hex(),
                }
                for share in draft.shares
            ],
        },
        "expected": {
            "blob": draft.blob().hex(),
            "bodies": draft.body_map(),
            "msp_key": MSP_KEY.hex(),
            "hash": draft.hash().hex(),
            "count": draft.count,
            "work": str(draft.work),
            "value": str(draft.value),
            "root": draft.root.hex(),
            "header_hashes": [share.hash(MSP_KEY).hex() for share in draft.shares],
            "sums": [
                {
                    "commitment": owner,
                    "epoch": epoch,
                    "rail": rail,
                    "count": n,
                    "work": str(work),
                    "value": str(value),
                }
                for (owner, epoch, rail), (n, work, value) in sorted(sums.items())
            ],
        },
    }


def share(owner: Owner, body: Body, z: int, number: int, **fields: Any) -> Share:
    lengths = {id(PLAIN): 12, id(DEEP): 16, id(EARLY): 32, id(BARE): 0}
    length = lengths.get(id(body), 12)
    extranonce = (le(number, 4)[::-1] + named(f"rolled {number}"))[:length]
    return mined(MSP_KEY, Share(owner, body, z, extranonce=extranonce, **fields))


def batches() -> list[dict[str, Any]]:
    first = Draft(SECRET, [share(ALICE, PLAIN, 0, 1)])
    mixed = [
        share(ALICE, PLAIN, 4, 2),
        share(BOB, PLAIN, 9, 3, version=0x3FFFFFE0),
        share(BOB_ECASH, DEEP, 0, 4),
        share(ALICE, PLAIN, 8, 5, ntime=2**32 - 1),
        share(CAROL_CONTRACT, EARLY, 1, 6, version=0x20000020),
    ]
    second = Draft(SECRET, mixed, sequence=1, previous=first.hash(), epoch_min=3)
    many = [share(BOB if i % 3 else ALICE, PLAIN, i % 4, 100 + i) for i in range(13)]
    third = Draft(
        SECRET, many, sequence=2**64 - 1, previous=second.hash(), time_ms=2**64 - 1, epoch_min=9
    )
    bare = Draft(SECRET, [share(ALICE, BARE, 2, 0, ntime=5)], epoch_min=0)
    steps = Draft(SECRET, [share(ALICE, PLAIN, z, 200 + z) for z in (0, 7, 8, 11)])
    prices = [
        share(ALICE, PLAIN, 3, 300, price=0),
        share(BOB, PLAIN, 2, 301, price=2786119680000000000),
        share(ALICE, DEEP, 5, 302, price=2**122),
        share(BOB, PLAIN, 4, 303, price=0),
        share(BOB, PLAIN, 4, 304, price=1),
    ]
    priced = Draft(SECRET, prices, weight=(2, 112, 2))
    slices = [share(ALICE, PLAIN, 1, 305, price=6_000_000), share(BOB, PLAIN, 2, 306, price=0)]
    named_drafts = {
        "of-one-share": first,
        "of-five-shares": second,
        "of-thirteen-shares": third,
        "without-extranonce": bare,
        "of-one-owner-at-four-steps": steps,
        "of-one-template-at-three-prices": priced,
        "weighed-by-slices": Draft(SECRET, slices, weight=(3, 0, 0)),
    }
    return [batch(name, draft) for name, draft in named_drafts.items()]


def batches_1() -> list[dict[str, Any]]:
    """Batches without prices, which are read and not written any more."""
    shares = [share(ALICE, PLAIN, 4, 2), share(BOB_ECASH, DEEP, 0, 4), share(BOB, PLAIN, 9, 3)]
    drafts = {
        "one-share": Draft(SECRET, [share(ALICE, PLAIN, 0, 1)], version=1),
        "three-shares": Draft(SECRET, shares, sequence=7, epoch_min=3, version=1),
    }
    return [
        {
            "id": f"batch-of-version-1-{name}",
            "inputs": {"blob": draft.blob().hex(), "bodies": draft.body_map()},
            "expected": {
                "blob": draft.blob().hex(),
                "bodies": draft.body_map(),
                "hash": draft.hash().hex(),
                "work": str(draft.work),
                "header_hashes": [each.hash(MSP_KEY).hex() for each in draft.shares],
            },
        }
        for name, draft in drafts.items()
    ]


def refusal(name: str, code: str, blob: bytes, body_map: dict[str, str]) -> dict[str, Any]:
    return {
        "id": f"refused-{name}",
        "inputs": {"blob": blob.hex(), "bodies": body_map},
        "expected_error": code,
    }


def form_refusals() -> list[dict[str, Any]]:
    """Batches whose bytes are not what sealing writes."""
    one, two = share(ALICE, PLAIN, 0, 1), share(BOB, DEEP, 0, 2)
    pair = Draft(SECRET, [one, two])
    right, known = pair.blob(), pair.body_map()
    owners = [ALICE.entry(), BOB.entry()]
    entries = [pair.entry(one), pair.entry(two)]
    head_len = len(pair.head())
    cuts = {
        "empty": 0,
        "in-the-magic": 3,
        "in-the-head": 88,
        "in-the-weight": 91,
        "in-the-templates": 120,
        "in-a-price": 130,
        "in-the-owners": 200,
        "in-the-root": head_len - 1,
        "in-a-share": head_len + 10,
        "in-an-extranonce": head_len + 20,
        "in-the-signature": len(right) - 1,
        "before-the-signature": len(right) - 64,
    }
    cases = [refusal(f"cut-{name}", "truncated", right[:at], known) for name, at in cuts.items()]

    def add(name: str, code: str, **wrong: Any) -> None:
        draft = Draft(SECRET, [one, two], **wrong)
        cases.append(refusal(name, code, draft.blob(), known))

    cases.append(refusal("trailing", "trailing-bytes", right + b"\x00", known))
    add("magic", "magic", magic=b"RPSC")
    add("version-0", "version", version=0)
    add("version-3", "version", version=3)
    add("weight-mode-0", "weight", weight=(0, 32, 0))
    add("weight-mode-4", "weight", weight=(4, 32, 0))
    add("weight-base-121", "weight", weight=(1, 32, 121))
    add("exponent-below-the-base", "exponent", weight=(1, 32, 1))
    add("rail-3", "rail", owners=[owners[0], owners[1][:-1] + b"\x03"])
    add("rail-255", "rail", owners=[owners[0][:-1] + b"\xff", owners[1]])
    add("no-shares", "share-count", count=0)
    add("65536-shares", "share-count", count=65_536)
    add(
        "one-share-more-announced",
        "trailing-bytes",
        count=1,
        templates=entries[:1],
        owners=owners[:1],
    )
    records = [one.record(0, 0), two.record(1, 1)]
    damaged = records[0][:4] + bytes([121]) + records[0][5:]
    add("exponent-121", "exponent", records=[damaged, records[1]])
    damaged = records[0][:5] + bytes([33]) + records[0][6:] + bytes(21)
    add("extranonce-33", "extranonce-length", records=[damaged, records[1]])
    both = [one.record(0, 0), two.record(0, 0)]
    add("template-skipped", "table-order", records=[one.record(1, 0), two.record(0, 1)])
    add("owner-skipped", "table-order", records=[one.record(0, 1), two.record(1, 0)])
    add("template-beyond-table", "table-order", records=[one.record(0, 0), two.record(2, 1)])
    add("owner-beyond-table", "table-order", records=[one.record(0, 0), two.record(1, 2)])
    add("template-unused", "table-order", records=[one.record(0, 0), two.record(0, 1)])
    add("owner-unused", "table-order", records=[one.record(0, 0), two.record(1, 0)])
    add("last-entry-missing", "table-order", templates=entries[:1])
    add("both-unused", "table-order", records=both)
    add("template-twice", "table-repeat", templates=[entries[0], entries[0]])
    add("owner-twice", "table-repeat", owners=[owners[0], owners[0]])
    return cases


def claim_refusals() -> list[dict[str, Any]]:
    """Batches in the right form whose claims are wrong."""
    one, two = share(ALICE, PLAIN, 0, 1), share(BOB, DEEP, 0, 2)
    pair = Draft(SECRET, [one, two])
    right, known = pair.blob(), pair.body_map()
    cases: list[dict[str, Any]] = []

    def add(name: str, code: str, **wrong: Any) -> None:
        draft = Draft(SECRET, [one, two], **wrong)
        cases.append(refusal(name, code, draft.blob(), known))

    def flipped(at: int) -> bytes:
        return right[:at] + bytes([right[at] ^ 1]) + right[at + 1 :]

    # Offsets into the head: behind magic and version come key, sequence, previous, time, epoch_min.
    for name, at in {
        "sequence": 37,
        "previous": 45,
        "time": 77,
        "epoch-min": 85,
        "scale": 90,
        "template": 94,
        "price": 126,
        "owner": 200,
        "signature-r": len(right) - 64,
        "signature-s": len(right) - 1,
    }.items():
        cases.append(refusal(f"altered-{name}", "signature", flipped(at), known))
    add("signed-by-another", "signature", signer=named("another secret"))
    add("work-too-high", "work-sum", work=3)
    add("work-too-low", "work-sum", work=1)
    heaviest = Share(ALICE, BARE, 120, extranonce=b"", price=0)
    many = Draft(SECRET, [heaviest] * 256, work=0, root=bytes(32))
    cases.append(refusal("work-of-129-bits", "work-sum", many.blob(), many.body_map()))
    add("value-too-high", "value-sum", value=2_000_000_015)
    add("value-too-low", "value-sum", value=0)
    add("value-and-root-wrong", "value-sum", work=2, value=1, root=bytes(32))
    dear = Share(ALICE, BARE, 1, extranonce=b"", price=2**127)
    for name, shares in {
        "value-of-129-bits": [dear],
        "values-of-129-bits": [Share(ALICE, BARE, extranonce=b"", price=2**127)] * 2,
    }.items():
        draft = Draft(SECRET, shares, value=0, root=bytes(32), work=2)
        cases.append(refusal(name, "value-sum", draft.blob(), draft.body_map()))
    add("other-root", "root", root=named("no root"))
    swapped = Draft(SECRET, [one, two]).records
    assert swapped is not None
    altered = [swapped[0][:14] + le(7, 4) + swapped[0][18:], swapped[1]]
    add("nonce-altered", "root", records=altered, root=pair.root)
    for name, body in {"first": PLAIN, "second": DEEP}.items():
        digest = body.digest().hex()
        lacking = {key: value for key, value in known.items() if key != digest}
        cases.append(refusal(f"{name}-body-missing", "template-missing", right, lacking))
        other = {**known, digest: template(height=77).encode().hex()}
        cases.append(refusal(f"{name}-body-exchanged", "template-digest", right, other))
    shapeless = PLAIN.encode() + b"\x00"
    digest_of_it = tagged_hash("radpool/template", shapeless)
    single = Draft(SECRET, [one], templates=[digest_of_it + le(one.price, 16)])
    cases.append(
        refusal(
            "body-shapeless", "template-shape", single.blob(), {digest_of_it.hex(): shapeless.hex()}
        )
    )
    return cases


def share_refusals() -> list[dict[str, Any]]:
    """Batches with a share that does not prove what it claims."""
    good = share(ALICE, PLAIN, 0, 1)
    cases: list[dict[str, Any]] = []

    def add(name: str, code: str, *shares: Share, **wrong: Any) -> None:
        draft = Draft(SECRET, list(shares), **wrong)
        cases.append(refusal(name, code, draft.blob(), draft.body_map()))

    for bit in [0, 4, 29, 31]:
        rolled = Share(ALICE, PLAIN, version=0x20000000 ^ 1 << bit)
        add(f"version-bit-{bit}", "version-bits", good, rolled)
    add("extranonce-too-short", "coinbase", good, Share(ALICE, PLAIN, extranonce=bytes(11)))
    add("extranonce-too-long", "coinbase", good, Share(ALICE, PLAIN, extranonce=bytes(13)))
    add("other-height", "height", Share(ALICE, template(push=height_push(102))))
    tag_twice = template(
        before_tag=b"\xff" * 4 + b"\x03" + output(0, ALICE.script(MSP_KEY, 0)),
        after_tag=WITNESS_COMMITMENT + le(0, 4),
    )
    add("two-owner-outputs", "owner-tag", Share(ALICE, tag_twice))
    weak = Share(ALICE, PLAIN, 8, extranonce=named("weak", 12))
    while weak.zeros(MSP_KEY) != 7:
        weak = Share(**{**weak.__dict__, "nonce": weak.nonce + 1})
    add("one-bit-short", "insufficient-work", good, weak)
    # Found under an easier tag: the same nonce does not even have the same header under another z.
    found = share(ALICE, PLAIN, 12, 9)
    relabelled = Share(**{**found.__dict__, "z": 11})
    add("found-at-another-exponent", "insufficient-work", relabelled)
    stolen = Share(**{**found.__dict__, "owner": BOB})
    add("found-for-another-owner", "insufficient-work", stolen)
    later = Share(**{**found.__dict__, "owner": Owner(ALICE.commitment, 4)})
    add("found-in-another-epoch", "insufficient-work", later)
    add("same-share-twice", "duplicate-share", good, good)
    # The extranonce is the same bytes whichever part of the body holds its end.
    moved = Body(
        PLAIN.prefix + good.extranonce[:4], PLAIN.before_tag, PLAIN.after_tag, height=PLAIN.height
    )
    twin = Share(ALICE, moved, extranonce=good.extranonce[4:], nonce=good.nonce)
    assert twin.hash(MSP_KEY) == good.hash(MSP_KEY)
    add("same-header-from-two-bodies", "duplicate-share", good, twin)
    add(
        "version-bits-before-coinbase",
        "version-bits",
        Share(ALICE, PLAIN, version=1, extranonce=b""),
    )
    return cases


write(
    "03-share-batch.json",
    [
        "Page 03. Hashes are in internal byte order; bodies maps digests to encoded bodies.",
        "A refused batch is wrong in the way that its error names and right up to that check.",
    ],
    {
        "bodies": bodies(),
        "trees": trees(2),
        "trees_1": trees(1),
        "batches": batches(),
        "batches_1": batches_1(),
        "refused": form_refusals() + claim_refusals() + share_refusals(),
    },
)
