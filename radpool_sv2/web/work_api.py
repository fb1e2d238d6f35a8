"""The mint's endpoints for work tokens: what the wire protocol offers, without a mining connection.

A wallet that redeems here, by another way than its miner took, does not show which miner it is.

Source: `spec/05-ecash-messages.md` for the meaning, `spec/07-ecash-epochs.md` for
statements.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from radpool_sv2.ecash.cash_out import Residue
from radpool_sv2.ecash.keyset import KeysetView
from radpool_sv2.ecash.policy import SAT_UNIT
from radpool_sv2.ecash.refusal import RefusedError
from radpool_sv2.ecash.statement import Inclusion
from radpool_sv2.ecash.token import BlindSignature, Output, Proof, Redeemed
from radpool_sv2.errors import RemoteProtocolError, StoreError
from radpool_sv2.web.allowance import LOOKUPS_PER_ITEM, Allowance
from radpool_sv2.web.answer import JsonResponse
from radpool_sv2.web.body import (
    CheckBody,
    ClaimsBody,
    InclusionBody,
    ResidueBody,
    SpendBody,
    blinded_message,
    claim_key,
    claims_of,
    keyset_id,
    outputs_of,
    points_of,
    proofs_of,
    read_body,
    signature_of,
)
from radpool_sv2.web.mint import MintView
from radpool_sv2.web.page import Page

__all__ = ["ENDPOINTS", "WorkApi", "admit"]

ENDPOINTS = {
    "/work/v1/info": "the mint: identity, unit, policies, tip",
    "/work/v1/keysets": "work keysets, the newest first (offset, limit)",
    "/work/v1/keysets/{id}": "one keyset: announcement, price, state",
    "/work/v1/claims": "POST: signatures of claims by their B_",
    "/work/v1/redeem": "POST: work tokens of one keyset into sat tokens",
    "/work/v1/swap": "POST: work tokens of one keyset into others of it",
    "/work/v1/residue": "POST: what a claim key has left over, or whole units of it as tokens",
    "/work/v1/checkstate": "POST: whether tokens are spent",
    "/work/v1/statements/{id}": "the signed statement of a keyset whose price is final",
    "/work/v1/inclusion": "POST: where a claim stands in its keyset's statement",
}

WIRE_CODES = {
    "too-many-inputs": "too-many-items",
    "too-many-outputs": "too-many-items",
    "too-many-claims": "too-many-items",
    "too-many-Ys": "too-many-items",
    "duplicate-inputs": "already-spent",
    "duplicate-outputs": "blinded-message-reused",
}
"""What the body reader tells apart and the wire protocol does not."""

STATUS = {
    "unknown-epoch": 404,
    "unknown-keyset": 404,
    "rate-limited": 429,
    "mint-unavailable": 503,
}
"""HTTP status by error code; 400 for all others."""

INCLUSION_ITEMS = 8
"""What a path costs: it is read off a tree that may have to be made first."""

Spend = Callable[[bytes, list[Proof], list[Output]], Awaitable[Redeemed]]


def admit(allowance: Allowance, request: Request, items: int) -> str:
    """Admits a request that its sender has allowance for, and returns the sender's address.

    Raises:
        RefusedError: `rate-limited`, with `retry_after_s`.
    """
    address = request.client.host if request.client else ""
    wait = allowance.take(address, items)
    if wait:
        text = f"too much at once: try again in {wait} s"
        raise RefusedError(text, "rate-limited", retry_after_s=wait)
    return address


class WorkApi:
    """Answers requests under /work/v1."""

    def __init__(self, mint: MintView, allowance: Allowance) -> None:
        self._mint = mint
        self._allowance = allowance
        # The tree of a large keyset takes seconds to make; tokens go on being redeemed meanwhile.
        self._proving = trio.CapacityLimiter(1)

    def application(self) -> Starlette:
        """Returns the ASGI application, its paths without `/work/v1`."""
        return Starlette(
            routes=[
                Route("/info", self._info, methods=["GET"]),
                Route("/keysets", self._keysets, methods=["GET"]),
                Route("/keysets/{id}", self._keyset, methods=["GET"]),
                Route("/claims", self._claims, methods=["POST"]),
                Route("/redeem", self._redeem, methods=["POST"]),
                Route("/swap", self._swap, methods=["POST"]),
                Route("/residue", self._residue, methods=["POST"]),
                Route("/checkstate", self._check_state, methods=["POST"]),
                Route("/statements/{id}", self._statement, methods=["GET"]),
                Route("/inclusion", self._inclusion, methods=["POST"]),
            ],
            exception_handlers={
                RemoteProtocolError: _refusal,
                StoreError: _unavailable,
                HTTPException: _http_error,
            },
        )

    async def _info(self, _request: Request) -> Response:
        return JsonResponse(
            {
                "mint_pubkey": self._mint.public_key.hex(),
                "z0": self._mint.z0,
                "policies": [policy.word for policy in self._mint.policies],
                "sat_keyset": self._mint.sat_keyset.id.hex(),
                "tip_height": self._mint.tip_height,
                "confirmations": self._mint.confirmations,
                "coinbase_maturity": self._mint.settings.coinbase_maturity,
            }
        )

    async def _keysets(self, request: Request) -> Response:
        page = Page.of(request)
        total, rows = await self._mint.keysets(page.offset, page.limit)
        return JsonResponse({"total": total, "keysets": [keyset_json(row) for row in rows]})

    async def _keyset(self, request: Request) -> Response:
        keyset = await self._mint.find_keyset(keyset_id(request.path_params["id"]))
        if keyset is None:
            raise RefusedError("no keyset of that id is known here", "unknown-keyset")
        return JsonResponse(keyset_json(keyset))

    async def _claims(self, request: Request) -> Response:
        body = await read_body(request, ClaimsBody)
        claims = claims_of(body.claims)
        address = admit(self._allowance, request, 1 + len(claims) // LOOKUPS_PER_ITEM)
        fetched = await self._mint.fetch(keyset_id(body.keyset_id), claims)
        self._allowance.charge(address, len(fetched.signatures))
        rows = [
            {"index": index, "amount": amount, "C_": c.hex(), "dleq": {"e": e.hex(), "s": s.hex()}}
            for index, amount, c, e, s in fetched.signatures
        ]
        return JsonResponse(
            {
                "signatures": rows,
                "pending": list(fetched.pending),
                "unknown": list(fetched.unknown),
            }
        )

    async def _redeem(self, request: Request) -> Response:
        return await self._spend(request, self._mint.redeem)

    async def _swap(self, request: Request) -> Response:
        return await self._spend(request, self._mint.swap)

    async def _spend(self, request: Request, spend: Spend) -> Response:
        body = await read_body(request, SpendBody)
        inputs, outputs = proofs_of(body.inputs), outputs_of(body.outputs)
        keyset = keyset_id(body.keyset_id)
        if any(row.id != body.keyset_id for row in body.inputs):
            raise RefusedError(
                "an input of another keyset: redeem and swap each keyset by itself",
                "amount-mismatch",
            )
        admit(self._allowance, request, 1 + len(inputs) + len(outputs))
        redeemed = await spend(keyset, inputs, outputs)
        return JsonResponse(
            {
                "signatures": signatures_json(redeemed.signatures, outputs),
                "price_num": redeemed.price_num,
                "price_den": redeemed.price_den,
            }
        )

    async def _residue(self, request: Request) -> Response:
        body = await read_body(request, ResidueBody)
        key = claim_key(body.claim_key)
        if not body.outputs:
            admit(self._allowance, request, 1)
            found = await self._mint.residues(key)
            rows = [residue_json(each) for each in found]
            return JsonResponse({"known": bool(rows), "residues": rows})
        outputs, signature = outputs_of(body.outputs), signature_of(body.signature)
        keyset = keyset_id(body.keyset_id)
        admit(self._allowance, request, 1 + len(outputs))
        cashed = await self._mint.cash_out(key, keyset, outputs, signature)
        rows = signatures_json(cashed.signatures, outputs)
        return JsonResponse({"signatures": rows, "value": str(cashed.value)})

    async def _check_state(self, request: Request) -> Response:
        return JsonResponse({"states": await states_json(self._mint, self._allowance, request)})

    async def _statement(self, request: Request) -> Response:
        admit(self._allowance, request, 1)
        statement = await self._mint.statement(keyset_id(request.path_params["id"]))
        return Response(statement.document, media_type="application/json")

    async def _inclusion(self, request: Request) -> Response:
        body = await read_body(request, InclusionBody)
        blinded = blinded_message(body.B_)
        admit(self._allowance, request, INCLUSION_ITEMS)
        async with self._proving:
            proof = await self._mint.inclusion(blinded)
        return JsonResponse(inclusion_json(body.B_, proof))


def keyset_json(keyset: KeysetView) -> dict[str, Any]:
    """Returns a keyset with both signed messages about it."""
    return {
        "id": keyset.id.hex(),
        "policy": SAT_UNIT if keyset.policy is None else keyset.policy.word,
        "state": keyset.state.word,
        "epoch": keyset.epoch,
        "height": keyset.height,
        "opened_ms": keyset.opened_ms,
        "announcement": keyset.announcement.hex(),
        # The sat keyset has no epoch that could change.
        "update": None if keyset.policy is None else keyset.update.hex(),
        "theta_msat": keyset.theta_msat,
        "work": keyset.work,
        "paid_msat": keyset.paid_msat,
        "redeem_after_height": keyset.redeem_after_height,
        "expires_at": keyset.expires_at,
        # Beyond what readers of JSON count to.
        "unit_value": str(keyset.unit_value),
    }


def residue_json(residue: Residue) -> Mapping[str, Any]:
    """Returns what a claim key has left over under a policy; values are texts."""
    return {
        "policy": residue.policy.word,
        "keyset_id": None if residue.keyset_id is None else residue.keyset_id.hex(),
        "units": residue.units,
        "unit_value": str(residue.unit_value),
        "value": str(residue.value),
    }


def signatures_json(
    signatures: Sequence[BlindSignature], outputs: list[Output]
) -> list[Mapping[str, Any]]:
    """Returns signatures in the order of the outputs."""
    return [
        {
            "amount": amount,
            "id": outputs[index].keyset.hex(),
            "C_": c.hex(),
            "dleq": {"e": e.hex(), "s": s.hex()},
        }
        for index, amount, c, e, s in sorted(signatures, key=lambda row: row[0])
    ]


async def states_json(
    mint: MintView, allowance: Allowance, request: Request
) -> list[Mapping[str, Any]]:
    """Answers which tokens are spent; both sides of the mint ask the same way (NUT-07)."""
    body = await read_body(request, CheckBody)
    ys = points_of(body.Ys)
    admit(allowance, request, 1 + len(ys) // LOOKUPS_PER_ITEM)
    spent = await mint.check_state(ys)
    return [
        {"Y": y, "state": "SPENT" if is_spent else "UNSPENT", "witness": None}
        for y, is_spent in zip(body.Ys, spent, strict=True)
    ]


def inclusion_json(blinded: str, proof: Inclusion) -> dict[str, Any]:
    """Returns a leaf and its path; sums are units."""
    return {
        "leaf": {
            "keyset": proof.keyset.hex(),
            "index": proof.index,
            "count": proof.count,
            "share": proof.share_hash[::-1].hex(),
            "B_": blinded,
            "work": proof.units,
        },
        "path": [{"hash": node.hex(), "work": units} for node, units in proof.path],
    }


async def _refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RemoteProtocolError)
    code = WIRE_CODES.get(error.error_code, error.error_code)
    answer: dict[str, Any] = {"error": code, "detail": str(error)}
    headers = {}
    if isinstance(error, RefusedError) and error.retry_after_s:
        answer["retry_after_s"] = error.retry_after_s
        headers["Retry-After"] = str(error.retry_after_s)
    return JsonResponse(answer, status_code=STATUS.get(code, 400), headers=headers)


async def _unavailable(_request: Request, _error: Exception) -> Response:
    # What the disk says is for the operator; the node's log has it.
    answer = {"error": "mint-unavailable", "detail": "the mint cannot write: ask again"}
    return JsonResponse(answer, status_code=503)


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not-found", 405: "method-not-allowed", 413: "too-large"}
    answer = {"error": code.get(error.status_code, "malformed-request"), "detail": error.detail}
    return JsonResponse(answer, status_code=error.status_code)
