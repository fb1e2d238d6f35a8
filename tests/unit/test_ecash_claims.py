"""The claims of a batch at the native border, on shares of a real engine."""

import struct

import pytest
import trio
from peer import ecash as peer
from peer.ecash_message import CLAIM_FIELD, EXTENSION, read_payload, write_frame
from peer.message import tlv
from test_engine import MSP_KEY, desk

from radpool_sv2._native import ecash
from radpool_sv2._native import engine as native
from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.units import tagged_hash

ECASH = {"share_messages": [(EXTENSION, 3, 5)], "open_messages": [(EXTENSION, 0, 1, 2)]}
KEYS = ecash.KeysetKeys.derive(ecash.MintSeed.from_secret(bytes(31) + b"\5"), "work", 4, 0, 64)
PUBLIC = dict(KEYS.public)
WALLET = peer.Seed(bytes(64))
SUBMIT = 3


def slot(**parts):
    fields = {"number": 4, "account": 9, "epoch": 3, "height": None, "z0": 0, "state": "open"}
    return ecash.ClaimSlot(KEYS.id[:8], **(fields | parts))


def output(number):
    return WALLET.output(KEYS.id, number)


def claims(batch, *slots):
    return ecash.ClaimBatch(
        batch, extension_type=EXTENSION, submit_type=SUBMIT, slots=slots or (slot(),)
    )


async def submit(session, channel, number, *, blinded=None, by_tlv=False, tail=None):
    """Submits a share with a claim, as the extension's message or with a TLV."""
    share = session.mine(channel)
    claim = KEYS.id[:8], output(number).blinded if blinded is None else blinded
    if by_tlv:
        value = tlv(EXTENSION, CLAIM_FIELD, b"".join(claim)) if tail is None else tail
        await session.submit(share, tail=value)
        return share
    fields = {"keyset_short": claim[0], "B_": claim[1]}
    frame = write_frame("SubmitSharesEcashExtended", **share.message.fields, **fields)
    await session.client.send_frames(frame)
    return share


async def batch_of(pool, count):
    """Waits until all shares came, in one batch."""
    metrics = pool.engine.metrics
    await pool.until(lambda: metrics()["ring_records"] == count)
    pool.draining.set()
    await pool.until(lambda: pool.batches)
    (batch,) = pool.batches
    assert len(batch) == count
    return batch


async def opened(pool):
    session = await pool.connect([EXTENSION])
    channel = await session.open()
    pool.acknowledging = False
    pool.draining = trio.Event()
    return session, channel


async def test_claims_of_both_forms_are_signed_and_answered_apart():
    """spec: EW-14, EW-15, EW-17"""
    async with desk(**ECASH) as pool:
        session, channel = await opened(pool)
        shares = [await submit(session, channel, n, by_tlv=n == 1) for n in range(3)]
        batch = await batch_of(pool, 3)
        found = claims(batch)
        assert (len(found), found.indices, found.statuses) == (3, [0, 1, 2], [])
        assert found.residues == []
        rows = found.rows([])
        assert rows == [(output(n).blinded, 4, 0, n, n) for n in range(3)]
        found.sign({4: KEYS})
        replies, roots = found.replies(MSP_KEY)
        assert roots == []
        (connection,) = {event.connection for event in pool.of(native.SetUp)}
        told = [read_payload("SubmitSharesEcashExtended.Success", one) for _, one in replies]
        assert [one for one, _ in replies] == [connection] * 2
        assert [one["new_submits_accepted_count"] for one in told] == [2, 0]
        assert [one["new_shares_sum"] for one in told] == [2, 0]
        assert [one["last_sequence_number"] for one in told] == [3, 2]
        receipts = sorted(
            (receipt for one in told for receipt in one["receipts"]),
            key=lambda receipt: receipt["sequence_number"],
        )
        for number, (receipt, share) in enumerate(zip(receipts, shares, strict=True)):
            assert receipt["sequence_number"] == share.message.sequence_number
            signature = receipt["C_"], receipt["e"], receipt["s"]
            assert receipt["z"] == 0
            assert peer.proves(PUBLIC[1], output(number).blinded, *signature)


