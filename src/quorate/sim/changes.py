# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators do to a cluster while it runs: nodes join, leave, and take each other's place.

Each is a fault of its own name, though it harms nobody: no request may fail for it. The first node
of each is asked, the second is the one that it is about, the third takes its place. What is asked
may be refused, or come too late; it is answered all the same (P3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.core.topology.layout import FIRST_EPOCH
from quorate.core.values.events import Change, Event, Join, Result, Waiter
from quorate.core.values.wish import Wish
from quorate.sim.acts import Acts, Spell, Undo, in_turn
from quorate.sim.machine import Machine
from quorate.sim.plan import Fault

NOTICED_SHARE: Final = 0.5
"""So late in its time a dead node is replaced: by then others may know that it is gone."""


class Operator:
    """Waits for the answer to what was asked (`events.Waiter`)."""

    def __init__(self, machine: Machine, what: object) -> None:
        self._machine: Machine | None = machine
        self._what = what
        self._life = machine.life
        self.result: Result | None = None

    def done(self, result: Result) -> None:
        """Note the answer."""
        assert self.result is None, f"answered twice: {self.result}, then {result}"
        self.result = result

    def missing(self) -> str:
        """What was asked, if its node lives and has not answered; else nothing."""
        if self.result is None and self._machine and self._machine.life == self._life:
            return f"{self._machine.url} lives and never answered {self._what}"
        return ""

    def let_go(self) -> None:
        """Refer to nothing any more: what a node holds of it the garbage collector cannot see."""
        self._machine = self.result = None


def ask(acts: Acts, node: int, make: Callable[[Waiter], Event], what: object) -> None:
    """Have an operator ask a node, if it runs."""
    machine = acts.cluster.machines[node]
    if machine.is_running:
        operator = Operator(machine, what)
        acts.operators.append(operator)
        acts.cluster.recorder.say(machine.name, "operator", str(what))
        machine.receive(make(operator))


def wish_for(acts: Acts, node: int, wish: Wish) -> None:
    """Have an operator ask a node for a change."""
    ask(acts, node, lambda waiter: Change(waiter, wish), _told(wish))


def _told(wish: Wish) -> str:
    """A wish without what it does not say."""
    said = {name: getattr(wish, name) for name in wish.__struct_fields__}
    return ", ".join(f"{name} {value}" for name, value in said.items() if value) or "apply"


def join(acts: Acts, fault: Fault) -> Undo:
    """A node that is in nobody's list becomes a member."""
    node, joining = fault.nodes
    url = acts.cluster.machines[joining].url
    ask(acts, node, lambda waiter: Join(waiter, url), f"join {url}")
    return in_turn()


def leave(acts: Acts, fault: Fault) -> Undo:
    """A member gives its copies to others, and is none any more."""
    node, leaving = fault.nodes
    wish_for(acts, node, Wish(leave=(acts.cluster.machines[leaving].url,)))
    return in_turn()


def replace(acts: Acts, fault: Fault) -> Undo:
    """A node takes another's place. If that is not heard, its disk counts as lost: not asked for
    where the cluster could not do without."""
    _replace(acts, fault)
    return in_turn()


def bury(acts: Acts, fault: Fault) -> Undo:
    """A node is down for long, and meanwhile another takes its place."""
    node, dead, _ = fault.nodes
    up = acts.down([dead])
    spell = Spell(acts.cluster.world)
    spell.after(NOTICED_SHARE * fault.lasts_ms, lambda: _replace(acts, fault))
    del node
    return in_turn(spell.end, up)


def _replace(acts: Acts, fault: Fault) -> None:
    node, before, after = fault.nodes
    machines = acts.cluster.machines
    if acts.copies.can_lose(before):
        acts.copies.given_up.add(machines[before].settings.node_id)
        wish_for(acts, node, Wish(replace=((machines[before].url, machines[after].url),)))


def ruin(acts: Acts, fault: Fault) -> Undo:
    """Members lose their disks for good, all at once: as many as may leave too few copies, or too
    few voters. What an operator does about it when all else is over is of `rest`. Not in a cluster
    that has yet to find together, nor where no member would be left."""
    layout, ids = acts.cluster.layout(), acts.copies.called()
    whole = [ids.get(each.id) for each in layout.members if each.id not in layout.lost]
    left = set(whole).difference(fault.nodes, [None])
    is_possible = layout.epoch > FIRST_EPOCH and left and not acts.ruined
    return acts.ruin(fault.nodes, come_last=bool(fault.amount)) if is_possible else in_turn()


def weight(acts: Acts, fault: Fault) -> Undo:
    """A member is to have another share of the copies."""
    node, subject = fault.nodes
    weights = ((acts.cluster.machines[subject].url, int(fault.amount)),)
    wish_for(acts, node, Wish(weights=weights))
    return in_turn()


def zone(acts: Acts, fault: Fault) -> Undo:
    """A member is said to be in another zone."""
    node, subject = fault.nodes
    zones = ((acts.cluster.machines[subject].url, f"z{fault.amount:.0f}"),)
    wish_for(acts, node, Wish(zones=zones))
    return in_turn()


def copies(acts: Acts, fault: Fault) -> Undo:
    """There are to be more copies of each key, or fewer."""
    wish_for(acts, fault.nodes[0], Wish(replication=int(fault.amount)))
    return in_turn()


def cancel(acts: Acts, fault: Fault) -> Undo:
    """Copies stay where they are."""
    wish_for(acts, fault.nodes[0], Wish(stops=True))
    return in_turn()


def apply(acts: Acts, fault: Fault) -> Undo:
    """Copies go where they belong."""
    wish_for(acts, fault.nodes[0], Wish())
    return in_turn()
