# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that one seed decides before a run begins: sizes, settings, faults, what clients do.

Swarm testing (Groce and others, 2012): each seed switches a random subset of faults and features
on and draws its own sizes and rates. Worlds in which everything happens at once hide what only a
few things together would show.

Each concern draws from a generator of its own, so that a draw added in one place shifts no other.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Collection
from operator import attrgetter
from random import Random
from typing import Final, NamedTuple

from msgspec.structs import replace

from quorate.sim.acts import CHANGES, LAST, STRIKES, UPGRADES
from quorate.sim.draw_changes import draw_changes
from quorate.sim.faults import FAULTS, MILD, are_mild
from quorate.sim.history import UPDATES, Kind
from quorate.sim.plan import Fault, PageWalk, Plan, Request, Visit
from quorate.sim.world import Span, UpTo

MILD_SHARE: Final = 0.15
"""The share of worlds in which only mild faults happen, or none. More is asked of these: hints
alone bring replicas together, and between two faults every request succeeds."""
NEW_SHARE: Final = 0.15
"""The share of worlds whose nodes have yet to find together, where faults are not mild."""


COLLECT_SHARE: Final = 0.05
"""The share of worlds with slices of stamp time so short that what is deleted is dropped."""
LATE_SHARE: Final = 0.7
"""The share of these in which frames come again when what they were about is dropped: else nothing
there would be late by several slices."""
UPGRADE_SHARE: Final = 0.04
"""The share of worlds in which another release is installed."""
REFILL_SHARE: Final = 0.05
"""The share of worlds in which disks are lost once faults are over."""
LATE_FOUNDERS_SHARE: Final = 0.1
"""The share of worlds in which operators change a cluster that never met some of its founders."""
RUIN_SHARE: Final = 0.1
"""The share of worlds in which operators change a cluster that loses more disks than it can do
without."""
CUT_OFF_SHARE: Final = 0.5
"""The share of these in which one of the others was cut off before that."""
WALK_SHARE: Final = 0.1
"""The share of worlds in which keys are listed. A page asks for up to 1,024 partitions."""


class Options(NamedTuple):
    """What a person chooses; None leaves it to the seed, and 0 is the majority of W or R."""

    nodes: int | None = None
    replication: int | None = None
    w: int | None = None
    r: int | None = None
    operations: int = 200
    clients: int | None = None
    faults: frozenset[str] = frozenset(FAULTS)
    collect_share: float = COLLECT_SHARE
    walk_share: float = WALK_SHARE
    ruin_share: float = RUIN_SHARE


_REPLICATIONS: Final = (1, 2, 3, 3, 3, 3, 4, 5, 5, 7)
"""Three most often, as most clusters have it. What the last of five acknowledgements decides is
never decided among three; an even number has a majority of its own."""
_NODES: Final = (1, 3, 4, 5, 5, 6, 7)


