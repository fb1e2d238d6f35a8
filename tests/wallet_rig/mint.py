"""A mint with real keys behind httpx's transport: signs, verifies, remembers what is spent.

It is written from the pages, in the plainest way, and does what an honest mint does. A test that
needs another mint sets `on_request` or `on_answer`.
"""

import json
from dataclasses import dataclass, field

import httpx
from coincurve import PublicKeyXOnly

from radpool_sv2._native.ecash import KeysetKeys, MintSeed, check_points
from radpool_sv2.units import tagged_hash
from wallet_rig.message import FINAL, OPEN, Key, announce, u, update

URL = "http://mint.example"
ITEMS_MAX = 250


class Refused(Exception):
    def __init__(self, code, detail="", **more):
        super().__init__(code)
        self.body = {"error": code, "detail": detail or code} | more


@dataclass
class Epoch:
    """Is a keyset with its fate."""

    keys: KeysetKeys
    announcement: bytes
    state: int = 0
    theta: int = 0
    work: int = 0
    after: int = 0
    expires: int = 0
    paid: int = 0


class Unread(httpx.AsyncByteStream):
    """Is a body that has yet to be read, as one from the network."""

    def __init__(self, content):
        self.content = content

    async def __aiter__(self):
        for at in range(0, len(self.content), 1 << 16):
            yield self.content[at : at + (1 << 16)]


def unread(response):
    """Returns a response whose body the wallet reads itself."""
    if not hasattr(response, "_content"):
        return response
    headers, stream = response.headers, Unread(response.content)
    return httpx.Response(response.status_code, headers=headers, stream=stream)


