"""The vectors of page 08, which Rust reads too."""

from coincurve import PublicKeyXOnly
from radpool_sv2_extensions.ecash.worth import Worth
from vector_file import cases

from radpool_sv2._native.ecash import WalletSeed, verify_signature_dleqs
from radpool_sv2.wallet.claim_key import ClaimKey, cash_out_digest
from radpool_sv2.wallet.recovery import Scan
from radpool_sv2.wallet.seed import seed_of

FILE = "08-wallet-recovery.json"


def wallet(inputs):
    return WalletSeed.from_seed(bytes.fromhex(inputs["seed"]))


@cases(FILE, "seeds")
def test_seed(case):
    """spec: RC-1"""
    assert seed_of(case["inputs"]["words"]).hex() == case["expected"]["seed"]


@cases(FILE, "outputs")
def test_output(case):
    """spec: RC-2, RC-3"""
    inputs, expected = case["inputs"], case["expected"]
    keyset, counter = bytes.fromhex(inputs["keyset_id"]), int(inputs["counter"])
    seed = wallet(inputs)
    outputs = seed.derive(keyset, counter, 1)
    assert outputs.secrets == [expected["secret"]]
    assert [blinded.hex() for blinded in outputs.blinded] == [expected["B_"]]
    [factor] = seed.expose_blinding_factors(keyset, [counter])
    assert factor.hex() == expected["r"]


@cases(FILE, "receipts")
def test_receipt(case):
    """spec: RC-12

    attack: A7
    """
    inputs = case["inputs"]
    fields = [bytes.fromhex(inputs[name]) for name in ("C_", "e", "s")]
    public = bytes.fromhex(inputs["A"]) if inputs["A"] else b""
    keyset = bytes.fromhex(inputs["keyset_id"])
    [token] = wallet(inputs).unblind(keyset, [(inputs["counter"], *fields, public)])
    [blinded] = wallet(inputs).derive(keyset, inputs["counter"], 1).blinded
    if "expected_error" in case:
        assert token is None
        assert verify_signature_dleqs([(public, blinded, *fields)]) == [False]
    else:
        assert token.hex() == case["expected"]["C"]
        assert verify_signature_dleqs([(public, blinded, *fields)]) == [True]


@cases(FILE, "scans")
def test_scan(case):
    """spec: RC-9"""
    inputs, expected = case["inputs"], case["expected"]
    known = set(inputs["known"])
    scan = Scan(0, inputs["batch"], inputs["gap"])
    found, requests = [], 0
    while starts := scan.wanted():
        for start in starts:
            requests += 1
            batch = [counter for counter in range(start, start + scan.batch) if counter in known]
            found += batch
            scan.record(start, max(batch, default=-1))
    assert (found, scan.highest + 1) == (expected["found"], expected["next_counter"])
    assert requests == expected["requests"]


@cases(FILE, "claim_keys")
def test_claim_key(case):
    """spec: RC-21"""
    inputs, expected = case["inputs"], case["expected"]
    key = ClaimKey.derive(bytes.fromhex(inputs["seed"]), int(inputs["counter"]))
    assert key.public.hex() == expected["claim_key"]
    assert key._secret.secret.hex() == expected["secret"]


@cases(FILE, "cash_outs")
def test_cash_out(case):
    """spec: RC-22"""
    inputs, expected = case["inputs"], case["expected"]
    key = ClaimKey.derive(bytes.fromhex(inputs["seed"]), int(inputs["counter"]))
    keyset = bytes.fromhex(inputs["keyset_id"])
    outputs = [(int(row["amount"]), bytes.fromhex(row["B_"])) for row in inputs["outputs"]]
    made = wallet(inputs).derive(keyset, 0, len(outputs)).blinded
    assert [blinded for _, blinded in outputs] == made
    digest = cash_out_digest(key.public, keyset, outputs)
    assert (key.public.hex(), digest.hex()) == (expected["claim_key"], expected["digest"])
    signature = bytes.fromhex(expected["signature"])
    assert PublicKeyXOnly(key.public[1:]).verify(signature, digest)
    assert PublicKeyXOnly(key.public[1:]).verify(key.sign(keyset, outputs), digest)


@cases(FILE, "answers")
def test_answer(case):
    """spec: RC-26"""
    unit_value = case["inputs"]["unit_value"]
    worth = Worth(0, None if unit_value is None else int(unit_value))
    unsigned = [
        not worth.take(row["work"].bit_length() - 1, row["token"])
        for row in case["inputs"]["shares"]
    ]
    assert unsigned == case["expected"]["unsigned"]
