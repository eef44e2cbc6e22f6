# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of layouts that change: of who decides, what is asked of whom, and what is pulled.

Each is a rule of the protocol that is left out, as in a model of it, or one of what the core makes
of that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec.structs import replace

from quorate.core.exchanges.look import Look
from quorate.core.exchanges.outbox import Outbox
from quorate.core.exchanges.reads import Reads
from quorate.core.exchanges.sources import CopySources
from quorate.core.exchanges.write import Write
from quorate.core.exchanges.writes import Writes
from quorate.core.replica import Replica
from quorate.core.serving import Serving
from quorate.core.topology import planner, topology, wants, wishes
from quorate.core.topology.layout import FIRST_EPOCH, Layout
from quorate.core.topology.membership import Membership
from quorate.core.topology.peer import Peer
from quorate.core.topology.topology import Replicas
from quorate.core.topology.wants import Wants
from quorate.core.values.messages import Frame
from quorate.sim.acts import CHANGES, UPGRADES
from quorate.sim.draw import Options
from tests.simulation.plants.plant import Plant

_on_frame: Final = Serving.on_frame
_upgrade_of: Final = wishes.upgrade_of
_goal_of: Final = wants.goal_of
_next_rows: Final = planner.next_rows
_replicas: Final = Replicas.__init__
_sources: Final = CopySources._replicas

CHANGING: Final = Options(faults=frozenset((*CHANGES, "wipe", "kill", "hold", "isolate", "slow")))
"""Worlds in which copies move, and little else happens."""
REPLACING: Final = Options(
    nodes=4,
    replication=3,
    faults=frozenset(("join", "replace", "bury", "wipe", "kill", "hold", "isolate", "slow")),
)
"""Those of four nodes, whose disks are replaced."""
BUSY: Final = Options(
    *(5, 3, 0, 0),
    operations=800,
    clients=16,
    faults=frozenset(("join", "leave", "weight")),
)
"""Those in which many write meanwhile, and nothing else happens."""
JOINING: Final = Options(
    nodes=4,
    replication=3,
    operations=100,
    faults=frozenset(("join", "hold", "isolate", "slow")),
)
"""Those in which one joins, and is hard to reach."""
UPGRADING: Final = Options(faults=frozenset(UPGRADES))
"""Worlds in which the next release is installed."""
SHARING: Final = Options(nodes=4, replication=2, operations=50, faults=frozenset(("weight",)))
"""Those in which members are to have other shares."""
COPYING: Final = Options(
    nodes=3, replication=3, w=0, r=0, operations=50, faults=frozenset(("copies",))
)
"""Those in which there are to be more copies of each key, or fewer, and nothing else happens."""
LONGER: Final = Options(nodes=5, replication=3, w=2, r=2, faults=frozenset(("copies",)))
"""Those in which W and R are majorities of three copies, and there may be more."""


def _of_any_epoch(self: Serving, outbox: Outbox, frame: Frame) -> None:
    if FIRST_EPOCH < frame.epoch < self._membership.epoch:
        frame = replace(frame, epoch=self._membership.epoch)
    _on_frame(self, outbox, frame)


def _writers_of_the_old_row(self: Replicas, rows: list[list[Peer | None]], **named: Any) -> None:
    _replicas(self, rows, **named)
    self.writers = self.writers[:1] * len(self.writers)


def _updates_kept_by_w_alone(self: Replicas, rows: list[list[Peer | None]], **named: Any) -> None:
    _replicas(self, rows, **named)
    self.update_writers = self.writers


def _copies_held(layout: Layout) -> int:
    return max([len(row) for row in layout.table])


def _all_have_pulled(self: Wants, member_id: int) -> tuple[int, list[int]]:
    del member_id
    return self._membership.epoch, []


def _pulled_ever(self: Wants, member_id: int) -> tuple[int, list[int]]:
    peer = self._membership.peer(member_id)
    pulled = self._own_pulled()[0] if peer is None else peer.told.pulled
    return self._membership.epoch if pulled else 0, []


