# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that say more than a key: each is sent by both lanes, and the answers must not differ.

What is well-formed stays in the fast lane. What is to be refused before the store is asked is
aiohttp's, whichever lane it came by.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quorate.core.values.events import Update
from quorate.errors import BY_CODE, NEVER_BEGUN, Outcome, QuorateError, QuorumUnreachable
from quorate.wire.resp import INT64
from tests.conformance.test_http_door import (
    FAST,
    SLOW,
    build,
    rewind,
    served_by_aiohttp,
    without_date,
)
from tests.http_served import Client, Response, Served

DATE = "Sat, 01 Jan 2000 00:00:00 GMT"


class Sent(NamedTuple):
    """A request; `{}` in a header stands for the version that the key has."""

    method: str
    headers: tuple[str, ...] = ()
    value: bytes = b"new"
    query: str = ""

    def built(self, etag: str, *, lane: bytes) -> bytes:
        """Its bytes. What the fast lane is not for is said last."""
        headers = "".join(f"{each}\r\n" for each in self.headers).replace("{}", etag).encode()
        if self.method == "POST":
            head = f"POST /incr?key=k{self.query} HTTP/1.1\r\nHost: localhost\r\n"
            return head.encode() + headers + lane + b"\r\n"
        value = self.value if self.method == "PUT" else None
        return build(self.method, b"k", lane=lane, value=value, query=self.query, headers=headers)


def answers(http: Served, requests: list[Sent], *, lane: bytes) -> list[Response]:
    """One after the other, to a store that is as new."""
    http.call(lambda: rewind(http.store))
    found, etag = [], '"none"'
    with http.client() as client:
        for each in requests:
            found.append(without_date(client.ask(each.built(etag, lane=lane))))
            etag = found[-1].headers.get("etag", etag)
    return found


def by_both(http: Served, requests: list[Sent]) -> list[Response]:
    """The answers by the fast lane, after they were compared with those by the other."""
    told = []
    for lane in (FAST, SLOW):
        failure = http.store.failure
        http.reset()
        http.store.failure = failure
        told.append(answers(http, requests, lane=lane))
    assert told[0] == told[1]
    return told[0]


PUT_OLD = Sent("PUT", value=b"7")

CONDITIONS = [
    # Headers, and what becomes of a write and of a read where the version is there.
    (("If-Match: {}",), 200, 200),
    (("If-Match: *",), 200, 200),
    (("if-match:*",), 200, 200),
    (("IF-MATCH: \t {}  ",), 200, 200),
    (('If-Match: "x", {}',), 200, 200),
    (('If-Match: "x"', "If-Match: {}"), 200, 200),
    (('If-Match: "x"', "Accept: */*", "iF-mAtCh: {}"), 200, 200),
    (('If-Match: "x" , , {} ,',), 200, 200),
    (("If-Match: {}", 'If-None-Match: "x"'), 200, 200),
    (('If-None-Match: "x", W/"y"',), 200, 200),
    (("If-None-Match:",), 200, 200),
    (('If-Match: "x"',), 412, 412),
    (("If-Match:",), 412, 412),
    (("If-Match: W/{}",), 412, 412),
    (('If-Match: "x"', 'If-None-Match: "x"'), 412, 412),
    (("If-None-Match: *",), 412, 304),
    (("If-None-Match: {}",), 412, 304),
    (("If-None-Match: W/{}",), 412, 304),
    (('If-None-Match: "x"', "If-None-Match: W/{}"), 412, 304),
    (("If-Match: {}", "If-None-Match: {}"), 412, 304),
]
MALFORMED = [
    ("If-Match: x",),
    ("If-Match: *,*",),
    ('If-Match: *, "x"',),
    ('If-Match: "x" "y"',),
    ('If-Match: w/"x"',),
    ('If-Match: W/ "x"',),
    ('If-Match: "x',),
    ("If-None-Match: {}", "If-None-Match: *"),
    ("If-Match: {}", "If-None-Match: y"),
]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "GET", "HEAD"])
@pytest.mark.parametrize(("headers", "written", "read"), CONDITIONS)
def test_conditions_mean_the_same_in_both_lanes(
    http: Served, method: str, headers: tuple[str, ...], written: int, read: int
) -> None:
    before = served_by_aiohttp(http)
    first, answer, held = by_both(http, [PUT_OLD, Sent(method, headers), Sent("GET")])
    assert served_by_aiohttp(http) == before + 3, "the fast lane served it"
    is_read = method in ("GET", "HEAD")
    assert answer.status == (read if is_read else written)
    etag = first.headers["etag"]
    if answer.status == 412:
        assert answer.headers["etag"] == etag
        assert method == "HEAD" or json.loads(answer.body)["outcome"] == "not_applied"
    if answer.status == 304:
        assert (answer.body, answer.headers["etag"]) == (b"", etag)
        assert "content-length" not in answer.headers
        assert "content-type" not in answer.headers
    assert (held.headers.get("etag") == etag) == (is_read or answer.status == 412)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "GET", "HEAD"])
