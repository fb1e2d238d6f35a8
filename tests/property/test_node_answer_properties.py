"""Whatever a node answers is a template or a fault of the node, and never anything else."""

import json
import random

import msgspec
import pytest
from rig.fake_node import block_template

from radpool_sv2.consensus import MONEY_SATS_MAX
from radpool_sv2.errors import NodeError
from radpool_sv2.node.template import CoinbaseRoom, RawTemplate, read_template

HASH = "ab" * 32
ODD = [
    None,
    True,
    -1,
    0,
    1 << 31,
    1 << 32,
    1 << 63,
    1 << 64,
    1 << 200,
    1.5,
    1e308,
    "",
    "zz",
    "f" * 8,
    "f" * 1_000,
    "\ud7ff",
    HASH,
    [],
    [[]],
    {},
    {"data": "00"},
]


def transaction(randomness):
    return {
        "data": randomness.randbytes(randomness.randrange(60)).hex(),
        "txid": randomness.randbytes(32).hex(),
        "hash": randomness.randbytes(32).hex(),
        "fee": randomness.randrange(1_000),
        "sigops": randomness.randrange(100),
        "weight": randomness.randrange(400_000),
    }


def spoilt(randomness):
    """Returns a template in which some fields are odd, or gone, at any depth."""
    template = block_template(transactions=[transaction(randomness) for _ in range(3)])
    for _ in range(randomness.randrange(4)):
        where = randomness.choice([template, *template_rows(template)])
        name = randomness.choice(list(where) or ["height"])
        if randomness.random() < 0.2:
            where.pop(name, None)
        else:
            where[name] = randomness.choice(ODD)
    return json.dumps(template).encode()


def template_rows(template):
    rows = template.get("transactions")
    return [each for each in rows if isinstance(each, dict)] if isinstance(rows, list) else []


@pytest.mark.parametrize("seed", range(20))
def test_templates_are_read_or_refused(seed):
    randomness = random.Random(seed)
    read = 0
    for _ in range(200):
        answer = spoilt(randomness)
        if randomness.random() < 0.1:
            at = randomness.randrange(len(answer))
            answer = answer[:at] + randomness.randbytes(1) + answer[at + 1 :]
        try:
            raw = msgspec.json.decode(answer, type=RawTemplate)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        try:
            template = read_template(raw, CoinbaseRoom(), "node")
        except NodeError:
            continue
        read += 1
        # What is read, a message and a header can hold.
        assert 0 < template.height < 1 << 31
        assert 0 <= template.value_sats <= MONEY_SATS_MAX
        assert 0 <= template.time < 1 << 32 and 0 <= template.version < 1 << 32
        assert 0 <= template.nbits < 1 << 32
        assert len(template.prev_hash) == 32 and len(template.commitment_output) == 47
        assert template.fees_sats >= 0
    assert read, "some are good"
