# SPDX-License-Identifier: GPL-3.0-or-later
"""From flags to the worlds that `quorate sim` is to run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from quorate.cli.arguments import Given, UsageError
from quorate.cli.connect import whole_number
from quorate.notation import nearest
from quorate.sim.draw import Options, draw
from quorate.sim.faults import FAULTS
from quorate.sim.plan import Plan
from quorate.sim.planfile import decode

_SEEDS: Final = 100
_SEEDS_MAX: Final = 10**9
_NODES_MAX: Final = 16
_OPERATIONS_MAX: Final = 100_000
_CLIENTS_MAX: Final = 1_000
_DRAWN_BY: Final = ("nodes", "replication", "W", "R", "operations", "clients", "faults")
"""Flags that change what a seed draws: the command that replays a seed repeats them."""


class SimAsked(NamedTuple):
    """What to run: seeds, or one plan."""

    options: Options
    seeds: range
    plan: Plan | None
    """The only one to run: from `--plan`, or drawn from `--seed`. None: run all of `seeds`."""
    jobs: int
    drawn_by: tuple[str, ...]
    """The flags given of `_DRAWN_BY`, such as `--nodes=3`."""
    file: str
    """Where `plan` is from; empty if it was drawn."""

    def replay(self, seed: int) -> str:
        """The command that runs a seed again."""
        flags = [f"--plan={self.file}"] if self.file else [f"--seed={seed}", *self.drawn_by]
        return shlex.join(["quorate", "sim", *flags])


def asked_of(given: Given) -> SimAsked:
    """Everything that was asked for; UsageError for what makes no sense."""
    options = _options(given)
    seeds, plan = _seeds(given), _plan(given)
    if plan is not None:
        seeds = range(plan.seed, plan.seed + 1)
    elif "seed" in given:
        plan = draw(seeds[0], options)
    if plan is None and "trace" in given:
        raise UsageError("--trace: it is of one world: name it with --seed or --plan")
    if "out" in given:
        if "shrink" not in given:
            raise UsageError("--out: it is what --shrink writes: add --shrink")
        if not Path(given["out"]).parent.is_dir():
            raise UsageError(f"--out: there is no directory {Path(given['out']).parent}")
    jobs = min(whole_number(given, "jobs", low=1) or _cores(), len(seeds))
    drawn_by = tuple(f"--{name}={given[name]}" for name in _DRAWN_BY if name in given)
    return SimAsked(options, seeds, plan, 1 if plan else jobs, drawn_by, given.get("plan", ""))


def _seeds(given: Given) -> range:
    if "seed" in given:
        _refuse_beside("seed", given, ("seeds", "first-seed", "plan"))
        seed = whole_number(given, "seed", low=0) or 0
        return range(seed, seed + 1)
    first = whole_number(given, "first-seed", low=0) or 0
    count = whole_number(given, "seeds", low=1, high=_SEEDS_MAX) or _SEEDS
    return range(first, first + count)


def _plan(given: Given) -> Plan | None:
    """The plan of the file that is given."""
    if "plan" not in given:
        return None
    _refuse_beside("plan", given, ("seeds", "first-seed", *_DRAWN_BY))
    path = Path(given["plan"])
    try:
        return decode(path.read_bytes())
    except OSError as fault:
        raise UsageError(f"--plan: {fault.strerror}: {path}") from None
    except ValueError as fault:
        raise UsageError(f"--plan: {path} is no plan: {fault}") from None


def _refuse_beside(name: str, given: Given, others: Iterable[str]) -> None:
    for other in others:
        if other in given:
            raise UsageError(f"--{name} says it all: leave --{other} out")


def _options(given: Given) -> Options:
    defaults = Options()
    nodes = _number(given, "nodes", high=_NODES_MAX)
    replication = _number(given, "replication", high=nodes or _NODES_MAX, of=" nodes")
    copies = min(replication or _NODES_MAX, nodes or _NODES_MAX)
    operations = whole_number(given, "operations", low=1, high=_OPERATIONS_MAX)
    return Options(
        nodes=nodes,
        replication=replication,
        w=_number(given, "W", high=copies, of=" replicas"),
        r=_number(given, "R", high=copies, of=" replicas"),
        operations=operations or defaults.operations,
        clients=_number(given, "clients", high=_CLIENTS_MAX),
        faults=_faults(given),
    )


def _number(given: Given, name: str, *, high: int, of: str = "") -> int | None:
    """A number from 1 up; None where the seed shall choose."""
    number = whole_number(given, name, low=1)
    if number is not None and number > high:
        raise UsageError(f"--{name}: {number} is too large: there are at most {high}{of}")
    return number


def _faults(given: Given) -> frozenset[str]:
    text = given.get("faults", "all")
    if text in ("all", "none"):
        return frozenset(FAULTS if text == "all" else ())
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in FAULTS:
            hint = nearest(name, FAULTS) or ";"
            every = ", ".join((*FAULTS, "all", "none"))
            raise UsageError(f"--faults: no such fault: {name!r}{hint} there are: {every}")
    return frozenset(names)


def _cores() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
