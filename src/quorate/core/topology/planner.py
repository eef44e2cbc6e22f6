# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes should hold each partition, and the next step from what is to what should be.

A plan keeps these rules, each unless one above it forbids:

1. The copies of a partition are on distinct nodes, none of weight 0.
2. They are in distinct zones. With fewer zones than copies no zone has more of them than it must:
   of 3 copies in 2 zones it has at most 2.
3. Each node holds copies in proportion to its weight, to the copy (`quotas`).
4. As few copies move as can be, and those that stay keep their place in the order of preference.

For example, with 3 copies on nodes 0, 1 and 2, all partitions are on all of them: 1,024 copies
each. Node 3 joins: the quota of each is now 768, so 768 copies move to it, 256 from each of the
others, one of a partition.

Rules 1 to 3 are always met in full: quotas are chosen so that they can be, and a shortest chain of
exchanges (`_chain`) is an augmenting path of the flow partitions -> zones -> nodes (Ford and
Fulkerson). Rule 4 is met as well as going first for what costs least does.

A plan is carried out in steps, and made anew before each of them. That moves as much as carrying
out the first plan would, or hardly more: each step brings copies from nodes over their quota to
nodes under it, and each node gains in proportion to what it lacks, so the next plan finds nearly
what the first one left to do.

Invariants: equal arguments give equal plans; a plan for what a plan says is that plan; a row that
holds the same nodes as before is the same row. Liveness never enters here.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from typing import Final, NamedTuple

from quorate.core.values.slots import PARTITION_COUNT

_STRIDE: Final = 389
"""Prime to the count of partitions: this many on from each visits all, and spreads what is done
over them."""
_WALK: Final = [step * _STRIDE % PARTITION_COUNT for step in range(PARTITION_COUNT)]


class Site(NamedTuple):
    """What the planner needs to know of a node."""

    zone: str
    """What fails together with it. A node that names none is in zone "" with all others such."""
    weight: int
    """Its share of the copies, against the weights of the others. 0: it leaves, and holds none."""


def plan(
    old: Sequence[Sequence[int]], sites: Sequence[Site], *, replication: int
) -> list[tuple[int, ...]]:
    """Who should hold each partition: indices into `sites`, in order of preference.

    `old`: who holds it now; rows may be empty, or of another length. Each new row has
    min(replication, nodes with a weight) nodes: none if all leave. Cost: all copies once, and for
    each that moves a search among those who could take it; for a chain partitions x nodes.
    """
    draft = _Draft(old, sites, replication)
    draft.give_up()
    draft.fill()
    draft.level()
    return [
        _settled(was, row, partition)
        for partition, (was, row) in enumerate(zip(old, draft.rows, strict=True))
    ]


def quotas(
    sites: Sequence[Site], *, replication: int, held: Sequence[int] | None = None
) -> list[int]:
    """How many copies each node should hold: by weight, first among the zones, then in each.

    A node holds a partition once, and a zone no more often than rule 2 allows; what is over goes
    to the others. Odd copies stay where there are some already, of those that are `held` now.
    """
    held = held or [0] * len(sites)
    zones = _zones(sites)
    each = _zone_copies(zones, _copies(sites, replication))
    shares = _shares(
        PARTITION_COUNT * _copies(sites, replication),
        weights=[sum([sites[index].weight for index in zone]) for zone in zones],
        most=[PARTITION_COUNT * min(each, len(zone)) for zone in zones],
        held=[sum([held[index] for index in zone]) for zone in zones],
    )
    wanted = [0] * len(sites)
    for zone, share in zip(zones, shares, strict=True):
        parts = _shares(
            share,
            weights=[sites[index].weight for index in zone],
            most=[PARTITION_COUNT] * len(zone),
            held=[held[index] for index in zone],
        )
        for index, part in zip(zone, parts, strict=True):
            wanted[index] = part
    return wanted


