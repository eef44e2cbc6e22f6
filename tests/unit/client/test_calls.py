# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests and answers as values: exact targets, and errors that say what became of a write."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from quorate.client import calls
from quorate.client.calls import Value
from quorate.core.values.events import SCAN_ROWS_MAX
from quorate.errors import (
    BY_CODE,
    InvalidRequest,
    KeyMissing,
    Outcome,
    PeerProtocolError,
    QuorateError,
    Unavailable,
)
from quorate.wire.http import Response


def response(
    status: int, body: bytes = b"", *, kind: str = "application/problem+json", **headers: str
) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    made = Response(status, {"content-type": kind, **named}, keeps_alive=True)
    made.body = body
    return made


def problem(status: int, **members: object) -> Response:
    return response(status, json.dumps(members).encode())


def test_keys_are_escaped_and_options_follow_only_where_given() -> None:
    key = "a b+&/?#=ü"
    escaped = "a%20b%2B%26%2F%3F%23%3D%C3%BC"
    assert calls.kv_call("GET", key, r=None, timeout=None).target == f"/kv?key={escaped}"
    assert calls.kv_call("GET", "k", r=2, timeout=0.0001).target == "/kv?key=k&r=2&timeout=1ms"
    put = calls.kv_call("PUT", "k", "v", w=3, ttl=60, timeout=2)
    assert (put.target, put.body) == ("/kv?key=k&w=3&ttl=60&timeout=2000ms", b"v")
    page = calls.page_call(b"\xff", cursor="c=", limit=5, r=None, timeout=None)
    assert page.target == "/keys?prefix=%FF&limit=5&cursor=c%3D"
    page = calls.page_call("p", cursor="", limit=5, r=2, timeout=3)
    assert page.target == "/keys?prefix=p&limit=5&r=2&timeout=3000ms"


def test_a_page_is_no_longer_than_a_node_lists_at_once() -> None:
    assert 0 < calls.PAGE_KEYS <= SCAN_ROWS_MAX


def test_puts_and_deletes_are_writes_and_gets_are_not() -> None:
    assert calls.kv_call("PUT", "k", "", w=None, ttl=None, timeout=None).is_write
    assert calls.kv_call("DELETE", "k", w=None, timeout=None).is_write
    assert not calls.kv_call("GET", "k", r=None, timeout=None).is_write


@pytest.mark.parametrize("key", ["", b""])
def test_an_empty_key_is_refused_and_only_a_write_has_an_outcome(key: str | bytes) -> None:
    with pytest.raises(KeyMissing) as read:
        calls.kv_call("GET", key, r=None, timeout=None)
    assert read.value.outcome is None
    with pytest.raises(KeyMissing) as written:
        calls.kv_call("DELETE", key, w=None, timeout=None)
    assert written.value.outcome is Outcome.NOT_APPLIED


@pytest.mark.parametrize("raw", ["k", b"k", bytearray(b"k"), memoryview(b"k")])
def test_text_and_all_kinds_of_bytes_are_keys_and_values(raw: calls.Raw) -> None:
    put = calls.kv_call("PUT", raw, raw, w=None, ttl=None, timeout=None)
    assert (put.target, put.body) == ("/kv?key=k", b"k")
    page = calls.page_call(raw, cursor="", limit=5, r=None, timeout=None)
    assert page.target == "/keys?prefix=k&limit=5"


@pytest.mark.parametrize("wrong", [5, 1.5, None, True, [1, 2]])
def test_a_prefix_that_is_neither_text_nor_bytes_is_a_type_error(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"a prefix is .* not {type(wrong).__name__}"):
        calls.page_call(wrong, cursor="", limit=5, r=None, timeout=None)


@pytest.mark.parametrize("kind", BY_CODE.values(), ids=lambda kind: kind.code)
@pytest.mark.parametrize("outcome", Outcome)
def test_every_error_of_the_taxonomy_is_rebuilt_from_its_code(
    kind: type[QuorateError], outcome: Outcome
) -> None:
    answer = problem(503, code=kind.code, detail="why", outcome=outcome.value, needed=2, url="x")
    error = calls.error_of(answer, is_write=True)
    assert type(error) is kind
    assert (error.detail, error.outcome) == ("why", outcome)
    assert error.facts == {"needed": 2, "url": "x"}


