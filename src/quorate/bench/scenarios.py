# SPDX-License-Identifier: GPL-3.0-or-later
"""Loads with a name. Each sets some numbers of a plan; whoever asks may set them otherwise.

The YCSB ones have the mixes, distributions and 1,000-byte records of Cooper et al., "Benchmarking
Cloud Serving Systems with YCSB", 2010. E, short scans, is left out: it is not about single keys.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from quorate.bench.plan import Plan

_YCSB: Final[dict[str, Any]] = {"distribution": "zipfian", "value_bytes": 1000}

SCENARIOS: Final[dict[str, dict[str, Any]]] = {
    "write-heavy": {"reads": 0.05},
    "read-heavy": {"reads": 0.95, "keys": 10_000},
    "cold": {"reads": 0.95, "keys": 1_000_000, "distribution": "once"},
    "many-keys": {"keys": 10_000_000},
    "large-64k": {"value_bytes": 64 << 10, "keys": 2000, "connections": 16},
    "large-1m": {"value_bytes": 1 << 20, "keys": 200, "connections": 8},
    "ycsb-a": {**_YCSB, "reads": 0.5},
    "ycsb-b": {**_YCSB, "reads": 0.95},
    "ycsb-c": {**_YCSB, "reads": 1.0},
    "ycsb-d": {**_YCSB, "reads": 0.95, "writes": "insert", "distribution": "latest"},
    "ycsb-f": {**_YCSB, "reads": 0.5, "writes": "modify"},
}


def with_scenario(plan: Plan, name: str) -> Plan:
    """`plan` as the scenario has it. KeyError if there is none of this name."""
    return msgspec.structs.replace(plan, scenario=name, **SCENARIOS[name])
