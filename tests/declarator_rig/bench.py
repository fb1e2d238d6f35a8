"""Drives a machine of a declaring connection without anything around it."""

from declarator_rig.part import halves, job, named, owner
from radpool_sv2.declarator.effect import (
    Close,
    FindOwner,
    Judge,
    Judged,
    OwnerFound,
    Received,
    Resolve,
    Resolved,
    Send,
)
from radpool_sv2.declarator.machine import ConnectionLimits, DeclaringMachine
from radpool_sv2.declarator.token import TokenLimits, TokenStore
from radpool_sv2.wire.message.job_declaration import AllocateMiningJobToken, DeclareMiningJob


class FreeTerms:
    """Takes any coinbase."""

    def check(self, owner, coinbase):
        pass


class NoChallenges:
    """Nothing is due."""

    def owner(self, token):
        return None


class Bench:
    """Is a machine with a clock and with tokens that are named, not drawn."""

    def __init__(
        self,
        *,
        whole=True,
        connection=1,
        tokens=None,
        terms=None,
        challenges=None,
        token_limits=None,
        **limits,
    ):
        self.now = 1_000.0
        self.tokens = tokens or TokenStore(token_limits or TokenLimits())
        self.connection = connection
        self.machine = DeclaringMachine(
            connection=connection,
            whole=whole,
            tokens=self.tokens,
            terms=terms or FreeTerms(),
            challenges=challenges or NoChallenges(),
            limits=ConnectionLimits(**limits),
            now=self.now,
        )
        self.drawn = 0
        self.requests = 0

    def draw(self):
        self.drawn += 1
        return named(f"token {self.connection} {self.drawn}")

    def effects(self):
        """Takes out all effects."""
        found = []
        while (effect := self.machine.poll()) is not None:
            found.append(effect)
        return found

    def handle(self, event):
        self.machine.handle(event, self.now)
        return self.effects()

    def handle_frame(self, frame):
        return self.handle(Received(frame))

    def receive(self, message):
        return self.handle_frame(message.encode())

    def later(self, seconds):
        self.now += seconds
        self.machine.handle_deadline(self.now)
        return self.effects()

    def sent(self, effects):
        return [each.message for each in effects if isinstance(each, Send)]

    def closed(self, effects):
        found = [each.reason for each in effects if isinstance(each, Close)]
        return found[0] if found else None

    # Steps of a conversation.

    def token(self, of=None):
        """Gets an allocated token."""
        self.requests += 1
        [find] = self.receive(AllocateMiningJobToken("alice", self.requests))
        assert isinstance(find, FindOwner)
        drawn = self.draw()
        [send] = self.handle(OwnerFound(find.ticket, of or owner(), b"\x00", drawn))
        assert send.message.request_id == self.requests
        return send.message.mining_job_token

    def declare(self, token=None, *, request=77, wtxids=(), **coinbase):
        """Sends a declaration and returns what comes of it."""
        token = self.token() if token is None else token
        prefix, suffix = halves(**coinbase)
        return self.receive(
            DeclareMiningJob(request, token, 0x20000000, prefix, suffix, tuple(wtxids), b"")
        )

    def accept(self, *, request=77, declared=None, **coinbase):
        """Declares a template that is valid; returns its job and the new token."""
        [resolve] = self.declare(request=request, **coinbase)
        assert isinstance(resolve, Resolve)
        [judge] = self.handle(Resolved(resolve.ticket, ()))
        assert isinstance(judge, Judge)
        made = declared or job(coinbase=resolve.declaration.coinbase, connection=self.connection)
        [send] = self.handle(Judged(judge.ticket, made, self.draw()))
        return made, send.message.new_mining_job_token
