# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan as a file: JSON that a person can read, cut down by hand, and run again."""

from __future__ import annotations

from typing import Final

import msgspec

from quorate.sim.plan import FAULTS, Plan

_WIDTH: Final = 200


def encode(plan: Plan) -> bytes:
    """The text of a plan's file: what fits on a line is on one line, a fault or visit each."""
    return f"{_laid_out(msgspec.to_builtins(plan), '')}\n".encode()


def decode(text: bytes) -> Plan:
    """The plan in a file. ValueError says what is wrong with it."""
    plan = msgspec.json.decode(text, type=Plan)
    visited = [visit.node for script in plan.scripts for visit in script]
    hit = [node for fault in plan.faults for node in fault.nodes]
    dead = [] if plan.stays_dead is None else [plan.stays_dead]
    for node in (*visited, *hit, *dead):
        if not 0 <= node < plan.nodes:
            raise ValueError(f"there is no node {node}: they count from 0 to {plan.nodes - 1}")
    for fault in plan.faults:
        if fault.name not in FAULTS:
            raise ValueError(f"no such fault: {fault.name}")
    widths = {len(plan.offsets_ms), len(plan.syncs_ms)}
    if widths != {plan.nodes} or len(plan.latencies_ms) != plan.nodes**2:
        raise ValueError(f"offsets, syncs and latencies are not those of {plan.nodes} nodes")
    return plan


def _laid_out(value: object, indent: str) -> str:
    line = msgspec.json.format(msgspec.json.encode(value), indent=0).decode()
    if len(indent) + len(line) < _WIDTH or not isinstance(value, dict | list | tuple):
        return line
    inner = f"{indent}  "
    if isinstance(value, dict):
        parts = [f'"{name}": {_laid_out(part, inner)}' for name, part in value.items()]
        first, last = "{}"
    else:
        parts = [_laid_out(part, inner) for part in value]
        first, last = "[]"
    joined = f",\n{inner}".join(parts)
    return f"{first}\n{inner}{joined}\n{indent}{last}"
