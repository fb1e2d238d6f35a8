"""A mint that answers with anything: nothing is lost, nothing crashes, the reason is told."""

import json

import httpx
import pytest
import trio
from wallet_rig.mint import URL, FakeMint
from wallet_rig.play import earn, posts

from radpool_sv2.errors import ConfigError, RadpoolError, RemoteProtocolError
from radpool_sv2.wallet import Wallet
from radpool_sv2.wallet.mint import (
    MintClient,
    MintRefusedError,
    MintUnreachableError,
    check_url,
    plain,
)


@pytest.fixture
def mint():
    return FakeMint()


@pytest.fixture
async def wallet(tmp_path, mint):
    """Has a keyset of 7 units that is worth 70 sat."""
    wallet = await Wallet.create(tmp_path / "w", transport=mint.transport())
    await wallet.add_mint(URL)
    keyset_id = mint.open()
    await earn(wallet, mint, keyset_id, [1, 2, 4])
    mint.close(keyset_id, 70_000)
    yield wallet
    await wallet.close()


def first(answer):
    return answer["signatures"][0]


def changed(change):
    """Returns an `on_answer` that spoils what redeeming is answered."""

    def spoil(path, _, answer):
        if path == "/work/v1/redeem" and "signatures" in answer:
            answer = json.loads(json.dumps(answer))
            return change(answer) or answer
        return None

    return spoil


def replaced(**fields):
    def change(answer):
        first(answer).update(fields)

    return changed(change)


SPOILED = {
    "no signatures": changed(lambda a: a.pop("signatures") and None),
    "an empty list": changed(lambda a: {"signatures": []}),
    "one too few": changed(lambda a: a["signatures"].pop() and None),
    "one twice": changed(lambda a: a["signatures"].append(first(a))),
    "another order": changed(lambda a: a["signatures"].reverse()),
    "no list": changed(lambda a: {"signatures": {}}),
    "a list": changed(lambda a: [a]),
    "a smaller amount": replaced(amount=1),
    "a larger amount": replaced(amount=1 << 40),
    "amount 0": replaced(amount=0),
    "a negative amount": replaced(amount=-2),
    "a float": replaced(amount=2.0),
    "a bool": replaced(amount=True),
    "a text": replaced(amount="2"),
    "2^64": replaced(amount=1 << 64),
    "2^4000": replaced(amount=1 << 4000),
    "null": replaced(amount=None),
    "a short point": replaced(C_="02" * 32),
    "no point": replaced(C_="02" + "ff" * 32),
    "upper case": replaced(C_="02" + "AB" * 32),
    "spaces": replaced(C_="02 " * 33),
    "no proof": replaced(dleq=None),
    "an empty proof": replaced(dleq={}),
    "a proof of zeros": replaced(dleq={"e": "00" * 32, "s": "00" * 32}),
    "a short proof": replaced(dleq={"e": "11" * 31, "s": "11" * 32}),
    "the proof of another": changed(
        lambda a: first(a).update(dleq=a["signatures"][1]["dleq"]) if a["signatures"][1:] else None
    ),
    "the point of another": changed(lambda a: first(a).update(C_=a["signatures"][1]["C_"])),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED.keys())
async def test_a_spoiled_answer_loses_nothing(wallet, mint, spoil):
    """spec: RC-12, RC-18. attack: A7, A14. The mint has taken the tokens and answers nonsense."""
    mint.on_answer = spoil
    with pytest.raises(RemoteProtocolError) as caught:
        await wallet.redeem()
    assert not isinstance(caught.value, MintRefusedError)
    [line] = (await wallet.balance(ask=False)).epochs
    assert (line.units, line.held_units) == (0, 7)
    # The same again is no better, and no worse; the request is the same byte for byte.
    notes = (await wallet.balance()).notes
    assert any("still under way" in note for note in notes)
    asked = posts(mint, "/work/v1/redeem")
    assert len(asked) >= 2
    assert all(body == asked[0] for body in asked)
    # When the mint comes to its senses, everything is there.
    mint.on_answer = None
    balance = await wallet.balance()
    assert (balance.sats, balance.epochs) == (70, ())
    assert any("is finished now" in note for note in balance.notes)


