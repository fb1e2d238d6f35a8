"""The benchmarks run: what they say on a busy machine means nothing, but every answer must come."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PARTS = ("shares", "storm", "peer", "claims", "tokens", "declaration", "crowd")
SECONDS_MAX = 1_200


def answers(parts, environment):
    """Runs parts at smoke size; returns the figures by question."""
    command = [sys.executable, "-m", "benchmarks", "--size", "smoke"]
    for part in parts:
        command += ["--only", part]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        timeout=SECONDS_MAX,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((ROOT / "build" / "benchmarks-smoke.json").read_text())["rows"]
    figures = {row["question"]: row["figure"] for row in rows}
    assert len(figures) == len(rows), "each question is asked once"
    assert all(figures.values())
    return figures


@pytest.mark.timeout(SECONDS_MAX + 30)
def test_smoke_size_answers_every_question(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "CDK_MINTD"}
    # What a machine without the peer gets to read: what is missing, and our own figures.
    environment["SRI_POOL"] = str(tmp_path / "pool_sv2")
    figures = answers(PARTS, environment)
    assert figures["SRI's pool, run beside ours"] == "NOT MEASURED"
    beside = [figure for question, figure in figures.items() if question.startswith("beside SRI:")]
    assert len(beside) == 5
    assert all(figure.endswith("; SRI not measured") for figure in beside)
    for words in (
        "accepted extended shares",
        "100 connect at once",
        "SRI, quoted: CPU per accepted extended share",
        "beside SRI: new previous hash to the last of 100 channels",
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
        "new tip to the last of 200 miners while 10 declarers push",
    ):
        assert any(question.startswith(words) for question in figures), (words, list(figures))


@pytest.mark.timeout(SECONDS_MAX + 30)
def test_smoke_size_answers_for_the_translator(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "CKPOOL"}
    environment["SRI_TRANSLATOR"] = str(tmp_path / "translator_sv2")
    figures = answers(["translator"], environment)
    for peer in ("SRI", "ckpool"):
        assert figures[f"{peer}, run beside ours"] == "NOT MEASURED"
        assert any(question.startswith(f"{peer}, quoted: CPU per") for question in figures)
        beside = {
            question: figure
            for question, figure in figures.items()
            if question.startswith(f"beside {peer}:")
        }
        assert all(figure.endswith(f"; {peer} not measured") for figure in beside.values())
        for words in ("CPU per accepted submit, 10 connections x 16", "new previous hash, from"):
            assert any(question.startswith(f"beside {peer}: {words}") for question in beside)
    steady = next(figure for question, figure in figures.items() if "devices submit" in question)
    assert steady.startswith("400 of 400 accepted, 0 disconnected;")
    assert any(question.startswith("memory per idle device") for question in figures)


@pytest.mark.timeout(SECONDS_MAX + 30)
def test_smoke_size_answers_for_the_federation():
    figures = answers(["federation", "keys", "audit", "threshold"], dict(os.environ))
    for words in (
        "federation of 4: shares replicated, verified and certified",
        "federation of 4: CPU of a member per share",
        "federation of 4, 2 batches of each an epoch: bytes on the wire per share and receiver",
        "federation of 4, 3 batches of each an epoch: bytes on the wire per share and receiver",
        "federation of 4, under that load: from an epoch's last block to its decision",
        "federation of 4, quiet: from an epoch's last block to its decision",
        "key generation by the machines, 3 of 4",
        "one signature by the machines, 3 of 4, all answer",
        "one signature by the machines, 3 of 4, 1 silent",
        "audit of 4,000 shares by the members' own program",
        "audit of 4,000 shares by the independent program, in full",
        "audit of 4,000 shares by the independent program, 1 % of the work drawn",
        "threshold key, 3 of 4: share",
    ):
        assert any(question.startswith(words) for question in figures), (words, list(figures))
