"""Receipts and registers against the exports of an MSP that is honest, and of ones that are not."""

from __future__ import annotations

import json

import pytest
from shares import Key, Owner, Share, ShareBatch, tagged_hash

from radpool_sv2.cli import app
from radpool_sv2.cli.register import register as register_command
from radpool_sv2.errors import ConfigError, FaultyMSPError, LocalProtocolError
from radpool_sv2.ledger.books import Books
from radpool_sv2.ledger.export import export_epoch
from radpool_sv2.store import SqliteStore
from radpool_sv2.verify.receipt import find_owner, read_receipts, verify_receipts
from radpool_sv2.verify.register import read_register, registration_hash

MSP, MINER, OTHER = Key(), Key(b"\x02" * 32), Key(b"\x03" * 32)
Z = 2


class World:
    """Is an MSP with its books, and a miner with its file of receipts."""

    def __init__(self, directory):
        self.directory = directory
        clock = iter(range(1_700_000_000_000, 1_800_000_000_000))
        self.store = SqliteStore(directory / "l.sqlite", owner=MSP.public, time_ms=0)
        self.books = Books(self.store, MSP, maturity_blocks=1, unix_ms=lambda: next(clock))
        self.account = self.books.account(MINER.public.hex())
        self.stranger = self.books.account("stranger")
        self.receipts = directory / "receipts.jsonl"
        self.lines = [self.registration()]
        self.state = 0, 0, bytes(32)
        self.nonce = 0

    def registration(self, **changes):
        signed = registration_hash(MSP.public, MINER.public, self.account.commitment, 1, 1)
        return {
            "registration": {
                "msp_key": MSP.public.hex(),
                "miner_key": MINER.public.hex(),
                "salt": self.account.salt.hex(),
                "commitment": self.account.commitment.hex(),
                "epoch": 1,
                "number": 1,
                "msp_signature": MSP.sign(signed).hex(),
                "miner_signature": MINER.sign(signed).hex(),
            }
            | changes
        }

    def share(self, account=None, z=Z):
        self.nonce += 1
        account = account or self.account
        owner = Owner(account.commitment, self.books.current_epoch, 0, account.id)
        return Share(owner, z=z, ntime=self.nonce).mined(MSP.public)

    def receipt(self, *shares, z=Z, key=MSP, **changes):
        count, work, root = self.state
        for share in shares:
            root = tagged_hash("radpool/owner-share", root, share.hash(MSP.public), bytes([z]))
            count, work = count + 1, work + (1 << z)
        self.state = count, work, root
        numbers = (1).to_bytes(8, "little") + count.to_bytes(8, "little")
        signed = tagged_hash("radpool/owner-receipt", numbers, work.to_bytes(16, "little"), root)
        fields = {
            "shares": [[share.hash(MSP.public).hex(), z] for share in shares],
            "count": count,
            "work": str(work),
            "root": root.hex(),
            "signature": key.sign(signed).hex(),
        }
        self.lines.append({"receipt": fields | changes})

    def write(self):
        text = "".join(json.dumps(line) + "\n" for line in self.lines)
        self.receipts.write_text(text)
        return self.receipts

    def export(self, epoch=1):
        directory = self.directory / f"export-{epoch}"
        export_epoch(self.store, MSP, directory, epoch)
        return directory


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.store.close()


def said(capsys, *words):
    """Runs a command; returns its exit status and the JSON that it printed."""
    with pytest.raises(SystemExit) as left:
        app([str(word) for word in words] + ["--json"])
    return left.value.code or 0, json.loads(capsys.readouterr().out)


def test_all_shares_of_an_honest_msp_are_found(world, capsys):
    """spec: OR-12"""
    shares = [world.share() for _ in range(5)]
    world.books.commit(ShareBatch([*shares[:3], world.share(world.stranger)]))
    world.receipt(*shares[:3])
    world.books.commit(ShareBatch(shares[3:]))
    world.receipt(shares[3])
    world.receipt(shares[4])
    report = verify_receipts(world.write(), [world.export()])
    assert (report.shares, report.found, report.missing, report.altered) == (5, 5, (), ())
    assert (report.msp_key, report.miner_key) == (MSP.public, MINER.public)
    status, told = said(capsys, "verify", "receipt", world.receipts, world.directory / "export-1")
    assert (status, told["found"], told["epochs"]) == (0, 5, [1])