GZIP = {"content-encoding": "gzip"}


def garbage(status, content=b"", **headers):
    return lambda path, _: (
        httpx.Response(status, content=content, headers=headers) if "redeem" in path else None
    )


@pytest.mark.parametrize(
    "answer",
    [
        garbage(200, b""),
        garbage(200, b"<html>"),
        garbage(200, b"\xff\xfe"),
        garbage(200, b"[" * 100_000),
        garbage(200, b'{"signatures": [' + b"[" * 50_000),
        garbage(200, b"9" * 3_000_000),
        garbage(200, b" " * (2 << 20) + b"{}"),
        garbage(200, b"{}", **GZIP),
        garbage(301, b"", location="http://elsewhere.example/"),
        garbage(404, b"not here"),
        garbage(500, b'{"error": "already-spent"}'),
        garbage(502),
    ],
)
async def test_what_is_no_answer(wallet, mint, answer):
    """attack: A15. Bodies have a bound; what cannot be understood is not believed."""
    mint.on_request = answer
    with pytest.raises((RemoteProtocolError, MintUnreachableError)):
        await wallet.redeem()
    mint.on_request = None
    await wallet.redeem()
    assert (await wallet.balance()).sats == 70


async def test_less_than_was_asked_for(wallet, mint):
    """attack: A7. The proofs are right, and of smaller amounts: the mint keeps the difference."""

    def cheat(path, body, answer):
        if path != "/work/v1/redeem" or "signatures" not in answer:
            return None
        blinded = [bytes.fromhex(row["B_"]) for row in body["outputs"]]
        rows = mint.sat.sign([(1, point) for point in blinded])
        return answer | {
            "signatures": [
                {"amount": 1, "C_": c.hex(), "dleq": {"e": e.hex(), "s": s.hex()}}
                for c, e, s in rows
            ]
        }

    mint.on_answer = cheat
    with pytest.raises(RemoteProtocolError, match="not the 3 amounts"):
        await wallet.redeem()
    mint.on_answer = None
    assert (await wallet.balance()).sats == 70


# httpx leaves the innermost generator of a body to the garbage collector when reading ends early.
@pytest.mark.filterwarnings("ignore:Exception ignored in.*BoundAsyncStream")
@pytest.mark.filterwarnings("ignore:Async generator.*garbage collected")
async def test_the_bound_of_a_body(wallet, mint):
    """attack: A15. Reading ends at the bound, and a few compressed bytes are not unpacked."""
    unread = []

    async def endless():
        while True:
            unread.append(len(unread))
            yield b" " * (1 << 16)

    def answer(headers):
        return lambda path, _: (
            httpx.Response(200, content=endless(), headers=headers) if "redeem" in path else None
        )

    mint.on_request = answer({})
    with pytest.raises(RemoteProtocolError, match="more than 2097152 bytes"):
        await wallet.redeem()
    assert len(unread) <= 33
    mint.on_request = answer(GZIP)
    [note] = (await wallet.balance()).notes
    assert "something compressed" in note
    assert len(unread) <= 33


@pytest.mark.parametrize(
    "code",
    ["already-spent", "blinded-message-reused", "amount-mismatch", "immature", "no-such-code", ""],
)
async def test_a_refusal_that_is_a_lie(wallet, mint, code):
    """The mint does it, and says that it did not: what it has signed is found out."""
    lies = []

    def lie(path, _, answer):
        if path == "/work/v1/redeem" and "signatures" in answer:
            lies.append(path)
            return httpx.Response(400, json={"error": code, "detail": "no"})
        return None

    mint.on_answer = lie
    [done] = await wallet.redeem()
    assert (lies, done.sats) == (["/work/v1/redeem"], 70)
    mint.on_answer = None
    assert (await wallet.balance()).sats == 70


