"""Pools that are members of one federation: shares of all in one book, and blocks that pay all."""

import json

import pytest
from rig import federated
from rig.process import RADPOOL, Process, radpool
from rig.wait import until

from radpool_sv2.federation.treasury.payout import fee_of

pytestmark = pytest.mark.slow

SECONDS_MAX = 600
"""A block takes seconds where a miner has a processor to itself, minutes where it has not."""


def miner_of(running, rate=None, owner=None):
    command = [RADPOOL, "miner", "--connect", running.sv2, "--json", "--threads", "1"]
    command += ["--authority-key", running.authority_key]
    command += ["--user", "alice"] if owner is None else ["--owner", owner]
    command += [] if rate is None else ["--hash-rate-limit", rate]
    return Process(command, running.node.directory, f"miner-{rate}")


def blocks_of(running):
    items = running.get("/api/v1/blocks?limit=100").json()["items"]
    return {each["hash"]: each for each in items}


def test_a_block_of_one_pays_all(bitcoind, tmp_path):
    nodes, convention = federated.pools(
        bitcoind, tmp_path, settings={"extensions.enabled": ["share_ownership"]}
    )
    with federated.running(bitcoind, nodes) as federation:
        pools = federation.running
        federation.mine_until(
            lambda: all(seat["script"] for seat in federation.seats()), "the treasury's key"
        )
        # The next tip is the first that is mined for the federation.
        federation.mine()
        owners = [None, None, tmp_path / "owner-2", tmp_path / "owner-3"]
        miners = [
            miner_of(each, rate=8_000, owner=owner)
            for each, owner in zip(pools, owners, strict=True)
        ]
        try:
            federation.mine_until(
                lambda: all(
                    min(map(int, seat["weights"].values())) > 0 for seat in federation.seats()
                ),
                "shares of all in the books of all",
            )
            federation.kill_and_start(3)
            miners[3].kill()
            miners[3] = miner_of(pools[3], rate=8_000, owner=tmp_path / "another-owner-3")
            federation.mine(2)
            with miner_of(pools[0]):
                found = until(
                    lambda: [
                        each
                        for each in federation.seats()[1]["blocks"]
                        if all(each["hash"] in blocks_of(pool) for pool in pools)
                    ],
                    lambda: f"a block in all ledgers; {federation.tell()}",
                    SECONDS_MAX,
                )
            # Whoever mines for another owner may have begun late.
            until(
                lambda: [seat["registrations"] for seat in federation.seats()] == [0, 0, 1, 2],
                lambda: [seat["registrations"] for seat in federation.seats()],
                SECONDS_MAX,
            )
        finally:
            for each in miners:
                each.kill()
        check_block(bitcoind, federation, convention, found[-1])
        federation.mine(federated.MATURITY)
        for pool in pools:
            until(
                lambda pool=pool: blocks_of(pool)[found[-1]["hash"]]["state"] == "paid",
                lambda pool=pool: f"a paid block; {blocks_of(pool)}",
                SECONDS_MAX,
            )
        check_owners(federation, tmp_path)


def check_block(bitcoind, federation, convention, block):
    """Its output is the syndicate's, and what the ledgers have is what the payout leaves."""
    script = federation.seats()[0]["script"]
    outputs = bitcoind.rpc("getblock", block["hash"], 2)["tx"][0]["vout"]
    paid = [each for each in outputs if each["scriptPubKey"]["hex"] == script]
    assert [round(each["value"] * 10**8) for each in paid] == [block["value_sats"]]
    parts = [blocks_of(pool)[block["hash"]]["value_sats"] for pool in federation.running]
    assert min(parts) > 0
    # Scripts of taproot, as `radpool init msp` makes them.
    fee = fee_of([b"\x51\x20" + bytes(32)] * len(parts), convention.rules.fee_sats_per_vb)
    assert sum(parts) == block["value_sats"] - fee
    roots = {
        (seat["node"]["epochs"]["applied"], seat["node"]["epochs"]["root"])
        for seat in federation.seats()
    }
    assert len({root for _, root in roots}) == len({epoch for epoch, _ in roots})


def check_owners(federation, directory):
    """An outsider is told of each owner once, though a pool was killed meanwhile."""
    told = {seat["member"]: seat["registrations"] for seat in federation.seats()}
    assert [seat["registrations"] for seat in federation.seats()] == [0, 0, 1, 2]
    log, reports = directory / "log", []

    def is_whole():
        radpool("federation", "log", "--dir", directory / "member-0", "--out", log)
        reports.append(json.loads(radpool("verify", "federation", log, "--native", "--json")))
        return reports[-1]["owners"] == [told[member] for member in range(4)]

    # An epoch may have been decided without a member that was slow.
    federation.mine_until(is_whole, "what the log has of owners")
    assert all(report["false_owners"] == [] for report in reports)
    for pool in federation.running:
        page = pool.get("/federation")
        assert page.status_code == 200
        assert "Trouble" not in page.text
