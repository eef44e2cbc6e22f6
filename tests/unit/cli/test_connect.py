# SPDX-License-Identifier: GPL-3.0-or-later
"""From flags to nodes, times and numbers."""

from __future__ import annotations

import base64
import json
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from quorate import config
from quorate.cli import connect
from quorate.cli.arguments import Given, UsageError
from quorate.cli.connect import (
    WITHHELD,
    key_of,
    node_urls,
    timeout_seconds,
    ttl_seconds,
    vouched_of,
    whole_number,
)
from tests.authority import Authority
from tests.unit.cli.conftest import Run
from tests.unit.client.scripted import Request, ScriptedNode, problem, reply


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


LOGIN = {"QUORATE_USER": "ann", "QUORATE_PASSWORD": "s3cret"}
BASIC = b"Authorization: Basic " + base64.b64encode(b"ann:s3cret")


@contextmanager
def listing_two(*, is_member: bool, tls: ssl.SSLContext | None = None) -> Iterator[Listing]:
    """A node that lists itself, a member that it met, and another, at URLs for peers."""

    def answer(request: Request) -> bytes:
        if BASIC not in request.head and request.target not in ("/readyz", "/healthz"):
            return problem(401, "unauthenticated")
        listed = [
            {**_LISTED, "url": first.url.replace("https:", "http:"), "state": "self"},
            {
                **_LISTED,
                "url": other.url.replace("https:", "http:"),
                "client": "",
                "id": "0b",
                "member": is_member,
            },
        ]
        told = listed if request.target == "/nodes" else _DONE
        return reply(200, json.dumps(told).encode())

    with (
        ScriptedNode(answer, pings=answer, tls=tls) as first,
        ScriptedNode(answer, pings=answer, tls=tls) as other,
    ):
        yield Listing(first, other)


_LISTED = {"state": "up", "owns": True, "keys": 1, "bytes": 2}
_DONE = {"left": 0, "differed": 0, "unreadable": 0}


class Listing(NamedTuple):
    """The node that is asked, and the other one that it lists."""

    first: ScriptedNode
    other: ScriptedNode

    def heard(self) -> list[bool]:
        """Of each request that the other got, whether a login came with it."""
        return [b"Authorization" in each.head for each in self.other.requests]


EACH_COMMAND = pytest.mark.parametrize(
    "command", [["status"], ["check"], ["doctor"], ["forget", "http://gone:1"]]
)


@EACH_COMMAND
def test_without_tls_a_login_goes_to_no_node_that_is_no_member(
    command: list[str], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody can have his URL listed: by a greeting, or by discovery."""
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)
    with listing_two(is_member=False) as nodes:
        ran = run(*command, f"--target={nodes.first.url}")
        assert nodes.heard(), "it was asked what it tells everybody"
        assert not any(nodes.heard())
    if command != ["status"]:
        assert (ran.code, WITHHELD.encode() in ran.out) == (3, True), ran


@EACH_COMMAND
def test_without_tls_a_login_goes_to_members(
    command: list[str], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)
    with listing_two(is_member=True) as nodes:
        ran = run(*command, f"--target={nodes.first.url}")
        assert nodes.heard()
        assert all(nodes.heard())
    assert WITHHELD.encode() not in ran.out


def test_inside_tls_a_login_goes_to_every_node_as_its_certificate_shows_who_it_is(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)
    with listing_two(is_member=False, tls=authority.server()) as nodes:
        run("check", f"--target={nodes.first.url}", "--ca", authority.ca)
        assert nodes.heard()
        assert all(nodes.heard())


def test_members_are_those_of_the_layout_that_showed_their_id_and_the_node_itself() -> None:
    assert vouched_of(
        [
            {"url": "http://a:1", "state": "self"},
            {"url": "http://b:1", "member": True, "id": "0b", "client": "http://b:2"},
            {"url": "http://c:1", "member": True, "id": ""},
            {"url": "http://d:1", "member": False, "id": "0d"},
            {"url": "http://e:1", "id": "0e"},
        ]
    ) == {"http://a:1", "http://b:1", "http://b:2"}
