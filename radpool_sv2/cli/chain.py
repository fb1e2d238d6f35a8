"""`radpool chain`: drives the embedded chain of a running node, for tests and for learning."""

import json
import math
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Final

import trio
from cyclopts import App, Parameter
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from radpool_sv2.chain.client import ChainClient, open_client
from radpool_sv2.errors import ConfigError

__all__ = ["app"]

app = App(
    name="chain",
    help="Drives the embedded regtest chain of a running node. Its coins are worth nothing.",
)

SATS_PER_BTC: Final = 100_000_000
# Blocks per request: small enough that progress shows, large enough that it costs nothing.
BLOCKS_AT_ONCE: Final = 20
TIMEOUT_S: Final = 60
# Where a node keeps its chain, seen from the directory that `radpool init` has made.
PLACES: Final = (".", "data/chain", "chain")

Dir = Annotated[Path, Parameter(name="--dir")]
AsJson = Annotated[bool, Parameter(name="--json", negative=())]


@app.command
def status(*, dir: Dir = Path(), as_json: AsJson = False) -> None:  # noqa: A002 - the option
    """Shows the tip, what waits for a block, the faucet, and the rule blocks are judged by.

    Args:
        dir: The directory of the node, or of its chain.
        as_json: Print one JSON object.
    """
    answer = _ask(dir, "status")
    if as_json:
        print(json.dumps(answer))
        return
    rows = {
        "tip": f"{_display(answer['tip'])}, height {answer['height']}",
        "rule": answer["rule"],
        "waiting": f"{answer['mempool_count']} transactions with {answer['mempool_fees_sats']} sats"
        " of fees",
        "coins": f"{answer['coins']} unspent outputs, {_btc(answer['supply_sats'])} BTC (regtest)",
        "faucet": f"{_btc(answer['faucet_sats'])} BTC at {answer['faucet_address']}",
        "traffic": f"{answer['payments_per_minute']} payments per minute",
        "log": f"{answer['log_bytes']} bytes of blocks",
    }
    _print_rows(rows)


@app.command
def mine(
    count: int = 1,
    /,
    *,
    dir: Dir = Path(),  # noqa: A002 - the option
    address: str | None = None,
) -> None:
    """Mines blocks at once, with the waiting transactions.

    These blocks need only regtest's own one bit of work: the rule about leading zero bits is for
    blocks that miners find.

    Args:
        count: How many blocks.
        dir: The directory of the node, or of its chain.
        address: Who gets the reward; the faucet when left out.
    """
    if count < 1:
        raise ConfigError(
            "There is nothing to mine.", key="COUNT", value=str(count), allowed="1 or more"
        )
    params = {} if address is None else {"address": address}

    async def run(client: ChainClient) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        done = 0
        console = Console(stderr=True)
        # A few blocks take milliseconds; a pipe has no use for a bar.
        quick = count <= BLOCKS_AT_ONCE or not console.is_terminal
        with Progress(console=console, transient=True, disable=quick) as progress:
            task = progress.add_task("mining", total=count)
            while done < count:
                step = min(BLOCKS_AT_ONCE, count - done)
                answer = await client.request(
                    "mine", {"count": step, **params}, timeout_s=TIMEOUT_S
                )
                done += step
                progress.update(task, completed=done)
        return answer

    answer = _with_client(dir, run)
    print(f"mined {count}; height {answer['height']}, tip {_display(answer['hashes'][-1])}")


@app.command
def reorg(depth: int = 1, /, *, dir: Dir = Path()) -> None:  # noqa: A002 - the option
    """Replaces the last blocks by a longer branch of empty ones.

    Their transactions wait for a block again; their rewards are void.

    Args:
        depth: How many blocks to replace; one more takes their place.
        dir: The directory of the node, or of its chain.
    """
    answer = _ask(dir, "reorg", {"depth": depth})
    for each in answer["disconnected"]:
        print(f"left    {_display(each)}")
    for each in answer["connected"]:
        print(f"joined  {_display(each)}")
    print(f"height {answer['height']}")


