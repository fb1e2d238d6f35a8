"""Speaks with a mint over HTTP, and believes nothing that it answers.

Every request is bounded in time and every answer in size; JSON is read strictly (no float, bool or
text where an integer belongs), hexadecimal digits have the length that they must have. What the
money depends on is signed or proven, and is verified elsewhere; here an answer only gets its types.

Three things can come back: an answer, a refusal (the mint did not do it and says why), or nothing
that can be understood, after which nobody knows whether the mint did it.

Source: `spec/05-ecash-messages.md`, "HTTP"; NUT-03, NUT-07, NUT-09.
"""

from __future__ import annotations

import json
import re
import ssl
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, Literal, TypeVar, cast
from urllib.parse import urlsplit

import httpx
import msgspec
import trio

from radpool_sv2.errors import ConfigError, RadpoolError, RemoteProtocolError
from radpool_sv2.wallet.announcement import KEYSET_ID_LEN, SAT_UNIT, WORK_UNIT, Policy
from radpool_sv2.wallet.reader import POINT_LEN

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from radpool_sv2.wallet.purse import SignedOutput

__all__ = [
    "REUSED_CODES",
    "HeldRow",
    "KeysetRow",
    "MintClient",
    "MintInfo",
    "MintRefusedError",
    "MintUnreachableError",
    "check_url",
    "plain",
]

T = TypeVar("T")

SECONDS_MAX: Final = 30.0
"""How long a whole request may take: the mint signs hundreds of outputs in well under one."""
BODY_MAX: Final = 2 << 20
"""No answer is larger: a page of 25 keysets has a quarter of a MiB, 500 signatures a sixth."""
PAGE: Final = 25
KEYSETS_MAX: Final = 100_000
DETAIL_MAX: Final = 300
SCALAR_LEN: Final = 32
INTEGER_MAX: Final = (1 << 64) - 1
PATIENCE_S: Final = 60
"""How long a request waits in all for a mint that says it is busy."""
REUSED_CODES: Final = frozenset({"blinded-message-reused", "11003", "10002"})
"""Says that an output was signed before (NUT error codes: 11003, formerly 10002)."""
BUSY_CODES: Final = frozenset({"rate-limited", "mint-unavailable"})
BUSY_STATUS: Final = frozenset({429, 503})

RESIDUE_PATH: Final = "/work/v1/residue"
POLICIES_MAX: Final = len(Policy)
UNITS_MAX: Final = (1 << 63) - 1
VALUE_MAX: Final = (1 << 128) - 1
DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,38}")

HEX: Final = re.compile(r"(?:[0-9a-f]{2})*")
NUMBER: Final = re.compile(r"[0-9]{1,12}")
UNPRINTABLE: Final = re.compile(r"[^ -~]+")


class MintUnreachableError(RadpoolError):
    """Says that no answer of a mint could be had: the network, the mint or the address is at fault.

    Nobody knows whether the mint did what it was asked; asking the same again finds out.
    """


class MintRefusedError(RemoteProtocolError):
    """Says that a mint did not do what it was asked, and why.

    Args:
        message: What was asked, and what the mint said.
        error_code: Its code.
        peer: Its address.
        retry_after_s: After how many seconds to ask again; None if that does not help.
        busy: Whether it has not even looked at the request.
    """

    def __init__(
        self,
        message: str,
        error_code: str,
        peer: str,
        *,
        retry_after_s: int | None = None,
        busy: bool = False,
    ) -> None:
        super().__init__(message, error_code, peer)
        self.retry_after_s = retry_after_s
        self.busy = busy


class MintInfo(msgspec.Struct, frozen=True):
    """Is what a mint says about itself."""

    mint_pubkey: str
    z0: int
    sat_keyset: str
    tip_height: int
    confirmations: int
    coinbase_maturity: int

    @property
    def public_key(self) -> bytes:
        """Is the mint's identity."""
        return _unhex(self.mint_pubkey, POINT_LEN)

    @property
    def sat_keyset_id(self) -> bytes:
        """Is the keyset whose tokens are sats."""
        return _unhex(self.sat_keyset, KEYSET_ID_LEN)


class KeysetRow(msgspec.Struct, frozen=True):
    """Is a keyset as the mint lists it; all but the value of a unit is signed."""

    id: str
    announcement: str
    update: str | None = None
    unit_value: str = "0"

    @property
    def value_of_unit(self) -> int:
        """Is what one unit costs of shares' value; 0 where units count work alone."""
        return _decimal(self.unit_value)

    @property
    def announced(self) -> bytes:
        """Is the EcashKeysetAnnounce."""
        return _unhex(self.announcement)

    @property
    def updated(self) -> bytes | None:
        """Is the EcashEpochUpdate."""
        return _unhex(self.update) if self.update else None


