"""Keeps the transactions that declared templates name, and judges templates by their structure.

What needs no look-up of spent outputs is decided here, in Bitcoin Core's order and words; the rest
is the full verdict of a node (`radpool_sv2.declarator.verdict`). Hashes are 32 bytes in internal
byte order. Whatever takes longer than 20 us runs without the GIL; parsing and hashing of many bytes
spreads over the processors. Objects may be used from several threads.
"""

from collections.abc import Sequence
from typing import final

TRANSACTIONS_MAX: int
"""The most transactions besides the coinbase that a list may name: 16,666."""

@final
class TransactionCache:
    """Remembers transactions by wtxid within a budget of bytes, for all declarers together.

    What a living `Selection` or `Declaration` holds is never dropped and does not count against
    the budget; of the rest, what was not asked for the longest goes first.
    """

    def __new__(cls, bytes_max: int) -> TransactionCache:
        """Makes an empty one that keeps at most `bytes_max` bytes nobody holds."""

    def add(self, raws: Sequence[bytes]) -> list[bytes]:
        """Parses transactions with their witnesses and keeps them.

        Returns:
            Their wtxids, in order.

        Raises:
            RemoteProtocolError: If one is not exactly one transaction; nothing is kept then.
        """

    def missing(self, wtxids: bytes) -> list[int]:
        """Returns the positions of wtxids (32 bytes each, joined) that are not here, ascending.

        Raises:
            LocalProtocolError: If the length is not a multiple of 32.
        """

    @property
    def count(self) -> int:
        """How many transactions are here."""

    @property
    def bytes(self) -> int:
        """How many bytes they have, with what is held elsewhere."""

@final
class Selection:
    """Gathers the transactions of one declaration and holds them, so that none goes meanwhile."""

    def __new__(cls, cache: TransactionCache, wtxids: bytes) -> Selection:
        """Looks a list of wtxids up: 32 bytes each, joined, in block order, without the coinbase.

        Raises:
            RemoteProtocolError: If the length is not a multiple of 32, or there are more than
                `TRANSACTIONS_MAX`; the declarer is at fault.
        """

    @property
    def wtxids(self) -> bytes:
        """The list as given."""

    @property
    def missing(self) -> list[int]:
        """The positions still unknown, ascending; of a repeated wtxid the first alone."""

    def offer(self, raws: Sequence[bytes]) -> None:
        """Takes what is missing out of transactions in any order, such as a node's; skips the rest.

        Raises:
            RemoteProtocolError: If one is not exactly one transaction; nothing is taken then.
        """

    def supply(self, raws: Sequence[bytes]) -> None:
        """Takes the answer to a request for `missing`: those transactions and in that order.

        Raises:
            RemoteProtocolError: If there are more or fewer, or one is not the one that was asked
                for; nothing is taken then, and the declarer is at fault.
        """

