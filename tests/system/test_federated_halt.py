"""A pool whose member has halted, since its state is not the certified one: nobody is paid wrongly.

Its miners are served, and its blocks go on paying by the last certified state, before and after a
start. The other members go on without it.
"""

import json
from html import unescape

import pytest
import trio
from peer import work
from peer.client import Client
from peer.key import public_key_from_text
from peer.session import Session
from rig import federated
from rig.book import Book
from rig.load import Load
from rig.node import EASY_SHARES, NO_BLOCKS
from rig.paid import script_of
from rig.process import radpool
from rig.wait import until

from radpool_sv2.config import load
from radpool_sv2.config.federation import FederationConfig
from radpool_sv2.federation.installation import CONFIG_NAME
from radpool_sv2.federation.operation import reading
from radpool_sv2.federation.role import FIGURES_NAME
from radpool_sv2.federation.state.ledger import Ledger
from radpool_sv2.federation.state.payout import direct_outputs
from radpool_sv2.federation.state.rules import PayoutMode
from radpool_sv2.weight.body import body_height, body_outputs

pytestmark = pytest.mark.slow

RATE = 100
MORE = 100
SUBSIDY = 5_000_000_000
FIRST, LAST = 0, 3
"""Pools that are mined on: one that goes on with its federation, and the one whose member halts."""


def coinbase_of(running):
    """Connects as a miner does; returns height and payments of the first job that it is given."""

    async def ask():
        host, _, port = running.sv2.rpartition(":")
        key = public_key_from_text(running.authority_key)
        client = await Client.connect((host, int(port)), key)
        try:
            assert (await client.set_up()).name == "SetupConnectionSuccess"
            channel = await Session(client).open(user="eve")
            return work.parse_coinbase(channel.coinbase(channel.job, bytes(channel.rollable)))
        finally:
            await client.aclose()

    coinbase = trio.run(ask)
    length, number = coinbase.script_sig[0], coinbase.script_sig[1:]
    outputs = [(each.script.hex(), each.value) for each in coinbase.outputs if each.value]
    return int.from_bytes(number[:length], "little"), outputs


def paid_by_shares(node, height):
    """Returns how the templates of this height and above pay whose shares are in the ledger."""
    bodies = [body for (body,) in Book(node.database).rows("SELECT body FROM template")]
    return {
        tuple((script.hex(), sats) for sats, script in body_outputs(body) if sats)
        for body in bodies
        if body_height(body) >= height
    }