def draw(seed: int, options: Options) -> Plan:
    """The plan of a seed. Same seed, same options: same plan, in every process."""
    random = Random(f"{seed} sizes")
    replication, nodes = _draw_sizes(random, options)
    load_ms = random.choice((300.0, 1_000.0, 4_000.0))
    quorums = _draw_quorums(random, options, replication)
    changes, room = Random(f"{seed} changes"), nodes - replication
    changing = draw_changes(changes, options.faults, room, options.nodes)
    nodes += changing.spares * (options.nodes is None)
    load_ms = changing.load_ms or load_ms
    settings = _draw_settings(Random(f"{seed} settings"), load_ms)
    settings["replication"] = replication
    settings["w"], settings["r"] = quorums
    settings.update(changing.settings)
    collecting = Random(f"{seed} collecting")
    load_ms, slices, late = _draw_collecting(collecting, options, nodes, load_ms)
    settings.update(slices)
    faults = _draw_faults(Random(f"{seed} faults"), options, nodes, load_ms)
    faults = tuple(sorted((*faults, *changing.faults(nodes), *late), key=_begin_ms))
    hardware = Random(f"{seed} hardware")
    latencies_ms = _draw_latencies(Random(f"{seed} links"), nodes)
    slowest_ms = 2 * max(map(max, latencies_ms))
    if settings["write_wait_ms"] < slowest_ms:
        # Else peers would be called down time and again, and writes would not wait for them: what
        # such settings refuse, they refuse rightly.
        settings["heartbeat_ms"] = max(settings["heartbeat_ms"], math.ceil(slowest_ms) + 1)
    small_log_bytes = hardware.choice(_SMALL_LOGS_BYTES)
    if any(fault.name == "hintoverflow" for fault in faults):
        settings["hint_bytes_max"] = small_log_bytes
    habits = _Habits(Random(f"{seed} load"), settings, changing.names)
    plan = Plan(
        seed=seed,
        nodes=nodes,
        settings=settings,
        cache_entries=random.choice((0, 2, 1_000)),
        needs_sync=random.random() < 0.8,
        offsets_ms=_draw_offsets(hardware, options, faults, nodes, settings),
        syncs_ms=tuple(hardware.choice(_SYNCS_MS) for _ in range(nodes)),
        latencies_ms=latencies_ms,
        load_ms=load_ms,
        faults=faults,
        scripts=_draw_scripts(habits, options, nodes, load_ms),
        stays_dead=random.randrange(nodes) if faults and random.random() < 0.3 else None,
        is_new=random.random() < NEW_SHARE and not are_mild(faults),
        spares=changing.spares,
        refills=_draw_refills(Random(f"{seed} refills"), options, nodes),
        walks=_draw_walks(Random(f"{seed} walks"), options, habits, nodes, load_ms),
    )
    if changing.names:
        plan = _with_late_founders(plan, Random(f"{seed} late"))
        plan = _with_ruin(plan, Random(f"{seed} ruin"), options)
    return _with_upgrade(plan, Random(f"{seed} upgrade"), options)


def _with_late_founders(plan: Plan, random: Random) -> Plan:
    """Have fewer founders than a majority stay away until faults are over, in a few worlds. Where
    quorums are given they are not given up: fewer copies could not be written then."""
    founders = plan.nodes - plan.spares
    most = (founders - 1) // 2
    if not most or random.random() >= LATE_FOUNDERS_SHARE:
        return plan
    late = tuple(random.sample(range(founders), random.randint(1, most)))
    gives_up = not (plan.settings["w"] or plan.settings["r"]) and random.random() < 0.7
    return replace(plan, is_new=True, stays_dead=None, late=late, gives_up=gives_up)


def _with_ruin(plan: Plan, random: Random, options: Options) -> Plan:
    """Have members lose their disks for good in a few worlds, all but one of them at most; one of
    those that are left may have been cut off before, and lack what they had. Not where quorums are
    given, as nothing could be written then, nor where copies are damaged: those move when somebody
    has written them."""
    founders = plan.nodes - plan.spares
    is_fit = "ruin" in options.faults and founders > 1 and not plan.late
    is_fit = is_fit and not (plan.settings["w"] or plan.settings["r"])
    is_fit = is_fit and all([fault.name != "rot" for fault in plan.faults])
    if not is_fit or random.random() >= options.ruin_share:
        return plan
    begin_ms = random.choice((0.2, 1.0, random.random())) * plan.load_ms
    first, *others = random.sample(range(founders), founders)
    lost = tuple(others[: random.randint(1, founders - 1)])
    amount = random.choice(FAULTS["ruin"].amounts)
    drawn = [Fault("ruin", begin_ms, plan.load_ms, lost, amount)]
    cut_off_ms = random.choice(FAULTS["isolate"].limits_ms)
    if "isolate" in options.faults and random.random() < CUT_OFF_SHARE:
        drawn.append(Fault("isolate", max(begin_ms - cut_off_ms, 0.0), begin_ms, (first,)))
    faults = sorted([*plan.faults, *drawn], key=_begin_ms)
    return replace(plan, faults=tuple(faults), stays_dead=None)