@final
class Declaration:
    """Is a whole template: what its header builds on, its coinbase around the extranonce, its body.

    It never changes, and holds its transactions as long as it lives.
    """

    @staticmethod
    def build(
        selection: Selection,
        *,
        version: int,
        prev_hash: bytes,
        nbits: int,
        height: int,
        coinbase_prefix: bytes,
        coinbase_suffix: bytes,
        extranonce_len: int | None = None,
        median_time: int | None = None,
    ) -> Declaration:
        """Puts a template together, and judges its structure.

        Args:
            selection: Its transactions; none may be missing.
            version: The header's version before rolling.
            prev_hash: The tip it builds on.
            nbits: The header's compact target.
            height: The block's height.
            coinbase_prefix: The coinbase transaction before the extranonce, as declared: with the
                mark and flag of BIP 141, or without when it has no witness.
            coinbase_suffix: The rest of it behind the extranonce, with its witness.
            extranonce_len: The extranonce's bytes; None when it fills the script to its end, which
                is how declarers lay it out.
            median_time: The median time past of the tip, s; None leaves locktimes in seconds to
                the full verdict.

        Raises:
            RemoteProtocolError: If prefix, extranonce and suffix are not one transaction with one
                input whose script has the extranonce in it (`error_code` is then
                `invalid-coinbase-tx`); the declarer is at fault.
            LocalProtocolError: If a transaction is missing or a hash has not 32 bytes.
        """

    def structural(self) -> tuple[str, str] | None:
        """Returns what is wrong as Core's word and an explanation, or None when nothing is found.

        Checked in Core's order: mutated merkle tree, length, coinbase first and only, each
        transaction's form, legacy signature operations, locktimes, the height in the coinbase,
        witness commitment, weight, and spends inside the block (order, conflicts, outputs that do
        not exist). Not seen here: other coins, fees, scripts, the header.
        """

    @property
    def digest(self) -> bytes:
        """Names the template: a hash over all that `build` was given; the same for the same."""

    @property
    def version(self) -> int:
        """The header's version before rolling."""

    @property
    def prev_hash(self) -> bytes:
        """The tip it builds on."""

    @property
    def nbits(self) -> int:
        """The header's compact target."""

    @property
    def height(self) -> int:
        """The block's height."""

    @property
    def wtxids(self) -> bytes:
        """The transactions in block order without the coinbase, 32 bytes each."""

    @property
    def tx_count(self) -> int:
        """How many transactions it has besides the coinbase."""

    @property
    def weight(self) -> int:
        """The block's weight with its coinbase, in weight units."""

    @property
    def size(self) -> int:
        """The block's bytes, with the witnesses."""

    @property
    def merkle_path(self) -> list[bytes]:
        """The siblings of the coinbase, from the leaves up."""

    @property
    def extranonce_len(self) -> int:
        """The bytes of the extranonce."""

    @property
    def coinbase_tx_version(self) -> int:
        """The coinbase transaction's version."""

    @property
    def script_prefix(self) -> bytes:
        """The coinbase's script before the extranonce."""

    @property
    def script_suffix(self) -> bytes:
        """The coinbase's script behind the extranonce; empty as declarers lay it out."""

    @property
    def coinbase_sequence(self) -> int:
        """The sequence of the coinbase's input."""

    @property
    def coinbase_locktime(self) -> int:
        """The coinbase transaction's locktime."""

    @property
    def outputs(self) -> list[tuple[int, bytes]]:
        """The coinbase's outputs: `(sats, script)`."""

    @property
    def outputs_raw(self) -> bytes:
        """The coinbase's outputs as serialised, without their count."""

    def coinbase(self, extranonce: bytes, *, witness: bool = True) -> bytes:
        """Returns the coinbase transaction with an extranonce.

        Raises:
            LocalProtocolError: If the extranonce has another length.
        """

    def merkle_root(self, extranonce: bytes) -> bytes:
        """Returns the header's merkle root with an extranonce.

        Raises:
            LocalProtocolError: If the extranonce has another length.
        """

    def block(self, extranonce: bytes, *, version: int, ntime: int, nonce: int) -> bytes:
        """Returns the whole block that a solution makes of it, such as that of a PushSolution.

        Raises:
            LocalProtocolError: If the extranonce has another length.
        """

    def proposal(self, ntime: int) -> bytes:
        """Returns the block with an extranonce and nonce of zeros, for a verdict without work."""

    def block_of(self, header: bytes, coinbase_tx: bytes) -> bytes:
        """Returns the block of a header and the coinbase that was mined, such as an engine's.

        The coinbase may come with or without a witness; the block has the declared one.

        Raises:
            LocalProtocolError: If the header has not 80 bytes, or the coinbase is not this
                template's with some extranonce, or the header does not commit to the two.
        """

def parse_transaction_ids(raw: bytes) -> tuple[bytes, bytes]:
    """Returns txid and wtxid of exactly one transaction.

    Raises:
        RemoteProtocolError: If the bytes are not exactly one transaction.
    """
