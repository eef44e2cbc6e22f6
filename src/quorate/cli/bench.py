# SPDX-License-Identifier: GPL-3.0-or-later
"""quorate bench: parse what is asked, run it, print what came out."""

from __future__ import annotations

from typing import Any

from quorate.addresses import split_url
from quorate.bench.measure import Plan, measure
from quorate.bench.protocols import ProtocolFault
from quorate.bench.report import report
from quorate.cli.arguments import Given, UsageError
from quorate.cli.connect import node_urls, whole_number
from quorate.cli.failures import complain
from quorate.cli.output import print_json, print_table
from quorate.notation import parse_duration, parse_size


def run_bench(given: Given) -> int:
    """Measure; 2 if a target cannot be reached, 3 if there were errors."""
    plan = _plan(given)
    try:
        load = measure(plan)
    except (OSError, ProtocolFault) as fault:
        targets = ", ".join(f"{host}:{port}" for host, port in plan.targets)
        text = f"bench of {targets}: {getattr(fault, 'strerror', None) or fault}"
        return complain(text, code="bench_failed", is_json="json" in given)
    result = report(plan, load)
    if "json" in given:
        print_json(result)
    else:
        _show(result)
    return 3 if load.tally.errors else 0


def _plan(given: Given) -> Plan:
    protocol = given.get("protocol", "resp")
    if protocol not in ("resp", "http"):
        raise UsageError(f"--protocol: {protocol!r} is neither resp nor http")
    wait = whole_number(given, "wait", low=0) or 0
    if wait and protocol == "http":
        raise UsageError("--wait: only Redis has WAIT: use it with --protocol=resp")
    targets = [split_url(url) for url in node_urls(given)]
    return Plan(
        targets=targets,
        protocol=protocol,
        connections=max(whole_number(given, "connections", low=1) or 64, len(targets)),
        pipeline=whole_number(given, "pipeline", low=1) or 1,
        keys=whole_number(given, "keys", low=1) or 100_000,
        value_bytes=_size(given),
        reads=_share(given),
        wait=wait,
        seconds=_seconds(given),
    )


def _size(given: Given) -> int:
    try:
        return parse_size(given.get("value-bytes", "64"))
    except ValueError as fault:
        raise UsageError(f"--value-bytes: {fault}") from None


def _seconds(given: Given) -> float:
    try:
        duration_ms = parse_duration(given.get("duration", "5s"))
    except ValueError as fault:
        raise UsageError(f"--duration: {fault}") from None
    if not 0 < duration_ms <= 3_600_000:
        raise UsageError("--duration: from 1ms to 1h")
    return duration_ms / 1000


def _share(given: Given) -> float:
    text = given.get("reads", "0.5")
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"--reads: {text!r} is no share from 0 to 1")
    return share


def _show(result: dict[str, Any]) -> None:
    columns = ["kind", "requests", "per_second", "p50_ms", "p99_ms", "p999_ms", "max_ms"]
    rows = [
        [kind, *(_rounded(result[kind][column]) for column in columns[1:])]
        for kind in ("all", "reads", "writes")
        if result[kind]["requests"]
    ]
    print_table(columns, rows)
    if result["misses"]:
        print(f"reads of keys that are not there\t{result['misses']}")
    for kind, count in result["errors"].items():
        print(f"error\t{kind}\t{count}")
    print(f"The keys, {result['key_prefix']}..., stay in the store.")


def _rounded(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:,.2f}".replace(",", "")
