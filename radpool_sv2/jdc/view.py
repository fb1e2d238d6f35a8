"""Puts into figures and into words how a job declarator client fares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from radpool_sv2.jdc.job import JobState

if TYPE_CHECKING:
    from radpool_sv2.jdc.client import DeclaringClient, Rung
    from radpool_sv2.jdc.job import Job

__all__ = ["figures", "rows"]

SATS: Final = 100_000_000

SAID: Final = {
    JobState.DECLARED: "the pool judges it; what is found meanwhile waits",
    JobState.OFFERED: "judged, the pool has yet to accept it; what is found meanwhile waits",
    JobState.ACCEPTED: "accepted: the pool pays for its shares",
    JobState.REFUSED: "refused by the pool; the next one follows",
}


def figures(client: DeclaringClient) -> dict[str, object]:
    """Returns the figures for programs."""
    in_use, job, front = client.in_use, client.job, client.front
    now_s = trio.current_time()
    return {
        "state": "solo" if in_use is None else "declaring",
        "pool": None if in_use is None else in_use.place.name,
        "height": client.tip_height,
        "miners": front.miners,
        "channels": len(front.channels),
        "hash_rate": round(front.hash_rate(now_s)),
        "hashes": front.work,
        "template": None if job is None else _template(job),
        "solo_jobs": client.solo_jobs,
        "blocks_found": client.blocks.found_count,
        "blocks_accepted": client.blocks.accepted_count,
        "revealed": client.reveals.revealed,
        "pools": [_pool(client, rung) for rung in client.rungs],
        "problems": client.problems(),
    }


def _template(job: Job) -> dict[str, object]:
    template = job.own.template
    return {
        "state": job.state.value,
        "height": template.height,
        "prev_hash": job.prev_hash[::-1].hex(),
        "value_sats": template.value_sats,
        "fees_sats": template.fees_sats,
        "transactions": len(job.own.transactions),
        "exponent": job.coinbase.asked.exponent,
    }


def _pool(client: DeclaringClient, rung: Rung) -> dict[str, object]:
    totals = rung.totals
    under_way = 0 if rung.link is None else rung.link.machine.submissions.unanswered
    return {
        "address": rung.place.name,
        "mode": rung.place.section.mode,
        "state": _state(client, rung),
        "failure": rung.failure,
        "submitted": totals.submitted,
        "accepted": totals.accepted,
        "accepted_sum": totals.accepted_sum,
        "rejected": dict(totals.rejected),
        "unanswered": under_way,
        "lost": totals.lost,
        "given_up": totals.given_up,
        "mismatches": totals.mismatches,
        "jobs_declared": totals.jobs_declared,
        "jobs_accepted": totals.jobs_accepted,
        "jobs_refused": totals.jobs_refused,
        "wallet": None if rung.side is None else rung.side.figures(),
    }


def _state(client: DeclaringClient, rung: Rung) -> str:
    if rung is client.in_use:
        return "in use"
    return "idle" if rung.link is None else "tried"


def rows(client: DeclaringClient) -> list[tuple[str, str]]:
    """Returns the figures for people: a name and a text each, in the order of interest."""
    in_use, job, front = client.in_use, client.job, client.front
    found = [("mining", _whom(client))]
    if job is not None:
        template = job.own.template
        worth = f"{template.value_sats / SATS:.8f} BTC, {template.fees_sats} sats of it fees"
        found.append(
            ("template", f"block {template.height}, {template.tx_count} payments, {worth}")
        )
        if in_use is not None:
            found.append(("job", SAID[job.state]))
    rate = scaled(front.hash_rate(trio.current_time()))
    found.append(("miners", f"{len(front.channels)} on {front.miners} connections, {rate}H/s"))
    for rung in client.rungs:
        found.append((rung.place.name, _account(client, rung)))
        if rung.side is not None and rung is in_use:
            found += rung.side.rows()
    blocks = client.blocks
    found.append(("blocks", f"{blocks.found_count} found, {blocks.accepted_count} on the chain"))
    found += [("trouble", problem) for problem in client.problems()]
    return found


def _whom(client: DeclaringClient) -> str:
    if client.in_use is not None:
        return f"for {client.in_use.place.name}, with templates of your own"
    if not client.rungs:
        return "solo: no pool is named"
    return "solo, until one of the pools works"


def _account(client: DeclaringClient, rung: Rung) -> str:
    totals = rung.totals
    rejected = sum(totals.rejected.values())
    parts = [
        f"{_state(client, rung)}; {totals.accepted} shares accepted",
        f"{rejected} rejected" if rejected else "",
        f"{totals.lost} lost with a connection" if totals.lost else "",
        f"{totals.given_up} given up" if totals.given_up else "",
        f"{totals.jobs_accepted} of {totals.jobs_declared} jobs accepted",
    ]
    return ", ".join(filter(None, parts))


def scaled(number: float) -> str:
    """Writes a number with three digits and the SI prefix of the unit that follows."""
    prefixes = ["", "k", "M", "G", "T", "P", "E", "Z"]
    while number >= 999.5 and len(prefixes) > 1:
        number /= 1000
        prefixes.pop(0)
    digits = 0 if number >= 99.95 or prefixes[0] == "" else 1
    return f"{number:.{digits}f} {prefixes[0]}"
