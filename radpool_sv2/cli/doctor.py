"""`radpool doctor`: checks everything a node needs."""

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.text import Text

from radpool_sv2.doctor import Verdict, examine, find_examination
from radpool_sv2.installation import CONFIG_NAME

app = App(name="doctor")

TRANSLATOR = "translator"
TRANSLATOR_CONFIG_NAME = "translator.toml"

_MARKS = {
    Verdict.GOOD: ("ok     ", "green"),
    Verdict.WARNING: ("warning", "yellow"),
    Verdict.BAD: ("BAD    ", "bold red"),
}


@app.default
def doctor(
    *,
    dir: Annotated[Path, Parameter(name="--dir")] = Path(),  # noqa: A002 - the name of the option
    config: Path | None = None,
    translator: Annotated[bool, Parameter(negative="")] = False,
    json_lines: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Checks clock, keys, certificate, mint, ports, open files, disk and the consensus engine.

    With --translator it checks a translator instead: clock, port, wallet; whether each pool
    answers, has the right key, gives jobs, and asks for a difficulty that your devices can meet.

    Changes nothing. The exit status is 0 when nothing is bad; warnings do not count.

    Args:
        dir: The directory of the node.
        config: The configuration file, if not msp.toml in that directory, or translator.toml.
        translator: Check a translator.
        json_lines: Print one JSON object a line.
    """
    console = Console(soft_wrap=True, highlight=False)
    bad = 0
    check = find_examination(TRANSLATOR) if translator else examine
    for finding in check(config or dir / (TRANSLATOR_CONFIG_NAME if translator else CONFIG_NAME)):
        bad += finding.verdict is Verdict.BAD
        if json_lines:
            fields = {
                "subject": finding.subject,
                "verdict": finding.verdict.value,
                "text": finding.text,
            }
            print(json.dumps(fields), flush=True)
        else:
            mark, style = _MARKS[finding.verdict]
            line = Text.assemble((mark, style), f"  {finding.subject:<17} {finding.text}")
            console.print(line)
    sys.exit(1 if bad else 0)