def _with_upgrade(plan: Plan, random: Random, options: Options) -> Plan:
    """Have the cluster be upgraded in a few worlds; in all if nothing else is allowed. Not where
    its nodes have yet to find together: who found it know its level."""
    names = options.faults.intersection(UPGRADES)
    share = UPGRADE_SHARE if options.faults.difference(UPGRADES) else 1.0
    if not names or plan.is_new or random.random() >= share:
        return plan
    drawn = [_draw_fault(random, name, plan.nodes, plan.load_ms) for name in sorted(names)]
    faults = sorted([*plan.faults, *drawn], key=_begin_ms)
    return replace(plan, faults=tuple(faults))


_begin_ms: Final = attrgetter("begin_ms")
_SMALL_LOGS_BYTES: Final = (200, 1_000, 5_000)
_SYNCS_MS: Final[tuple[Span, ...]] = ((0.0, 0.1), (0.3, 3.0), (0.3, 3.0), (1.0, 30.0))
_LATENCIES_MS: Final[tuple[UpTo, ...]] = ((1,), (1,), (1, 2, 3, 30), (1, 3, 30, 60), (60,))


def _draw_settings(random: Random, load_ms: float) -> dict[str, int]:
    heartbeat_ms = max(int(load_ms / random.choice((0.2, 1, 5, 20))), 60)
    settings = {
        "timeout_ms": random.choice((200, 400, 1_000)),
        "write_wait_ms": random.choice((0, 50, 200, 1_000)),
        "heartbeat_ms": heartbeat_ms,
        "down_after": random.choice((1, 2, 3)),
        "max_clock_skew_ms": random.choice((200, 1_000, 60_000)),
    }
    if random.random() < 0.1:
        settings["inflight_max"] = random.choice((1, 2, 4))
    if random.random() < 0.1:
        settings["inflight_bytes_max"] = random.choice((300, 3_000))
    if random.random() < 0.1:
        settings["hint_bytes_max"] = random.choice(_SMALL_LOGS_BYTES)
    return settings


def _draw_sizes(random: Random, options: Options) -> tuple[int, int]:
    """Copies of a key, and nodes: no fewer than what a person chose needs."""
    copies, nodes = random.choice(_REPLICATIONS), random.choice(_NODES)
    copies = options.replication or max(copies, options.w or 0, options.r or 0)
    nodes = options.nodes or max(nodes, copies)
    return min(copies, nodes), nodes


def _draw_quorums(random: Random, options: Options, replication: int) -> tuple[int, int]:
    """W and R of the settings, 0 where the majority is meant."""
    is_weak = random.random() < 0.25
    w, r = (random.randint(1, replication) * is_weak for _ in range(2))
    return w if options.w is None else options.w, r if options.r is None else options.r


def _draw_offsets(
    random: Random,
    options: Options,
    faults: tuple[Fault, ...],
    nodes: int,
    settings: dict[str, int],
) -> tuple[int, ...]:
    is_skewed = "skew" in options.faults and not are_mild(faults) and random.random() < 0.5
    shares = (0.0, 0.0, 0.01, -0.01, 0.2, -0.2, 0.45, -0.45) if is_skewed else (0.0,)
    guard_ms = settings["max_clock_skew_ms"]
    return tuple(round(random.choice(shares) * guard_ms) for _ in range(nodes))


def _draw_latencies(random: Random, nodes: int) -> tuple[UpTo, ...]:
    """One for all links, or one for each."""
    common = random.choice(_LATENCIES_MS)
    if random.random() < 0.5:
        return (common,) * (nodes * nodes)
    return tuple(random.choice(_LATENCIES_MS) for _ in range(nodes * nodes))


def _draw_refills(random: Random, options: Options, nodes: int) -> tuple[int, ...]:
    """Who loses its disk in the end, in a few worlds."""
    if "wipe" not in options.faults or random.random() >= REFILL_SHARE:
        return ()
    return tuple(random.sample(range(nodes), min(nodes, random.choice((1, 2, 3)))))


