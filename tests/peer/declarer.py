"""Speaks the job declaration protocol as a client, from the published pages alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import work
from .client import Client, setup_message
from .message import Message
from .template import read_outputs

if TYPE_CHECKING:
    from .template import OwnTemplate

JOB_DECLARATION = 1
DECLARE_TX_DATA = 1


class Declarer:
    """Is a client behind its set-up; judges what a server may say."""

    def __init__(self, client: Client, *, whole: bool) -> None:
        self.client = client
        self.whole = whole
        self.tokens: set[bytes] = set()
        self.requests = 0

    @classmethod
    async def connect(
        cls, address: tuple[str, int], authority: bytes | None, *, whole: bool = True
    ) -> Declarer:
        client = await Client.connect(address, authority)
        flags = DECLARE_TX_DATA if whole else 0
        await client.send(setup_message(flags, protocol=JOB_DECLARATION))
        answer = await client.expect("SetupConnectionSuccess")
        assert answer.used_version == 2
        assert answer.flags == 0, "no flags are defined for the answer"
        return cls(client, whole=whole)

    async def token(self, user: str = "alice") -> tuple[bytes, list[work.Output]]:
        """Returns a token and the outputs that come with it."""
        self.requests += 1
        await self.client.send(
            Message("AllocateMiningJobToken", user_identifier=user, request_id=self.requests)
        )
        answer = await self.client.expect("AllocateMiningJobTokenSuccess")
        assert answer.request_id == self.requests
        self.take(answer.mining_job_token)
        outputs = read_outputs(answer.coinbase_tx_outputs)
        assert all(output.value == 0 for output in outputs), "outputs come without value"
        return answer.mining_job_token, outputs

    def take(self, token: bytes) -> None:
        """Judges a token."""
        assert len(token) == 32, "tokens have 256 bits"
        assert token not in self.tokens, "a token was given twice"
        self.tokens.add(token)

    async def answer(self, template: OwnTemplate) -> Message:
        """Follows a declaration to its end, sending what is asked for."""
        while True:
            message = await self.client.receive()
            if message.name != "ProvideMissingTransactions":
                assert message.name in ("DeclareMiningJobSuccess", "DeclareMiningJobError")
                return message  # type: ignore[return-value]
            positions = message.unknown_tx_position_list
            assert positions == sorted(set(positions)), "positions ascend"
            assert positions, "nothing is missing"
            await self.client.send(
                Message(
                    "ProvideMissingTransactionsSuccess",
                    request_id=message.request_id,
                    transaction_list=[template.transactions[at] for at in positions],
                )
            )

    async def declare(
        self, template: OwnTemplate, token: bytes, **changes: object
    ) -> tuple[bytes | None, str, str]:
        """Declares a template; returns the new token, or the code and details of a refusal."""
        self.requests += 1
        await self.client.send(template.declare(token, self.requests, **changes))
        answer = await self.answer(template)
        assert answer.request_id == self.requests
        if answer.name == "DeclareMiningJobSuccess":
            self.take(answer.new_mining_job_token)
            return answer.new_mining_job_token, "", ""
        code = answer.error_code
        assert code.isascii() and code.isprintable(), "codes are printable ASCII"
        return None, code, answer.error_details.decode()
