"""Puts into figures and into words how a translator fares."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from radpool_sv2.cli.miner import scale

if TYPE_CHECKING:
    from radpool_sv2._native.translator import Client, Worker
    from radpool_sv2_translator.role import TranslatorRole

__all__ = ["client_figures", "difficulty", "figures", "rows"]


def difficulty(exponent: int | None) -> float | None:
    """Returns the difficulty of a step, as devices know it; None for none."""
    return None if exponent is None else 2.0 ** (exponent - 32)


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
    return told if wallet is None else told | {wallet[0]: wallet[1]}


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
    """Returns what is known of a device."""
    return {
        "client_id": client.device,
        "address": client.address,
        "connected_since_unix_ms": client.since_unix_ms,
        "user_agent": client.agent,
        "version_rolling_mask": f"{client.version_mask:08x}",
        "difficulty": difficulty(client.exponent),
        "pool_difficulty": difficulty(client.pool_exponent),
        "jobs": client.jobs,
        "pool_shares_accepted": client.pool_accepted,
        "pool_work": client.pool_work,
        "pool_shares_rejected": client.pool_rejected,
        "requests_refused": client.refused,
        "workers": [_worker(translator, client, worker) for worker in client.workers],
    }


def _worker(translator: TranslatorRole, client: Client, worker: Worker) -> dict[str, object]:
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
    ]