def _draw_walks(
    random: Random, options: Options, habits: _Habits, nodes: int, load_ms: float
) -> tuple[PageWalk, ...]:
    """Who lists keys, in a few worlds, and which."""
    if random.random() >= options.walk_share:
        return ()
    own_r = habits.own_quorum_share and random.randint(0, habits.nodes_n)
    return tuple(
        PageWalk(
            random.uniform(0, load_ms),
            random.randrange(nodes),
            random.choice((1, 1, 3)),
            random.choice((1, 2, 10)),
            random.choice((b"", *habits.keys)),
            int(own_r),
        )
        for _ in range(random.choice((2, 4, 8)))
    )


# --- faults ------------------------------------------------------------------------------------


def _draw_faults(random: Random, options: Options, nodes: int, load_ms: float) -> tuple[Fault, ...]:
    """A few kinds, or many, a few times each, in order of beginning."""
    apart = (*CHANGES, *STRIKES, *LAST)
    allowed = [name for name in FAULTS if name in options.faults and name not in apart]
    mild = [name for name in allowed if name in MILD]
    is_mild = bool(mild) and random.random() < MILD_SHARE
    share = random.choice((0.03, 0.1, 0.2, 0.4))
    chosen = [name for name in (mild if is_mild else allowed) if random.random() < share]
    if allowed and not chosen and not is_mild:
        chosen = [random.choice(allowed)]
    faults = [
        _draw_fault(random, name, nodes, load_ms)
        for name in chosen
        for _ in range(random.choice((1, 1, 2, 4)))
    ]
    return tuple(sorted(faults, key=_begin_ms))


def _draw_collecting(
    random: Random, options: Options, nodes: int, load_ms: float
) -> tuple[float, dict[str, int], list[Fault]]:
    """How long the load takes, the slices of a world that collects, and what comes late there."""
    if random.random() >= options.collect_share:
        return load_ms, {}, []
    load_ms = max(load_ms, 4_000.0)
    slices = {"slice_ms": random.choice((400, 800, 1_600))}
    if "late" not in options.faults or random.random() >= LATE_SHARE:
        return load_ms, slices, []
    share = random.choice((0.05, 0.2))
    return load_ms, slices, [Fault("late", 0.0, load_ms, tuple(range(nodes)), share)]


def _draw_fault(random: Random, name: str, nodes: int, load_ms: float) -> Fault:
    shape = FAULTS[name]
    count = random.choice(shape.nodes) or nodes
    begin_ms = random.uniform(0, load_ms)
    lasts_ms = random.random() * random.choice(shape.limits_ms)
    return Fault(
        name,
        begin_ms,
        min(begin_ms + lasts_ms, load_ms),
        tuple(random.sample(range(nodes), min(count, nodes))),
        random.choice(shape.amounts),
    )


# --- what clients do ---------------------------------------------------------------------------


class _Role(enum.Enum):
    """What a key is for."""

    ANY = enum.auto()
    COUNTER = enum.auto()
    LOCK = enum.auto()


_ROLES: Final = (*[_Role.ANY] * 4, _Role.COUNTER, _Role.LOCK)
_OFTEN: Final = tuple(sorted(UPDATES, key=lambda kind: kind.value))
_EXPIRING: Final = (Kind.PUT, Kind.EXPIRE, Kind.LOCK, Kind.CAS)
"""What has an expiry of its own."""


