# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered of versions that were held, and what is not."""

from __future__ import annotations

from quorate.core.replaced import ENTRY_BYTES, GENERATION_BYTES, Replaced
from quorate.core.values.versions import ABSENT, VERSION_MIN, successor
from tests.unit.core.alone import record_at


def _since(version: bytes = ABSENT) -> Replaced:
    replaced = Replaced()
    replaced.since = version
    return replaced


def test_what_was_not_held_is_told_apart_from_what_was() -> None:
    replaced = _since()
    replaced.note(record_at(7).version)
    assert not replaced.never_was(record_at(7).version)
    assert replaced.never_was(record_at(9).version)


def test_what_something_was_built_on_was_held_as_far_as_anybody_can_tell() -> None:
    replaced = _since()
    replaced.note(successor(record_at(7).version, 99))
    assert not replaced.never_was(record_at(7).version)


def test_nothing_is_known_before_it_is_told_since_when() -> None:
    assert not Replaced().never_was(record_at(7).version)


def test_up_to_where_it_begins_nothing_is_known() -> None:
    replaced = _since(record_at(7).version)
    assert not replaced.never_was(record_at(7).version)
    assert not replaced.never_was(VERSION_MIN)
    assert replaced.never_was(record_at(8).version)


def test_what_is_forgotten_is_not_denied() -> None:
    """Whatever order it came in: a version from a clock that is ahead is forgotten with others."""
    replaced = _since()
    entries = GENERATION_BYTES // (len(VERSION_MIN) + ENTRY_BYTES) + 1
    ahead = record_at(10**9).version
    for page in range(3):
        if page == 0:
            replaced.note(ahead)
        for count in range(page * entries, (page + 1) * entries):
            replaced.note(record_at(count).version)
            assert not replaced.never_was(record_at(count // 2).version)
            assert not replaced.never_was(ahead)
    assert replaced.since == ahead
    assert replaced.never_was(record_at(10**9 + 1).version)


def test_one_chain_takes_the_room_of_one_version() -> None:
    replaced = _since()
    version = record_at(7).version
    for _ in range(GENERATION_BYTES):
        version = successor(version)
        replaced.note(version)
    assert replaced.since == ABSENT
