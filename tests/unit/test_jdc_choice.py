"""Policies and what they come to: always a block that consensus allows, whatever they wish for."""

import random
from dataclasses import replace

import pytest
from jdc_rig.templates import RESERVED, SUBSIDY, template, transaction

from radpool_sv2.chain.block import COMMITMENT_PREFIX, witness_commitment
from radpool_sv2.config import loads, render
from radpool_sv2.config.jdc import JdcConfig, PolicySection
from radpool_sv2.consensus import merkle_root, root_from_path
from radpool_sv2.errors import ConfigError, LocalProtocolError
from radpool_sv2.jdc.choice import choose
from radpool_sv2.jdc.policy import Candidate, Offer, Rules, Wishes, find_policies
from radpool_sv2.network import REGTEST

WEIGHT_MAX = 4_000_000
FEE = 1_000


def offered(*transactions, fee=FEE):
    return [Candidate(each.to_bytes(), fee) for each in transactions]


def apply(transactions, wishes, *, found=(), weight_max=WEIGHT_MAX, fee=FEE):
    candidates = offered(*transactions, fee=fee)
    made = template(transactions=transactions, fees=fee * len(transactions))
    return choose(made, candidates, wishes, found, weight_max)


def child(parent, seed, *more):
    return transaction(seed, spends=[(parent.txid, 0), *((each.txid, 0) for each in more)])


def ids(choice):
    return [Candidate(raw, 0).txid for raw in choice.transactions]


A, B, C = transaction(1), transaction(2, witness=True), transaction(3)
A1 = child(A, 11)
A2 = child(A1, 12)


def test_without_wishes_the_template_stays_as_it_is():
    choice = apply([A, B, C], Wishes())
    assert choice.template == template(transactions=[A, B, C], fees=3 * FEE)
    assert (choice.left_out, choice.added) == (0, 0)


def test_excluded_goes_with_all_that_spends_it_and_with_their_fees():
    choice = apply([A, B, A1, A2, C], Wishes(exclude=frozenset([A.txid])))
    assert ids(choice) == [B.txid, C.txid]
    assert (choice.left_out, choice.added) == (3, 0)
    made = choice.template
    assert (made.value_sats, made.fees_sats) == (SUBSIDY + 2 * FEE, 2 * FEE)
    assert (made.tx_count, made.weight) == (2, RESERVED + B.weight + C.weight)
    check(choice, [B, C])


def check(choice, transactions):
    """Path and commitment are those of the transactions."""
    coinbase = b"\xcb" * 32
    root = merkle_root([coinbase, *(each.txid for each in transactions)])
    assert root_from_path(coinbase, choice.template.merkle_path) == root
    wanted = witness_commitment([each.wtxid for each in transactions]).to_bytes()
    assert choice.template.template_outputs == wanted
    assert choice.template.template_output_count == 1


def test_excluding_everything_leaves_an_empty_block():
    choice = apply([A, B], Wishes(exclude=frozenset([A.txid, B.txid])))
    assert choice.transactions == ()
    check(choice, [])


def test_what_a_template_asks_for_besides_stays():
    made = template(transactions=[A, B], fees=2 * FEE)
    other = bytes(8) + b"\x01\x6a"
    made = replace(made, template_outputs=other + made.template_outputs, template_output_count=2)
    choice = choose(made, offered(A, B), Wishes(exclude=frozenset([A.txid])), (), WEIGHT_MAX)
    assert choice.template.template_output_count == 2
    assert choice.template.template_outputs.startswith(other)
    assert choice.template.template_outputs.count(COMMITMENT_PREFIX) == 1


def test_included_comes_behind_its_parents_and_claims_no_fee():
    new = child(A1, 50)
    choice = apply([A, A1], Wishes(include=(new.to_bytes(),)))
    assert ids(choice) == [A.txid, A1.txid, new.txid]
    assert (choice.left_out, choice.added) == (0, 1)
    assert choice.template.value_sats == SUBSIDY + 2 * FEE
    check(choice, [A, A1, new])