class _Habits:
    """What the clients of one world do, and how often."""

    def __init__(self, random: Random, settings: dict[str, int], changes: Collection[str]) -> None:
        """Where anything `changes`, more keys are in what moves. Where the number of copies does,
        requests ask for no quorum of their own: no number promises anything."""
        self.random = random
        self.nodes_n = settings["replication"]
        keys = random.choice((1, 3, 10, 60, 150) if changes else (1, 3, 3, 10, 60))
        self.keys = [b"key%d" % number for number in range(keys)]
        self.hot_share = random.choice((0.0, 0.0, 0.5))
        self.get_share = random.choice((0.3, 0.5, 0.7))
        self.delete_share = random.choice((0.0, 0.1, 0.3))
        self.update_share = random.choice((0.0, 0.2, 0.5, 0.9))
        self.updates = random.choice((_OFTEN, _OFTEN, _OFTEN, (Kind.APPEND, Kind.CAS)))
        self.retried_share = random.choice((0.0, 0.0, 0.3))
        self.roles = {key: random.choice(_ROLES) for key in self.keys}
        self.batch_share = random.choice((0.0, 0.0, 0.1, 0.4))
        self.sizes = random.choice(((0,), (0,), (0, 0, 200, 2_000), (0, 0, 0, 40_000)))
        self.ttl_share = random.choice((0.0, 0.0, 0.2))
        self.own_quorum_share = random.choice((0.0, 0.0, 0.0, 0.1)) * ("copies" not in changes)
        self.own_timeout_share = random.choice((0.0, 0.0, 0.2))
        self.serial = 0

    def request(self) -> Request:
        """Draw one."""
        random = self.random
        self.serial += 1
        key = self.keys[0] if random.random() < self.hot_share else random.choice(self.keys)
        kind = self._kind(self.roles[key])
        ttl_ms = random.choice((10, 100, 1_000)) if random.random() < self.ttl_share else 0
        if kind is Kind.EXPIRE:
            ttl_ms = random.choice((0, 100, 1_000, 10_000))
        elif kind is Kind.LOCK:
            ttl_ms = random.choice((30, 100, 1_000))
        is_retried = kind in UPDATES and random.random() < self.retried_share
        own = random.randint(1, self.nodes_n) if random.random() < self.own_quorum_share else 0
        has_own_timeout = random.random() < self.own_timeout_share
        return Request(
            self.serial,
            kind,
            key,
            value_bytes=random.choice(self.sizes) if kind is Kind.PUT else 0,
            ttl_ms=ttl_ms if kind in _EXPIRING else 0,
            r=own if kind is Kind.GET else 0,
            w=own if kind in (Kind.PUT, Kind.DELETE) else 0,
            timeout_ms=random.choice((30, 100, 500)) if has_own_timeout else 0,
            tries=random.choice((2, 3)) if is_retried else 1,
        )

    def _kind(self, role: _Role) -> Kind:
        if self.random.random() < self.get_share:
            return Kind.GET
        if role is _Role.COUNTER:
            return Kind.INCREMENT
        if role is _Role.LOCK:
            return self.random.choice((Kind.LOCK, Kind.LOCK, Kind.UNLOCK))
        if self.random.random() < self.update_share:
            return self.random.choice(self.updates)
        return Kind.DELETE if self.random.random() < self.delete_share else Kind.PUT


def _draw_scripts(
    habits: _Habits, options: Options, nodes: int, load_ms: float
) -> tuple[tuple[Visit, ...], ...]:
    """The scripts of all clients. Some clients ask always the same node."""
    random = habits.random
    drawn = random.randint(3, 8)
    clients = options.clients or drawn
    share, rest = divmod(options.operations, clients)
    pause_ms = load_ms / max(share, 1)
    return tuple(
        _draw_script(habits, nodes, share + (client < rest), pause_ms) for client in range(clients)
    )


def _draw_script(
    habits: _Habits, nodes: int, operations: int, pause_ms: float
) -> tuple[Visit, ...]:
    random = habits.random
    home = random.randrange(nodes) if random.random() < 0.3 else None
    limits_ms = (0.1, pause_ms, 3 * pause_ms)
    visits = []
    while operations > 0:
        is_batch = random.random() < habits.batch_share
        count = min(random.randint(2, 8) if is_batch else 1, operations)
        operations -= count
        node = random.randrange(nodes) if home is None else home
        pause = random.random() * random.choice(limits_ms)
        requests = tuple(habits.request() for _ in range(count))
        visits.append(Visit(pause, node, requests))
    return tuple(visits)
