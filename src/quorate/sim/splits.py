# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that hold up what is said: splits of every kind, and links that come and go.

Each function begins a fault and returns what ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from quorate.sim.acts import Acts, Pair, Spell, Undo, between, in_turn
from quorate.sim.history import Kind
from quorate.sim.plan import Fault

HOLDS_MS: Final = (10.0, 50.0, 200.0)
"""A direction is held up for a time up to one of these, which is drawn first."""
SLOW_CLOCK: Final = 0.5
"""The slow clock is behind by this share of the guard."""
MEND_MS: Final = 60.0
"""Within which broken links are made again."""


def split(acts: Acts, fault: Fault) -> Undo:
    """The named machines on one side, all others on the other."""
    return acts.cut(acts.across(fault.nodes))


def oneway(acts: Acts, fault: Fault) -> Undo:
    """What the first says to the others is held back; what they say arrives."""
    source, *targets = fault.nodes
    return acts.cut([(source, target) for target in targets])


def bridge(acts: Acts, fault: Fault) -> Undo:
    """Two halves that only the first machine can talk to."""
    _, *others = fault.nodes
    half = len(others) // 2
    return acts.cut(between(others[:half], others[half:]))


def flap(acts: Acts, fault: Fault) -> Undo:
    """The links between the named machines and all others come and go."""
    pairs = acts.across(fault.nodes)
    spell = Spell(acts.cluster.world)
    mends: list[Undo] = []
    """What ends the cut, if there is one now."""

    def toggle() -> None:
        if mends:
            mends.pop()()
        else:
            mends.append(acts.cut(pairs))
        spell.after(acts.random.uniform(0.2, 1.8) * fault.amount, toggle)

    toggle()
    return lambda: in_turn(spell.end, *mends)()


def hold(acts: Acts, fault: Fault) -> Undo:
    """Single directions are held up, each for a while, so many at a time.

    A frame that is held up while others pass is what most races need: a read whose first answer is
    old when its last one is new, a write that one replica has long before the others.
    """
    pairs = acts.around(range(acts.plan.nodes))
    spell = Spell(acts.cluster.world)
    mends: dict[int, Undo] = {}
    """By place: what ends the hold that is on there now."""

    def begin(place: int) -> None:
        mends[place] = acts.cut([acts.random.choice(pairs)])
        lasts_ms = acts.random.random() * acts.random.choice(HOLDS_MS)
        spell.after(lasts_ms, partial(go_on, place))

    def go_on(place: int) -> None:
        mends.pop(place)()
        begin(place)

    for place in range(int(fault.amount) if pairs else 0):
        begin(place)
    return lambda: in_turn(spell.end, *mends.values())()


class _Crossed:
    """Splits that cross each other, for a while, again and again with other parts.

    One replica of a key, *alone*, is all that a coordinator with a slow clock, *late*, can reach,
    and late hears nobody. All others reach only the rest of the replicas. A *reader* cannot reach
    so many of these that it must wait for alone, to which it gets through before the others do.
    A client reads through the reader, writes through a *writer*, then through late, and reads.

    So the reader, whose first answers are old, takes what late has begun to write for the newest,
    though the writer's write is newer: late began after that was finished, but its clock is slow.
    What the reader writes back is superseded, and it has to look again.
    """

    def __init__(self, acts: Acts, window_ms: float) -> None:
        self._acts = acts
        self._window_ms = window_ms
        self._cuts: list[tuple[Pair, Undo]] = []
        self._correct = in_turn()
        """Sets the slow clock right."""
        self._begin()

    def _begin(self) -> None:
        self._spell = Spell(self._acts.cluster.world)
        random, key = self._acts.random, self._acts.hot_key()
        replicas = self._acts.copies.replicas[key]
        if len(replicas) < 2:
            return
        alone, *rest = random.sample(replicas, len(replicas))
        near_count = max(self._acts.copies.quorum - 1, 1)
        near, far = rest[:near_count], rest[near_count:]
        nodes = range(self._acts.plan.nodes)
        reader = random.choice([node for node in nodes if node != alone and node not in far])
        strangers = [node for node in nodes if node not in (alone, reader, *near)]
        late = random.choice(strangers or near)
        writers = [node for node in nodes if node not in (alone, late, reader)]
        apart = between([reader], far)
        pairs = [(node, late) for node in nodes if node != late] + apart
        pairs += [(late, node) for node in nodes if node not in (late, alone)]
        pairs += [(node, alone) for node in nodes if node not in (late, alone)]
        self._cuts = [(pair, self._acts.cut([pair])) for pair in pairs]
        for pair in apart:
            self._acts.cluster.reset(*pair)
        self._correct = self._acts.step_clocks([late], -SLOW_CLOCK)
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
        self._spell.after(share * self._window_ms, call)

    def _let_through(self, pair: Pair) -> None:
        """Mend a pair, if it is cut: where late has to be the reader, it never was."""
        cuts = self._cuts
        self._cuts = [each for each in cuts if each[0] != pair]
        for each, mend in cuts:
            if each == pair:
                mend()

    def _go_on(self) -> None:
        self.end()
        self._spell = Spell(self._acts.cluster.world)
        # Meanwhile links are made again, and the slow clock hears what time it is.
        self._at(0.5 + MEND_MS / self._window_ms, self._begin)

    def end(self) -> None:
        """Let everything through; nothing that was to come comes."""
        self._spell.end()
        for _, mend in self._cuts:
            mend()
        self._cuts = []
        self._correct()
        self._correct = in_turn()


def crossed(acts: Acts, fault: Fault) -> Undo:
    """Splits cross each other, under a slow clock. Nothing happens if no key has two copies."""
    if not acts.copies.replicas or acts.plan.settings["replication"] == 1:
        return in_turn()
    return _Crossed(acts, fault.amount * acts.round_trip_ms()).end


def swizzle(acts: Acts, fault: Fault) -> Undo:
    """Links are cut one by one, and healed one by one in another order."""
    pairs = acts.across(fault.nodes[: len(fault.nodes) // 2])
    acts.random.shuffle(pairs)
    third_ms = fault.lasts_ms / 3
    step_ms = third_ms / max(len(pairs), 1)
    spell = Spell(acts.cluster.world)
    mends: dict[Pair, Undo] = {}

    def cut(pair: Pair) -> None:
        mends[pair] = acts.cut([pair])

    def mend(pair: Pair) -> None:
        mends.pop(pair, in_turn())()

    for place, pair in enumerate(pairs):
        spell.after(place * step_ms, partial(cut, pair))
    for place, pair in enumerate(acts.random.sample(pairs, len(pairs))):
        spell.after(2 * third_ms + place * step_ms, partial(mend, pair))

    def undo() -> None:
        spell.end()
        for pair in pairs:
            mend(pair)

    return undo
