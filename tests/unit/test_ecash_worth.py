"""A miner whose shares are worth what their templates pay: tokens of any size, and what is left."""

import json

import httpx
import pytest
from miner_rig.machine import Machine
from radpool_sv2_extensions.ecash import message as wire
from radpool_sv2_extensions.ecash.client import EcashMiner, open_side
from radpool_sv2_extensions.ecash.leaving import PATIENCE_S
from radpool_sv2_extensions.ecash.witness import Witness
from radpool_sv2_extensions.ecash.worth import ENOUGH, Worth
from wallet_rig.mint import FakeMint, Refused

from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.miner.side import SideOptions
from radpool_sv2.wallet import Wallet

Z0 = 8
UNIT = 1000
WORK, VALUE = 0, UNIT
"""What units of a keyset may count."""


@pytest.fixture
def mint():
    return FakeMint(unit_value=UNIT)


@pytest.fixture
async def wallet(tmp_path, mint):
    wallet = await Wallet.create(tmp_path / "wallet", transport=mint.transport())
    yield wallet
    await wallet.close()


def options(tmp_path, **change):
    fields = {
        "directory": tmp_path / "wallet",
        "policy": None,
        "sign_mode": "eager",
        "unsigned_max": 3,
        "mint_url": None,
    }
    return SideOptions(**(fields | change))


class Channel:
    """Is a miner with a claim key on a channel of the mint."""

    def __init__(self, wallet, tmp_path, mint, key, **change):
        async def fetch(_):
            rows = mint.answer("/work/v1/keysets?offset=0&limit=100", None)["keysets"]
            states = ["open", "closed", "provisional", "final"]
            for row in rows:
                row["state"] = states[mint.epochs[bytes.fromhex(row["id"])].state]
            return json.dumps({"keysets": rows}).encode()

        self.mint = mint
        self.key = key
        self.side = EcashMiner(wallet, options(tmp_path, **change), Witness(fetch), key)
        self.machine = Machine(self.side)
        self.keyset = b""

    async def open(self):
        self.keyset = self.mint.opened or self.mint.open()
        terms = wire.TermsGranted(
            policy=2,
            sign_mode=self.side._sign_mode,
            z0=Z0,
            z_step=1,
            keyset_id=self.keyset,
            mint_pubkey=self.mint.key.public,
            mint_url=self.mint.url,
            max_batch=500,
        )
        self.machine.session += 1
        self.machine.lot, self.machine.lapsed, self.machine.sequence = 0, False, 0
        await self.machine.hear(self.announcement, opened=(5, terms.encode()))

    @property
    def announcement(self):
        payload = self.mint.epochs[self.keyset].announcement
        return wire.decode(wire.EcashKeysetAnnounce.msg_type, payload, channel_msg=False)

    def receipt(self, number, units):
        """Signs a share for so many units; 0 says that its value is left over."""
        if not units:
            return wire.Receipt(number, wire.NO_TOKEN, b"", b"", b"")
        [(_, *signed)] = self.mint.mine(self.keyset, [(self.machine.blinded(number), units)])
        return wire.Receipt(number, Z0 + units.bit_length() - 1, *signed)

    async def mine(self, *pays, exponent=Z0):
        """Finds a share for each entry, which brings so many units."""
        for units in pays:
            [number] = self.machine.find(1, exponent)
            await self.machine.hear(
                wire.SubmitSharesEcashExtendedSuccess(
                    channel_id=5,
                    last_sequence_number=number,
                    new_submits_accepted_count=1,
                    new_shares_sum=1 << exponent,
                    receipts=(self.receipt(number, units),),
                    receipt_root=b"",
                    receipt_sig=b"",
                )
            )

    def notes(self):
        return " | ".join(text for _, text in self.side.events())


@pytest.fixture
async def channel(wallet, tmp_path, mint):
    channel = Channel(wallet, tmp_path, mint, await wallet.take_claim_key())
    await channel.open()
    return channel


# The count


def test_by_work_a_token_is_its_share():
    """spec: RC-26"""
    for unit_value in (0, None):
        worth = Worth(Z0, unit_value)
        assert worth.take(Z0 + 3, 8) and worth.take(Z0 + 3, 16)
        assert not worth.take(Z0 + 3, 4) and not worth.take(Z0, 0)
        assert (worth.percent_max, worth.left_over_min, worth.by_value) == (None, 0, False)


@pytest.mark.parametrize("permille", [501, 600, 750, 999, 1000, 1001, 1500, 2000, 3999])
def test_honest_mints_pass_at_any_price_above_half(permille):
    """spec: RC-26. Whatever the exponents of the shares are."""
    worth, residue = Worth(Z0, VALUE), 0
    for at in range(300):
        exponent = Z0 + at * at % 7
        residue += permille << (exponent - Z0)
        units = residue // 1000
        token = 1 << (units.bit_length() - 1) if units else 0
        residue -= token * 1000
        assert worth.take(exponent, token)
    assert (worth.percent_max < 100) == (permille < 990)
    assert worth.left_over_min <= residue or permille < 1000


