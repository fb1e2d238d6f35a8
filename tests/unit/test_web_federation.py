"""What the HTTP API shows of a pool's member of a federation."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from test_web import Pool, served

HASH = "0" * 16 + "ab" * 24
ROOT = "cd" * 32


def key(**changes: Any) -> dict[str, Any]:
    figures = {
        "generated": True,
        "failure": "",
        "signatures": 3,
        "members": [0, 1, 2, 3],
        "threshold": 3,
        "public_key": "ef" * 32,
        "has_share": True,
        "open_tasks": 1,
        "unspent_nonces": 7,
    }
    return figures | changes


def node(**changes: Any) -> dict[str, Any]:
    def link(behind: int) -> dict[str, Any]:
        return {"seconds": 61, "behind_entries": behind, "outbox_bytes": 5, "echoes": 9}

    figures = {
        "quorum": 3,
        "height": 812_345,
        "epochs": {"decided": 12, "applied": 12, "certified": 11, "root": ROOT},
        "links": {"0": link(0), "3": link(17)},
        "waiting_payloads": 2,
        "keys": {
            "checkpoint": key(),
            "treasury": key(generated=False, failure=""),
            "counted": 11,
            "evidence": {},
            "stopped": "",
        },
        "gone": {},
        "halted": "",
        "store_failure": "",
        "chain_failure": "",
    }
    return figures | changes


def seat(**changes: Any) -> dict[str, Any]:
    figures = {
        "committee": "12" * 32,
        "member": 1,
        "members": 4,
        "problem": "",
        "payout": "syndicate",
        "script": "5120" + "34" * 32,
        "next_batch": 1234,
        "batches_too_late": 1,
        "registrations": 5,
        "blocks": [
            {
                "hash": HASH,
                "height": 812_300,
                "value_sats": 312_500_000,
                "own_part_sats": 78_125_000,
                "is_mature": False,
            }
        ],
        "weights": {"0": "100", "1": "50", "2": "0", "3": "50"},
        "stale_shares": 6,
        "void_batches": 2,
        "node": node(),
    }
    return figures | changes


async def test_metrics_tell_how_the_member_fares():
    async with served(Pool(seat=seat())) as http:
        lines = (await http.get("/metrics")).text.splitlines()
    for line in (
        "radpool_federation_members 4.0",
        "radpool_federation_healthy 1.0",
        "radpool_federation_links 2.0",
        'radpool_federation_epochs{stage="decided"} 12.0',
        'radpool_federation_epochs{stage="certified"} 11.0',
        'radpool_federation_behind_entries{member="3"} 17.0',
        "radpool_federation_waiting_payloads 2.0",
        "radpool_federation_next_batch 1234.0",
        "radpool_federation_batches_too_late_total 1.0",
        "radpool_federation_registrations 5.0",
        "radpool_federation_blocks 1.0",
        "radpool_federation_stale_shares 6.0",
        "radpool_federation_void_batches 2.0",
    ):
        assert line in lines, line


@pytest.mark.parametrize(
    "trouble", [{"problem": "federation: disk full"}, {"problem": "down", "node": None}]
)
async def test_metrics_tell_that_something_is_wrong(trouble):
    async with served(Pool(seat=seat(**trouble))) as http:
        text = (await http.get("/metrics")).text
    assert "radpool_federation_healthy 0.0" in text.splitlines()
    assert ("radpool_federation_links" in text) is ("node" not in trouble)


async def test_a_pool_without_a_federation_has_no_metrics_of_one():
    async with served(Pool()) as http:
        assert "federation" not in (await http.get("/metrics")).text


# The page.


class Reader(HTMLParser):
    """Reads a page as text, with what is marked as bad; refuses tags that are not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text, self.bad, self.rows = "", [], []
        self._is_bad = False
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert tag not in {"script", "img", "link", "a", "form"}
        self._is_bad = ("class", "bad") in attrs
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self._is_bad = False

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.text += data + "\n"
        if self._is_bad:
            self.bad.append(data)
        if "tr" in self.open:
            self.rows[-1][-1] += data


