# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Redis protocol's parser ignores, as Redis does: blank lines and empty arrays."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.wire.resp import INLINE_BYTES_MAX
from tests.unit.wire.test_resp import PING, CountingBuffer, fault_of, new_parser


@pytest.mark.parametrize("is_strict", [False, True])
@pytest.mark.parametrize(
    "ignored", [b"\n", b"\r\n", b" \t\r\n", b" " * 64 + b"\n", b"*0\r\n", b"*-1\r\n", b"\n*-99\r\n"]
)
def test_however_many_things_that_are_ignored_come_at_once_they_are_passed_in_a_few_steps(
    ignored: bytes, *, is_strict: bool
) -> None:
    parser = new_parser()
    parser.is_strict = is_strict
    parser._buffer = buffer = CountingBuffer()
    for _ in range(2):
        assert parser.feed(ignored * 10_000) == []
        assert not parser.is_partial
    assert parser.feed(ignored * 10_000 + PING) == [[b"PING"]]
    assert buffer.searches <= 10


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"*-0\r\n", "invalid multibulk length"),
        (b"*00\r\n", "invalid multibulk length"),
        (b"$0\r\n", "expected '*', got '$'"),
        (b"*-9223372036854775809\r\n", "invalid multibulk length"),
        (b" " * (INLINE_BYTES_MAX + 1) + b"\n", "too big inline request"),
    ],
)
def test_what_is_like_something_ignored_is_a_fault_behind_it_too(line: bytes, fault: str) -> None:
    for before in (b"", b"\n\n", b"*0\r\n*-1\r\n"):
        assert fault_of(before + line + PING) == f"ERR Protocol error: {fault}"


@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                [b"\n", b"\r\n", b"\r\r\n", b" \t\n", b" " * 63 + b"\r\n", b" " * 70 + b"\n"]
            ),
            st.sampled_from(
                [b"*0\r\n", b"*-1\r\n", b"*-123456789012345678\r\n", b"*-%d\r\n" % 2**63]
            ),
            st.sampled_from([PING, b"PING\r\n", b" PING\n", b"\rPING\n"]),
        ),
        max_size=30,
    ),
    st.lists(st.integers(0, 500), max_size=6),
)
def test_what_is_ignored_changes_no_command_however_it_is_cut(
    pieces: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(pieces)
    parser = new_parser()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    seen = [
        found for each in itertools.pairwise(edges) for found in parser.feed(data[slice(*each)])
    ]
    assert seen == [[b"PING"]] * data.count(b"PING")
    assert parser.fault is None
    assert not parser.is_partial
