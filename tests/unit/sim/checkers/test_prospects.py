# SPDX-License-Identifier: GPL-3.0-or-later
"""Contents that are one to a search, as nobody can tell them apart by what is found."""

from __future__ import annotations

from functools import partial

import pytest

from quorate.sim.checkers.linearizability import RegisterEdit
from quorate.sim.checkers.prospects import UNFOUND, Prospects
from quorate.sim.checkers.register import (
    Content,
    ContentEdit,
    Nothing,
    RegisterOperation,
    read,
    unknown_update,
    unknown_write,
    value_of,
)
from quorate.sim.history import UPDATES, ClientOperation, Kind
from tests.unit.sim.checkers.told import KEY, record, token


def _swapped(old: Content, new: Content, content: Content) -> Content:
    return new if content == old else content


def _prospects(*edits: ContentEdit, history: list[RegisterOperation]) -> Prospects:
    return Prospects([*history, *(unknown_update(0, edit) for edit in edits)])


def test_without_edits_all_that_nobody_finds_is_one() -> None:
    told = _prospects(history=[read(0, 1, b"a")])
    assert {told.stand_in(each) for each in (None, b"b", (b"c", 5))} == {UNFOUND}
    assert b"b" not in told


def test_contents_of_which_edits_make_the_same_are_one() -> None:
    taken, swapped = partial(_swapped, b"x", None), partial(_swapped, b"y", None)
    told = _prospects(taken, swapped, history=[*unknown_write(0, b"x"), read(0, 1, None)])
    assert told.stand_in(b"z") == UNFOUND
    assert len({told.stand_in(each) for each in (b"x", b"y", b"z")}) == 3
    assert told.sample(told.stand_in(b"x")) == b"x"
    assert b"x" in told
    assert b"z" not in told
    assert told.makes(taken) == frozenset({None})


def test_what_an_edit_makes_is_found_by_way_of_another() -> None:
    first, second = partial(_swapped, b"x", b"y"), partial(_swapped, b"y", b"z")
    told = _prospects(first, second, history=[*unknown_write(0, b"x"), read(0, 1, b"z")])
    assert b"x" in told
    assert told.stand_in(b"x") != told.stand_in(b"y")
    assert told.makes(second) == frozenset({b"z"})
    assert told.makes(first) == frozenset()
    assert told.is_more(told.stand_in(b"x"), b"y")
    assert not told.is_more(told.stand_in(b"q"), b"y")


def test_who_finds_nothing_finds_what_expires_by_then() -> None:
    edit = partial(_swapped, b"x", (b"y", 5))
    assert b"x" in _prospects(edit, history=[read(0, 1, Nothing(5))])
    assert b"x" not in _prospects(edit, history=[read(0, 1, Nothing(4))])


class _Takes:
    """Deletes a value, and leaves what is another's; as UNLOCK does."""

    def __init__(self, compared: bytes | None) -> None:
        self.compared = compared

    def __call__(self, content: Content) -> Content:
        return None if self.compared in (None, content) else content


def test_values_that_have_no_part_in_what_is_found_are_one_to_edits_that_grow() -> None:
    told = _prospects(_Takes(b"x"), _Takes(None), history=[read(0, 1, None), read(0, 1, b"found")])
    assert told.stand_in(b"y") == told.stand_in(b"z")
    assert told.stand_in(b"x") != told.stand_in(b"y")
    # Not what an edit compares with; nor where edits do not only grow.
    assert told.sample(told.stand_in(b"x")) == b"x"
    mixed = _prospects(_Takes(None), partial(_swapped, b"z", b"a"), history=[read(0, 1, b"a")])
    assert mixed.stand_in(b"y") == UNFOUND != mixed.stand_in(b"z")


@pytest.mark.parametrize("kind", [each for each in Kind if each in UPDATES])
@pytest.mark.parametrize("expires_ms", [0, 9])
@pytest.mark.parametrize("seen", [None, token(b"s")])
def test_edits_of_operations_only_grow_what_they_find(
    kind: Kind, expires_ms: int, seen: bytes | None
) -> None:
    """What `Growing` says: by that, values that have no part in what is found are all alike."""
    op = ClientOperation(7, 7, 0, kind, KEY, 0.0, expires_ms=expires_ms)
    op.seen = None if seen is None else record(seen)
    edit = RegisterEdit(op)
    assert edit.compared == seen
    outcomes = set()
    for found_ms in (0, 5):
        for value in (token(b"a"), token(b"b"), b"no token", b""):
            found = (value, found_ms) if found_ms else value
            made = edit(found)
            assert made is None or (value_of(made) or b"").startswith(value)
            made_ms = made[1] if type(made) is tuple else 0
            outcomes.add((found_ms, made is None, made == found, value_of(made) == value, made_ms))
    assert len(outcomes) == 2, "one for each expiry"