def test_a_withheld_share_is_named(world, capsys):
    """spec: OR-12"""
    kept, withheld = world.share(), world.share()
    world.books.commit(ShareBatch([kept]))
    world.receipt(kept, withheld)
    export = world.export()
    report = verify_receipts(world.write(), [export])
    assert (report.found, report.missing) == (1, (withheld.hash(MSP.public),))
    status, told = said(capsys, "verify", "receipt", world.receipts, export)
    assert status == 1
    assert told["missing"] == [withheld.hash(MSP.public)[::-1].hex()]


def test_shares_are_looked_for_in_all_exports(world):
    """spec: OR-12"""
    first = world.share()
    world.books.commit(ShareBatch([first]))
    world.receipt(first)
    block = first.hash(MSP.public)
    world.books.record_block(block, 101, 5_000_000_000, world.account.id)
    world.books.reconcile({block: 1})
    second = world.share()
    world.books.commit(ShareBatch([second]))
    world.receipt(second)
    exports = [world.export(1), world.export(2)]
    assert verify_receipts(world.write(), exports).epochs == (1, 2)
    assert verify_receipts(world.receipts, exports).missing == ()
    assert verify_receipts(world.receipts, exports[:1]).missing == (second.hash(MSP.public),)


def test_a_share_that_is_booked_elsewhere_or_for_less_is_named(world):
    """spec: OR-12"""
    lighter, stolen = world.share(z=Z), world.share(world.stranger)
    world.books.commit(ShareBatch([lighter, stolen]))
    world.receipt(stolen)
    world.receipt(lighter, z=Z + 1)
    report = verify_receipts(world.write(), [world.export()])
    hashes = (stolen.hash(MSP.public), lighter.hash(MSP.public))
    assert (report.found, report.missing, report.altered) == (0, (), hashes)


def test_an_export_that_somebody_has_cut_convicts_nobody(world):
    """Whoever takes a batch out of an export does not make a withheld share of it."""
    for _ in range(2):
        share = world.share()
        world.books.commit(ShareBatch([share]))
        world.receipt(share)
    export = world.export()
    (export / "batches" / "0000000001.bin").unlink()
    with pytest.raises(FaultyMSPError):
        verify_receipts(world.write(), [export])
    with pytest.raises(LocalProtocolError, match="holds no export"):
        verify_receipts(world.receipts, [world.directory / "nothing"])


def test_the_export_of_another_msp_says_nothing(world, tmp_path):
    export = world.export()
    signed = registration_hash(OTHER.public, MINER.public, world.account.commitment, 1, 1)
    signatures = {
        "msp_key": OTHER.public.hex(),
        "msp_signature": OTHER.sign(signed).hex(),
        "miner_signature": MINER.sign(signed).hex(),
    }
    world.lines = [world.registration(**signatures)]
    with pytest.raises(LocalProtocolError, match="the receipts are of"):
        verify_receipts(world.write(), [export])


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"msp_signature": "00" * 64}, "msp_signature is not true"),
        ({"miner_signature": "00" * 64}, "miner_signature is not true"),
        ({"number": 2}, "msp_signature is not true"),
        ({"number": 2**64}, "too big"),
        ({"epoch": 2**32}, "too big"),
        ({"salt": "00" * 16}, "msp_signature is not true"),
        ({"salt": "00"}, "16 bytes"),
    ],
)
def test_a_registration_that_is_not_signed_is_none(world, fault, reason):
    """spec: OR-12"""
    world.lines = [world.registration(**fault)]
    with pytest.raises(LocalProtocolError, match=reason):
        read_receipts(world.write())


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"key": OTHER}, "not signed by the MSP"),
        ({"count": 2}, "not that of its shares"),
        ({"work": "5"}, "not that of its shares"),
        ({"root": "00" * 32}, "not that of its shares"),
        ({"shares": []}, "not that of its shares"),
        ({"shares": [["00" * 32, 121]]}, "an exponent of 121"),
        ({"shares": 7}, "not iterable"),
    ],
)
def test_a_receipt_that_is_not_that_of_its_shares_is_none(world, fault, reason):
    """spec: OR-12"""
    world.receipt(world.share(), **fault)
    with pytest.raises(LocalProtocolError, match=f"line 2: .*{reason}"):
        read_receipts(world.write())


@pytest.mark.parametrize("text", ["", "{}", "[]", "7", "{", '{"receipt": {}}', "[" * 100_000])
def test_what_is_no_file_of_receipts_is_refused(world, text):
    world.receipts.write_text(text)
    with pytest.raises(LocalProtocolError, match=r"receipts\.jsonl"):
        read_receipts(world.receipts)


