# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds what is spread as it should be (I17): copies of one partition on distinct nodes, as
many of them as there shall be; and once nothing is to move, in even shares and in distinct zones.

On the way a row has as many copies as it had, or as it shall have, or a number between. No decided
layout has shorter ones, so one copy of each row stays where three shall be only as long as it was
the only one.
"""

from __future__ import annotations

from collections import Counter

from quorate.core.topology.layout import Layout
from quorate.core.topology.planner import Site, quotas


def misshaped(layout: Layout) -> list[str]:
    """What no layout may have, be it on the way to another: rows that name a node twice, or one
    that is none, and rows that move to fewer copies than they have and shall have, or to more."""
    indices, shall = set(range(len(layout.members))), _copies(layout)
    rows = {*layout.table, *[row for _, row in layout.moves]}
    found = [
        f"a row lists {row}, not distinct members"
        for row in sorted(rows)
        if len(set(row)) < len(row) or not indices.issuperset(row)
    ]
    for partition, row in layout.moves:
        held = len(layout.table[partition])
        if not min(held, shall) <= len(row) <= max(held, shall):
            told = f"partition {partition} moves from {held} copies to {len(row)}"
            found.append(f"{told}, and shall have {shall}")
    return found


def uneven(layout: Layout) -> list[str]:
    """What a layout may not have when nothing is to move: rows of another length than they shall
    have, a zone with more copies of a row than it must have, and shares that are not the members'
    by weight. Where all members are alike no two of them differ by more than one copy: that is
    asked without the planner, which says what the shares are elsewhere."""
    sites = [Site(each.zone, each.weight) for each in layout.members]
    shall, rows = _copies(layout), set(layout.table)
    most = _zone_copies_max(sites, shall)
    found = [
        f"a row lists {row}, which are not {shall} members in zones as distinct as can be"
        for row in sorted(rows)
        if len(row) != shall or max(Counter(sites[each].zone for each in row).values()) > most
    ]
    copies = list(layout.copies().values())
    wanted = quotas(sites, replication=layout.replication, held=copies)
    if len(set(sites)) == 1 and max(copies) - min(copies) > 1:
        found.append(f"members that are alike have {copies} copies")
    elif copies != wanted:
        found.append(f"members have {copies} copies, and their shares are {wanted}")
    return found


def _copies(layout: Layout) -> int:
    """How many copies of each partition there shall be."""
    return min(layout.replication, sum(each.weight > 0 for each in layout.members))


def _zone_copies_max(sites: list[Site], copies: int) -> int:
    """The least number of copies in one zone with which all have a place."""
    sizes = Counter(site.zone for site in sites if site.weight).values()
    return next(most for most in range(copies + 1) if sum(min(most, n) for n in sizes) >= copies)
