# SPDX-License-Identifier: GPL-3.0-or-later
"""Durations, sizes and URLs are read as people write them; anything else is refused helpfully."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.notation import bounded, parse_duration, parse_size, parse_url


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("500ms", 500),
        ("2s", 2_000),
        ("1m30s", 90_000),
        ("1.5h", 5_400_000),
        ("2.5s", 2_500),
        ("0s", 0),
        ("1000us", 1),
        ("1h0m1s", 3_601_000),
    ],
)
def test_a_duration_is_read_as_go_writes_it(text: str, ms: int) -> None:
    assert parse_duration(text) == ms


@given(st.integers(0, 300_000_000))
def test_a_duration_put_together_from_its_parts_is_their_sum(ms: int) -> None:
    hours, rest = divmod(ms, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    assert parse_duration(f"{hours}h{minutes}m{rest // 1000}s{rest % 1000}ms") == ms


def test_a_bare_number_is_no_duration_and_the_hint_shows_units() -> None:
    with pytest.raises(ValueError, match="5 has no unit: write 5s or 5ms"):
        parse_duration("5")


@pytest.mark.parametrize(
    "text", ["", "s", "-2s", "2 s", "2d", "1e3s", "٣s", "2s!", "9" * 400 + "s"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)


def test_a_duration_that_would_be_rounded_away_is_refused() -> None:
    with pytest.raises(ValueError, match="smallest step"):
        parse_duration("1us")


def test_a_duration_of_years_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        parse_duration("99999h")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("65536", 65_536),
        ("12B", 12),
        ("8MB", 8_000_000),
        ("64MiB", 64 << 20),
        ("64mib", 64 << 20),
        ("1.5GiB", 3 << 29),
        ("2 kB", 2_000),
        ("1KiB", 1024),
    ],
)
def test_a_size_counts_in_thousands_or_with_an_i_in_1024s(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "8M", "8XB", "1e9", "٣", "8MB ", "9" * 400])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        parse_size(text)


def test_a_size_beyond_any_machine_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        parse_size("99999TiB")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://localhost:8000", "http://localhost:8000"),
        ("  http://LocalHost:8000/ ", "http://localhost:8000"),
        ("http://kv-1.example.com:8000//", "http://kv-1.example.com:8000"),
        ("localhost:8001", "http://localhost:8001"),
        ("10.0.0.7:8000", "http://10.0.0.7:8000"),
        ("http://kv.example.com", "http://kv.example.com:80"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("[2001:DB8:0:0::1]:8000", "http://[2001:db8::1]:8000"),
        ("http://node_2:08000", "http://node_2:8000"),
    ],
)
def test_a_url_comes_out_in_one_normal_form(text: str, url: str) -> None:
    assert parse_url(text) == url
    assert parse_url(url) == url


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is no node's URL"),
        ("http://", "is no node's URL"),
        ("http://a:8000/path", "is no node's URL"),
        ("http://a:8000?x=1", "is no node's URL"),
        ("http://user@a:8000", "is no node's URL"),
        ("http://a b:8000", "is no node's URL"),
        ("http://a:http", "is no node's URL"),
        ("http://münchen:8000", "is no node's URL"),
        ("-a:8000", "is no node's URL"),
        ("ftp://a:8000", "only http"),
        ("https://a:8000", "only http"),
        ("alpha", "has no port: write http://alpha:8000"),
        ("a:0", "too small"),
        ("a:65536", "too large"),
        ("http://0.0.0.0:8000", "cannot connect to 0.0.0.0"),
        ("http://[::]:8000", "cannot connect to ::"),
        ("http://1.2.3.256:8000", "no valid IP address"),
        ("http://127.1:8000", "no valid IP address"),
        ("http://[1::2::3]:8000", "no valid IP address"),
    ],
)
def test_what_is_no_nodes_url_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_url(text)


@given(st.text(max_size=40))
def test_any_text_is_either_read_or_refused_with_one_line(text: str) -> None:
    for parse in (parse_duration, parse_size, parse_url):
        said = ""
        try:
            parse(text)
        except ValueError as fault:
            said = str(fault)
        assert "\n" not in said


def test_both_ends_of_a_range_belong_to_it() -> None:
    assert [bounded(value, "", low=1, high=3) for value in (1, 3)] == [1, 3]
    with pytest.raises(ValueError, match="the least is 1"):
        bounded(0, "0", low=1, high=3)
    with pytest.raises(ValueError, match="the most is 3"):
        bounded(4, "4", low=1, high=3)
