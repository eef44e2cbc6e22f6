# SPDX-License-Identifier: GPL-3.0-or-later
"""From flags to nodes, times and numbers."""

from __future__ import annotations

import re

import pytest

from quorate import config
from quorate.cli import connect
from quorate.cli.arguments import Given, UsageError
from quorate.cli.connect import key_of, node_urls, timeout_seconds, ttl_seconds, whole_number


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("QUORATE_TARGET", "QUORATE_NODES"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize(
    ("given", "urls"),
    [
        ({}, ["http://localhost:8000"]),
        ({"nodes": "a:1, http://b:2/"}, ["http://a:1", "http://b:2"]),
        ({"nodes": "a:1", "target": "c:3"}, ["http://c:3"]),
    ],
)
def test_the_target_comes_before_the_list_and_the_list_before_localhost(
    given: Given, urls: list[str]
) -> None:
    assert node_urls(given) == urls


def test_a_flag_comes_before_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUORATE_NODES", "a:1,b:2")
    assert node_urls({}) == ["http://a:1", "http://b:2"]
    assert node_urls({"nodes": "c:3"}) == ["http://c:3"]
    monkeypatch.setenv("QUORATE_TARGET", "d:4")
    assert node_urls({}) == ["http://d:4"]
    assert node_urls({"nodes": "c:3"}) == ["http://c:3"], "or it would be written elsewhere"


def test_a_mistake_in_a_variable_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUORATE_NODES", "localhost")
    with pytest.raises(UsageError, match=r"^QUORATE_NODES: 'localhost' has no port"):
        node_urls({})


def test_a_timeout_is_seconds_and_may_be_left_out() -> None:
    assert timeout_seconds({"timeout": "1m30s"}) == 90.0
    assert timeout_seconds({}) is None


@pytest.mark.parametrize("text", ["", "x", "-1", "1.0", "1e3", "٣"])
def test_what_is_no_whole_number_names_its_flag(text: str) -> None:
    with pytest.raises(UsageError, match=r"--limit: .* is no whole number from 0 up"):
        whole_number({"limit": text}, "limit", low=0)


@pytest.mark.parametrize("text", ["1" + "0" * 18, "9" * 20, "9" * 5000])
def test_a_number_beyond_all_limits_is_called_too_large(text: str) -> None:
    with pytest.raises(UsageError, match=f"--limit: {text} is too large: the most is 9{{18}}$"):
        whole_number({"limit": text}, "limit", low=0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1", 1), ("90", 90), ("0090", 90), ("30s", 30), ("1m", 60), ("1h30m", 5400), ("2000ms", 2)],
)
def test_a_ttl_is_a_number_of_seconds_or_a_duration(text: str, seconds: int) -> None:
    assert ttl_seconds({"ttl": text}) == seconds


def test_a_ttl_may_be_left_out() -> None:
    assert ttl_seconds({}) is None


@pytest.mark.parametrize("text", ["", "x", "1e400", "1.5", "-1", "1500ms", "0s", "0m", "1d"])
def test_a_ttl_that_is_no_time_in_whole_seconds_shows_what_to_write(text: str) -> None:
    said = f"--ttl: {text!r} is no time in whole seconds: write for example 90 or 1m"
    with pytest.raises(UsageError, match=f"^{re.escape(said)}$"):
        ttl_seconds({"ttl": text})


def test_a_ttl_has_a_least_and_a_most() -> None:
    with pytest.raises(UsageError, match="--ttl: '0' is no whole number from 1 up"):
        ttl_seconds({"ttl": "0"})
    with pytest.raises(UsageError, match=r"--ttl: 9{20} is too large: the most is 10000000000$"):
        ttl_seconds({"ttl": "9" * 20})
    assert ttl_seconds({"ttl": "10000000000"}) == 10**10


def test_a_key_is_any_bytes_but_not_none() -> None:
    assert key_of({"key": "\udcff"}) == b"\xff"
    with pytest.raises(UsageError, match="--key: it is empty"):
        key_of({"key": ""})


def test_a_key_has_at_most_as_many_bytes_as_a_node_takes() -> None:
    assert connect.KEY_BYTES_MAX == config.KEY_BYTES_MAX
    assert key_of({"key": "é" * 512}) == "é".encode() * 512
    with pytest.raises(UsageError, match="it has 1,025 bytes: a key has at most 1,024"):
        key_of({"key": "é" * 512 + "a"})


def test_a_whole_number_may_be_left_out_and_has_a_least_value() -> None:
    assert whole_number({}, "limit", low=0) is None
    assert whole_number({"limit": "0"}, "limit", low=0) == 0
    with pytest.raises(UsageError):
        whole_number({"limit": "0"}, "limit", low=1)
