# SPDX-License-Identifier: GPL-3.0-or-later
"""etcd is asked in its own two ways: requests that a parser reads, and replies judged."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable

import pytest

from bench.generator import StoreLoad
from bench.peers.etcd import etcd_gateway, etcd_grpc
from tests.bench.conftest import Ask
from tests.bench.scripted import http_request, http_response, scripted

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
END_STREAM, ACK = 1, 1


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def cut(data: bytes) -> int:
    """The connection's preface, or a frame."""
    if data.startswith(PREFACE):
        return len(PREFACE)
    if len(data) < 9 or data.startswith(b"PRI"):
        return 0
    size = 9 + int.from_bytes(data[:3])
    return size if size <= len(data) else 0


class Grpc:
    """Answers each call with the frames that `reply` gives for its stream, and remembers it."""

    def __init__(self, reply: Callable[[int], bytes], *, pings: bool = False) -> None:
        self.calls: list[tuple[int, bytes]] = []
        """By stream: the messages, without their five bytes of gRPC."""
        self.acks: list[int] = []
        self.prefaces = 0
        self._reply = reply
        self._ping = frame(PING, 0, 0, b"12345678") if pings else b""

    def answer(self, data: bytes) -> bytes:
        if data == PREFACE:
            self.prefaces += 1
            return frame(SETTINGS, 0, 0, b"")
        kind, flags, stream = struct.unpack_from(">BBI", data, 3)
        if kind in (SETTINGS, PING) and flags & ACK:
            self.acks.append(kind)
            assert data[9:] == (b"12345678" if kind == PING else b"")
        if kind == DATA:
            assert flags & END_STREAM
            assert data[9:14] == struct.pack(">BI", 0, len(data) - 14)
            self.calls.append((stream, data[14:]))
            return self._ping + self._reply(stream)
        return frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1))


def found(stream: int) -> bytes:
    message = b"\x0a\x1dquorate-bench:"
    return (
        frame(HEADERS, 4, stream, b"\x88")
        + frame(DATA, 0, stream, message)
        + frame(HEADERS, 4 | END_STREAM, stream, b"\x00")
    )


def empty(stream: int) -> bytes:
    return frame(DATA, 0, stream, b"\x00") + frame(HEADERS, END_STREAM, stream, b"\x00")


@pytest.mark.parametrize("pieces", [1, 60])
def test_calls_are_on_streams_of_their_own_and_pings_are_answered(ask: Ask, pieces: int) -> None:
    server = Grpc(found, pings=True)
    with scripted(cut, server.answer, pieces=pieces) as port:
        report = ask(StoreLoad(speak=etcd_grpc, connections=1), port, in_order=20)
    assert (report.requests, report.errors) == (20, {})
    assert server.prefaces == 1
    assert [stream for stream, _ in server.calls] == [2 * number + 1 for number in range(20)]
    for number, (_, message) in enumerate(server.calls):
        assert message.startswith(b"\x0a\x1dquorate-bench:%015d\x12\x40" % number)
        assert len(message) == 31 + 2 + 64
    assert server.acks.count(SETTINGS) == 1
    assert server.acks.count(PING) >= 19


def test_a_range_without_the_key_is_a_miss(ask: Ask) -> None:
    with scripted(cut, Grpc(empty).answer) as port:
        report = ask(StoreLoad(speak=etcd_grpc, connections=2, reads=1.0), port, seconds=0.5)
    assert report.misses == report.requests > 0
    assert report.errors == {}


@pytest.mark.parametrize(
    "reply",
    [
        lambda stream: frame(HEADERS, END_STREAM, stream, b"\x00"),
        lambda stream: frame(RESET, 0, stream, b"\x00\x00\x00\x07"),
    ],
    ids=["trailers alone", "a reset"],
)
def test_a_call_that_brings_nothing_failed(ask: Ask, reply: Callable[[int], bytes]) -> None:
    with scripted(cut, Grpc(reply).answer) as port:
        report = ask(StoreLoad(speak=etcd_grpc, connections=1), port, in_order=3)
    assert report.errors == {"a call that failed": 3}


def test_the_gateway_gets_keys_and_values_in_base64(ask: Ask) -> None:
    bodies: list[dict[str, str]] = []

    def answer(request: bytes) -> bytes:
        head, _, body = request.partition(b"\r\n\r\n")
        assert head.startswith(b"POST /v3/kv/put HTTP/1.1\r\n")
        bodies.append(json.loads(body))
        return http_response(200, b"{}")

    with scripted(http_request, answer) as port:
        report = ask(StoreLoad(speak=etcd_gateway, connections=1), port, in_order=1234)
    assert (report.requests, report.errors) == (1234, {})
    keys = [base64.b64decode(body["key"]) for body in bodies]
    assert keys == [b"quorate-bench::%015d" % number for number in range(1234)]
    assert {len(base64.b64decode(body["value"])) for body in bodies} == {48}


def test_answers_of_the_gateway_are_found_missed_or_failed(ask: Ask) -> None:
    replies = [http_response(200, b'{"kvs":[]}'), http_response(200, b"{}")]
    replies += [http_response(503, b"{}")]
    asked: list[bytes] = []

    def answer(request: bytes) -> bytes:
        asked.append(request)
        return replies[len(asked) % 3]

    with scripted(http_request, answer) as port:
        load = StoreLoad(speak=etcd_gateway, connections=1, reads=1.0, keys=5)
        report = ask(load, port, seconds=0.5)
    count = len(asked)
    assert report.requests == count > 3
    assert report.misses == (count + 2) // 3
    assert report.errors == {"503": (count + 1) // 3}