class Halting:
    """Is a federation in which the member of one pool is to halt.

    Attributes:
        outputs: How blocks pay by the last state that is the same to all.
        height: Of the first template that is to pay so.
    """

    def __init__(self, bitcoind, federation, convention):
        self.bitcoind = bitcoind
        self.federation = federation
        self.convention = convention
        self.outputs = []
        self.height = 0

    @property
    def last(self):
        return self.federation.running[LAST]

    @property
    def place(self):
        return self.last.node.directory.with_name(f"member-{LAST}")

    @property
    def figures(self):
        return self.place / "data" / FIGURES_NAME

    def seat(self):
        return self.federation.seat(LAST)

    def load(self, number, name):
        running = self.federation.running[number]
        file = running.node.directory / name
        return Load(running, name, "shares", shares=10**9, rate=RATE, acknowledged=file)

    def mined_on(self, load):
        """Waits until many more shares are acknowledged."""
        enough = load.count() + MORE
        until(lambda: load.count() > enough, lambda: f"{load.process.tail()}; {self.tell()}")

    def others_certify(self, epochs):
        # Whoever is slow costs an election, and the next may take twice as long.
        until(lambda: min(self.federation.epochs()[:LAST]) >= epochs, self.tell, 300)

    def tell(self):
        return self.federation.tell()

    def begin(self):
        """Mines until blocks pay the federation, and nobody mines for his pool alone."""
        own = script_of(self.last.node, self.bitcoind)
        self.federation.mine_until(
            lambda: coinbase_of(self.last)[1] != [(own, SUBSIDY)], "somebody else who is paid"
        )
        self.federation.mine()

    def know_books(self):
        """Waits until the pool pays by the last state; returns how many epochs there are."""
        [epochs] = set(self.federation.epochs())
        settings = load(FederationConfig, self.place / CONFIG_NAME)

        def books():
            with reading(settings, self.convention) as store:
                state = store.state(epochs - 1)
            return state and Ledger.decode(state)

        ledger = until(books, self.tell)
        weights = {str(member): str(weight) for member, weight in ledger.weights().items()}
        until(lambda: self.seat()["weights"] == weights, self.tell)
        self.height = self.bitcoind.rpc("getblockcount") + 2
        self.outputs = self.paid_by(ledger)
        return epochs

    def paid_by(self, ledger):
        """Returns how the books say that blocks pay."""
        if self.convention.rules.payout is PayoutMode.SYNDICATE:
            return [(self.seat()["script"], SUBSIDY)]
        parts = direct_outputs(ledger, SUBSIDY)
        assert len(parts) == 2
        return [(script.hex(), sats) for script, sats in parts]

    def halt(self, epoch, late):
        """Has the member count an epoch in another way, those that are late behind the others."""
        nodes = [each.node for each in self.federation.running]
        nodes[LAST].tell("stray", epoch)
        for each in late:
            nodes[each].tell("hold", epoch)
        self.bitcoind.mine()
        counted, certified = (epoch, epoch + 1) if LAST in late else (epoch + 1, epoch)

        def has_come():
            epochs = self.seat()["node"]["epochs"]
            return (epochs["applied"], epochs["certified"]) == (counted, certified)

        until(has_come, self.tell)
        assert not self.seat()["node"]["halted"]
        for each in late:
            nodes[each].let_go()
        self.others_certify(epoch + 1)
        self.check_told(epoch)

    def check_told(self, epoch):
        """Whoever looks is told what has happened, and what to do; returns it in a few words."""
        reason = f"the state behind epoch {epoch} is not the one that a quorum certified"
        advice = "compare program versions, then ask the other members"
        until(lambda: self.seat()["node"]["halted"], self.tell)
        problem = self.seat()["problem"]
        assert all(each in problem for each in ("stopped for good", reason, advice)), problem
        assert problem in self.last.problems()
        assert self.last.get("/api/v1/health").status_code == 503
        assert f"Trouble: {problem}" in unescape(self.last.get("/federation").text)
        # Figures are written once a second.
        until(lambda: json.loads(self.figures.read_text())["halted"], self.tell)
        return f"halted: {reason}: {advice}"

    def check_paid(self):
        """Jobs pay by the last state that was the same to all, and so did those of all shares."""
        assert coinbase_of(self.last)[1] == self.outputs
        paid = paid_by_shares(self.last.node, self.height)
        assert paid == {tuple(self.outputs)}

    def mine(self, epochs):
        """Mines a block that the others count, and that this pool's miners build on."""
        self.bitcoind.mine()
        self.others_certify(epochs)
        height = self.bitcoind.rpc("getblockcount") + 1
        until(lambda: coinbase_of(self.last)[0] == height, self.tell)
        until(lambda: paid_by_shares(self.last.node, height), self.tell)


@pytest.mark.parametrize(
    ("payout", "late"),
    [(PayoutMode.SYNDICATE, [LAST]), (PayoutMode.DIRECT, range(LAST))],
    ids=["syndicate, certified first", "direct, counted first"],
)
def test_miners_are_served_and_paid_by_the_last_certified_state(bitcoind, tmp_path, payout, late):
    nodes, convention = federated.pools(
        bitcoind,
        tmp_path,
        rules={"payout": payout, "exponent_floor": 4, "shares_target": 1 << 40},
        settings=EASY_SHARES | NO_BLOCKS,
        node_type=federated.ToldNode,
    )
    with federated.running(bitcoind, nodes) as federation:
        scene = Halting(bitcoind, federation, convention)
        scene.begin()
        with scene.load(FIRST, "other"):
            with scene.load(LAST, "before") as load:
                federation.mine_until(
                    lambda: all(
                        int(seat["weights"][str(seats[each]["member"])]) > 0
                        for seats in [federation.seats()]
                        for seat in seats
                        for each in (FIRST, LAST)
                    ),
                    "shares of both in the books of all",
                )
                epochs = scene.know_books()
                scene.halt(epochs, late)
                scene.mine(epochs + 2)
                scene.mined_on(load)
                scene.check_paid()
                assert load.process.is_alive, load.process.tail()
                scene.last.process.kill()
            assert Book(nodes[LAST].database).missing(load.hashes()) == []
            federation.running[LAST] = nodes[LAST].launch()
            scene.last.serve()
            scene.check_paid()
            told = scene.check_told(epochs)
            assert told in radpool("federation", "status", "--dir", scene.place)
            with scene.load(LAST, "after") as load:
                scene.mine(epochs + 3)
                scene.mined_on(load)
                scene.check_paid()
        # The books of the others have moved on.
        until(
            lambda: federation.seat(FIRST)["weights"] != federation.seat(LAST)["weights"],
            scene.tell,
        )