async def test_a_bad_claim_keeps_its_share_and_says_what_is_wrong():
    """attack: A4. Whatever is wrong with a claim, the share stays good."""
    async with desk(**ECASH) as pool:
        session, channel = await opened(pool)
        good, short = output(0).blinded, KEYS.id[:8]
        tails = [
            tlv(EXTENSION, CLAIM_FIELD, short),
            tlv(EXTENSION, CLAIM_FIELD, short + good + b"\0"),
            tlv(EXTENSION, 2, short + good),
            tlv(EXTENSION, CLAIM_FIELD, short + good) * 2,
            tlv(EXTENSION, CLAIM_FIELD, short + good) + tlv(EXTENSION, 9, b""),
            tlv(EXTENSION, CLAIM_FIELD, short + b"\x05" + good[1:]),
        ]
        for tail in tails:
            await submit(session, channel, 0, by_tlv=True, tail=tail)
        for blinded in (bytes(33), b"\x04" + good[1:], b"\x02" + b"\xff" * 32):
            await submit(session, channel, 0, blinded=blinded)
        batch = await batch_of(pool, 9)
        found = claims(batch)
        assert found.statuses == [(n, "invalid-blinded-message") for n in range(9)]
        assert found.rows([]) == []
        found.sign({})
        assert found.replies(MSP_KEY) == ([], [])
        assert batch.seal(MSP_KEY, 0, bytes(32), 0, weight=(1, 32, 0)).count == 9


async def test_claims_of_nobody_and_of_others_are_left_alone():
    async with desk(**ECASH) as pool:
        session, channel = await opened(pool)
        await session.submit(session.mine(channel))
        await submit(session, channel, 0)
        batch = await batch_of(pool, 2)
        assert claims(batch).indices == [1]
        other = {"slots": [slot()]}
        assert len(ecash.ClaimBatch(batch, extension_type=7, submit_type=SUBMIT, **other)) == 0
        assert len(ecash.ClaimBatch(batch, extension_type=EXTENSION, submit_type=4, **other)) == 0


async def test_a_share_without_work_does_not_reach_the_mint():
    """attack: A16. A claim is read when its share is in a batch, and only proofs of work are."""
    async with desk(**ECASH, exponent_min=4, exponent_max=4) as pool:
        session, channel = await opened(pool)
        for number in range(3):
            share = session.mine(channel, good=number == 1)
            claim = {"keyset_short": KEYS.id[:8], "B_": output(number).blinded}
            frame = write_frame("SubmitSharesEcashExtended", **share.message.fields, **claim)
            await session.client.send_frames(frame)
        found = claims(await batch_of(pool, 1))
        assert [row[0] for row in found.rows([])] == [output(1).blinded]
        errors = []
        while len(errors) < 2:
            message = await session.receive()
            if message.name == "RawFrame":
                assert (message.extension, message.number) == (EXTENSION, 5)
                errors.append(
                    read_payload("SubmitSharesEcashExtended.Error", message.payload_bytes)
                )
        assert [error["error_code"] for error in errors] == ["difficulty-too-low"] * 2


async def test_a_claim_goes_to_the_keyset_that_it_names_or_to_none():
    """attack: A23"""
    async with desk(**ECASH) as pool:
        session, channel = await opened(pool)
        await submit(session, channel, 0)
        batch = await batch_of(pool, 1)
        for expected, parts in (
            (None, {}),
            (None, {"epoch": 4}),
            ("stale-keyset", {"epoch": 2}),
            (None, {"state": "closed"}),
            ("stale-keyset", {"state": "closed", "epoch": 4}),
            ("stale-keyset", {"state": "stale"}),
            (None, {"height": 100, "epoch": 0}),
            ("stale-keyset", {"height": 99}),
            ("stale-keyset", {"height": 101, "state": "closed"}),
            ("unknown-keyset", {"account": 8}),
        ):
            statuses = claims(batch, slot(**parts)).statuses
            assert statuses == ([] if expected is None else [(0, expected)]), parts
        other = ecash.ClaimSlot(bytes(8), 4, 9, 3, None, 0, "open")
        assert claims(batch, other).statuses == [(0, "unknown-keyset")]
        with pytest.raises(LocalProtocolError, match="short id"):
            claims(batch, slot(), slot(number=5))