class HeldRow(msgspec.Struct, frozen=True):
    """Is what a mint holds under a claim key for one policy.

    Attributes:
        policy: The policy's name.
        units: How many whole units of the open keyset it makes.
        value: The same in the ledger's units of value, in decimal.
        unit_value: What one unit of the open keyset costs of it, in decimal.
        keyset_id: The open keyset, in hex; None if there is none.
    """

    policy: str
    units: int
    value: str
    unit_value: str
    keyset_id: str | None = None

    @property
    def keyset(self) -> bytes | None:
        """Is the open keyset's id, 33 bytes."""
        return None if self.keyset_id is None else _unhex(self.keyset_id, KEYSET_ID_LEN)


class _Held(msgspec.Struct):
    known: bool
    residues: list[HeldRow]


class _Page(msgspec.Struct):
    total: int
    keysets: list[KeysetRow]


class _Dleq(msgspec.Struct):
    e: str
    s: str


class _Signature(msgspec.Struct):
    amount: int
    C_: str
    id: str = ""
    dleq: _Dleq | None = None

    def read(self) -> SignedOutput:
        """Returns amount, C_, e and s; a missing proof is empty, and verifies as wrong."""
        proof = (b"", b"")
        if self.dleq is not None:
            proof = _unhex(self.dleq.e, SCALAR_LEN), _unhex(self.dleq.s, SCALAR_LEN)
        return _integer(self.amount), _unhex(self.C_, POINT_LEN), *proof


class _Indexed(_Signature, kw_only=True):
    index: int


class _Claims(msgspec.Struct):
    signatures: list[_Indexed]


class _Exchanged(msgspec.Struct):
    signatures: list[_Signature]


class _Blinded(msgspec.Struct):
    B_: str


class _Restored(msgspec.Struct):
    outputs: list[_Blinded]
    signatures: list[_Signature]


class _State(msgspec.Struct):
    Y: str
    state: Literal["UNSPENT", "PENDING", "SPENT"]


class _States(msgspec.Struct):
    states: list[_State]


class _Refusal(msgspec.Struct):
    error: str = ""
    detail: str = ""
    code: int | None = None
    retry_after_s: int | None = None


