"""A miner that speaks Stratum V1, in the way of the devices that a translator is for."""

import hashlib
import json
import socket
import struct
import threading

DIFFICULTY_ONE = 0xFFFF << 208


class Sv1Miner:
    """Mines on a thread of its own from `with` to its end.

    Attributes:
        accepted: How many shares were accepted.
        refused: The errors of those that were not.
        lost: Why the connection ended, if it did.
        rests: Whether it does not mine for now.
    """

    def __init__(self, address, user):
        self.accepted = 0
        self.refused = []
        self.lost = ""
        self.rests = False
        self._user = user
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), timeout=60)
        self._buffer = b""
        self._numbers = 0
        self._submitted = set()
        self._job = None
        self._target = DIFFICULTY_ONE
        self._extranonce1, self._extranonce2_len = b"", 0
        self._rolled = 0
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ends.set()
        self._thread.join(60)
        self._socket.close()

    def _run(self):
        try:
            self._ask(
                "mining.configure", [["version-rolling"], {"version-rolling.mask": "1fffe000"}]
            )
            self._subscribe(self._ask("mining.subscribe", ["radpool-tests/1"]))
            assert self._ask("mining.authorize", [self._user, "x"]) is True
            self._socket.settimeout(0.001)
            while not self._ends.is_set():
                self._listen()
                if self._job is None or self.rests:
                    self._ends.wait(0.01)
                else:
                    self._mine()
        except (OSError, ValueError, AssertionError) as error:
            self.lost = f"{type(error).__name__}: {error}"

    def _ask(self, method, params):
        number = self._send(method, params)
        while True:
            message = self._receive()
            if message.get("id") == number and "method" not in message:
                assert not message.get("error"), message
                return message["result"]
            self._take(message)

    def _send(self, method, params):
        self._numbers += 1
        line = json.dumps({"id": self._numbers, "method": method, "params": params})
        self._socket.sendall(line.encode() + b"\n")
        return self._numbers

    def _receive(self):
        while b"\n" not in self._buffer:
            more = self._socket.recv(65_536)
            if not more:
                raise OSError("the translator closed the connection")
            self._buffer += more
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)

    def _listen(self):
        """Takes all messages that have come."""
        try:
            while True:
                self._take(self._receive())
        except TimeoutError:
            return

    def _subscribe(self, result):
        self._extranonce1, self._extranonce2_len = bytes.fromhex(result[1]), result[2]

    def _take(self, message):
        method, params = message.get("method"), message.get("params")
        if method == "mining.set_difficulty":
            self._target = int(DIFFICULTY_ONE / params[0]) if params[0] else DIFFICULTY_ONE
        elif method == "mining.notify":
            self._job = params
        elif method == "mining.set_extranonce":
            self._extranonce1, self._extranonce2_len = bytes.fromhex(params[0]), params[1]
        elif message.get("id") in self._submitted:
            self._submitted.remove(message["id"])
            if message.get("error") or message["result"] is not True:
                self.refused.append(message.get("error"))
            else:
                self.accepted += 1

    def _mine(self):
        """Tries 4,096 nonces on one extranonce."""
        job, prev, head, tail, branch, version, nbits, ntime, _clean = self._job
        self._rolled += 1
        extranonce2 = self._rolled.to_bytes(self._extranonce2_len, "big")
        root = double_hash(
            bytes.fromhex(head) + self._extranonce1 + extranonce2 + bytes.fromhex(tail)
        )
        for sibling in branch:
            root = double_hash(root + bytes.fromhex(sibling))
        # Words of the previous hash come swapped, other numbers big-endian.
        swapped = b"".join(bytes.fromhex(prev[at : at + 8])[::-1] for at in range(0, 64, 8))
        start = bytes.fromhex(version)[::-1] + swapped + root
        start += bytes.fromhex(ntime)[::-1] + bytes.fromhex(nbits)[::-1]
        for nonce in range(4_096):
            found = double_hash(start + struct.pack("<I", nonce))
            if int.from_bytes(found, "little") <= self._target:
                params = [self._user, job, extranonce2.hex(), ntime, f"{nonce:08x}", "00000000"]
                self._submitted.add(self._send("mining.submit", params))


def double_hash(data):
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()
