"""Uses an embedded chain that another process of this machine runs.

The chain belongs to that process, which keeps it alive; here it is only waited for while it is
away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
import trio

from radpool_sv2.chain.client import ChainUnavailableError, open_client
from radpool_sv2.chain.link import PAUSE_MIN_S, ChainLink
from radpool_sv2.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["AttachedChain"]

PAUSE_MAX_S: Final = 2.0
SOUND_AFTER_S: Final = 30.0
"""A chain that has answered this long was sound: its absence is a new story."""

_log = structlog.get_logger(__name__)


class AttachedChain(ChainLink):
    """Is somebody else's embedded chain.

    Args:
        directory: The directory of the chain; the process that runs it keeps a socket there.
        ping_interval_s: How often the chain is asked whether it lives.
        ping_deadline_s: How long it may take to answer.
    """

    def __init__(
        self, directory: Path, *, ping_interval_s: float = 1.0, ping_deadline_s: float = 5.0
    ) -> None:
        super().__init__(directory, ping_interval_s, ping_deadline_s)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Stays connected until cancelled; has started once the chain serves."""
        self._has_served, told, pause_s = False, "", PAUSE_MIN_S
        while True:
            began_s = trio.current_time()
            try:
                async with open_client(self.socket_path, self._take_template) as client:
                    await self._watch(client, task_status)
            except (ChainUnavailableError, StoreError) as error:
                if str(error) != told:
                    _log.warning("the embedded chain is away", reason=str(error))
                told = str(error)
            finally:
                self._set_client(None)
            sound = trio.current_time() - began_s > SOUND_AFTER_S
            pause_s = PAUSE_MIN_S if sound else min(2 * pause_s, PAUSE_MAX_S)
            await trio.sleep(pause_s)