def next_rows(
    now: Sequence[Sequence[int]],
    goal: Sequence[Sequence[int]],
    *,
    limit: int,
    may_gain: Container[int],
    absent: Container[int] = (),
    first: Container[int] = (),
) -> dict[int, tuple[int, ...]]:
    """The next step from `now` to `goal`: by partition, at most `limit` rows as they should be
    after it. Empty if nothing can be done now.

    In each row one node comes if it is too short, one goes if it is too long, and else one comes in
    place of another; only nodes in `may_gain` come, and a row becomes shorter only where none that
    holds it is `absent`, as each that keeps it pulls then, from who goes too. Rows with a node in
    `first` (a lost disk) are before all others. Then each node gains in proportion to what it still
    lacks, so that all are done at the same time, and no node that holds some of the rows has many
    more of them than others that could share the work.
    A row of the same nodes in another order is left as it is, and so is one that would be empty.
    """
    steps: dict[int, tuple[int, ...]] = {}
    by_gainer: dict[int, list[int]] = {}
    for partition in _WALK:
        row = now[partition]
        step, gainer = _step(row, goal[partition], may_gain, first)
        if step and (len(step) >= len(row) or not any([index in absent for index in row])):
            steps[partition] = step
            by_gainer.setdefault(gainer, []).append(partition)
    turns = {
        partition: (turn + 0.5) / len(partitions)
        for partitions in by_gainer.values()
        for turn, partition in enumerate(partitions)
    }
    order = sorted(steps, key=turns.__getitem__)
    is_urgent = {
        partition: any([index in first for index in now[partition]]) for partition in order
    }
    chosen = _shared_out([each for each in order if is_urgent[each]], now, limit)
    others = [each for each in order if not is_urgent[each]]
    chosen += _shared_out(others, now, limit - len(chosen))
    return {partition: steps[partition] for partition in chosen}


def _step(
    row: Sequence[int], goal: Sequence[int], may_gain: Container[int], first: Container[int]
) -> tuple[tuple[int, ...], int]:
    """The row one step nearer to its goal, and who comes (or -1); an empty row if none may."""
    gained = [index for index in goal if index not in row and index in may_gain]
    lost = [index for index in row if index not in goal]
    lost.sort(key=lambda index: index not in first)
    if len(row) > len(goal):
        gainer, step = -1, tuple([index for index in row if index != lost[0]])
    elif not gained:
        return (), -1
    elif len(row) < len(goal):
        gainer, step = gained[0], (*row, gained[0])
    else:
        gainer = gained[0]
        step = tuple([gainer if index == lost[0] else index for index in row])
    return (tuple(goal) if set(step) == set(goal) else step), gainer


def _shared_out(order: list[int], now: Sequence[Sequence[int]], limit: int) -> list[int]:
    """The first partitions of `order`, those last whose nodes have more of them than others."""
    chosen: list[int] = []
    load: Counter[int] = Counter()
    most = 1
    while order and len(chosen) < limit:
        later = []
        for partition in order:
            row = now[partition]
            if len(chosen) < limit and all([load[index] < most for index in row]):
                chosen.append(partition)
                load.update(row)
            else:
                later.append(partition)
        order, most = later, 2 * most
    return chosen


def crowded(rows: Sequence[Sequence[int]], sites: Sequence[Site], *, replication: int) -> list[str]:
    """In how many partitions copies share a zone, and why: one line for each zone and number of
    copies. Nothing if nobody named a zone."""
    copies = _copies(sites, replication)
    zones = {site.zone for site in sites if site.weight > 0}
    if zones <= {""}:
        return []
    partitions: Counter[tuple[str, int]] = Counter()
    for row in rows:
        partitions.update(Counter([sites[index].zone for index in row]).items())
    why = "a plan would spread them"
    if copies > len(zones):
        there = "there is 1" if len(zones) == 1 else f"there are {len(zones)}"
        why = f"{copies} copies need {copies} zones, and {there}"
    return [
        f"{count} partitions have {shared} copies in {f'zone {zone}' if zone else 'no zone'}: {why}"
        for (zone, shared), count in sorted(partitions.items())
        if shared > 1
    ]


