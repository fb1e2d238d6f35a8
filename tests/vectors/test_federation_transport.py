"""The vectors of page 12, which Rust reads too; both ends draw fresh keys here."""

import pytest
from vector_file import cases

from radpool_sv2._native.threshold import Link, TransportKey
from radpool_sv2.errors import RemoteProtocolError

FILE = "12-federation-transport.json"


def key_of(inputs, end):
    return TransportKey.from_secret(bytes.fromhex(inputs[f"{end}_secret"]))


@cases(FILE, "links")
def test_the_first_frame_is_answered(case):
    """spec: FT-2, FT-3, FT-4"""
    inputs = case["inputs"]
    key, committee = key_of(inputs, "dialled"), bytes.fromhex(inputs["committee"])
    assert key.public.hex() == inputs["dialled_public"]
    allowed = [key_of(inputs, "dialler").public]
    first, *_ = (bytes.fromhex(frame) for frame in case["expected"]["frames"])
    reply, messages = Link.accept(key, allowed, committee).receive(first)
    assert len(reply) == len(bytes.fromhex(case["expected"]["frames"][1]))
    assert messages == []
    with pytest.raises(RemoteProtocolError, match="handshake message 1"):
        Link.accept(key, allowed, bytes(32)).receive(first)
    with pytest.raises(RemoteProtocolError, match="handshake message 1"):
        Link.accept(TransportKey.generate(), allowed, committee).receive(first)


@cases(FILE, "links")
def test_a_link_of_the_same_members_carries_the_same_messages(case):
    """spec: FT-6, FT-7"""
    inputs, committee = case["inputs"], bytes.fromhex(case["inputs"]["committee"])
    ours, theirs = key_of(inputs, "dialler"), key_of(inputs, "dialled")
    dialler, first = Link.dial(ours, theirs.public, committee)
    dialled = Link.accept(theirs, [ours.public], committee)
    third, _ = dialler.receive(dialled.receive(first)[0])
    dialled.receive(third)
    for send in case["expected"]["sends"]:
        ends = (dialler, dialled) if send["from"] == "dialler" else (dialled, dialler)
        messages = [bytes.fromhex(message) for message in send["messages"]]
        sealed = ends[0].send(messages)
        assert len(sealed) == len(bytes.fromhex(send["sealed"]))
        assert ends[1].receive(sealed) == (b"", messages)
