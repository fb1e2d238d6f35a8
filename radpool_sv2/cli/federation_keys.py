"""Says in words how the keys of a federation are."""

from __future__ import annotations

from typing import Any

__all__ = ["keys_in_words"]


def keys_in_words(keys: dict[str, Any]) -> list[str]:
    """Says how the keys of a member are, and what waits for signatures.

    Args:
        keys: Figures of a running member; none without one.
    """
    lines = []
    for name in ("checkpoint", "treasury"):
        key = keys.get(name)
        if key is None:
            continue
        if not key["generated"]:
            lines.append(f"{name} key: {key['failure'] or 'is being generated'}")
            continue
        lines.append(
            f"{name} key {key['public_key']}: {key['threshold']} of {len(key['members'])} sign; "
            f"{key['signatures']} signatures, {key['open_tasks']} wait, {key['unspent_nonces']} "
            "own nonces are ready"
        )
        if not key["has_share"]:
            lines.append("  this member has no share of it: it cannot sign with it")
        for task in key.get("tasks", ()):
            whom = ", ".join(map(str, task["missing"]))
            what = f"for members {whom}" if whom else "for coordinators to gather signers"
            lines.append(f"  epoch {task['epoch']}, {task['message']}: waits {what}")
    return lines
