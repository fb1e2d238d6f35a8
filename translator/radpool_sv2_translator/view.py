"""Puts into figures and into words how a translator fares."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from radpool_sv2.cli.miner import scale
from radpool_sv2.units import target_of
from radpool_sv2_translator.rate import together

if TYPE_CHECKING:
    from radpool_sv2._native import translator as native
    from radpool_sv2._native.translator import Client
    from radpool_sv2_translator.rate import Estimate
    from radpool_sv2_translator.role import TranslatorRole
    from radpool_sv2_translator.workers import Worker, Workers

__all__ = [
    "WorkerFigures",
    "busiest",
    "by_worker",
    "client_figures",
    "difficulty",
    "figures",
    "printable",
    "rejected_by_reason",
    "rows",
    "wallet_figures",
]

GONE_REJECTED: Final = "gone_shares_rejected_as_"
"""How counters of refused shares of devices that are gone begin."""


def difficulty(exponent: int | None) -> float | None:
    """Returns the difficulty of a step, as devices know it; None for none."""
    return None if exponent is None else 2.0 ** (exponent - 32)


def printable(text: str) -> str:
    """Returns a text in which nothing moves letters about: names are whatever devices send."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def figures(translator: TranslatorRole) -> dict[str, object]:
    """Returns the figures for programs."""
    pools = translator.pools
    in_use = None if pools is None else pools.in_use
    clients, metrics = translator.clients(), translator.metrics()
    workers = [worker for client in clients for worker in client.workers]
    rejected = Counter[str]()
    for worker in workers:
        rejected.update(worker.rejected)
    wallet = translator.wallet()
    told: dict[str, object] = {
        "state": "waiting" if in_use is None else "mining",
        "pool": None if in_use is None else in_use.name,
        "devices": len(clients),
        "hash_rate": round(hash_rate(translator)),
        "accepted": sum(worker.accepted for worker in workers)
        + metrics.get("gone_shares_accepted_total", 0),
        "rejected": dict(rejected),
        "forwarded": metrics.get("shares_forwarded_total", 0),
        "unanswered": metrics.get("shares_unanswered", 0),
        "pool_accepted": metrics.get("pool_shares_accepted_total", 0),
        "pool_rejected": metrics.get("pool_shares_rejected_total", 0),
        "pool_refusals": translator.refusals(),
        "pool_work": metrics.get("pool_work_total", 0),
        "pool_channels": metrics.get("upstream_channels", 0),
        "pools": [
            {
                "address": place.name,
                "state": _state(place.works, connects=place.upstream is not None),
                "failure": place.failure,
            }
            for place in ([] if pools is None else pools.places)
        ],
        "tls": _tls(translator),
    }
    if translator.workers is not None:
        told["workers"] = _workers(translator.workers)
    return told if wallet is None else told | {wallet[0]: wallet[1]}


def _workers(workers: Workers) -> dict[str, int]:
    """Returns how wallets of workers fare, in sums."""
    figures = [side.figures() for _, _, side, _ in workers.services()]
    return {
        "wallets": sum(each.wallet is not None for each in workers),
        "mining": sum(each.works for each in workers),
        "common": sum(each.is_common for each in workers),
        "refused": sum(bool(each.refused) for each in workers),
        "tokens": sum(tokens for each in figures if isinstance(tokens := each.get("tokens"), int)),
    }


def _tls(translator: TranslatorRole) -> dict[str, object] | None:
    keeper = translator.keeper
    if keeper is None:
        return None
    certificate = keeper.identity.certificate
    return {
        "listen": None if translator.tls is None else str(translator.tls),
        "certificate_sha256": certificate.sha256.hex(),
        "certificate_ends_unix_s": certificate.not_after_unix_s,
        "problem": keeper.problem,
    }


def _state(works: bool, *, connects: bool) -> str:  # noqa: FBT001 - named by its only caller
    if works:
        return "works"
    return "tried" if connects else "idle"


def hash_rate(translator: TranslatorRole) -> float:
    """Returns the hash rate of all devices."""
    estimates = (
        translator.estimate(client.device, worker.name)
        for client in translator.clients()
        for worker in client.workers
    )
    return sum(each.rate for each in estimates if each is not None)


def client_figures(translator: TranslatorRole, client: Client) -> dict[str, object]:
    """Returns what is known of a device; the first fields are those that SRI's translator tells."""
    found = (translator.estimate(client.device, each.name) for each in client.workers)
    rate = together(each for each in found if each is not None)
    name = client.workers[0].name if client.workers else ""
    return {
        "client_id": client.device,
        "authorized_worker_name": name,
        "user_identity": name,
        "target_hex": None if client.exponent is None else f"{target_of(client.exponent):064x}",
        "hashrate": None if rate is None else rate.rate,
        "version_rolling_mask": f"{client.version_mask:08x}",
        "address": client.address,
        "connected_since_unix_ms": client.since_unix_ms,
        "user_agent": client.agent,
        "difficulty": difficulty(client.exponent),
        "pool_difficulty": difficulty(client.pool_exponent),
        "jobs": client.jobs,
        "pool_shares_accepted": client.pool_accepted,
        "pool_work": client.pool_work,
        "pool_shares_rejected": client.pool_rejected,
        "requests_refused": client.refused,
        "workers": [_worker(translator, client, worker) for worker in client.workers],
    }


