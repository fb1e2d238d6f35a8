"""`radpool verify claim` against mints that answer what they like."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from coincurve import PrivateKey
from shares import Key

from radpool_sv2.cli import app
from radpool_sv2.ecash.statement import (
    ClaimRow,
    ClaimTree,
    KeysetAccount,
    Leaf,
    SignedStatement,
    build_statement,
)
from radpool_sv2.errors import ConfigError, FaultyMSPError, LocalProtocolError, RadpoolError

KEY = Key()
KEYSET = b"\x01" + b"\x5e" * 32


def point(number: int) -> bytes:
    return PrivateKey(number.to_bytes(32, "big")).public_key.format()


LEAVES = [Leaf(bytes([at]) * 32, point(at), 1 << at % 4) for at in range(1, 6)]


class Archive:
    def share_hash(self, sequence, place):
        return LEAVES[place].share_hash

    def coinbase_output(self, block):
        return None


def statement() -> SignedStatement:
    account = KeysetAccount(
        id=KEYSET,
        number=1,
        policy="pool",
        commitment=bytes(32),
        z0=0,
        epochs=(1,),
        state="void",
        allocations=(),
        theta_msat=0,
        work=sum(leaf.units for leaf in LEAVES),
    )
    claims = [
        ClaimRow(0, at, leaf.units.bit_length() - 1, leaf.blinded) for at, leaf in enumerate(LEAVES)
    ]
    return build_statement(account, claims, Archive(), KEY)


def proof_of(index: int) -> dict:
    proof = ClaimTree(LEAVES).inclusion(KEYSET, index)
    return {
        "leaf": {
            "keyset": KEYSET.hex(),
            "index": proof.index,
            "count": proof.count,
            "share": proof.share_hash[::-1].hex(),
            "B_": LEAVES[index].blinded.hex(),
            "work": proof.units,
        },
        "path": [{"hash": node.hex(), "work": units} for node, units in proof.path],
    }


class Answers(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        places = {leaf.blinded.hex(): index for index, leaf in enumerate(LEAVES)}
        index = places.get(asked["B_"])
        if index is None:
            self.answer(404, json.dumps({"error": "unknown-epoch", "detail": "no such claim"}))
        else:
            self.answer(200, json.dumps(self.server.alter(proof_of(index))))

    def do_GET(self):
        self.answer(200, self.server.document)

    def answer(self, status, body):
        data = body if isinstance(body, bytes) else body.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def mint():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.alter = lambda proof: proof
    server.document = statement().document
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def verify(mint, file, *blinded: bytes, key: str = KEY.public.hex(), json_output: bool = True):
    file.write_text("\n".join(own.hex() for own in blinded))
    url = f"http://127.0.0.1:{mint.server_port}"
    command = ["verify", "claim", str(file), "--mint", url, "--msp-key", key]
    app([*command, *(["--json"] if json_output else [])], result_action="return_value")


def test_a_mint_proves_claims(mint, tmp_path, capsys):
    """spec: ES-21"""
    own = [leaf.blinded for leaf in LEAVES]
    verify(mint, tmp_path / "f", *own)
    told = json.loads(capsys.readouterr().out)
    assert [row["B_"] for row in told["found"]] == [each.hex() for each in own]
    assert told["missing"] == []
    # Wallets show the key as a point.
    verify(mint, tmp_path / "f", own[0], key="02" + KEY.public.hex(), json_output=False)
    assert "1 of 1 claims are counted, worth 2 units" in capsys.readouterr().out


def test_what_is_missing_is_named(mint, tmp_path, capsys):
    """attack: A8"""
    with pytest.raises(SystemExit) as caught:
        verify(mint, tmp_path / "f", LEAVES[0].blinded, point(77), json_output=False)
    assert caught.value.code == 1
    out = capsys.readouterr().out
    assert "1 of 2" in out
    assert f"MISSING {point(77).hex()}: unknown-epoch: no such claim" in out


def changed(proof: dict, *path, to) -> dict:
    place = proof
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return proof


LIES = {
    "another share": lambda proof: changed(proof, "leaf", "share", to="00" * 32),
    "another place": lambda proof: changed(proof, "leaf", "index", to=1),
    "another count": lambda proof: changed(proof, "leaf", "count", to=6),
    "more work": lambda proof: changed(proof, "leaf", "work", to=4),
    "no work": lambda proof: changed(proof, "leaf", "work", to=0),
    "another sum": lambda proof: changed(proof, "path", 0, "work", to=1),
    "another node": lambda proof: changed(proof, "path", 0, "hash", to="00" * 32),
    "a node less": lambda proof: proof | {"path": proof["path"][:-1]},
    "a node more": lambda proof: proof | {"path": [*proof["path"], {"hash": "00" * 32, "work": 0}]},
    "no path": lambda proof: proof | {"path": []},
    "endless": lambda proof: proof | {"path": [{"hash": "00" * 32, "work": 0}] * 65},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_path_that_leads_elsewhere_convicts_the_mint(mint, tmp_path, lie):
    """attack: A13"""
    mint.alter = LIES[lie]
    with pytest.raises(FaultyMSPError, match="does not lead to the root") as caught:
        verify(mint, tmp_path / "f", LEAVES[0].blinded)
    assert caught.value.msp == KEY.public.hex()


@pytest.mark.parametrize(
    "alter",
    [
        lambda _proof: [],
        lambda _proof: {},
        lambda proof: proof | {"path": 5},
        lambda proof: changed(proof, "leaf", "work", to=True),
        lambda proof: changed(proof, "leaf", "index", to=-1),
        lambda proof: changed(proof, "leaf", "share", to="AB" * 32),
        lambda proof: changed(proof, "path", 0, "work", to=1 << 128),
    ],
)
def test_an_answer_of_another_form_is_refused(mint, tmp_path, alter):
    mint.alter = alter
    with pytest.raises(RadpoolError):
        verify(mint, tmp_path / "f", LEAVES[0].blinded)


def test_another_key_is_refused(mint, tmp_path):
    """attack: A6"""
    with pytest.raises(FaultyMSPError, match="another MSP"):
        verify(mint, tmp_path / "f", LEAVES[0].blinded, key="ab" * 32)
    for key in ("", "02", "AB" * 32, "04" + "ab" * 32):
        with pytest.raises(ConfigError, match="give --msp-key"):
            verify(mint, tmp_path / "f", LEAVES[0].blinded, key=key)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no claims"),
        ("# nothing\n", "names no claims"),
        ("xyz", "no blinded message"),
        ("02" * 32, "no blinded message"),
        ("02" + "ff" * 32, "is no point"),
        ("[", "is no JSON list"),
        ("[5]", "no blinded message"),
        ("[" * 10_000, "is no JSON list"),
    ],
)
def test_a_file_that_names_no_claims(tmp_path, text, words):
    file = tmp_path / "f"
    file.write_text(text)
    with pytest.raises(LocalProtocolError, match=words):
        app(["verify", "claim", str(file), "--export", str(tmp_path)], result_action="return_value")


def test_one_source_is_asked(tmp_path):
    file = tmp_path / "f"
    file.write_text(point(1).hex())
    for more in ([], ["--export", ".", "--mint", "http://127.0.0.1:1"]):
        with pytest.raises(ConfigError, match="either --export or --mint"):
            app(["verify", "claim", str(file), *more], result_action="return_value")
    with pytest.raises(LocalProtocolError, match="cannot be read"):
        app(["verify", "claim", str(tmp_path), "--export", "."], result_action="return_value")
    url = ["--mint", "http://127.0.0.1:1", "--msp-key", "ab" * 32]
    with pytest.raises(RadpoolError, match="does not answer"):
        app(["verify", "claim", str(file), *url], result_action="return_value")
