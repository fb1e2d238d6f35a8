"""Holds a connection to Bitcoin Core's unix socket, which runs on a thread of its own.

Questions are numbered by the caller and answered under the same number, in any order.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import final

@final
class CoreTemplate:
    """Is a block template of the node. Hashes are in internal byte order."""

    @property
    def handle(self) -> int:
        """The number by which the connection knows it."""

    @property
    def version(self) -> int:
        """The header's version."""

    @property
    def prev_hash(self) -> bytes:
        """The block it builds on."""

    @property
    def time(self) -> int:
        """The header's time, s."""

    @property
    def nbits(self) -> int:
        """The header's compact target."""

    @property
    def target(self) -> bytes:
        """What `nbits` means, 32 bytes little-endian."""

    @property
    def height(self) -> int:
        """The height of the block."""

    @property
    def coinbase_tx_version(self) -> int:
        """The coinbase transaction's version."""

    @property
    def coinbase_prefix(self) -> bytes:
        """How the coinbase's script begins: the push of the height (BIP 34)."""

    @property
    def coinbase_sequence(self) -> int:
        """The sequence of the coinbase's input."""

    @property
    def coinbase_locktime(self) -> int:
        """The coinbase transaction's locktime."""

    @property
    def value_sats(self) -> int:
        """What the coinbase may pay: subsidy and fees."""

    @property
    def outputs(self) -> list[bytes]:
        """Serialised outputs that must be there: the witness commitment."""

    @property
    def merkle_path(self) -> list[bytes]:
        """The siblings of the coinbase, from the leaves up."""

    @property
    def fees_sats(self) -> list[int]:
        """The fee of each transaction."""

    @property
    def transactions(self) -> list[bytes]:
        """The transactions without the coinbase, with witnesses."""

    @property
    def transactions_weight(self) -> int:
        """What these weigh together."""

@final
class Capabilities:
    """Is what the node can do, which depends on its version. It is the answer to connecting."""

    @property
    def is_test_chain(self) -> bool:
        """Whether its chain is one for tests."""

    @property
    def finds_transactions(self) -> bool:
        """Whether it finds transactions by wtxid and takes whole blocks."""

    @property
    def answers_rpc(self) -> bool:
        """Whether it answers JSON-RPC on the same socket."""

@final
class Verdict:
    """Is what the node says of a solution or a block."""

    @property
    def good(self) -> bool:
        """Whether it is taken."""

    @property
    def reason(self) -> str:
        """Bitcoin Core's word for what is wrong; empty when nothing is, or it does not tell."""

    @property
    def detail(self) -> str:
        """The node's explanation."""

@final
class Failure:
    """Is what came instead of an answer."""

    @property
    def kind(self) -> str:
        """One word for it, by which a program decides.

        It is one of unreachable, foreign, disconnected, late, refused, unsupported, nonsense,
        no-template and busy.
        """

    @property
    def text(self) -> str:
        """What happened and what to do about it."""

@final
class CoreNode:
    """Is one connection. Question 0 is asked by making it: its answer tells how connecting went.

    When the connection breaks, every question is answered by a failure: make a new one then.
    """

    def __new__(
        cls, path: str | Path, *, trusted_uids: Sequence[int], connect_deadline_ms: int
    ) -> CoreNode:
        """Starts to connect.

        Args:
            path: The node's unix socket.
            trusted_uids: Users that may run the process that listens there.
            connect_deadline_ms: How long connecting may take.
        """

    def event_fd(self) -> int:
        """Returns a descriptor that is readable while answers wait."""

    def create_template(
        self,
        token: int,
        *,
        use_mempool: bool,
        reserved_weight: int,
        coinbase_sigops: int,
        cooldown: bool,
        deadline_ms: int,
    ) -> None:
        """Asks for a template: a `CoreTemplate`, or None when the wait was interrupted.

        Args:
            token: The question's number, not in use.
            use_mempool: Whether it has transactions.
            reserved_weight: Weight kept free for header, count and coinbase.
            coinbase_sigops: Signature operations kept free for the coinbase's outputs.
            cooldown: Whether the node may wait until it has caught up with the network.
            deadline_ms: After this the answer is a failure, here and in all other questions.

        Raises:
            LocalProtocolError: The question cannot be asked; here and in all other questions.
        """

    def next_template(
        self,
        token: int,
        template: int,
        *,
        timeout_ms: int,
        fee_rise_sats: int | None,
        deadline_ms: int,
    ) -> None:
        """Waits for a template on another tip, or with more fees; None when the time is up.

        Args:
            token: The question's number.
            template: The handle of the template to compare with.
            timeout_ms: How long the node waits.
            fee_rise_sats: By how much fees must rise; None waits for another tip alone.
            deadline_ms: Longer than `timeout_ms`.
        """

    def submit_solution(
        self,
        token: int,
        template: int,
        *,
        version: int,
        ntime: int,
        nonce: int,
        coinbase_tx: bytes,
        deadline_ms: int,
    ) -> None:
        """Gives in a header and a whole coinbase that solve a template: a `Verdict`."""

    def check_block(self, token: int, block: bytes, *, deadline_ms: int) -> None:
        """Asks for a verdict on a whole block that need not have proof of work: a `Verdict`."""

    def submit_block(self, token: int, block: bytes, *, deadline_ms: int) -> None:
        """Gives in a whole block: a `Verdict`."""

    def find_transactions(self, token: int, wtxids: Sequence[bytes], *, deadline_ms: int) -> None:
        """Asks for transactions of the mempool: one entry each, empty when it has it not."""

    def rpc(self, token: int, json: str, *, deadline_ms: int) -> None:
        """Asks by JSON-RPC: the answer's text."""

    def tip(self, token: int, *, deadline_ms: int) -> None:
        """Asks for the tip: height and hash, or None when the node has none yet."""

    def is_syncing(self, token: int, *, deadline_ms: int) -> None:
        """Asks whether the node still downloads old blocks."""

    def interrupt_wait(self, template: int) -> None:
        """Lets a wait for the next template after this one end now."""

    def forget(self, template: int) -> None:
        """Lets the node forget a template."""

    def take(
        self,
    ) -> list[
        tuple[
            int,
            Capabilities
            | CoreTemplate
            | Verdict
            | Failure
            | list[bytes]
            | tuple[int, bytes]
            | str
            | bool
            | None,
        ]
    ]:
        """Takes the answers that have come, with their numbers."""

    def close(self) -> None:
        """Leaves the node; may take 200 ms. Nothing can be asked afterwards."""
