"""`radpool wallet`: keeps what a miner earns, and turns it into sats."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import trio
from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.console import Console

from radpool_sv2.cli import wallet_table as table
from radpool_sv2.errors import ConfigError, RemoteProtocolError
from radpool_sv2.wallet import Wallet
from radpool_sv2.wallet.file import FILE_NAME
from radpool_sv2.wallet.mint import MintUnreachableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from radpool_sv2.wallet.residue import CashedOut

app = App(
    name="wallet",
    help="Keeps what a miner earns.",
    help_epilogue=(
        "Shares become work tokens, those of one epoch apart from those of another. When a block "
        "has paid an epoch, `redeem` turns its tokens into sats. Twelve words and the mint's "
        "address bring everything back. To begin: `radpool wallet create --dir DIR --mint URL`, "
        "then `radpool miner --wallet DIR`."
    ),
)

Directory = Annotated[Path, Parameter(name="--dir")]
Json = Annotated[bool, Parameter(name="--json", negative="")]
Flag = Annotated[bool, Parameter(negative="")]
Seconds = Annotated[float, Parameter(validator=Number(gte=0, lte=86_400))]
Notes = list[str]
KEY_LEN = 33


@app.command
def create(
    *,
    dir: Directory,  # noqa: A002 - the name of the option
    mint: str | None = None,
    mint_key: str | None = None,
    json_output: Json = False,
) -> None:
    """Makes a wallet and shows its words; on a wallet that is there, adds a mint.

    The words are all that it takes to get the money, for you and for anybody else: write them on
    paper. They also lie in the wallet's file, which only you can read and nothing encrypts.

    A wallet without a mint can be given to `radpool miner --wallet`, which learns the mint from the
    pool that it mines on.

    Args:
        dir: Where; it is made if it does not exist.
        mint: The mint's address, such as https://mint.example or http://127.0.0.1:9090.
        mint_key: The mint's key, 66 hex digits, if its operator told you: another is refused.
        json_output: Print one JSON object instead of words.
    """

    async def run() -> None:
        new = not (dir / FILE_NAME).exists()
        if not new and mint is None:
            raise ConfigError("there is a wallet already, and it is not overwritten", file=dir)
        pinned = read_key(mint_key)
        wallet = await (Wallet.create(dir) if new else Wallet.open(dir))
        try:
            known = []
            if mint is not None:
                with _patience("asking the mint", quiet=json_output):
                    known = [(await wallet.add_mint(mint, pinned)).sat.mint]
            table.show_created(dir, wallet.words() if new else None, known, as_json=json_output)
        except BaseException:
            # The wallet is good without the mint, and its words must not get lost with the error.
            if new:
                table.show_created(dir, wallet.words(), [], as_json=json_output)
            raise
        finally:
            await wallet.close()

    trio.run(run)


@app.command
def restore(
    *,
    dir: Directory,  # noqa: A002 - the name of the option
    mint: str,
    mint_key: str | None = None,
    words_file: Path | None = None,
    json_output: Json = False,
) -> None:
    """Brings a wallet back from its words and the mint's address, over all epochs.

    The words are asked for, or read from a file or from standard input: a command line is seen by
    everybody on the machine. A restore that was interrupted can be repeated.

    Args:
        dir: Where the wallet is to be.
        mint: The mint's address.
        mint_key: The mint's key, 66 hex digits, if you know it: another is refused.
        words_file: A file with the words.
        json_output: Print one JSON object instead of words.
    """
    words = read_words(words_file)

    async def run() -> None:
        with _patience("asking the mint for its keysets", quiet=json_output) as tell:
            wallet, found = await Wallet.restore(
                dir,
                words,
                mint,
                pinned=read_key(mint_key),
                progress=lambda done, total: tell(f"keyset {done} of {total}"),
            )
        try:
            balance = await wallet.balance(ask=False)
        finally:
            await wallet.close()
        if json_output:
            print(json.dumps(asdict(found) | balance.to_json() | {"notes": found.notes}))
        else:
            table.show_notes(found.notes)
            table.show_balance(balance)
            print(f"Asked about {found.keysets} keysets; {found.tokens} tokens had been signed.")

    trio.run(run)


@app.command
def balance(
    *,
    dir: Directory,  # noqa: A002 - the name of the option
    offline: Flag = False,
    json_output: Json = False,
) -> None:
    """Shows sats, and the work of each epoch with what it is worth today and how that is computed.

    Args:
        dir: The wallet's directory. A miner may be using it.
        offline: Do not ask the mint; show what it said last.
        json_output: Print one JSON object instead of words.
    """

    async def work(wallet: Wallet) -> None:
        with _patience("asking the mint", quiet=json_output):
            found = await wallet.balance(ask=not offline)
        if json_output:
            print(json.dumps(found.to_json()))
        else:
            table.show_notes(found.notes)
            table.show_balance(found)

    _run(dir, work)


@app.command
def epochs(
    *,
    dir: Directory,  # noqa: A002 - the name of the option
    offline: Flag = False,
    all: Flag = False,  # noqa: A002 - the name of the option
    json_output: Json = False,
) -> None:
    """Shows how each epoch fares: when it can be redeemed, and when its tokens expire.

    Args:
        dir: The wallet's directory.
        offline: Do not ask the mint; show what it said last.
        all: Show epochs of which nothing is left, too.
        json_output: Print one JSON object instead of words.
    """

    async def work(wallet: Wallet) -> None:
        with _patience("asking the mint", quiet=json_output):
            found = await wallet.balance(ask=not offline, spent=all)
        if json_output:
            lines = found.to_json()
            print(json.dumps({key: lines[key] for key in ("epochs", "fresh", "notes")}))
        else:
            table.show_notes(found.notes)
            table.show_epochs(found.epochs)

    _run(dir, work)


@app.command
def redeem(
    *,
    dir: Directory,  # noqa: A002 - the name of the option
    keyset: str | None = None,
    early: Flag = False,
    spread: Seconds = 0,
    json_output: Json = False,
) -> None:
    """Turns the work tokens of paid epochs into sats, and left-over value into work tokens.

    Small tokens are merged first. The price is the one that the mint has signed, and is checked.
    Whatever interrupts it, nothing is lost or paid twice: the next command finishes it.

    The mint cannot tell which shares these tokens are from. But who redeems everything at once from
    the address that mined tells by time and sum: `--spread` waits a random while before each
    request, and `torsocks radpool wallet redeem` hides the address.

    What shares earned above their tokens is asked for as well: it becomes tokens of the epoch that
    is open now, which are paid with it.

    Args:
        dir: The wallet's directory.
        keyset: Only this keyset, by the first digits of its id; nothing that was left over then.
        early: Ask even before a block's reward has matured: a mint may advance some.
        spread: Seconds to wait before each request, on average.
        json_output: Print one JSON object instead of words.
    """

    async def work(wallet: Wallet) -> None:
        notes: Notes = []
        with _patience("redeeming", quiet=json_output) as tell:
            done = await wallet.redeem(
                await _keyset(wallet, keyset),
                early=early,
                spread_s=spread,
                progress=lambda before, now: tell(f"merging {before} tokens: {now} left"),
                notes=notes,
            )
            more = [] if keyset is not None else await _cash_out(wallet, spread, notes)
        table.show_redeemed(done, more, notes, as_json=json_output)

    _run(dir, work)


@app.command
def merge(
    *,
    dir: Directory,  # noqa: A002 - the name of the option
    keyset: str | None = None,
    spread: Seconds = 0,
    json_output: Json = False,
) -> None:
    """Exchanges many small work tokens for the few that make up their sum. `redeem` does it too.

    Args:
        dir: The wallet's directory.
        keyset: Only this keyset, by the first digits of its id.
        spread: Seconds to wait before each request, on average.
        json_output: Print one JSON object instead of words.
    """

    async def work(wallet: Wallet) -> None:
        notes: list[str] = []
        with _patience("merging", quiet=json_output) as tell:
            done = await wallet.merge(
                await _keyset(wallet, keyset),
                spread_s=spread,
                progress=lambda before, now: tell(f"{before} tokens: {now} left"),
                notes=notes,
            )
        table.show_merged(done, notes, as_json=json_output)

    _run(dir, work)


@app.command
def send(  # noqa: PLR0913 - one argument for each option
    sats: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    *,
    dir: Directory,  # noqa: A002 - the name of the option
    memo: str = "",
    mint: str | None = None,
    list: Flag = False,  # noqa: A002 - the name of the option
    reclaim: int | None = None,
    json_output: Json = False,
) -> None:
    """Makes a token of sats for somebody else, who receives it with any Cashu wallet.

    Whoever has the token has the money. Until it is claimed you can take it back.

    Args:
        sats: How much.
        dir: The wallet's directory.
        memo: A note that the receiver reads.
        mint: At which mint, if the wallet has several.
        list: Show instead what was sent, and whether it was claimed.
        reclaim: Take back instead the transfer of this number.
        json_output: Print one JSON object instead of words.
    """
    if [sats is not None, list, reclaim is not None].count(True) != 1:
        raise ConfigError("give an amount, or --list, or --reclaim NUMBER")

    async def work(wallet: Wallet) -> None:
        notes: Notes = []
        with _patience("asking the mint", quiet=json_output):
            if sats is not None:
                made = await wallet.send(sats, memo, url=mint, notes=notes)
                table.show_sent(made, notes, as_json=json_output)
            elif reclaim is not None:
                made = await wallet.reclaim(reclaim, notes=notes)
                table.show_reclaimed(made, notes, as_json=json_output)
            else:
                table.show_transfers(await wallet.transfers(), as_json=json_output)

    _run(dir, work)


@app.command
def receive(
    text: str | None = None,
    *,
    dir: Directory,  # noqa: A002 - the name of the option
    json_output: Json = False,
) -> None:
    """Takes a cashuB or cashuA token of sats, by exchanging it at its mint at once.

    Args:
        text: The token; without it, it is read from standard input.
        dir: The wallet's directory.
        json_output: Print one JSON object instead of words.
    """

    async def work(wallet: Wallet) -> None:
        notes: Notes = []
        with _patience("asking the mint", quiet=json_output):
            sats = await wallet.take(text or sys.stdin.read(), notes=notes)
        if json_output:
            print(json.dumps({"sats": sats, "notes": notes}))
        else:
            table.show_notes(notes)
            print(f"Received {sats:,} sat.")

    _run(dir, work)


@app.command
def history(
    *,
    dir: Directory,  # noqa: A002 - the name of the option
    json_output: Json = False,
) -> None:
    """Shows what was earned, merged, redeemed, sent and received.

    Args:
        dir: The wallet's directory.
        json_output: Print one JSON object instead of words.
    """

    async def work(wallet: Wallet) -> None:
        table.show_history(await wallet.history(), as_json=json_output)

    _run(dir, work)


@app.command
def words(
    *,
    dir: Directory,  # noqa: A002 - the name of the option
    json_output: Json = False,
) -> None:
    """Shows the words that bring the wallet back. Whoever sees them can take the money.

    Args:
        dir: The wallet's directory.
        json_output: Print one JSON object instead of words.
    """

    async def work(wallet: Wallet) -> None:
        await trio.lowlevel.checkpoint()
        print(json.dumps({"words": wallet.words()}) if json_output else wallet.words())

    _run(dir, work)


def _run(directory: Path, work: Callable[[Wallet], Awaitable[None]]) -> None:
    """Opens the wallet for as long as the work lasts."""

    async def run() -> None:
        async with Wallet.using(directory) as wallet:
            await work(wallet)

    trio.run(run)


async def _cash_out(wallet: Wallet, spread_s: float, notes: Notes) -> list[CashedOut]:
    """Asks for left-over value; what was redeemed before is told whatever comes of it."""
    try:
        return await wallet.cash_out(spread_s=spread_s, notes=notes)
    except (MintUnreachableError, RemoteProtocolError) as error:
        notes.append(f"what shares left over was not had, and is asked for again: {error}")
        return []


async def _keyset(wallet: Wallet, start: str | None) -> bytes | None:
    """Finds a keyset by the first digits of its id."""
    if start is None:
        return None
    lines = (await wallet.balance(ask=False)).epochs
    found = [line.keyset for line in lines if line.keyset.startswith(start.lower())]
    if len(found) != 1:
        what = "several keysets begin" if found else "no keyset with tokens begins"
        raise ConfigError(
            f"{what} so; `radpool wallet epochs` shows them", key="--keyset", value=start
        )
    return bytes.fromhex(found[0])


def read_key(text: str | None) -> bytes | None:
    """Reads the key of a mint."""
    if text is None:
        return None
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != KEY_LEN:
        raise ConfigError("no key of a mint: 66 hex digits", key="--mint-key", value=text)
    return raw


def read_words(file: Path | None) -> str:
    """Reads words from a file, from a person, or from standard input."""
    if file is not None:
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot be read: {error}", file=file) from error
    if sys.stdin.isatty():
        return Console(stderr=True).input("The words, with spaces between them: ")
    return sys.stdin.read()


@contextmanager
def _patience(what: str, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Shows on standard error that something goes on; yields what tells how far it is."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda _: None
        return
    with console.status(what) as status:
        yield lambda text: status.update(f"{what}: {text}")
