"""Plays the games of `docs/reference/template-weight.md`, and compares the page itself."""

from fractions import Fraction

import pytest
import template_weight_page as page
from published_slices import PublishedSlices
from template_games import FEES, RULES, STRATEGIES, SUBSIDY, play_round

pytestmark = pytest.mark.slow

DUST = Fraction(1, 10**6)
"""What rounding to satoshis may do to an epoch's sums."""

STUFFING = "stuffs slices: 20 small shares, each declaring a little more"


@pytest.fixture(scope="module")
def found():
    return page.results()


def percents(parts, digits=1):
    return [round(float(part) * 100, digits) for part in parts]


def test_the_page_is_what_was_played(found):
    assert len({strategy.text for strategy in STRATEGIES}) == len(STRATEGIES)
    assert page.PAGE.read_text(encoding="utf-8") == page.render(found)


@pytest.mark.parametrize("rule", RULES)
def test_honest_miners_have_their_part_by_every_rule(found, rule):
    honest = found["mines honestly", rule]
    assert abs(honest.player) < DUST
    assert abs(honest.others) < DUST


@pytest.mark.parametrize(
    ("text", "percent"),
    [
        (STUFFING, 20.8),
        ("with 0.1 % of the work: stuffs slices like that", 20.1),
        ("withholds, declares 10 times the fees", 9.2),
        ("withholds, declares 100 times the fees", 50.3),
        ("withholds, declares 1,000 times the fees", 91.0),
        ("mines empty blocks, first on each new block", 50.0),
    ],
)
def test_published_slices_lose_their_fees_to_whoever_declares_them(found, text, percent):
    assert percents([found[text, "published"].fees_taken]) == [percent]


@pytest.mark.parametrize("rule", ["value", "slice", "difficulty"])
def test_stuffing_slices_brings_nothing_here(found, rule):
    assert abs(found[STUFFING, rule].player) < DUST


def test_without_a_cap_withheld_fees_buy_the_pool(found):
    """Fees that are paid and published bring nothing; those that are withheld are free."""
    published = found["pays itself 10 times the fees, and publishes its blocks", "value, no cap"]
    assert abs(published.player) < DUST
    taken = [
        found[f"withholds, declares {amount}", "value, no cap"].taken
        for amount in ("100 BTC", "1,000 BTC")
    ]
    assert percents(taken) == [24.7, 76.1]


def test_with_the_cap_a_withholder_gains_less_than_a_quarter_of_the_fees(found):
    """spec: TV-4, TV-6"""
    most = Fraction(FEES, 4 * (SUBSIDY + FEES))
    assert percents([most], 2) == [0.39]
    for strategy in STRATEGIES:
        for rule in ("value", "slice"):
            gain = found[strategy.text, rule].player
            if not strategy.publishes:
                assert gain <= most - Fraction(strategy.per_mille, 1000) + DUST
            elif strategy.kept_sats < 0:
                assert gain < 0
    # From 0.39 % of the pool's work on the blocks that are withheld cost more.
    assert found["withholds, declares 1,000 BTC", "value"].player < 0


def test_by_value_nobody_else_pays_for_bad_templates(found):
    for text in (
        "keeps the fees in an output of its own",
        "mines empty blocks",
        "mines empty blocks, first on each new block",
        "leaves half of the fees out",
    ):
        assert abs(found[text, "value"].others) < DUST
        assert found[text, "value"].player < DUST
        assert found[text, "difficulty"].others < -DUST
    better = "finds a tenth more fees that are real"
    assert found[better, "value"].player > 90 * found[better, "difficulty"].player > 0


def test_by_value_there_is_no_time_to_come_or_to_go():
    fair = play_round("value")
    assert max(abs(fair.first), abs(fair.last), fair.gain) < DUST
    for rule in ("slice", "difficulty", "published"):
        hopped = play_round(rule)
        assert hopped.first > Fraction(1, 100)
        assert hopped.last < -Fraction(1, 100)
        assert hopped.gain > Fraction(3, 1000)


# The model of the published rule, held to the figures that are known of it.


def test_published_payout_of_two_slices():
    slices = PublishedSlices(1_000_000)
    for owner, work, fees in [("A", 200, 0), ("B", 100, 0), ("A", 300, 6), ("B", 400, 3)]:
        # Both of the second slice come after a share that opens it.
        slices.add(owner, work=work, tip=fees > 0, fees_sats=fees * 1_000_000)
    assert slices.count == 2
    assert slices.parts(0, 6_000_000) == {"A": 3_800_000, "B": 2_200_000}


def test_published_slices_open_with_better_fees_and_new_blocks():
    slices = PublishedSlices(10)
    for tip, fees, count in [
        (1, 100, 1),
        (1, 109, 1),
        (1, 110, 2),
        (1, 119, 2),
        (1, 0, 2),
        (1, 120, 3),
        (2, 5, 4),
        (1, 5, 5),
    ]:
        slices.add("A", work=1, tip=tip, fees_sats=fees)
        assert slices.count == count
    assert sum(slices.parts(7, 11).values()) == 18


@pytest.mark.parametrize(
    ("start", "premium"), [(0, 1.98), (303, 1.49), (1_000, 1.23)], ids=lambda value: str(value)
)
def test_published_slice_of_a_whole_round_pays_the_last_share_best(start, premium):
    """A hundred shares, fees that grow evenly, one slice: who comes late has more of them."""
    slices = PublishedSlices(10**9)
    for number in range(1, 101):
        slices.add(number, work=1, tip=0, fees_sats=start + 6 * number)
    parts = slices.parts(0, 100)
    assert round(float(parts[100]), 2) == premium
    assert next(number for number, part in parts.items() if part > 1) == 51
