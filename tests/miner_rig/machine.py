"""Stands in for the native miner: finds a share whenever it is told to."""

from collections import deque
from types import SimpleNamespace

from radpool_sv2_extensions.ecash import message as wire

from miner_rig.mint import Z0


class Machine:
    """Follows the rules of `radpool_sv2._native.miner.Miner` for lots, sessions and news."""

    def __init__(self, side):
        self.side = side
        self.session = 0
        self.lot = 0
        self.lapsed = False
        self.queue = deque()
        self.sent = {}
        """The claim of each share by its number."""
        self.frames = []
        self.sequence = 0
        self.pending = self.news()

    def news(self, **fields):
        empty = {
            "session": self.session,
            "opened": None,
            "submitted": [],
            "refused": [],
            "frames": [],
            "withdrawn": [],
            "dropped": 0,
            "ended": None,
        }
        return SimpleNamespace(**(empty | fields))

    # what the side calls

    def give(self, session, lot, items):
        if session != self.session or lot < self.lot or (lot == self.lot and self.lapsed):
            return False
        if lot > self.lot:
            self._withdraw()
            self.lot, self.lapsed = lot, False
        self.queue.extend(items)
        return True

    def send(self, session, msg_type, *, channel_msg, payload):
        assert session == self.session
        self.frames.append(wire.decode(msg_type, payload, channel_msg=channel_msg))
        return True

    def take(self):
        news, self.pending = self.pending, self.news()
        return news

    def _withdraw(self):
        self.pending.withdrawn.extend(number for number, _ in self.queue)
        self.queue.clear()

    # what the test calls

    async def hear(self, *messages, **fields):
        """Hands messages of the pool to the side, with all other news."""
        news, self.pending = self.pending, self.news()
        news.frames.extend((item.msg_type, item.channel_msg, item.encode()) for item in messages)
        for name, value in fields.items():
            setattr(news, name, value)
        news.session = self.session
        await self.side.handle(self, news)
        if self.pending.withdrawn:
            await self.hear()

    async def open(self, terms, *announced):
        """Opens the next session."""
        self.session += 1
        self.lot, self.lapsed, self.sequence = 0, False, 0
        await self.hear(*[item.announcement for item in announced], opened=(5, terms.encode()))

    def find(self, count=1, exponent=Z0, again=None):
        """Finds shares and sends those for which there is a claim; returns their numbers.

        `again` is the number of a share that goes out once more instead.
        """
        numbers = []
        for _ in range(min(count, len(self.queue))):
            attachment, tail = self.queue.popleft()
            self.sent[self.sequence] = wire.Claim.decode(tail)
            share_hash = (self.sequence if again is None else again).to_bytes(32, "big")
            self.pending.submitted.append((self.sequence, exponent, attachment, share_hash))
            numbers.append(self.sequence)
            self.sequence += 1
        return numbers

    async def refuse(self, sequence, code, *, again, lapse=False):
        """Has the pool refuse the claim of a share."""
        if lapse:
            self.lapsed = True
            self._withdraw()
        self.pending.refused.append((sequence, code, again))
        await self.hear()

    async def end(self, reason="the pool closed the connection"):
        self._withdraw()
        await self.hear(ended=reason)

    def blinded(self, sequence):
        return self.sent[sequence].blinded

    def asked(self, kind):
        """Takes the requests of a kind that were sent."""
        taken = [frame for frame in self.frames if isinstance(frame, kind)]
        self.frames = [frame for frame in self.frames if not isinstance(frame, kind)]
        return taken
