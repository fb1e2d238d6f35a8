"""A JSON-RPC server that plays a bitcoin node by a script, for what no real one does here."""

import base64
import contextlib
import http.server
import json
import threading

from radpool_sv2.node.rpc import NodeSettings

TIP = "11" * 32
GENESIS = "22" * 32


class Refuse(Exception):
    """Is raised by an answer to refuse the call."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code
        self.message = message


def chain(**more):
    """What a healthy node tells of its chain."""
    return {
        "chain": "main",
        "blocks": 900_000,
        "headers": 900_000,
        "bestblockhash": TIP,
        "chainwork": "ff",
        "initialblockdownload": False,
        "verificationprogress": 0.99999,
        "pruned": False,
        **more,
    }


def block_template(**more):
    """A template without transactions."""
    return {
        "version": 0x20000000,
        "rules": ["csv", "!segwit", "taproot"],
        "previousblockhash": TIP,
        "transactions": [],
        "coinbasevalue": 312_500_000,
        "longpollid": TIP + "1",
        "bits": "17020000",
        "height": 900_001,
        "curtime": 1_800_000_000,
        "mintime": 1_799_999_000,
        "weightlimit": 4_000_000,
        "sigoplimit": 80_000,
        **more,
    }


class FakeNode:
    """Answers by `answers`: a value, or a function of the call's parameters."""

    def __init__(self):
        self.calls = []
        self.status = None  # (status, body) answers everything
        self.password = "secret"
        self.answers = {
            "getblockchaininfo": chain(),
            "getnetworkinfo": {"subversion": "/Satoshi:30.0.0/", "connections": 8},
            "getdeploymentinfo": {"deployments": {"taproot": {}}},
            "getmempoolinfo": {"bytes": 0},
            "getblocktemplate": block_template(),
        }
        node = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                length = int(self.headers["content-length"])
                status, body = node.handle(self.headers, self.rfile.read(length))
                # Whoever asked may have given up meanwhile.
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def settings(self, **more):
        more = {"user": "me", "password": self.password, "deadline_s": 60.0} | more
        return NodeSettings(url=self.url, **more)

    def handle(self, headers, body):
        credentials = base64.b64decode(headers["authorization"].split()[1]).decode()
        if credentials.partition(":")[2] != self.password:
            return 401, b""
        if self.status is not None:
            return self.status
        request = json.loads(body)
        if isinstance(request, list):
            return 200, json.dumps([self._answer(each) for each in request]).encode()
        answer = self._answer(request)
        return 500 if answer["error"] else 200, json.dumps(answer).encode()

    def _answer(self, request):
        method, params = request["method"], request["params"]
        self.calls.append((method, params))
        result, error = None, None
        try:
            if method not in self.answers:
                raise Refuse(-32601, "Method not found")
            answer = self.answers[method]
            result = answer(*params) if callable(answer) else answer
        except Refuse as refused:
            error = {"code": refused.code, "message": refused.message}
        return {"result": result, "error": error, "id": request["id"]}
