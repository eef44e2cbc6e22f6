# SPDX-License-Identifier: GPL-3.0-or-later
"""The page stands alone, is well-formed, and keeps every line within its picture."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import msgspec
import pytest

from quorate.bench.plot import page
from quorate.bench.result import BenchResult, NodeFault, Slice, together
from tests.unit.bench.plans import result

WIDTH, HEIGHT = 860, 320


def pictures(text: str) -> list[ElementTree.Element]:
    """Every picture of a page."""
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text)]


def texts(picture: ElementTree.Element) -> list[str]:
    return [each.text or "" for each in picture.iter("text")]


def lines(picture: ElementTree.Element) -> list[list[tuple[float, float]]]:
    """The points of each line."""
    return [
        [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]  # type: ignore[misc]
        for line in picture.iter("polyline")
    ]


MANY = result(*range(100, 2100), 90_000)
TIMELINE = [Slice(10, 0, 1.0), Slice(0, 3, 0.0), Slice(12, 0, 250.0)]


@pytest.mark.parametrize(
    ("results", "count"),
    [
        ([MANY], 1),
        ([result(5)], 1),
        ([result(1000, timeline=TIMELINE)], 3),
        ([together([result(1000, timeline=TIMELINE), result(1000, timeline=TIMELINE)])], 5),
        ([result(1000, connections=4), result(1000, connections=8)], 1),
        ([result(1000, timeline=[Slice()])], 3),
    ],
)
def test_every_line_lies_within_its_picture(results: list[BenchResult], count: int) -> None:
    found = pictures(page("title", results))
    assert len(found) == count
    for picture in found:
        assert lines(picture)
        for x, y in (point for line in lines(picture) for point in line):
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT


def test_latency_rises_to_the_right_on_an_axis_of_nines() -> None:
    (picture,) = pictures(page("title", [MANY]))
    (line,) = lines(picture)
    assert line == sorted(line)
    heights = [y for _, y in line]
    assert heights == sorted(heights, reverse=True)
    assert {"writes", "0 %", "90 %", "99 %", "99.9 %", "0.1", "100"} <= set(texts(picture))


def test_a_sweep_is_a_line_for_each_point() -> None:
    rates = pictures(page("title", [result(1000, rate=5000.0), result(2000, rate=10000.0)]))
    assert {"5,000 per second", "10,000 per second"} <= set(texts(rates[0]))
    numbers = pictures(page("title", [result(1000, connections=4), result(2000, connections=8)]))
    assert {"4 connections", "8 connections"} <= set(texts(numbers[0]))


@pytest.mark.parametrize("ended_s", [0.15, 99.0])
def test_faults_are_where_they_happened_and_end_with_the_picture(ended_s: float) -> None:
    one = result(1000, timeline=TIMELINE)
    fault = NodeFault("kill", "http://localhost:1", 0.05, ended_s)
    _, over_time, worst = pictures(page("title", [msgspec.structs.replace(one, faults=[fault])]))
    for picture in (over_time, worst):
        (rect,) = picture.iter("rect")
        assert "kill http://localhost:1" in texts(picture)
        x, width = float(rect.attrib["x"]), float(rect.attrib["width"])
        assert 0 < x < x + width < WIDTH
    assert {"succeeded", "failed"} <= set(texts(over_time))


def test_the_page_asks_nobody_for_anything() -> None:
    text = page("title", [MANY])
    assert not re.search(r"(?:src|href|url|@import|<script)", text)


def test_what_is_named_cannot_break_the_page() -> None:
    assert "<b>" not in page("<b>", [MANY])


def test_nothing_answered_is_said() -> None:
    assert "Nothing was answered." in page("title", [result()])
