# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that hold up what is said: splits of every kind, and links that come and go.

Each function begins a fault and returns what ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from quorate.sim.acts import Acts, Pair
from quorate.sim.history import Kind
from quorate.sim.plan import Fault

Undo = Callable[[], None]
"""What ends a fault."""

HOLDS_MS: Final = (10.0, 50.0, 200.0)
"""How long a direction is held up: one limit is drawn, then a time up to it."""
SLOW_CLOCK: Final = 0.5
"""By how much of the guard it is slow."""
MEND_MS: Final = 60.0
"""Within which broken links are made again."""


def _cutting(acts: Acts, pairs: list[Pair]) -> Undo:
    acts.cut(pairs)
    return partial(acts.mend, pairs)


def split(acts: Acts, fault: Fault) -> Undo:
    """The named machines on one side, all others on the other."""
    return _cutting(acts, acts.across(fault.nodes))


def oneway(acts: Acts, fault: Fault) -> Undo:
    """What the first says to the others is held back; what they say arrives."""
    source, *targets = fault.nodes
    return _cutting(acts, [(source, target) for target in targets])


def bridge(acts: Acts, fault: Fault) -> Undo:
    """Two halves that only the first machine can talk to."""
    _, *others = fault.nodes
    left, right = others[: len(others) // 2], others[len(others) // 2 :]
    return _cutting(acts, [pair for a in left for b in right for pair in ((a, b), (b, a))])


def flap(acts: Acts, fault: Fault) -> Undo:
    """The links between the named machines and all others come and go."""
    pairs = acts.across(fault.nodes)
    is_cut = False
    is_over = False

    def toggle() -> None:
        nonlocal is_cut
        if is_over:
            return
        is_cut = not is_cut
        (acts.cut if is_cut else acts.mend)(pairs)
        acts.cluster.world.after(acts.random.uniform(0.2, 1.8) * fault.amount, toggle)

    def undo() -> None:
        nonlocal is_over
        is_over = True
        if is_cut:
            acts.mend(pairs)

    toggle()
    return undo


class _Holds:
    """Single directions are held up, each for a while, so many at a time.

    A frame that is held up while others pass is what most races need: a read whose first answer is
    old when its last one is new, a write that one replica has long before the others.
    """

    def __init__(self, acts: Acts, count: int) -> None:
        self._acts = acts
        self._held: dict[int, Pair] = {}
        """By place: the direction that is held up now."""
        self._pairs = acts.around(range(acts.plan.nodes))
        for place in range(count):
            self._hold(place)

    def _hold(self, place: int) -> None:
        random = self._acts.random
        pair = self._held[place] = random.choice(self._pairs)
        self._acts.cut([pair])
        lasts_ms = random.random() * random.choice(HOLDS_MS)
        self._acts.cluster.world.after(lasts_ms, partial(self._go_on, place))

    def _go_on(self, place: int) -> None:
        if place in self._held:
            self._acts.mend([self._held.pop(place)])
            self._hold(place)

    def end(self) -> None:
        """Let everything through."""
        self._acts.mend(self._held.values())
        self._held = {}


def hold(acts: Acts, fault: Fault) -> Undo:
    """Single directions are held up, now these, now those."""
    return _Holds(acts, int(fault.amount)).end


class _Crossed:
    """Splits that cross each other, for a while, again and again with other parts.

    One replica of a key, *alone*, is all that a coordinator with a slow clock, *late*, can reach,
    and late hears nobody. All others reach only the rest of the replicas. A *reader* cannot reach
    so many of these that it must wait for alone, to which it gets through before the others do.
    A client reads through the reader, writes through a *writer*, then through late, and reads.

    So a read whose first answers are old meets an unfinished write that began after another was
    finished, and is older: what the read writes back is superseded,
    and it has to look again.
    """

    def __init__(self, acts: Acts, window_ms: float) -> None:
        self._acts = acts
        self._window_ms = window_ms
        self._cut: list[Pair] = []
        self._late: int | None = None
        self._round = 0
        self._begin()

    def _begin(self) -> None:
        random, key = self._acts.random, self._acts.hot_key()
        replicas = self._acts.copies.replicas[key]
        alone, *rest = random.sample(replicas, len(replicas))
        near_count = max(self._acts.copies.quorum - 1, 1)
        near, far = rest[:near_count], rest[near_count:]
        nodes = range(self._acts.plan.nodes)
        reader = random.choice([node for node in nodes if node != alone and node not in far])
        strangers = [node for node in nodes if node not in (alone, reader, *near)]
        late = self._late = random.choice(strangers or near)
        writers = [node for node in nodes if node not in (alone, late, reader)]
        apart = [pair for node in far for pair in ((reader, node), (node, reader))]
        self._cut = [(node, late) for node in nodes if node != late] + apart
        self._cut += [(late, node) for node in nodes if node not in (late, alone)]
        self._cut += [(node, alone) for node in nodes if node not in (late, alone)]
        self._acts.cut(self._cut)
        self._acts.break_links(apart)
        self._acts.step_clock(late, -SLOW_CLOCK)
        self._at(1.0, self._go_on)
        self._at(random.uniform(0.0, 0.2), partial(self._acts.ask, reader, Kind.GET, key))
        if writers:
            writer = random.choice(writers)
            self._at(random.uniform(0.1, 0.4), partial(self._acts.ask, writer, Kind.PUT, key))
        self._at(random.uniform(0.3, 0.7), partial(self._acts.ask, late, Kind.PUT, key))
        self._at(random.uniform(0.5, 1.0), partial(self._let_through, (reader, alone)))
        self._at(random.uniform(0.7, 0.99), partial(self._acts.ask, reader, Kind.GET, key))

    def _at(self, share: float, call: Callable[[], None]) -> None:
        """Have a call made at a share of the window, unless all is over by then."""
        number = self._round

        def make() -> None:
            if number == self._round:
                call()

        self._acts.cluster.world.after(share * self._window_ms, make)

    def _let_through(self, pair: Pair) -> None:
        self._cut.remove(pair)
        self._acts.mend([pair])

    def _go_on(self) -> None:
        self.end()
        # Meanwhile links are made again, and the slow clock hears what time it is.
        self._at(0.5 + MEND_MS / self._window_ms, self._begin)

    def end(self) -> None:
        """Let everything through; nothing that was to come comes."""
        self._round += 1
        self._acts.mend(self._cut)
        self._cut = []
        if self._late is not None:
            self._acts.step_clock(self._late, SLOW_CLOCK)
            self._late = None


def crossed(acts: Acts, fault: Fault) -> Undo:
    """Splits cross each other, under a slow clock; not without keys that have two copies."""
    if not acts.copies.replicas or acts.plan.settings["replication"] == 1:
        return lambda: None
    return _Crossed(acts, fault.amount * acts.round_trip_ms()).end


def swizzle(acts: Acts, fault: Fault) -> Undo:
    """Links are cut one by one, and healed one by one in another order."""
    left = acts.across(fault.nodes[: len(fault.nodes) // 2])
    acts.random.shuffle(left)
    third_ms = (fault.end_ms - fault.begin_ms) / 3
    step_ms = third_ms / max(len(left), 1)
    world = acts.cluster.world
    whole = set(left)

    def cut(pair: Pair) -> None:
        if pair in whole:
            whole.remove(pair)
            acts.cut([pair])

    def mend(pair: Pair) -> None:
        if pair not in whole:
            whole.add(pair)
            acts.mend([pair])

    for place, pair in enumerate(left):
        world.after(place * step_ms, partial(cut, pair))
    for place, pair in enumerate(acts.random.sample(left, len(left))):
        world.after(2 * third_ms + place * step_ms, partial(mend, pair))

    def undo() -> None:
        for pair in left:
            mend(pair)

    return undo
