# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions: the bytes by which records are ordered.

14 bytes, big-endian: hybrid logical clock (48 bits of milliseconds, 16 bits of counter), then 48
bits as the tie-break, drawn by each process when it starts. Comparing the bytes compares versions,
and the empty version, "nothing here", is below all of them.
"""

from __future__ import annotations

from typing import Final

VERSION_BYTES: Final = 14
TIE_MAX: Final = (1 << 48) - 1
TIES: Final = range(1 << 40, 1 << 47)
"""From which processes draw theirs: there is room above and below for `derived_version`."""
DERIVED_BITS: Final = 24
"""Enough to tell apart the few that carry on one version, and few enough that no process's tie
lies in between."""
ABSENT: Final = b""
"""The version of a record that a replica does not have."""


def pack_version(stamp: int, tie: int) -> bytes:
    """The version of clock reading `stamp` (64 bits), unlike those of another `tie` (48 bits)."""
    return (stamp << 48 | tie).to_bytes(VERSION_BYTES, "big")


def derived_version(seen: bytes, drawn: int) -> bytes:
    """A version for a write that carries on the content of `seen`: above it, and below whatever any
    process stamps later. `drawn`, of DERIVED_BITS random bits, makes two such writes differ.

    It is `seen` plus a small number. After millions of derived writes in a row the tie-break would
    run over into the stamp: the version then has the next stamp, with a tie-break below that of
    every process. Long before, every clock is past that stamp.
    """
    return (int.from_bytes(seen, "big") + 1 + drawn).to_bytes(VERSION_BYTES, "big")


def stamp_of(version: bytes) -> int:
    """The hybrid clock reading (64 bits) of a version; 0 for ABSENT."""
    return int.from_bytes(version[:8], "big")
