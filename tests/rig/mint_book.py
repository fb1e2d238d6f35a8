"""Reads a mint's books as an auditor with nothing but SQLite, and repeats their arithmetic."""

from typing import NamedTuple

from .book import Book

WORDS = ("network", "pool", "window", "fixed")
NETWORK, POOL, WINDOW, FIXED = range(4)
OPEN, CLOSED, PROVISIONAL, FINAL, VOID, EXPIRED = range(6)
RAIL = 1
MSAT = 1_000


class Block(NamedTuple):
    """Is a block of the pool; it has no confirmations when it is not on the chain."""

    hash: bytes
    height: int
    epoch: int
    confirmations: int | None


class Keyset(NamedTuple):
    """Is a keyset, with its work in units and its money in msat."""

    number: int
    id: str
    state: int
    work: int
    theta: int
    paid: int
    redeemed: int
    epoch: int
    height: int


class MintBook(Book):
    """Is the file of a node that is a mint; the node may run at the same time."""

    def keysets(self, policy):
        """Returns the keysets that somebody has claimed from, the oldest first."""
        query = (
            "SELECT number, lower(hex(id)), state, work, theta_msat, paid_msat, redeemed, epoch, "
            "height FROM keyset WHERE policy = ? AND work > 0 ORDER BY number"
        )
        return [Keyset(*row) for row in self.rows(query, policy)]

    def balance(self, policy, book):
        """Returns what is in a book of a policy, msat."""
        return self.number(
            "SELECT sum(msat) FROM mint_entry WHERE policy = ? AND book = ?", policy, book
        )

    def events(self, kind):
        """Returns how many events of a kind there were."""
        return self.number("SELECT count(*) FROM mint_event WHERE kind = ?", kind)

    def blocks(self):
        """Returns the pool's blocks, the oldest first."""
        rows = self.rows("SELECT hash, height, epoch, confirmations FROM block ORDER BY epoch")
        return [Block(*row) for row in rows]

    def paid_blocks(self):
        """Returns the hashes of the blocks that the ledger has paid."""
        return {block for (block,) in self.rows("SELECT block FROM payment")}

    def given(self, block):
        """Returns the numbers of the keysets that a block pays."""
        query = (
            "SELECT keyset FROM allocation JOIN payment ON settlement = payment.id "
            "WHERE block = ? AND msat > 0"
        )
        return {number for (number,) in self.rows(query, block)}

    def waiting(self):
        """Returns how many settlements the mint has yet to pass on."""
        done = "SELECT value FROM meta WHERE key = 'mint_settlement'"
        return self.number(f"SELECT count(*) FROM settlement WHERE id > ({done})")

    def unsigned(self):
        """Returns how many decided keysets have no statement of their state yet."""
        return self.number(
            "SELECT count(*) FROM keyset WHERE work > 0 AND state > 2 AND NOT EXISTS (SELECT 1 "
            "FROM statement WHERE keyset = number AND statement.state = keyset.state)"
        )

    def check_law(self, policy, *, fee_ppm=0, fee_fixed_msat=0):
        """Checks to the millisat that nothing comes from nowhere and nothing is lost.

        Returns:
            The sats that were issued.
        """
        uneven = "SELECT event FROM mint_entry GROUP BY event HAVING sum(msat) <> 0"
        assert self.rows(uneven) == []
        brought = self._check_settlements(policy, fee_ppm, fee_fixed_msat)
        assert self.balance(policy, "reward") == -brought
        parts = ["fee", "carry", "keyset", "issued", "operator"]
        assert sum(self.balance(policy, part) for part in parts) == brought
        self._check_keysets(policy)
        issued = self._check_redemptions(policy)
        assert self.balance(policy, "issued") == issued * MSAT
        return issued

    def _check_settlements(self, policy, fee_ppm, fee_fixed_msat):
        """Repeats what the mint did with each payment of the ledger; returns their sum, msat."""
        paid = dict(
            self.rows(
                "SELECT settlement, sats FROM entry JOIN account ON account.id = entry.account "
                "WHERE book = 'miner' AND rail = ? AND name = ?",
                RAIL,
                f"ecash.{WORDS[policy]}",
            )
        )
        rows = self.rows(
            "SELECT settlement, theta_sats, fee_msat, carry_in_msat, carry_out_msat, reverses "
            "FROM mint_settlement JOIN settlement ON settlement.id = settlement WHERE policy = ? "
            "ORDER BY settlement",
            policy,
        )
        assert {number: theta for number, theta, *_ in rows if theta} == paid
        carry = {}
        for number, theta, fee, carry_in, carry_out, reverses in rows:
            parts = self.rows(
                "SELECT keyset, allocation.work, msat FROM allocation JOIN keyset ON "
                "keyset.number = keyset WHERE settlement = ? AND policy = ? ORDER BY keyset",
                number,
                policy,
            )
            allocated = sum(msat for _, _, msat in parts)
            if policy == FIXED:
                assert (fee, carry_in, carry_out, allocated) == (0, 0, 0, 0)
                continue
            assert theta * MSAT + carry_in == allocated + fee + carry_out, number
            carry[number] = carry_out - carry_in
            if reverses is not None:
                assert carry[number] == -carry[reverses]
            elif allocated:
                # A height of the network without reward of its own still gets what was carried.
                brought = theta * MSAT
                assert fee == min(brought * fee_ppm // 1_000_000 + fee_fixed_msat, brought)
                assert theta or policy == NETWORK
                assert carry_out == 0
                assert [msat for *_, msat in parts] == largest_remainder(
                    allocated, [work for _, work, _ in parts]
                )
        return sum(paid.values()) * MSAT

    def _check_keysets(self, policy):
        """Checks that each keyset has what it was allocated, less what it paid."""
        for each in self.keysets(policy):
            number = each.number
            allocated = self.number("SELECT sum(msat) FROM allocation WHERE keyset = ?", number)
            assert each.theta == allocated, each
            claims = "SELECT sum(count << exponent) FROM keyset_sum WHERE keyset = ?"
            assert each.work == self.number(claims, number), each
            assert each.redeemed <= each.work
            if policy == FIXED:
                continue
            lent = -self.number(
                "SELECT sum(msat) FROM mint_entry WHERE book = 'operator' AND keyset = ?", number
            )
            assert each.paid <= each.theta + lent, each
            left = self.number(
                "SELECT sum(msat) FROM mint_entry WHERE book = 'keyset' AND keyset = ?", number
            )
            rest = each.theta + lent - each.paid
            assert left == (0 if each.state == EXPIRED else rest), each

    def _check_redemptions(self, policy):
        """Repeats the price of each redemption; returns the sats issued."""
        rows = self.rows(
            "SELECT keyset, amount, issued_sats, redemption.price_num, redemption.price_den "
            "FROM redemption JOIN keyset ON keyset.number = keyset WHERE policy = ?",
            policy,
        )
        paid = {}
        for keyset, amount, issued, num, den in rows:
            if issued:
                assert issued == num * amount // den // MSAT
                paid[keyset] = paid.get(keyset, 0) + issued
        for each in self.keysets(policy):
            assert each.paid == paid.get(each.number, 0) * MSAT, each
        return sum(paid.values())


def largest_remainder(amount, works):
    """Splits by the largest remainder; ties go to the earlier."""
    whole = sum(works)
    parts = [amount * work // whole for work in works]
    order = sorted(range(len(works)), key=lambda at: -(amount * works[at] % whole))
    for at in order[: amount - sum(parts)]:
        parts[at] += 1
    return parts