@dataclass
class FakeMint:
    secret: bytes = b"\x11" * 32
    url: str = URL
    z0: int = 8
    tip: int = 200
    key: Key = field(init=False)
    epochs: dict = field(default_factory=dict)
    signed: dict = field(default_factory=dict)  # B_ -> (keyset id, amount)
    spent: dict = field(default_factory=dict)  # Y -> keyset id
    answered: dict = field(default_factory=dict)  # (path, body) -> answer
    log: list = field(default_factory=list)
    on_request: object = None
    on_answer: object = None
    redeemed_sats: int = 0
    unit_value: int = 0
    residues: dict = field(default_factory=dict)  # (claim key, policy) -> value
    cashed: dict = field(default_factory=dict)  # body -> answer

    def __post_init__(self):
        self.key = Key(self.secret)
        self.seed = MintSeed.from_secret(self.secret)
        self.sat = KeysetKeys.derive(self.seed, "sat", 0, 0, 64)
        self.sat_announcement = announce(self.key, self.sat, unit_text="sat", policy=u(1, 255))

    # What the mint does besides HTTP

    def open(self, **change):
        """Opens a work keyset; returns its id."""
        number = len(self.epochs) + 1
        keys = KeysetKeys.derive(self.seed, "work", number, 0, 64)
        change.setdefault("epoch", u(4, number))
        self.epochs[keys.id] = Epoch(keys, announce(self.key, keys, z0=self.z0, **change))
        return keys.id

    def close(self, keyset_id, theta_msat, *, work=None, state=FINAL, after=0, expires=0):
        """Settles a keyset: its work is what was claimed, unless told otherwise."""
        epoch = self.epochs[keyset_id]
        claimed = sum(amount for of, amount in self.signed.values() if of == keyset_id)
        epoch.state, epoch.theta, epoch.work = state, theta_msat, work or claimed
        epoch.after, epoch.expires = after, expires

    def update_of(self, keyset_id):
        epoch = self.epochs[keyset_id]
        return update(
            self.key,
            keyset_id,
            state=epoch.state,
            theta_msat=epoch.theta,
            work_total=epoch.work,
            redeem_after_height=epoch.after,
            expires_at=epoch.expires,
        )

    def mine(self, keyset_id, items):
        """Signs shares: (B_, amount) of each; returns (amount, C_, e, s)."""
        answers = self.epochs[keyset_id].keys.sign([(amount, blinded) for blinded, amount in items])
        for blinded, amount in items:
            assert blinded not in self.signed, "blinded-message-reused"
            self.signed[blinded] = keyset_id, amount
        return [(amount, *answer) for (_, amount), answer in zip(items, answers, strict=True)]

    def leave_over(self, claim_key, value, policy="window"):
        """Has shares of a channel leave value over."""
        held = self.residues.get((claim_key, policy), 0)
        self.residues[claim_key, policy] = held + value

    # HTTP

    def transport(self):
        return httpx.MockTransport(lambda request: unread(self._serve(request)))

    def _serve(self, request):
        path = request.url.raw_path.decode()
        body = json.loads(request.content) if request.content else None
        assert b"dleq" not in request.content, "a proof must not go back to the mint"
        self.log.append((path, body))
        if self.on_request is not None and (answer := self.on_request(path, body)) is not None:
            return answer
        try:
            status, answer = 200, self.answer(path, body)
        except Refused as refused:
            status, answer = 400, refused.body
        if self.on_answer is not None:
            changed = self.on_answer(path, body, answer)
            if isinstance(changed, httpx.Response):
                return changed
            answer = answer if changed is None else changed
        return httpx.Response(status, json=answer)

    def answer(self, path, body):
        route = path.split("?")[0]
        if route == "/work/v1/info":
            return {
                "mint_pubkey": self.key.public.hex(),
                "z0": self.z0,
                "policies": ["window"],
                "sat_keyset": self.sat.id.hex(),
                "tip_height": self.tip,
                "confirmations": 6,
                "coinbase_maturity": 100,
            }
        if route == "/work/v1/keysets":
            query = httpx.URL(path).params
            offset, limit = int(query["offset"]), int(query["limit"])
            rows = list(reversed(self.epochs))
            page = [self._row(keyset_id) for keyset_id in rows[offset : offset + limit]]
            return {"total": len(rows), "keysets": page}
        if route.startswith("/work/v1/keysets/"):
            return self._row(bytes.fromhex(route.rsplit("/", 1)[1]))
        if route in {"/work/v1/redeem", "/work/v1/swap", "/v1/swap"}:
            known = json.dumps([path, body])
            if known not in self.answered:
                self.answered[known] = self._exchange(route, body)
            return self.answered[known]
        return {
            "/work/v1/residue": self._residue,
            "/work/v1/claims": self._claims,
            "/v1/restore": self._restore,
            "/work/v1/checkstate": self._states,
            "/v1/checkstate": self._states,
        }[route](body)

    def _row(self, keyset_id):
        if keyset_id == self.sat.id:
            return {
                "id": keyset_id.hex(),
                "policy": "sat",
                "announcement": self.sat_announcement.hex(),
                "update": None,
            }
        if keyset_id not in self.epochs:
            raise Refused("unknown-epoch")
        return {
            "id": keyset_id.hex(),
            "policy": "window",
            "unit_value": str(self.unit_value),
            "announcement": self.epochs[keyset_id].announcement.hex(),
            "update": self.update_of(keyset_id).hex(),
        }

    def _keys(self, keyset_id):
        return self.sat if keyset_id == self.sat.id else self.epochs[keyset_id].keys

    def _signature(self, blinded):
        keyset_id, amount = self.signed[blinded]
        [(c, e, s)] = self._keys(keyset_id).sign([(amount, blinded)])
        return {
            "amount": amount,
            "id": keyset_id.hex(),
            "C_": c.hex(),
            "dleq": {"e": e.hex(), "s": s.hex()},
        }

    def _claims(self, body):
        asked = [bytes.fromhex(text) for text in body["claims"]]
        if len(asked) > 500:
            raise Refused("too-many-items")
        found = [
            {"index": index} | self._signature(blinded)
            for index, blinded in enumerate(asked)
            if self.signed.get(blinded, ("",))[0] == bytes.fromhex(body["keyset_id"])
        ]
        known = {row["index"] for row in found}
        return {
            "signatures": found,
            "pending": [],
            "unknown": [index for index in range(len(asked)) if index not in known],
        }

    def _restore(self, body):
        found = [row for row in body["outputs"] if bytes.fromhex(row["B_"]) in self.signed]
        return {
            "outputs": found,
            "signatures": [self._signature(bytes.fromhex(row["B_"])) for row in found],
        }

    def _states(self, body):
        return {
            "states": [
                {"Y": y, "state": "SPENT" if bytes.fromhex(y) in self.spent else "UNSPENT"}
                for y in body["Ys"]
            ]
        }

    def _residue(self, body):
        key = bytes.fromhex(body["claim_key"])
        if "outputs" in body:
            known = json.dumps(body)
            if known not in self.cashed:
                self.cashed[known] = self._cash_out(key, body)
            return self.cashed[known]
        rows = [
            {
                "policy": policy,
                "keyset_id": None if (opened := self.opened) is None else opened.hex(),
                "units": 0 if opened is None else value // self.unit_value,
                "unit_value": str(self.unit_value),
                "value": str(value),
            }
            for (of, policy), value in self.residues.items()
            if of == key
        ]
        return {"known": bool(rows), "residues": rows}

    @property
    def opened(self):
        """Is the newest keyset, if it is open."""
        newest = next(reversed(self.epochs), None)
        return newest if newest is not None and self.epochs[newest].state == OPEN else None

    def _cash_out(self, key, body):
        keyset_id = bytes.fromhex(body["keyset_id"])
        outputs = [(row["amount"], bytes.fromhex(row["B_"])) for row in body["outputs"]]
        assert {row["id"] for row in body["outputs"]} == {keyset_id.hex()}
        parts = b"".join(amount.to_bytes(8, "little") + blinded for amount, blinded in outputs)
        digest = tagged_hash("radpool/cash-out", key + keyset_id + parts)
        if not PublicKeyXOnly(key[1:]).verify(bytes.fromhex(body["signature"]), digest):
            raise Refused("invalid-signature")
        if any(blinded in self.signed for _, blinded in outputs):
            raise Refused("blinded-message-reused")
        if keyset_id != self.opened:
            raise Refused("stale-keyset")
        cost = sum(amount for amount, _ in outputs) * self.unit_value
        if cost > self.residues.get((key, "window"), 0):
            raise Refused("amount-mismatch")
        self.residues[key, "window"] -= cost
        self.signed |= {blinded: (keyset_id, amount) for amount, blinded in outputs}
        signatures = [self._signature(blinded) for _, blinded in outputs]
        return {"signatures": signatures, "value": str(self.residues[key, "window"])}

    def _exchange(self, route, body):
        inputs, outputs = body["inputs"], body["outputs"]
        if not inputs or max(len(inputs), len(outputs)) > ITEMS_MAX:
            raise Refused("too-many-items")
        for row in [*inputs, *outputs]:
            assert type(row["amount"]) is int
        [source] = {bytes.fromhex(row["id"]) for row in inputs}
        [target] = {bytes.fromhex(row["id"]) for row in outputs}
        proofs = [(row["amount"], row["secret"], bytes.fromhex(row["C"])) for row in inputs]
        if not all(self._keys(source).verify(proofs)):
            raise Refused("invalid-proof")
        ys = KeysetKeys.ys([secret for _, secret, _ in proofs])
        if len(set(ys)) != len(ys) or any(y in self.spent for y in ys):
            raise Refused("already-spent")
        blinded = [bytes.fromhex(row["B_"]) for row in outputs]
        if not all(check_points(blinded)):
            raise Refused("invalid-blinded-message")
        if len(set(blinded)) != len(blinded) or any(b in self.signed for b in blinded):
            raise Refused("blinded-message-reused")
        given, asked = (sum(row["amount"] for row in rows) for rows in (inputs, outputs))
        price = {}
        if route == "/work/v1/redeem":
            assert target == self.sat.id
            price = self._redeem(self.epochs[source], given, asked)
        else:
            assert source == target
            if given != asked:
                raise Refused("amount-mismatch")
        self.spent |= dict.fromkeys(ys, source)
        self.signed |= {b: (target, row["amount"]) for b, row in zip(blinded, outputs, strict=True)}
        return {"signatures": [self._signature(b) for b in blinded]} | price

    def _redeem(self, epoch, units, sats):
        if epoch.state != FINAL:
            raise Refused("epoch-open", retry_after_s=60)
        if self.tip < epoch.after:
            raise Refused("immature", retry_after_s=600)
        if epoch.theta * units // epoch.work // 1000 != sats:
            raise Refused("amount-mismatch")
        epoch.paid += sats * 1000
        assert epoch.paid <= epoch.theta
        self.redeemed_sats += sats
        return {"price_num": epoch.theta, "price_den": epoch.work}