class MintClient:
    """Asks one mint.

    Args:
        url: Its address, as `check_url` returns it.
        transport: Carries the requests instead of the network.
    """

    def __init__(self, url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.url = url
        self._turn = trio.Lock()
        self._client = httpx.AsyncClient(
            transport=transport,
            timeout=SECONDS_MAX,
            follow_redirects=False,
            trust_env=False,
            headers={"accept-encoding": "identity", "user-agent": "radpool"},
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def info(self) -> MintInfo:
        """Asks who the mint is and how long the chain is."""
        info = await self._get("/work/v1/info", MintInfo)
        for number in (info.z0, info.tip_height, info.confirmations, info.coinbase_maturity):
            _integer(number)
        return info

    async def keyset(self, identifier: bytes) -> KeysetRow:
        """Asks for one keyset."""
        row = await self._get(f"/work/v1/keysets/{identifier.hex()}", KeysetRow)
        if row.id != identifier.hex():
            raise self._wrong(f"the keyset {row.id} where {identifier.hex()} was asked for")
        return row

    async def keysets(self) -> list[KeysetRow]:
        """Asks for all keysets, newest first, by pages; one that opens meanwhile hides none."""
        found: dict[str, KeysetRow] = {}
        offset = 0
        while True:
            page = await self._get(f"/work/v1/keysets?offset={offset}&limit={PAGE}", _Page)
            found |= {row.id: row for row in page.keysets}
            offset += len(page.keysets)
            if not page.keysets or offset >= _integer(page.total):
                return list(found.values())
            if offset > KEYSETS_MAX or len(page.keysets) > PAGE:
                raise self._wrong("more keysets than a mint can have")

    async def signed(
        self, identifier: bytes, unit: str, blinded: Sequence[bytes]
    ) -> dict[bytes, SignedOutput]:
        """Asks for the signatures that the mint ever made of blinded messages.

        Args:
            identifier: Their keyset.
            unit: The keyset's unit.
            blinded: At most 500 (work) or 250 (sat) blinded messages.

        Returns:
            What was signed, by blinded message.
        """
        texts = [message.hex() for message in blinded]
        if unit == WORK_UNIT:
            body = {"keyset_id": identifier.hex(), "claims": texts}
            claims = await self._post("/work/v1/claims", body, _Claims)
            if any(not 0 <= row.index < len(blinded) for row in claims.signatures):
                raise self._wrong("a signature of something that was not asked for")
            rows: list[tuple[bytes, _Signature]] = [
                (blinded[row.index], row) for row in claims.signatures
            ]
        else:
            outputs = [{"amount": 1, "id": identifier.hex(), "B_": text} for text in texts]
            restored = await self._post("/v1/restore", {"outputs": outputs}, _Restored)
            if len(restored.outputs) != len(restored.signatures):
                raise self._wrong("more or fewer signatures than outputs")
            rows = [
                (_unhex(output.B_, POINT_LEN), row)
                for output, row in zip(restored.outputs, restored.signatures, strict=True)
            ]
        found = {message: row.read() for message, row in rows}
        if len(found) != len(rows) or not found.keys() <= set(blinded):
            raise self._wrong("a signature twice, or of something that was not asked for")
        return found

    async def spent(self, unit: str, ys: Sequence[bytes]) -> list[bool]:
        """Asks which tokens are spent, by the points of their secrets."""
        base = "/work/v1" if unit == WORK_UNIT else "/v1"
        asked = [point.hex() for point in ys]
        answer = await self._post(f"{base}/checkstate", {"Ys": asked}, _States)
        if [row.Y for row in answer.states] != asked:
            raise self._wrong("the states of other tokens than those asked for")
        return [row.state != "UNSPENT" for row in answer.states]

    async def exchange(self, inputs: str, outputs: str, request: bytes) -> list[SignedOutput]:
        """Gives tokens for others.

        Args:
            inputs: The unit of what is given.
            outputs: The unit of what is asked for.
            request: The body.

        Raises:
            MintRefusedError: The mint did not take them.
            MintUnreachableError: Nobody knows whether it did.
            RemoteProtocolError: It answered something else.
        """
        path = {
            (WORK_UNIT, WORK_UNIT): "/work/v1/swap",
            (WORK_UNIT, SAT_UNIT): "/work/v1/redeem",
            (SAT_UNIT, SAT_UNIT): "/v1/swap",
        }[inputs, outputs]
        answer = await self._send("POST", path, request, _Exchanged)
        return [row.read() for row in answer.signatures]

    async def held(self, claim_key: bytes) -> list[HeldRow]:
        """Asks what the mint holds under a claim key; nothing where it never held anything.

        Raises:
            MintRefusedError: It knows no claim keys, or refuses to tell.
        """
        answer = await self._post(RESIDUE_PATH, {"claim_key": claim_key.hex()}, _Held)
        rows = answer.residues
        if answer.known is not bool(rows):
            raise self._wrong("what contradicts itself about a claim key")
        if len({row.policy for row in rows}) != len(rows) or len(rows) > POLICIES_MAX:
            raise self._wrong("a policy twice, or more of them than there are")
        for row in rows:
            self._check_held(row)
        return rows

    def _check_held(self, row: HeldRow) -> None:
        """Makes sure that a row of `held` agrees with itself."""
        if row.policy not in {policy.word for policy in Policy}:
            raise self._wrong(f"a policy {plain(row.policy)!r}, of which nothing is known")
        value, unit_value = _decimal(row.value), _decimal(row.unit_value)
        whole = value // unit_value if unit_value and row.keyset is not None else 0
        if row.units != min(whole, UNITS_MAX):
            raise self._wrong(f"{row.units} units where {value} at {unit_value} each are held")

    async def cash_out(self, request: bytes) -> list[SignedOutput]:
        """Has what is held under a claim key turned into tokens.

        Raises:
            MintRefusedError: The mint did not do it.
            MintUnreachableError: Nobody knows whether it did.
            RemoteProtocolError: It answered something else.
        """
        answer = await self._send("POST", RESIDUE_PATH, request, _Exchanged)
        return [row.read() for row in answer.signatures]

    async def _get(self, path: str, kind: type[T]) -> T:
        return await self._send("GET", path, None, kind)

    async def _post(self, path: str, body: Mapping[str, object], kind: type[T]) -> T:
        return await self._send("POST", path, json.dumps(body).encode(), kind)

    async def _send(self, method: str, path: str, body: bytes | None, kind: type[T]) -> T:
        """Sends a request, again after a while if the mint is busy."""
        try:
            return await self._send_once(method, path, body, kind)
        except MintRefusedError as refusal:
            if not refusal.busy:
                raise
            told = refusal
        # One at a time from here on: what is under way at once only keeps the mint busy.
        async with self._turn:
            end = trio.current_time() + PATIENCE_S
            while True:
                wait_s = max(told.retry_after_s or 1, 1)
                if trio.current_time() + wait_s > end:
                    raise told
                await trio.sleep(wait_s)
                try:
                    return await self._send_once(method, path, body, kind)
                except MintRefusedError as refusal:
                    if not refusal.busy:
                        raise
                    told = refusal

    async def _send_once(self, method: str, path: str, body: bytes | None, kind: type[T]) -> T:
        status, later, raw = await self._transmit(method, path, body)
        if not 200 <= status < 300:
            raise self._refusal(path, status, later, raw)
        try:
            return msgspec.json.decode(raw, type=kind)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise self._wrong(
                f"something that is no answer to {path} ({plain(str(error))})"
            ) from error

    async def _transmit(self, method: str, path: str, body: bytes | None) -> tuple[int, str, bytes]:
        """Returns the status of an answer, what it says about coming back later, and its body."""
        headers = {} if body is None else {"content-type": "application/json"}
        try:
            with trio.fail_after(SECONDS_MAX):
                async with self._client.stream(
                    method, self.url + path, content=body, headers=headers
                ) as response:
                    later = response.headers.get("retry-after", "")
                    return response.status_code, later, await self._read(response, path)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ssl.SSLError) as error:
            why = plain(str(error)) or type(error).__name__
            raise MintUnreachableError(f"the mint at {self.url} does not answer: {why}") from error
        except trio.TooSlowError as error:
            raise MintUnreachableError(
                f"the mint at {self.url} did not answer within {SECONDS_MAX:.0f} s"
            ) from error

    async def _read(self, response: httpx.Response, path: str) -> bytes:
        """Reads the body of an answer, up to the bound."""
        if "content-encoding" in response.headers:
            # A few compressed bytes could become gigabytes.
            raise self._wrong(f"something compressed to {path}: nobody asked for that")
        told = response.headers.get("content-length", "0")
        if not NUMBER.fullmatch(told) or int(told) > BODY_MAX:
            raise self._wrong(f"more than {BODY_MAX} bytes to {path}")
        raw = bytearray()
        # httpx declares less than it gives: a generator, which has to be closed where reading ends.
        stream = cast("AsyncGenerator[bytes, None]", response.aiter_raw())
        async with aclosing(stream) as parts:
            async for part in parts:
                raw += part
                if len(raw) > BODY_MAX:
                    raise self._wrong(f"more than {BODY_MAX} bytes to {path}")
        return bytes(raw)

    def _refusal(self, path: str, status: int, later: str, raw: bytes) -> RadpoolError:
        """Makes the error of an answer that says no."""
        try:
            said = msgspec.json.decode(raw, type=_Refusal)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            said = _Refusal()
        code = said.error or ("" if said.code is None else str(said.code))
        busy = status in BUSY_STATUS or code in BUSY_CODES
        if (status >= 500 and not busy) or not (code or said.detail):
            return MintUnreachableError(
                f"{self.url}{path} answers with HTTP status {status}: is that a mint's address?"
            )
        wait = said.retry_after_s
        if wait is None and NUMBER.fullmatch(later):
            wait = int(later)
        detail = f" ({plain(said.detail)})" if said.detail and said.detail != code else ""
        return MintRefusedError(
            f"the mint at {self.url} refused: {plain(code)}{detail}",
            plain(code),
            self.url,
            retry_after_s=wait if wait is not None and 0 <= wait <= INTEGER_MAX else None,
            busy=busy,
        )

    def _wrong(self, what: str) -> RemoteProtocolError:
        return RemoteProtocolError(f"the mint at {self.url} answered {what}", peer=self.url)


def check_url(text: str) -> str:
    """Returns an address as it stands in tokens: without slashes at its end.

    Raises:
        ConfigError: It is no address of HTTP.
    """
    try:
        parts = urlsplit(text.strip())
        good = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or 1)
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment or parts.username or not text.isascii():
        raise ConfigError(
            "not an address of a mint",
            key="--mint",
            value=text,
            allowed="https://HOST, http://HOST:PORT, with or without a path",
        )
    return text.strip().rstrip("/")


def _integer(number: int) -> int:
    if not 0 <= number <= INTEGER_MAX:
        raise RemoteProtocolError(f"the mint wrote {number}, which is no number of 64 bits")
    return number


def _decimal(text: str) -> int:
    if not DECIMAL.fullmatch(text) or int(text) > VALUE_MAX:
        raise RemoteProtocolError(
            f"the mint wrote {plain(text)[:80]!r} where a decimal number of 128 bits belongs"
        )
    return int(text)


def _unhex(text: str, length: int | None = None) -> bytes:
    if not HEX.fullmatch(text) or (length is not None and len(text) != 2 * length):
        what = "bytes" if length is None else f"{length} bytes"
        raise RemoteProtocolError(
            f"the mint wrote {plain(text)[:80]!r} where {what} as lower-case hexadecimal belong"
        )
    return bytes.fromhex(text)


def plain(text: str) -> str:
    """Returns a stranger's text so that a terminal shows it and does nothing else."""
    return UNPRINTABLE.sub("?", text)[:DETAIL_MAX]
