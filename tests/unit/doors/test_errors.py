# SPDX-License-Identifier: GPL-3.0-or-later
"""The table from errors to answers is total and says what clients rely on."""

from __future__ import annotations

import pytest

from quorate.doors.errors import ANSWERS, answer_for, outcome_of
from quorate.errors import (
    BY_CODE,
    NEVER_BEGUN,
    Conflict,
    Forbidden,
    KeyMissing,
    Outcome,
    QuorateError,
    StorageError,
    Unauthenticated,
    Unavailable,
)


def test_every_class_of_the_taxonomy_has_an_answer_and_nothing_else_has() -> None:
    assert set(ANSWERS) == set(BY_CODE.values())


@pytest.mark.parametrize("kind", BY_CODE.values(), ids=lambda kind: kind.code)
def test_the_status_follows_the_family(kind: type[QuorateError]) -> None:
    answer = answer_for(kind("what happened"))
    if issubclass(kind, (*NEVER_BEGUN, Conflict)):
        assert 400 <= answer.status < 500
    elif issubclass(kind, Unavailable) or kind.retryable:
        assert answer.status == 503
    else:
        assert answer.status == 500


@pytest.mark.parametrize("kind", BY_CODE.values(), ids=lambda kind: kind.code)
def test_a_prefix_is_one_upper_case_word_and_storage_is_never_a_plain_err(
    kind: type[QuorateError],
) -> None:
    answer = answer_for(kind("what happened"))
    assert answer.prefix.isalpha()
    assert answer.prefix.isupper()
    assert answer.title
    if issubclass(kind, StorageError):
        assert answer.prefix in {"MISCONF", "BUSY"}


def test_a_class_outside_the_table_is_answered_as_its_nearest_base() -> None:
    class Local(KeyMissing):
        pass

    assert answer_for(Local("no key")) == ANSWERS[KeyMissing]


def test_what_is_refused_at_once_is_not_applied_whether_it_says_so_or_not() -> None:
    assert outcome_of(KeyMissing("no key")) is Outcome.NOT_APPLIED
    assert outcome_of(Unauthenticated("who asks?")) is Outcome.NOT_APPLIED
    assert outcome_of(Forbidden("not you")) is Outcome.NOT_APPLIED
    assert outcome_of(Unavailable("not now")) is None
    assert outcome_of(Unavailable("too late", outcome=Outcome.UNKNOWN)) is Outcome.UNKNOWN