@pytest.mark.parametrize("permille", [1, 100, 250, 400, 499])
def test_below_half_is_found_out(permille):
    """spec: RC-26"""
    worth, residue, bad = Worth(Z0, VALUE), 0, 0
    for _ in range(400):
        residue += 8 * permille
        units = residue // 1000
        token = 1 << (units.bit_length() - 1) if units else 0
        residue -= token * 1000
        bad += not worth.take(Z0 + 3, token)
    assert bad
    # Whatever the count calls good was paid by half at least, but for the last token.
    assert 2 * (worth.tokens + worth.last) >= worth.work


def test_late_answers_are_no_fault():
    worth = Worth(Z0, VALUE)
    assert worth.take(Z0 + 6, 64)
    assert worth.take(Z0, 0, in_turn=False)
    assert worth.last == 64 << Z0


# Channels


async def test_channel_is_opened_with_the_claim_key(wallet, tmp_path):
    """spec: RC-20. Each run has its own, and keeps it when the connection changes."""
    keys = []
    for _ in range(2):
        async with open_side(options(tmp_path)) as side:
            keys.append(side._claim_key)
            assert keys[-1].public in bytes(side._terms_asked.encode())
    assert [key.counter for key in keys] == [0, 1]
    assert EcashMiner(wallet, options(tmp_path))._terms_asked.claim_pubkey == b""


async def test_token_may_be_larger_or_smaller_than_its_share(channel):
    """spec: RC-26, EW-14. Many steps larger, when a harder share left much over."""
    await channel.mine(4, 4, 16, 2, 4, exponent=Z0 + 2)
    figures = channel.side.figures()
    assert (figures["tokens"], figures["units"], figures["unsigned"]) == (5, 30, 0)
    assert (figures["unit_value"], figures["subsidy_percent"]) == (str(UNIT), 150)
    assert "150 %" in dict(channel.side.rows())["tokens are"]


async def test_share_without_a_token_is_answered(channel, wallet):
    """spec: RC-26, EW-16. Its blinded message is not used again, and not asked for."""
    await channel.mine(0, 1, 0, 1)
    figures = channel.side.figures()
    assert (figures["tokens"], figures["left_over"], figures["unsigned"]) == (2, 2, 0)
    assert len({claim.blinded for claim in channel.machine.sent.values()}) == 4
    assert not channel.machine.asked(wire.RedeemSharesEcash)
    # It has been answered: more may be under way.
    assert len(channel.machine.queue) == 7


async def test_pool_that_leaves_everything_over_is_left(channel):
    """spec: RC-14, RC-26. attack: A7"""
    await channel.mine(1, 0, 0, 0, 0, 0)
    figures = channel.side.figures()
    assert figures["unsigned"] == 3 and "less than the share's worth" in figures["held"]
    assert not channel.machine.find()


async def test_half_a_share_each_time_is_told(channel):
    """spec: RC-26. It may be the difficulty, so it is said and does not end the run."""
    await channel.mine(*[2] * (ENOUGH + 5), exponent=Z0 + 2)
    figures = channel.side.figures()
    assert (figures["subsidy_percent"], figures["unsigned"]) == (50, 0)
    assert channel.notes().count("the mint counts these shares at no more than 5") == 1


async def test_by_work_nothing_is_different(wallet, tmp_path, mint):
    """spec: RC-26. What is left over by work is owed."""
    mint.unit_value = WORK
    channel = Channel(wallet, tmp_path, mint, await wallet.take_claim_key())
    await channel.open()
    await channel.mine(4, exponent=Z0 + 2)
    assert channel.side.figures()["unit_value"] == "0"
    assert channel.side.figures()["subsidy_percent"] is None
    await channel.mine(2, 0, exponent=Z0 + 2)
    assert channel.side.figures()["unsigned"] == 2
    await channel.side.finish(channel.machine)
    assert not any(path == "/work/v1/residue" for path, _ in mint.log)


async def test_unit_whose_cost_changes(channel, mint):
    """spec: RC-25"""
    await channel.mine(1)
    await channel.machine.end()
    mint.unit_value = 2 * UNIT
    with pytest.raises(RemoteProtocolError, match="holds to the keyset's end"):
        await channel.open()


async def test_nobody_knows_what_a_unit_costs(wallet, tmp_path, mint):
    """A token below its share's work is owed then, as where work is counted."""
    channel = Channel(wallet, tmp_path, mint, None)

    async def silent(_):
        return b"<html>"

    channel.side._witness = Witness(silent)
    await channel.open()
    await channel.mine(8, 2, exponent=Z0 + 2)
    assert channel.side.figures()["unit_value"] is None
    assert channel.side.figures()["unsigned"] == 1


