# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions, the bytes by which records are ordered, and the clock that stamps them.

A version is 14 bytes, big-endian: a stamp (64 bits), then 48 bits as the tie-break, drawn by each
process when it starts. Comparing the bytes compares versions, and the empty version, "nothing
here", is below all of them.

A read-modify-write carries on what it read, its *base*. Its version is that of the base with a
*link* behind it, the stamp of when it was made: so it lies directly above its base, and below what
is stamped later: `u < u+1 < u+2 < the next stamp`, as one writes it. Versions that differ only in
the link are a *chain*; a link is above those before it.

A stamp is a reading of a hybrid logical clock (Kulkarni et al. 2014) with a persisted ceiling: 48
bits of wall-clock milliseconds, 16 of counter. Invariants: stamps of one process strictly increase;
no stamp is further than `skew_ms_max` ahead of this node's wall clock, because peers would refuse
it; what is stored with a stamp is stored with, or behind, a ceiling at or above it, and a process
begins at the ceiling that it finds. Nothing waits for that to be durable (docs/design.md, "Versions
and re-stamping", says why nothing needs to).

The ceiling is raised half a guard at a time, CEILING_STEP_MS at most, and never past the guard:
after a crash the clock starts at it, and must not then be so far ahead that peers refuse this node.
It is raised past the present by what this node keeps for others, too, for it also tells how far a
disk is (`topology.marks`).
"""

from __future__ import annotations

from struct import Struct
from typing import Final

COUNTER_BITS: Final = 16
CEILING_STEP_MS: Final = 500
VERSION_BYTES: Final = 14
"""Of one that was stamped."""
_STAMP_BYTES: Final = 8
_TIE_BYTES: Final = VERSION_BYTES - _STAMP_BYTES
LINK_BYTES: Final = 8
LINKED_BYTES: Final = VERSION_BYTES + LINK_BYTES
"""Of one that a read-modify-write made."""
RECORD_LENGTHS: Final = (VERSION_BYTES, LINKED_BYTES)
"""Of a record's version."""
TIE_MAX: Final = (1 << 48) - 1
TIES: Final = range(1 << 40, 1 << 47)
"""From which processes draw theirs. No process has 0, which is the tie of phantoms (`votes`)."""
_unpack: Final = Struct(">Q").unpack_from
ABSENT: Final = b""
"""The version of a record that a replica does not have."""


def stamp_at(wall_ms: int) -> int:
    """The first stamp of a millisecond."""
    return wall_ms << COUNTER_BITS


def ms_of(stamp: int) -> int:
    """The millisecond of a stamp."""
    return stamp >> COUNTER_BITS


def stamp_of(version: bytes) -> int:
    """The hybrid clock reading (64 bits) of a version; 0 for ABSENT."""
    # Not by int.from_bytes, which takes three times as long: asked dozens of times for an update.
    stamp: int = _unpack(version)[0] if version else 0
    return stamp


def pack_version(stamp: int, tie: int) -> bytes:
    """The version of clock reading `stamp` (64 bits), unlike those of another `tie` (48 bits)."""
    # Apart, as one number of both would be of more than a machine's word. Struct.pack costs more.
    return stamp.to_bytes(_STAMP_BYTES, "big") + tie.to_bytes(_TIE_BYTES, "big")


VERSION_MIN: Final = pack_version(1, 0)
"""Every record's is above it: no clock gives out stamp 0."""


def chain_of(version: bytes) -> bytes:
    """What all versions of a chain have in common: the version that was stamped, which may be no
    record's (`horizons`)."""
    return version[:VERSION_BYTES]


def link_of(version: bytes) -> int:
    """What makes a version a later one of its chain; 0 of one that was stamped."""
    link: int = _unpack(version, VERSION_BYTES)[0] if len(version) > VERSION_BYTES else 0
    return link


def made_of(version: bytes) -> int:
    """The stamp at which a version was made."""
    return link_of(version) or stamp_of(version)


def successor(version: bytes, stamp: int = 0) -> bytes:
    """A version of the same chain that lies above `version`, made at `stamp`, or later if that is
    not above the link before."""
    link = max(stamp, link_of(version) + 1)
    return version[:VERSION_BYTES] + link.to_bytes(LINK_BYTES, "big")


class HybridClock:
    """One node's clock. Call `begin` at the start of each step."""

    __slots__ = ("_ceiling", "_floor", "_guard", "_last", "_skew_ms_max")

    def __init__(self, *, ceiling: int, skew_ms_max: int) -> None:
        self._ceiling = ceiling
        # Everything up to the ceiling may have been given out before a restart.
        self._last = ceiling
        self._skew_ms_max = skew_ms_max
        self._floor = 0
        self._guard = 0

    @property
    def last(self) -> int:
        """The highest stamp given out or observed."""
        return self._last

    @property
    def reading(self) -> int:
        """The stamp of now: nodes that hear of each other have about the same, however their wall
        clocks differ, within the guard."""
        last = self._last
        return last if self._floor < last <= self._guard else self._floor

    def begin(self, wall_ms: int) -> int:
        """Note the wall clock. Returns the highest stamp to accept from anyone in this step."""
        self._floor = wall_ms << COUNTER_BITS  # `stamp_at` without the call: once for each step.
        self._guard = (wall_ms + self._skew_ms_max + 1 << COUNTER_BITS) - 1
        return self._guard

    def observe(self, stamp: int) -> bool:
        """Advance to a peer's clock. False, and nothing changes, if it is past the guard."""
        if stamp > self._guard:
            return False
        if stamp > self._last:
            self._last = stamp
        return True

    def next(self, above: int = 0) -> int:
        """A new stamp higher than `above` and than all before; 0 if the wall clock is too far
        behind what was seen to give it out now."""
        stamp = self._last + 1
        if stamp < self._floor:
            stamp = self._floor
        if stamp <= above:
            stamp = above + 1
        if stamp > self._guard:
            return 0
        self._last = stamp
        return stamp

    def untrusted_ms(self, above: int = 0) -> int:
        """Milliseconds until a stamp above `above`, which was refused, may be given out, if the
        wall clock goes on evenly."""
        return max(ms_of(max(self._last, above) - self._guard), 0) + 1

    def raise_ceiling(self) -> int:
        """The ceiling to store with what was stamped, kept or voted in this step; 0 if the one
        before will do."""
        last = max(self._last, self._floor)
        if last <= self._ceiling:
            return 0
        step_ms = min(self._skew_ms_max // 2, CEILING_STEP_MS)
        ceiling = min(last + stamp_at(step_ms), self._guard)
        if ceiling <= self._ceiling:
            # The wall clock stepped back, and the guard with it: nothing above it was given out.
            return 0
        self._ceiling = ceiling
        return ceiling
