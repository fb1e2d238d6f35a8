"""A template source that says what the test wants."""

import trio

from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.templates.source import (
    BlockVerdict,
    SubmitResult,
    SubmitStatus,
    TemplateTransactions,
    TemplateUpdate,
)


class ScriptedSource:
    """Is a node of the test's own."""

    name = "scripted"

    def __init__(self, *, fees=True):
        self.fees = fees
        self.templates = {}
        self.known = {}
        self.verdict = BlockVerdict(valid=True)
        self.error = None
        self.checked = []
        self.blocks = []
        self.solutions = []
        self.forgets = False
        self.looked_up = []
        self.submit_errors = []
        self.result = SubmitResult(SubmitStatus.ACCEPTED, active=True)
        self.room = None

    def update(self, own, fee=1_000):
        """Keeps an own template's transactions; returns the update of it."""
        fees = tuple([fee] * len(own.transactions)) if self.fees else None
        self.templates[own.template.id] = TemplateTransactions(own.transactions, fees)
        return TemplateUpdate(own.template, own.tip)

    async def transactions(self, template_id):
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        if template_id not in self.templates:
            raise LocalProtocolError("template-id-not-found")
        return self.templates[template_id]

    async def known_transactions(self, wtxids):
        await trio.lowlevel.checkpoint()
        self.looked_up.append(list(wtxids))
        return {each: self.known[each] for each in wtxids if each in self.known}

    async def check_block(self, block):
        await trio.lowlevel.checkpoint()
        self.checked.append(block)
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict

    async def submit_block(self, block):
        await trio.lowlevel.checkpoint()
        if self.submit_errors:
            raise self.submit_errors.pop(0)
        self.blocks.append(block)
        return self.result

    async def submit_solution(self, solution):
        await trio.lowlevel.checkpoint()
        if self.forgets:
            raise LocalProtocolError("template-id-not-found")
        self.solutions.append(solution)
        return self.result

    def constrain(self, size, sigops):
        self.room = (size, sigops)

    def problems(self):
        return []