def _copies(sites: Sequence[Site], replication: int) -> int:
    return min(replication, sum([site.weight > 0 for site in sites]))


def _zones(sites: Sequence[Site]) -> list[list[int]]:
    """The nodes of each zone that may hold something, in order of the first of each."""
    zones: dict[str, list[int]] = {}
    for index, site in enumerate(sites):
        if site.weight > 0:
            zones.setdefault(site.zone, []).append(index)
    return list(zones.values())


def _zone_copies(zones: list[list[int]], copies: int) -> int:
    """How many copies of a partition one zone may have: the fewest with which there is a place for
    all. 4 copies in a zone of 5 nodes and one of 1 node: 3."""
    each = 0
    while sum([min(each, len(zone)) for zone in zones]) < copies:
        each += 1
    return each


def _shares(total: int, *, weights: list[int], most: list[int], held: list[int]) -> list[int]:
    """`total` in proportion to the weights, none over its `most`. In whole numbers: rounding must
    be the same everywhere."""
    shares = list(most)
    free, left, weight = list(range(len(weights))), total, sum(weights)
    while over := [i for i in free if weights[i] * left > most[i] * weight]:
        free = [i for i in free if i not in over]
        left -= sum([most[i] for i in over])
        weight -= sum([weights[i] for i in over])
    rests = [0] * len(weights)
    for i in free:
        shares[i], rests[i] = divmod(weights[i] * left, weight)
    odd = [i for i in free if rests[i]]
    odd.sort(key=lambda i: (held[i] <= shares[i], -rests[i], i))
    for i in odd[: left - sum([shares[i] for i in free])]:
        shares[i] += 1
    return shares


def _settled(was: Sequence[int], row: list[int], partition: int) -> tuple[int, ...]:
    """The row in its order: who stays keeps the place, who comes has that of one who goes."""
    if not was:
        # The first of a row is asked first by clients: spread that role too.
        turn = partition % len(row) if row else 0
        ordered = sorted(row)
        return tuple(ordered[turn:] + ordered[:turn])
    gained = [index for index in row if index not in was]
    placed = []
    for index in was:
        if index in row:
            placed.append(index)
        elif gained:
            placed.append(gained.pop(0))
    return tuple(placed + gained)


class _Ring:
    """Numbers from 0, those with the most room first."""

    def __init__(self, rooms: list[int]) -> None:
        self.rooms = rooms
        self._size = len(rooms)
        self._keys = sorted([number - room * self._size for number, room in enumerate(rooms)])
        """One integer for each: room first, as `key // size` is `-room`."""

    def add(self, number: int, room: int) -> None:
        """Give one more room, or less."""
        keys, key = self._keys, number - self.rooms[number] * self._size
        del keys[bisect_left(keys, key)]
        insort(keys, key - room * self._size)
        self.rooms[number] += room

    def by_room(self, start: int) -> Iterator[int]:
        """All numbers; of those with equal room first `start`, then what follows in a ring."""
        keys, size, at = self._keys, self._size, 0
        while at < size:
            level = keys[at] // size * size
            end = bisect_left(keys, level + size, at)
            first = bisect_left(keys, level + start % size, at, end)
            for key in keys[first:end] + keys[at:first]:
                yield key - level
            at = end


