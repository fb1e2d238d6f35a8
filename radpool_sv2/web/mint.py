"""What the HTTP API may ask of a running mint."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from radpool_sv2.ecash.cash_out import CashedOut, Residue
from radpool_sv2.ecash.keyset import KeysetView
from radpool_sv2.ecash.policy import Policy
from radpool_sv2.ecash.statement import Inclusion, SignedStatement
from radpool_sv2.ecash.token import Fetched, Output, Proof, Redeemed, Restored

__all__ = ["MintView", "Terms"]


class Terms(Protocol):
    """Is what everybody may know of a mint's configuration."""

    @property
    def coinbase_maturity(self) -> int:
        """From how many confirmations of its block on money is issued against."""


class MintView(Protocol):
    """A running mint, seen from outside.

    What it refuses it says by `RefusedError`, with an error code of the wire protocol; `StoreError`
    means later.
    """

    @property
    def public_key(self) -> bytes:
        """The mint's identity, 33 bytes."""

    @property
    def z0(self) -> int:
        """The exponent of one unit of work."""

    @property
    def sat_keyset(self) -> KeysetView:
        """The keyset of sat tokens."""

    @property
    def sat_keys(self) -> Sequence[tuple[int, bytes]]:
        """Amount and public key of each kind of sat token, ascending."""

    @property
    def policies(self) -> Sequence[Policy]:
        """What tokens may be paid by, the most wanted first."""

    @property
    def confirmations(self) -> int:
        """From how many on a block's price is final."""

    @property
    def settings(self) -> Terms:
        """Its configuration."""

    @property
    def tip_height(self) -> int:
        """The height of the chain as the mint knows it."""

    async def find_keyset(self, keyset_id: bytes) -> KeysetView | None:
        """Returns a keyset; None when there is none of that id."""

    async def keysets(self, offset: int, limit: int) -> tuple[int, Sequence[KeysetView]]:
        """Returns how many work keysets there are, and some of them, the newest first."""

    async def fetch(self, keyset_id: bytes, claims: Sequence[bytes]) -> Fetched:
        """Returns the signatures of claims by their `B_`."""

    async def redeem(
        self, keyset_id: bytes, inputs: Sequence[Proof], outputs: Sequence[Output]
    ) -> Redeemed:
        """Turns work tokens into sat tokens."""

    async def swap(
        self, keyset_id: bytes, inputs: Sequence[Proof], outputs: Sequence[Output]
    ) -> Redeemed:
        """Turns work tokens into other tokens of the same keyset."""

    async def sat_swap(self, inputs: Sequence[Proof], outputs: Sequence[Output]) -> Redeemed:
        """Turns sat tokens into others."""

    async def sat_restore(self, blinded: Sequence[bytes]) -> Sequence[Restored]:
        """Returns the signatures of those `B_` that were signed with the sat keyset."""

    async def residues(self, claim_key: bytes) -> Sequence[Residue]:
        """Returns what a claim key has left over, of all policies under which it was used."""

    async def cash_out(
        self, claim_key: bytes, keyset_id: bytes, outputs: Sequence[Output], signature: bytes
    ) -> CashedOut:
        """Gives tokens of an open keyset for the residue of a claim key."""

    async def check_state(self, ys: Sequence[bytes]) -> Sequence[bool]:
        """Says for each `Y` whether its token has been spent."""

    async def statement(self, keyset_id: bytes) -> SignedStatement:
        """Returns the signed statement of a keyset whose price is final."""

    async def inclusion(self, blinded: bytes) -> Inclusion:
        """Proves that a claim is in the statement of its keyset."""

    async def figures(self) -> Mapping[str, Any]:
        """Returns the mint's figures, JSON-ready, for status pages and metrics.

        `claims`, `keysets` (count by state), `tokens` (units of work by state), `theta_msat`,
        `issued_msat`, `liabilities_sats` (sat tokens in circulation), `carry_msat`,
        `advance_used_msat`, `advance_cap_msat`.
        """