def _nothing_is_dropped(self: Replica, partition: int, live: int) -> None:
    del self, partition, live


def _go_on_with_the_look(self: Reads, look: Look) -> None:
    del self, look


def _go_on_with_the_write(self: Writes, write: Write) -> None:
    del self, write


def _known_to_all(membership: Membership) -> tuple[int, list[str]]:
    level, _ = _upgrade_of(membership)
    return level, []


def _alike(layout: Layout) -> list[tuple[int, ...]]:
    alike = [replace(each, weight=min(each.weight, 1)) for each in layout.members]
    return _goal_of(replace(layout, members=tuple(alike)))


def _given_up_first(
    now: Sequence[Sequence[int]], goal: Sequence[Sequence[int]], **named: Any
) -> dict[int, tuple[int, ...]]:
    steps = _next_rows(now, goal, **named)
    for each, row in steps.items():
        if len(row) == len(now[each]):
            steps[each] = tuple([index for index in now[each] if index in row])
    return steps


def _grant(membership: Membership, replication: int) -> None:
    del membership, replication


def _as_if_given(self: Membership) -> list[tuple[str, int, int]]:
    topology = self.current()
    return [(topology.own_url, topology.w, topology.r)]


def _as_if_unmet_acknowledged(
    self: CopySources, partition: int
) -> tuple[int, list[Peer], list[Peer]]:
    needed, leaving, staying = _sources(self, partition)
    layout = self._membership.layout
    assert layout is not None
    row = layout.table[partition]
    unmet = [index for index in row if not layout.members[index].is_bound]
    return needed + len(unmet), leaving, staying


def _whoever_is_absent(
    now: Sequence[Sequence[int]], goal: Sequence[Sequence[int]], **named: Any
) -> dict[int, tuple[int, ...]]:
    return _next_rows(now, goal, **{**named, "absent": ()})


def _plant(name: str, owner: type, seam: str, faulty: Callable[..., Any]) -> Plant:
    return Plant(name, owner, seam, faulty, CHANGING)


PLANTS: Final = (
    Plant(
        "a request of an earlier layout is served",
        Serving,
        "on_frame",
        _of_any_epoch,
        JOINING,
    ),
    Plant(
        "a write needs the old row alone",
        Replicas,
        "__init__",
        _writers_of_the_old_row,
        REPLACING,
    ),
    Plant(
        "a row that becomes longer has a say once it has",
        topology,
        "_most_copies",
        _copies_held,
        LONGER,
    ),
    Plant(
        "an update that meets a longer row needs W of it",
        Replicas,
        "__init__",
        _updates_kept_by_w_alone,
        LONGER,
    ),
    _plant("copies have moved before they are pulled", Wants, "_told", _all_have_pulled),
    _plant("what was pulled for another layout counts", Wants, "_told", _pulled_ever),
    _plant("copies are given up and stay", Replica, "drop", _nothing_is_dropped),
    _plant("a read goes on under an earlier layout", Reads, "begin_anew", _go_on_with_the_look),
    Plant(
        "a write goes on under an earlier layout",
        Writes,
        "begin_anew",
        _go_on_with_the_write,
        BUSY,
    ),
    Plant("a level is raised that not all know", wishes, "upgrade_of", _known_to_all, UPGRADING),
    Plant("all members have equal shares", wants, "goal_of", _alike, SHARING),
    Plant("a copy goes before another comes", wants, "next_rows", _given_up_first, SHARING),
    Plant(
        "a quorum that was given holds no plan up",
        wishes,
        "_check_quorums",
        _grant,
        COPYING._replace(w=2),
    ),
    Plant("a majority holds a plan up", Membership, "quorums", _as_if_given, COPYING),
    Plant(
        "a founder that never came is a source",
        CopySources,
        "_replicas",
        _as_if_unmet_acknowledged,
        Options(nodes=4, replication=2, operations=50, faults=frozenset(("join",))),
    ),
    Plant(
        "a row becomes shorter beside who is away",
        wants,
        "next_rows",
        _whoever_is_absent,
        COPYING,
    ),
)