def _worker(translator: TranslatorRole, client: Client, worker: native.Worker) -> dict[str, object]:
    estimate = translator.estimate(client.device, worker.name)
    return {
        "name": worker.name,
        "shares_accepted": worker.accepted,
        "shares_forwarded": worker.forwarded,
        "shares_rejected": worker.rejected,
        "work": worker.work,
        "last_share_unix_ms": worker.last_share_unix_ms or None,
        "hash_rate": None if estimate is None else round(estimate.rate),
        "hash_rate_low": None if estimate is None else round(estimate.low),
        "hash_rate_high": None if estimate is None else round(estimate.high),
    }


def rejected_by_reason(translator: TranslatorRole) -> dict[str, int]:
    """Returns how many shares were refused here, by the reason, since the start."""
    reasons = Counter[str]()
    for name, count in translator.metrics().items():
        if name.startswith(GONE_REJECTED):
            reason = name.removeprefix(GONE_REJECTED).removesuffix("_total")
            reasons[reason.replace("_", "-")] += count
    for client in translator.clients():
        for worker in client.workers:
            reasons.update(worker.rejected)
    return {reason: count for reason, count in reasons.items() if count}


@dataclass(slots=True)
class WorkerFigures:
    """Is what a worker has brought, over all of its devices that are connected."""

    name: str
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    rate: Estimate | None = None


def by_worker(translator: TranslatorRole, count_max: int) -> list[WorkerFigures]:
    """Returns the figures of workers, those with the most shares first."""
    workers: dict[str, WorkerFigures] = {}
    meters: dict[str, list[Estimate]] = {}
    for client in translator.clients():
        for each in client.workers:
            told = workers.setdefault(each.name, WorkerFigures(each.name))
            told.accepted += each.accepted
            told.rejected.update(each.rejected)
            estimate = translator.estimate(client.device, each.name)
            if estimate is not None:
                meters.setdefault(each.name, []).append(estimate)
    most = heapq.nlargest(count_max, workers.values(), key=lambda each: each.accepted)
    for told in most:
        told.rate = together(meters.get(told.name, []))
    return most


def wallet_figures(worker: Worker) -> dict[str, object]:
    """Returns what is known of a worker's wallet."""
    state = "mining" if worker.works else "waiting"
    if worker.is_common:
        state = "common"
    return {
        "worker": worker.user,
        "state": "refused" if worker.refused else state,
        "problem": worker.refused or worker.failure or None,
        "devices": len(worker.devices),
        "number": None if worker.wallet is None else worker.wallet.number,
        "directory": None if worker.wallet is None else str(worker.wallet.directory),
        "pools": {name: each.side.figures() for name, each in worker.services.items()},
    }


def busiest(translator: TranslatorRole, count: int) -> tuple[list[tuple[str, ...]], int]:
    """Returns the devices that hash most, for people, and how many more there are.

    Args:
        translator: Whose.
        count: How many at most.
    """

    def rate(client: Client) -> float:
        found = (translator.estimate(client.device, each.name) for each in client.workers)
        return sum(each.rate for each in found if each is not None)

    clients = [(rate(client), client) for client in translator.clients()]
    first = heapq.nlargest(count, clients, key=lambda pair: (pair[0], -pair[1].device))
    shown: list[tuple[str, ...]] = [
        (
            printable(client.workers[0].name) if client.workers else client.address,
            f"{scale(round(hashes))}H/s",
            str(sum(worker.accepted for worker in client.workers)),
            str(sum(sum(worker.rejected.values()) for worker in client.workers)),
            "none yet" if (asked := difficulty(client.exponent)) is None else f"{asked:g}",
            client.agent,
        )
        for hashes, client in first
    ]
    return shown, len(clients) - len(shown)


def rows(translator: TranslatorRole) -> list[tuple[str, str]]:
    """Says what people want to know, in the order in which it is wanted."""
    told = figures(translator)
    rejected = told["rejected"]
    assert isinstance(rejected, dict)
    at_pool = (
        f"{told['pool_accepted']} accepted, {told['pool_rejected']} refused, "
        f"{told['unanswered']} under way"
    )
    refused = ", ".join(f"{count} {code}" for code, count in sorted(rejected.items()))
    return [
        ("pool", str(told["pool"] or "none works")),
        ("devices", f"{told['devices']}, {scale(round(hash_rate(translator)))}H/s"),
        ("shares", f"{told['accepted']} accepted, {refused or 'none refused'}"),
        ("at the pool", at_pool),
        *translator.wallet_rows(),
        *_worker_rows(translator),
    ]


def _worker_rows(translator: TranslatorRole) -> list[tuple[str, str]]:
    if translator.workers is None:
        return []
    told = _workers(translator.workers)
    text = f"{told['wallets']} wallets, {told['tokens']} tokens"
    if told["common"]:
        text += f"; {told['common']} mine for the common one"
    if told["refused"]:
        text += f"; {told['refused']} refused, see the log"
    return [("workers", text)]
