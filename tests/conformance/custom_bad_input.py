"""Lists what the pool does about wrong jobs of the client's own: entries of `bad_input.py`.

What the pool judges for itself is another matter: these never come so far.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine_pool import NBITS
from peer.message import Message
from visit import CLOSED, Act, Entry, Visit

if TYPE_CHECKING:
    from collections.abc import Callable

ENTRIES: list[Entry] = []
CUSTOM_JOBS = "Jobs of the client's own"
SELECTING = {"work_selection": True}


def entry(text: str, *answers: str, **more: object) -> Callable[[Act], Act]:
    """Enters what the decorated function does."""

    def enter(act: Act) -> Act:
        fields = {"stage": "selecting", "settings": SELECTING, **more}
        ENTRIES.append(Entry(CUSTOM_JOBS, text, act, answers, **fields))  # type: ignore[arg-type]
        return act

    return enter


FORMED = Message(
    "SetCustomMiningJob",
    channel_id=1,
    request_id=5,
    mining_job_token=b"t",
    version=2,
    prev_hash=bytes(32),
    min_ntime=0,
    nbits=NBITS,
    coinbase_tx_version=2,
    coinbase_prefix=b"\x02\xe9\x03\x0c",
    coinbase_tx_input_n_sequence=0,
    coinbase_tx_outputs=b"\1" + bytes(9),
    coinbase_tx_locktime=0,
    merkle_path=[],
)


def custom(text: str, job: Message, *answers: str, **more: object) -> None:
    async def act(visit: Visit) -> None:
        await visit.client.send(job)

    entry(text, *answers, **more)(act)


def refused(code: str) -> str:
    return f"SetCustomMiningJobError `{code}`"


custom("has not required work selection", FORMED, refused("jd-not-supported"), stage="channel")
custom(
    "offers a job to a channel that it does not have",
    FORMED.replace(channel_id=9),
    refused("invalid-channel-id"),
)


@entry(
    "offers a job to a group",
    refused("invalid-channel-id"),
)
async def custom_job_of_a_group(visit):
    await visit.client.send(FORMED.replace(channel_id=visit.channel.group))


for text, outputs in (
    ("without any outputs, not even their number", b""),
    ("with fewer outputs than it says", b"\2" + bytes(9)),
    ("with more outputs than it says", b"\1" + bytes(18)),
    ("whose last output is cut off", b"\1" + bytes(8)),
    ("that says the number of outputs in a longer form", b"\xfd\1\0" + bytes(9)),
    ("with 2^64 - 1 outputs", b"\xff" * 9),
):
    custom(
        f"offers a job {text}",
        FORMED.replace(coinbase_tx_outputs=outputs),
        refused("invalid-coinbase-tx-outputs"),
    )
custom(
    "offers a job whose input script would have 101 bytes",
    FORMED.replace(coinbase_prefix=bytes(89)),
    refused("invalid-coinbase-prefix"),
)
custom(
    "offers a job with 33 siblings on its path",
    FORMED.replace(merkle_path=[bytes(32)] * 33),
    refused("invalid-merkle-path"),
)
custom(
    "offers a job whose nBits are no target",
    FORMED.replace(nbits=0x1D800000),
    refused("invalid-nbits"),
)
custom(
    "offers a job of more than `custom_job_frame_bytes_max`",
    FORMED.replace(coinbase_tx_outputs=bytes(8_192)),
    then=CLOSED,
    reason="frame-too-large",
)


@entry(
    "offers more jobs at once than `custom_jobs_pending_max`",
    *[refused("custom-job-capacity-exhausted")] * 3,
    settings=SELECTING | {"custom_jobs_pending_max": 2},
)
async def too_many_custom_jobs(visit):
    await visit.client.send(*[FORMED] * 5)


@entry(
    "offers jobs above `requests_per_second_max` and `requests_burst_max`",
    then=CLOSED,
    reason="request-rate-exceeded",
    settings=SELECTING
    | {"requests_per_second_max": 1, "requests_burst_max": 10, "custom_jobs_pending_max": 100},
)
async def flood_of_custom_jobs(visit):
    await visit.client.send(*[FORMED] * 20)


@entry(
    "offers a job and leaves before it is decided about",
    then=CLOSED,
    reason="peer-closed",
)
async def gone_before_the_decision(visit):
    await visit.client.send(FORMED)
    await visit.client.stream.send_eof()
