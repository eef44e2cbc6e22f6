# SPDX-License-Identifier: GPL-3.0-or-later
"""LCS."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.doors.redis.lcs import Stretch, search
from tests.unit.doors.redis.turns import BUDGET_BYTES, Client, three_nodes


def found(first: bytes, second: bytes) -> tuple[bytes, list[Stretch]]:
    slices = search(first, second)
    while True:
        try:
            next(slices)
        except StopIteration as end:
            text, stretches = end.value
            return text, stretches


@pytest.fixture
def texts(client: Client) -> Client:
    client.store.fill(b"a", b"ohmytext")
    client.store.fill(b"b", b"mynewtext")
    return client


def test_lcs_answers_as_redis_documents_it(texts: Client) -> None:
    assert texts.ask("LCS", "a", "b") == b"mytext"
    assert texts.ask("LCS", "a", "b", "len") == 6
    assert texts.ask("LCS", "a", "b", "IDX") == [
        *(b"matches", [[[4, 7], [5, 8]], [[2, 3], [0, 1]]], b"len", 6)
    ]
    assert texts.ask("LCS", "a", "b", "IDX", "MINMATCHLEN", 4) == [
        *(b"matches", [[[4, 7], [5, 8]]], b"len", 6)
    ]
    assert texts.ask("LCS", "a", "b", "MINMATCHLEN", 4, "WITHMATCHLEN", "IDX") == [
        *(b"matches", [[[4, 7], [5, 8], 4]], b"len", 6)
    ]
    texts.ask("HELLO", 3)
    assert texts.ask("LCS", "a", "b", "IDX", "MINMATCHLEN", 9) == {b"matches": [], b"len": 6}


def test_a_key_that_is_not_there_is_empty(texts: Client) -> None:
    assert texts.ask("LCS", "a", "none") == b""
    assert texts.ask("LCS", "none", "other", "LEN") == 0
    assert texts.ask("LCS", "a", "a") == b"ohmytext"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("FOO",), "ERR syntax error"),
        (("MINMATCHLEN",), "ERR syntax error"),
        (("MINMATCHLEN", "x"), "ERR value is not an integer or out of range"),
        (
            ("LEN", "IDX"),
            "ERR If you want both the length and indexes, please just use IDX.",
        ),
    ],
)
def test_lcs_refuses_what_redis_refuses(
    client: Client, options: tuple[str, ...], told: str
) -> None:
    assert client.ask("LCS", "a", "b", *options) == told
    assert client.store.events == []


def test_a_table_that_is_too_large_is_refused_and_one_that_is_not_takes_many_turns() -> None:
    client = Client(three_nodes(value_bytes_max=1 << 20))
    client.store.fill(b"a", b"ab" * 255)
    client.store.fill(b"b", b"ba" * 256)
    client.store.fill(b"c", b"c" * 4096)
    assert client.ask("LCS", "a", "b", "LEN") == 510
    assert client.store.turns > 5
    assert client.ask("LCS", "b", "c") == (
        "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"
        " (outcome=not_applied)"
    )
    assert client.replies_budget.used == 0


def test_a_table_is_charged_as_a_reply_is() -> None:
    client = Client(three_nodes(value_bytes_max=1 << 20))
    client.store.fill(b"a", b"a" * 400)
    client.replies_budget.add(BUDGET_BYTES)
    assert "fill the memory" in client.ask("LCS", "a", "a")


@given(
    first=st.text("abc", max_size=12).map(str.encode),
    second=st.text("abc", max_size=12).map(str.encode),
)
def test_what_is_found_is_in_both_and_nothing_longer_is(first: bytes, second: bytes) -> None:
    text, stretches = found(first, second)
    assert len(text) == slow_length(first, second)
    assert b"".join(first[s.first : s.first + s.length] for s in reversed(stretches)) == text
    assert b"".join(second[s.second : s.second + s.length] for s in reversed(stretches)) == text


def slow_length(first: bytes, second: bytes) -> int:
    rows = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, byte in enumerate(first):
        for j, other in enumerate(second):
            longer = max(rows[i][j + 1], rows[i + 1][j])
            rows[i + 1][j + 1] = rows[i][j] + 1 if byte == other else longer
    return rows[-1][-1]
