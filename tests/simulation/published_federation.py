"""Models what has been published or built for federations of pools, for comparison: what it does.

Each model has the rule that matters and nothing else.

- `EchoBroadcast`: a broadcast that echoes whole messages and delivers when every peer has echoed
  the message's id; it does not look at what is in the echoes, and takes a message's word for who
  sent it.
- `settle_by_prefix`: members settle by the shares that they have delivered when the block is found.
- `committee_by_hashrate`: by hashrate in descending order until 60 % of it is in, then on until two
  thirds of all providers are.

Source: pool2win/frost-federation at 4837497, `src/node/echo_broadcast`; Radpool's pages on the
syndicate and its membership.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["EchoBroadcast", "committee_by_hashrate", "settle_by_prefix"]


class EchoBroadcast:
    """Is one member of the published broadcast.

    Args:
        peers: Names of all other members.
    """

    def __init__(self, peers: Iterable[str]) -> None:
        self._peers = set(peers)
        self._contents: dict[int, tuple[str, bytes]] = {}
        self._echoes: dict[int, set[str]] = {}
        self.delivered: dict[str, bytes] = {}

    def receive(self, message_id: int, sender_id: str, content: bytes) -> None:
        """Takes in a broadcast message; who sent it is a field of the message."""
        self._contents[message_id] = sender_id, content
        self._deliver(message_id)

    def echo(self, message_id: int, peer_id: str) -> None:
        """Takes in an echo; it has the content too, which nobody compares."""
        self._echoes.setdefault(message_id, set()).add(peer_id)
        self._deliver(message_id)

    def _deliver(self, message_id: int) -> None:
        if message_id in self._contents:
            sender_id, content = self._contents[message_id]
            if self._echoes.get(message_id, set()) >= self._peers - {sender_id}:
                self.delivered[sender_id] = content


def settle_by_prefix(delivered: Iterable[Sequence[bytes]]) -> bytes:
    """Settles by all that is delivered of each stream, in the order of streams."""
    hasher = sha256()
    for stream in delivered:
        for payload in stream:
            hasher.update(sha256(payload).digest())
    return hasher.digest()


def committee_by_hashrate(hashrates: Mapping[str, int]) -> list[str]:
    """Chooses the members by the published rule; hashrates are in any unit."""
    ranked = sorted(hashrates, key=lambda name: (-hashrates[name], name))
    total, chosen, together = sum(hashrates.values()), [], 0
    for name in ranked:
        if 100 * together >= 60 * total and 3 * len(chosen) >= 2 * len(ranked):
            break
        chosen.append(name)
        together += hashrates[name]
    return chosen