def test_included_wins_over_what_spends_the_same():
    rival = transaction(60, spends=[(A.txid, 0)])
    choice = apply([A, A1, A2], Wishes(include=(rival.to_bytes(),)))
    assert ids(choice) == [A.txid, rival.txid]
    assert (choice.left_out, choice.added) == (2, 1)
    assert choice.template.value_sats == SUBSIDY + FEE


def test_found_is_included_too_and_once():
    choice = apply([A], Wishes(include=(C.to_bytes(), A.to_bytes())), found=[C.to_bytes()])
    assert ids(choice) == [A.txid, C.txid]


def test_excluded_wins_over_included():
    wishes = Wishes(exclude=frozenset([C.txid]), include=(C.to_bytes(), child(C, 5).to_bytes()))
    assert ids(apply([A], wishes)) == [A.txid]


def test_child_of_what_left_is_not_included():
    rival = transaction(60, spends=[(A.txid, 0)])
    late = child(A2, 70)
    choice = apply([A, A1, A2], Wishes(include=(rival.to_bytes(), late.to_bytes())))
    assert ids(choice) == [A.txid, rival.txid]


def test_coinbase_is_not_included():
    coinbase = transaction(1, spends=[(bytes(32), 0xFFFFFFFF)])
    assert ids(apply([A], Wishes(include=(coinbase.to_bytes(),)))) == [A.txid]


def test_what_is_no_transaction_is_refused():
    with pytest.raises(LocalProtocolError):
        apply([A], Wishes(include=(b"nothing",)))


def test_cheapest_gives_way_with_its_children_but_not_what_is_preferred():
    transactions = [A, A1, B, C]
    candidates = [
        Candidate(each.to_bytes(), fee)
        for each, fee in zip(transactions, (10, 5_000, 20, 30), strict=True)
    ]
    made = template(transactions=transactions, fees=5_060)
    room = RESERVED + A.weight + A1.weight + C.weight
    wishes = Wishes(prefer=frozenset([A1.txid]))
    choice = choose(made, candidates, wishes, (), room)
    assert ids(choice) == [A.txid, A1.txid, C.txid]
    choice = choose(made, candidates, Wishes(), (), room)
    assert ids(choice) == [B.txid, C.txid]
    choice = choose(made, candidates, wishes, (), RESERVED + C.weight)
    assert C.txid not in ids(choice) or A1.txid not in ids(choice)


