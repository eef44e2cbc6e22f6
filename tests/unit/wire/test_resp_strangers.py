# SPDX-License-Identifier: GPL-3.0-or-later
"""The Redis protocol's parser before login: short commands, one at a time."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.wire.resp import STRANGER_ARGS_MAX, STRANGER_BULK_BYTES_MAX, CommandParser
from tests.unit.wire.test_resp import commands, encode, new_parser


def strict_parser() -> CommandParser:
    parser = new_parser()
    parser.is_strict = True
    return parser


short = st.lists(
    st.one_of(
        st.lists(st.binary(max_size=20), min_size=1, max_size=STRANGER_ARGS_MAX),
        st.just([b"SET", b"k", b"x" * STRANGER_BULK_BYTES_MAX]),
    ),
    max_size=6,
)


@given(short, st.lists(st.integers(0, 40_000), max_size=6))
def test_a_strangers_commands_are_those_of_others_one_at_a_time(
    sent: list[list[bytes]], cuts: list[int]
) -> None:
    data = b"".join(map(encode, sent))
    parser, seen = strict_parser(), []
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        piece = data[start:end]
        while found := parser.feed(piece):
            assert len(found) == 1
            seen += found
            piece = b""
    assert seen == sent
    assert parser.fault is None
    assert not parser.is_partial


@given(st.integers(1, 6), commands)
def test_who_is_a_stranger_no_more_sends_what_it_likes_from_there_on(
    strict_count: int, sent: list[list[bytes]]
) -> None:
    logins = [[b"AUTH", b"%d" % number] for number in range(strict_count)]
    parser = strict_parser()
    seen = parser.feed(b"".join(map(encode, [*logins, *sent])))
    for _ in range(strict_count - 1):
        seen += parser.feed(b"")
    parser.is_strict = False
    seen += parser.feed(b"")
    assert seen == [*logins, *sent]
    assert not parser.is_partial


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"*11\r\n", "unauthenticated multibulk length"),
        (b"*65537\r\n", "unauthenticated multibulk length"),
        (b"*2\r\n$3\r\nGET\r\n$16385\r\n", "unauthenticated bulk length"),
        (b"x" * (STRANGER_BULK_BYTES_MAX + 1), "too big inline request"),
    ],
)
def test_a_strangers_command_is_short(data: bytes, fault: str) -> None:
    parser = strict_parser()
    assert parser.feed(data) == []
    assert parser.fault == f"ERR Protocol error: {fault}"
    assert parser.held_bytes == 0