async def test_a_refusal_gives_back_what_is_not_spent(wallet, mint):
    mint.on_request = lambda path, _: (
        httpx.Response(400, json={"error": "insolvent", "detail": "empty"})
        if path == "/work/v1/redeem"
        else None
    )
    [done] = await wallet.redeem()
    assert "insolvent (empty)" in done.reason
    [line] = (await wallet.balance()).epochs
    assert (line.units, line.held_units) == (7, 0)
    mint.on_request = None
    [done] = await wallet.redeem()
    assert done.sats == 70


async def test_a_busy_mint_is_asked_again(wallet, mint, autojump_clock):
    answers = [
        httpx.Response(429, json={"error": "rate-limited", "retry_after_s": 7}),
        httpx.Response(503, json={"code": 0, "detail": "later"}, headers={"retry-after": "7"}),
        httpx.Response(400, json={"error": "mint-unavailable", "retry_after_s": 7}),
    ]

    def busy(path, _):
        return answers.pop() if path == "/work/v1/redeem" and answers else None

    mint.on_request = busy
    before = trio.current_time()
    [done] = await wallet.redeem()
    assert done.sats == 70
    assert trio.current_time() - before >= 21


async def test_a_mint_that_stays_busy(wallet, mint, autojump_clock):
    mint.on_request = lambda path, _: (
        httpx.Response(429, json={"error": "rate-limited", "retry_after_s": 10**30})
        if path == "/work/v1/redeem"
        else None
    )
    [done] = await wallet.redeem()
    assert "rate-limited" in done.reason
    assert (await wallet.balance(ask=False)).epochs[0].held_units == 7
    mint.on_request = None
    assert (await wallet.balance()).sats == 70


async def test_a_mint_that_never_answers(tmp_path, autojump_clock):
    """attack: A15. A request has an end."""

    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            await trio.sleep_forever()

    async with MintClient(URL, Silent()) as client:
        before = trio.current_time()
        with pytest.raises(MintUnreachableError, match="within 30 s"):
            await client.info()
        assert trio.current_time() - before == pytest.approx(30)


