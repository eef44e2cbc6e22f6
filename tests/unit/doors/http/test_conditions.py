# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of entity tags: read as they are written, or refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quorate.core.values.record import Record
from quorate.doors.http.conditions import Lines, conditions_of
from quorate.errors import InvalidRequest, PreconditionFailed

OPAQUE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters='"\x7f'))
TAGS = st.tuples(st.booleans(), OPAQUE)
SPACES = st.text(" \t", max_size=2)
COMMAS = st.tuples(SPACES, st.sampled_from([",", ", ,", ",,"]), SPACES).map("".join)


def headers(*lines: str, name: str = "If-Match") -> Lines:
    return lambda asked: lines if asked == name else ()


@given(st.lists(st.lists(TAGS), min_size=1, max_size=3), SPACES, COMMAS)
def test_a_list_is_read_as_it_is_written_on_however_many_lines(
    lines: list[list[tuple[bool, str]]], space: str, comma: str
) -> None:
    def written(tags: list[tuple[bool, str]]) -> str:
        return space + comma.join(f'{"W/" * weak}"{opaque}"' for weak, opaque in tags) + space

    tags = [tag for line in lines for tag in line]
    wanted = conditions_of(headers(*map(written, lines))).wanted
    assert wanted is not None
    assert not wanted.any
    assert wanted.strong == {opaque for weak, opaque in tags if not weak}
    assert wanted.weak == {opaque for weak, opaque in tags if weak}


@given(st.text('",*W/ \tab', max_size=12))
@example('"a" "b"')
@example('"a""b"')
@example("*,*")
@example('W/ "a"')
def test_anything_else_is_refused(text: str) -> None:
    """By a grammar of one element at a time (RFC 9110, 5.6.1.2 and 13.1.1)."""
    parts = re.split(r',(?=(?:[^"]*"[^"]*")*[^"]*\Z)', text)
    is_list = all(re.fullmatch(r'(?:(?:W/)?"[^" \t]*")?', part.strip(" \t")) for part in parts)
    if is_list or text.strip(" \t") == "*":
        conditions_of(headers(text))
        return
    with pytest.raises(InvalidRequest, match="If-Match is"):
        conditions_of(headers(text))


def test_what_no_condition_says_may_be_written_anywhere() -> None:
    conditions = conditions_of(headers())
    assert not conditions.names_any
    conditions.check_write(None)
    conditions.check_write(Record(b"\1" * 14, b"v"))
    conditions.check_read("01" * 14)
    assert not conditions.is_known("01" * 14)


def test_where_nothing_is_the_refusal_has_no_version() -> None:
    with pytest.raises(PreconditionFailed) as failed:
        conditions_of(headers("*")).check_write(None)
    assert failed.value.version == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("*", "there is a value under this key"),
        (f'"{"01" * 14}"', "If-None-Match names the version that is there"),
    ],
)
def test_where_a_value_is_the_refusal_says_what_was_asked(text: str, reason: str) -> None:
    asked = conditions_of(headers(text, name="If-None-Match"))
    with pytest.raises(PreconditionFailed) as failed:
        asked.check_write(Record(b"\1" * 14, b"v"))
    assert (failed.value.detail, failed.value.version) == (reason, "01" * 14)
