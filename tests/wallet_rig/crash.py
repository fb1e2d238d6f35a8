"""Lets a wallet's process die at a chosen moment: around any request, around any transaction."""

from contextlib import contextmanager

import httpx

from radpool_sv2.wallet import Wallet
from radpool_sv2.wallet.file import WalletFile
from wallet_rig.mint import unread


class Crash(BaseException):
    """Is what kill -9 looks like from inside."""


class Moments:
    """Counts the moments at which a process can die, and dies at one of them.

    Before and after each request, and before and after each commit.
    """

    def __init__(self, at=None):
        self.at = at
        self.count = 0

    def pass_one(self):
        self.count += 1
        if self.count - 1 == self.at:
            raise Crash

    def transport(self, mint):
        def serve(request):
            self.pass_one()
            answer = unread(mint._serve(request))
            self.pass_one()
            return answer

        return httpx.MockTransport(serve)

    @contextmanager
    def commits(self, monkeypatch):
        whole = WalletFile.write

        @contextmanager
        def write(file):
            with whole(file) as connection:
                yield connection
                self.pass_one()
            self.pass_one()

        with monkeypatch.context() as patch:
            patch.setattr(WalletFile, "write", write)
            yield


def has_crashed(error):
    if isinstance(error, BaseExceptionGroup):
        return any(map(has_crashed, error.exceptions))
    return isinstance(error, Crash)


async def run_and_crash(directory, mint, moments, monkeypatch, work):
    """Runs `work(wallet)` until it ends or dies; returns whether it died."""
    wallet = await Wallet.open(directory, transport=moments.transport(mint))
    try:
        with moments.commits(monkeypatch):
            await work(wallet)
    except BaseException as error:
        if not has_crashed(error):
            raise
        # As the kernel does: the file is closed, nothing is given back.
        wallet._purse.file.close()
        return True
    wallet._purse.file.close()
    return False