async def test_only_what_the_transaction_took_is_signed():
    """attack: A3. attack: A25. Signing needs what was handed out, and starts anew with it."""
    async with desk(**ECASH) as pool:
        session, channel = await opened(pool)
        for number in (0, 1, 1, 2):
            await submit(session, channel, number)
        found = claims(await batch_of(pool, 4))
        assert found.statuses == [(2, "blinded-message-reused")]
        found.sign({4: KEYS})
        assert found.replies(MSP_KEY) == ([], [])
        with pytest.raises(LocalProtocolError, match="no claim that stands"):
            found.refuse([0], "blinded-message-reused")

        assert [row[3:] for row in found.rows([1, 2])] == [(0, 0), (1, 3)]
        found.refuse([3], "blinded-message-reused")
        assert found.statuses == [(3, "blinded-message-reused")]
        with pytest.raises(LocalProtocolError, match="not signed"):
            found.replies(MSP_KEY)
        for keys, match in (({}, "keyset 4"), ({5: KEYS}, "keyset 4")):
            with pytest.raises(LocalProtocolError, match=match):
                found.sign(keys)
        found.sign({4: KEYS})
        [(_, first)], _ = found.replies(MSP_KEY)
        told = read_payload("SubmitSharesEcashExtended.Success", first)
        assert [one["sequence_number"] for one in told["receipts"]] == [1]

        # The transaction is tried again: nothing is left of what was refused in it.
        assert [row[3:] for row in found.rows([2])] == [(0, 0), (1, 1), (2, 3)]
        found.sign({4: KEYS})
        [(_, again)], _ = found.replies(MSP_KEY)
        receipts = read_payload("SubmitSharesEcashExtended.Success", again)["receipts"]
        assert receipts[0] == told["receipts"][0]
        assert [one["sequence_number"] for one in receipts] == [1, 2, 4]
        with pytest.raises(LocalProtocolError, match="refuses no claim"):
            found.refuse([0], "stale-share")


async def test_a_lazy_channel_gets_a_signed_chain():
    """attack: A8. Who withholds a signature has signed that it owes it."""
    async with desk(**ECASH) as pool:
        session, channel = await opened(pool)
        shares = [await submit(session, channel, number) for number in range(2)]
        batch = await batch_of(pool, 2)
        key = batch.connection_of(0), channel.id
        found = claims(batch)
        found.rows([])
        found.sign({}, lazy={key})
        [(_, payload)], [(owner, root)] = found.replies(MSP_KEY, {key: bytes(32)})
        told = read_payload("SubmitSharesEcashExtended.Success", payload)
        expected = bytes(32)
        for number, share in enumerate(shares):
            expected = peer.receipt_root(expected, output(number).blinded, 0, share.hash)
        assert owner == key
        assert root == told["receipt_root"] == expected
        assert all(one["C_"] == b"" for one in told["receipts"])
        digest = peer.receipt_digest(channel.id, shares[1].message.sequence_number, root)
        assert told["receipt_sig"] == MSP_KEY.sign(digest)
        with pytest.raises(LocalProtocolError, match="32"):
            found.replies(MSP_KEY, {key: bytes(31)})


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((bytes(7), 4, 9, 3, None, 0, "open"), "8 bytes"),
        ((bytes(8), -1, 9, 3, None, 0, "open"), "out of range"),
        ((bytes(8), 4, 9, 3, None, 121, "open"), "121"),
        ((bytes(8), 4, 9, 3, None, 0, "opened"), "give open, closed or stale"),
        ((bytes(8), 4, 9, 1 << 32, None, 0, "open"), "out of range"),
    ],
)
def test_slots_out_of_range_are_refused(arguments, match):
    with pytest.raises(LocalProtocolError, match=match):
        ecash.ClaimSlot(*arguments)


