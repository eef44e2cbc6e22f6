# SPDX-License-Identifier: GPL-3.0-or-later
"""From flags to nodes, times and numbers. FEATURES S07, S08."""

from __future__ import annotations

import pytest

from quorate.cli.arguments import Given, UsageError
from quorate.cli.connect import node_urls, timeout_seconds, whole_number


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
def test_s07_the_target_comes_before_the_list_and_the_list_before_localhost(
    given: Given, urls: list[str]
) -> None:
    assert node_urls(given) == urls


def test_a_flag_comes_before_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUORATE_NODES", "a:1,b:2")
    assert node_urls({}) == ["http://a:1", "http://b:2"]
    assert node_urls({"nodes": "c:3"}) == ["http://c:3"]


def test_a_timeout_is_seconds_and_may_be_left_out() -> None:
    assert timeout_seconds({"timeout": "1m30s"}) == 90.0
    assert timeout_seconds({}) is None


@pytest.mark.parametrize("text", ["", "x", "-1", "1.0", "1e3", "9" * 19])
def test_what_is_no_whole_number_names_its_flag(text: str) -> None:
    with pytest.raises(UsageError, match=r"--limit: .* is no whole number from 0 up"):
        whole_number({"limit": text}, "limit", low=0)


def test_a_whole_number_may_be_left_out_and_has_a_least_value() -> None:
    assert whole_number({}, "limit", low=0) is None
    assert whole_number({"limit": "0"}, "limit", low=0) == 0
    with pytest.raises(UsageError):
        whole_number({"limit": "0"}, "limit", low=1)
