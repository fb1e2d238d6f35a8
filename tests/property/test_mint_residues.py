"""Residues under random histories: what shares have earned is in tokens or left over, exactly."""

from __future__ import annotations

from hashlib import sha256
from typing import ClassVar

from coincurve import PrivateKey
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from mint_rig import BY_VALUE
from test_mint_properties import PAID, MintHistory

from radpool_sv2.ecash.policy import Policy
from radpool_sv2.ecash.refusal import RefusedError
from radpool_sv2.units import target_of

KEYS = [PrivateKey(sha256(bytes([number])).digest()) for number in range(3)]

PRICES = (0, 1, 333, 1_000, 1_140, 2_047, 100_000)


class ValueHistory(MintHistory):
    """The same history, where shares earn what their templates pay, on channels with claim keys."""

    options: ClassVar[dict] = {"rule": BY_VALUE}

    def __init__(self) -> None:
        super().__init__()
        self.earned = dict.fromkeys(Policy, 0)
        self.refused: list = []
        self.channels: dict[int, int] = {}
        self.open_channels()

    def open_channels(self) -> None:
        """Two channels of one key, one of another; the fourth gives none."""
        for channel, key in enumerate((KEYS[0], KEYS[0], KEYS[1])):
            self.rig.mint.name_claimant(1, channel, key.public_key.format())

    @rule(
        policy=st.sampled_from(PAID), exponents=st.lists(st.integers(0, 5), min_size=1, max_size=4)
    )
    def miners_work(self, policy, exponents):
        self.earned[policy] += sum(1_000 << z for z in exponents if self.is_open(policy))
        super().miners_work(policy, exponents)

    def is_open(self, policy):
        return policy in self.rig.mint._gallery.opened

    @rule(
        policy=st.sampled_from(PAID),
        work=st.lists(
            st.tuples(st.integers(0, 5), st.sampled_from(PRICES), st.integers(0, 3), st.booleans()),
            min_size=1,
            max_size=5,
        ),
    )
    def miners_work_on_templates_of_their_own(self, policy, work):
        """Some of the claims repeat a blinded message, and are refused."""
        if not self.is_open(policy):
            return
        keyset = self.rig.mint.current(policy)
        shares = [
            self.rig.share(policy, z, price=price, channel=channel) for z, price, channel, _ in work
        ]
        fresh = [self.rig.wallet.message() for _ in work]
        claims = [
            (keyset.short, fresh[0] if again else own)
            for own, (_, _, _, again) in zip(fresh, work, strict=True)
        ]
        enclosure, _ = self.rig.submit(shares, claims)
        out = {index for index, _ in enclosure.rejected}
        self.refused += [(policy, shares[index]) for index in sorted(out)]
        stood = [index for index in range(len(shares)) if index not in out]
        self.earned[policy] += sum(shares[index].price << shares[index].z for index in stood)
        messages = [claims[index][1] for index in stood]
        for token in self.rig.unblind(keyset.id, messages):
            self.held.setdefault(token.keyset, []).append(token)
        self.rig.advance()

    @precondition(lambda self: self.refused)
    @rule()
    def a_refused_share_is_claimed_once_more(self):
        policy, share = self.refused.pop(0)
        if not self.is_open(policy):
            return
        keyset = self.rig.mint.current(policy)
        repeated = self.rig.repeated(
            share, keyset.short, self.rig.wallet.message(), channel=share.channel
        )
        try:
            claimed = self.rig.mint._register.claim(repeated)
        except RefusedError as error:
            assert error.error_code in {"stale-keyset", "duplicate-share"}
            return
        self.earned[policy] += share.price << share.z
        for token in self.rig.unblind(keyset.id, [claimed.message]):
            self.held.setdefault(token.keyset, []).append(token)
        self.rig.advance()

    @rule(policy=st.sampled_from(PAID), key=st.sampled_from(KEYS), some=st.booleans())
    def residues_are_cashed_out(self, policy, key, some):
        found = {
            each.policy: each for each in self.rig.mint._cashier.residues(key.public_key.format())
        }
        if policy not in found or not found[policy].units:
            return
        units = found[policy].units
        amounts = [1 << bit for bit in range(units.bit_length()) if units >> bit & 1]
        for token in self.rig.cash_out(key, policy, amounts[:1] if some else amounts):
            self.held.setdefault(token.keyset, []).append(token)
        self.rig.advance()

    @rule(channel=st.integers(0, 3))
    def a_channel_ends_and_comes_again(self, channel):
        self.rig.mint.forget_channel(1, channel)
        self.rig.advance()
        self.open_channels()

    @rule(bits=st.integers(4, 7))
    def difficulty_changes(self, bits):
        self.rig.chain.block_target = target_of(bits).to_bytes(32, "little")
        self.rig.advance()

    @rule()
    def node_restarts(self):
        super().node_restarts()
        self.open_channels()

    @invariant()
    def tokens_and_residues_are_what_shares_have_earned(self):
        """spec: WT-13, WT-25"""
        for policy in PAID:
            rows = self.rig.rows(policy)
            assert sum(row.value for row in rows) == self.earned[policy]
            cost = sum(row.work * row.unit_value for row in rows)
            assert cost + sum(self.rig.residues(policy).values()) == self.earned[policy]

    @invariant()
    def statements_hand_residues_on(self):
        """spec: ES-24"""
        with self.rig.store.look() as connection:
            for policy in PAID:
                query = (
                    "SELECT value, work, unit_value, residue_out FROM keyset JOIN keyset_value "
                    "ON keyset = number WHERE policy = ? ORDER BY number"
                )
                residue = 0
                for *blobs, told in connection.execute(query, (policy,)):
                    value, work, unit_value = (
                        each if isinstance(each, int) else int.from_bytes(each, "big")
                        for each in blobs
                    )
                    residue += value - work * unit_value
                    assert residue >= 0
                    assert told is None or int.from_bytes(told, "big") == residue


COMMON = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}

TestValueHistory = ValueHistory.TestCase
TestValueHistory.settings = settings(max_examples=25, stateful_step_count=30, **COMMON)
