# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan: everything that happens to one world, as plain data. `draw` makes one of a seed,
`planfile` reads one from a file, `shrink` makes one smaller.

A run follows it to the letter, so that a shorter one (fewer faults, fewer requests) is again a
plan.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from quorate.sim.history import Kind
from quorate.sim.world import Span, UpTo


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """One fault and when it is on, in milliseconds since the load began."""

    name: str
    begin_ms: float
    end_ms: float
    nodes: tuple[int, ...]
    """The nodes that it is about; the first may play a part of its own."""
    amount: float = 0.0
    """How much; the unit is the fault's own."""

    @property
    def lasts_ms(self) -> float:
        """How long it is on."""
        return self.end_ms - self.begin_ms


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """One operation of a client."""

    serial: int
    kind: Kind
    key: bytes
    value_bytes: int = 0
    ttl_ms: int = 0
    r: int = 0
    w: int = 0
    timeout_ms: int = 0
    tries: int = 1
    """How often it is asked, under one number, until its outcome is known: of an update."""


class Visit(msgspec.Struct, frozen=True):
    """What a client asks of one node in one go, after a pause; it then waits for the answers."""

    pause_ms: float
    node: int
    requests: tuple[Request, ...]


class PageWalk(msgspec.Struct, frozen=True, omit_defaults=True):
    """Pages of keys that a client asks one node for, each behind the one before."""

    at_ms: float
    """Since the load began."""
    node: int
    pages: int
    limit: int
    """Keys on a page, at most."""
    key: bytes = b""
    """The first page begins with the partition of this key; empty: with the first of all."""
    r: int = 0


class Plan(msgspec.Struct, frozen=True):
    """One run."""

    seed: int
    nodes: int
    settings: dict[str, int]
    """Of every node, by the names of `core.values.settings.Settings`."""
    cache_entries: int
    needs_sync: bool
    offsets_ms: tuple[int, ...]
    """By how much each machine's wall clock is wrong from the beginning."""
    syncs_ms: tuple[Span, ...]
    """How long the disk of each machine takes."""
    latencies_ms: tuple[UpTo, ...]
    """Of each link: `[source * nodes + target]`."""
    load_ms: float
    """How long faults go on. Clients go on for as long as their requests take."""
    faults: tuple[Fault, ...]
    scripts: tuple[tuple[Visit, ...], ...]
    """What each client does, one visit after another."""
    stays_dead: int | None
    """A node that nobody restarts before the liveness phase is over."""
    is_new: bool = False
    """Whether the nodes have yet to find together when the load begins."""
    spares: int = 0
    """So many of the nodes, the last ones, are in nobody's list: they hold nothing unless they
    become members."""
    refills: tuple[int, ...] = ()
    """The nodes that lose their disks once faults are over, each after the one before is refilled:
    what is left then was pulled, all of it."""
    walks: tuple[PageWalk, ...] = ()
    late: tuple[int, ...] = ()
    """Founders that nobody meets before faults are over."""
    gives_up: bool = False
    """Whether an operator gives these up before they come, as members that never will."""

    def requests(self) -> Iterator[Request]:
        """What all clients ask, client by client."""
        return (each for script in self.scripts for visit in script for each in visit.requests)

    def keys(self) -> list[bytes]:
        """The keys that clients touch, in order."""
        return sorted({request.key for request in self.requests()})

    def latency_ms(self, source: int, target: int) -> UpTo:
        """Of the link from one node to another."""
        return self.latencies_ms[source * self.nodes + target]

    def is_narrow(self) -> bool:
        """Whether a node takes few requests at a time."""
        return "inflight_max" in self.settings or "inflight_bytes_max" in self.settings
