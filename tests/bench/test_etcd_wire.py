# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from collections import Counter

from bench.peers.etcd_wire import MISS, GatewayCaller, GrpcCaller

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS = b"\x00\x00\x01\x01\x04\x00\x00\x00\x01\x88"
FOUND = b"\x00\x00\x0e\x00\x00\x00\x00\x00\x01quorate-bench:"
EMPTY = b"\x00\x00\x01\x00\x00\x00\x00\x00\x01\x00"
TRAILERS = b"\x00\x00\x01\x01\x05\x00\x00\x00\x01\x00"
RESET = b"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x07"
PING = b"\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678"
PONG = b"\x00\x00\x08\x06\x01\x00\x00\x00\x0012345678"


def grpc(*, is_read: bool = True) -> tuple[GrpcCaller, Counter[str]]:
    errors: Counter[str] = Counter()
    return GrpcCaller(value=b"v" * 64, is_read=is_read, errors=errors), errors


def test_only_the_first_call_of_a_connection_opens_it() -> None:
    caller, _ = grpc(is_read=False)
    assert caller.request(1).startswith(PREFACE)
    second = caller.request(2)
    assert PREFACE not in second
    assert second.count(b"quorate-bench:000000000000002") == 1
    assert second.endswith(b"v" * 64)


def test_a_reply_in_pieces_is_answered_with_its_last_byte() -> None:
    caller, errors = grpc()
    caller.request(1)
    reply = HEADERS + FOUND + TRAILERS
    assert [caller.is_answered(bytes([byte])) for byte in reply] == [False] * (len(reply) - 1) + [
        True
    ]
    assert not errors


def test_a_call_that_brings_only_trailers_failed() -> None:
    caller, errors = grpc()
    assert caller.is_answered(TRAILERS)
    assert errors == {"a call that failed": 1}


def test_a_call_that_is_reset_failed() -> None:
    caller, errors = grpc()
    assert caller.is_answered(HEADERS + RESET)
    assert errors == {"a call that failed": 1}


def test_a_range_without_the_key_is_a_miss() -> None:
    caller, errors = grpc()
    assert caller.is_answered(HEADERS + EMPTY + TRAILERS)
    assert errors == {MISS: 1}


def test_a_ping_is_answered_before_the_next_call() -> None:
    caller, _ = grpc()
    caller.request(1)
    assert not caller.is_answered(PING)
    assert caller.request(2).startswith(PONG)


def test_the_gateway_is_told_the_length_of_what_it_gets() -> None:
    caller = GatewayCaller(value=b"v" * 64, is_read=False, errors=Counter())
    head, _, body = caller.request(7).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert set(json.loads(body)) == {"key", "value"}


def test_answers_of_the_gateway_count_as_found_missed_or_failed() -> None:
    errors: Counter[str] = Counter()
    caller = GatewayCaller(value=b"", is_read=True, errors=errors)
    body = b'{"kvs":[]}'
    assert not caller.is_answered(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + body[:-1])
    assert caller.is_answered(body[-1:])
    assert not errors
    assert caller.is_answered(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    assert caller.is_answered(b"HTTP/1.1 503 Oh\r\nContent-Length: 2\r\n\r\n{}")
    assert errors == {MISS: 1, "503": 1}
