"""kill -9 of pool and translator, loss of the wallet: no accepted share stays without its token."""

import contextlib
import json
import shutil
import signal

import pytest
from rig import audit
from rig.bitcoind import free_ports
from rig.declarer import Relay
from rig.mint_book import MintBook
from rig.node import NO_BLOCKS, UNLIMITED, Node
from rig.process import radpool
from rig.sv1 import Sv1Miner
from rig.translating import Translating
from rig.wait import until

pytestmark = pytest.mark.slow

SETTINGS = {
    **UNLIMITED,
    **NO_BLOCKS,
    "mining.exponent_min": 10,
    "mining.exponent_max": 12,
    "mining.shares_per_minute": 600,
    "mining.report_interval_ms": 1_000,
    # One keyset to the end: no claim comes too late for its own.
    "ecash.policies": ["pool"],
}
SHARES = 10
STALE = 21
PATIENCE_S = 90


class Scene:
    """Is a pool behind an address that outlives it, and two devices on a translator."""

    def __init__(self, directory, way):
        self.directory = directory
        self.node = Node(directory / "msp", SETTINGS)
        # The wallet remembers where its mint is: it must be there again after a restart.
        (self.port,) = free_ports(1)
        self.way = way
        self.running = None
        self.miners = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def serve(self):
        self.running = self.node.launch(http_port=self.port)
        self.running.serve()
        self.way.mend(self.running.sv2)

    def kill_pool(self):
        """Ends the pool while shares are on their way to it and tokens on theirs from it."""
        self.running.process.kill()
        until(self.running.is_gone, "the end of the pool's children")
        self.serve()

    @contextlib.contextmanager
    def translating(self, name):
        keys = {
            "wallet.dir": str(self.directory / "wallet"),
            "wallet.mint_url": self.url,
            "devices.shares_per_minute": 600,
            "devices.nominal_hash_rate_mh": 1,
            # Longer than a pool takes to start again, however busy the machine is.
            "devices.silence_ms": 300_000,
        }
        pools = [(self.way.address, self.running.authority_key)]
        with Translating(self.directory / name, pools, keys, ecash=True) as translating:
            with Sv1Miner(translating.sv1, "a") as a, Sv1Miner(translating.sv1, "b") as b:
                self.miners = [a, b]
                yield translating

    def earn(self, translating):
        """Waits until devices have mined more, and the wallet has got more for it."""
        goals = [each.accepted + SHARES for each in self.miners]
        goal = tokens_of(translating) + SHARES

        def enough():
            pairs = zip(self.miners, goals, strict=True)
            accepted = all(each.accepted >= shares for each, shares in pairs)
            return accepted and tokens_of(translating) >= goal

        until(enough, lambda: f"{self.describe()}; {translating.process.tail()}", PATIENCE_S)

    def describe(self):
        return [(each.accepted, each.lost, each.refused) for each in self.miners]

    def undisturbed(self):
        """Whether the devices have noticed nothing but shares that came late."""
        errors = [error for each in self.miners for error in each.refused]
        return not any(each.lost for each in self.miners) and {code for code, *_ in errors} <= {
            STALE
        }


def tokens_of(translating):
    return translating.figures.get("wallet", {}).get("tokens", 0)


def epochs_of(directory):
    """Returns tokens and units of each keyset that a wallet has."""
    told = json.loads(radpool("wallet", "balance", "--dir", directory, "--json"))
    assert told["fresh"], told
    return {each["keyset"]: (each["tokens"], each["units"]) for each in told["epochs"]}


def check_tokens(book, tokens, units):
    """Each share has a claim, each claim a token, and value is nowhere but in tokens and residues.

    What a residue keeps is less than one unit for each channel that there was.
    """
    assert book.number("SELECT count(*) FROM blinded WHERE id >= 0") == book.check() == tokens
    assert book.number("SELECT count(*) FROM unclaimed") == 0
    [row] = book.rows("SELECT unit_value, value FROM keyset_value WHERE value <> zeroblob(16)")
    unit_value, value = (int.from_bytes(each, "big") for each in row)
    left = [int.from_bytes(each, "big") for (each,) in book.rows("SELECT value FROM residue")]
    assert units * unit_value + sum(left) == value
    assert max(left) < unit_value


@pytest.mark.timeout(600)
def test_no_accepted_share_is_without_its_token(tmp_path):
    """Twelve words bring back a token for each share that the ledger has, and no more."""
    with Relay("127.0.0.1:1") as way:
        scene = Scene(tmp_path, way)
        wallet, again = tmp_path / "wallet", tmp_path / "again"
        scene.serve()
        try:
            made = radpool("wallet", "create", "--dir", wallet, "--mint", scene.url, "--json")
            with scene.translating("first") as translating:
                scene.earn(translating)
                scene.kill_pool()
                scene.earn(translating)
                assert scene.undisturbed(), scene.describe()
                translating.process.kill()
            with scene.translating("second") as translating:
                scene.earn(translating)
                assert scene.undisturbed(), scene.describe()
                translating.process.signal(signal.SIGTERM)
                assert translating.process.wait() == 0, translating.process.tail()
            assert translating.figures["wallet"]["unsigned"] == 0
            before = epochs_of(wallet)
            shutil.rmtree(wallet)
            words = tmp_path / "words"
            words.write_text(json.loads(made)["words"])
            options = ["--dir", again, "--mint", scene.url, "--words-file", words]
            radpool("wallet", "restore", *options)
            after = epochs_of(again)
            assert scene.running.problems() == []
            assert scene.running.leave(signal.SIGTERM, 60) == 0
        finally:
            scene.running.process.__exit__()
    assert after == before
    [(tokens, units)] = after.values()
    assert audit.check_batches(scene.node) == tokens > 3 * SHARES
    check_tokens(MintBook(scene.node.database), tokens, units)
