"""Members as processes, each with a home of its own, and what can be done to them.

Each has its files in `DIRECTORY/NAME`; NAME is its number, or another name for a copy of it. Ways
between members go through proxies, which follow a member to wherever it listens now.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import federation_process
import trio
from federation_net import Net, wait_until

import radpool_sv2

PATHS = Path(federation_process.__file__).parent, Path(radpool_sv2.__file__).parents[1]

DISK_BYTES = 1 << 14
"""No file grows beyond this on a full disk: a member's store would, its status does not."""

EPOCHS_MAX = 100
"""A key takes three to five epochs where all are there, and many more where they come late."""


class Cluster:
    """The members of a committee as processes; used as an asynchronous context."""

    def __init__(self, directory, n=4):
        directory.mkdir(exist_ok=True)
        self.net = Net(directory, n)
        self.directory = directory
        self.running = {}
        self.tip = 0
        self._set_tip(0)

    async def __aenter__(self):
        self._nursery_manager = trio.open_nursery()
        nursery = await self._nursery_manager.__aenter__()
        await self.net.open(nursery)
        nursery.start_soon(self._keep_ways)
        return self

    async def __aexit__(self, *problem):
        for name in list(self.running):
            self.kill(name)
        self.net.close()
        return await self._nursery_manager.__aexit__(*problem)

    # Their lives.

    def home(self, name):
        return self.directory / str(name)

    def start(self, *members, name=None, ways=None):
        """Starts members, or one from another home, which may have ways of its own."""
        for me in members:
            home = self.home(me if name is None else name)
            home.mkdir(exist_ok=True)
            (home / "status.json").unlink(missing_ok=True)
            own = ways or {to: way for (one, to), way in self.net.proxies.items() if one == me}
            ports = [way.port for _, way in sorted(own.items())]
            command = [sys.executable, federation_process.__file__, home, me, *ports]
            with (home / "log").open("ab") as log:
                self.running[me if name is None else name] = subprocess.Popen(
                    [str(each) for each in command],
                    stderr=log,
                    stdout=log,
                    env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, PATHS))},
                )

    def kill(self, *names):
        for name in names:
            process = self.running.pop(name)
            process.kill()
            process.wait()

    def freeze(self, name):
        process = self.running[name]
        process.send_signal(signal.SIGSTOP)
        # It works on for a moment: whoever copies its files has to wait until it does not.
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw(self, name):
        self.running[name].send_signal(signal.SIGCONT)

    def fill_disk(self, name):
        """Lets no file of a member grow: what it writes beyond is refused or cut short."""
        self._limit_files(name, DISK_BYTES)

    def empty_disk(self, name):
        self._limit_files(name, resource.RLIM_INFINITY)

    def _limit_files(self, name, size):
        limits = (size, resource.RLIM_INFINITY)
        resource.prlimit(self.running[name].pid, resource.RLIMIT_FSIZE, limits)

    def copy(self, source, target):
        """Copies the home of a member that does not run now, as a snapshot of its machine would."""
        shutil.rmtree(self.home(target), ignore_errors=True)
        shutil.copytree(self.home(source), self.home(target))

    # What is known of them.

    def status(self, name):
        """Reads the figures of a member that runs; `None` until it has any."""
        code = self.running[name].poll()
        assert code is None, f"{name} ended by {code}: {self.log(name)[-3_000:]}"
        try:
            return json.loads((self.home(name) / "status.json").read_text())
        except FileNotFoundError:
            return None

    def log(self, name):
        return (self.home(name) / "log").read_text()

    async def until(self, name, holds):
        """Waits until something holds of a member's figures."""
        await wait_until(lambda: (status := self.status(name)) is not None and holds(status))

    async def _keep_ways(self):
        while True:
            for me in range(self.net.n):
                status = self.status(me) if me in self.running else None
                for (_, to), proxy in self.net.proxies.items():
                    if to == me and status is not None:
                        proxy.target = status["port"]
            await trio.sleep(0.1)

    # Their ways.

    def ways(self, *members):
        """Returns the proxies of all ways from and to members."""
        return [proxy for pair, proxy in self.net.proxies.items() if set(pair) & set(members)]

    def part(self, *members):
        """Cuts members off from the others, not from each other."""
        for (one, other), proxy in self.net.proxies.items():
            if (one in members) != (other in members):
                proxy.cut()

    def mend(self):
        for proxy in self.net.proxies.values():
            proxy.mend()

    # Their chain.

    def _set_tip(self, height):
        draft = self.directory / "tip.new"
        draft.write_text(str(height))
        draft.replace(self.directory / "tip")
        self.tip = height

    def grow(self, count=1):
        """Lets everybody's chain grow, at once."""
        self._set_tip(self.tip + count)

    async def epochs(self, count, members=None):
        """Lets the chain grow by single blocks; members certify the epoch that each ends."""
        for _ in range(count):
            self.grow()
            await self.certified(members)

    async def begin(self):
        """Starts all, and lets epochs pass until keys are there and members have shares."""
        self.start(*range(self.net.n))
        for _ in range(EPOCHS_MAX):
            if all((self.status(me) or {"shares": 0})["shares"] for me in range(self.net.n)):
                return
            await self.epochs(1)
        raise AssertionError([self.status(me)["keys"] for me in range(self.net.n)])

    async def certified(self, members=None):
        """Waits until members have certified all that the chain has ended."""
        for me in range(self.net.n) if members is None else members:
            await self.until(me, lambda status: status["epochs"]["certified"] >= self.tip)

    async def finish(self):
        """Lets the members rest, and epochs count what was late; kills all when nothing is left.

        Returns:
            What each member has said last of itself.
        """
        (self.directory / "rest").touch()
        await wait_until(self.is_at_rest)
        for _ in range(50):
            await self.epochs(1)
            await wait_until(self.is_at_rest)
            with closing(self.net.store(0, self.home(0) / "federation.sqlite")) as store:
                cut = store.epoch(self.tip - 1).cut
            if len(cut.endings) == self.net.n:
                break
        statuses = [self.status(me) for me in range(self.net.n)]
        self.kill(*range(self.net.n))
        (self.directory / "rest").unlink()
        return statuses

    def is_at_rest(self):
        """Says whether all members are linked and know the same, and nothing is on its way.

        Members look at themselves at different times: what one says after that makes no difference
        only because nothing is left that would make it say anything.
        """
        statuses = [self.status(me) for me in range(self.net.n)]
        if not all(statuses) or any(len(each["links"]) != self.net.n - 1 for each in statuses):
            return False
        if not all(each["is_quiet"] for each in statuses):
            return False
        heads = {
            (
                each["epochs"]["applied"],
                each["epochs"]["certified"],
                each["epochs"]["root"],
                *(stream["certified"] for stream in each["streams"]),
            )
            for each in statuses
        }
        return len(heads) == 1
