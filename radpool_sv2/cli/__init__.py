"""Is the command line of radpool-sv2: `radpool`.

Each command is a module of this package and is loaded when it is asked for. Errors that the user
can mend are one line on stderr; a traceback is our own bug.

Exit status: 0 done · 1 it failed, and stderr says why · 2 the command line was wrong · 130 Ctrl-C.
"""

import os
import sys
from importlib.metadata import entry_points, version

from cyclopts import App, CycloptsError

from radpool_sv2.errors import RadpoolError

__all__ = ["app", "main"]

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

app = App(
    name="radpool",
    help="Runs a Mining Service Provider: a Stratum V2 pool whose books anyone can check.",
    version=lambda: version("radpool-sv2"),
)
app.command("radpool_sv2.cli.demo:app", name="demo", help="Chain, pool and four miners: a minute.")
app.command("radpool_sv2.cli.init:app", name="init", help="Makes the directory of a new node.")
app.command("radpool_sv2.cli.certify:app", name="certify", help="Signs the listener's key again.")
app.command("radpool_sv2.cli.msp:app", name="msp", help="Runs a Mining Service Provider.")
app.command(
    "radpool_sv2.cli.template_provider:app",
    name="template-provider",
    help="Offers templates to pools and job declarator clients.",
)
app.command("radpool_sv2.cli.jdc:app", name="jdc", help="Declares own templates to pools.")
app.command("radpool_sv2.cli.miner:app", name="miner", help="Mines on a pool with this CPU.")
for command in entry_points(group="radpool_sv2.commands"):
    # Packages that build on this one bring commands of their own.
    about = "" if command.dist is None else command.dist.metadata["Summary"]
    app.command(command.value, name=command.name, help=about)
app.command("radpool_sv2.cli.wallet:app", name="wallet", help="Keeps what a miner earns.")
app.command(
    "radpool_sv2.cli.federation:app",
    name="federation",
    help="Makes, joins and shows a federation of MSPs.",
)
app.command("radpool_sv2.cli.status:app", name="status", help="Shows how a running node fares.")
app.command("radpool_sv2.cli.verify:app", name="verify", help="Recomputes an exported epoch.")
app.command("radpool_sv2.cli.chain:app", name="chain", help="Drives a running embedded chain.")
app.command("radpool_sv2.cli.doctor:app", name="doctor", help="Checks everything a node needs.")


def main() -> None:
    """Runs the command line and exits."""
    try:
        app(sys.argv[1:], exit_on_error=False)
    except CycloptsError:
        # Cyclopts has printed what is wrong with the command line.
        sys.exit(EXIT_USAGE)
    except (RadpoolError, KeyboardInterrupt, BrokenPipeError, BaseExceptionGroup) as error:
        sys.exit(_explain(error))


def _explain(error: BaseException) -> int:
    """Says in plain words why a command failed; returns the exit status.

    Raises:
        BaseException: The error is none that a user can mend.
    """
    if isinstance(error, BaseExceptionGroup):
        # A signal ends everything else: what failed because of it is no news.
        if error.subgroup(KeyboardInterrupt) is not None:
            return EXIT_INTERRUPTED
        known, unknown = error.split(RadpoolError)
        if known is None or unknown is not None:
            raise error
        return max(_explain(part) for part in known.exceptions)
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    if isinstance(error, BrokenPipeError):
        # Whoever read our output has gone, as `head` does. Python would complain once more when it
        # flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    print(f"radpool: {error}", file=sys.stderr)
    return EXIT_FAILED
