"""A node that is a mint of one policy, and two miners with wallets, which hold all its tokens."""

import contextlib
import json
import signal

from . import audit
from .bitcoind import free_ports
from .mint_book import EXPIRED, FINAL, FIXED, VOID, WORDS, MintBook
from .node import UNLIMITED, Node
from .process import RADPOOL, Process, radpool
from .wait import until

EXPONENT = 8
# A block takes 2^14 hashes, 64 shares: less than a second.
ZEROS = 14
MATURITY = 2
COINBASE_MATURITY = 4
FEES = {"fee_ppm": 12_345, "fee_fixed_msat": 67}
SETTINGS = UNLIMITED | {
    "mining.exponent_min": EXPONENT,
    "mining.exponent_max": EXPONENT,
    "templates.block_zeros": ZEROS,
    "ledger.maturity_blocks": MATURITY,
    "ecash.coinbase_maturity": COINBASE_MATURITY,
    "ecash.grace_s": 1,
    "ecash.window_difficulties": 1,
    "ecash.slice_divisor": 2,
    "ecash.slice_seconds_min": 0,
}
RATES = {"alice": 16_000, "bob": 5_000}


class EcashScene:
    """Is a node with one policy, its books, and the directories of two wallets."""

    def __init__(self, directory, policy, **settings):
        self.directory = directory
        self.policy = policy
        more = {f"ecash.{name}": value for name, value in (FEES | settings).items()}
        self.node = Node(directory / "msp", SETTINGS | {"ecash.policies": [WORDS[policy]]} | more)
        # Wallets remember where their mint is: it must be there again after a restart.
        (self.port,) = free_ports(1)
        self.book = MintBook(self.node.database)
        self.running = None
        self._exports = 0
        for name in RATES:
            radpool("wallet", "create", "--dir", directory / name)

    @contextlib.contextmanager
    def serving(self):
        self.running = self.node.launch(http_port=self.port)
        with self.running.process:
            self.running.serve()
            yield self.running
            assert self.running.leave(signal.SIGTERM) == 0

    # What miners and wallets do

    def miner(self, name, *options):
        running = self.running
        command = [RADPOOL, "miner", "--connect", running.sv2, "--threads", "1", "--json"]
        command += ["--authority-key", running.authority_key, "--user", "rig"]
        command += ["--hash-rate-limit", RATES[name], "--wallet", self.directory / name]
        command += ["--mint-url", f"http://{running.http}", "--policy", WORDS[self.policy]]
        return Process([*command, *options], self.directory, name)

    def mine(self, enough, what):
        """Both mine until something is so, and leave in order."""
        with contextlib.ExitStack() as stack:
            miners = [stack.enter_context(self.miner(name)) for name in RATES]
            for miner in miners:
                until(lambda miner=miner: tokens_of(miner), miner.tail)
            until(enough, lambda: f"{what}: {self.describe()}; {miners[0].tail()}")
            for miner in miners:
                miner.signal(signal.SIGTERM)
            for miner in miners:
                assert miner.wait() == 0, miner.tail()

    def find(self, blocks):
        """Both mine until the pool has found so many more blocks, the newest on the chain."""
        wanted = len(self.book.blocks()) + blocks

        def found():
            now = self.book.blocks()
            return len(now) >= wanted and now[-1].confirmations

        self.mine(found, f"{wanted} blocks")
        self.settle()

    def redeem(self):
        """Both redeem what they can; returns what came of each keyset of each."""
        answers = []
        for name in RATES:
            text = radpool("wallet", "redeem", "--dir", self.directory / name, "--json")
            answers += json.loads(text)["redeemed"]
        return answers

    # What the chain does

    def grow(self, blocks):
        """Others mine on."""
        self.running.chain("mine", blocks)
        self.settle()

    def reorganise(self, depth):
        """The last blocks leave the chain."""
        self.running.chain("reorg", depth)
        self.settle()

    def settle(self):
        """Waits until the mint has looked at the chain's tip and passed on all that is due.

        Nobody mines meanwhile; the last blocks of those who did may still be under way.
        """
        until(lambda: audit.is_at_rest(self.node), "all blocks on the chain and in the books")
        height = json.loads(self.running.chain("status", "--json"))["height"]
        seen = lambda: self.running.get("/work/v1/info").json()["tip_height"] == height  # noqa: E731
        until(seen, "the mint at the tip")
        until(lambda: self._is_settled(height), self.describe)

    def _is_settled(self, height):
        blocks = self.book.blocks()
        deep = {each.hash for each in blocks if (each.confirmations or 0) >= MATURITY}
        looked = all(each.confirmations in {None, height - each.height + 1} for each in blocks)
        return looked and self.book.paid_blocks() == deep and not self.book.waiting()

    def find_until(self, so, depth):
        """Finds blocks until something is so; returns what `so` answered.

        A block may find no work of its epoch, or not enough to decide a window.
        """
        for _ in range(12):
            if answer := so():
                return answer
            self.find(1)
            self.grow(depth)
        raise AssertionError(self.describe())

    def decide(self, ids, depth):
        """Finds blocks until keysets have been paid, or left behind by the window."""
        self.find_until(lambda: ids <= self.in_state(FINAL, VOID, EXPIRED), depth)

    def earn(self, depth):
        """Redeems until something is paid, and finds blocks as long as nothing is."""

        def redeemed():
            answers = self.redeem()
            return answers if paid(answers) > 0 else None

        return self.find_until(redeemed, depth)

    def in_state(self, *states):
        """Returns the ids of the keysets in some states."""
        return {each.id for each in self.book.keysets(self.policy) if each.state in states}

    def describe(self):
        return f"{self.book.blocks()} {self.book.keysets(self.policy)}"

    # What must always be so

    def check(self):
        """Compares the mint's books with themselves and with the wallets; returns sats issued."""
        fees = {} if self.policy == FIXED else FEES
        issued = self.book.check_law(self.policy, **fees)
        sats, units = 0, {}
        for name in RATES:
            told = radpool("wallet", "balance", "--dir", self.directory / name, "--json")
            balance = json.loads(told)
            assert balance["fresh"], balance
            sats += balance["sats"]
            for each in balance["epochs"]:
                units[each["keyset"]] = units.get(each["keyset"], 0) + each["units"]
        assert issued == sats, "what was issued is what they have"
        for each in self.book.keysets(self.policy):
            assert units.get(each.id, 0) == each.work - each.redeemed, each
        return issued

    def verify(self, epoch):
        """Recomputes an exported epoch; returns what it says of keysets, by their id."""
        until(lambda: not self.book.unsigned(), "the mint's statements")
        self._exports += 1
        place = audit.export(self.node, epoch, self.directory / f"export-{self._exports}")
        return {each["keyset"]: each for each in audit.verify(place)["keysets"]}


def tokens_of(miner):
    """Returns how many tokens a miner has told of."""
    return max((line["wallet"]["tokens"] for line in miner.messages("stats")), default=0)


def paid(redeemed):
    return sum(each["sats"] for each in redeemed)


def reasons(redeemed):
    return {each["reason"] for each in redeemed}


def refusals(miner):
    """Returns how often the pool refused a claim of a miner, by the code."""
    lines = miner.messages("stats")
    return lines[-1]["wallet"]["refused"] if lines else {}