async def test_count_goes_on_with_the_next_keyset(channel, mint):
    """spec: RC-26. What is left over stays with the claim key."""
    await channel.mine(0)
    mint.close(channel.keyset, 1, work=1)
    before = channel.keyset
    channel.keyset = mint.open(supersedes=bytes([33]) + before)
    await channel.machine.hear(channel.announcement)
    await channel.mine(1, 1)
    assert channel.side.figures()["keyset"] == channel.keyset.hex()
    assert (channel.side.figures()["left_over"], len(channel.side._worths)) == (1, 2)


async def test_lazy_channels_count_alike(wallet, tmp_path, mint):
    """spec: RC-15, RC-26"""
    channel = Channel(wallet, tmp_path, mint, await wallet.take_claim_key(), sign_mode="lazy")
    await channel.open()
    expected = [(1, 1, 0, 0), (0, 1, 1, 0), (0, 1, 2, 0), (0, 1, 2, 1)]
    for units, promised, left_over, unsigned in expected:
        [number] = channel.machine.find(1, Z0)
        running = channel.side._session.running
        z = Z0 if units else wire.NO_TOKEN
        share_hash = number.to_bytes(32, "big")
        root = wire.receipt_root(running._root, channel.machine.blinded(number), z, share_hash)
        unsigned_message = wire.SubmitSharesEcashExtendedSuccess(
            5, number, 1, 1 << Z0, (wire.Receipt(number, z, b"", b"", b""),), root, b""
        )
        signature = mint.key.key.sign_schnorr(unsigned_message.receipts_hash())
        await channel.machine.hear(
            wire.SubmitSharesEcashExtendedSuccess(
                5, number, 1, 1 << Z0, unsigned_message.receipts, root, signature
            )
        )
        figures = channel.side.figures()
        found = (figures["promised"], figures["left_over"], figures["unsigned"])
        assert found == (promised, left_over, unsigned)


# Leaving


async def test_leaving_miner_takes_what_is_left_over(channel, mint, wallet):
    """spec: RC-22"""
    await channel.mine(1, 1)
    mint.leave_over(channel.key.public, 5 * UNIT + 7)
    await channel.side.finish(channel.machine)
    assert "what shares left over, 5 units, is 2 tokens now" in channel.notes()
    [line] = (await wallet.balance()).epochs
    assert line.units == 2 + 5
    assert mint.residues == {(channel.key.public, "window"): 7}


async def test_leaving_miner_is_not_kept_by_a_silent_mint(channel, mint, wallet, autojump_clock):
    """spec: RC-22. The wallet has it later."""
    await channel.mine(1)
    mint.leave_over(channel.key.public, 5 * UNIT)
    busy = httpx.Response(503, json={"error": "mint-unavailable", "retry_after_s": 7})
    mint.on_request = lambda path, body: busy if "outputs" in (body or ()) else None
    await channel.side.finish(channel.machine)
    notes = channel.notes()
    assert "did not answer in time; `radpool wallet redeem` asks for it again" in notes
    assert PATIENCE_S < 60
    mint.on_request = None
    await wallet.cash_out()
    [line] = (await wallet.balance()).epochs
    assert line.units == 1 + 5


@pytest.mark.parametrize("gone", ["network", "refusal"])
async def test_leaving_miner_tells_what_stays(channel, mint, gone):
    await channel.mine(1)
    mint.leave_over(channel.key.public, 5 * UNIT)

    def refuse(*_):
        raise Refused("epoch-closed")

    def lose(path, body):
        if "outputs" in (body or ()):
            raise httpx.ConnectError("gone")

    if gone == "network":
        mint.on_request = lose
    else:
        mint._cash_out = refuse
    await channel.side.finish(channel.machine)
    assert "what shares left over stays with the mint" in channel.notes()
    assert mint.residues == {(channel.key.public, "window"): 5 * UNIT}


async def test_mint_that_holds_less_than_the_subsidy_alone_left_over(channel, mint):
    """spec: RC-25"""
    await channel.mine(*[4, 2, 2, 4, 2], exponent=Z0 + 2)
    mint.leave_over(channel.key.public, 2 * UNIT)
    await channel.side.finish(channel.machine)
    assert "4 units more are left over than the mint gave" in channel.notes()


async def test_mint_that_gives_what_is_left_over_is_no_fault(channel, mint):
    await channel.mine(*[4, 2, 2, 4, 2], exponent=Z0 + 2)
    mint.leave_over(channel.key.public, 6 * UNIT)
    await channel.side.finish(channel.machine)
    assert "warning" not in channel.notes()
