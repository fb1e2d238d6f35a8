"""`radpool translator wallets` and `radpool translator restore`: the wallets of workers."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import trio
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from radpool_sv2.cli.wallet import read_key, read_words
from radpool_sv2.wallet import Wallet
from radpool_sv2.wallet.child import child_words
from radpool_sv2.wallet.file import FILE_NAME
from radpool_sv2_translator.wallets import WorkerWallets, remove_unused

if TYPE_CHECKING:
    from radpool_sv2.wallet.recovery import Restored

__all__ = ["restore", "wallets"]

GAP: Final = 20
"""How many numbers in a row the mint must not know before the search ends."""

Directory = Annotated[Path, Parameter(name="--wallet")]
Json = Annotated[bool, Parameter(name="--json", negative="")]


def wallets(*, directory: Directory, json_output: Json = False) -> None:
    """Lists the wallets of workers: number, name, tokens and directory.

    Each is a wallet like any other: `radpool wallet balance --dir DIRECTORY`.

    Args:
        directory: The translator's wallet.
        json_output: Print one JSON object instead of a table.
    """
    trio.run(_list, directory, json_output)


async def _list(directory: Path, as_json: bool) -> None:  # noqa: FBT001 - see trio.run
    listed: list[dict[str, str | int]] = []
    for each in WorkerWallets(directory, str, 0).all():
        if not (each.directory / FILE_NAME).exists():
            continue
        async with Wallet.using(each.directory) as wallet:
            found = await wallet.balance(ask=False)
        listed.append(
            {
                "number": each.number,
                "worker": each.shown,
                "sats": found.sats,
                "tokens": sum(epoch.tokens for epoch in found.epochs),
                "directory": str(each.directory),
            }
        )
    if as_json:
        sys.stdout.write(json_module.dumps({"wallets": listed}) + "\n")
        return
    table = Table("number", "worker", "sat", "work tokens", "directory", box=None)
    for row in listed:
        table.add_row(*(Text(str(value)) for value in row.values()))
    Console(soft_wrap=True, highlight=False).print(table)


def restore(
    *,
    directory: Directory,
    mint: str,
    mint_key: str | None = None,
    words_file: Path | None = None,
    json_output: Json = False,
) -> None:
    """Brings the translator's wallet and those of all workers back, from its words alone.

    Names of workers do not follow from words: a wallet whose directory is lost comes back under its
    number. The search ends when twenty numbers in a row are unknown to the mint. A restore that was
    interrupted can be repeated.

    Args:
        directory: Where the translator's wallet is to be.
        mint: The mint's address.
        mint_key: The mint's key, 66 hex digits, if you know it: another is refused.
        words_file: A file with the words; without it they are asked for.
        json_output: Print one JSON object instead of words.
    """
    words = read_words(words_file)
    trio.run(_restore, directory, words, mint, read_key(mint_key), json_output)


async def _restore(
    directory: Path,
    words: str,
    mint: str,
    pinned: bytes | None,
    as_json: bool,  # noqa: FBT001 - see trio.run
) -> None:
    found = [(0, directory, await _bring_back(directory, words, mint, pinned))]
    places = WorkerWallets(directory, str, 0)
    number = last = 0
    while number < last + GAP:
        number += 1
        place = places.place(number).directory
        was_there = (place / FILE_NAME).exists()
        restored = await _bring_back(place, child_words(words, number), mint, pinned)
        if restored.tokens or restored.claim_keys:
            last = number
            found.append((number, place, restored))
        elif not was_there:
            remove_unused(place)
    if as_json:
        listed = [
            {"number": number, "directory": str(place), "tokens": each.tokens}
            for number, place, each in found
        ]
        sys.stdout.write(json_module.dumps({"wallets": listed}) + "\n")
        return
    console = Console(soft_wrap=True, highlight=False)
    for number, place, each in found:
        name = "the translator's" if number == 0 else f"number {number}"
        console.print(Text(f"{name}: {each.tokens} tokens had been signed, in {place}"))
        for note in each.notes:
            console.print(Text(f"  note: {note}"))


async def _bring_back(directory: Path, words: str, mint: str, pinned: bytes | None) -> Restored:
    wallet, found = await Wallet.restore(directory, words, mint, pinned=pinned)
    await wallet.close()
    return found
