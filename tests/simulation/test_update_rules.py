# SPDX-License-Identifier: GPL-3.0-or-later
"""What some rules of read-modify-writes, and of writes beside them, are for: a story in which a
client sees what it must not if that rule alone is left out (`plants.updates`, `plants.writes`).

Six nodes; three hold the key, as in `test_restamp`. Every story returns what is wrong in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from quorate.core.values.events import Edited, PutResult, UpdateResult
from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from tests.models.test_read_modify_write import NOTICED, STEP_BY_STEP
from tests.simulation import asking
from tests.simulation.asking import Handle
from tests.simulation.planted import PLANTS
from tests.simulation.plants import collection, moves, updates, writes
from tests.simulation.plants.plant import Plant, planted
from tests.simulation.test_restamp import KEY, Stage

BEHIND_MS: Final = 10_000
"""Longer than a slow clock is behind: what is stamped by it is newer than what was there before."""


def _leave(found: Record | None) -> None:
    del found


def _more(found: Record | None) -> Edited:
    return Edited((b"" if found is None or found.value is None else found.value) + b"+")


def _found(handle: Handle) -> bytes | None:
    before = handle.of(UpdateResult).before
    return None if before is None else before.value


def _wrong(told: list[tuple[str, object, object]]) -> list[str]:
    return [f"{what}: {got!r}, not {wanted!r}" for what, got, wanted in told if got != wanted]


# --- the stories --------------------------------------------------------------------------------


def a_value_that_an_update_found_is_not_unread() -> list[str]:
    """A write has reached the first alone. An update finds it and leaves it; then the first cannot
    be read."""
    stage = Stage(1)
    cluster = stage.cluster
    asking.must_put(cluster, stage.writer, KEY, b"old", w=3)
    stage.hold(stage.late, stage.second, stage.third)
    unfinished = asking.put(cluster, stage.late, KEY, b"new")
    stage.until(stage.first, b"new")
    asked = asking.update(cluster, stage.reader, KEY, _leave)
    asking.finish(cluster, asked)
    assert unfinished.result is None
    stage.hold(stage.writer, stage.first)
    read = asking.value(cluster, stage.writer, KEY)
    return _wrong([("found", _found(asked), b"new"), ("read after it", read, b"new")])


def an_update_that_comes_after_the_question_is_not_answered_by_it() -> list[str]:
    """The answers to the first are under way when a write is finished; then the second comes."""
    stage = Stage(1)
    cluster = stage.cluster
    replicas = stage.first, stage.second, stage.third
    asking.must_put(cluster, stage.writer, KEY, b"old", w=3)
    for each in replicas:
        stage.hold(each, stage.reader)
    first = asking.update(cluster, stage.reader, KEY, _leave)
    cluster.run_until(lambda: all(_has_promised(stage, each) for each in replicas))
    asking.must_put(cluster, stage.writer, KEY, b"new", w=3)
    second = asking.update(cluster, stage.reader, KEY, _leave)
    for each in replicas:
        stage.let_go(each, stage.reader)
    asking.finish(cluster, first, second)
    return _wrong([("found", _found(second), b"new")])


def _has_promised(stage: Stage, index: int) -> bool:
    votes = stage.cluster.machines[index].node.parts.votes
    return bool(votes.remembered(row_of(KEY)).instances)


def a_write_that_was_built_on_is_not_put_above_what_came_later() -> list[str]:
    """A write under a slow clock has reached the first alone. An update is built on it, and then
    another write is finished at all. The other two hear of the first write last."""
    stage = Stage(1)
    cluster = stage.cluster
    asking.must_put(cluster, stage.writer, KEY, b"old", w=3)
    cluster.run(BEHIND_MS)
    stage.set_behind(stage.late)
    stage.hold(stage.late, stage.second, stage.third)
    begun = asking.put(cluster, stage.late, KEY, b"begun")
    stage.until(stage.first, b"begun")
    built = asking.update(cluster, stage.reader, KEY, _more)
    asking.finish(cluster, built)
    asking.must_put(cluster, stage.writer, KEY, b"finished", w=3)
    assert begun.result is None
    stage.let_go(stage.late, stage.second, stage.third)
    asking.finish(cluster, begun)
    begun.of(PutResult)
    read = asking.value(cluster, stage.reader, KEY)
    return _wrong([("found", _found(built), b"begun"), ("read", read, b"finished")])


STORIES: Final[dict[str, Callable[[], list[str]]]] = {
    "a base is read before it is written back": a_value_that_an_update_found_is_not_unread,
    "those that come after the question are answered by it": (
        an_update_that_comes_after_the_question_is_not_answered_by_it
    ),
    "a write is stamped again, not moved": (
        a_write_that_was_built_on_is_not_put_above_what_came_later
    ),
    "the first acks decide on a second stamp": (
        a_write_that_was_built_on_is_not_put_above_what_came_later
    ),
    "who is ahead is taken never to have held a write": (
        a_write_that_was_built_on_is_not_put_above_what_came_later
    ),
}
TOLD: Final = (*updates.TOLD, *writes.TOLD)


def test_there_is_a_story_for_each_rule() -> None:
    assert list(STORIES) == [plant.name for plant in TOLD]


def test_each_switch_of_the_model_names_its_fault_in_the_core_or_the_test_of_its_rule() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulation.md").read_text(encoding="utf-8")
    table = page[page.rindex("| noticed by seed | in the core |") :]
    told = re.findall(r"^\| `(\w+)` \|[^|]*\| \d+ \| (.*) \|$", table, re.MULTILINE)
    assert {name for name, _ in told} == NOTICED.keys()
    named = {re.split(", in |: ", each)[0] for _, cell in told for each in cell.split("; ")}
    plants = {plant.name for plant in (*TOLD, *moves.RARE, *collection.RULES)}
    assert [each for each in named - plants - PLANTS.keys() if "`" not in each] == []


def test_each_switch_that_the_model_notices_step_by_step_names_a_test_in_the_core() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs" / "simulation.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `(\w+)` \|[^|]*\| `([\w/.]+)::(\w+)` \|$", page, re.MULTILINE)
    assert {name for name, _, _ in told} == STEP_BY_STEP
    for _, file, test in told:
        assert f"def {test}(" in (root / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", STORIES)
def test_nobody_sees_what_must_not_be(name: str) -> None:
    assert STORIES[name]() == []


@pytest.mark.plain
@pytest.mark.parametrize("plant", TOLD, ids=lambda plant: plant.name)
def test_without_its_rule_it_is_seen(plant: Plant) -> None:
    with planted(plant) as ran:
        wrong = STORIES[plant.name]()
    assert wrong
    assert ran
