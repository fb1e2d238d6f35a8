"""The benchmarks run: what they say on a busy machine means nothing, but every answer must come."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PARTS = ("shares", "storm", "claims", "tokens", "declaration")
SECONDS_MAX = 240


@pytest.mark.timeout(SECONDS_MAX + 30)
def test_smoke_size_answers_every_question():
    environment = {name: value for name, value in os.environ.items() if name != "CDK_MINTD"}
    command = [sys.executable, "-m", "benchmarks", "--size", "smoke"]
    for part in PARTS:
        command += ["--only", part]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        timeout=SECONDS_MAX,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((ROOT / "build" / "benchmarks-smoke.json").read_text())["rows"]
    figures = {row["question"]: row["figure"] for row in rows}
    assert all(figures.values())
    for words in (
        "accepted extended shares",
        "100 connect at once",
        "blind signature with proof, 1 core",
        "claims: durable, signed with proof and answered, 1 core",
        "shares with a claim each, signed later",
        "file per claim",
        "cdk-mintd, quoted",
        "radpool: blind signatures over HTTP",
        "radpool: tokens spent over HTTP",
        "nutshell: tokens spent over HTTP",
        "structural verdict, 200 transactions at hand",
        "full verdict, 200 signed payments, embedded chain",
    ):
        assert any(question.startswith(words) for question in figures), (words, list(figures))
