# SPDX-License-Identifier: GPL-3.0-or-later
"""Results drawn: one HTML file with its pictures in it, which needs nothing else and asks nobody.

Latency by percentile has the distance to 100 % on a logarithmic axis, as HdrHistogram's plots do:
each step to the right is ten times rarer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Final, NamedTuple

from quorate.bench.latency import curve
from quorate.bench.result import BenchResult, NodeFault, Slice

_WIDTH, _HEIGHT = 860, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 24, 34
_COLOURS: Final = (
    *("#0b6", "#06c", "#c30", "#83c", "#c80", "#099", "#a05", "#666", "#393", "#339"),
)
_STYLE: Final = (
    "body{font:14px sans-serif;margin:2em auto;max-width:900px;color:#222}"
    "svg{width:100%;height:auto;background:#fff}text{font-size:11px;fill:#444}"
    ".grid{stroke:#ddd}.line{fill:none;stroke-width:1.6}.fault{fill:#c30;opacity:.12}"
)
PlotPoint = tuple[float, float]


class Line(NamedTuple):
    """A named line through points in data's own units."""

    name: str
    points: list[PlotPoint]


def page(title: str, results: Sequence[BenchResult]) -> str:
    """The whole document."""
    parts = [f"<h1>{escape(title)}</h1>", "<h2>Latency by percentile</h2>", _latency(results)]
    for one in (each for result in results for each in (result.rounds or [result])):
        if one.timeline:
            parts += _timeline(one.timeline, one.plan.timeline_ms / 1000, one.faults)
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en">{head}{"".join(parts)}</html>\n'


def _latency(results: Sequence[BenchResult]) -> str:
    if len(results) == 1:
        kinds = ("reads", "writes")
        lines = [Line(kind, _by_rarity(results[0], kind)) for kind in kinds]
    else:
        lines = [Line(_name(each), _by_rarity(each, "all")) for each in results]
    shares = {0.0: "0 %", 1.0: "90 %"}
    shares |= {float(nines): f"{100 - 10 ** (2 - nines):g} %" for nines in range(2, 8)}
    return _chart([line for line in lines if line.points], "ms", shares=shares, is_log=True)


def _name(result: BenchResult) -> str:
    rate = result.plan.rate
    return f"{rate:,.0f} per second" if rate else f"{result.plan.connections} connections"


def _by_rarity(result: BenchResult, kind: str) -> list[PlotPoint]:
    return [
        (-math.log10(1 - percentile / 100), max(ms, 0.001))
        for percentile, ms in curve(result.of(kind))
    ]


def _timeline(timeline: list[Slice], seconds: float, faults: list[NodeFault]) -> Iterator[str]:
    answered = [(place * seconds, each.succeeded / seconds) for place, each in enumerate(timeline)]
    failed = [(place * seconds, each.errors / seconds) for place, each in enumerate(timeline)]
    worst = [(place * seconds, max(each.worst_ms, 0.001)) for place, each in enumerate(timeline)]
    yield "<h2>Requests per second over time</h2>"
    lines = [Line("succeeded", answered)]
    if any(each.errors for each in timeline):
        lines.append(Line("failed", failed))
    yield _chart(lines, "per second", faults=faults)
    yield "<h2>Worst latency over time</h2>"
    yield _chart([Line("worst", worst)], "ms", is_log=True, faults=faults)


def _chart(
    lines: list[Line],
    unit: str,
    *,
    is_log: bool = False,
    shares: dict[float, str] | None = None,
    faults: Sequence[NodeFault] = (),
) -> str:
    if not lines:
        return "<p>Nothing was answered.</p>"
    x_most = max(max(x for x, _ in line.points) for line in lines) or 1.0
    ys = [y for line in lines for _, y in line.points]
    if is_log:
        low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)) + 1e-9)
        y_ticks = {10.0**power: f"{10.0**power:g}" for power in range(low, high + 1)}
        across, upright = _scales(x_most, low, max(high, low + 1), math.log10)
    else:
        step = _step(max(ys))
        y_ticks = {step * n: f"{step * n:g}" for n in range(math.ceil(max(ys) / step) + 1)}
        across, upright = _scales(x_most, 0.0, max(y_ticks) or 1.0, float)
    width = _step(x_most)
    x_ticks = shares or {width * n: f"{width * n:g} s" for n in range(int(x_most / width) + 1)}
    drawn = [
        *(_span(fault, across, x_most) for fault in faults),
        *(_upright_tick(across(x), text) for x, text in x_ticks.items() if x <= x_most),
        *(_level_tick(upright(y), text) for y, text in y_ticks.items()),
        f'<text x="6" y="{_TOP - 10}">{unit}</text>',
        *(_path(number, line, across, upright) for number, line in enumerate(lines)),
    ]
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}">{"".join(drawn)}</svg>'


Scale = Callable[[float], float]


def _scales(
    x_most: float, low: float, high: float, turn: Callable[[float], float]
) -> tuple[Scale, Scale]:
    wide, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    return (
        lambda x: round(_LEFT + wide * x / x_most, 1),
        lambda y: round(_TOP + tall * (high - turn(y)) / (high - low), 1),
    )


def _step(most: float) -> float:
    """A round number of which a few make `most`."""
    rough = (most or 1.0) / 5
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(power * n for n in (1, 2, 5, 10) if power * n >= rough * 0.999)


def _upright_tick(x: float, text: str) -> str:
    bottom = _HEIGHT - _BOTTOM
    return (
        f'<path class="grid" d="M{x} {_TOP}V{bottom}"/>'
        f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{text}</text>'
    )


def _level_tick(y: float, text: str) -> str:
    return (
        f'<path class="grid" d="M{_LEFT} {y}H{_WIDTH - _RIGHT}"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{text}</text>'
    )


def _span(fault: NodeFault, across: Scale, x_most: float) -> str:
    # A node may be well again only after the run.
    x, end = across(fault.begun_s), across(min(fault.ended_s, x_most))
    title = escape(f"{fault.kind} {fault.node}")
    height = _HEIGHT - _TOP - _BOTTOM
    return (
        f'<rect class="fault" x="{x}" y="{_TOP}" width="{round(end - x, 1)}" height="{height}">'
        f'<title>{title}</title></rect><text x="{x + 3}" y="{_TOP + 12}">{title}</text>'
    )


def _path(number: int, line: Line, across: Scale, upright: Scale) -> str:
    colour = _COLOURS[number % len(_COLOURS)]
    points = " ".join(f"{across(x)},{upright(y)}" for x, y in line.points)
    y = _TOP + 26 + 14 * number
    return (
        f'<polyline class="line" stroke="{colour}" points="{points}"/>'
        f'<text x="{_LEFT + 8}" y="{y}" style="fill:{colour}">{escape(line.name)}</text>'
    )
