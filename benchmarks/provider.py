"""Runs a template provider under measurement: ours, in front of templates that cost nothing.

Listener, sessions and offers are what `radpool template-provider` runs; only the source is
synthetic, as a regtest node would make every second share a block. It tells of a new tip for each
word on stdin. Started by `benchmarks.process`; the lines on stdout are for it.
"""

from __future__ import annotations

import trio

from benchmarks.source import UPDATES_PENDING_MAX, SyntheticSource, tell, words
from radpool_sv2._native.keys import AuthoritySecretKey
from radpool_sv2.config import Endpoint
from radpool_sv2.log import configure_logging
from radpool_sv2.template_provider.identity import ProviderIdentity
from radpool_sv2.template_provider.provider import ProviderSettings, TemplateProvider
from radpool_sv2.templates.source import ChainEvent, TemplateUpdate


async def serve() -> None:
    """Serves until stdin ends."""
    configure_logging("error", "json")
    identity = ProviderIdentity(AuthoritySecretKey.generate())
    source, stop = SyntheticSource(), trio.Event()
    endpoint = Endpoint.parse("127.0.0.1:0")
    provider = TemplateProvider(source, endpoint, identity.sign(), ProviderSettings())
    async with trio.open_nursery() as nursery:

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            await provider.run(stop, task_status=task_status)

        await nursery.start(_follow, source, provider)
        await nursery.start(run)
        key = identity.public_key.to_text()
        tell({"event": "serving", "tdp": str(provider.listener.address), "key": key})
        async for _ in words():
            source.next_tip()
        nursery.cancel_scope.cancel()


async def _follow(
    source: SyntheticSource, provider: TemplateProvider, *, task_status: trio.TaskStatus[None]
) -> None:
    updates_send, updates = trio.open_memory_channel[TemplateUpdate](UPDATES_PENDING_MAX)
    events_send, events = trio.open_memory_channel[ChainEvent](UPDATES_PENDING_MAX)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(provider.follow_work, updates)
        nursery.start_soon(provider.follow_chain, events)
        await source.run(updates_send, events_send, task_status=task_status)


if __name__ == "__main__":
    trio.run(serve)
