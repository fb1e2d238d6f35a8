"""Serves a `FakeMint` over a real socket, for wallets that are processes of their own."""

import json
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx


@contextmanager
def served(mint):
    """Yields the mint's address. `POST /mine` signs shares, as a pool does."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self):
            content = self.rfile.read(int(self.headers.get("content-length") or 0))
            with lock:
                if self.path == "/mine":
                    answer = mine(mint, json.loads(content))
                else:
                    request = httpx.Request(self.command, f"http://x{self.path}", content=content)
                    answer = mint._serve(request)
            self.send_response(answer.status_code)
            self.send_header("content-length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = handle_one

        def handle(self):
            with suppress(ConnectionError):  # the wallet was killed
                super().handle()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def mine(mint, asked):
    """Signs shares; a blinded message that came before is refused, as a pool does."""
    items = [(bytes.fromhex(blinded), amount) for blinded, amount in asked["items"]]
    if any(blinded in mint.signed for blinded, _ in items):
        mint.reused = True
        return httpx.Response(400, json={"error": "blinded-message-reused"})
    signed = mint.mine(bytes.fromhex(asked["keyset"]), items)
    rows = [[amount, *(part.hex() for part in parts)] for amount, *parts in signed]
    return httpx.Response(200, json=rows)