class _Draft:
    """A plan in the making: rows in no order, and how far each node and zone is from its quota."""

    def __init__(self, old: Sequence[Sequence[int]], sites: Sequence[Site], replication: int):
        self.copies = _copies(sites, replication)
        self.was = old
        self.rows = [[index for index in row if sites[index].weight > 0] for row in old]
        self.zones = _zones(sites)
        self.each = _zone_copies(self.zones, self.copies)
        self.zone_of, self.number_of = [-1] * len(sites), [-1] * len(sites)
        for zone, indices in enumerate(self.zones):
            for number, index in enumerate(indices):
                self.zone_of[index], self.number_of[index] = zone, number
        counts = Counter([index for row in self.rows for index in row])
        held = [counts[index] for index in range(len(sites))]
        wanted = quotas(sites, replication=replication, held=held)
        self.room = [quota - holds for quota, holds in zip(wanted, held, strict=True)]
        self.rings = [_Ring([self.room[index] for index in zone]) for zone in self.zones]
        self.zone_ring = _Ring([sum(ring.rooms) for ring in self.rings])

    def give_up(self) -> None:
        """Take from each row what must go: of a crowded zone, and of a row that is too long, the
        copy of the node that is furthest over its quota, and of equals the last."""
        for row in self.rows:
            while crowd := self._crowd(row):
                self._drop(row, self._fullest(crowd))
            while len(row) > self.copies:
                self._drop(row, self._fullest(row))

    def fill(self) -> None:
        """Complete each row, from the zones and nodes with the most room."""
        for partition, row in enumerate(self.rows):
            while len(row) < self.copies:
                self._take(row, self._roomiest(partition))

    def level(self) -> None:
        """Bring copies from nodes over their quota to nodes under it: first where that moves none
        that was there, then one of each row, then any; what is left by chains."""
        for price in (0, 1, 2):
            moved = True
            while moved and min(self.room, default=0) < 0:
                moved = False
                for partition in _WALK:
                    moved = self._exchange(partition, price) or moved
            while price != 1 and self._chain(is_free=price == 0):
                pass

    def _take(self, row: list[int], index: int) -> None:
        row.append(index)
        self._add_room(index, -1)

    def _drop(self, row: list[int], index: int) -> None:
        row.remove(index)
        self._add_room(index, 1)

    def _add_room(self, index: int, room: int) -> None:
        zone = self.zone_of[index]
        self.room[index] += room
        self.rings[zone].add(self.number_of[index], room)
        self.zone_ring.add(zone, room)

    def _full(self, row: list[int], *, without: int = -1) -> list[int]:
        """The zones that may have no more copies of the row, were it not for one node."""
        if len(self.zones) == 1:
            return []
        counts: dict[int, int] = {}
        for index in row:
            if index != without:
                zone = self.zone_of[index]
                counts[zone] = counts.get(zone, 0) + 1
        return [zone for zone, count in counts.items() if count >= self.each]

    def _crowd(self, row: list[int]) -> list[int]:
        """The nodes in zones that have more copies of the row than they may."""
        if len(self.zones) == 1 or len(row) <= self.each:
            return []
        zones = [self.zone_of[index] for index in row]
        return [index for index in row if zones.count(self.zone_of[index]) > self.each]

    def _fullest(self, row: list[int]) -> int:
        return min(
            reversed(row), key=lambda i: (self.room[i], self.zone_ring.rooms[self.zone_of[i]])
        )

    def _roomiest(self, partition: int) -> int:
        """Who takes one more copy of the partition: of the zones with most room that may have one,
        the first with a node that has room, or else the first."""
        row, fallback = self.rows[partition], -1
        full = self._full(row)
        for zone in self.zone_ring.by_room(partition):
            index = -1 if zone in full else self._roomiest_of(zone, partition)
            if index >= 0 and self.room[index] > 0:
                return index
            if fallback < 0:
                fallback = index
        return fallback

    def _roomiest_of(self, zone: int, partition: int) -> int:
        nodes, row = self.zones[zone], self.rows[partition]
        # Another start in each zone and round, so that a node shares partitions with many.
        for number in self.rings[zone].by_room(partition + zone * (partition // len(nodes))):
            if nodes[number] not in row:
                return nodes[number]
        return -1

    def _exchange(self, partition: int, price: int) -> bool:
        """Exchange one copy, from a node over its quota to one under it; whether there is one.

        `price`: 0 for what moves no copy that was there, 1 for the first of a row, 2 for any.
        """
        row, was, room = self.rows[partition], self.was[partition], self.room
        givers = [index for index in row if room[index] < 0]
        if not givers or (price == 1 and not all([index in was for index in row])):
            return False
        for giver in sorted(givers, key=lambda index: room[index]):
            full = self._full(row, without=giver)
            if price == 0 and giver in was:
                takers = iter([i for i in was if self.zone_of[i] >= 0 and room[i] > 0])
            else:
                takers = self._needy(partition, giver)
            for taker in takers:
                if taker not in row and self.zone_of[taker] not in full:
                    self._drop(row, giver)
                    self._take(row, taker)
                    return True
        return False

    def _needy(self, partition: int, giver: int) -> Iterator[int]:
        """The nodes under their quota, in zones under theirs and in the giver's own."""
        own = self.zone_of[giver]
        for zone in self.zone_ring.by_room(partition):
            if self.zone_ring.rooms[zone] <= 0:
                break
            if zone != own:
                yield from self._needy_of(zone, partition)
        yield from self._needy_of(own, partition)

    def _needy_of(self, zone: int, partition: int) -> Iterator[int]:
        nodes, ring = self.zones[zone], self.rings[zone]
        for number in ring.by_room(partition):
            if ring.rooms[number] <= 0:
                break
            yield nodes[number]

    def _chain(self, *, is_free: bool) -> bool:
        """Exchange copies from a node over its quota to one under it by way of others, the shortest
        way that there is. Of exchanges in one row none then needs what another takes.

        For example, node 3 has a copy of all that node 0 has: a copy goes from 0 to 1, and one of
        another partition from 1 to 3. `is_free`: by exchanges that move no copy that was there.
        """
        came = {index: (-1, -1) for index, room in enumerate(self.room) if room < 0}
        if not came:
            return False
        left = [index for zone in self.zones for index in zone if index not in came]
        held: list[list[int]] = [[] for _ in self.room]
        for partition, row in enumerate(self.rows):
            for index in row:
                held[index].append(partition)
        queue = list(came)
        for giver in queue:
            before = len(queue)
            for partition in held[giver]:
                for taker in self._takers(partition, giver, left, is_free=is_free):
                    came[taker] = (giver, partition)
                    left.remove(taker)
                    queue.append(taker)
            if ends := [index for index in queue[before:] if self.room[index] > 0]:
                self._follow(came, ends[0], held, is_free=is_free)
                return True
        return False

    def _takers(self, partition: int, giver: int, among: list[int], *, is_free: bool) -> list[int]:
        """Who of some nodes could have the giver's copy of a partition."""
        row, was = self.rows[partition], self.was[partition]
        if is_free and giver in was:
            among = [index for index in among if index in was]
        full = self._full(row, without=giver) if among else []
        return [i for i in among if i not in row and self.zone_of[i] not in full]

    def _follow(
        self, came: dict[int, tuple[int, int]], taker: int, held: list[list[int]], *, is_free: bool
    ) -> None:
        """Carry out a chain, and again in other rows while both of its ends want it."""
        end = taker
        links: list[tuple[int, int]] = []
        partitions: list[int] = []
        while came[taker][0] >= 0:
            giver, partition = came[taker]
            links.append((giver, taker))
            partitions.append(partition)
            taker = giver
        # Each scan goes on where it was: what could not be used hardly ever can be later.
        scans = [iter(held[giver]) for giver, _ in links]
        while -1 not in partitions and self.room[taker] < 0 < self.room[end]:
            for (giver, gainer), partition in zip(links, partitions, strict=True):
                self._drop(self.rows[partition], giver)
                self._take(self.rows[partition], gainer)
            partitions = []
            for link, scan in zip(links, scans, strict=True):
                partitions.append(self._next_for(link, scan, partitions, is_free=is_free))

    def _next_for(
        self, link: tuple[int, int], scan: Iterator[int], taken: list[int], *, is_free: bool
    ) -> int:
        giver, taker = link
        for partition in scan:
            is_open = partition not in taken and giver in self.rows[partition]
            if is_open and self._takers(partition, giver, [taker], is_free=is_free):
                return partition
        return -1
