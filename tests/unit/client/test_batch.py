# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches as JSON: text where it can be, base64 where it must; one result for each operation."""

from __future__ import annotations

import json
from typing import Any

import pytest

from quorate.client.calls import (
    BatchDelete,
    BatchGet,
    BatchOperation,
    BatchPut,
    Value,
    Written,
    batch_call,
    read_batch,
)
from quorate.errors import DiskFull, Outcome, PeerProtocolError, PreconditionFailed
from quorate.wire.http import Response


def answered(*results: object) -> Response:
    response = Response(200, {"content-type": "application/json"}, keeps_alive=True)
    response.body = json.dumps({"results": results}).encode()
    return response


def test_operations_are_written_in_their_order() -> None:
    call = batch_call(
        [BatchPut("a", bytearray(b"\xff"), ttl=5), BatchGet(b"b"), BatchDelete("c")],
        r=1,
        w=2,
        timeout=0.5,
    )
    assert call.target == "/batch?r=1&w=2&timeout=500ms"
    assert json.loads(call.body or b"") == {
        "operations": [
            {"op": "put", "key": "a", "value": {"base64": "/w=="}, "ttl": 5},
            {"op": "get", "key": "b"},
            {"op": "delete", "key": "c"},
        ]
    }


@pytest.mark.parametrize("wrong", [5, None, [1, 2]])
def test_what_is_neither_text_nor_bytes_is_a_type_error_that_names_it(wrong: Any) -> None:
    operations: list[BatchOperation] = [
        BatchGet(wrong),
        BatchPut(wrong, ""),
        BatchPut("k", wrong),
        BatchDelete(wrong),
    ]
    for operation in operations:
        with pytest.raises(TypeError, match=f"is str or bytes, not {type(wrong).__name__}"):
            batch_call([operation], r=None, w=None, timeout=None)


@pytest.mark.parametrize(
    ("operation", "is_write"), [(BatchGet("a"), False), (BatchPut("a", ""), True)]
)
def test_a_batch_that_writes_is_a_write(operation: BatchOperation, is_write: bool) -> None:
    assert batch_call([BatchGet("x"), operation], r=None, w=None, timeout=None).is_write is is_write


def test_each_result_is_of_its_operations_kind() -> None:
    operations: list[BatchOperation] = [
        BatchPut("a", "1"),
        BatchGet("b"),
        BatchGet("c"),
        BatchDelete("d"),
    ]
    results = read_batch(
        answered(
            {"status": 200, "version": "07", "acks": 2},
            {"status": 200, "version": "08", "value": {"base64": "/w=="}},
            {"status": 404},
            {"status": 503, "code": "disk_full", "detail": "full", "outcome": "unknown"},
        ),
        operations,
    )
    assert results[:3] == [Written("07", 2), Value(b"\xff", "08"), None]
    assert isinstance(results[3], DiskFull)
    assert results[3].outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("results", [(), ({"status": 200},), ({},), (1,), ({"status": "x"},)])
def test_an_answer_in_an_unknown_form_leaves_the_writes_unknown(
    results: tuple[object, ...],
) -> None:
    with pytest.raises(PeerProtocolError) as raised:
        read_batch(answered(*results), [BatchPut("a", "1")])
    assert raised.value.outcome is Outcome.UNKNOWN


def test_a_moment_of_expiry_is_written_and_read() -> None:
    call = batch_call([BatchPut("k", "v", expires_ms=7)], r=None, w=None, timeout=None)
    assert json.loads(call.body or b"")["operations"][0]["expires_ms"] == 7
    item = {"status": 200, "version": "07" * 14, "value": "v"}
    results = read_batch(answered(item, {**item, "expires_ms": 7}), [BatchGet("a"), BatchGet("b")])
    assert results == [Value(b"v", "07" * 14), Value(b"v", "07" * 14, 7)]


def test_a_put_for_no_value_there_says_so_and_is_told_what_is() -> None:
    operations = [BatchPut("a", "v"), BatchPut("b", "v", if_absent=True)]
    call = batch_call(operations, r=None, w=None, timeout=None)
    first, second = json.loads(call.body or b"")["operations"]
    assert ("if_absent" in first, second["if_absent"]) == (False, True)
    there = {"status": 412, "code": "precondition_failed", "detail": "x", "version": "07"}
    failed = read_batch(answered({**there, "outcome": "not_applied"}), operations[1:])[0]
    assert isinstance(failed, PreconditionFailed)
    assert (failed.version, failed.outcome) == ("07", Outcome.NOT_APPLIED)


@pytest.mark.parametrize("byte", [*'\0\n\x1f"\\aé€', b"\xff", "\x7f", "\u2028", "\U0001f600"])
def test_no_value_is_much_longer_in_a_body_than_base64_is(byte: str | bytes) -> None:
    """A node takes a body of one and a half times the largest value."""
    raw = (byte.encode() if isinstance(byte, str) else byte) * 10_000
    for share in (1, 3, 17, 1000):
        value = raw + b"a" * (share - 1) * len(raw)
        call = batch_call([BatchPut("k", value)], r=None, w=None, timeout=None)
        assert len(call.body or b"") < 1.4 * len(value) + 200
