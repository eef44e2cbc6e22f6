# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/http.md tells of every route, parameter, header and code as the tables have them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quorate.doors.http.door import ROUTES
from quorate.doors.http.openapi import DESCRIBED, HEADERS, PARAMETERS, statuses

PAGE = (Path(__file__).resolve().parents[4] / "docs/http.md").read_text("utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the table that begins so."""
    lines = PAGE.partition(f"| {heading} |")[2].split("\n")[2:]
    table = lines[: next(at for at, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


def test_each_route_is_told_with_its_parameters() -> None:
    told = {}
    for request, takes, *_ in rows("request"):
        called = re.match(r"`([A-Z]+) (/[^\s`]+)`", request)
        assert called is not None, request
        assert called.groups() not in told
        told[called.groups()] = re.findall(r"`(\w+)`", takes)
    assert told == {(each.method, each.path): sorted(each.parameters) for each in ROUTES}


def test_each_route_with_a_body_says_so() -> None:
    told = {request.partition("`")[2].partition("`")[0]: request for request, *_ in rows("request")}
    for each in ROUTES:
        is_sent = bool(DESCRIBED[each.method, each.path].body)
        assert ("body:" in told[f"{each.method} {each.path}"]) is is_sent


def test_each_parameter_and_header_is_told() -> None:
    told = {name for names, *_ in rows("parameter") for name in re.findall(r"`(\w+)`", names)}
    assert told == set(PARAMETERS)
    section = PAGE.partition("## Headers")[2].partition("##")[0]
    named = set(re.findall(r"`((?:Quorate-[A-Z]|ETag)[A-Za-z]*)`", section))
    # Those of the routes for nodes are told by the document alone.
    assert named == set(HEADERS) - {"Quorate-Applied", "Quorate-Cursor"}


def test_each_code_is_told_with_its_status() -> None:
    told = {code.strip("`"): int(status) for code, status, _ in rows("code")}
    assert told == statuses()


@pytest.mark.parametrize("code", ["`not_applied`", "`unknown`"])
def test_what_may_become_of_a_write_is_told(code: str) -> None:
    assert code in PAGE
