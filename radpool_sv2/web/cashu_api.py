"""The mint as ordinary Cashu wallets see it: sat tokens, and nothing of work.

A keyset of an unknown unit stops some wallets for good, so only the sat keyset is shown here.
Browser wallets may ask from any page.

Source: NUT-00 to NUT-03, NUT-06, NUT-07, NUT-09, NUT-12; error codes: `error_codes.md` there.
"""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from radpool_sv2.ecash.policy import SAT_UNIT
from radpool_sv2.ecash.refusal import RefusedError
from radpool_sv2.errors import RemoteProtocolError, StoreError
from radpool_sv2.web.allowance import LOOKUPS_PER_ITEM, Allowance
from radpool_sv2.web.answer import JsonResponse
from radpool_sv2.web.body import (
    OutputsBody,
    SwapBody,
    outputs_of,
    proofs_of,
    read_body,
    restored_of,
)
from radpool_sv2.web.mint import MintView
from radpool_sv2.web.work_api import admit, signatures_json, states_json

__all__ = ["ENDPOINTS", "CashuApi"]

ENDPOINTS = {
    "/v1/info": "the mint for Cashu wallets (NUT-06)",
    "/v1/keys": "public keys of sat tokens (NUT-01)",
    "/v1/keys/{id}": "public keys of a keyset (NUT-01)",
    "/v1/keysets": "keysets of sat tokens (NUT-02)",
    "/v1/swap": "POST: sat tokens into others (NUT-03)",
    "/v1/checkstate": "POST: whether tokens are spent (NUT-07)",
    "/v1/restore": "POST: signatures that were given before (NUT-09)",
}

NUT_CODES = {
    "invalid-proof": 10001,
    "already-spent": 11001,
    "blinded-message-reused": 11003,
    "amount-mismatch": 11005,
    "duplicate-inputs": 11007,
    "duplicate-outputs": 11008,
    "too-many-inputs": 11014,
    "too-many-outputs": 11015,
    "too-many-items": 11014,
    "unknown-keyset": 12001,
    "unknown-epoch": 12001,
    "expired": 12003,
    "minting-disabled": 20003,
}
"""The codes that the NUTs have; 0 for all else, as other mints do."""

STATUS = {"rate-limited": 429, "mint-unavailable": 503}


class CashuApi:
    """Answers requests under /v1."""

    def __init__(
        self, mint: MintView, allowance: Allowance, now_unix_ms: Callable[[], int]
    ) -> None:
        self._mint = mint
        self._allowance = allowance
        self._now_unix_ms = now_unix_ms

    def application(self) -> Starlette:
        """Returns the ASGI application, its paths without `/v1`."""
        return Starlette(
            routes=[
                Route("/info", self._info, methods=["GET"]),
                Route("/keys", self._keys, methods=["GET"]),
                Route("/keys/{id}", self._keys_of, methods=["GET"]),
                Route("/keysets", self._keysets, methods=["GET"]),
                Route("/swap", self._swap, methods=["POST"]),
                Route("/checkstate", self._check_state, methods=["POST"]),
                Route("/restore", self._restore, methods=["POST"]),
                Route("/mint/{rest:path}", self._no_minting, methods=["GET", "POST"]),
                Route("/melt/{rest:path}", self._no_melting, methods=["GET", "POST"]),
            ],
            middleware=[
                Middleware(
                    CORSMiddleware,
                    allow_origins=["*"],
                    allow_methods=["GET", "POST"],
                    allow_headers=["content-type"],
                )
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
                "name": "radpool-sv2",
                "pubkey": self._mint.public_key.hex(),
                "version": f"radpool-sv2/{version('radpool-sv2')}",
                "description": "Sats that were mined: redeem work tokens, keep and send them.",
                "contact": [],
                "time": self._now_unix_ms() // 1000,
                "nuts": {
                    "4": {"methods": [], "disabled": True},
                    "5": {"methods": [], "disabled": True},
                    "7": {"supported": True},
                    "9": {"supported": True},
                    "12": {"supported": True},
                },
            }
        )

    async def _keys(self, _request: Request) -> Response:
        keys = {str(amount): key.hex() for amount, key in self._mint.sat_keys}
        return JsonResponse({"keysets": [self._keyset() | {"keys": keys}]})

    async def _keys_of(self, request: Request) -> Response:
        self._check_keyset(request.path_params["id"])
        return await self._keys(request)

    async def _keysets(self, _request: Request) -> Response:
        return JsonResponse({"keysets": [self._keyset()]})

    def _keyset(self) -> dict[str, Any]:
        return {
            "id": self._mint.sat_keyset.id.hex(),
            "unit": SAT_UNIT,
            "active": True,
            "input_fee_ppk": 0,
        }

    def _check_keyset(self, keyset: str) -> None:
        # Work keysets exist, but not here: nobody can swap work for sats below its price.
        if keyset != self._mint.sat_keyset.id.hex():
            raise RefusedError(
                f"keyset {keyset[:80]!r} is not known: /v1/keysets lists them", "unknown-keyset"
            )

    async def _swap(self, request: Request) -> Response:
        body = await read_body(request, SwapBody)
        for keyset in {row.id for row in body.inputs} | {row.id for row in body.outputs}:
            self._check_keyset(keyset)
        inputs, outputs = proofs_of(body.inputs), outputs_of(body.outputs)
        admit(self._allowance, request, 1 + len(inputs) + len(outputs))
        swapped = await self._mint.sat_swap(inputs, outputs)
        return JsonResponse({"signatures": signatures_json(swapped.signatures, outputs)})

    async def _check_state(self, request: Request) -> Response:
        return JsonResponse({"states": await states_json(self._mint, self._allowance, request)})

    async def _restore(self, request: Request) -> Response:
        body = await read_body(request, OutputsBody)
        blinded = restored_of(body.outputs)
        address = admit(self._allowance, request, 1 + len(blinded) // LOOKUPS_PER_ITEM)
        ours = self._mint.sat_keyset.id
        found = [row for row in await self._mint.sat_restore(blinded) if row.keyset_id == ours]
        self._allowance.charge(address, len(found))
        return JsonResponse(
            {
                "outputs": [
                    {
                        "amount": row.amount,
                        "id": row.keyset_id.hex(),
                        "B_": blinded[row.index].hex(),
                    }
                    for row in found
                ],
                "signatures": [
                    {
                        "amount": row.amount,
                        "id": row.keyset_id.hex(),
                        "C_": row.signature.hex(),
                        "dleq": {"e": row.e.hex(), "s": row.s.hex()},
                    }
                    for row in found
                ],
            }
        )

    async def _no_minting(self, _request: Request) -> Response:
        raise RefusedError(
            "this mint issues sats for mined work alone: /work/v1/redeem", "minting-disabled"
        )

    async def _no_melting(self, _request: Request) -> Response:
        raise RefusedError("this mint does not pay out yet: see /v1/info", "melting-disabled")


def _answer(code: int, detail: str, status: int) -> Response:
    return JsonResponse({"detail": detail, "code": code}, status_code=status)


async def _refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RemoteProtocolError)
    answer = _answer(
        NUT_CODES.get(error.error_code, 0), str(error), STATUS.get(error.error_code, 400)
    )
    if isinstance(error, RefusedError) and error.retry_after_s:
        answer.headers["Retry-After"] = str(error.retry_after_s)
    return answer


async def _unavailable(_request: Request, _error: Exception) -> Response:
    # What the disk says is for the operator; the node's log has it.
    return _answer(0, "the mint cannot write: ask again", 503)


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _answer(0, error.detail, error.status_code)