def node(left, right):
    hash_ = tagged_hash(
        "radpool/node",
        left[0] + right[0] + left[1].to_bytes(16, "little") + right[1].to_bytes(16, "little"),
    )
    return hash_, left[1] + right[1]


def test_claims_are_summed_up_in_a_tree():
    """spec: ES-21"""
    leaves = [
        bytes([n]) * 32 + output(n).blinded + struct.pack("<Q", 1 << (60 + n % 4)) for n in range(3)
    ]
    first, second, third = (
        (tagged_hash("radpool/claim", leaf), 1 << (60 + n)) for n, leaf in enumerate(leaves)
    )
    packed = b"".join(leaves)
    assert ecash.claims_root(packed) == node(node(first, second), third)
    assert ecash.claims_path(packed, 0) == [second, third]
    assert ecash.claims_path(packed, 2) == [node(first, second)]
    assert ecash.claims_root(b"") == (bytes(32), 0)
    with pytest.raises(LocalProtocolError, match="no claim 3"):
        ecash.claims_path(packed, 3)
    for wrong in (packed[:-1], packed + b"\0"):
        with pytest.raises(LocalProtocolError, match="left over"):
            ecash.claims_root(wrong)


CLAIM_KEY = bytes([2]) + bytes(32)


async def test_claims_by_value_are_dealt_from_residues():
    """The price of what the rig mines on is 1,000: a share of z = 0 is worth that.

    spec: WT-13, WT-14
    """
    async with desk(**ECASH) as pool:
        session, channel = await opened(pool)
        for number in range(3):
            await submit(session, channel, number)
        batch = await batch_of(pool, 3)
        price, z = batch.price_of(0), claims(batch).rows([])[0][2]
        value = price << z
        assert value > 0
        unit = 2 * value // 3
        by_value = ecash.ClaimSlot(KEYS.id[:8], 4, 9, 3, None, 0, "open", unit)
        known = ecash.Claimants()
        known.put(*place_of(batch), CLAIM_KEY)
        given = {"extension_type": EXTENSION, "submit_type": SUBMIT, "slots": [by_value]}
        unweighed = ecash.ClaimBatch(batch, **given)
        assert [code for _, code in unweighed.statuses] == ["stale-keyset"] * 3
        found = ecash.ClaimBatch(batch, **given, weight=(1, 32, 0), claimants=known)
        assert found.residue_keys == [(9, CLAIM_KEY)]
        rows = found.rows([], {(9, CLAIM_KEY): 5})
        total = sum(unit << z for _, _, z, _, _ in rows if z != 255)
        [(key, left)] = found.residues
        assert key == (9, CLAIM_KEY)
        assert total + left == 3 * value + 5
        assert found.values == [(4, 3 * value)]
        found.refuse([0], "epoch-closed")
        assert [row[4] for row in found.standing] == [1, 2]
        assert found.values == [(4, 2 * value)]
        nameless = ecash.ClaimBatch(batch, **given, weight=(1, 32, 0))
        [(account, name)] = nameless.residue_keys
        assert (account, name[:2]) == (9, b"\x00\x01")


def place_of(batch):
    """Returns connection and channel of a batch's first share."""
    record = bytes(memoryview(batch)[: batch.RECORD_LEN])
    return int.from_bytes(record[8:16], "little"), int.from_bytes(record[32:36], "little")


def test_claimants_are_known_by_their_channel():
    known = ecash.Claimants()
    with pytest.raises(LocalProtocolError, match="a claimant has 33 bytes, not 32"):
        known.put(1, 2, bytes(32))
    known.put(1, 2, CLAIM_KEY)
    assert (len(known), known.of(1, 2), repr(known)) == (1, CLAIM_KEY, "Claimants(1)")
    assert known.of(2, 1) != known.of(1, 1)
    assert known.forget(1, 2)
    assert not known.forget(1, 2)
    known.put(1, 2, CLAIM_KEY)
    known.clear()
    assert known.of(1, 2)[0] == 0