@pytest.mark.parametrize("seed", range(60))
def test_whatever_is_wished_for_the_block_holds_together(seed):
    chance = random.Random(seed)
    pool = []
    for number in range(chance.randint(0, 40)):
        free = [each for each in pool if chance.random() < 0.2]
        spends = [(each.txid, chance.randrange(2)) for each in free]
        pool.append(
            transaction(1_000 + number, spends=spends, outputs=2, witness=chance.random() < 0.5)
        )
    spent, transactions = set(), []
    for each in pool:
        used = {item.previous for item in each.inputs}
        known = {item.txid for item in transactions}
        inside = {item.txid for item in pool}
        if not used & spent and all(txid in known or txid not in inside for txid, _ in used):
            spent |= used
            transactions.append(each)
    rest = [each for each in pool if each not in transactions]
    some = lambda: frozenset(each.txid for each in pool if chance.random() < 0.2)  # noqa: E731
    wishes = Wishes(exclude=some(), include=tuple(each.to_bytes() for each in rest), prefer=some())
    total = RESERVED + sum(each.weight for each in transactions)
    room = chance.choice([WEIGHT_MAX, total, total // 2 + RESERVED])
    fees = [chance.randrange(10_000) for _ in transactions]
    candidates = [
        Candidate(each.to_bytes(), fee) for each, fee in zip(transactions, fees, strict=True)
    ]
    made = template(transactions=transactions, fees=sum(fees))
    choice = choose(made, candidates, wishes, (), room)

    chosen = [Candidate(raw, 0).transaction for raw in choice.transactions]
    position = {each.txid: at for at, each in enumerate(chosen)}
    inside = {each.txid for each in pool}
    assert len(position) == len(chosen)
    assert not wishes.exclude & position.keys()
    taken = [item.previous for each in chosen for item in each.inputs]
    assert len(set(taken)) == len(taken)
    for each in chosen:
        for item in each.inputs:
            parent = item.previous[0]
            if parent in {other.txid for other in transactions}:
                assert position[parent] < position[each.txid]
            assert parent not in wishes.exclude or parent not in inside
    assert sum(each.weight for each in chosen) + RESERVED <= max(room, RESERVED)
    kept = dict(zip((each.txid for each in transactions), fees, strict=True))
    paid = sum(kept.get(each.txid, 0) for each in chosen)
    assert choice.template.value_sats == SUBSIDY + paid
    check(choice, chosen)


# --- rules ---


def rules(tmp_path, **keys):
    text = render(
        JdcConfig,
        {"templates.payout_address": "x"} | {f"policy.{key}": value for key, value in keys.items()},
    )
    section: PolicySection = loads(JdcConfig, text, tmp_path / "jdc.toml").policy
    return Rules(section, REGTEST)


def offer(*candidates):
    return Offer(100, bytes(32), tuple(candidates))


def shown(txid):
    return txid[::-1].hex()


def test_rules_name_transactions_scripts_and_rates(tmp_path):
    payer = transaction(7)
    script = payer.outputs[0].script
    found = rules(
        tmp_path,
        exclude_transactions=[shown(A.txid)],
        exclude_addresses=[script.hex()],
        prefer_transactions=[shown(B.txid)],
        prefer_addresses=[C.outputs[0].script.hex()],
        include_transactions=[shown(A1.wtxid)],
        feerate_min_sat_per_kvb=1_000,
    )
    same_script = [Candidate(each.to_bytes(), 10_000) for each in (A, B, C, payer)]
    wishes = found.wishes(offer(*same_script))
    assert wishes.exclude >= {A.txid, payer.txid}
    assert B.txid in wishes.prefer
    assert wishes.lookup == {A1.wtxid}


def test_rate_is_for_a_thousand_virtual_bytes_and_spares_what_is_wanted(tmp_path):
    found = rules(
        tmp_path,
        feerate_min_sat_per_kvb=1_000,
        prefer_transactions=[shown(B.txid)],
    )
    needed = -(-A.weight // 4)
    wishes = found.wishes(
        offer(
            Candidate(A.to_bytes(), needed),
            Candidate(C.to_bytes(), needed - 1),
            Candidate(B.to_bytes(), 0),
        )
    )
    assert wishes.exclude == {C.txid}


def test_addresses_are_those_of_the_network(tmp_path):
    address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
    script = bytes.fromhex("0014751e76e8199196d454941c45d1b3a323f1433bd6")
    found = rules(tmp_path, exclude_addresses=[address])
    assert found._exclude_scripts == {script}
    with pytest.raises(ConfigError, match=r"policy\.exclude_addresses"):
        rules(tmp_path, exclude_addresses=["bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"])


def test_ids_have_64_digits(tmp_path):
    with pytest.raises(ConfigError, match=r"policy\.prefer_transactions.*64 hex digits"):
        rules(tmp_path, prefer_transactions=["ab"])


def test_files_of_transactions_are_included_and_others_passed_over(tmp_path):
    directory = tmp_path / "include"
    directory.mkdir()
    (directory / "b.hex").write_text(B.to_bytes().hex() + "\n")
    (directory / "a.hex").write_text(A.to_bytes().hex())
    (directory / "no.hex").write_text("zz")
    (directory / "cut.hex").write_text(A.to_bytes().hex()[:-2])
    (directory / "other.txt").write_text(C.to_bytes().hex())
    assert rules(tmp_path).wishes(offer()).include == (A.to_bytes(), B.to_bytes())


def test_policy_that_is_not_installed_is_told():
    with pytest.raises(ConfigError, match="no installed package has the policy 'nowhere'"):
        find_policies(["nowhere"])
