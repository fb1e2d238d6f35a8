"""Four members by the command line, on a real bitcoin node; one is killed and comes back."""

import json
import signal
import subprocess
import sys

import pytest
from rig.bitcoind import free_ports
from rig.wait import until

from radpool_sv2.cli.federation_books import evidence, log, sign, snapshot
from radpool_sv2.errors import ConfigError, StoreError
from radpool_sv2.verify.federation import verify_federation


def radpool(*arguments, check=True):
    command = [sys.executable, "-m", "radpool_sv2", "federation", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done


class Member:
    """One of them, with its directory and, while it runs, its process."""

    def __init__(self, directory, bitcoind):
        self.directory = directory
        self.process = None
        (port,) = free_ports(1)
        self.address = f"127.0.0.1:{port}"
        radpool(
            *("init", "--dir", directory, "--address", self.address, "--listen", self.address),
            *("--rpc-url", bitcoind.url, "--rpc-cookie-file", bitcoind.cookie_file),
        )

    def join(self, *more):
        command = [sys.executable, "-m", "radpool_sv2", "federation", "join", "--json"]
        command += ["--dir", str(self.directory), *map(str, more)]
        with (self.directory / "log").open("ab") as errors:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        line = self.process.stdout.readline()
        assert line, (self.directory / "log").read_text()
        return json.loads(line)

    def kill(self, number=signal.SIGKILL):
        process, self.process = self.process, None
        process.send_signal(number)
        code = process.wait(timeout=300)
        process.stdout.close()
        return code

    def status(self):
        return json.loads(radpool("status", "--json", "--dir", self.directory).stdout)

    def figures(self):
        return json.loads((self.directory / "data" / "federation.json").read_text())


@pytest.fixture
def members(tmp_path, bitcoind):
    made = [Member(tmp_path / f"{each}", bitcoind) for each in range(4)]
    yield made
    for member in made:
        if member.process is not None:
            member.kill()


def wait_until(holds, what):
    until(holds, what, 300)


def same_epochs(members):
    """Waits until members have the same epochs and the same root behind them."""
    wait_until(
        lambda: (
            len({json.dumps(member.figures()["epochs"], sort_keys=True) for member in members}) == 1
        ),
        lambda: [member.figures()["epochs"] for member in members],
    )


def mine(bitcoind, members, count):
    """Mines blocks one by one; members that run certify the epoch of each."""
    for _ in range(count):
        before = max(member.figures()["epochs"]["certified"] for member in members)
        bitcoind.mine()
        wait_until(
            lambda before=before: all(
                member.figures()["epochs"]["certified"] > before for member in members
            ),
            lambda: [member.figures()["epochs"] for member in members],
        )


def test_members_are_made_invited_and_join(tmp_path, bitcoind, members):
    first, *others = members
    records = [member.directory / "member.txt" for member in others]
    told = radpool("invite", "--dir", first.directory, *records).stdout
    committee = first.directory / "committee.json"
    served = [first.join(), *(member.join("--committee", committee) for member in others)]
    assert sorted(each["member"] for each in served) == [0, 1, 2, 3]
    assert all(each["committee"] in told for each in served)
    wait_until(lambda: all(len(member.figures()["links"]) == 3 for member in members), "all links")
    mine(bitcoind, members, 2)

    lost = members[3]
    lost.kill()
    assert radpool("status", "--dir", lost.directory, check=False).returncode == 1
    mine(bitcoind, members[:3], 2)
    lost.join()
    same_epochs(members)
    mine(bitcoind, members, 1)
    # What is certified is closed a moment later.
    same_epochs(members)

    figures = [member.status() for member in members]
    assert all(each["epochs"]["certified"] == 5 for each in figures)
    assert len({each["epochs"]["root"] for each in figures}) == 1
    assert not any(each["halted"] for each in figures)
    shown = radpool("status", "--dir", first.directory).stdout
    assert "5 certified" in shown
    for member in members:
        assert member.kill(signal.SIGTERM) == 0


def test_who_is_not_in_the_committee_does_not_run(tmp_path, bitcoind, members):
    radpool("invite", "--dir", members[0].directory, members[1].directory / "member.txt")
    committee = members[0].directory / "committee.json"
    done = radpool("join", "--dir", members[2].directory, "--committee", committee, check=False)
    assert done.returncode == 1
    assert "not in the committee" in done.stderr
    assert not (members[2].directory / "data").exists()


def test_a_member_begins_with_a_snapshot_and_anyone_checks_the_log(
    tmp_path, bitcoind, members, capsys
):
    """Three run; the fourth comes later, and once more after an absence."""
    *early, late = members
    first = early[0]
    records = [member.directory / "member.txt" for member in (*early[1:], late)]
    radpool("invite", "--dir", first.directory, *records)
    committee = first.directory / "committee.json"
    file = tmp_path / "snapshot"
    with pytest.raises(StoreError, match="never run"):
        snapshot(dir=first.directory, out=file)
    first.join()
    for member in early[1:]:
        member.join("--committee", committee)
    mine(bitcoind, early, 2)

    def told(command, **arguments):
        command(**arguments)
        return capsys.readouterr().out

    # All of this is read beside members that run. What is certified is closed a moment later.
    for member in early:
        snapshot_behind(1, member, file, told)
    place = tmp_path / "log"
    told(log, dir=first.directory, out=place, to=0)
    grown = json.loads(told(log, dir=early[1].directory, out=place, json_line=True))
    assert (grown["epochs"], grown["added"]) == (2, 1)
    assert verify_federation(place).epochs == 2
    listed = json.loads(told(evidence, dir=first.directory, json_line=True))
    assert listed == {"evidence": []}
    signing = json.loads(told(sign, dir=first.directory, json_line=True))
    assert set(signing["keys"]) >= {"checkpoint", "treasury"}
    assert signing["payouts"] == []

    torn = tmp_path / "torn"
    torn.write_bytes(file.read_bytes()[:-1])
    arguments = ("--dir", late.directory, "--committee", committee, "--snapshot")
    done = radpool("join", *arguments, torn, check=False)
    assert done.returncode == 1
    assert "is torn" in done.stderr
    late.join("--committee", committee, "--snapshot", file)
    mine(bitcoind, members, 1)

    late.kill()
    mine(bitcoind, early, 2)
    done = radpool("join", "--dir", late.directory, "--snapshot", file, check=False)
    assert done.returncode == 1
    assert "not needed" in done.stderr
    snapshot_behind(4, first, file, told)
    late.join("--snapshot", file)
    mine(bitcoind, members, 1)
    same_epochs(members)
    figures = [member.status() for member in members]
    assert all(each["epochs"]["certified"] == 6 for each in figures)
    assert not any(each["halted"] or each["gone"] for each in figures)


def snapshot_behind(epoch, member, file, told):
    """Waits until a member can write a snapshot behind an epoch."""

    def is_written():
        try:
            return f"epoch {epoch}," in told(snapshot, dir=member.directory, out=file)
        except ConfigError:
            # Not even the first epoch is closed.
            return False

    wait_until(is_written, f"a snapshot behind epoch {epoch}")