@pytest.mark.parametrize("headers", [headers for headers, _, _ in CONDITIONS])
def test_where_nothing_is_they_mean_the_same_too(
    http: Served, method: str, headers: tuple[str, ...]
) -> None:
    (answer,) = by_both(http, [Sent(method, headers)])
    is_wanted = any(each.lower().startswith("if-match") for each in headers)
    if method in ("GET", "HEAD"):
        assert answer.status == 404
    else:
        assert answer.status == (412 if is_wanted else 200)
    assert ("etag" in answer.headers) == (answer.status == 200)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "GET", "HEAD"])
@pytest.mark.parametrize("headers", MALFORMED)
def test_what_is_no_list_of_tags_is_refused_by_both(
    http: Served, method: str, headers: tuple[str, ...]
) -> None:
    first, answer, held = by_both(http, [PUT_OLD, Sent(method, headers), Sent("GET")])
    assert answer.status == 400
    assert (held.body, held.headers["etag"]) == (b"7", first.headers["etag"])


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (Sent("POST"), 200),
        (Sent("POST", query="&by=-9"), 200),
        (Sent("POST", query=f"&by={INT64[-1]}"), 409),
        (Sent("POST", query="&ttl=5&timeout=1s"), 200),
        (Sent("POST", ("Content-Length: 0",)), 200),
        (Sent("POST", ("Idempotency-Key: a",)), 200),
        (Sent("POST", query="&by="), 400),
        (Sent("POST", query="&by=1.5"), 400),
        (Sent("POST", query="&by=1&by=1"), 400),
        (Sent("POST", query="&r=1"), 400),
        (Sent("POST", query="&since_ms=1"), 400),
        (Sent("POST", ("If-Match: *",)), 400),
        (Sent("POST", (f"If-Unmodified-Since: {DATE}",)), 400),
        (Sent("POST", ("Idempotency-Key: a", "Idempotency-Key: a")), 400),
        (Sent("POST", ("Idempotency-Key:",)), 400),
        (Sent("PUT", ("Idempotency-Key: " + "x" * 256,)), 400),
        (Sent("PUT", ("If-Match: *",), query="&w=2"), 400),
        (Sent("DELETE", ("If-Match: *",), query="&r=2"), 400),
        (Sent("PUT", (f"If-Unmodified-Since: {DATE}",)), 400),
        (Sent("PUT", ("If-Match: *", f"If-Unmodified-Since: {DATE}")), 200),
        (Sent("GET", (f"If-Modified-Since: {DATE}",)), 200),
        (Sent("GET", ("If-None-Match: *",), query="&r=1&timeout=1s"), 304),
        (Sent("GET", ("If-None-Match: *",), query="&r=9"), 400),
        (Sent("GET", query="&w=1"), 200),
        (Sent("PUT", query="&ttl=5"), 200),
        (Sent("PUT", query="&w=9&timeout=1s"), 400),
        (Sent("PUT", ("If-None-Match:",), value=b"v" * 100_000, query="&ttl=5"), 200),
    ],
)
def test_each_request_has_one_answer(http: Served, request_: Sent, status: int) -> None:
    _, answer, _ = by_both(http, [PUT_OLD, request_, Sent("GET")])
    assert answer.status == status


def test_a_request_that_is_sent_again_is_known_in_either_lane(http: Served) -> None:
    again = ("Idempotency-Key: a",)
    first, second, third, *_ = by_both(
        http,
        [
            Sent("POST", again, query="&by=5"),
            Sent("POST", again, query="&by=5"),
            Sent("POST", again, query="&by=6"),
            Sent("PUT", ("Idempotency-Key: a", "If-Match: {}")),
            Sent("PUT", ("idempotency-key:a", "If-Match: {}")),
            Sent("DELETE", again),
            Sent("DELETE", again),
        ],
    )
    assert (first.body, second.body, third.body) == (b"5", b"5", b"11")
    assert second.headers["quorate-repeated"] == "true"
    # The number of a request is the same, whichever lane it came by.
    with http.client() as client:
        http.reset()
        assert client.ask(Sent("POST", again).built("", lane=FAST)).body == b"1"
        answer = client.ask(Sent("POST", again).built("", lane=SLOW))
    assert (answer.body, answer.headers["quorate-repeated"]) == (b"1", "true")