async def read(figures):
    async with served(Pool(seat=figures)) as http:
        answer = await http.get("/federation")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return Reader(answer.text), answer


async def test_the_page_shows_the_member():
    page, _ = await read(seat())
    for words in (
        "Member 1 of 4",
        "12 decided, 11 certified",
        ROOT,
        "height 812,345",
        "2 entries for the own stream",
        "1,234",
        "5120" + "34" * 32,
    ):
        assert words in page.text, words
    rows = {row[0]: row[1:] for row in page.rows}
    assert rows["0"] == ["up 1 min 1 s", "0", "5", "50.00 %"]
    assert rows["1"] == ["this one", "-", "-", "25.00 %"]
    assert rows["2"] == ["down", "-", "-", "0.00 %"]
    assert rows["3"][1] == "17"
    assert rows["checkpoint"] == ["3 of 4 sign", "3", "1", "7"]
    assert rows["treasury"][0] == "is being generated"
    assert rows["812,300"] == ["312,500,000", "78,125,000", "not yet", "…" + HASH[-16:]]
    assert page.bad == ["down"]


async def test_trouble_is_told_in_red_and_in_words():
    keys = {
        "checkpoint": key(has_share=False),
        "treasury": key(generated=False, failure="members 2 and 3 are silent"),
        "stopped": "the store is damaged",
    }
    page, _ = await read(
        seat(problem="federation: store full", node=node(keys=keys, links={}, gone={"3": 9}))
    )
    assert page.bad == [
        "Trouble: federation: store full",
        "down",
        "down",
        "down",
        "keeps epochs from 9 on only",
        "this member has no share of it",
        "members 2 and 3 are silent",
        "the store is damaged",
    ]


async def test_the_page_of_a_member_that_does_not_run_or_has_no_books_yet():
    figures = seat(
        problem="the member does not run now",
        blocks=[],
        weights={},
        script="",
        next_batch=-1,
        batches_too_late=0,
    )
    page, _ = await read(figures | {"node": None})
    assert page.bad == ["Trouble: the member does not run now"]
    assert "no key is known yet" in page.text
    assert "The books have none." in page.text
    page, _ = await read(figures | {"node": node(epochs={**node()["epochs"], "root": ""})})
    assert "none yet" in page.text
    assert [row[4] for row in page.rows if row[0] in {"0", "1", "2", "3"}] == ["-"] * 4


async def test_a_part_that_is_not_booked_yet_is_not_zero():
    [block] = seat()["blocks"]
    page, _ = await read(seat(blocks=[block | {"own_part_sats": None, "is_mature": True}]))
    assert page.rows[-1][2:4] == ["not yet", "yes"]
    page, _ = await read(seat(blocks=[block | {"own_part_sats": 0}]))
    assert page.rows[-1][2] == "0"


async def test_only_the_last_blocks_are_shown_the_newest_first():
    [block] = seat()["blocks"]
    blocks = [block | {"height": height} for height in range(25)]
    page, _ = await read(seat(blocks=blocks))
    heights = [int(row[0]) for row in page.rows if row[-1].endswith(HASH[-16:])]
    assert heights == list(range(24, 4, -1))
    assert "The last 20 blocks" in page.text


async def test_nothing_in_the_page_can_do_anything():
    evil = "<script>alert(1)</script>\"'&"
    keys = {"treasury": key(generated=False, failure=evil), "stopped": evil}
    page, answer = await read(seat(problem=evil, node=node(keys=keys)))
    assert page.bad.count(evil) == 2
    assert f"Trouble: {evil}" in page.bad
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert not re.search(r"unsafe|\*|http", policy)
    assert " style=" not in answer.text


async def test_there_is_no_page_without_a_federation():
    async with served(Pool()) as http:
        answer = await http.get("/federation")
    assert answer.status_code == 404
    assert "no federation" in answer.json()["error"]
