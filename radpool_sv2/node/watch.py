"""Watches one bitcoin node: whether it answers, follows the right chain, and keeps up.

`NodeWatch.run` examines the node again and again. Whoever meets a failure in between says so by
`failed`, and the node is not usable until it has been examined with success; who got from it what
he wanted says so by `served`. A node that is healthy and yet fails again and again is left alone
for longer each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
import trio

from radpool_sv2.errors import NodeError
from radpool_sv2.node.health import examine_node
from radpool_sv2.node.mempool import MempoolMirror
from radpool_sv2.node.rpc import NodeRpc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from radpool_sv2.network import Network
    from radpool_sv2.node.health import NodeHealth
    from radpool_sv2.node.rpc import NodeSettings

__all__ = ["NodeWatch", "best_node"]

log = structlog.get_logger(__name__)

EXAMINE_S: Final = 10.0
RETRY_S_MIN: Final = 0.25
RETRY_S_MAX: Final = 5.0
"""How often a node is examined: some calls of a millisecond. One that is away is looked for more
often, since a restart takes a second; a refused connection costs next to nothing."""

LAG_S: Final = 25.0
"""How long a node may have less work than another: longer than two examinations, and than a block
takes from node to node."""


class NodeWatch:
    """Is a node with what is known of it.

    Attributes:
        rpc: Its RPC interface.
        mempool: What it is known to have waiting.
        health: What the last examination found; None before the first.
        trouble: Why it does not answer; empty while it does.
        notes: Problems that show in its templates.
    """

    def __init__(
        self, settings: NodeSettings, network: Network, changed: Callable[[], None]
    ) -> None:
        """Takes the node and whom to tell when it may have become usable or unusable."""
        self.settings = settings
        self.rpc = NodeRpc(settings)
        self.mempool = MempoolMirror(self.rpc)
        self.health: NodeHealth | None = None
        self.trouble = f"the node {settings.url} has not answered yet"
        self.notes: tuple[str, ...] = ()
        self._network = network
        self._changed = changed
        self._lags_since_s: float | None = None
        self._look = trio.Event()
        self._pause_s = RETRY_S_MIN
        self._said = ""

    @property
    def name(self) -> str:
        """The node's address."""
        return self.settings.url

    @property
    def is_refused(self) -> bool:
        """Whether it follows another chain than it should."""
        return self.health is not None and bool(self.health.refusal)

    @property
    def is_usable(self) -> bool:
        """Whether templates can be had from it."""
        return not self.trouble and self.health is not None and self.health.is_usable

    @property
    def is_lagging(self) -> bool:
        """Whether another node has known of more work for a while."""
        since = self._lags_since_s
        return since is not None and trio.current_time() - since > LAG_S

    def problems(self) -> list[str]:
        """Tells what is wrong with it, in plain words."""
        if self.trouble or self.health is None:
            return [self.trouble]
        found = [self.health.refusal, self.health.absence, *self.health.problems, *self.notes]
        if self.is_lagging:
            found.append(f"the node {self.name} does not keep up with the others")
        return [each for each in found if each]

    def failed(self, error: NodeError) -> None:
        """Takes it out of use until it is examined again, after a pause."""
        self.trouble = str(error)
        self._pause_s = min(2 * self._pause_s, RETRY_S_MAX)
        self._say_wrong()
        self._look.set()
        self._changed()

    def served(self) -> None:
        """Takes note that it gave what it is there for."""
        self._pause_s = RETRY_S_MIN
        if self._said and self.health is not None:
            self._said = ""
            log.info("a node can be used again", node=self.name, height=self.health.height)

    def compare(self, chain_work: int) -> None:
        """Takes the most work that any usable node knows of."""
        if self.health is None or self.health.chain_work >= chain_work:
            self._lags_since_s = None
        elif self._lags_since_s is None:
            self._lags_since_s = trio.current_time()

    async def run(self) -> None:
        """Examines the node for ever."""
        wait_s = RETRY_S_MIN
        while True:
            self._look = trio.Event()
            try:
                self.health = await examine_node(self.rpc, self._network)
                self.trouble = ""
            except NodeError as error:
                self.trouble = str(error)
            self._say_wrong()
            self._changed()
            wait_s = EXAMINE_S if self.is_usable else min(2 * wait_s, RETRY_S_MAX)
            with trio.move_on_after(wait_s):
                await self._look.wait()
                await trio.sleep(self._pause_s)
            if self.is_usable:
                wait_s = RETRY_S_MIN

    def _say_wrong(self) -> None:
        """Logs what keeps the node from being used, once."""
        wrong = self.trouble
        if not wrong and self.health is not None:
            wrong = self.health.refusal or self.health.absence
        if wrong and wrong != self._said:
            self._said = wrong
            log.error("a node cannot be used", node=self.name, reason=wrong)


def best_node(nodes: Sequence[NodeWatch], current: NodeWatch | None = None) -> NodeWatch | None:
    """Returns the first node in order that is usable and keeps up; None when there is none.

    Args:
        nodes: The most wanted first.
        current: The one in use. It stays so until it lags; another takes its place only when it
            knows of as much work as any, so that a node which catches up after a restart does not
            lead back to an older tip.
    """
    usable = [each for each in nodes if each.is_usable and each.health is not None]
    most_work = max((_work(each) for each in usable), default=0)
    for each in nodes:
        each.compare(most_work)
    for each in usable:
        if _work(each) == most_work or (each is current and not each.is_lagging):
            return each
    return None


def _work(node: NodeWatch) -> int:
    return 0 if node.health is None else node.health.chain_work