@pytest.mark.parametrize("kind", BY_CODE.values(), ids=lambda kind: kind.code)
@pytest.mark.parametrize(
    "request_", [Sent("POST"), Sent("PUT", ("If-Match: *",)), Sent("GET", ("If-None-Match: *",))]
)
def test_every_error_is_the_same_problem_by_both(
    http: Served, kind: type[QuorateError], request_: Sent
) -> None:
    http.store.failure = kind("what happened", outcome=Outcome.UNKNOWN, needed=2)
    (answer,) = by_both(http, [request_])
    problem = json.loads(answer.body)
    assert (problem["code"], problem["status"], problem["needed"]) == (kind.code, answer.status, 2)
    assert problem["outcome"] == ("not_applied" if issubclass(kind, NEVER_BEGUN) else "unknown")


def test_an_update_without_a_quorum_is_503_and_says_when_to_try_again(http: Served) -> None:
    http.store.failure = QuorumUnreachable("too few", outcome=Outcome.NOT_APPLIED, needed=2)
    (answer,) = by_both(http, [Sent("POST")])
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")


# --- framing --------------------------------------------------------------------------------------


def test_what_is_pipelined_sees_the_update_before_it(http_client: Client) -> None:
    """RFC 9112, 9.3.2."""
    update, read = Sent("POST").built("", lane=FAST), build("GET", b"k")
    http_client.send((update + read) * 20)
    bodies = [http_client.receive().body for _ in range(40)]
    assert bodies == [b"%d" % (index // 2 + 1) for index in range(40)]


def test_a_conditional_put_may_come_in_single_bytes(http: Served, http_client: Client) -> None:
    request = Sent("PUT", ("If-None-Match: *",)).built("", lane=FAST)
    before = served_by_aiohttp(http)
    for byte in request + Sent("POST").built("", lane=FAST):
        http_client.send(bytes([byte]))
    assert [http_client.receive().status for _ in range(2)] == [200, 409]
    assert served_by_aiohttp(http) == before
    assert [type(event) for event in http.store.events] == [Update, Update]


def test_a_read_that_knows_the_version_is_no_error_and_an_update_is_a_write(
    http: Served, http_client: Client
) -> None:
    def count(operation: str, counted: str) -> int:
        with http.client() as client:
            text = client.ask(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").body.decode()
        found = re.search(rf'{counted}\{{[^}}]*operation="{operation}"[^}}]*\}} (\d+)', text)
        return int(found[1]) if found else 0

    http_client.ask(PUT_OLD.built("", lane=FAST))
    before = (
        count("GET /kv", "quorate_requests_total"),
        count("POST /incr", "quorate_requests_total"),
    )
    http_client.ask(Sent("GET", ("If-None-Match: *",)).built("", lane=FAST))
    http_client.ask(Sent("POST").built("", lane=FAST))
    after = (
        count("GET /kv", "quorate_requests_total"),
        count("POST /incr", "quorate_requests_total"),
    )
    assert (after[0] - before[0], after[1] - before[1]) == (1, 1)


# --- all at once ----------------------------------------------------------------------------------

_ELEMENTS = st.sampled_from(["{}", "W/{}", '"x"', 'W/"x"', "", " ", "*", "x", '"'])
_LISTS = st.lists(_ELEMENTS, max_size=3).map(",".join)
_HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["If-Match", "if-none-match", "If-None-Match", "Idempotency-Key"]),
        st.sampled_from([":", ": ", ":\t ", ": \t"]),
        st.one_of(_LISTS, st.sampled_from(["*", "{}", "a", "b c", "a "])),
    ).map("".join),
    max_size=3,
).map(tuple)
_QUERIES = st.sampled_from(
    ["", "", "", "&by=2", "&by=-3", "&ttl=9", "&timeout=1s", "&w=2", "&r=2", "&r=0", "&since_ms=1"]
)
_REQUESTS = st.builds(
    Sent,
    st.sampled_from(["GET", "HEAD", "PUT", "DELETE", "POST"]),
    _HEADERS,
    st.sampled_from([b"1", b"v", b""]),
    _QUERIES,
)


@given(requests=st.lists(_REQUESTS, min_size=1, max_size=8))
@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_both_lanes_answer_any_of_them_alike(http: Served, requests: list[Sent]) -> None:
    by_both(http, requests)