async def test_a_mint_that_answers_a_byte_at_a_time(tmp_path, autojump_clock):
    """attack: A15. Dribbling does not stretch the time."""

    class Slow(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            async def dribble():
                while True:
                    await trio.sleep(1)
                    yield b" "

            return httpx.Response(200, content=dribble())

    async with MintClient(URL, Slow()) as client:
        with pytest.raises(MintUnreachableError, match="within 30 s"):
            await client.info()


async def test_what_the_terminal_shows_is_plain(wallet, mint):
    mint.on_request = lambda path, _: (
        httpx.Response(400, json={"error": "e\x1b[2J", "detail": "d\r\n\u202e" + "x" * 10_000})
        if path == "/work/v1/redeem"
        else None
    )
    [done] = await wallet.redeem()
    assert done.reason.isprintable()
    assert len(done.reason) < 700
    assert plain("a\x00b\x1b[1m\nc") == "a?b?[1m?c"


@pytest.mark.parametrize(
    "row",
    [
        {"id": "00" * 33},
        {"announcement": "zz"},
        {"announcement": ""},
        {"announcement": None},
        {"update": "00"},
        {"update": 5},
    ],
)
async def test_a_keyset_that_is_told_wrongly(wallet, mint, row):
    mint.on_answer = lambda path, _, answer: (
        answer | row if path.startswith("/work/v1/keysets/") else None
    )
    with pytest.raises(RadpoolError):
        await wallet.redeem()
    mint.on_answer = None
    [done] = await wallet.redeem()
    assert done.sats == 70


async def test_the_update_of_another_keyset(wallet, mint):
    other = mint.open()
    mint.close(other, 10**12, work=1)
    mint.on_answer = lambda path, _, answer: (
        answer | {"update": mint.update_of(other).hex()}
        if path.startswith("/work/v1/keysets/") and path.count(mint.sat.id.hex()) == 0
        else None
    )
    with pytest.raises(RemoteProtocolError):
        await wallet.redeem()


@pytest.mark.parametrize(
    "change",
    [
        {"mint_pubkey": "02" * 32},
        {"mint_pubkey": 5},
        {"tip_height": -1},
        {"tip_height": 1.5},
        {"tip_height": True},
        {"sat_keyset": ""},
        {"sat_keyset": "01" * 33},
    ],
)
async def test_a_mint_that_describes_itself_wrongly(wallet, mint, change):
    """attack: A14."""
    mint.on_answer = lambda path, _, answer: answer | change if path == "/work/v1/info" else None
    with pytest.raises(RadpoolError):
        await wallet.redeem()


async def test_a_work_keyset_passed_off_as_sats(wallet, mint):
    work = next(iter(mint.epochs))
    mint.on_answer = lambda path, _, answer: (
        answer | {"sat_keyset": work.hex()} if path == "/work/v1/info" else None
    )
    with pytest.raises(RemoteProtocolError, match="it is of work"):
        await wallet.redeem()


def restated(states):
    def change(path, _, answer):
        return {"states": states(answer["states"])} if path.endswith("checkstate") else None

    return change


@pytest.mark.parametrize(
    "states",
    [
        lambda rows: rows[:-1],
        lambda rows: rows + rows[:1],
        lambda rows: [row | {"state": "GONE"} for row in rows],
        lambda rows: [row | {"Y": "02" * 33} for row in rows],
    ],
)
async def test_states_of_other_tokens(wallet, mint, states, tmp_path):
    mint.on_answer = restated(states)
    with pytest.raises(RemoteProtocolError):
        await Wallet.restore(tmp_path / "r", wallet.words(), URL, transport=mint.transport())


@pytest.mark.parametrize(
    "claims",
    [
        lambda rows: rows + rows[:1],
        lambda rows: [row | {"index": 100} for row in rows],
        lambda rows: [row | {"index": -1} for row in rows],
        lambda rows: [row | {"index": True} for row in rows],
    ],
)
async def test_claims_that_were_not_asked_for(wallet, mint, claims, tmp_path):
    def change(path, _, answer):
        if path == "/work/v1/claims" and answer["signatures"]:
            return answer | {"signatures": claims(answer["signatures"])}
        return None

    mint.on_answer = change
    with pytest.raises(RemoteProtocolError):
        await Wallet.restore(tmp_path / "r", wallet.words(), URL, transport=mint.transport())


@pytest.mark.parametrize("total", [10**6, 1 << 64, -1, True])
async def test_pages_without_end(wallet, mint, tmp_path, total):
    """attack: A15."""
    mint.on_answer = lambda path, _, answer: (
        answer | {"total": total} if path.startswith("/work/v1/keysets?") else None
    )
    words = wallet.words()
    if total == 10**6:  # the list ends before the total that was told
        again, _ = await Wallet.restore(tmp_path / "r", words, URL, transport=mint.transport())
        assert (await again.balance(ask=False)).epochs[0].units == 7
        await again.close()
    else:
        with pytest.raises(RemoteProtocolError):
            await Wallet.restore(tmp_path / "r", words, URL, transport=mint.transport())


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://mint.example/", "http://mint.example"),
        (" https://mint.example:8443/a/ ", "https://mint.example:8443/a"),
        ("http://[::1]:3338", "http://[::1]:3338"),
    ],
)
def test_addresses(text, url):
    assert check_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mint.example",
        "ftp://mint.example",
        "http://",
        "http://a:99999",
        "http://a:b@c",
        "http://a?b",
        "http://ä",
    ],
)
def test_no_addresses(text):
    with pytest.raises(ConfigError):
        check_url(text)
