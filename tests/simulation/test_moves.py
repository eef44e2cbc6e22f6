# SPDX-License-Identifier: GPL-3.0-or-later
"""What each rule of copies that move is for: a story in which an acknowledged write is lost, or
missed, if that rule alone is left out (`plants.moves`).

Every story returns the keys of which too little is left. N is 1 where that is enough.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, Final

import pytest

from quorate.core.topology.layout import Layout
from quorate.core.values.events import Change, Edited, GetResult, Join, UpdateResult
from quorate.core.values.record import Record
from quorate.core.values.slots import PARTITION_COUNT, partition_of, row_of
from quorate.core.values.wish import Wish
from quorate.core.votes import decode_votes
from quorate.sim.cluster import SimCluster
from quorate.sim.noise import Noise
from quorate.sim.rest import is_at_rest
from tests.simulation import asking
from tests.simulation.asking import Handle
from tests.simulation.plants.moves import PLANTS, RARE
from tests.simulation.plants.plant import Plant, planted

SLOW: Final = (20.0, 30.0)
"""Of a link: slower than all others."""


@functools.cache
def _keys() -> dict[int, bytes]:
    """A key of each partition."""
    found: dict[int, bytes] = {}
    for number in count():
        key = b"%d" % number
        found.setdefault(partition_of(row_of(key)), key)
        if len(found) == PARTITION_COUNT:
            return found
    raise AssertionError


def _cluster(number: int, *, spares: int = 0, **settings: Any) -> SimCluster:
    return SimCluster(1, number, spares=spares, grow_after_ms=0, is_tolerant=True, **settings)


def _write(cluster: SimCluster, index: int, value: bytes, keys: Iterable[bytes] = ()) -> None:
    """Write keys, or all of them, each of which must succeed."""
    chosen = list(keys) or list(_keys().values())
    handles = [asking.put(cluster, index, key, value) for key in chosen]
    asking.finish(cluster, *handles)
    assert not [each.result for each in handles if isinstance(each.result, Exception)]


def _write_without(cluster: SimCluster, *dead: int) -> None:
    """Write all keys through 0 while these are dead; then they are back."""
    for index in dead:
        cluster.kill(index)
    cluster.run(20)
    _write(cluster, 0, b"v")
    for index in dead:
        cluster.restart(index)
    cluster.run_until(cluster.is_connected)


def _wish(cluster: SimCluster, index: int, wish: Wish) -> None:
    cluster.machines[index].receive(Change(Handle(cluster.world), wish))


def _join(cluster: SimCluster, joining: int) -> Layout:
    """A node joins; returns the layout in which copies move to it."""
    cluster.machines[0].receive(Join(Handle(cluster.world), cluster.machines[joining].url))
    return _moving(cluster)


def _replace(cluster: SimCluster, before: int, after: int, *, asked: int) -> Layout:
    """A node takes the place of another; returns the layout in which copies move to it."""
    machines = cluster.machines
    _wish(cluster, asked, Wish(replace=((machines[before].url, machines[after].url),)))
    return _moving(cluster)


def _moving(cluster: SimCluster) -> Layout:
    cluster.run_until(lambda: cluster.layout().moves)
    return cluster.layout()


def _has_moved(cluster: SimCluster, layout: Layout) -> list[bytes]:
    """Wait until all that a layout moves is where it belongs, by the word of all; returns the keys
    of that."""
    nodes = [machine.node for machine in cluster.machines if machine.is_running]
    cluster.run_until(
        lambda: cluster.broken or min(node.membership.epoch for node in nodes) >= layout.epoch + 1,
        120_000,
    )
    return [_keys()[partition] for partition, _ in layout.moves]


def _missed(
    cluster: SimCluster, index: int, keys: Iterable[bytes], value: bytes, **options: Any
) -> list[bytes]:
    """The keys that are read as another value, or not at all; all of them if a node broke."""
    if cluster.broken:
        return list(keys)
    asked = {key: asking.get(cluster, index, key, **options) for key in keys}
    asking.finish(cluster, *asked.values())
    return [key for key, handle in asked.items() if _value(handle) != value]


def _value(handle: Handle) -> bytes | None:
    result = handle.result
    return result.record.value if isinstance(result, GetResult) and result.record else None


def _is_there(cluster: SimCluster, index: int, *, by: int) -> bool:
    peer = cluster.machines[by].node.roster.at(cluster.machines[index].url)
    return peer is not None and peer.is_there


def _gained(cluster: SimCluster, index: int, left: int) -> None:
    """Wait until a node has that many partitions left to pull."""
    pulls = cluster.machines[index].node.pulls
    cluster.run_until(lambda: pulls.left and len(pulls.left) <= left)


# --- the stories --------------------------------------------------------------------------------


def read_while_the_next_layout_is_known_to_some() -> list[bytes]:
    """0, 1 and 2 hold it, and 3 takes the place of 0. 2 and 3 decide that it has moved, and write;
    0 and 1 do not hear of that, and are a majority of the row before."""
    cluster = _cluster(4, spares=1, replication=3)
    _write(cluster, 1, b"old")
    layout = _replace(cluster, 0, 3, asked=1)
    pulls = cluster.machines[3].node.pulls
    cluster.run_until(lambda: pulls.pulled == layout.epoch)
    asking.split(cluster, (0, 1), (2, 3))
    cluster.run_until(lambda: cluster.machines[3].node.membership.epoch > layout.epoch)
    key = _keys()[layout.moves[0][0]]
    _write(cluster, 3, b"new", [key])
    handle = asking.get(cluster, 0, key)
    asking.finish(cluster, handle)
    return [key] if _value(handle) == b"old" else []


def pulled_where_one_source_is_behind(slow: int) -> list[bytes]:
    """0 and 1 took the last writes, 2 was not there, and 0 loses its disk. 3 takes its place. Then
    1 is gone for a moment: 2 and 3 must know of each write."""
    cluster = _cluster(4, spares=1, replication=3)
    _write(cluster, 0, b"old")
    cluster.kill(2)
    _write(cluster, 0, b"v")
    cluster.kill(0)
    cluster.restart(2)
    cluster.wire(3, slow).latency_ms = SLOW
    cluster.run_until(lambda: not _is_there(cluster, 0, by=1))
    keys = _has_moved(cluster, _replace(cluster, 0, 3, asked=1))
    cluster.kill(1)
    return _missed(cluster, 3, keys, b"v")


def moved_from_the_only_one_that_took_it() -> list[bytes]:
    """W is 1, and 0 alone took all writes; its hints were dropped for want of room. 3 takes its
    place."""
    cluster = _cluster(4, spares=1, replication=3, w=1, hint_bytes_max=200)
    _write_without(cluster, 1, 2)
    cluster.wire(3, 0).latency_ms = SLOW
    keys = _has_moved(cluster, _replace(cluster, 0, 3, asked=1))
    return _missed(cluster, 1, keys, b"v", r=3)


def lost_power_after_it_had_pulled() -> list[bytes]:
    """3 joins; what it pulls does not come to its disk, and its power is cut."""
    cluster = _cluster(4, spares=1, replication=1)
    _write(cluster, 0, b"v")
    layout = _join(cluster, 3)
    _gained(cluster, 3, len(layout.moves) // 2)
    cluster.machines[3].stall(5_000)
    cluster.run(4_000)
    cluster.kill(3)
    cluster.restart(3)
    cluster.run_until(lambda: is_at_rest(cluster))
    return _missed(cluster, 0, _keys().values(), b"v")


def pulled_again_after_it_was_called_off() -> list[bytes]:
    """3 has pulled half when the move is called off. What is written then it has to pull later."""
    cluster = _cluster(4, spares=1, replication=1)
    _write(cluster, 0, b"old")
    layout = _join(cluster, 3)
    _gained(cluster, 3, len(layout.moves) // 2)
    _wish(cluster, 0, Wish(stops=True))
    cluster.run_until(lambda: not cluster.layout().moves)
    cluster.run(100)
    _write(cluster, 0, b"new")
    _wish(cluster, 0, Wish())
    return _missed(cluster, 0, _has_moved(cluster, _moving(cluster)), b"new")


def moved_and_dropped_by_who_had_it() -> list[bytes]:
    """3 joins, and pulls from those that leave."""
    cluster = _cluster(4, spares=1, replication=1)
    _write(cluster, 0, b"v")
    return _missed(cluster, 0, _has_moved(cluster, _join(cluster, 3)), b"v")


def gained_again_before_the_old_copy_is_gone() -> list[bytes]:
    """A move to 3 is called off and taken up again at once: its disk is slow, and has yet to drop
    what it pulled first when it pulls again."""
    cluster = _cluster(4, spares=1, replication=1)
    _write(cluster, 0, b"v")
    layout = _join(cluster, 3)
    cluster.machines[3].sync_ms = SLOW
    _gained(cluster, 3, len(layout.moves) // 2)
    _wish(cluster, 0, Wish(stops=True))
    cluster.run_until(lambda: not cluster.layout().moves)
    _wish(cluster, 0, Wish())
    return _missed(cluster, 0, _has_moved(cluster, _moving(cluster)), b"v")


def pulled_from_one_who_has_yet_to_hear_of_the_move() -> list[bytes]:
    """3 joins, and no frame to 2 arrives that tells of it. A later question for what 2 holds does;
    there is nothing yet. Then 2, by whose layout it alone holds these keys, takes a write of them.
    (Had there been anything, 2 would be asked for that, too, and refuse.)"""
    cluster = _cluster(4, spares=1, replication=1, timeout_ms=500)
    for each in (0, 1, 3):
        cluster.wire(each, 2).noise = Noise(loss=1.0)
    layout = _join(cluster, 3)
    source, pulls = cluster.machines[2].settings.node_id, cluster.machines[3].node.pulls
    asked = {each for each, _ in layout.moves if layout.replicas(each) == [source]}
    cluster.run_until(lambda: pulls.left and pulls.left[0] in asked)
    cluster.run(100)
    cluster.wire(3, 2).noise = None
    cluster.run_until(lambda: not asked <= set(pulls.left))
    keys = [_keys()[each] for each in sorted(asked.difference(pulls.left))]
    _write(cluster, 2, b"v", keys)
    for each in (0, 1):
        cluster.wire(each, 2).noise = None
    _has_moved(cluster, layout)
    return _missed(cluster, 0, keys, b"v")


def left_on_one_of_three() -> list[bytes]:
    """0 and 1 took all writes, 2 was not there, and hints were dropped. Then one copy is enough."""
    cluster = _cluster(3, replication=3, hint_bytes_max=200)
    _write_without(cluster, 2)
    _wish(cluster, 0, Wish(replication=1))
    _moving(cluster)
    cluster.run_until(lambda: is_at_rest(cluster), 240_000)
    return _missed(cluster, 0, _keys().values(), b"v")


def decided_by_one_that_leaves() -> list[bytes]:
    """0 and 1 accepted what 1 makes of a counter, and before 1 can tell that it is decided it does
    not run for a while. 3 takes the place of 0. 2 and 3 are a majority then, and count on; later 1
    goes on."""
    cluster = _cluster(4, spares=1, replication=3, timeout_ms=600_000)
    key = _keys()[0]
    _write(cluster, 0, b"1", [key])
    asking.split(cluster, (0, 1), (2, 3))
    cluster.run_until(lambda: not _is_there(cluster, 2, by=1))
    first = asking.update(cluster, 1, key, _one_more)
    cluster.run_until(lambda: _has_accepted(cluster, 0, key))
    cluster.cut(1, 0)
    cluster.run_until(lambda: _is_kept(cluster, 1, key, b"2"))
    cluster.pause(1)
    for (source, _), wire in cluster.wires.items():
        if source is not cluster.machines[1]:
            wire.heal()
    cluster.run_until(lambda: _is_there(cluster, 0, by=2) and not _is_there(cluster, 1, by=2))
    layout = _replace(cluster, 0, 3, asked=2)
    nodes = [cluster.machines[index].node for index in (2, 3)]
    cluster.run_until(lambda: min(node.membership.epoch for node in nodes) > layout.epoch, 120_000)
    second = asking.update(cluster, 2, key, _one_more)
    asking.finish(cluster, second)
    cluster.resume(1)
    asking.heal(cluster)
    asking.finish(cluster, first)
    counted = 1 + sum([isinstance(each.result, UpdateResult) for each in (first, second)])
    return _missed(cluster, 2, [key], b"%d" % counted)


def decided_by_the_old_row_alone() -> list[bytes]:
    """A partition moves from the only one that has it to 3, which has pulled it, votes and all.
    Then 4, which holds nothing, counts on a key of it; 3 does not hear of it, and before anything
    is written 4 does not run for a while. The partition has moved by then, and 3 counts on; later
    4 goes on."""
    cluster = _cluster(5, spares=2, replication=1, timeout_ms=600_000)
    _write(cluster, 0, b"1")
    layout = _join(cluster, 3)
    pulls = cluster.machines[3].node.pulls
    cluster.run_until(lambda: 0 < len(pulls.left) < len(layout.moves))
    partition = next(each for each, _ in layout.moves if each not in pulls.left)
    key = _keys()[partition]
    (had,) = cluster.replicas(key)
    cluster.cut(4, 3)
    first = asking.update(cluster, 4, key, _one_more)
    # It is asked only if its promise was enough.
    world = cluster.world
    world.run_until(lambda: _has_accepted(cluster, had, key), world.now + 100)
    cluster.cut(4, had)
    cluster.run(10)
    cluster.pause(4)
    nodes = [machine.node for machine in cluster.machines[:4]]
    cluster.run_until(lambda: min(node.membership.epoch for node in nodes) > layout.epoch, 120_000)
    second = asking.update(cluster, 3, key, _one_more)
    asking.finish(cluster, second)
    cluster.resume(4)
    asking.heal(cluster)
    asking.finish(cluster, first)
    counted = 1 + sum([isinstance(each.result, UpdateResult) for each in (first, second)])
    return _missed(cluster, 3, [key], b"%d" % counted)


def _one_more(found: Record | None) -> Edited:
    return Edited(b"%d" % (int((found and found.value) or 0) + 1))


def _is_kept(cluster: SimCluster, index: int, key: bytes, value: bytes) -> bool:
    record = asking.held(cluster, index, key)
    return record is not None and record.value == value


def _has_accepted(cluster: SimCluster, index: int, key: bytes) -> bool:
    blob = cluster.machines[index].disk.get_votes(row_of(key))
    return blob is not None and decode_votes(blob).instances[-1].record is not None


STORIES: Final[dict[str, Callable[[], list[bytes]]]] = {
    "a read asks the old row alone": read_while_the_next_layout_is_known_to_some,
    "a pull asks one source alone": lambda: pulled_where_one_source_is_behind(2),
    "what came with a list is the newest": lambda: pulled_where_one_source_is_behind(1),
    "a lost disk counts as a source": lambda: pulled_where_one_source_is_behind(1),
    "who leaves need not be pulled": moved_from_the_only_one_that_took_it,
    "pulled is told before it is durable": lost_power_after_it_had_pulled,
    "what was kept of another pull counts": pulled_again_after_it_was_called_off,
    "copies are given up at joint": moved_and_dropped_by_who_had_it,
    "a row shrinks unpulled": left_on_one_of_three,
    "what is withheld is used": gained_again_before_the_old_copy_is_gone,
    "a pull is answered under another layout": pulled_from_one_who_has_yet_to_hear_of_the_move,
    "votes are not pulled": decided_by_one_that_leaves,
    "a vote needs the old row alone": decided_by_the_old_row_alone,
}


def test_there_is_a_story_for_each_rule() -> None:
    assert list(STORIES) == [plant.name for plant in (*PLANTS, *RARE)]


@pytest.mark.parametrize("name", STORIES)
def test_nothing_is_lost_or_missed(name: str) -> None:
    assert STORIES[name]() == []


@pytest.mark.plain
@pytest.mark.parametrize("plant", [*PLANTS, *RARE], ids=lambda plant: plant.name)
def test_without_its_rule_it_is(plant: Plant) -> None:
    with planted(plant) as ran:
        missed = STORIES[plant.name]()
    assert missed
    assert ran
