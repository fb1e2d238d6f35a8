"""Remembers which connection mines under which terms, to know whom a keyset concerns.

A channel is granted before it is open; in between its terms wait under the engine's number of the
request. A client may be gone before it learns of its channel, so the waiting terms are bounded and
the oldest make room.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radpool_sv2.ecash.policy import Policy

__all__ = ["Subscriptions", "Terms"]

GRANTS_PENDING_MAX: Final = 65_536
"""Each connection of a full pool may have some; an entry takes about 300 bytes."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Is what a channel was granted.

    Attributes:
        policy: The epoch policy.
        lazy: Whether its receipts bring no signatures.
        keyset_id: The keyset that was announced with the grant.
        claim_key: Whose residue its shares join; empty when the client gave none.
    """

    policy: Policy
    lazy: bool
    keyset_id: bytes
    claim_key: bytes = b""


@dataclass(slots=True)
class Subscriptions:
    """Is the channels of all connections, as far as the extension opened them.

    Attributes:
        lazy: Connection and channel of all that are lazy.
    """

    lazy: set[tuple[int, int]] = field(default_factory=set)
    _granted: OrderedDict[tuple[int, int], Terms] = field(default_factory=OrderedDict)
    _channels: dict[int, dict[int, Terms]] = field(default_factory=dict)

    def grant(self, connection: int, request: int, terms: Terms) -> None:
        """Keeps the terms of a channel that is about to open."""
        self._granted[connection, request] = terms
        if len(self._granted) > GRANTS_PENDING_MAX:
            self._granted.popitem(last=False)

    def open(self, connection: int, request: int, channel: int) -> Terms | None:
        """Binds the terms to the channel; returns None when they had to make room."""
        terms = self._granted.pop((connection, request), None)
        if terms is not None:
            self._channels.setdefault(connection, {})[channel] = terms
            if terms.lazy:
                self.lazy.add((connection, channel))
        return terms

    def close(self, connection: int, channel: int) -> None:
        """Forgets a channel."""
        channels = self._channels.get(connection)
        if channels is not None:
            channels.pop(channel, None)
        self.lazy.discard((connection, channel))

    def disconnect(self, connection: int) -> list[int]:
        """Forgets a connection; returns its channels."""
        channels = list(self._channels.pop(connection, {}))
        self.lazy.difference_update((connection, channel) for channel in channels)
        return channels

    def policies(self, connection: int) -> list[Policy]:
        """Returns the policies of a connection's channels, each once."""
        channels = self._channels.get(connection, {})
        return list(dict.fromkeys(terms.policy for terms in channels.values()))

    def of_policy(self, policy: Policy) -> Iterator[int]:
        """Yields the connections that have a channel of a policy, as of now."""
        for connection, channels in list(self._channels.items()):
            if any(terms.policy == policy for terms in channels.values()):
                yield connection
