"""A Stratum V1 device of `tests/devices`, over a socket, with the limits of its firmware."""

import json
import math
import socket
import struct
import time

from .process import ROOT
from .sv1 import DIFFICULTY_ONE, double_hash
from .tls import HOST

DEVICES = json.loads((ROOT / "tests" / "devices" / "devices.json").read_text())["devices"]


class HangsUp(Exception):
    """The firmware would have closed the connection, or crashed, and why."""


class Device:
    """Says what the firmware says, and takes what it takes."""

    def __init__(self, firmware, address, user, tls=None):
        self._firmware = firmware
        self._user = user
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), timeout=60)
        if tls is not None:
            self._socket = tls.wrap_socket(self._socket, server_hostname=HOST)
        self._buffer = b""
        self._greeted = 0
        self._extranonce1, self._extranonce2_len, self._extranonce2 = b"", 0, 0
        self._submitted = 1_000
        self.job = None
        self.target = self._next_target = None
        self.jobs = self.tips = self.difficulties = 0
        self.answers = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def greet(self):
        """Sends its greeting in one go, as most do, and waits for a job."""
        lines = [
            json.dumps(each).replace("$USER", self._user) for each in self._firmware["greeting"]
        ]
        self._socket.sendall("".join(line + "\n" for line in lines).encode())
        while self.job is None:
            self._take(self._receive())

    def _receive(self, seconds=60.0):
        self._socket.settimeout(seconds)
        while b"\n" not in self._buffer:
            more = self._socket.recv(65_536)
            if not more:
                raise HangsUp("the other side has closed")
            self._buffer += more
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)

    def _take(self, message):
        method = message.get("method")
        if method is None:
            self._take_answer(message)
        elif method == "mining.set_difficulty":
            (difficulty,) = message["params"]
            if difficulty <= 0 or (difficulty >= 1 and not isinstance(difficulty, int)):
                raise HangsUp(f"a difficulty of {difficulty}")
            if math.log2(difficulty) % 1:
                raise HangsUp(f"{difficulty} is no power of two")
            self._next_target = int(DIFFICULTY_ONE / difficulty)
        elif method == "mining.notify":
            if self._greeted < len(self._firmware["greeting"]) or self._next_target is None:
                raise HangsUp("a job before the answers and the difficulty")
            if len(message["params"]) != 9 or message["id"] is not None:
                raise HangsUp(f"a job that is none: {message}")
            self.job = message["params"]
            # A difficulty is that of the jobs behind it.
            self.difficulties += self._next_target != self.target
            self.target = self._next_target
            self.jobs += 1
            self.tips += self.job[8]
            if self._firmware["restarts_extranonce2"]:
                self._extranonce2 = 0
        elif method != "mining.set_version_mask":
            raise HangsUp(f"{method} is not known to it")

    def _take_answer(self, message):
        if message.keys() != {"id", "result", "error"}:
            raise HangsUp(f"an answer without one of its keys: {message}")
        if message["id"] in self.answers:
            self.answers[message["id"]] = message["error"] or message["result"]
            return
        self._greeted += 1
        if message["error"] is not None:
            raise HangsUp(f"refused: {message}")
        result = message["result"]
        if isinstance(result, list) and len(result) == 3:
            self._extranonce1, self._extranonce2_len = bytes.fromhex(result[1]), result[2]
            if len(self._extranonce1) > self._firmware["extranonce1_max"]:
                raise HangsUp("a first extranonce that is too long")
            if self._extranonce2_len > self._firmware["extranonce2_max"]:
                raise HangsUp("a second extranonce that is too long")

    def listen(self, seconds):
        """Takes what comes within so many seconds."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            try:
                self._take(self._receive(left_s))
            except TimeoutError:
                return

    def mine(self):
        """Hashes until it has found a share and its answer is there; returns the answer."""
        while True:
            number = self._find()
            if number is not None:
                break
            self.listen(0.001)
        while self.answers[number] is None:
            self._take(self._receive())
        return self.answers[number]

    def _find(self):
        job, prev, head, tail, branch, version, nbits, ntime, _clean = self.job
        extranonce2 = self._extranonce2.to_bytes(self._extranonce2_len, "big")
        self._extranonce2 += 1
        root = double_hash(
            bytes.fromhex(head) + self._extranonce1 + extranonce2 + bytes.fromhex(tail)
        )
        for sibling in branch:
            root = double_hash(root + bytes.fromhex(sibling))
        swapped = b"".join(bytes.fromhex(prev[at : at + 8])[::-1] for at in range(0, 64, 8))
        start = bytes.fromhex(version)[::-1] + swapped + root
        start += bytes.fromhex(ntime)[::-1] + bytes.fromhex(nbits)[::-1]
        for nonce in range(4_096):
            found = double_hash(start + struct.pack("<I", nonce))
            if int.from_bytes(found, "little") <= self.target:
                return self._submit(job, extranonce2, ntime, nonce)
        return None

    def _submit(self, job, extranonce2, ntime, nonce):
        spelled = {"hex": f"{nonce:08x}", "HEX": f"{nonce:08X}", "number": nonce}
        params = [self._user, job, extranonce2.hex(), ntime, spelled[self._firmware["nonce"]]]
        if self._firmware["rolls_version"]:
            params.append("00000000")
        number = self._submitted = self._submitted + 1
        self.answers[number] = None
        message = {"id": number, "method": "mining.submit", "params": params}
        self._socket.sendall(json.dumps(message).encode() + b"\n")
        return number
