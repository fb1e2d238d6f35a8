"""A mint with real keys whose every message a test can bend."""

from dataclasses import dataclass, replace

from radpool_sv2_extensions.ecash import message as wire

from radpool_sv2._native.ecash import KeysetKeys, MintSeed
from radpool_sv2._native.ledger import MspKey

Z0 = 4
KEYS = 12
"""Exponents 4 to 15."""


@dataclass
class Keyset:
    """Is a keyset with its secrets and its announcement."""

    keys: KeysetKeys
    announcement: wire.EcashKeysetAnnounce

    @property
    def id(self):
        return self.announcement.keyset_id

    @property
    def payload(self):
        return self.announcement.encode()

    def sign(self, blinded, z):
        """Returns C_, e, s."""
        [signed] = self.keys.sign([(1 << (z - Z0), blinded)])
        return signed


class ScriptedMint:
    """Announces, signs, and answers as a mint should; the test does the cheating."""

    def __init__(self, seed=1):
        self.key = MspKey.from_secret(bytes([seed]) * 32)
        self.public_key = b"\x02" + self.key.public
        self.seed = MintSeed.from_secret(bytes([seed + 100]) * 32)
        self.number = 0

    def signed(self, message):
        return replace(message, signature=self.key.sign(message.signed_hash()))

    def open(self, before=None, *, keys=None, **change):
        """Opens a keyset; `change` replaces fields before it is signed."""
        self.number += 1
        keys = keys or KeysetKeys.derive(self.seed, "work", self.number, 0, KEYS)
        unsigned = wire.EcashKeysetAnnounce(
            keyset_id=keys.id,
            unit="work",
            policy=2,
            epoch=self.number,
            opened_height=100 + self.number,
            opened_block=bytes([self.number]) * 32,
            z0=Z0,
            keys=tuple(
                wire.KeyEntry(amount.bit_length() - 1 + Z0, point) for amount, point in keys.public
            ),
            input_fee_ppk=0,
            final_expiry=0,
            fee_ppm=0,
            fee_fixed_msat=0,
            price_num=0,
            price_den=0,
            supersedes=b"" if before is None else before.id,
            signature=bytes(64),
        )
        return Keyset(keys, self.signed(replace(unsigned, **change)))

    def terms(self, keyset, **change):
        granted = wire.TermsGranted(
            policy=2,
            sign_mode=1,
            z0=Z0,
            z_step=1,
            keyset_id=keyset.id,
            mint_pubkey=self.public_key,
            mint_url="",
            max_batch=500,
        )
        return replace(granted, **change)

    def update(self, keyset, state):
        return self.signed(
            wire.EcashEpochUpdate(
                keyset_id=keyset.id,
                state=state,
                block_hash=bytes(32),
                height=0,
                confirmations=0,
                theta_msat=0,
                work_total=0,
                group=(),
                statement_hash=b"",
                redeem_after_height=0,
                expires_at=0,
                signature=bytes(64),
            )
        )


def receipt(keyset, sequence, blinded, z):
    """Writes an honest receipt."""
    return wire.Receipt(sequence, z, *keyset.sign(blinded, z))


def bare(sequence, z=Z0):
    """Writes a receipt without a signature."""
    return wire.Receipt(sequence, z, b"", b"", b"")


def answer(receipts, *, last=None, count=None, z=Z0, **lazy):
    """Writes a 0x04 with these receipts, all of one exponent."""
    count = len(receipts) if count is None else count
    return wire.SubmitSharesEcashExtendedSuccess(
        channel_id=5,
        last_sequence_number=receipts[-1].sequence_number if last is None else last,
        new_submits_accepted_count=count,
        new_shares_sum=count << z,
        receipts=tuple(receipts),
        receipt_root=lazy.get("root", b""),
        receipt_sig=lazy.get("sig", b""),
    )


def fetched(request, signatures=(), pending=(), unknown=()):
    """Writes a 0x07 to a fetch."""
    return wire.RedeemSharesEcashSuccess(
        request_id=request.request_id,
        mode=0,
        signatures=tuple(signatures),
        pending=tuple(pending),
        unknown=tuple(unknown),
        price_num=0,
        price_den=0,
    )


def fetched_signature(keyset, index, blinded, z):
    return wire.RedeemSignature(index, 1 << (z - Z0), *keyset.sign(blinded, z))
