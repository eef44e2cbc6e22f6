# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan as a file: JSON that a person can read, cut down by hand, and run again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from quorate.core.values.settings import Settings
from quorate.notation import nearest
from quorate.sim.faults import FAULTS
from quorate.sim.plan import Plan

_WIDTH: Final = 200
_LEAST: Final = {
    "replication": 1,
    "w": 0,
    "r": 0,
    "timeout_ms": 1,
    "write_wait_ms": 0,
    "heartbeat_ms": 1,
    "down_after": 1,
    "max_clock_skew_ms": 0,
}
"""The settings that every plan has, and how small they may be."""
_SETTINGS: Final = frozenset(
    field.name for field in msgspec.structs.fields(Settings) if field.type is int
) - {"node_id"}


def encode(plan: Plan) -> bytes:
    """The text of a plan's file: what fits on a line is on one line, a fault or visit each."""
    return f"{_laid_out(msgspec.to_builtins(plan), '')}\n".encode()


def decode(text: bytes) -> Plan:
    """The plan in a file. ValueError says what is wrong with it."""
    plan = msgspec.json.decode(text, type=Plan)
    _check_nodes(plan)
    _check_names("fault", (fault.name for fault in plan.faults), FAULTS)
    _check_names("setting", plan.settings, _SETTINGS)
    _check_settings(plan)
    widths = {len(plan.offsets_ms), len(plan.syncs_ms)}
    if widths != {plan.nodes} or len(plan.latencies_ms) != plan.nodes**2:
        raise ValueError(f"offsets, syncs and latencies are not those of {plan.nodes} nodes")
    return plan


def _check_nodes(plan: Plan) -> None:
    visited = [visit.node for script in plan.scripts for visit in script]
    hit = [node for fault in plan.faults for node in fault.nodes]
    dead = [] if plan.stays_dead is None else [plan.stays_dead]
    if not 0 <= plan.spares < plan.nodes:
        raise ValueError(f"spares: there are to be fewer than nodes, which are {plan.nodes}")
    walked = [walk.node for walk in plan.walks]
    for node in (*visited, *hit, *dead, *plan.refills, *plan.late, *walked):
        if not 0 <= node < plan.nodes:
            raise ValueError(f"there is no node {node}: they count from 0 to {plan.nodes - 1}")


def _check_names(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    every = sorted(known)
    for name in names:
        if name not in every:
            hint = nearest(name, every) or f"; there are: {', '.join(every)}"
            raise ValueError(f"no such {what}: {name}{hint}")


def _check_settings(plan: Plan) -> None:
    settings = plan.settings
    for name, least in _LEAST.items():
        if settings.get(name, -1) < least:
            raise ValueError(f"settings: {name} is to be a number from {least} up")
    copies, nodes = settings["replication"], plan.nodes - plan.spares
    if copies > nodes or max(settings["w"], settings["r"]) > copies:
        raise ValueError(f"settings: w and r are at most replication, and that is at most {nodes}")


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