# The register


def row(place, account, miner, msp=MSP, **changes):
    signed = registration_hash(msp.public, miner.public, account.commitment, 1, place)
    return {
        "msp_key": msp.public.hex(),
        "miner_key": miner.public.hex(),
        "commitment": account.commitment.hex(),
        "rail": 0,
        "epoch": 1,
        "number": place,
        "msp_signature": msp.sign(signed).hex(),
        "miner_signature": miner.sign(signed).hex(),
    } | changes


def pages(directory, *rows):
    files = []
    for number, each in enumerate(rows):
        file = directory / f"register-{number}.json"
        file.write_text(json.dumps({"offset": number, "total": len(rows), "items": [each]}))
        files.append(file)
    return files


def test_the_register_tells_whose_shares_are_whose(world, capsys):
    """spec: OR-13, OR-14"""
    mine = [world.share() for _ in range(3)]
    theirs = world.share(world.stranger)
    world.books.commit(ShareBatch([*mine, theirs]))
    unsigned = row(2, world.books.account("third"), OTHER, miner_signature=None)
    files = pages(world.directory, unsigned, row(1, world.account, MINER))
    msp_key, owners = read_register([*files, files[0]])
    assert msp_key == MSP.public
    assert [each.is_countersigned for each in owners.values()] == [False, True]
    register = {each.commitment: each.miner_key for each in owners.values()}
    script = mine[0].owner.script(MSP.public, Z)
    assert find_owner(MSP.public, script, register, [1, 2]) == (MINER.public, 1, Z)
    assert find_owner(MSP.public, theirs.owner.script(MSP.public, Z), register, [1, 2]) is None
    status, told = said(capsys, "verify", "register", *files, "--export", world.export())
    shares = [(each["number"], each["shares"], each["work"]) for each in told["owners"]]
    assert (status, shares, told["other_shares"]) == (0, [(1, 3, "12"), (2, 0, "0")], 1)


@pytest.mark.parametrize(
    "change",
    [
        {"msp_signature": "00" * 64},
        {"miner_signature": "00" * 64},
        {"epoch": 2},
        {"number": 3},
        {"commitment": "11" * 32},
    ],
)
def test_a_false_entry_of_a_register_convicts(world, change):
    """spec: OR-14"""
    with pytest.raises(FaultyMSPError, match="signature is not true"):
        read_register(pages(world.directory, row(1, world.account, MINER, **change)))


def test_a_register_has_each_key_commitment_and_number_once(world):
    """spec: OR-4, OR-14"""
    first = row(1, world.account, MINER)
    for second, reason in (
        (row(2, world.stranger, MINER), "twice"),
        (row(1, world.stranger, OTHER), "twice"),
        (row(2, world.account, OTHER), "two owners"),
    ):
        with pytest.raises(FaultyMSPError, match=reason):
            read_register(pages(world.directory, first, second))


def test_the_register_in_words(world, capsys):
    files = pages(world.directory, row(1, world.account, MINER, miner_signature=None))
    with pytest.raises(SystemExit) as left:
        app(["verify", "register", *(str(file) for file in files)])
    said = capsys.readouterr().out
    assert not left.value.code
    assert f"MSP {MSP.public.hex()} has registered 1 owner." in said
    assert f"1: {MINER.public.hex()} since epoch 1, which the miner has not signed" in said
    with pytest.raises(ConfigError, match="at least one page"):
        register_command()


@pytest.mark.parametrize(
    "change", [{"rail": 1}, {"number": -1}, {"epoch": 2**32}, {"number": 2**64}, {"msp_key": ""}]
)
def test_what_is_no_register_is_refused(world, change):
    with pytest.raises(LocalProtocolError):
        read_register(pages(world.directory, row(1, world.account, MINER, **change)))
    with pytest.raises(LocalProtocolError, match="several MSPs"):
        read_register(
            pages(
                world.directory,
                row(1, world.account, MINER),
                row(1, world.stranger, OTHER, msp=OTHER),
            )
        )
    for text in ("", "[]", "{}", '{"items": 7}', '{"items": [7]}', '{"items": []}'):
        file = world.directory / "register.json"
        file.write_text(text)
        with pytest.raises(LocalProtocolError, match=r"register\.json"):
            read_register([file])
