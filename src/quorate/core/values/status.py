# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's view of itself and its peers, for people and monitoring; nothing decides by it."""

from __future__ import annotations

import msgspec


class MemberView(msgspec.Struct, frozen=True, kw_only=True):
    """One member as this node sees it."""

    url: str
    id: str
    """12 hexadecimal digits; empty while never met."""
    state: str
    """`self`, `up`, `down` (misses in a row) or `connecting` (not yet met, or link lost)."""
    owns: bool
    """Whether the layout gives it partitions; a member that owns nothing only coordinates."""
    partitions: int
    """Copies of partitions that the layout gives it."""
    last_seen_ms: int | None
    """Milliseconds since its last answer; None if never."""
    failures: int
    """Heartbeats missed in a row."""
    version: str
    level: int
    """The highest feature level that it knows; 0 while never met."""
    protocol: int
    """What links with it speak; 0 while never met."""
    zone: str
    keys: int
    bytes: int
    hints: int
    """Hints waiting here for it."""
    refusal: str
    """Why no link leads there, if either refuses the other; empty if none does."""
    w: int
    """What its writes need that ask for no number; 0 while not known."""
    r: int
    """Likewise of its reads."""
    member: bool
    """Whether the layout names it."""
    weight: int
    """Its share of the copies beside those of others; 0 if it is to hold none."""
    left: int
    """Copies that it has yet to get in the step under way, by its own word."""
    lost: bool
    """Whether the layout says that its disk is lost: nobody waits for what it had."""
    client: str = ""
    """Where clients reach it; empty: at `url`."""
    holds_up: bool = False
    """Whether it holds up the partition of which the replicas were equal longest ago."""
    joins: bool = False
    """Whether an operator asked this node to make it a member, and it is none yet."""


class CandidateView(msgspec.Struct, frozen=True, kw_only=True):
    """A URL at which a node may be: it was discovered, or another node named it. Nobody has greeted
    from there as a node of this cluster."""

    url: str
    refusal: str
    """Why no link leads there, if either end refuses the other; empty if none does."""


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What came of trying to reach a node, step by step."""

    url: str
    addresses: list[str]
    """What its name resolves to."""
    stage: str
    """The step that failed: `resolve`, `connect`, `tls`, `greet`, `cluster` or `large`; empty if
    none did."""
    fault: str
    """What went wrong there, one line."""
    round_trip_ms: float | None
    """How long a connection took to be made."""
    seen: str
    """The address that the member sees the asker at."""
    wall_ms: int
    """The asker's clock, once it was done."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """One node at one moment."""

    url: str
    id: str
    cluster: str
    version: str
    epoch: int
    """0 while the node has not learnt a layout."""
    ready: bool
    reason: str
    """Why it is not ready, one line; empty when it is."""
    replication: int
    """Copies that a key is to have."""
    replicas: int
    """Copies that a key really has, or is getting: min(replication, nodes in the layout) once all
    copies are where they belong."""
    w: int
    r: int
    keys: int
    bytes: int
    inflight: int
    hints: int
    hint_bytes: int
    members: list[MemberView]
    """Itself, and whom it knows as nodes of its cluster, or was told to expect as such."""
    candidates: list[CandidateView]
    """Where others may be. They are dialled, and none of them is a member yet."""
    counters: dict[str, int]
    """Monotonic counts since the start, by metric name without prefix."""
    phase: str
    """What the cluster is at: `forming` (its founders have yet to meet), `stable`, `waiting` (nodes
    joined; their copies move soon) or `moving`."""
    moving: bool
    """Whether copies move."""
    left: int
    """Copies that this node has yet to get in the step under way."""
    waits: list[str]
    """What does not go on, a line each: who waits, why, for how long, and what to do."""
    agreed_age_s: int
    """How long ago the replicas of all partitions of which this node is one were last known to
    hold the same; since its start, or since it holds a partition, where they were not yet."""
    agreed_waits: str
    """What holds that up, one line: a partition, who, and why; empty if nothing does."""
    level: int
    """The feature level in force; 0 while the node has not learnt a layout."""
    next_level: int
    """The one to which it can rise, by what nodes know; the same if to none."""
    level_waits: list[str]
    """What holds that up, a line for each node."""
    tombstones: int
    """Held here, of the partitions that this node has gone through since its start."""
    tombstones_wait: str
    """What keeps them from being dropped, one line; empty if nothing does."""
