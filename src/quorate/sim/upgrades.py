# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster goes to the next release while it runs, node by node, or half-way and back.

The next release is this one, which knows one feature level more. Nodes of two levels are side by
side meanwhile, and an operator who says too early that the upgrade is over is refused.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from msgspec.structs import replace

from quorate.core.values.messages import FEATURE_LEVEL
from quorate.core.values.wish import Wish
from quorate.sim.acts import Acts, Spell, Undo, in_turn
from quorate.sim.changes import wish_for
from quorate.sim.checkers import Violation
from quorate.sim.plan import Fault

NEXT_LEVEL: Final = FEATURE_LEVEL + 1


def upgrade(acts: Acts, fault: Fault) -> Undo:
    """The share `amount` of the nodes, in their order, start in the next release, one after
    another; after each an operator says that all have. In the end all do, and so it is; or those
    that have go back, unless the higher level is in force by then."""
    count = round(fault.amount * len(fault.nodes))
    spell = Spell(acts.cluster.world)
    for place, index in enumerate(fault.nodes[:count]):
        begin_ms = place * fault.lasts_ms / len(fault.nodes)
        spell.after(begin_ms, partial(_next, acts, index))
    return in_turn(spell.end, partial(_end, acts, fault, is_whole=count == len(fault.nodes)))


def _next(acts: Acts, index: int) -> None:
    _release(acts, index, NEXT_LEVEL)
    wish_for(acts, index, Wish(raises_level=True))


def _release(acts: Acts, index: int, level: int) -> None:
    """Have a node start in a release, now if it runs in another."""
    machine = acts.cluster.machines[index]
    if machine.settings.level != level:
        machine.settings = replace(machine.settings, level=level)
        acts.cluster.recorder.fault(machine.name, "release", f"that knows level {level}")
        acts.down([index])()


def _end(acts: Acts, fault: Fault, *, is_whole: bool) -> None:
    _judge(acts)
    is_raised = acts.cluster.layout().level == NEXT_LEVEL
    level = NEXT_LEVEL if is_whole or is_raised else FEATURE_LEVEL
    for index in fault.nodes:
        _release(acts, index, level)
    if is_whole:
        acts.cluster.world.after(fault.lasts_ms, partial(_finish, acts, fault.nodes[0]))


def _finish(acts: Acts, index: int) -> None:
    wish_for(acts, index, Wish(raises_level=True))


def _judge(acts: Acts) -> None:
    """No level is in force that a member does not know."""
    layout = acts.cluster.layout()
    for machine in acts.cluster.machines:
        is_member = any(each.id == machine.settings.node_id for each in layout.members)
        if is_member and machine.settings.level < layout.level:
            told = f"level {layout.level} is in force, and {machine.url} does not know it"
            acts.found.append(Violation("P8", b"", told))