@pytest.mark.parametrize(
    ("answer", "kind", "outcome"),
    [
        (response(502, b"<html>", kind="text/html"), Unavailable, Outcome.UNKNOWN),
        (response(413, b"too big", kind="text/plain"), InvalidRequest, Outcome.UNKNOWN),
        (response(500, b"no json"), Unavailable, Outcome.UNKNOWN),
        (response(500, b"[1]"), Unavailable, Outcome.UNKNOWN),
        (problem(503, code="from_the_future", outcome="maybe"), Unavailable, Outcome.UNKNOWN),
        (problem(503, code="storage"), BY_CODE["storage"], Outcome.UNKNOWN),
        (problem(400, code="invalid_request"), InvalidRequest, Outcome.NOT_APPLIED),
    ],
)
def test_an_answer_that_does_not_say_it_leaves_a_write_unknown(
    answer: Response, kind: type[QuorateError], outcome: Outcome
) -> None:
    error = calls.error_of(answer, is_write=True)
    assert type(error) is kind
    assert error.outcome is outcome


def test_a_read_has_no_outcome_and_a_success_no_error() -> None:
    error = calls.error_of(problem(503, code="unavailable", outcome="unknown"), is_write=False)
    assert error is not None
    assert error.outcome is None
    assert calls.error_of(response(200), is_write=True) is None


def test_members_that_would_clash_are_no_facts() -> None:
    hostile = problem(503, **{"self": "x", "detail": "d", "a b": "x", "list": [1], "title": "t"})
    error = calls.error_of(hostile, is_write=False)
    assert error is not None
    assert error.facts == {}


def test_missing_is_only_what_a_node_calls_not_found() -> None:
    assert calls.read_get(problem(404, code="not_found")) is None
    with pytest.raises(InvalidRequest):
        calls.read_get(problem(404, code="no_such_path"))
    with pytest.raises(InvalidRequest):
        calls.read_get(response(404, b"", kind="text/html"))


@pytest.mark.parametrize("is_write", [True, False])
@pytest.mark.parametrize(
    "answer",
    [
        response(200, b"<p>Log in first</p>", kind="text/html"),
        response(200, b"<p>Log in first</p>", kind="text/html", etag='"5f0c-61"'),
        response(204),
        response(302, location="http://elsewhere/"),
    ],
)
def test_what_no_node_can_have_answered_is_no_success(answer: Response, is_write: bool) -> None:
    """P3: a proxy's page says nothing of a write, and is no value."""
    read: Callable[[Response], object] = calls.read_written if is_write else calls.read_get
    with pytest.raises(PeerProtocolError) as caught:
        read(answer)
    assert caught.value.outcome == (Outcome.UNKNOWN if is_write else None)


def test_a_version_is_read_from_its_header_or_the_etag() -> None:
    for headers in ({"quorate_version": "07" * 14}, {"etag": f'"{"07" * 14}"'}):
        assert calls.read_get(response(200, b"v", **headers)) == Value(b"v", "07" * 14)


@pytest.mark.parametrize("is_write", [True, False])
@pytest.mark.parametrize("body", [b"", b"<p>Log in first</p>", b"{", b"\xff", b"{}{}"])
def test_what_should_be_json_and_is_none_is_the_nodes_fault(body: bytes, *, is_write: bool) -> None:
    with pytest.raises(PeerProtocolError) as caught:
        calls.read_json(response(200, body, kind="application/json"), is_write=is_write)
    assert caught.value.outcome == (Outcome.UNKNOWN if is_write else None)


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{}",
        b'{"keys": [1], "cursor": null, "complete": true}',
        b"nonsense",
        b'{"keys": [{}]}',
    ],
)
def test_a_page_in_an_unknown_form_is_the_nodes_fault(body: bytes) -> None:
    with pytest.raises(PeerProtocolError):
        calls.read_page(response(200, body, kind="application/json"))
