# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator asks of the cluster, and what it would come to; `topology.wishes` says what may
be asked. Nodes are named by their id (12 hexadecimal digits) or by their URL."""

from __future__ import annotations

from typing import Final

import msgspec

TOKEN_USES_MAX: Final = 100
"""How many one join token may let in."""


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody is to be let in by a join token, which was found to be genuine and not expired."""

    nonce: bytes
    expires_s: int
    """When the token does, since 1970."""
    uses: int
    """How many it lets in."""
    claim: bytes
    """Who is let in: a hash of what only the newcomer knows."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """Other members, or other shares of theirs; several at once are one plan."""

    leave: tuple[str, ...] = ()
    """Who gives all its copies to others, and then is no member any more."""
    replace: tuple[tuple[str, str], ...] = ()
    """Who goes, and who takes its place: a node that holds no copies."""
    weights: tuple[tuple[str, int], ...] = ()
    zones: tuple[tuple[str, str], ...] = ()
    replication: int = 0
    """Copies of each key; 0 as before."""
    recover: tuple[str, ...] = ()
    """Whose disks are lost for good, where these are so many that no majority of the voters is
    left: the cluster goes on without them, and nobody is asked. Nothing else goes with it."""
    stops: bool = False
    """Move nothing any more: every copy stays where it is."""
    raises_level: bool = False
    """Put the highest feature level in force that members know, which all of them must. Nothing
    else goes with it."""
    admits: Admission | None = None
    """Who is let in. Nothing else goes with it."""
    is_forced: bool = False
    """Though fewer nodes than copies are left, or zones cannot be kept apart."""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan comes to for one node."""

    url: str
    id: str
    zone: str
    weight: int
    """0 if it goes."""
    before: int
    """Partitions of which it has a copy."""
    after: int
    gains: int
    gives: int


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What the cluster comes to if a wish is fulfilled, or the course it is on."""

    epoch: int
    """Of the layout that it starts from."""
    replication: int
    shares: list[Share]
    copies: int
    """Copies of partitions to move."""
    bytes: int
    """About, as far as members tell how much they hold."""
    endangered: int
    """Partitions of which so many copies are lost that acknowledged writes may be."""
    gone: int
    """Of these, those of which no copy is left."""
    crowded: list[str]
    """Why copies of some keys share a zone, in words; empty if none do."""
    unanswered: list[str]
    """Who was started with a W or R of more copies than some keys have then, in words; empty if
    nobody was."""
    weakened: list[str]
    """Who was started with a W or R that is a majority of the copies of a key now and is none then,
    in words; empty if nobody was."""
    level: int
    """The feature level that is in force then."""