@app.command
def send(
    address: str,
    amount: str,
    /,
    *,
    dir: Dir = Path(),  # noqa: A002 - the option
    fee_rate: int = 5,
) -> None:
    """Pays from the faucet; the payment waits for the next block.

    Args:
        address: A regtest address (bcrt1…, m…, n… or 2…).
        amount: How much, in BTC (0.5) or in satoshi (50000000sats).
        dir: The directory of the node, or of its chain.
        fee_rate: The fee, in sats per virtual byte.
    """
    params = {
        "address": address,
        "amount_sats": _amount_sats(amount),
        "fee_rate_sats_per_vbyte": fee_rate,
    }
    answer = _ask(dir, "send", params)
    print(f"{_display(answer['txid'])}  fee {answer['fee_sats']} sats")


@app.command
def template(*, dir: Dir = Path(), as_json: AsJson = False) -> None:  # noqa: A002 - the option
    """Shows the template that the next block is made from.

    Args:
        dir: The directory of the node, or of its chain.
        as_json: Print it as miners' software gets it, hashes in internal byte order.
    """
    answer = _ask(dir, "template")
    if as_json:
        print(json.dumps(answer))
        return
    zeros = 256 - int.from_bytes(bytes.fromhex(answer["target"]), "little").bit_length()
    rows = {
        "template": f"{answer['id']}, height {answer['height']}",
        "on": _display(answer["previous"]),
        "pays": f"{_btc(answer['value_sats'])} BTC, {answer['fees_sats']} sats of it fees",
        "holds": f"{answer['tx_count']} transactions, weight {answer['weight']} with room reserved",
        "wants": f"a hash with {zeros} leading zero bits",
        "rule": answer["rule"],
        "coinbase": f"script begins {answer['coinbase_prefix']}, "
        f"last output {answer['template_outputs']}",
        "path": " ".join(_display(each)[:16] + "…" for each in answer["merkle_path"]) or "empty",
    }
    _print_rows(rows)


def _socket_of(directory: Path) -> Path:
    """Returns the socket of the chain that a directory holds."""
    for place in PLACES:
        socket_path = (directory / place / "chain.sock").absolute()
        if socket_path.exists():
            return socket_path
    raise ConfigError(
        "No embedded chain runs here: start its node with `radpool msp --dir D`, then name the "
        "same directory.",
        key="--dir",
        value=str(directory),
    )


def _with_client(directory: Path, work: Any) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        async with open_client(_socket_of(directory)) as client:
            answer: dict[str, Any] = await work(client)
            return answer

    return trio.run(run)


def _ask(directory: Path, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    async def run(client: ChainClient) -> dict[str, Any]:
        return await client.request(method, params, timeout_s=TIMEOUT_S)

    return _with_client(directory, run)


def _amount_sats(text: str) -> int:
    """Parses an amount: BTC with at most 8 decimals, or whole satoshi with `sats` behind."""
    plain = text.strip().lower().replace("_", "")
    try:
        sats = (
            Decimal(plain.removesuffix("sats"))
            if plain.endswith("sats")
            else Decimal(plain) * SATS_PER_BTC
        )
    except InvalidOperation:
        sats = Decimal("nan")
    if not sats.is_finite() or sats != sats.to_integral_value() or not 0 < sats < math.inf:
        raise ConfigError(
            "This is not an amount.",
            key="AMOUNT",
            value=text,
            allowed="BTC with at most 8 decimals, such as 0.5, or satoshi such as 50000000sats",
        )
    return int(sats)


def _btc(sats: int) -> str:
    return f"{sats // SATS_PER_BTC}.{sats % SATS_PER_BTC:08d}"


def _display(internal: str) -> str:
    """Returns a hash the way explorers show it: the bytes the other way round."""
    return bytes.fromhex(internal)[::-1].hex()


def _print_rows(rows: Mapping[str, str]) -> None:
    console = Console(soft_wrap=True, highlight=False)
    width = max(len(name) for name in rows) + 2
    for name, text in rows.items():
        console.print(f"[bold]{name:{width}}[/]{escape(text)}")
